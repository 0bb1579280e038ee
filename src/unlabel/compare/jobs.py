"""A job, and the hash of everything that its outcome depends on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unlabel.audit.document.results import plain
from unlabel.audit.inputs.memory import SHAPE, digest
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.setup import Case
from unlabel.compare.cell_figures import Also
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.data.dataset import Source
from unlabel.forget.bill import DEFAULT_IMAGES
from unlabel.forget.driver import check_options
from unlabel.forget.methods import code_of, find_method
from unlabel.runs.files import versions
from unlabel.runs.folder import Loaded


@dataclass(frozen=True)
class Job:
    """What to do: a method with its options, from one seed.

    Args:
        method: A name of the catalogue or of a plug-in, or ``module:function``.
        options: Its own options; defaults where not named.
        seed: Key of the forgetting's randomness, which also draws the calibration images.
        images: Calibration images, 16 or more.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    images: int = DEFAULT_IMAGES


def resolved(job: Job) -> Job:
    """The job with the method that its name stands for, and every option named.

    Raises:
        OptionError: No such method or option, or a value out of range.
    """
    entry = find_method(job.method)
    entry = find_method(entry.alias_of or entry.name)
    given = {name: value for name, value in job.options.items() if name != "blueprint"}
    check_options(entry, given)
    defaults = {name: item.default for name, item in entry.options().items() if name != "blueprint"}
    if not entry.reference:
        entry.load()(**given)
    if job.images < 16:
        raise OptionError(f"--images is {job.images}; expected 16 or more")
    return replace(job, method=entry.name, options={**defaults, **given})


def identity_of(case: Case, options: AuditOptions, where: Run, also: Also | None = None) -> dict[str, Any]:
    """What all cells of one call depend on, as plain data."""
    original = case.original
    return plain(
        {
            "original": original.sha256,
            "normalisation": [original.config.mean, original.config.std],
            "config": config_hash(original),
            "recipe": original.record.raw.get("blueprint"),
            "start": case.start_known,
            "labels": list(case.request.forget),
            "forgotten": list(case.request.forgotten),
            "references": [[item.sha256, config_hash(item)] for item in case.references],
            "data": case.source.facts.get("digest"),
            "splits": [len(part) for part in (case.source.train, case.source.probe, case.source.test)],
            "audit": options.to_json(),
            "attacks": SHAPE,
            "audit_seed": where.seed,
            "batch_size": where.batch_size,
            "micro_batch": where.micro_batch,
            "device": where.device.type,
            "precision": str(where.fabric.strategy.precision.precision),
            "versions": versions(),
            **({"code": code} if (code := [item.code for item in (original, *case.references)])[0] else {}),
            **({} if also is None else {"also": repr(also)}),
            **({"people": people} if (people := people_of(case.source)) else {}),
        }
    )


def config_hash(loaded: Loaded) -> str:
    """A hash of how a run's model is fed and read: the same weights answer otherwise after another mean."""
    return hashed(asdict(loaded.config))


def people_of(source: Source) -> str | None:
    """A hash of whose image each is; None where nobody is known, so each image is another person's.

    The data's digest leaves this out, and intervals and folds depend on it.
    """
    if source.facts.get("identities") is False:
        return None
    return digest(*(part.cluster for part in (source.train, source.probe, source.test)))


def described(job: Job) -> dict[str, Any]:
    """The job as plain data, its numbers whole: a setting changed in the seventh digit is another one.

    A method that is not ours is described by its source file as well.
    """
    plain_job = {"method": job.method, "options": dict(job.options), "seed": job.seed, "images": job.images}
    code = code_of(find_method(job.method))
    return plain_job if code is None else {**plain_job, "method_code": code}


def hashed(value: Any) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def key_of(common: Mapping[str, Any], job: Job) -> str:
    """The name of a cell's file: a hash of all that it depends on."""
    return hashed({**common, **described(job)})
