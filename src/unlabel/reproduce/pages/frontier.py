"""The frontier: what every method costs, against what comes back when the model is trained again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unlabel.audit.inputs.options import AuditOptions
from unlabel.compare.jobs import Job, resolved
from unlabel.compare.plan import chosen, sized
from unlabel.compare.table import pareto
from unlabel.forget.methods import METHODS
from unlabel.reproduce.document import Content, Picture, Table
from unlabel.reproduce.numbers import Entry, interval, whole
from unlabel.reproduce.plane import Level, Point, plane
from unlabel.reproduce.relearning import attack_in_words, pooled
from unlabel.reproduce.rows import Models, every, failures, listed
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import ORIGINAL, RETRAIN, Setting
from unlabel.reproduce.study import Made, Study, audit_options

DEFAULT = ("celeba", "decorrelated")
FORWARD, STEP = 1, 3
"""Forward passes that an image costs when it is read, and when a step is taken on it: there and back is 3."""


def studies(scale: Scale) -> list[Study]:
    """Every method on each data set: the user's trained runs, or the faces with and without correlations."""
    tasks = [name for name, task in scale.tasks.items() if task.trained] or list(DEFAULT)
    methods = settings(scale)
    return [Study(name, scale.tasks[name].forget[0], methods, relearn=True) for name in tasks]


def settings(scale: Scale) -> tuple[Setting, ...]:
    """Every method at its defaults, then at each asked length that is another one."""
    tried = []
    for name in chosen(scale.methods):
        other = f" ({METHODS['auto'].name})" if METHODS["auto"].alias_of == name else ""
        tried.append(Setting(f"{name}{other}", name))
        job = resolved(Job(name))
        for steps in scale.lengths:
            options = sized(job, steps)
            if any(job.options[key] != value for key, value in options.items()):
                tried.append(Setting(f"{name} {steps}", name, options))
    return tuple(tried)


@dataclass(frozen=True)
class Row:
    """One model, or a method's models of several seeds, on one data set.

    Args:
        models: Its records.
        relearnt: By number of images: the AUC that comes back, see `relearning.pooled`.
        retained: Mean AUC of the retained labels.
        cost: Forward-equivalents at least and at most; None for the original.
        loss: Retrain's retained AUC less this one's, and the largest one-sided 95 % bound of a seed; None
            for the original and for Retrain.
        good: Whether the loss is within C5's margin.
    """

    models: Models
    relearnt: Mapping[int, Mapping[str, Any]]
    retained: Mapping[str, Any]
    cost: tuple[float, float] | None
    loss: tuple[float, float] | None
    good: bool

    @property
    def name(self) -> str:
        """As the page calls it."""
        return self.models.name


def row(models: Models, scale: Scale, options: AuditOptions) -> Row:
    """The figures of some models."""
    also = [record["also"] for record in models.records]
    by_size = {n: [item["relearnt"][models.label].get(str(n)) for item in also] for n in options.tune}
    cost = None
    if models.name != ORIGINAL:
        ends = [forward_equivalents(record["cost"], scale.batch_size) for record in models.records]
        cost = (fmean(low for low, _ in ends), fmean(high for _, high in ends))
    lost = [record["c5"]["macro_auc_loss"] for record in models.records if "c5" in record]
    loss = (fmean(item["value"] for item in lost), max(item["upper"] for item in lost)) if lost else None
    return Row(
        models,
        {n: pooled(items) for n, items in by_size.items() if all(items)},
        pooled([item["retained"] for item in also]),
        cost,
        loss,
        loss is not None and loss[0] <= options.d_macro,
    )


def forward_equivalents(cost: Mapping[str, Any], batch_size: int) -> tuple[int, int]:
    """What a model took, in forward passes of one image: at least and at most.

    Args:
        cost: Its ``steps`` and ``images_processed``.
        batch_size: Images in a step.

    Returns:
        3 for each image of a step, and for every other image that was read 1, or 3 where it went backward.

    Example:
        >>> forward_equivalents({"steps": 64, "images_processed": 6144}, 64)
        (14336, 18432)
    """
    processed = cost["images_processed"]
    trained = min(cost["steps"] * batch_size, processed)
    return STEP * trained + FORWARD * (processed - trained), STEP * processed


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    options = audit_options(scale, 0)
    tables, pictures, findings, extra = [], [], [], {}
    for number, item in enumerate(made, start=1):
        title = scale.tasks[item.study.task].title
        rows = [row(models, scale, options) for models in every(item)]
        front = frontier(rows, options)
        tables.append(table(title, rows, options))
        if shown(rows, options):
            pictures.append(picture(number, title, item.study.label, rows, front, options))
        findings += [*sentences(title, rows, front, options), *failures(item)]
        extra[title] = [plain_row(each, front) for each in rows]
    return Content(
        "The frontier: cost against what comes back",
        [
            "Who has the weights can train the whole model again on annotated images: the label comes back."
            f" That is done here as the full audit does it (claim C4): on {attack_in_words(options)}.",
            "What comes back is the label's AUC on test images, and it stands against what forgetting cost."
            " The original and models retrained without the label (Retrain) are attacked alike.",
            "Every method has its defaults"
            + (", or takes the number of steps beside its name." if scale.lengths else "."),
            f"Cost is counted in forward passes of one image: {STEP} for each image of an optimiser step"
            f" (forward 1, backward 2), {FORWARD} for each image that is read besides, to score, to teach or"
            " to edit.",
            "The records do not tell which of the latter went backward as well; at most each costs"
            f" {STEP}, and the line to the right of a mark ends there.",
            "So a method of 64 steps of 64 images that reads 2,048 more costs 3 x 64 x 64 + 2,048 = 14,336,"
            " at most 3 x 6,144 = 18,432. Solving equations is not counted.",
        ],
        findings,
        tables,
        pictures,
        {"margin": options.d_macro, "again": options.d_few, "rows": extra},
    )


def least(options: AuditOptions) -> int:
    """The number of annotated images that the picture shows."""
    return min(options.tune)


def shown(rows: Sequence[Row], options: AuditOptions) -> bool:
    """Whether there were enough annotated images for the picture."""
    return all(least(options) in item.relearnt for item in rows)


def methods_of(rows: Sequence[Row]) -> list[Row]:
    """The methods alone."""
    return [item for item in rows if item.name not in (ORIGINAL, RETRAIN)]


def frontier(rows: Sequence[Row], options: AuditOptions) -> frozenset[str]:
    """Methods within the margin of which no other within it is as cheap and gives back as little."""
    good = [item for item in methods_of(rows) if item.good and least(options) in item.relearnt]
    ends = [(item.cost[0], item.relearnt[least(options)]["value"]) for item in good if item.cost]
    return frozenset(item.name for item, best in zip(good, pareto(ends), strict=True) if best)


def table(title: str, rows: Sequence[Row], options: AuditOptions) -> Table:
    """Cost and figures of every model."""
    named = {item.name: item for item in rows}
    whole_cost = named[RETRAIN].cost
    assert whole_cost is not None, "only the original has no cost"
    label = rows[0].models.label
    return Table(
        f"{title}: {label} forgotten",
        (
            "model", "steps", "images", "forward-equivalents, at least", "at most", "share of Retrain's cost",
            *(f"AUC of {label} after {n:,} images" for n in options.tune),
            "mean AUC of the retained labels", "Retrain's less it", "at most", "within the margin", "n",
        ),
        [_entries(item, whole_cost[0], options) for item in rows],
        "Means over seeds, with 95 % intervals that hold the errors of test images, of seeds (where there are"
        f" two or more) and of the {options.tune_draws} draws of annotated images. The loss of retained AUC"
        " is that of claim C5, paired by image, with the largest one-sided 95 % bound of a seed; its margin"
        f" is {options.d_macro:g}. Steps and images: sd over seeds where they differ. n is models x"
        " test images.",
    )  # fmt: skip


def _entries(item: Row, retrain: float, options: AuditOptions) -> list[Entry]:
    cost: list[Entry] = ["-"] * 5
    if item.cost is not None:
        cost = [
            whole(item.models.cost("steps")),
            whole(item.models.cost("images_processed")),
            *(whole([end]) for end in item.cost),
            {"value": item.cost[0] / retrain, "digits": 3},
        ]
    back: list[Entry] = [
        interval(item.relearnt[n]["value"], item.relearnt[n]["ci"]) if n in item.relearnt else "-"
        for n in options.tune
    ]
    loss: list[Entry] = ["-"] * 3
    if item.loss is not None:
        loss = [*({"value": value, "digits": 4} for value in item.loss), "yes" if item.good else "no"]
    retained = interval(item.retained["value"], item.retained["ci"])
    count = f"{item.retained['models']} x {item.retained['n']:,}"
    return [item.name, *cost, *back, retained, *loss, count]


def picture(
    number: int, title: str, label: str, rows: Sequence[Row], front: frozenset[str], options: AuditOptions
) -> Picture:
    """One data set."""
    size = least(options)
    named = {item.name: item for item in rows}
    level = {name: named[name].relearnt[size] for name in (ORIGINAL, RETRAIN)}
    svg = plane(
        [point(item, size, front=item.name in front) for item in methods_of(rows)],
        point(named[RETRAIN], size),
        Level(RETRAIN, *(level[RETRAIN][key] for key in ("value", "low", "high"))),
        Level(ORIGINAL, *[level[ORIGINAL]["value"]] * 3),
        "cost of forgetting, forward-equivalents",
        f"{title}: AUC of {label} after {size:,} images",
    )
    alt = (
        f"{title}: cost of every method and of Retrain, logarithmic, against the AUC of {label} that comes"
        f" back after the whole model was trained on {size:,} annotated images"
    )
    return Picture(f"frontier-{number}.svg", alt, svg)


def point(item: Row, size: int, *, front: bool = False) -> Point:
    """A mark of the picture."""
    assert item.cost is not None, "the original has a line, not a mark"
    back = item.relearnt[size]
    return Point(item.name, item.cost, (back["value"], *back["ci"]), item.good, front)


def sentences(title: str, rows: Sequence[Row], front: frozenset[str], options: AuditOptions) -> list[str]:
    """What the numbers say of one data set, by rules."""
    size = least(options)
    if not shown(rows, options):
        return [f"{title} has too few annotated probe images to train a model on {size:,}."]
    named, methods = {item.name: item for item in rows}, methods_of(rows)
    aim, start = named[RETRAIN], named[ORIGINAL]
    label, level = aim.models.label, aim.relearnt[size]
    assert aim.cost is not None, "only the original has no cost"
    good = [item for item in methods if item.good]
    back = {item.name: item.relearnt[size]["value"] for item in methods}
    near = [item for item in good if back[item.name] <= level["value"] + options.d_few]
    cheapest = min(near, key=lambda item: (item.cost or (0.0, 0.0))[0], default=None)
    dear = [item.name for item in methods if (item.cost or (0.0, 0.0))[0] > aim.cost[0]]
    lines = [
        f"{title}: after {size:,} annotated images the original has an AUC of"
        f" {start.relearnt[size]['value']:.3f} for {label}, Retrain {level['value']:.3f}"
        f" ({level['low']:.3f} to {level['high']:.3f} over {level['models']}), at"
        f" {aim.cost[0]:,.0f} forward-equivalents.",
        f"Retained labels within {options.d_macro:g} of Retrain's mean AUC: {len(good)} of {len(methods)}"
        f" settings. Of these, {len(near)} give back at most {options.d_few:g} more than Retrain, claim C4's"
        f" margin: {listed([item.name for item in near])}.",
    ]
    if cheapest is not None and cheapest.cost is not None:
        lines.append(
            f"The cheapest of these is {cheapest.name}: {cheapest.cost[0] / aim.cost[0]:.3f} of Retrain's"
            f" cost, AUC {back[cheapest.name]:.3f}."
        )
    elif good:
        best = min(good, key=lambda item: back[item.name])
        lines.append(f"The lowest of the first is {best.name}: AUC {back[best.name]:.3f}.")
    order = [
        item.name for item in sorted(good, key=lambda i: (i.cost or (0.0, 0.0))[0]) if item.name in front
    ]
    lines.append(f"On the frontier, by cost: {listed(order)}.")
    return [*lines, f"Dearer than Retrain: {listed(dear)}."] if dear else lines


def plain_row(item: Row, front: frozenset[str]) -> dict[str, Any]:
    """A row for the JSON, with every number whole."""
    return {
        "model": item.name,
        "cost": None if item.cost is None else {"at_least": item.cost[0], "at_most": item.cost[1]},
        "relearnt": {str(n): dict(figure) for n, figure in item.relearnt.items()},
        "retained": dict(item.retained),
        "loss": None if item.loss is None else {"value": item.loss[0], "upper": item.loss[1]},
        "within_margin": item.good if item.loss is not None else None,
        "front": item.name in front,
    }
