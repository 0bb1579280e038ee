"""Training the references that an audit lacks, by the original's recipe; and what that would cost.

::

    runs/base                             the original
    runs/base-without-Male-seed1          the same network, data and recipe, never shown Male
    runs/base-without-Male-seed2          ... with a seed of its own
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.setup import Case
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError, UnlabelError
from unlabel.core.files import RECORD
from unlabel.core.framing import sides_of
from unlabel.core.recipe import Blueprint, Recipe
from unlabel.data.canaries import CanaryPlan
from unlabel.runs.files import read_config, read_record
from unlabel.runs.origin import Plan, Record
from unlabel.runs.record import blueprint_of, canaries_of
from unlabel.training.micro_batch import with_micro_batch
from unlabel.training.run import train_run

OWN_CODE = "models that its own code trained without the label, adopted with --without"
TRAINED_AS = (
    "references are trained as unlabel train does it, by SGD on a one-cycle schedule. If the original was"
    " trained otherwise, other values may be needed. Or train models without the label by the original's own"
    " code, and adopt them with --without"
)
MOST = 20
REFERENCES = 3  # from three on, C2 is not provisional
LONGEST = 80  # characters of labels in a folder's name; file systems allow 255 in all
SEEDS = 2**31
SHAPE = (
    "network",
    "stem",
    "labels",
    "forgotten",
    "image_size",
    "resize",
    "crop_pct",
    "interpolation",
    "mean",
    "std",
    "activation",
)


@dataclass(frozen=True)
class Job:
    """One model to train beside the original.

    Args:
        out: Its folder.
        blueprint: Its recipe.
        place: Where, with its seed.
        without: Labels that it is never shown.
        short: Share of the original's epochs; None: all of them.
    """

    out: Path
    blueprint: Blueprint
    place: Run
    without: tuple[str, ...]
    short: float | None = None

    @property
    def plan(self) -> Plan:
        """The recipe as a run folder records it."""
        made = self.blueprint
        where = self.place
        return Plan(made.network, made.stem, made.recipe, where.batch_size, where.micro_batch, made.head)


def check_count(count: int) -> None:
    """Refuses a number of references out of range."""
    if not 1 <= count <= MOST:
        raise OptionError(f"--make-references is {count}; expected 1 to {MOST}")


def make_references(
    case: Case,
    count: int,
    where: Run,
    *,
    epochs: float | None = None,
    lr: float | None = None,
    command: str = "",
    force: bool = False,
) -> list[Path]:
    """Trains models without the labels of a case, by the original's recipe; finished ones are used again.

    Everything that an audit would refuse is refused before the first training.

    Args:
        case: The original, the labels, the data, and the references that are there already: their seeds are
            not used. The new references are written beside the original.
        count: How many, 1 to 20.
        where: Device; its batch size counts only if the original's recipe is not recorded.
        epochs: Epochs over the training images, > 0, if the original's recipe is not recorded.
        lr: Peak learning rate, > 0, if the original's recipe is not recorded.
        command: The command line, for the records.
        force: Discard an unfinished training of another recipe; a finished run is never replaced.

    Returns:
        The run folders, in the order of their seeds.

    Raises:
        OptionError: A number is out of range, the recipe is missing or contradicts the recorded one, or a
            folder of that name holds another run.
        UnlabelError: As `ask` and `train_run` raise.
    """
    check_count(count)
    before = case.original.path
    sets = sets_of(case.source, where.seed, case.planting)
    for label in case.request.masked:
        ask(label, sets.probe, sets.test, sets.train)
    if case.original.config.activation == "sigmoid" and case.source.facts.get("exclusive"):
        raise OptionError(
            f"every image of {case.source.name} has exactly one label, so references would be trained as"
            f" classes, by a softmax, but {before} predicts each label by itself; train them as it was made,"
            " and name them with --reference A,B,C"
        )
    blueprint, place = recipe_of(case, where, epochs, lr)
    masked = case.request.masked
    jobs = {
        f"reference {number}/{count}, without {', '.join(masked)}": Job(
            folder_of(before, masked, seed), blueprint, place.with_seed(seed), masked
        )
        for number, seed in enumerate(seeds_of(case, count), start=1)
    }
    return train_jobs(jobs, case, where, command, force=force)


def train_jobs(
    jobs: Mapping[str, Job], case: Case, where: Run, command: str, *, force: bool = False
) -> list[Path]:
    """Trains each model that is not there yet; what stands in the place of one is refused before the first.

    Args:
        jobs: By what progress calls them.
        case: The audit's runs and data.
        where: Receives progress.
        command: The command line, for the records.
        force: Discard an unfinished training of another recipe.

    Returns:
        Their folders.
    """
    finished = [is_finished(job, case) for job in jobs.values()]
    for (what, job), done in zip(jobs.items(), finished, strict=True):
        if done:
            where.log.say(f"{what}: {job.out} is there already")
            continue
        network, seed = job.blueprint.network, job.place.seed
        where.log.say(f"{what}: training {network} with seed {seed} into {job.out}")
        _train(job, case, command, force=force)
    return [job.out for job in jobs.values()]


def _train(job: Job, case: Case, command: str, *, force: bool) -> None:
    config, remembered = case.original.config, case.original.record.data
    train_run(
        case.source.name,
        job.out,
        job.place,
        network=job.blueprint.network,
        stem=job.blueprint.stem,
        head=job.blueprint.head,
        recipe=job.blueprint.recipe,
        image_size=config.image_size,
        framing=config.framing,
        labels=config.labels,
        without=job.without,
        normalisation=(config.mean, config.std),
        canaries=_canaries(case),
        skip_bad=bool(remembered and remembered.skipped_bad),
        short=job.short,
        force=force,
        command=command,
    )


def _canaries(case: Case) -> CanaryPlan | None:
    """The original's canaries: planted in retained labels, they are part of its recipe."""
    canaries = case.source.facts.get("canaries")
    return CanaryPlan(canaries["count"], tuple(canaries["labels"]), canaries["seed"]) if canaries else None


def recipe_of(case: Case, where: Run, epochs: float | None, lr: float | None) -> tuple[Blueprint, Run]:
    """The recorded recipe and batch sizes of the original, or the given ones where none is recorded.

    Args:
        case: The audit's runs.
        where: Batch sizes where none are recorded.
        epochs: Epochs over the training images; must equal the recorded ones if there are any.
        lr: Peak learning rate, likewise.

    Raises:
        OptionError: A given number is not the recorded one, or is missing where nothing is recorded.
    """
    path, config = case.original.path, case.original.config
    given = {"epochs": epochs, "lr": lr}
    if case.original.record.blueprint:
        blueprint, place = blueprint_of(case.original.record, where)
        for name, value in given.items():
            recorded = getattr(blueprint.recipe, name)
            if value is not None and value != recorded:
                raise OptionError(
                    f"--{name} is {value:g}, but {path} was trained with {recorded:g}; a reference repeats"
                    f" the original's recipe: leave --{name} out"
                )
        return blueprint, place
    if epochs is None or lr is None:
        missing = [f"--{name}" for name, value in given.items() if value is None]
        raise OptionError(
            f"{path} does not record how it was trained, so {' and '.join(missing)} must say how to train its"
            f" references: give the epochs and the peak learning rate that made it: {TRAINED_AS}"
        )
    blueprint = Blueprint(config.network, config.stem, Recipe(epochs=epochs, lr=lr), config.head)
    place = with_micro_batch(where, lambda: case.original.model, sides_of(config.image_size))
    return blueprint, replace(place, micro_batch_given=True)


def seeds_of(case: Case, count: int) -> list[int]:
    """The first seeds after the original's that no related run has used."""
    seeds = [record.seed for record in _line(case.original.record)]
    used = {*seeds, *(item.record.seed for item in case.references)}
    chosen, at = [], seeds[-1] if isinstance(seeds[-1], int) else 0
    while len(chosen) < count:
        at = (at + 1) % SEEDS
        if at not in used:
            chosen.append(at)
    return chosen


def _line(record: Record) -> list[Record]:
    """A run's record and those of its ancestors, as far as they are there; the last one was trained."""
    line, paths = [record], set()
    while (parent := line[-1].parent and line[-1].parent.run) and parent not in paths:
        if not (Path(parent) / RECORD).is_file():
            break
        paths.add(parent)
        line.append(read_record(Path(parent)))
    return line


def folder_of(before: Path, masked: Sequence[str], seed: int, short: float | None = None) -> Path:
    """Where a reference goes: beside the original, named by what it never saw and by its seed.

    A model that is trained for a share of the epochs says so in its name.

    >>> folder_of(Path("base"), ["Male"], 1, short=0.05).name, folder_of(Path("base"), [], 0, short=0.1).name
    ('base-without-Male-short0.05-seed1', 'base-short0.1-seed0')
    >>> folder_of(Path("runs/base"), ["Male", "Bald"], 1).as_posix()
    'runs/base-without-Male+Bald-seed1'
    >>> folder_of(Path("base"), ["5 o'clock"], 2).name
    'base-without-5_o_clock-a31d7127-seed2'
    """
    plain = "+".join(re.sub(r"[^A-Za-z0-9_.-]", "_", label) for label in masked)
    if plain != "+".join(masked) or len(plain) > LONGEST:  # two requests must not share a folder
        plain = f"{plain[:LONGEST]}-{sha256(repr(tuple(masked)).encode()).hexdigest()[:8]}"
    base = before if before.name not in ("", "..") else before.resolve()
    without = f"-without-{plain}" if masked else ""
    length = "" if short is None else f"-short{short:.4g}"
    return base.with_name(f"{base.name}{without}{length}-seed{seed}")


def is_finished(job: Job, case: Case) -> bool:
    """Whether the reference is there already; something else in its place is refused, not replaced.

    Args:
        job: The reference to make.
        case: The audit's runs and data.

    Raises:
        OptionError: The folder is no run, or one that was made otherwise.
    """
    if not job.out.exists() or (job.out.is_dir() and not any(job.out.iterdir())):
        return False
    kind = "reference" if job.short is None else "short training"
    advice = f"expected a {kind} of this audit: move it away, or delete it to train it again"
    try:
        config, record = read_config(job.out), read_record(job.out)
    except UnlabelError as error:
        raise OptionError(f"{job.out} exists and is no whole run ({error}); {advice}") from error
    wanted = replace(case.original.config, forgotten=job.without)
    same = {
        "method": record.method == "train",
        "length": record.short == job.short,
        "recipe": record.blueprint == job.plan,
        "seed": record.seed == job.place.seed,
        "data": record.digest == case.source.facts.get("digest"),
        "canaries": canaries_of(record) == (case.source.facts.get("canaries") or {}),
        "network, labels or input": all(getattr(config, name) == getattr(wanted, name) for name in SHAPE),
    }
    other = [name for name, equal in same.items() if not equal]
    if other:
        raise OptionError(f"{job.out} is a run with another {' and another '.join(other)}; {advice}")
    return True


def reference_cost(case: Case, data: str | None) -> dict[str, Any]:
    """What three references would cost, as plain data.

    Args:
        case: The audit's runs and data.
        data: Another data source than the one the original remembers, for the command.

    Returns:
        ``count``; ``images`` and ``seconds`` of one reference (of one *epoch* over the training
        images if the recipe is not recorded, then ``per`` is ``pass``), seconds None where nothing tells the
        speed; ``estimated_from``; ``command``; and all of it as a ``sentence`` without the command.
    """
    assert case.after is not None
    plan = case.original.record.blueprint
    command = ["unlabel", "audit", str(case.after.path), "--before", str(case.original.path)]
    command += ["--data", data] if data else []
    command += ["--make-references", str(REFERENCES)]
    if plan:
        steps = plan.recipe.steps(len(case.source.train), plan.batch_size)
        images = steps * plan.batch_size
    else:
        images = len(case.source.train)
    rate, basis = speed(case)
    seconds = images / rate if rate else None
    per = "each" if plan else "an epoch for each"
    each = f"about {images:,} images {per}"
    if seconds is not None:
        each += f", about {duration(seconds)} {per} (estimated from {basis})"
    sentence = f"{REFERENCES} references would take {each}"
    if not plan:
        sentence += ". The original's recipe is not recorded, so name the epochs and the learning rate:"
        sentence += f" {TRAINED_AS}. To train them by SGD"
    return {
        "count": REFERENCES,
        "images": images,
        "seconds": seconds,
        "per": "reference" if plan else "pass",
        "estimated_from": basis,
        "sentence": sentence,
        "command": shlex.join(command) + ("" if plan else " --epochs EPOCHS --lr LR"),
    }


def reference_seconds(case: Case) -> tuple[float | None, float | None, str | None]:
    """Seconds of one reference, training images a second, and whose: None where the record does not tell."""
    plan = case.original.record.blueprint
    rate, basis = speed(case)
    if not plan or not rate:
        return None, rate, basis
    steps = plan.recipe.steps(len(case.source.train), plan.batch_size)
    return steps * plan.batch_size / rate, rate, basis


def speed(case: Case) -> tuple[float | None, str | None]:
    """Training images a second on the record, and whose: the original's training, or the forgetting's."""
    later = case.after.record if case.after else Record()
    sources: tuple[tuple[Record, str, str], ...] = (
        (case.original.record, "train", "the original's training"),
        (later, "repair", "the forgetting's repair"),
        (later, "train", "the forgetting's training"),
    )
    for record, stage, whose in sources:
        images, seconds = record.images_processed, (record.seconds or {}).get(stage)
        if images and seconds:
            return images / seconds, f"{whose} on {record.device or 'its machine'}"
    return None, None


def duration(seconds: float) -> str:
    """A time to expect, never nothing.

    >>> duration(0.2), duration(61), duration(1500), duration(20000)
    ('1 s', '61 s', '25 min', '5.6 h')
    """
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
