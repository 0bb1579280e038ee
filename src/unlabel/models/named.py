"""Networks of timm, torchvision and transformers, built by name: within bounds, and nothing is downloaded."""

import torch
from torch import nn

from unlabel.core.errors import ModelError, OptionError, UnlabelError
from unlabel.models.custom import one_line
from unlabel.models.named_folder import folder_of, read_folder
from unlabel.models.named_hf import build_hf, check_hf
from unlabel.models.named_options import KINDS, Named, is_named, parse_named
from unlabel.models.named_preprocessing import Preprocessing, sides
from unlabel.models.named_size import bounded
from unlabel.models.named_timm import build_timm, check_timm, timm_preprocessing
from unlabel.models.named_torchvision import (
    build_torchvision,
    check_torchvision,
    torchvision_preprocessing,
)

BUILD = {
    "timm": (check_timm, build_timm),
    "torchvision": (check_torchvision, build_torchvision),
    "hf": (check_hf, build_hf),
}


def build_named(name: str, outputs: int) -> nn.Module:
    """A network of another library with random weights; it returns logits, one a label.

    Args:
        name: ``timm:NAME``, ``torchvision:NAME`` or ``hf:TYPE``, with options after commas.
        outputs: Number of labels, >= 1.

    Raises:
        OptionError: The library is not installed, does not know the network, or an option is not allowed.
        ModelError: The library cannot build it, or it is larger than 8 GB.
    """
    named = parse_named(name)
    check, make = BUILD[named.kind]
    check(named)
    try:
        _try_size(named, name, outputs)
        with bounded(name):
            return make(named, outputs)
    except UnlabelError:
        raise
    except Exception as error:  # whatever another library raises at a wrong option
        raise ModelError(
            f"{KINDS[named.kind]} cannot build '{name[:80]}' ({one_line(error)[:200]}); check its options"
        ) from error


def _try_size(named: Named, name: str, outputs: int) -> None:
    """Builds the network without its numbers, so that one that is too large takes no memory."""
    try:
        with bounded(name), torch.device("meta"):
            BUILD[named.kind][1](named, outputs)
    except UnlabelError:
        raise
    except Exception:
        # some networks compute with their numbers as they are made: these are bounded layer by layer only
        return


def resolve(name: str) -> str:
    """The name by which a run knows a network: a folder of Hugging Face's becomes the type it holds.

    Args:
        name: As the user gives it; a folder after ``hf:`` comes before a type of that name.

    Raises:
        OptionError: The name has not the form of one, or the library does not know it.
        UnlabelError: As `read_folder` raises.
    """
    if not is_named(name):
        return name
    if (folder := folder_of(name)) is not None:
        return read_folder(folder).network
    named = parse_named(name)
    BUILD[named.kind][0](named)
    return str(named)


def preprocessing_of(name: str) -> Preprocessing:
    """What a model's library says of the images that it reads: size, normalisation and framing.

    Args:
        name: ``timm:NAME``, ``torchvision:NAME``, ``hf:TYPE``, or ``hf:DIR`` with a
            ``preprocessor_config.json``; of other networks nothing is known.

    Example:
        >>> preprocessing_of("torchvision:resnet18").framing.crop_pct
        0.875
        >>> preprocessing_of("resnet18").size is None
        True
    """
    if not is_named(name):
        return Preprocessing()
    if (folder := folder_of(name)) is not None:
        return read_folder(folder).preprocessing
    named = parse_named(name)
    BUILD[named.kind][0](named)
    if named.kind == "timm":
        return timm_preprocessing(named)
    if named.kind == "torchvision":
        return torchvision_preprocessing(named)
    size = named.options.get("image_size")
    return Preprocessing(size=sides(size) if size else None, source=f"the name {name[:80]}")


@torch.inference_mode()
def check_input(name: str, outputs: int, size: tuple[int, int]) -> None:
    """Refuses a network that cannot read images of a size, before anything is trained.

    Args:
        name: Of a network of another library; others are not looked at.
        outputs: Number of labels.
        size: Height and width of the images in pixels.

    Raises:
        OptionError: Its forward pass raises.
    """
    if not is_named(name):
        return
    model = build_named(name, outputs).eval()
    height, width = size
    try:
        model(torch.zeros(2, 3, height, width))
    except Exception as error:
        key = "img_size" if name.startswith("timm:") else "image_size"
        raise OptionError(
            f"the network '{name[:80]}' raised {one_line(error)[:160]} on images of {height} x {width}"
            " pixels;"
            " give the size that it was made for with --image-size, or build it for this one: add"
            f" ,{key}={height} to its name"
        ) from error
