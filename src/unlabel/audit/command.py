"""An audit of run folders: reads them, runs each model once over the same images, writes ``audit.json``.

::

    bench(case, where) -> Bench      the original and its references, read once
    Bench.audit(after)               any number of unlearned models against them
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabel.audit.attacks.early_layers import deepened
from unlabel.audit.attacks.fine_tuning import tune_all
from unlabel.audit.attacks.input_stability import oddities
from unlabel.audit.attacks.perturbed_images import Nudged
from unlabel.audit.cached_outputs import cached_outputs, key_of
from unlabel.audit.cost import reference_cost
from unlabel.audit.inputs import AuditOptions, Subject
from unlabel.audit.keeping import keeping
from unlabel.audit.memory import Memory
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.results import Audit, Role
from unlabel.audit.setup import Case, Sets, differences, open_case, overlap, sets_of
from unlabel.audit.transformed_models import Used, use_on
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.progress import SILENT, Log
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.fresh import untrained
from unlabel.models.build import build
from unlabel.models.custom import is_custom
from unlabel.models.features import Outputs, outputs
from unlabel.models.head import find_head
from unlabel.runs.folder import Loaded

REPEATED = 64  # images read twice to see whether a model is deterministic
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
    data: str | None = None,
    budget: str = "quick",
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
        where: Device; and seed, where no options give one.
        data: Another data source than the one the original remembers.
        budget: ``quick``, ``standard`` or ``full``.
        command: The command line, for the record.
        options: Margins and sizes; the published ones by default.
        write: Whether to write ``audit.json``; without it the run is only read.
        force: Replace a deeper audit, or a file that is no audit of this run.

    Returns:
        The audit, as written.

    Raises:
        NothingToForget: The run has forgotten no label that the original has.
        ModelError: The runs do not belong together, or not to the data.
        OptionError: One reference is given twice, or is the audited run itself; or a deeper audit is there,
            and is not to be replaced.
    """
    settings = options or AuditOptions(budget=budget, seed=where.seed)
    with keeping(run, settings.budget, force=force) if write else nullcontext() as keep:
        where = alone(where).with_seed(settings.seed)  # the one that is recorded and repeated
        case = open_case(run, before, references, where, data)
        result = audit_case(case, where, settings, command=command, data=data)
        if keep is not None:
            keep(result.to_json())
    return result


def audit_case(
    case: Case, where: Run, settings: AuditOptions, *, command: str = "", data: str | None = None
) -> Audit:
    """Audits models that were found to belong together: of run folders or in memory, all by the same code.

    Args:
        case: The models, the unlearned one among them, and their data.
        where: One process, with the seed of the options.
        settings: Margins, sizes, budget and seed.
        command: The command line, for the record.
        data: Another data source than the one the original remembers, for the record.
    """
    assert case.after is not None
    shared = bench(case, where)
    after = read(case.after, "after", shared.sets, where)
    used = Used()
    if settings.budget != "quick":
        used = use_on(case, shared.sets, [after, *shared.references], where)
    if settings.budget == "full":
        loaded = [case.original, case.after, *case.references]
        subjects = [shared.before, after, *shared.references]
        first, after, *retrained = deepened(loaded, subjects, shared.sets, where)
        shared = replace(shared, before=first, references=tuple(retrained))
        used = replace(used, tuned=tune_all(loaded, shared.sets, case.request, settings, where))
    priced = not (case.references or case.original.in_memory or case.after.in_memory)
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
class Bench:
    """All that audits of one request share: read once, then used for any number of unlearned models.

    Args:
        case: The runs and their data.
        sets: P, E and T_in.
        before: The original's outputs.
        references: The references' outputs.
        random_init: Outputs of the original's network before any training; None where it cannot be made.
        overlap: What the splits share, in a sentence; None: nothing.
        deterministic: Whether two passes of the original gave equal outputs.
    """

    case: Case
    sets: Sets
    before: Subject
    references: tuple[Subject, ...]
    random_init: tuple[Outputs, Outputs] | None
    overlap: str | None
    deterministic: bool

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
        digest = (case.original.record.get("data") or {}).get("digest")
        return audit_outputs(
            self.before,
            after,
            self.references,
            case.request,
            self.sets.probe,
            self.sets.test,
            self.sets.train,
            options=options,
            altered=used.altered,
            canaries=used.canaries,
            tuned=used.tuned,
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
                **(models or {}),
            },
            start_known=case.start_known,
            log=log,
            memory=memory,
        )


def bench(case: Case, where: Run) -> Bench:
    """Reads the original and its references, and looks at the splits.

    Args:
        case: The runs and their data.
        where: One process; its seed draws T_in and the untrained network.
    """
    sets = sets_of(case.source, where.seed, case.planting)
    return Bench(
        case,
        sets,
        read(case.original, "before", sets, where),
        tuple(read(item, "reference", sets, where) for item in case.references),
        random_init(case.original, sets, where),
        overlap(case.source),
        repeats(case.original, sets, where),
    )


def alone(where: Run) -> Run:
    """The same place with one process: an audit reads models in its own, whatever its references took."""
    if where.processes == 1:
        return where
    return engine.start(
        accelerator="cuda" if where.device.type == "cuda" else "cpu",
        precision="bf16" if str(where.fabric.strategy.precision.precision).startswith("bf16") else "32",
        seed=where.seed,
        batch_size=where.batch_size,
        log=where.log,
    )


def read(loaded: Loaded, role: Role, sets: Sets, where: Run, *, cached: bool = True) -> Subject:
    """One model's outputs on the three sets, from the cache where it has been read before.

    Args:
        loaded: The model.
        role: Its part in the audit.
        sets: P, E and T_in.
        where: One process.
        cached: Whether its outputs are kept; not worth their space for a model that will not be kept.
    """
    config = loaded.config
    parts = [replace(part, mean=config.mean, std=config.std) for part in (sets.probe, sets.test, sets.train)]

    def said(part: Dataset, *more: str) -> Outputs:
        if cached:
            key = key_of(loaded, sets.digest, *more)
            return cached_outputs(loaded.model, part, where, key, loaded.path.name)
        return outputs(engine.place(loaded.model, where), part, where, stage=f"read {loaded.path.name}")

    probe, test, train = parts
    near = []
    if role != "before":
        there = [replace(part, mean=config.mean, std=config.std) for part in sets.near]
        near = [said(part, "nudged", str(sets.seed)) for part in there]
    _, head = find_head(loaded.model, len(config.labels))
    rows = (head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())
    return Subject(
        run=str(loaded.path),
        role=role,
        probe=said(probe),
        test=said(test),
        train=said(train),
        absent=frozenset(config.forgotten),
        head=rows,
        nudged=Nudged.of((probe, test), sets.seed, near) if near else None,
        odd=oddities(loaded.model, test, where) if role == "after" else (),
    )


def random_init(original: Loaded, sets: Sets, where: Run) -> tuple[Outputs, Outputs] | None:
    """Outputs on P and E of the original's network before any training, for a control.

    None for a model in memory that has a part which cannot be given new weights.
    """
    config, seed = original.config, where.seed + 1_000_003
    key: str | None = f"random/{config.network}/{config.stem}/{where.seed}/{sets.digest}"
    if is_custom(config.network):
        key += f"/{original.key}"  # another project's function may have the same name
    if original.in_memory:
        key, model = None, untrained(original.model, seed)
    else:
        model = build(config.network, len(config.labels), stem=config.stem, seed=seed)
    if model is None:
        return None
    probe, test = (replace(part, mean=config.mean, std=config.std) for part in (sets.probe, sets.test))
    model.eval()
    return (
        cached_outputs(model, probe, where, key, "untrained"),
        cached_outputs(model, test, where, key, "untrained"),
    )


def repeats(loaded: Loaded, sets: Sets, where: Run) -> bool:
    """Whether two passes over the same images give equal bits."""
    part = replace(sets.test, mean=loaded.config.mean, std=loaded.config.std)
    batch = batch_of(part, np.arange(min(REPEATED, len(part))), where.device)
    model = engine.place(loaded.model, where).eval()
    with torch.inference_mode():
        return bool(torch.equal(model(batch.image), model(batch.image)))


def model_record(loaded: Loaded) -> Mapping[str, Any]:
    """What the report says about a model: how it was made and what it cost."""
    record, config = loaded.record, loaded.config
    return {
        "run": str(loaded.path),
        "sha256": loaded.sha256,
        "network": config.network,
        "weights": record.get("total"),
        "labels": list(config.labels),
        "forgotten": list(config.forgotten),
        **{
            key: record.get(key)
            for key in (
                "method", "options", "seed", "changed", "total", "images_used", "images_processed",
                "steps", "seconds", "device", "processes", "versions", "start", "parent", "command",
            )
        },
    }  # fmt: skip
