"""Least-change erasure: rewrite the layer that makes the features, in closed form. No training."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.feature_layer import LOOK, Reading, edit_layer, final_layers, joined_features, read_layers
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.refit import refit_rows
from unlabel.forget.residual import residuals
from unlabel.models.head import find_head

Floats = NDArray[np.float64]
SHRINK = 1e-2  # of the features' mean variance, added to each: 128 features and some 500 images
PENALTIES = np.logspace(-3, 1, 9)  # of the ridge regression, in units of the mean squared patch entry
NOTHING = 1e-9  # a direction this much shorter than the longest is rounding
FEWEST = 8  # images a round


def erasure(*, strength: float = 0.5, rounds: int = 3, anchor: float = 1.0) -> Unlearner:
    r"""Rewrites the last layer before the head so that the features no longer vary with the label.

    Each round reads a few images once and changes the weights W of the layer that makes the features h:

    1. ``r``: the label's annotations, less what the retained annotations and, by ``strength``, the retained
       outputs tell of them (`forget.residual`). Only this is to go.
    2. ``s = U' S h``, the optimal linear probe of r in the features (S the inverse root of their covariance,
       U the directions of ``S Cov(h, r)``), and ``a = S^-1 U``: without ``a s`` no linear probe of h finds
       r, and no smaller change in units of the covariance would do (LEACE).
    3. ``W <- W - (a / gain) w'``, with ``w`` the ridge regression of s on what the layer reads, and the gain
       of each channel the slope of its feature (`forget.feature_layer`): one rank-one edit a label.

    Of a LayerNorm, GroupNorm or RMSNorm behind that layer, the mean and the spread are held constant in the
    gain (`forget.norms`). The next round meets new images, so that what it corrects was not fitted to them.
    Then the retained output rows are fitted once more, by logistic regression on images of their own, drawn
    towards the old rows, and more strongly where images left out say so: with as many features as images,
    rows fit anything (`forget.refit`). A bias that is frozen, or that the head does not have, is held where
    it is. The network is only read, about ``--images`` times forward: no
    optimiser step, whatever the size of the data.

    Labels forgotten earlier are erased again. Of exclusive classes the output rows stay as they are.

    How far it goes: the features and all outputs forget, for linear probes and others (measured in
    docs/results/erasure.md). Layers further down keep what they knew: whoever trains the network on, or
    reads it there, can find the label again; claim C4 of the standard audit says how far.

    This project's own. Related: LEACE (Belrose et al., NeurIPS 2023), which erases all covariance and needs a
    layer of its own; closed-form edits of one layer as in ROME (Meng et al., NeurIPS 2022).

    Args:
        strength: How little of what the retained outputs tell of the label is spared, > 0. Larger forgets
            more and costs more; at 0.1 hardly any retained output suffers.
        rounds: Edits, each on its own images, >= 1.
        anchor: Pull of the refitted output rows towards the old ones, >= 0; 0 leaves the rows as they are.
    """
    in_range("strength", strength, 0, above=True)
    in_range("rounds", rounds, 1)
    in_range("anchor", anchor, 0)
    return Erasure(strength, rounds, anchor)


@dataclass(frozen=True)
class Erasure:
    """The unlearner of `erasure`, with its options."""

    strength: float
    rounds: int
    anchor: float

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        try:
            return self._edited(model, request, data, run)
        except np.linalg.LinAlgError as error:
            raise MethodError(
                f"the features of this model give equations without a solution ({error}); are some weights"
                " huge, or a layer constant? Use more images (--images), a larger --anchor, or another method"
            ) from error

    def _edited(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        edited = copy.deepcopy(model).eval()
        free = {id(parameter) for parameter in edited.parameters() if parameter.requires_grad}
        edited.requires_grad_(False)
        _, head = find_head(edited, len(request.labels))
        refits = self.anchor > 0 and not data.exclusive and id(head.weight) in free
        samples = shares(data, self.rounds + refits, run.seed)
        look = batch_of(data, range(LOOK), run.device).image
        layers = final_layers(edited, len(request.labels), look, free)
        rows = head.weight[list(request.retained_columns)].detach().double().cpu().numpy()
        for part in samples[: self.rounds]:
            readings = read_layers(edited, layers, part, run)
            for reading in readings:
                _check_reading(reading)
            features = joined_features(layers, readings)
            wanted = residuals(
                part, request.masked_columns, request.retained_columns, features @ rows.T, self.strength
            )
            left = np.zeros(features.shape[1])
            for made, reading in zip(layers, readings, strict=True):
                change = least_change(reading, wanted)
                left[made.places] = edit_layer(made.layer, made.norm, change, reading, free)
            if id(head.bias) in free:
                with torch.no_grad():
                    head.bias.sub_(head.weight @ torch.as_tensor(left).to(head.weight))
        edit = time.perf_counter()
        if refits:
            hold_bias = id(head.bias) not in free
            refit_rows(edited, request.retained_columns, samples[-1], run, self.anchor, hold_bias=hold_bias)
        for parameter in edited.parameters():
            parameter.requires_grad_(id(parameter) in free)
        seconds = {"edit": edit - started, "refit": time.perf_counter() - edit}
        return Work(edited, images_scored=len(data) + LOOK, seconds=seconds)


def _check_reading(reading: Reading) -> None:
    """Refuses what no edit can be computed from."""
    if not (np.isfinite(reading.features).all() and np.isfinite(reading.patches).all()):
        raise MethodError("the model's features are NaN or infinite on some images; is it trained?")
    channels, features = len(reading.gain), reading.features.shape[1]
    if channels != features:
        raise MethodError(
            f"the last layer before the head makes {channels:,} channels and the head reads {features:,}"
            " features, but erasure needs one feature a channel (positions are flattened, or layers joined,"
            " between the two); choose another method, such as leace-layer or confusion"
        )
    if not np.ptp(reading.features, axis=0).any():
        raise MethodError(
            f"all {features:,} features of this model are the same for every image, so no label is in them"
            " and there is nothing to erase; is it trained, or is a layer constant?"
        )


def shares(data: Dataset, count: int, seed: int) -> list[Dataset]:
    """The images dealt into parts by a keyed order, each at least `FEWEST` if there are so many.

    Raises:
        MethodError: There are too few.
    """
    if len(data) < count * FEWEST:
        raise MethodError(
            f"erasure reads {count} parts of {FEWEST} images or more, but there are {len(data)}; use more"
            " images (--images), fewer --rounds, or another method"
        )
    order = np.argsort(uniform(seed, "erasure", data.rows), kind="stable")
    return [data.take(np.sort(order[number::count])) for number in range(count)]


def least_change(reading: Reading, residual: Floats) -> Floats:
    """The change of the layer's weight that takes the residual's directions out of the features.

    Args:
        reading: What the layer reads and makes, on some images.
        residual: (image, label) of the same images.

    Returns:
        float64 (channel, input).
    """
    hidden = reading.features - reading.features.mean(0)
    count, width = hidden.shape
    spread = hidden.T @ hidden / count
    spread += max(SHRINK * np.trace(spread) / width, 1e-30) * np.eye(width)
    values, axes = np.linalg.eigh(spread)
    root, inverse = (axes * values**power @ axes.T for power in (0.5, -0.5))
    basis, size, _ = np.linalg.svd(inverse @ (hidden.T @ residual / count), full_matrices=False)
    basis = basis[:, size > max(NOTHING * size.max(initial=0.0), 1e-30)]
    score, pattern = hidden @ inverse @ basis, root @ basis  # (image, direction), (feature, direction)
    weight = ridge(reading.patches - reading.patches.mean(0), score)  # (input, direction)
    gain = np.where(reading.gain == 0, np.inf, reading.gain)
    return -(pattern / gain[:, None]) @ weight.T


def ridge(x: Floats, y: Floats) -> Floats:
    """Ridge regression of each column of y, (input, column); one penalty, of the least leave-one-out error.

    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> ridge(x, x @ np.array([[1.0], [0.0], [-2.0]])).round(1).ravel().tolist()
    [1.0, 0.0, -2.0]
    """
    left, size, right = np.linalg.svd(x, full_matrices=False)
    unit = max(float((size**2).sum()) / x.shape[1], 1e-30)
    inside = left.T @ y
    best, weights = np.inf, np.zeros((x.shape[1], y.shape[1]))
    for penalty in PENALTIES * unit:
        shrink = size**2 / (size**2 + penalty)
        leverage = np.minimum(
            (left**2 * shrink).sum(1), 1 - 1e-9
        )  # of each prediction, the share of its own image
        error = float((((y - left @ (shrink[:, None] * inside)) / (1 - leverage)[:, None]) ** 2).sum())
        if error < best:
            best, weights = error, right.T @ ((size / (size**2 + penalty))[:, None] * inside)
    return weights


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """Every calibration image once, and a few to see in which order the layers are used."""
    return Bill(0, budget.images + LOOK)
