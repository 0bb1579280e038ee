"""Table 4: one label forgotten at a time, and the "accuracy" of the forgotten label confronted."""

from collections.abc import Sequence

from unlabel.audit.figures import LINEAR_PROBE, UTILITY_AUC_MEAN
from unlabel.reproduce.document import Content, Table
from unlabel.reproduce.numbers import Entry, between, percent, spread
from unlabel.reproduce.published import published, shown
from unlabel.reproduce.rows import Models, every, failures, forgotten, listed, original, retrained
from unlabel.reproduce.scale import TEN, Scale
from unlabel.reproduce.settings import paper_methods
from unlabel.reproduce.study import Made, Study


def studies(scale: Scale) -> list[Study]:
    """Each of the three labels by the paper's two methods, as printed and corrected."""
    methods = paper_methods(scale.steps)
    return [Study("celeba", label, methods) for label in scale.tasks["celeba"].forget]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    tables = []
    for item in made:
        tables += [_kept(item), _gone(item)]
    suspect = published()["table4"]["suspect"]
    return Content(
        "Table 4: attribute by attribute",
        [
            "Each of three labels is forgotten by itself: "
            + listed([item.study.label for item in made])
            + " (frequent, local and rare; the paper's three are not at hand).",
            "The first table of each shows what is left of the other labels, the second what the forgotten"
            " label's output does.",
            "In the second, *put back* means the original's output row on the unlearned features: the"
            " output as a method leaves it before the row is made constant, exactly so for methods that"
            " leave the row alone, as all of these do.",
        ],
        findings(made),
        tables,
        extra={"suspect": suspect},
    )


def _kept(made: Made) -> Table:
    names = [name for name in TEN if name != made.study.label]
    return Table(
        f"{made.study.label} forgotten: accuracy and AUC of the others on E",
        ("model", "mean accuracy, %", "mean AUC", *(f"{name}, % / AUC" for name in names)),
        [
            [
                "one answer for everybody",
                percent([original(made).constant()]),
                "-",
                *(f"{100 * original(made).constant(name):.1f} / 0.500" for name in names),
            ],
            *(
                [
                    models.name,
                    percent(models.accuracy()),
                    spread(models.figure(UTILITY_AUC_MEAN.id), 4),
                    *(_both(models, name) for name in names),
                ]
                for models in every(made)
            ),
        ],
    )


def _both(models: Models, name: str) -> Entry:
    """Accuracy in percent and AUC of one retained label, means over seeds."""
    right = [record["also"]["accuracy"]["E"]["labels"][name] for record in models.records]
    rank = [record["utility"]["E"]["labels"][name]["value"] for record in models.records]
    return f"{100 * sum(right) / len(right):.1f} / {sum(rank) / len(rank):.3f}"


def _gone(made: Made) -> Table:
    return Table(
        f"{made.study.label}: its own output after forgetting",
        (
            "model", "accuracy, %", "inverted, %", "put back: accuracy, %", "inverted, %", "advantage",
            "paper's accuracy, %",
        ),
        [*[_own_row(models) for models in every(made)], _decoy(made)],
        f"One answer for everybody is right for {_constant(made):.1f} %. An accuracy far below that is a"
        " classifier that knows the label and says the opposite: *inverted* is what it scores after one NOT.",
    )  # fmt: skip


def _own_row(models: Models) -> list[Entry]:
    printed = published()["table4"]["forgotten_accuracy"]
    return [
        models.name,
        percent(models.of_label("own", "accuracy")),
        percent(models.of_label("own", "inverted")),
        *(
            ["-"] * 3
            if models.name == "Retrain"
            else [
                percent(models.of_label("put_back", "accuracy")),
                percent(models.of_label("put_back", "inverted")),
                spread(models.of_label("put_back", "advantage")),
            ]
        ),
        shown(printed[models.paper], 2) if models.paper in printed else "-",
    ]


def _decoy(made: Made) -> list[Entry]:
    """The original, saying the opposite: what a low accuracy looks like."""
    output = made.original["also"]["labels"][made.study.label]["own"]
    right = percent([output["inverted"]]), percent([output["accuracy"]])
    return ["original, inverted", *right, *right, spread([-output["advantage"]]), "-"]


def _constant(made: Made) -> float:
    return 100 * made.original["also"]["labels"][made.study.label]["own"]["constant"]


def findings(made: Sequence[Made]) -> list[str]:
    """What the numbers say, by rules."""
    printed = published()["table4"]
    sentences = [
        "The paper reports the forgotten label's accuracy as"
        f" {shown(printed['forgotten_accuracy']['WP'], 2)} % after WP and"
        f" {shown(printed['forgotten_accuracy']['WF'], 2)} % after WF."
    ]
    lowest = []
    for item in made:
        methods = [m for m in forgotten(item) if m.records]
        accuracies = [min(x for x in m.of_label("own", "accuracy") if x is not None) for m in methods]
        back = [min(x for x in m.of_label("put_back", "accuracy") if x is not None) for m in methods]
        lowest += [100 * value for value in (*accuracies, *back)]
        inverted = _inverted(item)
        sentences.append(
            f"For {item.study.label} the removed output is right for"
            f" {between(100 * value for value in accuracies)} %, as one answer for everybody is"
            f" ({_constant(item):.1f} %); put back, the lowest method still has"
            f" {100 * min(back):.1f} %; the original inverted has {inverted:.1f} %."
        )
    top = max(printed["forgotten_accuracy"]["WF"])
    sentences.append(
        f"No model here comes near {top} %: "
        if min(lowest) > 1
        else f"The lowest accuracy here is {min(lowest):.2f} %: "
    )
    sentences[-1] += (
        "an output that is wrong on more than 99 % of the images of a binary label has not forgotten it but"
        " tells it backwards, and one NOT gives everything back. Such a figure is a fault, not a success."
    )
    for item in made:
        reference, first = retrained(item), original(item)
        base, level = (m.mean(m.figure(LINEAR_PROBE.id)) for m in (reference, first))
        left = [
            f"{m.name} {m.mean(m.figure(LINEAR_PROBE.id)):.3f}"
            for m in forgotten(item)
            if m.records and m.name != "head removal"
        ]
        sentences.append(
            f"What is left of {item.study.label} in the features, by a linear probe: original"
            f" {level:.3f}, Retrain {base:.3f}, {', '.join(left)}."
        )
        sentences += failures(item)
    return sentences


def _inverted(made: Made) -> float:
    return 100 * made.original["also"]["labels"][made.study.label]["own"]["inverted"]
