"""Table 3: single-label age groups, one group forgotten, with a softmax."""

from collections.abc import Sequence

from unlabel.reproduce.document import Content
from unlabel.reproduce.numbers import Entry, percent, spread
from unlabel.reproduce.pages import classes
from unlabel.reproduce.published import published
from unlabel.reproduce.rows import Models, failures, original, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import OWN_BUDGET, baselines, deep_probes, paper_methods
from unlabel.reproduce.study import Made, Study


def studies(scale: Scale) -> list[Study]:
    """The middle group, by every method."""
    methods = (*paper_methods(scale.steps), *baselines(scale.steps), deep_probes(scale.auto))
    return [Study("mufac", label, methods) for label in scale.tasks["mufac"].forget]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    item = made[0]
    near = neighbours(item)
    return Content(
        "Table 3: age groups",
        [
            f"The group {item.study.label} of ordered age groups is forgotten; the network answers by a"
            " softmax.",
            "An image of the forgotten group has no right answer left; the nearest ones are"
            f" {' and '.join(near)}.",
            OWN_BUDGET,
            f"The paper's table is not at hand: {published()['table3']['said']}.",
        ],
        findings(item),
        [
            classes.table(
                item,
                f"{item.study.label} forgotten",
                [
                    ("error of the rest, groups", _distance),
                    ("forgotten group's images to a neighbour, %", lambda models: _near(models, near)),
                ],
            )
        ],
    )


def neighbours(made: Made) -> list[str]:
    """The groups before and after the forgotten one."""
    shares = made.original["also"]["answers"][made.study.label]
    order = sorted([*shares, made.study.label], key=_rank)
    at = order.index(made.study.label)
    return order[max(0, at - 1) : at] + order[at + 1 : at + 2]


def _rank(name: str) -> int:
    """Age groups are named by their place or by their first year."""
    return int(name.split("_")[1])


def _distance(models: Models) -> Entry:
    return spread([record["also"]["accuracy"]["E"]["distance"] for record in models.records])


def _shares(models: Models, near: Sequence[str]) -> list[float]:
    return [sum(record["also"]["answers"][models.label][name] for name in near) for record in models.records]


def _near(models: Models, near: Sequence[str]) -> Entry:
    return percent(_shares(models, near))


def findings(made: Made) -> list[str]:
    """What the numbers say, by rules."""
    near = neighbours(made)
    first, reference = (
        sum(v) / len(v) for v in (_shares(original(made), near), _shares(retrained(made), near))
    )
    return [
        *classes.findings(made),
        f"Of the forgotten group's images the original, where it may not answer with the group itself, gives"
        f" {100 * first:.0f} % to a neighbouring group, and Retrain, which never could,"
        f" {100 * reference:.0f} %."
        + (
            " A forgotten class among ordered ones is answered by its neighbours in both."
            if min(first, reference) > 0.5
            else ""
        ),
        *failures(made),
    ]
