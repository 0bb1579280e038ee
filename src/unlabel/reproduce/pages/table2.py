"""Table 2: utility and forgetting of every method on the multi-label task; Gender is forgotten."""

from collections.abc import Sequence

from unlabel.audit.figures import LINEAR_PROBE, MLP_BITS, OTHERS_LINEAR, UTILITY_AUC_MEAN
from unlabel.data.splits import TRAIN_SET
from unlabel.reproduce.document import Content, Table
from unlabel.reproduce.numbers import Entry, deviation, percent, spread, whole
from unlabel.reproduce.published import published, shown
from unlabel.reproduce.rows import Models, every, failures, forgotten, listed, original, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import OWN_BUDGET, baselines, confusion, deep_probes, newer, paper_methods
from unlabel.reproduce.study import Made, Study

MARGIN = 0.10  # of C2, on an advantage
LOSS = 0.01  # of C5, on the mean AUC
RANK = UTILITY_AUC_MEAN.id


def studies(scale: Scale) -> list[Study]:
    """Male of the ten labels, all methods, on every network of the scale."""
    methods = (
        *paper_methods(scale.steps),
        *baselines(scale.steps),
        *newer(scale.steps),
        confusion(scale.steps),
        deep_probes(scale.auto),
    )
    return [Study("celeba", "Male", methods, network) for network in range(len(scale.networks))]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    tables = [table(item, scale) for item in made]
    return Content(
        "Table 2: every method, multi-label",
        [
            "The label Male (the paper's Gender) is forgotten by every method, and the rest is compared with"
            " models retrained without it.",
            OWN_BUDGET,
            "Accuracy is the mean over the nine retained labels at a threshold of one half.",
        ],
        findings(made[0]),
        tables,
    )


def table(made: Made, scale: Scale) -> Table:
    """One network's rows."""
    columns = (
        "model", "accuracy train, %", "P, %", "E, %", "AUC on E", "own output, %", "row put back",
        "others, linear", "linear probe", "MLP, bits", "C2", "C5", "steps", "x fewer images",
        "paper's accuracy, %",
    )  # fmt: skip
    retrain = retrained(made).mean(retrained(made).cost("images_processed"))
    return Table(
        f"{scale.networks[made.study.network][0]}, {made.study.label} forgotten",
        columns,
        [
            [*["one answer for everybody", "-", "-"], percent([original(made).constant()]), *["-"] * 11],
            *(row(models, retrain) for models in every(made)),
        ],
        "An *advantage* is 0 for a coin and 1 for a perfect attack: the original's output row put back on the"
        " model's features, a linear probe of the other outputs, a linear probe of the features. sd is over"
        " seeds. C2 (no attack learns more than from Retrain) and C5 (the rest works as well) are the audit's"
        " verdicts. *own output* is the accuracy of the model's output for the forgotten label, which is"
        " one constant in every row but the original's: one answer for everybody is right for"
        f" {_guess(made):.1f} %.",
    )


def row(models: Models, retrain_images: float) -> list[Entry]:
    """One model's fields."""
    images = models.mean(models.cost("images_processed")) if models.records else 0
    published_accuracy = published()["table2"]["retained_accuracy_test"]
    return [
        models.name,
        percent(models.accuracy(TRAIN_SET)),
        percent(models.accuracy("P")),
        percent(models.accuracy("E")),
        spread(models.figure(UTILITY_AUC_MEAN.id), 4),
        percent(models.of_label("own", "accuracy")),
        spread(models.of_label("put_back", "advantage")) if models.name != "Retrain" else "-",
        spread(models.figure(OTHERS_LINEAR.id)),
        spread(models.figure(LINEAR_PROBE.id)),
        spread(models.figure(MLP_BITS.id)),
        models.verdicts("C2"),
        models.verdicts("C5"),
        whole(models.cost("steps")),
        spread([retrain_images / images], 1) if images and models.name != "original" else "-",
        shown(published_accuracy.get(models.paper)) if models.paper else "-",
    ]


def findings(made: Made) -> list[str]:
    """What the numbers say, by rules."""
    first, reference, methods = original(made), retrained(made), [m for m in forgotten(made) if m.records]
    base, guess = reference.mean(reference.accuracy()), 100 * first.constant()
    noise, doubt = deviation(reference.accuracy()), deviation(reference.figure(LINEAR_PROBE.id))
    above = [m.name for m in methods if m.mean(m.accuracy()) > base + 2 * noise]
    below = [m.name for m in methods if m.mean(m.accuracy()) < base - 2 * noise]
    probe = reference.mean(reference.figure(LINEAR_PROBE.id))
    in_original = first.mean(first.figure(LINEAR_PROBE.id))
    near = [m for m in methods if m.mean(m.figure(LINEAR_PROBE.id)) <= probe + MARGIN]
    rank = reference.mean(reference.figure(RANK))
    useful = [m.name for m in near if m.mean(m.figure(RANK)) >= rank - LOSS]
    passing = [m.name for m in methods if m.passes("C2") == len(m.records)]
    both = [m.name for m in methods if m.passes("C2") == m.passes("C5") == len(m.records)]
    printed = published()["table2"]["retained_accuracy_test"]
    sentences = [
        f"Retrain keeps {100 * base:.1f} % (sd {100 * noise:.1f}) of the retained answers right, where one"
        f" answer for everybody would have {guess:.1f} %; more than two deviations above it: {listed(above)};"
        f" below: {listed(below)}.",
        f"The paper prints WP {printed['WP']} and WF {printed['WF']} above its Retrain's"
        f" {printed['Retrain']}: " + ordering(methods, base, noise),
        f"A linear probe reads {made.study.label} from the original at {in_original:.3f} and from Retrain at"
        f" {probe:.3f} (sd {doubt:.3f}), the aim. Within {MARGIN:.2f} of it, on average:"
        f" {listed([m.name for m in near])}; of these, mean AUC of the others no more than {LOSS:.2f} below"
        f" Retrain's: {listed(useful)}.",
        f"C2 passes with every seed for {listed(passing)}, C2 and C5 together for {listed(both)}."
        + (
            f" Retrains differ by more (sd {doubt:.3f}) than half of C2's margin of {MARGIN:.2f}, so three of"
            " them decide little: more Retrains, or longer ones, would be needed."
            if doubt > MARGIN / 2
            else ""
        ),
    ]
    removal = next((m for m in methods if m.name == "head removal"), None)
    if removal is not None:
        same = abs(removal.mean(removal.figure(LINEAR_PROBE.id)) - in_original) < 1e-6
        sentences.append(
            "Removing the output row alone silences the output as every method does, and"
            + (" leaves the features exactly as they were." if same else " changes the probe.")
        )
    return [*sentences, *failures(made)]


def _guess(made: Made) -> float:
    return 100 * made.original["also"]["labels"][made.study.label]["own"]["constant"]


def ordering(methods: Sequence[Models], base: float, noise: float) -> str:
    """Whether the paper's two methods as printed end above Retrain here, by more than its own spread."""
    values = []
    for models in methods:
        if models.name in ("WF as printed", "WP as printed"):
            value = models.mean(models.accuracy())
            apart = "above" if value > base else "below"
            where = f"{apart} Retrain" if abs(value - base) > 2 * noise else "within Retrain's own spread"
            values.append(f"{models.name} comes to {100 * value:.1f} %, {where}")
    return f"here {listed(values)}."
