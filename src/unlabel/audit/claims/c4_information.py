r"""How much of the original's excess information is left in a model, over all depths: one number.

.. math:: \mathrm{left} = \frac{\sum_l (I_l(\text{model}) - I_l(\text{retrained}))}
          {\sum_l (I_l(\text{original}) - I_l(\text{retrained}))}

with l the earlier stages and the last features, and I_l the bits that a linear probe tells of the label there
(V-information), of retrained models the mean. 1: as much as in the original; 0: as in retrained models; below
0: less than in those.

After the Information Difference Index (Jeon et al., AAAI 2026, arXiv 2405.17878), which estimates mutual
information by a contrastive bound and gives no interval. Here the bits are those that the audit measures
anyway, and the bounds are Fieller's: they hold the error of the images and of the seeds of retrained
models, in numerator and denominator together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from scipy.optimize import root_scalar

from unlabel.audit.attacks.recovery import Recovery
from unlabel.audit.document.results import Claim
from unlabel.audit.document.stages import TOGETHER
from unlabel.audit.figures import LINEAR_BITS, Readings
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.contrast import Contrast, seeded
from unlabel.statistics.estimate import Estimate, mean

Rows = Mapping[str, Readings]  # label -> attack -> figure


def with_information(
    claim: Claim, recovery: Recovery, models: Sequence[Rows], options: AuditOptions
) -> Claim:
    """C4 with `information_left` of every label among its notes, where earlier stages were read.

    Args:
        claim: C4.
        recovery: With the probes on earlier stages.
        models: Readings of the original, the unlearned model and the retrained models, by label.
        options: The level of the bounds.
    """
    stages = recovery.weights.stages if recovery.weights else {}
    left: dict[str, dict[str, object]] = {}
    for label, read in stages.items():
        totals = [
            total([*_bits(early), rows[label][LINEAR_BITS.id]])
            for early, rows in zip(read, models, strict=True)
        ]
        if row := information_left(totals, options.level):
            left[label] = row
    return replace(claim, notes={**claim.notes, "information_left": left}) if left else claim


def _bits(early: Mapping[str, Readings]) -> list[Estimate]:
    """The bits of every single stage."""
    return [readings[LINEAR_BITS.id] for stage, readings in early.items() if stage != TOGETHER]


def total(bits: Sequence[Estimate]) -> Estimate:
    """The sum of several figures of the same images."""
    return mean(bits).affine(len(bits), 0.0)


def information_left(totals: Sequence[Estimate], level: float) -> dict[str, object]:
    """The share of the original's excess over retrained models that is left, with one-sided bounds.

    Args:
        totals: Bits over all layers: of the original, the model, and each retrained model.
        level: Confidence of each bound.

    Returns:
        ``share``, ``lower``, ``upper``, and in bits ``original``, ``model`` and ``retrained``, their mean.
        Empty without retrained models, or if the original does not exceed them for certain.
    """
    if len(totals) < 3:
        return {}
    original, model, *retrained = totals

    def beyond(share: float) -> Contrast:
        """What the model has beyond so large a share of the excess: 0 if that is the share."""
        at_share = original.affine(share, 0.0)
        of_retrained = mean(retrained).affine(1.0 - share, 0.0)
        values = [(1.0 - share) * item.value for item in retrained]
        return seeded(model - at_share - of_retrained, values)

    excess = seeded(original - mean(retrained), [item.value for item in retrained])
    if excess.lower(level) <= 0:
        return {}
    share = beyond(0.0).value / excess.value
    lower = _root(lambda at: beyond(at).lower(level), share, -1.0)
    upper = _root(lambda at: beyond(at).upper(level), share, 1.0)
    levels = {"original": original.value, "model": model.value, "retrained": mean(retrained).value}
    return {"share": share, "lower": lower, "upper": upper, **levels}


def _root(bound: Callable[[float], float], start: float, step: float) -> float:
    """Where a bound that falls with the share is 0, from the share on in one direction.

    There is one, since the excess itself is above 0 by the same bound.
    """
    if bound(start) == 0.0:
        return start
    while bound(start) * bound(start + step) > 0.0:
        step *= 2.0
    return float(root_scalar(bound, bracket=sorted((start, start + step))).root)
