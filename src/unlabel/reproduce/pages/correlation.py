"""The correlation study: labels that go together as in CelebA against the same labels drawn by themselves."""

from collections.abc import Sequence

from unlabel.audit.figures import LINEAR_PROBE, OTHERS_LINEAR, UTILITY_AUC_MEAN
from unlabel.reproduce.document import Content, Table
from unlabel.reproduce.numbers import Entry, percent, spread
from unlabel.reproduce.published import published
from unlabel.reproduce.rows import Models, by_name, failures, forgotten, listed, original, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import OWN_BUDGET, deep_probes, paper_methods
from unlabel.reproduce.study import Made, Study, bare

SHOWN = ((OTHERS_LINEAR.id, "others, linear"), (LINEAR_PROBE.id, "linear probe"))

INDEPENDENT = "independent=1"  # an option of the drawn faces

LEARNT = 0.10  # advantage of a probe below which there is nothing to forget, as for C2


def studies(scale: Scale) -> list[Study]:
    """Male of both data sets by the paper's methods and ours."""
    methods = (*paper_methods(scale.steps), deep_probes(scale.auto))
    return [Study(task, "Male", methods) for task in ("celeba", "decorrelated")]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    together, apart = made
    return Content(
        "Correlation: original against decorrelated labels",
        [
            *_about(together, apart),
            OWN_BUDGET,
            f"The paper's study is not at hand: {published()['correlation']['said']}.",
        ],
        findings(together, apart),
        [
            Table(
                "Male forgotten, with and without correlation",
                (
                    "model",
                    *(
                        f"{word}, {which}"
                        for word in ("accuracy, %", "AUC", *(name for _, name in SHOWN), "C2", "C5")
                        for which in ("together", "apart")
                    ),
                ),
                [
                    [
                        "true other labels", "-", "-", "-", "-",
                        spread([together.floor]), spread([apart.floor]), *["-"] * 6,
                    ],
                    *(_row(name, sides) for name, sides in by_name(made)),
                ],
                "An *advantage* is 0 for a coin and 1 for a perfect attack; the first row is what the *true*"
                " values of the other nine labels tell, by boosted trees. Mean and sd over seeds.",
            )
        ],
    )  # fmt: skip


def _about(together: Made, apart: Made) -> list[str]:
    """What the two data sets are; of others than drawn faces nobody knows how labels go together."""
    if _both_drawn(together, apart):
        return [
            f"The same label is forgotten in two data sets that differ in one thing: in"
            f" `{together.source}` labels go together as in CelebA, in `{apart.source}` each is drawn by"
            " itself with the same share, so that by construction no label tells anything of another.",
            "Cues of a drawing are moved by several labels in both.",
        ]
    return [
        f"The same label is forgotten in two data sets: in `{bare(together.source)}`, called together here,"
        f" labels are meant to go together, and in `{bare(apart.source)}`, called apart, they are not.",
        "How far they do is not known in advance: the first row of the table tells it. The two may differ in"
        " more than that.",
    ]


def _both_drawn(together: Made, apart: Made) -> bool:
    """Whether the data sets are the same drawn faces, the labels of the second drawn by themselves."""
    return apart.source == f"{together.source},{INDEPENDENT}" and together.source.startswith("faces:")


def _row(name: str, sides: Sequence[Models | None]) -> list[Entry]:
    """A model in both data sets; a dash where all its cells failed."""
    fields: list[Entry] = [name]
    for models in ("accuracy", "auc", *(figure for figure, _ in SHOWN)):
        for side in sides:
            if side is None:
                fields.append("-")
            elif models == "accuracy":
                fields.append(percent(side.accuracy()))
            elif models == "auc":
                fields.append(spread(side.figure(UTILITY_AUC_MEAN.id), 4))
            else:
                fields.append(spread(side.figure(models)))
    return [*fields, *(side.verdicts(claim) if side else "-" for claim in ("C2", "C5") for side in sides)]


def findings(together: Made, apart: Made) -> list[str]:
    """What the numbers say, by rules."""
    sentences = [
        f"The true other labels give Male away at {together.floor:.3f} where labels go together and at"
        f" {apart.floor:.3f} where they do not."
    ]
    for figure, word in SHOWN:
        values = []
        for made in (together, apart):
            first, reference = original(made), retrained(made)
            values.append((first.mean(first.figure(figure)), reference.mean(reference.figure(figure))))
        (a, b), (c, d) = values
        sentences.append(
            f"{word[0].upper()}{word[1:]}: the original has {a:.3f} together and {c:.3f} apart, Retrain"
            f" {b:.3f} and {d:.3f}; so training on the label adds {a - b:.3f} together and {c - d:.3f} apart."
        )
    aims = [retrained(made).mean(retrained(made).figure(OTHERS_LINEAR.id)) for made in (together, apart)]
    sentences.append(
        f"Correlation accounts for {aims[0] - aims[1]:.3f} of the {aims[0]:.3f} that Retrain's other outputs"
        " tell: a model that answers the other labels right tells that much without knowing this one."
        if aims[0] > aims[1]
        else "Retrain's other outputs tell no less where the labels are apart: what they tell here is not"
        " correlation but what the pictures of several labels share."
    )
    for made, word in ((together, "together"), (apart, "apart")):
        sentences += [f"Labels {word}: {sentence}" for sentence in failures(made)]
        level = original(made).mean(original(made).figure(LINEAR_PROBE.id))
        if level < LEARNT:
            sentences.append(
                f"Where labels are {word}, the original itself hardly knows Male (probe {level:.3f}): what it"
                " seemed to know where they go together was the other labels. There is nothing to forget here"
                f" at this size, and the columns '{word}' say nothing of the methods."
            )
            continue
        passing = [m.name for m in forgotten(made) if m.records and m.passes("C2") == len(m.records)]
        sentences.append(f"C2 passes with every seed, labels {word}: {listed(passing)}.")
    return sentences
