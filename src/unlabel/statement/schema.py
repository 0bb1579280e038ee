"""JSON Schema (draft 2020-12), the part of it that `audit.schema.json` uses, and that file itself.

The same file serves any validator; this one saves a dependency for a hundred lines. A keyword that it does
not know is an error of ours, not something to pass over.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

from unlabel.core.files import visible

Fault = tuple[str, str]
TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    ),
}
SAID = ("$schema", "$id", "$defs", "title", "description")  # words to people, and places to refer to
LONGEST_FORM = 160  # letters of a pattern that a fault quotes


@cache
def audit_schema() -> dict[str, Any]:
    """The schema of ``audit.json``, parsed."""
    return json.loads(files("unlabel.statement").joinpath("audit.schema.json").read_text("utf-8"))


def audit_faults(audit: Any, most: int = 10) -> list[str]:
    """In what a parsed audit does not fit its schema; empty where it does.

    Args:
        audit: Parsed JSON from anywhere.
        most: Faults to give at most.

    Example:
        >>> audit_faults({"schema": "unlabel.audit/1"}, most=1)
        ["the whole: lacks 'headline'"]
    """
    schema = audit_schema()
    return [f"{place or 'the whole'}: {fault}" for place, fault in islice(check(audit, schema, schema), most)]


def check(value: Any, schema: Any, root: dict[str, Any], place: str = "") -> Iterator[Fault]:
    """Faults of a value as (place, fault).

    Args:
        value: Parsed JSON.
        schema: A schema or part of one.
        root: The whole schema, where references lead.
        place: Where the value stands, such as ``metrics.3.value``.
    """
    if isinstance(schema, bool):
        if not schema:
            yield place, "is not foreseen"
        return
    for keyword, argument in schema.items():
        if keyword == "$ref":
            yield from check(value, _defined(argument, root), root, place)
        elif keyword in _WHOLE:
            if fault := _WHOLE[keyword](value, argument):
                yield place, fault
        elif keyword in _PARTS:
            for inner, part, rule in _PARTS[keyword](value, argument, schema):
                yield from check(part, rule, root, f"{place}.{inner}" if place else inner)
        elif keyword == "required" and isinstance(value, dict):
            yield from ((place, f"lacks '{name}'") for name in argument if name not in value)
        else:
            assert keyword in (*SAID, "required"), f"this schema uses '{keyword}', which is not known here"


def _defined(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def _kind(value: Any, kinds: str | list[str]) -> str | None:
    wanted = [kinds] if isinstance(kinds, str) else kinds
    if any(TYPES[kind](value) for kind in wanted):
        return None
    return f"is {_shown(value)}, not of type {' or '.join(wanted)}"


def _pattern(value: Any, pattern: str) -> str | None:
    assert pattern[0] == "^", "a pattern of a whole text"
    assert pattern[-1] == "$", "a pattern of a whole text"
    if isinstance(value, str) and not re.fullmatch(pattern[1:-1], value):
        form = pattern if len(pattern) <= LONGEST_FORM else f"{pattern[:LONGEST_FORM]} ..."
        return f"is {_shown(value)}, not of the form {form}"
    return None


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return visible(json.dumps(value, ensure_ascii=False))[:60]


def _number(value: Any) -> bool:
    return TYPES["number"](value)


_WHOLE: dict[str, Callable[[Any, Any], str | None]] = {
    "type": _kind,
    "pattern": _pattern,
    "const": lambda v, known: None if _same(v, known) else f"is {_shown(v)}, not {_shown(known)}",
    "enum": lambda v, known: (
        None if any(_same(v, item) for item in known) else f"is {_shown(v)}, not one of those foreseen"
    ),
    "minimum": lambda v, least: f"is {v}, below {least}" if _number(v) and v < least else None,
    "maximum": lambda v, most: f"is {v}, above {most}" if _number(v) and v > most else None,
    "minItems": lambda v, n: f"has {len(v)} items, not {n}" if isinstance(v, list) and len(v) < n else None,
    "maxItems": lambda v, n: f"has {len(v)} items, not {n}" if isinstance(v, list) and len(v) > n else None,
    "minLength": lambda v, n: f"has fewer than {n} letters" if isinstance(v, str) and len(v) < n else None,
}


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


Part = tuple[str, Any, Any]


def _properties(value: Any, rules: dict[str, Any], _: Any) -> Iterator[Part]:
    if isinstance(value, dict):
        yield from ((name, value[name], rule) for name, rule in rules.items() if name in value)


def _others(value: Any, rule: Any, schema: dict[str, Any]) -> Iterator[Part]:
    if isinstance(value, dict):
        known = schema.get("properties", {})
        yield from ((visible(name)[:60], item, rule) for name, item in value.items() if name not in known)


def _items(value: Any, rule: Any, _: Any) -> Iterator[Part]:
    if isinstance(value, list):
        yield from ((str(at), item, rule) for at, item in enumerate(value))


_PARTS: dict[str, Callable[[Any, Any, dict[str, Any]], Iterator[Part]]] = {
    "properties": _properties,
    "additionalProperties": _others,
    "items": _items,
}
