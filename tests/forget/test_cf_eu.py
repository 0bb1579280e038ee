"""CF-k and EU-k: which layers are the last, what stays bit for bit, and what new random weights are."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection, OptionError
from unlabel.core.request import Request
from unlabel.forget.driver import forget_labels
from unlabel.forget.fresh import reinitialise, untrained
from unlabel.forget.methods.last_layers import LastLayers, cf_k, eu_k, tail
from unlabel.forget.phases import in_eval_mode, training_only
from unlabel.forget.ranking import auc, aucs
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import check_unlearner, differing, tiny_network, tiny_world

METHODS = ["cf-k", "eu-k"]


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def parameters_of(model: nn.Module, names: list[str]) -> set[str]:
    return {
        f"{name}.{own}"
        for name in names
        for own, _ in model.get_submodule(name).named_parameters(recurse=False)
    }


def test_the_last_layers_of_a_resnet_are_counted_in_order_of_registration() -> None:
    """A shortcut's convolution counts; BatchNorm after the first freed layer is freed with it."""
    model = build("resnet18", 3)
    block = "layer4.1"
    assert parameters_of(model, tail(model, 1)) == {"fc.weight", "fc.bias"}
    # torchvision registers conv1, bn1, conv2, bn2 of a block, so that bn2 comes after the second-last layer
    names = parameters_of(model, tail(model, 3))
    assert names == {
        f"{block}.conv1.weight",
        *(f"{block}.bn{n}.{part}" for n in (1, 2) for part in ("weight", "bias")),
        f"{block}.conv2.weight",
        "fc.weight",
        "fc.bias",
    }
    assert "layer4.0.downsample.0.weight" in parameters_of(model, tail(model, 4))
    assert "layer4.0.conv2.weight" not in parameters_of(model, tail(model, 4))
    everything = {name for name, _ in model.named_parameters()}
    assert parameters_of(model, tail(model, 99)) == everything


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("layers", "first"), [(1, 6), (2, 4)])
def test_the_layers_below_keep_every_bit_and_their_statistics(method: str, layers: int, first: int) -> None:
    world = tiny_world(batchnorm=True)
    model = forget_labels(world.model, ["top"], world.data, method=method, layers=layers, steps=5).model
    moved = differing(world.model, model)
    assert moved == sorted(name for name in world.model.state_dict() if int(name[0]) >= first)
    free = forget_labels(world.model, ["top"], world.data, method=method, layers=3, steps=5).model
    assert "1.running_mean" in differing(world.model, free)


def test_a_frozen_module_stays_in_eval_mode_while_the_others_train() -> None:
    model = tiny_network(3, batchnorm=True).eval()
    given = model.get_parameter("4.weight").requires_grad_(False)
    with training_only(model, ["6"]):
        model.train()
        assert [module.training for module in model] == [False] * 6 + [True]
        assert [name for name, p in model.named_parameters() if p.requires_grad] == ["6.weight", "6.bias"]
    assert not any(module.training for module in model[:6])
    assert [p is given for p in model.parameters() if not p.requires_grad] == [True]
    model.train()
    assert all(module.training for module in model)


def test_modes_come_back_after_an_error() -> None:
    model = tiny_network(3, batchnorm=True).train()

    def fail() -> None:
        with in_eval_mode([model[1]]):
            model.train()
            assert not model[1].training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model[1].training
    assert "train" not in vars(model[1])


def test_new_weights_are_all_new_and_those_below_untouched_before_the_first_step(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    request = Request.make(["top"], world.labels)
    found = {}
    for seed in (0, 0, 1):
        model = copy.deepcopy(world.model)
        repair = LastLayers(3, "layers", 0, 0.1)
        repair(model, world.model, request, world.data, {}, run.with_seed(seed))
        found.setdefault(seed, []).append(model)
    assert set(differing(world.model, found[0][0])) == set(world.model.state_dict())
    assert differing(*found[0]) == []
    assert {"0.weight", "4.weight", "6.weight"} <= set(differing(found[0][0], found[1][0]))
    norm = found[0][0].get_submodule("1")
    assert norm.running_mean.tolist() == [0.0] * 8
    assert norm.weight.tolist() == [1.0] * 8
    linear = found[0][0].get_submodule("4")
    # torch's default: uniform within one over the root of the inputs
    assert 0.9 < linear.weight.abs().max().item() * linear.in_features**0.5 <= 1.0


def test_what_no_reset_reaches_becomes_noise_and_the_callers_random_state_stays() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(3.0 + 2.0 * torch.randn(4000))

    model = Own()
    before, state = model.token.detach().clone(), torch.get_rng_state()
    reinitialise(model, [""], 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(float(torch.corrcoef(torch.stack([before, model.token.detach()]))[0, 1])) < 0.1
    # 4,000 numbers: the mean has a standard error of 0.03
    assert model.token.mean().item() == pytest.approx(3.0, abs=0.15)
    assert model.token.std().item() == pytest.approx(2.0, abs=0.15)


class Partial(nn.Module):
    """One whose reset reaches one of its two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.missed = (nn.Parameter(torch.randn(4000)) for _ in range(2))
        self.constant = nn.Parameter(torch.ones(3))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.reached)


def spectral() -> nn.Module:
    """A layer whose `reset_parameters` draws what is computed from its weight, and not the weight."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.spectral_norm(nn.Linear(60, 50))


@pytest.mark.parametrize(
    ("module", "names"), [(Partial(), ("reached", "missed")), (spectral(), ("weight_orig",))]
)
def test_a_reset_that_does_not_reach_a_weight_leaves_nothing_of_it(module: nn.Module, names: tuple) -> None:
    model = copy.deepcopy(module)
    reinitialise(model, [""], 0)
    for name in names:
        both = torch.stack([each.get_parameter(name).detach().flatten() for each in (module, model)])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1
    if isinstance(model, Partial):
        assert model.constant.tolist() == [1.0] * 3


def test_a_network_that_is_not_new_throughout_is_no_untrained_one() -> None:
    """What stands beside the weight of a spectral norm follows from it, and would be of the old one."""
    assert untrained(nn.Sequential(Partial(), nn.BatchNorm1d(3)), 0) is not None
    assert untrained(nn.Sequential(spectral()), 0) is None


def test_resetting_the_head_rows_changes_them_alone(run: Run) -> None:
    world = tiny_world()
    model = copy.deepcopy(world.model)
    request = Request.make(["bottom"], world.labels, forgotten=["top"])
    LastLayers(3, "rows", 0, 0.1)(model, world.model, request, world.data, {}, run)
    before, after = find_head(world.model, 3)[1], find_head(model, 3)[1]
    assert (before.weight != after.weight).any(1).tolist() == [False, False, True]
    assert (before.bias != after.bias).tolist() == [False, False, True]
    assert differing(world.model, model) == ["5.bias", "5.weight"]


@pytest.mark.parametrize("reset", [False, True])
def test_a_reset_row_is_another_one_when_it_is_kept(reset: bool, run: Run) -> None:
    world = tiny_world()
    options = {"keep_row": True, "steps": 3, "reset_head_rows": reset, "run": run}
    model = forget_labels(world.model, ["top"], world.data, method="cf-k", **options).model
    head = find_head(model, 3)[1]
    before = find_head(world.model, 3)[1]
    cosine = nn.functional.cosine_similarity(head.weight[0], before.weight[0], dim=0).item()
    assert (abs(cosine) < 0.9) == reset
    assert (cosine > 0.999) != reset


def test_fresh_layers_learn_the_retained_labels_and_the_frozen_ones_keep_the_forgotten(run: Run) -> None:
    """The positive control of what EU-k cannot do: a probe below the cut finds the label as before."""
    world = tiny_world()
    test = world.source.test
    model = forget_labels(world.model, ["top"], world.data, method="eu-k", layers=2).model
    assert min(aucs(outputs(model, test, run).logits, test, (1, 2))) > 0.9
    with torch.no_grad():
        image = torch.from_numpy(test.images(slice(None))).permute(0, 3, 1, 2).float() / 63.75 - 2.0
        below = [each[:2](image).mean((1, 3)).numpy() for each in (world.model, model)]
    assert np.array_equal(*below)
    reading = np.linalg.lstsq(below[1], 2.0 * test.target[:, 0] - 1.0, rcond=None)[0]
    assert auc(below[1] @ reading, test.target[:, 0]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_the_row_of_an_earlier_label_stays_as_it_was(method: str) -> None:
    world = tiny_world()
    model = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    row = find_head(model, 3)[1]
    later = forget_labels(
        model, ["bottom"], world.data, method=method, forgotten=["top"], keep_row=True, steps=3
    ).model
    head = find_head(later, 3)[1]
    assert torch.equal(head.weight[0], row.weight[0])
    assert torch.equal(head.bias[0], row.bias[0])
    assert not torch.equal(head.weight[1], row.weight[1])


@pytest.mark.parametrize("method", METHODS)
def test_what_the_user_froze_stays_frozen(method: str) -> None:
    world = tiny_world()
    world.model.get_parameter("3.weight").requires_grad_(False)
    model = forget_labels(world.model, ["top"], world.data, method=method, steps=3).model
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["3.weight"]
    assert {"3.weight", "3.bias"} & set(differing(world.model, model)) == set()
    assert "0.weight" in differing(world.model, model)
    world.model.requires_grad_(False)
    with pytest.raises(EmptySelection, match="has a weight that may change"):
        forget_labels(world.model, ["top"], world.data, method=method, steps=3)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_without_a_bias_trains_too(method: str) -> None:
    """Its normal form holds a bias of 0, which is frozen; so may a user's be."""
    world = tiny_world()
    world.model[5].bias.requires_grad_(False)
    assert tail(world.model, 1) == ["5"]
    model = forget_labels(world.model, ["top"], world.data, method=method, layers=1, steps=3).model
    before, after = world.model[5], model[5]
    assert (before.weight != after.weight).any(1).tolist() == [True] * 3
    assert torch.equal(before.bias[1:], after.bias[1:])


@pytest.mark.parametrize("method", METHODS)
def test_single_annotations_and_exclusive_classes_work_too(method: str) -> None:
    world = tiny_world()
    rows = world.data.ids[:9].tolist()
    outcome = forget_labels(world.model, ["top"], world.data, method=method, rows=rows, steps=3)
    assert find_head(outcome.model, 3)[1].weight[0].any()
    classes = replace(
        world.data, target=np.eye(3, dtype=np.int8)[np.arange(len(world.data)) % 3], exclusive=True
    )
    world = replace(world, source=replace(world.source, train=classes))
    check_unlearner(method, world=world, steps=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"layers": 0}, "--layers is 0"), ({"steps": 0}, "--steps is 0"), ({"lr": 0.0}, "--lr is 0")],
)
@pytest.mark.parametrize("make", [cf_k, eu_k])
def test_an_option_out_of_range_is_refused(make, options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make(**options)
