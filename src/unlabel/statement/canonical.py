"""Canonical JSON (RFC 8785): one value, one text, so that what was signed can be compared byte for byte.

No white space, names sorted by their UTF-16 code units, strings escaped only where they must be, and numbers
as ECMAScript prints them.
"""

import re
from math import isfinite
from typing import Any

SAFE = 2**53 - 1
"""Whole numbers up to here are the same in every JSON reader; larger ones belong in a string."""

MOST_NESTED = 64

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_ESCAPED = re.compile('["\\\\\x00-\x1f]')
_HALF = re.compile("[\ud800-\udfff]")
_PARTS = re.compile(r"(\d+)(?:\.(\d+))?(?:e([+-]\d+))?")


def canonical(value: Any) -> bytes:
    """The canonical UTF-8 text of a JSON value.

    Args:
        value: None, bool, int, float, str, and lists, tuples and str-keyed dicts of them.

    Raises:
        ValueError: A number that is not finite or a whole one beyond 2^53 - 1, half a surrogate pair, a value
            of another kind, or one nested more than 64 deep.

    Example:
        >>> canonical({"b": [0.00001, 1e21, -0.0], "a": "€\\n"}).decode()
        '{"a":"€\\\\n","b":[0.00001,1e+21,0]}'
    """
    return _text(value, 0).encode("utf-8")


def _text(value: Any, depth: int) -> str:
    if depth > MOST_NESTED:
        raise ValueError(f"nested more than {MOST_NESTED} deep")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        if abs(value) > SAFE:
            raise ValueError(f"the whole number {str(value)[:30]} is beyond 2^53 - 1")
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_text(item, depth + 1) for item in value)}]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))
        return f"{{{','.join(f'{_quoted(key)}:{_text(item, depth + 1)}' for key, item in items)}}}"
    raise ValueError(f"a {type(value).__name__} is no JSON value")


def _quoted(text: str) -> str:
    if _HALF.search(text):
        raise ValueError("a text holds half a surrogate pair")
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"


def number(value: float) -> str:
    """A float as ECMAScript prints it: the fewest digits that read back as the same float.

    Python finds the same digits; it only writes other exponents, and does so from other sizes on.

    Raises:
        ValueError: The number is not finite.

    Example:
        >>> [number(x) for x in (1.0, 1e16, 1e-7, 123456789012345680000.0, 5e-324)]
        ['1', '10000000000000000', '1e-7', '123456789012345680000', '5e-324']
    """
    if not isfinite(value):
        raise ValueError("a number is not finite")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    whole, fraction, exponent = _PARTS.fullmatch(repr(abs(value))).groups("")  # type: ignore[union-attr]
    point = len(whole) + int(exponent or 0)  # the value is 0.DIGITS x 10^point
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"
