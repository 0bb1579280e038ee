"""How many channels a network reads: three for colours, one for grey."""

from torch import nn


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a network reads: 1 if its first convolution reads one, else 3.

    "First" is by the order in which modules are registered; a forward pass has to confirm it.

    Example:
        >>> input_channels(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)))
        1
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return 1 if first is not None and first.in_channels == 1 and first.groups == 1 else 3
