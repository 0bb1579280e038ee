"""Predicted levels: the scale, the rule, the error, and what C2 makes of them."""

import json
import re
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from scipy.stats import t as student

from unlabel.audit.attacks.explained import Explained, explained
from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.attacks.prediction import (
    RULES,
    Rule,
    d_prime,
    level_of,
    on_other_images,
    predict,
    predict_all,
    predict_relearning,
    scaled,
    share,
    unscaled,
)
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.claims.c2_retrain_equivalent import claim_equivalent
from unlabel.audit.claims.c4_durable import claim_durable
from unlabel.audit.claims.gate import judge
from unlabel.audit.claims.headline import HEADLINES
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Context, Question, ask
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.inputs.subject import Subject
from unlabel.core.request import Request
from unlabel.models.outputs import Outputs
from unlabel.statistics.contrast import contrast, seeded
from unlabel.statistics.estimate import Estimate, advantage, mean
from unlabel.testing import tiny_world

N = 4000
CLUSTER = np.arange(N)
Y = (np.arange(N) % 2).astype(np.int8)
OPTIONS = AuditOptions()
NOTHING = Explained(told=0.0, found=0.8)
ADV, BITS = "probe.adv.lin", "probe.bits.lin"


def estimate(value: float, seed: int = 0, size: float = 1.0) -> Estimate:
    """A number whose images have a standard error of .016 times `size`."""
    influence = np.random.default_rng(seed).normal(size=N) * size / N
    return Estimate(value, influence, CLUSTER, np.ones(N, bool))


def rule(**more: float) -> Rule:
    return replace(Rule(kept=0.6, growth=0.5, drift=0.04, df=10), **more)


@pytest.mark.parametrize("distance", [0.3, 1.0, 2.5])
def test_d_prime_is_the_distance_of_two_normals_with_that_advantage(distance):
    area, _ = quad(lambda x: norm.pdf(x - distance) * norm.cdf(x), -12, 12)
    assert d_prime(2 * area - 1) == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize(
    ("unit", "value"), [("adv", 0.7), ("adv", -0.2), ("adv", 0.0), ("bits", 0.3), ("bits", 0.02)]
)
def test_the_scale_turns_back_and_moves_influences_by_its_slope(unit, value):
    item, step = estimate(value), 1e-6
    there = scaled(item, unit)
    slope = (scaled(replace(item, value=value + step), unit).value - there.value) / step
    assert there.influence == pytest.approx(slope * item.influence, rel=1e-4)
    back = unscaled(there, unit)
    assert back.value == pytest.approx(value)
    assert back.influence == pytest.approx(item.influence)


def test_an_attack_that_is_always_right_has_a_finite_level():
    score = Y.astype(float)
    assert np.isfinite(scaled(advantage(score, Y, CLUSTER), "adv").value)


def test_a_retrain_keeps_all_of_what_the_annotations_explain():
    everything = Explained(told=0.8, found=0.8)
    assert share(rule(), everything) == pytest.approx(1.0)
    assert share(rule(), NOTHING) == pytest.approx(0.6)
    half = 2 * norm.cdf(d_prime(0.8) / 2 / np.sqrt(2)) - 1
    assert share(rule(), Explained(told=half, found=0.8)) == pytest.approx(np.sqrt(0.25 + 0.36 * 0.75))
    assert share(rule(), Explained(told=0.9, found=0.8)) == 1.0


@pytest.mark.parametrize("found", [0.0, -0.001])
def test_of_what_a_linear_probe_does_not_find_the_annotations_explain_nothing(found):
    assert share(rule(), Explained(told=0.0, found=found)) == pytest.approx(0.6)


def test_the_level_is_the_weighted_mean_of_share_and_growth():
    whole, pair = estimate(0.8), ShortPair(0.1, estimate(0.3), estimate(0.25))
    kept = 0.6 * d_prime(0.8)
    grown = d_prime(0.25) + 0.5 * (d_prime(0.8) - d_prime(0.3))
    for weight in (0.0, 0.25, 1.0):
        expected = 2 * norm.cdf(((1 - weight) * kept + weight * grown) / np.sqrt(2)) - 1
        found = level_of("adv", rule(weight=weight), whole, pair, NOTHING)
        assert found.value == pytest.approx(expected)


def test_influences_of_a_level_are_those_of_small_changes_of_its_parts():
    base = {"whole": 0.8, "original": 0.3, "retrained": 0.25}

    def level(**values: float) -> float:
        items = {name: estimate(value) for name, value in (base | values).items()}
        pair = ShortPair(0.1, items["original"], items["retrained"])
        return level_of("adv", rule(), items["whole"], pair, NOTHING).value

    items = {name: estimate(value, seed) for seed, (name, value) in enumerate(base.items())}
    found = level_of(
        "adv", rule(), items["whole"], ShortPair(0.1, items["original"], items["retrained"]), NOTHING
    )
    step = 1e-6
    expected = sum(
        (level(**{name: value + step}) - level()) / step * items[name].influence
        for name, value in base.items()
    )
    assert found.influence == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_drift_widens_a_bound_as_a_variance_with_its_degrees_of_freedom():
    model, level = estimate(0.5, 1), replace(estimate(0.5, 2), drift=0.05, drift_df=6)
    found, without = contrast(model, [level]), contrast(model, [replace(level, drift=0.0)])
    assert found.se == pytest.approx(np.hypot(without.se, 0.05))
    assert found.fixed == pytest.approx(0.05**2)
    alone = replace(level, influence=np.zeros(N))
    assert seeded(alone, ()).upper() == pytest.approx(0.5 + student.ppf(0.95, 6) * 0.05)


def test_drifts_of_several_labels_add_up_as_if_they_went_together():
    items = [replace(estimate(0.5), drift=drift, drift_df=df) for drift, df in ((0.04, 9), (0.02, 5))]
    assert (mean(items).drift, mean(items).drift_df) == (pytest.approx(0.03), 5)
    assert (items[0] - items[1]).drift == pytest.approx(0.06)
    assert items[0].affine(-2.0, 1.0).drift == pytest.approx(0.08)


def test_a_level_from_shorter_pairs_than_calibrated_has_a_larger_error():
    def drift(share_: float) -> float:
        pair = ShortPair(share_, {ADV: estimate(0.3)}, {ADV: estimate(0.25)})
        return predict(ADV, estimate(0.8), [pair], NOTHING).drift

    assert drift(0.1) == drift(0.3) == RULES["adv"].drift
    assert drift(0.01) == pytest.approx(2 * RULES["adv"].drift)


def test_a_straight_line_in_log_epochs_is_not_what_is_used():
    steep = [
        ShortPair(0.05, {ADV: estimate(0.3)}, {ADV: estimate(0.3)}),
        ShortPair(0.1, {ADV: estimate(0.3)}, {ADV: estimate(0.2)}),
    ]
    flat = [replace(steep[0], retrained={ADV: estimate(0.2)}), steep[1]]
    assert (
        predict(ADV, estimate(0.8), steep, NOTHING).value == predict(ADV, estimate(0.8), flat, NOTHING).value
    )


def explained_of_copies(copied: float, *, readable: bool = True) -> Explained:
    """Of a label that another one copies so often; its features hold all annotations, or noise alone."""
    world, rng = tiny_world(images=2048), np.random.default_rng(0)
    splits = [
        replace(part, target=part.target.copy())
        for part in (world.source.probe, world.source.test, world.source.train)
    ]
    for part in splits:
        part.target[:] = rng.integers(0, 2, part.target.shape)
        same = rng.random(len(part)) < copied
        part.target[same, 0] = part.target[same, 1]

    def features(part):
        noise = rng.normal(size=(len(part), 3))
        return Outputs(
            np.zeros((len(part), 3), np.float32),
            {"penultimate": (readable * part.target + noise).astype(np.float32)},
        )

    probe, test, train = splits
    original = Subject("a", "before", features(probe), features(test), features(train))
    question, request = ask("top", probe, test, train), Request.make(["top"], probe.labels)
    context = Context({"top": question}, request, probe, test, train, OPTIONS)
    return explained(original, question, context)


def test_a_share_of_noise_counts_as_nothing_explained():
    """Of a label that another determines, both probes find the same chance: their ratio would be 1."""
    found = explained_of_copies(1.0, readable=False)
    assert abs(found.found) < 0.1
    assert found.told == 0.0


@pytest.mark.parametrize("copied", [0.0, 0.9, 1.0])
def test_of_a_label_that_others_copy_the_annotations_explain_as_much_as_they_tell(copied):
    """From nothing, by a noisy copy, to a label that they determine."""
    found = explained_of_copies(copied)
    assert found.found > 0.3
    if copied == 1.0:
        assert found.told == pytest.approx(found.found, abs=1e-3)
    elif copied == 0.0:
        assert abs(found.told) < 0.1
    else:
        assert 0.8 * found.found < found.told < found.found


def claim(model: float, level: float, original: float = 0.95, **more: float):
    """C2 of a model against a level that was predicted."""
    pair = ShortPair(0.1, {"Male": {ADV: estimate(0.3, 1)}}, {"Male": {ADV: estimate(0.3, 1)}})
    prediction = predict_all({"Male": {ADV: estimate(original, 2)}}, [pair], {"Male": NOTHING})
    levels = {"Male": {ADV: replace(prediction.levels["Male"][ADV], value=level, **more)}}
    question = Question("Male", 0, Y, Y, Y, CLUSTER, CLUSTER, CLUSTER)
    given, _, _ = claim_equivalent(
        {"Male": {ADV: estimate(model, 3)}},
        [],
        {"Male": {ADV: estimate(original, 2)}},
        {"Male": 0.9},
        {"Male": question},
        OPTIONS,
        replace(prediction, levels=levels),
    )
    return given


def test_a_predicted_claim_says_so_and_from_what_at_which_cost():
    found = claim(0.45, 0.5)
    assert found.verdict == "PASS"
    assert (found.provisional, found.notes["references"], found.notes["predicted"]) == (True, 0, True)
    assert found.notes["prediction"]["cost"] == pytest.approx(0.2)
    entry = found.notes["prediction"]["figures"]["Male"][ADV]
    assert entry["low"] < entry["value"] == 0.5 < entry["high"]
    assert "than is predicted for models retrained without it" in found.sentence
    assert found.sentence.endswith("at 0.2 of the cost of one training.")
    assert found.mark == " (predicted)"


def test_the_error_of_predicting_leaves_open_what_a_measured_level_would_pass():
    assert claim(0.53, 0.5, drift=0.0).verdict == "PASS"
    assert claim(0.53, 0.5).verdict == "INCONCLUSIVE"
    assert claim(0.8, 0.5).verdict == "FAIL"


def test_a_predicted_pass_is_not_decided_for_a_gate():
    given = SimpleNamespace(valid=True, claims={"C2": claim(0.45, 0.5)})
    code, why = judge(given, ["C2"])  # pyright: ignore[reportArgumentType]
    assert (code, why) == (4, "not decided: C2 PASS (predicted)")


def test_other_images_are_compared_with_the_level_of_the_same_attack_and_its_whole_error():
    level = replace(estimate(0.5), drift=0.04, drift_df=8)
    few = replace(
        estimate(0.7, 5), influence=np.full(10, 0.001), cluster=np.arange(10), used=np.ones(10, bool)
    )
    other = ("lsq", "rank", "rank@train", "gbt", "fine")
    figures = (f"{ADV}@nudged", *(f"probe.adv.{name}" for name in other))
    found = on_other_images({"Male": dict.fromkeys(figures, few)}, {"Male": {ADV: level}})
    assert set(found["Male"]) == set(figures)
    for item in found["Male"].values():
        assert (item.value, item.drift_df) == (0.5, 8)
        assert item.drift == pytest.approx(np.hypot(0.04, level.se))
        assert len(item.influence) == 10
        assert not item.influence.any()


def relearnt(value: float, seed: int = 0) -> dict[int, Relearnt]:
    """AUC on 256 images, its images' error small, and two draws around it."""
    return {256: Relearnt(estimate(value, seed, size=0.1), (value - 0.01, value + 0.01))}


def test_relearning_is_predicted_by_the_rule_of_advantages_draw_by_draw():
    pair = ShortPair(0.1, relearnt(0.65, 1), relearnt(0.62, 2))
    found = predict_relearning(relearnt(0.85), [pair], NOTHING, rule()).levels[256]

    def level(whole: float, first: float, second: float) -> float:
        kept = 0.75 * 0.6 * d_prime(2 * whole - 1)
        grown = d_prime(2 * second - 1) + 0.5 * (d_prime(2 * whole - 1) - d_prime(2 * first - 1))
        return float(norm.cdf((kept + 0.25 * grown) / np.sqrt(2)))

    assert found.mean.value == pytest.approx(level(0.85, 0.65, 0.62))
    assert found.draws == pytest.approx((level(0.84, 0.64, 0.61), level(0.86, 0.66, 0.63)))
    assert (found.mean.drift, found.mean.drift_df) == (pytest.approx(0.02), 10)  # of an AUC: half
    assert found.mean.influence.shape == (N,)


def durable(after: float, regained: float = 0.3, weights: WeightAttacks | None = None, drift: float = 0.01):
    """C4 of a model, where .72 or less is predicted of a Retrain after 256 images, and .5 of every attack."""
    readings = {name: estimate(0.95, 2) for name in REPEATED}
    pair = ShortPair(0.1, {"Male": {name: estimate(0.3, 1) for name in REPEATED}}, {"Male": readings})
    few = predict_relearning(
        relearnt(0.85), [ShortPair(0.1, relearnt(0.65), relearnt(0.62))], NOTHING, rule(drift=2 * drift)
    )
    level = {name: replace(estimate(0.5, 2), drift=drift, drift_df=8) for name in REPEATED}
    prediction = predict_all({"Male": readings}, [pair], {"Male": NOTHING})
    prediction = replace(prediction, levels={"Male": level}, few={"Male": few})
    changed = {"Male": {name: estimate(regained, 3, size=0.2) for name in REPEATED}}
    plain = {"Male": {name: estimate(0.3, 3, size=0.2) for name in REPEATED}}
    recovery = Recovery({"int8": changed}, [], {"Male": [relearnt(0.85), relearnt(after)]}, weights)
    question = Question("Male", 0, Y, Y, Y, CLUSTER, CLUSTER, CLUSTER)
    options = AuditOptions(few=(256,))
    return claim_durable(recovery, plain, [], {"Male": question}, options, prediction)[0]


def test_durability_is_judged_by_what_is_predicted_of_relearning_and_says_so():
    found = durable(0.7)
    assert (found.verdict, found.provisional, found.mark) == ("PASS", True, " (predicted)")
    assert found.notes["references"] == 0
    noted = found.notes["prediction"]["figures"]["Male"]["few.auc@256"]
    assert noted["low"] < noted["value"] < noted["high"]
    assert (noted["original"], noted["short"]) == (0.85, [[0.65, 0.62]])
    assert "no easier than is predicted for a retrained model" in found.sentence
    assert found.sentence.endswith("at 0.2 of the cost of one training.")
    assert durable(0.7, drift=0.06).verdict == "INCONCLUSIVE"
    assert durable(0.85).verdict == "FAIL"


def test_what_a_transform_brings_back_may_reach_the_predicted_level():
    assert durable(0.7, regained=0.5).verdict == "PASS"
    assert durable(0.7, regained=0.9).verdict == "FAIL"


def test_what_the_full_budget_adds_has_no_predicted_level_so_it_cannot_pass():
    found = durable(0.7, weights=WeightAttacks())
    assert (found.verdict, found.notes["finding"], found.mark) == ("NOT_EVALUATED", "no reference", "")
    assert "no level is predicted" in found.sentence


def test_relearning_is_predicted_up_to_the_images_that_were_calibrated():
    whole = {n: relearnt(0.85)[256] for n in (16, 64, 256, 1024)}
    pair = ShortPair(0.1, whole, whole)
    assert list(predict_relearning(whole, [pair], NOTHING).levels) == [64, 256]


def test_the_schema_of_audits_knows_every_headline_and_no_mixture():
    schema = json.loads(files("unlabel.statement").joinpath("audit.schema.json").read_text("utf-8"))
    pattern = re.compile(schema["properties"]["headline"]["pattern"])
    assert all(pattern.match(headline) for headline in HEADLINES)
    for mixture in (
        "UNLEARNED BUT HARMFUL (PREDICTED)",
        "RETRAIN-EQUIVALENT, HARMFUL",
        "DISABLED (PREDICTED)",
    ):
        assert not pattern.match(mixture)
