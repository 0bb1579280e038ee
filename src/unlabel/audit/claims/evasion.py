"""Claims after the attacks on models built to cheat the audit: they can fail C1 and C2, never pass them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unlabel.audit.claims.judging import (
    Cell,
    Judgement,
    excess_cells,
    judge,
    place_of,
    reference_margin,
    unit_words,
)
from unlabel.audit.claims.margins import without_margins
from unlabel.audit.document.results import BINDING_TEST, Claim, Verdict
from unlabel.audit.figures import OWN_PERTURBED, PERTURBED, TRAIN, Readings
from unlabel.audit.figures import figure as entry
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.wording import beside_margin, joined

HIDDEN = {
    PERTURBED: ", though not on these themselves",
    TRAIN: ", though not on the audit's",
    "": ", though not to the other probes",
}
"""By the ending of a figure: what else may be said of a label that the other attacks passed."""


def condemned(
    c1: Claim,
    c2: Claim,
    readings: Sequence[Mapping[str, Readings]],
    few: Mapping[str, frozenset[str]],
    options: AuditOptions,
) -> tuple[Claim, Claim, Judgement | None]:
    """C1 and C2, which FAIL if these attacks recover the label.

    C1: the own output against chance. C2: each other attack against the retrained models, by the margins of
    C2 and corrected by Holm; only where C2 was judged.

    Args:
        c1, c2: The claims as the other attacks decide them.
        readings: Of `gather_evasion`.
        few: Of `too_few`: labels that decide nothing, by the ending of the figures.
        options: Margins.

    Returns:
        Both claims; and the tests against retrained models, where there were some.
    """
    after, retrained = readings[0], readings[1:]
    perturbed = {name: rows for name, rows in after.items() if OWN_PERTURBED.id in rows}
    if perturbed:
        cells = excess_cells(perturbed, (), (OWN_PERTURBED.id,), lambda _: options.d_chance, pooled=False)
        c1 = _failed(c1, _judged(cells, few, options), "The model's own output predicts")
    if not retrained or c2.verdict == "NOT_EVALUATED":
        return c1, c2, None
    cells = [
        cell
        for name, rows in after.items()
        for cell in excess_cells(
            {name: rows},
            retrained,
            [figure for figure in rows if figure != OWN_PERTURBED.id],
            lambda figure: reference_margin(figure, options),
            pooled=False,
        )
    ]
    if not cells:  # of outputs alone, without training images
        return c1, c2, None
    judged = _judged(cells, few, options)
    return c1, _failed(c2, judged, "This model, unlike retrained models, leaks"), judged


def _judged(cells: Sequence[Cell], few: Mapping[str, frozenset[str]], options: AuditOptions) -> Judgement:
    """Verdicts of the tests; those that are read on images of too few people decide nothing."""
    marked = [replace(cell, few_people=cell.label in few[_ending(cell)]) for cell in cells]
    return judge(marked, frozenset(), options)


def _ending(cell: Cell) -> str:
    """Of the figure: on which images it is read; empty: on the audit's own."""
    return next((end for end in (PERTURBED, TRAIN) if cell.figure.endswith(end)), "")


def unattacked(after: Mapping[str, Readings], train: int) -> tuple[str, ...]:
    """Labels that no attack could look for on training images, though some were given, in a sentence.

    Args:
        after: Of `gather_evasion`, of the unlearned model.
        train: How many training images were given.
    """
    without = [name for name, rows in after.items() if not any(figure.endswith(TRAIN) for figure in rows)]
    if not train or not without:
        return ()
    return (
        f"Attacks fitted on training images: too few of these images, or of the identities in them, have, or"
        f" lack, {joined(without)}.",
    )


def _failed(claim: Claim, judged: Judgement, words: str) -> Claim:
    """The claim, with these attacks' verdict in its notes; FAIL, with its labels, if one is above its margin.

    A claim that failed before keeps its sentence: the labels that only these attacks catch fail as well. The
    sentence is about the label of the strongest test. That the other attacks missed it is said where they
    passed it.
    """
    failed = [cell.label for cell in judged.cells if cell.verdict == "FAIL" and cell.label]
    notes = {**claim.notes, "suspicion": judged.verdict}
    if unfound := notes.get("nothing_to_forget"):
        notes["nothing_to_forget"] = [name for name in unfound if name not in failed]
    if not failed or claim.verdict == "NOT_EVALUATED":
        return replace(claim, notes=notes)
    per_label: dict[str, Verdict] = {**claim.per_label, **dict.fromkeys(failed, "FAIL")}
    if claim.verdict == "FAIL":
        return replace(claim, per_label=per_label, notes=notes)
    cell = judged.binding
    notes.pop(BINDING_TEST, None)  # of the test that decided before
    where, excess = entry(cell.figure).in_words, beside_margin(cell.contrast.value, cell.margin)
    failed_here = any(
        other.label == cell.label and other.verdict == "FAIL" and not _ending(other) for other in judged.cells
    )
    if claim.per_label.get(cell.label or "") == "PASS" and not (_ending(cell) and failed_here):
        where += HIDDEN[_ending(cell)]
    sentence = f"{words} {cell.label} {where}: {excess} {unit_words(cell)} (margin {cell.margin:g})."
    return replace(
        claim,
        verdict="FAIL",
        sentence=sentence,
        binding=cell.figure,
        per_label=per_label,
        notes={**without_margins(notes), **place_of(cell, claim.per_label)},
    )
