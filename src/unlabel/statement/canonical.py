"""Canonical JSON (RFC 8785): one value, one text, so that what was signed can be compared byte for byte."""

from typing import Any

from unlabel.statement.packages import package

MOST_NESTED = 64


def canonical(value: Any) -> bytes:
    """The canonical UTF-8 text of a JSON value, by the package ``rfc8785``.

    Args:
        value: None, bool, int, float, str, and lists, tuples and str-keyed dicts of them.

    Raises:
        ValueError: A number that is not finite or a whole one beyond 2^53 - 1, half a surrogate pair, a value
            of another kind, or one nested more than 64 deep.
        OptionError: The package is not installed.

    Example:
        >>> canonical({"b": [0.00001, 1e21, -0.0], "a": "€\\n"}).decode()
        '{"a":"€\\\\n","b":[0.00001,1e+21,0]}'
    """
    _check_depth(value, 0)
    return package("rfc8785").dumps(value)


def _check_depth(value: Any, depth: int) -> None:
    if depth > MOST_NESTED:
        raise ValueError(f"nested more than {MOST_NESTED} deep")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in inner:
        _check_depth(item, depth + 1)
