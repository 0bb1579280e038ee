"""The figures of an audit."""

from collections.abc import Mapping

from unlabel.models.features import PENULTIMATE
from unlabel.statistics.estimate import Estimate

Readings = Mapping[str, Estimate]  # attack -> how well it does on one model and label


OUTPUT_ATTACKS = ("own.adv", "others.adv.lin", "others.adv.gbt")


FEATURE_ATTACKS = ("probe.adv.lin", "probe.adv.mlp", "probe.bits.lin", "probe.bits.mlp")


ATTACKS = (*OUTPUT_ATTACKS, *FEATURE_ATTACKS)


IN_WORDS = {
    "own.adv": "the label's own output",
    "others.adv.lin": "a linear attack on the other outputs",
    "others.adv.gbt": "boosted trees on the other outputs",
    "probe.adv.lin": "a linear probe on the features",
    "probe.adv.mlp": "a small neural probe on the features",
    "probe.bits.lin": "a linear probe on the features",
    "probe.bits.mlp": "a small neural probe on the features",
    "mia.label.auc": "a probe's certainty of training annotations",
}


def layer_of(figure: str) -> str | None:
    """Where a figure is read: features for probes, None for outputs."""
    inner = ("probe.", "few.", "recover.probe.", "mia.label.")
    return PENULTIMATE if figure.startswith(inner) else None


def unit_of(figure: str) -> str:
    """Unit of an attack's figure."""
    if ".auc" in figure:
        return "auc"
    return "bits" if "bits" in figure else "adv"
