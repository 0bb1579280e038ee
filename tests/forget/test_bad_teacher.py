"""The bad teacher: which teacher each entry has, that the bad one knows nothing, and what is not used."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.distill import Constant, Network, Remembered, base_rates, bernoulli_kl, class_kl, untaught
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.bad_teacher import TwoTeachers, _two_teachers, bad_teacher
from unlabel.forget.ranking import aucs
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import check_unlearner, differing, tiny_world
from unlabel.testing.passes import count_passes


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def shifted(model: nn.Module, number: float) -> nn.Module:
    """The same network with a number added to all logits of every image."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        find_head(model, 3)[1].bias += number
    return model


def classes(data):
    target = np.eye(3, dtype=np.int8)[np.arange(len(data)) % 3]
    return replace(data, target=target, exclusive=True)


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_each_entry_has_its_own_teacher_and_counts_alike(strength: float, run: Run) -> None:
    """The mean over (image, label) of the divergence, entry by entry in float64."""
    world = tiny_world("unknown")
    batch = batch_of(world.data, range(24), run.device)
    good, bad = shifted(world.model, 0.4), untaught(world.model, 3)
    objective = TwoTeachers(Network(good), bad, (2,), (0, 1), strength, 2.0, exclusive=False)
    found = objective(shifted(world.model, -0.3), batch).detach().numpy()
    with torch.no_grad():
        student = shifted(world.model, -0.3)(batch.image).double().numpy()
        teacher = good(batch.image).double().numpy()
        teacher[:, 2] = bad(batch).double().numpy()[:, 2]
    s, q = (1 / (1 + np.exp(-z / 2.0)) for z in (teacher, student))
    exact = 4.0 * (s * np.log(s / q) + (1 - s) * np.log((1 - s) / (1 - q)))
    exact[:, 2] *= strength
    np.testing.assert_allclose(found, exact.mean(1), atol=1e-5)


def test_an_image_of_a_forgotten_class_has_the_bad_teacher_for_its_whole_softmax(run: Run) -> None:
    world = tiny_world()
    data = classes(world.data)
    batch = batch_of(data, range(24), run.device)
    prior = Constant(base_rates(data))
    objective = TwoTeachers(Network(world.model), prior, (1,), (2, 0), 1.0, 1.0, exclusive=True)
    student = shifted(world.model, 0.0)
    with torch.no_grad():
        student[-1].weight += 0.1
    found, z = objective(student, batch), student(batch.image)
    own = batch.target[:, 1] == 1
    good, bad = class_kl(z, world.model(batch.image)), class_kl(z, prior(batch))
    assert torch.allclose(found[own], bad[own], atol=1e-5)
    assert torch.allclose(found[~own], good[~own], atol=1e-5)
    assert 0 < int(own.sum()) < 24


def test_a_number_added_to_all_logits_changes_the_loss_of_labels_not_of_classes(run: Run) -> None:
    world = tiny_world()
    batch = batch_of(classes(world.data), range(24), run.device)
    for exclusive in (False, True):
        objective = TwoTeachers(
            Network(world.model), untaught(world.model, 0), (0,), (1, 2), 1.0, 1.0, exclusive
        )
        before, after = (objective(shifted(world.model, number), batch) for number in (0.0, 2.0))
        assert torch.allclose(before, after, atol=1e-4) == exclusive


def test_the_earlier_forgotten_label_is_in_no_loss(run: Run) -> None:
    world = tiny_world()
    batch = batch_of(world.data, range(24), run.device)
    model = copy.deepcopy(world.model)
    objective = TwoTeachers(
        Network(shifted(model, 1.0)), untaught(model, 0), (2,), (1,), 1.0, 1.0, exclusive=False
    )
    objective(model, batch).sum().backward()
    gradient = find_head(model, 3)[1].weight.grad
    assert gradient is not None
    assert gradient.any(1).tolist() == [False, True, True]


@pytest.mark.parametrize("network", ["tiny", "resnet18"])
def test_the_random_teacher_shares_no_weight_and_knows_nothing(network: str, run: Run) -> None:
    world = tiny_world(batchnorm=True)
    model = world.model if network == "tiny" else build("resnet18", 3).eval()
    with torch.no_grad():
        for name, buffer in model.named_buffers():  # a trained network's statistics are not the defaults
            if buffer.is_floating_point():
                buffer += 0.1 if "mean" in name else 0.2
    given = copy.deepcopy(model)
    teacher = untaught(model, 0)
    assert isinstance(teacher, Network)
    same = set(given.state_dict()) - set(differing(given, teacher.model))
    # torchvision leaves its BatchNorm at the defaults, and so does a reset
    assert same <= {name for name in same if "bn" in name or "downsample.1" in name or "num_batches" in name}
    assert differing(given, model) == []
    assert not teacher.model.training
    said = outputs(teacher.model, world.source.test, run).logits
    assert np.ptp(said, axis=0).max() < 0.5
    assert np.abs(said).max() < 2.0
    assert differing(untaught(model, 0).model, teacher.model) == []
    assert differing(untaught(model, 1).model, teacher.model) != []


def test_a_remembered_teacher_is_asked_once_about_each_image_as_it_is(run: Run) -> None:
    """In whatever order and augmentation the images come, and of a part of the source."""
    world = tiny_world()
    data = world.data.take(np.array([7, 3, 60, 31, 12, 200, 90]))
    teacher = Remembered.of(Network(world.model), data, run.device)
    with torch.no_grad():
        expected = world.model(batch_of(data, range(7), run.device).image)
    asked = []
    for positions, epoch in (([2, 0, 5], 3), ([5, 1, 1, 2], 8), ([4, 3, 6, 0], None), ([6, 5], 1)):
        with count_passes(3) as seen:
            found = teacher(batch_of(data, positions, run.device, seed=1, epoch=epoch))
        asked.append(seen.forward)
        # the same image in batches of another size: rounding
        assert torch.allclose(found, expected[positions], atol=1e-5)
    assert asked == [3, 2, 3, 0]  # one image twice in a batch is asked about twice there


def test_the_good_teacher_sees_the_very_images_that_the_student_sees(run: Run) -> None:
    """At the start the student is the good teacher: on equal images the retained labels cost nothing."""
    world = tiny_world()
    request = Request.make(["top"], world.labels)
    for bad in ("random_init", "prior"):
        aim = _two_teachers(bad, 1.0, 1.0, world.model, request, world.data, run)
        batch = batch_of(world.data, range(24), run.device, seed=0, epoch=2)
        assert isinstance(aim.objective, TwoTeachers)
        kept = replace(aim.objective, strength=0.0)(world.model, batch)
        assert float(kept.abs().max().detach()) < 1e-6
        assert float(aim.objective(world.model, batch).min().detach()) > 0.0


def test_a_teacher_leaves_no_gradient_and_its_mode(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    before = copy.deepcopy(world.model)
    batch = batch_of(world.data, range(24), run.device)
    answer = Network(world.model)(batch)
    assert not answer.requires_grad
    assert differing(before, world.model) == []
    assert torch.equal(answer, before(batch.image))


@pytest.mark.parametrize("bad", ["random_init", "prior"])
@pytest.mark.parametrize("labels", [["top"], ["bottom", "top"]])
def test_the_label_loses_its_output_and_the_others_keep_theirs(labels: list[str], bad: str, run: Run) -> None:
    world = tiny_world()
    test = world.source.test
    outcome = forget_labels(world.model, labels, world.data, method="bad-teacher", bad=bad, keep_row=True)
    before, after = (outputs(model, test, run).logits for model in (world.model, outcome.model))
    for column in outcome.request.columns:
        assert np.std(after[:, column]) < 0.2 * np.std(before[:, column])
    assert min(aucs(after, test, outcome.request.retained_columns)) > 0.9
    # the random network is asked once about each of the 256 images
    assert outcome.images_processed == 96 * 64 * 2 + (256 if bad == "random_init" else 0)


def test_no_annotation_is_used_but_for_base_rates() -> None:
    """Shuffling any column keeps its base rate and changes no bit."""
    world = tiny_world()
    order = np.random.default_rng(0).permutation(len(world.data))
    shuffled = replace(world.data, target=world.data.target[order])
    assert (shuffled.target != world.data.target).any()
    for bad in ("random_init", "prior"):
        options = {"method": "bad-teacher", "bad": bad, "steps": 3}
        found = [
            forget_labels(world.model, ["top"], data, **options).model for data in (world.data, shuffled)
        ]
        assert differing(*found) == []
    rare = replace(world.data, target=np.tile((np.arange(len(order)) < 20).astype(np.int8)[:, None], 3))
    other = forget_labels(world.model, ["top"], rare, **options).model
    assert "0.weight" in differing(found[0], other)


def test_the_row_of_an_earlier_label_stays_as_it_was() -> None:
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    options = {"method": "bad-teacher", "forgotten": ["top"], "keep_row": True, "steps": 3}
    later = forget_labels(first, ["bottom"], world.data, **options).model
    before, after = find_head(first, 3)[1], find_head(later, 3)[1]
    assert (before.weight != after.weight).any(1).tolist() == [False, True, True]
    assert torch.equal(before.bias[0], after.bias[0])


def test_exclusive_classes_keep_the_contract() -> None:
    world = tiny_world()
    world = replace(world, source=replace(world.source, train=classes(world.data)))
    check_unlearner("bad-teacher", world=world, steps=2)
    check_unlearner("bad-teacher", world=world, steps=2, bad="prior")


def test_at_the_prior_a_student_pays_nothing() -> None:
    data = tiny_world("unknown").data
    logits = base_rates(data)[None]
    assert bernoulli_kl(logits, logits).abs().max().item() == 0.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": 0.0}, "--strength is 0"),
        ({"temperature": -1.0}, "--temperature is -1"),
        ({"steps": 0}, "--steps is 0"),
        ({"lr": 0.0}, "--lr is 0"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        bad_teacher(**options)
