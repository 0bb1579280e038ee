"""Whom forgetting hits: all that the audit measures within groups and by person, of every model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.moved_errors import CALLED, MISSED, Errors, Moved, mean_rates, moved
from unlabel.audit.attacks.persons import Persons
from unlabel.audit.attacks.within_groups import Found, Masks, areas, part_rows
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    GROUP_AUC,
    GROUP_CALLED,
    GROUP_LEAK,
    GROUP_MISSED,
    MOVED,
    MOVED_SHARE,
    PERSONS_HARMED,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.subject import Subject
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset


@dataclass(frozen=True)
class Served:
    """How well the retained labels of one model work in each group.

    Args:
        areas: Mean AUC.
        missed, called: Mean rates of errors.
        moved: Moves of errors against the original; None of the original, or where no group is large enough.
    """

    areas: Found
    missed: Found
    called: Found
    moved: Moved | None


def served(
    subject: Subject, original: Subject, test: Dataset, request: Request, masks: Masks, options: AuditOptions
) -> Served:
    """Measures one model.

    Args:
        subject: The model.
        original: What it was before.
        test: The test split.
        request: Names the retained labels and the forgotten ones.
        masks: The groups of all of them.
        options: Thresholds.
    """
    errors, before = (Errors.of(item, test, request.retained, options) for item in (subject, original))
    return Served(
        areas(subject, test, request.retained, masks),
        mean_rates(errors, masks, MISSED),
        mean_rates(errors, masks, CALLED),
        None if subject is original else moved(errors, before, masks, request.masked),
    )


@dataclass(frozen=True)
class Hits:
    """What was measured, of every model in the audit's order (original, unlearned, references).

    Args:
        groups: How many groups there are, two a label; of the forgotten labels as well.
        leaks: By forgotten label, of each model: advantage by group.
        served: Of each model.
        persons: None where it cannot be measured.
    """

    groups: int
    leaks: Mapping[str, Sequence[Found]]
    served: Sequence[Served]
    persons: Persons | None


def hit_rows(hits: Hits, subjects: Sequence[Subject]) -> Iterator[Metric]:
    """Every figure as a row of ``metrics[]``."""
    for label, models in hits.leaks.items():
        for subject, found in zip(subjects, models, strict=True):
            yield from part_rows(GROUP_LEAK, label, subject, found)
    for subject, found in zip(subjects, hits.served, strict=True):
        for family, each in (
            (GROUP_AUC, found.areas),
            (GROUP_MISSED, found.missed),
            (GROUP_CALLED, found.called),
        ):
            yield from part_rows(family, None, subject, each)
        if found.moved is not None:
            yield row(MOVED.id, None, subject, found.moved.total)
            for label, item in found.moved.shares.items():
                yield row(MOVED_SHARE.id, label, subject, item)
    if hits.persons is not None:
        shares = (hits.persons.share, *hits.persons.retrained)
        for subject, item in zip(subjects[1:], shares, strict=True):
            yield row(PERSONS_HARMED.id, None, subject, item)
