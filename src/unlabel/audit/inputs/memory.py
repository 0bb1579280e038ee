"""Attacks that were made before: kept under the hash of everything that their outcome depends on.

Many audits share their original and their references, say when methods are compared. What an attack found
there is the same each time, so it is read back. An attack is found again only where the model's outputs, the
annotations, the identities, the hidden columns, the options, the kind of attack and the libraries are equal
to the bit; what depends on nothing else cannot be reused wrongly.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from unlabel.core.files import write_bytes
from unlabel.core.progress import SILENT, Log
from unlabel.core.reading import read_plain, sealed, unsealed
from unlabel.statistics.contrast import Contrast
from unlabel.statistics.estimate import Estimate

Finding: TypeAlias = Mapping[str, Estimate] | Mapping[str, Contrast]  # figure -> how well an attack does

MOST_BYTES = 1_000_000_000
SHAPE = 5
"""Raised when what an attack computes, or how it is kept, changes within one version."""

LIBRARIES = ("unlabel", "numpy", "scipy", "scikit-learn", "torch")


def digest(*parts: Any) -> str:
    """A hash of arrays, by their bits, and of plain values, by their text.

    >>> digest("a", np.zeros(2)) == digest("a", np.zeros(2)), digest("a", "b") == digest("ab")
    (True, False)
    """
    hashing = hashlib.sha256()
    for part in parts:
        array = part if isinstance(part, np.ndarray) else None
        kind = f"{array.dtype}{array.shape}" if array is not None else type(part).__name__
        content = np.ascontiguousarray(array).tobytes() if array is not None else repr(part).encode()
        hashing.update(f"{kind} {len(content)}\n".encode() + content)
    return hashing.hexdigest()


@dataclass(frozen=True)
class Memory:
    """What attacks found, in this process and, with a folder, for later ones.

    Args:
        folder: Where findings are kept as files, one an attack, model and label; None: in this process only.
        log: Is told of files that are damaged.
    """

    folder: Path | None = None
    log: Log = field(default=SILENT, compare=False, repr=False)
    _held: dict[str, Finding] = field(default_factory=dict, compare=False, repr=False)

    def recall(self, key: str) -> Finding | None:
        """What was kept under a key; None where nothing was, or a bit of its file has changed."""
        if key in self._held:
            return self._held[key]
        file = self._file(key)
        if file is None or not file.exists():
            return None
        try:
            if (content := unsealed(read_plain(file, MOST_BYTES))) is not None:
                self._held[key] = _unpacked(load(content))
                return self._held[key]
        except (SafetensorError, OSError, KeyError, ValueError, IndexError, TypeError):
            pass
        self.log.say(f"{file} is damaged: the attack is made again")
        return None

    def keep(self, key: str, found: Finding) -> None:
        """Keeps what an attack found.

        Raises:
            WriteError: The disk is full, or something else of the kind.
        """
        self._held[key] = found
        if (file := self._file(key)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, sealed(save(_packed(found))))

    def _file(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.safetensors"


def key_of(*parts: Any) -> str:
    """The key of a finding: its inputs, and what computed it."""
    return digest(SHAPE, *_computed_by(), *parts)


@cache
def _computed_by() -> tuple[str, ...]:
    return f"{sys.version_info.major}.{sys.version_info.minor}", *(version(name) for name in LIBRARIES)


def _packed(found: Finding) -> dict[str, np.ndarray]:
    tables: dict[str, np.ndarray] = {}
    for at, (name, item) in enumerate(found.items()):
        if isinstance(item, Estimate):
            arrays = {"influence": item.influence, "cluster": item.cluster, "used": item.used}
            arrays["value"] = np.array([item.value])
        else:
            arrays = {"contrast": np.array([item.value, item.se, item.df])}
        tables |= {f"{at}/{name}/{part}": table for part, table in arrays.items()}
    return tables


def _unpacked(tables: Mapping[str, np.ndarray]) -> Finding:
    findings: dict[str, Any] = {}
    stems = {key.rpartition("/")[0] for key in tables}
    for stem in sorted(stems, key=lambda stem: int(stem.partition("/")[0])):
        name = stem.partition("/")[2]
        if f"{stem}/contrast" in tables:
            value, se, df = tables[f"{stem}/contrast"].tolist()
            findings[name] = Contrast(value, se, df)
        else:
            influence, cluster, used = (tables[f"{stem}/{part}"] for part in ("influence", "cluster", "used"))
            findings[name] = Estimate(float(tables[f"{stem}/value"][0]), influence, cluster, used)
    return findings
