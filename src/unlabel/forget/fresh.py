"""New random weights for some modules of a network, keyed by their names."""

import copy
from collections.abc import Callable, Iterable, Sequence
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
        tensors = _own(module)
        if not tensors:
            continue
        new = copy.deepcopy(module).cpu()
        reset = _reset(new)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(crc32(f"{seed}/fresh/{name}".encode()))
            if reset is not None:
                reset()
            else:
                for weight in new.parameters(recurse=False):
                    weight.copy_(weight.mean() + spread(weight) * torch.randn(weight.shape))
        for value, drawn in zip(tensors, _own(new), strict=True):
            value.copy_(drawn)


def untrained(model: nn.Module, seed: int) -> nn.Module | None:
    """A copy of a network as it was before any training: every module draws its own new weights.

    Args:
        model: Not changed.
        seed: Key of the weights, as in `reinitialise`.

    Returns:
        The copy; None where a module that has weights or buffers of its own has no ``reset_parameters()``.

    Example:
        >>> untrained(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), seed=0)
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): ReLU()
        )
    """
    if any(_own(module) and _reset(module) is None for module in model.modules()):
        return None
    fresh = copy.deepcopy(model)
    reinitialise(fresh, [name for name, _ in fresh.named_modules()], seed)
    return fresh


def _own(module: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers of a module itself, not its children's."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _reset(module: nn.Module) -> Callable[[], None] | None:
    """What gives a module new weights, where it has such a function."""
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


@torch.no_grad()
def copy_rows(head: nn.Linear, source: nn.Linear, columns: Sequence[int]) -> None:
    """Gives a head the rows of another for these outputs, bit for bit."""
    chosen = list(columns)
    head.weight[chosen] = source.weight[chosen]
    head.bias[chosen] = source.bias[chosen]
