"""The frontier's own options: runs that are trained already, which methods, how long, how many seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlabel.core.errors import OptionError
from unlabel.core.wording import listing
from unlabel.forget.methods import find_method
from unlabel.reproduce.scale import Scale, Task
from unlabel.runs.files import read_config, read_record

MOST_SEEDS = 100


@dataclass(frozen=True)
class Frontier:
    """What a user may ask of the frontier alone.

    Args:
        runs: Data sets as ``TITLE=ORIGINAL,RETRAIN,...``, run folders; empty for those of the scale.
        methods: Names of the catalogue or of plug-ins, or ``all``.
        steps: Lengths that every method that has a length also gets.
        seeds: Forgetting seeds of each method, 1 to 100; None for the scale's.
    """

    runs: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("all",)
    steps: tuple[int, ...] = ()
    seeds: int | None = None

    def words(self) -> list[str]:
        """The options as typed, without paths."""
        words = []
        for text in self.runs:
            title, sign, paths = text.partition("=")
            words.append(f"--runs {title}{sign}{','.join(Path(path).name for path in paths.split(','))}")
        if self.methods != ("all",):
            words.append(f"--methods {','.join(self.methods)}")
        if self.steps:
            words.append(f"--steps {','.join(map(str, self.steps))}")
        return [*words, f"--seeds {self.seeds}"] if self.seeds is not None else words


def sized(scale: Scale, wanted: Frontier) -> Scale:
    """The scale of the frontier: every method at its own defaults.

    Raises:
        OptionError: A number is out of range, or the runs do not belong together.
        UnlabelError: A folder is no run.
    """
    first, count = scale.unlearning_seeds[0], wanted.seeds
    if count is not None and not 1 <= count <= MOST_SEEDS:
        raise OptionError(f"--seeds is {count}; expected 1 to {MOST_SEEDS}")
    for steps in wanted.steps:
        if steps < 1:
            raise OptionError(f"--steps has {steps}; expected numbers of optimiser steps, 1 or more")
    for name in wanted.methods:
        if name != "all" and find_method(name).reference:
            raise OptionError(f"--methods names {name}, which the page shows beside the others anyway")
    seeds = scale.unlearning_seeds if count is None else tuple(range(first, first + count))
    scale = replace(
        scale,
        unlearning_seeds=seeds,
        images=0,
        steps=0,
        methods=wanted.methods,
        lengths=tuple(dict.fromkeys(wanted.steps)),
    )
    return with_runs(scale, wanted.runs) if wanted.runs else scale


def with_runs(scale: Scale, given: Sequence[str]) -> Scale:
    """The scale with runs that are there already as its only data sets.

    Args:
        scale: Sizes of forgetting and auditing.
        given: ``TITLE=ORIGINAL,RETRAIN,...``.

    Raises:
        OptionError: A data set is written otherwise or named twice, or its runs do not belong together.
    """
    tasks: dict[str, Task] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for text in given:
        title, _, paths = text.partition("=")
        runs = tuple(Path(path) for path in paths.split(",") if path)
        if not title or len(runs) < 2:
            raise OptionError(f"--runs {text} is no data set; write TITLE=ORIGINAL,RETRAIN,RETRAIN,RETRAIN")
        if title in tasks:
            raise OptionError(f"--runs names {title} twice; give each data set a title of its own")
        tasks[title] = _task(title, runs)
        recipes[title] = _made(runs)
    (first, recipe), *others = recipes.items()
    for title, other in others:
        differ = [name.replace("_", " ") for name, value in other.items() if value != recipe[name]]
        if differ:
            raise OptionError(
                f"--runs: the {listing(differ)} of {title} differ from those of {first}; a page states them"
                " once, so make a page of each"
            )
    return replace(scale, tasks=tasks, **recipe)


def _task(title: str, runs: Sequence[Path]) -> Task:
    """A data set as its runs have it."""
    original, *retrained = runs
    config, record = read_config(original), read_record(original)
    without = set(read_config(retrained[0]).forgotten) - set(config.forgotten)
    if len(without) != 1:
        raise OptionError(
            f"{retrained[0]} was trained without {listing(sorted(without)) or 'no label'}; the frontier is of"
            f" one label: name runs made with `unlabel train --without LABEL`, after the original"
        )
    for path in retrained[1:]:
        other = read_config(path)
        if other.labels != config.labels or set(other.forgotten) != without | set(config.forgotten):
            raise OptionError(
                f"{path} has other labels than {original}, or was trained without others than {retrained[0]}"
            )
    source = record.data.source if record.data else None
    if source is None:
        raise OptionError(
            f"{original} does not remember its data; the frontier needs a run of `unlabel train`"
        )
    return Task(title, source, "", config.labels, (without.pop(),), config.image_size, tuple(runs))


def _made(runs: Sequence[Path]) -> dict[str, Any]:
    """Network, recipe, batch size and seeds of a data set's runs, by the scale's names."""
    records = [read_record(path) for path in runs]
    plans = {path: record.blueprint for path, record in zip(runs, records, strict=True)}
    first = plans[runs[0]]
    for path, plan in plans.items():
        if plan is None or plan != first:
            what = (
                "does not record how it was trained" if plan is None else f"has another recipe than {runs[0]}"
            )
            raise OptionError(f"{path} {what}; Retrain repeats the original's recipe: train it by that")
    assert first is not None, "checked above"
    seeds = [record.seed for record in records]
    return {
        "networks": ((first.network, first.stem),),
        "recipe": first.recipe,
        "batch_size": first.batch_size,
        "original_seed": seeds[0],
        "retrain_seeds": tuple(seeds[1:]),
    }
