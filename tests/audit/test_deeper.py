"""The full budget's part of C4: verdicts on whole models trained again and on earlier stages."""

from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.few_shot import Relearnt, faster
from unlabel.audit.attacks.outputs import OwnOutput
from unlabel.audit.attacks.probes import linear
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.whole_model import Learner, WeightAttacks, stage_readings, taught
from unlabel.audit.claims.c4_durable import claim_durable
from unlabel.audit.claims.judging import Cell
from unlabel.audit.claims.sample_size import needs, references_for
from unlabel.audit.document.stages import TOGETHER
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Altered
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.inputs.tuned import Tuned
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.recipe import Recipe
from unlabel.core.request import Request
from unlabel.forget.run import forget_run
from unlabel.models.outputs import Outputs
from unlabel.report.terminal import lines
from unlabel.statement.again import measure_again
from unlabel.statement.schema import audit_faults
from unlabel.statistics.contrast import Contrast
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

OPTIONS = AuditOptions(
    probe_seeds=1, folds=3, epochs=15, trees=15, permutations=10, resamples=30, raw_image=False, draws=4,
    budget="full", few=(16, 64), tune=(128,), tune_draws=2, tune_steps=20,
)  # fmt: skip


@pytest.fixture
def judged(world_of_tables, figure):
    """C4 from made-up figures: how much better the whole model relearns, what a stage tells more."""
    questions = {"Male": ask("Male", *world_of_tables.splits)}

    def make(
        tuned=0.0,
        stage=0.0,
        together=0.0,
        references=3,
        sizes=(256, 1024),
        few_sizes=(16, 64, 256, 1024),
        present=750,
    ):
        plain = {"Male": dict.fromkeys(REPEATED, figure(0.3, 0.0))}
        probe = (np.arange(1500) < present).astype(np.int8)
        asked = {"Male": replace(questions["Male"], probe=probe)}
        few = [dict.fromkeys(few_sizes, learnt(0.6)) for _ in range(2 + references)]

        def whole(area):
            return dict.fromkeys(sizes, Learner(learnt(area), 1e-3, None))

        def early(alone, joint):
            tells = {"stage2": 0.4 + alone, TOGETHER: 0.5 + joint}
            bits = {"probe.bits.lin": figure(0.1, 0.005)}
            return {name: {"probe.adv.lin": figure(adv, 0.005), **bits} for name, adv in tells.items()}

        weights = WeightAttacks(
            {"Male": [whole(0.9), whole(0.7 + tuned), *[whole(0.7)] * references]},
            {"Male": [early(0.5, 0.4), early(stage, together), *[early(0.0, 0.0)] * references]},
        )
        recovery = Recovery({"int8": plain}, [{"int8": plain}] * references, {"Male": few}, weights)
        options = AuditOptions(budget="full")
        return claim_durable(recovery, plain, [plain] * references, asked, options)

    def learnt(area):
        return Relearnt(figure(area, 0.002), (area - 0.002, area, area + 0.002))

    return make


@pytest.fixture(scope="module")
def world_of_tables(make_world):
    return make_world()


@pytest.mark.parametrize(("tuned", "verdict"), [(0.06, "FAIL"), (0.03, "INCONCLUSIVE"), (0.0, "PASS")])
def test_relearning_by_the_whole_model_is_judged_against_retrained_ones(judged, tuned, verdict):
    claim, table = judged(tuned=tuned)
    assert claim.verdict == verdict
    rows = {row.id: row for row in table.comparisons(AuditOptions(budget="full"))}
    assert rows["tune.auc@1024"].diff == pytest.approx(tuned)
    assert rows["tune.auc@1024"].margin == 0.03
    assert claim.notes["whole_model"]["Male"]["256"]["original_would_fail"]
    said = {"FAIL": "can be recovered: the whole model, trained on", "PASS": "by a probe or the whole model"}
    assert said.get(verdict, "cannot decide") in claim.sentence


@pytest.mark.parametrize(("together", "verdict"), [(0.2, "FAIL"), (0.1, "INCONCLUSIVE"), (-0.2, "PASS")])
def test_all_stages_together_are_judged_by_the_margins_of_c2(judged, together, verdict):
    claim, table = judged(together=together)
    assert claim.verdict == verdict
    rows = [row for row in table.comparisons(AuditOptions(budget="full")) if row.layer == TOGETHER]
    assert {(row.id, row.margin) for row in rows} == {("probe.adv.lin", 0.1), ("probe.bits.lin", 0.075)}
    assert claim.notes["earlier_stages"]["Male"][TOGETHER]["excess_of_original_adv"] == pytest.approx(0.4)
    if verdict == "FAIL":
        said = "a linear probe on all stages and the last features together recovers"
        assert f"can be recovered from earlier layers: {said}" in claim.sentence


@pytest.mark.parametrize(("stage", "verdict"), [(0.2, "FAIL"), (0.1, "PASS"), (-0.2, "PASS")])
def test_a_single_stage_can_only_fail_the_claim(judged, stage, verdict):
    """Retrained models differ at one stage by more than the margin; a PASS would need twenty of them."""
    claim, table = judged(stage=stage)
    assert (claim.verdict, claim.per_label) == (verdict, {"Male": verdict})
    rows = [row for row in table.comparisons(AuditOptions(budget="full")) if row.layer == "stage2"]
    assert {(row.id, row.margin) for row in rows} == {("probe.adv.lin", 0.1), ("probe.bits.lin", 0.075)}
    alone = {0.2: "FAIL", 0.1: "INCONCLUSIVE", -0.2: "PASS"}[stage]
    assert next(row.verdict for row in rows if row.id == "probe.adv.lin") == alone
    if verdict == "FAIL":
        assert "can be recovered from earlier layers: a linear probe on stage 2" in claim.sentence
    else:
        assert claim.notes["margin_curve"][0]["passes_above"] < 1
    assert "a linear probe on a single stage" in claim.notes["rule"]


def test_what_would_decide_an_open_claim_is_not_read_from_a_single_stage(world_of_tables):
    questions = {"Male": ask("Male", *world_of_tables.splits)}
    needed = Cell("Male", "probe.adv.lin", Contrast(0.05, 0.04, 50.0), 0.1, "INCONCLUSIVE")
    alone = replace(needed, contrast=Contrast(0.09, 0.08, 50.0), stage="stage1", only_fails=True)
    options = AuditOptions(rare=0)
    assert needs([needed, alone], questions, 3, options) == needs([needed], questions, 3, options)
    assert needs([replace(alone, only_fails=False)], questions, 3, options) != needs(
        [needed], questions, 3, options
    )


def test_without_retrained_models_or_annotated_images_there_is_no_pass(judged):
    claim, table = judged(references=0)
    assert (claim.verdict, claim.notes["finding"]) == ("NOT_EVALUATED", "no reference")
    assert not [cell for cell in table.cells if cell.figure.startswith("tune")]
    claim, _ = judged(sizes=(256,))
    assert (claim.verdict, claim.notes["too_few_in_p"]) == ("INCONCLUSIVE", {"Male": [1024]})


def test_a_whole_model_is_judged_on_as_many_images_as_the_probe_split_allows(judged):
    small = {"sizes": (212,), "few_sizes": (16, 64, 256, 276), "present": 138}
    claim, table = judged(**small)
    assert claim.verdict == "PASS"
    assert claim.notes["too_few_in_p"] == {"Male": [256, 1024]}
    assert claim.notes["tune_sizes"] == {"Male": [212]}
    assert claim.notes["few_sizes"] == {"Male": [64, 256, 276]}
    assert "the whole model, trained on 212" in claim.notes["rule"]
    assert claim.sentence.endswith(
        "too few images for 256 and 1024. So this covers an attacker who has at most 212 annotated images,"
        " and at most 100 steps."
    )
    assert "tune.auc@212" in {cell.figure for cell in table.cells}
    assert judged(**small, tuned=0.06)[0].verdict == "FAIL"


def test_no_full_audit_passes_without_training_the_whole_model(judged):
    """60 images of a kind are enough for probes on 120; 64 of them and 64 to choose by are needed here."""
    claim, _ = judged(sizes=(), few_sizes=(16, 64, 120), present=60)
    assert (claim.verdict, claim.notes["probe_images_needed"]) == ("INCONCLUSIVE", {"Male": 64})
    assert "60 of the rarer kind; 64 would be enough" in claim.sentence
    claim, _ = judged(sizes=(), few_sizes=(16, 64, 128), present=64)
    assert claim.verdict == "INCONCLUSIVE"  # none was given that was trained, as in Python it may be
    assert "was not relearnt from" in claim.sentence
    assert not claim.notes["whole_model"]


def test_more_retrained_models_do_not_shrink_the_error_of_draws(figure):
    others = [Relearnt(figure(area, 0.001), (area,) * 3) for area in (0.60, 0.62, 0.64)]
    sure = faster(Relearnt(figure(0.63, 0.001), (0.63,) * 3), others)
    unsure = faster(Relearnt(figure(0.63, 0.001), (0.61, 0.63, 0.65)), others)
    assert (sure.draws, unsure.draws) == (0.0, pytest.approx(0.02**2 / 3))
    assert unsure.fixed - unsure.draws == pytest.approx(sure.fixed)
    assert references_for(sure, 0.03, 3, 0.95) is not None
    assert references_for(unsure, 0.03, 3, 0.95) is None


def test_models_that_were_not_measured_alike_are_refused(figure):
    one = {256: Learner(Relearnt(figure(0.6), (0.6, 0.6)), 1e-3, 10)}
    with pytest.raises(OptionError, match="same sizes"):
        WeightAttacks({"Male": [one, {}]})


@pytest.fixture(scope="module")
def full_audit(world_of_tables):
    """Full audits of tables: with whole models and a stage, or of what has neither."""
    here, memory = world_of_tables, Memory()

    def staged(subject, know):
        other = here.subject("reference", know, network=77)

        def with_stage(part, more):
            return replace(part, features={**part.features, "stage1": more.features["penultimate"]})

        return replace(
            subject, probe=with_stage(subject.probe, other.probe), test=with_stage(subject.test, other.test)
        )

    def make(*, deep):
        before, after = here.subject("before"), here.subject("after", 0.1, network=5, absent=["Male"])
        subjects = [before, after, *here.references(3)]
        if deep:
            subjects = [
                staged(item, know) for item, know in zip(subjects, (1.5, 1.5, 0.1, 0.1, 0.1), strict=True)
            ]
        rng = np.random.default_rng(0)
        target = here.test.target[:, 0]
        tuned = [
            Tuned(
                item.run, "Male", 128, 1e-3, target + rng.normal(size=(2, len(target))) / know,
                np.array([0.6, 0.999]),
            )
            for item, know in zip(subjects, (1.0, 1.0, 0.5, 0.5, 0.5), strict=True)
        ]  # fmt: skip
        inputs = AuditInputs(
            *subjects[:2], subjects[2:], Request.make(["Male"], here.test.labels), *here.splits,
            altered=[Altered("fp16", item) for item in subjects[1:]],
            tuned=tuned if deep else (),
        )  # fmt: skip
        return audit_outputs(inputs, OPTIONS, memory=memory)

    return {deep: make(deep=deep) for deep in (True, False)}


def test_a_full_audit_holds_a_row_of_every_model_at_every_size_and_stage(full_audit):
    found = full_audit[True]
    roles = ["before", "after", *["reference"] * 3]
    for id_, layer in (("tune.auc@128", None), ("tune.steps@128", None), ("probe.bits.lin", "stage1")):
        assert [row.model for row in found.metrics if (row.id, row.layer) == (id_, layer)] == roles
    assert {row.value for row in found.metrics if row.id == "tune.steps@128"} == {20}
    failed = {(c.id, c.layer) for c in found.comparisons if c.verdict == "FAIL"}
    assert {("tune.auc@128", None), ("probe.adv.lin", "stage1")} <= failed
    assert found.claims["C4"].verdict == "FAIL"
    assert found.claims["C2"].verdict == "PASS"  # of the outputs and the last features alone
    assert not any("Relearning" in line for line in found.not_tested)
    assert any("but for the mean over positions" in line for line in found.not_tested)
    assert any("read the weights, or change them in other ways" in line for line in found.not_tested)


def test_what_a_full_audit_could_not_measure_is_said(full_audit):
    found = full_audit[False]
    assert any("no model was given to train" in line for line in found.not_tested)
    assert any("no stages that were read" in line for line in found.not_tested)
    assert any("attackers who read or change the weights" in line for line in found.not_tested)
    assert not [row for row in found.metrics if row.id.startswith("tune")]


def test_the_steps_are_counted_to_a_share_of_the_originals_own_output(world_of_tables):
    here = world_of_tables
    question = ask("Male", *here.splits)
    own = OwnOutput.of(here.subject("before"), question, exclusive=False)
    goal = 0.5 + 0.95 * own.signed(question).value / 2
    curve = np.array([0.5, goal - 1e-6, goal, 0.99])
    tuned = Tuned("before-0", "Male", 8, 1e-3, np.zeros((2, len(here.test))), curve)
    assert taught(here.subject("before"), [tuned], own, question)["adam-100", 8].steps == 30
    never = replace(tuned, curve=curve[:2])
    assert taught(here.subject("before"), [never], own, question)["adam-100", 8].steps is None


def test_a_probe_at_a_stage_is_the_probe_of_the_last_features_elsewhere(world_of_tables):
    here = world_of_tables
    question, subject = ask("Male", *here.splits), here.subject("after", 0.6)

    def twice(part):
        return replace(part, features={**part.features, "stage1": part.features["penultimate"]})

    doubled = replace(subject, probe=twice(subject.probe), test=twice(subject.test))
    found = stage_readings(doubled, question, OPTIONS)
    assert list(found) == ["stage1", TOGETHER]
    assert stage_readings(subject, question, OPTIONS) == {}
    expected = linear(subject.probe, subject.test, question, OPTIONS).estimates(question)
    assert [item.value for item in found["stage1"].values()] == [item.value for item in expected]
    joint = [
        Outputs(part.logits, {"penultimate": np.hstack([part.features["penultimate"]] * 2)})
        for part in (subject.probe, subject.test)
    ]
    expected = linear(*joint, question, OPTIONS).estimates(question)
    assert [item.value for item in found[TOGETHER].values()] == [item.value for item in expected]


def test_a_full_audit_of_run_folders_trains_reads_and_repeats(tmp_path, monkeypatch):
    """From folders to audit.json, which the schema lets through and a quick audit can measure again."""
    for name in ("annotated", "lessons"):
        monkeypatch.setattr(f"unlabel.audit.attacks.{name}.LEAST", 8)
    photos = write_folder(tmp_path / "photos", tiny_world(images=400).source)
    where = engine.start(accelerator="cpu")
    for name, more in (("base", {}), ("retrained", {"without": ["top"]})):
        train_run(f"folder:{photos}", tmp_path / name, where, recipe=Recipe(epochs=1), image_size=16, **more)
    forget_run("head-removal", tmp_path / "base", ["top"], tmp_path / "less", where, images=100)
    options = AuditOptions(
        budget="full", probe_seeds=1, epochs=5, trees=5, permutations=2, resamples=10, raw_image=False,
        few=(16,), few_judged=16, draws=2, tune=(8,), tune_draws=2, tune_steps=10,
    )  # fmt: skip
    audit = audit_run(tmp_path / "less", tmp_path / "base", [tmp_path / "retrained"], where, options=options)
    content = audit.to_json()
    assert audit_faults(content) == []
    assert {row.layer for row in audit.metrics} == {
        None,
        "penultimate",
        "stage2",
        "stage3",
        "stage4",
        TOGETHER,
    }
    assert len([row for row in audit.metrics if row.id == "tune.auc@8"]) == 3
    text = "\n".join(lines(audit))
    assert "stage4, linear probe" in text
    assert "all stages, linear probe" in text
    again = measure_again(tmp_path / "less", content, f"folder:{photos}")
    assert again["outside"] == []
    assert {"tune.auc@8", "probe.adv.lin at stage2"} <= set(again["not_repeated"])
