"""Short trainings, from which the level of retrained models is predicted: for a share of one training.

::

    runs/base                                        the original
    runs/base-short0.05-seed0                        the original, trained for 1/20 of the epochs
    runs/base-without-Male-short0.05-seed1           ... and without Male
    runs/base-short0.1-seed0, ...                    the same pair at 1/10

The pairs cost 2 (1/20 + 1/10) = .3 of one training. What is predicted from them: `attacks.prediction`.
"""

from dataclasses import replace
from pathlib import Path

from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.references.full import OWN_CODE, Job, folder_of, recipe_of, seeds_of, train_jobs
from unlabel.audit.setup import Case
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.runs.origin import Plan

FEWEST_STEPS = 30  # of the shortest training; the shortest of the calibration has 32
LONGER = 2  # the longer pair is trained so many times as long as the shorter one


def shares_of(budget: float) -> tuple[float, float]:
    """Shares of the original's epochs for which the two pairs are trained.

    Args:
        budget: Cost of all four trainings, as a share of one training: above 0 and below 1.

    >>> [round(share, 3) for share in shares_of(0.3)]
    [0.05, 0.1]
    """
    if not 0 < budget < 1:
        raise OptionError(
            f"--reference-budget is {budget:g}; expected a share of one training, above 0 and below 1, such"
            " as 0.3"
        )
    shorter = budget / (2 * (1 + LONGER))
    return shorter, LONGER * shorter


def make_shorts(
    case: Case, budget: float, where: Run, *, command: str = "", force: bool = False
) -> list[ShortPair[Path]]:
    """Trains two pairs of original and Retrain for a share of the epochs; finished ones are used again.

    Everything that an audit would refuse is refused before the first training.

    Args:
        case: The original, the labels and the data. The runs are written beside the original.
        budget: Cost of all four trainings, as a share of one training.
        where: Device.
        command: The command line, for the records.
        force: Discard an unfinished training of another recipe.

    Returns:
        The pairs, the shorter one first.

    Raises:
        OptionError: The budget is out of range or too small for this data, the original's recipe is not
            recorded, or a folder of that name holds another run.
        UnlabelError: As `ask` and `train_run` raise.
    """
    shares = shares_of(budget)
    before, masked = case.original.path, case.request.masked
    _refuse(case, budget)
    sets = sets_of(case.source, where.seed, case.planting)
    for label in masked:
        ask(label, sets.probe, sets.test, sets.train)
    blueprint, place = recipe_of(case, where, None, None)
    seeds = {(): case.original.record.seed or 0, masked: seeds_of(case, 1)[0]}
    jobs: dict[str, Job] = {}
    for share in shares:
        recipe = replace(blueprint.recipe, epochs=share * blueprint.recipe.epochs)
        for without, seed in seeds.items():
            who = f"without {', '.join(without)}" if without else "the original"
            jobs[f"short training {len(jobs) + 1}/4, {share:.3g} of the epochs, {who}"] = Job(
                folder_of(before, without, seed, share),
                replace(blueprint, recipe=recipe),
                place.with_seed(seed),
                without,
                share,
            )
    made = train_jobs(jobs, case, where, command, force=force)
    return [ShortPair(share, *pair) for share, pair in zip(shares, (made[:2], made[2:]), strict=True)]


def least_budget(case: Case) -> float | None:
    """The least ``--reference-budget`` that leaves the shortest training enough steps, in hundredths.

    None where none below one training does, or where short trainings cannot be made at all.
    """
    record = case.original.record
    if record.blueprint is None or not can_be_short(case):
        return None
    plan, images = record.blueprint, len(case.source.train)
    budgets = (hundredths / 100 for hundredths in range(1, 100))
    return next((budget for budget in budgets if shortest_steps(plan, images, budget) >= FEWEST_STEPS), None)


def can_be_short(case: Case) -> bool:
    """Whether short trainings are like the original, and something is predicted from them.

    That is if `unlabel train` made it, and its labels are no classes of which each image has one.
    """
    record = case.original.record
    made_here = record.blueprint is not None and record.method == "train"
    return made_here and not case.source.facts.get("exclusive")


def shortest_steps(plan: Plan, images: int, budget: float) -> int:
    """Optimiser steps of the shortest training.

    Args:
        plan: How the original was trained.
        images: Of the train split.
        budget: Cost of all four trainings, as a share of one training.
    """
    recipe = replace(plan.recipe, epochs=shares_of(budget)[0] * plan.recipe.epochs)
    return recipe.steps(images, plan.batch_size)


def _refuse(case: Case, budget: float) -> None:
    """Refuses an original of which no short training can be made, and lengths that nothing is known of."""
    path, plan = case.original.path, case.original.record.blueprint
    if plan is None or case.original.record.method != "train":
        raise OptionError(
            f"{path} was not made by `unlabel train`, so no short training is like it; train references"
            f" instead: --make-references 3{'' if plan else f' --epochs EPOCHS --lr LR, or {OWN_CODE}'}"
        )
    if case.source.facts.get("exclusive"):
        raise OptionError(
            f"every image of {case.source.name} has exactly one label; what retrained models keep of such a"
            " class is not predicted, as the rule was too low for them where it was tried"
            " (docs/results/predicted.md); train references with --make-references 3, or name them with"
            " --reference A,B,C"
        )
    images = len(case.source.train)
    shortest = shortest_steps(plan, images, budget)
    if shortest < FEWEST_STEPS:
        whole, needed = plan.recipe.steps(images, plan.batch_size), least_budget(case)
        advice = f"give {needed:.2f} or more, or " if needed else ""
        raise OptionError(
            f"--reference-budget {budget:g} leaves {shortest} of {whole:,} optimiser steps for the shortest"
            f" training, as four share it; expected at least {FEWEST_STEPS}: {advice}train references with"
            " --make-references 3"
        )
