"""Which retained labels C5 and the check of references leave out of the mean, and how the claim names them.

A label that the original does not predict better than chance cannot be lost by forgetting. If a retrained
model happened to learn it, the comparison would call that a harm. Only the original and the annotations say
which labels these are, never the unlearned model.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from unlabel.audit.attacks.utility import Utility
from unlabel.audit.document.results import Claim
from unlabel.audit.figures import UTILITY_AUC
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.wording import joined, listing
from unlabel.statistics.contrast import contrast

CHANCE, NEAR = 0.5, 0.6
"""AUC of a coin, and the most that the original may reach, by its upper bound, for a label to be left out:
with fewer images than show this, the label stays."""


def unpredicted(before: Utility, options: AuditOptions) -> tuple[str, ...]:
    """Retained labels that the original does not predict: its AUC may be .5 or less, and is at most `NEAR`.

    Args:
        before: Utility of the original.
        options: Level of both one-sided bounds.

    Returns:
        Among those with enough people for the mean; none if no other label would be left in it.
    """
    areas = {name: before.labels[name][UTILITY_AUC.id] for name in before.steady}
    names = tuple(
        name
        for name, area in areas.items()
        if area.lower(options.level) <= CHANCE and area.upper(options.level) <= NEAR
    )
    return names if len(names) < len(areas) else ()


def without(utility: Utility, names: Sequence[str]) -> Utility:
    """The same figures of a model, with some labels left out of the means by which it is judged."""
    steady = tuple(name for name in utility.steady if name not in names)
    return replace(utility, steady=steady, left_out=tuple(names))


def with_left_out(
    claim: Claim, before: Utility, references: Sequence[Utility], names: Sequence[str], options: AuditOptions
) -> Claim:
    """C5, naming what its mean leaves out, and the labels at which the original lacks what references have.

    Args:
        claim: C5.
        before: Utility of the original, with all labels.
        references: Of the retrained models.
        names: Of `unpredicted`.
        options: Level and margins.

    Returns:
        The verdict stays. ``not_predicted`` and ``retrained_better``, by label, are added to the notes.
    """
    notes, sentence = dict(claim.notes), claim.sentence
    if names:
        notes["not_predicted"] = list(names)
        each = joined([f"{name} ({_areas(name, before, references)})" for name in names])
        it = "it" if len(names) == 1 else "them"
        sentence += f" Left out, since the original does not predict {it}: {each}."
    better = _better(before, references, names, options)
    if better:
        notes["retrained_better"] = better
    if better and claim.verdict != "PASS":
        gaps = joined([f"{name} by {gap:.3f}" for name, gap in better.items()])
        sentence += f" The retrained models are better than the original itself at {gaps}."
    few = [name for name in before.labels if before.steady and name not in before.steady]
    if few:
        sentence += f" Not judged, with too few images: {listing(few)}."
    return replace(claim, sentence=sentence, notes=notes)


def lines_of(names: Sequence[str]) -> tuple[str, ...]:
    """What limits the mean: labels of `unpredicted`, in a sentence."""
    if not names:
        return ()
    it = "it" if len(names) == 1 else "them"
    return (
        f"The mean AUC by which C5 and retrained models are judged is without {joined(names)}: the original"
        f" does not predict {it} better than chance, so forgetting cannot lose {it}.",
    )


def _areas(name: str, before: Utility, references: Sequence[Utility]) -> str:
    """AUC of a label in the original, and the mean of the retrained models."""
    original, *others = (model.labels[name][UTILITY_AUC.id].value for model in (before, *references))
    return f"AUC {original:.3f}, retrained {fmean(others):.3f}"


def _better(
    before: Utility, references: Sequence[Utility], names: Sequence[str], options: AuditOptions
) -> dict[str, float]:
    """Judged labels at which retrained models are better than the original by more than a label may lose."""
    gaps = {}
    for name in before.steady:
        area, *others = (model.labels[name][UTILITY_AUC.id] for model in (before, *references))
        gap = contrast(area, others) if others else None
        if gap and name not in names and gap.upper(options.level) < -options.d_worst:
            gaps[name] = -gap.value
    return gaps
