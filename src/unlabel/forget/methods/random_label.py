"""Random labels: teach the network something else about the forgotten column."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.loss import loss_of
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.halves import whole_part
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.repair import Aim, Train
from unlabel.forget.targets import Replaced, Replacement, replaced


def random_label(
    *, target: Replacement = "prior", weight: float = 1.0, steps: int = 64, lr: float = 0.02
) -> Unlearner:
    """Trains the forgotten label on replaced annotations, and the others on their true ones.

    ``loss = loss(retained) + weight * BCE(forgotten, replacement)``, one forward pass for both. A network
    can obey with its output row alone, so expect the features to keep much of the label.

    Differs from the papers: a column is relabelled, not images; retained columns keep their true values in
    the same images; and by default the target is the expectation of a random label, which has less noise.
    bernoulli_prior, or bernoulli_half, is the faithful port. Steps and rate are this project's, for a short
    schedule on few images; implementations train for 3 epochs of Adam at 1e-4 on the whole set.

    Args:
        target: What replaces an annotation: half, prior, bernoulli_half, bernoulli_prior, permute, flip or
            nearest. Drawn ones are drawn once an image. flip inverts the label and so forgets nothing; it is
            there to show that. For classes: a retained class instead, permute and flip are refused; nearest
            is for classes in an order, such as ages: the nearest retained one.
        weight: Weight of the replaced annotations, > 0.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Graves, Nagisetty and Ganesh, Amnesiac Machine Learning, AAAI 2021; Golatkar, Achille and Soatto,
        Eternal Sunshine of the Spotless Net, CVPR 2020 (as a baseline).
    """
    in_range("weight", weight, 0, above=True)
    check_schedule(steps, lr)
    aim = partial(relabelling, target, weight)
    return Pipeline(repair=Train(aim, steps, lr, hold_rows=False, stage="relabel"))


@dataclass(frozen=True)
class Relabelled:
    """The loss of the retained columns' true values plus that of the forgotten ones' replacements.

    Args:
        replacements: What the forgotten annotations became.
        weight: Weight of the second term.
        retain: Columns.
    """

    replacements: Replaced
    weight: float
    retain: tuple[int, ...]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch.image)
        retained = loss_of(exclusive=self.replacements.exclusive)(logits, batch.target, self.retain)
        return retained + self.weight * self.replacements.loss(logits, batch)


def relabelling(
    target: Replacement, weight: float, original: nn.Module, request: Request, data: Dataset, run: Run
) -> Aim:
    """`Relabelled` on all images; of exclusive classes, on those of classes not forgotten earlier."""
    images = data.answerable(whole_part(data, request).columns)
    return Aim(Relabelled(replaced(images, request, target, run), weight, request.retained_columns), images)
