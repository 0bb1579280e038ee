"""Rare labels are judged on E and P: each image by an attack that has not seen it, with errors that hold."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.planted import LABEL, draw, plant
from calibration.truth import columns
from unlabel.audit.attacks.cross_fit import both, crossed, exchanged, pooled
from unlabel.audit.attacks.outputs import OwnOutput, read_others_linear
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.request import Request
from unlabel.data.splits import PEOPLE
from unlabel.statistics.estimate import advantage, auc

OPTIONS = AuditOptions(
    probe_seeds=1, folds=2, epochs=6, trees=15, permutations=10, resamples=30, raw_image=False, rare=100
)


def world(images: int = 500, adv: float = 0.8, seed: int = 0, prior: float = 0.1):
    """A label that one person in ten has."""
    return draw(plant("line", adv, prior), columns(0.6), images=images, seed=seed)


def test_only_labels_that_are_rare_in_e_are_crossed():
    made = world()
    question = ask(LABEL, *made.splits)
    assert question.rarer < 100
    assert crossed({LABEL: question}, OPTIONS)[LABEL].crossed
    assert not crossed({LABEL: question}, replace(OPTIONS, rare=10))[LABEL].crossed
    assert not crossed({LABEL: question}, replace(OPTIONS, cross_fit=False))[LABEL].crossed


def test_one_rare_label_crosses_all_since_their_mean_is_taken_on_the_same_images():
    question = ask(LABEL, *world().splits)
    common = replace(question, test=np.where(np.arange(len(question.test)) % 2, 1, 0).astype(np.int8))
    both_ways = crossed({"rare": question, "common": common}, OPTIONS)
    assert all(item.crossed for item in both_ways.values())


def test_a_label_of_too_few_people_is_not_crossed():
    question = ask(LABEL, *world().splits)
    few = np.unique(question.test_cluster[question.test == 1])[: PEOPLE - 1]
    test = np.where((question.test == 1) & ~np.isin(question.test_cluster, few), -1, question.test)
    assert not crossed({LABEL: replace(question, test=test.astype(np.int8))}, OPTIONS)[LABEL].crossed


def test_counts_are_of_both_sets():
    question = ask(LABEL, *world().splits)
    twice = replace(question, crossed=True)
    assert twice.n == question.n + int(np.sum(question.probe >= 0))
    assert twice.rarer == question.rarer + int(np.sum(question.probe == 1))


def test_an_own_output_is_the_weighted_mean_of_two_areas_with_the_error_of_both():
    made = world()
    question = replace(ask(LABEL, *made.splits), crossed=True)
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=len(part)) + 2 * (part.target[:, 0] == 1) for part in made.splits[:2]]
    found = OwnOutput(scores[0], scores[1], scores[0]).signed(question)
    areas = [advantage(scores[1], question.test, question.test_cluster)]
    areas.append(advantage(scores[0], question.probe, question.probe_cluster))
    weights = np.array([np.sum(question.test == 1), np.sum(question.probe == 1)], float)
    weights /= weights.sum()
    assert found.value == pytest.approx(weights @ [area.value for area in areas])
    assert found.se == pytest.approx(np.hypot(*(weights * [area.se for area in areas])), rel=0.01)
    assert found.groups == sum(area.groups for area in areas)
    assert found.se < min(area.se for area in areas)


def test_every_image_is_judged_by_an_attack_that_has_not_seen_it():
    """What is fitted on one way is judged the other way, annotations and outputs alike."""
    made = world(adv=0.0)
    model, question = made.model("after", network=0), replace(ask(LABEL, *made.splits), crossed=True)
    seen = []

    def read(subject, asked):
        seen.append((asked.probe, asked.test, subject.probe.logits, subject.test.logits))
        return {"x": read_others_linear(subject, (0,), asked)}

    both(read, model, question)
    (fitted, judged, on_fitted, on_judged), turned = seen
    assert fitted is turned[1]
    assert judged is turned[0]
    assert on_fitted is turned[3]
    assert on_judged is turned[2]


def test_exchanging_p_and_e_changes_no_pooled_figure():
    made = world()
    model, question = made.model("after", network=0), replace(ask(LABEL, *made.splits), crossed=True)

    def read(subject, asked):
        return {"x": read_others_linear(subject, (0,), asked)}

    here = both(read, model, question)["x"]
    there = both(read, replace(model, probe=model.test, test=model.probe), exchanged(question))["x"]
    assert (here.value, here.se, here.n) == pytest.approx((there.value, there.se, there.n))


def test_pooling_two_sets_keeps_their_people_apart():
    y, cluster = np.array([0, 1, 0, 1], np.int8), np.array([0, 0, 1, 2])
    one = auc(np.arange(4.0), y, cluster)
    question = replace(ask(LABEL, *world().splits), test=y, probe=y)
    assert pooled(one, one, question).groups == 6


def test_errors_of_fitted_figures_hold_on_both_sets_as_well_as_on_one():
    """Spread over 60 worlds in standard errors, of a figure and of a difference of models.

    `benchmarks/crossing.py` has more of them.
    """
    spread = {False: [], True: []}
    for seed in range(60):
        made = world(images=600, adv=0.4, seed=seed, prior=0.2)
        question = ask(LABEL, *made.splits)

        def read(subject, asked):
            return {"x": read_others_linear(subject, (0,), asked)}

        for way, rows in spread.items():
            models = [made.model("after", network=k) for k in (0, 1)]
            first, second = (both(read, model, replace(question, crossed=way))["x"] for model in models)
            rows.append((first.value, (first - second).value, first.se, (first - second).se))
    alone, twice = (
        np.std(np.array(rows)[:, :2], axis=0, ddof=1) / np.array(rows)[:, 2:].mean(0)
        for rows in spread.values()
    )
    assert (twice < 1.15 * alone).all()
    assert (twice > 0.6 * alone).all()


def audited(make_world, know: float, **changes):
    """A label with 120 images of it in E and in P, and one more model that knows it to a degree."""
    made = make_world(0)
    rare = [thinned(part, keep) for part, keep in zip(made.splits, (120, 120, 400), strict=True)]
    options = replace(OPTIONS, rare=200, **changes)
    made = replace(made, probe=rare[0], test=rare[1], train=rare[2])
    request = Request.make(["Male"], made.test.labels)
    inputs = AuditInputs(
        made.subject("before", 1.5),
        made.subject("after", know, network=1),
        made.references(3),
        request,
        *made.splits,
    )
    return audit_outputs(inputs, options)


def thinned(part, keep: int):
    """A split in which so many images have Male, and all others keep lacking it."""
    present = np.flatnonzero(part.target[:, 0] == 1)
    mask = np.ones(len(part), bool)
    mask[present[keep:]] = False
    return part.take(mask)


def test_a_rare_label_that_the_model_knows_fails_on_both_sets_and_stays_open_on_one(make_world):
    twice, once = audited(make_world, 1.5), audited(make_world, 1.5, cross_fit=False)
    assert (twice.claims["C1"].verdict, twice.claims["C2"].verdict) == ("FAIL", "FAIL")
    assert (once.claims["C1"].verdict, once.claims["C2"].verdict) == ("INCONCLUSIVE", "INCONCLUSIVE")
    assert twice.data["cross_fitted"]
    assert not once.data["cross_fitted"]
    assert any("judged on the probe split" in line for line in twice.limitations)
    n = {row.id: row.n for row in twice.metrics if row.model == "after" and row.label == "Male"}
    both_sets = sum(twice.data["splits"][name]["n"] for name in ("P", "E"))
    assert n["own.sadv"] == n["probe.adv.lin"] == n["others.adv.gbt"] == both_sets


def test_a_rare_label_that_is_gone_does_not_fail_on_both_sets(make_world):
    found = audited(make_world, 0.1)
    assert found.claims["C2"].verdict != "FAIL"
    assert found.claims["C2"].notes["head_zero"] == "FAIL"
