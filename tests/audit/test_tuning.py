"""Whole models trained on few annotated images, and earlier stages: what is measured, and how."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.audit.attacks.early_layers import stage_means, with_early_layers
from unlabel.audit.attacks.few_shot import Relearnt, faster
from unlabel.audit.attacks.fine_tuning import best_of_rates, say, tune, tune_all, tuned
from unlabel.audit.attacks.lessons import BATCH, Lesson, batch_at, draw_images
from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.audit.attacks.starts import renewed, replace_head
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Subject
from unlabel.core import engine
from unlabel.core.errors import ModelError
from unlabel.core.request import Request
from unlabel.models.build import build
from unlabel.models.eraser import Erase, eraser_of, insert_eraser
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded
from unlabel.runs.origin import Record
from unlabel.statistics.estimate import auc
from unlabel.testing import differing, tiny_world
from unlabel.testing.stage import network, stage
from unlabel.testing.worlds import SIZE

OPTIONS = AuditOptions(
    probe_seeds=1, epochs=15, trees=40, permutations=10, resamples=100, raw_image=False, draws=10,
    budget="full", few=(16, 64), tune=(128,), tune_draws=2, tune_steps=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def run():
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def world():
    return tiny_world(images=256, batchnorm=True)


@pytest.fixture
def sets(world):
    return Sets(world.source.probe, world.source.test, world.source.train, "tiny", 0)


def loaded(model, labels, tmp_path, name="model"):
    half = (0.5, 0.5, 0.5)
    config = Config("small", "imagenet", tuple(labels), (), SIZE, half, (0.25, 0.25, 0.25), half)
    return Loaded(tmp_path / name, model, config, Record(), name)


def test_a_stage_ends_with_its_last_output_of_that_size(world, run):
    model, test = world.model, world.source.test
    seen = []
    handle = model[2].register_forward_hook(lambda module, inputs, out: seen.append(out.mean((2, 3))))
    outputs(model, test, run)
    handle.remove()
    means = stage_means(model, test, run)
    assert list(means) == ["stage1"]  # convolution, BatchNorm and ReLU are of one size
    assert means["stage1"] == pytest.approx(torch.cat(seen).numpy(), abs=1e-6)


@pytest.mark.parametrize(("name", "channels"), [("small", [24, 48, 96]), ("resnet18", [64, 128, 256])])
def test_the_stages_of_a_network_are_those_before_the_heads_input(world, sets, run, tmp_path, name, channels):
    model = build(name, 3).eval()
    data = replace(world.source.test, pixels=np.repeat(np.repeat(world.source.test.pixels, 4, 1), 4, 2))
    wide = Sets(data.take(np.arange(40)), data.take(np.arange(40, 64)), data, f"wide-{name}", 0)
    subject = Subject(
        "a", "after", *(outputs(model, part, run) for part in (wide.probe, wide.test, wide.train))
    )
    (found,) = with_early_layers([loaded(model, world.labels, tmp_path, name)], [subject], wide, run)
    widths = {layer: table.shape[1] for layer, table in found.test.features.items() if layer != "penultimate"}
    assert list(widths.values()) == channels
    assert all(len(table) == 40 for table in found.probe.features.values())


def test_what_stands_between_the_last_stage_and_the_head_is_read_before_it_too(world, run, tmp_path):
    model = build("small", 3).eval()
    other = build("small", 3).eval()
    insert_eraser(other, 3, Erase(torch.eye(128)[:, :5], torch.eye(128)[:5], torch.zeros(5)))
    data = world.source.test
    sets = Sets(data.take(np.arange(40)), data.take(np.arange(40, 64)), data, "between", 0)

    def stages(models):
        items = [loaded(item, world.labels, tmp_path, f"{at}-{id(item)}") for at, item in enumerate(models)]
        parts = (sets.probe, sets.test, sets.train)
        subjects = [
            Subject(str(i), "after", *(outputs(m, p, run) for p in parts)) for i, m in enumerate(models)
        ]
        return [list(item.test.features)[1:] for item in with_early_layers(items, subjects, sets, run)]

    plain, erased = stages([model]), stages([model, other])
    assert plain[0][-1] != erased[0][-1]
    assert erased[0] == erased[1]


def test_a_network_that_holds_no_pictures_has_no_stages(world, run):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE * 3, 4), nn.ReLU(), nn.Linear(4, 3))
    assert stage_means(flat, world.source.test, run) == {}


def test_a_transformer_is_read_between_its_blocks(world, run):
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(SIZE, SIZE // 4, 4, 2, 16, 32, num_classes=3).eval()
    means = stage_means(model, world.source.test, run)
    assert {name: table.shape[1] for name, table in means.items()} == {f"stage{at}": 16 for at in range(1, 5)}
    blocks = list(model.encoder.layers)
    seen = []
    handle = blocks[1].register_forward_hook(lambda module, inputs, out: seen.append(out.mean(1)))
    outputs(model, world.source.test, run)
    handle.remove()
    assert means["stage2"] == pytest.approx(torch.cat(seen).numpy(), abs=1e-6)


def test_a_new_head_is_the_probe_of_its_images_and_everything_can_move(world, run):
    model = build("small", 3).eval()
    insert_eraser(model, 3, Erase(torch.eye(128)[:, :5], torch.eye(128)[:5], torch.zeros(5)))
    model.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    probe, rows = world.source.probe, np.arange(40)
    other = renewed(model, probe, 0, rows, run)
    assert all(parameter.requires_grad for parameter in other.parameters())
    assert eraser_of(other) is None  # the attacker drops what stood before the head
    assert differing(model, before) == []
    plain = build("small", 3).eval()  # no eraser: what the new head reads
    with_none = say(renewed(plain, probe, 0, rows, run).eval(), probe, rows, run)
    seen = outputs(plain, probe.take(rows), run).features["penultimate"]
    standard = Standard.of(seen)
    expected = fit_logistic(standard(seen), probe.target[rows, 0] == 1).decision_function(standard(seen))
    assert with_none == pytest.approx(expected, abs=1e-3)


def test_a_head_is_found_where_no_feature_varies(world, run):
    model = build("small", 3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    other = renewed(model, world.source.probe, 0, np.arange(40), run).eval()
    assert np.ptp(say(other, world.source.probe, np.arange(40), run)) == 0.0


def test_every_image_is_shown_equally_often_in_full_batches():
    parts = [batch_at(step, 96, 0, 3) for step in range(30)]
    assert {len(positions) for positions, _ in parts} == {BATCH}
    shown = np.bincount(np.concatenate([positions for positions, _ in parts]))
    assert set(shown) == {20}  # 30 batches of 64 are 20 passes over 96
    assert set(np.concatenate([epoch for _, epoch in parts])) == set(range(20))
    assert not np.array_equal(parts[0][0], batch_at(0, 96, 1, 3)[0])


def test_training_again_is_the_same_bits_and_leaves_model_and_random_state_alone(world, run):
    model = nn.Sequential(*list(world.model)[:5], nn.Dropout(0.5), *list(world.model)[5:]).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    probe, draw = world.source.probe, (np.arange(40), np.arange(40, 64))
    start = renewed(model, probe, 0, draw[0], run)
    state = torch.random.get_rng_state()

    def trained(number):
        torch.rand(3)  # whatever was drawn before
        return tune(start, Lesson(probe, 0, (1, 2), draw, number, OPTIONS), ADAM, 1e-3, run)

    (one, curve), (two, again) = trained(0), trained(0)
    assert differing(one, two) == []
    assert curve.tolist() == again.tolist()
    assert len(curve) == 2  # after 10 and 20 steps
    assert differing(one, trained(1)[0]) != []
    assert differing(model, before) == []
    torch.random.set_rng_state(state)
    renewed(model, probe, 0, draw[0], run)
    tune(start, Lesson(probe, 0, (1, 2), draw, 0, OPTIONS), ADAM, 1e-3, run)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_to_train_on_are_balanced_and_none_of_them_chooses(world):
    target = tiny_world(images=2048).source.probe.target[:, 0]
    for rows, held in draw_images(target, 0, 128, OPTIONS):
        assert (len(rows), int(target[rows].sum())) == (128, 64)
        assert len(held) == len(target) - 128
        assert not set(rows) & set(held)
    assert draw_images(target, 0, 480, OPTIONS) == []  # too few are left to choose by
    unknown = np.where(np.arange(len(target)) % 3 == 0, -1, target)
    for rows, held in draw_images(unknown, 0, 64, OPTIONS):
        assert (unknown[np.concatenate([rows, held])] >= 0).all()


def lessons(data, draws):
    """What an attacker gets of each draw, to learn the first label from."""
    return [Lesson(data, 0, (1, 2), draw, number, OPTIONS) for number, draw in enumerate(draws)]


@pytest.fixture(scope="module")
def relearnt():
    """The original and two networks that never saw the label, each trained on 128 annotated images: 8 s."""
    here = stage()
    probe, test = here.source.probe, here.source.test
    draws = draw_images(probe.target[:, 0], 0, 128, OPTIONS)
    others = [network(here.source, here.request, here.run, seed=101 + k, knows=False) for k in range(2)]
    models = (here.original, *others)
    return here, draws, [best_of_rates(item, lessons(probe, draws), test, ADAM, here.run) for item in models]


def test_a_network_that_knows_the_label_relearns_it_better(relearnt):
    here, _, found = relearnt
    target, cluster = here.source.test.target[:, 0], here.source.test.cluster
    known, *others = [
        Relearnt(areas[0], tuple(area.value for area in areas))
        for item in found
        for areas in [[auc(scores, target, cluster) for scores in item["scores"]]]
    ]
    assert known.mean.value > 0.8
    for other in others:  # one by one: two seeds do not know their spread
        excess = faster(known, [other])
        assert excess.lower() > 0
        assert 0 < excess.draws <= excess.fixed
    assert faster(known, others).value > OPTIONS.d_few


def test_a_feature_too_small_for_float32_does_not_blind_the_attack_on_the_whole_model(relearnt):
    """A weight of 1e41 is infinite in float32; every training was NaN, and read as chance."""
    here, draws, _ = relearnt
    model = copy.deepcopy(here.original)
    _, head = find_head(model, 3)
    layer = nn.Linear(head.in_features, head.in_features)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(head.in_features))
        layer.weight[0] *= 1e-41
        layer.bias.zero_()
    replace_head(model, 3, nn.Sequential(layer, copy.deepcopy(head)))  # type: ignore[arg-type]
    probe, test = here.source.probe, here.source.test
    again = best_of_rates(model, lessons(probe, draws), test, ADAM, here.run)
    areas = [auc(scores, test.target[:, 0], test.cluster).value for scores in again["scores"]]
    assert min(areas) > 0.7


def test_a_model_that_breaks_at_every_rate_is_an_error_and_no_chance(relearnt, monkeypatch):
    here, draws, _ = relearnt
    monkeypatch.setattr("unlabel.audit.attacks.fine_tuning.say", lambda *_: np.full(len(_[2]), np.nan))
    with pytest.raises(ModelError, match="ended in NaN or infinite outputs at every rate"):
        best_of_rates(here.original, lessons(here.source.probe, draws[:1]), here.source.test, ADAM, here.run)


def test_the_rate_is_chosen_on_images_of_p_and_never_on_those_of_e(relearnt):
    here, draws, found = relearnt
    test = replace(here.source.test, target=1 - here.source.test.target)
    again = best_of_rates(here.original, lessons(here.source.probe, draws), test, ADAM, here.run)
    assert all(np.array_equal(again[name], found[0][name]) for name in again)
    probe, held = here.source.probe, draws[0][1]
    turned = replace(probe, target=probe.target.copy())
    turned.target[np.setdiff1d(held, np.concatenate([rows for rows, _ in draws]))] ^= 1
    other = best_of_rates(here.original, lessons(turned, draws), test, ADAM, here.run)
    assert other["curve"].tolist() != found[0]["curve"].tolist()


@pytest.mark.parametrize("keeps", ["last", "best"])
def test_further_draws_are_trained_at_the_rate_that_the_first_ones_chose(
    world, sets, run, tmp_path, monkeypatch, keeps
):
    for name in ("annotated", "lessons"):
        monkeypatch.setattr(f"unlabel.audit.attacks.{name}.LEAST", 8)
    item, request = loaded(world.model, world.labels, tmp_path), Request.make(["top"], world.labels)
    attacker = replace(
        ADAM, keeps=keeps, name=f"adam-{keeps}", rates=(0.1, 0.3)
    )  # the last look is not the best
    noise = np.random.default_rng(0).integers(0, 2, sets.probe.target.shape).astype(np.int8)
    sets = replace(sets, probe=replace(sets.probe, target=noise))  # so the best look is rarely the last
    fewer = replace(OPTIONS, tune_steps=30, tune_draws=2)
    more = replace(fewer, tune_draws=4, rated_draws=2)

    def found(options):
        return tuned(item, "top", 24, attacker, sets, request, options, run)

    first, all_ = found(fewer), found(more)
    assert (all_.rate, all_.curve.tolist()) == (first.rate, first.curve.tolist())
    assert np.array_equal(all_.scores[:2], first.scores)
    draws = draw_images(sets.probe.target[:, 0], 0, 24, more)
    given = [Lesson(sets.probe, 0, (1, 2), draw, number, more) for number, draw in enumerate(draws)][2:]
    alone = replace(attacker, rates=(first.rate,))
    assert np.array_equal(all_.scores[2:], best_of_rates(item.model, given, sets.test, alone, run)["scores"])


def test_every_model_label_and_size_is_trained_once_and_kept(world, sets, run, tmp_path, monkeypatch):
    items = [loaded(world.model, world.labels, tmp_path, name) for name in ("one", "two")]
    request = Request.make(["top", "bottom"], world.labels)
    options = replace(OPTIONS, tune=(8, 60), tune_steps=10, tune_draws=2, rated_draws=1)
    for name in ("annotated", "lessons"):
        monkeypatch.setattr(f"unlabel.audit.attacks.{name}.LEAST", 8)
    found = tune_all(items, sets, request, options, run)
    assert [(item.run, item.label, item.images) for item in found] == [
        (str(item.path), label, 8) for item in items for label in ("top", "bottom")
    ]  # 60 of 64 would leave too few
    assert found[0].scores.shape == (2, len(sets.test))
    assert found[0].rate in (1e-4, 1e-3, 1e-2)
    for name in ("best_of_rates", "at_rate"):  # everything is read back
        monkeypatch.setattr(f"unlabel.audit.attacks.fine_tuning.{name}", pytest.fail)
    again = tune_all(items, sets, request, options, run)
    assert all(np.array_equal(one.scores, two.scores) for one, two in zip(found, again, strict=True))
