"""What one model tells of a label that it may have no output for: the audit's attacks, without unlearning.

::

    probe_model("runs/base", "Male", where)    reads it on the probe and test splits, attacks it  ->  Probed

The annotations of the label come from the data and never from the model. Attacks are fitted on the probe
split and measured on the test split. What they find is set against a coin, the pixels alone, the same network
before any training, and given references.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.cross_fit import crossed
from unlabel.audit.attacks.early_layers import with_early_layers
from unlabel.audit.attacks.one_label import (
    PIXELS,
    PLANTED,
    PLANTED_LEAST,
    SHUFFLED,
    Answers,
    Asked,
    ModelRole,
    answering,
    jobs_of,
)
from unlabel.audit.figures import FLOOR
from unlabel.audit.inputs.options import JUDGED_PEOPLE, AuditOptions
from unlabel.audit.inputs.question import Question, ask
from unlabel.audit.inputs.sets import Sets, overlap
from unlabel.audit.inputs.subject import Subject, has_features
from unlabel.audit.probe.findings import Probed, Told, row_of
from unlabel.audit.read_only.deployed import Deployed, check_distinct, of_run, open_model, unlabelled
from unlabel.audit.read_only.outputs_file import PROBE, SUFFIX, TEST, check_same_images, read_outputs
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import LabelMismatch, ModelError, OptionError
from unlabel.core.framing import size_text
from unlabel.core.parallel import run_jobs
from unlabel.core.request import spelt
from unlabel.core.wording import in_shell
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.survey.duplicates import shared_pictures
from unlabel.exchange.onnx_file import OnnxSettings
from unlabel.forget.fresh import untrained
from unlabel.models.build import build
from unlabel.models.custom import is_custom
from unlabel.runs.folder import Loaded
from unlabel.runs.origin import DataRecord

TRAINED_ON = (
    "The file does not tell which images the model was trained on. If these are among them, the figures may"
    " be too high."
)
NO_FEATURES = "The features were not attacked: none were given."
NO_UNTRAINED = (
    "There is no untrained network to compare with: a part of this one cannot be given new weights."
)


def probe_model(
    model: str | Path,
    label: str,
    where: Run | None = None,
    *,
    data: str | None = None,
    references: Sequence[str | Path] = (),
    skip_bad: bool = False,
    onnx: OnnxSettings | None = None,
    options: AuditOptions | None = None,
) -> Probed:
    """Measures how much a model tells of a label.

    Args:
        model: A run folder, ``onnx:FILE?features=TENSOR``, or a file of outputs, ``FILE.npz``.
        label: The label; a column of the data, which the model need not have.
        where: This machine by default, of which one process works; its seed keys folds and probes.
        data: Data source with that column; None: what the run remembers. Not for files of outputs.
        references: Models of the same kinds to compare with, such as some that never saw the label.
        skip_bad: Leave out images that cannot be read, instead of refusing. Not for files of outputs.
        onnx: What the metadata of ONNX files lack.
        options: Sizes of the attacks.

    Raises:
        OptionError: No data is known, or one model is given twice.
        LabelMismatch: The data has no such label.
        DataError: A split has too few images of a kind.
        ModelError: A model cannot be read, or reads images of another size.

    Example:
        >>> probe_model("nets:make", "Male")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        unlabel.core.errors.OptionError: nets:make is a function; make a run of it first: unlabel adopt ...
    """
    where = engine.alone(where or engine.start())
    options = options or AuditOptions(seed=where.seed)
    texts = [str(text) for text in (model, *references)]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise OptionError(f"{twice[0]} is given twice; expected other models as references")
    if texts[0].endswith(SUFFIX):
        asked = _of_files(texts, data, options.seed, skip_bad=skip_bad)
    else:
        models = _opened(texts, onnx or OnnxSettings())
        (label,) = spelt([label], models[0].labels)
        source, lacks = _source(models[0], label, data, where, skip_bad=skip_bad)
        asked = _of_models(models, source, where)
        asked = replace(asked, notes=(*asked.notes, *lacks))
    return measure(asked, label, options, where)


def _of_files(texts: Sequence[str], data: str | None, seed: int, *, skip_bad: bool) -> Asked:
    """Files of outputs, which hold their annotations themselves."""
    if data is not None or skip_bad or not all(text.endswith(SUFFIX) for text in texts):
        raise OptionError(
            "a file of outputs holds its own annotations: leave out --data and --skip-bad, and compare it"
            " with such files only"
        )
    tables = [read_outputs(Path(text), seed) for text in texts]
    first = tables[0]
    check_distinct([(item.name, item.sha256) for item in tables])
    for other in tables[1:]:
        check_same_images(replace(first, labels=()), replace(other, labels=()))
    answers = [
        Answers(
            item.name,
            _role(at),
            item.labels,
            item.exclusive,
            answering(item.name, item.outputs(PROBE), item.outputs(TEST)),
        )
        for at, item in enumerate(tables)
    ]
    notes = (
        [] if first.split_rule == "split" else [f"{first.name} has no split: half of its people are probed."]
    )
    notes += [first.note] if first.note else []
    return Asked(answers, first.dataset(PROBE), first.dataset(TEST), False, first.overlap(), tuple(notes))


def _opened(texts: Sequence[str], onnx: OnnxSettings) -> list[Deployed]:
    """Models for images of one size, each another."""
    for text in texts:
        if is_custom(text) and not text.startswith("onnx:"):
            raise OptionError(
                f"{text} is a function; make a run of it first: unlabel adopt {in_shell(text)} --weights FILE"
                " --labels FILE --data SOURCE --out RUN"
            )
    models = [open_model(text, onnx) for text in texts]
    first = models[0]
    for other in models[1:]:
        if other.image_size != first.image_size:
            raise ModelError(
                f"{other.name} reads images of {size_text(other.image_size)} pixels, but {first.name} of"
                f" {size_text(first.image_size)}; expected references for the same images"
            )
        if other.framing != first.framing:
            raise ModelError(
                f"{other.name} takes photos by {other.framing}, but {first.name} by {first.framing}; expected"
                " references for the same images"
            )
    check_distinct([(item.name, item.sha256) for item in models])
    return models


def _of_models(models: Sequence[Deployed], source: Source, where: Run) -> Asked:
    """Models that are run on the images of a data source."""
    first = models[0]
    digest = str(source.facts.get("digest"))
    sets = Sets(source.probe, source.test, source.train, digest, where.seed)
    fresh = _untrained(first, where.seed)
    notes = [note for model in models for note in model.notes]
    if first.loaded is None:
        notes.append(TRAINED_ON)
    elif fresh is None:
        notes.append(NO_UNTRAINED)
    given: list[tuple[Deployed, ModelRole]] = [(first, "model")]
    if fresh is not None:
        given.append((fresh, "untrained"))
    given.extend((other, "reference") for other in models[1:])
    subjects = [
        answering(item.name, *(item.read(part, digest, where) for part in (sets.probe, sets.test)))
        for item, _ in given
    ]
    subjects = _with_stages([item for item, _ in given], subjects, sets, where)
    answers = [
        Answers(item.name, role, item.labels, item.exclusive, subject)
        for (item, role), subject in zip(given, subjects, strict=True)
    ]
    crossing = overlap(source)
    if crossing is None and (copies := shared_pictures(source)):
        notes.append(copies)
    return Asked(answers, source.probe, source.test, True, crossing, tuple(dict.fromkeys(notes)), source.name)


def _source(
    model: Deployed, label: str, data: str | None, where: Run, *, skip_bad: bool
) -> tuple[Source, list[str]]:
    """The images, with the label's column and those of the model's other labels, if the data has them all.

    If it has not, a sentence says so. Other columns are not read: they may hold anything, as where a training
    named its labels.
    """
    remembered = (model.loaded.record.data if model.loaded else None) or DataRecord()
    name = data or remembered.source
    if not name:
        raise OptionError(f"{model.name} does not tell which images to use; name them with --data SOURCE")
    read = partial(
        load,
        name,
        image_size=model.image_size,
        framing=model.framing,
        skip_bad=skip_bad or (data is None and bool(remembered.skipped_bad)),
        cache=where.cache,
        workers=where.workers,
        log=where.log,
    )
    others = [name for name in model.labels if name != label]
    try:
        return read(labels=[label, *others]), []
    except LabelMismatch as error:
        # it lacks some of the others; or the label too, and says so
        return read(labels=[label]), [f"Left out is what the true other labels tell: {error}."]


def _untrained(model: Deployed, seed: int) -> Deployed | None:
    """The same network before any training; None of a file, or where it cannot be made."""
    loaded, key = model.loaded, seed + 1_000_003
    if loaded is None:
        return None
    fresh = untrained(loaded.model, key)
    if fresh is None and not is_custom(loaded.config.network):  # another's function may load trained weights
        config = loaded.config
        fresh = build(config.network, len(config.labels), stem=config.stem, seed=key, head=config.head)
    if fresh is None:
        return None
    blank: Loaded = replace(loaded, path=Path("untrained"), model=fresh.eval(), sha256="", in_memory=True)
    return replace(of_run(blank), name="untrained", labels=())  # no output of it means anything


def _with_stages(
    models: Sequence[Deployed], subjects: list[Subject], sets: Sets, where: Run
) -> list[Subject]:
    """The runs of as many outputs as the first has, with earlier stages as the full audit reads them."""
    first = models[0].loaded
    if first is None:
        return subjects
    labels = first.config.labels
    alike = {
        at: model.loaded
        for at, model in enumerate(models)
        if model.loaded is not None and len(model.loaded.config.labels) == len(labels)
    }
    images = replace(sets, probe=unlabelled(sets.probe, labels), test=unlabelled(sets.test, labels))
    at = list(alike)
    read = with_early_layers(list(alike.values()), [subjects[index] for index in at], images, where)
    staged = dict(zip(at, read, strict=True))
    return [staged.get(index, subject) for index, subject in enumerate(subjects)]


def _role(at: int) -> ModelRole:
    return "reference" if at else "model"


def measure(asked: Asked, label: str, options: AuditOptions, where: Run) -> Probed:
    """Makes every attack on every model, and the controls.

    Args:
        asked: Models and images.
        label: A column of the images.
        options: Sizes and seed.
        where: Receives progress.

    Raises:
        LabelMismatch: The images have no such label.
        DataError: A split has too few images of a kind.
    """
    probe, test = asked.probe, asked.test
    first = asked.answers[0]
    question = ask(label, probe.with_labels([label]), test.with_labels([label]), test.take(slice_of_none()))
    question = crossed({label: question}, options)[label]
    done = run_jobs(jobs_of(asked, question, options), where.log)
    rows: list[Told] = []
    for at, answers in enumerate(asked.answers):
        for kind in ("own", "others", "features", "stages"):
            for key, item in done.get((kind, at), {}).items():
                rows.append(row_of(key, item, answers.name, answers.role))
    rows += [
        row_of((PIXELS, None), item, "pixels", "pixels") for item in done.get(("pixels", 0), {}).values()
    ]
    rows += [
        row_of((FLOOR.id, None), item, "true labels", "truth") for item in done.get(("truth", 0), {}).values()
    ]
    record = {**done["shuffled", 0], **done["planted", 0]}
    objections = tuple(_objections(record, asked.overlap))
    return Probed(
        model=first.name,
        label=label,
        has_output=first.column(label) is not None,
        rows=tuple(rows),
        valid=not objections,
        invalid_because=objections,
        controls=record,
        counts=_counts(question),
        not_tested=() if has_features(first.subject) else (NO_FEATURES,),
        notes=(*asked.notes, *_remarks(question, options)),
        source=asked.source,
        seed=options.seed,
    )


def slice_of_none() -> NDArray[np.int64]:
    """Positions of no image: the label is not asked of training images."""
    return np.zeros(0, np.int64)


def _counts(question: Question) -> dict[str, int]:
    splits = {"probe": question.probe, "test": question.test}
    return {name: int(np.sum(part >= 0)) for name, part in splits.items()} | {
        f"{name}_with_label": int(np.sum(part == 1)) for name, part in splits.items()
    }


def _objections(record: Mapping[str, Any], shared: str | None) -> Iterator[str]:
    for name, item in record.items():
        if not item["passed"] and name == PLANTED:
            yield (
                f"The attacks find a planted label with AUC {item['value']:.2f} only, and should with"
                f" {PLANTED_LEAST:g}; there may be too few images, or the model says nothing."
            )
        elif not item["passed"]:
            yield f"An attack on shuffled annotations ({name.removeprefix(SHUFFLED + '.')}) finds the label."
    if shared:
        yield f"The splits overlap: {shared}"


def _remarks(question: Question, options: AuditOptions) -> Iterator[str]:
    if question.crossed:
        yield (
            f"Fewer than {options.rare} test images, or of {JUDGED_PEOPLE} people in effect, have, or lack,"
            " the label. So attacks were also fitted on the test split and judged on the probe split, and the"
            " figures pooled."
        )
    yield "A better attack may find more. The figures hold for images like those tested."
