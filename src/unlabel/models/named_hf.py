"""Image classifiers of Hugging Face's transformers by name: ``hf:TYPE,option=value``, with random weights.

``TYPE`` is a type of configuration, as ``vit`` or ``resnet``, and an option is an entry of ``config.json``
that differs from that type's own. So the name holds the whole architecture, and a run needs no other file.
Attention is computed by its formula (``eager``), which every derivative is known of.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest
from unlabel.models.named_options import Named, library

REFUSED = ("timm_wrapper", "shieldgemma2")  # the first builds what timm:NAME builds, the second writes text
NOT_ARCHITECTURE = {
    *("_name_or_path", "architectures", "model_type", "transformers_version", "dtype", "torch_dtype"),
    *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    *("return_dict", "output_attentions", "output_hidden_states", "torchscript", "use_cache"),
    *("is_encoder_decoder", "chunk_size_feed_forward", "tie_word_embeddings"),
    *("stage_names", "out_features", "out_indices"),
}
"""Entries of a configuration that say nothing of the network, or follow from the others."""

FORBIDDEN = {
    *(
        "auto_map",
        "trust_remote_code",
        "quantization_config",
        "attn_implementation",
        "experts_implementation",
    ),
    *("backbone", "backbone_config", "backbone_kwargs", "use_pretrained_backbone", "use_timm_backbone"),
    *("name_or_path", "pretrained_model_name_or_path", "pretrained"),
}
"""Entries that name code, files or other models."""


def types() -> dict[str, Any]:
    """Types of configuration that have an image classifier -> the name of its class."""
    library("hf")
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as names

    return {kind: made for kind, made in names.items() if kind not in REFUSED}


def check_hf(named: Named) -> None:
    """Refuses a type that transformers does not know, and options that its configuration does not have.

    Raises:
        OptionError: It is such a name.
    """
    supported = types()
    if named.base not in supported:
        raise OptionError(
            f"transformers has no image classifier of the type '{named.base}', and there is no folder of that"
            f" name; expected a folder of save_pretrained, or one of {', '.join(sorted(supported))}."
            f"{suggest(named.base, supported)}"
        )
    _check_keys(named, named.options, default_config(named.base))


def _check_keys(named: Named, options: Mapping[str, Any], default: Mapping[str, Any]) -> None:
    for key, value in options.items():
        usable = key in default and key not in NOT_ARCHITECTURE | FORBIDDEN and not key.startswith("_")
        if not usable:
            raise OptionError(
                f"'{str(named)[:80]}' has the option '{key}', which says nothing of the architecture"
                f" '{named.base}' or must not be set.{suggest(key, default)}"
            )
        if isinstance(value, dict) and isinstance(default[key], dict):
            _check_keys(named, value, default[key])


def default_config(kind: str) -> dict[str, Any]:
    """The entries of a type's configuration, with its own values."""
    return library("hf").AutoConfig.for_model(kind).to_dict()


def hf_config(named: Named, outputs: int) -> Any:
    """The configuration of a network with so many outputs, as transformers' own object."""
    options = {
        key: list(value) if isinstance(value, tuple) else value for key, value in named.options.items()
    }
    return library("hf").AutoConfig.for_model(named.base, **options, num_labels=outputs)


def build_hf(named: Named, outputs: int) -> nn.Module:
    """The network with random weights, one output a label; it returns logits. `check_hf` has allowed it."""
    with quiet():
        model = library("hf").AutoModelForImageClassification.from_config(
            hf_config(named, outputs),
            attn_implementation="eager",
            dtype=torch.float32,
            trust_remote_code=False,
        )
    return returning_logits(model)


def returning_logits(model: nn.Module) -> nn.Module:
    """The same model, whose forward pass gives the logits alone; names of its weights stay as they are."""
    model.register_forward_hook(_logits)
    return model


def _logits(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    return getattr(output, "logits", output)


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back progress bars and remarks of transformers, which has no other way than settings for all."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
