"""A run as a folder that transformers reads: ``from_pretrained``, ``pipeline("image-classification")``."""

import json
from math import isclose
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlabel.core.errors import ModelError, OptionError
from unlabel.core.framing import sides_of, size_in_words
from unlabel.core.places import staged
from unlabel.exchange.reshaping import Reshaped
from unlabel.exchange.written import check_written
from unlabel.models.custom import one_line
from unlabel.models.named_folder import FILTERS, PROCESSOR
from unlabel.models.named_hf import check_hf, hf_config, quiet
from unlabel.models.named_options import library, parse_named
from unlabel.models.normal_form import NormalForm, own_state
from unlabel.runs.config import Config


def check_place(out: Path) -> None:
    """Refuses a folder that holds something: unlike a run, it cannot be told from a user's own.

    Raises:
        OptionError: It holds something, or is a file.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise OptionError(f"--out {out} exists; a folder is never replaced: name a new one")


def write_hf(config: Config, reshaped: Reshaped, out: Path, dtype: torch.dtype) -> list[str]:
    """Writes configuration, weights and preprocessing of an image classifier; returns how to load them.

    Args:
        config: The run's.
        reshaped: Its model and the labels that are left.
        out: Folder to write, which appears whole or not at all.
        dtype: Number format of the weights.

    Raises:
        OptionError: The network is none of transformers', the folder exists, or the run cuts its pictures to
            no square, which no processor of transformers does.
        ModelError: The weights do not fit transformers' own network, or give other outputs there.
    """
    if not config.network.startswith("hf:"):
        raise OptionError(
            f"--to hf writes networks of transformers, but the run's is '{config.network[:80]}'; export --to"
            " state-dict or --to onnx"
        )
    check_place(out)
    _check_cut(config)
    model = _own_model(config, reshaped, dtype)
    with staged(out, force=False) as folder:
        with quiet():
            model.save_pretrained(folder)  # gives the names back that its files have
        (folder / PROCESSOR).write_text(json.dumps(processor(config), indent=2) + "\n", encoding="utf-8")
    padded = (
        "the run pads pictures, which transformers' processors do not: they squash them, so pad yours before"
    )
    return [
        *([padded] if config.framing.resize == "pad" else []),
        *_rounded(config),
        f"load it with: AutoModelForImageClassification.from_pretrained('{out}'), or"
        f" pipeline('image-classification', model='{out}'{_function(reshaped)})",
    ]


def _check_cut(config: Config) -> None:
    """Refuses a cut that is no square: transformers scales the shorter side of any picture to one length."""
    height, width = sides_of(config.image_size)
    if config.framing.resize == "crop" and height != width:
        raise OptionError(
            f"the run cuts pictures to {size_in_words(config.image_size)}, and transformers' processors cut"
            " squares alone: they would add black; export --to onnx or --to state-dict, and cut the pictures"
            " yourself"
        )


def _rounded(config: Config) -> list[str]:
    """What to say if whole pixels cannot hold the share that is cut out."""
    side, share = min(sides_of(config.image_size)), config.framing.crop_pct
    shorter = _shorter_side(config)
    if config.framing.resize != "crop" or isclose(side, share * shorter):
        return []
    return [
        f"transformers' processors scale to whole pixels, here {shorter}: they cut out {side / shorter:.4f}"
        f" of a side, and the run {share:g}; probabilities may differ a little from those of unlabel predict"
    ]


def _shorter_side(config: Config) -> int:
    """To how many pixels the shorter side is scaled before the middle is cut out."""
    return round(min(sides_of(config.image_size)) / config.framing.crop_pct)


def _function(reshaped: Reshaped) -> str:
    """One label alone gets a sigmoid from the pipeline only if it is told so; more labels by the problem."""
    return ", function_to_apply='sigmoid'" if len(reshaped.labels) == 1 else ""


def _own_model(config: Config, reshaped: Reshaped, dtype: torch.dtype) -> Any:
    """The model in a new network of transformers' own, which has no place for anything else."""
    named, names = parse_named(config.network), reshaped.labels
    check_hf(named)
    settings = hf_config(named, len(names))
    settings.id2label = dict(enumerate(names))
    settings.label2id = {name: number for number, name in enumerate(names)}
    kind = "multi" if config.activation == "sigmoid" else "single"
    settings.problem_type = f"{kind}_label_classification"
    try:
        with quiet():
            model: nn.Module = library("hf").AutoModelForImageClassification.from_config(
                settings, dtype=torch.float32, trust_remote_code=False
            )
        left = reshaped.model
        model.load_state_dict(own_state(left)[0] if isinstance(left, NormalForm) else left.state_dict())
    except Exception as error:
        raise ModelError(
            f"the run's weights do not fit '{config.network[:80]}' of transformers ({one_line(error)[:200]});"
            " export --to state-dict"
        ) from error
    check_written(config, reshaped, lambda images: model.eval()(images).logits)
    return model.to(dtype).eval()


def processor(config: Config) -> dict[str, Any]:
    """The entries of ``preprocessor_config.json``: what `models.named_folder` reads back.

    Args:
        config: The run's.
    """
    framing = config.framing
    height, width = sides_of(config.image_size)
    box = {"height": height, "width": width}
    common = {
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
        "resample": {name: number for number, name in FILTERS.items()}[framing.interpolation],
    }
    if framing.resize == "crop":
        cut = {"size": {"shortest_edge": _shorter_side(config)}, "do_center_crop": True, "crop_size": box}
        return {**common, **cut, "image_processor_type": "CLIPImageProcessor"}
    # transformers has no processor that pads to a shape of its own: it squashes, as `write_hf` says
    return {**common, "size": box, "image_processor_type": "ViTImageProcessor"}
