"""What is planted is there: closed forms and integrals against draws of a million images."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from calibration.planted import LABEL, draw, plant
from calibration.truth import LOUD, RETAINED, columns, read_out
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.errors import OptionError
from unlabel.core.request import Request

N = 200_000


def log_ratio(found, table):
    """The best attack's log-likelihood ratio, written out from the densities."""
    if found.shape == "line":
        return norm.logpdf(table[:, 0] - found.strength / 2) - norm.logpdf(table[:, 0] + found.strength / 2)
    if found.shape == "norm":
        spread = norm.logpdf(table[:, :4], scale=found.strength) - norm.logpdf(table[:, :4])
        return spread.sum(1)
    a, (one, two) = found.strength, table[:, :2].T
    same = np.logaddexp(-((one - a) ** 2 + (two - a) ** 2) / 2, -((one + a) ** 2 + (two + a) ** 2) / 2)
    cross = np.logaddexp(-((one - a) ** 2 + (two + a) ** 2) / 2, -((one + a) ** 2 + (two - a) ** 2) / 2)
    return same - cross


@pytest.mark.parametrize("shape", ["line", "xor", "norm"])
@pytest.mark.parametrize(("adv", "prior"), [(0.2, 0.5), (0.6, 0.5), (0.6, 0.1)])
def test_the_best_attack_reaches_what_is_said(shape, adv, prior):
    found, rng = plant(shape, adv, prior), np.random.default_rng(0)
    y = rng.random(N) < prior
    table = found.features(y, rng.normal(size=(N, 16)), rng.random(N) < 0.5)
    ratio = log_ratio(found, table)
    # standard errors: 0.003 of an advantage where a tenth is present, 0.002 of bits
    assert 2 * roc_auc_score(y, ratio) - 1 == pytest.approx(adv, abs=0.012)
    entropy = -(prior * np.log2(prior) + (1 - prior) * np.log2(1 - prior))
    loss = log_loss(y, 1 / (1 + np.exp(-ratio - np.log(prior / (1 - prior))))) / np.log(2)
    assert entropy - loss == pytest.approx(found.best.bits, abs=0.008)


@pytest.mark.parametrize("shape", ["xor", "norm"])
def test_no_line_finds_what_is_not_in_the_means(shape):
    found, rng = plant(shape, 0.6), np.random.default_rng(1)
    y = rng.random(N) < 0.5
    table = found.features(y, rng.normal(size=(N, 16)), rng.random(N) < 0.5)
    gap = table[y].mean(0) - table[~y].mean(0)
    assert np.abs(gap).max() < 5 * table.std(0).max() * 2 / np.sqrt(N)
    assert (found.linear.adv, found.linear.bits) == (0.0, 0.0)


def test_nothing_planted_is_nothing():
    for shape in ("line", "xor", "norm"):
        assert plant(shape, 0.0).best == pytest.approx((0.0, 0.0), abs=1e-12)


def test_bits_of_two_distributions_by_hand():
    # a channel that errs one time in ten holds 1 - h(0.1) bits
    assert read_out(np.array([0.9, 0.1]), np.array([0.1, 0.9]), 0.5).bits == pytest.approx(
        1 - 0.468996, abs=1e-6
    )


def test_retained_columns_leak_what_is_said():
    found, rng = columns(0.7), np.random.default_rng(2)
    y = rng.random(N) < 0.5
    label = np.where(rng.random((N, RETAINED)) < 0.7, y[:, None], ~y[:, None])
    logit = LOUD * (2.0 * label - 1) + rng.normal(size=label.shape)
    up, down = norm.pdf(logit - LOUD), norm.pdf(logit + LOUD)
    best = np.log(0.7 * up + 0.3 * down) - np.log(0.3 * up + 0.7 * down)
    for score, said in ((label.sum(1), found.floor), (logit.sum(1), found.linear), (best.sum(1), found.best)):
        assert 2 * roc_auc_score(y, score) - 1 == pytest.approx(said, abs=0.01)
    assert 0 < found.linear < found.best < found.floor


def test_a_world_goes_through_a_whole_audit():
    options = AuditOptions(
        probe_seeds=1, folds=2, epochs=6, trees=15, permutations=10, resamples=30, raw_image=False
    )
    world = draw(plant("line", 0.3), columns(0.6), images=2000)
    before = world.model("before", plant=plant("line", 0.9))
    references = [world.model("reference", network=k) for k in (1, 2, 3)]
    request = Request.make([LABEL], world.splits[0].labels)
    after = world.model("after", network=9)
    found = audit_outputs(AuditInputs(before, after, references, request, *world.splits), options)
    assert found.valid, found.invalid_because
    assert (found.claims["C1"].verdict, found.claims["C2"].verdict) == ("PASS", "PASS")


def test_bad_numbers_are_refused():
    with pytest.raises(OptionError, match="line, xor, norm"):
        plant("lines", 0.5)
    with pytest.raises(OptionError, match=r"0 to 0\.98"):
        plant("line", 1.0)
    with pytest.raises(OptionError, match="even"):
        draw(plant("line", 0.5), columns(0.6), images=41)
    with pytest.raises(OptionError, match=r"0\.5 to 1"):
        columns(0.3)
