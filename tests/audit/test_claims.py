"""Verdict rules, from made-up figures whose right answer is plain."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.outputs import OwnOutput
from unlabel.audit.attacks.utility import Utility
from unlabel.audit.claims.c1_disabled import claim_disabled, thin_on_train
from unlabel.audit.claims.c2_retrain_equivalent import SUFFICES, claim_equivalent
from unlabel.audit.claims.c3_erased import claim_erased
from unlabel.audit.claims.c5_useful import claim_useful
from unlabel.audit.claims.evasion import condemned
from unlabel.audit.claims.headline import HEADLINES, headline, untested_claims
from unlabel.audit.claims.judging import Cell, place_of
from unlabel.audit.document.results import Audit, Claim, Metric
from unlabel.audit.figures import ATTACKS
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question, ask
from unlabel.report.sentences import FINDINGS
from unlabel.statistics.contrast import Contrast, seeded
from unlabel.statistics.estimate import advantage

OPTIONS = AuditOptions()


@pytest.fixture
def questions(world):
    return {name: ask(name, *world.splits) for name in ("Male", "Bald")}


@pytest.fixture
def reading(figure):
    """Readings of one label: every attack in advantage at one value, in bits at another."""

    def make(adv, bits=None, se=0.01, **named):
        bits = adv / 2 if bits is None else bits
        rows = {name: figure(bits if "bits" in name else adv, se) for name in ATTACKS}
        rows["own.adv"] = figure(0.0, 0.0)
        return {**rows, **{name.replace("_", "."): figure(value, se) for name, value in named.items()}}

    return make


def equivalent(questions, after, references, before, labels=("Male",), positive=0.9, options=OPTIONS):
    """C2 for the same readings of every label."""
    positives = positive if isinstance(positive, dict) else dict.fromkeys(labels, positive)

    def rows(item):
        return item if "Male" in item else dict.fromkeys(labels, item)

    return claim_equivalent(
        rows(after),
        [rows(item) for item in references],
        rows(before),
        positives,
        {name: questions[name] for name in labels},
        options,
    )


def test_equal_to_retrained_passes_where_the_original_would_not(questions, reading):
    claim, judged, removed = equivalent(questions, reading(0.3), [reading(0.3)] * 3, reading(0.9))
    assert claim.verdict == "PASS"
    assert not claim.provisional
    assert claim.per_label == {"Male": "PASS"}
    assert {cell.figure for cell in judged.cells} == set(ATTACKS)
    assert removed.verdict == "FAIL"
    assert "retrained without it" in claim.sentence


def test_leaking_less_than_retrained_is_no_failure(questions, reading):
    assert equivalent(questions, reading(0.0), [reading(0.5)] * 3, reading(0.9))[0].verdict == "PASS"


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "own.adv"])
def test_one_attack_beyond_its_margin_is_enough_to_fail(questions, reading, figure, attack):
    after = {**reading(0.3), attack: figure(0.55, 0.01)}
    claim, judged, _ = equivalent(questions, after, [reading(0.3)] * 3, reading(0.9))
    assert claim.verdict == "FAIL"
    assert claim.binding == attack
    assert [cell.figure for cell in judged.cells if cell.verdict == "FAIL"] == [attack]


def test_an_excess_that_may_be_either_side_of_the_margin_is_inconclusive(questions, reading):
    claim, _, _ = equivalent(questions, reading(0.39, 0.3), [reading(0.3, 0.3)] * 3, reading(0.9))
    assert claim.verdict == "INCONCLUSIVE"
    assert claim.notes["images_needed"]["Male"] > 1500


def test_failure_is_corrected_for_the_number_of_attacks(questions, reading, figure):
    # 0.10 + 1.9 standard errors: beyond 1.64, but not beyond Holm's 2.45 for seven attacks.
    after = {**reading(0.3), "others.adv.lin": figure(0.3 + 0.1 + 0.019, 0.01)}
    steady = reading(0.3, se=0.0)
    claim, judged, _ = equivalent(questions, after, [steady] * 3, reading(0.9))
    cell = next(cell for cell in judged.cells if cell.figure == "others.adv.lin")
    assert cell.contrast.lower() > 0.0999
    assert claim.verdict == "INCONCLUSIVE"


def test_where_removing_the_output_passes_too_the_pass_says_so(questions, reading):
    claim, _, removed = equivalent(questions, reading(0.3), [reading(0.3)] * 3, reading(0.32))
    assert removed.verdict == "PASS"
    assert claim.verdict == "PASS"
    assert claim.notes["finding"] == "head removal suffices here"
    assert claim.per_label == {"Male": "PASS"}
    assert "removing it was enough here" in claim.sentence


def test_a_leak_is_a_leak_where_removing_the_output_was_enough(questions, reading):
    claim, _, removed = equivalent(questions, reading(0.6), [reading(0.3)] * 3, reading(0.32))
    assert removed.verdict == "PASS"
    assert (claim.verdict, claim.notes.get("finding")) == ("FAIL", None)


def test_a_pass_does_not_count_where_the_decoy_cannot_be_told(questions, reading):
    claim, _, removed = equivalent(questions, reading(0.3), [reading(0.3)] * 3, reading(0.39, 0.2))
    assert removed.verdict == "INCONCLUSIVE"
    assert (claim.verdict, claim.notes["finding"]) == ("INCONCLUSIVE", "cannot discriminate")
    images = claim.notes["images_needed"]["Male"]  # with which the original without its output is decided
    assert images > questions["Male"].n
    assert f"about {images:,} test images would decide" in claim.sentence


def test_an_open_claim_says_if_not_even_the_original_is_told_from_retrained_models(questions, reading):
    for before, told in ((reading(0.39, 0.2), False), (reading(0.9), True)):
        claim, _, removed = equivalent(questions, reading(0.39, 0.2), [reading(0.3)] * 3, before)
        assert claim.verdict == "INCONCLUSIVE"
        assert (removed.verdict == "INCONCLUSIVE") is not told
        assert ("cannot tell even the original, its output removed" in claim.sentence) is not told


def test_seed_noise_of_the_references_widens_the_bounds(questions, reading):
    after, before = reading(0.33, 0.1), reading(0.9)
    calm = equivalent(questions, after, [reading(0.3, 0.1)] * 3, before)[0]
    noisy = equivalent(questions, after, [reading(value, 0.1) for value in (0.2, 0.3, 0.4)], before)[0]
    assert (calm.verdict, noisy.verdict) == ("PASS", "INCONCLUSIVE")


@pytest.mark.parametrize(
    ("count", "verdict", "provisional"),
    [
        (0, "NOT_EVALUATED", True),
        (1, "PASS", True),
        (2, "PASS", True),
        (3, "PASS", False),
    ],
)
def test_fewer_than_three_references_are_provisional(questions, reading, count, verdict, provisional):
    claim = equivalent(questions, reading(0.3), [reading(0.3)] * count, reading(0.9))[0]
    assert (claim.verdict, claim.provisional) == (verdict, provisional)


def test_nothing_to_forget_is_said(questions, reading):
    claim = equivalent(questions, reading(0.05), [reading(0.05)] * 3, reading(0.05), positive=0.05)[0]
    assert (claim.verdict, claim.notes["finding"]) == ("NOT_EVALUATED", "nothing to forget found")
    assert "from the original model or from this one" in claim.sentence


def test_a_label_that_only_the_unlearned_model_shows_is_judged(questions, reading):
    """Forgetting itself, or forgetting another label with it, can put a label in."""
    labels = ("Male", "Bald")
    references = [{"Male": reading(0.05), "Bald": reading(0.3)}] * 3
    before = {"Male": reading(0.05), "Bald": reading(0.9)}
    positive = {"Male": 0.03, "Bald": 0.8}

    def decided(adv):
        level = {"Male": reading(adv), "Bald": reading(0.3)}
        return equivalent(questions, level, references, before, labels, positive)[0]

    grown = decided(0.6)
    assert (grown.verdict, grown.per_label["Male"]) == ("FAIL", "FAIL")
    assert grown.notes["nothing_to_forget"] == []
    none = decided(0.05)
    assert (none.verdict, none.per_label) == ("PASS", {"Male": "NOT_EVALUATED", "Bald": "PASS"})
    assert "more about Bald from" in none.sentence
    assert "Male was not judged" in none.sentence


def test_rare_labels_are_inconclusive_even_when_plain(questions, reading):
    rare = {"Male": replace(questions["Male"], test=np.where(np.arange(1500) < 150, 1, 0).astype(np.int8))}
    for adv in (0.0, 0.9):
        claim = equivalent(rare, reading(adv), [reading(0.0)] * 3, reading(0.9))[0]
        assert claim.verdict == "INCONCLUSIVE"
        assert claim.notes["rare"] == ["Male"]
    assert (
        equivalent(rare, reading(0.0), [reading(0.0)] * 3, reading(0.9))[0].notes["images_needed"]["Male"]
        == 2000
    )


def test_several_labels_pass_by_their_mean_and_fail_by_any(questions, reading):
    labels, before = ("Male", "Bald"), reading(0.9)
    references = [{"Male": reading(0.3), "Bald": reading(0.3)}] * 3
    level = {"Male": reading(0.34, 0.1, 0.045), "Bald": reading(0.2, 0.1)}
    claim, judged, _ = equivalent(questions, level, references, {"Male": before, "Bald": before}, labels)
    assert claim.verdict == "PASS"
    assert claim.per_label == {"Male": "INCONCLUSIVE", "Bald": "PASS"}
    assert claim.notes["open_labels"] == ["Male"]
    assert "Male alone is not decided" in claim.sentence
    assert claim.notes["images_needed"]["Male"] > questions["Male"].n
    assert {cell.label for cell in judged.cells} == {"Male", "Bald", None}
    one_bad = {"Male": reading(0.6), "Bald": reading(0.0)}
    claim, _, _ = equivalent(questions, one_bad, references, {"Male": before, "Bald": before}, labels)
    assert claim.verdict == "FAIL"
    assert claim.per_label == {"Male": "FAIL", "Bald": "PASS"}


@pytest.mark.parametrize(("excess", "verdict"), [(0.06, "PASS"), (0.13, "INCONCLUSIVE"), (0.3, "FAIL")])
def test_a_label_that_leaks_less_does_not_make_up_for_one_that_leaks_more(
    questions, reading, excess, verdict
):
    """Bald was forgotten too hard. The mean over both is below 0 at any rate."""
    before = dict.fromkeys(("Male", "Bald"), reading(0.9))
    references = [dict.fromkeys(before, reading(0.5))] * 3
    level = {"Male": reading(0.5 + excess, 0.25, 0.03), "Bald": reading(0.0, 0.0)}
    claim, judged, _ = equivalent(questions, level, references, before, tuple(before))
    assert claim.verdict == verdict
    means = [cell for cell in judged.cells if cell.label is None and cell.figure == "probe.adv.lin"]
    assert [cell.contrast.value < 0 < cell.upper(OPTIONS) for cell in means] == [True]
    assert [cell.upper(OPTIONS) > excess / 2 for cell in means] == [True]
    if verdict == "INCONCLUSIVE":
        assert judged.binding.label == "Male"
        assert "leaks more about Male" in claim.sentence
        assert claim.notes["smallest_margin"]["adv"]["margin"] == pytest.approx(excess)


@pytest.mark.parametrize("few", [("Bald",), ("Male", "Bald")])
def test_no_mean_decides_while_a_label_in_it_is_rare(questions, reading, few):
    """Of Bald, 12 test images: it leaks so much that the mean is beyond its margin, and Male does not."""
    target = (np.arange(1500) < 12).astype(np.int8)
    asked = {name: replace(item, test=target) if name in few else item for name, item in questions.items()}
    labels = ("Male", "Bald")
    level = {"Male": reading(0.3), "Bald": reading(0.8)}
    equal = dict.fromkeys(labels, reading(0.3))
    claim, judged, _ = equivalent(asked, level, [equal] * 3, dict.fromkeys(labels, reading(0.9)), labels)
    own = {name: "INCONCLUSIVE" if name in few else "PASS" for name in labels}
    assert (claim.verdict, claim.per_label) == ("INCONCLUSIVE", own)
    assert {cell.verdict for cell in judged.cells if cell.label is None} == {"INCONCLUSIVE"}
    assert "too few to decide" in claim.sentence
    if len(few) == 1:  # only Male's tests can decide
        assert judged.binding.label == "Male"
        assert claim.notes["margin_curve"][0]["fails_below"] < 1


def of_few_people(question):
    """The question, judged on both splits: in the test split eight people have the label, in P many."""
    cluster = np.where(question.test == 1, question.test_cluster % 8, 8 + question.test_cluster)
    return replace(question, test_cluster=cluster, crossed=True)


def test_what_is_read_on_the_test_split_alone_decides_nothing_by_its_few_people(questions, reading, figure):
    """Membership is; the other attacks on a label that is judged on both splits are not."""
    asked = {"Male": of_few_people(questions["Male"])}
    assert not asked["Male"].rare(OPTIONS)
    member = "mia.label.auc"
    before, equal = reading(0.9) | {member: figure(0.7)}, reading(0.3) | {member: figure(0.5)}

    def decided(adv, area, asked=asked):
        after = reading(adv) | {member: figure(area)}
        claim, judged, _ = equivalent(asked, after, [equal] * 3, before)
        (cell,) = [cell for cell in judged.cells if cell.figure == member]
        return claim, cell.verdict

    assert [decided(0.3, area, questions)[0].verdict for area in (0.5, 0.7)] == ["PASS", "FAIL"]
    for area in (0.5, 0.7):
        claim, membership = decided(0.3, area)
        assert (claim.verdict, membership) == ("INCONCLUSIVE", "INCONCLUSIVE")
        assert "Fewer than 20 identities in effect have, or lack, Male in the test split." in claim.sentence
        assert claim.notes["images_needed"]["Male"] >= 2.5 * 3000
        assert claim.notes["margin_curve"][0]["passes_above"] is None
    assert decided(0.6, 0.5)[0].verdict == "FAIL"
    both = asked | {"Bald": questions["Bald"]}
    rows = {name: reading(0.3) | {member: figure(0.5)} for name in both}
    claim, judged, _ = equivalent(both, rows, [rows] * 3, dict.fromkeys(both, before), ("Male", "Bald"))
    assert claim.per_label == {"Male": "INCONCLUSIVE", "Bald": "PASS"}
    assert claim.verdict == "INCONCLUSIVE"
    open_ = {(cell.label, cell.figure) for cell in judged.cells if cell.verdict == "INCONCLUSIVE"}
    assert open_ == {("Male", member), (None, member)}


def test_one_person_with_most_of_the_images_is_no_crowd(questions):
    """Forty people have the label in both: as many images each, or one of them nearly all."""
    asked = questions["Male"]
    shows = np.flatnonzero(asked.test == 1)
    cluster = 1000 + np.arange(len(asked.test))
    evenly, unevenly = cluster.copy(), cluster.copy()
    evenly[shows] = np.arange(len(shows)) % 40
    unevenly[shows] = np.minimum(np.arange(len(shows)), 39)
    even, uneven = (replace(asked, test_cluster=each) for each in (evenly, unevenly))
    assert even.people == pytest.approx(40, abs=0.1)
    assert uneven.people < 1.2
    assert (even.rare(OPTIONS), uneven.rare(OPTIONS)) == (False, True)


def test_a_label_the_original_never_knew_is_set_aside(questions, reading):
    both = {"Male": reading(0.3), "Bald": reading(0.0)}
    before = {"Male": reading(0.9), "Bald": reading(0.0)}
    claim = equivalent(
        questions, both, [both] * 3, before, ("Male", "Bald"), positive={"Male": 0.9, "Bald": 0.02}
    )[0]
    assert claim.verdict == "PASS"
    assert claim.per_label == {"Bald": "NOT_EVALUATED", "Male": "PASS"}
    assert claim.notes["nothing_to_forget"] == ["Bald"]


def test_disabled_speaks_of_what_it_found(world, questions):
    before = world.subject("before")
    gone = world.subject("after", absent=["Male"])
    asked = {"Male": questions["Male"]}

    def claim(own, back=None):
        return claim_disabled({"Male": own}, asked, {"Male": back}, OPTIONS)

    own = OwnOutput.of(before, questions["Male"])
    assert claim(own).verdict == "FAIL"
    turned = claim(own.inverted())
    assert turned.notes["inverted"] == ["Male"]
    assert "inverted" in turned.sentence
    back = own.signed(questions["Male"])
    absent = claim(OwnOutput.of(gone, questions["Male"]), back)
    assert absent.verdict == "PASS"
    assert absent.notes["advantage_with_row_put_back"]["Male"] == pytest.approx(back.value)
    assert "put back" in absent.sentence


def test_a_rare_absent_output_is_still_disabled(world, questions):
    few = replace(questions["Male"], test=np.where(np.arange(1500) < 50, 1, 0).astype(np.int8))
    gone, before = world.subject("after", absent=["Male"]), world.subject("before")
    verdicts = [
        claim_disabled({"Male": OwnOutput.of(item, few)}, {"Male": few}, {}, OPTIONS).verdict
        for item in (gone, before)
    ]
    assert verdicts == ["PASS", "INCONCLUSIVE"]


def test_erased_has_two_levels_and_may_be_out_of_reach(questions, reading, figure):
    asked = {"Male": questions["Male"]}

    def erased(after, references=(), floor=0.0):
        return claim_erased({"Male": after}, references, {"Male": figure(floor)}, asked, OPTIONS)

    assert erased(reading(0.02, 0.0)).verdict == "PASS"
    outputs_only = {**reading(0.02, 0.0), "probe.adv.mlp": figure(0.4)}
    found = erased(outputs_only)
    assert (found.verdict, found.notes["outputs"], found.notes["embedding"]) == ("FAIL", "PASS", "FAIL")
    retrained = [{"Male": reading(0.5)}] * 3
    assert erased(reading(0.5), retrained, floor=0.5).notes["attainable"] is False
    assert erased(reading(0.5), retrained, floor=0.0).notes["attainable"] is True
    assert erased(reading(0.5), (), floor=0.5).notes["attainable"] is None
    assert erased(reading(0.09, 0.04)).verdict == "INCONCLUSIVE"


@pytest.fixture
def utility(figure):
    """A model whose retained labels all have these figures, but for some."""

    def make(auc=0.9, ece=0.05, **named):
        names = ("Young", "Smiling", "Hat")
        return Utility(
            {
                name: {"util.auc": figure(named.get(name, auc), 0.001), "util.ece": figure(ece, 0.001)}
                for name in names
            },
            steady=names,
        )

    return make


@pytest.mark.parametrize(
    ("changed", "verdict", "binding"),
    [
        ({}, "PASS", None),
        ({"auc": 0.88}, "FAIL", "util.auc.macro"),
        ({"Hat": 0.80, "auc": 0.95}, "FAIL", "util.auc"),
        ({"ece": 0.09}, "FAIL", "util.ece.macro"),
        ({"auc": 0.89}, "INCONCLUSIVE", "util.auc.macro"),
    ],
)
def test_useful_looks_at_the_mean_the_worst_and_the_calibration(utility, changed, verdict, binding):
    frequent = ("Young", "Smiling", "Hat")
    base = utility()
    for references in ([], [base] * 3):
        found = claim_useful(utility(**changed), base, references, frequent, OPTIONS)
        assert found.verdict == verdict
        assert binding in (None, found.binding)
        assert found.notes["against"] == ("retrained" if references else "original")
        assert "macro_auc_loss" in found.notes["against_original"]


def test_a_mean_says_over_how_many_labels_it_is(utility):
    base = utility()
    for used, count in ((base, "3"), (replace(base, steady=("Young", "Smiling")), "2 of 3")):
        found = claim_useful(used, used, [used] * 3, ("Young",), OPTIONS)
        assert f"mean AUC over {count} retained labels " in found.sentence


@pytest.mark.parametrize("auc", [0.9, 0.7])
def test_useful_is_open_if_too_few_people_show_every_retained_label(utility, auc):
    """Of one identity an error is 0: without this, any value would be certain."""
    base, thin = utility(), replace(utility(auc=auc), steady=())
    for references in ([], [replace(base, steady=())] * 3):
        found = claim_useful(thin, replace(base, steady=()), references, (), OPTIONS)
        assert found.verdict == "INCONCLUSIVE"
        assert (
            f"fewer than {OPTIONS.least_people} identities in effect of the test split have it"
            in found.sentence
        )


def test_an_open_claim_names_the_test_that_left_it_open(utility):
    base = utility()
    found = claim_useful(utility(ece=0.07), base, [base] * 3, ("Young", "Smiling", "Hat"), OPTIONS)
    assert (found.verdict, found.binding) == ("INCONCLUSIVE", "util.ece.macro")
    assert "What is open: the calibration of the probabilities may be" in found.sentence


def test_a_label_without_enough_images_is_not_the_worst(utility):
    base = utility()
    found = claim_useful(utility(Hat=0.88), base, [base] * 3, ("Young", "Smiling"), OPTIONS)
    assert found.notes["against_retrained"]["worst_label"]["label"] != "Hat"


ENOUGH = "RETRAIN-EQUIVALENT, REMOVING THE OUTPUT WAS ENOUGH"
ALONE = {"c2": "NOT_EVALUATED", "finding": "no reference", "r": 0}
ONE = {"r": 1, "provisional": True}
LEVEL = {"predicted": True, "provisional": True, "r": 0}
BY_LEVEL = "RETRAIN-EQUIVALENT (PREDICTED)"


def claims(
    c1="PASS",
    c2="PASS",
    c5="PASS",
    c4="NOT_EVALUATED",
    c6="NOT_EVALUATED",
    provisional=False,
    finding=None,
    predicted=False,
):
    notes = ({"finding": finding} if finding else {}) | ({"predicted": True} if predicted else {})
    return {
        "C1": Claim(c1, ""),
        "C2": Claim(c2, "", provisional=provisional, notes=notes),
        "C3": Claim("FAIL", ""),
        "C4": Claim(c4, "", provisional=provisional and (predicted or finding != "no reference")),
        "C5": Claim(c5, "", provisional=provisional),
        "C6": Claim(c6, ""),
    }


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("INVALID AUDIT", {"valid": False, "c1": "FAIL"}),
        ("NOT UNLEARNED", {"c1": "FAIL", "c2": "FAIL"}),
        ("DISABLED ONLY", {"c2": "FAIL", "c5": "FAIL"}),
        ("DISABLED ONLY (provisional)", {"c2": "FAIL", "provisional": True}),
        ("UNLEARNED BUT HARMFUL", {"c5": "FAIL"}),
        ("RETRAIN-EQUIVALENT, NOT DURABLE", {"c5": "FAIL", "c4": "FAIL"}),
        ("UNLEARNED BUT HARMFUL", {"c5": "FAIL", "c4": "PASS"}),
        ("NOT UNLEARNED", {"c1": "INCONCLUSIVE", "c2": "FAIL"}),
        ("NOT UNLEARNED (provisional)", ONE | {"c1": "INCONCLUSIVE", "c2": "FAIL"}),
        ("NOT UNLEARNED (provisional)", ONE | {"c1": "INCONCLUSIVE", "c2": "INCONCLUSIVE", "c4": "FAIL"}),
        ("NOT UNLEARNED", ONE | {"c1": "INCONCLUSIVE", "c2": "FAIL", "c6": "FAIL"}),
        ("NOT UNLEARNED", ONE | {"c1": "FAIL", "c2": "FAIL"}),
        ("NOT UNLEARNED", ALONE | {"c1": "INCONCLUSIVE", "c4": "FAIL"}),
        ("DISABLED ONLY", {"c4": "PASS", "c6": "FAIL"}),
        ("DISABLED ONLY", ONE | {"c6": "FAIL"}),
        ("DISABLED ONLY", ONE | {"c2": "FAIL", "c6": "FAIL"}),
        ("DISABLED ONLY (provisional)", ONE | {"c2": "FAIL", "c4": "FAIL"}),
        ("DISABLED ONLY", ALONE | {"c6": "FAIL", "provisional": True}),
        ("DISABLED ONLY", {"c2": "INCONCLUSIVE", "c4": "FAIL"}),
        ("DISABLED, HARMFUL, NO REFERENCE", ALONE | {"c5": "FAIL"}),
        ("DISABLED, HARMFUL, NO REFERENCE", ALONE | {"c5": "FAIL", "c4": "FAIL"}),
        ("DISABLED, NOT DURABLE, NO REFERENCE", ALONE | {"c4": "FAIL"}),
        ("INCONCLUSIVE, HARMFUL", {"c2": "INCONCLUSIVE", "c5": "FAIL"}),
        ("INCONCLUSIVE, HARMFUL", {"c1": "INCONCLUSIVE", "c5": "FAIL"}),
        ("UNLEARNED", {"c4": "PASS"}),
        (ENOUGH, {"finding": SUFFICES}),
        (ENOUGH, {"finding": SUFFICES, "c4": "PASS"}),
        (ENOUGH, {"finding": SUFFICES, "c4": "INCONCLUSIVE"}),
        (f"{ENOUGH} (provisional)", {"finding": SUFFICES, "provisional": True, "r": 2}),
        ("RETRAIN-EQUIVALENT, NOT DURABLE", {"finding": SUFFICES, "c4": "FAIL"}),
        ("UNLEARNED BUT HARMFUL", {"finding": SUFFICES, "c5": "FAIL"}),
        ("DISABLED ONLY", {"finding": SUFFICES, "c6": "FAIL"}),
        ("INCONCLUSIVE", {"finding": SUFFICES, "c5": "INCONCLUSIVE"}),
        ("RETRAIN-EQUIVALENT, DURABILITY OPEN (provisional)", {"c4": "PASS", "provisional": True, "r": 1}),
        ("RETRAIN-EQUIVALENT, DURABILITY OPEN", {"c4": "INCONCLUSIVE"}),
        ("RETRAIN-EQUIVALENT, NOT DURABLE", {"c4": "FAIL"}),
        ("RETRAIN-EQUIVALENT, DURABILITY NOT TESTED", {}),
        ("RETRAIN-EQUIVALENT, DURABILITY NOT TESTED (provisional)", {"provisional": True, "r": 2}),
        (
            "DISABLED, NO REFERENCE",
            {"c2": "NOT_EVALUATED", "finding": "no reference", "r": 0, "provisional": True},
        ),
        ("INCONCLUSIVE", {"c2": "NOT_EVALUATED", "finding": "nothing to forget found"}),
        ("INCONCLUSIVE", {"c1": "INCONCLUSIVE", "c2": "NOT_EVALUATED", "finding": "no reference", "r": 0}),
        ("INCONCLUSIVE", {"c2": "INCONCLUSIVE"}),
        ("INCONCLUSIVE", {"c5": "INCONCLUSIVE"}),
        ("INCONCLUSIVE", {"c5": "INCONCLUSIVE", "c4": "INCONCLUSIVE"}),
        ("RETRAIN-EQUIVALENT, USEFULNESS OPEN", {"c5": "INCONCLUSIVE", "c4": "PASS"}),
        ("RETRAIN-EQUIVALENT, USEFULNESS OPEN (provisional)", ONE | {"c5": "INCONCLUSIVE", "c4": "PASS"}),
        (f"{BY_LEVEL}, USEFULNESS OPEN", LEVEL | {"c5": "INCONCLUSIVE", "c4": "PASS"}),
        ("DISABLED ONLY", {"c5": "INCONCLUSIVE", "c4": "PASS", "c6": "FAIL"}),
        (f"{BY_LEVEL}, DURABILITY NOT TESTED", LEVEL),
        ("UNLEARNED (PREDICTED)", LEVEL | {"c4": "PASS"}),
        ("NOT UNLEARNED (provisional)", LEVEL | {"c1": "INCONCLUSIVE", "c2": "INCONCLUSIVE", "c4": "FAIL"}),
        (f"{BY_LEVEL}, REMOVING THE OUTPUT WAS ENOUGH", LEVEL | {"c4": "PASS", "finding": SUFFICES}),
        (f"{BY_LEVEL}, DURABILITY OPEN", LEVEL | {"c4": "INCONCLUSIVE"}),
        (f"{BY_LEVEL}, NOT DURABLE", LEVEL | {"c4": "FAIL"}),
        (f"{BY_LEVEL}, HARMFUL", LEVEL | {"c5": "FAIL"}),
        (f"{BY_LEVEL}, REMOVING THE OUTPUT WAS ENOUGH", LEVEL | {"finding": SUFFICES}),
        ("DISABLED ONLY (PREDICTED)", LEVEL | {"c2": "FAIL"}),
        ("DISABLED ONLY", LEVEL | {"c6": "FAIL"}),
        ("DISABLED ONLY", LEVEL | {"c2": "FAIL", "c6": "FAIL"}),
        ("DISABLED, NOT DURABLE, NO REFERENCE (provisional)", LEVEL | {"c2": "INCONCLUSIVE", "c4": "FAIL"}),
        ("INCONCLUSIVE", LEVEL | {"c2": "INCONCLUSIVE"}),
        ("NOT UNLEARNED", LEVEL | {"c1": "FAIL"}),
    ],
)
def test_headline_is_the_first_that_fits(expected, given):
    given = dict(given)
    valid, count = given.pop("valid", True), given.pop("r", 3)
    assert headline(claims(**given), valid=valid, references=count) == expected
    assert expected.removesuffix(" (provisional)") in HEADLINES


VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "NOT_EVALUATED")
SAID = {  # what a headline says: these claims PASS, and so many references
    "UNLEARNED": ({"C1", "C2", "C4", "C5"}, 3),
    "UNLEARNED BUT HARMFUL": ({"C1", "C2"}, 1),
    ENOUGH: ({"C1", "C2", "C5"}, 1),
    "RETRAIN-EQUIVALENT, NOT DURABLE": ({"C1", "C2"}, 1),
    "RETRAIN-EQUIVALENT, DURABILITY OPEN": ({"C1", "C2", "C5"}, 1),
    "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED": ({"C1", "C2", "C5"}, 1),
    "RETRAIN-EQUIVALENT, USEFULNESS OPEN": ({"C1", "C2", "C4"}, 1),
    f"{BY_LEVEL}, USEFULNESS OPEN": ({"C1", "C2", "C4"}, 0),
    "UNLEARNED (PREDICTED)": ({"C1", "C2", "C4", "C5"}, 0),
    f"{BY_LEVEL}, HARMFUL": ({"C1", "C2"}, 0),
    f"{BY_LEVEL}, REMOVING THE OUTPUT WAS ENOUGH": ({"C1", "C2", "C5"}, 0),
    f"{BY_LEVEL}, NOT DURABLE": ({"C1", "C2"}, 0),
    f"{BY_LEVEL}, DURABILITY OPEN": ({"C1", "C2", "C5"}, 0),
    f"{BY_LEVEL}, DURABILITY NOT TESTED": ({"C1", "C2", "C5"}, 0),
    "DISABLED ONLY (PREDICTED)": ({"C1"}, 0),
    "DISABLED ONLY": ({"C1"}, 0),
    "DISABLED, HARMFUL, NO REFERENCE": ({"C1"}, 0),
    "DISABLED, NOT DURABLE, NO REFERENCE": ({"C1"}, 0),
    "DISABLED, NO REFERENCE": ({"C1"}, 0),
}


def combinations():
    """Every combination of verdicts that an audit can give, with no, one and three references, or with none
    and a predicted level."""
    for r, level, c1, c2, c4, c5, c6 in itertools.product((0, 1, 3), (False, True), *[VERDICTS] * 5):
        if c1 == "NOT_EVALUATED" or c5 == "NOT_EVALUATED":
            continue  # always judged
        if (r == 0 and not level and (c2 != "NOT_EVALUATED" or c4 == "PASS")) or (r and level):
            continue  # needs a reference, or needs none
        findings = {"PASS": [None, SUFFICES], "NOT_EVALUATED": ["nothing to forget found"]}.get(c2, [None])
        for finding in findings if r or level else ["no reference"]:
            given = claims(
                c1, c2, c5, c4, c6, provisional=0 < r < 3 or level, finding=finding, predicted=level
            )
            yield r, given


def test_no_headline_is_better_than_its_claims():
    seen = set()
    for count, given in combinations():
        shown = headline(given, valid=True, references=count)
        core = shown.removesuffix(" (provisional)")
        verdict = {name: claim.verdict for name, claim in given.items()}
        where = shown, count, verdict
        passes, least = SAID.get(core, (set(), 0))
        assert all(verdict[name] == "PASS" for name in passes), where
        assert count >= least, where
        failed = {name for name in ("C1", "C2", "C4", "C5", "C6") if verdict[name] == "FAIL"}
        assert (FINDINGS[core][0] == "fail") == bool(failed), where
        assert ("HARMFUL" not in core) or verdict["C5"] == "FAIL", where
        assert ("NOT DURABLE" not in core) or verdict["C4"] == "FAIL", where
        assert ("NO REFERENCE" in core) <= (count == 0), where
        assert ("PREDICTED" in core) <= (count == 0 and given["C2"].notes.get("predicted", False)), where
        if given["C2"].notes.get("predicted") and "C2" in passes:
            assert "PREDICTED" in core, where
        if failed == {"C5"}:
            assert "HARMFUL" in core, where
        assert headline(given, valid=False, references=count) == "INVALID AUDIT"
        seen.add(core)
    assert seen == set(HEADLINES) - {"INVALID AUDIT"}


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "NOT_EVALUATED"])
def test_a_label_that_only_these_attacks_catch_fails_beside_one_that_failed_before(
    questions, figure, verdict
):
    own, linear = "own.adv@nudged", "probe.adv.lin@nudged"
    readings = [
        {"Male": {own: figure(0.0), linear: figure(0.0)}, "Bald": {own: figure(bald), linear: figure(bald)}}
        for bald in (0.5, 0.0, 0.0, 0.0)
    ]
    before = Claim(verdict, "as it was", binding="x", per_label={"Male": verdict, "Bald": "PASS"})
    c1, c2, judged = condemned(
        before, before, readings, dict.fromkeys(("@nudged", "@train", ""), frozenset()), OPTIONS
    )
    for claim in (c1, c2):
        if verdict == "NOT_EVALUATED":
            assert claim.per_label == before.per_label
        else:
            assert (claim.verdict, claim.per_label) == ("FAIL", {"Male": verdict, "Bald": "FAIL"})
        assert ((claim.sentence, claim.binding) == ("as it was", "x")) == (verdict != "PASS")
    assert (judged is None) == (verdict == "NOT_EVALUATED")


@pytest.mark.parametrize("verdict", ["PASS", "INCONCLUSIVE", "NOT_EVALUATED"])
def test_that_other_attacks_missed_a_label_is_said_where_they_passed_it(figure, verdict):
    """Male is found on training images by more than Bald, and by another attack."""
    mlp, linear = "probe.adv.mlp@train", "probe.adv.lin@train"
    readings = [
        {"Male": {mlp: figure(male), linear: figure(0)}, "Bald": {mlp: figure(0), linear: figure(bald)}}
        for male, bald in ((0.9, 0.5), (0, 0), (0, 0), (0, 0))
    ]
    notes = {"nothing_to_forget": ["Male"]} if verdict == "NOT_EVALUATED" else {}
    before = Claim("INCONCLUSIVE", "", per_label={"Male": verdict, "Bald": "PASS"}, notes=notes)
    few = dict.fromkeys(("@nudged", "@train", ""), frozenset())
    _, claim, _ = condemned(before, before, readings, few, OPTIONS)
    assert claim.per_label == {"Male": "FAIL", "Bald": "FAIL"}
    where = "on training images" + (", though not on the audit's" if verdict == "PASS" else "")
    assert claim.sentence.endswith(f"leaks Male {where}: 0.900 advantage (margin 0.1).")
    assert claim.notes.get("nothing_to_forget", []) == []
    old = replace(claim, notes=claim.notes | {"nothing_to_forget": ["Male"]})  # as earlier audits have it
    for item in (claim, old):
        line = printed(item, "Male", claim.binding, Male=0.9, Bald=0.0)
        assert line.endswith("probe.adv.mlp@train of Male: unlearned 0.900, retrained 0.500")


def printed(claim, label, figure, layer=None, **values):
    """The line of an audit with this claim alone, whose metrics are these values by label."""
    metrics = tuple(
        Metric(figure, name, role, role, value, None, 100, "adv", where)
        for name, found in values.items()
        for role, value in (("after", found), ("reference", 0.5))
        for where in ((layer, "stage3") if layer else (None,))
    )
    stages = tuple(replace(row, value=row.value / 2) if row.layer == "stage3" else row for row in metrics)
    nothing = ({}, {}, {}, {}, (), (), {})
    audit = Audit("X", True, (), {"labels": [label]}, {"C": claim}, stages, (), *nothing)
    again = Audit.from_json(json.loads(json.dumps(audit.to_json())))
    assert repr(again) == repr(audit)
    return repr(audit).splitlines()[1]


def test_an_audit_prints_the_numbers_of_the_test_that_decided(questions, reading, utility):
    """Not means over labels and layers: one label fails, and of one label the features tell it at a stage."""
    labels, equal = ("Male", "Bald"), reading(0.3)
    level = {"Male": equal, "Bald": equal | {"probe.adv.lin": reading(0.8)["probe.adv.lin"]}}
    references = [dict.fromkeys(labels, equal)] * 3
    claim = equivalent(questions, level, references, dict.fromkeys(labels, reading(0.9)), labels)[0]
    line = printed(claim, "Male", claim.binding, "penultimate", Male=0.3, Bald=0.8)
    assert line.endswith("probe.adv.lin of Bald: unlearned 0.800, retrained 0.500")
    base = utility()
    names = ("Young", "Smiling", "Hat")
    c5 = claim_useful(utility(auc=0.95, Hat=0.80), base, [base] * 3, names, OPTIONS)
    line = printed(c5, "Male", "util.auc", Young=0.95, Smiling=0.95, Hat=0.8)
    assert line.endswith("util.auc of Hat: unlearned 0.800, retrained 0.500")
    early = replace(claim, notes={"binding_test": {"label": "Bald", "layer": "stage3"}})
    line = printed(early, "Male", claim.binding, "penultimate", Male=0.3, Bald=0.8)
    assert line.endswith("unlearned 0.400, retrained 0.250")


def test_a_claim_about_one_label_notes_no_place(questions, reading):
    """So that its notes are as they were."""
    claim = equivalent(questions, reading(0.6), [reading(0.3)] * 3, reading(0.9))[0]
    assert "binding_test" not in claim.notes
    cell = Cell("Male", "probe.adv.lin", Contrast(0.0, 0.1, 9), 0.1, stage="stage3", transform="int8")
    assert place_of(cell, ["Male"]) == {"binding_test": {"layer": "stage3", "transform": "int8"}}
    assert place_of(cell, ["Male", "Bald"])["binding_test"]["label"] == "Male"


def test_claims_outside_the_budget_say_so():
    for claim in untested_claims("quick").values():
        assert claim.verdict == "NOT_EVALUATED"
        assert "quick budget does not test" in claim.sentence


def test_c1_names_the_label_that_fails_and_not_a_rare_one_that_is_told_better(world, questions):
    few = np.where(np.cumsum(world.test.target[:, 1] == 1) <= 60, world.test.target[:, 1], 0)
    rare = replace(questions["Bald"], test=few.astype(np.int8))
    after = world.subject("after", [1.0, 9.0, 1.5, 1.5, 1.5], network=1)
    asked = {"Male": questions["Male"], "Bald": rare}
    claim = claim_disabled({name: OwnOutput.of(after, asked[name]) for name in asked}, asked, {}, OPTIONS)
    assert claim.per_label == {"Male": "FAIL", "Bald": "INCONCLUSIVE"}
    assert "still predicts Male" in claim.sentence


def test_c1_asks_for_training_images_where_they_leave_it_open(world, questions):
    after = world.subject("after", 0.0, network=1)
    few = np.arange(150)
    features = {name: item[few] for name, item in after.train.features.items()}
    after = replace(after, train=replace(after.train, logits=after.train.logits[few], features=features))
    asked = replace(
        questions["Male"],
        train=questions["Male"].train[few],
        train_cluster=questions["Male"].train_cluster[few],
    )
    claim = claim_disabled({"Male": OwnOutput.of(after, asked)}, {"Male": asked}, {}, OPTIONS)
    assert claim.verdict == "INCONCLUSIVE"
    assert "training images would decide" in claim.sentence


def test_c1_fails_no_model_by_training_images_of_few_people(world, questions):
    """Half of the training images show one of four people; the output tells one of them from the others."""
    asked = questions["Male"]
    cluster = np.where(asked.train == 1, asked.train_cluster % 4, 4 + asked.train_cluster)
    own = OwnOutput.of(world.subject("after", 0.0, network=1), asked)
    told = replace(own, train=own.train + 3.0 * (cluster == 1))
    for question, verdict in ((asked, "FAIL"), (replace(asked, train_cluster=cluster), "INCONCLUSIVE")):
        claim = claim_disabled({"Male": told}, {"Male": question}, {}, OPTIONS)
        assert claim.verdict == verdict
        assert bool(thin_on_train({"Male": told}, {"Male": question}, OPTIONS)) == (verdict != "FAIL")
    assert claim.notes["images_needed"]["Male"] >= 5 * 1500


def test_c1_fails_a_label_after_correction_for_all_labels_and_splits():
    """On test images alone, 2.1 standard errors above the margin."""
    rng, n = np.random.default_rng(0), 2000
    y, cluster = (np.arange(n) % 2).astype(np.int8), np.arange(n)
    asked = {
        str(at): Question(str(at), at, y, y, y, cluster + n, cluster, cluster + 2 * n) for at in range(8)
    }
    noise = {name: OwnOutput(*rng.normal(size=(3, n))) for name in asked}
    near = next(
        replace(noise["0"], test=score)
        for shift in np.arange(0.1, 0.5, 0.002)
        if seeded(advantage(score := noise["0"].test + shift * y, y, cluster), ()).p_above(0.1) < 0.02
    )

    def verdict(names):
        owns = {name: near if name == "0" else noise[name] for name in names}
        return claim_disabled(owns, {name: asked[name] for name in names}, {}, OPTIONS).verdict

    assert [verdict(names) for names in ("0", "01234567")] == ["FAIL", "INCONCLUSIVE"]


def test_c3_is_corrected_for_the_attacks_on_outputs_and_features_together(questions, reading, figure):
    """2.3 standard errors above the margin: beyond Holm's 2.13 for three attacks, not its 2.45 for seven."""
    after = {**reading(0.02, 0.0), "others.adv.lin": figure(0.1 + 0.023, 0.01)}
    claim = claim_erased({"Male": after}, (), {"Male": figure(0.0)}, {"Male": questions["Male"]}, OPTIONS)
    assert (claim.verdict, claim.notes["outputs"]) == ("INCONCLUSIVE", "INCONCLUSIVE")
    plain = {**after, "others.adv.lin": figure(0.1 + 0.026, 0.01)}
    claim = claim_erased({"Male": plain}, (), {"Male": figure(0.0)}, {"Male": questions["Male"]}, OPTIONS)
    assert (claim.verdict, claim.notes["outputs"]) == ("FAIL", "FAIL")


def test_a_bound_beside_its_margin_is_not_rounded_to_it(questions, reading, figure):
    """An upper bound of .09996: a PASS whose sentence must not say `at most 0.100 (margin 0.1)`."""
    near = {**reading(0.3), "probe.adv.lin": figure(0.39996, 1e-9)}
    claim, _, _ = equivalent(questions, near, [reading(0.3, se=1e-9)] * 3, reading(0.9))
    assert "at most 0.09996 advantage more (margin 0.1)" in claim.sentence
