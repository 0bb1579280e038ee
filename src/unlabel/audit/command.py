"""An audit of run folders: reads them, runs each model once over the same images, writes ``audit.json``."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabel import engine
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.readings import cached_outputs
from unlabel.audit.subject import AuditOptions, Subject
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset, Source
from unlabel.engine import Run
from unlabel.errors import ModelError, NothingToForget, OptionError
from unlabel.findings import Audit, Role
from unlabel.models.build import build
from unlabel.models.head import find_head
from unlabel.randomness import uniform
from unlabel.records import source_of
from unlabel.request import Request
from unlabel.runs import Loaded, load_run, write_json

TRAIN_IMAGES = 5000  # T_in: enough for an interval of .02 on an advantage of 0
REPEATED = 64  # images read twice to see whether a model is deterministic


@dataclass(frozen=True)
class Sets:
    """The three sets of images that every model is read on."""

    probe: Dataset
    test: Dataset
    train: Dataset
    digest: str


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
) -> Audit:
    """Audits a run against the one it was made from and its retrained references.

    Args:
        run: The unlearned run; ``audit.json`` is written into it.
        before: The original.
        references: Runs retrained without the labels, any number.
        where: Device and seed.
        data: Another data source than the one the original remembers.
        budget: ``quick``.
        command: The command line, for the record.
        options: Margins and sizes; the published ones by default.

    Returns:
        The audit, as written.

    Raises:
        NothingToForget: The run has forgotten nothing that the original has not.
        ModelError: The runs do not belong together.
        OptionError: One reference is given twice, or is the audited run itself.
    """
    after, original = load_run(run), load_run(before)
    retrained = [load_run(path) for path in references]
    request = request_of(after, original)
    check_references(after, original, retrained, request)
    source = source_of(original.config, original.record, data, skip_bad=False, run=where)
    sets = sets_of(source, where.seed)
    loaded = [original, after, *retrained]
    roles: list[Role] = ["before", "after", *("reference" for _ in retrained)]
    subjects = [read(item, role, sets, where) for item, role in zip(loaded, roles, strict=True)]
    result = audit_outputs(
        subjects[0],
        subjects[1],
        subjects[2:],
        request,
        sets.probe,
        sets.test,
        sets.train,
        options=options or AuditOptions(budget=budget, seed=where.seed),
        random_init=random_init(original, sets, where),
        overlap=overlap(source),
        deterministic=all(repeats(item, sets, where) for item in (original, after)),
        facts={
            "source": source.name,
            **source.facts,
            "same_as_training": original.record["data"].get("digest") == source.facts.get("digest"),
            "references_differ": differences(original, retrained),
        },
        models={
            "before": model_record(original),
            "after": model_record(after),
            "references": [model_record(item) for item in retrained],
            "command": command,
        },
        log=where.log,
    )
    write_json(run / "audit.json", result.to_json())
    return result


def request_of(after: Loaded, before: Loaded) -> Request:
    """The labels that a run forgot and its original did not; also those whose output row was kept."""
    if after.config.labels != before.config.labels:
        raise ModelError(
            f"{after.path} has the labels {', '.join(after.config.labels[:3])} ..., but {before.path} has"
            f" {', '.join(before.config.labels[:3])} ...; expected the run it was made from"
        )
    asked = set(after.record["labels"]) if after.record.get("method") != "train" else set()
    gone = asked | set(after.config.forgotten)
    new = [name for name in after.config.labels if name in gone and name not in before.config.forgotten]
    if not new:
        raise NothingToForget(
            f"{after.path} has forgotten nothing that {before.path} has not; expected a run written by"
            " `unlabel forget`"
        )
    return Request.make(new, after.config.labels, forgotten=before.config.forgotten)


def check_references(after: Loaded, before: Loaded, references: Sequence[Loaded], request: Request) -> None:
    """Refuses references that cannot serve: other labels, the same run twice, or the audited one."""
    seen = {after.sha256: after.path, before.sha256: before.path}
    for reference in references:
        if reference.sha256 in seen:
            raise OptionError(
                f"--reference {reference.path} has the same weights as {seen[reference.sha256]}; expected"
                " models retrained independently, each with its own seed"
            )
        seen[reference.sha256] = reference.path
        if reference.config.labels != after.config.labels:
            raise ModelError(f"--reference {reference.path} has other labels than {after.path}")
        if set(reference.config.forgotten) != set(request.masked):
            raise ModelError(
                f"--reference {reference.path} was trained without {list(reference.config.forgotten)};"
                f" expected one trained without {list(request.masked)}: unlabel train SOURCE"
                f" --without {','.join(request.masked)} --out RUN"
            )


def differences(before: Loaded, references: Sequence[Loaded]) -> list[str]:
    """In what the references were made otherwise than the original, in sentences."""
    found = []
    for reference in references:
        if reference.record.get("blueprint") != before.record.get("blueprint"):
            found.append(f"{reference.path} was trained by another recipe than {before.path}")
        if reference.record["data"].get("digest") != before.record["data"].get("digest"):
            found.append(f"{reference.path} was trained on other data than {before.path}")
    return found


def sets_of(source: Source, seed: int) -> Sets:
    """P, E and a keyed sample of the training images."""
    rank = uniform(seed, "audit/train", source.train.rows)
    train = source.train.take(np.sort(np.argsort(rank, kind="stable")[:TRAIN_IMAGES]))
    return Sets(source.probe, source.test, train, str(source.facts.get("digest")))


def read(loaded: Loaded, role: Role, sets: Sets, where: Run) -> Subject:
    """One model's outputs on the three sets, from the cache where it has been read before."""
    config = loaded.config
    parts = [replace(part, mean=config.mean, std=config.std) for part in (sets.probe, sets.test, sets.train)]
    key = f"{loaded.sha256}/{sets.digest}"
    outputs = [cached_outputs(loaded.model, part, where, key, loaded.path.name) for part in parts]
    _, head = find_head(loaded.model, len(config.labels))
    rows = (head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())
    return Subject(
        run=str(loaded.path),
        role=role,
        probe=outputs[0],
        test=outputs[1],
        train=outputs[2],
        absent=frozenset(config.forgotten),
        head=rows,
    )


def random_init(original: Loaded, sets: Sets, where: Run) -> Any:
    """Outputs on P and E of the original's network before any training, for a control."""
    config = original.config
    model = build(config.network, len(config.labels), stem=config.stem, seed=where.seed + 1_000_003).eval()
    key = f"random/{config.network}/{config.stem}/{where.seed}/{sets.digest}"
    parts = [replace(part, mean=config.mean, std=config.std) for part in (sets.probe, sets.test)]
    return tuple(cached_outputs(model, part, where, key, "untrained") for part in parts)


def repeats(loaded: Loaded, sets: Sets, where: Run) -> bool:
    """Whether two passes over the same images give equal bits."""
    part = replace(sets.test, mean=loaded.config.mean, std=loaded.config.std)
    batch = batch_of(part, np.arange(min(REPEATED, len(part))), where.device)
    model = engine.place(loaded.model, where).eval()
    with torch.inference_mode():
        return bool(torch.equal(model(batch.image), model(batch.image)))


def overlap(source: Source) -> str | None:
    """What images or identities the splits share, in a sentence; None where they share nothing."""
    named = {"the training images": source.train, "P": source.probe, "E": source.test}
    names = list(named)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = np.intersect1d(named[first].ids, named[second].ids)
            if len(shared):
                return f"{len(shared)} images are in both {first} and {second}, such as {shared[0]}"
    crossing = int(source.facts.get("identity_overlap") or 0)
    if crossing:
        return f"{crossing} identities have images in more than one split; split by identity in meta.csv"
    pictures = {name: _picture_hashes(part) for name, part in named.items()}
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared_pictures = len(pictures[first] & pictures[second])
            if shared_pictures > 0.01 * len(named[second]):
                return f"{shared_pictures} pictures of {second} are also in {first}, pixel for pixel"
    return None


def _picture_hashes(part: Dataset) -> set[bytes]:
    return {
        hashlib.blake2b(part.images(slice(row, row + 1)).tobytes(), digest_size=16).digest()
        for row in range(len(part))
    }


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
