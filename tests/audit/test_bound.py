"""The bound beside C2 that needs no training: at most an untrained network's share of the residual."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

from unlabel.audit.attacks.prediction import d_prime
from unlabel.audit.attacks.residual_shares import Found, Residual, Shares, share_told, shares_of
from unlabel.audit.claims.c2_bound import bound_notes, cells, margin_above
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Context, Question, ask
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.report.terminal import lines

LABEL = "Male"
SITES = {(site, probe) for site in (PENULTIMATE, "outputs") for probe in ("linear", "random")}
OPTIONS = AuditOptions()


def request_of(data: Dataset) -> Request:
    return Request.make([LABEL], data.labels)


def context_of(probe: Dataset, test: Dataset) -> Context:
    question = ask(LABEL, probe, test, probe.take(np.arange(0)))
    return Context({LABEL: question}, request_of(probe), probe, test, probe, OPTIONS)


def told_by_hand(data: Dataset, column: int) -> np.ndarray:
    """The residual of a label by ordinary least squares on the retained labels, where all are known."""
    retained = np.delete(data.target, column, axis=1)
    y = data.target[:, column].astype(np.float64)
    return y - LinearRegression().fit(retained, y).predict(retained)


def planted(data: Dataset, share: float, seed: int) -> Outputs:
    """A model that holds a share of the residual's variance in one direction, and every retained label."""
    r = told_by_hand(data, data.labels.index(LABEL))
    rng = np.random.default_rng((seed, int(data.rows[0])))
    noise = rng.normal(size=len(data)) * r.std() * np.sqrt(1 / share - 1)
    features = np.c_[
        r + noise, np.delete(data.target, data.labels.index(LABEL), axis=1), rng.normal(size=(len(data), 3))
    ]
    return Outputs(rng.normal(size=(len(data), len(data.labels))), {PENULTIMATE: features})


@pytest.mark.parametrize("share", [0.03, 0.2, 0.6])
def test_a_planted_share_is_found(make_world, share):
    world = make_world(n=10_000, people=1)
    context = context_of(world.probe, world.test)
    pair = planted(world.probe, share, 1), planted(world.test, share, 1)
    found = shares_of(pair, [PENULTIMATE], Residual.of(context.questions[LABEL], context), context)
    assert set(found) == SITES
    item, wider = (found[PENULTIMATE, probe] for probe in ("linear", "random"))
    assert item.value == pytest.approx(share, abs=4 * item.se + 0.02 * share)
    assert wider.value > item.value - 0.01  # a residual has two values an image, which no linear probe uses
    assert all(abs(found["outputs", probe].value) < 0.002 for probe in ("linear", "random"))


def test_the_error_is_that_of_a_bootstrap_over_people(make_world):
    world = make_world(n=1500, people=3)
    context = context_of(world.probe, world.test)
    question = context.questions[LABEL]
    r = told_by_hand(world.test, question.column)
    retained = np.delete(world.test.target, question.column, axis=1).astype(np.float64)
    rng = np.random.default_rng(5)
    said = 0.3 * r + 0.4 * retained[:, 1] + 0.1 * rng.normal(size=len(r))  # it tells a retained label as well
    item = share_told(said, Residual(question, r, r, retained - retained.mean(0)))
    assert item.value == pytest.approx(0.3, abs=0.05)
    assert item.influence.sum() == pytest.approx(0.0, abs=1e-9)

    people, found = np.unique(question.test_cluster), []
    rows_of = [np.flatnonzero(question.test_cluster == person) for person in people]
    for _ in range(400):
        rows = np.concatenate([rows_of[at] for at in rng.integers(0, len(people), len(people))])
        y = world.test.target[rows, question.column].astype(np.float64)
        again = y - LinearRegression().fit(retained[rows], y).predict(retained[rows])
        found.append(float(said[rows] @ again / (again @ again)))
    assert item.se == pytest.approx(float(np.std(found)), rel=0.1)


def test_images_without_the_annotation_count_for_nothing(make_world):
    world = make_world(n=2000)
    known, pairs = [], []
    for data in (world.probe, world.test):
        target = data.target.copy()
        target[::3, 0] = -1
        less = replace(data, target=target)
        pairs.append((less, planted(data, 0.3, 2)))
        rows = np.flatnonzero(target[:, 0] >= 0)
        known.append(
            (
                less.take(rows),
                Outputs(pairs[-1][1].logits[rows], {PENULTIMATE: pairs[-1][1].features[PENULTIMATE][rows]}),
            )
        )
    with_unknown, without = (
        shares_of(
            (parts[0][1], parts[1][1]), [PENULTIMATE], Residual.of(context.questions[LABEL], context), context
        )
        for parts in (pairs, known)
        for context in [context_of(parts[0][0], parts[1][0])]
    )
    for place, item in with_unknown.items():
        other = without[place]
        assert item.n == other.n == int((pairs[1][0].target[:, 0] >= 0).sum())
        assert item.value == pytest.approx(other.value, rel=1e-6, abs=1e-9)
        assert item.se == pytest.approx(other.se, rel=1e-6)


def test_an_unknown_retained_annotation_leaves_the_image_in(make_world):
    world = make_world(n=2000)
    target = world.test.target.copy()
    target[::4, 2] = -1
    context = context_of(world.probe, replace(world.test, target=target))
    pair = planted(world.probe, 0.3, 3), planted(world.test, 0.3, 3)
    found = shares_of(pair, [PENULTIMATE], Residual.of(context.questions[LABEL], context), context)
    assert found[PENULTIMATE, "linear"].n == len(world.test)


@pytest.mark.parametrize("present", [0.5, 0.1])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_the_margin_is_what_an_advantage_adds_on_a_normal_score(present, share):
    n = 400_000
    y = (np.arange(n) < present * n).astype(np.int8)
    question = Question(LABEL, 0, y, y, y[:0], *(np.arange(n),) * 2, np.arange(0))
    margin = margin_above(share, question, 0.1)
    rng = np.random.default_rng(0)

    def share_of(distance: float) -> float:
        score = y * distance + rng.normal(size=n)
        return float(np.corrcoef(score, y)[0, 1] ** 2)

    low, high = 0.0, 5.0
    for _ in range(40):  # the distance whose share is known, by bisection of the exact formula
        middle = (low + high) / 2
        spread = present * (1 - present)
        low, high = (middle, high) if spread * middle**2 / (1 + spread * middle**2) < share else (low, middle)
    advantage = 2 * _auc(low) - 1
    assert share_of(d_prime(advantage + 0.1)) == pytest.approx(share + margin, abs=0.004)


def _auc(distance: float) -> float:
    return float(norm.cdf(distance / np.sqrt(2)))


@dataclass(frozen=True)
class Bench:
    """A world, and what probes find in its original and in networks that know nothing."""

    world: Any
    context: Context
    original: Shares
    untrained: tuple[Shares, ...]

    def shares(self, know: float | list[float], network: int) -> Shares:
        item = self.world.subject("after", know, network=network)
        pair = item.probe, item.test
        residual = Residual.of(self.context.questions[LABEL], self.context)
        return shares_of(pair, [PENULTIMATE], residual, self.context)

    def noted(self, after: Shares, before: Shares | None = None, options: AuditOptions = OPTIONS) -> Any:
        found = {LABEL: Found(before or self.original, after, self.untrained)}
        return bound_notes(found, self.context.questions, options, exclusive=False)


NOTHING = [0.0] * 5


@pytest.fixture(scope="module")
def bench(make_world) -> Bench:
    """Made once."""
    world = make_world(n=6000, people=1)
    empty = Bench(world, context_of(world.probe, world.test), {}, ())
    untrained = tuple(empty.shares(NOTHING, network) for network in (50, 51, 52))
    return replace(empty, original=empty.shares(1.5, 0), untrained=untrained)


def test_random_weights_hold(bench):
    bound = bench.noted(bench.shares(NOTHING, 60))
    assert bound["verdict"] == "HOLDS", bound["sentence"]
    assert bound["labels"] == {LABEL: "HOLDS"}


def test_the_original_does_not_hold(bench):
    bound = bench.noted(bench.original)
    assert bound["verdict"] == "DOES NOT HOLD"
    assert {(row["site"], row["probe"]) for row in bound["sites"]} == SITES
    for row in bound["sites"]:
        untrained = np.mean(np.maximum(row["untrained"], 0))
        assert row["excess"] == pytest.approx(max(row["unlearned"], 0) - untrained)
        assert row["lower"] < row["excess"] < row["upper"]


def test_a_model_that_knows_the_retained_labels_alone_holds(bench):
    know = [0.0, 1.5, 1.5, 1.5, 1.5]
    assert bench.noted(bench.shares(know, 61))["verdict"] == "HOLDS"
    young = bench.world.outputs(bench.world.test, know, 61).logits[:, 2]
    told = np.corrcoef(young, bench.world.test.target[:, 0])[0, 1]
    assert abs(told) > 0.2, "a retained label tells the forgotten one"


def test_an_original_that_knows_nothing_leaves_the_bound_open(bench):
    nothing = bench.shares(NOTHING, 60)
    bound = bench.noted(nothing, before=nothing)
    assert bound["verdict"] == "OPEN"
    assert "says nothing" in bound["sentence"]
    assert all(row["verdict"] == "HOLDS" for row in bound["sites"]), "every site alone would"


def test_few_present_images_leave_the_bound_open(bench):
    bound = bench.noted(bench.untrained[0], options=AuditOptions(rare=8000))
    assert bound["verdict"] == "OPEN"
    assert "Too few" in bound["sentence"]


def test_the_spread_of_untrained_networks_is_a_part_of_the_error(figure):
    question = SimpleNamespace(label=LABEL, test=np.arange(2000) % 2)
    place = PENULTIMATE, "linear"
    model, level = {place: figure(0.05)}, figure(0.04)
    same, spread = (
        next(cells(model, [{place: replace(level, value=value)} for value in values], question, OPTIONS))
        for values in ([0.04] * 3, [0.02, 0.04, 0.06])
    )
    assert same.contrast.value == pytest.approx(spread.contrast.value)
    assert spread.upper(OPTIONS) > same.upper(OPTIONS) + 0.005


def audited(world, quick, references=(), **extras):
    subjects = world.subject("before"), world.subject("after", 0.1, absent=[LABEL]), references
    return audit_outputs(AuditInputs(*subjects, request_of(world.probe), *world.splits, **extras), quick)


def test_an_audit_has_the_bound_if_it_has_no_reference(make_world, quick):
    world = make_world(n=600)
    random = world.subject("reference", [0.0] * 5, network=50)
    pair = random.probe, random.test
    without = audited(world, quick)
    bounded = audited(world, quick, random_init=pair, untrained=[pair])
    compared = audited(world, quick, world.references(1), random_init=pair)
    bound = without.claims["C2"].notes["bound"]
    assert bound["verdict"] == "NOT AVAILABLE"
    assert "untrained network" in bound["sentence"]
    assert len(bounded.claims["C2"].notes["bound"]["sites"]) == len(SITES)
    assert all(len(row["untrained"]) == 2 for row in bounded.claims["C2"].notes["bound"]["sites"])
    assert "bound" not in compared.claims["C2"].notes
    assert bounded.headline == without.headline, "the bound changes no headline"
    assert bounded.claims["C2"].verdict == without.claims["C2"].verdict == "NOT_EVALUATED"
    assert any(line.startswith("   bound without training: ") for line in lines(bounded))


def test_classes_have_no_residual():
    assert "no residual" in str(bound_notes({}, {}, OPTIONS, exclusive=True)["sentence"])


def test_one_label_of_two_that_does_not_hold_decides(bench):
    found = {
        "one": Found(bench.original, bench.original, bench.untrained),
        "two": Found(bench.original, bench.shares(NOTHING, 60), bench.untrained),
    }
    questions = {name: replace(bench.context.questions[LABEL], label=name) for name in found}
    notes: Any = bound_notes(found, questions, OPTIONS, exclusive=False)
    assert notes["labels"] == {"one": "DOES NOT HOLD", "two": "HOLDS"}
    assert notes["verdict"] == "DOES NOT HOLD"
    assert "of one" in notes["sentence"]
