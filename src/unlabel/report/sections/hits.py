"""Which groups it hits: the worst, where errors went, and identities, in sentences, pictures and tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from unlabel.audit.document.typed import Document, GroupBound, GroupsNote, GroupTable, MovedNote, PersonsNote
from unlabel.audit.figures import (
    GROUP_AUC,
    GROUP_CALLED,
    GROUP_LEAK,
    GROUP_MISSED,
    MOVED,
    MOVED_SHARE,
    Figure,
)
from unlabel.report.charts import Axis, Dumbbell, axis
from unlabel.report.formatting import brief, count, number, percent
from unlabel.report.readings import Reading
from unlabel.report.tables import Row, audited, row

MOST_DRAWN, LEAST_DRAWN = 8, 3  # groups in a picture
MOST_SHOWN, LEAST_SHOWN = 30, 6  # groups in a table; audit.json has all
IN_ALL = 60  # groups in all tables together, unless that leaves one too few


@dataclass(frozen=True)
class Line:
    """One group: its name, its bounds, the figure they are of, and figures beside it."""

    name: str
    bound: GroupBound
    row: Row
    beside: tuple[Row | None, ...] = ()


@dataclass(frozen=True)
class Part:
    """A figure in all groups.

    Args:
        title: Heading.
        figure: What is drawn, for the picture's caption.
        largest: What a bound is of: ``excess`` or ``loss``.
        found: What was found, in a sentence or two; it stands above all pictures.
        beside: How sure that is, and what was left out.
        lines: The groups, the worst first.
        hidden: Groups that the table leaves to ``audit.json``.
        scale, chance, marks: The picture, and where chance stands in it.
        against: What the bounds compare with.
    """

    title: str
    figure: str
    largest: str
    found: str
    beside: str
    lines: tuple[Line, ...]
    hidden: int
    scale: Axis
    chance: float
    marks: tuple[Dumbbell, ...]
    against: str


@dataclass(frozen=True)
class Hits:
    """The whole section: sentences that need no table, then a part a figure."""

    said: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


def hits(audit: Document) -> Hits | None:
    """What an audit says of groups and identities; None where nothing was measured."""
    noted = audit.claims["C5"].notes.groups
    if noted is None:
        return None
    parts = tuple(_parts(audit, noted))
    sentences = [(part.title, part.found) for part in parts]
    sentences += [*_moved(audit, noted.moved), ("Identities", _identities(noted.persons))]
    return Hits(tuple(sentences), parts)


@dataclass(frozen=True)
class _Words:
    """How one figure is spoken of.

    Args:
        title: Heading.
        drawn: What is drawn.
        worse: What is the case in a group that comes out worse.
        largest: What the worst group has.
        unit: Of it.
        needed: What a group must have.
        chance: The figure of an attack, or a model, that knows nothing.
    """

    title: str
    drawn: str
    worse: str
    largest: str
    unit: str
    needed: str
    chance: float


def _parts(audit: Document, found: GroupsNote) -> Iterator[Part]:
    for label, table in found.leaks.items():
        name = brief(label)
        words = _Words(
            f"Where {name} can be recovered",
            f"Advantage of a probe for {label} on the features",
            f"more of {name} can be recovered than in retrained models",
            "excess",
            "advantage",
            f"{found.least} images with {name} and {found.least} without",
            0.0,
        )
        yield _part(audit, words, table, (GROUP_LEAK,), label)
    whom = "retrained models" if found.losses.against == "retrained" else "the original"
    words = _Words(
        "Where the retained labels work worse",
        "Mean AUC of the retained labels",
        f"the retained labels work worse than in {whom}",
        "loss",
        "mean AUC",
        f"{found.least} images with and {found.least} without at least one retained label",
        0.5,
    )
    yield _part(audit, words, found.losses, (GROUP_AUC, GROUP_MISSED, GROUP_CALLED), None)


def _part(
    audit: Document,
    words: _Words,
    table: GroupTable,
    families: tuple[Mapping[bool, Figure], ...],
    label: str | None,
) -> Part:
    tables = len(audited(audit)) + 1
    shown = max(LEAST_SHOWN, min(MOST_SHOWN, IN_ALL // tables))
    lines = []
    for bound in table.groups[:shown]:
        unlearned, *beside = (
            row(audit, each[bound.present].of(bound.label), label, each[bound.present].layer)
            for each in families
        )
        if unlearned is not None:
            lines.append(Line(group_name(bound), bound, unlearned, tuple(beside)))
    scale, marks = _picture(lines[: max(LEAST_DRAWN, min(MOST_DRAWN, shown // 3))], words.chance)
    return Part(
        words.title,
        words.drawn,
        words.largest,
        " ".join(_found(words, table)),
        " ".join(_beside(words, table)),
        tuple(lines),
        len(table.groups) - len(lines),
        scale,
        scale.at(words.chance),
        tuple(marks),
        table.against,
    )


def group_name(bound: GroupBound) -> str:
    """A group in words.

    >>> group_name(GroupBound("Hat", False, 0.1, 0.0, 0.2, 900))
    'without Hat'
    """
    return f"{'with' if bound.present else 'without'} {brief(bound.label)}"


def _picture(lines: list[Line], chance: float) -> tuple[Axis, list[Dumbbell]]:
    sides = [side for line in lines for side in (line.row.before, line.row.after, line.row.retrained)]
    values = [side.value for side in sides if side]
    scale = axis(min([chance, *values]), max([chance + 0.1, *values]))

    def at(side: Reading | None) -> float | None:
        return None if side is None else scale.at(side.value)

    return scale, [
        Dumbbell(
            replace(line.row, label=line.name), False, None,
            at(line.row.before), at(line.row.after), at(line.row.retrained),
        )
        for line in lines
    ]  # fmt: skip


def _found(words: _Words, table: GroupTable) -> Iterator[str]:
    """In how many groups it is worse, and the worst of them."""
    if not table.groups:
        yield f"No group is large enough: it needs {words.needed}."
        return
    shown = [group for group in table.groups if group.lower > 0]  # those that are counted as worse
    worst = (shown or table.groups)[0]
    if table.beyond:
        yield f"In {table.beyond} of {table.tested} groups {words.worse}."
    else:
        yield f"In none of {table.tested} groups do the data show that {words.worse}."
    if worst.excess > 0:
        yield (
            f"The largest {words.largest} is among images {group_name(worst)}: {number(worst.excess)}"
            f" {words.unit}, at least {number(worst.lower)} and at most {number(worst.upper)}."
        )


def _beside(words: _Words, table: GroupTable) -> Iterator[str]:
    """The bound of all groups, how far retrained models are apart, and what was left out."""
    if table.at_most is not None:
        yield (
            f"No group has {'an' if words.largest[0] == 'e' else 'a'} {words.largest} above"
            f" {number(table.at_most)}. All bounds hold together, so the choice of a group is paid for."
        )
    if table.retrained_apart is not None:
        yield (
            f"Retrained models differ as well: one exceeds the others by {number(table.retrained_apart)} in"
            " some group."
        )
    if table.left_out:
        groups = "1 group is" if table.left_out == 1 else f"{table.left_out} groups are"
        yield f"{groups} too small and left out; a group needs {words.needed}."


def _moved(audit: Document, found: MovedNote | None) -> Iterator[tuple[str, str]]:
    """How far errors moved, and to which images."""
    total = row(audit, MOVED.id)
    if found is None or total is None or total.after is None:
        return
    low, high = map(number, found.total.retrained)
    yield (
        "Errors moved",
        "In a group, the share of wrong answers to a retained label changed by"
        f" {number(total.after.value)} on average, up or down; in retrained models by {_range(low, high)}.",
    )
    for label, beside in found.shares.items():
        share = row(audit, MOVED_SHARE.id, label)
        if share is not None and share.after is not None:
            low, high = map(percent, beside.retrained)
            yield (
                f"Where errors went, by {brief(label)}",
                f"Of the error that was added, {percent(share.after.value)} is on images with {brief(label)};"
                f" 50 % would be even. In retrained models it is {_range(low, high)}.",
            )


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _identities(found: PersonsNote | None) -> str:
    if found is None:
        return (
            "Nothing is said of single identities. That needs at least 100 identities with two images or"
            " more, and two retrained models."
        )
    low, high = percent(max(found.lower, 0.0)), percent(min(found.upper, 1.0))
    return (
        f"Of {count(found.persons)} identities with two images or more, {percent(found.share)} ({low} to"
        f" {high}) have a loss on the retained labels that rose by more than {number(found.amount)} nats."
        " From one retrained model to another, that of one identity in twenty rises so."
    )
