"""Names and numbers in sentences."""

import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def suggest(name: str, names: Iterable[str]) -> str:
    """The known names closest to a mistyped one, as the end of a sentence; empty when none is close.

    >>> suggest("Smilling", ["Smiling", "Male"])
    ' Close: Smiling.'
    >>> suggest("Zebra", ["Smiling", "Male"])
    ''
    """
    folded = {candidate.casefold(): candidate for candidate in names}
    close = get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    return f" Close: {', '.join(folded[match] for match in close)}." if close else ""


def listing(names: Sequence[str], most: int = 5) -> str:
    """The first few names and how many more there are.

    >>> listing(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def quoted(names: Iterable[str]) -> list[str]:
    """Names for a list: one with a comma in it stands in quotes, so that the list can be read.

    >>> quoted(["luxury, real", "sale"])
    ["'luxury, real'", 'sale']
    """
    return [repr(name) if "," in name else name for name in names]


def padded(text: str, width: int) -> str:
    """A text filled with spaces up to a width in a terminal, where a letter of East Asia takes two columns.

    >>> padded("red", 5), padded("赤い", 5)
    ('red  ', '赤い ')
    """
    columns = sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )
    return text + " " * (width - columns)


def counted(count: int, word: str, words: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "image"), counted(1200, "image"), counted(2, "identity", "identities")
    ('1 image', '1,200 images', '2 identities')
    """
    return f"{count:,} {word if count == 1 else words or f'{word}s'}"


def joined(names: Sequence[str]) -> str:
    """Names as they are read aloud.

    >>> joined(["Male", "Bald", "Young"])
    'Male, Bald and Young'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def in_shell(path: object) -> str:
    """A path as it is typed in a shell: a command that a person copies reads the same path.

    >>> in_shell("runs/base"), in_shell("my runs/base")
    ('runs/base', "'my runs/base'")
    """
    return shlex.quote(str(path))


def decimals(value: float, margin: float) -> int:
    """Decimals that show a number on its side of the margin beside it: three, or as many more as that needs.

    >>> [decimals(value, 0.1) for value in (0.0821, 0.1, 0.0996, 0.09996)]
    [3, 3, 4, 5]
    """
    if value == margin:
        return 3
    return next((count for count in range(3, 7) if f"{value:.{count}f}" != f"{margin:.{count}f}"), 6)


def beside_margin(value: float, margin: float) -> str:
    """A number whose margin stands beside it: never rounded to the margin.

    >>> beside_margin(0.0821, 0.1), beside_margin(0.09996, 0.1), beside_margin(0.10004, 0.1)
    ('0.082', '0.09996', '0.10004')
    """
    return f"{value:.{decimals(value, margin)}f}"
