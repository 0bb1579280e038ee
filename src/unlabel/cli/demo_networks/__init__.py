"""The four networks of ``unlabel demo``: how each is trained, and the trained ones that come with unlabel.

::

    networks.json      of each file its SHA-256, and the AUC of the original on the first test drawings
    original/          a run folder as `unlabel train` wrote it, without the log of its steps and its seconds
    retrained-1/ ...   the same network, never shown `LABEL`, each with a seed of its own

``benchmarks/demo_networks.py`` trains them and writes this folder, by the commands that their records hold.
"""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlabel.core.errors import ModelError
from unlabel.core.files import RECORD
from unlabel.core.places import staged
from unlabel.core.reading import file_sha256, read_json
from unlabel.core.recipe import Recipe
from unlabel.runs.files import CONFIG, MODEL

SHIPPED = Path(__file__).parent
LIST = "networks.json"
FILES = (MODEL, CONFIG, RECORD)
LABEL = "Male"


@dataclass(frozen=True)
class DemoSettings:
    """What a demo is of; the networks that come with unlabel are those of the defaults.

    Args:
        source: Drawings to train on.
        epochs: Passes over the training images, of each network.
        references: Networks to retrain without `LABEL`.
        drawings: Drawings to forget and audit on: the same to train on, and fewer to attack on.
    """

    source: str = "faces:train=12000,probe=6000,test=12000"
    epochs: float = 10.0
    references: int = 3
    drawings: str = "faces:train=12000,probe=1000,test=2000"

    @property
    def recipe(self) -> Recipe:
        """The recipe of each network."""
        return Recipe(epochs=self.epochs)


@dataclass(frozen=True)
class Network:
    """One network of the demo: the name of its folder, its seed, and the labels that it never sees."""

    name: str
    seed: int
    without: tuple[str, ...] = ()

    def command(self, settings: DemoSettings, out: Path | None = None) -> str:
        """The command that trains it into a folder, by default one of its name."""
        words = ["unlabel", "train", settings.source, "--epochs", f"{settings.epochs:g}"]
        words += ["--without", ",".join(self.without)] if self.without else []
        return shlex.join([*words, "--seed", str(self.seed), "--out", str(out or self.name)])


def networks_of(settings: DemoSettings, seed: int = 0) -> list[Network]:
    """The networks of a demo, the original first, with seeds that count from this one.

    >>> [(item.name, item.seed) for item in networks_of(DemoSettings(references=2))]
    [('original', 0), ('retrained-1', 1), ('retrained-2', 2)]
    """
    numbers = range(1, settings.references + 1)
    return [Network("original", seed), *(Network(f"retrained-{n}", seed + n, (LABEL,)) for n in numbers)]


def read_list(folder: Path) -> dict[str, Any]:
    """What `LIST` in a folder of finished networks says: ``files``, ``auc`` and ``drawings``."""
    return read_json(folder / LIST)


def copy_network(name: str, networks: Path, out: Path, *, force: bool) -> None:
    """Copies a finished network into a run folder, whole or not at all.

    Args:
        name: The network's.
        networks: The folder of finished networks, with their list.
        out: The run folder to write.
        force: Replace a run.

    Raises:
        ModelError: A file is not the one that the list names.
        OptionError: As `staged` raises.
    """
    listed = read_list(networks)["files"][name]
    with staged(out, force=force) as folder:
        for file in FILES:
            content = (networks / name / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != listed[file]:
                raise ModelError(
                    f"{networks / name / file} is damaged: expected the file that comes with unlabel; install"
                    " unlabel again, or train the network here with --from-scratch"
                )
            (folder / file).write_bytes(content)


def is_copy(out: Path, name: str, networks: Path) -> bool:
    """Whether a run folder is a copy of a finished network: its record, with the date in it, is the same."""
    return file_sha256(out / RECORD) == read_list(networks)["files"][name][RECORD]
