"""What a network knows before its last features: the mean over positions at the end of each earlier stage.

A stage is what is computed at one size of picture or of sequence; `models.sites` finds its end. A network
that keeps one size throughout is read between its blocks. A stage whose mean is what the head reads is no
earlier one::

    small      32 x 32, 16 x 16, 8 x 8  (4 x 4 is what the head reads)
    resnet18   layer1, layer2, layer3

A network that holds no positions inside has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Subject
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import ModelError
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.data.feed import in_order
from unlabel.models.cached_outputs import kept_tables
from unlabel.models.features import BATCH
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.models.sites import Site, find_stages, reading
from unlabel.runs.folder import Loaded, key_of

MOST = 3
LOOK = 2  # images by which the stages are found
CLOSE = 1e-3  # of the largest feature: two ways to take a mean differ by rounding

Tables = dict[str, NDArray[np.float32]]  # stage -> (image, channel)


def stage_means(model: nn.Module, data: Dataset, run: Run, *, stage: str = "read") -> Tables:
    """The mean over positions at the end of each stage, for every image.

    Args:
        model: On the run's device, in eval mode.
        data: Images, without augmentation.
        run: Where; one process.
        stage: Name in the progress display.

    Returns:
        ``stage1``, ``stage2`` ... in the order of use, float32 (image, channel); empty without positions.

    Example:
        >>> from unlabel.testing.worlds import tiny_world
        >>> world = tiny_world(images=64)
        >>> means = stage_means(world.model, world.source.test, engine.start(accelerator="cpu"))
        >>> {name: table.shape for name, table in means.items()}
        {'stage1': (16, 8)}
    """
    look = batch_of(data, np.arange(min(LOOK, len(data))), run.device).image
    return read_sites(model, data, find_stages(model, len(data.labels), look), run, stage=stage)


def cell_means(model: nn.Module, data: Dataset, run: Run, *, stage: str = "read") -> Tables:
    """The mean over each cell of a grid of positions at the end of each stage, for every image.

    Args:
        model, data, run, stage: See `stage_means`.

    Returns:
        ``cells1``, ``cells2`` ... in the order of use, float32 (image, cell and channel), of stages with more
        than one position; among them the one whose mean the head reads.
    """
    look = batch_of(data, np.arange(min(LOOK, len(data))), run.device).image
    stages = [site for site in find_stages(model, len(data.labels), look) if max(site.size) > 1]
    cells = [replace(site, name=site.name.replace("stage", "cells"), kind="cells") for site in stages]
    return read_sites(model, data, cells, run, stage=stage)


@torch.inference_mode()
def read_sites(model: nn.Module, data: Dataset, sites: Sequence[Site], run: Run, *, stage: str) -> Tables:
    """What a network computes at some sites, for every image.

    Args:
        model, data, run, stage: See `stage_means`.
        sites: Where to read.

    Returns:
        By name of the site, float32 (image, feature).
    """
    batches: list[list[NDArray[np.float32]]] = []
    with run.log.track(stage, len(data), "images") as advance:
        for batch in in_order(data, run, BATCH):
            with reading(model, sites) as rows, run.fabric.autocast():
                model(batch.image)
            batches.append([rows[site.name].cpu().numpy() for site in sites])
            advance(len(batch.rows))
    columns = zip(*batches, strict=True)
    return {site.name: np.concatenate(parts) for site, parts in zip(sites, columns, strict=True)}


def with_early_layers(
    loaded: Sequence[Loaded], subjects: Sequence[Subject], sets: Sets, where: Run
) -> list[Subject]:
    """The same models with the last three earlier stages among their features, on the probe and test splits.

    Stages that all models have are taken, without those that are the head's input in every one of them. In
    a model that takes something out between the last stage and the head, that stage stays.

    Args:
        loaded: The models.
        subjects: The same, as they were read.
        sets: The probe and test splits.
        where: One process.

    Raises:
        ModelError: A feature is not a finite number.
    """
    splits = (sets.probe, sets.test)
    read = [tuple(stage_tables(item, part, sets, where) for part in splits) for item in loaded]
    names = [name for name in read[0][0] if all(name in probed for probed, _ in read)]
    earlier = [
        name
        for name in names
        if not all(
            _same(probed[name], subject.probe.features[PENULTIMATE])
            for (probed, _), subject in zip(read, subjects, strict=True)
        )
    ]
    return [
        replace(
            subject,
            probe=with_tables(subject.probe, probed, earlier[-MOST:]),
            test=with_tables(subject.test, tested, earlier[-MOST:]),
        )
        for subject, (probed, tested) in zip(subjects, read, strict=True)
    ]


def with_cells(
    loaded: Sequence[Loaded], subjects: Sequence[Subject], sets: Sets, where: Run
) -> list[Subject]:
    """The same models with the cells of every stage that all of them have among their features.

    Args:
        loaded, subjects, sets, where: See `with_early_layers`.

    Raises:
        ModelError: A feature is not a finite number.
    """
    splits = (sets.probe, sets.test)
    read = [tuple(stage_tables(item, part, sets, where, CELLS_READ) for part in splits) for item in loaded]
    names = [name for name in read[0][0] if all(name in probed for probed, _ in read)]
    return [
        replace(
            subject,
            probe=with_tables(subject.probe, probed, names),
            test=with_tables(subject.test, tested, names),
        )
        for subject, (probed, tested) in zip(subjects, read, strict=True)
    ]


@dataclass(frozen=True)
class StageReading:
    """How the stages are read: the function, and the words that distinguish it in a cache."""

    read: Callable[..., Tables]
    key: str
    prefix: str


STAGES_READ = StageReading(stage_means, "stages-of-sites", "stage")
CELLS_READ = StageReading(cell_means, "cells-of-sites", "cells")


def stage_tables(
    item: Loaded, part: Dataset, sets: Sets, where: Run, how: StageReading = STAGES_READ
) -> Tables:
    """What a run's model says at its stages on a split, from the cache or for it.

    Args:
        item: The run.
        part: The probe or test split.
        sets: Of which it is one.
        where: One process.
        how: Means over all positions, or over the cells of a grid.

    Raises:
        ModelError: A feature is not a finite number.
    """
    data = replace(part, mean=item.config.mean, std=item.config.std)
    tables = kept_tables(
        lambda: how.read(
            engine.place(item.model, where).eval(), data, where, stage=f"read {item.path.name} (stages)"
        ),
        lambda tables: all(len(table) == len(data) for table in tables.values()),
        data,
        where,
        key_of(item, sets.digest, how.key),
    )
    for name, table in tables.items():
        if not np.isfinite(table).all():
            raise ModelError(f"the features of {item.path} at {name} are not finite numbers")
    return {
        name: tables[name] for name in sorted(tables, key=lambda name: int(name.removeprefix(how.prefix)))
    }


def _same(one: NDArray[np.float32], two: NDArray[np.float32]) -> bool:
    """Whether two tables hold the same features, but for rounding."""
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=0, atol=CLOSE * np.abs(two).max()))


def with_tables(outputs: Outputs, tables: Tables, names: Sequence[str]) -> Outputs:
    """Outputs with some tables among their features."""
    return replace(outputs, features={**outputs.features, **{name: tables[name] for name in names}})
