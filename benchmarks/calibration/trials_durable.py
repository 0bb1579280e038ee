"""How often C4 passes, fails or stays open when it is known what comes back; see `calibration.trials`.

The model tells as much as retrained ones do, before and after every transform, but for one thing: after
storing it in 8 bits its probes tell more, or few annotated images teach it more. Training on with the
retained labels teaches every model some of the label, the retrained ones too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_expit

from calibration.crowd import Crowd
from calibration.planted import LABEL
from calibration.trials import BASE, OPTIONS, SEED_NOISE, scene
from calibration.truth import Floats
from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.attacks.recovery import Recovery
from unlabel.audit.claims.c4_durable import claim_durable
from unlabel.audit.document.results import Verdict
from unlabel.audit.figures import OWN, RETAIN_TUNED, TRANSFORMS, Readings
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.estimate import advantage, auc, bits, mean

TAUGHT = 0.1  # advantage that training on with the retained labels gives to any model
KEPT = 0.97  # correlation of a model's noise before and after a transform
DRAWS = 10
LESS = {64: 0.6, 256: 0.8}  # share of the advantage that a probe on so many images reaches
DRAW_NOISE = 0.05, 0.02  # spread of a draw's advantage: in common to all models, and a model's own


@dataclass(frozen=True)
class Model:
    """One model: its true advantage in the probes and in the other outputs, and its noise in both."""

    probes: float
    others: float
    noise: tuple[Floats, Floats]

    def readings(self, crowd: Crowd, sight: Crowd, more: float, *, taught: float = 0.0) -> Readings:
        """The attacks of C4, the probes `more` and all of them `taught` beyond what the model tells."""
        figures = {OWN.id: advantage(np.zeros(len(crowd.y)), crowd.y, crowd.cluster)}
        for side, own, adv in (
            (crowd, self.noise[0], self.probes + more + taught),
            (sight, self.noise[1], self.others + taught),
        ):
            for name in ("lin", "mlp") if side is crowd else ("lin",):
                odds = side.odds(adv, KEPT * own + np.sqrt(1 - KEPT**2) * side.fresh())
                attack = "probe" if side is crowd else "others"
                figures[f"{attack}.adv.{name}"] = advantage(odds, side.y, side.cluster)
                if side is crowd:
                    told = bits(log_expit(odds), log_expit(-odds), side.y, side.cluster)
                    figures[f"probe.bits.{name}"] = told.at_least(0.0)
        return figures

    def few(self, crowd: Crowd, common: Mapping[int, Floats], more: float) -> dict[int, Relearnt]:
        """Probes on few images, of `more` AUC beyond what the model's own advantage gives."""
        areas_of = {}
        for n, shared in common.items():
            levels = LESS[n] * self.probes + 2 * more + shared + DRAW_NOISE[1] * crowd.rng.normal(size=DRAWS)
            areas = [auc(crowd.odds(level, self.noise[0]), crowd.y, crowd.cluster) for level in levels]
            areas_of[n] = Relearnt(mean(areas), tuple(area.value for area in areas))
        return areas_of


@dataclass(frozen=True)
class Measured:
    """What the audit would measure of one model: as it is, after each transform, and from few images."""

    untouched: Mapping[str, Readings]
    rows: Mapping[str, Mapping[str, Readings]]
    few: dict[int, Relearnt]


def durable_at(
    seed: int,
    *,
    images: int,
    excesses: Sequence[float],
    references: Sequence[int],
    few: bool = False,
    options: AuditOptions = OPTIONS,
) -> dict[tuple[int, float | None], Verdict]:
    """C4 of one draw of images and retrained models, for models of which ever more comes back.

    Args:
        seed: Key of the draw.
        images: In E.
        excesses: What comes back beyond the retrained models: advantage of the probes after storing in 8
            bits or, with `few`, AUC of probes on few images.
        references: Numbers of retrained models to judge against.
        few: What `excesses` are of.
        options: Margins.

    Returns:
        By number of references and excess, the verdict. Excess None is one more retrained model, with its
        own seed noise: anything but PASS is a false alarm.
    """
    crowd, sight = scene(seed, images)
    common = {n: DRAW_NOISE[0] * crowd.rng.normal(size=DRAWS) for n in LESS}

    questions = {LABEL: crowd.question}

    def made(spread: float) -> Model:
        probes, others = BASE + spread * crowd.rng.normal(size=2)
        return Model(probes, others, (crowd.fresh(), sight.fresh()))

    def after(model: Model, more: float = 0.0, *, taught: float = 0.0) -> dict[str, Readings]:
        return {LABEL: model.readings(crowd, sight, more, taught=taught)}

    def measured(model: Model) -> Measured:
        rows = {name: after(model, taught=TAUGHT * (name == RETAIN_TUNED.id)) for name in TRANSFORMS}
        return Measured(after(model), rows, model.few(crowd, common, 0.0))

    judged_against = [measured(made(SEED_NOISE)) for _ in range(max(references))]
    plain, other = made(0.0), measured(made(SEED_NOISE))
    base = measured(plain)
    models: dict[float | None, Measured] = {None: other}
    for excess in excesses:
        models[excess] = (
            replace(base, few=plain.few(crowd, common, excess))
            if few
            else replace(base, rows={**base.rows, "int8": after(plain, excess)})
        )

    def verdict(model: Measured, others: Sequence[Measured]) -> Verdict:
        recovery = Recovery(
            model.rows,
            [item.rows for item in others],
            {LABEL: [item.few for item in (base, model, *others)]},
        )
        retrained = [item.untouched for item in others]
        return claim_durable(recovery, model.untouched, retrained, questions, options)[0].verdict

    return {
        (count, excess): verdict(model, judged_against[:count])
        for count in references
        for excess, model in models.items()
    }
