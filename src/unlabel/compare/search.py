"""Choosing settings on the probe split alone, the same number for every method. The test split is never read.

The probe split is divided in two by identity. Attacks are fitted on one half and measured on the other, for
models and references alike, with one probe seed. Of the settings that lose less than .01 of mean retained AUC
against the references, the one with the smallest excess over them is chosen; if none does, the one that loses
least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from unlabel.audit.attacks.outputs import OwnOutput, read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.utility import answerable, measurable, read_utility
from unlabel.audit.claims.judging import reference_margin
from unlabel.audit.figures import ATTACKS, OWN, UTILITY_AUC
from unlabel.audit.inputs import AuditOptions, Subject, ask
from unlabel.audit.memory import Memory
from unlabel.audit.results import plain
from unlabel.audit.setup import Case
from unlabel.compare.cells import SCHEMA, read_finished, write
from unlabel.compare.jobs import Job, described, hashed, identity_of
from unlabel.compare.plan import spend
from unlabel.compare.run_cell import CellRunner
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError, UnlabelError
from unlabel.core.randomness import uniform
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
    halves = ProbeHalves(case, where, options)
    runner = CellRunner(case, where, options, Memory(), data, None)
    common = {"search": 1, **identity_of(case, options, where)}
    by_method: dict[str, Any] = {}
    best: list[Job] = []
    for job in jobs:
        tries = []
        for number, setting in enumerate(find_method(job.method).settings(settings), start=1):
            tried = spend(Job(job.method, setting, job.seed, job.images), budget)
            file = folder / "search" / f"{hashed({**common, **described(tried)})}.json"
            record = None if force else read_finished(file, SCHEMA, where.log)
            if record is None:
                where.log.say(f"search {job.method}, setting {number}: {setting or 'defaults'}")
                record = {
                    "schema": SCHEMA,
                    "identity": {**common, **described(tried)},
                    **halves.read(runner, tried),
                }
                write(file, record)
            tries.append(
                {"setting": setting, **{k: v for k, v in record.items() if k not in ("schema", "identity")}}
            )
            tries[-1]["options"] = dict(tried.options)
        chosen = pick(tries)
        by_method[job.method] = {"tries": tries, "chosen": chosen, **_bill(tries)}
        best.append(Job(job.method, tries[chosen]["options"], job.seed, job.images))
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
    """The two halves of the probe split, and the figures of the references on them."""

    case: Case
    where: Run
    options: AuditOptions

    @cached_property
    def halves(self) -> tuple[Dataset, Dataset]:
        """The probe split in two parts that share no identity, the same for every method."""
        probe = self.case.source.probe.with_labels(self.case.request.labels)
        coin = uniform(self.where.seed, "compare/half", probe.cluster) < 0.5
        return probe.take(np.flatnonzero(coin)), probe.take(np.flatnonzero(~coin))

    @cached_property
    def target(self) -> tuple[dict[str, float], float]:
        """Mean of the references: every attack, and the retained AUC."""
        rows = [self.figures(loaded) for loaded in self.case.references]
        return {name: fmean(row[0][name] for row in rows) for name in ATTACKS}, fmean(row[1] for row in rows)

    def read(self, runner: CellRunner, job: Job) -> dict[str, Any]:
        """The figures of one setting, and its bill; a failure has neither excess nor loss."""
        nothing = {"excess": None, "loss": None, "steps": 0, "images_processed": 0, "seconds": 0.0}
        goal, auc = self.target
        try:
            made = runner.unlearned(job, "")
            attacks, own = self.figures(made)
        except UnlabelError as error:
            if isinstance(error, OSError):
                raise
            return {**nothing, "error": f"{type(error).__name__}: {error}"}
        over = {name: (attacks[name] - goal[name]) / reference_margin(name, self.options) for name in ATTACKS}
        return plain(
            {
                "error": None,
                "excess": max(over.values()),
                "figure": max(over, key=lambda name: over[name]),
                "loss": auc - own,
                "steps": made.record.steps,
                "images_processed": made.record.images_processed,
                "seconds": (made.record.seconds or {})["total"],
            }
        )

    def figures(self, loaded: Loaded) -> tuple[dict[str, float], float]:
        """Every attack on a model, mean over the forgotten labels, and its mean retained AUC: second half."""
        request, (fitting, measuring) = self.case.request, self.halves
        model = engine.place(loaded.model, self.where)
        fitted, measured = (outputs(model, half, self.where, stage="validate") for half in self.halves)
        subject = Subject(loaded.path.name, "after", fitted, measured, measured)
        rows = []
        for name in request.forget:
            question = ask(name, fitting, measuring, measuring)
            own = OwnOutput.of(subject, question, exclusive=measuring.exclusive)
            rows.append(
                {
                    OWN.id: own.signed(question).absolute(),
                    **read_features(fitted, measured, question, self.options),
                    **read_others(subject, request.masked_columns, question, self.options),
                }
            )
        judged_on = answerable(measuring, request.retained_columns)
        retained = measurable(judged_on, request.retained)
        utility = read_utility(subject, judged_on, retained, self.options, request.retained_columns)
        attacks = {name: fmean(row[name].value for row in rows) for name in ATTACKS}
        return attacks, utility.macro(UTILITY_AUC.id).value
