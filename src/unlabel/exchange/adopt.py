"""A model that was trained elsewhere becomes a run, once it has been seen to know its labels."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import LabelMismatch, MissingFiles, OptionError
from unlabel.core.files import RECORD, write_json
from unlabel.core.places import check_output, staged
from unlabel.core.reading import MOST_BYTES, ReadError, parse_json, read_plain, reason
from unlabel.core.recipe import History
from unlabel.core.request import Request, as_names
from unlabel.core.wording import listing
from unlabel.data import load
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Source
from unlabel.exchange.check import Colours, choose_normalisation, compare, measure, refuse_chance
from unlabel.models.build import build
from unlabel.models.custom import grant, is_custom, remember
from unlabel.models.eraser import insert_empty, rank_in, rank_of
from unlabel.models.features import outputs
from unlabel.models.head import check_head, find_head, remove_rows, removed_output
from unlabel.models.weights import Fitted, Weights, fit_weights, read_weights
from unlabel.runs.config import MOST_LABELS, Config
from unlabel.runs.folder import file_sha256, load_run, write_run
from unlabel.runs.record import SCHEMA, data_record, place_record


@dataclass(frozen=True)
class Given:
    """What the user named, read but not yet tried."""

    network: str
    file: Path
    sha256: str
    weights: Weights
    labels: tuple[str, ...]
    without: tuple[str, ...]
    normalisation: tuple[Colours, Colours] | None


def adopt_run(
    network: str,
    weights: Path,
    labels: Path,
    data: str,
    out: Path,
    run: Run,
    *,
    mean: str | None = None,
    std: str | None = None,
    image_size: int | None = None,
    without: Sequence[str] = (),
    skip_bad: bool = False,
    force: bool = False,
    command: str = "",
) -> Mapping[str, Any]:
    """Makes a run of a model that was trained elsewhere, after checking that it knows its labels.

    Args:
        network: ``small``, ``resnet18``, ``resnet50``, or ``package.module:function``, which is imported and
            called, from now on by every command that reads the run; see `models.custom`.
        weights: Safetensors, or a state dict of ``torch.save``; code in a pickle is never run.
        labels: Text file with the name of each output on its own line, in order, or a JSON list.
        data: ``faces`` or ``folder:PATH`` with those label columns; see `data.load`.
        out: Folder to write; must not exist unless ``force``.
        run: Where; one process.
        mean, std: Normalisation on the 0 to 1 scale, as in ``0.485,0.456,0.406``; one number counts for all
            colours. Of a few usual ones the one with the lowest loss is taken when neither is given.
        image_size: Side of the input in pixels, 16 to 512; the source's own, 64 for folders, when None.
        without: Labels that the model was never shown: a reference that was retrained elsewhere. Their
            outputs are made constants.
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
    without = as_names(without)
    if run.processes != 1:
        raise OptionError(
            f"--devices is {run.processes}; adopting reads the model on one: leave --devices out"
        )
    if (mean is None) != (std is None):
        raise OptionError("only one of --mean and --std is given; give both, or neither to have them chosen")
    normalisation = None
    if mean is not None and std is not None:
        normalisation = (_colours("--mean", mean, 0.0), _colours("--std", std, 1e-6))
    names = read_labels(labels)
    read = read_weights(weights)
    if without:
        Request.make(without, names)
    never = tuple(name for name in names if name in without)
    given = Given(network, weights, file_sha256(weights), read, names, never, normalisation)
    if is_custom(network):
        grant(network)  # naming it here is what makes it trusted
    fit_weights(given.weights, _network(given), len(names), weights.name)  # before any image is read
    source = load(data, image_size=image_size, labels=names, skip_bad=skip_bad, log=run.log)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "method": "adopt",
        "labels": list(names),
        "without": list(never),
        "blueprint": None,
        "start": "unknown",
        "parent": None,
        "data": data_record(source),
        **place_record(run, command),
    }
    return engine.launch(run, _adopt_job, given, source, out, record, force)


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
        found = parse_json(text.encode()) if text.lstrip().startswith("[") else text.splitlines()
    except (ValueError, ReadError) as error:
        raise LabelMismatch(
            f"{file} cannot be read ({reason(error)}); expected UTF-8 text, one name a line, or a JSON list"
            " of names"
        ) from error
    if not all(isinstance(name, str) for name in found):
        raise LabelMismatch(f"{file} is a JSON list of other things than names; expected names in quotes")
    names = tuple(name.strip() for name in found if name.strip())
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
    check_head(model, len(names), batch_of(source.test, [0, 1], run.device).image)
    gone = [removed_output(source.train, names.index(name)) for name in given.without]
    changed = _remove(model, given, gone)
    losses: dict[str, float] = {}
    chosen = given.normalisation
    if chosen is None:
        chosen, losses = choose_normalisation(model, source.probe, run)
    source = source.normalised(*chosen)
    measured = measure(
        outputs(model, source.test, run, stage="measure").logits, source.test, without=given.without
    )
    refuse_chance(measured)
    config = Config(
        network=given.network,
        stem="imagenet",
        labels=names,
        forgotten=given.without,
        image_size=source.test.image_size,
        mean=source.test.mean,
        std=source.test.std,
        thresholds=(0.5,) * len(names),
        activation="softmax" if source.test.exclusive else "sigmoid",
        eraser=rank_of(model),
    )
    record |= {
        "options": {
            "network": given.network,
            "image_size": config.image_size,
            "mean": list(config.mean),
            "std": list(config.std),
        },
        "normalisation": losses,
        "adopted": {
            "weights": given.file.name,
            "sha256": given.sha256,
            "container": given.weights.container,
            "entered": given.weights.entered,
            "prefix": fitted.prefix,
            "filled": list(fitted.filled),
            "notes": list(fitted.notes),
        },
        "auc": measured,
        "changed": changed,
        "total": sum(parameter.numel() for parameter in model.parameters()),
        "images_used": 0,
        "images_processed": 0,
        "steps": 0,
    }
    with staged(out, force=force) as folder:
        write_run(folder, model, config, record, History())
        again = engine.place(load_run(folder).model, run)
        own, precision = _own(given, fitted, gone, run)
        record["fidelity"] = compare(again, own, source.test, run, precision)
        if is_custom(given.network) and (failed := remember(given.network)):
            record["adopted"]["notes"].append(failed)
        record["seconds"] = {"total": time.perf_counter() - started}
        write_json(folder / RECORD, record)
    return record


def _network(given: Given, *, seed: int = 0) -> nn.Module:
    """The user's network with random weights, and the erasing layer that an exported run's weights hold."""
    model = build(given.network, len(given.labels), seed=seed)
    insert_empty(model, len(given.labels), rank_in(given.weights.tensors))
    return model


def _remove(model: nn.Module, given: Given, constants: Sequence[float]) -> int:
    """Makes the outputs of labels that the model never saw constants; returns how many numbers changed."""
    _, head = find_head(model, len(given.labels))
    return remove_rows(head, [given.labels.index(name) for name in given.without], constants)


def _own(given: Given, fitted: Fitted, gone: Sequence[float], run: Run) -> tuple[nn.Module, torch.dtype]:
    """The user's module with the user's weights, in float64 when they are.

    It is built with another seed than the run's: what is random and not among the weights shows.
    """
    model = _network(given, seed=1)
    exact = any(
        value.dtype == torch.float64 != fitted.state[name].dtype for name, value in fitted.exact.items()
    )
    if exact:
        model.double().load_state_dict(fitted.exact)
    else:
        model.load_state_dict(fitted.state)
    _remove(model, given, gone)
    return engine.place(model, run).eval(), torch.float64 if exact else torch.float32
