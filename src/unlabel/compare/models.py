"""The original and the references of a comparison: attacked once, for all cells."""

from typing import Any

from unlabel.audit.attacks.evidence import gather
from unlabel.audit.attacks.metric_rows import floor_rows, label_rows
from unlabel.audit.document.results import plain
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Context, ask
from unlabel.audit.run.folders import SharedOutputs
from unlabel.compare.cell_figures import Also, figure_rows, reading
from unlabel.core.progress import Log
from unlabel.runs.folder import Loaded
from unlabel.runs.origin import Record


def read_models(
    shared: SharedOutputs, options: AuditOptions, memory: Memory, log: Log, also: Also | None = None
) -> dict[str, Any]:
    """Figures of the original and of every reference, and the floor, as plain data.

    Args:
        shared: The models' outputs.
        options: Sizes and seed.
        memory: Where the attacks are looked up and kept.
        log: Receives progress.
        also: Reads more figures, kept under ``also``.

    Returns:
        ``before`` and ``references`` (each with ``run``, ``sha256``, ``seed``, ``cost`` and what
        `cell_figures.reading` gives) and ``floor``.
    """
    case, sets = shared.case, shared.sets
    subjects = [shared.before, *shared.references]
    probe, test, train = (
        part.with_labels(case.request.labels) for part in (sets.probe, sets.test, sets.train)
    )
    questions = {name: ask(name, probe, test, train) for name in case.request.masked}
    context = Context(questions, case.request, probe, test, train, options, shared.random_init, log, memory)
    evidence = gather(subjects, context)
    records = []
    for index, (subject, loaded) in enumerate(zip(subjects, [case.original, *case.references], strict=True)):
        rows = [
            row
            for name, question in questions.items()
            for row in label_rows(
                subject, evidence.owns[index][name], evidence.readings[index][name], None, question, options
            )
        ]
        read = reading(rows, subject, questions, sets, case.request, options)
        if also is not None:
            read["also"] = plain(also(loaded, subject, shared.before, sets, case.request))
        records.append({"run": str(loaded.path), **identity(loaded), **read})
    return {
        "before": records[0],
        "references": records[1:],
        "floor": plain(figure_rows(floor_rows(evidence.floors))),
    }


def identity(loaded: Loaded) -> dict[str, Any]:
    """Whose figures these are, and what making that model took; None where no training is recorded."""
    record = loaded.record
    made = record if record.method in ("train", "retrain") else Record()
    return {
        "sha256": loaded.sha256,
        "seed": record.seed,
        "cost": {key: getattr(made, key) for key in ("steps", "images_processed", "images_used", "seconds")},
    }
