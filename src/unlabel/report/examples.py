"""Example images of an audited run: its models and data read again, and what an attacker makes of each image.

The attacker is the audit's linear probe on the features, fitted on P; the images are of E, which neither it
nor the models have seen.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.probes import linear
from unlabel.audit.document.typed import ModelRecord
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question, ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.reading.outputs import read_run
from unlabel.audit.setup import Case, open_case
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import DataError, MissingFiles, ModelError, OptionError
from unlabel.core.places import check_file
from unlabel.core.reading import typed
from unlabel.core.request import Request
from unlabel.core.wording import in_shell
from unlabel.data import DRAWN
from unlabel.report.page import read_audit, unreadable, write_report
from unlabel.report.pictures import Example, Gallery, Picture, address, pick, room
from unlabel.runs.lineage import at_hand


def write_gallery(
    run: Path,
    where: Run,
    out: Path | None = None,
    *,
    data: str | None = None,
    force: bool = False,
    command: str | None = None,
) -> Path:
    """Writes the report of an audited run with example images, and returns its path.

    It never lies in the run's folder, which is signed, copied and given away as a whole.

    Args:
        run: The unlearned run, with its audit.json.
        where: Device; receives progress.
        out: File to write; RUN-with-images.html beside the run where it is None.
        data: Where the audit's images lie now, if not where they were.
        force: Replace a file that is there.
        command: The command line, for the page.

    Raises:
        OptionError: `out` lies in the run, is there already, or is no place for a file.
        UnlabelError: As `gallery` and `write_report` raise.
    """
    name = run if run.name not in ("", "..") else run.absolute().resolve()
    path = name.with_name(f"{name.name}-with-images.html") if out is None else out
    if path.resolve().is_relative_to(run.resolve()):
        raise OptionError(
            f"--out {path} lies in {run}, which is signed and given away as a whole; name a place outside it"
        )
    check_file(path, force=force)
    shown = gallery(run, where, data=data)
    return write_report(run, path, gallery=shown, command=command, force=force)


def gallery(run: Path, where: Run, *, data: str | None = None) -> Gallery:
    """Chooses and encodes the example images of an audited run; the same for the same run and data.

    Args:
        run: The unlearned run, with its audit.json.
        where: Device; receives progress.
        data: Where the audit's images lie now, if not where they were.

    Raises:
        ModelError: A model of the audit is not at hand with the weights that were audited.
        MissingFiles: The images are not where they were.
        DataError: The images are not those of the audit.
    """
    audited = _audited(run)
    original, where = at_hand(audited.original, audited.original_sha256, run), engine.alone(where)
    try:
        case = open_case(run, original, [], where, data or audited.source)
    except MissingFiles as error:
        raise MissingFiles(f"{error}; example images need the audit's data: name it with --data") from error
    assert case.after is not None
    again = f"run again: unlabel audit {in_shell(run)} --before {in_shell(original)}"
    if case.after.sha256 != audited.sha256:
        raise ModelError(f"{run} has other weights than were audited; {again}")
    if case.source.facts.get("digest") != audited.digest:
        raise DataError(
            f"{case.source.name} holds other images or annotations than the audit read; name the audit's data"
            f" with --data, or {again}"
        )
    return _gallery(case, where, audited.seed)


@dataclass(frozen=True)
class _Audited:
    """What an audit says of the models and images that it was of."""

    original: str
    original_sha256: str
    sha256: str
    source: str
    digest: str
    seed: int


def _audited(run: Path) -> _Audited:
    audit = read_audit(run)
    before, after = audit.models.before or ModelRecord(), audit.models.after or ModelRecord()
    given = {
        "original": before.run,
        "original_sha256": before.sha256,
        "sha256": after.sha256,
        "source": audit.data.source,
        "digest": audit.data.digest,
        "seed": audit.options.seed,
    }
    if missing := [name.replace("_", " ") for name, value in given.items() if value is None]:
        raise unreadable(run, f"it lacks {', '.join(missing)}")
    return typed(given, _Audited)


def _gallery(case: Case, where: Run, seed: int) -> Gallery:
    assert case.after is not None
    sets = sets_of(case.source, seed, case.planting)
    models = (read_run(case.original, "before", sets, where), read_run(case.after, "after", sets, where))
    labels = case.request.forget
    most, each = room(len(labels))
    examples = [_example(label, case.request, sets, models, each, seed) for label in labels[:most]]
    drawn = case.source.name.partition(":")[0] in DRAWN
    return Gallery(case.source.name, drawn, examples, labels[most:])


def _example(
    label: str, request: Request, sets: Any, models: tuple[Subject, Subject], each: int, seed: int
) -> Example:
    probe, test, train = (part.with_labels(request.labels) for part in (sets.probe, sets.test, sets.train))
    question = ask(label, probe, test, train)
    known = np.flatnonzero(question.test >= 0)
    present = question.test[known] == 1
    before, after = (certainty(model, question, seed)[known] for model in models)
    chosen = pick(before, after, present, test.cluster[known], each, seed)

    def picture(at: int) -> Picture:
        row = int(known[at])
        uri = address(test.images(slice(row, row + 1))[0])
        return Picture(str(test.ids[row]), bool(present[at]), float(before[at]), float(after[at]), uri)

    strips = {strip: [picture(at) for at in found] for strip, found in chosen.items()}
    return Example(label, strips, len(known), float(present.mean()))


def certainty(model: Subject, question: Question, seed: int) -> NDArray[np.float64]:
    """Probability that a linear attacker on a model's features gives to each image's annotation, (image,).

    Args:
        model: Its outputs.
        question: The label, with the annotations of P and E; where E's is unknown, that of absent.
        seed: Of the folds.
    """
    predicted = linear(model.probe, model.test, question, replace(AuditOptions(), probe_seeds=1, seed=seed))
    return np.exp(np.where(question.test == 1, predicted.log_present[:, 0], predicted.log_absent[:, 0]))
