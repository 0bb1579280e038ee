"""Tests of C4: what a transform restores, and what few annotated images teach."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unlabel.audit.attacks.few_shot import Relearnt, faster
from unlabel.audit.attacks.recovery import REPEATED, Recovery, Rows
from unlabel.audit.claims.judging import Cell, Judgement, reference_margin
from unlabel.audit.figures import FEW_SHOT, RECOVERED
from unlabel.audit.inputs.options import AuditOptions


def recovery_choices(
    recovery: Recovery, untouched: Rows, retrained: Sequence[Rows], options: AuditOptions
) -> list[list[Cell]]:
    """For every transform, label and attack: a test of its gain, and one of its excess over retrained models.

    A transform restores a label if the attack becomes stronger than (1) before the transform and (2) on the
    retrained models. FAIL if both are above their margins; PASS if either is within, each at half of the
    error rate.
    """
    return [
        _both(recovery, name, label, figure, untouched, retrained, options)
        for name, labels in recovery.after.items()
        for label in labels
        for figure in REPEATED
    ]


def nearest(choice: Sequence[Cell], options: AuditOptions) -> Cell:
    """Of two tests, the one that is kept: that with the larger p-value, nearer to a PASS."""
    return max(choice, key=lambda cell: (cell.contrast.p_above(cell.margin), -cell.distance(options)))


def _both(
    recovery: Recovery,
    transform: str,
    label: str,
    figure: str,
    untouched: Rows,
    retrained: Sequence[Rows],
    options: AuditOptions,
) -> list[Cell]:
    excess = recovery.excess(transform, label, figure, retrained)
    name, gain = RECOVERED.of(figure), recovery.gain(transform, label, figure, untouched)
    gained = Cell(label, name, gain, options.d_recover, transform=transform, against="itself")
    if excess is None:
        return [gained]
    other = Cell(label, name, excess, reference_margin(figure, options), transform=transform)
    return [replace(cell, chosen_of=2) for cell in (gained, other)]


def few_cells(few: Mapping[str, Sequence[Mapping[int, Relearnt]]], options: AuditOptions) -> list[Cell]:
    """How much faster the model relearns each label than the retrained ones, for every judged size."""
    return [
        Cell(
            label, FEW_SHOT.of(n), faster(after[n], [reference[n] for reference in references]), options.d_few
        )
        for label, (_, after, *references) in few.items()
        if references
        for n in after
        if n >= options.few_judged and all(n in reference for reference in references)
    ]


def recoveries(
    recovery: Recovery, untouched: Rows, references: Sequence[Rows], judged: Judgement, options: AuditOptions
) -> dict[str, dict[str, dict[str, object]]]:
    """By transform and label, the attack that came closest to its margin, compared both ways."""
    closest: dict[str, dict[str, dict[str, object]]] = {}
    for name, labels in recovery.after.items():
        for label in labels:
            here = [cell for cell in judged.cells if (cell.transform, cell.label) == (name, label)]
            cell = max(here, key=lambda cell: cell.distance(options))
            figure = RECOVERED.member(cell.figure)
            gain, excess = (
                recovery.gain(name, label, figure, untouched),
                recovery.excess(name, label, figure, references),
            )
            retrained = [
                changed[name][label][figure].value - plain[label][figure].value
                for changed, plain in zip(recovery.references, references, strict=False)  # none if predicted
                if name in changed
            ]
            level = cell.level(options)
            closest.setdefault(name, {})[label] = {
                "attack": figure,
                "gain": gain.value,
                "upper": gain.upper(level),
                "gain_of_retrained": sum(retrained) / len(retrained) if retrained else None,
                "excess": None if excess is None else excess.value,
                "excess_upper": None if excess is None else excess.upper(level),
                "judged_against": cell.against,
            }
    return closest


def few_table(
    few: Mapping[str, Sequence[Mapping[int, Relearnt]]], options: AuditOptions
) -> dict[str, dict[str, dict[str, object]]]:
    """By label and size: D of the unlearned model, and D of the original, which must be clear."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for label, (before, after, *references) in few.items():
        for n in after if references else ():
            others = [reference[n] for reference in references if n in reference]
            if not others:  # no level is predicted for so many images
                continue
            ours, original = faster(after[n], others), faster(before[n], others)
            table.setdefault(label, {})[str(n)] = {
                "excess": ours.value,
                "upper": ours.upper(options.level),
                "excess_of_original": original.value,
                "original_would_fail": original.lower(options.level) > options.d_few,
            }
    return table
