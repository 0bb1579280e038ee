import numpy as np
import pytest
import torch

from unlabel.data.batches import (
    all_at_once,
    augment,
    batch_of,
    finish,
    moves_of,
    normalise,
    one_by_one,
    read_batch,
)
from unlabel.data.dataset import Dataset
from unlabel.testing import tiny_world

CPU = torch.device("cpu")


@pytest.fixture
def data() -> Dataset:
    return tiny_world("one-unit").source.probe


def augmented(pixels: np.ndarray) -> np.ndarray:
    """All images at their first visit, by seed 0."""
    moves = moves_of(np.arange(len(pixels)), 0, 0, pixels.shape[1:3])
    return augment(torch.from_numpy(pixels), moves).numpy()


def test_augmentation_is_its_formula_image_by_image(data: Dataset) -> None:
    """The numpy of one image at a time: what the program computed before it used tensors."""
    pixels = data.images(np.arange(40))
    moves = moves_of(np.arange(40), 5, 2, pixels.shape[1:3])
    found = augment(torch.from_numpy(pixels), moves).numpy()
    for at in range(40):
        row, column, contrast, light = (values[at].numpy() for values in moves)
        moved = pixels[at][row][:, column].astype(np.float32)
        middle = np.float32(127.5)
        expected = np.clip((moved - middle) * contrast + middle + light, 0, 255).astype(np.uint8)
        assert np.array_equal(found[at], expected)
        assert not np.array_equal(found[at], pixels[at])


def test_pixels_move_alike_on_a_cpu_and_on_a_gpu(data: Dataset) -> None:
    pixels = torch.from_numpy(data.images(np.arange(40)))
    moves = moves_of(np.arange(40), 5, 2, data.input_shape[1:])
    moved = one_by_one(pixels, moves.row, moves.column)
    assert torch.equal(moved, all_at_once(pixels, moves.row, moves.column))
    assert not torch.equal(moved, pixels)


def test_all_that_a_gpu_copies_is_pinned_first(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    batch = read_batch(data, [7, 3], seed=1, epoch=2, pinned=True)
    assert batch.moves is not None
    copied = [batch.pixels, batch.target, batch.rows, *batch.moves]
    assert {id(tensor) for tensor in copied} == {id(tensor) for tensor in pinned}
    assert torch.equal(finish(batch, data, CPU).image, batch_of(data, [7, 3], CPU, seed=1, epoch=2).image)


def test_an_image_is_augmented_alike_in_any_batch(data: Dataset) -> None:
    whole = batch_of(data, np.arange(40), CPU, seed=1, epoch=3).image
    alone = torch.cat([batch_of(data, [at], CPU, seed=1, epoch=3).image for at in range(40)])
    shuffled = batch_of(data, np.arange(40)[::-1].copy(), CPU, seed=1, epoch=3).image.flip(0)
    subset = data.take(np.arange(0, 40, 3))
    assert torch.equal(whole, alone)
    assert torch.equal(whole, shuffled)
    assert torch.equal(whole[::3], batch_of(subset, np.arange(len(subset)), CPU, seed=1, epoch=3).image)


def test_another_epoch_or_seed_augments_otherwise(data: Dataset) -> None:
    first = batch_of(data, np.arange(40), CPU, seed=1, epoch=3).image
    for other in ({"seed": 1, "epoch": 4}, {"seed": 2, "epoch": 3}):
        same = (batch_of(data, np.arange(40), CPU, **other).image == first).all((1, 2, 3))
        assert not same.any()


def test_epochs_may_differ_within_a_batch(data: Dataset) -> None:
    mixed = batch_of(data, [5, 5], CPU, epoch=np.array([0, 1])).image
    for at, epoch in enumerate((0, 1)):
        assert torch.equal(mixed[at], batch_of(data, [5], CPU, epoch=epoch).image[0])


def test_augmentation_mirrors_half_and_shifts_by_at_most_a_sixteenth() -> None:
    """One white pixel in the middle of a dark image tells where it went."""
    side, images = 32, 2000
    pixels = np.zeros((images, side, side, 3), np.uint8)
    pixels[:, 16, 10] = 255
    moved = augmented(pixels)
    assert moved.shape == pixels.shape
    assert np.array_equal(moved, np.clip(np.floor(moved), 0, 255))
    brightest = moved[..., 0].reshape(images, -1).argmax(1)
    row, column = brightest // side, brightest % side
    mirrored = column > 15
    assert sorted(set((row - 16).tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set((column[~mirrored] - 10).tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set((column[mirrored] - 21).tolist())) == [-2, -1, 0, 1, 2]
    # four standard errors of a share of 2,000 coins
    assert abs(mirrored.mean() - 0.5) < 4 * np.sqrt(0.25 / images)


def test_light_and_contrast_move_within_their_bounds() -> None:
    levels = np.array([0, 64, 128, 192, 255])
    pixels = np.repeat(np.tile(levels[:, None, None, None], (400, 16, 16, 3)), 1, 0).astype(np.uint8)
    found = augmented(pixels)[:, 8, 8, 0].astype(float)
    start = pixels[:, 8, 8, 0].astype(float)
    low = np.clip((start - 127.5) * np.where(start > 127.5, 0.85, 1.15) + 127.5 - 25.5, 0, 255)
    high = np.clip((start - 127.5) * np.where(start > 127.5, 1.15, 0.85) + 127.5 + 25.5, 0, 255)
    # converting to bytes cuts off less than one level
    assert np.all(found > low - 1)
    assert np.all(found <= high)
    middle = found[start == 128]
    assert middle.min() < 128 - 23
    assert middle.max() > 128 + 23


def test_borders_repeat_the_edge_and_bring_in_no_black() -> None:
    pixels = np.full((200, 16, 16, 3), 200, np.uint8)
    moved = augmented(pixels)
    assert (moved == moved[:, :1, :1, :1]).all()


def test_normalising_is_the_formula_in_channels_first_order(data: Dataset) -> None:
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.25, 0.5)
    pixels = data.images(np.arange(4))
    expected = np.moveaxis((pixels.astype(np.float64) / 255 - mean) / std, 3, 1)
    # one division, one subtraction and one division in float32 of numbers up to 5
    np.testing.assert_allclose(normalise(pixels, mean, std, CPU).numpy(), expected, atol=2e-6)


def test_a_batch_carries_targets_and_keys_of_its_images(data: Dataset) -> None:
    batch = batch_of(data, [7, 3], CPU)
    assert batch.target.tolist() == data.target[[7, 3]].tolist()
    assert batch.rows.tolist() == data.rows[[7, 3]].tolist()
    plain = normalise(data.images(np.array([7, 3])), data.mean, data.std, CPU)
    assert torch.equal(batch.image, plain)
