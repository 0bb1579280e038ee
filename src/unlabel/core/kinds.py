"""Whether a value that a user gave is a number; True and False, which Python counts as 1 and 0, are none."""

from math import isfinite
from numbers import Integral, Real


def is_whole(value: object) -> bool:
    """Whether it is a whole number, such as 3 or numpy's.

    >>> is_whole(3), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a finite number.

    >>> is_number(3), is_number(0.5), is_number(float("nan")), is_number("0.5")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
