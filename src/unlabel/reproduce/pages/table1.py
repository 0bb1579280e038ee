"""Table 1: the sweep of epsilon and tau, of both methods as printed."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from unlabel.audit.figures import LINEAR_PROBE, MLP_BITS, UTILITY_AUC_MEAN
from unlabel.reproduce.document import Content, Table
from unlabel.reproduce.numbers import deviation, percent, spread
from unlabel.reproduce.published import published
from unlabel.reproduce.rows import Models, failures, forgotten, original, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import PRINTED_TAU, Setting, wf_ours, wf_printed, wp_ours, wp_printed
from unlabel.reproduce.study import Made, Study

EPSILON = 0.1  # where tau is swept
WF_TAUS, WP_TAUS = (20.0, PRINTED_TAU, 80.0), (25.0, 50.0, 100.0)
EPSILONS = (0.0, 0.01, EPSILON)


def swept(steps: int) -> tuple[Setting, ...]:
    """Both methods with tau at its ends and epsilon at its ends, the other at its middle."""
    settings: dict[str, Setting] = {}
    for make, short, taus, middle in (
        (wf_printed, "WF", WF_TAUS, PRINTED_TAU),
        (wp_printed, "WP", WP_TAUS, WP_TAUS[-1]),
    ):
        points = [(tau, EPSILON) for tau in taus] + [(middle, epsilon) for epsilon in EPSILONS]
        for tau, epsilon in points:
            name = f"{short}, tau {tau:g}, epsilon {epsilon:g}"
            settings[name] = make(steps, tau=tau, epsilon=epsilon, name=name)
    return (*settings.values(), wf_ours(steps), wp_ours(steps))


def studies(scale: Scale) -> list[Study]:
    """Male of the ten labels."""
    return [Study("celeba", "Male", swept(scale.steps))]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    item = made[0]
    quoted = published()["table1"]["said"]
    return Content(
        "Table 1: epsilon and tau",
        [
            f"{quoted[0].upper()}{quoted[1:]}; so its table has no figure that ours could stand beside.",
            "Here tau is a percentage: of the weights that WF resets from the low end, of those that WP ranks"
            " at all; epsilon is in units of the weights, as printed.",
            "One is moved while the other stays, and both methods are as printed; the corrected ones are"
            " below for comparison.",
        ],
        findings(item),
        [
            Table(
                "Sweep, Male forgotten",
                (
                    "setting", "accuracy on E, %", "AUC on E", "row put back", "linear probe", "MLP, bits",
                    "C2", "C5",
                ),
                [_row(models) for models in (original(item), retrained(item), *forgotten(item))],
                "An *advantage* is 0 for a coin and 1 for a perfect attack. Mean and sd over seeds.",
            )
        ],
    )  # fmt: skip


def _row(models: Models) -> list:
    return [
        models.name,
        percent(models.accuracy()),
        spread(models.figure(UTILITY_AUC_MEAN.id), 4),
        spread(models.of_label("put_back", "advantage")) if models.name != "Retrain" else "-",
        spread(models.figure(LINEAR_PROBE.id)),
        spread(models.figure(MLP_BITS.id)),
        models.verdicts("C2"),
        models.verdicts("C5"),
    ]


def findings(made: Made) -> list[str]:
    """What the numbers say, by rules."""
    rows = {models.name: models for models in forgotten(made) if models.records}
    reference = retrained(made)
    aim = reference.mean(reference.figure(LINEAR_PROBE.id))
    sentences = []
    for short, taus, middle in (("WF", WF_TAUS, PRINTED_TAU), ("WP", WP_TAUS, WP_TAUS[-1])):
        along_tau = [rows.get(f"{short}, tau {tau:g}, epsilon {EPSILON:g}") for tau in taus]
        along_epsilon = [rows.get(f"{short}, tau {middle:g}, epsilon {value:g}") for value in EPSILONS]
        for word, ends, models in (
            ("tau", taus, along_tau),
            ("epsilon", EPSILONS, along_epsilon),
        ):
            finished = [item for item in models if item is not None]
            if len(finished) < len(models):
                continue
            probe = [_known(item.figure(LINEAR_PROBE.id)) for item in finished]
            right = [_known(item.accuracy(), 100) for item in finished]
            sentences.append(
                f"{short}, {word} from {ends[0]:g} to {ends[-1]:g}: the linear probe from"
                f" {fmean(probe[0]):.3f} to {fmean(probe[-1]):.3f} ({_trend(probe)}), the retained accuracy"
                f" from {fmean(right[0]):.1f} to {fmean(right[-1]):.1f} % ({_trend(right)})."
            )
    swept_rows = [models for name, models in rows.items() if ", tau" in name]
    best = min(swept_rows, key=lambda models: models.mean(models.figure(LINEAR_PROBE.id)))
    low = best.mean(best.figure(LINEAR_PROBE.id))
    sentences.append(
        f"The lowest probe of the sweep is {low:.3f}, with {best.name}, at"
        f" {100 * best.mean(best.accuracy()):.1f} % retained accuracy; Retrain has {aim:.3f} at"
        f" {100 * reference.mean(reference.accuracy()):.1f} %."
    )
    return [*sentences, *failures(made)]


def _known(values: Sequence[float | None], scale: float = 1.0) -> list[float]:
    return [scale * value for value in values if value is not None]


def _trend(values: Sequence[Sequence[float]]) -> str:
    """Where means over seeds go, if they go further than two deviations of the seeds."""
    means = [fmean(seeds) for seeds in values]
    if max(means) - min(means) <= 2 * max(deviation(seeds) for seeds in values):
        return "no further than seeds do"
    steps = [after - before for before, after in pairwise(means)]
    if all(step > 0 for step in steps):
        return "rising"
    return "falling" if all(step < 0 for step in steps) else "not in one direction"
