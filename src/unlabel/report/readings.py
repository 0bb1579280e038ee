"""One number of one model, and how it is written with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from unlabel.report.formatting import NOTHING, give_or_take, number, spread


@dataclass(frozen=True)
class Reading:
    """One number of one model, or the mean over the references (then `sd` and `models` say how sure)."""

    value: float
    ci: Sequence[float] | None
    n: int
    unit: str
    sd: float | None = None
    models: int = 1


def reading(found: Reading | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with its interval, or its spread over models.

    >>> reading(Reading(0.5, [0.48, 0.52], 900, "adv")), reading(None)
    ('0.500 ± 0.020', '—')
    >>> reading(Reading(0.1, None, 900, "adv", sd=0.004, models=3), signed=True)
    '+0.100 ± 0.004'
    """
    if found is None:
        return NOTHING
    tail = give_or_take(found.sd, digits) if found.sd is not None else spread(found.ci, found.value, digits)
    return f"{number(found.value, digits, signed=signed)} {tail}".strip()
