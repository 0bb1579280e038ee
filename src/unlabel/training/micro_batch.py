"""How many images go through a network at a time: on a GPU, as many as its memory holds."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run

SHARE = 0.7  # of the memory: the rest is for the caller's data, the workspace of convolutions, fragments
COPIES = 5  # of the weights: the network, its gradient, its momentum, the original, weights that are put back
BACKWARD = 1.5  # what an image takes while gradients are computed, in units of what it leaves for that
LEAST = 2  # BatchNorm has no variance of one image


def with_micro_batch(run: Run, network: Callable[[], nn.Module], sides: tuple[int, int]) -> Run:
    """The run with a micro-batch for its device, unless the user has chosen one.

    On a CPU it stays as it is. On a GPU it depends on the card's whole memory, not on what is free now:
    the same card chooses alike each time. BatchNorm normalises within a micro-batch, so it is a part of the
    recipe.

    Args:
        run: Where.
        network: Builds the network; called on a GPU only.
        sides: Height and width of its input.
    """
    memory = engine.memory(run)
    if memory is None or run.micro_batch_given:
        return run
    model = network()
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    bf16 = "bf16" in str(run.fabric.strategy.precision.precision)
    image = bytes_an_image(model, sides, bf16=bf16)
    chosen = fitting(memory, weights, image, run.batch_size, run.processes)
    run.log.say(f"micro-batch: {chosen} images at a time, about {chosen * image * BACKWARD / 2**30:.1f} GiB")
    return replace(run, micro_batch=chosen)


def fitting(memory: int, weights: int, image: int, batch_size: int, processes: int) -> int:
    """The process's share of a batch, halved until it fits.

    Args:
        memory: Bytes of the device.
        weights: Bytes of the network.
        image: Bytes that an image leaves in a forward pass for the backward pass.
        batch_size: Images in a step.
        processes: Among which they are shared out.

    Example:
        >>> GiB = 2**30
        >>> fitting(80 * GiB, GiB // 10, GiB // 10, 256, 1), fitting(16 * GiB, GiB // 10, GiB // 10, 256, 1)
        (256, 64)
    """
    share = max(LEAST, ceil(batch_size / processes))
    while share > LEAST and COPIES * weights + share * image * BACKWARD > SHARE * memory:
        share = max(LEAST, ceil(share / 2))
    return share


def bytes_an_image(model: nn.Module, sides: tuple[int, int], *, bf16: bool = False) -> int:
    """What one image leaves in a forward pass for the backward pass, counted on the CPU.

    Args:
        model: Not changed.
        sides: Height and width.
        bf16: Whether the pass is in bfloat16 where autocast allows it.

    Example:
        >>> layer = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8 * 4 * 4, 1))
        >>> bytes_an_image(layer, (6, 6)) == 4 * (3 * 6 * 6 + 8 * 4 * 4)
        True
    """
    copy = deepcopy(model).cpu().train()
    weights = {value.untyped_storage().data_ptr() for value in (*copy.parameters(), *copy.buffers())}

    def kept(images: int) -> int:
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        picture = torch.zeros(images, channels, *sides)
        with (
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        ):
            result = copy(picture)  # held until all is counted: what is freed may be given out again
        del result
        return sum(saved.values())

    channels = next((value.shape[1] for value in copy.parameters() if value.ndim == 4), 3)
    return max(1, (kept(4) - kept(2)) // 2)
