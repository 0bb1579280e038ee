"""Figure 3: run time of every method and of Retrain, one after another in one process."""

import os
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.data import load
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.reproduce.charts import Bar, bars
from unlabel.reproduce.document import Content, Picture, Table, images_in_words
from unlabel.reproduce.numbers import Entry, between, spread, whole
from unlabel.reproduce.pages.table2 import studies as table2_studies
from unlabel.reproduce.published import published, shown
from unlabel.reproduce.rows import listed
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import RETRAIN, Setting
from unlabel.reproduce.study import Made, Study, images_of
from unlabel.runs.folder import load_run
from unlabel.training.fit import train

QUIET = 1.5
"""Load average up to which the machine counts as quiet; this process is 1 of it."""


class Timed:
    """Measurements of one method, one a round."""

    def __init__(self, setting: Setting | None):
        self.name = setting.name if setting else RETRAIN
        self.paper = setting.paper if setting else RETRAIN
        self.seconds: list[float] = []
        self.steps: list[float] = []
        self.images: list[float] = []

    def add(self, seconds: float, steps: int, images: int) -> None:
        """One more measurement."""
        self.seconds.append(seconds)
        self.steps.append(steps)
        self.images.append(images)

    def ratios(self, retrain: "Timed") -> list[float]:
        """How many times as long Retrain takes, by round."""
        return [full / seconds for full, seconds in zip(retrain.seconds, self.seconds, strict=True)]

    def faster(self, retrain: "Timed") -> float:
        """Their mean."""
        return fmean(self.ratios(retrain))


def studies(scale: Scale) -> list[Study]:
    """The original of table 2; the methods are run again, for their time."""
    return [Study("celeba", "Male", ())]


def plan(scale: Scale) -> list[str]:
    """What `content` computes on every call, in lines for a person: nothing of it is kept."""
    study = table2_studies(scale)[0]
    names = ", ".join(setting.name for setting in study.settings)
    return [
        f"time Retrain and {len(study.settings)} settings that forget {study.label} of"
        f" {scale.tasks[study.task].title}, {scale.rounds} times each, anew on every call: Retrain for"
        f" {scale.recipe.epochs:g} epochs, the settings on {images_in_words(scale.images)} images ({names})"
    ]


def content(made: Sequence[Made], scale: Scale, where: Run) -> Content:
    """Measures, and writes the page."""
    timed, loads, failed = measured(made[0], scale, where)
    retrain = timed[0]
    calm = max(loads) < QUIET
    return Content(
        "Figure 3: run time",
        [
            "Retrain and every method of table 2 are run one after another in one process, in"
            f" {scale.rounds} rounds, data in memory; the time is that of the computation, without loading"
            " and auditing.",
            "A round measures all of them, so that a disturbance of the machine touches a ratio's both"
            " sides.",
            f"The load average was {between(loads)} at the start of the measurements,"
            " of which this process is"
            f" 1{'' if calm else ': the machine was not quiet, so read ratios, not seconds'}.",
        ],
        [*findings(timed), *(f"{name} is not timed: it failed in {why}." for name, why in failed.items())],
        [
            Table(
                "Seconds, steps and images",
                ("model", "seconds", "Retrain's seconds by it", "steps", "images processed",
                 "Retrain's images by it", "paper's seconds", "paper's ratio, VGGFace2"),
                [_row(item, retrain) for item in timed],
                "Mean and sd over rounds. Images processed count every forward pass for scoring, too. The"
                " paper's seconds are from one RTX 4060.",
            )
        ],
        [picture(timed)],
        {"load": loads, "failed": failed},
    )  # fmt: skip


def measured(made: Made, scale: Scale, where: Run) -> tuple[list[Timed], list[float], dict[str, str]]:
    """Retrain first, then the methods, each once a round; the machine's load before each; what failed."""
    settings = table2_studies(scale)[0].settings
    loaded = load_run(made.folder)
    config = loaded.config
    source = load(
        made.source,
        image_size=config.image_size,
        framing=config.framing,
        labels=config.labels,
        cache=where.cache,
        workers=where.workers,
        log=where.log,
    )
    data = source.normalised(config.mean, config.std).train
    timed = [Timed(None), *(Timed(setting) for setting in settings)]
    loads: list[float] = []
    failed: dict[str, str] = {}
    _warm_up(data, scale, where)
    for number in range(scale.rounds):
        where.log.say(f"round {number + 1}/{scale.rounds}")
        loads.append(os.getloadavg()[0])
        run = where.with_seed(scale.retrain_seeds[number % len(scale.retrain_seeds)])
        network, stem = scale.networks[0]
        _, history = train(data, scale.recipe, run, network=network, stem=stem, without=[made.study.label])
        timed[0].add(history.seconds, history.steps, history.images_processed)
        for setting, item in zip(settings, timed[1:], strict=True):
            loads.append(os.getloadavg()[0])
            try:
                outcome = forget_labels(
                    loaded.model,
                    [made.study.label],
                    data,
                    method=setting.method,
                    images=images_of(setting, scale),
                    run=where.with_seed(scale.unlearning_seeds[number % len(scale.unlearning_seeds)]),
                    **setting.options,
                )
            except MethodError as error:  # a training that diverged has no length to be timed
                failed[item.name] = f"round {number + 1}: {error}"
                continue
            item.add(outcome.seconds["total"], outcome.history.steps, outcome.images_processed)
    return [item for item in timed if item.name not in failed], loads, failed


def _warm_up(data: Dataset, scale: Scale, where: Run) -> None:
    """One short training, so that the first measurement does not pay for what all of them need once."""
    network, stem = scale.networks[0]
    few = data.take(np.arange(min(len(data), 4 * scale.batch_size)))
    train(few, replace(scale.recipe, epochs=1), where, network=network, stem=stem)


def _row(item: Timed, retrain: Timed) -> list[Entry]:
    figures = published()["figure3"]
    images = fmean(item.images)
    return [
        item.name,
        spread(item.seconds, 2),
        spread(item.ratios(retrain), 1) if item is not retrain else "1",
        whole(item.steps),
        whole(item.images),
        spread([fmean(retrain.images) / images], 1) if images else "-",
        shown(figures["seconds"].get(item.paper), 0) if item.paper else "-",
        shown(figures["speed_up_vggface2"].get(item.paper)) if item.paper else "-",
    ]


def picture(timed: Sequence[Timed]) -> Picture:
    """Seconds as bars."""
    retrain = timed[0]
    rows = []
    for item in timed:
        mean = fmean(item.seconds)
        words = f"{mean:.3g} s"
        if item is not retrain:
            ratio = item.faster(retrain)
            words += f", {ratio:,.0f}x faster" if ratio > 10 else f", {ratio:.1f}x faster"
        rows.append(Bar(item.name, mean, min(item.seconds), max(item.seconds), words, item is retrain))
    return Picture(
        "figure3.svg",
        "Seconds of Retrain and of every method, with the range over rounds, on a logarithmic axis",
        bars(rows, "seconds (logarithmic)"),
    )


def findings(timed: Sequence[Timed]) -> list[str]:
    """What the numbers say, by rules."""
    retrain, methods = timed[0], timed[1:]
    base = fmean(retrain.seconds)
    training = [item for item in methods if fmean(item.steps) > 0]
    ratio = {item.name: item.faster(retrain) for item in training}
    fastest, slowest = max(ratio, key=ratio.__getitem__), min(ratio, key=ratio.__getitem__)
    idle = [f"{item.name} ({item.faster(retrain):,.0f} times)" for item in methods if fmean(item.steps) == 0]
    printed = published()["figure3"]["speed_up_vggface2"]
    steps = fmean(retrain.steps)
    longest = max(fmean(item.steps) for item in training)
    return [
        f"Retrain takes {base:.1f} s in {steps:,.0f} steps; methods that train are {ratio[slowest]:.1f}"
        f" ({slowest}) to {ratio[fastest]:.1f} times ({fastest}) faster. Without any training step:"
        f" {listed(idle)}.",
        f"The paper prints {printed['WF']}x for WF and {printed['WP']}x for WP.",
        f"A ratio is a property of Retrain's length as much as of a method's: here Retrain has {steps:,.0f}"
        f" steps and the longest method {longest:,.0f}, and a method's steps do not grow with the data"
        " while Retrain's do. On 162,770 images and 50 epochs in batches of 64, Retrain has 127,164 steps.",
    ]
