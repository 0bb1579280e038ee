"""Which label columns are to be forgotten: names on the outside, column numbers inside."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from unicodedata import normalize

from unlabel.core.errors import NothingLeft, NothingToForget, OptionError, UnknownLabel
from unlabel.core.wording import suggest


def as_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple; a text by itself is one name, not its letters.

    Raises:
        OptionError: Something else than a name or several names.

    >>> as_names("Male"), as_names(["Male", "Young"]), as_names("")
    (('Male',), ('Male', 'Young'), ())
    """
    if isinstance(labels, str):
        return (labels,) if labels else ()
    names = tuple(labels) if isinstance(labels, Iterable) else (labels,)
    if odd := [name for name in names if not isinstance(name, str)]:
        raise OptionError(
            f"{odd[0]!r} stands where the name of a label was expected; write a name, or a list of names"
        )
    return names


def spelt(names: Iterable[str], labels: Iterable[str]) -> tuple[str, ...]:
    """Names as the labels write them, if they differ in the form of Unicode alone; others as they are.

    A keyboard types one sign where a table from a Mac may hold a letter and its accent.

    >>> spelt(["\u00e9", "Hat"], ["e\u0301"]) == ("e\u0301", "Hat")
    True
    """
    exact = dict.fromkeys(labels)
    of_form = {normalize("NFC", label): label for label in exact}
    return tuple(name if name in exact else of_form.get(normalize("NFC", name), name) for name in names)


@dataclass(frozen=True)
class Request:
    """The labels to forget (F) among a model's labels; all others are retained (R).

    Labels that an earlier request removed stay forgotten: they are masked in every loss and their
    outputs are hidden from every attack, so a second request cannot bring the first one back unseen.

    Args:
        forget: Names to forget now, in the order given.
        labels: All the model's labels, in output order.
        forgotten: Names forgotten by earlier requests on the same model.
        rows: Positions in the whole source of the images whose annotations of these labels are to be
            forgotten, and no others: the labels themselves are then retained. Empty for whole columns.

    Raises:
        UnknownLabel: A name is not among the labels.
        NothingToForget: No name is given, one is given twice, or one is forgotten already.
        NothingLeft: No label would be retained.

    Example:
        >>> request = Request.make(["Male"], ["Bald", "Male", "Young"])
        >>> request.columns, request.retained_columns
        ((1,), (0, 2))
        >>> later = Request.make(["Bald"], ["Bald", "Male", "Young"], forgotten=["Male"])
        >>> later.masked, later.retained
        (('Bald', 'Male'), ('Young',))
    """

    forget: tuple[str, ...]
    labels: tuple[str, ...]
    forgotten: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()

    @classmethod
    def make(
        cls,
        forget: str | Sequence[str],
        labels: Sequence[str],
        *,
        forgotten: Sequence[str] = (),
        rows: Sequence[int] = (),
        see: str = "with: unlabel show RUN",
    ) -> "Request":
        """Checks the names and builds the request, which spells them as the labels do.

        One name may stand for a list of one.

        `see` ends a sentence on how the user sees all labels.
        """
        names, forgotten = (spelt(as_names(given), labels) for given in (forget, forgotten))
        if not names:
            raise NothingToForget("no label to forget was named; name one or more with --labels A,B")
        if strange := [name for name in forgotten if name not in labels]:
            raise UnknownLabel(
                f"no label '{strange[0]}' among the model's {len(labels)}, so it was not forgotten earlier."
                f"{suggest(strange[0], labels)}"
            )
        for name in names:
            if name not in labels:
                raise UnknownLabel(
                    f"no label '{name}' among the model's {len(labels)}.{suggest(name, labels)}"
                    f" See them all {see}{_commas(name, labels)}"
                )
            if names.count(name) > 1:
                raise NothingToForget(f"label '{name}' is named more than once; name each label once")
            if name in forgotten:
                raise NothingToForget(
                    f"label '{name}' was forgotten by an earlier request; name another, or start"
                    " again from an ancestor of this run"
                )
        if not rows and len(set(names) | set(forgotten)) == len(labels):
            raise NothingLeft(
                f"all {len(labels)} labels would be forgotten, but at least one must be retained;"
                " to stop using the whole model, delete it"
            )
        return cls(names, tuple(labels), tuple(forgotten), tuple(sorted({*rows})))

    @property
    def columns(self) -> tuple[int, ...]:
        """Output columns to forget now, in the order of the names."""
        return self._columns(self.forget)

    @property
    def masked(self) -> tuple[str, ...]:
        """Names forgotten as a whole, now or earlier, in output order: hidden from loss and attacks."""
        gone = {*(() if self.rows else self.forget), *self.forgotten}
        return tuple(name for name in self.labels if name in gone)

    @property
    def masked_columns(self) -> tuple[int, ...]:
        """Output columns of `masked`."""
        return self._columns(self.masked)

    @property
    def retained(self) -> tuple[str, ...]:
        """Names that must keep working, in output order."""
        gone = set(self.masked)
        return tuple(name for name in self.labels if name not in gone)

    @property
    def retained_columns(self) -> tuple[int, ...]:
        """Output columns of `retained`."""
        return self._columns(self.retained)

    def _columns(self, names: Sequence[str]) -> tuple[int, ...]:
        column = {name: number for number, name in enumerate(self.labels)}
        return tuple(column[name] for name in names)


def listed(names: Sequence[str]) -> str:
    r"""A list as it is typed: what ``--labels`` reads.

    >>> listed(["Hat, red", "Male"])
    'Hat\\, red,Male'
    """
    return ",".join(re.sub(r"([,\\])", r"\\\1", part) for part in names)


def _commas(name: str, labels: Sequence[str]) -> str:
    """What to write, where the name is a part of one that holds a comma."""
    whole = next((label for label in labels if name in [part.strip() for part in label.split(",")]), None)
    return "" if whole is None else f"; a comma in a name stands after a backslash: '{listed([whole])}'"
