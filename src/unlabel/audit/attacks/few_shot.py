"""How few annotated images teach the label again: probes on small samples, the same ones for every model.

`fine_tuning` trains whole models on such samples; what it makes is a `Tuned`.

Pretrained features relearn fast, so the speed means nothing by itself. What counts is the difference to the
retrained models, paired by draw and by image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.annotated import few_sizes
from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.randomness import uniform
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.contrast import Contrast, combined
from unlabel.statistics.estimate import Estimate, auc, mean


@dataclass(frozen=True)
class Relearnt:
    """Test AUC after learning from few annotated images: the mean over draws, and each draw's own."""

    mean: Estimate
    draws: tuple[float, ...]


def samples(question: Question, n: int, options: AuditOptions) -> list[NDArray[np.int64]]:
    """Positions in the probe split, for each draw: half present, keyed by label, draw and position alone.

    Returns:
        ``options.draws`` arrays (n,); none where the probe split has fewer than n / 2 images of a kind.
    """
    return balanced(question.probe, question.column, n, options.draws, f"few/{n}", options.seed)


def balanced(
    target: NDArray[np.int8], column: int, n: int, draws: int, stream: str, seed: int
) -> list[NDArray[np.int64]]:
    """Positions of n images in each draw, half of them present; none where there are not so many of a kind.

    Args:
        target: int8 (image,) 1, 0 or -1.
        column: Of the label, a part of the key.
        n: Images in a draw.
        draws: How many.
        stream: What they are for, a part of the key.
        seed: Of the audit.
    """
    kinds = [np.flatnonzero(target == kind) for kind in (1, 0)]
    if min(map(len, kinds)) < n // 2:
        return []
    positions = []
    for draw in range(draws):
        rank = uniform(seed, f"audit/{stream}", column, draw, np.arange(len(target)))
        positions.append(np.concatenate([kind[np.argsort(rank[kind])[: n // 2]] for kind in kinds]))
    return positions


def few_shot(probe: Outputs, test: Outputs, question: Question, options: AuditOptions) -> dict[int, Relearnt]:
    """Logistic probes on the last features, fitted to few probe images and scored on the test split.

    The features are standardised by all of the probe split, which needs no annotation.

    Args:
        probe: Outputs on the probe split.
        test: Outputs on the test split.
        question: The label.
        options: Sizes, draws and seed.

    Returns:
        By number of images, see `annotated.few_sizes`.
    """
    standard = Standard.of(probe.features[PENULTIMATE])
    x, x_test = standard(probe.features[PENULTIMATE]), standard(test.features[PENULTIMATE])
    relearnt = {}
    for n in few_sizes(question.probe, options):
        areas = [
            auc(
                fit_logistic(x[rows], question.probe[rows] == 1).decision_function(x_test),
                question.test,
                question.test_cluster,
            )
            for rows in samples(question, n, options)
        ]
        if areas:
            relearnt[n] = Relearnt(mean(areas), tuple(area.value for area in areas))
    return relearnt


def faster(after: Relearnt, references: Sequence[Relearnt]) -> Contrast:
    """How much better a model relearns than the mean of the retrained ones.

    Three independent parts make its error: the test images, summed by person; the draws, by the spread of the
    paired difference over them; and, from two on, the references' seeds. A level that was predicted adds its
    drift. That the probe split itself is a sample is not in it: the draws stand for few-shot samples from
    these images.
    """
    other = mean([reference.mean for reference in references])
    excess = after.mean - other
    differences = np.array(after.draws) - np.mean([reference.draws for reference in references], axis=0)
    draws = len(differences)
    between = float(np.var(differences, ddof=1)) / draws
    variances = [(excess.se**2, excess.df), (between, draws - 1)]
    if len(references) > 1:
        spread = float(np.var([reference.mean.value for reference in references], ddof=1))
        variances.append((spread / len(references), len(references) - 1))
    if excess.drift:
        variances.append((excess.drift**2, excess.drift_df))
    return replace(combined(excess.value, variances), draws=between + excess.drift**2)
