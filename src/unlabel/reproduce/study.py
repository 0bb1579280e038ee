"""What a page needs before it can be written: trainings and cells, and the folders that they are kept in.

::

    Study        one data set, one label, some methods
    planned()    its trainings and cells, as lines for a person: nothing is computed
    carry_out()  makes what is not there yet -> Made
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlabel.audit.inputs.options import AuditOptions
from unlabel.compare.cells import CellResult, run_cells
from unlabel.compare.jobs import Job
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.files import RECORD
from unlabel.core.framing import size_text
from unlabel.core.recipe import Recipe
from unlabel.core.request import listed
from unlabel.core.wording import suggest
from unlabel.data import load
from unlabel.data.readers.location import absolute_name
from unlabel.data.splits import SPLIT_NAMES
from unlabel.forget.methods import find_method
from unlabel.reproduce.document import images_in_words
from unlabel.reproduce.measure import Reader
from unlabel.reproduce.relearning import Relearner, attack_in_words
from unlabel.reproduce.scale import Scale, Task
from unlabel.reproduce.settings import Setting
from unlabel.runs.files import read_record
from unlabel.training.run import train_run

DRAWN = ("faces", "shapes", "ages")
"""Sources that are made by their name alone: what follows the colon is no path."""


@dataclass(frozen=True)
class Study:
    """Methods that forget one label of one data set.

    Args:
        task: A name of `Scale.tasks`.
        label: What is forgotten.
        settings: Methods, in the order of the table.
        network: Its place in `Scale.networks`.
        relearn: Whether every model is trained again on few annotated images, see `relearning`.
    """

    task: str
    label: str
    settings: tuple[Setting, ...]
    network: int = 0
    relearn: bool = False


@dataclass(frozen=True)
class Made:
    """A finished study: records of its models, as kept in the cells.

    Args:
        study: What was asked.
        source: The data source's name.
        facts: What is recorded of the data.
        folder: The original's run.
        original: The original's record.
        retrained: The references' records.
        cells: Of each setting, one a seed, in the order of the seeds.
        floor: Advantage of guessing the label from the true other labels; None where no cells were made.
    """

    study: Study
    source: str
    facts: Mapping[str, Any]
    folder: Path
    original: Mapping[str, Any]
    retrained: tuple[Mapping[str, Any], ...]
    cells: Mapping[str, tuple[CellResult, ...]]
    floor: float | None = None


def with_data(scale: Scale, given: Sequence[str]) -> Scale:
    """The scale with some data sets replaced by the user's, their paths absolute: folders are named by them.

    Args:
        scale: A table of sizes.
        given: ``SOURCE`` whose reader is a task's name, such as ``celeba:PATH``, or ``TASK=SOURCE``.

    Raises:
        OptionError: No such task, a task twice, or a source without a path.
    """
    tasks = dict(scale.tasks)
    named: set[str] = set()
    for text in given:
        name, sign, source = text.partition("=")
        if not sign or ":" in name:  # faces:train=8 has its sign after the colon
            name, source = text.partition(":")[0], text
        if name not in tasks:
            names = ", ".join(tasks)
            raise OptionError(
                f"--data {text} belongs to no data set of the paper.{suggest(name, tasks)} Write one of"
                f" {names}, then = and a source: --data celeba=folder:PATH, or celeba:PATH alone"
            )
        if name in named or not source:
            raise OptionError(f"--data names {name} {'twice' if source else 'without a source'}; name one")
        named.add(name)
        tasks[name] = replace(tasks[name], source=absolute_name(source), stands_for="")
    return replace(scale, tasks=tasks)


def source_of(scale: Scale, name: str) -> str:
    """The source of a task.

    Raises:
        OptionError: The scale has none and the user named none.
    """
    source = scale.tasks[name].source
    if source is None:
        title = scale.tasks[name].title
        raise OptionError(
            f"--scale {scale.name} needs {title}: add --data {name}:PATH, or --data {name}=SOURCE for"
            " another form of it; --scale small draws a stand-in"
        )
    return source


def bare(text: str) -> str:
    """A source without its path, which is nobody's business.

    >>> bare("celeba=folder:/home/ann/photos"), bare("faces:train=8")
    ('celeba=folder:PATH', 'faces:train=8')
    """
    head, sign, _ = text.partition(":")
    return f"{head}:PATH" if sign and head.rpartition("=")[2] not in DRAWN else text


@dataclass(frozen=True)
class Training:
    """One model to train: the original, or a reference without a label."""

    out: Path
    task: Task
    source: str
    network: tuple[str, str]
    without: tuple[str, ...]
    seed: int


def trainings(study: Study, scale: Scale, cache: Path, digest: str | None = None) -> list[Training]:
    """The original and the references of a study; the folder's name tells all that they depend on.

    Args:
        study: What to make.
        scale: Sizes.
        cache: Folder of runs.
        digest: Of the content of data that a path names, which may change: other content has a folder of its
            own. None: data whose name tells all, or which nobody has read yet.
    """
    task, network = scale.tasks[study.task], scale.networks[study.network]
    source = source_of(scale, study.task)
    depends = [source, network, scale.recipe.to_json(), scale.batch_size, task.labels, task.image_size]
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:8]
    folder = cache / "runs" / f"{study.task}-{network[0]}-{key}"
    seeds = {f"without-{study.label}-seed{seed}": seed for seed in scale.retrain_seeds}
    if digest is not None and not _trained_on(digest, [folder / name for name in ("original", *seeds)]):
        folder = folder.with_name(f"{folder.name}-{digest[:12]}")
    original = Training(folder / "original", task, source, network, (), scale.original_seed)
    return [
        original,
        *(
            replace(original, out=folder / name, without=(study.label,), seed=seed)
            for name, seed in seeds.items()
        ),
    ]


def _trained_on(digest: str, runs: Sequence[Path]) -> bool:
    """Whether the first of these runs is finished, and all that are saw this content: they stay usable."""
    finished = [run for run in runs if (run / RECORD).is_file()]
    return runs[0] in finished and all(read_record(run).digest == digest for run in finished)


def content_of(study: Study, scale: Scale, where: Run, known: dict[tuple[Any, ...], str]) -> str | None:
    """The digest of data that a path names, read as a training reads it; None of any other data.

    Args:
        study: Whose data.
        scale: Sizes.
        where: Receives progress.
        known: Digests of this call, each data set read once; added to.
    """
    task, source = scale.tasks[study.task], source_of(scale, study.task)
    if bare(source) == source:
        return None
    key = (source, task.image_size, task.labels)
    if key not in known:
        data = load(
            source,
            image_size=task.image_size,
            labels=task.labels,
            cache=where.cache,
            workers=where.workers,
            log=where.log,
        )
        known[key] = str(data.facts["digest"])
    return known[key]


def jobs_of(study: Study, scale: Scale) -> list[tuple[Setting, Job]]:
    """Every setting with every unlearning seed."""
    return [
        (setting, Job(setting.method, setting.options, seed=seed, images=images_of(setting, scale)))
        for setting in study.settings
        for seed in scale.unlearning_seeds
    ]


def images_of(setting: Setting, scale: Scale) -> int:
    """Calibration images of a setting."""
    return setting.images or scale.images or find_method(setting.method).images


def planned(studies: Sequence[Study], scale: Scale, cache: Path) -> list[str]:
    """What a page would make, in lines for a person."""
    lines, folders = [], set()
    for study in studies:
        trained = scale.tasks[study.task].trained
        lines += [f"take {path} as it is" for path in trained]
        for training in () if trained else trainings(study, scale, cache):
            if training.out in folders:
                continue
            folders.add(training.out)
            what = f"without {training.without[0]}" if training.without else "all labels"
            there = _there_already(training)
            lines.append(
                f"train {training.network[0]} on {training.source}, {what}, seed {training.seed},"
                f" {scale.recipe.epochs:g} epochs of {scale.recipe.schedule} at {scale.recipe.lr:g},"
                f" batch {scale.batch_size}{there}"
            )
        if study.settings:
            names = ", ".join(setting.name for setting in study.settings)
            lines.append(
                f"forget {study.label} of {scale.tasks[study.task].title}: {len(study.settings)} settings x"
                f" {len(scale.unlearning_seeds)} seeds on {images_in_words(scale.images)} images ({names})"
            )
        if study.relearn:
            models = 1 + (len(trained) - 1 if trained else len(scale.retrain_seeds))
            models += len(study.settings) * len(scale.unlearning_seeds)
            lines.append(f"train {models} models again on {attack_in_words(audit_options(scale, 0))}")
    return lines


def _there_already(training: Training) -> str:
    """What the plan says of a run that is there; of data behind a path only a reading tells more."""
    if bare(training.source) == training.source:
        return ", is there already" if (training.out / RECORD).is_file() else ""
    folder, name = training.out.parent, training.out.name
    there = [folder / name, *folder.parent.glob(f"{folder.name}-*/{name}")]
    trained = any((run / RECORD).is_file() for run in there)
    return ", is there already unless the data have changed" if trained else ""


def train_all(
    study: Study, scale: Scale, cache: Path, where: Run, known: dict[tuple[Any, ...], str]
) -> list[Path]:
    """Trains what is not there yet; an unfinished training goes on where it was."""
    if scale.tasks[study.task].trained:
        return list(scale.tasks[study.task].trained)
    made = []
    for training in trainings(study, scale, cache, content_of(study, scale, where, known)):
        made.append(training.out)
        if (training.out / RECORD).is_file():
            continue
        what = f"without {training.without[0]}" if training.without else "original"
        where.log.say(f"train {training.task.title}, {what}, seed {training.seed}")
        training.out.parent.mkdir(parents=True, exist_ok=True)
        train_run(
            training.source,
            training.out,
            replace(where, batch_size=scale.batch_size).with_seed(training.seed),
            network=training.network[0],
            stem=training.network[1],
            recipe=scale.recipe,
            image_size=training.task.image_size,
            labels=training.task.labels,
            without=training.without,
            command=_typed(training, scale),
        )
    return made


def _typed(training: Training, scale: Scale) -> str:
    """The command that makes the same run; empty if none does, as of a constant rate."""
    recipe, (network, stem), task = scale.recipe, training.network, training.task
    if recipe != Recipe(epochs=recipe.epochs, lr=recipe.lr):
        return ""
    size = task.image_size
    given = {
        "--model": network,
        "--stem": stem,
        "--epochs": f"{recipe.epochs:g}",
        "--lr": f"{recipe.lr:g}",
        "--batch-size": str(scale.batch_size),
        "--image-size": None if size is None else size_text(size),
        "--labels": listed(task.labels) if task.labels else None,
        "--without": listed(training.without) if training.without else None,
        "--seed": str(training.seed),
    }
    words = [word for flag, value in given.items() if value is not None for word in (flag, value)]
    return shlex.join(["unlabel", "train", training.source, *words])


def audit_options(scale: Scale, seed: int) -> AuditOptions:
    """Margins and sizes with which every model of a page is audited."""
    return AuditOptions(seed=seed, cross_fit=False, **scale.audit)


def carry_out(
    study: Study,
    scale: Scale,
    cache: Path,
    where: Run,
    known: dict[tuple[Any, ...], str] | None = None,
) -> Made:
    """Makes what a study needs, reusing what is there.

    Args:
        study: What to make.
        scale: Sizes.
        cache: Folder of runs and cells; shared by all pages.
        where: Device; its seed is the audit's.
        known: Digests of data that were read for other studies of the same call; added to.

    Raises:
        UnlabelError: As training, forgetting and auditing raise.
    """
    original, *references = train_all(study, scale, cache, where, {} if known is None else known)
    record, source = read_record(original), source_of(scale, study.task)
    facts = (record.data and record.data.facts) or {}
    if not study.settings:
        return Made(study, source, facts, original, {}, (), {})
    pairs, options = jobs_of(study, scale), audit_options(scale, where.seed)
    table = run_cells(
        original,
        [study.label],
        [job for _, job in pairs],
        references,
        replace(where, batch_size=scale.batch_size),
        cache,
        options=options,
        also=Relearner(options, where) if study.relearn else Reader(),
    )
    facts = {  # of what was audited: runs that are taken as they are may name data that have changed
        **facts,
        "digest": table.facts["data"],
        "counts": dict(zip(SPLIT_NAMES, table.facts["splits"], strict=True)),
    }
    cells: dict[str, tuple[CellResult, ...]] = {}
    for (setting, _), cell in zip(pairs, table.cells, strict=True):
        cells[setting.name] = (*cells.get(setting.name, ()), cell)
    floor = next(row["value"] for row in table.floor if row["label"] == study.label)
    return Made(study, source, facts, original, table.before, table.references, cells, floor)
