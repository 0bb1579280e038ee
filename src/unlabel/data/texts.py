"""Texts of millions of images in little memory: names, which all differ, and texts that come again.

::

    Names.of(["a.jpg", "b.jpg"])    the bytes one after the other, and where each begins and ends
    Coded.of(["ann", "", "ann"])    the different texts once, and a number for each image

A list of 3.3 million Python texts takes 250 MB; as `Names` they take their letters and 16 bytes each.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_PIECE = 65_536
_ERRORS = "surrogatepass"
"""A file's name may hold bytes that are no UTF-8; they come through as they are."""


@dataclass(frozen=True, eq=False)
class Names(Sequence[str]):
    """Texts as UTF-8 in one array.

    Args:
        text: uint8, the bytes of all texts; some may belong to none.
        start: int64 (n,) where each begins.
        stop: int64 (n,) where each ends.

    Example:
        >>> names = Names.of(["b.jpg", "a.jpg", "c.jpg"])
        >>> names[1], names[np.array([2, 0])].tolist(), names.order().tolist()
        ('a.jpg', ['c.jpg', 'b.jpg'], [1, 0, 2])
    """

    text: NDArray[np.uint8]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Names":
        """Any texts, in their order."""
        if isinstance(texts, Names):
            return texts
        if isinstance(texts, np.ndarray):
            texts = (str(text) for text in texts)
        waiting, pieces, lengths = iter(texts), [b""], [np.zeros(0, np.int64)]
        while piece := [text.encode("utf-8", _ERRORS) for text in islice(waiting, _PIECE)]:
            pieces.append(b"".join(piece))
            lengths.append(np.fromiter(map(len, piece), np.int64, len(piece)))
        stop = np.cumsum(np.concatenate(lengths))
        return cls(
            np.frombuffer(b"".join(pieces), np.uint8),
            np.concatenate([np.zeros(1, np.int64), stop[:-1]])[: len(stop)],
            stop,
        )

    @classmethod
    def joined(cls, parts: Sequence["Names"]) -> "Names":
        """The texts of several, one after the other."""
        offset = np.cumsum([0, *(len(part.text) for part in parts)])
        empty = np.zeros(0, np.int64)
        return cls(
            np.concatenate([np.zeros(0, np.uint8), *(part.text for part in parts)]),
            np.concatenate([empty, *(part.start + at for part, at in zip(parts, offset, strict=False))]),
            np.concatenate([empty, *(part.stop + at for part, at in zip(parts, offset, strict=False))]),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Sends another process these texts alone, of all that the bytes hold."""
        return Names.of, (self.tolist(),)

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: "slice | NDArray[Any]") -> "Names": ...
    def __getitem__(self, index: "int | slice | NDArray[Any]") -> "str | Names":
        if isinstance(index, int | np.integer):
            return self.text[self.start[index] : self.stop[index]].tobytes().decode("utf-8", _ERRORS)
        return Names(self.text, self.start[index], self.stop[index])

    def __iter__(self) -> Iterator[str]:
        memory = np.ascontiguousarray(self.text).data
        for at in range(0, len(self), _PIECE):
            start, stop = self.start[at : at + _PIECE].tolist(), self.stop[at : at + _PIECE].tolist()
            yield from [str(memory[a:b], "utf-8", _ERRORS) for a, b in zip(start, stop, strict=True)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.tolist(), dtype or np.str_)

    def tolist(self) -> list[str]:
        """All texts as Python's."""
        return list(self)

    def order(self) -> NDArray[np.int64]:
        """int64 (n,): the positions in the order of the texts, equal ones as they stand."""
        texts = self.tolist()
        if all(map(str.__le__, texts, islice(texts, 1, None))):
            return np.arange(len(texts))
        return np.fromiter(sorted(range(len(texts)), key=texts.__getitem__), np.int64, len(texts))

    def repeated(self) -> tuple[int, int] | None:
        """The position of the first text that stood before, and where; None where all differ."""
        if len(self) < 2:
            return None
        hashes = np.fromiter(map(hash, self), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        same = hashes[order[1:]] == hashes[order[:-1]]
        suspects = np.sort(order[np.concatenate([same, [False]]) | np.concatenate([[False], same])])
        first: dict[str, int] = {}
        for at in suspects.tolist():
            if (before := first.setdefault(self[at], at)) != at:
                return at, before
        return None

    def rows_of(self, names: "Names") -> NDArray[np.int64]:
        """int64 (len(names),): where each of other texts is among these, which differ; -1 where it is not."""
        at = {name: row for row, name in enumerate(self)}
        return np.fromiter((at.get(name, -1) for name in names), np.int64, len(names))


@dataclass(frozen=True, eq=False)
class Coded(Sequence[str]):
    """A text for each image, of which many are equal; an empty one says that nothing is known.

    Args:
        texts: The different texts.
        codes: Integers (n,), position of each image's text among them.

    Example:
        >>> coded = Coded.of(["ann", "", "ann"])
        >>> coded.texts, coded.codes.tolist(), coded.known().tolist()
        (('ann', ''), [0, 1, 0], [True, False, True])
    """

    texts: Sequence[str]
    codes: NDArray[np.signedinteger]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Coded":
        """Any texts, in their order."""
        if isinstance(texts, Coded):
            return texts
        code_of: dict[str, int] = {}
        codes = [code_of.setdefault(text, len(code_of)) for text in texts]
        return cls(tuple(code_of), np.array(codes, np.int32))

    @classmethod
    def empty(cls, count: int) -> "Coded":
        """Nothing known of so many images."""
        return cls(("",), np.zeros(count, np.int8))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: "slice | NDArray[Any]") -> "Coded": ...
    def __getitem__(self, index: "int | slice | NDArray[Any]") -> "str | Coded":
        if isinstance(index, int | np.integer):
            return self.texts[int(self.codes[index])]
        return Coded(self.texts, self.codes[index])

    def __iter__(self) -> Iterator[str]:
        texts = self.texts
        for at in range(0, len(self), _PIECE):
            yield from (texts[int(code)] for code in self.codes[at : at + _PIECE].tolist())

    def tolist(self) -> list[str]:
        """The text of each image."""
        return list(self)

    def known(self) -> NDArray[np.bool_]:
        """bool (n,): where the text is not empty."""
        return np.array([bool(text) for text in self.texts], np.bool_)[self.codes]

    def used(self) -> frozenset[str]:
        """The texts that some image has."""
        counts = np.bincount(self.codes, minlength=len(self.texts))
        return frozenset(text for text, count in zip(self.texts, counts.tolist(), strict=True) if count)
