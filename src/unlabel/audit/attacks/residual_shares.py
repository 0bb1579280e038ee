r"""What closed-form probes find of a label's *residual*: the part that the retained annotations do not tell.

At each site a probe p of the residual r is fitted on the probe split, as `forget.adversary` fits them. What
it finds is the share of the residual's variance that it tells on the test split:

.. math:: s = \mathrm{Cov}(p(f), r) \,/\, \mathrm{Var}(r)

On each split r is what is left of the label's annotations after a regression on the retained ones there. An
untrained network tells a share as well, since it passes on some of the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from unlabel.audit.inputs.question import Context, Question
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.forget.adversary import fit_probe
from unlabel.forget.residual import annotations, residuals, unexplained
from unlabel.models.outputs import Outputs
from unlabel.models.sites import Kind, Site
from unlabel.statistics.estimate import Estimate

Floats = NDArray[np.float64]
Shares: TypeAlias = Mapping[tuple[str, str], Estimate]
"""By site and probe: the share of the residual's variance, from 0 (nothing) to 1 (all)."""

OUTPUTS = "outputs"
PROBES: Mapping[str, Kind] = {"linear": "grid", "random": "features"}
"""By name, the kind of site at which `fit_probe` fits such a probe: linear, or with random ReLU features."""


@dataclass(frozen=True)
class Found:
    """What was found of one label's residual, probe by probe.

    Args:
        original, unlearned: In these models.
        untrained: In the original's network before any training, one entry a seed.
    """

    original: Shares
    unlearned: Shares
    untrained: Sequence[Shares]


def find_residual(inputs: AuditInputs, context: Context) -> dict[str, Found]:
    """The shares of every label's residual, by label; empty without an untrained network, or among classes.

    Args:
        inputs: The original, the unlearned model and untrained networks.
        context: The labels and the annotations.
    """
    if inputs.random_init is None or context.exclusive:
        return {}
    trained = [(subject.probe, subject.test) for subject in (inputs.before, inputs.after)]
    models = [*trained, inputs.random_init, *inputs.untrained]
    layers = [name for name in trained[0][0].features if all(name in probe.features for probe, _ in models)]
    found = {}
    for name, question in context.questions.items():
        residual = Residual.of(question, context)
        original, unlearned, *untrained = (shares_of(pair, layers, residual, context) for pair in models)
        found[name] = Found(original, unlearned, untrained)
    return found


@dataclass(frozen=True)
class Residual:
    """The residual of one label, the same for every model.

    Args:
        question: The label and the identities. Images without its annotation are left out.
        probe, test: The residual on both splits, (image,).
        told: Retained annotations of the test split, as `forget.residual.annotations` has them.
    """

    question: Question
    probe: Floats
    test: Floats
    told: Floats

    @classmethod
    def of(cls, question: Question, context: Context) -> "Residual":
        """From the annotations."""
        retained = context.request.retained_columns
        probe, test = (
            residuals(data, [question.column], retained, np.zeros((len(data), 0)), 0.0, groups=False)[:, 0]
            for data in (context.probe, context.test)
        )
        return cls(question, probe, test, annotations(context.test, retained))


def shares_of(
    pair: tuple[Outputs, Outputs], layers: Sequence[str], residual: Residual, context: Context
) -> Shares:
    """The shares of one label's residual in one model.

    Args:
        pair: Its outputs on the probe and test splits.
        layers: Names of features to read, beside the outputs of the retained labels.
        residual: What is to be told.
        context: The retained labels, and the seed.
    """
    known = torch.from_numpy(residual.question.known)
    wanted = torch.from_numpy(residual.probe[:, None])[known]
    tables = {name: [part.features[name] for part in pair] for name in layers}
    tables[OUTPUTS] = [part.logits[:, list(context.request.retained_columns)] for part in pair]
    found = {}
    for site, (probe, test) in tables.items():
        rows, seen = (
            torch.from_numpy(part.reshape(len(part), -1).astype(np.float64)) for part in (probe, test)
        )
        for name, kind in PROBES.items():
            place = Site(site, kind, "", (), rows.shape[1])
            fit = fit_probe(place, rows[known], wanted, context.options.seed)
            found[site, name] = share_told(fit(seen).numpy()[:, 0], residual)
    return found


def share_told(said: Floats, residual: Residual) -> Estimate:
    """The share of a residual's variance that a probe tells, with the influence of each test image.

    What the retained annotations predict of the probe's answers does not covary with the residual. Without it
    the influence holds the error of the residual's own regression, too.

    Args:
        said: The probe's answers, (image,).
        residual: What it is to tell.
    """
    known = residual.question.test >= 0
    r, alone = residual.test[known], unexplained(said[known], residual.told[known])
    variance = max(float(r @ r), float(np.finfo(np.float64).tiny))
    share = float(alone @ r) / variance
    influence = np.zeros(len(known))
    influence[known] = r * (alone - share * r) / variance
    return Estimate(share, influence, residual.question.test_cluster, known)
