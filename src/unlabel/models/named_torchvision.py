"""Classification networks of torchvision by name: ``torchvision:NAME,option=value``, with random weights."""

import warnings
from typing import Any

from torch import nn

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest
from unlabel.models.named_options import Named, library
from unlabel.models.named_preprocessing import Preprocessing, colours, framing, sides

REFUSED = ("weights", "pretrained", "progress", "num_classes", "aux_logits", "weights_backbone")
SECOND_OUTPUTS = ("googlenet", "inception_v3")  # they return two more sets of logits while they train


def _models() -> Any:
    library("torchvision")
    from torchvision import models  # 1 s to import

    return models


def check_torchvision(named: Named) -> None:
    """Refuses a name that is none of torchvision's classification networks, and options for its weights.

    Raises:
        OptionError: It is such a name.
    """
    models = _models()
    names = models.list_models(module=models)
    if named.base not in names:
        raise OptionError(
            f"torchvision has no classification network '{named.base}'; print its names with: python -c 'from"
            f" torchvision import models; print(*models.list_models(models))'.{suggest(named.base, names)}"
        )
    if refused := sorted({*named.options} & {*REFUSED}):
        raise OptionError(
            f"'{named}' has the option '{refused[0]}', which names weights or outputs; leave it out: the"
            " labels give the number of outputs"
        )


def build_torchvision(named: Named, outputs: int) -> nn.Module:
    """The network with random weights and one output a label; `check_torchvision` has allowed its name."""
    options = dict(named.options)
    if named.base in SECOND_OUTPUTS:
        options |= {"aux_logits": False, "init_weights": options.get("init_weights", True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scipy's initial weights are slow
        return _models().get_model(named.base, weights=None, num_classes=outputs, **options)


def torchvision_preprocessing(named: Named) -> Preprocessing:
    """What torchvision says of the images that this architecture's published weights read."""
    transforms = _models().get_model_weights(named.base).DEFAULT.transforms()
    crop = transforms.crop_size[0]
    return Preprocessing(
        size=sides(named.options.get("image_size", crop)),
        mean=colours(transforms.mean),
        std=colours(transforms.std),
        framing=framing("crop", crop / transforms.resize_size[0], transforms.interpolation.value),
        source=f"torchvision's transforms of {named.base}",
    )
