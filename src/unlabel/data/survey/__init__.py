"""What a data source holds: counts, prevalences, correlations, sizes, duplicates, unreadable files.

::

    survey(source) -> dict         JSON-plain
    text.lines(facts)              what a person reads
    picture.correlations(facts)    the correlations as SVG
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.progress import SILENT, Log
from unlabel.core.wording import counted, listing
from unlabel.data.dataset import Dataset, Source
from unlabel.data.splits import LEAST_OF_A_KIND, PEOPLE
from unlabel.data.survey.duplicates import count_duplicates
from unlabel.data.survey.sizes import original_sizes

MOST_LABELS = 100
"""Labels whose correlations are computed: of more, those that are most balanced."""


def survey(source: Source, log: Log = SILENT) -> dict[str, Any]:
    """Looks at every image and annotation of a source.

    Args:
        source: Read with ``skip_bad``, so that unreadable files are listed rather than refused.
        log: Receives progress.

    Returns:
        ``splits`` (images by split), ``image_size`` (height and width as read), ``prevalence`` (label ->
        split -> present, absent, unknown), ``correlations`` (phi of each two labels, where both are known),
        ``sizes``, ``duplicates``, ``identities``, ``unreadable``, ``table`` (how it is spelt) and
        ``warnings``, sentences.
    """
    splits = {"train": source.train, "probe": source.probe, "test": source.test}
    facts = source.facts
    reasons = facts.get("skipped_bad_reasons", [])
    bad = [
        {"image": name, "reason": reason}
        for name, reason in zip(facts.get("skipped_bad", []), reasons, strict=True)
    ]
    result: dict[str, Any] = {
        "source": source.name,
        "labels": list(source.labels),
        "exclusive": source.train.exclusive,
        "image_size": list(source.train.pixels.shape[1:3]),
        "splits": {name: len(part) for name, part in splits.items()},
        "split_rule": facts.get("split_rule"),
        "table": facts.get("table"),
        "prevalence": _prevalence(splits, source.labels),
        "correlations": _correlations(splits, source.labels),
        "sizes": original_sizes(source, log),
        "duplicates": count_duplicates(splits, log),
        "identities": _identities(splits, facts),
        "unreadable": {"count": facts.get("skipped_bad_count", 0), "files": bad},
        "ignored_files": facts.get("ignored_files", 0),
    }
    return {**result, "warnings": [*_warnings(result), *_too_few(splits, source.labels)]}


def _prevalence(parts: Mapping[str, Dataset], labels: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    kinds = {"present": 1, "absent": 0, "unknown": -1}
    return {
        label: {
            name: {kind: int(np.sum(part.target[:, column] == code)) for kind, code in kinds.items()}
            for name, part in parts.items()
        }
        for column, label in enumerate(labels)
    }


def _correlations(parts: Mapping[str, Dataset], labels: Sequence[str]) -> dict[str, Any]:
    """Phi of each two labels over all images where both are known; None where that is undefined."""
    target = np.concatenate([part.target for part in parts.values()])
    rarer = np.minimum((target == 1).sum(0), (target == 0).sum(0))
    columns = np.sort(np.argsort(-rarer, kind="stable")[:MOST_LABELS])
    values = phi(target[:, columns])
    return {
        "labels": [labels[column] for column in columns.tolist()],
        "phi": [[None if np.isnan(value) else round(float(value), 4) for value in row] for row in values],
    }


def phi(target: NDArray[np.int8]) -> NDArray[np.float64]:
    """The phi coefficient of each two columns over the rows where both are known; nan where undefined.

    >>> phi(np.array([[1, 1], [0, 0], [1, 1], [0, 0], [1, -1]], np.int8)).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    known, has = (target >= 0).astype(np.float64), (target == 1).astype(np.float64)
    n, both, first = known.T @ known, has.T @ has, has.T @ known
    second = first.T
    spread = first * (n - first) * second * (n - second)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, (n * both - first * second) / np.sqrt(spread), np.nan)


def _identities(parts: Mapping[str, Dataset], facts: Mapping[str, Any]) -> dict[str, Any]:
    """How many identities there are, and how many are in each two splits."""
    if not facts.get("identities"):
        return {"known": False, "note": facts.get("identity_note")}
    across = {
        f"{first}/{second}": len(np.intersect1d(parts[first].cluster, parts[second].cluster))
        for first, second in combinations(parts, 2)
    }
    return {"known": True, "count": facts["clusters"], "across": across, "note": facts.get("identity_note")}


def _warnings(found: Mapping[str, Any]) -> list[str]:
    """What should be mended before a model is trained on this."""
    sentences = []
    if count := found["unreadable"]["count"]:
        sentences.append(
            f"{counted(count, 'image')} cannot be read: mend them, or leave them out with --skip-bad."
        )
    for kind, words in (("exact", "have the same pixels as"), ("near", "may be the same pictures as")):
        for pair, count in found["duplicates"][kind]["across"].items():
            if count:
                first, second = pair.split("/")
                sentences.append(
                    f"{count:,} of the {second} split's images {words} images of the {first} split:"
                    " an audit on images that were trained on is optimistic."
                )
    for pair, count in found["identities"].get("across", {}).items():
        if count:
            first, second = pair.split("/")
            sentences.append(
                f"{counted(count, 'identity is', 'identities are')} in both the {first} and the {second}"
                " split."
            )
    for label, splits in found["prevalence"].items():
        if lacking := [name for name, n in splits.items() if not (n["present"] and n["absent"])]:
            sentences.append(f"{label} is not both present and absent in: {', '.join(lacking)}.")
    return sentences


def _too_few(parts: Mapping[str, Dataset], labels: Sequence[str]) -> list[str]:
    """A sentence on the labels that an audit or a probe would refuse; not on those that are never there."""
    short = []
    for column, label in enumerate(labels):
        lacking = [
            f"{word} in {counted(rows, 'image')}{f' of {people:,} identities' if people < rows else ''}"
            f" of {name}"
            for name, part in parts.items()
            for word, code in (("present", 1), ("absent", 0))
            for rows, people in [_images_and_people(part, column, code)]
            if 0 < rows < LEAST_OF_A_KIND or (name == "probe" and 0 < people < PEOPLE)
        ]
        if lacking:
            short.append(f"{label} ({', '.join(lacking)})")
    if not short:
        return []
    return [
        f"{len(short):,} {'label has' if len(short) == 1 else 'labels have'} too few images for an audit or a"
        f" probe. These need {LEAST_OF_A_KIND} images of {PEOPLE} identities with the label, and as many"
        f" without it, in each split: {listing(short)}."
    ]


def _images_and_people(part: Dataset, column: int, code: int) -> tuple[int, int]:
    rows = part.target[:, column] == code
    return int(rows.sum()), len(np.unique(part.cluster[rows]))
