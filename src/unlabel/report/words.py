"""What every figure of an audit is, in one sentence each."""

from collections.abc import Mapping

from unlabel.report.tables import Json

# Beginning of a figure's id -> what it is. The longest that fits is taken.
FIGURES: Mapping[str, str] = {
    "own.ppr": "Share of images for which the label's own output says yes (a probability above one half).",
    "own.sadv": "Advantage of the label's own output, with its sign: below 0, it says the opposite.",
    "own.sadv@train": "The same on images that the model was trained on.",
    "own.sadv@restored": "The same after the original's output row is put back on the edited features.",
    "own.adv": "Advantage of the label's own output, in either direction.",
    "own.mi_bits": (
        "Bits in yes-or-no decisions of the own output; threshold and direction from the attackers' images."
    ),
    "others.adv.lin": (
        "Advantage of logistic regression on the other outputs; those of all forgotten labels hidden."
    ),
    "others.adv.gbt": "Advantage of boosted trees on the same outputs.",
    "probe.adv.lin": "Advantage of logistic regression on the last features, or at the stage that is named.",
    "probe.adv.mlp": "Advantage of a small neural network on the last features, mean of its seeds.",
    "probe.bits.lin": (
        "Bits that the linear reader's probabilities tell: entropy of the label less cross-entropy."
    ),
    "probe.bits.mlp": "Bits that the neural reader's probabilities tell.",
    "probe.adv.lsq": "Advantage of least squares on the last features, without a penalty.",
    "own.adv@nudged": "Advantage of the own output on images mirrored, moved by one pixel and relit.",
    "others.adv.gbt@nudged": "Boosted trees on the other outputs, fitted and judged on such images.",
    "probe.adv.lin@nudged": "The linear reader of the features, fitted and judged on such images.",
    "probe.adv.mlp@nudged": "The neural reader of the features, fitted and judged on such images.",
    "others.adv.gbt@train": "Boosted trees on the other outputs, fitted and judged on training images.",
    "probe.adv.lin@train": "The linear reader of the features, fitted and judged on training images.",
    "probe.adv.mlp@train": "The neural reader of the features, fitted and judged on training images.",
    "recover.": (
        "The attack of that name again, after the model was changed; the gain is after less before."
    ),
    "few.auc@": (
        "AUC of a new linear reader fitted to that many annotated images, half of them with the label; "
        "mean of several draws."
    ),
    "tune.auc@": (
        "AUC of the whole model with a new head, trained on that many annotated images, half of them with "
        "the label; best of three learning rates, mean of several draws."
    ),
    "tune.steps@": (
        "Steps of that training until it reached 95 % of what the original's own output is above one half; "
        "missing where it did not."
    ),
    "canary.own.acc": (
        "Share of annotations drawn by a coin that the own output tells right, the original's row put "
        "back where the model lost its own; threshold from other coins."
    ),
    "canary.probe.acc": "The same for a linear reader of the features, fitted to honest annotations.",
    "canary.own.eps_lb": (
        "What that share says of the privacy of a label, at least: log(p / (1 - p)) of its lower bound "
        "p, in nats. An observation on these coins."
    ),
    "canary.probe.eps_lb": "The same for the reader of the features.",
    "mia.label.auc": (
        "How well a new reader's certainty of the true annotation tells training images from others."
    ),
    "mia.sample.auc": "How well the model's own loss on the kept labels tells training images from others.",
    "mia.sample.tpr@1%": (
        "Share of training images told by that loss while 1 % of the others are wrongly told."
    ),
    "paper_aia.outputs": (
        "Balanced share of right yes-or-no guesses of a linear attacker on the other outputs, as papers "
        "print it."
    ),
    "paper_aia.outputs.adv": (
        "Twice its distance from one half: turning the guesses round does not change it."
    ),
    "paper_aia.outputs.bits": "Bits that those guesses tell of a label that half of the images have.",
    "paper_aia.features": "Balanced share of right guesses of a linear attacker on the features.",
    "paper_aia.features.adv": "Twice its distance from one half.",
    "paper_aia.features.bits": "Bits that those guesses tell of a label that half of the images have.",
    "fair.tpr_gap@": (
        "Share of a kept label's images that are called so, among those with the forgotten label, less "
        "the share among those without it."
    ),
    "fair.fpr_gap@": (
        "Share of images without a kept label that are called so, with the forgotten label less without."
    ),
    "fair.auc_gap@": (
        "AUC of a kept label among images with the forgotten label, less the AUC among those without."
    ),
    "dist.js": (
        "How far the kept labels' probabilities are from the retrained models' (Jensen-Shannon "
        "divergence, bits)."
    ),
    "dist.js_ratio": (
        "The same, in units of how far retrained models are from each other: 1 is like one of them."
    ),
    "dist.agree": (
        "Share of images on which no kept label's probability differs by more than 0.05 from the "
        "retrained model that agrees least."
    ),
    "dist.ks.": (
        "Largest difference between the distributions (loss or entropy, training or test images) of this "
        "model and of retrained ones: 0 is the same, 1 is apart."
    ),
    "mdl.compression": (
        "How many times shorter the annotations' code is with the features: 1 saves nothing."
    ),
    "floor.adv": "Advantage of boosted trees on the true answers of the kept labels, with no model at all.",
    "util.auc": "AUC of a kept label's own output.",
    "util.auc.macro": "Mean of that over the kept labels.",
    "util.ap": "Average precision of a kept label: precision averaged over recall.",
    "util.bacc": (
        "Balanced accuracy at one half: mean of the shares of right answers with and without the label."
    ),
    "util.brier": "Mean squared error of a probability: 0 is perfect.",
    "util.ece": (
        "Calibration error: distance of stated probability and true share, over 15 bins of equal mass."
    ),
    "util.ece.macro": "Mean of that over the kept labels.",
}


def definition(id_: str) -> str:
    """What a figure is; empty for one that no version of this page knows.

    >>> definition("few.auc@64").split(";")[0][:36]
    'AUC of a new linear reader fitted to'
    >>> definition("own.sadv@train"), definition("zzz")
    ('The same on images that the model was trained on.', '')
    """
    fits = [start for start in FIGURES if id_ == start or (start[-1] in "@." and id_.startswith(start))]
    return FIGURES[max(fits, key=len)] if fits else ""


def defined(audit: Json) -> list[tuple[str, str]]:
    """Every kind of figure in an audit with its definition, in the order of `FIGURES`, unknown ones last."""
    ids = dict.fromkeys(m["id"] for m in audit["metrics"])
    kinds: dict[str, str] = {}
    for id_ in ids:
        fits = [start for start in FIGURES if id_ == start or (start[-1] in "@." and id_.startswith(start))]
        kinds[max(fits, key=len) if fits else id_] = definition(id_)
    order = list(FIGURES)
    return sorted(
        ((f"{id_}…" if id_[-1] in "@." else id_, text) for id_, text in kinds.items()),
        key=lambda pair: order.index(pair[0].rstrip("…")) if pair[0].rstrip("…") in FIGURES else len(order),
    )
