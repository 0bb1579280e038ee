"""A folder of Hugging Face's ``save_pretrained``: its network, labels, weights and preprocessing.

Only ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` are read, and no code in any
file is run. Nothing is looked up on a network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlabel.core.errors import CheckpointMismatch, MissingFiles, ModelError, ReadError
from unlabel.core.files import visible
from unlabel.core.framing import Framing
from unlabel.core.reading import MOST_BYTES, parse_json, read_plain, reason
from unlabel.core.wording import listing
from unlabel.models.custom import one_line
from unlabel.models.named_hf import (
    FORBIDDEN,
    NOT_ARCHITECTURE,
    check_hf,
    default_config,
    quiet,
    returning_logits,
    types,
)
from unlabel.models.named_options import Named, is_plain, library
from unlabel.models.named_preprocessing import Preprocessing, Triple, colours, framing, sides

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
MOST_WEIGHTS = 8_000_000_000  # bytes
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # of Pillow, by number


@dataclass(frozen=True)
class Folder:
    """What a folder says of its model.

    Args:
        path: The folder.
        network: The name of the architecture, ``hf:TYPE`` with its options.
        labels: Names of the outputs, in order; empty where the folder has only ``LABEL_0`` and so on.
        problem: ``single_label_classification``, ``multi_label_classification``, or None.
        preprocessing: Size, normalisation and framing.
        notes: Entries that were not used, in sentences.
    """

    path: Path
    network: str
    labels: tuple[str, ...]
    problem: str | None
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()


def folder_of(name: str) -> Path | None:
    """The folder that ``hf:DIR`` names; None for other names, and where there is no such folder.

    Raises:
        MissingFiles: It is written as a path, but there is no such folder.
    """
    kind, _, path = name.partition(":")
    if kind != "hf":
        return None
    folder = Path(path).expanduser()
    if path and folder.is_dir():
        return folder
    if "/" in path:
        raise MissingFiles(f"no folder {path}; expected one that save_pretrained wrote, with {CONFIG}")
    return None


def read_folder(folder: Path) -> Folder:
    """Reads a folder's configuration; no weight is read.

    Raises:
        MissingFiles: It has no ``config.json``.
        ModelError: That is damaged, needs code that is not transformers' own, or is no image classifier's.
        OptionError: transformers is not installed.
    """
    raw = _json(folder / CONFIG)
    kind = raw.get("model_type")
    _refuse(folder, raw, kind)
    network, unused = _network(folder, raw, str(kind))
    notes = (f"{CONFIG} has entries that its network does not read: {listing(unused)}",) if unused else ()
    problem = raw.get("problem_type")
    return Folder(
        path=folder,
        network=str(network),
        labels=_labels(folder, raw),
        problem=problem if isinstance(problem, str) else None,
        preprocessing=_preprocessing(folder, network),
        notes=notes,
    )


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise MissingFiles(f"no file {file}; expected a folder that save_pretrained wrote")
    try:
        value = parse_json(read_plain(file, MOST_BYTES))
    except (ValueError, ReadError) as error:
        raise ModelError(f"{file} is not JSON ({reason(error)}); save the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds no JSON object; save the model again with save_pretrained")
    return value


def _refuse(folder: Path, raw: Mapping[str, Any], kind: Any) -> None:
    file = folder / CONFIG
    if ("architecture" in raw and "model_type" not in raw) or kind == "timm_wrapper":
        name = visible(str(raw.get("architecture")))[:80]
        raise ModelError(
            f"{file} is a network of timm; name it timm:{name}, with --weights {folder / WEIGHTS} and"
            " --labels"
        )
    if not isinstance(kind, str) or kind not in types():
        raise ModelError(
            f"{file} has the model_type {visible(str(kind))[:40]!r}; expected one that has an image"
            f" classifier in transformers: {', '.join(sorted(types()))}"
        )
    for key in ("auto_map", "quantization_config"):
        if raw.get(key):
            raise ModelError(
                f"{file} has the entry '{key}': code of its own or packed weights, which are not read;"
                " expected a network of transformers itself, with plain weights"
            )


def _network(folder: Path, raw: Mapping[str, Any], kind: str) -> tuple[Named, list[str]]:
    """The name of the architecture, and entries that are not read."""
    default = default_config(kind)
    architecture = {
        key: value for key, value in raw.items() if key in default and key not in NOT_ARCHITECTURE
    }
    unused = sorted({*raw} - {*default} - NOT_ARCHITECTURE - {"num_classes", "layer_type"})
    given = _different(architecture, default)
    odd = [key for key, value in given.items() if not is_plain(value)]
    if odd:
        raise ModelError(
            f"{folder / CONFIG} has the entry '{odd[0]}' with a value that no network of this kind has;"
            " expected what save_pretrained wrote"
        )
    named = Named("hf", kind, given)
    check_hf(named)
    return named, [visible(key)[:40] for key in unused if not key.startswith("_")]


def _different(given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the type's own values, also inside the parts of a configuration."""
    changed: dict[str, Any] = {}
    for key, value in given.items():
        usual = default.get(key)
        if isinstance(value, dict) and isinstance(usual, dict):
            inner = {
                name: item
                for name, item in value.items()
                if name in usual and name not in NOT_ARCHITECTURE | FORBIDDEN and not name.startswith("_")
            }
            if inner := _different(inner, usual):
                changed[key] = inner
        elif value != usual:
            changed[key] = value
    return changed


def _labels(folder: Path, raw: Mapping[str, Any]) -> tuple[str, ...]:
    names = raw.get("id2label")
    if not isinstance(names, dict) or not names:
        return ()
    order = [str(number) for number in range(len(names))]
    if {*names} != {*order} or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(
            f"{folder / CONFIG} has an id2label that does not number its names from 0; expected one name for"
            " each output"
        )
    labels = tuple(names[number] for number in order)
    return () if labels == tuple(f"LABEL_{number}" for number in order) else labels


def _preprocessing(folder: Path, network: Named) -> Preprocessing:
    """What ``preprocessor_config.json`` says; without it, the size that the architecture wants."""
    file = folder / PROCESSOR
    if not file.is_file():
        size = network.options.get("image_size") or default_config(network.base).get("image_size")
        return Preprocessing(size=sides(size) if size else None, source=str(folder / CONFIG))
    raw = _json(file)
    size, frame = _framed(raw)
    mean, std = _normalisation(raw)
    return Preprocessing(size, mean, std, frame, str(file))


def _framed(raw: Mapping[str, Any]) -> tuple[tuple[int, int] | None, Framing]:
    """Size and framing: the middle of a picture whose shorter side is scaled, or both sides scaled."""
    filter_ = FILTERS.get(raw.get("resample", 3), "bicubic")
    size, crop = _pair(raw.get("size")), _pair(raw.get("crop_size"))
    shorter = isinstance(raw.get("size"), int) or "shortest_edge" in (raw.get("size") or {})
    if raw.get("image_processor_type", "").startswith("ConvNext") and size is not None:
        share = raw.get("crop_pct")
        cut = size[0] < 384  # larger pictures are squashed, whatever the share
        return size, framing("crop" if cut else "squash", float(share or 224 / 256) if cut else None, filter_)
    if raw.get("do_center_crop") and crop is not None:
        share = crop[0] / size[0] if size is not None else 1.0
        return crop, framing("crop", share, filter_)
    return size, framing(
        "crop" if shorter and not isinstance(raw.get("size"), int) else "squash", None, filter_
    )


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, dict):
        if "height" in value and "width" in value:
            return sides([value["height"], value["width"]])
        value = value.get("shortest_edge")
    return None if value is None else sides(value)


def _normalisation(raw: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Mean and std on the 0 to 1 scale, whatever scale the folder's own numbers are on."""
    if raw.get("image_mean") is None or raw.get("image_std") is None or not raw.get("do_normalize", True):
        centre, scale = colours(0.0), colours(1.0)
    else:
        centre, scale = colours(raw["image_mean"]), colours(raw["image_std"])
    if raw.get("image_processor_type", "").startswith("EfficientNet") and raw.get("include_top", True):
        scale = colours([value * value for value in scale])  # it divides by std twice
    factor = 255 * float(raw.get("rescale_factor", 1 / 255)) if raw.get("do_rescale", True) else 255.0
    offset = 1.0 if raw.get("rescale_offset") else 0.0
    mean = colours([(offset + value) / factor for value in centre])
    return mean, colours([value / factor for value in scale])


def load_folder(folder: Folder) -> nn.Module:
    """The folder's model as transformers loads it, in float32 and eval mode; it returns logits.

    Raises:
        MissingFiles: It has no ``model.safetensors``.
        CheckpointMismatch: That is damaged, or does not fit ``config.json``.
    """
    file = folder.path / WEIGHTS
    if not file.is_file():
        raise MissingFiles(
            f"no file {file}; expected weights as safetensors, in one file: save the model again with"
            " model.save_pretrained(DIR, max_shard_size='8GB')"
        )
    if file.stat().st_size > MOST_WEIGHTS:
        raise CheckpointMismatch(f"{file} has more than {MOST_WEIGHTS:,} bytes, which are not read")
    try:
        with quiet():
            model, loading = library("hf").AutoModelForImageClassification.from_pretrained(
                str(folder.path),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # whatever transformers raises at a file that does not fit
        raise CheckpointMismatch(
            f"transformers cannot read {file} ({one_line(error)[:200]}); save the model again with"
            " save_pretrained"
        ) from error
    wrong = sorted(
        str(item[0] if isinstance(item, tuple) else item)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for item in loading.get(key, ())
    )
    if wrong:
        raise CheckpointMismatch(
            f"{file} does not fit {CONFIG}: {len(wrong)} tensors are missing, too many or of another shape:"
            f" {listing(wrong, 3)}; save the model again with save_pretrained"
        )
    return returning_logits(model.eval())
