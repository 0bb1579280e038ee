"""How often the audit's own rules pass, fail or stay open when the truth is known.

Two kinds of trial. `estimate` runs the audit's real attacks on a planted world. The others draw what the
attacks *would* score, and give those scores to the audit's real claims: thousands of audits in a minute, so
that a rate of one in twenty can be seen::

    estimate(plant("xor", 0.5), columns(0.6), images=1500, seed=0, options=...)
    equivalent(seed, images=1500, excesses=(0.0, 0.1), references=(3, 5))      C2
    disabled_at(seed, ...)   erased_at(seed, ...)   useful_at(seed, ...)       C1, C3, C5
    fair_at(seed, ...)                                                         unfair references
    errors(seed, images=1500, adv=0.5)                                         standard errors

A retrained model's advantage spreads by 0.02 over seeds in the probes and, apart from that, in the other
outputs; its bits by what that makes of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_expit

from calibration.crowd import Crowd, readings
from calibration.planted import LABEL, PER_PERSON, Plant, draw, plant
from calibration.truth import Columns
from unlabel.audit.attacks.outputs import OwnOutput, floor, read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.utility import Utility
from unlabel.audit.claims.c1_disabled import disabled
from unlabel.audit.claims.c2_retrain_equivalent import claim_equivalent
from unlabel.audit.claims.c3_erased import claim_erased
from unlabel.audit.claims.c5_useful import claim_useful
from unlabel.audit.claims.fair_references import standings
from unlabel.audit.document.results import Verdict
from unlabel.audit.figures import FLOOR, UTILITY_AUC, UTILITY_CALIBRATION, Readings
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question, ask
from unlabel.statistics.estimate import Estimate, advantage, auc, bits, calibration_error

SEED_NOISE = 0.02  # spread of a retrained model's advantage over seeds
BASE = 0.4  # advantage that attacks have on retrained models
ORIGINAL = 0.95  # and on the original
TRAIN = 5000  # images in T_in, as in an audit
KEPT, KEPT_ADV = 8, 0.7  # retained labels of C5's trials and how well retrained models rank them
KEPT_NOISE = 0.004  # spread of their AUC over seeds, a label
SMALL_NOISE = 0.010  # spread of their mean AUC over seeds, the largest measured: 4,000 faces (faces.md)
HONEST = 0.007  # mean AUC by which honest retrained models lay below the original there, the most measured
OPTIONS = AuditOptions()


def estimate(
    held: Plant, columns: Columns, *, images: int, seed: int, options: AuditOptions
) -> dict[str, Estimate]:
    """The audit's attacks on a planted model, each fitted on its own draw of P and scored on its own E.

    Args:
        held: What the features hold.
        columns: What the other outputs hold.
        images: In P and in E.
        seed: Key of the draw.
        options: The audit's sizes.

    Returns:
        Every attack but the own output, which is absent, and ``floor.adv``.
    """
    world = draw(held, columns, images=images, seed=seed)
    question, model = ask(LABEL, *world.splits), world.model("after", network=seed)
    probe, test, _ = world.splits
    return {
        **read_features(model.probe, model.test, question, options),
        **read_others(model, (question.column,), question, options),
        FLOOR.id: floor(probe.target[:, 1:], test.target[:, 1:], question, options),
    }


def scene(seed: int, images: int) -> tuple[Crowd, Crowd]:
    crowd = Crowd.draw(np.random.default_rng((seed, images)), images)
    return crowd, Crowd(crowd.y, crowd.cluster, crowd.fresh(), crowd.rng)


def equivalent(
    seed: int,
    *,
    images: int,
    excesses: Sequence[float],
    references: Sequence[int],
    options: AuditOptions = OPTIONS,
) -> dict[tuple[int, float | None], Verdict]:
    """C2 of one draw of images and retrained models, for models that know ever more.

    Args:
        seed: Key of the draw.
        images: In E.
        excesses: True advantage of the probes above the retrained models' expectation; the other outputs
            tell as much as those of a retrained model: one weak spot is the hardest to see.
        references: Numbers of retrained models to judge against.
        options: Margins.

    Returns:
        By number of references and excess, the verdict. Excess None is one more retrained model, with its
        own seed noise: anything but PASS is a false alarm.
    """
    crowd, sight = scene(seed, images)

    def retrained() -> Readings:
        probes, others = BASE + SEED_NOISE * crowd.rng.normal(size=2)
        return readings(crowd, sight, probes, others)

    judged_against = [retrained() for _ in range(max(references))]
    original = readings(crowd, sight, ORIGINAL, ORIGINAL)
    models: dict[float | None, Readings] = {None: retrained()}
    models |= {excess: readings(crowd, sight, BASE + excess, BASE) for excess in excesses}
    questions = {LABEL: crowd.question}

    def verdict(model: Readings, count: int) -> Verdict:
        others = [{LABEL: item} for item in judged_against[:count]]
        before = {LABEL: original}, {LABEL: ORIGINAL}
        return claim_equivalent({LABEL: model}, others, *before, questions, options)[0].verdict

    return {
        (count, excess): verdict(model, count) for count in references for excess, model in models.items()
    }


def disabled_at(
    seed: int, *, images: int, leaks: Sequence[float], options: AuditOptions = OPTIONS
) -> dict[float, Verdict]:
    """C1 of outputs with these true advantages on E, and none on 5,000 training images."""
    crowd, train = (
        Crowd.draw(np.random.default_rng((seed, part, size)), size)
        for part, size in enumerate((images, TRAIN))
    )
    q = crowd.question
    question = Question(LABEL, 0, q.probe, q.test, train.y, q.probe_cluster, q.test_cluster, train.cluster)
    verdicts: dict[float, Verdict] = {}
    for leak in leaks:
        on_test = crowd.odds(max(leak, 1e-3), crowd.fresh())
        verdicts[leak] = disabled(OwnOutput(on_test, on_test, train.fresh()), question, options)
    return verdicts


def erased_at(
    seed: int, *, images: int, leaks: Sequence[float], options: AuditOptions = OPTIONS
) -> dict[float, Verdict]:
    """C3 of models whose probes have these true advantages, and whose outputs tell nothing."""
    crowd, sight = scene(seed, images)
    questions = {LABEL: crowd.question}
    return {
        leak: claim_erased({LABEL: readings(crowd, sight, leak, 0.0)}, (), None, questions, options).verdict
        for leak in leaks
    }


def useful_at(
    seed: int,
    *,
    images: int,
    losses: Sequence[float],
    references: Sequence[int],
    options: AuditOptions = OPTIONS,
) -> dict[tuple[int, float | None], Verdict]:
    """C5 of models whose retained labels all lost this much AUC; loss None is one more retrained model."""
    first = Crowd.draw(np.random.default_rng((seed, images, 5)), images)
    labels = {f"label {k}": first.another() for k in range(KEPT)}
    names = tuple(labels)
    utilities = [_utility(labels, 0.0, KEPT_NOISE) for _ in range(max(references))]
    models: dict[float | None, Utility] = {None: _utility(labels, 0.0, KEPT_NOISE)}
    models |= {loss: _utility(labels, loss, 0.0) for loss in losses}
    return {
        (count, loss): claim_useful(model, utilities[0], utilities[:count], names, options).verdict
        for count in references
        for loss, model in models.items()
    }


def _utility(labels: Mapping[str, Crowd], loss: float, noise: float) -> Utility:
    """A model whose retained labels all lost this much AUC, each with some noise of its own."""
    rows: dict[str, dict[str, Estimate]] = {}
    for name, crowd in labels.items():
        adv = KEPT_ADV + 2 * (noise * crowd.rng.normal() - loss)
        odds = crowd.odds(adv, crowd.fresh())
        rows[name] = {
            UTILITY_AUC.id: auc(odds, crowd.y, crowd.cluster),
            UTILITY_CALIBRATION.id: calibration_error(odds, crowd.y, crowd.cluster),
        }
    return Utility(rows, steady=tuple(rows))


def fair_at(
    seed: int,
    *,
    images: int,
    losses: Sequence[float],
    noise: float = SMALL_NOISE,
    options: AuditOptions = OPTIONS,
) -> dict[float, bool]:
    """Whether references are found fair that lose this much mean AUC to the original, before seed noise.

    Args:
        seed: Key of the draw.
        images: In E.
        losses: True losses; `HONEST` is what retraining without the label costs by itself.
        noise: Spread of the mean AUC over trainings, of which the original and each reference are one.
        options: Level and margin.
    """
    first = Crowd.draw(np.random.default_rng((seed, images, 7)), images)
    labels = {f"label {k}": first.another() for k in range(KEPT)}

    def trained(loss: float) -> Utility:
        return _utility(labels, loss + noise * first.rng.normal(), KEPT_NOISE)

    original, models = trained(0.0), [trained(loss) for loss in losses]
    checked = standings(original, models, [f"loss {loss:g}" for loss in losses], options)
    return {loss: item.fair for loss, item in zip(losses, checked, strict=True)}


@dataclass(frozen=True)
class Errors:
    """One figure of one draw and four ideas of its error.

    Args:
        value: The figure.
        covered: Whether its 95 % interval holds the truth.
        clustered: The audit's standard error.
        naive: What it would be if every image were a person.
        bootstrap: Spread over resamples of whole people; None where not asked for.
    """

    value: float
    covered: bool
    clustered: float
    naive: float
    bootstrap: float | None


def errors(seed: int, *, images: int, adv: float, resamples: int = 0) -> dict[str, Errors]:
    """Errors of advantage and bits of a score whose truth is known, with two images a person.

    Args:
        seed: Key of the draw.
        images: In E.
        adv: True advantage of the score, above 0.
        resamples: Resamples of the bootstrap over people; 0: none.
    """
    crowd = Crowd.draw(np.random.default_rng((seed, images, 3)), images)
    odds, truth = crowd.odds(adv, crowd.fresh()), plant("line", adv).best
    people = np.arange(images).reshape(-1, PER_PERSON)
    draws = crowd.rng.integers(0, len(people), (resamples, len(people)))
    figures: dict[str, tuple[float, Callable[..., Estimate]]] = {
        "adv": (truth.adv, advantage),
        "bits": (truth.bits, lambda odds, y, who: bits(log_expit(odds), log_expit(-odds), y, who)),
    }
    by_figure: dict[str, Errors] = {}
    for name, (true, figure) in figures.items():
        item = figure(odds, crowd.y, crowd.cluster)
        again = [
            figure(odds[rows], crowd.y[rows], crowd.cluster[rows]).value
            for rows in (people[draw].ravel() for draw in draws)
        ]
        low, high = item.interval()
        naive = replace(item, cluster=np.arange(images)).se
        spread = float(np.std(again, ddof=1)) if again else None
        by_figure[name] = Errors(item.value, low <= true <= high, item.se, naive, spread)
    return by_figure
