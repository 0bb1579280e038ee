"""All tests of C4, and by which margins it passes: of the unlearned model, and of each retrained one.

A retrained model is judged as if it had been unlearned, against the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from unlabel.audit.attacks.recovery import Recovery, Rows
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.claims.c4_full_budget import weight_cells
from unlabel.audit.claims.c4_recovery import few_cells, recovery_choices
from unlabel.audit.claims.judging import Cell, counts, few_people
from unlabel.audit.claims.margins import Choice, Limits, limits, smallest
from unlabel.audit.inputs.options import AuditOptions

Measured = TypeVar("Measured")


def choices(
    recovery: Recovery,
    untouched: Rows,
    references: Sequence[Rows],
    options: AuditOptions,
    thin: frozenset[str] = frozenset(),
) -> list[list[Cell]]:
    """Every test of C4; after a transform two, of which one within its margin is enough.

    Args:
        recovery: What was measured.
        untouched: Readings of the model as it is.
        references: Readings of every retrained model as it is.
        options: Margins.
        thin: Labels of which what is learnt from annotated images decides nothing: it is read on the test
            split alone.
    """
    single = [
        replace(cell, few_people=cell.stage is None and cell.label in thin)
        for cell in (
            *few_cells(recovery.few, options),
            *weight_cells(recovery.weights or WeightAttacks(), options),
        )
    ]
    return [*recovery_choices(recovery, untouched, references, options), *([cell] for cell in single)]


def margins(
    recovery: Recovery,
    tests: Sequence[Choice],
    references: Sequence[Rows],
    rare: frozenset[str],
    options: AuditOptions,
    *,
    open_: bool,
) -> dict[str, object]:
    """The smallest margins that would pass, and those of each retrained model against the others.

    Args:
        recovery: What was measured.
        tests: See `choices`, of the unlearned model.
        references: Readings of every retrained model as it is.
        rare: Labels whose tests decide nothing.
        options: Margins.
        open_: Whether something else than the tests keeps the claim from a PASS.

    Returns:
        Part of the claim's notes; empty without retrained models.
    """
    published = {
        "gain": options.d_recover,
        "adv": options.d_reference,
        "bits": options.d_reference_bits,
        "auc": options.d_few,
    }
    if not references:
        return {}

    thin = few_people(cell for choice in tests for cell in choice)

    def of(found: Sequence[Choice]) -> Limits:
        counted = [choice for choice in found if counts(choice[0], rare)]
        undecided = open_ or len(counted) < len(found)
        return limits(counted or found, options, published, open_=undecided)

    unlearned = of(tests)
    rows = [unlearned.row("after")]
    for at, one in enumerate(references if len(references) > 1 else ()):
        others = [*references[:at], *references[at + 1 :]]
        rows.append(of(choices(instead(recovery, at), one, others, options, thin)).row("reference"))
    return {"smallest_margin": smallest(unlearned, published), "margin_curve": rows}


def instead(recovery: Recovery, at: int) -> Recovery:
    """The same, with a retrained model in the place of the unlearned one, and the others as references."""

    def moved(models: Mapping[str, Sequence[Measured]]) -> dict[str, list[Measured]]:
        return {
            name: [each[0], each[2 + at], *each[2 : 2 + at], *each[3 + at :]] for name, each in models.items()
        }

    weights = recovery.weights and WeightAttacks(
        moved(recovery.weights.tuned), moved(recovery.weights.stages)
    )
    return replace(
        recovery,
        after=recovery.references[at],
        references=[*recovery.references[:at], *recovery.references[at + 1 :]],
        few=moved(recovery.few),
        weights=weights,
    )
