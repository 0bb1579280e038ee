"""Forgetting against retraining for every method, the default at several sizes, audits against one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.bench.pairs import Line, against, seconds
from unlabel.bench.pictures import cache_in
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.recipe import Recipe
from unlabel.data import load
from unlabel.forget.driver import forget_labels
from unlabel.forget.run import forget_run
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.runs.folder import load_run
from unlabel.training.run import train_run

LABEL = "Male"


@dataclass(frozen=True)
class World:
    """What is trained and forgotten on.

    Args:
        source: Drawings with the label `LABEL`; see `data.load`.
        image_size: Side in pixels.
        network: Name of the network.
        recipe: Of the training, which a Retrain repeats.
    """

    source: str
    image_size: int
    network: str
    recipe: Recipe


def method_lines(world: World, methods: Sequence[str], folder: Path, run: Run) -> list[Line]:
    """Trains an original into ``folder/original``, and times every method on it against that training.

    Args:
        world: Data, network, recipe.
        methods: Names. A method that refuses is a line without a time, with the reason.
        folder: Of the runs.
        run: Where.
    """
    original = folder / "original"
    record = train_run(
        world.source,
        original,
        run,
        network=world.network,
        recipe=world.recipe,
        image_size=world.image_size,
    )
    retrain = record["seconds"]["train"]
    data, lines = load(world.source, image_size=world.image_size).train, []
    for name in methods:
        run.log.say(f"bench: {name}")
        model = engine.place(load_run(original).model, run)
        what = f"forgetting by {name}, against retraining"
        counts = {"retrain_steps": record["steps"], "retrain_images": record["images_processed"]}
        try:
            took, made = seconds(lambda m=model, n=name: forget_labels(m, [LABEL], data, n, run=run))
        except UnlabelError as error:
            lines.append(Line(what, 0.0, retrain, 0.0, 0.0, 0.0, 0, {"refused": str(error)}))
            continue
        counts |= {"steps": made.history.steps, "images": made.images_processed}
        lines.append(against(what, took, retrain, **counts))
    return lines


def size_lines(world: World, sizes: Sequence[int], method: str, run: Run) -> list[Line]:
    """The seconds of a method on an untrained network, at several sizes of data, against the first."""
    timings = []
    for size in sizes:
        run.log.say(f"bench: {method} at {size:,} images")
        source = load(f"faces:train={size},probe=100,test=100", image_size=world.image_size).train
        with torch.random.fork_rng(devices=[]):
            model = engine.place(build(world.network, len(source.labels)), run).eval()
        took, made = seconds(lambda m=model, d=source: forget_labels(m, [LABEL], d, method, run=run))
        timings.append((len(source), took, made))
    (_, first, _), *_ = timings
    return [
        against(
            f"{method} at {images:,} images, against {timings[0][0]:,}",
            took,
            first,
            steps=made.history.steps,
            images=made.images_processed,
        )
        for images, took, made in timings[1:]
    ]


def audit_lines(world: World, budgets: Sequence[str], folder: Path, run: Run) -> list[Line]:
    """Each budget of an audit with three references, against one pass of one model over P and E.

    Each audit begins with the images in the cache, and with no outputs or attacks.

    Args:
        world: Of `method_lines`, whose original is in the folder.
        budgets: quick, standard, full.
        folder: Of the runs.
        run: Where.
    """
    references = [folder / f"retrained-{seed}" for seed in (1, 2, 3)]
    for seed, path in enumerate(references, 1):
        train_run(
            world.source,
            path,
            run.with_seed(seed),
            network=world.network,
            recipe=world.recipe,
            image_size=world.image_size,
            without=[LABEL],
        )
    unlearned = folder / "unlearned"
    forget_run("erasure", folder / "original", [LABEL], unlearned, run, force=True)
    source = load(world.source, image_size=world.image_size)
    model = engine.place(load_run(unlearned).model, run)
    one_pass, _ = seconds(lambda: [outputs(model, part, run) for part in (source.probe, source.test)])
    images = len(source.probe) + len(source.test)
    lines = []
    for name in budgets:
        run.log.say(f"bench: audit, budget {name}")
        options = AuditOptions(budget=name)
        with cache_in(folder / f"cache-{name}"):  # what one budget kept would make the next look fast
            load(world.source, image_size=world.image_size)  # the images alone are there already
            took, _ = seconds(
                lambda o=options: audit_run(
                    unlearned, folder / "original", references, run, options=o, write=False
                )
            )
        lines.append(
            against(f"audit, budget {name}, five models, against one pass", took, one_pass, images=images)
        )
    return lines
