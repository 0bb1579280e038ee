"""Numbers as a reader sees them: three decimals, a true minus sign, intervals, durations."""

from collections.abc import Sequence

from unlabel.core.wording import decimals

MINUS = "−"
NOTHING = "—"


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with a fixed count of decimals, or a dash for none.

    >>> number(0.5), number(-0.0204), number(0.0204, signed=True), number(-0.0001), number(None)
    ('0.500', '−0.020', '+0.020', '0.000', '—')
    """
    if value is None:
        return NOTHING
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def beside_margin(value: float | None, margin: float | None, *, signed: bool = False) -> str:
    """A number whose margin stands beside it: never rounded to the margin.

    >>> beside_margin(0.09996, 0.1, signed=True), beside_margin(0.0821, 0.1), beside_margin(None, None)
    ('+0.09996', '0.082', '—')
    """
    digits = 3 if value is None or margin is None else decimals(value, margin)
    return number(value, digits, signed=signed)


def spread(ci: Sequence[float] | None, value: float, digits: int = 3) -> str:
    """What follows a value: half its interval where that is symmetric, else the interval; empty for none.

    >>> spread([0.48, 0.52], 0.5), spread([0.0, 0.02], 0.004), spread(None, 0.5), spread([0.5, 0.5], 0.5)
    ('± 0.020', '(0.000 to 0.020)', '', '')
    """
    if ci is None or ci[0] == ci[1]:
        return ""
    below, above = value - ci[0], ci[1] - value
    if abs(below - above) <= 0.1 * max(below, above, 0.0):
        return give_or_take((below + above) / 2, digits)
    return f"({number(ci[0], digits)} to {number(ci[1], digits)})"


def give_or_take(half: float, digits: int = 3) -> str:
    """A spread that never rounds something to nothing.

    >>> give_or_take(0.0123), give_or_take(0.0003), give_or_take(0.0)
    ('± 0.012', '± < 0.001', '± 0.000')
    """
    least = 10.0**-digits
    return f"± < {number(least, digits)}" if 0 < half < least / 2 else f"± {number(half, digits)}"


def count(value: float | None) -> str:
    """A whole number with thousands set apart, or a dash for none.

    >>> count(162770), count(None)
    ('162,770', '—')
    """
    return NOTHING if value is None else f"{value:,.0f}"


def short(value: float) -> str:
    """A large count in a few characters.

    >>> short(128), short(27_090), short(11_197_032)
    ('128', '27 k', '11.2 M')
    """
    if value >= 1e6:
        return f"{value / 1e6:.1f} M"
    return f"{value / 1e3:.0f} k" if value >= 1e4 else count(value)


def percent(share: float | None) -> str:
    """A share as a percentage that never rounds something to nothing, nor a part to the whole.

    >>> percent(0.0208), percent(0.00001), percent(0.9999), percent(1.0), percent(0.0)
    ('2.1 %', '< 0.1 %', '> 99.9 %', '100 %', '0 %')
    """
    if share is None:
        return NOTHING
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    if share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if share > 0.999 else f"{share * 100:.1f} %"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.42), duration(9.9), duration(83.2), duration(3480), duration(12_000)
    ('0.42 s', '9.9 s', '83 s', '58 min', '3.3 h')
    """
    if seconds is None:
        return NOTHING
    if seconds < 120:
        return (
            f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
        )
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def times(ratio: float | None) -> str:
    """How many times one amount is of another.

    >>> times(9.04), times(84.4), times(0.31), times(None)
    ('9.0 ×', '84 ×', '0.31 ×', '—')
    """
    if ratio is None:
        return NOTHING
    return f"{ratio:.2f} ×" if ratio < 1 else f"{ratio:.1f} ×" if ratio < 10 else f"{ratio:,.0f} ×"


def brief(name: str, most: int = 32) -> str:
    """A name cut to fit a sentence; tables give it in full.

    >>> brief("Male"), brief("abcdefghij", 6)
    ('Male', 'abcde…')
    """
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def spoken(labels: Sequence[str], most: int = 4) -> str:
    """Labels in a sentence, each cut to fit."""
    return names([brief(label) for label in labels], most)


def names(items: Sequence[str], most: int = 4) -> str:
    """Names in a sentence.

    >>> names(["A"]), names(["A", "B"]), names(["A", "B", "C"]), names(list("ABCDEF"))
    ('A', 'A and B', 'A, B and C', 'A, B, C, D and 2 more')
    """
    if len(items) > most:
        return f"{', '.join(items[:most])} and {len(items) - most} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
