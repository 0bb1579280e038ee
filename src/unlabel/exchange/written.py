"""What is about to be written, built anew without the run: does it give the run's outputs?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlabel.core.errors import ModelError
from unlabel.exchange.reshaping import Reshaped, keep_rows
from unlabel.models.build import build
from unlabel.models.eraser import insert_empty, rank_of
from unlabel.models.normal_form import NormalForm, normal_form
from unlabel.runs.config import Config

DIFFERENCE = 1e-3  # of the largest output, or of 1: rounding in float32 stays far below
IMAGES = 3


def random_images(config: Config) -> Tensor:
    """A few images of noise, as the run's network takes them."""
    return torch.randn(IMAGES, *config.input_shape, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def check_written(config: Config, reshaped: Reshaped, written: Callable[[Tensor], Tensor]) -> None:
    """Refuses what gives other outputs than the run, or tells images apart by an output that was removed.

    Args:
        config: The run's.
        reshaped: Its model, and which outputs are constants. A constant may be another one, since a layer
            without a bias cannot hold it.
        written: The network that holds what is to be written.

    Raises:
        ModelError: The outputs differ by more than rounding can explain.
    """
    images = random_images(config)
    largest, scale = apart(reshaped.model(images).double(), written(images).double(), reshaped)
    if not largest <= DIFFERENCE * scale:
        raise ModelError(
            f"a new network with the weights to write gives outputs up to {largest:.3g} from the run's, so"
            " nothing was written; expected that each weight has one name in the state dict, and that no"
            " number outside of it matters; export --to onnx"
        )


def apart(expected: Tensor, actual: Tensor, reshaped: Reshaped) -> tuple[float, float]:
    """How far outputs are from the run's: of a constant, how far it is from being one.

    Args:
        expected: The run's, (image, output).
        actual: Those of what is to be written, for the same images.
        reshaped: Which of them are constants.

    Returns:
        The largest difference, and the largest output of a label that was kept, or 1. The constant of a
        class that was removed is -10,000: as a scale it would allow anything.
    """
    constant = [reshaped.labels.index(name) for name in reshaped.constant]
    answering = [column for column in range(len(reshaped.labels)) if column not in constant]
    away = torch.cat([(actual - expected)[:, answering], (actual - actual[:1])[:, constant]], 1)
    return float(away.abs().max()), max(1.0, float(expected[:, answering].abs().max()))


def rebuilt(config: Config, reshaped: Reshaped, state: dict[str, Tensor]) -> nn.Module:
    """A new network with a state dict under the user's names, read as the run's.

    It begins with another seed than a run's, so that a random number outside its weights shows.

    Args:
        config: The run's.
        reshaped: Its model, and the labels that are left.
        state: All that the user's network holds.
    """
    labels = len(config.labels)
    network = build(config.network, labels, stem=config.stem, seed=1)
    insert_empty(network, labels, rank_of(reshaped.model))
    if len(reshaped.labels) < labels:
        keep_rows(network, labels, [config.labels.index(name) for name in reshaped.labels])
    network.load_state_dict(state)
    layout = reshaped.model.layout if isinstance(reshaped.model, NormalForm) else None
    return normal_form(network, layout).eval()
