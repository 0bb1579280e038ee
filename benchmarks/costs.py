"""What every method costs, in training epochs over the same images, on one thread. docs/results/costs.md.

python benchmarks/costs.py RUN --label Male --repeats 5 --part 0.25 --sizes 2500,10000

Processor time, not wall clock: other work on the machine slows both sides of a ratio. Each measurement lies
between two reference epochs, which are what `unlabel train` does, on all labels; medians, smallest and
largest of the repeats. Passes are counted at the heads of all networks. Ends with 1 where a target is missed.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import process_time
from typing import Any

import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.recipe import Blueprint, Recipe
from unlabel.data.dataset import Dataset
from unlabel.forget import repair
from unlabel.forget.bill import DEFAULT_IMAGES
from unlabel.forget.driver import calibration, forget_labels
from unlabel.forget.methods import METHODS
from unlabel.runs.folder import load_run
from unlabel.runs.origin import Plan
from unlabel.runs.record import source_of
from unlabel.testing.passes import Passes, count_passes
from unlabel.training import fit as training
from unlabel.training.fit import LabelLoss

TARGETS = {"neg-grad-plus": 1.1, "random-label": 1.1, "salun": 1.1, "scrub": 1.4, "bad-teacher": 1.4}
SCORED = ("leace-layer", "salun", "ssd", "weight-pruning", "weight-filtering")


@dataclass(frozen=True)
class Cost:
    """One call of one method.

    Args:
        epochs: Passes of the trained network over the images.
        training: Time in training a pass, in reference epochs; 0 where nothing is trained.
        beside: Time beside training (scores, masks, noise, edits, copies), in reference epochs.
        forward, backward: Images through any network, in calibration images.
    """

    epochs: float
    training: float
    beside: float
    forward: float
    backward: float


@contextmanager
def clocked() -> Iterator[list[float]]:
    """While open, the list's number grows by the processor time that trainings take."""
    spent, fit = [0.0], training.fit

    def timed(*arguments: Any, **options: Any) -> Any:
        started = process_time()
        try:
            return fit(*arguments, **options)
        finally:
            spent[0] += process_time() - started

    training.fit = repair.fit = timed
    try:
        yield spent
    finally:
        training.fit = repair.fit = fit


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a call, and what it gave."""
    started = process_time()
    value = call()
    return process_time() - started, value


def reference(model: nn.Module, data: Dataset, run: Run, recipe: Recipe) -> float:
    """Processor seconds of one epoch of ordinary training on these images."""
    fresh = copy.deepcopy(model)
    objective = LabelLoss(tuple(range(len(data.labels))), data.exclusive)
    with count_passes(len(data.labels)):  # the counting is on this side of the ratio, too
        return seconds(lambda: training.fit(fresh, objective, data, replace(recipe, epochs=1), run))[0]


def options_of(method: str, part: float, plan: Plan) -> dict[str, Any]:
    """A method's own lengths, shortened by a common factor."""
    if method == "retrain":
        return {"blueprint": Blueprint(plan.network, plan.stem, Recipe(epochs=1))}
    defaults = {name: item.default for name, item in METHODS[method].options().items()}
    return {name: max(1, round(part * value)) for name, value in defaults.items() if name.endswith("steps")}


@dataclass
class Bench:
    """Where methods are measured; remembers the reference epoch after one, which is that before the next.

    Args:
        model: The original.
        data: Training images.
        label: To forget.
        run: Where.
        images: Calibration images.
        recipe: Of the original's training.
    """

    model: nn.Module
    data: Dataset
    label: str
    run: Run
    images: int
    recipe: Recipe
    before: float | None = None


def measure(method: str, bench: Bench, **options: Any) -> Cost:
    """One call between two reference epochs on the very images that it sees."""
    model, data, run, images = bench.model, bench.data, bench.run, bench.images
    shown = calibration(data, images, run.seed)
    images_given = data if METHODS[method].data == "calibration" else shown
    before = bench.before or reference(model, shown, run, bench.recipe)
    with clocked() as spent, count_passes(len(data.labels)) as passes:
        whole, outcome = seconds(
            lambda: forget_labels(
                model, [bench.label], images_given, method=method, images=images, run=run, **options
            )
        )
    bench.before = reference(model, shown, run, bench.recipe)
    epoch = (before + bench.before) / 2
    epochs = outcome.history.steps * run.batch_size / len(shown)
    check(method, outcome.images_processed, passes)
    return Cost(
        epochs,
        spent[0] / epoch / epochs if epochs else 0.0,
        (whole - spent[0]) / epoch,
        passes.forward / len(shown),
        passes.backward / len(shown),
    )


def check(method: str, billed: int, passes: Passes) -> None:
    """The bill of a method must be what was counted."""
    if billed != passes.forward:
        raise AssertionError(f"{method} bills {billed:,} images, but {passes.forward:,} were counted")


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def row(method: str, costs: list[Cost]) -> tuple[str, bool]:
    """A line of the table, and whether the target is met."""
    one, target = costs[0], TARGETS.get(method)
    met = target is None or median([cost.training for cost in costs]) <= target
    total = [cost.epochs * cost.training + cost.beside for cost in costs]
    cells = [
        method,
        f"{one.epochs:.2f}" if one.epochs else "-",
        spread([cost.training for cost in costs]) if one.epochs else "-",
        "" if target is None else f"{target} {'met' if met else 'MISSED'}",
        spread([cost.beside for cost in costs]),
        f"{one.forward:.2f}",
        f"{one.backward:.2f}",
        f"{median(total):.2f}",
    ]
    return f"| {' | '.join(cells)} |", met


def main() -> None:
    """Prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--label", default="Male")
    parser.add_argument("--methods", help="comma-separated; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="of the first table; 0 leaves it out")
    parser.add_argument("--size-repeats", type=int, default=3, help="of the second; 0 leaves it out")
    parser.add_argument("--part", type=float, default=1.0, help="share of the default images and steps")
    parser.add_argument("--sizes", default="2500,10000", help="training images for the scores")
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = engine.start(accelerator="cpu")
    original = load_run(given.run)
    data = source_of(original.config, original.record, None, skip_bad=False, run=run).train
    plan = original.record.blueprint
    if plan is None:
        parser.error("the run has no recorded recipe; name one made by unlabel train")
    recipe = plan.recipe
    images = round(given.part * DEFAULT_IMAGES)
    names = given.methods.split(",") if given.methods else [n for n, m in METHODS.items() if not m.alias_of]
    costs_of: dict[str, list[Cost]] = {name: [] for name in names}
    bench = Bench(original.model, data, given.label, run, images, recipe)
    for repeat in range(given.repeats):
        for name in names:
            options = options_of(name, given.part, plan)
            cost = measure(name, bench, **options)
            costs_of[name].append(cost)
            print(repeat, name, asdict(cost), file=sys.stderr, flush=True)
    met = True
    if given.repeats:
        print(f"{images:,} images of {len(data):,}, n = {given.repeats}\n")
        print("| method | epochs | training, per epoch | target | beside | forward | backward | in all |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, costs in costs_of.items() if given.repeats else ():
        line, fine = row(name, costs)
        met &= fine
        print(line, flush=True)
    sizes = [int(size) for size in given.sizes.split(",")] if given.size_repeats else []
    if sizes:
        print(f"\n{DEFAULT_IMAGES:,} images, n = {given.size_repeats}\n")
        print(f"| score | {' | '.join(f'beside, of {s:,} images | forward | backward' for s in sizes)} |")
        print(f"| --- |{' --- | --- | --- |' * len(sizes)}")
    for name in [name for name in SCORED if name in names and sizes]:
        options = {"steps": 1} if "steps" in METHODS[name].options() else {}
        grown: dict[int, list[Cost]] = {size: [] for size in sizes}
        benches = {
            size: replace(bench, data=calibration(data, size, 1), images=DEFAULT_IMAGES, before=None)
            for size in sizes
        }
        for _ in range(given.size_repeats):
            for size in sizes:
                grown[size].append(measure(name, benches[size], **options))
        cells = [
            f"{spread([cost.beside for cost in costs])} | {costs[0].forward:.2f} | {costs[0].backward:.2f}"
            for costs in grown.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    sys.exit(not met)


if __name__ == "__main__":
    main()
