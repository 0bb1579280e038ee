"""Whose each image is: the spellings of one person, and those of nobody."""

import re
from collections.abc import Sequence
from unicodedata import normalize

import numpy as np

from unlabel.data.texts import Coded

NOBODY = ("", "-1", "nan", "na", "<na>", "n/a", "nat", "none", "null", "unknown", "?")
"""Identities that say that nobody knows whose image it is; small letters."""

_WHOLE = re.compile(r"(-?[0-9]+)\.0+")

CROWD, LEAST_IMAGES = 0.2, 50
"""A share of the images that one identity seldom holds, and how many images there are at least."""


def person(text: str) -> str:
    """One spelling of an identity; empty where it says that nobody knows whose image it is.

    Outer spaces, Unicode's forms and a fraction of zero tell no two people apart: pandas writes 1 as 1.0 in a
    column with a missing value.

    >>> [person(text) for text in (" ann", "1.0", "-1.0", "<NA>", "Unknown")]
    ['ann', '1', '', '', '']
    """
    plain = normalize("NFC", text.strip())
    whole = _WHOLE.fullmatch(plain)
    plain = whole[1] if whole else plain
    return "" if plain.casefold() in NOBODY else plain


def people(identity: Sequence[str]) -> Coded:
    """Identities as `person` spells them.

    >>> list(people(["p1", "-1", "NaN", "p1 "]))
    ['p1', '', '', 'p1']
    """
    written = Coded.of(identity)
    spelt = Coded.of(map(person, written.texts))
    return Coded(spelt.texts, spelt.codes[written.codes])


def crowd(identity: Coded) -> str | None:
    """A sentence if one identity holds so many images that it may mean nobody; None if none does.

    >>> crowd(Coded.of(["0"] * 40 + ["ann", "bob"] * 10))
    "the identity '0' holds 40 of 60 images; if it stands for nobody in particular, leave it empty there"
    """
    counts = np.bincount(identity.codes, minlength=len(identity.texts))
    counts[[at for at, text in enumerate(identity.texts) if not text]] = 0
    most = int(counts.argmax()) if len(counts) else 0
    if len(identity) < LEAST_IMAGES or counts[most] <= CROWD * len(identity):
        return None
    name, held = identity.texts[most][:40], counts[most]
    return (
        f"the identity {name!r} holds {held:,} of {len(identity):,} images; if it stands for nobody in"
        " particular, leave it empty there"
    )
