"""What training the whole model on few annotated images would find, predicted without training it.

Near its start, training is linear in the weights. So its outcome is ridge regression with the *tangent
kernel*, the inner products of the gradients g of the new output::

    K(i, j)  = g(x_i) . g(x_j)                        over all weights, the new head among them
    alpha    = (K + r I)^-1 (y - b),  y = 1 or -1     b a constant that is not shrunk
    delta    = sum_i alpha_i g(x_i)                   the step that the weights would take
    f(x)     = b + g(x) . delta

The ridge r is chosen by leaving out one image at a time, in closed form. The gradients of the n annotated
images are held for a part of the weights at a time. Those of the scored images are never made:
``g(x) . delta`` is the slope of the output along delta, read from one forward pass more. Normalising
layers are in eval mode; a trained attack lets them learn, uses Adam and changes the images. So this is a
prediction, and the trained attack stays the judge: docs/results/tangent.md says how far to trust it.

    predict_all(models, ...)    tables: what the linearised models say of the test split

References:
    Jacot et al., Neural Tangent Kernel: Convergence and Generalization in Neural Networks, 2018.
    Malladi et al., A Kernel-Based View of Language Model Fine-Tuning, 2023.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.audit.attacks.annotated import tune_sizes
from unlabel.audit.attacks.fine_tuning import scaled
from unlabel.audit.attacks.lessons import draw_images
from unlabel.audit.attacks.starts import LOOK, START, renewed, replace_head, stage_of_weights
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.tuned import Predicted
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.data.feed import in_order
from unlabel.models.cached_outputs import kept_tables
from unlabel.models.features import BATCH, ON_CPU
from unlabel.models.head import find_head
from unlabel.runs.folder import Loaded, key_of

Floats = NDArray[np.float64]

MOST_BYTES = 2**31  # of gradients that are held at a time
RIDGES = np.logspace(-4, 4, 33)  # in units of the kernel's mean eigenvalue
SCORED = 3000  # test images at most: enough for an interval of .02 on an AUC of .8
MOVE = 0.01  # by how much the outputs of the annotated images are moved to read slopes, root mean square


def predict_all(
    loaded: Sequence[Loaded], sets: Sets, request: Request, options: AuditOptions, where: Run
) -> list[Predicted]:
    """Predicts, of every model and label, what training it whole on few annotated images would find.

    The images and draws are those of the trained attack; nothing is chosen on the test split.

    Args:
        loaded: The models.
        sets: The probe and test splits.
        request: The labels.
        options: Numbers of images, draws and seed.
        where: One process.

    Returns:
        One for every model, label and number of images for which the probe split has enough.
    """
    asked = predictions_of(request, sets, options)
    return [
        found
        for item in loaded
        for name, n in asked
        if (found := predicted(item, name, n, sets, request, options, where)) is not None
    ]


def predictions_of(request: Request, sets: Sets, options: AuditOptions) -> list[tuple[str, int]]:
    """What is predicted of a model: labels, and numbers of annotated images that the probe split allows."""
    target = sets.probe.with_labels(request.labels).target
    return [
        (name, n)
        for name in request.masked
        for n in tune_sizes(target[:, request.labels.index(name)], options, options.attacked)
    ]


def predicted(
    item: Loaded, name: str, n: int, sets: Sets, request: Request, options: AuditOptions, where: Run
) -> Predicted | None:
    """One model for one label, from the cache or for it; None where too few images are.

    Args:
        item: The model.
        name: The label.
        n: Annotated images.
        sets, request, options, where: See `predict_all`.
    """
    column = request.labels.index(name)
    probe, test = (scaled(part.with_labels(request.labels), item) for part in (sets.probe, sets.test))
    drawn = draw_images(probe.target[:, column], column, n, options)[: options.rated_draws]
    draws = [rows for rows, _ in drawn]
    if not draws:
        return None
    rank = uniform(options.seed, "audit/tangent", np.arange(len(test)))
    scored = np.sort(np.argsort(rank, kind="stable")[:SCORED])
    model = engine.place(item.model, where)
    stages = stage_of_weights(
        model, len(request.labels), batch_of(probe, draws[0][:LOOK], where.device).image
    )
    names = sorted({*stages.values()}, key=lambda name: (name in ("features", "head"), name))
    tables = kept_tables(
        partial(_tables, item, probe, test.take(scored), column, draws, (stages, names), where),
        lambda tables: tables["scores"].shape == (len(draws), len(scored)),
        test,
        where,
        key_of(item, sets.digest, "tangent", START, f"{name}/{n}/{len(draws)}/{options.seed}/{SCORED}"),
    )
    shares = dict(zip(names, map(float, tables["shares"].mean(0)), strict=True))
    scores = np.full((len(draws), len(test)), np.nan, np.float32)
    scores[:, scored] = tables["scores"]
    return Predicted(str(item.path), name, n, scores, tables["ridges"], shares)


@dataclass(frozen=True)
class Fit:
    """Kernel ridge regression of a label coded 1 and -1.

    Args:
        alpha: float64 (image,) weight of each image's gradient.
        constant: What is added.
        ridge: In units of the kernel's mean eigenvalue.
        left_out: float64 (image,) what each image is predicted from the others.
    """

    alpha: Floats
    constant: float
    ridge: float
    left_out: Floats


def fit_ridge(kernel: Floats, present: NDArray[np.bool_]) -> Fit:
    """Ridge regression with the ridge of `RIDGES` whose squared error on images left out is least.

    With ``G = (K + r I)^-1``, ``P = G - G 1 1' G / 1' G 1`` and ``alpha = P y``, the error on image i, left
    out of the fit and of the constant, is ``alpha_i / P_ii``.

    Args:
        kernel: float64 (n, n), symmetric.
        present: bool (n,) the annotations, of both kinds.

    Example:
        >>> x = np.array([-2.0, -1.0, 1.0, 2.0])
        >>> np.round(fit_ridge(np.outer(x, x), x > 0).left_out, 1)
        array([-1.1, -0.3,  0.3,  1.1])
    """
    target = np.where(present, 1.0, -1.0)
    values, basis = np.linalg.eigh((kernel + kernel.T) / 2)
    values = np.maximum(values, 0.0)
    scale = float(values.mean()) or 1.0
    turned, ones = basis.T @ target, basis.sum(0)
    best: tuple[float, Fit] | None = None
    for ridge in RIDGES:
        inverse = 1.0 / (values + ridge * scale)
        row = basis @ (inverse * ones)
        constant = float(row @ target / row.sum())
        alpha = basis @ (inverse * (turned - constant * ones))
        errors = alpha / (basis**2 @ inverse - row**2 / row.sum())
        if best is None or np.mean(errors**2) < best[0]:
            best = float(np.mean(errors**2)), Fit(alpha, constant, float(ridge), target - errors)
    assert best is not None, "there are ridges"
    return best[1]


def tangent_kernel(model: nn.Module, images: Tensor, output: int = 0, most_bytes: int = MOST_BYTES) -> Floats:
    """Inner products of the gradients of one output, over every weight that may move.

    Args:
        model: In eval mode, so that no image changes the output of another.
        images: (n, 3, height, width), normalised, on the model's device.
        output: Which one.
        most_bytes: Of gradients held at a time; the fewer, the more passes over the images.

    Returns:
        float64 (n, n).
    """
    kernel = np.zeros((len(images), len(images)))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for part in _parts([weight.numel() for weight in weights], most_bytes // (4 * len(images))):
        moved = [weights[at] for at, _, _ in part]
        rows = torch.empty(len(images), sum(end - begin for _, begin, end in part), device=images.device)
        for row, image in zip(rows, images, strict=True):
            logit = model(image[None])[0, output]
            slopes = torch.autograd.grad(logit, moved, allow_unused=True, materialize_grads=True)
            cut = [slope.flatten()[begin:end] for slope, (_, begin, end) in zip(slopes, part, strict=True)]
            torch.cat(cut, out=row)
        kernel += (rows @ rows.T).double().cpu().numpy()
    return kernel


Part = list[tuple[int, int, int]]  # of which tensor, from and to which number


def _parts(sizes: Sequence[int], most: int) -> Iterator[Part]:
    """All numbers of some tensors, in parts of at most so many.

    >>> list(_parts([3, 1, 5], 4))
    [[(0, 0, 3), (1, 0, 1)], [(2, 0, 4)], [(2, 4, 5)]]
    """
    most, part, room = max(most, 1), [], max(most, 1)
    for at, size in enumerate(sizes):
        begin = 0
        while begin < size:
            end = min(size, begin + room)
            part.append((at, begin, end))
            room -= end - begin
            begin = end
            if room == 0:
                yield part
                part, room = [], most
    if part:
        yield part


def step_of(model: nn.Module, images: Tensor, alpha: Floats, output: int = 0) -> dict[str, Tensor]:
    """``sum_i alpha_i g(x_i)`` by name of weight: the step that a fit with the tangent kernel takes.

    Args:
        model, images, output: As for `tangent_kernel`.
        alpha: float64 (image,)
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    step = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    each = torch.from_numpy(alpha).to(images)
    for some, part in zip(images.split(ON_CPU), each.split(ON_CPU), strict=True):
        weighted = (part * model(some)[:, output]).sum()
        slopes = torch.autograd.grad(weighted, [*weights.values()], allow_unused=True, materialize_grads=True)
        for total, slope in zip(step.values(), slopes, strict=True):
            total += slope
    return step


@torch.no_grad()
def read_outputs(model: nn.Module, data: Dataset, run: Run) -> Floats:
    """float64 (image, output) what a model says, without autocast."""
    size = BATCH if run.device.type == "cuda" else ON_CPU
    return np.concatenate([model(batch.image).double().cpu().numpy() for batch in in_order(data, run, size)])


@torch.no_grad()
def shifted(model: nn.Module, step: Mapping[str, Tensor], move: float) -> nn.Module:
    """A copy of a model whose weights went so far along a step."""
    other = copy.deepcopy(model)
    for name, weight in other.named_parameters():
        if name in step:
            weight += move * step[name]
    return other


@dataclass(frozen=True)
class Linearised:
    """What a model, linear in its weights, says after it has learnt from annotated images.

    Args:
        scores: float64 (image,) of other images.
        fit: The ridge regression.
        lengths: By name of weight, the squared length of the step.
    """

    scores: Floats
    fit: Fit
    lengths: Mapping[str, float]


def linearised(
    model: nn.Module,
    annotated: Sequence[tuple[Tensor, NDArray[np.bool_]]],
    data: Dataset,
    run: Run,
) -> list[Linearised]:
    """Fits each output of a model to annotated images of its own, and scores other images.

    ``g(x) . delta`` is read from ``(f(x; w + m delta) - f(x; w)) / m``, which any network can be asked
    for. Its error is of the order of m, by which the annotated outputs move: `MOVE`. `torch.func.jvp` is
    exact, costs three forward passes instead of one, and not every attention has it.

    Args:
        model: One output for each element of `annotated`; left in eval mode.
        annotated: Images (n, 3, height, width), normalised, on the model's device; and their annotations
            (n,), of both kinds.
        data: The images to score.
        run: Where.
    """
    model.eval()
    fitted = []
    with engine.whole_precision():
        base = read_outputs(model, data, run)
        for output, (images, present) in enumerate(annotated):
            kernel = tangent_kernel(model, images, output)
            fit = fit_ridge(kernel, present)
            step = step_of(model, images, fit.alpha, output)
            rise = float(np.sqrt(np.mean((kernel @ fit.alpha) ** 2)))
            slopes = np.zeros(len(data))
            if rise > 0:
                moved = read_outputs(shifted(model, step, MOVE / rise), data, run)
                slopes = (moved - base)[:, output] * rise / MOVE
            lengths = {name: float(weight.double().square().sum()) for name, weight in step.items()}
            fitted.append(Linearised(slopes + fit.constant, fit, lengths))
    return fitted


def with_new_heads(
    model: nn.Module, data: Dataset, column: int, draws: Sequence[NDArray[np.int64]], run: Run
) -> nn.Module:
    """A copy with one new output a draw, the linear probe that the draw's images give; all weights can move.

    Args:
        model: Not changed.
        data: The probe split.
        column: The label.
        draws: Positions of each draw's images.
        run: Where.
    """
    models = [renewed(model, data, column, rows, run) for rows in draws]
    heads = [find_head(each, 1)[1] for each in models]
    wide = nn.Linear(heads[0].in_features, len(heads), device="meta").to_empty(device=run.device)
    with torch.no_grad():
        wide.weight.copy_(torch.cat([head.weight for head in heads]))
        wide.bias.copy_(torch.cat([head.bias for head in heads]))
    replace_head(models[0], 1, wide)
    return models[0]


def _tables(
    item: Loaded,
    probe: Dataset,
    test: Dataset,
    column: int,
    draws: Sequence[NDArray[np.int64]],
    stages: tuple[Mapping[str, str], Sequence[str]],
    run: Run,
) -> dict[str, NDArray[np.floating]]:
    """``scores`` (draw, image), ``ridges`` (draw,) and ``shares`` (draw, stage)."""
    stage_of, names = stages
    model = with_new_heads(item.model, probe, column, draws, run)
    annotated = [(batch_of(probe, rows, run.device).image, probe.target[rows, column] == 1) for rows in draws]
    with run.log.track(f"predict {item.path.name}", len(draws), "fits") as advance:
        fitted = linearised(model, annotated, test, run)
        advance(len(draws))
    lengths = np.zeros((len(draws), len(names)))
    for row, each in zip(lengths, fitted, strict=True):
        for name, part in each.lengths.items():
            row[names.index(stage_of.get(name, "head"))] += part
    total = lengths.sum(1, keepdims=True)
    return {
        "scores": np.stack([each.scores for each in fitted]).astype(np.float32),
        "ridges": np.array([each.fit.ridge for each in fitted]),
        "shares": np.divide(lengths, total, out=np.zeros_like(lengths), where=total > 0),
    }
