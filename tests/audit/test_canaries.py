"""C6: planted annotations that a model remembers are told, and those it never saw are a coin's."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from unlabel.audit.attacks.canaries import (
    Guesses,
    attack_canaries,
    calibrated,
    canary_rows,
    epsilon,
    kept_for_test,
    told_at_mean,
    told_right,
)
from unlabel.audit.claims.c6_memorised import claim_canaries, how_to_plant, plantable, power
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.inputs.subject import Canaries
from unlabel.audit.reading.outputs import read_canaries
from unlabel.audit.references.full import make_references
from unlabel.audit.run.folders import audit_run
from unlabel.audit.run.networks import audit_model
from unlabel.audit.setup import open_case
from unlabel.core import engine
from unlabel.core.errors import DataError, ModelError, OptionError
from unlabel.core.recipe import Recipe
from unlabel.data import load
from unlabel.data.canaries import CanaryPlan, plant
from unlabel.forget.run import forget_run
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.runs.files import read_config, read_record
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of
from unlabel.statistics.estimate import clopper_pearson
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

OPTIONS = AuditOptions(budget="standard")
SMALL = AuditOptions(
    budget="standard", probe_seeds=1, epochs=5, trees=5, permutations=2, resamples=10, raw_image=False,
    few=(16,), few_judged=16, draws=2,
)  # fmt: skip


def test_exact_bounds_are_the_binomials():
    for hits, n in ((0, 20), (13, 20), (20, 20), (550, 1000)):
        low, high = clopper_pearson(hits, n)
        rng = np.random.default_rng(0)
        draws = 200_000  # a share of .05 is known to .0015
        if hits > 0:
            assert (rng.binomial(n, low, draws) >= hits).mean() == pytest.approx(0.05, abs=0.003)
        if hits < n:
            assert (rng.binomial(n, high, draws) <= hits).mean() == pytest.approx(0.05, abs=0.003)
    assert clopper_pearson(0, 20)[0] == 0.0
    assert clopper_pearson(20, 20)[1] == 1.0


def test_a_score_that_knows_nothing_of_the_coins_is_right_half_of_the_time():
    rng = np.random.default_rng(0)
    shares = []
    for seed in range(300):
        true = (rng.random(400) < 0.3).astype(np.int8)
        score = 3.0 * true + rng.normal(size=400)  # it sees the picture very well
        planted = (rng.random(400) < 0.5).astype(np.int8)
        shares.append(told_right(score, planted, true, kept_for_test(planted, 0, seed)) / 200)
    # 60,000 coins: three standard errors are 0.006
    assert abs(np.mean(shares) - 0.5) < 0.006
    assert np.std(shares) == pytest.approx(0.5 / 200**0.5, rel=0.15)


def test_what_the_picture_shows_does_not_hide_what_was_memorised():
    rng = np.random.default_rng(0)
    true, planted = ((rng.random(2000) < 0.5).astype(np.int8) for _ in range(2))
    score = 8.0 * true + 1.0 * planted + 0.3 * rng.normal(size=2000)
    right = told_right(score, planted, true, kept_for_test(planted, 0, 0)) / 1000
    assert right > 0.9
    assert told_right(-score, planted, true, kept_for_test(planted, 0, 0)) / 1000 > 0.9


def pictures(n, memory, seed):
    """What a picture scores by itself, in any model, hides a little memory. Coins, kinds and scores."""
    rng = np.random.default_rng(seed)
    true, planted = ((rng.random(n) < 0.5).astype(np.int8) for _ in range(2))
    own = 2.0 * true + rng.normal(size=n)
    score, *retrained = (own + 0.3 * rng.normal(size=n) for _ in range(4))
    return planted, true, score + memory * (2.0 * planted - 1), retrained


def test_a_calibrated_score_that_knows_nothing_of_the_coins_is_right_half_of_the_time():
    shares = []
    for seed in range(300):
        planted, true, score, retrained = pictures(400, 0.0, seed)
        shares.append(told_at_mean(calibrated(score, retrained), planted, true) / 400)
    # 120,000 coins: three standard errors are 0.0043
    assert abs(np.mean(shares) - 0.5) < 0.0043
    assert np.std(shares) == pytest.approx(0.5 / 400**0.5, rel=0.15)


def test_retrained_models_show_a_memory_that_what_pictures_score_hides():
    planted, true, score, retrained = pictures(2000, 0.25, 0)
    plain = told_right(score, planted, true, kept_for_test(planted, 0, 0)) / 1000
    assert plain < 0.65
    assert told_at_mean(calibrated(score, retrained), planted, true) / 2000 > 0.75


def test_a_calibrated_score_has_nothing_left_of_what_retrained_models_score():
    score, retrained = pictures(500, 0.1, 0)[2:]
    plain = np.mean([(each - each.mean()) / each.std() for each in retrained], axis=0)
    assert abs(calibrated(score, retrained) @ plain) < 1e-9
    assert calibrated(np.full(500, 3.0), retrained) == pytest.approx(np.zeros(500))
    assert calibrated(score, [np.full(500, 3.0)]) == pytest.approx((score - score.mean()) / score.std())


def test_half_of_the_canaries_are_kept():
    for n in (20, 21, 1000):
        assert int(kept_for_test(np.zeros(n, np.int8), 3, 0).sum()) == n // 2


def guess(hits, n=1000, attack="own", role="after"):
    return Guesses("Male", attack, SimpleNamespace(role=role, run=role), hits, n)


@pytest.mark.parametrize(
    ("own", "probe", "count", "verdict"),
    [
        (500, 510, 2000, "PASS"),
        (500, 700, 2000, "FAIL"),
        (600, 500, 2000, "FAIL"),
        (545, 500, 2000, "INCONCLUSIVE"),
        (500, 500, 900, "INCONCLUSIVE"),
        (900, 900, 900, "FAIL"),  # few canaries are enough to find a memory
    ],
)
def test_verdicts_follow_the_exact_bounds(own, probe, count, verdict):
    found = [guess(own), guess(probe, attack="probe"), guess(900, role="before")]
    claim = claim_canaries(found, {"Male": count}, ["Male"], OPTIONS)
    assert (claim.verdict, claim.per_label) == (verdict, {"Male": verdict})
    assert claim.notes["original_remembers"] == {"Male": True}


def test_a_fail_quotes_the_attack_that_decides_and_not_the_highest_share_of_a_few():
    found = [guess(31, 50), guess(1220, 2000, attack="probe"), guess(900, role="before")]
    claim = claim_canaries(found, {"Male": 2000}, ["Male"], OPTIONS)
    assert claim.verdict == "FAIL"
    assert "0.610 of 2,000 canaries" in claim.sentence


def test_without_canaries_there_is_no_verdict_and_one_label_does_not_speak_for_another():
    assert claim_canaries([], {}, ["Male"], OPTIONS).verdict == "NOT_EVALUATED"
    found = [guess(500), guess(500, attack="probe"), guess(500, role="before")]
    claim = claim_canaries(found, {"Male": 2000}, ["Male", "Bald"], OPTIONS)
    assert claim.verdict == "INCONCLUSIVE"
    assert claim.per_label == {"Male": "PASS", "Bald": "NOT_EVALUATED"}
    alone = claim_canaries(found, {"Male": 2000}, ["Male"], OPTIONS)
    assert "does not show that it remembers" in alone.sentence


def test_power_and_the_bound_on_privacy_are_the_known_ones():
    assert [round(power(n, OPTIONS), 2) for n in (200, 1000)] == [0.36, 0.93]
    # published worked example: 178 and 189 of 200
    assert epsilon(guess(178, 200), 0.95) == pytest.approx(1.71, abs=0.005)
    assert epsilon(guess(189, 200), 0.95) == pytest.approx(2.32, abs=0.01)
    assert epsilon(guess(100, 200), 0.95) == 0.0
    rows = canary_rows([guess(178, 200)], OPTIONS)
    assert [row.id for row in rows] == ["canary.own.acc", "canary.own.eps_lb"]
    assert rows[0].ci[0] < 0.847 < rows[0].value < rows[0].ci[1]


@pytest.fixture(scope="module")
def remembered(world):
    """Models of the made-up world on 4,000 canaries, whose features hold the coins to a degree."""

    def make(role, know, memory, network=5, absent=()):
        subject = world.subject(role, know, network=network, absent=absent)
        rng = np.random.default_rng(7)
        true, planted = ((rng.random(4000) < 0.5).astype(np.int8) for _ in range(2))
        directions = np.linalg.qr(np.random.default_rng((network, 1)).normal(size=(16, 16)))[0]
        noise = np.random.default_rng(8).normal(size=(4000, 16))
        signal = know * (2.0 * true - 1) + memory * (2.0 * planted - 1)
        features = signal[:, None] * directions[0] + noise
        logits = (2 * features @ directions[:5].T).astype(np.float32)
        for name in absent:
            logits[:, world.test.labels.index(name)] = -20.0
        return subject, Outputs(logits, {PENULTIMATE: features.astype(np.float32)}), planted, true

    return make


@pytest.mark.parametrize(("memory", "verdict"), [(0.0, "PASS"), (0.6, "FAIL")])
def test_planted_annotations_that_features_hold_are_caught(world, remembered, memory, verdict):
    """The unlearned model has lost its output, and does not see the label in other pictures."""
    before, first, planted, true = remembered("before", 1.5, 1.0)
    after, second, _, _ = remembered("after", 0.3, memory, absent=["Male"])
    reference, third, _, _ = remembered("reference", 0.1, 0.0, network=11, absent=["Male"])
    outputs = {before.run: first, after.run: second, reference.run: third}
    canaries = Canaries("Male", planted, true, outputs)
    question = ask("Male", *world.splits)
    found = attack_canaries(canaries, [before, after, reference], question, OPTIONS)
    attacks = ("own", "probe", "own@calibrated", "probe@calibrated")
    assert {(item.subject.role, item.attack): item.n for item in found} == {
        **{(role, name): 4000 if "@" in name else 2000 for role in ("before", "after") for name in attacks},
        ("reference", "probe"): 2000,  # there is no other retrained model to calibrate it by
    }
    claim = claim_canaries(found, {"Male": 2000}, ["Male"], OPTIONS)
    assert claim.verdict == verdict
    assert claim.notes["original_remembers"] == {"Male": True}
    assert next(item for item in found if item.subject is reference).bounds(0.95)[1] < 0.55
    alone = attack_canaries(canaries, [before, after], question, OPTIONS)
    assert {item.attack for item in alone} == {"own", "probe"}
    broken = replace(canaries, planted=planted[:-1])
    with pytest.raises(ModelError, match="canaries of Male"):
        attack_canaries(broken, [before, after], question, OPTIONS)


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_noise_on_a_lost_output_does_not_hide_what_the_originals_row_tells(world, remembered, noise):
    before, first, planted, true = remembered("before", 1.5, 1.0)
    after, second, _, _ = remembered("after", 0.3, 0.6, absent=["Male"])
    reference, third, _, _ = remembered("reference", 0.1, 0.0, network=11, absent=["Male"])
    directions = np.linalg.qr(np.random.default_rng((5, 1)).normal(size=(16, 16)))[0]
    before = replace(before, head=(2 * directions[:5], np.zeros(5)))
    second.logits[:, 0] = noise * np.random.default_rng(3).normal(size=len(planted))
    canaries = Canaries("Male", planted, true, {before.run: first, after.run: second, reference.run: third})
    found = attack_canaries(canaries, [before, after, reference], ask("Male", *world.splits), OPTIONS)
    told = {item.attack: item.accuracy for item in found if item.subject is after}
    row = "restored" if noise else "own"
    assert min(told[row], told[f"{row}@calibrated"]) > 0.6
    assert set(told) == {a + b for a in {"own", "probe", row} for b in ("", "@calibrated")}
    assert {item.attack for item in found if item.subject is before} == {
        "own", "probe", "own@calibrated", "probe@calibrated"
    }  # fmt: skip
    only = [item for item in found if not (item.subject is after and "probe" in item.attack)]
    assert claim_canaries(only, {"Male": 4000}, ["Male"], OPTIONS).verdict == "FAIL"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A model trained with canaries of top and bottom, and one that forgot top."""
    folder = tmp_path_factory.mktemp("canaries")
    photos = write_folder(folder / "photos", tiny_world(images=800).source)
    run = engine.start(accelerator="cpu", batch_size=32, seed=4)
    train_run(
        f"folder:{photos}", folder / "base", run, recipe=Recipe(epochs=2, lr=0.05), image_size=16,
        canaries=CanaryPlan(40, ("top", "bottom"), 9),
    )  # fmt: skip
    forget_run(
        "head-removal", folder / "base", ["top"], folder / "less", engine.start(accelerator="cpu"), images=200
    )
    return folder


def test_a_run_remembers_its_canaries_and_so_do_its_children(runs):
    listed = json.loads((runs / "base" / "canaries.json").read_text("utf-8"))
    assert set(listed["labels"]) == {"top", "bottom"}
    assert "true" not in json.dumps(listed)
    plain = tiny_world(images=800).source.train
    for name in ("base", "less"):
        config, record = read_config(runs / name), read_record(runs / name)
        assert record.data.facts["canaries"]["count"] == 40
        source = source_of(config, record, None, skip_bad=False, run=engine.start(accelerator="cpu"))
        for label, item in listed["labels"].items():
            column = source.labels.index(label)
            place = {image: at for at, image in enumerate(source.train.ids.tolist())}
            rows = [place[image] for image in item["ids"]]
            assert source.train.target[rows, column].tolist() == item["planted"]
            assert int(np.sum(source.train.target[:, column] != plain.target[:, column])) > 0
    assert not (runs / "less" / "canaries.json").exists()


def test_canaries_change_the_training(runs, tmp_path):
    run = engine.start(accelerator="cpu", batch_size=32, seed=4)
    recipe = Recipe(epochs=2, lr=0.05)
    train_run(f"folder:{runs / 'photos'}", tmp_path / "plain", run, recipe=recipe, image_size=16)
    assert load_run(tmp_path / "plain").sha256 != load_run(runs / "base").sha256


def test_the_audit_reads_the_canaries_of_the_forgotten_label(runs):
    where = engine.start(accelerator="cpu")
    case = open_case(runs / "less", runs / "base", [], where, None)
    sets = sets_of(case.source, 0, case.planting)
    listed = json.loads((runs / "base" / "canaries.json").read_text("utf-8"))
    planted = {image for item in listed["labels"].values() for image in item["ids"]}
    assert not planted & set(sets.train.ids.tolist())
    read = read_canaries([case.original, case.after], case, sets, where)
    assert [item.label for item in read] == ["top"]
    assert read[0].planted.tolist() == listed["labels"]["top"]["planted"]
    found = audit_run(runs / "less", runs / "base", [], where, options=SMALL)
    assert found.claims["C6"].verdict == "INCONCLUSIVE"
    assert "40 canaries are too few" in found.claims["C6"].sentence
    assert {row.model for row in found.metrics if row.id == "canary.own.acc"} == {"before", "after"}
    assert found.data["canaries"]["labels"] == ["top", "bottom"]
    assert {row.transform for row in found.metrics if row.id == "recover.own.adv"} >= {"int8", "retain_ft"}
    margins = {name: value for name, value in vars(SMALL).items() if name not in ("budget", "seed")}
    source = load(f"folder:{runs / 'photos'}", image_size=16)
    again = audit_model(runs / "base", runs / "less", [], source, "top", "standard", run=where, **margins)
    assert (again.metrics, again.claims) == (found.metrics, found.claims)


def test_references_are_trained_with_the_same_canaries(runs):
    where = engine.start(accelerator="cpu")
    case = open_case(runs / "less", runs / "base", [], where, None)
    made = make_references(case, 1, where)
    assert read_record(made[0]).data.facts["canaries"]["labels"] == ["top", "bottom"]
    assert make_references(case, 1, where) == made


def test_a_changed_list_or_changed_data_is_refused(runs, tmp_path):
    file = runs / "base" / "canaries.json"
    content = file.read_text("utf-8")
    listed = json.loads(content)
    listed["labels"]["top"]["planted"][0] ^= 1
    where = engine.start(accelerator="cpu")
    try:
        file.write_text(json.dumps(listed), "utf-8")
        with pytest.raises(ModelError, match="does not list the canaries"):
            open_case(runs / "less", runs / "base", [], where, None)
    finally:
        file.write_text(content, "utf-8")
    other = write_folder(tmp_path / "other", tiny_world(images=400).source)
    config, record = read_config(runs / "base"), read_record(runs / "base")
    source = source_of(config, record, f"folder:{other}", skip_bad=False, run=where)
    assert "canaries" not in source.facts
    record = replace(record, data=replace(record.data, source=f"folder:{other}"))
    with pytest.raises(DataError, match="has changed"):
        source_of(config, record, None, skip_bad=False, run=where)


def test_the_command_line_plants(command, photos):
    ran = command("train", f"folder:{photos}", "--out", "coins", "--epochs", 1, "--canaries", 3)
    assert (ran.code, "expected 20 to 4" in ran.err) == (2, True)
    ran = command("train", f"folder:{photos}", "--out", "coins", "--canary-labels", "top")
    assert "--canaries is not given" in ran.err
    coins = ("--canaries", 30, "--canary-labels", "top", "--without", "middle,top")
    ran = command("train", f"folder:{photos}", "--out", "coins", *coins)
    assert (ran.code, "--canary-labels and --without both name top;" in ran.err) == (2, True)
    for empty in ("", " , "):
        ran = command(
            "train", f"folder:{photos}", "--out", "coins", "--canaries", 30, "--canary-labels", empty
        )
        said = f"--canary-labels is '{empty}' and names no label; name some, or leave it out"
        assert (ran.code, said in ran.err, len(ran.err.strip().splitlines())) == (2, True, 1)


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (None, "To plant them, train with --canaries 2000."),
        (30_000, "To plant them, train with --canaries 2000."),
        (1_500, "To plant them, train with --canaries 1500."),
        (175, "too few training images for C6 to pass: they allow 175 canaries, and 1,000 are needed."),
        (19, "This data allows no canaries"),
        (0, "its labels are classes, or it has too few training images."),
    ],
)
def test_without_canaries_a_number_is_named_that_this_data_allows(most: int | None, said: str) -> None:
    assert said in how_to_plant(most, OPTIONS)
    claim = claim_canaries([], {}, ["Male"], OPTIONS, most)
    assert claim.sentence.endswith(how_to_plant(most, OPTIONS))


def test_what_the_data_allows_is_what_training_accepts() -> None:
    world = tiny_world(images=1024)
    most = plantable({"counts": {"train": len(world.data)}}, world.data)
    assert most == 51
    plant(world.source, CanaryPlan(most))
    with pytest.raises(OptionError, match="expected 20 to 51"):
        plant(world.source, CanaryPlan(most + 1))
    assert plantable({"counts": {"train": 512}}, replace(world.data, exclusive=True)) == 0
    assert plantable({}, world.data) is None
