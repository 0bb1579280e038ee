"""What a person reads of a data source in the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unlabel.core.wording import listing

MOST_ROWS = 40
"""Labels that are listed."""

MOST_CELLS = 20
"""Labels of which the correlations are shown as a square."""

_PAIRS = 5
_WIDEST = 24


def lines(found: Mapping[str, Any]) -> list[str]:
    """A survey as text, at most 100 columns wide.

    Args:
        found: Of `survey`.
    """
    return [
        *_head(found),
        "",
        *_prevalence(found),
        "",
        *_correlations(found["correlations"]),
        "",
        *_images(found),
        *(["", *(f"warning: {sentence}" for sentence in found["warnings"])] if found["warnings"] else ()),
    ]


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    counts = found["splits"]
    shown = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    kind = "classes, one an image" if found["exclusive"] else "labels"
    yield f"{found['source']}: {sum(counts.values()):,} images, {len(found['labels'])} {kind}"
    yield f"splits         {shown} ({found['split_rule']})"
    if table := found["table"]:
        mark = {",": "commas", ";": "semicolons", "\t": "tabs"}.get(table["separator"])
        yield (
            f"table          {table['file']}{f', separated by {mark}' if mark else ''}: files in"
            f" {table['names']!r}, absent is {table['absent']}"
        )
        if table["ignored_columns"]:
            yield f"               left out: {listing(table['ignored_columns'])}"


def _prevalence(found: Mapping[str, Any]) -> Iterator[str]:
    names = list(found["splits"])
    yield f"{'label':{_WIDEST}s} {'present':>9s} {'absent':>9s} {'unknown':>9s}  share present by split"
    for label in found["labels"][:MOST_ROWS]:
        by_split = found["prevalence"][label]
        total = {
            kind: sum(part[kind] for part in by_split.values()) for kind in ("present", "absent", "unknown")
        }
        shares = "  ".join(f"{name} {_share(by_split[name])}" for name in names)
        yield (
            f"{_short(label):{_WIDEST}s} {total['present']:9,} {total['absent']:9,} {total['unknown']:9,}"
            f"  {shares}"
        )
    if (more := len(found["labels"]) - MOST_ROWS) > 0:
        yield f"and {more} more labels (--json prints all)"


def _share(counts: Mapping[str, int]) -> str:
    annotated = counts["present"] + counts["absent"]
    return f"{100 * counts['present'] / annotated:5.1f} %" if annotated else "   none"


def _short(name: str) -> str:
    return name if len(name) <= _WIDEST else name[: _WIDEST - 1] + "…"


def _correlations(found: Mapping[str, Any]) -> Iterator[str]:
    labels, values = found["labels"], found["phi"]
    if len(labels) < 2:
        yield "correlations   none: there is one label"
        return
    if len(labels) <= MOST_CELLS:
        yield "correlations of labels (phi in tenths; a dot: below .05; a row's number heads its column)"
        yield from _square(labels, values)
    else:
        yield f"correlations   {len(labels)} labels are too many for a table here; --json has one"
    pairs = strongest(labels, values)
    if pairs:
        shown = "; ".join(f"{one} and {two} {value:+.2f}" for value, one, two in pairs)
        yield f"strongest      {shown}"


def _square(labels: Sequence[str], values: Sequence[Sequence[float | None]]) -> Iterator[str]:
    """The lower half of the matrix; a column is named by the number of its row."""
    for row, label in enumerate(labels):
        cells = "".join(_cell(values[row][column]) for column in range(row))
        yield f"{_short(label):{_WIDEST}s} {cells}{row + 1:4d}"


def _cell(value: float | None) -> str:
    if value is None:
        return "    "
    return f"{round(10 * value):+4d}" if abs(value) >= 0.05 else "   ·"


def strongest(
    labels: Sequence[str], values: Sequence[Sequence[float | None]], most: int = _PAIRS
) -> list[tuple[float, str, str]]:
    """The pairs of labels that go together, or exclude each other, most.

    >>> strongest(["A", "B", "C"], [[1, None, -0.5], [None, 1, 0.2], [-0.5, 0.2, 1]], 1)
    [(-0.5, 'A', 'C')]
    """
    pairs = [
        (value, labels[row], labels[column])
        for row in range(len(labels))
        for column in range(row + 1, len(labels))
        if (value := values[row][column]) is not None
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[0]))[:most]


def _images(found: Mapping[str, Any]) -> Iterator[str]:
    if sizes := found["sizes"]:
        small, middle, large = ("{} x {}".format(*sizes[kind]) for kind in ("smallest", "median", "largest"))
        yield (
            f"sizes          {small} to {large} (width x height), median {middle};"
            f" {sizes['not_square']:,} of {sizes['images']:,} not square"
        )
    else:
        height, width = found["image_size"]
        yield f"sizes          {width} x {height}: the images are no single files"
    for kind, words in (("exact", "equal pixels"), ("near", "nearly equal")):
        yield from _twins(found["duplicates"][kind], words)
    if flat := found["duplicates"]["flat"]:
        yield f"               {flat:,} images are too flat to be compared for near duplicates"
    if not found["duplicates"]["complete"]:
        yield "               more pairs are nearly equal than are counted here"
    identities = found["identities"]
    yield f"identities     {identities['note']}"
    unreadable = found["unreadable"]
    if not unreadable["count"]:
        yield "unreadable     none"
    for number, item in enumerate(unreadable["files"]):
        yield f"{'' if number else 'unreadable':14s} {item['image']}: {item['reason']}"
    if (more := unreadable["count"] - len(unreadable["files"])) > 0:
        yield f"               and {more:,} more"


def _twins(found: Mapping[str, Any], words: str) -> Iterator[str]:
    """One line of counts, and one an example."""
    within = ", ".join(f"{count:,} in {name}" for name, count in found["within"].items() if count)
    across = ", ".join(
        "{1} of {0[1]} also in {0[0]}".format(pair.split("/"), f"{count:,}")
        for pair, count in found["across"].items()
        if count
    )
    yield f"{words:14s} {'; '.join(part for part in (within, across) if part) or 'none'}"
    for pair in found["examples"]:
        yield "               {split} {image}".format(**pair["first"]) + " = {split} {image}".format(
            **pair["second"]
        )
