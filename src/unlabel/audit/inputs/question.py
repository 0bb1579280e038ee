"""One label to guess, and what all attacks that guess it have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.errors import DataError
from unlabel.core.progress import SILENT, Log
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.data.splits import audit_refusal
from unlabel.models.outputs import Outputs
from unlabel.statistics.estimate import numbered, people_in_effect, rarer


@dataclass(frozen=True)
class Question:
    """One label to guess: its annotations on the three splits (1, 0, or -1 unknown), and identities.

    ``crossed``: attacks are fitted on the probe split and judged on the test split, and the other way round
    (`cross_fit`).
    """

    label: str
    column: int
    probe: NDArray[np.int8]
    test: NDArray[np.int8]
    train: NDArray[np.int8]
    probe_cluster: NDArray[np.int64]
    test_cluster: NDArray[np.int64]
    train_cluster: NDArray[np.int64]
    crossed: bool = False

    @property
    def judged(self) -> NDArray[np.int8]:
        """Annotations of the images that are judged: of the test split, or of the probe and test splits."""
        return np.concatenate([self.test, self.probe]) if self.crossed else self.test

    @property
    def rarer(self) -> int:
        """Images of the rarer kind that are judged."""
        return rarer(self.judged)

    @property
    def people(self) -> float:
        """People in effect of the kind of which the judged images show fewer; none is in two splits."""
        if not self.crossed:
            return self.people_on_test
        here, there = (numbered(each) for each in (self.test_cluster, self.probe_cluster))
        return min(people_in_effect(self.judged, np.concatenate([here, there + len(here)])))

    @property
    def people_on_test(self) -> float:
        """The same of the test split alone."""
        return min(people_in_effect(self.test, self.test_cluster))

    @property
    def people_on_train(self) -> float:
        """The same of the training images; 0 without any."""
        return min(people_in_effect(self.train, self.train_cluster))

    def thin(self, options: AuditOptions) -> bool:
        """Whether the test split has too few people of a kind for figures that are read there alone."""
        return self.people_on_test < options.least_people

    def rare(self, options: AuditOptions) -> bool:
        """Whether the judged images of a kind, or the people in them, are too few to decide anything."""
        return self.rarer < options.rare or self.people < options.least_people

    @property
    def n(self) -> int:
        """Images that are judged and whose annotation is known."""
        return int(np.sum(self.judged >= 0))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows of the probe split whose annotation is known."""
        return self.probe >= 0


def ask(label: str, probe: Dataset, test: Dataset, train: Dataset) -> Question:
    """The question of one label; without training images, it is not asked of them.

    Raises:
        DataError: The probe or test split has too few images of one kind for any attack to be fitted or
            scored.
    """
    column = test.labels.index(label)
    if (short := audit_refusal(label, probe, test, train)) is not None:
        raise DataError(short)
    p, e, t = (part.target[:, column] for part in (probe, test, train))
    return Question(label, column, p, e, t, probe.cluster, test.cluster, train.cluster)


@dataclass(frozen=True)
class Context:
    """What the attacks of an audit have in common, whichever model they attack.

    Args:
        questions: The labels to be guessed, by name.
        request: Names the columns that are hidden from attacks on other outputs, and the retained ones.
        probe, test, train: The probe, test and training images, with the label columns of the request.
        options: Sizes and seed.
        random_init: Outputs on the probe and test splits of the network before any training; None: no such
            control.
        log: Receives progress.
        memory: Where attacks on the original and the references are looked up and kept; of the unlearned
            model, which no other audit has, nothing is.
    """

    questions: Mapping[str, Question]
    request: Request
    probe: Dataset
    test: Dataset
    train: Dataset
    options: AuditOptions
    random_init: tuple[Outputs, Outputs] | None = None
    log: Log = SILENT
    memory: Memory | None = None

    @property
    def hidden(self) -> tuple[int, ...]:
        """Columns of forgotten labels, which no attack on other outputs sees."""
        return self.request.masked_columns

    @property
    def exclusive(self) -> bool:
        """Whether the labels are classes."""
        return self.test.exclusive
