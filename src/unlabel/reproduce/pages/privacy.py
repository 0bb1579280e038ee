"""Attribute inference as in the paper, in the right units, and membership of labels and of images."""

from collections.abc import Mapping, Sequence

from unlabel.audit.attacks.attribute_inference import balanced_bits
from unlabel.reproduce.document import Content, Table
from unlabel.reproduce.numbers import Entry, deviation, percent, spread
from unlabel.reproduce.pages.table2 import studies as table2_studies
from unlabel.reproduce.published import published, shown
from unlabel.reproduce.rows import Models, every, failures, forgotten, listed, original, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.study import Made, Study

PRINTED_WP = "WP as printed"  # a setting of table 2
TOLD = 0.55  # success p from which a sentence says that a label is given away
VIEWS = (("outputs", "other outputs"), ("features", "features"))


def studies(scale: Scale) -> list[Study]:
    """The models of table 2, on the first network."""
    return table2_studies(scale)[:1]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    item = made[0]
    figures = published()["privacy"]
    return Content(
        "Privacy: attribute inference and membership",
        [
            "The paper's attack guesses the forgotten label from what the model still says; its success p"
            " is the balanced accuracy on held-out images.",
            "The attacker here is a logistic regression; it, its cut and its direction are chosen on P,"
            " and everything is measured on E.",
        ],
        findings(item),
        [
            Table(
                "Attribute inference",
                (
                    "model",
                    *(f"{word}: {what}" for _, word in VIEWS for what in ("p, %", "abs(2p-1)", "bits")),
                    "paper's p, %",
                ),
                [inference_row(models) for models in every(item)],
                "p is balanced accuracy: 50 % is a coin, and a p below it is turned round by who sees it, so"
                " abs(2p - 1) is what counts. Bits are what these yes-or-no guesses tell of a label that half"
                " of the images have: what this attack *proves* to be leaked, at least. Mean and sd over"
                f" seeds; half of a 95 % interval over images is about {_half(item):.3f} on abs(2p - 1).",
            ),
            Table(
                "What the printed success rates mean",
                ("success p, %", "printed for", "abs(2p-1)", "1 - h(p), bits", "bits as printed"),
                printed_rows(),
                "By Fano's inequality an attack that succeeds with p on balanced classes proves a leak of *at"
                " least* 1 - h(p) bits; the paper reads it as at most, and prints other values.",
            ),
            Table(
                "Membership",
                ("model", "label level, AUC", "image level, AUC"),
                [membership_row(models) for models in every(item)],
                "AUC of telling training images from unseen ones: 0.5 is a coin. Label level: by the loss"
                " of a linear probe of the forgotten label, fitted on P for every model alike (Retrain has"
                " no output for it). Image level: by the loss of the retained labels. What is above Retrain"
                " was left by training on the label.",
            ),
        ],
        extra={"baselines": figures["success"]["baselines"]},
    )


def inference_row(models: Models) -> list[Entry]:
    """Both attacks on one model."""
    fields: list[Entry] = [models.name]
    for view, _ in VIEWS:
        fields += [
            percent(models.of_label("inference", view, "p")),
            spread(models.of_label("inference", view, "advantage")),
            spread(models.of_label("inference", view, "bits")),
        ]
    success = published()["privacy"]["success"]
    if models.paper in success:
        return [*fields, shown(success[models.paper])]
    return [*fields, f"{shown(success['baselines'], 0)} (baselines)" if models.paper else "-"]


def printed_rows() -> list[list[Entry]]:
    """The paper's p, with what it is worth."""
    figures = published()["privacy"]
    rows: list[list[Entry]] = []
    for name, p in figures["success"].items():
        for value in p if isinstance(p, list) else [p]:
            share = value / 100
            bits = balanced_bits(share, 1 - share)
            rows.append(
                [
                    shown(value),
                    name,
                    spread([abs(2 * share - 1)]),
                    spread([bits], 4),
                    shown(figures["bits_printed"].get(name), 3),
                ]
            )
    return rows


def membership_row(models: Models) -> list[Entry]:
    """Both games on one model."""
    images = [record["also"]["membership"]["value"] for record in models.records]
    return [models.name, spread(models.of_label("membership", "value")), spread(images)]


def findings(made: Made) -> list[str]:
    """What the numbers say, by rules."""
    first, reference, methods = original(made), retrained(made), [m for m in forgotten(made) if m.records]
    sentences = []
    for view, word in VIEWS:
        path = ("inference", view, "advantage")
        base, level = reference.mean(reference.of_label(*path)), first.mean(first.of_label(*path))
        spread_of = deviation(reference.of_label(*path))
        over = [m.name for m in methods if m.mean(m.of_label(*path)) > base + 2 * spread_of]
        under = [m.name for m in methods if m.mean(m.of_label(*path)) < base - 2 * spread_of]
        sentences.append(
            f"From the {word} the attacker reaches abs(2p - 1) = {level:.3f} on the original and {base:.3f}"
            f" (sd {spread_of:.3f}) on Retrain: {'not at chance, ' if base > 0.1 else ''}and that, not 0,"
            f" is what forgetting can reach. More than two deviations above Retrain: {listed(over)}; below:"
            f" {listed(under)}."
        )
    p = {m.name: m.mean(m.of_label("inference", "outputs", "p")) for m in methods}
    aim = reference.mean(reference.of_label("inference", "outputs", "p"))
    sentences.append(beside_the_paper(p, aim))
    label = ("membership", "value")
    base, noise = reference.mean(reference.of_label(*label)), deviation(reference.of_label(*label))
    remembered = [m.name for m in methods if m.mean(m.of_label(*label)) > base + max(2 * noise, 0.02)]
    sentences.append(
        f"Label-level membership is {first.mean(first.of_label(*label)):.3f} on the original and {base:.3f}"
        f" on Retrain; above Retrain by more than two deviations and .02: {listed(remembered)}."
    )
    return [*sentences, *failures(made)]


def beside_the_paper(found: Mapping[str, float], aim: float) -> str:
    """The paper's success rates beside ours.

    Args:
        found: The attack's success p on each method that came to an end.
        aim: The same on Retrain.
    """
    printed = published()["privacy"]["success"]
    paper = f"The paper reports {printed['WP']:.0f} % for WP and {printed['Retrain']} % for Retrain; here"
    if PRINTED_WP not in found:
        return f"{paper} {PRINTED_WP} failed in every seed, and Retrain leaves {100 * aim:.1f} %."
    told = min(aim, found[PRINTED_WP]) > TOLD
    both = ", since the retained labels give the forgotten one away in both." if told else "."
    return f"{paper} {PRINTED_WP} leaves {100 * found[PRINTED_WP]:.1f} % and Retrain {100 * aim:.1f} %{both}"


def _half(made: Made) -> float:
    """Half of the widest interval of the original's and Retrain's attacks."""
    halves = []
    for record in (made.original, *made.retrained):
        low, high = record["also"]["labels"][made.study.label]["inference"]["features"]["advantage_ci"]
        halves.append((high - low) / 2)
    return max(halves)
