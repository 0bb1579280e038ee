"""Networks of timm by name: ``timm:NAME,option=value``, with random weights; nothing is ever downloaded."""

from torch import nn

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest
from unlabel.models.named_options import Named, library
from unlabel.models.named_preprocessing import Preprocessing, colours, framing, sides

REFUSED = ("checkpoint_path", "cache_dir", "num_classes", "features_only", "out_indices", "scriptable")


def check_timm(named: Named) -> None:
    """Refuses a name that timm does not know, and options that name files or change what is returned.

    Raises:
        OptionError: It is such a name.
    """
    timm = library("timm")
    if not timm.is_model(named.base):
        raise OptionError(
            f"timm {timm.__version__} has no network '{named.base}'; print its names with:"
            f" python -c 'import timm; print(*timm.list_models())'.{suggest(named.base, timm.list_models())}"
        )
    for key in named.options:
        if key in REFUSED or key.startswith(("pretrained", "exportable", "no_jit", "file", "url")):
            raise OptionError(
                f"'{named}' has the option '{key}', which names a file or changes what the network returns;"
                " leave it out: the labels give the number of outputs"
            )


def build_timm(named: Named, outputs: int) -> nn.Module:
    """The network with random weights and one output a label; `check_timm` has allowed its name."""
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in named.options.items()}
    return library("timm").create_model(named.base, pretrained=False, num_classes=outputs, **options)


def timm_preprocessing(named: Named) -> Preprocessing:
    """What timm says of the images that this architecture's published weights read.

    The size that the name's own ``img_size`` gives comes first.
    """
    cfg = library("timm").get_pretrained_cfg(named.base, allow_unregistered=False)
    size = sides(named.options.get("img_size", cfg.input_size[1:]))
    return Preprocessing(
        size=size,
        mean=colours(cfg.mean),
        std=colours(cfg.std),
        framing=framing(
            {"center": "crop", "squash": "squash", "border": "pad"}.get(cfg.crop_mode, "crop"),
            cfg.crop_pct,
            cfg.interpolation,
        ),
        source=f"timm's configuration of {named.base}",
    )
