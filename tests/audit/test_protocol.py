"""Whole audits of small worlds whose right answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.controls import head_zero, permuted, raw_images, read_raw
from unlabel.audit.attacks.outputs import OwnOutput, read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.claims.c2_retrain_equivalent import weigh
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.errors import DataError, ModelError, OptionError
from unlabel.core.request import Request

IDS = {
    *("own.ppr", "own.sadv", "own.adv", "own.mi_bits", "own.sadv@train"),
    *(
        "others.adv.lin",
        "others.adv.gbt",
        "probe.adv.lin",
        "probe.adv.mlp",
        "probe.bits.lin",
        "probe.bits.mlp",
    ),
    *("util.auc", "util.ap", "util.bacc", "util.brier", "util.ece", "util.auc.macro", "util.ece.macro"),
}


def audit(world, after, references, quick, labels=("Male",), forgotten=(), before=None, **extras):
    """An audit of one model of the world."""
    request = Request.make(labels, world.test.labels, forgotten=forgotten)
    original = before or world.subject("before")
    return audit_outputs(AuditInputs(original, after, references, request, *world.splits, **extras), quick)


@pytest.fixture(scope="module")
def settings():
    return AuditOptions(
        probe_seeds=1, folds=3, epochs=15, trees=15, permutations=10, resamples=30, raw_image=False
    )


@pytest.fixture(scope="module")
def forgotten(world, settings):
    """A model that truly forgot, audited against three references."""
    after = world.subject("after", 0.1, network=5, absent=["Male"])
    extras = {"deterministic": True, "facts": {"split_rule": "hash"}, "models": {"after": {"run": "x"}}}
    return audit(world, after, world.references(3), settings, **extras)


@pytest.fixture(scope="module")
def removed(world, settings):
    """The original with its output row removed, audited against one reference."""
    return audit(world, world.subject("after", absent=["Male"]), world.references(1), settings)


def test_a_model_like_the_retrained_ones_is_found_equivalent(forgotten):
    assert forgotten.valid, forgotten.invalid_because
    assert {name: claim.verdict for name, claim in forgotten.claims.items()} == {
        "C1": "PASS",
        "C2": "PASS",
        "C3": "FAIL",
        "C4": "NOT_EVALUATED",
        "C5": "PASS",
        "C6": "NOT_EVALUATED",
    }
    assert forgotten.headline == "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED"
    assert forgotten.claims["C3"].notes["attainable"] is False
    assert set(forgotten.controls["decoys"]["Male"].values()) == {"FAIL"}


def test_removing_the_output_is_disabling_only(removed):
    assert removed.headline == "DISABLED ONLY (provisional)"
    assert removed.claims["C1"].verdict == "PASS"
    assert removed.claims["C2"].verdict == "FAIL"
    back = next(row for row in removed.metrics if row.id == "own.sadv@restored")
    assert (back.model, back.value > 0.9) == ("after", True)


def test_every_metric_has_a_row_for_every_model(forgotten):
    runs = {"before-0", "after-5", "reference-10", "reference-11", "reference-12"}
    for name in IDS:
        assert {row.run for row in forgotten.metrics if row.id == name} == runs, name
    floor = next(row for row in forgotten.metrics if row.id == "floor.adv")
    assert (floor.model, floor.run) == ("reference", "ground-truth labels")
    for row in forgotten.metrics:
        half = row.id.endswith("@train") and not row.id.startswith("own.")
        assert row.n == 1500 or (half and 600 < row.n < 900)
        assert row.ci is not None
        assert row.ci[0] <= row.value <= row.ci[1], row
        assert (row.layer == "penultimate") == row.id.startswith("probe.")
        assert (row.label is None) == row.id.endswith("macro")


def test_an_audit_is_plain_json(forgotten):
    plain = forgotten.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["request"] == {
        "labels": ["Male"],
        "forgotten_earlier": [],
        "retained": ["Bald", "Young", "Smiling", "Hat"],
    }
    assert plain["options"]["d_reference"] == 0.1
    assert plain["data"]["split_rule"] == "hash"
    assert plain["models"] == {"after": {"run": "x"}}
    for word in ("certified", "compliant"):
        assert word not in json.dumps(plain).lower()


def test_same_inputs_same_audit(world, settings):
    first, second = (
        audit(world, world.subject("after", 0.3, absent=["Male"]), [], settings).to_json() for _ in range(2)
    )
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert first["headline"] == "DISABLED, NO REFERENCE"
    assert first["claims"]["C5"]["notes"]["against"] == "original"


def test_a_shifted_output_is_not_unlearned(world, settings):
    subject = world.subject("after")
    for part in (subject.probe, subject.test, subject.train):
        part.logits[:, 0] -= 60
    weight, bias = subject.head
    head = weight, bias - 60 * (np.arange(len(bias)) == 0)
    found = audit(world, replace(subject, absent=frozenset({"Male"}), head=head), [], settings)
    assert found.headline == "NOT UNLEARNED"
    assert next(row.value for row in found.metrics if row.id == "own.ppr" and row.model == "after") == 0.0


def test_harm_to_retained_labels_is_named(world, settings):
    after = world.subject("after", [0.1, 1.5, 1.5, 0.3, 1.5], network=5, absent=["Male"])
    found = audit(world, after, world.references(3), settings)
    assert found.claims["C5"].verdict == "FAIL"
    assert found.claims["C5"].notes["against_retrained"]["worst_label"]["label"] == "Smiling"
    assert found.headline == "UNLEARNED BUT HARMFUL"


def test_harm_is_named_without_a_reference_as_well(world, settings):
    after = world.subject("after", [0.1, 1.5, 1.5, 0.3, 1.5], network=5, absent=["Male"])
    found = audit(world, after, [], settings)
    assert {name: found.claims[name].verdict for name in ("C1", "C5")} == {"C1": "PASS", "C5": "FAIL"}
    assert found.headline == "DISABLED, HARMFUL, NO REFERENCE"


@pytest.fixture(scope="module")
def against_unfair(world, settings):
    """A model that truly forgot, against two references and one that never learnt its labels well."""
    after = world.subject("after", 0.1, network=5, absent=["Male"])
    short = world.subject("reference", [0.1, 0.4, 0.4, 0.4, 0.4], network=13, absent=["Male"])
    return audit(world, after, [*world.references(2), replace(short, run="runs/short")], settings)


def test_an_unfair_reference_is_named_and_nothing_is_decided_against_it(forgotten, against_unfair):
    assert forgotten.claims["C5"].verdict == "PASS"
    for item in forgotten.claims["C5"].notes["references_against_original"]:
        assert item["fair"]
        assert abs(item["loss"]) < 0.02
    assert against_unfair.headline == "INCONCLUSIVE"
    assert against_unfair.valid
    for name in ("C2", "C5"):
        claim = against_unfair.claims[name]
        assert claim.verdict == "INCONCLUSIVE"
        assert claim.sentence.startswith("An unfair reference: runs/short. Its mean AUC over retained labels")
        assert "Leave it out, or train it again by the original's recipe." in claim.sentence
        assert claim.notes["finding"] == "unfair reference"
        assert [item["run"] for item in claim.notes["unfair_references"]] == ["runs/short"]
        assert "images_needed" not in claim.notes
        assert not {"margin_curve", "smallest_margin"} & {*claim.notes}  # by no margins: it is not fair
    assert against_unfair.claims["C2"].per_label == {"Male": "INCONCLUSIVE"}
    fair = [item["fair"] for item in against_unfair.claims["C5"].notes["references_against_original"]]
    assert fair == [True, True, False]


def test_an_unfair_reference_of_an_adopted_model_is_trained_by_its_own_code(world, settings):
    after = world.subject("after", 0.1, network=5, absent=["Male"])
    short = world.subject("reference", [0.1, 0.4, 0.4, 0.4, 0.4], network=13, absent=["Male"])
    found = audit(world, after, [replace(short, run="runs/short")], settings, adopted=True)
    for name in ("C2", "C5"):
        assert (
            "by the code that made the original, and adopt it with --without" in found.claims[name].sentence
        )
    assert "elsewhere" not in found.claims["C2"].notes["unfair_references"][0]


def test_c5_says_what_is_lost_against_the_original_whatever_it_compares_with(forgotten, against_unfair):
    for found, words in (
        (forgotten, "(against the original it "),
        (against_unfair, "Against the original, "),
    ):
        claim = found.claims["C5"]
        lost = claim.notes["against_original"]["macro_auc_loss"]["value"]
        change = f"{'falls' if lost > 0 else 'rises'} by {abs(lost):.3f}"
        assert claim.sentence.split(words)[1].removeprefix("this model's mean AUC ").startswith(change)


def test_what_makes_an_audit_invalid(world, settings):
    after = world.subject("after", absent=["Male"])
    found = audit(world, after, [], settings, overlap="person 7 is in P and E", deterministic=False)
    assert found.headline == "INVALID AUDIT"
    assert not found.valid
    assert len(found.invalid_because) == 2
    assert "person 7 is in P and E" in found.invalid_because[0]


def test_nothing_to_forget_is_no_pass_and_no_invalid_audit(world, settings):
    know_not = [0.0, 1.5, 0.0, 1.5, 1.5]  # neither the label nor the one that goes with it
    before, after = (
        world.subject(role, know_not, absent=gone) for role, gone in (("before", []), ("after", ["Male"]))
    )
    found = audit(world, after, world.references(3, know_not), settings, before=before)
    assert found.claims["C2"].notes["finding"] == "nothing to forget found"
    assert found.headline == "INCONCLUSIVE"
    assert found.valid, found.invalid_because


def test_labels_forgotten_earlier_are_audited_again(world, settings):
    before = world.subject("before", absent=["Bald"])
    after = world.subject("after", [0.1, 0.1, 1.5, 1.5, 1.5], absent=["Male", "Bald"])
    found = audit(world, after, [], settings, forgotten=["Bald"], before=before)
    assert set(found.claims["C1"].per_label) == {"Male", "Bald"}
    assert found.request["labels"] == ["Male"]
    assert "Bald" not in found.request["retained"]
    assert any("forgotten earlier" in line for line in found.limitations)
    weaker = next(line for line in found.limitations if line.startswith("The attacks are smaller"))
    assert "probe_seeds 1 (usually 5)" in weaker
    assert "epochs 15 (usually 40)" in weaker
    assert "tune" not in weaker  # which this budget does not use


def test_bad_input_is_refused_in_one_line(world, settings):
    after = world.subject("after", absent=["Male"])
    broken = replace(after.test, logits=np.full_like(after.test.logits, np.nan))
    with pytest.raises(ModelError, match="finite"):
        audit(world, replace(after, test=broken), [], settings)
    with pytest.raises(ModelError, match="shape"):
        audit(world, replace(after, test=replace(after.test, logits=after.test.logits[:9])), [], settings)
    with pytest.raises(OptionError, match="roles"):
        audit(world, world.subject("before"), [], settings)
    with pytest.raises(OptionError, match="at least 1"):
        AuditOptions(probe_seeds=0)
    with pytest.raises(OptionError, match="above 0"):
        AuditOptions(d_chance=0.0)
    bald = replace(world.probe, target=np.where(np.arange(5) == 0, 0, world.probe.target).astype(np.int8))
    with pytest.raises(DataError, match="'Male' is present in 0 images"):
        audit(replace(world, probe=bald), after, [], settings)


def read(world, subject, question, options):
    """Every attack on one model, as the protocol runs them."""
    return {
        "own.adv": OwnOutput.of(subject, question).signed(question).absolute(),
        **read_others(subject, (0,), question, options),
        **read_features(subject.probe, subject.test, question, options),
    }


def test_retrained_against_retrained_passes_in_nine_of_ten_and_head_removal_fails(make_world, quick):
    """Three draws of images, six retrained networks each: every one is judged against three others."""
    options = replace(quick, epochs=6)
    passed, total = 0, 0
    for seed in range(3):
        world = make_world(seed)
        question = ask("Male", *world.splits)
        models = [read(world, subject, question, options) for subject in world.references(6)]
        for k in range(6):
            others = [{"Male": models[(k + step) % 6]} for step in (1, 2, 3)]
            passed += weigh({"Male": models[k]}, others, frozenset(), options).verdict == "PASS"
            total += 1
        original = read(world, world.subject("before", 1.0), question, options)
        decoy = {"Male": head_zero(original)}
        assert weigh(decoy, [{"Male": item} for item in models[:3]], frozenset(), options).verdict == "FAIL"
    assert passed / total >= 0.90, f"{passed} of {total}"


def test_attacks_on_permuted_labels_find_nothing_though_one_alone_may(world, quick):
    """One permutation's luck has a spread of 0.1 and more; ten draws of ten permutations stay valid."""
    question, before = ask("Male", *world.splits), world.subject("before")
    lucky = []
    for seed in range(10):
        options = replace(quick, seed=seed)
        for found in permuted(before, (0,), question, options).values():
            assert found.lower() < options.d_permuted
            lucky.append(found.se * np.sqrt(options.permutations))
    assert np.mean(lucky) > 0.1


def test_an_attack_that_peeks_at_shuffled_labels_is_noticed(world, settings, monkeypatch):
    monkeypatch.setattr("unlabel.audit.attacks.controls.permutation", lambda seed, stream, n, k: np.arange(n))
    found = audit(world, world.subject("after", absent=["Male"]), [], settings)
    assert found.headline == "INVALID AUDIT"
    assert "shuffled labels" in found.invalid_because[0]


def test_a_decoy_that_passes_is_noticed(world, settings, monkeypatch):
    monkeypatch.setattr(OwnOutput, "shifted", lambda own, offset: OwnOutput(*(0 * own.probe,) * 3))
    found = audit(world, world.subject("after", absent=["Male"]), [], settings)
    assert not found.valid
    assert any("bias_shift_60" in reason for reason in found.invalid_because)


def test_the_picture_itself_is_a_control(world, quick):
    rng = np.random.default_rng(0)

    def colours(data):
        pixels = rng.integers(0, 60, (len(data), 40, 40, 3), np.uint8)
        pixels[data.target[:, 0] == 1, 10:30, 10:30, 0] += 8
        return replace(data, pixels=pixels, rows=np.arange(len(data)))

    question = ask("Male", *world.splits)
    seen = raw_images(colours(world.probe), colours(world.test), seed=0)
    assert seen[0].shape == (1500, 128)
    assert read_raw(seen, question).lower() > 0.5
    black = raw_images(
        replace(world.probe, rows=np.zeros(1500, int)),
        replace(world.test, rows=np.zeros(1500, int)),
        seed=0,
    )
    assert read_raw(black, question).value == 0.0
