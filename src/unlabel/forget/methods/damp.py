"""Prototype directions projected out of every layer, more where they tell the label apart (DAMP)."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.all_layers import apply_projection, layers_of, read_inputs, settle
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.ranking import auc
from unlabel.models.head import find_head

Floats = NDArray[np.float64]
NOTHING = 1e-5  # of a direction's length: less than this is left of what float32 can tell


def damp(*, strength: float = 1.0, rounds: int = 1) -> Unlearner:
    r"""Projects the label's prototype direction out of the inputs of every layer, more the deeper it shows.

    In the input space of each convolution and linear layer, with x the mean patch of an image:

    1. ``d_j``: the mean x of the images with label j less that of the images without it (its prototypes),
       for the labels to forget and for the retained ones.
    2. ``U``: an orthonormal basis of the ``d_j`` to forget, each less its projection onto the span of the
       retained labels' directions. What a retained label's prototypes differ by is not touched.
    3. :math:`W \leftarrow W - \alpha W U U^T`, with :math:`\alpha = \min(1, s\,(2\,\mathrm{AUC} - 1))` and
       AUC that of x along the direction, found on one half of the images and measured on the other; the
       largest of the labels, and 0 below chance.

    The paper's idea is this: prototypes in the input space of the next operator, directions to forget as
    residuals against the retained prototypes, a low-rank subspace for several classes, and a scale that grows
    with depth, from the separability of a probe. How it scales was not to be had in public copies of the
    paper: the AUC rule in 3 is ours. Further, it forgets classes, whose prototypes are means of disjoint
    images; here those of a label are told apart by its own annotations on the same images, and an unknown
    one counts in neither. Of exclusive classes, retained prototypes are compared among each other only. Of
    the head, the retained rows are projected. At the end of a round one pass gives BatchNorm the statistics
    of its new inputs, and another one the retained outputs their old means.

    A label that a retained label repeats stays, as does one in a layer with fewer inputs than there are
    retained labels: their directions span everything there. Labels forgotten earlier are projected out again.
    Left out are convolutions in groups and the projections inside attention modules.

    Args:
        strength: s, > 0; 1 is the separability itself. Larger removes more in early layers.
        rounds: How often, >= 1; each round reads what the one before left.

    References:
        Hatami, Aalishah and Monosov, Class Unlearning via Depth-Aware Removal of Forget-Specific Directions,
        arXiv 2604.15166, 2026.
    """
    in_range("strength", strength, 0, above=True)
    in_range("rounds", rounds, 1, 1000)
    return Damp(strength, rounds)


@dataclass(frozen=True)
class Damp:
    """The unlearner of `damp`, with its options."""

    strength: float
    rounds: int

    @property
    def passes(self) -> float:
        """Forward passes over the images: each round reads, and settles by two."""
        return 3.0 * self.rounds

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        edited = copy.deepcopy(model).eval()
        layers = layers_of(edited)
        _, head = find_head(edited, len(request.labels))
        gone, retained = request.masked_columns, request.retained_columns
        half = uniform(run.seed, "damp/half", data.rows) < 0.5
        means: list[Tensor] = []
        settled = 0
        for _ in range(self.rounds):
            read = {name: MeanPatches(layer.weight[0].numel()) for name, layer in layers.items()}

            def take(name: str, patches: Tensor, batch: Batch, read=read) -> None:
                read[name].add(patches, batch)

            means.append(read_inputs(edited, layers, data, run, take))
            for name, layer in layers.items():
                x = read.pop(name).gather(len(data), run)
                if x is None:
                    continue
                basis = forget_basis(x, data.target, gone, retained, exclusive=data.exclusive)
                scale = self.strength * separability(x, data, gone, retained, half)
                if basis.shape[1] and scale > 0:
                    held = torch.from_numpy(min(1.0, scale) * basis @ basis.T).to(run.device)
                    apply_projection(layer, held, retained if layer is head else None)
            settled += settle(edited, retained, means[0], data, run, move_bias=head.bias.requires_grad)
        seconds = {"edit": time.perf_counter() - started}
        return Work(edited, images_scored=(self.rounds + settled) * len(data), seconds=seconds)


class MeanPatches:
    """The mean patch of each image in one layer, of all uses of the layer in a pass.

    Args:
        width: Entries of a patch.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.batches: list[tuple[Tensor, list[Tensor]]] = []

    def add(self, patches: Tensor, batch: Batch) -> None:
        """Takes the patches (image, input, position) of some images."""
        if not self.batches or self.batches[-1][0] is not batch.rows:
            self.batches.append((batch.rows, []))
        self.batches[-1][1].append(patches.mean(2))

    def gather(self, count: int, run: Run) -> Floats | None:
        """(image, input) of all images, equal on every process; None of a layer that is not used."""
        means = [torch.stack(uses).mean(0).cpu().numpy() for _, uses in self.batches]
        mine = np.concatenate([np.zeros((0, self.width), np.float32), *means])
        images = torch.tensor([float(len(mine))], dtype=torch.float64, device=run.device)
        engine.reduce_sums(run, [images])
        return engine.gather_rows(run, mine, count).astype(np.float64) if images == count else None


def forget_basis(
    x: Floats,
    target: NDArray[np.integer],
    gone: Sequence[int],
    retained: Sequence[int],
    *,
    exclusive: bool = False,
) -> Floats:
    """Orthonormal directions of the labels to forget, at right angles to those of the retained ones.

    Args:
        x: (image, input).
        target: (image, label) 1, 0 or -1.
        gone, retained: Columns.
        exclusive: Whether the columns are classes: retained ones are then compared among themselves.

    Returns:
        (input, direction), with as many directions as are left.

    Example:
        >>> x, y = np.array([[1.0, 0], [1, 1], [0, 0], [0, 1]]), np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
        >>> np.abs(forget_basis(x, y, [0], [1])).tolist()
        [[1.0], [0.0]]
    """
    among = ~(target[:, list(gone)] == 1).any(1) if exclusive else np.ones(len(x), bool)
    to_spare = [gap(x[among], target[among, column]) for column in retained]
    wanted = [gap(x, target[:, column]) for column in gone]
    spared = orthonormal([direction for direction in to_spare if direction is not None], x.shape[1])
    left = []
    for direction in wanted:
        if direction is None:
            continue
        remainder = direction - spared @ (spared.T @ direction)
        remainder -= spared @ (spared.T @ remainder)  # once more: rounding of the first time
        if np.linalg.norm(remainder) > NOTHING * max(float(np.linalg.norm(direction)), 1e-30):
            left.append(remainder)
    return orthonormal(left, x.shape[1])


def gap(x: Floats, label: NDArray[np.integer]) -> Floats | None:
    """Mean of the images that have a label less that of those that lack it; None if one kind is missing."""
    present, absent = x[label == 1], x[label == 0]
    return present.mean(0) - absent.mean(0) if len(present) and len(absent) else None


def orthonormal(directions: Sequence[Floats], width: int) -> Floats:
    """A basis of what directions span, (input, direction), each of them at its own scale."""
    lengths = [float(np.linalg.norm(direction)) for direction in directions]
    unit = [d / length for d, length in zip(directions, lengths, strict=True) if length > 0]
    if not unit:
        return np.zeros((width, 0))
    axes, size, _ = np.linalg.svd(np.stack(unit, 1), full_matrices=False)
    return axes[:, size > NOTHING * size.max()]


def separability(
    x: Floats, data: Dataset, gone: Sequence[int], retained: Sequence[int], half: NDArray[np.bool_]
) -> float:
    """How well the direction of one half tells the images of the other apart: 0 for chance, 1 for perfectly.

    Args:
        x: (image, input).
        data: Annotations.
        gone, retained: Columns.
        half: (image,) which half.

    Returns:
        ``2 AUC - 1``, the mean of both halves, of the label where it is largest; never below 0.
    """
    advantages = [0.0]
    for column in gone:
        areas = []
        for part in (half, ~half):
            basis = forget_basis(x[part], data.target[part], [column], retained, exclusive=data.exclusive)
            if basis.shape[1]:
                label = data.target[part, column]
                towards = gap(x[part], label)
                assert towards is not None  # or there were no basis
                sign = np.sign(towards @ basis[:, 0])
                areas.append(auc(sign * (x[~part] @ basis[:, 0]), data.target[~part, column]))
        measured = [area for area in areas if not np.isnan(area)]
        if measured:
            advantages.append(2 * float(np.mean(measured)) - 1)
    return max(advantages)
