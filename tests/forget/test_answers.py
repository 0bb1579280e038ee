"""Training on what the original answers: the target is the formula, and nothing new is taught."""

import copy
from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError, OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.answers import Answers, slopes_of
from unlabel.forget.bill import Budget
from unlabel.forget.driver import forget_labels
from unlabel.forget.given import FEW
from unlabel.forget.methods.deep_probes import DeepProbes, deep_probes
from unlabel.forget.methods.deep_probes import bill as bill_of
from unlabel.forget.residual import Residuals, retained_logits
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_world
from unlabel.testing.passes import count_passes
from unlabel.testing.worlds import World

REQUEST = Request.make(["top"], ("top", "middle", "bottom"))


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def answers_of(world: World, run: Run) -> Answers:
    logits = retained_logits(world.model, REQUEST, world.data, run)
    told = Residuals.of(logits, REQUEST, world.data, run, inf)
    return Answers.of(world.model, told, logits, world.data, run)


@pytest.mark.parametrize("unknown", [False, True])
def test_the_target_is_the_formula_in_float64(unknown: bool, run: Run) -> None:
    world = tiny_world()
    if unknown:
        world.data.target[::3, 0] = -1
    label, others = world.data.target[:, 0].astype(float), world.data.target[:, 1:].astype(float)
    known = label >= 0
    x = others - others.mean(0)
    here, y = x[known] - x[known].mean(0), label[known] - label[known].mean()
    r = np.zeros(len(label))
    r[known] = y - here @ np.linalg.solve(here.T @ here + np.eye(2), here.T @ y)
    z = outputs(world.model, world.data, run).logits[:, 1:].astype(np.float64)
    slopes = r @ (z - z.mean(0)) / (r @ r)
    wanted = 1 / (1 + np.exp(-(z - np.outer(r, slopes))))
    batch = batch_of(world.data, range(len(world.data)), run.device)
    found = answers_of(world, run).at(batch)
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)
    assert abs(slopes).max() > 0.1  # so the correction is seen
    said = np.log(wanted / (1 - wanted))
    assert abs(r @ (said - said.mean(0))).max() < 1e-8 * len(r)
    np.testing.assert_allclose(wanted[~known], 1 / (1 + np.exp(-z[~known])))


@pytest.mark.parametrize("annotated", [0.0, 0.3, 0.9])
def test_a_target_lies_between_answer_and_annotation_if_that_is_known(annotated: float, run: Run) -> None:
    world = tiny_world()
    batch, before = batch_of(world.data, range(8), run.device), answers_of(world, run)
    answer, mixed = before.at(batch).double(), replace(before, annotated=annotated)
    annotation = batch.target[:, 1:].double()
    between = annotated * annotation + (1 - annotated) * answer
    torch.testing.assert_close(mixed.at(batch).double(), between, rtol=0, atol=1e-6)
    unknown = batch._replace(target=torch.full_like(batch.target, -1))
    torch.testing.assert_close(mixed.at(unknown).double(), answer, rtol=0, atol=0)


@pytest.mark.parametrize(("annotated", "spare"), [(1.0, 0.5), (0.5, 1.0), (0.0, inf)])
def test_the_more_the_outputs_are_held_the_less_is_spared(annotated: float, spare: float, run: Run) -> None:
    """What is taken off the answers is all that the annotations leave, whatever is spared."""
    world = tiny_world()
    method = DeepProbes(0.15, 0.06, 1, 0.2, annotated)
    assert method.spare == spare
    logits = method.logits(world.model, REQUEST, world.data, run)
    found = method.answers(world.model, logits, REQUEST, world.data, run)
    if annotated == 1:
        assert found is None
    else:
        assert found is not None
        assert torch.equal(found.slopes, answers_of(world, run).slopes)
        assert found.annotated == annotated


def test_next_to_no_annotation_is_none(run: Run) -> None:
    """A part so small that s = .5 / a is past every number leaves the residuals finite."""
    world = tiny_world()
    logits = retained_logits(world.model, REQUEST, world.data, run)
    least, none = (
        Residuals.of(logits, REQUEST, world.data, run, DeepProbes(0.15, 0.06, 1, 0.2, annotated).spare)
        for annotated in (1e-308, 0.0)
    )
    assert torch.equal(least.values, none.values)
    assert least.values.isfinite().all()


def test_the_loss_is_the_mean_cross_entropy_and_least_at_the_target(run: Run) -> None:
    world = tiny_world()
    answers, batch = answers_of(world, run), batch_of(world.data, range(8), run.device)
    wanted = answers.at(batch)
    logits = torch.cat([torch.zeros(8, 1), wanted.logit()], 1).requires_grad_()
    loss = answers.loss(logits, batch)
    t = wanted.double()
    entropy = -(t * t.log() + (1 - t) * (1 - t).log()).mean(1)
    torch.testing.assert_close(loss.detach().double(), entropy, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert float(gradient.abs().max()) < 1e-5


def test_the_original_is_asked_as_it_is_deployed(run: Run) -> None:
    """In eval mode, and as a copy: a training moves neither its weights nor its statistics."""
    world = tiny_world(batchnorm=True)
    before = {name: value.clone() for name, value in world.model.state_dict().items()}
    answers, batch = answers_of(world, run), batch_of(world.data, range(8), run.device)
    first = answers.at(batch)
    world.model.train()(batch.image)  # its statistics move
    torch.testing.assert_close(answers.at(batch), first, rtol=0, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in answers.original.state_dict().items())
    alone = answers.at(batch_of(world.data, range(1), run.device))
    torch.testing.assert_close(alone, first[:1])  # no image's answer depends on the others


def test_of_labels_without_a_residual_the_answers_are_the_originals() -> None:
    assert slopes_of(np.array([[1.0], [2.0]]), np.zeros((2, 1))).tolist() == [[0.0]]


def test_no_pass_is_needed_if_nothing_is_spared(run: Run) -> None:
    world = tiny_world()
    with count_passes(3) as seen:
        Residuals.of(world.model, REQUEST, world.data, run, inf)
    assert seen.forward == 0


def test_the_original_stays_and_what_it_did_not_know_is_not_learnt(run: Run) -> None:
    """The original says next to nothing of "middle": annotations teach it, and its own answers do not."""
    world = tiny_world()
    model = copy.deepcopy(world.model)
    _, head = find_head(model, 3)
    with torch.no_grad():
        head.weight[1] *= 1e-3
        head.bias[1] = 0
    kept = copy.deepcopy(model)
    right = {}
    for annotated in (1.0, 0.0):
        made = forget_labels(
            model, ["top"], world.data, method="deep-probes", run=run, steps=100, annotated=annotated
        ).model
        said = outputs(made, world.source.test, run).logits
        truth = world.source.test.target
        right[annotated] = [float(np.mean((said[:, at] > 0) == (truth[:, at] == 1))) for at in (1, 2)]
        assert differing(model, kept) == []
    assert right[1.0][0] > 0.9
    assert right[0.0][0] < 0.7
    assert min(each[1] for each in right.values()) > 0.9


def test_the_bill_counts_what_passes_through_the_original(run: Run) -> None:
    world = tiny_world()
    with count_passes(3) as seen:
        outcome = forget_labels(world.model, ["top"], world.data, "deep-probes", steps=4, annotated=0.3)
    looked = 2 * outcome.retained.images if outcome.retained.loss else 0
    method = deep_probes(steps=4, annotated=0.3)
    found = bill_of(method, {"steps": 4, "annotated": 0.3}, Budget(4, run.batch_size, len(world.data)))
    assert found == (outcome.history.steps, outcome.images_processed)
    assert outcome.images_processed == seen.forward - looked - 2 * FEW


@pytest.mark.parametrize("annotated", [-0.1, 1.1, float("nan")])
def test_a_target_is_no_less_than_an_answer_and_no_more_than_an_annotation(annotated: float) -> None:
    with pytest.raises(OptionError, match=r"--annotated is .*; expected 0 or more, 1 at most"):
        deep_probes(annotated=annotated)


def test_classes_are_refused_before_anything_is_trained() -> None:
    world = tiny_world()
    data = replace(world.data, exclusive=True, target=np.eye(3, dtype=np.int8)[world.data.target.argmax(1)])
    with pytest.raises(MethodError, match=r"exclusive classes.*--annotated 1"):
        forget_labels(world.model, ["top"], data, method="deep-probes", annotated=0.5)
