"""Worlds: an original, a label, and Retrains without it at 1/20, at 1/10 and at the whole length.

They are found by what the runs record, not by their names. A data set is its digest; an original was trained
on all labels; the longest training of a data set is the whole length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unlabel.core.errors import UnlabelError
from unlabel.core.files import RECORD
from unlabel.runs.files import read_record
from unlabel.runs.origin import Record

SHARES = (0.05, 0.1)


@dataclass(frozen=True)
class World:
    """One label of one data set.

    Args:
        data: Name of the data set, the beginning of the original's folder.
        label: The label that the Retrains never saw.
        original: The original.
        shorts: Of each share, the short original and the short Retrain.
        retrained: The full Retrains.
    """

    data: str
    label: str
    original: Path
    shorts: tuple[tuple[Path, Path], ...]
    retrained: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The data set and the label."""
        return f"{self.data} {self.label}"

    @property
    def models(self) -> tuple[Path, ...]:
        """All models, the original first."""
        return (self.original, *(path for pair in self.shorts for path in pair), *self.retrained)


def find_worlds(folder: Path) -> list[World]:
    """Every world of which all models are in a folder of runs; half-written runs are no runs yet."""
    runs = dict(_trained(folder))
    worlds = []
    for digest in dict.fromkeys(record.digest for record in runs.values()):
        here = {path: record for path, record in runs.items() if record.digest == digest}
        whole = max(_epochs(record) for record in here.values())
        originals = [path for path, record in here.items() if not record.without and _epochs(record) == whole]
        labels = sorted({record.without[0] for record in here.values() if record.without})
        for label in labels:
            pairs = [
                (_runs(here, (), share * whole), _runs(here, (label,), share * whole)) for share in SHARES
            ]
            full = _runs(here, (label,), whole)
            if originals and full and all(first and second for first, second in pairs):
                shorts = tuple((first[0], second[0]) for first, second in pairs)
                name = originals[0].name.removesuffix("-o")
                worlds.append(World(name, label, originals[0], shorts, tuple(full)))
    return sorted(worlds, key=lambda world: world.name)


def _trained(folder: Path) -> Sequence[tuple[Path, Record]]:
    found = []
    for file in sorted(folder.glob(f"*/{RECORD}")):
        try:
            record = read_record(file.parent)
        except UnlabelError:
            continue
        one_label = not record.without or len(record.without) == 1
        if record.method == "train" and record.blueprint and one_label:
            found.append((file.parent, record))
    return found


def _epochs(record: Record) -> float:
    assert record.blueprint is not None
    return record.blueprint.recipe.epochs


def _runs(here: dict[Path, Record], without: tuple[str, ...], epochs: float) -> list[Path]:
    return [
        path
        for path, record in here.items()
        if (record.without or ()) == without and abs(_epochs(record) - epochs) < 1e-6 * epochs
    ]
