from dataclasses import replace

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.errors import LabelMismatch, ModelError, NoLinearHead, OptionError
from unlabel.forget.driver import calibration, count_changed, forget_labels
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_network, tiny_world


def test_the_calibration_sample_depends_on_the_seed_and_the_images_alone() -> None:
    data = tiny_world().data
    sample = calibration(data, 64, 3)
    shuffled = data.take(np.random.default_rng(0).permutation(len(data)))
    assert sorted(calibration(shuffled, 64, 3).rows) == sorted(sample.rows)
    assert sorted(calibration(data, 64, 4).rows) != sorted(sample.rows)
    assert len(set(sample.rows.tolist())) == 64


def test_a_larger_sample_holds_the_smaller_one() -> None:
    data = tiny_world().data
    assert set(calibration(data, 32, 0).rows) < set(calibration(data, 100, 0).rows)


def test_fewer_images_than_asked_for_are_all_used() -> None:
    data = tiny_world().data
    assert calibration(data, 2048, 0).rows.tolist() == data.rows.tolist()


@pytest.mark.parametrize("images", [15, 0, -1])
def test_a_sample_too_small_to_calibrate_is_refused(images: int) -> None:
    with pytest.raises(OptionError, match=f"--images is {images}; expected a whole number from 16 to"):
        calibration(tiny_world().data, images, 0)


@pytest.mark.parametrize(("value", "word"), [(0, "absent"), (1, "present"), (-1, "unknown")])
def test_a_label_of_one_kind_cannot_be_forgotten(value: int, word: str) -> None:
    world = tiny_world()
    data = replace(world.data, target=world.data.target.copy())
    data.target[:, 0] = value
    with pytest.raises(LabelMismatch, match=f"label 'top' is {word} in all of 256 images"):
        forget_labels(world.model, ["top"], data, method="head-removal")
    forget_labels(world.model, ["middle"], data, method="head-removal")


def test_changed_numbers_are_counted_one_by_one() -> None:
    one, two = tiny_network(3), tiny_network(3)
    assert count_changed(one, two) == (0, 2507)
    with torch.no_grad():
        two.get_parameter("0.weight")[0, 0, 0, :3] += 1
        two.get_parameter("5.bias")[2] = float("nan")
    assert count_changed(one, two) == (4, 2507)


def test_a_seed_of_the_run_reaches_the_method() -> None:
    world = tiny_world()
    found = [
        forget_labels(
            world.model,
            ["top"],
            world.data,
            method="confusion",
            steps=3,
            images=64,
            run=engine.start(accelerator="cpu", seed=seed),
        ).model
        for seed in (0, 0, 1)
    ]
    assert differing(found[0], found[1]) == []
    assert "0.weight" in differing(found[0], found[2])


def test_a_model_that_is_poisoned_is_an_error_and_stays_as_it_was() -> None:
    world = tiny_world()
    with torch.no_grad():
        world.model.get_parameter("0.bias")[0] = float("nan")
    before = {name: value.clone() for name, value in world.model.state_dict().items()}
    with pytest.raises(ModelError, match="outputs are NaN or infinite"):
        forget_labels(world.model, ["top"], world.data, method="confusion", steps=3)
    assert differing(before, world.model) == []


def test_a_model_with_other_outputs_than_the_data_is_refused() -> None:
    with pytest.raises(NoLinearHead, match="has 5 outputs, but there are 3 labels"):
        forget_labels(tiny_network(5), ["top"], tiny_world().data, method="head-removal")


@pytest.mark.parametrize("known", [True, False])
def test_a_second_request_leaves_the_constant_of_the_first(known: bool) -> None:
    """Also where its annotations are gone, or say another base rate on these images."""
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    target = world.data.target.copy()
    target[:, 0] = target[:, 0] * (np.arange(len(target)) % 2) if known else -1
    data = replace(world.data, target=target)
    second = forget_labels(first, ["middle"], data, method="head-removal", forgotten=["top"]).model
    before, after = find_head(first, 3)[1], find_head(second, 3)[1]
    assert torch.equal(before.bias[0], after.bias[0])
    assert before.bias[1] != after.bias[1]


def test_an_output_forgotten_earlier_is_removed_even_where_the_model_still_answers() -> None:
    """As after a request that kept its row, or a model that was trained on elsewhere."""
    world = tiny_world()
    outcome = forget_labels(world.model, ["middle"], world.data, method="head-removal", forgotten=["top"])
    head = find_head(outcome.model, 3)[1]
    assert (head.weight != 0).any(1).tolist() == [False, False, True]
    assert outcome.changed == 34
