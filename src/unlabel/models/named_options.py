"""Names of other libraries' networks: ``timm:NAME``, ``torchvision:NAME``, ``hf:TYPE``; options after commas.

A name is all that a run folder says of its network, and a run folder may come from anywhere. So its options
are plain values only, no text among them can be a path, and nothing is looked up on a network.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from typing import Any

from unlabel.core.errors import OptionError
from unlabel.core.install import install_command

KINDS = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}
"""First part of a name -> the package that builds the network."""

LONGEST = 4000  # characters of a name with its options
LARGEST = 100_000  # whole number in an option: a hostile name must not fill the memory
_PARTS = re.compile(r"(timm|torchvision|hf):([A-Za-z]\w*(?:[.-]\w+)*)(?:,(.+))?")
_TEXT = re.compile(r"[\w.+-]{0,100}")
_WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class Named:
    """A network of another library.

    Args:
        kind: ``timm``, ``torchvision`` or ``hf``.
        base: The library's own name: of an architecture, or for ``hf`` of a type of configuration.
        options: What differs from the library's own choice: numbers, truth values, words, lists, objects.
    """

    kind: str
    base: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}:{self.base}" + "".join(
            f",{key}={value!r}" for key, value in self.options.items()
        )


def is_named(name: str) -> bool:
    """Whether a network's name is meant as one of another library's; it may still be wrong.

    >>> is_named("timm:test_vit,img_size=64"), is_named("resnet18"), is_named("torchvision.models:resnet18")
    (True, False, False)
    """
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind in KINDS


def parse_named(name: str) -> Named:
    """Reads a name; nothing is imported or run.

    Args:
        name: As in ``timm:vit_tiny_patch16_224,img_size=64``. Values are Python's literals, or bare words.

    Raises:
        OptionError: It has not that form, or a value is no plain one, or a number is too large.

    >>> parse_named("timm:swin_tiny_patch4_window7_224,depths=(1, 1),act_layer=gelu").options
    {'depths': (1, 1), 'act_layer': 'gelu'}
    """
    match = _PARTS.fullmatch(name) if len(name) <= LONGEST else None
    if match is None:
        raise OptionError(
            f"'{name[:80]}' is no network's name; expected timm:NAME, torchvision:NAME or hf:TYPE, with"
            " options after commas, such as timm:test_vit,img_size=64"
        )
    kind, base, text = match.groups()
    options: dict[str, Any] = {}
    for item in _keywords(name, text or ""):
        if item.arg in options:
            raise OptionError(f"'{name[:80]}' gives the option '{item.arg}' twice; expected it once")
        options[str(item.arg)] = _value(str(item.arg), item.value)
    return Named(kind, base, options)


def _keywords(name: str, text: str) -> list[ast.keyword]:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        call = None
    plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
    if not (isinstance(call, ast.Call) and plain and all(item.arg for item in call.keywords)):
        raise OptionError(
            f"'{name[:80]}' has options that cannot be read; expected key=value after each comma, such as"
            " img_size=64 or depths=[1,1]"
        )
    return call.keywords


def _value(key: str, node: ast.expr) -> Any:
    """The value of an option, or of an entry of it that is a bare word."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id, node.id)
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise OptionError(
            f"the network's option '{key}' is no plain value; expected a number, a word, true, false, or a"
            " list of them"
        ) from error
    if not is_plain(value):
        raise OptionError(
            f"the network's option '{key}' holds a value that is not allowed; expected numbers of at most"
            f" {LARGEST:,}, words of letters, digits and . + - _, and lists of them"
        )
    return value


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value may stand in a network's name.

    >>> is_plain({"hidden_size": [8, 16]}), is_plain("../weights.bin"), is_plain(10**9)
    (True, False, False)
    """
    if depth > 6:
        return False
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int | float):
        return isfinite(value) and abs(value) <= LARGEST
    if isinstance(value, str):
        return _TEXT.fullmatch(value) is not None
    if isinstance(value, list | tuple):
        return len(value) <= 1000 and all(is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and key.isidentifier() for key in value) and all(
            is_plain(item, depth + 1) for item in value.values()
        )
    return False


def library(kind: str) -> Any:
    """The package that builds networks of a kind.

    Raises:
        OptionError: It is not installed; the message says how to install it.
    """
    package = KINDS[kind]
    try:
        return import_module(package)
    except ImportError as error:
        command = install_command(kind)
        raise OptionError(
            f"networks named {kind}:... need the package '{package}', which is not installed: {command}"
        ) from error


def packages_of(network: str) -> dict[str, str]:
    """Name and version of the package that builds a network of another library; empty for others."""
    if not is_named(network):
        return {}
    package = KINDS[network.partition(":")[0]]
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        return {}
