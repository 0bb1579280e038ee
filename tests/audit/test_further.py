"""Membership, groups, distances, attribute inference and codes: each finds what is there, and no more."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from unlabel.audit.attacks.attribute_inference import attribute_inference, balanced_bits, code_length
from unlabel.audit.attacks.distances import (
    ALIKE,
    agreeing,
    alike,
    distance_rows,
    jensen_shannon,
    nearer_rows,
)
from unlabel.audit.attacks.groups import gaps, group_rows
from unlabel.audit.attacks.membership import (
    label_membership,
    membership_rows,
    membership_untested,
    retained_loss,
    sample_membership,
)
from unlabel.audit.attacks.outputs import best_cut, guess_linear
from unlabel.audit.attacks.utility import Utility
from unlabel.audit.claims.c5_useful import losses
from unlabel.audit.claims.judging import reference_margin
from unlabel.audit.figures import LABEL_MEMBERSHIP
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import share_bounds

OPTIONS = AuditOptions(probe_seeds=1, epochs=15, trees=40, permutations=10, resamples=100, raw_image=False)
KEPT = (1, 2, 3, 4)


@pytest.fixture
def question(world):
    return ask("Male", *world.splits)


def overfitted(world, subject, columns, by):
    """The same model, surer of the truth of some labels on its training images."""
    sign = 2.0 * world.train.target - 1
    logits, features = subject.train.logits.copy(), subject.train.features[PENULTIMATE].copy()
    for column in columns:
        logits[:, column] += by * sign[:, column]
        features += by * sign[:, [column]] * subject.head[0][column] / 4
    return replace(subject, train=Outputs(logits, {PENULTIMATE: features.astype(np.float32)}))


def test_a_model_without_memory_cannot_be_told_on(world, question):
    subject = world.subject("after", 0.3)
    for area in (label_membership(subject, question, OPTIONS), sample_membership(
        subject, world.train, world.test, KEPT
    ).auc):  # fmt: skip
        assert area.interval()[0] < 0.5 < area.interval()[1]


def test_features_that_remember_an_annotation_give_the_training_image_away(world, question):
    found = label_membership(overfitted(world, world.subject("after", 0.3), [0], 3.0), question, OPTIONS)
    assert found.lower() > 0.6
    assert reference_margin(LABEL_MEMBERSHIP.id, OPTIONS) == OPTIONS.d_reference / 2


def test_small_losses_on_training_images_give_them_away(world):
    plain = sample_membership(world.subject("after"), world.train, world.test, KEPT)
    subject = overfitted(world, world.subject("after"), KEPT, 4.0)
    found = sample_membership(subject, world.train, world.test, KEPT)
    assert found.auc.lower() > 0.7
    rows = {row.id: row for row in membership_rows(subject, found)}
    caught = rows["mia.sample.tpr@1%"]
    assert caught.value > 0.03
    assert caught.ci[0] < caught.value < caught.ci[1]
    together = replace(world.train, cluster=world.train.cluster // 10)  # twenty images a person
    fewer = sample_membership(subject, together, world.test, KEPT)
    assert fewer.caught == found.caught
    assert fewer.bounds[0] < found.bounds[0]
    assert fewer.bounds[1] > found.bounds[1]
    assert plain.caught[0] / plain.caught[1] < 0.03


def test_membership_needs_people_with_a_known_retained_label(world):
    """Without any there is no loss to rank by; of one person its error would be 0."""
    assert membership_untested(world.train, world.test, KEPT, OPTIONS) == ()
    unknown = replace(world.train, target=np.full_like(world.train.target, -1))
    told = membership_untested(unknown, world.test, KEPT, OPTIONS)[0]
    assert "identities in effect of the training images have a known retained label." in told
    one = replace(world.test, cluster=np.zeros_like(world.test.cluster))
    told = membership_untested(world.train, one, KEPT, OPTIONS)[0]
    assert "identities in effect of the test images have a known retained label." in told


def test_membership_above_the_retrained_ones_fails_c5(world):
    plain = [
        sample_membership(world.subject("after", network=k), world.train, world.test, KEPT).auc
        for k in range(4)
    ]
    leaky = sample_membership(
        overfitted(world, world.subject("after"), KEPT, 4.0), world.train, world.test, KEPT
    ).auc
    utility = Utility({"Bald": {"util.auc": plain[0], "util.ece": plain[0]}})
    for own, above in ((plain[0], False), (leaky, True)):
        cells = losses(utility, [utility] * 3, (), OPTIONS, [own, *plain[1:]])
        cell = next(cell for cell in cells if cell.figure == "mia.sample.auc")
        assert cell.margin == 0.02
        assert (cell.contrast.lower() > cell.margin) is above


def test_the_loss_is_the_mean_over_known_labels_and_the_softmax_of_classes(world):
    outputs = world.subject("after").test
    data = replace(world.test, target=world.test.target.copy())
    data.target[0, 1], data.target[1, list(KEPT)] = -1, -1
    loss = retained_loss(outputs, data, KEPT)
    prob = expit(outputs.logits[0].astype(np.float64))
    by_hand = [-np.log(prob[k] if data.target[0, k] == 1 else 1 - prob[k]) for k in KEPT[1:]]
    assert loss[0] == pytest.approx(np.mean(by_hand))
    assert np.isnan(loss[1])
    classes = replace(data, target=np.eye(5, dtype=np.int8)[np.arange(len(data)) % 5], exclusive=True)
    loss = retained_loss(outputs, classes, KEPT)
    assert np.isnan(loss[0])
    scores = outputs.logits[1, list(KEPT)].astype(np.float64)
    assert loss[1] == pytest.approx(np.log(np.exp(scores).sum()) - scores[0])


def test_a_gap_between_groups_is_found_where_it_is(world, question):
    subject = world.subject("after")
    logits = subject.test.logits.copy()
    rows = question.test == 1
    logits[rows, 3] += 4.0  # who has the forgotten label is called smiling
    unfair = replace(subject, test=replace(subject.test, logits=logits))
    found, fair = gaps(unfair, world.test, 3, question), gaps(subject, world.test, 3, question)
    assert set(found) == {"fair.tpr_gap@Male", "fair.fpr_gap@Male", "fair.auc_gap@Male"}
    assert found["fair.fpr_gap@Male"].lower() > 0.2
    assert fair["fair.fpr_gap@Male"].interval()[0] < 0 < fair["fair.fpr_gap@Male"].interval()[1]
    said, target = logits[:, 3] > 0, world.test.target[:, 3]
    rates = [said[group & (target == 0)].mean() for group in (rows, ~rows)]
    assert found["fair.fpr_gap@Male"].value == pytest.approx(rates[0] - rates[1])
    few = replace(question, test=np.where(np.cumsum(rows) <= 60, question.test, 0).astype(np.int8))
    assert gaps(unfair, world.test, 3, few) == {}
    ids = {row.id for row in group_rows([unfair], world.test, ["Smiling"], {"Male": question})}
    assert "fair.fpr_gap@Male" in ids


def test_distances_are_scaled_by_the_seeds(world):
    references = world.references(3)
    twin = replace(world.subject("after", 0.1, network=13, absent=["Male"]), run="after")
    other = world.subject("after", [0.1, 0.2, 0.2, 0.2, 0.2], network=5, absent=["Male"])
    rows = distance_rows([world.subject("before"), twin, *references], world.test, world.train, KEPT)
    ratio = {row.run: row.value for row in rows if row.id == "dist.js_ratio"}
    assert np.mean([ratio[item.run] for item in references]) == pytest.approx(1.0)
    assert 0.9 < ratio["after"] < 1.1
    far = distance_rows([world.subject("before"), other, *references], world.test, world.train, KEPT)
    assert next(row.value for row in far if row.id == "dist.js_ratio" and row.model == "after") > 1.5
    agree = next(row for row in rows if row.id == "dist.agree" and row.model == "after")
    tables = [expit(item.test.logits[:, list(KEPT)].astype(float)) for item in (twin, *references)]
    counts = [np.sum(np.all(np.abs(tables[0] - table) <= 0.05, axis=1)) for table in tables[1:]]
    assert agree.value * agree.n == pytest.approx(min(counts))
    assert agreeing(tables[0], tables[0]).all()
    least = agreeing(tables[0], tables[1 + int(np.argmin(counts))])
    assert agree.ci == share_bounds(least, world.test.cluster, 0.975)
    one = distance_rows([world.subject("before"), twin, references[0]], world.test, world.train, KEPT)
    assert not [row for row in one if row.id == "dist.js_ratio" or row.model == "reference"]
    assert {"dist.ks.loss@test", "dist.ks.entropy@train"} <= {row.id for row in one}


def test_a_model_like_retrained_ones_is_nearer_to_them_and_a_copy_of_the_original_is_not(world):
    references = world.references(3)
    twin = replace(world.subject("after", 0.1, network=13, absent=["Male"]), run="after")
    before = world.subject("before", [0.1, 0.2, 0.2, 0.2, 0.2], network=5)
    copy = replace(before, role="after", run="copy")
    for model, sign in ((twin, 1), (copy, -1)):
        rows = {
            row.id: row
            for row in nearer_rows([before, model, *references], world.test, KEPT)
            if row.model == "after"
        }
        low, high = rows["dist.nearer"].ci
        assert low < rows["dist.nearer"].value < high
        assert min(sign * low, sign * high) > 0
        assert sign * (rows["dist.cka"].value - rows["dist.cka_original"].value) > 0
    assert rows["dist.cka_original"].value == pytest.approx(1.0)
    apart = [
        np.mean([jensen_shannon(table(copy)[:, [k]], table(other)[:, [k]]) for k in range(len(KEPT))])
        for other in references
    ]
    assert rows["dist.nearer"].value == pytest.approx(-np.mean(apart))  # a copy is no distance from it
    assert nearer_rows([before, copy], world.test, KEPT) == []
    alone = nearer_rows([before, copy, references[0]], world.test, KEPT)
    assert {row.model for row in alone} == {"after"}


def test_likeness_is_the_cosine_of_tables_that_are_centred_without_their_diagonals(world):
    """Song et al. 2012, by the other definition: U-centred products, whose inner product has no bias."""
    references = world.references(1)
    before, after = world.subject("before"), world.subject("after", network=5)

    def centred(subject):
        x = subject.test.features["penultimate"].astype(float)
        n, gram = len(x), x @ x.T
        np.fill_diagonal(gram, 0.0)
        rows = gram.sum(0)
        found = gram - (rows[:, None] + rows[None]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(found, 0.0)
        return found

    assert len(world.test) <= ALIKE
    rows = {row.id: row.value for row in nearer_rows([before, after, *references], world.test, KEPT)}
    for figure, other in (("dist.cka", references[0]), ("dist.cka_original", before)):
        one, two = centred(after), centred(other)
        expected = np.sum(one * two) / np.linalg.norm(one) / np.linalg.norm(two)
        assert rows[figure] == pytest.approx(expected)


def table(subject):
    """Probabilities of the retained labels."""
    return expit(subject.test.logits[:, list(KEPT)].astype(float))


def test_likeness_has_no_bias_from_width_and_does_not_see_a_rotation():
    """Unrelated features: the plain figure is near 1/2 where there are as many columns as images."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200, 200))
    turned = x @ np.linalg.qr(rng.normal(size=(200, 200)))[0]
    tables = [z @ z.T for z in (x, y, 5 * turned)]
    plain = np.sum(tables[0] * tables[1]) / np.linalg.norm(tables[0]) / np.linalg.norm(tables[1])
    for each in tables:
        np.fill_diagonal(each, 0.0)
    assert plain > 0.4
    assert abs(alike(tables[0], tables[1])) < 0.05
    assert alike(tables[0], tables[2]) == pytest.approx(1.0)
    assert alike(tables[0], np.zeros((200, 200))) == 0.0


def test_divergence_is_the_textbooks():
    rng = np.random.default_rng(0)
    p, q = rng.random((50, 3)), rng.random((50, 3))
    middle = (p + q) / 2

    def divergence(one, two):
        return one * np.log2(one / two) + (1 - one) * np.log2((1 - one) / (1 - two))

    oracle = (divergence(p, middle) + divergence(q, middle)) / 2
    assert jensen_shannon(p, q) == pytest.approx(oracle.mean())
    assert jensen_shannon(p, p) == 0.0


def test_attribute_inference_is_the_published_attack_with_the_correct_bits(world, question):
    rows = {row.id: row for row in attribute_inference(world.subject("after"), (0,), question)}
    shown = [1, 2, 3, 4]
    subject = world.subject("after")
    y = question.probe == 1
    seen = guess_linear(subject.probe.logits[:, shown], y, subject.probe.logits[:, shown])
    cut, above = best_cut(seen, y)
    said = (guess_linear(subject.probe.logits[:, shown], y, subject.test.logits[:, shown]) > cut) == above
    rates = [said[question.test == kind].mean() for kind in (1, 0)]
    assert rows["paper_aia.outputs"].value == pytest.approx((rates[0] + 1 - rates[1]) / 2, abs=2e-3)
    assert rows["paper_aia.outputs.adv"].value == pytest.approx(abs(2 * rows["paper_aia.outputs"].value - 1))
    assert rows["paper_aia.features"].value > 0.9
    # what an accuracy of .65 and of .46 says of a label that half have, and never below 0
    assert balanced_bits(0.65, 0.35) == pytest.approx(0.0659, abs=5e-5)
    assert balanced_bits(0.46, 0.54) == pytest.approx(0.0046, abs=5e-5)
    assert balanced_bits(1.0, 1.0) == 0.0  # guessing one kind always
    assert balanced_bits(0.0, 1.0) == 1.0  # always wrong is always known


def test_a_code_is_shorter_the_more_the_features_tell(world, question):
    savings = []
    for know in (0.0, 0.5, 1.5):
        length, plain, n = code_length(world.subject("after", know).probe, question, OPTIONS)
        assert n == 1500
        savings.append(plain / length)
    assert savings == sorted(savings)
    assert savings[2] > 2.0
    assert code_length(world.subject("after", 0.0, network=3).probe, replace(
        question, probe=np.random.default_rng(0).permutation(question.probe)
    ), OPTIONS)[0] > 1400  # fmt: skip
