"""Whether single persons pay: how many have a higher loss than another retrained model would give them.

A person's loss is the mean over their images of the loss on the retained labels. How far it lies from one
retrained model to the others is chance. The amount that 5 % of persons exceed by that chance is the measure:
if forgetting harms nobody more than another training would, 5 % of persons exceed it here as well. Who they
are is not recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlabel.audit.attacks.membership import retained_loss
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import Estimate, Floats, average

BY_CHANCE = 0.05  # share of persons who exceed the amount from one retrained model to another
PERSONS = 100  # with two images or more, without whom nothing is said


@dataclass(frozen=True)
class Persons:
    """What happened to persons.

    Args:
        amount: Rise of the mean loss, in nats, that one person in twenty exceeds by chance.
        share: Share of persons who exceed it in the unlearned model.
        retrained: The same of each retrained model against the others; their mean is near 5 %.
        persons: Persons with two images or more.
        left_out: Persons with one image, whose mean is no mean.
    """

    amount: float
    share: Estimate
    retrained: tuple[Estimate, ...]
    persons: int
    left_out: int


def persons(
    after: Subject, references: Sequence[Subject], test: Dataset, columns: tuple[int, ...]
) -> Persons | None:
    """How many persons' loss rose by more than chance; None without two retrained models or 100 persons.

    The unlearned model is set against the same retrained models, all but one, as that one is. So the two are
    alike if the unlearned model is one more retrained one.

    Args:
        after: The unlearned model.
        references: Retrained models.
        test: The test split.
        columns: Of the retained labels.
    """
    names, size = np.unique(test.cluster, return_counts=True)
    several = names[size > 1]
    if len(references) < 2 or len(several) < PERSONS:
        return None
    losses = [
        _by_person(retained_loss(item.test, test, columns), test, several) for item in (after, *references)
    ]
    measured = np.all([np.isfinite(loss) for loss in losses], axis=0)
    unlearned, *others = (loss[measured] for loss in losses)
    means = [np.mean([*others[:at], *others[at + 1 :]], axis=0) for at in range(len(others))]
    chance = [one - rest for one, rest in zip(others, means, strict=True)]
    amount = float(np.quantile(np.concatenate(chance), 1 - BY_CHANCE))

    def share(rises: Floats) -> Estimate:
        exceeds = np.mean(np.atleast_2d(rises) > amount, axis=0)
        return average(exceeds, np.ones(len(exceeds), bool), several[measured])

    return Persons(
        amount,
        share(np.stack([unlearned - rest for rest in means])),
        tuple(share(rise) for rise in chance),
        int(measured.sum()),
        len(names) - int(measured.sum()),
    )


def _by_person(loss: Floats, test: Dataset, people: np.ndarray) -> Floats:
    """Mean over the images of each person whose loss is known; NaN where there is none."""
    counted = np.isfinite(loss) & np.isin(test.cluster, people)
    person = np.searchsorted(people, test.cluster[counted])
    count = np.bincount(person, minlength=len(people))
    total = np.bincount(person, loss[counted], len(people))
    return np.divide(total, count, out=np.full(len(people), np.nan), where=count > 0)
