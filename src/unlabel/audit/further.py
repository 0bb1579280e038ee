"""What the standard and the full budget measure beyond the quick one, before anything is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlabel.audit.durable import FEW, RECOVERED, Recovery
from unlabel.audit.evidence import Job, side_by_side
from unlabel.audit.judging import Readings, unit_of
from unlabel.audit.outputs import OwnOutput, read_others_linear
from unlabel.audit.probes import read_features
from unlabel.audit.relearn import few_shot
from unlabel.audit.rows import row
from unlabel.audit.subject import Altered, AuditOptions, Question, Subject
from unlabel.findings import Metric
from unlabel.log import Log


@dataclass(frozen=True)
class Further:
    """What was measured; see the modules that judge it."""

    altered: Mapping[tuple[str, str], Mapping[str, Readings]]  # (transform, run) -> label -> attack
    recovery: Recovery


def gather_further(
    subjects: Sequence[Subject],
    altered: Sequence[Altered],
    questions: Mapping[str, Question],
    hidden: tuple[int, ...],
    options: AuditOptions,
    log: Log,
    *,
    exclusive: bool,
) -> Further:
    """Runs every further test on every model alike.

    Args:
        subjects: The models, the original first and the unlearned one second.
        altered: Unlearned and retrained models after each transform.
        questions: The labels to be guessed.
        hidden: Columns hidden from attacks on other outputs.
        options: Sizes and seed.
        log: Receives progress.
        exclusive: Whether the labels are classes.
    """
    jobs: dict[Any, Job] = {}
    for name, question in questions.items():
        for item in altered:
            jobs["altered", name, item.transform, item.subject.run] = lambda s=item.subject, q=question: (
                reread(s, hidden, q, options, exclusive=exclusive)
            )
        for subject in subjects:
            jobs["few", name, subject.run] = lambda s=subject, q=question: few_shot(
                s.probe, s.test, q, options
            )
    done = side_by_side(jobs, log)
    changed = {
        (item.transform, item.subject.run): {
            name: done["altered", name, item.transform, item.subject.run] for name in questions
        }
        for item in altered
    }

    def of(subject: Subject) -> dict[str, Mapping[str, Readings]]:
        return {transform: rows for (transform, run), rows in changed.items() if run == subject.run}

    recovery = Recovery(
        of(subjects[1]),
        [of(subject) for subject in subjects[2:]],
        {name: [done["few", name, subject.run] for subject in subjects] for name in questions},
    )
    return Further(changed, recovery)


def reread(
    subject: Subject, hidden: tuple[int, ...], question: Question, options: AuditOptions, *, exclusive: bool
) -> dict[str, Any]:
    """The attacks of `RECOVERED` on a model that was changed."""
    own = OwnOutput.of(subject, question, exclusive=exclusive)
    return {
        "own.adv": own.signed(question).absolute(),
        "others.adv.lin": read_others_linear(subject, hidden, question),
        **read_features(subject.probe, subject.test, question, options),
    }


def further_rows(further: Further, subjects: Sequence[Subject]) -> list[Metric]:
    """Every figure as a row of ``metrics[]``."""
    rows: list[Metric] = []
    by_run = {subject.run: subject for subject in subjects}
    for (transform, run), labels in further.altered.items():
        for label, readings in labels.items():
            for figure in RECOVERED:
                unit = unit_of(figure)
                low = 0.0 if figure == "own.adv" or unit == "bits" else -1.0
                name = f"recover.{figure}"
                rows.append(row(name, label, by_run[run], readings[figure], unit, low, transform=transform))
    for label, models in further.recovery.few.items():
        for subject, sizes in zip(subjects, models, strict=True):
            rows += [row(f"{FEW}{n}", label, subject, found.mean, "auc") for n, found in sizes.items()]
    return rows
