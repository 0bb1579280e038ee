"""Everything that an audit runs models for, as jobs that processes share out.

Each job runs one model and keeps the tables that it makes, see `models.cached_outputs`. The audit then goes
on in one process, and finds every table there. A model in memory has no key to keep tables by, so the models
of such an audit are read later, one after another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from unlabel.audit.attacks.early_layers import CELLS_READ, STAGES_READ, StageReading, stage_tables
from unlabel.audit.attacks.fine_tuning import scaled, trainings_of, tuned
from unlabel.audit.attacks.starts import can_attack
from unlabel.audit.attacks.stitching import stitched_tables
from unlabel.audit.attacks.tangent import predicted, predictions_of
from unlabel.audit.attacks.transforms import TRANSFORMS
from unlabel.audit.figures import RETAIN_TUNED
from unlabel.audit.inputs.attackers import ADAM, POSITIONS, STITCHED, TANGENT, Attacker
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.perturbed_images import IMAGES as PERTURBED
from unlabel.audit.inputs.sets import Sets, sets_of
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.plan.trainings import FORWARD, images_of_prediction, images_of_stitches, work
from unlabel.audit.reading.outputs import (
    after_transform,
    calibration_images,
    random_init,
    read_part,
    untrained_count,
)
from unlabel.audit.setup import Case, open_case, open_request, with_shorts
from unlabel.core.engine import Run
from unlabel.core.progress import Noticing
from unlabel.core.workers import KEPT, Held, share_out
from unlabel.data.dataset import Dataset
from unlabel.runs.folder import Loaded


@dataclass(frozen=True)
class Opened:
    """What the jobs of one process share."""

    case: Case
    sets: Sets
    options: AuditOptions

    @property
    def models(self) -> list[Loaded]:
        """The original first, then the unlearned model where there is one."""
        case = self.case
        return [case.original, *([case.after] if case.after else []), *case.references]

    @property
    def read(self) -> list[Loaded]:
        """Those, and the short trainings, of which nothing but their outputs is read."""
        return [*self.models, *(item for pair in self.case.shorts for item in pair.both)]

    @cached_property
    def calibration(self) -> Dataset:
        """Images for the transforms that need some."""
        return calibration_images(self.case.source, self.options.seed)


Make: TypeAlias = Callable[[Opened, Run], object]


@dataclass(frozen=True)
class Reading:
    """One job: what it is called, what makes its tables, and about how many images a network reads for it.

    An image that is trained on counts as `plan.trainings.FORWARD` that are read.
    """

    name: str
    make: Make
    images: int

    def __str__(self) -> str:
        return self.name


def read_ahead(opened: Opened, where: Run, data: str | None) -> None:
    """Makes every table that an audit of these models reads, on all processes of a run.

    Args:
        opened: The models and their data.
        where: Any number of processes.
        data: Another data source than the one the original remembers.
    """
    case = opened.case
    if any(item.in_memory for item in opened.models):
        return
    again = partial(
        _open,
        case.original.path,
        case.after.path if case.after else None,
        tuple(item.path for item in case.references),
        [pair.map(attrgetter("path")) for pair in case.shorts],
        case.request.forget,
        data,
        opened.options,
    )
    read = partial(_read, Held(again, [opened]))
    share_out(list(readings(opened)), read, where, stage="read", unit="images", size=attrgetter("images"))


def _open(
    original: Path,
    after: Path | None,
    references: tuple[Path, ...],
    shorts: Sequence[ShortPair[Path]],
    labels: tuple[str, ...],
    data: str | None,
    options: AuditOptions,
    run: Run,
) -> Opened:
    """Opens the runs and the data in a process that starts anew."""
    if after is None:
        case = open_request(labels, original, references, run, data)
    else:
        case = open_case(after, original, references, run, data)
    case = with_shorts(case, shorts)
    return Opened(case, sets_of(case.source, options.seed, case.planting), options)


def _read(held: Held[Opened], run: Run, job: Reading) -> str | None:
    """Does a job; says so if all of its tables were kept already, so that no stage was opened."""
    opened, log = held.get(run), Noticing(run.log)
    job.make(opened, replace(run, log=log))
    for item in opened.read:
        item.model.cpu()  # a GPU holds one model at a time
    return None if log.worked else KEPT


def readings(opened: Opened) -> Iterator[Reading]:
    """Every job of an audit, long ones first."""
    includes, models = opened.options.includes, list(enumerate(opened.models))
    sizes = sizes_of(opened.sets)
    both = sizes["probe"] + sizes["test"]
    changed = models[1:] if includes.transforms else []
    cells = POSITIONS in opened.options.asked
    stages = [*([STAGES_READ] if includes.early_layers or cells else []), *([CELLS_READ] if cells else [])]
    for name, asked in trainings_of(opened.case.request, opened.sets, opened.options).items():
        for attacker, n in asked:
            shown, read = work(attacker.name, sizes["test"], opened.options)
            for number, item in models:
                who = "tune" if attacker == ADAM else attacker.name
                title, make = f"{who} {item.path.name} ({n})", partial(_tuned, number, name, attacker, n)
                yield Reading(title, make, round(FORWARD * shown) + read)
    if TANGENT in opened.options.asked:
        for name, n in predictions_of(opened.case.request, opened.sets, opened.options):
            read = images_of_prediction(n, sizes["test"], opened.options)
            for number, item in models:
                yield Reading(f"predict {item.path.name} ({n})", partial(_predicted, number, name, n), read)
    if STITCHED in opened.options.asked:
        for number, item in models:
            read = images_of_stitches(sizes["probe"], sizes["test"])
            yield Reading(f"stitch {item.path.name}", partial(_stitched, number), read)
    for transform in sorted(TRANSFORMS, key=lambda name: name != RETAIN_TUNED.id):
        for number, item in changed:
            yield Reading(f"{item.path.name} ({transform})", partial(_transformed, number, transform), both)
    for part in ("train", "test", "probe"):
        for number, item in models:
            yield Reading(f"{item.path.name}, {part} split", partial(_part, number, part), sizes[part])
            for how in stages if part != "train" else ():
                title, make = (
                    f"{item.path.name}, {how.prefix}, {part} split",
                    partial(_stages, number, part, how),
                )
                yield Reading(title, make, sizes[part])
        for number, item in list(enumerate(opened.read))[len(models) :]:
            yield Reading(f"{item.path.name}, {part} split", partial(_part, number, part), sizes[part])
    for part in ("near test", "near probe"):
        for number, item in models[1:]:
            yield Reading(f"{item.path.name}, perturbed images", partial(_part, number, part), sizes[part])
    for number in range(untrained_count(opened.case)):
        yield Reading(f"untrained network {number + 1}", partial(_untrained, number), both)


def sizes_of(sets: Sets) -> dict[str, int]:
    """Images of each part that models are read on."""
    sizes = {"train": len(sets.train), "test": len(sets.test), "probe": len(sets.probe)}
    return sizes | {f"near {part}": min(sizes[part], PERTURBED) for part in ("test", "probe")}


def _part(number: int, part: str, opened: Opened, where: Run) -> None:
    read_part(opened.read[number], part, opened.sets, where)


def _transformed(number: int, transform: str, opened: Opened, where: Run) -> None:
    item, request = opened.models[number], opened.case.request
    after_transform(item, transform, opened.calibration, opened.sets, request, where)


def _stages(number: int, part: str, how: StageReading, opened: Opened, where: Run) -> None:
    sets = opened.sets
    stage_tables(opened.models[number], sets.test if part == "test" else sets.probe, sets, where, how)


def _tuned(number: int, name: str, attacker: Attacker, n: int, opened: Opened, where: Run) -> None:
    item, sets, request = opened.models[number], opened.sets, opened.case.request
    if can_attack(attacker, item.model, scaled(sets.probe.with_labels(request.labels), item), where):
        tuned(item, name, n, attacker, sets, request, opened.options, where)


def _predicted(number: int, name: str, n: int, opened: Opened, where: Run) -> None:
    predicted(opened.models[number], name, n, opened.sets, opened.case.request, opened.options, where)


def _stitched(number: int, opened: Opened, where: Run) -> None:
    stitched_tables(opened.models[number], opened.case.original, opened.sets, where)


def _untrained(number: int, opened: Opened, where: Run) -> None:
    random_init(opened.case.original, opened.sets, where, number)
