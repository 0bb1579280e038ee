"""From the names that a table writes to the files on the disk: subfolders, missing endings, links."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from unicodedata import normalize

from unlabel.core.errors import DataError
from unlabel.data.readers.assemble import check_matched, list_files
from unlabel.data.texts import Names

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".mpo"),
)
"""Endings of images, in small letters."""


@dataclass(frozen=True)
class Found:
    """The files that a table names.

    Args:
        names: Relative name of each row's file, with its ending.
        ignored: How many images lie beside them without a row.
    """

    names: Names
    ignored: int


def find_files(root: Path, names: Names, table: str, *, whole: bool) -> Found:
    """The files of a table's names, by one listing of each folder.

    A name without a file is completed if one file fits: by an ending of an image, where it has none; with
    ``/`` for Windows' ``\\``; without spaces around it; in another form of Unicode.

    Args:
        root: The folder that the names are relative to.
        names: Plain relative names, each once.
        table: What names them, for messages.
        whole: Look into all folders below `root`, and count any file without a row; else only into those
            that are named, and count images.

    Raises:
        MissingFiles: A name has no file.
        DataError: A file is a link out of the folder, or two rows or two files may be meant.
    """
    slashed = map(with_slashes, names)
    if whole:
        files, links = list_files(root, ("",))
    else:
        files, links = list_files(root, _folders(root, slashed, table), deep=False)
    if any(name not in files for name in names):
        resolved = _completed(names, files, table)
        check_matched(root, resolved, table, files, links)
        names = Names.of(resolved)
    beside = len(files) if whole else sum(map(is_image, files))
    mine = len(names) if whole else sum(map(is_image, names))
    return Found(names, beside + (len(links) if whole else 0) - mine)


def _completed(names: Names, files: Collection[str], table: str) -> list[str]:
    """The file that each name means, or the name where there is none; no two mean the same."""
    by_form = _by_form(files)
    first: dict[str, str] = {}
    for written in names:
        name = _resolved(written, files, by_form, table)
        if first.setdefault(name, written) != written:
            raise DataError(
                f"two rows of {table} mean the file {name!r}: {first[name]!r} and {written!r};"
                " keep one of them"
            )
    return list(first)


def is_there(root: Path, name: str) -> bool:
    """Whether a table's name may be that of a file below a folder, with or without its ending."""
    paths = [os.path.join(root, spelling) for spelling in _spellings(name)]
    return any(os.path.isfile(path + ending) for path in paths for ending in ("", *ENDINGS))


def _spellings(name: str) -> list[str]:
    """How a name may stand on the disk: as written, without outer spaces, in both forms of Unicode."""
    slashed = with_slashes(name)
    bare = slashed.strip()
    return list(dict.fromkeys((slashed, bare, normalize("NFC", bare), normalize("NFD", bare))))


def plain_form(name: str) -> str:
    r"""A name without what programs change of it: outer spaces, Unicode's form, and ``\`` between folders.

    >>> plain_form(" ann\\1.jpg ")
    'ann/1.jpg'
    """
    return normalize("NFC", with_slashes(name.strip()))


def with_slashes(name: str) -> str:
    r"""A name with ``/`` where that is as plain as the name.

    >>> with_slashes(r"ann\1.jpg"), with_slashes(r"..\1.jpg")
    ('ann/1.jpg', '..\\1.jpg')
    """
    parts = name.split("\\")
    return name if any(part in ("", ".", "..") for part in parts) else "/".join(parts)


def _folders(root: Path, names: Iterable[str], table: str) -> list[str]:
    """The folders of the names, all of them below the root; one that is missing is left out."""
    real = os.path.join(os.path.realpath(root), "")
    folders = sorted({str(PurePosixPath(folder)) for folder in {name.rpartition("/")[0] for name in names}})
    existing = []
    for written in folders:
        folder = next((form for form in _spellings(written) if os.path.isdir(root / form)), written)
        there = os.path.join(os.path.realpath(root / folder), "")
        if not there.startswith(real):
            raise DataError(
                f"{table} names files in {folder!r}, a link that leads out of {root}; copy the files there"
            )
        if os.path.isdir(there):
            existing.append("" if folder == "." else f"{folder}/")
    return existing


def is_image(name: str) -> bool:
    """Whether a name has the ending of an image."""
    return os.path.splitext(name)[1].casefold() in ENDINGS


ByForm: TypeAlias = tuple[Mapping[str, list[str]], Mapping[str, list[str]], Mapping[str, list[str]]]


def _by_form(files: Iterable[str]) -> ByForm:
    """The files by their plain form, the images by it without an ending, and the files in small letters."""
    forms: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    small: dict[str, list[str]] = {}
    for name in files:
        form = plain_form(name)
        forms.setdefault(form, []).append(name)
        small.setdefault(form.casefold(), []).append(name)
        if is_image(form):
            stems.setdefault(os.path.splitext(form)[0], []).append(name)
    return forms, stems, small


def _resolved(written: str, files: Collection[str], by_form: ByForm, table: str) -> str:
    """The file that a name means, or the name where there is none."""
    if written in files:
        return written
    form = plain_form(written)
    if form in files:
        return form
    forms, stems, small = by_form
    fitting = forms.get(form) or ([] if is_image(form) else stems.get(form)) or small.get(form.casefold(), [])
    if len(fitting) > 1:
        raise DataError(
            f"{table}: {written!r} fits {' and '.join(repr(one) for one in sorted(fitting)[:3])};"
            " write the whole name"
        )
    return fitting[0] if fitting else written
