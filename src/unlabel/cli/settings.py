"""``unlabel.toml`` of the current folder: options that say how to compute, and no others.

A file may come with somebody else's data or run. So trust comes from the command line alone: what is read
and written, what is forgotten, who signed, and what passes are typed there. A file may set what is listed
here, and what a method has of its own.
"""

import inspect
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest
from unlabel.forget.methods import METHODS, find_method, plugin_names

NAME = "unlabel.toml"
MOST_BYTES = 16_000
_WHERE = ("devices", "accelerator", "quiet")
_PLACE = (*_WHERE, "seed", "batch_size", "micro_batch", "precision", "compile")
_PICTURES = ("image_size", "resize", "crop_pct", "interpolation")
_FORGET = ("images", *_PLACE)
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "train": ("model", "stem", "epochs", "lr", *_PICTURES, "canaries", *_PLACE),
    "adopt": (*_PICTURES, *_PLACE),
    "audit": ("budget", *_WHERE),  # no seed and no precision: they could be chosen for their verdict
    "compare": ("seeds", "budget_steps", "images", "search", *_WHERE),
    "verify": ("quiet",),
    "reproduce": ("scale", *_PLACE),
    "demo": _PLACE,
    **{f"forget.{name}": _FORGET for name in METHODS},
}
"""What a file may set, by table; see docs/decisions/0017-options-from-a-file.md."""


def allowed_tables() -> dict[str, tuple[str, ...]]:
    """What a file may set on this machine: `ALLOWED`, and a table for each method of an installed package."""
    return {**ALLOWED, **{f"forget.{name}": _FORGET for name in plugin_names()}}


class Settings:
    """Feeds a command the options of the file. ``said`` is then a line on what was read, or empty."""

    def __init__(self) -> None:
        self.said = ""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Called by the parser before it converts a command's arguments.

        Raises:
            OptionError: The file cannot be read, or sets what a file may not.
        """
        self.said, table = "", ".".join(commands)
        options = read_settings(Path(NAME)).get(table, {})
        nested: dict[str, Any] = options
        for name in reversed(commands):
            nested = {name: nested}
        Dict(nested, source=NAME)(app, commands, arguments)
        read = [argument for argument in arguments if any(token.source == NAME for token in argument.tokens)]
        names = [argument.name.removeprefix("--") for argument in read]
        if names:
            values = ", ".join(f"{name} = {json.dumps(options[name.replace('-', '_')])}" for name in names)
            self.said = f"unlabel: options read from {Path(NAME).absolute()}: {values}"


def read_settings(file: Path) -> dict[str, dict[str, Any]]:
    """The options of each table, such as ``forget.auto``; none where there is no file.

    Raises:
        OptionError: It is no small TOML file, or has a table or key that a file may not have.
    """
    settings: dict[str, dict[str, Any]] = {}
    allowed = allowed_tables()
    for table, options in _tables(_parse(file)):
        if table not in allowed:
            commands = [name for name in allowed if "." not in name]
            raise OptionError(
                f"{NAME} has a table [{table}], which such a file may not have."
                f"{suggest(table, allowed)} It may have {', '.join(commands)} and forget.METHOD"
            )
        settings[table] = {}
        for written, value in options.items():
            key = written.replace("-", "_")
            _check(table, key, value, allowed[table])
            if key in settings[table]:
                raise OptionError(f"{NAME} sets {key} in [{table}] twice; set it once")
            settings[table][key] = value
    return settings


def _check(table: str, key: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuses an option that a file may not set, and a value that no option has.

    Only an option of the method itself needs the method's module, or its plug-in, to be imported.
    """
    if key not in allowed and table.startswith("forget."):
        options = find_method(table.removeprefix("forget.")).options()
        allowed = (*(name for name in options if _harmless(options[name])), *allowed)
    if key not in allowed:
        close = suggest(key, allowed) or f" Type it on the command line: --{key.replace('_', '-')}."
        raise OptionError(
            f"{NAME} sets {key!r} in [{table}], which such a file may not set.{close} It may set"
            f" {', '.join(allowed)}."
        )
    if not isinstance(value, bool | int | float | str):
        raise OptionError(f"{NAME} sets {key} in [{table}] to no single value; expected a number or a word")


def _harmless(option: inspect.Parameter) -> bool:
    """Whether a method's own option is a number, a switch or a choice: no text, which might be a path."""
    if option.default is option.empty or option.annotation is option.empty:
        return False
    if isinstance(option.annotation, str):  # of a module that postpones its annotations: a name may hide text
        return {*re.findall(r"\w+", option.annotation)} <= {"int", "float", "bool", "None"}
    kind = str(option.annotation)
    return "Literal[" in kind or not re.search(r"\bstr\b|Path|Any", kind)


def _tables(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each table under its name, the methods' as ``forget.NAME``."""
    for name, value in content.items():
        if not isinstance(value, dict):
            raise OptionError(
                f"{NAME} sets {name!r} outside a table; put it in the table of a command, such as [train]"
            )
        if name != "forget":
            yield name, value
            continue
        for method, options in value.items():
            if not isinstance(options, dict):
                raise OptionError(
                    f"{NAME} sets {method!r} in [forget]; put it in the table of a method: [forget.auto]"
                )
            yield f"forget.{method}", options


def _parse(file: Path) -> dict[str, Any]:
    if not os.path.lexists(file):
        return {}
    try:
        if not file.is_file():  # no pipe or device is opened
            raise ValueError("it is no file")
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        return tomllib.loads(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:200]
        raise OptionError(
            f"{NAME} in the current folder cannot be read: {reason}; correct it, or take it away"
        ) from error
