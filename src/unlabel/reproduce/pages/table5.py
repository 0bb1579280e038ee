"""Table 5: CIFAR-10, MNIST and SVHN, one class forgotten, accuracy of the rest."""

from collections.abc import Sequence

from unlabel.reproduce.document import Content, Table
from unlabel.reproduce.numbers import Entry, deviation, percent
from unlabel.reproduce.pages import classes
from unlabel.reproduce.published import published, shown
from unlabel.reproduce.rows import Models, by_name, failures, forgotten, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import OWN_BUDGET, baselines, deep_probes, paper_methods
from unlabel.reproduce.study import Made, Study

SETS = ("cifar10", "mnist", "svhn")


def studies(scale: Scale) -> list[Study]:
    """One class of each set, by the paper's methods, its best baseline and ours."""
    salun = [setting for setting in baselines(scale.steps) if setting.name == "SalUn"]
    methods = (*paper_methods(scale.steps), *salun, deep_probes(scale.auto))
    return [Study(task, scale.tasks[task].forget[0], methods) for task in SETS]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    titles = {name: scale.tasks[name].title for name in SETS}
    return Content(
        "Table 5: classes of three image sets",
        [
            "One class of each set is forgotten; the network answers by a softmax over the ten.",
            OWN_BUDGET,
            "A stand-in is as easy or hard as it was drawn: only the order of methods within one set can be"
            " compared with the paper's, never a value.",
        ],
        findings(made, titles),
        [
            _beside(made, titles),
            *(
                classes.table(item, f"{titles[item.study.task]}: {item.study.label} forgotten")
                for item in made
            ),
        ],
    )


def _beside(made: Sequence[Made], titles: dict[str, str]) -> Table:
    """Test accuracy of the rest, ours and the paper's, side by side."""
    printed = published()["table5"]["test_accuracy"]
    columns = ["model"]
    for item in made:
        columns += [f"{titles[item.study.task]}, %", "paper"]
    rows: list[list[Entry]] = []
    for name, sides in by_name(made):
        fields: list[Entry] = [name]
        paper = next((models.paper for models in sides if models), None)
        for item, models in zip(made, sides, strict=True):
            fields.append(percent(models.accuracy()) if models else "-")
            fields.append(shown(printed[titles[item.study.task]].get(paper)) if paper else "-")
        rows.append(fields)
    return Table("Accuracy of the rest on E", columns, rows)


def findings(made: Sequence[Made], titles: dict[str, str]) -> list[str]:
    """What the numbers say, by rules."""
    sentences = []
    for item in made:
        sentences += [f"{titles[item.study.task]}'s place: " + line for line in classes.findings(item)[:1]]
        sentences += classes.findings(item)[1:]
        printed = published()["table5"]["test_accuracy"][titles[item.study.task]]
        order = _order(item)
        spread_of, noise = order[0][1] - order[-1][1], deviation(retrained(item).accuracy())
        sentences.append(
            f"The paper's order is {' > '.join(sorted(printed, key=printed.__getitem__, reverse=True))}; here"
            f" {' > '.join(name for name, _ in order)}, all within {100 * spread_of:.1f} points, where"
            f" Retrain's own sd is {100 * noise:.1f}."
        )
        sentences += failures(item)
    return sentences


def _order(made: Made) -> list[tuple[str, float]]:
    """The printed methods by their accuracy here, best first."""
    rows: list[Models] = [retrained(made), *forgotten(made)]
    chosen = [
        m for m in rows if m.records and m.name in ("Retrain", "WF as printed", "WP as printed", "SalUn")
    ]
    accuracies = [(m.paper or m.name, m.mean(m.accuracy())) for m in chosen]
    return sorted(accuracies, key=lambda pair: pair[1], reverse=True)
