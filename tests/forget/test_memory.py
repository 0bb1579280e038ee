"""How many networks a method holds while it trains, counted among the tensors that are alive."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import auto as room
from unlabel.forget.methods.deep_probes import deep_probes
from unlabel.testing import tiny_world
from unlabel.testing.worlds import World

# the original, the student, its gradient, its momentum
TRAINING = 4.0
BANDS = 0.25  # one byte a weight


@pytest.fixture(autouse=True)
def only_new() -> Iterator[None]:
    """What other tests left alive is not looked through at every step."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def counting(model: nn.Module) -> Callable[[], float]:
    """Counts bytes of tensors with the shape of one of the network's matrices, in units of the network."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    shapes = {weight.shape for weight in matrices}
    size = sum(weight.numel() * weight.element_size() for weight in matrices)

    def count() -> float:
        found = {}
        for item in gc.get_objects():
            if type(item) in (torch.Tensor, nn.Parameter):
                for tensor in (item, item.grad if item.is_leaf else None):
                    if tensor is not None and tensor.shape in shapes:
                        storage = tensor.untyped_storage()
                        found[storage.data_ptr()] = storage.nbytes()
        return sum(found.values()) / size

    return count


def most_networks(world: World, method: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> float:
    """The most that a step of the optimiser met, above what the caller holds."""
    count, step = counting(world.model), torch.optim.SGD.step
    met: list[float] = []

    def counted(self: torch.optim.SGD, *arguments: Any, **named: Any) -> Any:
        result = step(self, *arguments, **named)
        met.append(count())
        return result

    gc.collect()
    before = count()
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", counted)
        run = engine.start(accelerator="cpu")
        forget_labels(world.model, ["top"], world.data, method=method, images=128, run=run, **options)
    assert met
    return max(met) - before


@pytest.mark.parametrize(
    ("method", "options", "limit"),
    [
        ("deep-probes", {"steps": 2}, TRAINING),
        ("deep-probes", {"steps": 2, "annotated": 0.5}, TRAINING + 1),  # the original that answers
        ("scrub", {"rounds": 2, "max_steps": 1, "min_steps": 1}, TRAINING),
        ("confusion", {"steps": 2}, TRAINING + BANDS),
        ("undo", {"steps": 2}, TRAINING + BANDS),
        ("bad-teacher", {"steps": 2}, TRAINING + BANDS + 1),  # two teachers, of whom each is asked in a step
        (
            "weight-pruning",
            {"steps": 2},
            TRAINING + BANDS + 2.5,
        ),  # both bounds of each weight, and which hold
    ],
)
def test_a_method_holds_no_more_networks_than_it_trains_with(method, options, limit, monkeypatch) -> None:
    found = most_networks(tiny_world(batchnorm=True), method, monkeypatch, **options)
    assert 3.0 < found <= limit + 0.05  # heads' rows that are held


def test_auto_keeps_the_networks_of_two_attempts_however_many_it_makes(monkeypatch) -> None:
    """This world's label is not forgotten in four attempts; its images are few."""
    monkeypatch.setattr(room, "deep_probes", lambda: replace(deep_probes(), steps=8))
    answers = 1  # the original that answers
    assert most_networks(tiny_world(batchnorm=True), "auto", monkeypatch) <= TRAINING + answers + 2.05


def test_the_count_sees_a_network_that_is_held() -> None:
    world = tiny_world(batchnorm=True)
    count = counting(world.model)
    before = count()
    held = [weight.detach().clone() for weight in world.model.parameters()]
    assert count() == pytest.approx(before + 1)
    del held
    assert count() == pytest.approx(before)
