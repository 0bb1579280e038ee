"""An audit of models that are only read: of files of outputs, or of deployed models on a data source.

::

    audit_files([before.npz, after.npz, *references])   the images stay where they are
    audit_deployed(Named(after, before), data, ...)     onnx:FILE, or run folders beside it

Both become the inputs that an audit of runs has, and the same ``audit.json``; what needs weights stays open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unlabel.audit.document.results import Audit, Role
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets, overlap, sets_of
from unlabel.audit.inputs.subject import Subject, has_features
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.read_only.deployed import Deployed, check_distinct, open_model
from unlabel.audit.read_only.outputs_file import PROBE, TEST, TRAIN, Tables, check_same_images, read_outputs
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import DataError, LabelMismatch, ModelError, NothingToForget, OptionError
from unlabel.core.files import write_json
from unlabel.core.places import check_folder
from unlabel.core.request import Request
from unlabel.core.wording import listing
from unlabel.data import load
from unlabel.data.dataset import Dataset, Source
from unlabel.data.survey.duplicates import shared_pictures
from unlabel.exchange.onnx_file import OnnxSettings

AUDIT = "audit.json"
TRAINED_ON = (
    "The training images are those of the data source's train split. Files do not tell whether the models"
    " were trained on them; if not, C1 holds for the test images alone."
)


def check_out(out: Path, *, force: bool) -> None:
    """Refuses, before any work, a folder that the audit cannot be written into.

    Raises:
        OptionError: It is no folder of this kind, or holds an audit and `force` is not set.
    """
    check_folder(out)
    file = out / AUDIT
    if file.is_symlink() or (file.exists() and not (force and file.is_file())):
        raise OptionError(f"{file} exists; name another folder with --out, or replace it with --force")


def write(audit: Audit, out: Path, *, force: bool) -> None:
    """Writes ``audit.json`` into a folder, which is made; `unlabel report` makes the page from it.

    Raises:
        OptionError: As `check_out` raises.
    """
    check_out(out, force=force)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / AUDIT, audit.to_json())


def audit_files(
    files: Sequence[Path], labels: Sequence[str], where: Run, settings: AuditOptions, *, command: str = ""
) -> Audit:
    """Audits a model by files of outputs; see `audit.read_only.outputs_file` for their form.

    Args:
        files: Of the original, the unlearned model, and retrained ones, any number.
        labels: What was to be forgotten.
        where: Receives progress; its seed deals images where the files do not.
        settings: Margins, sizes and seed, with the quick budget.
        command: The command line, for the record.

    Raises:
        OptionError: Fewer than two files, one twice, or another budget.
        DataError: A file cannot be used, or two do not hold the same images.
        RequestError: The labels do not fit the files'.
    """
    _check_budget(settings)
    if len(files) < 2:
        raise OptionError(
            f"--outputs names {len(files)} file{'s' * (len(files) != 1)}; expected those of the original and"
            " the unlearned model, then of retrained ones: --outputs before.npz,after.npz,reference.npz"
        )
    tables = [read_outputs(file, settings.seed) for file in files]
    first = tables[0]
    for other in tables[1:]:
        check_same_images(first, other)
        if other.exclusive != first.exclusive:
            raise DataError(
                f"one of {first.name} and {other.name} answers by a softmax and the other does not; expected"
                " models of one kind: save the same activation in both"
            )
    if first.note:
        where.log.say(first.note)
    check_distinct([(item.name, item.sha256) for item in tables])
    if not first.labels:
        raise LabelMismatch(f"{first.name} has no array 'labels'; an audit needs the name of each output")
    request = _request(labels, first.labels)
    probe, test, train = (_annotated(first, part) for part in (PROBE, TEST, TRAIN))
    subjects = [item.subject(role) for item, role in zip(tables, _roles(len(tables)), strict=True)]
    inputs = AuditInputs(
        subjects[0],
        subjects[1],
        subjects[2:],
        request,
        probe,
        test,
        train,
        overlap=first.overlap(),
        facts=_facts(first),
        models=_models([_record(item.name, item.sha256, item.labels) for item in tables], command),
        start_known=False,
        outputs_only=True,
    )
    return audit_outputs(inputs, replace(settings, raw_image=False), where.log)


def _annotated(first: Tables, part: int) -> Dataset:
    """The images of one split, with the annotations in the order of the outputs."""
    if set(first.labels) != set(first.target_labels):
        raise LabelMismatch(
            f"labels of {first.name} are {listing(first.labels, 3)} and target_labels are"
            f" {listing(first.target_labels, 3)}; an audit needs the annotations of each output"
        )
    return first.dataset(part).with_labels(first.labels)


@dataclass(frozen=True)
class Named:
    """Models that are only read, as the user names them: run folders or ``onnx:FILE?features=TENSOR``.

    Args:
        after, before, references: The unlearned model, the original, and retrained ones.
        onnx: What the metadata of ONNX files lack.
    """

    after: str
    before: str
    references: Sequence[str] = ()
    onnx: OnnxSettings = field(default_factory=OnnxSettings)

    def opened(self) -> list[Deployed]:
        """The original, the unlearned model and the references, which belong together."""
        models = [open_model(text, self.onnx) for text in (self.before, self.after, *self.references)]
        _check_together(models)
        return models


def audit_deployed(
    named: Named, data: str, labels: Sequence[str], where: Run, settings: AuditOptions, *, command: str = ""
) -> Audit:
    """Audits models that are only read. If one of them has no features, those of the others are left out.

    Args:
        named: The models.
        data: Data source with the models' label columns.
        labels: What was to be forgotten; none: what the unlearned model's record says and the original's does
            not.
        where: The machine; one process reads the models.
        settings: Margins, sizes and seed, with the quick budget.
        command: The command line, for the record.

    Raises:
        OptionError: Another budget, or one model given twice.
        ModelError: A model cannot be read, or does not belong to the others.
        DataError: The data lacks a label, or has too few images of a kind.
        RequestError: The labels do not fit the models'.
    """
    _check_budget(settings)
    where = engine.alone(where)
    models = named.opened()
    first = models[0]
    request = _request_of(models, labels)
    source = _source(first, data, where)
    sets = _answered(sets_of(source, settings.seed), exclusive=first.exclusive)
    subjects = [
        _subject(model, role, sets, where) for model, role in zip(models, _roles(len(models)), strict=True)
    ]
    featureless = [item.run for item in subjects if not has_features(item)]
    if featureless:
        subjects = [_without_features(subject) for subject in subjects]
    crossing = overlap(source)
    copies = shared_pictures(source) if crossing is None else None
    inputs = AuditInputs(
        subjects[0],
        subjects[1],
        subjects[2:],
        request,
        sets.probe,
        sets.test,
        sets.train,
        overlap=crossing,
        facts={"source": source.name, **source.facts},
        models=_models([_record(item.name, item.sha256, item.labels) for item in models], command),
        start_known=False,
        outputs_only=True,
        featureless=featureless if len(featureless) < len(models) else (),
    )
    audit = audit_outputs(inputs, settings, where.log)
    notes = dict.fromkeys(note for model in models for note in model.notes)
    told = [copies] if copies else []
    return replace(audit, limitations=(*audit.limitations, TRAINED_ON, *notes, *told))


def _request_of(models: Sequence[Deployed], labels: Sequence[str]) -> Request:
    """What was to be forgotten: what the user says, or the unlearned model says and the original does not."""
    first, after = models[:2]
    named = labels or [name for name in after.forgotten if name not in first.forgotten]
    if not named:
        raise NothingToForget(
            f"neither {after.name} nor --labels says which label was forgotten; name it: --labels Male"
        )
    return _request(named, first.labels, [name for name in first.forgotten if name not in named])


def _source(first: Deployed, data: str, where: Run) -> Source:
    """The images, as the models read them."""
    source = load(
        data,
        image_size=first.image_size,
        framing=first.framing,
        labels=first.labels,
        cache=where.cache,
        workers=where.workers,
        log=where.log,
    )
    if first.exclusive and not source.test.exclusive:
        raise ModelError(
            f"{first.name} answers by a softmax over classes, but {source.name} has images with several"
            " labels or none; audit it on data whose images have exactly one label: --data SOURCE"
        )
    return source


def _answered(sets: Sets, *, exclusive: bool) -> Sets:
    """The images, their labels taken for classes where the models answer by a softmax, and only there."""
    probe, test, train = (replace(part, exclusive=exclusive) for part in (sets.probe, sets.test, sets.train))
    return replace(sets, probe=probe, test=test, train=train)


def _subject(model: Deployed, role: Role, sets: Sets, where: Run) -> Subject:
    probe, test, train = (
        model.read(part, sets.digest, where) for part in (sets.probe, sets.test, sets.train)
    )
    return Subject(model.name, role, probe, test, train)


def _without_features(subject: Subject) -> Subject:
    """A model by its outputs alone, as where another one's features are not known."""
    probe, test, train = (replace(part, features={}) for part in (subject.probe, subject.test, subject.train))
    return replace(subject, probe=probe, test=test, train=train)


def _roles(count: int) -> list[Role]:
    roles: list[Role] = ["before", "after"]
    roles.extend("reference" for _ in range(count - 2))
    return roles


def _check_budget(settings: AuditOptions) -> None:
    if settings.budget != "quick":
        raise OptionError(
            f"--budget {settings.budget} trains and changes models, but only outputs are given; leave it out"
        )


def _check_together(models: Sequence[Deployed]) -> None:
    """Refuses models that cannot be compared."""
    check_distinct([(item.name, item.sha256) for item in models])
    first = models[0]
    for item in models:
        if not item.labels:
            raise LabelMismatch(
                f"{item.name} does not tell the names of its outputs; name them with --labels-file FILE"
            )
        if item.labels != first.labels:
            raise ModelError(
                f"{item.name} has the labels {listing(item.labels, 3)}, but {first.name} has"
                f" {listing(first.labels, 3)}; expected the same labels in the same order"
            )
        if (item.image_size, item.exclusive) != (first.image_size, first.exclusive):
            raise ModelError(
                f"{item.name} and {first.name} read images of another size, or answer in another way;"
                " expected models of one kind"
            )
        if item.framing != first.framing:
            raise ModelError(
                f"{item.name} takes photos by {item.framing}, but {first.name} by {first.framing}; expected"
                " models that read the same images"
            )


def _request(labels: Sequence[str], names: Sequence[str], forgotten: Sequence[str] = ()) -> Request:
    if not labels:
        raise NothingToForget("files of outputs do not tell what was forgotten; name it: --labels Male")
    return Request.make(labels, names, forgotten=forgotten)


def _record(name: str, sha256: str, labels: Sequence[str]) -> dict[str, Any]:
    return {"run": name, "sha256": sha256, "labels": list(labels)}


def _models(records: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    return {"before": records[0], "after": records[1], "references": list(records[2:]), "command": command}


def _facts(first: Tables) -> dict[str, Any]:
    return {
        "source": "outputs in files",
        "split_rule": first.split_rule,
        "identities": first.identities,
        "same_as_training": None,
        "references_differ": [],
    }
