"""Every method x every world x several requests; a new method joins by being in the catalogue.

An alias is the same function as the method that it names, which `test_methods` checks.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.errors import EmptySelection, OptionError
from unlabel.core.places import staged
from unlabel.core.recipe import Blueprint, History, Recipe
from unlabel.core.request import Request
from unlabel.forget.driver import forget_labels
from unlabel.forget.given import FEW
from unlabel.forget.methods import METHODS, Method
from unlabel.forget.pipeline import Outcome, Work
from unlabel.models import build
from unlabel.models.eraser import eraser_of
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.runs.config import Config
from unlabel.runs.folder import load_run, write_run
from unlabel.testing import World, check_unlearner, differing, tiny_network, tiny_world
from unlabel.testing.passes import count_passes
from unlabel.training.fit import LabelLoss, fit

OPTIONS: dict[str, dict[str, Any]] = {
    "confusion": {"steps": 3},
    "deep-probes": {"steps": 3},
    "fine-tune": {"steps": 3},
    "weight-filtering": {"steps": 3},
    "weight-pruning": {"steps": 3},
    "l1-sparse": {"steps": 3},
    "neg-grad": {"steps": 3},
    "neg-grad-plus": {"steps": 3},
    "random-label": {"steps": 3},
    "salun": {"steps": 3},
    "bad-teacher": {"steps": 3},
    "cf-k": {"layers": 1, "steps": 3},
    "eu-k": {"layers": 2, "steps": 3},
    "scrub": {"rounds": 2, "ascents": 1, "max_steps": 1, "min_steps": 1, "rewind": True},
    "undo": {"steps": 3},
    "unsir": {"noise": 2, "noise_steps": 2, "impair_steps": 1, "repair_steps": 2},
    "retrain": {"blueprint": Blueprint("tiny", "imagenet", Recipe(epochs=1))},
}
# ssd's signs need not reach a weight: in one-unit it sets zeros only
NOT_RANDOM = {"damp", "head-removal", "kodge", "leace-head", "leace-layer", "repselect", "ssd"}

REQUESTS = {
    "one label": (("top",), ()),
    "two labels": (("bottom", "top"), ()),
    "after an earlier one": (("bottom",), ("top",)),
    "two labels after an earlier one": (("bottom", "middle"), ("top",)),
}


def classes() -> World:
    """A network with four outputs, and pictures that have one of four classes each."""
    world = tiny_world("never-learnt", batchnorm=True)
    own = np.eye(4, dtype=np.int8)[np.arange(len(world.data)) % 4]
    train = replace(world.data, target=own, exclusive=True)
    return replace(world, source=replace(world.source, train=train))


WORLDS = {
    "independent": tiny_world,
    "independent, BatchNorm": lambda: tiny_world(batchnorm=True),
    "correlated": lambda: tiny_world("correlated"),
    "duplicate": lambda: tiny_world("duplicate"),
    "never-learnt": lambda: tiny_world("never-learnt"),
    "unknown": lambda: tiny_world("unknown"),
    "one-unit": lambda: tiny_world("one-unit"),
    "classes": classes,
}
CATALOGUE = [name for name, entry in METHODS.items() if entry.alias_of is None]


LEFT_ALONE = {
    *("confusion", "fine-tune", "weight-filtering", "weight-pruning", "l1-sparse", "leace-layer"),
    *("damp", "kodge", "repselect", "undo"),
}
"""Methods that do not train the row of the label to forget."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `retrain` and the run folder build the worlds' networks by name."""
    for name, batchnorm in (("tiny", False), ("tiny-norm", True)):
        make = lambda outputs, stem, batchnorm=batchnorm: tiny_network(outputs, batchnorm)  # noqa: E731
        monkeypatch.setitem(build.BUILDERS, name, make)


def options_of(method: str, world: World) -> dict[str, Any]:
    options = dict(OPTIONS.get(method, {}))
    if method == "retrain" and "1.running_mean" in world.model.state_dict():
        options["blueprint"] = replace(options["blueprint"], network="tiny-norm")
    return options


def prepared(world: World, forgotten: tuple[str, ...]) -> World:
    """The world after an earlier request, made by the plainest method."""
    if not forgotten:
        return world
    return replace(
        world, model=forget_labels(world.model, forgotten, world.data, method="head-removal").model
    )


def cases() -> list[Any]:
    """Every method, world and request; `make test` runs each method once in each world, at all requests."""
    found = []
    for number, method in enumerate(CATALOGUE):
        for at, world in enumerate(WORLDS):
            requests = [*REQUESTS] if world == "never-learnt" else [*REQUESTS][:-1]
            # the others would have no label left, or a single class, of which a softmax says nothing
            first = requests[-1] if world == "never-learnt" else requests[(number + at) % 3]
            for request in requests:
                marks = () if request == first else pytest.mark.exhaustive
                found.append(pytest.param(method, world, request, marks=marks))
    return found


@pytest.mark.parametrize(("method", "world_name", "request_name"), cases())
def test_every_method_keeps_the_contract(method: str, world_name: str, request_name: str) -> None:
    labels, forgotten = REQUESTS[request_name]
    world = prepared(WORLDS[world_name](), forgotten)
    check_unlearner(
        method,
        world=world,
        labels=labels,
        forgotten=forgotten,
        random=method not in NOT_RANDOM,
        **options_of(method, world),
    )


@pytest.mark.parametrize(
    ("method", "network"),
    [
        pytest.param(method, network, marks=() if (number + at) % 2 == 0 else pytest.mark.exhaustive)
        for number, method in enumerate(CATALOGUE)
        for at, network in enumerate(("vit", "convnext"))
    ],
)
@pytest.mark.usefixtures("buildable")
def test_every_method_keeps_the_contract_on_networks_with_layer_norms(
    method: str, network: str, elsewhere: Callable[[str], World]
) -> None:
    """Attention, LayerNorm, GELU, depthwise convolutions: none of which the networks above have."""
    options = dict(OPTIONS.get(method, {}))
    if method == "retrain":
        options["blueprint"] = replace(options["blueprint"], network=network)
    check_unlearner(method, world=elsewhere(network), random=method not in NOT_RANDOM, **options)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_loads_to_the_bits_that_were_written(method: str, tmp_path: Path) -> None:
    world = tiny_world(batchnorm=True)
    outcome = forget_labels(world.model, ["top"], world.data, method=method, **options_of(method, world))
    config = Config("tiny-norm", "imagenet", world.labels, ("top",), 16, (0.5,) * 3, (0.25,) * 3, (0.5,) * 3)
    if layer := eraser_of(outcome.model):
        config = replace(config, eraser=layer.rank, erased=layer.labels)
    with staged(tmp_path / "run", force=False) as folder:
        write_run(folder, outcome.model, config, {"method": method, "labels": ["top"]}, outcome.history)
    loaded = load_run(tmp_path / "run")
    assert differing(outcome.model, loaded.model) == []
    assert loaded.config == config
    assert not loaded.model.training


@pytest.mark.parametrize("method", [name for name in CATALOGUE if name not in ("head-removal", "retrain")])
def test_an_earlier_label_stays_forgotten_when_its_row_is_kept(method: str) -> None:
    """With the rows kept, the method itself has to leave the earlier label's constant output alone.

    The others' rows are what the method made of them: where it does not train its own, the original's.
    """
    world = prepared(tiny_world(), ("top",))
    row = find_head(world.model, 3)[1]
    outcome = forget_labels(
        world.model,
        ["bottom"],
        world.data,
        method=method,
        forgotten=["top"],
        keep_row=True,
        **OPTIONS.get(method, {}),
    )
    head = find_head(outcome.model, 3)[1]
    for column in (0, 2) if method in LEFT_ALONE else (0,):
        assert torch.equal(head.weight[column], row.weight[column])
        assert torch.equal(head.bias[column], row.bias[column])
    assert not head.weight[0].any()
    assert differing(world.model, outcome.model) != []
    assert head.weight[2].any() or method == "ssd"  # which dampens the label's own row to 0
    assert outcome.request.masked == ("top", "bottom")


def looked_at(outcome: Outcome) -> int:
    """Images that went through the two networks to see what the retained labels lost, and what their outputs
    are: on nobody's bill.
    """
    return 2 * FEW + (2 * outcome.retained.images if outcome.retained.loss else 0)


@pytest.mark.parametrize("forgotten", [(), ("bottom",)])
@pytest.mark.parametrize("method", CATALOGUE)
def test_the_bill_is_the_images_that_went_through_a_network(method: str, forgotten: tuple[str, ...]) -> None:
    """Counted at the heads of all networks: scores, teachers, readers of earlier labels, and training."""
    world = prepared(tiny_world(), forgotten)
    options = options_of(method, world)
    with count_passes(3) as seen:
        outcome = forget_labels(
            world.model, ["top"], world.data, method=method, forgotten=forgotten, **options
        )
    assert outcome.images_processed == seen.forward - looked_at(outcome)
    assert outcome.history.steps * 64 <= seen.backward


@pytest.mark.parametrize("method", CATALOGUE)
def test_a_bigger_data_set_costs_no_more(method: str) -> None:
    """What is scored and trained on is the calibration images, however many there are."""
    world = tiny_world(images=1024)
    if METHODS[method].data == "train":
        pytest.skip("the reference sees all images, by its definition")
    found = []
    for size in (128, 512):
        with count_passes(3) as seen:
            data = world.data.take(np.arange(size))
            options = {"method": method, "images": 100, **options_of(method, world)}
            outcome = forget_labels(world.model, ["top"], data, **options)
        found.append((seen.forward - looked_at(outcome), seen.backward, outcome.images_used))
    assert found[0] == found[1]


@pytest.mark.parametrize("labels", [["top"], ["middle", "top"]])
def test_head_removal_changes_no_bit_but_the_removed_rows(labels: list[str]) -> None:
    world = tiny_world(batchnorm=True)
    outcome = forget_labels(world.model, labels, world.data, method="head-removal")
    name, head = find_head(world.model, 3)
    after = find_head(outcome.model, 3)[1]
    assert differing(world.model, outcome.model) == sorted([f"{name}.bias", f"{name}.weight"])
    for column in outcome.request.retained_columns:
        assert torch.equal(after.weight[column], head.weight[column])
        assert torch.equal(after.bias[column], head.bias[column])
    assert outcome.images_processed == outcome.images_used == outcome.history.steps == 0


def test_head_removal_that_keeps_the_row_has_changed_nothing() -> None:
    world = tiny_world()
    with pytest.raises(EmptySelection, match=r"'head-removal' changed none of 2,507 weights"):
        forget_labels(world.model, ["top"], world.data, method="head-removal", keep_row=True)


def test_head_removal_leaves_the_label_in_the_features() -> None:
    """The positive control of every method that claims more: the original's reader still finds the label."""
    world = tiny_world()
    head = find_head(world.model, 3)[1]
    after = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    found = outputs(after, world.source.test, engine.start(accelerator="cpu")).features["penultimate"]
    read = found @ head.weight[0].detach().numpy()
    target = world.source.test.target[:, 0]
    assert np.mean(read[target == 1][:, None] > read[target == 0]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_mistyped_option_is_refused_with_a_suggestion(method: str) -> None:
    world = tiny_world()
    known = list(METHODS[method].options())
    mistyped = known[0][:-1] if known else "strength"
    expected = f"Close: {known[0]}" if known else "it has no options"
    with pytest.raises(OptionError, match=rf"has no option '{mistyped}'; .*{expected}"):
        forget_labels(world.model, ["top"], world.data, method=method, **{mistyped: 1})


# -- the contract itself can be broken


def broken(what: str):
    """An unlearner with one fault."""

    def unlearner(model, request, data, run) -> Work:
        new = tiny_network(3)
        with torch.no_grad():
            new.get_parameter("5.bias")[0] = run.seed
            if what == "writes to its argument":
                model.get_parameter("0.bias")[0] += 1
            elif what == "changes the mode":
                model.train()
            elif what == "ignores the seed":
                new = tiny_network(3)
            elif what == "draws freely":
                new.get_parameter("0.bias")[0] = float(torch.rand(()))
            elif what == "returns NaN":
                new.get_parameter("0.bias")[0] = float("nan")
            elif what == "another network":
                new = tiny_network(3, True)
            elif what == "freezes":
                new.get_parameter("0.bias").requires_grad_(False)
            elif what == "its argument":
                new = model
            elif what in ("target", "rows", "cluster"):
                getattr(data, what)[:8] = 0
        return Work(new, History())

    return unlearner


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("writes to its argument", "in the argument model, 1 tensors are not bit-identical: 0.bias"),
        ("changes the mode", "the argument model's modes or requires_grad changed"),
        ("ignores the seed", "another seed gave the same bits"),
        ("draws freely", "with the same seed, 1 tensors are not bit-identical: 0.bias"),
        ("returns NaN", "not finite in"),
        ("another network", "keys, shapes or dtypes"),
        ("freezes", "the new model's requires_grad"),
        ("its argument", "returned its argument"),
        ("target", "wrote into the data it was given: target changed"),
        ("rows", "wrote into the data it was given: rows changed"),
        ("cluster", "wrote into the data it was given: cluster changed"),
    ],
)
def test_a_broken_promise_is_found_and_named(what: str, says: str) -> None:
    """The positive control of the matrix above; without a fault the same unlearner passes."""
    check_unlearner(broken("nothing"))
    with pytest.raises(AssertionError, match=says):
        check_unlearner(broken(what))


def test_what_is_written_into_a_world_reaches_no_other() -> None:
    world = tiny_world()
    for part in (world.data, world.source.probe, world.source.test):
        part.target[:], part.rows[:], part.cluster[:] = 0, 0, 0
    assert tiny_world().data.target.any()
    assert len(np.unique(tiny_world().source.test.cluster)) > 1
    check_unlearner("head-removal", random=False)


def noise(*, scale: float = 0.1, wrong: bool = False):
    """A method as its author writes it: a function that makes the unlearner from its options."""

    def unlearner(model, request, data, run) -> Work:
        new = copy.deepcopy(model)
        draw = torch.Generator().manual_seed(0 if wrong else run.seed)
        for weight in new.parameters():
            weight.data += scale * torch.randn(weight.shape, generator=draw)
        return Work(new, History())

    return unlearner


def test_a_method_is_checked_as_its_function_with_its_options() -> None:
    check_unlearner(noise)
    check_unlearner(noise, scale=0.2)
    check_unlearner(noise(scale=0.2))
    check_unlearner(Method("noise", "add noise", "nobody", noise), scale=0.2)
    with pytest.raises(AssertionError, match="another seed gave the same bits"):
        check_unlearner(noise, wrong=True)
    with pytest.raises(OptionError, match=r"has no option 'scales'.*Close: scale"):
        check_unlearner(noise, scales=1)
    with pytest.raises(OptionError, match="an unlearner takes no options, found scale; give the function"):
        check_unlearner(noise(), scale=0.2)
    with pytest.raises(AssertionError, match="returned NoneType, not a function"):
        check_unlearner(lambda: None)


@pytest.mark.parametrize("method", [name for name in CATALOGUE if name != "retrain"])
def test_a_method_works_on_a_model_that_is_partly_frozen(method: str) -> None:
    world = tiny_world()
    frozen = {"0.weight", "3.bias"}
    for name in frozen:
        world.model.get_parameter(name).requires_grad_(False)
    outcome = forget_labels(world.model, ["top"], world.data, method=method, **OPTIONS.get(method, {}))
    assert not any(outcome.model.get_parameter(name).requires_grad for name in frozen)
    moved = {*differing(world.model, outcome.model)}
    assert moved
    assert not moved & frozen


def test_requests_and_outcomes_name_what_was_done() -> None:
    world = tiny_world()
    outcome = forget_labels(world.model, ["top"], world.data, method="erasure", images=80)
    assert outcome.method == "erasure"
    assert outcome.options == {"strength": 0.5, "rounds": 3, "anchor": 1.0}
    assert outcome.request == Request.make(["top"], world.labels)
    assert (outcome.images_used, outcome.images_processed, outcome.history.steps) == (80, 82, 0)
    assert {"edit", "refit", "total"} == set(outcome.seconds)


# -- networks of other libraries, by name: attention, windows, depthwise convolutions, gates

NETWORKS = {
    "timm-vit": "timm:test_vit,img_size=16,patch_size=4,embed_dim=16,depth=2",
    "timm-convnext": "timm:test_convnext,depths=(1,1,1,1),dims=(8,8,16,16),output_stride=8",
    "timm-swin": "timm:swin_tiny_patch4_window7_224,img_size=16,patch_size=2,embed_dim=8,depths=(1,1),"
    "num_heads=(1,2),window_size=4",
    "timm-efficientnet": "timm:test_efficientnet",
    "timm-mobilenetv3": "timm:mobilenetv3_small_050",
    "hf-vit": "hf:vit,hidden_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,"
    "image_size=16,patch_size=4",
    "hf-resnet": "hf:resnet,depths=[1,1],hidden_sizes=[8,16],embedding_size=8,layer_type=basic",
}
EVERY = [(method, network) for method in CATALOGUE for network in NETWORKS]
SOME = [(method, [*NETWORKS][(number + 2) % 7]) for number, method in enumerate(CATALOGUE)]
SOME.append(("weight-filtering", "timm-vit"))  # the only method that differentiates forwards


@cache
def trained(network: str) -> World:
    world = tiny_world(images=96)
    model = build.build(NETWORKS[network], 3)
    fit(model, LabelLoss((0, 1, 2)), world.data, Recipe(epochs=2, lr=0.05), engine.start(accelerator="cpu"))
    return replace(world, model=model.eval())


def own(network: str) -> World:
    pytest.importorskip("timm" if network.startswith("timm") else "transformers")
    world = trained(network)
    return replace(world, model=copy.deepcopy(world.model))


def options_by_name(method: str, network: str) -> dict[str, Any]:
    options = dict(OPTIONS.get(method, {}))
    if method == "retrain":
        options["blueprint"] = replace(options["blueprint"], network=NETWORKS[network])
    return options


@pytest.mark.parametrize(("method", "network"), SOME)
def test_every_method_keeps_the_contract_on_a_network_by_name(method: str, network: str) -> None:
    options = options_by_name(method, network)
    check_unlearner(method, world=own(network), random=method not in NOT_RANDOM, **options)


OTHERS = [
    pytest.param(*pair, marks=() if (number + number // 6) % 6 == 0 else pytest.mark.exhaustive)
    for number, pair in enumerate(pair for pair in EVERY if pair not in SOME)
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), OTHERS)
def test_every_method_runs_on_every_network_by_name(method: str, network: str) -> None:
    """Once, as far as the contract needs no second run; of the pairs a sixth, but for `make test-all`."""
    world = own(network)
    outcome = forget_labels(
        world.model, ["top"], world.data, method=method, **options_by_name(method, network)
    )
    assert differing(world.model, trained(network).model) == []
    assert outcome.changed > 0
    assert outcome.retained is not None
    column = world.data.labels.index("top")
    found = outputs(outcome.model, world.data, engine.start(accelerator="cpu"))
    assert np.isfinite(found.logits).all()
    assert np.isfinite(found.features["penultimate"]).all()
    assert np.ptp(found.logits[:, column]) == 0
    assert (np.ptp(np.delete(found.logits, column, 1), axis=0) > 0).any()
