"""An audit of run folders: reads them, runs each model once on the same images, writes ``audit.json``.

::

    read_shared(case, sets, where) -> SharedOutputs    the original and its references, read once
    SharedOutputs.audit(after)                   any number of unlearned models against them
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlabel.audit.attacks.early_layers import with_cells, with_early_layers
from unlabel.audit.attacks.fine_tuning import trainings_of, tune_all
from unlabel.audit.attacks.stitching import with_stitched
from unlabel.audit.attacks.tangent import predict_all
from unlabel.audit.document.keeping import keeping
from unlabel.audit.document.results import Audit
from unlabel.audit.inputs.attackers import POSITIONS, STITCHED, TANGENT
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets, overlap, sets_of
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.reading.outputs import Used, more_untrained, random_init, read_run, repeats, use_on
from unlabel.audit.references.full import reference_cost
from unlabel.audit.run.jobs import Opened, read_ahead
from unlabel.audit.setup import Case, differences, open_case, with_shorts
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.parallel import one_thread
from unlabel.core.progress import SILENT, Log, warn
from unlabel.data.survey.duplicates import shared_pictures
from unlabel.models.outputs import Outputs
from unlabel.runs.folder import Loaded
from unlabel.runs.record import changed_since

NO_UNTRAINED = (
    "The control on an untrained network was left out: a part of the original cannot be given new weights, as"
    " it has no reset_parameters()."
)


def audit_run(
    run: Path,
    before: Path,
    references: Sequence[Path],
    where: Run,
    *,
    shorts: Sequence[ShortPair[Path]] = (),
    data: str | None = None,
    command: str = "",
    options: AuditOptions | None = None,
    write: bool = True,
    force: bool = False,
) -> Audit:
    """Audits a run against the one it was made from and its retrained references.

    Args:
        run: The unlearned run; ``audit.json`` is written into it.
        before: The original.
        references: Runs retrained without the labels, any number.
        where: Device; and seed, if no options give one.
        shorts: Without references: pairs of short trainings, of `references.short.make_shorts`.
        data: Another data source than the one the original remembers.
        command: The command line, for the record.
        options: Budget, margins and sizes; by default the quick budget with the published ones.
        write: Whether to write ``audit.json``; without it the run is only read.
        force: Replace an audit of a larger budget, or a file that is no audit of this run.

    Returns:
        The audit, as written.

    Raises:
        NothingToForget: The run has forgotten no label that the original has.
        ModelError: The runs do not belong together, or not to the data.
        OptionError: One reference is given twice, or is the audited run itself; or an audit of a larger
            budget is there, and `force` is not set.
    """
    settings = options or AuditOptions(seed=where.seed)
    with keeping(run, settings.budget, force=force) if write else nullcontext() as keep:
        where = where.with_seed(settings.seed)  # the one that is recorded and repeated
        case = with_shorts(open_case(run, before, references, where, data), shorts)
        result = audit_case(case, where, settings, command=command, data=data)
        if keep is not None:
            result = keep(result)
    return result


def audit_case(
    case: Case, where: Run, settings: AuditOptions, *, command: str = "", data: str | None = None
) -> Audit:
    """Audits models that were found to belong together: of run folders or in memory, all by the same code.

    Args:
        case: The models, the unlearned one among them, and their data.
        where: With the seed of the options; its processes share out the reading of run folders.
        settings: Margins, sizes, budget and seed.
        command: The command line, for the record.
        data: Another data source than the one the original remembers.
    """
    assert case.after is not None
    sets = sets_of(case.source, where.seed, case.planting)
    read_ahead(Opened(case, sets, settings), where, data)
    where = engine.alone(where)
    shared = read_shared(case, sets, where)
    after = read_run(case.after, "after", shared.sets, where)
    loaded, used = [case.original, case.after, *case.references], Used()
    subjects = [shared.before, after, *shared.references]
    with one_thread():  # models in memory: all others were read ahead, with one thread as well
        if settings.includes.transforms or settings.includes.canaries:
            used = use_on(case, shared.sets, [after, *shared.references], where)
        if settings.includes.early_layers or POSITIONS in settings.asked:
            subjects = with_early_layers(loaded, subjects, shared.sets, where)
        if POSITIONS in settings.asked:
            subjects = with_cells(loaded, subjects, shared.sets, where)
        if STITCHED in settings.asked:
            subjects = with_stitched(loaded, subjects, shared.sets, where)
        asked = trainings_of(case.request, shared.sets, settings)
        if any(asked.values()):
            used = replace(used, tuned=tune_all(loaded, shared.sets, case.request, settings, where, asked))
        if TANGENT in settings.asked:
            predicted = predict_all(loaded, shared.sets, case.request, settings, where)
            used = replace(used, predicted=predicted)
    first, after, *retrained = subjects
    shared = replace(shared, before=first, references=tuple(retrained))
    priced = not (case.references or case.shorts or case.original.in_memory or case.after.in_memory)
    result = shared.audit(
        after,
        options=settings,
        used=used,
        deterministic=repeats(case.after, shared.sets, where),
        models={
            "after": model_record(case.after),
            "command": command,
            **({"reference_cost": reference_cost(case, data)} if priced else {}),
        },
        log=where.log,
    )
    if shared.random_init is None:
        return replace(result, limitations=(*result.limitations, NO_UNTRAINED))
    return result


@dataclass(frozen=True)
class SharedOutputs:
    """What all audits of one request share: outputs read once, then used for any number of unlearned models.

    Args:
        case: The runs and their data.
        sets: The images that every model is read on.
        before: The original's outputs.
        references: The references' outputs.
        random_init: Outputs of the original's network before any training; None if it cannot be made.
        overlap: What the splits share, in a sentence; None if nothing.
        deterministic: Whether two passes of the original gave equal outputs.
        remarks: Sentences if the data have changed since the training, or if some images are in two splits,
            too few to make the audit invalid.
        shorts: Outputs of pairs of short trainings.
        untrained: As `random_init`, of further networks; none with references.
    """

    case: Case
    sets: Sets
    before: Subject
    references: tuple[Subject, ...]
    random_init: tuple[Outputs, Outputs] | None
    overlap: str | None
    deterministic: bool
    remarks: tuple[str, ...] = ()
    shorts: tuple[ShortPair[Subject], ...] = ()
    untrained: tuple[tuple[Outputs, Outputs], ...] = ()

    def audit(
        self,
        after: Subject,
        *,
        options: AuditOptions,
        deterministic: bool = True,
        models: Mapping[str, Any] | None = None,
        log: Log = SILENT,
        memory: Memory | None = None,
        used: Used | None = None,
    ) -> Audit:
        """Audits one unlearned model; see `audit_outputs`.

        Args:
            after: Its outputs on `sets`.
            options: Margins, sizes and seed.
            deterministic: Whether two passes of it gave equal outputs.
            models: What the report says of it, beside the original and the references.
            log: Receives progress.
            memory: What attacks on the original and the references found before.
            used: What a larger budget reads; needed for any but quick.
        """
        case, used = self.case, used or Used()
        digest = case.original.record.digest
        inputs = AuditInputs(
            self.before,
            after,
            self.references,
            case.request,
            self.sets.probe,
            self.sets.test,
            self.sets.train,
            altered=used.altered,
            canaries=used.canaries,
            tuned=used.tuned,
            predicted=used.predicted,
            random_init=self.random_init,
            overlap=self.overlap,
            deterministic=self.deterministic and deterministic,
            facts={
                "source": case.source.name,
                **case.source.facts,
                "same_as_training": None if case.original.in_memory else digest == self.sets.digest,
                "references_differ": differences(case.original, case.references),
            },
            models={
                "before": model_record(case.original),
                "references": [model_record(item) for item in case.references],
                **({"shorts": [_short_record(pair) for pair in case.shorts]} if case.shorts else {}),
                **(models or {}),
            },
            start_known=case.start_known,
            adopted=case.original.record.adopted is not None,
            shorts=self.shorts,
            untrained=self.untrained,
        )
        result = audit_outputs(inputs, options, log, memory)
        return replace(result, limitations=(*result.limitations, *self.remarks))


def read_shared(case: Case, sets: Sets, where: Run) -> SharedOutputs:
    """Reads the original and its references, and looks at the splits.

    Args:
        case: The runs and their data.
        sets: The images to read, see `sets_of`.
        where: One process; its seed draws the untrained network.
    """
    crossing = overlap(case.source)
    same = shared_pictures(case.source) if crossing is None else None
    if same is not None:
        warn(where.log, same)
    changed = None if case.original.in_memory else changed_since(case.source, case.original.record)
    return SharedOutputs(
        case,
        sets,
        read_run(case.original, "before", sets, where),
        tuple(read_run(item, "reference", sets, where) for item in case.references),
        random_init(case.original, sets, where),
        crossing,
        repeats(case.original, sets, where),
        tuple(said for said in (changed, same) if said),
        tuple(pair.map(lambda item: read_run(item, "before", sets, where)) for pair in case.shorts),
        more_untrained(case, sets, where),
    )


def _short_record(pair: ShortPair[Loaded]) -> Mapping[str, Any]:
    """What the report says about a pair of short trainings."""
    return {
        "share": pair.share,
        "before": model_record(pair.original),
        "reference": model_record(pair.retrained),
    }


def model_record(loaded: Loaded) -> Mapping[str, Any]:
    """What the report says about a model: how it was made and what it cost."""
    record, config = loaded.record, loaded.config
    checked = record.raw.get("self_check")
    return {
        "run": str(loaded.path),
        "sha256": loaded.sha256,
        "network": config.network,
        "weights": record.total,
        "labels": list(config.labels),
        "forgotten": list(config.forgotten),
        **{
            key: record.raw.get(key) if key == "parent" else getattr(record, key)
            for key in (
                "method", "options", "seed", "changed", "total", "images_used", "images_processed",
                "steps", "seconds", "device", "processes", "versions", "start", "parent", "command",
            )
        },
        **({"self_check": checked} if isinstance(checked, dict) else {}),
    }  # fmt: skip
