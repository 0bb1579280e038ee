"""The paper's two methods: weight filtering and weight pruning, as printed and corrected.

Hossain, Marasco, Lin and King, "I Forgot About You": Exploring Multi-Label Unlearning for Responsible Facial
Recognition Systems, ECML PKDD 2025. The text leaves open, or says in two ways, most of what the options below
decide; `--as-printed` takes the algorithms to the letter, the defaults are what measured best
(docs/results/paper-methods.md).
"""

from collections.abc import Mapping
from typing import Any, Literal

from unlabel.core.errors import OptionError
from unlabel.forget.clamp import Constrained, Unit
from unlabel.forget.edit import Decay, Noise, zero
from unlabel.forget.influence import CG_ITERATIONS, Solver
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Pipeline, Repeated, Unlearner, keep
from unlabel.forget.score import FilteringScore, Gradient, PruningScore
from unlabel.forget.select import Direction, Percentiles, Share, Threshold

PRINTED: Mapping[str, Any] = {
    "direction": "low",
    "contrast": False,
    "gradient": "mean",
    "unit": "absolute",
    "tau": 100.0,
}
MEASURED: Mapping[str, Any] = {
    "direction": "high",
    "contrast": True,
    "gradient": "rms",
    "unit": "std",
    "tau": 10.0,
}


def weight_filtering(
    *,
    as_printed: bool = False,
    direction: Direction | None = None,
    contrast: bool | None = None,
    gradient: Gradient | None = None,
    tau: float = 7.0,
    threshold: float | None = None,
    layers: int | None = None,
    points: float = 50.0,
    solver: Solver = "diagonal",
    damping: float = 1e-3,
    replace: Literal["zero", "noise"] = "zero",
    sigma: float = 1.0,
    epsilon: float = 0.1,
    unit: Unit | None = None,
    steps: int = 188,
    lr: float = 0.05,
    iterations: int = 1,
    exact: bool = False,
) -> Unlearner:
    """Resets the weights tied to the label to zero or noise, then fine-tunes under a clamp.

    Weights are ranked by sensitivity times influence on the label; those on one side of a threshold become
    0 or noise; the retained labels are fine-tuned while each reset weight stays within epsilon of its value.
    Algorithm 1 resets weights *below* the threshold, the paper's abstract the critical ones *above* it.

    Args:
        as_printed: Algorithm 1 to the letter: direction low, no contrast, mean gradient, absolute epsilon.
        direction: Which side of the threshold is reset: low or high. Default: high.
        contrast: Rank against the retained labels' need, which is ours. Default: yes.
        gradient: mean, as printed, or rms. Default: rms.
        tau: Percentage of the weights to reset, 0 to 100.
        threshold: Instead of tau: reset beyond this multiple of the mean score, > 0.
        layers: Only the last so many layers before the head; all by default.
        points: Percentage of the images that counts as driving the label, above 0, to 100.
        solver: diagonal or cg: how the Gauss-Newton matrix is inverted for the influence of images.
        damping: Damping in units of the mean of that matrix's diagonal, > 0.
        replace: What a reset weight becomes: zero or noise.
        sigma: Standard deviation of the noise in units of the tensor's own, > 0.
        epsilon: How far a reset weight may move in fine-tuning, >= 0; 0 freezes it.
        unit: Of epsilon: std, of the tensor's numbers, or absolute as printed. Default: std.
        steps: Fine-tuning steps, >= 0.
        lr: Peak learning rate, > 0.
        iterations: How often to score, reset and fine-tune, >= 1.
        exact: Per-sample squares one by one instead of by random signs; slow.

    References:
        Hossain et al., ECML PKDD 2025, Algorithms 1 and 3. Differs: see `FilteringScore` and `Constrained`.
    """
    used = settled(as_printed, direction=direction, contrast=contrast, gradient=gradient, unit=unit)
    in_range("tau", tau, 0, 100)
    in_range("points", points, 0, 100, above=True)
    in_range("damping", damping, 0, above=True)
    in_range("sigma", sigma, 0, above=True)
    if threshold is not None:
        in_range("threshold", threshold, 0, above=True)
    check_training(layers, epsilon, steps, lr, iterations)
    score = FilteringScore(used["gradient"], used["contrast"], points, solver, damping, layers, exact)
    select = Share(tau, used["direction"]) if threshold is None else Threshold(threshold, used["direction"])
    edit = zero if replace == "zero" else Noise(sigma)
    once = Pipeline(
        score=score,
        select=select,
        edit=(edit,),
        repair=Constrained(steps, lr, epsilon, used["unit"], clamped=(1,)),
        passes=score.passes(CG_ITERATIONS),
        settings=used,
    )
    return Repeated(once, iterations)


def weight_pruning(
    *,
    as_printed: bool = False,
    direction: Direction | None = None,
    contrast: bool | None = None,
    gradient: Gradient | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    tau: float | None = None,
    lower: float = 25.0,
    upper: float = 75.0,
    lam: float = 1.0,
    layers: int | None = None,
    replace: Literal["zero", "noise"] = "zero",
    sigma: float = 1.0,
    epsilon: float = 0.1,
    unit: Unit | None = None,
    alpha_r: float = 0.1,
    steps: int = 188,
    lr: float = 0.05,
    iterations: int = 1,
    exact: bool = False,
) -> Unlearner:
    """Zeroes, shrinks or keeps weights by their importance to the label, then fine-tunes under a clamp.

    Importance is alpha |gradient| + beta/2 curvature w^2 of the forgotten labels' loss. Of the tau percent
    most important weights, those below the lower percentile become 0, those below the upper one shrink by
    exp(-lam importance), the rest is kept and trains at a reduced rate. Algorithm 2 so removes the *least*
    important weights, while the paper's text removes by importance; direction high turns the order round.

    Args:
        as_printed: Algorithm 2 to the letter: direction low, no contrast, mean gradient, absolute epsilon,
            all weights ranked (tau 100).
        direction: Which end is zeroed: low or high. Default: high.
        contrast: Rank against the retained labels' need, which is ours. Default: yes.
        gradient: mean, as printed, or rms. Default: rms.
        alpha: Weight of the gradient, >= 0.
        beta: Weight of the curvature, >= 0.
        tau: Percentage of the weights that is ranked at all, the most important ones, 0 to 100. Default: 10,
            or 100 as printed.
        lower: Percentile up to which weights are zeroed, 0 to 100.
        upper: Percentile up to which weights are shrunk, lower to 100.
        lam: Rate of the shrinking; importance has a mean of 1, >= 0.
        layers: Only the last so many layers before the head; all by default.
        replace: What a removed weight becomes: zero or noise.
        sigma: Standard deviation of the noise in units of the tensor's own, > 0.
        epsilon: How far an edited weight may move in fine-tuning, >= 0; 0 freezes it.
        unit: Of epsilon: std, of the tensor's numbers, or absolute as printed. Default: std.
        alpha_r: Factor on the learning rate of the kept band, 0 to 1.
        steps: Fine-tuning steps, >= 0.
        lr: Peak learning rate, > 0.
        iterations: How often to score, prune and fine-tune, >= 1.
        exact: Per-sample squares one by one instead of by random signs; slow.

    References:
        Hossain et al., ECML PKDD 2025, Algorithms 2 and 3. Differs: see `PruningScore` and `Constrained`.
    """
    used = settled(as_printed, direction=direction, contrast=contrast, gradient=gradient, unit=unit, tau=tau)
    for name, value in (("alpha", alpha), ("beta", beta), ("lam", lam)):
        in_range(name, value, 0)
    if alpha == beta == 0:
        raise OptionError("--alpha and --beta are both 0, so every weight scores 0; give one of them")
    in_range("tau", used["tau"], 0, 100, above=True)
    in_range("lower", lower, 0, 100)
    in_range("upper", upper, lower, 100)
    in_range("sigma", sigma, 0, above=True)
    in_range("alpha_r", alpha_r, 0, 1)
    check_training(layers, epsilon, steps, lr, iterations)
    removed = zero if replace == "zero" else Noise(sigma)
    once = Pipeline(
        score=PruningScore(alpha, beta, used["gradient"], used["contrast"], layers, exact),
        # the middle cut is the paper's tau_m, of which its algorithm makes no use
        select=Percentiles((lower, (lower + upper) / 2, upper), used["direction"], within=used["tau"]),
        edit=(removed, Decay(lam), Decay(lam), keep),
        repair=Constrained(steps, lr, epsilon, used["unit"], clamped=(1, 2, 3), slow=4, slow_rate=alpha_r),
        passes=1.0,
        settings=used,
    )
    return Repeated(once, iterations)


def settled(as_printed: bool, **given: Any) -> dict[str, Any]:
    """The options that the preset decides, unless they are given."""
    preset = PRINTED if as_printed else MEASURED
    return {name: preset[name] if value is None else value for name, value in given.items()}


def check_training(layers: int | None, epsilon: float, steps: int, lr: float, iterations: int) -> None:
    """Refuses values out of range that both methods share."""
    if layers is not None:
        in_range("layers", layers, 1)
    in_range("epsilon", epsilon, 0)
    in_range("steps", steps, 0)
    in_range("lr", lr, 0, 10, above=True)
    in_range("iterations", iterations, 1)
