"""Adopting a model that was trained elsewhere: it becomes a run if it predicts better than chance."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import (
    CheckpointMismatch,
    LabelMismatch,
    MissingFiles,
    ModelError,
    OptionError,
    ReadError,
)
from unlabel.core.files import RECORD, write_json
from unlabel.core.framing import CENTRE, Framing, Size, framing_facts, plain_size
from unlabel.core.layout import Layout
from unlabel.core.places import check_output, staged
from unlabel.core.reading import MOST_BYTES, file_sha256, parse_json, read_plain, reason
from unlabel.core.recipe import History
from unlabel.core.request import as_names, spelt
from unlabel.core.wording import joined, listing
from unlabel.data import load
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Colours, Source
from unlabel.exchange.absent import advice, check_inserted, check_without, insert_absent
from unlabel.exchange.check import (
    choose_normalisation,
    compare,
    for_channels,
    measure,
    normalisation_note,
    refuse_chance,
)
from unlabel.exchange.framing import Fit, try_framings
from unlabel.exchange.grouped import grouped_note
from unlabel.exchange.library import Library, library_of
from unlabel.exchange.sizes import asked_size_note, size_note
from unlabel.models.build import build
from unlabel.models.channels import input_channels
from unlabel.models.custom import grant, is_custom, remember
from unlabel.models.eraser import insert_empty, rank_in, rank_of
from unlabel.models.features import outputs
from unlabel.models.final_layers import Found, find_layout
from unlabel.models.head import check_head, find_head, remove_rows, removed_output
from unlabel.models.named_options import packages_of
from unlabel.models.normal_form import normal_form
from unlabel.models.weights import Fitted, Weights, fit_weights, read_weights
from unlabel.runs.config import MOST_LABELS, Config
from unlabel.runs.folder import load_run, write_run
from unlabel.runs.record import SCHEMA, data_record, place_record

UNKNOWN = "unknown"
LONGEST_START = 200


@dataclass(frozen=True)
class ForeignModel:
    """A model that was trained elsewhere, as the user names it.

    Args:
        network: ``small``, ``resnet18``, ``resnet50``; ``timm:NAME``, ``torchvision:NAME`` or ``hf:DIR``, a
            folder of ``save_pretrained``, see `models.named`; or ``package.module:function``. Every command
            that reads the run imports this module and calls the function; see `models.custom`.
        weights: Safetensors, or a state dict of ``torch.save``; code in a pickle is never run. None for those
            in the folder of ``hf:DIR``.
        labels: Text file with the name of each output on its own line, in order, or a JSON list. None for
            those in the folder of ``hf:DIR``. Of a reference, all labels of the original.
        mean, std: Normalisation on the 0 to 1 scale, as in ``0.485,0.456,0.406``; one number counts for all
            colours. If neither is given, that of timm's or the folder's configuration is taken, or else the
            usual one with the lowest loss.
        without: Labels that the model was never shown: the run is then a reference. Their outputs are made
            constants; if the model has outputs for all other labels only, constants are put in.
        logits: Key or number of the part of what the network returns that holds its logits, where a dict or
            tuple has several that may.
        features: A module of the network whose output counts as features, besides what its head reads:
            methods edit it and audits attack it, too.
        start: From which weights its training began, such as ``random``; ``unknown`` leaves C2 provisional.
    """

    network: str
    weights: Path | None = None
    labels: Path | None = None
    mean: str | None = None
    std: str | None = None
    without: Sequence[str] = ()
    logits: str | None = None
    features: str | None = None
    start: str = UNKNOWN


@dataclass(frozen=True)
class Given:
    """The same, read and checked, but not yet run."""

    network: str
    file: Path
    sha256: str
    weights: Weights
    labels: tuple[str, ...]
    without: tuple[str, ...]
    normalisation: tuple[Colours, Colours] | None
    library: Library
    asked: tuple[bool, bool, bool] = (False, False, False)  # are size, normalisation, framing the user's?
    logits: str | None = None
    features: str | None = None
    layout: Layout | None = None
    framing: Framing | None = None
    constant: tuple[str, ...] = ()  # labels whose outputs came as constants
    inserted: tuple[str, ...] = ()  # labels that the model came without an output for

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Labels that the model was never shown, and those whose outputs came as constants, in order."""
        return tuple(name for name in self.labels if name in (*self.without, *self.constant))

    @property
    def in_folder(self) -> bool:
        """Whether the weights are those in a folder of Hugging Face's."""
        folder = self.library.folder
        return folder is not None and self.file == self.library.weights


def adopt_run(
    foreign: ForeignModel,
    data: str,
    out: Path,
    run: Run,
    *,
    image_size: Size | None = None,
    framing: Framing | None = None,
    skip_bad: bool = False,
    force: bool = False,
    command: str = "",
) -> Mapping[str, Any]:
    """Makes a run of a model that was trained elsewhere, after checking that it predicts its labels.

    Args:
        foreign: The model.
        data: ``faces`` or ``folder:PATH`` with those label columns; see `data.load`.
        out: Folder to write; must not exist unless ``force``.
        run: Where; one process.
        image_size: Side of a square input in pixels, or (height, width), 16 to 512; the source's own, 64 for
            folders, if None.
        framing: How a photo of another shape comes to that size. If None, the centre is cut out; where many
            photos have another shape, squashing and padding are tried, and what fits better is used.
        skip_bad: Leave out unreadable images instead of refusing.
        force: Replace an existing run folder.
        command: The command line, for the record.

    Returns:
        The record that is also in ``unlabel.json``; ``auc`` and ``fidelity`` hold what was measured.

    Raises:
        OptionError: An option is out of range, or one of mean and std is missing.
        ModelError: The network cannot be built or read, its head is not found, its labels are at chance, or
            it does not give the same outputs again; its subclasses say that weights do not fit.
        DataError: The labels are no columns of the data, or the data cannot be read.
    """
    check_output(out, force=force)
    if not 0 < len(foreign.start.strip()) <= LONGEST_START:
        raise OptionError(
            f"--start has {len(foreign.start):,} characters; expected the weights from which the training"
            f" began, in up to {LONGEST_START}, such as random"
        )
    if run.processes != 1:
        raise OptionError(
            f"--devices is {run.processes}; adopting reads the model on one: leave --devices out"
        )
    asked = (image_size is not None, foreign.mean is not None, framing is not None)
    given = replace(_read(foreign), asked=asked)
    names = given.labels
    image_size = given.library.size if image_size is None else image_size
    framing = framing or given.library.framing
    if is_custom(given.network):
        grant(given.network)  # the user who names it here trusts it
    given = _fitting(given)  # before any image is read
    source = load(
        data,
        image_size=image_size,
        framing=framing,
        labels=names,
        skip_bad=skip_bad,
        cache=run.cache,
        workers=run.workers,
        log=run.log,
    )
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "method": "adopt",
        "labels": list(names),
        "without": list(given.without),
        "blueprint": None,
        "start": foreign.start,
        "parent": None,
        "data": data_record(source),
        **place_record(run, command),
    }
    given = replace(given, framing=framing)
    return engine.launch(run, _adopt_job, given, source, out, record, force)


def _read(foreign: ForeignModel) -> Given:
    """Reads what the user named, and refuses what does not fit."""
    mean, std, without = foreign.mean, foreign.std, as_names(foreign.without)
    if (mean is None) != (std is None):
        raise OptionError("only one of --mean and --std is given; give both, or neither to have them chosen")
    normalisation = None
    if mean is not None and std is not None:
        normalisation = (_colours("--mean", mean, 0.0), _colours("--std", std, 1e-6))
    library = library_of(foreign.network)
    names = read_labels(foreign.labels) if foreign.labels else library.labels
    file, weights = _weights(foreign.weights, library)
    without = spelt(without, names)
    check_without(without, names)
    withheld = tuple(name for name in names if name in without)
    normalisation = normalisation or library.normalisation
    return Given(
        library.network,
        file,
        file_sha256(file),
        weights,
        names,
        withheld,
        normalisation,
        library,
        logits=foreign.logits,
        features=foreign.features,
    )


def _fitting(given: Given) -> Given:
    """The same with an output for every label; refuses weights that do not fit the network.

    Raises:
        CheckpointMismatch, NoLinearHead: As `models.weights.fit_weights` raises.
    """
    model = _network(given)
    weights, inserted = insert_absent(given.weights, model, given.labels, given.without)
    try:
        fit_weights(weights, model, len(given.labels), given.file.name)
    except CheckpointMismatch as error:
        raise CheckpointMismatch(f"{error}{advice(len(given.labels), given.without)}") from error
    return replace(given, weights=weights, inserted=inserted)


def _weights(file: Path | None, library: Library) -> tuple[Path, Weights]:
    """The file of the weights, and what it holds; transformers knows other names than those in its file."""
    if file is not None:
        return file, read_weights(file)
    file, module = library.weights, library.module()
    assert module is not None, "the folder has a file"
    return file, Weights(module.state_dict(), "safetensors")


def read_labels(file: Path) -> tuple[str, ...]:
    """Names of a model's outputs, in order: one a line, or a JSON list.

    Raises:
        MissingFiles: There is no such file.
        LabelMismatch: It holds no names, or one twice.
    """
    if not file.is_file():
        raise MissingFiles(f"no file {file}; expected the name of each output on its own line, in order")
    try:
        text = read_plain(file, MOST_BYTES).decode("utf-8-sig")
        lines = parse_json(text.encode()) if text.lstrip().startswith("[") else text.splitlines()
    except (ValueError, ReadError) as error:
        raise LabelMismatch(
            f"{file} cannot be read ({reason(error)}); expected UTF-8 text, one name a line, or a JSON list"
            " of names"
        ) from error
    if not all(isinstance(name, str) for name in lines):
        raise LabelMismatch(f"{file} is a JSON list with items that are no names; expected names in quotes")
    names = tuple(name.strip() for name in lines if name.strip())
    if len(names) > MOST_LABELS:
        raise LabelMismatch(f"{file} names {len(names):,} labels; expected at most {MOST_LABELS:,}")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice or not names:
        fault = f"names {listing(twice)} more than once" if twice else "names no label"
        raise LabelMismatch(f"{file} {fault}; expected the name of each output once, in order")
    return names


def _colours(flag: str, text: str, low: float) -> Colours:
    """Three numbers from ``low`` to 1, or one for all three."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise OptionError(
            f"{flag} is '{text}'; expected three numbers such as 0.485,0.456,0.406, or one for all"
        )
    for value in numbers:
        if not (isfinite(value) and low <= value <= 1):
            hint = f"; divide by 255: {value / 255:.4g}" if 1 < value <= 255 else ""
            raise OptionError(
                f"{flag} holds {value:g}; expected {'0' if low == 0 else 'more than 0'} to 1, on the 0 to 1"
                f" scale of pixels{hint}"
            )
    red, green, blue = numbers * (3 // len(numbers))
    return red, green, blue


def _adopt_job(
    run: Run, given: Given, source: Source, out: Path, record: dict[str, Any], force: bool
) -> dict[str, Any]:
    started = time.perf_counter()
    names = given.labels
    model = _network(given)
    fitted = fit_weights(given.weights, model, len(names), given.file.name)
    for note in fitted.notes:
        run.log.say(note)
    model.load_state_dict(fitted.state)
    model = engine.place(model, run).eval()
    if input_channels(model) == 1:
        source = source.normalised(*(for_channels(part, 1) for part in (source.test.mean, source.test.std)))
    model, final = _joined(model, given, source, run)
    check_inserted(given.inserted, final.reading)
    given = replace(given, layout=final.layout, constant=_constant(model, given))
    for note in final.notes:
        run.log.say(note)
    constants = [removed_output(source.train, names.index(name)) for name in given.without]
    changed = _remove(model, given, constants)
    source, losses, fit = _prepared(model, given, source, run)
    logits = outputs(model, source.test, run, stage="measure").logits
    measured = measure(logits, source.test, without=given.forgotten)
    size, colours, framed = given.asked
    sized = None if size or given.library.size else size_note(model, source, run)
    doubts = _doubts(model, given, source, run)
    pairs = given.layout is not None and given.layout.pairs
    refuse_chance(measured, pairs=pairs, hint="; ".join([*([sized] if sized else []), *doubts]) or None)
    doubts = [f"warning: {text}" for text in doubts]
    if grouped := grouped_note(model, source.probe, run, given.forgotten):
        doubts.append(grouped)
    notes = given.library.notes(
        exclusive=source.test.exclusive, asked_size=size, asked_colours=colours, asked_framing=framed
    )
    config = _config(given, source, model)
    record |= {
        **_described(given, fitted, final, config),
        "data": data_record(source),
        "normalisation": losses,
        **({"framing": fit.to_json()} if fit else {}),
        "auc": measured,
        "changed": changed,
        "total": sum(parameter.numel() for parameter in model.parameters()),
        "images_used": 0,
        "images_processed": 0,
        "steps": 0,
    }
    record["adopted"]["notes"] += [*notes, *([sized] if sized else []), *doubts]
    record["versions"] |= packages_of(given.network)
    with staged(out, force=force) as folder:
        write_run(folder, model, config, record, History())
        again = engine.place(load_run(folder).model, run)
        module, precision = _users_module(given, fitted, constants, run)
        other = {} if final.layout is None else {"reading": final.reading, "without": given.without}
        record["fidelity"] = compare(again, module, source.test, run, precision, **other)
        if is_custom(given.network) and (failed := remember(given.network)):
            record["adopted"]["notes"].append(failed)
        record["seconds"] = {"total": time.perf_counter() - started}
        write_json(folder / RECORD, record)
    return record


def _doubts(model: nn.Module, given: Given, source: Source, run: Run) -> list[str]:
    """What fits the model much better than what the user gave, in sentences."""
    size, colours, _ = given.asked
    sentences = [
        normalisation_note(model, source.probe, run) if colours else None,
        asked_size_note(model, source, run) if size else None,
    ]
    return [text for text in sentences if text]


def _prepared(
    model: nn.Module, given: Given, source: Source, run: Run
) -> tuple[Source, dict[str, float], Fit | None]:
    """The data as the model wants it, and what was tried to find that where the user did not say it."""
    source, losses = _normalised(model, given, source, run)
    stated = given.asked[2] or given.library.folder is not None
    fit = None if stated else try_framings(model, source, run)
    if fit is None or not fit.losses:
        return source, losses, None
    run.log.say(str(fit))
    if fit.chosen == fit.usual:
        return source, losses, fit
    usual = given.framing or CENTRE
    again = load(
        source.name,
        image_size=source.test.image_size,
        framing=Framing(fit.chosen, interpolation=usual.interpolation),
        labels=given.labels,
        skip_bad=bool(source.facts.get("skipped_bad")),
        cache=run.cache,
        workers=run.workers,
        log=run.log,
    )
    again = again.normalised(source.test.mean, source.test.std)
    if given.normalisation is None:
        run.log.say(f"with --resize {fit.chosen}, mean and std are chosen again")
    source, losses = _normalised(model, given, again, run)  # another may be best on whole photos
    return source, losses, fit


def _normalised(model: nn.Module, given: Given, source: Source, run: Run) -> tuple[Source, dict[str, float]]:
    """The source with the given normalisation, or with the usual one of the lowest loss, and the losses."""
    if given.normalisation is None:
        normalisation, losses = choose_normalisation(model, source.probe, run)
        return source.normalised(*normalisation), losses
    channels = len(source.test.mean)
    if channels == 1 and any(len({*part}) > 1 for part in given.normalisation):
        run.log.say("the network reads grey: the means of the three numbers of mean and std are used")
    return source.normalised(*(for_channels(part, channels) for part in given.normalisation)), {}


def _config(given: Given, source: Source, model: nn.Module) -> Config:
    """What the run folder says about its model, which reads images as the source gives them."""
    data, framing = source.test, source.photos.frame.framing if source.photos else given.framing
    return Config(
        network=given.network,
        stem="imagenet",
        labels=given.labels,
        forgotten=given.forgotten,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        thresholds=(0.5,) * len(given.labels),
        activation="softmax" if data.exclusive else "sigmoid",
        eraser=rank_of(model),
        head=given.layout,
        **asdict(framing or CENTRE),
    )


def _described(given: Given, fitted: Fitted, found: Found, config: Config) -> dict[str, Any]:
    """What the record says about the user's model and how it was read."""
    return {
        "options": {
            "network": given.network,
            "image_size": plain_size(config.image_size),
            **framing_facts(config.framing),
            "mean": list(config.mean),
            "std": list(config.std),
            **{name: value for name in ("logits", "features") if (value := getattr(given, name)) is not None},
        },
        "adopted": {
            "weights": given.file.name,
            "sha256": given.sha256,
            "container": given.weights.container,
            "entered": given.weights.entered,
            "prefix": fitted.prefix,
            "filled": list(fitted.filled),
            "constant": list(given.constant),
            "inserted": list(given.inserted),
            "notes": [*fitted.notes, *found.notes, *_inserted(given)],
        },
    }


def _inserted(given: Given) -> tuple[str, ...]:
    """What was put in for labels that the model has no output for, in a sentence."""
    if not given.inserted:
        return ()
    return (
        f"{given.file.name} has no output for {joined(given.inserted)}, so a constant was put in: its outputs"
        f" are taken for the other {len(given.labels) - len(given.inserted)} labels, in their order",
    )


def _network(given: Given, *, seed: int = 0) -> nn.Module:
    """The user's network with random weights, and the erasing layer that an exported run's weights hold."""
    model = build(given.network, len(given.labels), seed=seed)
    insert_empty(model, len(given.labels), rank_in(given.weights.tensors))
    return model


def _joined(model: nn.Module, given: Given, source: Source, run: Run) -> tuple[nn.Module, Found]:
    """The model with one linear head, and how the user's own outputs are made; it raises as `find_layout`."""
    images = batch_of(source.test, [0, 1], run.device).image
    final = find_layout(model, given.labels, images, logits=given.logits, features=given.features)
    if "softmax" in final.reading.returned and not source.test.exclusive:
        raise ModelError(
            "the model returns a softmax over its outputs, as of classes of which one is present, but some"
            " images of the data have several labels or none; expected one that scores each label by itself"
        )
    model = engine.place(normal_form(model, final.layout), run).eval()
    check_head(model, len(given.labels), images)
    return model, final


def _constant(model: nn.Module, given: Given) -> tuple[str, ...]:
    """Labels whose outputs read no feature: removed before the model came; none if no other would be left."""
    reads = find_head(model, len(given.labels))[1].weight.any(1).tolist()
    found = [name for name, feature in zip(given.labels, reads, strict=True) if not feature]
    left = {*given.labels} - {*found, *given.without}
    return tuple(name for name in found if left and name not in given.without)


def _remove(model: nn.Module, given: Given, constants: Sequence[float]) -> int:
    """Makes the outputs of labels that the model never saw constants; returns how many numbers changed."""
    _, head = find_head(model, len(given.labels))
    return remove_rows(head, [given.labels.index(name) for name in given.without], constants)


def _users_module(
    given: Given, fitted: Fitted, constants: Sequence[float], run: Run
) -> tuple[nn.Module, torch.dtype]:
    """The user's module with the user's weights, in float64 if the weights are.

    It is built with another seed than the run's, so that any random number outside its weights shows.
    """
    whole = given.in_folder and not given.inserted
    model = (given.library.module() if whole else None) or _network(given, seed=1)
    exact = any(
        value.dtype == torch.float64 != fitted.state[name].dtype for name, value in fitted.exact.items()
    )
    if exact:
        model.double().load_state_dict(fitted.exact)
    else:
        model.load_state_dict(fitted.state)
    if given.layout is None:
        _remove(model, given, constants)
    return engine.place(model, run).eval(), torch.float64 if exact else torch.float32
