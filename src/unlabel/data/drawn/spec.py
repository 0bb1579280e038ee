"""What stands after the colon of a drawn source's name: ``key=value`` pairs, each checked."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unlabel.core.errors import OptionError
from unlabel.core.wording import listing, suggest

Allowed = tuple[int, int] | tuple[str, ...]
"""The least and the greatest whole number, or the words that may stand there."""


def read_options(
    kind: str, spec: str, allowed: Mapping[str, Allowed], example: str, why: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Reads ``KIND:key=value,key=value`` or what stands after its colon.

    Args:
        kind: The source's name.
        spec: The string; it may be empty.
        allowed: What each key may say.
        example: A correct string, for messages.
        why: Where the bounds of a key come from, for messages.

    Raises:
        OptionError: An unknown or repeated key, or a value that is not allowed.

    Example:
        >>> read_options("shapes", "set=digits,size=48", {"set": ("solids", "digits"), "size": (16, 512)}, "")
        {'set': 'digits', 'size': 48}
    """
    body = spec.removeprefix(kind).removeprefix(":")
    given: dict[str, Any] = {}
    for item in body.split(",") if body else ():
        key, _, text = (part.strip() for part in item.partition("="))
        if key not in allowed:
            raise OptionError(
                f"{kind} has no option {key!r}.{suggest(key, allowed)} It has {', '.join(allowed)};"
                f" write {example}"
            )
        if key in given:
            raise OptionError(f"{key} is given twice in {spec!r}; give it once")
        if isinstance(allowed[key][0], str):
            given[key] = checked(kind, key, text, allowed)
            continue
        if not (text.isascii() and text.isdigit()):
            raise OptionError(f"found {key}={text!r} in {spec!r}; expected a whole number")
        given[key] = checked(kind, key, int(text), allowed, (why or {}).get(key, ""))
    return given


def checked(kind: str, key: str, value: Any, allowed: Mapping[str, Allowed], why: str = "") -> Any:
    """The value, if it may stand there.

    Args:
        kind: The source's name.
        key: The option.
        value: A whole number or a word.
        allowed: What each key may say.
        why: Where a number's bounds come from, for the message.

    Raises:
        OptionError: It may not.
    """
    low, *_, high = allowed[key]
    if isinstance(low, str):
        if value not in allowed[key]:
            words = [str(word) for word in allowed[key]]
            raise OptionError(
                f"found {key}={value} for {kind}; expected {listing(words)}.{suggest(value, words)}"
            )
    elif not low <= value <= high:
        raise OptionError(f"found {key}={value} for {kind}; expected {low:,} to {high:,}{why}")
    return value


def short_name(kind: str, config: Any) -> str:
    """The shortest string that reads as a configuration, a dataclass with a default for every field."""
    changed = [
        f"{field.name}={getattr(config, field.name)}"
        for field in fields(config)
        if getattr(config, field.name) != field.default
    ]
    return f"{kind}:{','.join(changed)}" if changed else kind
