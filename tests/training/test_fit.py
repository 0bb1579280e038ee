from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged
from unlabel.core.reading import unsealed
from unlabel.core.recipe import Recipe
from unlabel.data.batches import Batch, batch_of
from unlabel.models.features import outputs
from unlabel.models.head import find_head, remove_rows, removed_output
from unlabel.testing import differing, tiny_network, tiny_world
from unlabel.training import fit as training
from unlabel.training.checkpoints import Checkpoint
from unlabel.training.fit import LabelLoss, PutBack, fit, train

ALL = LabelLoss((0, 1, 2))
SHORT = Recipe(epochs=2.5, lr=0.05)


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def fitted(run: Run, *, batchnorm: bool = True, recipe: Recipe = SHORT, **options) -> nn.Module:
    model = tiny_network(3, batchnorm)
    fit(model, ALL, tiny_world("unknown").data, recipe, run, **options)
    return model


# -- the same bits


@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_same_seed_gives_the_same_bits_and_another_others(run: Run, batchnorm: bool) -> None:
    first = fitted(run, batchnorm=batchnorm)
    assert differing(first, fitted(run, batchnorm=batchnorm)) == []
    assert "0.weight" in differing(first, fitted(run.with_seed(1), batchnorm=batchnorm))


class Killed(KeyboardInterrupt):
    pass


def killed_at(step: int) -> Callable[[nn.Module], None]:
    """After-step hook that stands for Ctrl-C in a given step."""
    done = 0

    def after_step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        nonlocal done
        done += 1
        if done == step:
            raise Killed

    return after_step


@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_killed_training_goes_on_to_the_bits_of_one_that_was_not(
    run: Run, batchnorm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)  # after every step
    data, file = tiny_world("unknown").data, Checkpoint(tmp_path / "checkpoint.pt", "job")
    whole, parts = tiny_network(3, batchnorm), tiny_network(3, batchnorm)
    expected = fit(whole, ALL, data, SHORT, run)
    for kill in (4, 3):  # the second part is killed too: after 3 + 2 steps, both checkpointed
        with pytest.raises(Killed):
            fit(parts, ALL, data, SHORT, run, after_step=killed_at(kill), checkpoint=file)
        parts = tiny_network(3, batchnorm, seed=99)  # a new process knows nothing but the file
    saved = torch.load(BytesIO(unsealed(file.file.read_bytes())), weights_only=True)
    assert [row["step"] for row in saved["rows"]] == [1, 2, 3, 4, 5]
    history = fit(parts, ALL, data, SHORT, run, checkpoint=file)
    assert differing(whole, parts) == []
    assert history.rows == expected.rows
    assert history.images_processed == expected.images_processed == 10 * 64


def test_a_training_is_read_back_only_from_its_own_file(run: Run, tmp_path: Path) -> None:
    without = fitted(run)
    assert differing(without, fitted(run, checkpoint=Checkpoint(tmp_path / "none.pt"))) == []


# -- weights that must not move


def held(model: nn.Module) -> PutBack:
    return PutBack.head_rows(model, 3, [1])


def test_rows_that_are_put_back_keep_their_bits_under_momentum_and_weight_decay(run: Run) -> None:
    """The objective pulls at the row too, so it has a gradient and momentum."""
    recipe = Recipe(epochs=4, lr=0.1, momentum=0.9, weight_decay=0.05)
    data, model = tiny_world().data, tiny_network(3)
    _, head = find_head(model, 3)
    weight, bias = head.weight[1].detach().clone(), head.bias[1].detach().clone()
    fit(model, ALL, data, recipe, run, after_step=held(model))
    assert torch.equal(head.weight[1], weight)
    assert torch.equal(head.bias[1], bias)
    assert not torch.equal(head.weight[0], tiny_network(3).get_parameter("5.weight")[0])


def test_without_being_put_back_a_masked_row_moves(run: Run) -> None:
    """The positive control: no gradient reaches the row, and weight decay moves it all the same."""
    recipe = Recipe(epochs=4, lr=0.1, weight_decay=0.05)
    model = tiny_network(3)
    before = find_head(model, 3)[1].weight[1].detach().clone()
    fit(model, LabelLoss((0, 2)), tiny_world().data, recipe, run)
    assert (find_head(model, 3)[1].weight[1] != before).all()


def test_a_masked_column_gives_its_head_row_no_gradient(run: Run) -> None:
    model, data = tiny_network(3), tiny_world().data
    LabelLoss((0, 2))(model, batch_of(data, range(64), run.device)).sum().backward()
    _, head = find_head(model, 3)
    assert head.weight.grad is not None
    assert head.bias.grad is not None
    assert not head.weight.grad[1].any()
    assert not head.bias.grad[1].any()
    assert head.weight.grad[0].any()


def test_frozen_parameters_do_not_move(run: Run) -> None:
    model = tiny_network(3)
    model.get_parameter("0.weight").requires_grad_(False)
    fit(model, ALL, tiny_world().data, SHORT, run)
    assert "0.weight" not in differing(model, tiny_network(3))
    assert "3.weight" in differing(model, tiny_network(3))


# -- the gradient


def one_step(run: Run, target: np.ndarray, *, pixels: np.ndarray | None = None) -> dict[str, Tensor]:
    """What one step of rate 1 takes off the weights: the gradient as `fit` sees it."""
    data = replace(tiny_world().data.take(np.arange(64)), target=target)
    data = data if pixels is None else replace(data, pixels=pixels)
    model = tiny_network(3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    recipe = Recipe(epochs=1, lr=1.0, momentum=0.0, weight_decay=0.0, augment=False)
    history = fit(model, ALL, data, recipe, run)
    rate = history.rows[0]["lr"]
    return {name: (before[name] - value.detach()) / rate for name, value in model.named_parameters()}


def test_a_step_is_the_float64_gradient_of_the_mean_loss_over_known_targets(run: Run) -> None:
    """Against autograd in float64 on images one by one, unknown targets skipped by an `if`."""
    data = tiny_world("unknown").data.take(np.arange(64))
    model = tiny_network(3).double()
    for at in range(64):
        logits = model(batch_of(data, [at], run.device).image.double())[0]
        known = [k for k in range(3) if data.target[at, k] != -1]
        signs = [1.0 if data.target[at, k] == 1 else -1.0 for k in known]
        terms = [torch.log1p(torch.exp(-sign * logits[k])) for k, sign in zip(known, signs, strict=True)]
        if terms:
            (sum(terms) / len(terms) / 64).backward()
    assert (data.target == -1).any()
    for name, found in one_step(run, data.target).items():
        exact = model.get_parameter(name).grad
        # float32 sums of 64 images, and weights up to 1 from which the step was taken off: 2^-24 / rate
        torch.testing.assert_close(found.double(), exact, atol=2e-6, rtol=1e-4)


def test_an_image_without_known_targets_changes_no_weight(run: Run) -> None:
    """Its pixels may be anything; the positive control is that those of a known image matter."""
    world = tiny_world()
    target, other = world.data.target[:64].copy(), world.data.pixels.copy()
    target[:10] = -1
    other[:10] = 255 - other[:10]
    found, blanked = one_step(run, target), one_step(run, target, pixels=other)
    assert all(torch.equal(value, found[name]) for name, value in blanked.items())
    target[:10] = world.data.target[:10]
    assert not torch.equal(one_step(run, target)["0.weight"], one_step(run, target, pixels=other)["0.weight"])


@pytest.mark.parametrize("micro_batch", [64, 32, 7])
def test_without_batchnorm_the_cut_into_micro_batches_changes_only_rounding(
    run: Run, micro_batch: int
) -> None:
    target = tiny_world("unknown").data.target[:64]
    whole = one_step(replace(run, micro_batch=64), target)
    for name, value in one_step(replace(run, micro_batch=micro_batch), target).items():
        # sums of 64 float32 terms below 1 in another order
        torch.testing.assert_close(value, whole[name], atol=1e-6, rtol=1e-5)


def test_running_statistics_are_the_mean_over_micro_batches(run: Run) -> None:
    """Against BatchNorm called on each micro-batch from the same start."""
    data, model = tiny_world().data.take(np.arange(64)), tiny_network(3, True)
    recipe = Recipe(epochs=1, lr=1e-6, augment=False)
    fit(model, ALL, data, recipe, replace(run, micro_batch=16))
    order, _ = training._order(0, 64, run)
    expected = []
    for start in range(0, 64, 16):
        fresh = tiny_network(3, True).train()
        fresh(batch_of(data, order[start : start + 16], run.device).image)
        expected.append(fresh.get_buffer("1.running_var"))
    # float32 numbers near 1, four of them
    torch.testing.assert_close(
        model.get_buffer("1.running_var"), torch.stack(expected).mean(0), atol=5e-7, rtol=0
    )


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 7, 32])
def test_micro_batches_are_even_and_hold_two_images_or_more(run: Run, micro_batch: int) -> None:
    run = replace(run, micro_batch=micro_batch)
    for n in range(1, 70):
        sizes = [len(part) for part in run.micro_batches(n)]
        assert np.concatenate(run.micro_batches(n)).tolist() == list(range(n))
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(micro_batch, 3 if micro_batch == 2 else 1)
        assert min(sizes) >= 2 or micro_batch == 1 or n == 1


def test_a_batch_of_an_odd_size_leaves_no_micro_batch_of_one_image(run: Run) -> None:
    """BatchNorm cannot normalise one value a channel, which `small` has at 16 pixels."""
    _, history = train(tiny_world().data, Recipe(epochs=0.2), replace(run, batch_size=33))
    assert history.steps == 2


# -- order, length, mode


class Seen:
    """An objective that notes which images it was given."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.batches: list[int] = []

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.rows += batch.rows.tolist()
        self.batches.append(len(batch.rows))
        return ALL(model, batch)


@pytest.mark.parametrize(("images", "batch_size", "epochs"), [(96, 64, 6), (50, 64, 32), (100, 33, 3.3)])
def test_every_image_is_visited_equally_often_and_every_batch_is_full(
    run, images, batch_size, epochs
) -> None:
    seen, data = Seen(), tiny_world().data.take(np.arange(images) + 7)
    history = fit(tiny_network(3), seen, data, Recipe(epochs=epochs), replace(run, batch_size=batch_size))
    counts = np.bincount(seen.rows, minlength=images + 7)
    assert counts[:7].sum() == 0
    assert counts[7:].max() - counts[7:].min() <= 1
    assert len(seen.rows) == history.images_processed == history.steps * batch_size
    assert len(set(seen.rows[:images])) == images  # the first epoch is whole before the second begins


def test_two_epochs_have_two_orders(run: Run) -> None:
    seen, data = Seen(), tiny_world().data.take(np.arange(64))
    fit(tiny_network(3), seen, data, Recipe(epochs=2), run)
    assert seen.rows[:64] != seen.rows[64:]
    assert sorted(seen.rows[:64]) == sorted(seen.rows[64:])


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_left_in_the_mode_it_came_in(run: Run, mode: bool) -> None:
    model = tiny_network(3, True).train(mode)
    fit(model, ALL, tiny_world().data, Recipe(epochs=0.25), run)
    assert [module.training for module in model.modules()] == [mode] * len(list(model.modules()))
    assert model.get_buffer("1.running_mean").any()


def test_the_history_holds_the_mean_loss_of_each_step(run: Run) -> None:
    data, recipe = tiny_world().data.take(np.arange(64)), Recipe(epochs=1, augment=False)
    history = fit(tiny_network(3), ALL, data, recipe, replace(run, micro_batch=30))
    with torch.no_grad():
        losses = ALL(tiny_network(3), batch_of(data, range(64), run.device)).double()
    assert history.rows[0]["loss"] == pytest.approx(float(losses.mean()), abs=1e-6)  # float32 logits


# -- divergence


def nan_weights() -> nn.Module:
    model = tiny_network(3)
    with torch.no_grad():
        model.get_parameter("0.bias")[0] = float("nan")
    return model


def test_a_nan_is_an_error_that_says_what_to_do(run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(Diverged, match=r"nan at step 1 of 10 .*lower --lr"):
        fit(
            nan_weights(),
            ALL,
            tiny_world().data,
            SHORT,
            run,
            checkpoint=Checkpoint(tmp_path / "checkpoint.pt"),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_is_far_too_high_is_an_error(run: Run) -> None:
    class Steep(LabelLoss):
        def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
            return 1e12 * super().__call__(model, batch)

    with pytest.raises(Diverged, match=r"became (nan|inf)"):
        fit(tiny_network(3), Steep((0, 1, 2)), tiny_world().data, Recipe(epochs=20, lr=9.0), run)


# -- train


def test_a_withheld_label_has_a_constant_output_and_the_others_are_learnt(run: Run) -> None:
    data = tiny_world().data
    recipe = Recipe(epochs=0.5)
    model, _ = train(data, recipe, run, without=["middle"])
    expected = tiny_network(3)
    remove_rows(find_head(expected, 3)[1], [1], [removed_output(data, 1)])
    head = find_head(model, 3)[1]
    assert not head.weight[1].any()
    assert torch.equal(head.bias[1], find_head(expected, 3)[1].bias[1])
    logits = outputs(model, data, run).logits
    assert np.ptp(logits[:, 1]) == 0
    assert np.ptp(logits[:, 0]) > 0
    assert not model.training


def test_a_withheld_label_leaves_no_trace_of_its_values(run: Run) -> None:
    """Flipping the withheld column changes the constant and no other bit."""
    data = tiny_world().data
    flipped = replace(data, target=data.target.copy())
    flipped.target[:, 1] = 1 - flipped.target[:, 1]
    one, two = (train(part, Recipe(epochs=0.5), run, without=["middle"])[0] for part in (data, flipped))
    assert differing(one, two) == ["8.bias"]
    assert find_head(one, 3)[1].bias.ne(find_head(two, 3)[1].bias).tolist() == [False, True, False]
    shown = [train(part, Recipe(epochs=0.5), run)[0] for part in (data, flipped)]
    assert "0.0.weight" in differing(*shown)


# -- what a network draws itself


def test_dropout_is_keyed_by_the_seed_and_the_callers_state_stays(run: Run) -> None:
    def dropped(seed: int) -> nn.Module:
        model = nn.Sequential(nn.Dropout(0.5), *tiny_network(3, True))
        fit(model, ALL, tiny_world().data, replace(SHORT, augment=False), replace(run, seed=seed))
        return model

    torch.manual_seed(1)
    first, before = dropped(4), torch.get_rng_state()
    torch.manual_seed(2)
    assert differing(first, dropped(4)) == []
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert differing(first, dropped(5)) != []
