"""Choosing settings on the probe split alone, the same number for every method. The test split is never read.

The probe split is divided in two by identity. Attacks are fitted on one half and measured on the other, for
models and references alike, with one probe seed. Of the settings that lose less than .01 of mean retained AUC
against the references, the one with the smallest excess over them is chosen; if none does, the one that loses
least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from unlabel.audit.attacks.outputs import OwnOutput, read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.utility import answerable, measurable, read_utility
from unlabel.audit.claims.judging import reference_margin
from unlabel.audit.document.results import plain
from unlabel.audit.figures import ATTACKS, OWN, UTILITY_AUC
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.setup import Case, open_request
from unlabel.compare.cells import SCHEMA, read_finished, write
from unlabel.compare.jobs import Job, described, hashed, identity_of
from unlabel.compare.plan import spend
from unlabel.compare.run_cell import CellRunner
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import DataError, OptionError, PlaceError, UnlabelError
from unlabel.core.parallel import one_thread
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.core.workers import Held, share_out
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import Budget
from unlabel.forget.methods import MOST_SETTINGS, find_method
from unlabel.models.features import outputs
from unlabel.runs.folder import Loaded

RULE = (
    "smallest largest excess over the references, in margins of C2, among settings whose mean retained AUC is"
    " less than 0.01 below theirs; if there is none, the smallest loss"
)
TOLERATED = 0.01


def check_search(settings: int) -> None:
    """Refuses a number of settings out of range."""
    if not 0 <= settings <= MOST_SETTINGS:
        raise OptionError(f"--search is {settings}; expected 0 to {MOST_SETTINGS} settings a method")


def search(
    case: Case,
    jobs: Sequence[Job],
    where: Run,
    folder: Path,
    budget: Budget,
    settings: int,
    *,
    data: str | None = None,
    force: bool = False,
) -> tuple[dict[str, Any], list[Job]]:
    """Tries settings of every method; returns all tries, and for each method a job with its best setting.

    Args:
        case: The original, the labels, the references and the data.
        where, folder, data, force: See `cells.run_cells`.
        jobs: One a method, with its seed and images.
        budget: Of each try.
        settings: Number to try of each method, 1 to 6; fewer if the method has fewer.

    Returns:
        Plain data: ``rule``, ``methods`` (tries, the chosen one, steps, images and seconds of all), the
        totals and a ``sentence``; and the chosen jobs.
    """
    options = AuditOptions(seed=where.seed, probe_seeds=1, raw_image=False)
    common = {"search": 1, **identity_of(case, options, where)}
    tries = {
        job.method: [
            _try(job, setting, number, budget, folder, common)
            for number, setting in enumerate(find_method(job.method).settings(settings), start=1)
        ]
        for job in jobs
    }
    _search_all([one for each in tries.values() for one in each], case, options, where, data, force=force)
    by_method: dict[str, Any] = {}
    best: list[Job] = []
    for job in jobs:
        rows = [_row(one, where) for one in tries[job.method]]
        chosen = pick(rows)
        by_method[job.method] = {"tries": rows, "chosen": chosen, **_bill(rows)}
        best.append(Job(job.method, rows[chosen]["options"], job.seed, job.images))
    total = _bill([one for row in by_method.values() for one in row["tries"]])
    return plain(
        {
            "rule": RULE,
            "settings": settings,
            "methods": by_method,
            **total,
            "sentence": _sentence(by_method, total),
        }
    ), best


@dataclass(frozen=True)
class _Try:
    """One setting of one method."""

    setting: Mapping[str, Any]
    number: int
    job: Job
    file: Path
    identity: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.job.method}, setting {self.number}: {dict(self.setting) or 'defaults'}"


def _try(
    job: Job, setting: Mapping[str, Any], number: int, budget: Budget, folder: Path, common: Mapping[str, Any]
) -> _Try:
    tried = spend(Job(job.method, setting, job.seed, job.images), budget)
    identity = {**common, **described(tried)}
    return _Try(setting, number, tried, folder / "search" / f"{hashed(identity)}.json", identity)


def _search_all(
    tries: Sequence[_Try], case: Case, options: AuditOptions, where: Run, data: str | None, *, force: bool
) -> None:
    """Does every try that is not finished, on all processes of a run."""
    pending = [one for one in tries if force or read_finished(one.file, SCHEMA, where.log) is None]
    if not pending:
        return
    original, labels = case.original.path, case.request.forget
    references = [item.path for item in case.references]
    again = partial(_open, original, labels, references, data, options)
    held = Held(again, [_shared(case, options, where, data)])
    share_out(pending, partial(_compute, held), where, stage="search", unit="settings")


def _open(
    original: Path,
    labels: Sequence[str],
    references: Sequence[Path],
    data: str | None,
    options: AuditOptions,
    run: Run,
) -> "tuple[CellRunner, ProbeHalves]":
    """What all tries share, in a process that starts anew."""
    return _shared(open_request(labels, original, references, run, data), options, run, data)


def _shared(
    case: Case, options: AuditOptions, where: Run, data: str | None
) -> "tuple[CellRunner, ProbeHalves]":
    runner = CellRunner.of(case, where, options, Memory(), data, None)
    return runner, ProbeHalves.of(case, options, engine.alone(where))


def _compute(held: "Held[tuple[CellRunner, ProbeHalves]]", run: Run, one: _Try) -> None:
    """Does one try and writes its file."""
    run.log.say(f"search {one}")
    runner, halves = held.get(run)
    result = halves.read(runner, one.job, run)
    write(one.file, {"schema": SCHEMA, "identity": one.identity, **result})


def _row(one: _Try, where: Run) -> dict[str, Any]:
    """A finished try, as the comparison holds it.

    Raises:
        DataError: Its file is damaged.
    """
    record = read_finished(one.file, SCHEMA, where.log)
    if record is None:
        raise DataError(f"{one.file} was written and is damaged or gone; run the same command again")
    result = {key: value for key, value in record.items() if key not in ("schema", "identity")}
    return {"setting": one.setting, **result, "options": dict(one.job.options)}


def pick(tries: Sequence[Mapping[str, Any]]) -> int:
    """Which try is best by the rule; the defaults if all failed.

    >>> pick([{"excess": 3.0, "loss": 0.0}, {"excess": 1.0, "loss": 0.005}, {"excess": 0.2, "loss": 0.02}])
    1
    >>> pick([{"excess": 3.0, "loss": 0.03}, {"excess": None, "loss": None}, {"excess": 9.0, "loss": 0.02}])
    2
    """
    ended = [number for number, one in enumerate(tries) if one["excess"] is not None]
    mild = [number for number in ended if tries[number]["loss"] < TOLERATED]
    if mild:
        return min(mild, key=lambda number: tries[number]["excess"])
    return min(ended, key=lambda number: tries[number]["loss"], default=0)


def _bill(tries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "tried": len(tries),
        **{name: sum(one[name] for one in tries) for name in ("steps", "images_processed", "seconds")},
    }


def _sentence(by_method: Mapping[str, Any], total: Mapping[str, Any]) -> str:
    fewer = [
        name
        for name, row in by_method.items()
        if row["tried"] < max(each["tried"] for each in by_method.values())
    ]
    text = (
        f"the search tried {total['tried']} settings on the probe split: {total['steps']:,} steps and"
        f" {total['images_processed']:,} images, not counted in the methods' cost"
    )
    return text + (f"; fewer settings exist of {', '.join(fewer)}" if fewer else "")


@dataclass(frozen=True)
class ProbeHalves:
    """The two halves of the probe split, and the figures of the references on them.

    Args:
        request: What is forgotten.
        halves: The probe split in two parts that share no identity, the same for every method.
        options: Sizes and seed of the attacks.
        goal: Mean of the references: every attack, and the retained AUC.
    """

    request: Request
    halves: tuple[Dataset, Dataset]
    options: AuditOptions
    goal: tuple[Mapping[str, float], float] = ({}, 0.0)

    @classmethod
    def of(cls, case: Case, options: AuditOptions, where: Run) -> "ProbeHalves":
        """Divides the probe split of a case, and reads its references."""
        probe = case.source.probe.with_labels(case.request.labels)
        coin = uniform(where.seed, "compare/half", probe.cluster) < 0.5
        halves = cls(
            case.request, (probe.take(np.flatnonzero(coin)), probe.take(np.flatnonzero(~coin))), options
        )
        with one_thread():
            rows = [halves.figures(loaded, where) for loaded in case.references]
        attacks = {name: fmean(row[0][name] for row in rows) for name in ATTACKS}
        return replace(halves, goal=(attacks, fmean(row[1] for row in rows)))

    def read(self, runner: CellRunner, job: Job, where: Run) -> dict[str, Any]:
        """The figures of one setting, and its bill; a failure has neither excess nor loss."""
        nothing = {"excess": None, "loss": None, "steps": 0, "images_processed": 0, "seconds": 0.0}
        goal, auc = self.goal
        try:
            made = runner.unlearned(job, "", where)
            attacks, retained = self.figures(made, where)
        except UnlabelError as error:
            if isinstance(error, OSError | PlaceError):
                raise
            return {**nothing, "error": f"{type(error).__name__}: {error}"}
        over = {name: (attacks[name] - goal[name]) / reference_margin(name, self.options) for name in ATTACKS}
        return plain(
            {
                "error": None,
                "excess": max(over.values()),
                "figure": max(over, key=lambda name: over[name]),
                "loss": auc - retained,
                "steps": made.record.steps,
                "images_processed": made.record.images_processed,
                "seconds": (made.record.seconds or {})["total"],
            }
        )

    def figures(self, loaded: Loaded, where: Run) -> tuple[dict[str, float], float]:
        """Every attack on a model, mean over the forgotten labels, and its mean retained AUC: second half."""
        request, (fitting, measuring) = self.request, self.halves
        model = engine.place(loaded.model, where)
        fitted, measured = (outputs(model, half, where, stage="validate") for half in self.halves)
        subject = Subject(loaded.path.name, "after", fitted, measured, measured)
        rows = []
        for name in request.forget:
            question = ask(name, fitting, measuring, measuring)
            own_output = OwnOutput.of(subject, question, exclusive=measuring.exclusive)
            rows.append(
                {
                    OWN.id: own_output.signed(question).absolute(),
                    **read_features(fitted, measured, question, self.options),
                    **read_others(subject, request.masked_columns, question, self.options),
                }
            )
        judged_on = answerable(measuring, request.retained_columns)
        retained = measurable(judged_on, request.retained)
        utility = read_utility(subject, judged_on, retained, self.options, request.retained_columns)
        attacks = {name: fmean(row[name].value for row in rows) for name in ATTACKS}
        return attacks, utility.macro(UTILITY_AUC.id).value
