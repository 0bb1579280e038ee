"""What the retained annotations explain of a label: as much as a Retrain can be expected to keep of it.

The measure needs the original and the annotations, and no training. Least squares is linear in
what it is fitted to: a probe of the label is the sum of a probe of what the retained annotations predict of
it, and of a probe of the *residual*, the rest. A Retrain learns the first from the retained labels. So the
first probe by itself is compared with the whole. If the whole finds nothing for certain, nothing counts as
explained: a share of noise is no share, and a Retrain would be predicted to keep everything.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge

from unlabel.audit.attacks.logistic import Standard
from unlabel.audit.inputs.question import Context, Question
from unlabel.audit.inputs.subject import Subject
from unlabel.forget.residual import residuals
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import advantage

RIDGE = 0.01  # of the mean variance of a feature


@dataclass(frozen=True)
class Explained:
    """How much of a label the retained annotations explain, as advantages on the test split.

    Args:
        told: Of a probe on the original's features that is fitted to what the annotations predict; 0 where
            `found` may be chance.
        found: Of the same probe fitted to the label itself.
    """

    told: float
    found: float


def explained(original: Subject, question: Question, context: Context) -> Explained:
    """What the retained annotations explain of one label; of classes that exclude each other, nothing.

    Nothing either where the lower bound of `found`, at the level of the options, is not above 0.

    Args:
        original: The original, with features.
        question: The label.
        context: The annotations, and the level.
    """
    known, probe = question.known, context.probe
    no_logits, retained = np.zeros((len(probe), 0)), context.request.retained_columns
    residual = residuals(probe, [question.column], retained, no_logits, 0.0, groups=False)[known, 0]
    label = (question.probe[known] == 1) - np.mean(question.probe[known] == 1)
    features = original.probe.features[PENULTIMATE][known]
    standard = Standard.of(features)
    fit = Ridge(alpha=RIDGE * len(features)).fit(standard(features), np.c_[label - residual, label])
    scores = fit.predict(standard(original.test.features[PENULTIMATE])).T
    told, found = (advantage(score, question.test, question.test_cluster) for score in scores)
    certain = found.lower(context.options.level) > 0
    return Explained(told.value if certain else 0.0, found.value)
