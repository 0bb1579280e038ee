"""Edit rules, and the noise of a band."""

import pytest
import torch

from unlabel.forget.edit import Decay, Noise, spread, zero
from unlabel.forget.pipeline import apply_edits
from unlabel.testing import tiny_network


def test_noise_has_the_tensors_spread_and_is_keyed_by_seed_and_name() -> None:
    weight = torch.randn(200, 100, generator=torch.Generator().manual_seed(0)) * 3 + 1
    drawn = Noise(0.5)(weight, weight, torch.Generator().manual_seed(1))
    assert float(drawn.std()) == pytest.approx(1.5, rel=0.02)  # 20,000 draws: 0.5 % is one deviation
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.04)
    models = [tiny_network(3) for _ in range(3)]
    bands = {name: torch.ones_like(value, dtype=torch.int8) for name, value in models[0].named_parameters()}
    scores = {name: torch.ones_like(value) for name, value in models[0].named_parameters()}
    for model, seed in zip(models, (0, 0, 1), strict=True):
        apply_edits(model, scores, bands, (Noise(1.0),), seed)
    one, same, other = (model.get_parameter("3.weight") for model in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one.reshape(-1)[:384], models[0].get_parameter("0.weight").reshape(-1))


def test_decay_is_the_exponential_of_the_score() -> None:
    weight, score = torch.tensor([2.0, -2.0, 2.0]), torch.tensor([0.0, 1.0, 1e6])
    expected = weight.double() * torch.exp(-0.5 * score.double())
    assert torch.allclose(Decay(0.5)(weight, score, torch.Generator()).double(), expected)


def test_zero_is_zero_and_the_spread_is_the_population_deviation() -> None:
    weight = torch.tensor([1.0, 3.0])
    assert zero(weight, weight, torch.Generator()).tolist() == [0.0, 0.0]
    assert float(spread(weight)) == 1.0
