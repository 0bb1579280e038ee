"""What stands after ``folder:``, ``table:`` and ``parquet:``: a path, and what a table cannot say."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest
from unlabel.data import DRAWN, READERS
from unlabel.data.readers.assemble import named_folder

LOCATED = ("folder", "table", "parquet", "webdataset", "datasets")
"""Sources whose path may have such options after it."""
_OPTIONS = ("root", "absent", "names")


@dataclass(frozen=True)
class Location:
    """A path with the options of how to read what is there.

    Args:
        path: Absolute path of a folder or a file.
        root: Folder that the names of images are relative to, and that none may leave; None for the usual.
        absent: The mark that means absent where a table holds -1; None to find it out.
        names: The column of file names; None to find it out.
    """

    path: Path
    root: Path | None = None
    absent: Literal["0", "-1"] | None = None
    names: str | None = None

    def name(self, kind: str) -> str:
        """The string that `data.load` reads again.

        >>> Location(Path("/photos"), absent="-1").name("folder")
        'folder:/photos?absent=-1'
        """
        given = [f"{key}={value}" for key in _OPTIONS if (value := getattr(self, key)) is not None]
        return f"{kind}:{self.path}" + (f"?{','.join(given)}" if given else "")


def read_location(kind: str, spec: str) -> Location:
    """Reads ``PATH`` or ``PATH?root=FOLDER,absent=-1,names=COLUMN``, each option once and in any order.

    Args:
        kind: The source's name.
        spec: What stands after its colon. A path that exists is taken whole, whatever its letters are.

    Raises:
        OptionError: No path is named, or an option is unknown, repeated or has another value.

    Example:
        >>> read_location("folder", "/photos?absent=0").absent
        '0'
        >>> read_location("folder", "/photos?absnt=0")
        Traceback (most recent call last):
        unlabel.core.errors.OptionError: folder has no option 'absnt'. Close: absent. It has root, ...
    """
    whole = os.path.exists(os.path.expanduser(spec))
    path, mark, text = (spec, "", "") if whole else spec.rpartition("?")
    if not mark:
        path, text = spec, ""
    if not path:
        missing = "a folder" if kind == "folder" else "a path"
        raise OptionError(f"found '{kind}:' without {missing}; write {kind}:PATH")
    given = _given(kind, text)
    absent = given.get("absent")
    if absent not in (None, "0", "-1"):
        raise OptionError(
            f"found absent={absent} in {kind}:{spec}; expected absent=0 (then -1 is unknown) or absent=-1"
        )
    root = given.get("root")
    folder = None if root is None else _absolute(root)
    if folder is not None and not folder.is_dir():
        raise OptionError(f"root={root} is no folder; name the folder that the images' names are relative to")
    return Location(_absolute(path), folder, absent, given.get("names"))


def absolute_name(source: str) -> str:
    """A source's name with absolute paths, as a run that is trained on it records it; reads nothing.

    Raises:
        OptionError: No path is named, or an option after it is wrong.

    Example:
        >>> absolute_name("folder:/photos?absent=0"), absolute_name("faces:train=8")
        ('folder:/photos?absent=0', 'faces:train=8')
    """
    kind, _, spec = source.partition(":")
    if kind in LOCATED:
        return read_location(kind, spec).name(kind)
    return source if kind in DRAWN or kind not in READERS else f"{kind}:{named_folder(kind, spec)}"


def _given(kind: str, text: str) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for item in re.split(r",(?=\w+=)", text) if text else ():
        key, _, value = item.partition("=")
        if key not in _OPTIONS:
            raise OptionError(
                f"{kind} has no option {key[:40]!r}.{suggest(key, _OPTIONS)} It has {', '.join(_OPTIONS)};"
                f" write {kind}:PATH?absent=-1"
            )
        if key in given or not value:
            fault = (
                "is given twice; give it once" if key in given else "has no value; write it or leave it out"
            )
            raise OptionError(f"{key} of {kind} {fault}")
        given[key] = value
    return given


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))
