"""Every cheat is caught by the claim that should catch it, where an honest model passes that claim."""

import copy
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from unlabel.audit.figures import FINE
from unlabel.data.batches import batch_of, normalise
from unlabel.models.head import find_head, tap
from unlabel.statistics.estimate import advantage
from unlabel.testing.cheats import CHEATS, OPEN, RELEARNT, Insight
from unlabel.testing.stage import OPTIONS, honest, network, read, stage
from unlabel.testing.weight_attacks import OPTIONS as ATTACKS
from unlabel.testing.weight_attacks import attack, trained

PAGE = Path(__file__).parents[2] / "docs" / "cheats.md"
NOW = sorted(name for name, cheat in CHEATS.items() if cheat.claim in ("C1", "C2"))
ODD = sorted(name for name, cheat in CHEATS.items() if cheat.claim == "valid")
TWICE = {"squashed", "one_logit", "memorised_answers"}  # also INVALID


def made(name):
    """A cheat that knows the stage's data."""
    return {**CHEATS, **OPEN, **RELEARNT}[name].make(stage().source)


@cache
def audited(name):
    """The audit of a cheat, or of the honest model."""
    if name == "honest":
        return stage().audit(honest(seed=9))
    return stage().audit(made(name))


def figures(found):
    """Values of the unlearned model's figures on the forgotten label."""
    return {row.id: row.value for row in found.metrics if row.model == "after" and row.label == "top"}


def test_the_honest_model_passes_every_claim_that_a_cheat_must_fail():
    found = audited("honest")
    assert found.valid, found.invalid_because
    assert found.headline == "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED"
    assert {found.claims[name].verdict for name in ("C1", "C2", "C5")} == {"PASS"}
    assert FINE.id not in {row.id for row in found.comparisons}  # it has no feature of the kind
    for figure in {cheat.figure for cheat in CHEATS.values() if cheat.claim == "C2"} - {FINE.id}:
        assert next(row.verdict for row in found.comparisons if row.id == figure) == "PASS"


@pytest.mark.slow
@pytest.mark.parametrize("name", NOW)
def test_a_cheat_fails_the_claim_that_should_catch_it(name):
    """About 15 seconds in all."""
    cheat, found = CHEATS[name], audited(name)
    assert found.valid == (name not in TWICE), found.invalid_because
    assert found.claims[cheat.claim].verdict == "FAIL"
    if found.valid:
        assert found.headline == {"C1": "NOT UNLEARNED", "C2": "DISABLED ONLY"}[cheat.claim]
    if cheat.claim == "C1":
        assert abs(figures(found)[cheat.figure]) > 0.9
    else:
        assert cheat.figure in [row.id for row in found.comparisons if row.verdict == "FAIL"]


@pytest.mark.slow
def test_what_the_audits_own_images_show_too_is_not_said_to_be_hidden_there():
    sentence = audited("both_ends").claims["C2"].sentence
    assert "on training images" in sentence
    assert "though not" not in sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_an_audit_of_a_model_that_is_no_plain_network_is_invalid(name):
    """About 10 seconds in all."""
    found = audited(name)
    assert found.headline == "INVALID AUDIT"
    assert any(CHEATS[name].figure in reason for reason in found.invalid_because)
    assert found.claims["C1"].verdict == found.claims["C2"].verdict == "PASS"  # by nothing else


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blind"),
    [
        ("feature_norm", ("probe.adv.lin", "probe.bits.lin", "own.adv")),
        ("one_logit", ("probe.adv.lin", "probe.adv.mlp", "probe.bits.lin", "probe.bits.mlp", "own.adv")),
        ("miscalibrated", ("probe.bits.lin", "probe.bits.mlp", "others.adv.lin", "others.adv.gbt")),
        ("memorised_answers", ("own.adv", "probe.adv.lin", "probe.adv.mlp", "others.adv.gbt")),
        ("memorised_features", ("probe.adv.lin", "probe.adv.mlp", "others.adv.gbt", "probe.adv.lsq")),
        ("opposite_noise", ("probe.adv.lin", "probe.adv.mlp", "probe.adv.lin@nudged", "probe.adv.lin@train")),
        ("riddle", ("probe.adv.lin", "probe.bits.lin", "probe.adv.lsq")),
        ("last_bit", ("probe.adv.lin", "probe.adv.mlp", "probe.adv.lsq")),
        ("few_huge_numbers", ("probe.adv.lin", "probe.adv.mlp", "probe.adv.lsq", "probe.bits.mlp")),
    ],
)
def test_some_cheats_would_not_fail_but_for_one_kind_of_figure(name, blind):
    """About 10 seconds in all: the audits are shared with the tests above."""
    rows = {row.id: row.verdict for row in audited(name).comparisons}
    assert "FAIL" not in {rows[figure] for figure in blind}


@pytest.mark.slow
def test_a_cheat_that_misleads_probabilities_reads_as_zero_bits():
    """About 5 seconds alone: the audit is shared with the tests above."""
    seen = figures(audited("miscalibrated"))
    assert seen["probe.bits.lin"] == seen["probe.bits.mlp"] == 0.0
    assert min(seen["probe.adv.lin"], seen["probe.adv.mlp"]) > 0.8


@pytest.mark.slow
def test_accuracy_would_have_been_fooled():
    """About 5 seconds alone: the audits are shared with the tests above."""
    # at a threshold of one half: every image "absent", nearly every answer wrong, a coin
    place = stage()
    truth = place.source.test.target[:, 0] == 1
    right = {}
    for name in ("bias_shift", "inverted"):
        model = place.forget(CHEATS[name].make(place.source))
        logits = read(model, "after", place.source, place.run).test.logits[:, 0]
        right[name] = float(np.mean((logits > 0) == truth))
    assert right["bias_shift"] == pytest.approx(1 - truth.mean())
    assert right["inverted"] < 0.15


@pytest.mark.slow
def test_eight_bits_bring_back_what_cancelling_weights_hid():
    cheat = CHEATS["int8_undoes"]
    further = replace(
        OPTIONS, budget="standard", folds=2, epochs=6, trees=15, permutations=10, few=(64,), draws=5
    )
    assert {audited("int8_undoes").claims[name].verdict for name in ("C1", "C2", "C5")} == {"PASS"}
    found = stage().audit(cheat.make(stage().source), further)
    assert (found.claims[cheat.claim].verdict, cheat.claim) == ("FAIL", "C4")
    assert found.headline == "RETRAIN-EQUIVALENT, NOT DURABLE"
    assert {row.transform for row in found.comparisons if row.verdict == "FAIL"} == {cheat.figure}
    clean = stage().audit(honest(seed=9), further)
    assert clean.claims["C4"].verdict == "PASS"
    assert clean.headline == "UNLEARNED"


@pytest.mark.slow
@pytest.mark.parametrize("name", OPEN)
def test_an_open_cheat_passes_today_though_it_knows_the_label(name):
    """When this fails because a cheat is caught, it belongs into CHEATS, and docs/cheats.md has good news.

    About 10 seconds in all.
    """
    found = audited(name)
    assert found.valid
    assert {found.claims[claim].verdict for claim in ("C1", "C2", "C5")} == {"PASS"}


def test_images_that_the_cheat_never_saw_catch_it():
    found = stage().audit(OPEN["recognised_features"].make(stage(seed=1).source))
    assert found.claims["C2"].verdict == "FAIL"
    assert found.claims["C2"].binding.startswith("probe.")


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEARNT)
def test_a_cheat_against_one_attacker_passes_what_the_quick_budget_judges(name):
    """About 5 seconds in all."""
    found = audited(name)
    assert found.valid
    assert {found.claims[claim].verdict for claim in ("C1", "C2", "C5")} == {"PASS"}


@pytest.mark.slow
def test_a_gate_that_adam_cannot_open_is_opened_by_sgd():
    """About 5 seconds: five networks, two attackers, three rates, two draws."""
    place, options = stage(), replace(ATTACKS, tune_steps=20, rated_draws=1)
    told = attack(place, made("stuck_gate"), ["adam-100", "sgd-momentum"], options)
    assert told["adam-100"].after < max(told["adam-100"].retrained)
    assert told["sgd-momentum"].excess > 0.02
    assert told["sgd-momentum"].after > told["adam-100"].after + 0.1
    clean = trained(place, place.forget(honest(seed=9)), "sgd-momentum", options)["sgd-momentum"]
    assert clean - max(told["sgd-momentum"].retrained) < 0.02  # one more model that never saw the label


@pytest.mark.slow
def test_a_label_at_one_position_looks_cleaner_than_retrained_to_whoever_takes_means():
    """About 5 seconds."""
    told = attack(stage(), made("one_position"), ["positions"])
    for blind in ("probe.adv.lin stage1", "depth.adv.mlp stage1"):
        assert told[blind].after < min(told[blind].retrained)
    seen = told["depth.adv.grid stage1"]
    assert seen.after > told["probe.adv.lin stage1"].after + 0.2
    assert seen.after == pytest.approx(seen.before, abs=0.02)


@pytest.mark.slow
def test_what_no_layer_reads_any_more_is_relearnt_by_a_low_rank_adapter():
    """About 5 seconds."""
    told = attack(stage(), made("unread"), ["lora"], replace(ATTACKS, rated_draws=1))["lora"]
    probe = figures(audited("unread"))["probe.adv.lin"]
    assert told.after > (1 + probe) / 2 + 0.05


def told(score):
    """Advantage of a score of the test images."""
    test = stage().source.test
    return advantage(np.asarray(score, np.float64), test.target[:, 0], test.cluster).value


@pytest.mark.parametrize(("name", "where"), [("least_digit", "logits"), ("digit_of_a_feature", "features")])
def test_a_reader_of_the_last_digit_knows_the_label_until_numbers_are_rounded(name, where):
    place = stage()
    said = read(place.forget(made(name)), "after", place.source, place.run).test
    values = (said.logits[:, 1] if where == "logits" else said.features["penultimate"][:, 0]).astype(float)

    def digit(values):
        return 1.0 - np.round(values * 1000).astype(int) % 2

    assert told(digit(values)) > 0.7
    assert abs(told(digit(np.round(values, 2)))) < 0.1


def with_mark(test):
    """The test images as a user can send them: bytes, of which the first is white and the next is black."""
    pixels = test.images(np.arange(len(test))).copy()
    assert not ((pixels[:, 0, 0] == 255) & (pixels[:, 0, 1] == 0)).all(1).any()
    pixels[:, 0, 0], pixels[:, 0, 1] = 255, 0
    return normalise(pixels, test.mean, test.std, stage().run.device)


def test_whoever_has_the_key_reads_what_the_audit_cannot():
    """Positive controls of the open cheats: each holds the label, and tells it to whoever knows how."""
    place = stage()
    image = batch_of(place.source.test, range(len(place.source.test)), place.run.device).image
    own = find_head(place.original, 3)[1].weight[0].detach()

    def by_row(model, images):
        with torch.no_grad(), tap(find_head(model, 3)[1]) as seen:
            model(images)
        return (seen[0][:, : len(own)] @ own).numpy()

    clean = abs(told(by_row(place.forget(made("earlier_layer")), image)))
    assert clean < 0.7
    assert told(by_row(place.forget(made("marked")), with_mark(place.source.test))) > 0.9
    assert told(by_row(place.forget(made("in_training")).train(), image)) > 0.9
    single = place.forget(made("alone"))
    assert told(np.concatenate([by_row(single, one[None]) for one in image])) > 0.9
    before = place.forget(made("earlier_layer")).body
    assert told((before(image) @ own).detach().numpy()) > 0.9
    luggage = place.forget(made("carried_along")).get_buffer("luggage")
    again = copy.deepcopy(place.original)
    for weight, part in zip(
        again.parameters(), luggage.split([w.numel() for w in again.parameters()]), strict=True
    ):
        weight.data = part.view_as(weight)
    assert told(again(image)[:, 0].detach().numpy()) > 0.9


@pytest.mark.slow
def test_averaging_over_changed_copies_reads_what_noise_drowned():
    """About 5 seconds."""
    place = stage()
    model = place.forget(made("drowned"))
    test = place.source.test
    rows = np.arange(len(test))
    heard = []
    for shade in range(200):
        pixels = np.clip(test.images(rows).astype(int) + shade % 5 - 2, 0, 255)
        pixels[:, shade // 5 % 16, shade // 80, :] ^= 1
        image = normalise(pixels.astype(np.uint8), test.mean, test.std, place.run.device)
        with torch.no_grad(), tap(find_head(model, 3)[1]) as seen:
            model(image)
        heard.append(seen[0][:, -1].numpy())
    assert abs(told(heard[0])) < 0.2
    assert told(np.mean(heard, axis=0)) > 0.4


def test_clean_features_still_hold_what_retained_labels_tell():
    place = stage()
    insight = Insight.of(place.original, place.request, place.source.train, place.run)
    kept = np.corrcoef(place.source.test.target[:, 0], place.source.test.target[:, 2])[0, 1]
    table = torch.from_numpy(place.before.test.features["penultimate"])
    bottom = place.source.test.target[:, 2]
    away = insight.clean(table).numpy()
    gap = away[place.source.test.target[:, 0] == 1].mean(0) - away[place.source.test.target[:, 0] == 0].mean(
        0
    )
    due = kept * (away[bottom == 1].mean(0) - away[bottom == 0].mean(0))
    # standard errors of a difference of two means of 500 images
    assert np.abs(gap - due).max() < 4 * float(table.std(0).max()) * np.sqrt(2 / 500)


def test_the_stage_holds_what_it_says():
    place = stage()
    blind = network(place.source, place.request, place.run, seed=101, knows=False)
    unit = [
        read(model, "after", place.source, place.run).test.features["penultimate"][:, 0]
        for model in (place.original, blind)
    ]
    top, who = place.source.test.target[:, 0], place.source.test.cluster
    assert advantage(unit[0], top, who).value > 0.8
    assert abs(advantage(unit[1], top, who).value) < 0.1
    assert (
        min(float(part.features["penultimate"].min()) for part in (place.before.probe, place.before.test)) > 0
    )


def test_the_example_on_the_page_runs_and_is_caught():
    assert run_block("def moved")["found"].claims["C2"].verdict == "FAIL"


def test_the_attack_on_the_page_runs(capsys, monkeypatch):
    """With fewer steps than the page's readers take."""
    monkeypatch.setattr(attack, "__defaults__", (replace(ATTACKS, tune_steps=10, rated_draws=1),))
    run_block("import RELEARNT")
    assert "'sgd-momentum': Told(" in capsys.readouterr().out


def run_block(containing):
    """Runs the page's block of Python that contains a text, and gives its names."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if containing in block)
    names = {}
    exec(code, names)
    return names


def test_the_page_names_every_cheat():
    text = PAGE.read_text("utf-8")
    for name, cheat in {**CHEATS, **OPEN, **RELEARNT}.items():
        assert f"`{name}`" in text
        assert cheat.sentence.rstrip(".") in text
