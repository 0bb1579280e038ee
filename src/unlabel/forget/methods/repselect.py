"""RepSelect: one step against the label's own gradient, its strongest components collapsed."""

import copy
import time
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.all_layers import logit_means, settle
from unlabel.forget.gradients import Moment, Named, moments
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.tasks import Task
from unlabel.models.head import find_head

Distribution = Literal["forget", "retain"]
Collapse = Literal["both", "inputs", "outputs", "none"]


def repselect(
    *,
    step: float = 0.1,
    components: float = 0.125,
    distribution: Distribution = "forget",
    collapse: Collapse = "both",
) -> Unlearner:
    r"""Steps against the label's gradient after the directions that it shares with others were damped.

    One pass gives the gradient G of the forgetting loss in the weight of each layer. The singular vectors
    ``U``, ``V`` of its strongest components, or of the retained labels' gradient, are representations that
    much else uses, too. They are collapsed on both sides, where :math:`s_i` are the singular values and k the
    last component that is kept:

    .. math:: G \leftarrow G - G V (1 - s_k / s) V^T, \qquad G \leftarrow G - U (1 - s_k / s)\, U^T G

    Then the weights move once by what is left: ``W <- W - eta G``. The paper moves them again and again by
    the same G and stops by what it costs; here eta is such that all moves together are as long as ``step``
    times all weights that may move.

    What is ours: the paper raises the likelihood loss of texts to forget. For a label column that gradient is
    nearly 0 wherever the model is right, and has no bound. G is that of the covariance of the label with its
    own logit, the mean over images of ``(y - p) grad z``, with p the label's base rate (images where y is
    unknown count nothing); several labels are averaged. A class of a softmax is read by its log-odds. All
    convolutions and linear layers below the head move, where the paper moves a transformer's MLPs. The paper
    first tunes an adapter on the forget set so that its gradient shows more; that stage is left out. Singular
    vectors are exact. At the end one pass gives BatchNorm the statistics of its new inputs, and another one
    the retained outputs their old means. Output rows stay as they are, but for the retained biases.

    Args:
        step: Length of the move, as a share of the length of all weights that may move, > 0, at most 10.
        components: Share of each layer's components that are collapsed, 0 to 1; at least two where it is not
            0, since the last of them keeps its size. The paper's 512 are about 1/8 of its layers' components.
        distribution: Whose gradient's components: forget, the forgotten labels' own; or retain.
        collapse: On which side: both, inputs (V), outputs (U), or none.

    References:
        Sondej, Yang and Mahdi, RepSelect: Robust LLM Unlearning via Representation Selectivity,
        arXiv 2606.17168, 2026; the form with one pass in its code.
    """
    in_range("step", step, 0, 10, above=True)
    in_range("components", components, 0, 1)
    return RepSelect(step, components, distribution, collapse)


@dataclass(frozen=True)
class RepSelect:
    """The unlearner of `repselect`, with its options."""

    step: float
    components: float
    distribution: Distribution
    collapse: Collapse
    passes: float = 3.0  # the gradient, and two to settle

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        edited = copy.deepcopy(model).eval()
        _, head = find_head(edited, len(request.labels))
        with logit_means(model, len(request.labels), run) as means:
            forgetting, whose = self._gradients(model, request, data, run)
        updates: Named = {}
        # a weight has one gradient, under its first name; one that is computed from others has none
        weights = {name: weight for name, weight in movable(edited, head).items() if name in forgetting}
        for name, weight in weights.items():
            gradient, other = (total[name].flatten(1) for total in (forgetting, whose))
            updates[name] = collapsed(gradient, other, self.components, self.collapse).view_as(weight)
        length, whole = (
            float(
                sum(
                    (value.detach().double().square().sum() for value in values.values()), torch.zeros(())
                ).sqrt()
            )
            for values in (updates, weights)
        )
        if not (length > 0 and whole > 0):
            raise EmptySelection(
                f"the label's gradient has length {length:g} in {len(weights)} layers of length {whole:g};"
                " expected one that is not 0 in layers below the head: is the model trained, are"
                " they frozen or parametrised?"
            )
        with torch.no_grad():
            for name, weight in weights.items():
                weight.sub_((self.step * whole / length * updates[name]).to(weight))
        moved = time.perf_counter()
        settled = settle(
            edited, request.retained_columns, means[0], data, run, move_bias=head.bias.requires_grad
        )
        seconds = {"edit": moved - started, "settle": time.perf_counter() - moved}
        return Work(edited, images_scored=(1 + settled) * len(data), seconds=seconds)

    def _gradients(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> tuple[Named, Named]:
        """Of the forgetting loss, and the one whose components are collapsed; by one forward pass."""
        columns = request.columns
        forget = Task(columns, data.exclusive, alone=True)
        prior = torch.tensor([data.prior(column) for column in columns], device=run.device)
        wanted = [Moment(lambda logits, target: forget.towards(logits, target, prior))]
        if self.distribution == "retain":
            wanted.append(Moment(Task(request.retained_columns, data.exclusive).loss))
        gradients = moments(model, data, run, wanted)
        return gradients[0], gradients[-1]


def movable(model: nn.Module, head: nn.Linear) -> Named:
    """The weights of all convolutions and linear layers below the head that may change, by parameter name."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, kinds) and module is not head and module.weight.requires_grad
    }


def collapsed(
    gradient: Float[Tensor, "out input"],
    other: Float[Tensor, "out input"],
    components: float,
    collapse: Collapse,
) -> Float[Tensor, "out input"]:
    """A gradient whose strongest components, or those of another, are damped.

    Args:
        gradient: What to damp.
        other: Whose singular vectors and values count.
        components: Share of them, 0 to 1.
        collapse: On which side.

    Example:
        >>> strong = torch.diag(torch.tensor([8.0, 2.0, 1.0]))
        >>> collapsed(strong, strong, 0.6, "inputs").diagonal().tolist()
        [2.0, 2.0, 1.0]
    """
    left, size, right = torch.linalg.svd(other, full_matrices=False)
    count = min(max(2, round(components * len(size))), int((size > 1e-9 * size[0]).sum()))
    if components == 0 or collapse == "none" or count == 0:
        return gradient
    damped = 1 - size[count - 1] / size[:count]
    if collapse in ("both", "inputs"):
        axes = right[:count].T
        gradient = gradient - (gradient @ axes * damped) @ axes.T
    if collapse in ("both", "outputs"):
        axes = left[:, :count]
        gradient = gradient - (axes * damped) @ (axes.T @ gradient)
    return gradient
