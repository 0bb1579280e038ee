"""One job done: the model unlearned, audited, and what was found as plain data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlabel.audit.document.results import Audit, plain
from unlabel.audit.figures import judged_by
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.reading.outputs import read_run, repeats
from unlabel.audit.run.folders import SharedOutputs, read_shared
from unlabel.audit.run.jobs import Opened, read_ahead
from unlabel.audit.setup import Case
from unlabel.compare.cell_figures import Also, reading
from unlabel.compare.jobs import Job
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import PlaceError, UnlabelError
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import find_method
from unlabel.forget.run import forget_run
from unlabel.runs.folder import Loaded, load_run
from unlabel.runs.origin import Record
from unlabel.runs.record import blueprint_of, source_of

CLAIMS = ("C1", "C2", "C3", "C5")


def kept_run(folder: Path, job: Job, key: str) -> Path:
    """The run folder in which a cell's unlearned model is kept."""
    return folder / f"{job.method.replace(':', '-')}-seed{job.seed}-{key[:8]}"


@dataclass(frozen=True)
class CellRunner:
    """What all cells share.

    Args:
        shared: The original and the references, read.
        train: The training images as `unlabel forget` reads them: labels are classes where the data says so.
        options: Of every audit.
        memory: Attacks on the original and the references.
        data: Another data source than the one the original remembers.
        keep_models: Folder in which unlearned models are stored as runs; None stores none.
        also: Reads more figures of every model.
    """

    shared: SharedOutputs
    train: Dataset
    options: AuditOptions
    memory: Memory
    data: str | None
    keep_models: Path | None
    also: Also | None = None

    @classmethod
    def of(
        cls,
        case: Case,
        where: Run,
        options: AuditOptions,
        memory: Memory,
        data: str | None,
        keep_models: Path | None,
        also: Also | None = None,
    ) -> "CellRunner":
        """For cells of a case, whose models are read on all processes of a run."""
        original, sets = case.original, sets_of(case.source, where.seed, case.planting)
        read_ahead(Opened(case, sets, options), where, data)
        shared = read_shared(case, sets, engine.alone(where))
        train = source_of(original.config, original.record, data, skip_bad=False, run=where).train
        return cls(shared, train, options, memory, data, keep_models, also)

    def work(self, job: Job, key: str, where: Run) -> dict[str, Any]:
        """Does one job in the place of one process; a method's failure is an outcome.

        A full disk is not, and neither is too little memory: the same command tries such a job again.
        """
        try:
            return {"outcome": "done", "error": None, **self._audited(job, key, where)}
        except UnlabelError as error:
            if isinstance(error, OSError | PlaceError):
                raise
            return {"outcome": "failed", "error": {"kind": type(error).__name__, "message": str(error)}}

    def _audited(self, job: Job, key: str, where: Run) -> dict[str, Any]:
        sets, request = self.shared.sets, self.shared.case.request
        made = self.unlearned(job, key, where)
        after = read_run(made, "after", sets, where, cached=False)
        repeated, memory = repeats(made, sets, where), replace(self.memory, log=where.log)
        audit = self.shared.audit(
            after, options=self.options, deterministic=repeated, log=where.log, memory=memory
        )
        splits = [part.with_labels(request.labels) for part in (sets.probe, sets.test, sets.train)]
        questions = {name: ask(name, *splits) for name in request.masked}
        rows = [row for row in audit.metrics if row.model == "after"]
        cost = {
            name: getattr(made.record, name)
            for name in ("steps", "images_processed", "images_used", "changed", "total", "seconds", "options")
        }
        return {
            **reading(rows, after, questions, sets, request, self.options),
            **judged(audit),
            "cost": plain(cost),
            **(
                {}
                if self.also is None
                else {"also": plain(self.also(made, after, self.shared.before, sets, request))}
            ),
        }

    def unlearned(self, job: Job, key: str, where: Run) -> Loaded:
        """The unlearned model: as a run folder where models are kept, else in memory alone."""
        case, run = self.shared.case, where.with_seed(job.seed)
        settings = {"images": job.images, **job.options}
        if self.keep_models is not None:
            out = kept_run(self.keep_models, job, key)
            forget_run(
                job.method, case.original.path, case.request.forget, out, run,
                data=self.data, force=True, **settings,
            )  # fmt: skip
            return load_run(out)
        if find_method(job.method).reference:
            settings["blueprint"], run = blueprint_of(case.original.record, run)
        outcome = forget_labels(
            case.original.model, case.request.forget, self.train,
            method=job.method, forgotten=case.original.config.forgotten, run=run, **settings,
        )  # fmt: skip
        record = Record(
            options={name: value for name, value in outcome.options.items() if name != "blueprint"},
            changed=outcome.changed,
            total=outcome.total,
            images_used=outcome.images_used,
            images_processed=outcome.images_processed,
            steps=outcome.history.steps,
            seconds=dict(outcome.seconds),
        )
        config = replace(case.original.config, forgotten=outcome.request.masked)
        return Loaded(Path(job.method), outcome.model, config, record, "", in_memory=True)


def judged(audit: Audit) -> dict[str, Any]:
    """The verdicts of an audit, and by how much C2 and C5 were met or missed.

    ``c2.excess`` is the largest (difference to Retrain) / margin among the tests that decide a PASS of C2:
    those of the mean over labels where several were forgotten; attacks that can only condemn are not among
    them. ``c2.upper`` is the largest upper bound likewise; C2
    passes where it is below 1.
    """
    rows = [
        {
            "id": item.id,
            "label": item.label,
            "diff": item.diff,
            "lower": item.lower,
            "upper": item.upper,
            "margin": item.margin,
            "excess": item.diff / item.margin,
            "excess_upper": item.upper / item.margin,
            "verdict": item.verdict,
        }
        for item in audit.comparisons
    ]
    tests = [row for row in rows if row["id"] in judged_by("C2")]
    deciding = [row for row in tests if row["label"] is None] or tests
    worst = max(deciding, key=lambda row: row["excess"], default=None)
    notes = audit.claims["C5"].notes
    return plain(
        {
            "headline": audit.headline,
            "valid": audit.valid,
            "invalid_because": audit.invalid_because,
            "claims": {
                name: {
                    "verdict": claim.verdict,
                    "sentence": claim.sentence,
                    "provisional": claim.provisional,
                    "binding": claim.binding,
                    "per_label": claim.per_label,
                    "finding": claim.notes.get("finding"),
                }
                for name, claim in audit.claims.items()
                if name in CLAIMS
            },
            "c2": {
                "excess": worst["excess"] if worst else None,
                "figure": worst["id"] if worst else None,
                "upper": max((row["excess_upper"] for row in deciding), default=None),
                "rows": rows,
            },
            "c5": notes.get("against_retrained") or notes["against_original"],
        }
    )
