"""From models to tables of outputs: everything that an audit runs a model for, but for training it.

::

    read_model(model, role, sets, where)     a `Subject`: any network on the probe, test and training images
    read_run(loaded, role, sets, where)      the same of a run folder, from the cache where it was read before
    alter, read_canaries                     what only the larger budgets read

Each model reads each set of images once, see `models.cached_outputs`. The other parts of an audit that hold a
model are `attacks.fine_tuning` and `attacks.early_layers`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unlabel.audit.attacks.input_stability import oddities, within_rounding
from unlabel.audit.attacks.transforms import BY_LABELS, TRANSFORMS, Use, norms_of
from unlabel.audit.document.results import Role
from unlabel.audit.figures import BATCHNORM
from unlabel.audit.inputs.perturbed_images import Perturbed
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Altered, Canaries, Subject
from unlabel.audit.inputs.tuned import Predicted, Tuned
from unlabel.audit.setup import Case
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.fresh import untrained
from unlabel.models.build import build
from unlabel.models.cached_outputs import cached_outputs
from unlabel.models.custom import is_custom
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded, key_of

CALIBRATION = 2048  # images that recalibrate BatchNorm or train on


UNTRAINED = 3  # networks before any training, whose spread is a part of the bound's error


REPEATED = 64  # images read twice to see whether a model is deterministic

Read = Callable[[Dataset, tuple[str, ...]], Outputs]
"""Runs a model on images; the words distinguish them in a cache from training images, P and E."""


def read_model(
    model: nn.Module,
    role: Role,
    sets: Sets,
    where: Run,
    *,
    name: str,
    absent: Iterable[str] = (),
    config: Config | None = None,
    read: Read | None = None,
) -> Subject:
    """A model as the audit sees it: outputs on the three sets and on perturbed images, and its last layer.

    Args:
        model: Any network with a last linear layer.
        role: Its part in the audit; the original is not read on perturbed images.
        sets: The probe, test and training images.
        where: One process.
        name: Its run folder or name.
        absent: Labels whose output was removed.
        config: How it wants its pixels normalised; None: as the images say.
        read: Runs it; by default, in `where`.

    Raises:
        ModelError: The network has no last linear layer of one output a label.
    """

    def run(data: Dataset, _: tuple[str, ...]) -> Outputs:
        return outputs(engine.place(model, where), data, where, stage=f"read {Path(name).name}")

    read = read or run
    probe, test, train = (scaled(part, config) for part in (sets.probe, sets.test, sets.train))
    perturbed = None
    if role != "before":
        near = [read(scaled(part, config), _nudged(sets)) for part in sets.perturbed]
        perturbed = Perturbed.of((probe, test), sets.seed, near)
    _, head = find_head(model, len(probe.labels))
    said, audited = read(test, ()), role == "after"
    return Subject(
        run=name,
        role=role,
        probe=read(probe, ()),
        test=said,
        train=read(train, ()),
        absent=frozenset(absent),
        head=(head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()),
        perturbed=perturbed,
        precision=engine.precision_of(where),
        odd=oddities(model, test, said, where) if audited else (),
        unchecked=within_rounding(said, where) if audited else 0,
    )


def read_run(loaded: Loaded, role: Role, sets: Sets, where: Run, *, cached: bool = True) -> Subject:
    """One run's model, from the cache where it has been read before.

    Args:
        loaded: The run.
        role: Its part in the audit.
        sets: The probe, test and training images.
        where: One process.
        cached: Whether its outputs are kept; not worth their space for a model that will not be kept.
    """

    def from_cache(data: Dataset, more: tuple[str, ...]) -> Outputs:
        return cached_outputs(loaded.model, data, where, key_of(loaded, sets.digest, *more), loaded.path.name)

    return read_model(
        loaded.model,
        role,
        sets,
        where,
        name=str(loaded.path),
        absent=loaded.config.forgotten,
        config=loaded.config,
        read=from_cache if cached else None,
    )


def read_part(loaded: Loaded, part: str, sets: Sets, where: Run) -> Outputs:
    """What a run's model says of one of the sets that `read_run` reads, from the cache or for it.

    Args:
        loaded: The run.
        part: ``probe``, ``test``, ``train``, or ``near probe`` and ``near test``, the perturbed images.
        sets: The images.
        where: One process.
    """
    more: tuple[str, ...] = ()
    if part.startswith("near "):
        data, more = sets.perturbed[part == "near test"], _nudged(sets)
    else:
        data = {"probe": sets.probe, "test": sets.test, "train": sets.train}[part]
    key = key_of(loaded, sets.digest, *more)
    return cached_outputs(loaded.model, scaled(data, loaded.config), where, key, loaded.path.name)


def _nudged(sets: Sets) -> tuple[str, ...]:
    """What tells perturbed images from others in a cache."""
    return "nudged", str(sets.seed)


def scaled(data: Dataset, config: Config | None) -> Dataset:
    """The images, normalised as a model wants them."""
    return data if config is None else replace(data, mean=config.mean, std=config.std)


def random_init(original: Loaded, sets: Sets, where: Run, number: int = 0) -> tuple[Outputs, Outputs] | None:
    """Outputs on the probe and test splits of the original's network before any training, for a control.

    A run's network is built anew by its name. One in memory has none, so each of its layers gets new weights:
    other ones than the builder draws. None if a part of it cannot be given new weights.

    Args:
        original: Whose network.
        sets: The images.
        where: One process; its seed is a part of the weights' key.
        number: Of the network, a part of that key: each has weights of its own.
    """
    config, seed = original.config, where.seed + 1_000_003 * (number + 1)
    built = f"{config.network}/{config.stem}/{len(config.labels)}/{config.head!r}"
    key: str | None = f"random/{built}/{where.seed}/{sets.digest}"
    key += f"/{number}" if number else ""
    if is_custom(config.network):
        key += f"/{original.key}"  # another project's function may have the same name
    if original.in_memory:
        key, model = None, untrained(original.model, seed)
    else:
        model = build(config.network, len(config.labels), stem=config.stem, seed=seed, head=config.head)
    if model is None:
        return None
    model.eval()
    probe, test = (
        cached_outputs(model, scaled(part, config), where, key, "untrained")
        for part in (sets.probe, sets.test)
    )
    return probe, test


def more_untrained(case: Case, sets: Sets, where: Run) -> tuple[tuple[Outputs, Outputs], ...]:
    """The same of further networks, for the bound beside C2; none with references."""
    numbers = range(1, untrained_count(case))
    found = [random_init(case.original, sets, where, number) for number in numbers]
    return tuple(item for item in found if item is not None)


def untrained_count(case: Case) -> int:
    """How many untrained networks an audit reads: one as a control, `UNTRAINED` if it has no reference."""
    return 1 if case.references else UNTRAINED


def repeats(loaded: Loaded, sets: Sets, where: Run) -> bool:
    """Whether two passes over the same images give equal bits."""
    part = scaled(sets.test, loaded.config)
    batch = batch_of(part, np.arange(min(REPEATED, len(part))), where.device)
    model = engine.place(loaded.model, where).eval()
    with torch.inference_mode():
        return bool(torch.equal(model(batch.image), model(batch.image)))


@dataclass(frozen=True)
class Used:
    """What the larger budgets need beside the models' outputs."""

    altered: Sequence[Altered] = ()
    canaries: Sequence[Canaries] = ()
    tuned: Sequence[Tuned] = ()
    predicted: Sequence[Predicted] = ()


def use_on(case: Case, sets: Sets, subjects: Sequence[Subject], where: Run) -> Used:
    """Reads the unlearned model and the references after each transform, and every model on the canaries.

    Args:
        case: The runs and their data.
        sets: The probe and test splits.
        subjects: Outputs of the unlearned model and the references, untouched.
        where: One process.
    """
    assert case.after is not None
    models = [case.after, *case.references]
    calibration = calibration_images(case.source, where.seed)
    return Used(
        alter(models, subjects, sets, calibration, case.request, where),
        read_canaries([case.original, *models], case, sets, where),
    )


def calibration_images(source: Source, seed: int) -> Dataset:
    """A keyed sample of the training images, drawn anew: not the one that the method was given."""
    order = np.argsort(uniform(seed, "audit/calibration", source.train.rows), kind="stable")
    return source.train.take(np.sort(order[:CALIBRATION]))


def alter(
    loaded: Sequence[Loaded],
    subjects: Sequence[Subject],
    sets: Sets,
    calibration: Dataset,
    request: Request,
    where: Run,
) -> list[Altered]:
    """Reads every model after every transform that changes it, on the probe and test splits.

    Args:
        loaded: The models.
        subjects: The same, as they were read untouched.
        sets: The probe and test splits.
        calibration: Images for the transforms that need some.
        request: What was forgotten.
        where: Device, batch size and seed.
    """
    found: list[Altered] = []
    for item, subject in zip(loaded, subjects, strict=True):
        for name in TRANSFORMS:
            pair = after_transform(item, name, calibration, sets, request, where)
            if pair is None:
                continue
            probed, tested = pair
            nothing = Outputs(probed.logits[:0], {PENULTIMATE: probed.features[PENULTIMATE][:0]})
            found.append(Altered(name, replace(subject, probe=probed, test=tested, train=nothing)))
    return found


def after_transform(
    item: Loaded, name: str, calibration: Dataset, sets: Sets, request: Request, where: Run
) -> tuple[Outputs, Outputs] | None:
    """Reads a model after one transform, on the probe and test splits; None if that changes nothing in it.

    Args:
        item: The model.
        name: Of `TRANSFORMS`.
        calibration, sets, request, where: See `alter`.
    """
    if name == BATCHNORM.id and not norms_of(item.model):
        return None
    data, probe, test = (scaled(part, item.config) for part in (calibration, sets.probe, sets.test))
    use = Use(data, request.retained_columns, request.masked_columns)
    make = cache(partial(TRANSFORMS[name], item.model, use, where))
    how = f"{where.seed}/{where.batch_size}/{where.micro_batch}/{len(data)}"
    asked = (f"{use.retained}/{use.masked}",) if name in BY_LABELS else ()
    key = key_of(item, sets.digest, name, how, *asked)
    probed, tested = (
        cached_outputs(make, part, where, key, f"{item.path.name} ({name})") for part in (probe, test)
    )
    return probed, tested


def read_canaries(loaded: Sequence[Loaded], case: Case, sets: Sets, where: Run) -> list[Canaries]:
    """What every model says of the canaries of each forgotten label."""
    canaries = []
    for name in case.request.masked:
        if (item := case.planting.get(name)) is None:
            continue
        outputs = {}
        for model in loaded:
            images = scaled(case.source.train.take(item.positions), model.config)
            key = key_of(model, sets.digest)
            outputs[str(model.path)] = cached_outputs(model.model, images, where, key, model.path.name)
        canaries.append(Canaries(name, item.planted, item.true, outputs))
    return canaries
