"""What tables 3 and 5 share: one class of a softmax forgotten, and the accuracy of the rest."""

from collections.abc import Callable, Sequence

from unlabel.audit.figures import LINEAR_PROBE, OTHERS_LINEAR
from unlabel.data.splits import TRAIN_SET
from unlabel.reproduce.document import Table
from unlabel.reproduce.numbers import Entry, deviation, percent, spread, whole
from unlabel.reproduce.rows import Models, every, forgotten, listed, original, retrained
from unlabel.reproduce.study import Made

COLUMNS = (
    "model", "accuracy of the rest, train", "P", "E, %", "answers the class, %", "head put back, %",
    "others, linear", "linear probe", "C2", "C5", "steps", "x fewer images",
)  # fmt: skip

NOTE = (
    "Accuracy is over images of the retained classes, answered among these, for every model alike. *Answers"
    " the class* is how many images of the forgotten class are still called by it; *head put back* the same"
    " with the original's whole last layer on the model's features. An *advantage* is 0 for a coin and 1"
    " for a perfect attack. sd is over seeds."
)


def table(made: Made, title: str, extra: Sequence[tuple[str, Callable[[Models], Entry]]] = ()) -> Table:
    """One data set's rows; `extra` adds columns."""
    retrain = retrained(made).mean(retrained(made).cost("images_processed"))
    return Table(
        title,
        (*COLUMNS, *(name for name, _ in extra)),
        [[*_row(models, retrain), *(field(models) for _, field in extra)] for models in every(made)],
        NOTE,
    )


def _row(models: Models, retrain_images: float) -> list[Entry]:
    images = models.mean(models.cost("images_processed"))
    return [
        models.name,
        percent(models.accuracy(TRAIN_SET)),
        percent(models.accuracy("P")),
        percent(models.accuracy("E")),
        percent(models.of_label("own", "answered")),
        percent(models.of_label("put_back", "answered")) if models.name != "Retrain" else "-",
        spread(models.figure(OTHERS_LINEAR.id)),
        spread(models.figure(LINEAR_PROBE.id)),
        models.verdicts("C2"),
        models.verdicts("C5"),
        whole(models.cost("steps")),
        spread([retrain_images / images], 1) if images and models.name != "original" else "-",
    ]


def findings(made: Made) -> list[str]:
    """What the numbers of one data set say, by rules."""
    first, reference, methods = original(made), retrained(made), [m for m in forgotten(made) if m.records]
    base, noise = reference.mean(reference.accuracy()), deviation(reference.accuracy())
    below = [m.name for m in methods if m.mean(m.accuracy()) < base - max(2 * noise, 0.005)]
    above = [m.name for m in methods if m.mean(m.accuracy()) > base + max(2 * noise, 0.005)]
    in_original, aim = (m.mean(m.figure(LINEAR_PROBE.id)) for m in (first, reference))
    answered = first.mean(first.of_label("own", "answered"))
    ready = [m.name for m in methods if m.mean(m.of_label("put_back", "answered")) >= 0.9 * answered]
    passing = [m.name for m in methods if m.passes("C2") == len(m.records)]
    return [
        f"{made.study.label} ({made.source.partition(':')[0]}): Retrain answers {100 * base:.1f} % (sd"
        f" {100 * noise:.1f}) of the rest; better by more than two deviations and half a point:"
        f" {listed(above)}; worse: {listed(below)}.",
        f"The original calls {100 * answered:.0f} % of the class's images by it; with its last layer put"
        f" back, at least nine tenths as many are so called again for {listed(ready)}.",
        f"A linear probe finds the class at {in_original:.3f} in the original and at {aim:.3f} in Retrain,"
        + (
            f" which never saw it; C2 passes with every seed for {listed(passing)}."
            if in_original - aim > 0.05
            else " which never saw it: features of the other classes tell it nearly as well, so little is"
            " there to forget."
        ),
    ]
