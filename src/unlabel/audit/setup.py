"""The runs, labels and images of an audit. What does not fit together is refused.

::

    open_case(run, before, references)         -> models, request, source
    open_request(labels, before, references)   -> the same, where nothing has been unlearned yet
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.core.engine import Run
from unlabel.core.errors import ModelError, NothingToForget, OptionError
from unlabel.core.reading import read_json
from unlabel.core.request import Request, listed
from unlabel.core.wording import listing
from unlabel.data.canaries import Planting, digest
from unlabel.data.dataset import Source
from unlabel.forget.methods import METHODS
from unlabel.runs.files import CANARIES
from unlabel.runs.folder import Loaded, load_run
from unlabel.runs.record import planted_source


@dataclass(frozen=True)
class Case:
    """The runs of an audit, read and checked to belong together, and their data."""

    original: Loaded
    after: Loaded | None  # None where nothing has been unlearned yet
    references: list[Loaded]
    request: Request
    source: Source  # its labels taken for classes as the models answer
    planting: Planting = field(default_factory=dict)  # canaries in the annotations of its training images
    shorts: tuple[ShortPair[Loaded], ...] = ()  # what the level of retrained models is predicted from

    @property
    def start_known(self) -> bool:
        """Whether it is recorded from which weights the original's training began."""
        return self.original.record.start not in (None, "unknown")


def open_case(run: Path, before: Path, references: Sequence[Path], where: Run, data: str | None) -> Case:
    """Reads the runs of an audit and the original's data, and refuses what cannot be compared.

    Args:
        run: The unlearned run.
        before: The original.
        references: Runs retrained without the labels.
        where: Receives progress.
        data: Another data source than the one the original remembers.

    Raises:
        NothingToForget: The run has forgotten no label that the original has.
        ModelError: The runs do not belong together, or not to the data.
        OptionError: One reference is given twice, or is the audited run itself.
    """
    after, original = load_run(run), load_run(before)
    retrained = [load_run(path) for path in references]
    return _fitting(original, after, retrained, request_of(after, original), where, data)


def with_shorts(case: Case, shorts: Sequence[ShortPair[Path]]) -> Case:
    """The same case with pairs of short trainings, from which the retrained models' level is predicted.

    Args:
        case: Without references: a level that was measured needs no prediction.
        shorts: Folders that `references.short.make_shorts` trained.

    Raises:
        OptionError: There are references.
        ModelError: A short run is of other labels or other data.
    """
    if shorts and case.references:
        raise OptionError(
            "a level is predicted only if no retrained model is given; leave out the references or the budget"
            " for short trainings"
        )
    pairs = tuple(pair.map(load_run) for pair in shorts)
    for pair in pairs:
        for item, without in zip(pair.both, ((), case.request.masked), strict=True):
            fits = item.config.labels == case.request.labels and set(item.config.forgotten) == set(without)
            if not fits or item.record.digest != case.original.record.digest:
                raise ModelError(
                    f"{item.path} is of other labels or other data than {case.original.path}; delete it, and"
                    " the audit trains it again"
                )
    return replace(case, shorts=pairs)


def open_request(
    labels: Sequence[str], before: Path, references: Sequence[Path], where: Run, data: str | None
) -> Case:
    """The case of labels that no run has forgotten yet: what models made in memory are audited against.

    Args:
        labels: Names to forget.
        before, references, where, data: See `open_case`.

    Raises:
        RequestError: The labels do not fit the original's.
        ModelError: The runs do not belong together, or not to the data.
        OptionError: One reference is given twice, or is the original.
    """
    original, retrained = load_run(before), [load_run(path) for path in references]
    request = Request.make(labels, original.config.labels, forgotten=original.config.forgotten)
    return _fitting(original, None, retrained, request, where, data)


def _fitting(
    original: Loaded,
    after: Loaded | None,
    retrained: list[Loaded],
    request: Request,
    where: Run,
    data: str | None,
) -> Case:
    check_references([item for item in (after, original) if item], retrained, request)
    check_read_alike(original, after, retrained)
    source, planting = planted_source(original.config, original.record, data, skip_bad=False, run=where)
    check_manifest(original.path, source)
    return case_of(original, after, retrained, request, source, planting)


def check_read_alike(original: Loaded, after: Loaded | None, references: Sequence[Loaded]) -> None:
    """Refuses models that see photos otherwise than the original does, though all get the same pixels.

    A run that was made from a parent has the parent's normalisation, so the original must have it, too.
    References, and models that were unlearned elsewhere, may have their own.

    Raises:
        ModelError: Another size or framing; of a run with a parent, another mean or std.
    """
    made_here = after is not None and after.record.parent is not None
    for item in ([after] if after else []) + list(references):
        names = ("image_size", "framing", *(("mean", "std") if made_here and item is after else ()))
        for name in names:
            own, other = (getattr(model.config, name) for model in (item, original))
            if own == other:
                continue
            setting = name.replace("_", " ")
            raise ModelError(
                f"{item.path} reads photos with the {setting} {_plain(own)}, but the original {original.path}"
                f" with {_plain(other)}; expected the same: "
                + (
                    "name the run that it was made from as --before"
                    if item is after
                    else "train or adopt the reference as the original was"
                )
            )


def _plain(value: object) -> str:
    """A setting as a person types it."""
    return ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def case_of(
    original: Loaded,
    after: Loaded | None,
    retrained: list[Loaded],
    request: Request,
    source: Source,
    planting: Planting,
) -> Case:
    """The case of these models on this data.

    Args:
        original, after, retrained: The models.
        request: The labels.
        source: The data, with the original's label columns, as it answers them (`runs.record.as_answered`).
        planting: Canaries in the annotations of its training images.

    Raises:
        ModelError: Models that answer in different ways.
    """
    for item in ([after] if after else []) + retrained:
        if item.config.activation != original.config.activation:
            raise ModelError(
                f"{item.path} answers by a {item.config.activation}, but {original.path} by a"
                f" {original.config.activation}; expected runs of one kind"
            )
    return Case(original, after, retrained, request, source, planting)


def check_manifest(before: Path, source: Source) -> None:
    """Compares the list of canaries in the original's folder, where it has one, with what is planted.

    Raises:
        ModelError: They are not the same.
    """
    file, canaries = before / CANARIES, source.facts.get("canaries")
    if not canaries or not file.is_file():
        return
    try:
        listed_digest = digest(read_json(file))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{file} is damaged ({error}); expected the file that unlabel wrote") from error
    if listed_digest != canaries["sha256"]:
        raise ModelError(
            f"{file} does not list the canaries that {before} was trained with; restore the file"
        )


def request_of(after: Loaded, before: Loaded) -> Request:
    """The labels that a run forgot and its original did not; also those whose output row was kept."""
    record = after.record
    if record.rows:
        count = record.rows.count
        raise NothingToForget(
            f"{after.path} keeps its labels: it forgot {f'{count:,} ' if count else ''}single annotations of"
            f" {', '.join(record.labels or ())}, but an audit asks about whole labels (C6 reads single"
            " annotations of a label that was forgotten); audit a run that forgot a whole label"
        )
    if after.config.labels != before.config.labels:
        raise ModelError(
            f"{after.path} has the labels {', '.join(after.config.labels[:3])} ..., but {before.path} has"
            f" {', '.join(before.config.labels[:3])} ...; expected the run it was made from"
        )
    asked = set(record.labels or ()) if record.forgets else set()
    gone = asked | set(after.config.forgotten)
    new = [name for name in after.config.labels if name in gone and name not in before.config.forgotten]
    if not new:
        swapped = any(name not in after.config.forgotten for name in before.config.forgotten)
        raise NothingToForget(
            f"{after.path} has forgotten nothing that {before.path} has not; expected a run written by"
            f" `unlabel forget`{'. Are RUN and --before swapped?' if swapped else ''}"
        )
    return Request.make(new, after.config.labels, forgotten=before.config.forgotten)


def check_references(audited: Sequence[Loaded], references: Sequence[Loaded], request: Request) -> None:
    """Refuses references that cannot serve: other labels, the same run twice, an audited or an unlearned one.

    Args:
        audited: The unlearned run and the original, or the original alone.
        references: Runs said to be retrained without the labels.
        request: The labels.
    """
    weights = {item.sha256: item.path for item in audited}
    made: dict[tuple[object, ...], Path] = {}
    for reference in references:
        if reference.sha256 in weights:
            raise OptionError(
                f"--reference {reference.path} has the same weights as {weights[reference.sha256]}; expected"
                " models retrained independently, each with its own seed"
            )
        weights[reference.sha256] = reference.path
        record = reference.record
        if record.method == "train" and record.blueprint is not None:
            training = record.seed, record.digest, repr(record.blueprint)
            if training in made:
                raise OptionError(
                    f"--reference {reference.path} was trained with the seed and recipe of {made[training]};"
                    " expected models retrained independently, each with its own seed"
                )
            made[training] = reference.path
        if reference.config.labels != request.labels:
            raise ModelError(_other_labels(reference, audited[0], request))
        if reference.record.short is not None:
            raise OptionError(
                f"--reference {reference.path} was trained for {reference.record.short:.3g} of the original's"
                " epochs only, to predict a reference from; expected one trained as long as the original"
            )
        if set(reference.config.forgotten) != set(request.masked):
            raise ModelError(
                f"--reference {reference.path} was trained without"
                f" {listing(reference.config.forgotten) or 'leaving out any label'}; expected one trained"
                f" without {listing(request.masked)}: {_retrained(request, audited[-1])}"
            )
        made_by = METHODS.get(reference.record.method or "")
        if reference.record.forgets and not (made_by and made_by.reference):
            raise ModelError(
                f"--reference {reference.path} was made by '{reference.record.method}' from a model that knew"
                f" {listing(request.masked)}; expected one that never saw it:"
                f" {_retrained(request, audited[-1])}"
            )
        adopted = reference.record.adopted if reference.record.method == "adopt" else None
        if adopted and adopted.constant:
            raise ModelError(
                f"--reference {reference.path} came with constant outputs ({listing(adopted.constant)}), as"
                " of labels that were removed; expected a model that never saw them: if it is one, adopt it"
                f" again with --without {shlex.quote(listed(request.masked))}"
            )


def _other_labels(reference: Loaded, audited: Loaded, request: Request) -> str:
    """What is wrong with a reference of other labels, and what to do."""
    says = f"--reference {reference.path} has other labels than {audited.path}"
    missing = [name for name in request.labels if name not in reference.config.labels]
    if list(reference.config.labels) != [name for name in request.labels if name not in missing]:
        return f"{says}; expected the same {len(request.labels)}, in the same order"
    if reference.record.method != "adopt":
        return f"{says}: it lacks {listing(missing)}; expected all: {_retrained(request, audited)}"
    return (
        f"{says}: it has no output for {listing(missing)}; adopt it again, with the original's file of"
        f" --labels and with --without {shlex.quote(listed(request.masked))}: a constant is then put in"
    )


def _retrained(request: Request, original: Loaded) -> str:
    """How a reference comes about: by this program if it made the original, or else by the user's code."""
    without = f"--without {shlex.quote(listed(request.masked))}"
    if original.record.adopted is None:
        return f"unlabel train SOURCE {without} --out RUN"
    return f"train one by the code that made the original, and adopt it with {without}"


def differences(before: Loaded, references: Sequence[Loaded]) -> list[str]:
    """In what the references were made otherwise than the original, in sentences."""
    sentences, recipe = [], before.record.blueprint
    for reference in references:
        if not recipe:
            sentences.append(f"how {before.path} was trained is not recorded; {reference.path} may differ")
        elif reference.in_memory:
            sentences.append(
                f"how {reference.path} was trained is not recorded; it may differ from {before.path}"
            )
            continue
        elif reference.record.blueprint != recipe:
            sentences.append(f"{reference.path} was trained by another recipe than {before.path}")
        if reference.record.digest != before.record.digest:
            sentences.append(f"{reference.path} was trained on other data than {before.path}")
    return sentences
