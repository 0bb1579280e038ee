"""New random weights for some modules of a network, keyed by their names."""

import copy
from collections.abc import Iterable, Sequence
from zlib import crc32

import torch
from torch import nn

from unlabel.forget.edit import spread


@torch.no_grad()
def reinitialise(model: nn.Module, names: Iterable[str], seed: int) -> None:
    """Gives modules the random weights and buffers that torch gives to new modules of their kind, in place.

    By each module's ``reset_parameters()``, which for BatchNorm also forgets the running statistics. The
    numbers that no such function reaches become Gaussian ones with the tensor's own mean and spread, so that
    nothing learnt is left. A network that was built with other initial weights than torch's defaults, as
    torchvision's are, gets the defaults.

    Args:
        model: On any device; drawn on the CPU, so that every device gets the same.
        names: Names of modules; of each, its own parameters and buffers and not its children's.
        seed: Key of the weights, with the module's name; the caller's random state is left alone.

    Example:
        >>> one, two = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
        >>> reinitialise(one, ["0"], 3)
        >>> reinitialise(two, ["0"], 3)
        >>> torch.equal(one.get_parameter("0.weight"), two.get_parameter("0.weight"))
        True
    """
    for name in names:
        module = model.get_submodule(name)
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if not own:
            continue
        new = copy.deepcopy(module).cpu()
        reset = getattr(new, "reset_parameters", None) or getattr(new, "_reset_parameters", None)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(crc32(f"{seed}/fresh/{name}".encode()))
            if reset is not None:
                reset()
            else:
                for weight in new.parameters(recurse=False):
                    weight.copy_(weight.mean() + spread(weight) * torch.randn(weight.shape))
        for value, drawn in zip(
            own, [*new.parameters(recurse=False), *new.buffers(recurse=False)], strict=True
        ):
            value.copy_(drawn)


@torch.no_grad()
def copy_rows(head: nn.Linear, source: nn.Linear, columns: Sequence[int]) -> None:
    """Gives a head the rows of another for these outputs, bit for bit."""
    chosen = list(columns)
    head.weight[chosen] = source.weight[chosen]
    head.bias[chosen] = source.bias[chosen]
