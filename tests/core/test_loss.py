from math import exp, log1p

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from unlabel.core.loss import class_loss, label_loss, log_odds


def exact(logits: torch.Tensor, target: torch.Tensor, columns: list[int]) -> torch.Tensor:
    """The definition in Python's float64, one number after another."""
    losses = []
    for scores, truth in zip(logits.tolist(), target.tolist(), strict=True):
        terms = [
            (log1p(exp(-scores[column])) if truth[column] == 1 else log1p(exp(scores[column])))
            for column in columns
            if truth[column] != -1
        ]
        losses.append(sum(terms) / len(terms) if terms else 0.0)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(64, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target() -> torch.Tensor:
    return torch.randint(-1, 2, (64, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4], [3], [4, 0]])
def test_equals_the_definition_in_float64(logits, target, columns) -> None:
    found = label_loss(logits, target, columns)
    # float32 of numbers up to about 10 has steps of 1e-6; five of them are added
    torch.testing.assert_close(found.double(), exact(logits, target, columns), atol=5e-6, rtol=0)


def test_unknown_targets_get_no_gradient(logits, target) -> None:
    """Against finite differences of the float64 definition, which leaves unknown targets out."""
    logits.requires_grad_()
    label_loss(logits, target, [0, 1, 2]).sum().backward()
    assert logits.grad is not None
    assert (logits.grad[:, :3][target[:, :3] == -1] == 0).all()
    assert (logits.grad[:, :3][target[:, :3] != -1] != 0).all()
    step, base = 1e-5, exact(logits.detach().double(), target, [0, 1, 2])
    for column in range(5):
        moved = logits.detach().double()
        moved[:, column] += step
        slope = (exact(moved, target, [0, 1, 2]) - base) / step
        # a forward difference is off by half the second derivative (at most 1/4) times the step
        torch.testing.assert_close(logits.grad[:, column].double(), slope, atol=2e-6, rtol=0)


def test_other_columns_change_nothing(logits, target) -> None:
    other_logits, other_target = logits.clone(), target.clone()
    other_logits[:, [1, 3]] += 100.0
    other_target[:, [1, 3]] = 1
    before, after = (
        label_loss(*pair, [0, 2, 4]) for pair in ((logits, target), (other_logits, other_target))
    )
    assert torch.equal(before, after)
    assert not torch.equal(before, label_loss(other_logits, target, [0, 1]))


def test_a_constant_added_to_all_logits_changes_the_loss(logits, target) -> None:
    """Unlike a softmax: the absolute height of a logit is a decision in a multi-label model."""
    known = (target >= 0).any(1)
    before, after = (label_loss(scores, target, range(5)) for scores in (logits, logits + 1.0))
    assert ((before - after).abs()[known] > 1e-3).all()


def test_a_sample_without_known_targets_contributes_nothing(logits) -> None:
    logits.requires_grad_()
    loss = label_loss(logits, torch.full((64, 5), -1), [0, 1])
    loss.sum().backward()
    assert logits.grad is not None
    assert loss.tolist() == [0.0] * 64
    assert not logits.grad.any()


def test_large_logits_stay_finite_and_a_nan_shows() -> None:
    target = torch.tensor([[1], [0]])
    assert label_loss(torch.tensor([[-1e4], [1e4]]), target, [0]).tolist() == [1e4, 1e4]
    assert label_loss(torch.tensor([[float("nan")], [0.0]]), target, [0])[0].isnan()


# -- classes


def test_a_class_loss_is_the_cross_entropy_among_the_chosen_classes() -> None:
    """Against torch's own, in float64; an image whose class is masked out contributes nothing."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 5, generator=rng)
    own = torch.arange(40) % 5
    found = class_loss(logits, one_hot(own, 5), [0, 2, 4])
    place = torch.tensor([0, -1, 1, -1, 2])[own]
    exact = cross_entropy(logits[:, [0, 2, 4]].double(), place, ignore_index=-1, reduction="none")
    assert torch.allclose(found.double(), exact, atol=1e-6)  # float32 losses below 8 are exact to 5e-7
    assert not found[place == -1].any()
    assert not class_loss(logits, torch.full((40, 5), -1), [0, 1]).any()


def test_log_odds_are_those_of_the_softmax_and_ignore_a_common_constant() -> None:
    logits = torch.randn(30, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prob = logits.softmax(1)
    assert torch.allclose(log_odds(logits), torch.log(prob / (1 - prob)))
    assert torch.allclose(log_odds(logits + 3.0), log_odds(logits))
