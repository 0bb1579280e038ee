"""One model as an audit sees it: tables of what it says about images, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.document.results import Role
from unlabel.audit.inputs.perturbed_images import Perturbed
from unlabel.core.engine import Precision
from unlabel.core.errors import ModelError, OptionError
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs

NOTHING = np.zeros((0, 0))  # in place of features that were not given


@dataclass(frozen=True)
class Subject:
    """One model as the audit sees it: nothing but what it says about three sets of images.

    Args:
        run: Its run folder or name.
        role: Its part in the audit.
        probe: Outputs on the probe split, where attacks are fitted; without features, these are not attacked.
        test: Outputs on the test split, where every figure is computed.
        train: Outputs on training images: at least 5,000 of them, or all; of none, where none were given.
        absent: Labels whose output was removed; one that varies all the same is audited like any other.
        head: Rows of the last linear layer, (label, feature) weights and (label,) biases, or None.
        perturbed: Outputs on perturbed images, see `audit.inputs.perturbed_images`.
        precision: How the audit ran it, ``32`` or ``bf16``: its head may round its sums so.
        odd: Reasons not to trust its figures, see `audit.attacks.input_stability`.
        unchecked: Features and outputs that vary by no more than rounding, which that check cannot judge.
    """

    run: str
    role: Role
    probe: Outputs
    test: Outputs
    train: Outputs
    absent: frozenset[str] = frozenset()
    head: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None
    perturbed: Perturbed | None = None
    precision: Precision = "32"
    odd: tuple[str, ...] = ()
    unchecked: int = 0


def has_features(subject: Subject) -> bool:
    """Whether the model's last features are known, and not its outputs alone."""
    return PENULTIMATE in subject.probe.features


@dataclass(frozen=True)
class Altered:
    """A model after a transform of its weights: outputs on the probe and test splits alone."""

    transform: str
    subject: Subject


@dataclass(frozen=True)
class Canaries:
    """Training images whose annotation of one label was drawn by a coin, and what each model says of them.

    Args:
        label: The label.
        planted: int8 (canary,) what training was told.
        true: int8 (canary,) what the data says, which an attacker with the picture may well know.
        outputs: By run, outputs on these images; of the original and the unlearned model at least.
    """

    label: str
    planted: NDArray[np.int8]
    true: NDArray[np.int8]
    outputs: Mapping[str, Outputs]


def check(subject: Subject, labels: int, probe: Dataset, test: Dataset, train: Dataset) -> None:
    """Refuses outputs that do not belong to these images.

    Raises:
        ModelError: An array has the wrong shape, or a logit or feature is not a finite number.
    """
    for name, outputs, data in (
        ("the probe split", subject.probe, probe),
        ("the test split", subject.test, test),
        ("the training images", subject.train, train),
    ):
        if outputs.logits.shape != (len(data), labels):
            raise ModelError(
                f"the outputs of {subject.run} on {name} have shape {outputs.logits.shape}, expected"
                f" {(len(data), labels)}; compute them again on these images"
            )
        for table in outputs.ends:
            if len(table) != len(data) or not np.isfinite(table).all():
                raise ModelError(
                    f"the outputs of {subject.run} on {name} are not finite numbers, one row an image; the"
                    " model may have diverged: forget again with a smaller step"
                )
    if subject.perturbed is not None:
        _check_perturbed(subject.run, subject.perturbed, labels)


def _check_perturbed(run: str, perturbed: Perturbed, labels: int) -> None:
    """Refuses outputs on perturbed images that are not numbers, or not one row an image: they hide a leak."""
    for outputs, rows in ((perturbed.probe, perturbed.probe_rows), (perturbed.test, perturbed.test_rows)):
        fit = outputs.logits.shape == (len(rows), labels)
        if not fit or not all(len(item) == len(rows) and np.isfinite(item).all() for item in outputs.ends):
            raise ModelError(
                f"the outputs of {run} on perturbed images are not finite numbers, one row an image; the"
                " model may have diverged: forget again with a smaller step"
            )


def check_altered(
    altered: Sequence[Altered], subjects: Sequence[Subject], probe: Dataset, test: Dataset
) -> None:
    """Refuses transformed models that cannot serve a test of durability.

    Raises:
        OptionError: The unlearned model was not transformed, or a transformed model is not in the audit.
        ModelError: Outputs that do not fit the images or are not finite.
    """
    after, labels = subjects[1].run, subjects[1].test.logits.shape[1]
    if not any(item.subject.run == after for item in altered):
        raise OptionError(
            f"a budget beyond quick tests {after} after transforms of its weights; pass them as altered="
        )
    runs = {subject.run for subject in subjects[1:]}
    for item in altered:
        if item.subject.run not in runs:
            raise OptionError(f"{item.subject.run}, transformed by {item.transform}, is not in this audit")
        for name, outputs, data in (
            ("the probe split", item.subject.probe, probe),
            ("the test split", item.subject.test, test),
        ):
            for table in (outputs.logits, outputs.features.get(PENULTIMATE, NOTHING)):
                if (
                    len(table) != len(data)
                    or not np.isfinite(table).all()
                    or outputs.logits.shape[1] != labels
                ):
                    raise ModelError(
                        f"after {item.transform}, the outputs of {item.subject.run} on {name} are not finite"
                        f" numbers of {labels} labels, one row an image; compute them again on these images"
                    )
