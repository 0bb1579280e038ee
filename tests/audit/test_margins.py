"""The smallest margins that would pass: against the judge itself, at margins on either side of them."""

from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.claims.c2_retrain_equivalent import weigh
from unlabel.audit.claims.c4_margins import choices, instead, margins
from unlabel.audit.claims.judging import Cell, judge
from unlabel.audit.claims.margins import kind_of, limits, smallest
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.contrast import Contrast

OPTIONS = AuditOptions()
PUBLISHED = {"adv": 0.1, "bits": 0.075, "auc": 0.03, "gain": 0.05}


def made_up(seed, labels):
    """Made-up tests of some labels and units, and of several labels' mean; the neural one can only FAIL."""
    rng = np.random.default_rng(seed)
    names = [*labels, *([None] if len(labels) > 1 else [])]
    return [
        Cell(name, figure, Contrast(value, se, 20.0), margin, only_fails=figure == "probe.adv.mlp")
        for name in names
        for figure, margin in (
            ("probe.adv.lin", 0.1),
            ("probe.bits.lin", 0.075),
            ("tune.auc@256", 0.03),
            ("probe.adv.mlp", 0.1),
        )
        for value, se in [(rng.normal(0, 0.06), rng.uniform(0.002, 0.03))]
    ]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("labels", [["a"], ["a", "b"]])
def test_the_verdict_changes_at_the_two_multiples_and_nowhere_else(seed, labels):
    cells = made_up(seed, labels)
    found = limits([[cell] for cell in cells], OPTIONS, PUBLISHED)
    assert found.passes_above is not None

    def verdict(factor):
        scaled = [replace(cell, margin=cell.margin * factor) for cell in cells]
        return judge(scaled, frozenset(), OPTIONS, mean_passes=len(labels) > 1).verdict

    for factor in (found.passes_above * 1.001, found.passes_above + 3):
        assert verdict(factor + 1e-9) == "PASS"
    if found.passes_above > 0:
        assert verdict(found.passes_above * 0.999) != "PASS"
    if found.fails_below > 0:
        assert verdict(found.fails_below * 0.999) == "FAIL"
        assert verdict(found.fails_below * 1.001) != "FAIL"
    else:
        assert verdict(1e-6) != "FAIL"


@pytest.mark.parametrize("seed", range(6))
def test_the_smallest_margins_pass_together_and_none_can_be_smaller(seed):
    cells = made_up(seed, ["a"])
    found = smallest(limits([[cell] for cell in cells], OPTIONS, PUBLISHED), PUBLISHED)
    assert {kind: row["published"] for kind, row in found.items()} == {
        kind: PUBLISHED[kind] for kind in ("adv", "auc", "bits")
    }

    def verdict(shrunk):
        own = {kind: row["margin"] * (0.99 if kind == shrunk else 1.0) + 1e-9 for kind, row in found.items()}
        scaled = [replace(cell, margin=own[kind_of(cell, PUBLISHED)]) for cell in cells]
        return judge(scaled, frozenset(), OPTIONS).verdict

    assert verdict(None) == "PASS"
    assert all(verdict(kind) != "PASS" for kind, row in found.items() if row["margin"] > 0)


def test_of_two_tests_the_easier_one_sets_the_margin():
    hard = Cell("a", "recover.probe.adv.lin", Contrast(0.2, 0.01, 50.0), 0.05, against="itself", chosen_of=2)
    easy = replace(hard, contrast=Contrast(0.02, 0.01, 50.0), margin=0.1, against="retrained")
    found = limits([[hard, easy]], OPTIONS, PUBLISHED)
    assert list(found.binding) == ["adv"]
    assert found.passes_above == pytest.approx(easy.upper(OPTIONS) / 0.1)
    assert limits([[hard]], OPTIONS, PUBLISHED).binding.keys() == {"gain"}


def test_a_claim_that_something_else_keeps_open_passes_by_no_margin():
    found = limits([[cell] for cell in made_up(0, ["a"])], OPTIONS, PUBLISHED, open_=True)
    assert found.passes_above is None
    assert smallest(found, PUBLISHED) == {}


def test_a_retrained_model_takes_the_place_of_the_unlearned_one():
    each = ["before", "after", "one", "two", "three"]
    weights = WeightAttacks({"a": [{8: name} for name in each]}, {"a": [{"stage1": name} for name in each]})
    recovery = Recovery({"fp16": "after"}, ["one", "two", "three"], {"a": each}, weights)
    found = instead(recovery, 1)
    assert (found.after, found.references) == ("two", ["one", "three"])
    assert found.few == {"a": ["before", "two", "one", "three"]}
    assert [model[8] for model in found.weights.tuned["a"]] == found.few["a"]
    assert [model["stage1"] for model in found.weights.stages["a"]] == found.few["a"]


def test_c4_says_by_which_margins_it_and_each_retrained_model_would_pass(figure):
    """Probes on few images find .02 AUC more than in two retrained models, and .01 more in a third."""

    def learnt(area):
        return Relearnt(figure(area, 0.001), (area - 0.001, area, area + 0.001))

    areas = {"before": 0.9, "after": 0.72, "one": 0.7, "two": 0.7, "three": 0.71}
    plain = {"a": dict.fromkeys(REPEATED, figure(0.3, 0.0))}
    few = {"a": [{64: learnt(area)} for area in areas.values()]}
    recovery = Recovery({"int8": plain}, [{"int8": plain}] * 3, few)
    tests = choices(recovery, plain, [plain] * 3, OPTIONS)
    notes = margins(recovery, tests, [plain] * 3, frozenset(), OPTIONS, open_=False)
    (last,) = [choice[0] for choice in tests if choice[0].figure == "few.auc@64"]
    assert notes["smallest_margin"]["auc"]["margin"] == pytest.approx(last.upper(OPTIONS))
    own, *others = notes["margin_curve"]
    assert own["passes_above"] == pytest.approx(last.upper(OPTIONS) / OPTIONS.d_few)
    assert [row["model"] for row in others] == ["reference"] * 3
    assert 0.01 / 0.03 < others[2]["passes_above"] < 0.5  # against two that are alike
    assert others[0]["passes_above"] > 0.6  # less is found, but the two others differ
    assert margins(recovery, tests, [], frozenset(), OPTIONS, open_=False) == {}


def test_an_auc_counts_as_half_an_advantage_where_it_has_no_margin_of_its_own(figure):
    """Membership by annotation in C2: .05 AUC where attacks have .10 advantage."""
    published = {"adv": 0.1, "bits": 0.075}
    readings = {"a": {"mia.label.auc": figure(0.52, 0.001)}}
    judged = weigh(readings, [{"a": {"mia.label.auc": figure(0.5, 0.001)}}] * 3, frozenset(), OPTIONS)
    found = smallest(limits([[cell] for cell in judged.cells], OPTIONS, published), published)
    assert found["adv"]["margin"] == pytest.approx(2 * judged.cells[0].upper(OPTIONS))
    assert found["adv"]["figure"] == "mia.label.auc"
