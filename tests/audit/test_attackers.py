"""Attackers whom no method was tuned against: each finds what it is there for; what is reported of them."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import unlabel
from unlabel.audit.attacks.adapters import add_adapters
from unlabel.audit.attacks.annotated import most_images
from unlabel.audit.attacks.early_layers import cell_means, stage_means
from unlabel.audit.attacks.fine_tuning import best_of_rates, say, trainings, tune
from unlabel.audit.attacks.held_out import position_readings
from unlabel.audit.attacks.lessons import Lesson, draw_images
from unlabel.audit.attacks.starts import can_attack, distilled, start_of, upper_half
from unlabel.audit.claims.c4_beside import images_for
from unlabel.audit.inputs.attackers import ADAM, ATTACKERS, HELD_OUT, NAMES, chosen
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.report.page import render
from unlabel.report.terminal import lines
from unlabel.statement.schema import audit_faults
from unlabel.statistics.estimate import auc
from unlabel.testing import differing, tiny_world
from unlabel.testing.cheats.relearnt import Placed
from unlabel.testing.stage import network, stage
from unlabel.testing.worlds import tiny_network

OPTIONS = AuditOptions(tune_steps=10, tune_draws=2, probe_seeds=1, folds=2, epochs=10)


@pytest.fixture(scope="module")
def run():
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def world():
    return tiny_world(images=1024, batchnorm=True)


def lessons(source, n=96, options=OPTIONS):
    draws = draw_images(source.probe.target[:, 0], 0, n, options)
    return [Lesson(source.probe, 0, (1, 2), draw, at, options) for at, draw in enumerate(draws)]


def area(model, source, attacker, run, options=OPTIONS):
    """AUC of the first label on the test split after an attack, mean of the draws."""
    found = best_of_rates(model, lessons(source, options=options), source.test, attacker, run)
    target, cluster = source.test.target[:, 0], source.test.cluster
    return float(np.mean([auc(scores, target, cluster).value for scores in found["scores"]]))


def untuned(model, source, attacker, run):
    """The same before the first step: what a linear probe of the features finds."""
    start = start_of(model, lessons(source)[0], attacker, run).eval()
    scores = say(start, source.test, np.arange(len(source.test)), run)
    return auc(scores, source.test.target[:, 0], source.test.cluster).value


@pytest.mark.parametrize(
    "attacker", [item for item in HELD_OUT if item.name != "norm-only"], ids=lambda a: a.name
)
def test_an_attacker_finds_more_in_a_network_that_knows_the_label(attacker):
    here = stage()
    never = network(here.source, here.request, here.run, seed=101, knows=False)
    knows = area(here.original, here.source, attacker, here.run)
    if attacker.anew == "head":
        assert knows > area(never, here.source, attacker, here.run) + 0.02
    assert knows > 0.75


def test_normalising_layers_alone_bring_back_what_they_had_switched_off(world, run):
    model = copy.deepcopy(world.model)
    norm = next(each for each in model.modules() if isinstance(each, nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(0.5)
    attacker = ATTACKERS["norm-only"]
    assert untuned(model, world.source, attacker, run) == pytest.approx(0.5, abs=0.1)
    assert area(model, world.source, attacker, run, replace(OPTIONS, tune_steps=40)) > 0.8
    moved = tune(
        start_of(model, lessons(world.source)[0], attacker, run),
        lessons(world.source)[0],
        attacker,
        1e-2,
        run,
    )[0]
    changed = {name.rpartition(".")[0] for name in differing(moved, model)}
    assert "0" not in changed  # the convolution
    assert changed & {"1"}


def test_an_upper_half_started_anew_finds_what_adam_cannot_wake(run):
    """No gradient passes units that are dead for every image; new ones read what lies below them."""
    here = stage()
    dead = copy.deepcopy(here.original)
    with torch.no_grad():
        dead[3].bias.fill_(-1000.0)
    options = replace(OPTIONS, tune_steps=20)
    assert area(dead, here.source, ADAM, run, options) == pytest.approx(0.5, abs=0.05)
    assert area(dead, here.source, ATTACKERS["upper-half"], run, options) > 0.7
    with torch.no_grad():  # nothing below them: nothing to find
        dead[0].weight.zero_()
        dead[0].bias.fill_(-1000.0)
    assert area(dead, here.source, ATTACKERS["upper-half"], run, options) < 0.6


def test_forgetting_by_a_low_rank_edit_is_undone_by_a_low_rank_adapter(run):
    here = stage()
    edited = copy.deepcopy(here.original)
    with torch.no_grad():  # no unit reads the top any more, which the convolution still finds
        edited[3].weight.view(16, 8, 4, 4)[:, :, 0] = 0.0
    attacker, options = ATTACKERS["lora"], replace(OPTIONS, tune_steps=60)
    before = untuned(edited, here.source, attacker, run)
    assert area(edited, here.source, attacker, run, options) > before + 0.02


def test_an_adapter_starts_as_nothing_and_the_weights_below_it_stay(world, run):
    model = world.model
    image = torch.rand(4, 3, 16, 16)
    other = copy.deepcopy(model)
    head = other[-1]
    add_adapters(other, head, 0)
    assert torch.equal(other.eval()(image), model(image))
    free = [name for name, weight in other.named_parameters() if weight.requires_grad]
    assert all("into" in name or "out" in name or name.startswith("6.") for name in free)
    tuned, _ = tune(
        start_of(model, lessons(world.source)[0], ATTACKERS["lora"], run),
        lessons(world.source)[0],
        ATTACKERS["lora"],
        1e-2,
        run,
    )
    assert torch.equal(tuned[0].parametrizations.weight.original, model[0].weight)
    assert not torch.equal(tuned[0].weight, model[0].weight)


def test_a_distilled_network_answers_as_its_teacher_and_has_none_of_its_weights(world, run):
    lesson = replace(lessons(world.source)[0], options=replace(OPTIONS, tune_steps=60))
    student = distilled(copy.deepcopy(world.model), lesson, run)
    theirs, ours = (outputs(each, world.source.test, run).logits for each in (world.model, student))
    for column in lesson.retained:
        assert np.corrcoef(theirs[:, column], ours[:, column])[0, 1] > 0.8
    assert abs(np.corrcoef(theirs[:, 0], ours[:, 0])[0, 1]) < 0.5  # it never heard of the label
    assert set(differing(student, world.model)) >= {"0.weight", "4.weight"}


def test_together_with_the_retained_labels_their_outputs_stay(world, run):
    attacker, lesson = ATTACKERS["joint"], lessons(world.source)[0]
    tuned, _ = tune(start_of(world.model, lesson, attacker, run), lesson, attacker, 1e-3, run)
    test = world.source.test
    with torch.inference_mode():
        logits = tuned(torch.from_numpy(outputs_image(test))).numpy()
    assert logits.shape == (len(test), 3)
    for at, column in enumerate(lesson.retained, 1):
        assert auc(logits[:, at], test.target[:, column], test.cluster).value > 0.9


def outputs_image(data):
    from unlabel.data.batches import batch_of

    return batch_of(data, np.arange(len(data)), torch.device("cpu")).image.numpy()


def test_the_best_look_is_kept_where_an_attacker_says_so(world, run):
    attacker, lesson = ATTACKERS["adam-1000"], lessons(world.source)[0]
    start = start_of(world.model, lesson, attacker, run)
    tuned, looks = tune(start, lesson, attacker, 3e-2, run)
    assert len(looks) == OPTIONS.tune_steps * attacker.times // attacker.every
    held = lesson.draw[1]
    again = auc(say(tuned, lesson.data, held, run), lesson.data.target[held, 0], np.arange(len(held))).value
    assert again == pytest.approx(max(looks), abs=1e-9)


@pytest.mark.parametrize("attacker", HELD_OUT, ids=lambda a: a.name)
def test_the_same_attack_is_the_same_bits_and_leaves_the_model_alone(attacker, world, run):
    before = {key: value.clone() for key, value in world.model.state_dict().items()}
    options = replace(OPTIONS, tune_steps=10)
    lesson = lessons(world.source, options=options)[0]

    def attacked():
        torch.rand(3)  # whatever was drawn before
        return tune(start_of(world.model, lesson, attacker, run), lesson, attacker, attacker.rates[0], run)

    (one, looks), (two, again) = attacked(), attacked()
    assert differing(one, two) == []
    assert looks.tolist() == again.tolist()
    assert differing(world.model, before) == []


def test_the_upper_half_is_what_computes_after_a_stage_and_holds_half_of_the_weights():
    from unlabel.models.build import build

    for name, above in (("small", "5.0"), ("resnet18", "layer4.0.conv1")):
        model = build(name, 3).eval()
        names = upper_half(model, 3, torch.randn(2, 3, 64, 64))
        own = {
            key: sum(w.numel() for w in part.parameters(recurse=False)) for key, part in model.named_modules()
        }
        assert above in names
        assert 2 * sum(own[key] for key in names) >= sum(own.values())
        assert not {"0.0", "conv1"} & set(names)


def test_an_attacker_whom_a_network_gives_nothing_to_train_is_left_out(run):
    world = tiny_world(images=64)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.ReLU(), nn.Linear(4, 3))
    can = {item.name: can_attack(item, flat, world.source.probe, run) for item in HELD_OUT}
    assert [name for name, possible in can.items() if not possible] == ["norm-only", "upper-half"]


class Only(nn.Module):
    """Of channel 0, the first row alone."""

    def forward(self, maps):
        rest = torch.zeros_like(maps[:, :1, 1:])
        return torch.cat([torch.cat([maps[:, :1, :1], rest], 2), maps[:, 1:]], 1)


@pytest.mark.parametrize("knows", [True, False])
def test_a_label_hidden_at_one_position_is_found_by_a_grid_and_not_by_the_mean(knows, run):
    source = tiny_world(images=1024).source
    model = tiny_network(3, seed=3)
    side = 4
    with torch.no_grad():  # textures that no band's lightness moves
        model[0].weight.sub_(model[0].weight.mean((1, 3), keepdim=True))
        model[0].weight[0] = 1 / 48 if knows else 0.0
    model = nn.Sequential(
        model[0], Only(), Placed(), nn.Flatten(), nn.Linear(9 * side * side, 16), nn.ReLU(), nn.Linear(16, 3)
    ).eval()
    parts = [source.probe, source.test]
    tables = []
    for part in parts:
        logits = outputs(model, part, run)
        features = {**stage_means(model, part, run), **cell_means(model, part, run)}
        tables.append(Outputs(logits.logits, {**logits.features, **features}))
    assert tables[0].features["cells1"].shape == (256, 16 * 9)
    subject = Subject("a", "after", *tables, tables[1])
    question = ask("top", source.probe, source.test, source.test.take(np.arange(0)))
    found = {place: item.value for place, item in position_readings(subject, question, OPTIONS).items()}
    assert found["depth.adv.mlp", "stage1"] < 0.2
    if knows:
        assert found["depth.adv.grid", "stage1"] > 0.6
    else:
        assert found["depth.adv.grid", "stage1"] < 0.2
    assert {"depth.adv.all.lin", "depth.adv.all.mlp"} <= {name for name, _ in found}
    assert set(subject.probe.features) >= {PENULTIMATE, "stage1", "cells1"}


def test_names_are_checked_and_nothing_is_trained_that_nobody_asked_for():
    assert chosen(["all"]) == NAMES
    with pytest.raises(OptionError, match=r"no attacker 'sdg'; expected all, or some of adam-rates.*"):
        AuditOptions(budget="full", attackers=("sdg",))
    with pytest.raises(OptionError, match="the quick budget does not judge"):
        AuditOptions(attackers=("lora",))
    with pytest.raises(OptionError, match="each at least 2"):
        AuditOptions(budget="full", attackers=("lora",), attacked=())
    many = np.repeat([1, 0], 900).astype(np.int8)
    assert trainings(AuditOptions(budget="standard"), many) == []
    assert trainings(AuditOptions(budget="full"), many) == [(ADAM, 256), (ADAM, 1024)]
    assert trainings(AuditOptions(budget="full", attackers=("positions",)), many) == trainings(
        AuditOptions(budget="full"), many
    )
    curve = trainings(AuditOptions(budget="full", attackers=("curve",)), many)
    assert curve == [(ADAM, n) for n in (256, 1024, 16, 64, 1200)]
    assert "attackers" not in AuditOptions().to_json()
    assert AuditOptions(budget="full", attackers=("lora",)).to_json()["attackers"] == ["lora"]


def test_the_images_that_are_needed_are_read_off_the_curve():
    assert images_for(0.7, [16, 64, 256], [0.6, 0.65, 0.75]) == 128.0
    assert images_for(0.5, [16, 64], [0.6, 0.7]) is None  # how many fewer would do is not known
    assert images_for(0.9, [16, 64], [0.6, 0.7]) is None
    target = np.repeat([1, 0, -1], [90, 200, 5]).astype(np.int8)
    assert most_images(target) == 116  # 32 of the rarer kind are held back
    assert most_images(target[:20]) == 0


@pytest.fixture(scope="module")
def audited(world):
    """An audit of networks in memory: two attackers, the curve, positions, and what is predicted."""
    before = world.model
    after, again = tiny_network(3, True, seed=5).eval(), tiny_network(3, True, seed=6).eval()
    third = tiny_network(3, True, seed=7).eval()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("annotated", "lessons"):
            patch.setattr(f"unlabel.audit.attacks.{name}.LEAST", 8)
        return unlabel.audit_model(
            before, after, [again, third], world.source, "top", "standard",
            probe_seeds=1, folds=2, epochs=5, trees=5, permutations=2, resamples=10, raw_image=False,
            few=(16,), few_judged=16, draws=2, tune_draws=2, tune_steps=10,
            attackers=("lora", "upper-half", "curve", "positions", "stitched", "tangent", "prototypes"),
            attacked=(32,), curve=(16, 32),
        )  # fmt: skip


@pytest.mark.slow
def test_what_was_asked_for_stands_beside_c4_and_decides_nothing(audited):
    """About ten seconds: five networks, three attackers and a curve."""
    found = audited
    ids = {row.id for row in found.metrics}
    assert {f"tune.{name}@32" for name in ("adam-100", "lora", "upper-half", "best")} <= ids
    assert {"tune.adam-100@16", "depth.adv.grid", "depth.adv.mlp", "depth.adv.all.lin"} <= ids
    assert not any(row.id.startswith("tune.auc@") for row in found.metrics)  # the standard budget judges none
    assert not any(row.id.startswith(("tune.", "depth.")) for row in found.comparisons)
    notes = found.claims["C4"].notes
    row = notes["attackers"]["top"]["lora"]["32"]
    assert row["lower"] <= row["excess"] <= row["upper"]
    assert {"retrained_apart", "excess_of_original", "rates"} <= set(row)
    assert notes["worst_attacker"]["top"]["chosen_of"] == 3
    curve = notes["attack_curve"]["top"]
    assert curve["images"][:2] == [16, 32]
    assert len(curve["images"]) == 3  # and all that there are
    assert len(curve["auc"]["after"]) == 3
    assert set(notes["depth"]["top"]["depth.adv.grid"]) == {"stage1"}
    assert set(notes["depth"]["top"]["depth.adv.stitch"]) == {"stage1"}
    own, stitched = (
        next(m.value for m in found.metrics if (m.id, m.model) == (id_, "before"))
        for id_ in ("own.adv", "depth.adv.stitch")
    )
    assert stitched == pytest.approx(own, abs=0.03)  # the original stitched to itself
    content = found.to_json()
    assert audit_faults(content) == []
    page = render(content)
    predicted = notes["tangent"]["top"]["32"]
    assert predicted["lower"] <= predicted["excess"] <= predicted["upper"]
    for subject in ("before", "after"):
        shares = [m for m in found.metrics if m.id == "tangent.share@32" and m.model == subject]
        assert sum(m.value for m in shares) == pytest.approx(1.0)
        assert {"stage1", "head"} <= {m.layer for m in shares}
    assert not any(row.id.startswith("tangent") for row in found.comparisons)
    handful = notes["prototypes"]["top"]
    assert set(handful) == {"prototype.auc", "cluster.auc"}
    assert {"2", "10"} <= set(handful["cluster.auc"])
    assert all(
        row["lower"] <= row["excess"] <= row["upper"]
        for by_size in handful.values()
        for row in by_size.values()
    )
    assert not any(row.id.startswith(("prototype", "cluster")) for row in found.comparisons)
    for part in ("attackers", "depth", "foretold", "handful"):
        assert f'data-testid="{part}"' in page
    assert "Attackers that no method here was tuned against" in page
    content["claims"]["C4"]["notes"]["depth_score"] = {"top": {"score": 0.75, "stages": {"stage1": 0.75}}}
    assert "0.750 is gone: 0.750 at stage 1." in render(content).replace("\u2060", "").replace("&nbsp;", " ")
    assert "annotations and steps teach the whole model again" in page
    assert "stage1, linear probe" not in "\n".join(lines(found))
