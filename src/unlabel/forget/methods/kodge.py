"""Projection of the label's own activation space out of every layer (Kodge et al.); no training."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.all_layers import apply_projection, layers_of, read_inputs, settle
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.head import find_head


def kodge(*, alpha_r: float = 100.0, alpha_f: float = 3.0, centre: bool = True) -> Unlearner:
    r"""Projects what only the label's images activate out of the inputs of every layer; no training.

    For each convolution and linear layer, the inputs (patches x at all positions) of the images that have the
    label and of those that lack it give two second moments, C_f and C_r, each divided by its trace. The
    paper's scaled spaces are

    .. math:: M = U \,\mathrm{diag}\Big(\frac{\alpha \sigma_i}{(\alpha - 1)\sigma_i + 1}\Big)\, U^T
        = \alpha C\, ((\alpha - 1) C + I)^{-1}

    with :math:`\sigma_i` the share of the variance on axis i of U, the eigenvectors of C. What the forget
    space holds and the retain space does not goes: :math:`W \leftarrow W (I - M_f + M_r M_f)`.

    Differs from the paper: it forgets classes, of which each image has one. Here the forget space is that of
    the images in which the label is present and the retain space that of the images in which it is absent;
    images in which it is unknown count in neither, and of exclusive classes the retain space is that of the
    retained ones. As every image carries the other labels, both spaces hold them, which is what keeps them.
    The moments are taken about the mean of the images without the label, since the two kinds differ by
    little else than their means (``--no-centre`` takes them about 0, as the paper does). Several labels go
    one after another, each with a pass of its own. The right-hand side above needs no SVD; all positions of
    all calibration images are read, where the paper draws 10,000 patches of 900 images. Of the head, the
    retained rows are projected. At the end one pass gives BatchNorm the statistics of its new inputs, and
    another one the retained outputs their old means, which the paper leaves.

    Expect little: images with and without a label are much more alike than images of two classes.

    Left out are convolutions in groups and the projections inside attention modules.

    Args:
        alpha_r: Scale of the retain space, 1 or more. Larger spares more.
        alpha_f: Scale of the forget space, 1 or more. Larger removes more.
        centre: Take both moments about the mean of the images without the label, and keep what the layers
            answer to that mean.

    References:
        Kodge, Saha and Roy, Deep Unlearning: Fast and Efficient Gradient-free Class Forgetting, TMLR 2024
        (alpha_r 100, alpha_f 3 in its code).
    """
    in_range("alpha_r", alpha_r, 1, 1e9)
    in_range("alpha_f", alpha_f, 1, 1e9)
    return Kodge(alpha_r, alpha_f, centre)


@dataclass(frozen=True)
class Kodge:
    """The unlearner of `kodge`, with its options."""

    alpha_r: float
    alpha_f: float
    centre: bool

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        edited = copy.deepcopy(model).eval()
        layers = layers_of(edited)
        _, head = find_head(edited, len(request.labels))
        retained = request.retained_columns
        means: list[Tensor] = []
        for column in sorted(request.columns):
            kinds = sides(data, column, retained)
            # the last entry of a patch is 1, so that its row holds the sums and the number of patches
            moments = {
                name: torch.zeros(2, *[layer.weight[0].numel() + 1] * 2, dtype=torch.float64).to(run.device)
                for name, layer in layers.items()
            }

            def take(name: str, patches: Tensor, batch: Batch, kinds=kinds, moments=moments) -> None:
                kind = kinds[batch.rows]
                for side in (1, 0):
                    chosen = patches[kind == side].transpose(0, 1).flatten(1)  # (input, position)
                    chosen = pad(chosen, (0, 0, 0, 1), value=1.0)
                    moments[name][side] += (chosen @ chosen.T).double()

            means.append(read_inputs(edited, layers, data, run, take))
            engine.reduce_sums(run, list(moments.values()))
            for name, layer in layers.items():
                absent, present = moments.pop(name)
                middle = absent[:-1, -1] / absent[-1, -1].clamp(min=1.0) * float(self.centre)
                projection = discriminatory(
                    about(present, middle), about(absent, middle), self.alpha_f, self.alpha_r
                )
                apply_projection(layer, projection, retained if layer is head else None, middle)
        moved = time.perf_counter()
        settled = settle(edited, retained, means[0], data, run, move_bias=head.bias.requires_grad)
        seconds = {"edit": moved - started, "settle": time.perf_counter() - moved}
        return Work(edited, images_scored=(len(request.columns) + settled) * len(data), seconds=seconds)


def sides(data: Dataset, column: int, retained: tuple[int, ...]) -> "Sides":
    """Which images belong to the forget space (1), which to the retain space (0), and which to none (-1).

    Of exclusive classes, the retain space is that of the retained classes only.
    """
    kind = data.target[:, column].astype(np.int64)
    if data.exclusive:
        kind[(kind == 0) & ~(data.target[:, list(retained)] == 1).any(1)] = -1
    return Sides(data.rows, kind)


@dataclass(frozen=True)
class Sides:
    """A number for each image, looked up by the images' places in the source.

    Args:
        rows: (image,) places.
        kind: (image,) numbers.
    """

    rows: NDArray[np.integer]
    kind: NDArray[np.int64]

    def __getitem__(self, rows: Tensor) -> Tensor:
        order = np.argsort(self.rows, kind="stable")
        at = order[np.searchsorted(self.rows[order], rows.cpu().numpy())]
        return torch.from_numpy(self.kind[at]).to(rows.device)


def about(sums: Float[Tensor, "more more"], middle: Float[Tensor, " input"]) -> Float[Tensor, "input input"]:
    """The second moment of patches about a point, of the sums over patches that end in a 1.

    >>> sums = torch.tensor([[10.0, 4.0], [4.0, 2.0]])  # of the patches 1 and 3
    >>> about(sums, torch.tensor([2.0])).item(), about(sums, torch.tensor([0.0])).item()
    (2.0, 10.0)
    """
    total = sums[:-1, -1]
    cross = torch.outer(total, middle)
    return sums[:-1, :-1] - cross - cross.T + sums[-1, -1] * torch.outer(middle, middle)


def discriminatory(
    present: Float[Tensor, "input input"],
    absent: Float[Tensor, "input input"],
    alpha_f: float,
    alpha_r: float,
) -> Float[Tensor, "input input"]:
    """What to take out of a layer's inputs x: ``(I - M_r) M_f``, to be applied as ``W (I - .)``.

    Args:
        present, absent: Second moments of the inputs, of any scale; a moment of 0 has no space.
        alpha_f, alpha_r: Scales of the two spaces.

    Example:
        >>> both, own = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([1.0, 1.0]))
        >>> discriminatory(own.double(), both.double(), 1e6, 1e6).round(decimals=3).tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """
    forget = scaled_space(present, alpha_f)
    return forget - scaled_space(absent, alpha_r) @ forget


def scaled_space(moment: Float[Tensor, "input input"], alpha: float) -> Float[Tensor, "input input"]:
    """``alpha C ((alpha - 1) C + I)^-1`` of a second moment C divided by its trace; 0 where that is 0."""
    trace = moment.trace()
    if not trace > 0:
        return torch.zeros_like(moment)
    share = moment / trace
    eye = torch.eye(len(share), dtype=share.dtype, device=share.device)
    return torch.linalg.solve((alpha - 1) * share + eye, alpha * share)


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """Every calibration image once a label, and twice more to settle the network."""
    return Bill(0, (budget.labels + 2) * budget.images)
