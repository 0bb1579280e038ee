"""What C4's notes say of attackers whom no method was tuned against, the curve, positions, predictions, and
a handful of images.

They decide nothing: how often they would condemn a true Retrain is not known well enough. `retrained_apart`
says how far one retrained model is from the others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlabel.audit.attacks.few_shot import Relearnt, faster
from unlabel.audit.attacks.held_out import HeldOut, best
from unlabel.audit.attacks.whole_model import Learner
from unlabel.audit.figures import STITCHED_OUTPUT, TRIED_BY_BEST
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.contrast import contrast

LEVELS = np.round(np.arange(0.55, 1.0, 0.05), 2)  # of AUC, for which the images needed are compared
Row = dict[str, object]


def notes_beside(found: HeldOut, options: AuditOptions) -> dict[str, object]:
    """The parts of C4's notes that were asked for, each by label."""
    notes = {
        "attackers": {label: attackers_table(found, label, options) for label in found.taught},
        "worst_attacker": {label: worst(found, label, options) for label in found.taught},
        "attack_curve": {label: curve_table(found, label, options) for label in found.taught},
        "depth": {label: depth_table(found, label, options) for label in found.depth},
        "depth_score": {label: depth_score(found, label, options) for label in found.depth},
        "tangent": {label: tangent_table(found, label, options) for label in found.foretold},
        "prototypes": {label: prototypes_table(found, label, options) for label in found.handful},
    }
    filled = {name: {label: part for label, part in each.items() if part} for name, each in notes.items()}
    return {name: each for name, each in filled.items() if each}


def attackers_table(found: HeldOut, label: str, options: AuditOptions) -> dict[str, dict[str, Row]]:
    """By attacker and number of images: the excess over retrained models, and each model's rate."""
    models, tried = found.taught[label], found.tried(label, options)
    table: dict[str, dict[str, Row]] = {}
    for name, n in tried:
        learners = [model[name, n] for model in models]
        rates = {"rates": _by_role([learner.rate for learner in learners])}
        table.setdefault(name, {})[str(n)] = rates | _excess([item.relearnt for item in learners], options)
    for n in dict.fromkeys(n for _, n in tried):
        strongest = [best(model, tried, n) for model in models]
        names = {"attackers": _by_role([name for name, _ in strongest])}
        row = names | _excess([learner.relearnt for _, learner in strongest], options)
        table.setdefault(TRIED_BY_BEST.id.removeprefix("tune.").removesuffix("@"), {})[str(n)] = row
    return table


def _by_role(values: Sequence[Any]) -> dict[str, Any]:
    before, after, *references = values
    return {"before": before, "after": after, "references": references}


def _excess(models: Sequence[Relearnt], options: AuditOptions) -> Row:
    """Excess of the unlearned model with its bounds, of the original, and of one retrained model."""
    before, after, *others = models
    if not others:
        return {}
    ours, original = faster(after, others), faster(before, others)
    row: Row = {
        "excess": ours.value,
        "lower": ours.lower(options.level),
        "upper": ours.upper(options.level),
        "excess_of_original": original.value,
        "original_would_fail": original.lower(options.level) > options.d_few,
    }
    if len(others) > 1:
        apart = [faster(one, [*others[:at], *others[at + 1 :]]) for at, one in enumerate(others)]
        row["retrained_apart"] = max(item.value for item in apart)
        row["retrained_condemned"] = sum(item.lower(options.level) > options.d_few for item in apart)
    return row


def worst(found: HeldOut, label: str, options: AuditOptions) -> Row:
    """The attacker whose bound is highest, the bound corrected for the choice; empty without references."""
    models, tried = found.taught[label], found.tried(label, options)
    others = range(2, len(models))
    if not tried or not others:
        return {}
    level = 1.0 - options.alpha / len(tried)
    cells = {
        each: faster(models[1][each].relearnt, [models[at][each].relearnt for at in others]) for each in tried
    }
    (name, n), cell = max(cells.items(), key=lambda item: item[1].upper(level))
    return {
        "attacker": name,
        "images": n,
        "excess": cell.value,
        "lower": cell.lower(level),
        "upper": cell.upper(level),
        "chosen_of": len(tried),
    }


def curve_table(found: HeldOut, label: str, options: AuditOptions) -> Row:
    """AUC by number of images (test split) and by steps (images held back), and how many are needed."""
    models, sizes = found.taught[label], found.sizes(label, options)
    if not sizes:
        return {}
    learners = [[model[ADAM.name, n] for n in sizes] for model in models]
    row: Row = {
        "images": sizes,
        "steps": [ADAM.every * (at + 1) for at in range(len(learners[0][0].looks))],
        "auc": _by_role([[item.relearnt.mean.value for item in model] for model in learners]),
        "looks": {str(n): _by_role([model[at].looks for model in learners]) for at, n in enumerate(sizes)},
    }
    return row | ({"needed": needed(sizes, learners)} if len(models) > 2 else {})


def needed(sizes: Sequence[int], learners: Sequence[Sequence[Learner]]) -> list[Row]:
    """How many annotated images reach an AUC, on retrained models and on the unlearned one.

    Args:
        sizes: Numbers of images, ascending.
        learners: Of every model (before, after, references), one a size.

    Returns:
        For every AUC that both reach between two numbers of images: ``auc``, ``retrained``, ``after``, the
        ``ratio`` after / retrained (below 1: fewer annotations are enough), and ``ratios``, the least and the
        largest ratio over draws, where each draw reaches it.
    """
    rows: list[Row] = []
    draws = np.array([[item.relearnt.draws for item in model] for model in learners])  # model, size, draw
    means = np.array([[item.relearnt.mean.value for item in model] for model in learners])
    for area in LEVELS:
        counts = [images_for(float(area), sizes, curve) for curve in (means[2:].mean(0), means[1])]
        if counts[0] is None or counts[1] is None:
            continue
        pairs = [
            (images_for(float(area), sizes, draws[2:, :, at].mean(0)), images_for(float(area), sizes, one))
            for at, one in enumerate(draws[1].T)
        ]
        ratios = [ours / theirs for theirs, ours in pairs if ours and theirs]
        row: Row = {"auc": float(area), "retrained": counts[0], "after": counts[1]}
        row["ratio"] = counts[1] / counts[0]
        row["ratios"] = [min(ratios), max(ratios)] if len(ratios) == len(pairs) else None
        rows.append(row)
    return rows


def images_for(area: float, sizes: Sequence[int], curve: Sequence[float]) -> float | None:
    """How many images reach an AUC first, by a straight line in the logarithm of their number.

    None where the curve begins above it, or does not reach it.

    >>> images_for(0.7, [16, 64, 256], [0.6, 0.65, 0.75])
    128.0
    """
    for at in range(1, len(sizes)):
        low, high = curve[at - 1], curve[at]
        if low < area <= high:
            share = (area - low) / (high - low)
            return round(float(np.exp(np.interp(share, [0, 1], np.log(sizes[at - 1 : at + 1])))), 1)
    return None


def tangent_table(found: HeldOut, label: str, options: AuditOptions) -> dict[str, Row]:
    """By number of images: the predicted excess over retrained models; see `_excess`."""
    models = found.foretold[label]
    table = {str(n): _excess([model[n].relearnt for model in models], options) for n in models[1]}
    return {n: row for n, row in table.items() if row}


def prototypes_table(found: HeldOut, label: str, options: AuditOptions) -> dict[str, dict[str, Row]]:
    """By figure and number of images: the excess over retrained models; see `_excess`."""
    models = found.handful[label]
    table: dict[str, dict[str, Row]] = {}
    for place in models[1]:
        if excess := _excess([model[place] for model in models], options):
            table.setdefault(place[0].removesuffix("@"), {})[str(place[1])] = excess
    return table


def depth_table(found: HeldOut, label: str, options: AuditOptions) -> dict[str, dict[str, Row]]:
    """By figure and stage: the excess over retrained models, here and in the original."""
    before, after, *references = found.depth[label]
    table: dict[str, dict[str, Row]] = {}
    for place in after if references else ():
        others = [reference[place] for reference in references]
        ours, original = (contrast(model[place], others) for model in (after, before))
        figure, stage = place
        table.setdefault(figure, {})[stage or "all"] = {
            "excess": ours.value,
            "lower": ours.lower(options.level),
            "upper": ours.upper(options.level),
            "excess_of_original": original.value,
        }
    return table


def depth_score(found: HeldOut, label: str, options: AuditOptions) -> Row:
    """How much of what the original reads from its own stages, and not from a retrained model's, is gone.

    At a stage: (original - model) / (original - retrained models), from 0, all is there, to 1, as in a
    retrained model. The score is its mean over the stages where the original exceeds the retrained models for
    certain (one-sided 95 %), as of the Unlearning Depth Score.

    Returns:
        ``score``, and ``stages``, the share of each stage that counts; empty without retrained models, or
        where no stage counts.
    """
    before, after, *references = found.depth[label]
    shares: dict[str, float] = {}
    for place in after if references else ():
        figure, stage = place
        others = [reference[place] for reference in references]
        gone = contrast(before[place], others)
        if figure == STITCHED_OUTPUT.id and stage and gone.lower(options.level) > 0:
            share = (before[place].value - after[place].value) / gone.value
            shares[stage] = min(max(share, 0.0), 1.0)
    return {"score": float(np.mean(list(shares.values()))), "stages": shares} if shares else {}
