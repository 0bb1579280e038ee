"""Whom it hits: harm and leaks are found in the right group, fair models in none, and no person is named."""

from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.evidence import groups_of
from unlabel.audit.attacks.groups import LEAST
from unlabel.audit.attacks.hits import Hits, hit_rows, served
from unlabel.audit.attacks.moved_errors import CALLED, MISSED, Errors, mean_rates, moved
from unlabel.audit.attacks.persons import persons
from unlabel.audit.attacks.within_groups import Part, areas, leaks, parts_of
from unlabel.audit.claims.c5_groups import notes_of, table
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Context, ask
from unlabel.core.request import Request
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.report.page import render
from unlabel.statement.schema import audit_faults
from unlabel.testing.stage import honest, stage

OPTIONS = AuditOptions(
    probe_seeds=1, folds=2, epochs=6, trees=15, permutations=10, resamples=30, raw_image=False
)
RETAINED = ("Bald", "Young", "Smiling", "Hat")


@pytest.fixture
def request_of(world):
    return Request.make(["Male"], world.test.labels)


def hits_of(world, request, after, references):
    subjects = [world.subject("before"), after, *references]
    masks = parts_of(world.test, (*request.retained, *request.masked))
    inner = {part: mask for part, mask in masks.items() if part.label in request.retained}
    question = ask("Male", *world.splits)
    return Hits(
        len(masks),
        {"Male": [leaks(subject, question, inner, OPTIONS) for subject in subjects]},
        [served(subject, subjects[0], world.test, request, masks, OPTIONS) for subject in subjects],
        persons(after, references, world.test, request.retained_columns),
    )


def harmed(subject, rows, by=4.0):
    """The same model, with noise on the retained outputs of some images."""
    logits = subject.test.logits.copy()
    logits[rows, 1:] += by * np.random.default_rng(0).normal(size=logits[rows, 1:].shape)
    return replace(subject, test=replace(subject.test, logits=logits))


def top(note):
    group = note["groups"][0]
    return group["label"], group["present"], group["lower"] > 0


def test_harm_in_one_group_is_found_in_that_group(world, request_of):
    fair = world.subject("after", 0.1, network=5, absent=["Male"])
    rows = world.test.target[:, 4] == 1
    note = notes_of(hits_of(world, request_of, harmed(fair, rows), world.references(3)), OPTIONS)
    assert top(note["losses"]) == ("Hat", True, True)
    assert note["losses"]["tested"] == 10
    assert note["losses"]["beyond"] >= 1
    plain = notes_of(hits_of(world, request_of, fair, world.references(3)), OPTIONS)
    assert plain["losses"]["beyond"] == 0
    assert plain["leaks"]["Male"]["beyond"] == 0
    assert note["losses"]["groups"][0]["excess"] > 0.05 > plain["losses"]["groups"][0]["excess"]


def test_a_leak_in_one_group_is_found_in_that_group(world, request_of):
    fair = world.subject("after", 0.1, network=5, absent=["Male"])
    features = {}
    for name, outputs, data in (("probe", fair.probe, world.probe), ("test", fair.test, world.test)):
        table_of = outputs.features[PENULTIMATE].copy()
        told = (2.0 * data.target[:, 0] - 1) * (data.target[:, 3] == 0)  # of images without Smiling alone
        table_of[:, 0] += 3 * told
        features[name] = Outputs(outputs.logits, {PENULTIMATE: table_of.astype(np.float32)})
    leaky = replace(fair, **features)
    note = notes_of(hits_of(world, request_of, leaky, world.references(3)), OPTIONS)
    found = note["leaks"]["Male"]
    assert found["tested"] == 8
    assert found["beyond"] == sum(each["lower"] > 0 for each in found["groups"]) >= 1
    assert found["at_most"] == max(each["upper"] for each in found["groups"])
    # Young goes together with Male: retrained models tell least of Male within its groups
    groups = {(each["label"], each["present"]): each for each in found["groups"] if each["label"] != "Young"}
    assert next(iter(groups)) == ("Smiling", False)
    assert groups["Smiling", False]["lower"] > 0.4
    assert groups["Smiling", True]["upper"] < 0.1


def test_a_fair_model_is_rarely_accused_and_the_bounds_hold(make_world):
    worlds, alarms, held = 80, 0, 0
    for seed in range(worlds):
        world = make_world(seed, n=800)
        masks = parts_of(world.test, world.test.labels)
        models = [
            areas(world.subject("after", network=20 + 7 * seed + k), world.test, RETAINED, masks)
            for k in range(4)
        ]
        note = table(models, len(masks), replace(OPTIONS, seed=seed), sign=-1)
        alarms += note["beyond"] > 0
        held += all(group["upper"] >= 0 for group in note["groups"])
    # every model knows every label equally well, so each true difference is 0; 80 worlds: 3 standard errors
    assert alarms / worlds < 0.05 + 0.073
    assert held / worlds > 0.95 - 0.073


def test_areas_and_rates_are_those_of_a_slow_count(world):
    subject, masks = world.subject("after"), parts_of(world.test, world.test.labels)
    found = areas(subject, world.test, RETAINED, masks)
    errors = Errors.of(subject, world.test, RETAINED, OPTIONS)
    for part, mask in masks.items():
        each, rates = [], {MISSED: [], CALLED: []}
        for name in RETAINED:
            column = world.test.labels.index(name)
            score, target = subject.test.logits[mask, column], world.test.target[mask, column]
            if min(np.sum(target == 1), np.sum(target == 0)) >= LEAST:
                yes, no = score[target == 1], score[target == 0]
                each.append(np.mean(yes[:, None] > no) + 0.5 * np.mean(yes[:, None] == no))
            if np.sum(target == 1) >= LEAST:
                rates[MISSED].append(np.mean(score[target == 1] <= 0))
            if np.sum(target == 0) >= LEAST:
                rates[CALLED].append(np.mean(score[target == 0] > 0))
        assert found[part].value == pytest.approx(np.mean(each))
        for kind, values in rates.items():
            assert mean_rates(errors, {part: mask}, kind)[part].value == pytest.approx(np.mean(values))


def test_moves_have_the_size_the_share_and_the_influences_of_a_slow_count(world):
    masks = parts_of(world.test, world.test.labels)
    before = Errors.of(world.subject("before"), world.test, RETAINED, OPTIONS)
    rows = world.test.target[:, 0] == 1
    errors = Errors.of(harmed(world.subject("before"), rows), world.test, RETAINED, OPTIONS)
    found = moved(errors, before, masks, ("Male",))
    sizes, added = [], {}
    for part, mask in masks.items():
        moves = []
        for column, name in enumerate(RETAINED):
            target = world.test.target[:, world.test.labels.index(name)]
            for kind in (1, 0):
                images = mask & (target == kind)
                if images.sum() >= LEAST:
                    moves.append(np.mean(errors.wrong[images, column] - before.wrong[images, column]))
        sizes.append(np.mean(np.abs(moves)))
        added[part] = np.mean(np.maximum(moves, 0))
    assert found.total.value == pytest.approx(np.mean(sizes))
    with_male, without = added[Part("Male", True)], added[Part("Male", False)]
    assert without == 0
    assert found.shares["Male"].value == pytest.approx(with_male / (with_male + without)) == 1.0
    assert np.abs(found.total.influence.sum()) < 1e-9
    assert found.total.se > 0


def test_influences_of_moves_are_the_change_when_a_person_is_left_out(make_world):
    world = make_world(3, n=900, people=1)
    masks = parts_of(world.test, ("Male",))
    before = Errors.of(world.subject("before"), world.test, RETAINED, OPTIONS)
    errors = Errors.of(world.subject("after", network=3), world.test, RETAINED, OPTIONS)
    found = moved(errors, before, masks, ("Male",))
    for index in (0, 1, 17, 400):
        keep = np.arange(len(world.test)) != index
        fewer = [
            Errors(each.wrong[keep], {k: table[keep] for k, table in each.kinds.items()}, each.cluster[keep])
            for each in (errors, before)
        ]
        again = moved(*fewer, {part: mask[keep] for part, mask in masks.items()}, ("Male",))
        # first order: leaving one of about 200 images of a cell out changes it by 1 / 200 more
        for one, two in ((found.total, again.total), (found.shares["Male"], again.shares["Male"])):
            assert one.value - two.value == pytest.approx(one.influence[index], rel=0.05, abs=2e-5)


def test_a_model_that_moved_nothing_has_no_share(world):
    masks = parts_of(world.test, world.test.labels)
    errors = Errors.of(world.subject("before"), world.test, RETAINED, OPTIONS)
    found = moved(errors, errors, masks, ("Male",))
    assert found.total.value == 0.0
    assert found.shares == {}


def test_thresholds_of_the_options_decide_what_is_called(world):
    subject = world.subject("before")
    masks = {Part("Male", True): world.test.target[:, 0] == 1}
    never = replace(OPTIONS, thresholds=dict.fromkeys(RETAINED, 1e6))
    errors = Errors.of(subject, world.test, RETAINED, never)
    assert mean_rates(errors, masks, MISSED)[Part("Male", True)].value == 1.0
    assert mean_rates(errors, masks, CALLED)[Part("Male", True)].value == 0.0


def test_rare_groups_are_left_out_and_counted(world, request_of):
    target = world.test.target.copy()
    target[:, 4] = np.where(np.cumsum(target[:, 4] == 1) <= LEAST - 1, target[:, 4], 0)  # 99 hats
    few = replace(world.test, target=target)
    masks = parts_of(few, few.labels)
    found = areas(world.subject("after"), few, RETAINED, masks)
    assert Part("Hat", True) not in found
    assert Part("Hat", False) in found
    note = table([found, found], len(masks), OPTIONS, sign=-1)
    assert (note["tested"], note["left_out"]) == (9, 1)
    none = table([{}, {}], 10, OPTIONS)
    assert none == {"tested": 0, "left_out": 10, "beyond": 0, "groups": []}


def test_without_retrained_models_the_original_is_the_measure(world, request_of):
    after = harmed(world.subject("before"), world.test.target[:, 4] == 1)
    note = notes_of(hits_of(world, request_of, replace(after, role="after", run="x"), []), OPTIONS)
    assert note["losses"]["against"] == "original"
    assert top(note["losses"]) == ("Hat", True, True)
    assert note["leaks"] == {}
    assert note["moved"] is note["persons"] is None


def test_persons_who_pay_are_counted_and_not_named(make_world):
    world = make_world(1, n=1500, people=5)
    references = world.references(3)
    fair = world.subject("after", 0.1, network=5, absent=["Male"])
    found = persons(fair, references, world.test, (1, 2, 3, 4))
    assert found.persons == 300
    assert found.share.interval()[0] < 0.05 < found.share.interval()[1]
    assert np.mean([item.value for item in found.retrained]) == pytest.approx(0.05, abs=0.004)
    victims = np.isin(world.test.cluster, np.unique(world.test.cluster)[:45])  # 15 % of the people
    hit = persons(harmed(fair, victims, 6.0), references, world.test, (1, 2, 3, 4))
    assert hit.amount == found.amount
    assert hit.share.lower() > 0.10
    assert persons(fair, references[:1], world.test, (1, 2, 3, 4)) is None
    alone = replace(world.test, cluster=np.arange(len(world.test)))
    assert persons(fair, references, alone, (1, 2, 3, 4)) is None


def test_rows_carry_the_groups_in_their_ids(world, request_of):
    hits = hits_of(world, request_of, world.subject("after", 0.1, network=5), world.references(2))
    subjects = [world.subject("before"), world.subject("after", 0.1, network=5), *world.references(2)]
    rows = list(hit_rows(hits, subjects))
    ids = {row.id for row in rows}
    assert {"group.leak.with@Hat", "group.auc.without@Male", "group.moved", "person.harmed"} <= ids
    assert "group.leak.with@Male" not in ids
    assert all(row.n <= len(world.test) for row in rows)
    assert {row.model for row in rows if row.id == "group.moved"} == {"after", "reference"}
    names = set(map(str, np.unique(world.test.cluster)))
    assert not any(row.id.split("@")[-1] in names for row in rows)


def test_classes_and_the_quick_budget_have_no_groups(world, request_of):
    questions = {"Male": ask("Male", *world.splits)}
    context = Context(questions, request_of, *world.splits, replace(OPTIONS, budget="standard"))
    assert len(groups_of(context)) == 10
    assert groups_of(replace(context, options=OPTIONS)) == {}
    classes = replace(world.test, exclusive=True)
    assert groups_of(replace(context, test=classes)) == {}


def test_an_audit_carries_the_note_the_rows_and_the_page_and_no_verdict_rests_on_it():
    found = stage().audit(honest(seed=9), replace(OPTIONS, budget="standard", draws=2, few=(64,)))
    note = found.claims["C5"].notes["groups"]
    assert note["losses"]["tested"] + note["losses"]["left_out"] == 6
    assert note["leaks"]["top"]["tested"] > 0
    assert found.claims["C5"].verdict == "PASS"
    assert {row.id for row in found.metrics} >= {"group.moved", "group.auc.with@bottom"}
    assert not any(row.id.startswith(("group.", "person.")) for row in found.comparisons)
    content = found.to_json()
    # the stage has no record of its models
    assert all(fault.startswith("models:") for fault in audit_faults(content))
    assert "Where top can be recovered" in render(content)
