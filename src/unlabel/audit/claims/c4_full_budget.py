"""What the full budget adds to C4: the whole model trained on few annotations, and probes on earlier stages.

An attacker who has the weights can do both. Both are compared with the retrained models: any network relearns
fast from its features, and its early layers reveal something about every label. All stages together must tell
no more than a retrained model's. A single stage can only FAIL the claim: at which one a label is read best
differs between retrained models by more than the margin, so few of them would pass at every stage.
"""

from unlabel.audit.attacks.few_shot import faster
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.claims.judging import Cell, reference_margin
from unlabel.audit.document.stages import TOGETHER, in_words
from unlabel.audit.figures import AT_STAGES, FINE_TUNED, unit_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.contrast import contrast


def place_in_words(stage: str) -> str:
    """Where a probe reads, in a sentence.

    >>> place_in_words("stage3"), place_in_words("stages")
    ('stage 3, before the last features,', 'all stages and the last features together')
    """
    return in_words(stage) if stage == TOGETHER else f"{in_words(stage)}, before the last features,"


def weight_cells(weights: WeightAttacks, options: AuditOptions) -> list[Cell]:
    """A test for every label and number of images, and for every label, stage and attack."""
    cells = [
        Cell(
            label,
            FINE_TUNED.of(n),
            faster(after[n].relearnt, [reference[n].relearnt for reference in references]),
            options.d_few,
        )
        for label, (_, after, *references) in weights.tuned.items()
        if references
        for n in after
    ]
    return cells + [
        Cell(
            label,
            figure,
            contrast(after[stage][figure], [reference[stage][figure] for reference in references]),
            reference_margin(figure, options),
            stage=stage,
            only_fails=stage != TOGETHER,
        )
        for label, (_, after, *references) in weights.stages.items()
        if references
        for stage in after
        for figure in AT_STAGES
    ]


def tuned_table(weights: WeightAttacks, options: AuditOptions) -> dict[str, dict[str, dict[str, object]]]:
    """By label and number of images: D of the unlearned model and of the original, rates and steps."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for label, (before, after, *references) in weights.tuned.items():
        for n in after:
            others = [reference[n] for reference in references]
            row: dict[str, object] = {
                "rates": {
                    "before": before[n].rate,
                    "after": after[n].rate,
                    "references": [o.rate for o in others],
                },
                "steps": {
                    "before": before[n].steps,
                    "after": after[n].steps,
                    "references": [o.steps for o in others],
                },
            }
            if others:
                relearnt = [other.relearnt for other in others]
                ours, original = faster(after[n].relearnt, relearnt), faster(before[n].relearnt, relearnt)
                row |= {
                    "excess": ours.value,
                    "upper": ours.upper(options.level),
                    "excess_of_original": original.value,
                    "original_would_fail": original.lower(options.level) > options.d_few,
                }
            table.setdefault(label, {})[str(n)] = row
    return table


def stage_table(weights: WeightAttacks, options: AuditOptions) -> dict[str, dict[str, dict[str, object]]]:
    """By label, and by stage or `TOGETHER`: the probe's excess over retrained models, here and originally."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for label, (before, after, *references) in weights.stages.items():
        for stage in after:
            row: dict[str, object] = {}
            for figure in AT_STAGES if references else ():
                others = [reference[stage][figure] for reference in references]
                ours, original = (contrast(model[stage][figure], others) for model in (after, before))
                unit = unit_of(figure)
                row |= {
                    f"excess_{unit}": ours.value,
                    f"upper_{unit}": ours.upper(options.level),
                    f"excess_of_original_{unit}": original.value,
                }
            table.setdefault(label, {})[stage] = row
    return table
