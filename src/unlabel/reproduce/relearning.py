"""What comes back of a forgotten label when the whole model is trained again: the figures of the frontier.

::

    Relearner(options, where)(loaded, subject, before, sets, request) -> plain data, kept in the model's cell
    pooled(items)                                                     -> the mean of several models' figures
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unlabel.audit.attacks.fine_tuning import tune_all
from unlabel.audit.attacks.utility import answerable, measurable, read_utility
from unlabel.audit.figures import UTILITY_AUC
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Subject
from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.runs.folder import Loaded
from unlabel.statistics.contrast import combined
from unlabel.statistics.estimate import Estimate, auc, mean


@dataclass(frozen=True)
class Relearner:
    """Trains copies of a model on few annotated images, as the full audit does; keyed by its version.

    Args:
        options: Numbers of images, draws, steps and seed; the cell's key holds them already.
        where: Device.
        version: Of what is kept.
    """

    options: AuditOptions = field(repr=False)
    where: Run = field(repr=False)
    version: int = 1

    def __call__(
        self, loaded: Loaded, subject: Subject, before: Subject, sets: Sets, request: Request
    ) -> dict[str, Any]:
        """AUC of every forgotten label after relearning, and the mean AUC of the retained labels, on E.

        Args:
            loaded: The model, which is copied.
            subject: Its outputs.
            before: The original's, which are not needed here.
            sets: Images to train on (P) and to judge by (E).
            request: The labels.

        Returns:
            ``relearnt`` by label and number of images (left out where P has too few), and ``retained``; each
            as `summary` gives it.
        """
        test = sets.test.with_labels(request.labels)
        relearnt: dict[str, dict[str, Any]] = {name: {} for name in request.masked}
        for item in tune_all([loaded], sets, request, self.options, self.where):
            target = test.target[:, request.labels.index(item.label)]
            areas = [auc(scores, target, test.cluster) for scores in item.scores]
            draws = [area.value for area in areas]
            relearnt[item.label][str(item.images)] = {**summary(mean(areas), draws), "rate": item.rate}
        judged_on = answerable(test, request.retained_columns)
        labels = measurable(judged_on, request.retained)
        utility = read_utility(subject, judged_on, labels, self.options, request.retained_columns)
        return {"relearnt": relearnt, "retained": summary(utility.macro(UTILITY_AUC.id))}


def attack_in_words(options: AuditOptions) -> str:
    """Numbers of images, and what one model takes."""
    sizes = " and ".join(f"{n:,}" for n in options.tune)
    rated = min(options.rated_draws, options.tune_draws)
    return (
        f"{sizes} annotated images, each in {options.tune_draws} draws, {rated} of them at {len(ADAM.rates)}"
        f" rates and the others at the best rate by images held back, in {options.tune_steps} steps"
    )


def summary(estimate: Estimate, draws: Sequence[float] = ()) -> dict[str, Any]:
    """What is kept of one model's figure: the value, its error over images, and each draw's own value."""
    return {
        "value": estimate.value,
        "se": estimate.se,
        "groups": estimate.groups,
        "n": estimate.n,
        "draws": list(draws),
    }


def pooled(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of a figure over models that differ by a seed, with a 95 % interval.

    Three independent parts make its error: the test images (at most the mean of the models' errors, whatever
    their dependence), the models' seeds, and the draws of annotated images, which all models share. A part
    with one member has no spread, and is not in the interval.

    Args:
        items: One a model, as `summary` gives it; all with the same draws.

    Returns:
        ``value``, ``ci``, ``n`` (test images), ``models``, and ``low`` and ``high`` over the models.

    Example:
        >>> one = {"value": 0.7, "se": 0.01, "groups": 1000, "n": 1000, "draws": []}
        >>> found = pooled([one])
        >>> [round(end, 3) for end in found["ci"]], found["models"]
        ([0.68, 0.72], 1)
    """
    values = [item["value"] for item in items]
    variances = [
        (float(np.mean([item["se"] for item in items])) ** 2, max(items[0]["groups"] - 1, 1)),
        *_spread(values),
        *_spread(np.mean([item["draws"] for item in items], axis=0).tolist()),
    ]
    error = combined(float(np.mean(values)), variances)
    return {
        "value": error.value,
        "ci": [max(0.0, error.lower(0.975)), min(1.0, error.upper(0.975))],
        "n": items[0]["n"],
        "models": len(items),
        "low": min(values),
        "high": max(values),
    }


def _spread(values: Sequence[float]) -> list[tuple[float, int]]:
    """Variance of a mean by its members' spread, with its degrees of freedom; none for fewer than two."""
    return [(float(np.var(values, ddof=1)) / len(values), len(values) - 1)] if len(values) > 1 else []
