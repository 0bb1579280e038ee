"""What was reported beside C4 if it was asked for: attackers, an attack curve, positions, predictions, and
a handful of images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unlabel.audit.document.stages import is_stage
from unlabel.audit.document.typed import AttackCurve, ByRole, DepthScore, Document, Needed, Noted, Worst
from unlabel.audit.figures import (
    ALL_STAGES,
    ALL_STAGES_MLP,
    CLUSTERS,
    GRID_PROBE,
    NEAREST_MEAN,
    STAGE_MLP,
    STITCHED_OUTPUT,
    TANGENT_AUC,
    TANGENT_SHARE,
    TRIED_BY,
    TRIED_BY_BEST,
)
from unlabel.audit.inputs.attackers import ADAM, ATTACKERS
from unlabel.core.wording import joined
from unlabel.report.charts import Axis, axis
from unlabel.report.formatting import count, number
from unlabel.report.sections.full_budget import spoken
from unlabel.report.tables import Row, row


@dataclass(frozen=True)
class Tried:
    """One attack that decides nothing: its name, its figures, and how far they exceed retrained models."""

    title: str
    row: Row
    noted: Noted


def attackers(audit: Document, label: str) -> list[Tried]:
    """Every attacker and number of images, in the registry's order."""
    noted = audit.claims["C4"].notes.attackers.get(label, {})
    families = {**TRIED_BY, "best": TRIED_BY_BEST}
    sizes = sorted({int(n) for by_size in noted.values() for n in by_size if n.isdigit()})
    return [
        Tried(family.name.format(count(n)), found, noted[name][str(n)])
        for n in sizes
        for name, family in families.items()
        if str(n) in noted.get(name, {}) and (found := row(audit, family.of(n), label)) is not None
    ]


def worst(audit: Document, label: str) -> Worst | None:
    """The attacker whose bound is highest; None without retrained models."""
    return audit.claims["C4"].notes.worst_attacker.get(label)


def title_of(attacker: str) -> str:
    """An attacker's heading; its name where this version does not know it."""
    entry = ADAM if attacker == ADAM.name else ATTACKERS.get(attacker)
    return entry.title if entry else attacker


def depth(audit: Document, label: str) -> list[Tried]:
    """Probes that see positions or several stages, by figure and stage."""
    noted = audit.claims["C4"].notes.depth.get(label, {})
    tried = []
    for figure in (GRID_PROBE, STAGE_MLP, ALL_STAGES, ALL_STAGES_MLP, STITCHED_OUTPUT):
        layers = sorted({m.layer for m in audit.metrics if (m.id, m.label) == (figure.id, label)}, key=str)
        for layer in layers:
            item = row(audit, figure.id, label, layer)
            title = figure.name if layer is None else f"{spoken(layer)}: {figure.name.lower()}"
            if item is not None:
                tried.append(Tried(title, item, noted.get(figure.id, {}).get(layer or "all") or Noted()))
    return tried


def foretold(audit: Document, label: str) -> list[Tried]:
    """What training the whole model is predicted to find, and in which stages, by number of images."""
    noted = audit.claims["C4"].notes.tangent.get(label, {})
    rows = [m for m in audit.metrics if m.label == label and m.id.startswith(TANGENT_AUC.id)]
    tried = []
    for n in sorted({TANGENT_AUC.member(m.id) for m in rows}, key=lambda n: (len(n), n)):
        if (item := row(audit, TANGENT_AUC.of(n), label)) is not None:
            tried.append(Tried(TANGENT_AUC.name.format(n), item, noted.get(n) or Noted()))
        share = TANGENT_SHARE.of(n)
        for layer in dict.fromkeys(m.layer for m in audit.metrics if (m.id, m.label) == (share, label)):
            if (item := row(audit, share, label, layer)) is not None:
                where = spoken(layer or "") if is_stage(layer) else (layer or "").capitalize()
                tried.append(Tried(f"{where}: part of the step", item, Noted()))
    return tried


def handful(audit: Document, label: str) -> list[Tried]:
    """What means and clusters of a handful of annotated images tell, by number of images."""
    noted = audit.claims["C4"].notes.prototypes.get(label, {})
    tried = []
    for family in (NEAREST_MEAN, CLUSTERS):
        rows = [m for m in audit.metrics if m.label == label and m.id.startswith(family.id)]
        sizes = sorted({family.member(m.id) for m in rows}, key=lambda n: (len(n), n))
        by_size = noted.get(family.id.removesuffix("@"), {})
        tried += [
            Tried(family.name.format(n), item, by_size.get(n) or Noted())
            for n in sizes
            if (item := row(audit, family.of(n), label, family.layer)) is not None
        ]
    return tried


@dataclass(frozen=True)
class Plane:
    """AUC by number of images, or by steps, of the original, this model and the mean of retrained ones."""

    said: str
    unit: str
    scale: Axis
    columns: Sequence[tuple[float, str]]
    series: dict[str, list[tuple[float, float, str]]]

    @property
    def levels(self) -> list[tuple[float, str]]:
        """Where each round AUC stands, in percent from the top."""
        return [(round(100 - at, 2), text) for at, text in self.scale.ticks]


def curve(audit: Document, label: str) -> AttackCurve | None:
    """The attack curve of a label; None where it was not measured."""
    return audit.claims["C4"].notes.attack_curve.get(label)


def planes(audit: Document, label: str) -> Iterator[Plane]:
    """The curve by images, and by steps at the largest number of images that was attacked twice or more."""
    measured = curve(audit, label)
    if measured is None or not measured.images:
        return
    title = f"AUC of {label} after training the whole model"
    yield _plane(f"{title}, by annotated images", "annotated images", measured.images, measured.auc)
    size = str(min(measured.images, key=lambda n: abs(n - 256)))
    if size in measured.looks:
        unit = f"steps, on {count(int(size))} annotated images; AUC on images held back"
        yield _plane(f"{title}, by steps", unit, measured.steps, measured.looks[size])


def _plane(said: str, unit: str, at: Sequence[int], by_role: ByRole) -> Plane:
    others = [list(one) for one in by_role.references]
    lines = {"before": list(by_role.before), "after": list(by_role.after)}
    if others:
        lines["retrained"] = [sum(each) / len(each) for each in zip(*others, strict=False)]
    values = [value for line in lines.values() for value in line]
    scale = axis(min([0.5, *values]), max([0.6, *values]))
    places = [round(100 * (k + 0.5) / len(at), 2) for k in range(len(at))]
    series = {
        side: [
            (x, round(100 - scale.at(value), 2), f"{side}, {count(n)}: {number(value)}")
            for x, n, value in zip(places, at, line, strict=False)
        ]
        for side, line in lines.items()
    }
    return Plane(said, unit, scale, list(zip(places, map(count, at), strict=True)), series)


def depth_score(audit: Document, label: str) -> DepthScore | None:
    """How much is gone of what the original reads from its stages; None where that was not measured."""
    return audit.claims["C4"].notes.depth_score.get(label)


def needed(audit: Document, label: str) -> list[Needed]:
    """How many annotated images reach an AUC, here and on retrained models."""
    measured = curve(audit, label)
    return list(measured.needed) if measured else []


def sentences(audit: Document, label: str) -> Iterator[str]:
    """The attacker with the highest bound, and the ratio of annotations, a sentence each."""
    if (most := worst(audit, label)) is not None:
        yield (
            f"Of {most.chosen_of} attackers, the one with the highest bound ({title_of(most.attacker)},"
            f" {count(most.images)} images) finds {number(most.excess, signed=True)} AUC more than on"
            f" retrained models, at most {number(most.upper, signed=True)}. The bound pays for the choice."
        )
    if (score := depth_score(audit, label)) is not None:
        stages = [f"{number(share)} at {spoken(stage).lower()}" for stage, share in score.stages.items()]
        yield (
            f"Of what the original reads of {label} from its own stages and not from a retrained model's,"
            f" {number(score.score)} is gone: {joined(stages)}. At 0 all is there; at 1, as in a retrained"
            " model."
        )
    if ratios := needed(audit, label):
        least = min(ratios, key=lambda item: item.ratio)
        yield (
            f"Retrained models reach an AUC of {number(least.auc)} from about"
            f" {count(round(least.retrained))} annotated images, this model from about"
            f" {count(round(least.after))}: {number(least.ratio)} times as many."
        )
