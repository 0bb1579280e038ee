"""New random weights for some modules of a network, keyed by their names."""

import copy
from collections.abc import Iterable, Sequence
from zlib import crc32

import torch
from torch import nn

from unlabel.forget.edit import spread

RESETS = ("reset_parameters", "_reset_parameters")  # torch's names for what draws new weights


@torch.no_grad()
def reinitialise(model: nn.Module, names: Iterable[str], seed: int) -> None:
    """Gives modules the random weights and buffers that torch gives to new modules of their kind, in place.

    By each module's ``reset_parameters()``, which for BatchNorm also forgets the running statistics. The
    parameters that no such function reaches become Gaussian ones with the tensor's own mean and spread, so
    that nothing learnt is left. A network that was built with other initial weights than torch's defaults, as
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
        _renew(model.get_submodule(name), f"{seed}/fresh/{name}")


def untrained(model: nn.Module, seed: int) -> nn.Module | None:
    """A copy of a network as it was before any training: every module draws its own new weights.

    Args:
        model: Not changed.
        seed: Key of the weights, as in `reinitialise`.

    Returns:
        The copy; None where a module that has weights or buffers of its own has no ``reset_parameters()``, or
        has one that leaves a weight as it was beside buffers that may follow from it, as those of
        ``torch.nn.utils.spectral_norm`` do.

    Example:
        >>> untrained(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), seed=0)
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): ReLU()
        )
    """
    fresh = copy.deepcopy(model)
    renewed = [_renew(module, f"{seed}/fresh/{name}") for name, module in fresh.named_modules()]
    return fresh if all(renewed) else None


@torch.no_grad()
def _renew(module: nn.Module, key: str) -> bool:
    """Gives a module new numbers, in place; whether none of what it learnt is left in them."""
    if not _own(module):
        return True
    new, reset = copy.deepcopy(module).cpu(), _reset(module)
    weights = {name: weight for name, weight in _named(new).items() if weight.is_floating_point()}
    marked = {name: weight.add_(1.0).clone() for name, weight in weights.items()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(crc32(key.encode()))
        if reset is not None:
            getattr(new, reset)()
        missed = [name for name in marked if torch.equal(_named(new)[name], marked[name])]
        for name in missed:
            old = _named(module)[name].cpu()
            _named(new)[name].copy_(old.mean() + spread(old) * torch.randn(old.shape))
    for value, drawn in zip(_own(module), _own(new), strict=True):
        value.copy_(drawn)
    return reset is not None and not (missed and list(module.buffers(recurse=False)))


def _named(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of a module itself, by name."""
    return dict(module.named_parameters(recurse=False))


def _own(module: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers of a module itself, not its children's."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _reset(module: nn.Module) -> str | None:
    """The name of the function that gives a module new weights, if it has one."""
    return next((name for name in RESETS if callable(getattr(module, name, None))), None)


@torch.no_grad()
def copy_rows(head: nn.Linear, source: nn.Linear, columns: Sequence[int]) -> None:
    """Gives a head the rows of another for these outputs, bit for bit."""
    chosen = list(columns)
    head.weight[chosen] = source.weight[chosen]
    head.bias[chosen] = source.bias[chosen]
