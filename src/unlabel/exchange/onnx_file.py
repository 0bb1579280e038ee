"""A deployed model, ``onnx:FILE?features=TENSOR``: its outputs and an inner tensor, read by onnxruntime.

::

    open_onnx("onnx:model.onnx?features=relu_1")  ->  OnnxModel
    OnnxModel.read(data, log)                     ->  Outputs: logits and features

The file is never changed: the graph is extended in memory, so that it gives the named tensor as well. It runs
on the CPU, and no code from the file runs: custom operators and external files are refused.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch
from numpy.typing import NDArray

from unlabel.core.errors import LabelMismatch, MissingFiles, ModelError, OptionError
from unlabel.core.framing import CENTRE, Framing
from unlabel.core.install import install_command
from unlabel.core.progress import SILENT, Log
from unlabel.core.reading import parse_json, read_plain, typed
from unlabel.core.wording import listing, suggest
from unlabel.data.batches import normalise
from unlabel.data.dataset import Dataset
from unlabel.exchange.adopt import read_labels
from unlabel.models.outputs import PENULTIMATE, Outputs

PREFIX = "onnx:"
MOST_BYTES = 2_000_000_000  # a protobuf cannot hold more
MOST_NODES = 200_000
MOST_FEATURES = 65_536  # numbers of one image that an attack is fitted on
BATCH = 64
MOST_BATCH = 1024
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # operators that come with onnxruntime
SQUASHED = {"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "softmax"}
KEYS = ("features", "output", "image_size")

Colours = tuple[float, float, float]


@dataclass(frozen=True)
class OnnxSettings:
    """What a file may lack, as the user says it; it counts for every ONNX file of a command.

    Args:
        labels_file: Names of the outputs, one per line, in order; None: as the file's metadata say.
        mean: Means of red, green and blue, from 0 to 1; None: as the metadata say.
        std: Standard deviations, above 0; None: as the metadata say.
    """

    labels_file: Path | None = None
    mean: Colours | None = None
    std: Colours | None = None


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that is ready to be run.

    Args:
        name: As the user wrote it.
        path: The file.
        sha256: Of its bytes.
        labels: Names of its outputs, in order; empty where nobody names them.
        forgotten: Labels that the metadata call forgotten.
        image_size: Side of its input in pixels.
        mean, std: Normalisation of red, green and blue.
        framing: How a picture of another shape comes to that size, as the metadata say; the usual centred cut
            where they do not.
        activation: ``sigmoid`` or ``softmax``.
        features: The inner tensor that is read beside the outputs; None: none is.
        notes: What was found out about the file, in sentences.
        session: Of onnxruntime.
        names: Of the input, the output and, if named, the inner tensor.
        batch: Images at a time; None: any number.
        channels_last: Whether its input is (batch, height, width, 3).
    """

    name: str
    path: Path
    sha256: str
    labels: tuple[str, ...]
    forgotten: tuple[str, ...]
    image_size: int
    mean: Colours
    std: Colours
    activation: str
    features: str | None
    notes: tuple[str, ...]
    session: Any
    names: tuple[str, ...]
    batch: int | None = None
    channels_last: bool = False
    framing: Framing = CENTRE

    def read(self, data: Dataset, log: Log = SILENT) -> Outputs:
        """Logits, and features if a tensor is named, of every image.

        Args:
            data: Square images of the input's size; their normalisation is not used, but the file's own.
            log: Receives progress.

        Returns:
            Rows in the data's order; float32, but for logits that the graph gives in float64. Of a feature
            map the mean over positions is taken.

        Raises:
            ModelError: The graph cannot be run on such images, or gives tables of another form.
            LabelMismatch: There are not as many names as outputs.
        """
        logits, features = [], []
        with log.track(f"read {self.path.name}", len(data), "images") as advance:
            size = self.batch or BATCH
            for start in range(0, len(data), size):
                pixels = data.images(slice(start, start + size))
                tensors = self._run(pixels)
                logits.append(self._table(tensors[0], len(pixels), "output"))
                self._check_names(logits[0].shape[1])
                if self.features is not None:
                    inner = self._table(tensors[1], len(pixels), f"tensor '{self.features}'")
                    features.append(inner.astype(np.float32))
                advance(len(pixels))
        behind = {PENULTIMATE: np.concatenate(features)} if features else {}
        return Outputs(np.concatenate(logits), behind)

    def _check_names(self, outputs: int) -> None:
        if self.labels and outputs != len(self.labels):
            raise LabelMismatch(
                f"{self.path} has {outputs} outputs, but {len(self.labels)} names; name each output once, in"
                " order: --labels-file FILE"
            )

    def _run(self, pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """The tensors of some images; a batch of a fixed size is filled up with copies of the last image."""
        images = len(pixels)
        if self.batch:
            pixels = pixels[np.minimum(np.arange(self.batch), images - 1)]
        image = normalise(pixels, self.mean, self.std, torch.device("cpu"))
        array = (image.permute(0, 2, 3, 1) if self.channels_last else image).contiguous().numpy()
        try:
            tensors = self.session.run(list(self.names[1:]), {self.names[0]: array})
        except Exception as error:  # onnxruntime has no common base for its own
            raise ModelError(
                f"{self.path} cannot be run on {images} images of {self.image_size} pixels"
                f" ({_short(error)}); expected a graph for float32 images of any number"
            ) from error
        tables = [np.asarray(value) for value in tensors]
        return [
            table[:images] if self.batch and table.shape[:1] == (self.batch,) else table for table in tables
        ]

    def _table(self, value: Any, images: int, what: str) -> NDArray[np.floating]:
        """One row an image, of numbers; of a feature map or of tokens, their mean."""
        table = np.asarray(value)
        if table.ndim == 4:
            table = table.mean((2, 3))
        elif table.ndim == 3:
            table = table.mean(1)
        elif table.ndim == 1 and len(table) == images:
            table = table[:, None]
        if table.ndim != 2 or len(table) != images or not np.issubdtype(table.dtype, np.number):
            raise ModelError(
                f"the {what} of {self.path} has the shape {np.shape(value)} for {images} images; expected one"
                " row of numbers for each image"
            )
        if table.shape[1] > MOST_FEATURES:
            raise ModelError(
                f"the {what} of {self.path} has {table.shape[1]:,} numbers for each image; expected at most"
                f" {MOST_FEATURES:,}: name a later tensor"
            )
        if not np.isfinite(table).all():
            raise ModelError(f"the {what} of {self.path} holds NaN or infinity; export the model again")
        return table if table.dtype == np.float64 else table.astype(np.float32)


def is_onnx(text: object) -> bool:
    """Whether a model is named as ``onnx:FILE``.

    >>> is_onnx("onnx:model.onnx"), is_onnx("runs/base")
    (True, False)
    """
    return str(text).startswith(PREFIX)


def open_onnx(text: str, settings: OnnxSettings | None = None) -> OnnxModel:
    """Reads an ONNX file, and prepares it to be run.

    Args:
        text: ``onnx:FILE``, then, if wanted, ``?features=TENSOR``; ``&output=TENSOR`` names another output
            than the first, ``&image_size=N`` the side of an input whose size is left open.
        settings: What the file's metadata lack.

    Raises:
        OptionError: The text is not understood, a package is missing, or the input's form is unknown.
        MissingFiles: There is no such file.
        ModelError: The file is no ONNX model that can be run without other files or code.
    """
    settings = settings or OnnxSettings()
    path, options = _parse(text)
    onnx, runtime = _package("onnx"), _package("onnxruntime")
    if not path.is_file():
        raise MissingFiles(f"no file {path}; expected an ONNX model, as in onnx:model.onnx")
    content = read_plain(path, MOST_BYTES)
    model = _load(onnx, content, path)
    producers = {name: node for node in model.graph.node for name in node.output if name}
    output, activation, notes = _output(model, producers, options.get("output"), path)
    features = options.get("features")
    if features is None:
        notes.append(_suggestion(model, producers, output))
    elif features not in producers:
        raise ModelError(
            f"{path} has no inner tensor '{features}'.{suggest(features, producers)}"
            f" {_suggestion(model, producers, output)}"
        )
    wanted = [output, *([features] if features is not None else [])]
    there = {item.name for item in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    facts = _facts(model)
    image, size, batch, last = _input(model, options, facts, path)
    mean, std = _normalisation(settings, facts, path)
    return OnnxModel(
        name=text,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        labels=_labels(settings, facts, path),
        forgotten=tuple(map(str, facts.get("forgotten") or ())),
        image_size=size,
        mean=mean,
        std=std,
        activation="softmax" if facts.get("activation") == "softmax" else activation,
        features=features,
        notes=tuple(notes),
        session=_session(runtime, model.SerializeToString(), path),
        names=(image, *wanted),
        batch=batch,
        channels_last=last,
        framing=_framing(facts, path),
    )


def _parse(text: str) -> tuple[Path, dict[str, str]]:
    """The file and the options of ``onnx:FILE?key=value&key=value``."""
    file, _, query = text.removeprefix(PREFIX).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    for key, value in pairs:
        if key not in KEYS or not value:
            raise OptionError(
                f"'{text}' has '{key}={value}'; expected onnx:FILE?features=TENSOR, with {', '.join(KEYS)}"
                " after the question mark, joined by &"
            )
    if not file or len(options) < len(pairs) or bool(query) != bool(pairs):
        raise OptionError(f"'{text}' names no model; expected onnx:FILE?features=TENSOR")
    return Path(file), options


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise OptionError(
            f"onnx:FILE needs the package '{name}', which is not installed: {install_command('onnx')}"
        ) from error


def _load(onnx: Any, content: bytes, path: Path) -> Any:
    """The parsed model; refused where it needs other files or other code than onnxruntime's own."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ModelError(f"{path} is no ONNX model ({_short(error)}); export the model again") from error
    parts = list(graphs(model.graph))
    if not model.graph.node or sum(len(graph.node) for graph in parts) > MOST_NODES:
        raise ModelError(f"{path} holds no ONNX graph of 1 to {MOST_NODES:,} nodes; export the model again")
    external = onnx.TensorProto.EXTERNAL
    if any(tensor.data_location == external for tensor in _tensors(parts)):
        raise ModelError(
            f"{path} keeps its weights in other files; expected one file that holds them: save it again with"
            " onnx.save_model(..., save_as_external_data=False)"
        )
    domains = {function.domain for function in model.functions}
    odd = sorted(
        {node.op_type for graph in parts for node in graph.node if node.domain not in (*DOMAINS, *domains)}
    )
    if odd:
        raise ModelError(
            f"{path} needs custom operators ({listing(odd)}), which would run code of another program;"
            " expected operators of ONNX alone"
        )
    return model


def graphs(graph: Any) -> Iterator[Any]:
    """A graph, or a function, of ONNX and the graphs inside its nodes, in any depth."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(parts: list[Any]) -> Iterator[Any]:
    for graph in parts:
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _output(
    model: Any, producers: Mapping[str, Any], name: str | None, path: Path
) -> tuple[str, str, list[str]]:
    """The tensor that holds the logits, how probabilities come from it, and what to say of it.

    Attacks need numbers that no sigmoid has rounded to 0 or 1. If the graph ends in one, its input is read.
    """
    names = [item.name for item in model.graph.output]
    name = name or str(names[0])
    if name not in producers:
        raise ModelError(f"{path} has no output '{name}'.{suggest(name, producers)} Its outputs: {names[:5]}")
    node = producers[name]
    if node.op_type not in SQUASHED or node.input[0] not in producers:
        return name, "sigmoid", []
    before = node.input[0]
    note = f"The output '{name}' of {path} comes from a {node.op_type}; its input '{before}' is read instead."
    return before, SQUASHED[node.op_type], [note]


def _suggestion(model: Any, producers: Mapping[str, Any], output: str) -> str:
    """What to write for the features: the input of the last linear layer, where there is one."""
    node = producers.get(output)
    while node is not None and node.op_type not in ("Gemm", "MatMul"):
        node = next((producers[name] for name in node.input if name in producers), None)
    inner = next((name for name in node.input if name in producers), None) if node is not None else None
    if inner is None:
        last = [name for item in model.graph.node[-6:] for name in item.output if name != output]
        return f"Its last inner tensors: {', '.join(last)}."
    return f"The input of its last linear layer is '{inner}': add ?features={inner}"


def _facts(model: Any) -> dict[str, Any]:
    """The metadata that `unlabel export --to onnx` writes; of other files, whatever has the same names."""
    facts: dict[str, Any] = {}
    for item in model.metadata_props:
        if item.key in ("labels", "forgotten", "mean", "std", "image_size", "framing", "activation"):
            facts[item.key] = item.value
            with suppress(ValueError):
                facts[item.key] = parse_json(item.value.encode())
    lists = [facts.get(key) for key in ("labels", "forgotten")]
    if any(
        value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value))
        for value in lists
    ):
        raise ModelError(
            "the metadata of the ONNX file name labels in another form than a JSON list of texts"
        )
    return facts


def _labels(settings: OnnxSettings, facts: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    if settings.labels_file is not None:
        return read_labels(settings.labels_file)
    labels = tuple(facts.get("labels") or ())
    if len(set(labels)) < len(labels):
        raise ModelError(
            f"the metadata of {path} name a label twice; name the outputs with --labels-file FILE"
        )
    return labels


def _input(
    model: Any, options: Mapping[str, str], facts: Mapping[str, Any], path: Path
) -> tuple[str, int, int | None, bool]:
    """Of the one input: its name, side and fixed batch, and whether its channels are last."""
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    sizes = [item.dim_value for item in kind.shape.dim] if kind is not None else []
    last = len(sizes) == 4 and sizes[3] == 3 and sizes[1] != 3
    if kind is None or kind.elem_type != 1 or len(sizes) != 4 or (sizes[1] not in (0, 3) and not last):
        names = ", ".join(item.name for item in inputs) or "none"
        raise ModelError(
            f"{path} has the inputs {names}, of another form than expected: one of float32 (batch, 3, height,"
            " width); export the model for such images"
        )
    sides = {*(sizes[1:3] if last else sizes[2:4])} - {0}
    text = options.get("image_size")
    recorded = str(text if text is not None else facts.get("image_size"))
    told = int(recorded) if recorded.isdecimal() and len(recorded) < 6 else 0
    if len(sides) > 1 or (text is not None and sides and sides != {told}):
        raise ModelError(
            f"{path} takes images with the sides {sorted(sides)}; expected a square, and the same image_size"
        )
    side = max(sides, default=told)
    if not 16 <= side <= 512:
        raise OptionError(
            f"the input size of {path} is {side or 'not told'}; expected 16 to 512 pixels: add ?image_size=N"
        )
    if sizes[0] > MOST_BATCH:
        raise ModelError(f"{path} takes {sizes[0]:,} images at a time; expected at most {MOST_BATCH}")
    return inputs[0].name, side, sizes[0] or None, last


def _normalisation(settings: OnnxSettings, facts: Mapping[str, Any], path: Path) -> tuple[Colours, Colours]:
    triples = []
    for name, given in (("mean", settings.mean), ("std", settings.std)):
        value = given if given is not None else facts.get(name)
        numbers = _numbers(value)
        if len(numbers) != 3 or not all(map(isfinite, numbers)) or (name == "std" and min(numbers) <= 0):
            raise OptionError(
                f"the metadata of {path} do not tell its {name}; add --mean R,G,B --std R,G,B, as the network"
                " was trained: 0.485,0.456,0.406 and 0.229,0.224,0.225 are ImageNet's"
            )
        triples.append((numbers[0], numbers[1], numbers[2]))
    return triples[0], triples[1]


def _framing(facts: Mapping[str, Any], path: Path) -> Framing:
    """How `unlabel export` says that photos come to the size; it writes nothing for the usual way."""
    if "framing" not in facts:
        return CENTRE
    try:
        return typed(facts["framing"], Framing)
    except (ValueError, OptionError) as error:
        raise ModelError(
            f"the metadata of {path} tell a framing that is none ({error}); expected resize, crop_pct and"
            " interpolation, as unlabel export writes them: export the model again"
        ) from error


def _numbers(value: object) -> list[float]:
    """A list's numbers; none if something in it is no number."""
    items = list(value) if isinstance(value, list | tuple) else []
    whole = all(isinstance(item, int | float) and not isinstance(item, bool) for item in items)
    return [float(item) for item in items] if whole else []


def _session(runtime: Any, content: bytes, path: Path) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # its own lines would stand between ours
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot load {path} ({_short(error)}); export the model again"
        ) from error


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def colours(flag: str, text: str | None) -> Colours | None:
    """Three numbers of a flag.

    >>> colours("--mean", "0.5,0.4,0.3"), colours("--mean", None)
    ((0.5, 0.4, 0.3), None)
    """
    if text is None:
        return None
    with suppress(ValueError):
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == 3 and all(map(isfinite, numbers)):
            return numbers[0], numbers[1], numbers[2]
    raise OptionError(f"{flag} is '{text}'; expected three numbers with commas, such as 0.485,0.456,0.406")
