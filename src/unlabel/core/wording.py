"""Names in sentences: lists, suggestions."""

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


def joined(names: Sequence[str]) -> str:
    """Names as they are read aloud.

    >>> joined(["Male", "Bald", "Young"])
    'Male, Bald and Young'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
