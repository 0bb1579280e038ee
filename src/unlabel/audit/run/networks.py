"""An audit from Python: of any networks, by the code that audits run folders.

::

    audit = audit_model(original, unlearned, [retrained], source, "Male", budget="standard")
    audit.headline, audit.claims["C2"].verdict
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from unlabel.audit.document.results import Audit
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_case
from unlabel.audit.setup import Case, case_of, check_manifest, check_references
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import ModelError, OptionError, UnlabelError
from unlabel.core.request import Request, as_names
from unlabel.core.wording import suggest
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Source
from unlabel.models.custom import copied
from unlabel.models.head import check_in_layout
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded, load_run, packed
from unlabel.runs.origin import Record
from unlabel.runs.record import as_answered, planted_again

Model: TypeAlias = nn.Module | Loaded | str | Path
"""A network, what `open_run` returns, or the path of a run folder."""

_TRIED = 4  # images on which a network is tried before anything is measured


def audit_model(
    before: Model,
    after: Model,
    references: Model | Sequence[Model],
    source: Source,
    labels: str | Sequence[str],
    budget: str = "quick",
    seed: int | None = None,
    *,
    forgotten: str | Sequence[str] = (),
    start: str = "unknown",
    run: Run | None = None,
    **options: Any,
) -> Audit:
    """Audits how far a network has forgotten labels: the attacks, controls and figures of ``unlabel audit``.

    A network is any ``nn.Module`` whose last linear layer gives one logit a label, in the order of the
    source's labels. It is copied, and the copy is read in eval mode. Networks get the input that the original
    gets: its run's normalisation where it is a run, else the source's. Where the source's labels are classes,
    networks answer by a softmax, else each label by itself.

    Nothing is written, but outputs of run folders, and of them alone, are kept in the cache.

    Args:
        before: The original.
        after: The unlearned model.
        references: Models retrained without the labels, each with its own seed, or one model; none leaves C2
            open, one or two leave it provisional.
        source: Data of the original's labels; see `load`.
        labels: Names to audit: what `after` has forgotten and `before` has not.
        budget: ``quick``, ``standard`` or ``full``.
        seed: Key of all randomness, 0 to 2147483647; the run's by default.
        forgotten: Labels that `before` had forgotten earlier; a run folder remembers them itself.
        start: What the training of `before` began from, such as ``random``; ``unknown`` leaves C2
            provisional. A run folder remembers it itself.
        run: Where to compute, always in one process; this machine and seed 0 by default.
        **options: Margins and sizes of `AuditOptions`, such as ``d_reference=0.05``.

    Returns:
        The audit. Equal models, data, seed and machine give equal figures, by Python and by the command. One
        control differs if `before` is a network in memory: its layers draw the weights of the untrained
        networks, as it cannot be built by name. ``controls["random_init"]`` then differs, and without
        references the bound beside C2.

    Raises:
        OptionError: An argument is of the wrong kind or out of range, or a model is given twice.
        RequestError: The labels do not fit the original's.
        DataError: The data lacks a label, or has too few images of a kind.
        ModelError: A model cannot be read, or does not belong to the others or to the data.

    Example:
        >>> from unlabel.testing import tiny_world
        >>> world = tiny_world()
        >>> audit_model(world.model, world.model, [], world.source, "top")
        Traceback (most recent call last):
        unlabel.core.errors.OptionError: before and after are one model; expected the model that was unlearned
    """
    allowed = {item.name for item in fields(AuditOptions)} - {"budget", "seed"}
    for name in options:
        if name not in allowed:
            raise OptionError(
                f"an audit has no option '{name}'.{suggest(name, allowed)} See unlabel.AuditOptions"
            )
    run = run or engine.start()
    settings = AuditOptions(**options, budget=budget, seed=run.seed if seed is None else seed)
    where = engine.alone(run).with_seed(settings.seed)
    case = _case(before, after, references, source, labels, forgotten, start, where)
    return audit_case(case, where, settings)


def _case(
    before: Model,
    after: Model,
    references: Model | Sequence[Model],
    source: Source,
    labels: str | Sequence[str],
    forgotten: str | Sequence[str],
    start: str,
    where: Run,
) -> Case:
    """The case of these models and data; what does not fit together is refused."""
    if not isinstance(source, Source):
        raise OptionError(f"source is a {type(source).__name__}; expected what unlabel.load returns")
    if isinstance(references, nn.Module | Loaded | str | Path):
        references = [references]
    if not isinstance(references, Iterable):
        raise OptionError(f"references is a {type(references).__name__}; expected a list of models: [model]")
    original = _loaded(before, "before", lambda model: _config(model, source, forgotten))
    if not original.in_memory and (forgotten or start != "unknown"):
        raise OptionError(
            f"{original.path} is a run, which remembers what it forgot and began from: leave out"
            " forgotten= and start="
        )
    config = original.config
    if after is before:
        raise OptionError("before and after are one model; expected the model that was unlearned")
    see = "in source.test.labels" if original.in_memory else f"with: unlabel show {original.path}"
    request = Request.make(labels, config.labels, forgotten=config.forgotten, see=see)

    def alike(model: nn.Module) -> Config:
        gone = {"forgotten": request.masked, "eraser": 0, "erased": ()}
        return replace(config, network=type(model).__name__, **gone)

    unlearned = _loaded(after, "after", alike)
    retrained = [_loaded(item, f"reference {at}", alike) for at, item in enumerate(references, 1)]
    if original.in_memory:
        original = replace(original, record=replace(original.record, start=start))
    models = [original, unlearned, *retrained]
    _check_names(models)
    source = source.with_labels(config.labels).normalised(config.mean, config.std)
    for item in models:
        _check(item, config, source, where)
    extra = [name for name in unlearned.config.forgotten if name not in request.masked]
    if extra:
        raise ModelError(f"{unlearned.path} has forgotten {', '.join(extra)} too; name all of them in labels")
    check_references([unlearned, original], retrained, request)
    answered = as_answered(source, original.config)
    source, planting = planted_again(answered, original.record, another=True, log=where.log)
    check_manifest(original.path, source)
    return case_of(original, unlearned, retrained, request, source, planting)


def _loaded(model: Any, role: str, config: Callable[[nn.Module], Config]) -> Loaded:
    """A model of any form as the audit takes it; a network is copied, and the caller's stays as it is."""
    if isinstance(model, str | Path):
        return load_run(model)
    if isinstance(model, Loaded):
        recorded = load_run(model.path)  # what is kept of a run is kept by what its folder holds
        if packed(model.model) != packed(recorded.model):
            raise ModelError(
                f"the model of {model.path} was changed after it was read; to audit it so, pass run.model"
            )
        return recorded
    if not isinstance(model, nn.Module):
        raise OptionError(
            f"{role} is a {type(model).__name__}; expected a torch.nn.Module, the path of a run folder, or"
            " what unlabel.open_run returns"
        )
    taken = copied(model, role).eval()
    total = sum(weight.numel() for weight in taken.parameters())
    digest = hashlib.sha256(packed(taken)).hexdigest()
    return Loaded(Path(role), taken, config(taken), Record(total=total), digest, in_memory=True)


def _config(model: nn.Module, source: Source, forgotten: str | Sequence[str]) -> Config:
    """What an original in memory is, as its data tells."""
    data = source.test
    return Config(
        network=type(model).__name__,
        stem="imagenet",
        labels=source.labels,
        forgotten=as_names(forgotten),
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        thresholds=(0.5,) * len(source.labels),
        activation="softmax" if data.exclusive else "sigmoid",
    )


def _check_names(models: Sequence[Loaded]) -> None:
    """Refuses models that an audit could not tell apart."""
    names = [str(item.path) for item in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"two models are called {twice}; expected different ones: write a run's whole path")


def _check(item: Loaded, config: Config, source: Source, where: Run) -> None:
    """Refuses a model of other labels or another size, and a network that does not answer as it should."""
    if item.config.labels != config.labels:
        raise ModelError(f"{item.path} has other labels than the original; expected one of the same labels")
    size = source.test.image_size
    if item.config.image_size != size:
        raise ModelError(
            f"{item.path} takes images of {item.config.image_size} pixels, but the source has {size}; load it"
            f" with image_size={item.config.image_size}"
        )
    if not item.in_memory:
        if source.photos and source.photos.frame.framing != item.config.framing:
            raise ModelError(
                f"{item.path} takes photos by {item.config.framing}, but the source has them by"
                f" {source.photos.frame.framing}; load it with framing=run.config.framing"
            )
        return
    few = batch_of(source.test, np.arange(min(_TRIED, len(source.test))), where.device)
    try:
        check_in_layout(engine.place(item.model, where), len(config.labels), few.image)
    except UnlabelError as error:
        raise type(error)(f"{item.path}: {error}") from error
