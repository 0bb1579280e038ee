"""The claim C5, useful: the retained labels still work, compared with retrained models or the original."""

from collections.abc import Sequence
from dataclasses import replace

from unlabel.audit.attacks.utility import Utility
from unlabel.audit.claims.fair_references import Standing, undecided
from unlabel.audit.claims.judging import Cell, judge, placed
from unlabel.audit.claims.sample_size import need_of, notes_of, words_of
from unlabel.audit.document.results import Claim
from unlabel.audit.figures import (
    SAMPLE_MEMBERSHIP,
    UTILITY_AUC,
    UTILITY_AUC_MEAN,
    UTILITY_CALIBRATION_MEAN,
)
from unlabel.audit.figures import figure as entry
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.wording import beside_margin, joined
from unlabel.statistics.contrast import Contrast, contrast
from unlabel.statistics.estimate import Estimate

MACRO, WORST, ECE = UTILITY_AUC_MEAN.id, UTILITY_AUC.id, UTILITY_CALIBRATION_MEAN.id


def _loss(after: Estimate, references: Sequence[Estimate]) -> Contrast:
    """How much lower the model is than the references."""
    gain = contrast(after, references)
    return replace(gain, value=-gain.value)


def losses(
    after: Utility,
    references: Sequence[Utility],
    frequent: tuple[str, ...],
    options: AuditOptions,
    membership: Sequence[Estimate] = (),
) -> list[Cell]:
    """C5's tests: loss of mean AUC, of each frequent label's AUC, rise of the mean calibration error.

    And, where it was measured (the model's own first, then the references'), of sample-level membership.
    """
    macro = _loss(after.judged_area(), [other.judged_area() for other in references])
    rise = contrast(after.judged_calibration(), [other.judged_calibration() for other in references])
    return [
        Cell(None, MACRO, macro, options.d_macro),
        *(
            Cell(
                name,
                WORST,
                _loss(after.labels[name][WORST], [other.labels[name][WORST] for other in references]),
                options.d_worst,
            )
            for name in frequent
        ),
        Cell(None, ECE, rise, options.d_ece),
        *(
            [Cell(None, SAMPLE_MEMBERSHIP.id, contrast(membership[0], membership[1:]), options.d_member)]
            if membership
            else []
        ),
    ]


def _table(cells: Sequence[Cell], level: float) -> dict[str, object]:
    """The tests as plain numbers for the report: the means, and the label that lost most."""

    def plain(cell: Cell) -> dict[str, object]:
        return {"value": cell.contrast.value, "upper": cell.contrast.upper(level), "margin": cell.margin}

    labels = [cell for cell in cells if cell.figure == WORST]
    table: dict[str, object] = {
        "macro_auc_loss": plain(next(cell for cell in cells if cell.figure == MACRO)),
        "ece_rise": plain(next(cell for cell in cells if cell.figure == ECE)),
    }
    for cell in cells:
        if cell.figure == SAMPLE_MEMBERSHIP.id:
            table["membership_rise"] = plain(cell)
    if labels:
        worst = max(labels, key=lambda cell: cell.contrast.upper(level))
        table["worst_label"] = {"label": worst.label, **plain(worst)}
    return table


def claim_useful(
    after: Utility,
    before: Utility,
    references: Sequence[Utility],
    frequent: tuple[str, ...],
    options: AuditOptions,
    membership: Sequence[Estimate] = (),
    fair: Sequence[Standing] = (),
) -> Claim:
    """C5: retained labels lose no more than the margins, against retrained models or, without, the original.

    Args:
        after: Utility of the unlearned model.
        before: Of the original.
        references: Of the retrained models.
        frequent: Retained labels with enough test images and people of each kind to be judged one by one.
        options: Margins.
        membership: Sample-level membership of the original, the unlearned and the retrained models, where it
            was measured.
        fair: How far each retrained model lies below the original; an unfair one leaves the claim open.
    """
    against = list(references) or [before]
    whom = "models retrained without the label" if references else "the original"
    rates = [membership[1], *(membership[2:] or membership[:1])] if membership else []
    few = not after.steady  # people of each kind, so no error can be trusted; of one identity it is 0
    rare = frozenset(after.labels) if few else frozenset[str]()
    judged = judge(losses(after, against, frequent, options, rates), rare, options)
    cells = judged.cells
    original = losses(after, [before], frequent, options, membership[1::-1])
    notes: dict[str, object] = {
        "rule": f"PASS if mean AUC falls by less than {options.d_macro:g}, no frequent label's AUC by"
        f" {options.d_worst:g} or more, mean calibration error rises by less than {options.d_ece:g}"
        + (f", membership of training images by less than {options.d_member:g} AUC" if membership else ""),
        "against": "retrained" if references else "original",
        "against_original": _table(original, options.level),
        "judged_labels": list(frequent),
        **placed(label=judged.binding.label),
    }
    if references:
        notes["against_retrained"] = _table(cells, options.level)
        notes["references_against_original"] = [item.to_json() for item in fair]
    lost = _moved(original[0].contrast)
    count, out_of = len(after.steady or after.labels), len(after.labels)
    over = f"{count} of {out_of}" if count < out_of else f"{count}"
    change = f"mean AUC over {over} retained label{'s' * (out_of != 1)} {_moved(cells[0].contrast)}"
    if references:
        change += f" (against the original it {lost})"
    sentence = {
        "PASS": f"The retained labels work as well as in {whom}, within the margins: {change}.",
        "FAIL": f"The retained labels work worse than in {whom}: {change}. What fails: {_failed(cells)}.",
        "INCONCLUSIVE": f"The data cannot decide whether the retained labels work as well as in {whom}:"
        f" {change}. What is open: {_opened(judged.binding, options)}.",
    }[judged.verdict]
    if few:
        sentence = (
            f"The data cannot decide whether the retained labels work as well as in {whom}: {change}. For"
            f" every retained label, fewer than {options.least_people} identities in effect of the test split"
            " have it, or lack it."
        )
    elif judged.verdict == "INCONCLUSIVE":
        n, count = after.macro(WORST).n, len(references)
        whole = need_of(cells, n, count, options)
        named = need_of(cells, n, count, options, judged.binding)
        notes |= notes_of({"retained": whole})
        sentence = f"{sentence.removesuffix('.')}{words_of(named, whole)}."
    provisional = 0 < len(references) < 3
    claim = Claim(judged.verdict, sentence, options.budget, provisional, judged.binding.figure, {}, notes)
    if all(item.fair for item in fair):
        return claim
    claim = undecided(claim, fair)
    return replace(claim, sentence=f"{claim.sentence} Against the original, this model's mean AUC {lost}.")


def outside_mean(utility: Utility) -> tuple[str, ...]:
    """Retained labels that the mean AUC by which models are judged leaves out, in a sentence."""
    left_out = [name for name in utility.labels if utility.steady and name not in utility.steady]
    if not left_out:
        return ()
    return (
        f"The mean AUC by which C5 and retrained models are judged is without {joined(left_out)}: too few"
        f" identities in effect have, or lack, {'it' if len(left_out) == 1 else 'them'} in the test split.",
    )


def _moved(loss: Contrast) -> str:
    """A loss in words, such as "falls by 0.012"."""
    return f"{'falls' if loss.value > 0 else 'rises'} by {abs(loss.value):.3f}"


def _failed(cells: Sequence[Cell]) -> str:
    """What failed, in words."""
    return " and ".join(
        entry(cell.figure).in_words + (f" of {cell.label}" if cell.label else "")
        for cell in cells
        if cell.verdict == "FAIL"
    )


def _opened(cell: Cell, options: AuditOptions) -> str:
    """The test that left the claim open, with the most that it may be worse by."""
    what = entry(cell.figure).in_words + (f" of {cell.label}" if cell.label else "")
    return f"{what} may be {beside_margin(cell.upper(options), cell.margin)} worse (margin {cell.margin:g})"
