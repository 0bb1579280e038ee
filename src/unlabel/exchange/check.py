"""Measuring a model that was trained elsewhere: does it predict its labels?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import LabelMismatch, ModelError
from unlabel.core.loss import log_odds, loss_of
from unlabel.core.randomness import uniform
from unlabel.core.wording import listing
from unlabel.data.dataset import Colours, Dataset
from unlabel.data.feed import in_order
from unlabel.models.features import BATCH
from unlabel.models.returned import Reading
from unlabel.statistics.estimate import Estimate, auc, average, mean, rarer

NORMALISATIONS: Mapping[str, tuple[Colours, Colours]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean 0.5, std 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "mean 0.5, std 0.25": ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    "mean 0, std 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
TRIED_IMAGES = 512  # on which a normalisation is chosen, and outputs are compared
CHANCE = 0.55  # mean AUC up to which a model counts as guessing; random weights are not always at 0.5
TRIED_LABELS = 50  # with the lowest AUC, among which swapped ones are looked for
INVERTED = 0.40  # an AUC below this says that the column is another label's
MUCH = 0.1  # share of the loss by which another choice must fit better before the user's is doubted
_WORST = 1e6  # of a loss: outputs that are no numbers fit worst, and means stay finite
DIFFERENCE = 1e-3  # of the largest output, or of 1: rounding in float32 stays far below


def for_channels(colours: Colours, channels: int) -> Colours:
    """Three numbers as a network of this many channels takes them: for grey, their mean.

    >>> for_channels((0.25, 0.5, 0.75), 1)
    (0.5,)
    """
    return colours if len(colours) == channels else (sum(colours) / len(colours),) * channels


def choose_normalisation(
    model: nn.Module, data: Dataset, run: Run
) -> tuple[tuple[Colours, Colours], dict[str, float]]:
    """Mean and standard deviation with the lowest loss among a few usual ones, and the losses of all.

    Args:
        model: On the run's device, in eval mode.
        data: Images of which up to 512 with a known label are used: not those that figures are computed on.
            Its mean has as many numbers as the network reads channels.
        run: Where; the seed chooses the images.
    """
    part = tried(data, run.seed)
    target = torch.from_numpy(part.target.astype(np.int64))
    loss_on = loss_of(exclusive=data.exclusive)
    losses = {}
    usual = usual_normalisations(len(data.mean))
    for name, (centre, scale) in usual.items():
        scores = logits(model, replace(part, mean=centre, std=scale), run)
        loss = float(loss_on(scores, target, range(len(data.labels))).double().mean())
        losses[name] = loss if isfinite(loss) else float("inf")
    ranked = sorted(losses, key=lambda name: losses[name])
    measured = "; ".join(f"{losses[name]:.4f} with {name}" for name in ranked)
    run.log.say(
        f"--mean and --std are not given, so the lowest loss on {len(part):,} images decided: {measured}"
    )
    return usual[ranked[0]], {name: loss for name, loss in losses.items() if isfinite(loss)}


def usual_normalisations(channels: int) -> dict[str, tuple[Colours, Colours]]:
    """Mean and standard deviation by name, of a few usual ones, for a network of this many channels."""
    return {
        name: (for_channels(centre, channels), for_channels(scale, channels))
        for name, (centre, scale) in NORMALISATIONS.items()
    }


def fit_of(model: nn.Module, data: Dataset, run: Run) -> Estimate:
    """The mean loss of the annotations on these images, with an influence for each.

    Args:
        model: On the run's device, in eval mode.
        data: All of the images that count.
        run: Where.
    """
    target = torch.from_numpy(data.target.astype(np.int64))
    loss = loss_of(exclusive=data.exclusive)(logits(model, data, run), target, range(len(data.labels)))
    terms = torch.nan_to_num(loss.double(), nan=_WORST, posinf=_WORST).numpy()
    return average(terms, np.ones(len(data), bool), data.cluster)


def much_better(here: Estimate, there: Estimate) -> bool:
    """Whether another choice fits better by more than chance, and by more than a tenth of the loss.

    Args:
        here: Loss as the user asked.
        there: Loss on the same images, otherwise.
    """
    return (here - there).interval()[0] > 0 and there.value < (1 - MUCH) * here.value


def normalisation_note(model: nn.Module, data: Dataset, run: Run) -> str | None:
    """A sentence if a usual normalisation fits much better than the one that the user gave; else None.

    Args:
        model: On the run's device, in eval mode.
        data: Images with the given normalisation, of which up to 512 with a known label are used.
        run: Where; the seed chooses the images.
    """
    part = tried(data, run.seed)
    if not len(part):
        return None
    given, found = fit_of(model, part, run), {}
    usual = usual_normalisations(len(data.mean))
    for name, (centre, scale) in usual.items():
        found[name] = fit_of(model, replace(part, mean=centre, std=scale), run)
    best = min(found, key=lambda name: found[name].value)
    if not much_better(given, found[best]):
        return None
    centre, scale = (",".join(f"{value:g}" for value in colours) for colours in usual[best])
    return (
        f"the loss on {len(part):,} images is {given.value:.4f} with the given --mean and --std, but"
        f" {found[best].value:.4f} with {best}: check them, or adopt it again with --mean {centre} --std"
        f" {scale}"
    )


def tried(data: Dataset, seed: int) -> Dataset:
    """Up to 512 images with a known label, drawn by a key."""
    annotated = np.flatnonzero((data.target >= 0).any(1))
    rank = uniform(seed, "adopt/normalisation", data.rows[annotated])
    return data.take(np.sort(annotated[np.argsort(rank, kind="stable")[:TRIED_IMAGES]]))


@torch.inference_mode()
def logits(
    model: nn.Module,
    data: Dataset,
    run: Run,
    precision: torch.dtype = torch.float32,
    reading: Reading | None = None,
) -> Tensor:
    """Outputs (image, label) on the CPU, without autocast; `models.features.outputs` gives features too.

    With a `reading`, those of a network that returns something else than its logits, as it returns them.
    """
    rows = []
    for batch in in_order(data, run, BATCH):
        value = model(batch.image.to(precision))
        rows.append((reading.columns(value, data.labels) if reading else value).double().cpu())
    return torch.cat(rows)


def measure(scores: NDArray[np.float32], data: Dataset, without: Sequence[str] = ()) -> dict[str, Any]:
    """AUC of every label and their mean, with 95 % intervals, as plain data.

    Args:
        scores: (image, label) outputs.
        data: The images' labels; exclusive ones are ranked by the log-odds of each class.
        without: Labels to leave out.

    Returns:
        ``macro``: ``{"value", "low", "high", "n"}``; ``labels``: the same by name, None where the images
        are of one kind; ``median`` over labels; ``at_chance`` and ``inverted``: names; ``swapped``: pairs of
        names, see `swapped_pairs`; ``knows``: whether
        the one-sided 95 % lower bound of the mean and the median are above 0.55. Random weights may by luck
        tell one label well, hence the median.

    Raises:
        ModelError: An output is not finite.
        LabelMismatch: No label has images of both kinds.
    """
    if not np.isfinite(scores).all():
        raise ModelError(
            "the model's outputs are NaN or infinite on some images; check --mean, --std and the data"
        )
    aucs = areas(scores, data, without)
    if not aucs:
        raise LabelMismatch(
            f"no label is present in some and absent in others of the {len(data):,} test images, so nothing"
            " can be measured; add images, or use another split"
        )
    macro = mean(list(aucs.values()))
    middle = float(np.median([item.value for item in aucs.values()]))
    inverted = [name for name, item in aucs.items() if item.value < INVERTED and item.interval()[1] < 0.5]
    unsure = [name for name, item in aucs.items() if item.interval()[0] <= 0.5 and name not in inverted]
    return {
        "macro": row_of(macro),
        "labels": {name: row_of(aucs[name]) if name in aucs else None for name in data.labels},
        "at_chance": unsure,
        "inverted": inverted,
        "swapped": swapped_pairs(ranked_by(scores, data), data, aucs),
        "median": middle,
        "knows": macro.lower() > CHANCE and middle > CHANCE,
    }


def ranked_by(scores: NDArray[np.floating], data: Dataset) -> NDArray[np.floating]:
    """What ranks the images for each label: its output, or the log-odds of a class that excludes others."""
    return log_odds(torch.from_numpy(scores).double()).numpy() if data.exclusive else scores


def areas(scores: NDArray[np.floating], data: Dataset, without: Sequence[str] = ()) -> dict[str, Estimate]:
    """AUC by label, of the labels with images of both kinds.

    Args:
        scores: (image, label) outputs, finite.
        data: The images' labels.
        without: Labels to leave out.
    """
    scores = ranked_by(scores, data)
    return {
        name: auc(scores[:, column], data.target[:, column], data.cluster)
        for column, name in enumerate(data.labels)
        if name not in without and rarer(data.target[:, column])
    }


def swapped_pairs(
    scores: NDArray[np.floating], data: Dataset, aucs: Mapping[str, Estimate]
) -> list[list[str]]:
    """Pairs of labels whose outputs are probably swapped: each predicts the other's column, and not its own.

    The AUC of each output on the other's column must have a 95 % interval above those of both labels' own
    AUC. Looked for among the 50 labels with the lowest AUC.

    Args:
        scores: (image, label) outputs.
        data: The images' labels.
        aucs: AUC of each output on its own column, of the labels that can be measured.
    """
    tried = sorted(aucs, key=lambda name: aucs[name].value)[:TRIED_LABELS]
    columns = {name: data.labels.index(name) for name in tried}
    pairs: list[list[str]] = []
    for position, first in enumerate(tried):
        for second in tried[position + 1 :]:
            own_auc = max(aucs[first].interval()[1], aucs[second].interval()[1])
            if own_auc < 1 and all(
                _crossed(scores[:, columns[one]], data, columns[two], own_auc)
                for one, two in ((first, second), (second, first))
            ):
                pairs.append(sorted((first, second), key=data.labels.index))
    return sorted(pairs, key=lambda pair: data.labels.index(pair[0]))


def _crossed(scores: NDArray[np.floating], data: Dataset, column: int, own: float) -> bool:
    """Whether an output predicts a column better, beyond doubt, than an AUC of `own`."""
    target = data.target[:, column]
    known = target >= 0
    ranks = rankdata(scores[known])
    present = target[known] == 1
    n, m = int(present.sum()), int((~present).sum())
    value = (ranks[present].sum() - n * (n + 1) / 2) / (n * m)
    return value > own and auc(scores, target, data.cluster).interval()[0] > own


def swap_advice(pairs: Sequence[Sequence[str]]) -> str:
    """What to do about swapped labels, as a part of a sentence."""
    names = {name for pair in pairs for name in pair}
    if len(pairs) > 2 or len(names) < 2 * len(pairs):
        return (
            f"each of {len(names)} outputs predicts another label better than its own"
            f" ({listing(sorted(names), 3)}): the order of the whole file of --labels is probably wrong;"
            " write the names in the order of the model's outputs"
        )
    shown = listing([f"{first!r} and {second!r}" for first, second in pairs], 3)
    return (
        f"{shown}: probably swapped, as each output predicts the other's column better than its own; swap the"
        " two lines in the file of --labels"
    )


def row_of(item: Estimate) -> dict[str, float]:
    """A figure as plain data, with its 95 % interval."""
    low, high = item.interval(low=0.0, high=1.0)
    return {"value": item.value, "low": low, "high": high, "n": item.n}


def refuse_chance(measured: Mapping[str, Any], *, pairs: bool = False, hint: str | None = None) -> None:
    """Refuses a model that does not predict its labels better than chance.

    Args:
        measured: Of `measure`.
        pairs: Whether each label has two logits, of which the second one is taken for "present".
        hint: What was tried of size and normalisation, and said; see `sizes.size_note`.

    Raises:
        ModelError: The mean AUC cannot be told from 0.55 or less, or half of the labels are below that.
    """
    if measured["knows"]:
        return
    macro, inverted = measured["macro"], measured["inverted"]
    wrong = "the first of a label's two logits may be 'present'" if pairs else "the order of the labels is"
    order = (
        f" {listing(inverted)}: an AUC below {INVERTED:g}, so {wrong}{'' if pairs else ' probably wrong'};"
        if inverted
        else ""
    )
    if measured.get("swapped"):
        order = f" {swap_advice(measured['swapped'])};{order}"
    raise ModelError(
        f"the model is near chance: mean AUC {macro['value']:.3f}, 95 % interval {macro['low']:.3f} to"
        f" {macro['high']:.3f}, median {measured['median']:.3f}, on {macro['n']:,} images;"
        f"{order} check --mean, --std, --image-size, the order"
        f" of the labels, and the data{f' ({hint})' if hint else ''}"
    )


def compare(
    run_model: nn.Module,
    own: nn.Module,
    data: Dataset,
    run: Run,
    precision: torch.dtype = torch.float32,
    *,
    reading: Reading | None = None,
    without: Sequence[str] = (),
) -> dict[str, float]:
    """Largest difference between a run's outputs and those of the module that it was made from.

    Args:
        run_model: As the run folder gives it back.
        own: The user's module, with the user's weights in the user's precision.
        data: Images of which the first 512 are used.
        run: Where.
        precision: Of the user's module.
        reading: How its logits lie in what it returns; None where it returns them.
        without: Labels to leave out.

    Raises:
        ModelError: They differ by more than rounding can explain.
    """
    part = data.take(np.arange(min(TRIED_IMAGES, len(data))))
    expected = logits(own, part, run, precision, reading)
    actual = logits(run_model, part, run)
    chosen = [column for column, name in enumerate(data.labels) if name not in without]
    away = ((reading.of_logits(actual) if reading else actual) - expected)[:, chosen].abs()
    largest = float(away.max())
    if not bool((away <= DIFFERENCE * _scale(expected[:, chosen])).all()):
        raise ModelError(
            f"the same weights give outputs {largest:.3g} apart when the network is built again;"
            " expected a network whose numbers are all in its state dict, and that is deterministic in eval"
            " mode"
        )
    return {"largest_difference": largest, "n": len(part)}


def _scale(expected: Tensor) -> Tensor:
    """The largest output, or 1; of an output that is the same for every image, its own size.

    The constant of a class that was removed is -10,000: it must not widen what is allowed to the others.
    """
    size, varies = expected.abs().amax(0), (expected != expected[:1]).any(0)
    if bool(varies.any()):
        size[varies] = size[varies].max()
    return size.clamp(min=1)
