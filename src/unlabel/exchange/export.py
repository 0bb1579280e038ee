"""A run leaves the tool: weights under the user's own names, ONNX with labels, or Hugging Face's folder."""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import make_parent, write_bytes
from unlabel.core.framing import framing_facts, plain_size, size_in_words
from unlabel.core.install import install_command
from unlabel.core.places import check_file
from unlabel.exchange.export_hf import write_hf
from unlabel.exchange.onnx_file import graphs
from unlabel.exchange.reshaping import NUMBERS, Changes, Number, Reshaped, converted, reshape
from unlabel.exchange.written import DIFFERENCE, apart, check_written, random_images, rebuilt
from unlabel.models.custom import is_custom, one_line
from unlabel.models.eraser import eraser_of, erasing
from unlabel.models.named_options import is_named, parse_named
from unlabel.models.normal_form import NormalForm, own_state
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded, load_run
from unlabel.runs.origin import Adopted

Format = Literal["state-dict", "onnx", "hf"]
SUFFIXES = {".pt": "torch", ".pth": "torch", ".safetensors": "safetensors"}
DIFFERENCE_HALF = 3e-2  # as DIFFERENCE, for float16, whose rounding adds up over layers


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: The file, or the folder.
        notes: How to load it, and how it was checked.
    """

    path: Path
    notes: tuple[str, ...]


def export_run(
    run: Path,
    to: Format,
    out: Path | None = None,
    *,
    changes: Changes | None = None,
    force: bool = False,
) -> Exported:
    """Writes a run's model to one file or folder for use without this tool; the run is only read.

    A run that was adopted, and every run made from it, gives the names back that its weights had, in
    float32 unless `changes` say another format. The file appears whole or not at all.

    Args:
        run: A run folder.
        to: ``state-dict``; ``onnx``, which needs the extra packages of ``unlabel[onnx]``; or ``hf``, a folder
            that transformers reads, of a run whose network is named ``hf:...``.
        out: File to write. For a state dict its ending chooses the container: ``.pt`` and ``.pth`` are
            torch.save of a plain dict of tensors, ``.safetensors`` is safetensors. By default
            ``RUN/export`` with the ending that the adopted file's container has, ``RUN/export.onnx``, or the
            folder ``RUN/export``.
        changes: What is left out, folded or converted.
        force: Replace an existing file; a folder is never replaced.

    Raises:
        OptionError: The file exists, its ending or place does not fit, or a package is missing.
        ModelError: The network cannot be written as ONNX, or what was to be written gives other outputs; or
            the number format cannot hold its weights.
        UnlabelError: As `load_run` raises.
    """
    if to not in get_args(Format):
        raise OptionError(f"--to is '{to}'; expected {' or '.join(get_args(Format))}")
    changes = changes or Changes()
    loaded = load_run(run)
    if to == "hf":
        return _hf(loaded, run / "export" if out is None else out, changes)
    adopted = loaded.record.adopted or Adopted()
    ending = ".onnx" if to == "onnx" else ".pt" if adopted.container == "torch" else ".safetensors"
    file = run / f"export{ending}" if out is None else out
    endings = (".onnx",) if to == "onnx" else tuple(SUFFIXES)
    if file.suffix not in endings:
        raise OptionError(f"--out {file} has the ending '{file.suffix}'; expected {' or '.join(endings)}")
    check_file(file, force=force)
    reshaped = reshape(loaded, changes, one_head=to == "onnx")
    if to == "onnx":
        content, notes = _onnx(loaded, reshaped, file, changes.dtype)
    else:
        content, notes = _state_dict(loaded, reshaped, adopted, file, changes.dtype)
    check_file(file, force=force)  # another command may have written it meanwhile
    make_parent(file)
    write_bytes(file, content)
    return Exported(file, (*reshaped.notes, *notes, _reading(loaded.config, reshaped)))


def _hf(loaded: Loaded, out: Path, changes: Changes) -> Exported:
    """Writes a folder; its class has no place for a layer before the head."""
    if eraser_of(loaded.model) is not None and not changes.fold_eraser:
        raise OptionError(
            "the run's network has a layer before its head that erases directions from the features, which no"
            " class of transformers has; export --to onnx, which keeps it, or add --fold-eraser: the outputs"
            " are then the same, but the features before the head hold the label again"
        )
    reshaped = reshape(loaded, changes)
    for name, value in reshaped.model.state_dict().items():
        converted(name, value, changes.dtype)  # refuses what the format cannot hold
    notes = write_hf(loaded.config, reshaped, out, NUMBERS[changes.dtype])
    return Exported(out, (*reshaped.notes, *notes, _reading(loaded.config, reshaped)))


def _reading(config: Config, reshaped: Reshaped) -> str:
    """How to feed the exported model, and what its outputs are."""
    centre, scale = (",".join(f"{value:g}" for value in part) for part in (config.mean, config.std))
    constant = reshaped.constant
    gone = f"; constant, because forgotten: {', '.join(constant)}" if constant else ""
    colours = "RGB" if len(config.mean) == 3 else "grey"
    return (
        f"input: {colours}, {size_in_words(config.image_size)}, to which photos come by"
        f" {config.framing}; (pixel / 255 - mean) / std with mean {centre} and std {scale};"
        f" outputs are logits of {', '.join(reshaped.labels)}{gone}"
    )


def _state_dict(
    loaded: Loaded, reshaped: Reshaped, adopted: Adopted, file: Path, number: Number
) -> tuple[bytes, list[str]]:
    prefix, left_out = adopted.prefix or "", set(adopted.filled or ())
    state, changed = loaded.model.state_dict(), []
    if isinstance(loaded.model, NormalForm):
        state, changed = own_state(loaded.model)
    check_written(loaded.config, reshaped, rebuilt(loaded.config, reshaped, state))
    tensors = {
        f"{prefix}{name}": converted(name, value.detach(), number).contiguous().clone()
        for name, value in state.items()
        if name not in left_out
    }
    if SUFFIXES[file.suffix] == "torch":
        buffer = BytesIO()
        torch.save(tensors, buffer)
        content, call = buffer.getvalue(), f"torch.load('{file}', weights_only=True)"
    else:
        # one entry: the library writes several in another order each time
        content = safetensors.torch.save(tensors, metadata={"labels": json.dumps(reshaped.labels)})
        call = f"safetensors.torch.load_file('{file}')"
    config = loaded.config
    module, _, function = config.network.partition(":")
    made = f"{function} of {module}" if is_custom(config.network) else calling(config.network, reshaped)
    stem = " with unlabel's small stem" if config.stem == "small" and "resnet" in config.network else ""
    names = f", whose names begin with '{prefix}'" if prefix else ""
    layer = sorted(erasing(reshaped.model))
    notes = (
        [
            f"it holds a layer that the network does not have, {layer[0].rpartition('.')[0]}: before the"
            " head, x becomes x - (x @ into.T - level) @ out.T; without it the label is in the features"
            " and in the other outputs. --fold-eraser writes a file without it: its outputs are the same, but"
            " its features hold the label"
        ]
        if layer
        else []
    )
    return content, [
        *notes,
        *changed,
        f"load it with: model.load_state_dict({call}); model is {made}{stem}, with"
        f" {len(reshaped.labels)} outputs{names}",
    ]


def calling(network: str, reshaped: Reshaped) -> str:
    """How a network is made without this tool; the name itself for ours."""
    if not is_named(network):
        return network
    named, count = parse_named(network), len(reshaped.labels)
    options = "".join(f", {key}={value!r}" for key, value in named.options.items())
    if named.kind == "timm":
        return f"timm.create_model({named.base!r}, num_classes={count}{options})"
    if named.kind == "torchvision":
        return f"torchvision.models.get_model({named.base!r}, weights=None, num_classes={count}{options})"
    return (
        "AutoModelForImageClassification.from_config("
        f"AutoConfig.for_model({named.base!r}, num_labels={count}{options}))"
    )


def _onnx(loaded: Loaded, reshaped: Reshaped, file: Path, number: Number) -> tuple[bytes, list[str]]:
    if number == "bfloat16":
        raise OptionError("--dtype bfloat16 is not written as ONNX, which few runtimes compute; use float16")
    onnx = _package("onnx")
    _package("onnxscript")
    config = loaded.config
    images = random_images(config)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Converted.of(reshaped.model, number),
                (images[:2],),
                dynamo=True,
                verbose=False,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        assert program is not None, "an exporter that writes no file returns the program"
        written = program.model_proto
    except Exception as error:
        cause = one_line(error.__cause__ or error)
        raise ModelError(
            f"the network '{config.network}' cannot be written as ONNX ({cause[:160]}); expected a forward"
            " pass without Python branches on the images, or export --to state-dict"
        ) from error
    _forget_traces(onnx, written)
    facts = {
        "labels": list(reshaped.labels),
        "forgotten": list(reshaped.constant),
        "mean": list(config.mean),
        "std": list(config.std),
        "image_size": plain_size(config.image_size),
        **framing_facts(config.framing),
        "activation": config.activation,
        "run_sha256": loaded.sha256,
    }
    onnx.helper.set_model_props(
        written, {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    )
    onnx.checker.check_model(written, full_check=True)
    content = written.SerializeToString()
    return content, [
        _check_values(content, reshaped, images, number),
        f"load it with: onnxruntime.InferenceSession('{file}').run(None, {{'image': images}})",
    ]


def _forget_traces(onnx: Any, model: Any) -> None:
    """Clears what torch notes of each step: paths and lines of the source, and names of modules."""
    model.ClearField("doc_string")
    for part in (model.graph, *model.functions):
        for graph in graphs(part):
            told = [graph, *graph.node, *graph.value_info]
            if isinstance(graph, onnx.GraphProto):
                told += [*graph.input, *graph.output, *graph.initializer]
            for item in told:
                item.ClearField("doc_string")
                item.ClearField("metadata_props")


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what torch prints, warns and logs while it traces a network: pages of its inner graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Converted(nn.Module):
    """A network in another number format; images and logits stay float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype

    @classmethod
    def of(cls, model: nn.Module, number: Number) -> nn.Module:
        """The model itself where nothing is to be converted."""
        if number == "float32":
            return model
        for name, value in model.state_dict().items():
            converted(name, value, number)  # refuses what the format cannot hold
        return cls(model, NUMBERS[number]).eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image.to(self.dtype)).float()


def _check_values(content: bytes, reshaped: Reshaped, images: torch.Tensor, number: Number) -> str:
    """Compares the file's outputs with the run's, for two sizes of batch."""
    runtime, evaluate = _evaluator(content)
    share = DIFFERENCE if number == "float32" else DIFFERENCE_HALF
    largest, bound = 0.0, share
    for part in (images[:1], images):
        with torch.inference_mode():
            expected = reshaped.model(part).double()
        try:
            actual = torch.from_numpy(np.asarray(evaluate(part.numpy()), np.float64))
        except Exception as error:
            raise ModelError(
                f"the ONNX file cannot be run on {len(part)} images ({one_line(error)[:160]}), so it was"
                " not written; expected a forward pass for any number of images (x.shape[0], not len(x)), or"
                " export --to state-dict"
            ) from error
        away, scale = apart(expected, actual, reshaped)
        largest, bound = max(largest, away), max(bound, share * scale)
    if not largest <= bound:
        raise ModelError(
            f"the ONNX file gives outputs up to {largest:.3g} from the run's, so it was not written; export"
            " --to state-dict instead"
        )
    return (
        f"checked by {runtime}: at most {largest:.1e} from the run's outputs, on {len(images)} random images"
    )


def _evaluator(content: bytes) -> tuple[str, Callable[[NDArray[np.float32]], Any]]:
    """What computes an ONNX file: onnxruntime where it is installed, else the reference in onnx, slowly."""
    try:
        session = import_module("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    except ImportError:
        slow = import_module("onnx.reference").ReferenceEvaluator(content)
        return "onnx's reference", lambda images: slow.run(None, {"image": images})[0]
    return "onnxruntime", lambda images: session.run(None, {"image": images})[0]


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise OptionError(
            f"--to onnx needs the package '{name}', which is not installed: {install_command('onnx')}"
        ) from error
