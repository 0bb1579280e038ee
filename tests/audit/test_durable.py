"""C4: labels that hide from the quick attacks, and come back when the model is stored smaller or used on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unlabel.audit.attacks.evidence import gather_larger
from unlabel.audit.attacks.few_shot import Relearnt, faster, few_shot, samples
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.transforms import TRANSFORMS as DONE
from unlabel.audit.attacks.transforms import Use, fake_quantised, pruned
from unlabel.audit.claims.c4_durable import claim_durable
from unlabel.audit.claims.c4_recovery import few_cells
from unlabel.audit.claims.own_check import unread_sites, with_own_check
from unlabel.audit.document.results import Claim
from unlabel.audit.figures import DISTANCES, FIGURES, TRANSFORMS
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import BUDGETS, AuditOptions
from unlabel.audit.inputs.question import Context, ask
from unlabel.audit.inputs.subject import Altered, Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core import engine
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.request import Request
from unlabel.models.features import outputs
from unlabel.statistics.contrast import combined
from unlabel.testing import differing, tiny_network, tiny_world

OPTIONS = AuditOptions(
    probe_seeds=1, folds=3, epochs=15, trees=15, permutations=10, resamples=30, raw_image=False, draws=10
)
STANDARD = replace(OPTIONS, budget="standard")
SITES = [{"site": site, "reached": site == "stage1"} for site in ("stage1", "stage3", "grid2", "outputs")]
CHECKED = {"self_check": {"against": "weights", "reached": False, "sites": SITES}}


@pytest.fixture(scope="module")
def run():
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def use():
    world = tiny_world("independent", batchnorm=True)
    return world, Use(world.data, (1, 2), (0,))


def test_quantised_weights_are_the_nearest_of_each_channels_own_levels():
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    weight[4] *= 1e-6  # a small channel keeps its own scale
    for bits in (4, 8):
        found = fake_quantised(weight, bits)
        for channel, whole in zip(found, weight, strict=True):
            step = float(whole.abs().max()) / (2 ** (bits - 1) - 1)
            levels = np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)) * step
            for value, original in zip(channel.flatten().tolist(), whole.flatten().tolist(), strict=True):
                assert abs(value - original) == pytest.approx(np.abs(levels - original).min(), abs=1e-12)


def test_pruning_removes_the_smallest_share_of_each_weight():
    weight = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    found = pruned(weight, 0.5)
    assert int((found == 0).sum()) == 35
    assert float(weight[found == 0].abs().max()) <= float(found[found != 0].abs().min())
    assert torch.equal(found[found != 0], weight[found != 0])


@pytest.mark.parametrize("name", list(DONE))
def test_a_transform_changes_a_copy_and_leaves_the_removed_row(use, run, name):
    world, later = use
    head = world.model[-1]
    with torch.no_grad():
        head.weight[0], head.bias[0] = 0.0, 0.25
    before = {key: value.clone() for key, value in world.model.state_dict().items()}
    found = DONE[name](world.model, later, run)
    assert differing(world.model, before) == []
    assert differing(found, before) != []
    assert not found.training
    assert not found[-1].weight[0].any()
    assert found[-1].bias[0].item() == 0.25


def test_every_transform_has_words():
    assert list(TRANSFORMS) == list(DONE)


def test_a_network_without_batchnorm_has_nothing_to_recalibrate(use, run):
    assert DONE["bn"](tiny_network(3), use[1], run) is None


def test_recalibration_finds_the_statistics_of_the_images_it_was_given(use, run):
    world, later = use
    found = DONE["bn"](world.model, later, run)
    seen = []
    handle = found[0].register_forward_hook(lambda module, inputs, out: seen.append(out.detach()))
    outputs(found, later.data, run)
    handle.remove()
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    # variances are means over four batches of 64 images: the small spread between their means is left out
    assert torch.allclose(found[1].running_mean, values.mean(1), atol=1e-4)
    assert torch.allclose(found[1].running_var, values.var(1), rtol=0.05)


def test_training_on_never_sees_the_forgotten_annotations(use, run):
    world, later = use
    other = replace(later, data=replace(later.data, target=later.data.target.copy()))
    other.data.target[:, 0] = 1 - other.data.target[:, 0]
    assert (
        differing(DONE["retain_ft"](world.model, later, run), DONE["retain_ft"](world.model, other, run))
        == []
    )


def hidden_below_int8():
    """A network in which two filters cancel exactly, until 8 bits round each on its own scale.

    Filter 0 and 1 both sum the picture's light; they differ in one large weight, which filter 2 takes out
    again. Unit 0 holds 20 times their difference in the top band: nothing, and a little of the middle band.
    """
    model = tiny_network(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].bias.fill_(20.0)  # no ReLU is ever closed
        model[0].weight[:2] = 0.014
        model[0].weight[0, 0, 0, 0], model[0].weight[1, 0, 0, 0] = 1.25, 1.875  # exact in 16 bits
        model[0].weight[2, 0, 0, 0], model[0].weight[3] = 1.0, 1 / 48
        wiring = model[3].weight.view(16, 8, 4, 4)
        wiring[0, 0, 0], wiring[0, 1, 0], wiring[0, 2, 0] = 5.0, -5.0, 5.0 * 0.625
        wiring[0, 3, 2], wiring[1, 3, 2], wiring[2, 3, 3] = 0.25, 0.25, 0.25  # light of rows 8 to 15
        model[3].bias[0] = -5.0 * 0.625 * 4 * 20.0
        model[5].weight[1, 1] = model[5].weight[2, 2] = 5.0
    return model.eval()


def test_a_label_that_hides_below_eight_bits_is_caught(run):
    world = tiny_world("independent", images=2048)
    source, model = world.source, hidden_below_int8()
    later = Use(world.data, (1, 2), (0,))
    parts = (source.probe, source.test, source.train)

    def read(changed):
        return Subject("hidden", "after", *(outputs(changed, part, run) for part in parts))

    after = read(model)
    altered = [
        Altered(name, read(changed))
        for name, transform in DONE.items()
        if name in ("fp16", "int8", "prune20") and (changed := transform(model, later, run)) is not None
    ]
    questions = {"top": ask("top", *parts)}
    before = replace(after, role="before", run="before")

    def measure(altered):
        request = Request.make(["top"], source.labels)
        context = Context(questions, request, *parts, STANDARD)
        return gather_larger([before, after], context, altered).recovery

    found = measure(altered)
    readings = measure([Altered("none", after)]).after["none"]
    assert readings["top"]["probe.adv.mlp"].value < 0.15  # no quick attack finds it
    claim, judged = claim_durable(found, readings, [], questions, OPTIONS)
    assert claim.verdict == "FAIL"
    assert {cell.transform for cell in judged.cells if cell.verdict == "FAIL"} == {"int8"}
    assert claim.notes["recoveries"]["int8"]["top"]["gain"] > 0.5
    assert "8 bits" in claim.sentence
    only = Recovery({"fp16": found.after["fp16"]}, [], found.few)
    claim, _ = claim_durable(only, readings, [], questions, OPTIONS)
    assert (claim.verdict, claim.notes["finding"]) == ("NOT_EVALUATED", "no reference")


@pytest.fixture
def questions(world):
    return {"Male": ask("Male", *world.splits)}


@pytest.fixture
def judged(questions, figure):
    """C4 from made-up figures: what a transform leaves, and how well few images relearn."""

    def make(gain=0.0, few=0.0, references=3, se=0.005, sizes=(16, 64, 256), retrained=0.3, base=0.3, **more):
        plain = {"Male": dict.fromkeys(REPEATED, figure(0.3, 0.0))}
        after = {"Male": dict.fromkeys(REPEATED, figure(0.3 + gain, se))}
        learnt = [
            dict.fromkeys(sizes, Relearnt(figure(area, 0.002), (area - 0.01, area + 0.01)))
            for area in (0.9, 0.6 + few, *[0.6] * references)
        ]
        changed = {"Male": dict.fromkeys(REPEATED, figure(retrained, 0.0))}
        recovery = Recovery({"int8": after}, [{"int8": changed}] * references, {"Male": learnt})
        asked = more.pop("questions", questions)
        known = {"Male": dict.fromkeys(REPEATED, figure(base, 0.0))}
        return claim_durable(recovery, plain, [known] * references, asked, OPTIONS)[0]

    return make


def test_what_recovers_nothing_passes_even_when_it_destroys(judged):
    for gain in (0.0, -0.3):
        claim = judged(gain)
        assert (claim.verdict, claim.per_label) == ("PASS", {"Male": "PASS"})


@pytest.mark.parametrize(("gain", "verdict"), [(0.2, "FAIL"), (0.076, "INCONCLUSIVE"), (0.06, "PASS")])
def test_what_a_transform_brings_back_is_judged(judged, gain, verdict):
    claim = judged(gain)
    assert claim.verdict == verdict
    assert claim.binding.startswith("recover.")


def test_regaining_what_retrained_models_have_is_no_failure(judged):
    """Both comparisons must fail for a FAIL, and either passes, at half of the error rate."""
    regained = judged(0.3, retrained=0.6)
    assert regained.verdict == "PASS"
    noted = regained.notes["recoveries"]["int8"]["Male"]
    assert (noted["judged_against"], noted["gain"], noted["excess"]) == (
        "retrained",
        *[pytest.approx(0.3)],
        0.0,
    )
    assert judged(0.3, retrained=0.6, references=0).verdict == "FAIL"
    assert judged(0.3, retrained=0.4).verdict == "FAIL"
    # .05 - 1.8 errors: below the margin at 95 %, not at the 97.5 % that two comparisons need
    assert judged(0.041, retrained=0.1, base=0.1).verdict == "INCONCLUSIVE"
    assert judged(0.039, retrained=0.1, base=0.1).verdict == "PASS"
    alone = judged(0.041, references=0)
    assert alone.verdict == "NOT_EVALUATED"  # all tests pass; there is no Retrain to relearn against


def test_what_destroys_retrained_models_is_compared_with_them_as_they_are(judged):
    """Who has a retrained model need not prune it: .06 above it is within .10, whatever pruning leaves."""
    claim = judged(0.06, retrained=0.1)
    assert claim.verdict == "PASS"
    noted = claim.notes["recoveries"]["int8"]["Male"]
    assert noted["excess"] == pytest.approx(0.06)
    assert noted["gain_of_retrained"] == pytest.approx(-0.2)
    assert judged(0.2, retrained=0.1).verdict == "FAIL"
    assert judged(0.2, retrained=0.1, base=0.1).verdict == "FAIL"


@pytest.mark.parametrize(("few", "verdict"), [(0.1, "FAIL"), (0.03, "INCONCLUSIVE"), (-0.1, "PASS")])
def test_relearning_faster_than_retrained_is_judged_from_64_images_on(judged, few, verdict):
    claim = judged(few=few)
    assert claim.verdict == verdict
    assert judged(few=few, sizes=(16,)).verdict == "INCONCLUSIVE"


def test_too_few_references_images_or_annotations_give_no_pass(judged, questions):
    assert judged(references=0).verdict == "NOT_EVALUATED"
    assert judged(references=0, gain=0.2).verdict == "FAIL"
    assert judged(references=2).provisional
    assert not judged().provisional
    few = replace(questions["Male"], test=np.where(np.arange(1500) < 150, 1, 0).astype(np.int8))
    claim = judged(questions={"Male": few})
    assert (claim.verdict, claim.notes["images_needed"]["Male"]) == ("INCONCLUSIVE", 2000)
    assert "though the probe split has enough" in judged(sizes=(16, 64)).sentence


def probed(question, present):
    """The question, of a probe split with so many images that have the label."""
    return {"Male": replace(question, probe=(np.arange(1500) < present).astype(np.int8))}


def test_fewer_annotated_images_are_judged_and_named_where_the_probe_split_has_few(judged, questions):
    claim = judged(questions=probed(questions["Male"], 100), sizes=(16, 64, 200))
    assert claim.verdict == "PASS"
    assert (claim.notes["too_few_in_p"], claim.notes["few_sizes"]) == ({"Male": [256]}, {"Male": [64, 200]})
    assert "probes on 64 and 200 annotated images" in claim.notes["rule"]
    assert claim.sentence.endswith(
        "too few images for 256. So this covers an attacker who has at most 200 annotated images, and no"
        " training but of a new probe."
    )
    assert "covers an attacker" not in judged().sentence  # all that is wanted was tried
    assert judged(questions=probed(questions["Male"], 100), sizes=(16, 64, 200), few=0.1).verdict == "FAIL"


def test_a_probe_split_with_too_few_images_for_any_size_leaves_the_claim_open(judged, questions):
    claim = judged(questions=probed(questions["Male"], 20), sizes=(16,))
    assert (claim.verdict, claim.per_label) == ("INCONCLUSIVE", {"Male": "INCONCLUSIVE"})
    assert claim.notes["probe_images_needed"] == {"Male": 32}
    assert "from 64 annotated images: 20 of the rarer kind; 32 would be enough." in claim.sentence


def test_every_label_is_decided_by_its_own_tests(world, figure):
    """Bald has too few probe images, or comes back: Male keeps what its own tests say."""
    names = ("Male", "Bald")
    asked = {name: ask(name, *world.splits) for name in names}
    few = probed(asked["Bald"], 20)["Male"]

    def per_label(bald=0.3, references=3, questions=asked, sizes=(64, 256)):
        plain = {name: dict.fromkeys(REPEATED, figure(0.3, 0.0)) for name in names}
        values = {"Male": 0.3, "Bald": bald}
        after = {name: dict.fromkeys(REPEATED, figure(value, 0.005)) for name, value in values.items()}
        learnt = Relearnt(figure(0.6, 0.002), (0.59, 0.61))
        models = 2 + references
        tried = {"Male": (64, 256), "Bald": sizes}
        recovery = Recovery(
            {"int8": after},
            [{"int8": plain}] * references,
            {name: [dict.fromkeys(tried[name], learnt)] * models for name in names},
        )
        found = claim_durable(recovery, plain, [plain] * references, questions, OPTIONS)[0]
        return found.verdict, found.per_label

    lacking = asked | {"Bald": few}
    passed, failed = {"Male": "PASS"}, {"Bald": "FAIL"}
    assert per_label(questions=lacking, sizes=()) == ("INCONCLUSIVE", passed | {"Bald": "INCONCLUSIVE"})
    assert per_label(0.6, questions=lacking, sizes=()) == ("FAIL", passed | failed)
    assert per_label(0.6) == ("FAIL", passed | failed)
    assert per_label(0.6, 0) == ("FAIL", {"Male": "NOT_EVALUATED"} | failed)
    assert per_label(0.35, 0) == ("INCONCLUSIVE", {"Male": "NOT_EVALUATED", "Bald": "INCONCLUSIVE"})


def test_few_annotated_images_decide_nothing_by_few_people_in_the_test_split(judged, questions):
    """A label that is judged on both splits: probes on few annotated images are read on the test split."""
    asked = questions["Male"]
    cluster = np.where(asked.test == 1, asked.test_cluster % 8, 8 + asked.test_cluster)
    few = {"Male": replace(asked, test_cluster=cluster, crossed=True)}
    assert not few["Male"].rare(OPTIONS)
    assert judged(few=0.1, questions={"Male": replace(asked, crossed=True)}).verdict == "FAIL"
    for excess in (0.1, -0.1):
        claim = judged(few=excess, questions=few)
        assert (claim.verdict, claim.per_label) == ("INCONCLUSIVE", {"Male": "INCONCLUSIVE"})
        assert "Fewer than 20 identities in effect have, or lack, Male in the test split." in claim.sentence
        assert claim.notes["margin_curve"][0]["passes_above"] is None
    assert judged(0.2, questions=few).verdict == "FAIL"  # after a transform, on both splits


def test_draws_are_balanced_and_the_same_for_every_model(questions):
    question = questions["Male"]
    drawn = samples(question, 64, OPTIONS)
    assert len(drawn) == 10
    for rows in drawn:
        assert len(np.unique(rows)) == 64
        assert int(np.sum(question.probe[rows])) == 32
    assert samples(question, 4000, OPTIONS) == []


def test_more_annotated_images_teach_more_and_knowing_features_teach_sooner(world, questions):
    found = {
        know: few_shot(item.probe, item.test, questions["Male"], OPTIONS)
        for know in (0.1, 1.5)
        for item in [world.subject("after", know)]
    }
    areas = {know: [sizes[n].mean.value for n in (16, 64, 256)] for know, sizes in found.items()}
    assert areas[1.5] == sorted(areas[1.5])
    assert areas[1.5][1] > areas[0.1][2] + 0.1
    others = [found[0.1][64]] * 3
    assert faster(found[1.5][64], others).lower() > 0.1
    assert faster(found[0.1][64], others).value == 0.0
    assert few_cells({"Male": [found[1.5], found[0.1]]}, OPTIONS) == []  # nothing to compare with


def test_errors_of_images_draws_and_seeds_add_up(figure):
    after = Relearnt(figure(0.7, 0.02), (0.68, 0.70, 0.72))
    others = [Relearnt(figure(area, 0.0), (area, area, area)) for area in (0.5, 0.6, 0.7)]
    found = faster(after, others)
    parts = [(0.02**2, 1999), (0.02**2 / 3, 2), (0.1**2 / 3, 2)]
    assert found.value == pytest.approx(0.1)
    assert found.se == pytest.approx(sum(part for part, _ in parts) ** 0.5)
    assert found.df == pytest.approx(combined(0.1, parts).df)


def rounded(subject):
    """The same model after its features went through 16 bits."""

    def through(part):
        features = {
            name: table.astype(np.float16).astype(np.float32) for name, table in part.features.items()
        }
        return replace(part, features=features)

    return Altered("int8", replace(subject, probe=through(subject.probe), test=through(subject.test)))


@pytest.fixture(scope="module")
def audited(make_world):
    """Audits with C4 of a model like the retrained ones that keeps, or after int8 regains, the label."""
    world, memory = make_world(n=2500, people=1), Memory()

    def make(regained):
        after = world.subject("after", 0.1, network=5, absent=["Male"])
        other = after
        if regained:
            other = replace(world.subject("after", 1.0, network=5, absent=["Male"]), run=after.run)
        references = world.references(3)
        request = Request.make(["Male"], world.test.labels)
        inputs = AuditInputs(
            world.subject("before"), after, references, request, *world.splits,
            altered=[rounded(item) for item in (other, *references)],
            models={"after": CHECKED},
        )  # fmt: skip
        return audit_outputs(inputs, STANDARD, memory=memory)

    return {regained: make(regained) for regained in (False, True)}


@pytest.mark.slow
def test_a_durable_model_is_called_unlearned(audited):
    """Two standard audits of five models, about 6 s."""
    claims = audited[False].claims
    assert {name: claims[name].verdict for name in ("C1", "C2", "C4", "C5")} == dict.fromkeys(
        ("C1", "C2", "C4", "C5"), "PASS"
    )
    assert audited[False].headline == "UNLEARNED"
    assert claims["C4"].notes["few_shot"]["Male"]["64"]["original_would_fail"]
    assert claims["C4"].notes["own_check"] in audited[False].limitations
    assert "Earlier stages were not read." in claims["C4"].sentence
    assert not any("Durability" in line for line in audited[False].not_tested)


def test_what_the_runs_own_check_missed_is_said_where_no_earlier_stage_is_read():
    said = unread_sites(CHECKED, BUDGETS["standard"])
    assert said is not None
    assert "at stage3, grid2. The standard budget" in said
    assert "--budget full" in said
    assert [unread_sites(CHECKED, BUDGETS[name]) for name in ("quick", "full")] == [None, None]
    checked = CHECKED["self_check"]
    late = {"self_check": checked | {"sites": SITES[3:]}}  # the audit reads these itself
    passed = {"self_check": checked | {"reached": True}}
    damaged = ({"self_check": checked | {"sites": 3}}, {"self_check": []}, None)
    for other in (late, passed, {}, *damaged):
        assert unread_sites(other, BUDGETS["standard"]) is None
    claim = Claim("PASS", "It is.", notes={"draws": 50})
    assert with_own_check(claim, said).notes == {"draws": 50, "own_check": said}
    assert with_own_check(claim, None) is claim


def test_a_standard_audit_has_every_figure_of_its_distances(audited):
    wanted = {entry.id for entry in FIGURES if entry.group == DISTANCES and entry.id[-1] != "."}
    assert wanted <= {row.id for row in audited[False].metrics if row.model == "after"}
    assert {"dist.js", "dist.nearer", "dist.cka"} <= wanted


def test_a_model_that_regains_the_label_is_not(audited):
    found = audited[True]
    assert found.claims["C4"].verdict == "FAIL"
    assert found.headline != "UNLEARNED"
    rows = [row for row in found.metrics if row.id == "recover.probe.adv.lin"]
    assert {(row.model, row.transform, row.layer) for row in rows} == {
        ("after", "int8", "penultimate"),
        ("reference", "int8", "penultimate"),
    }
    assert {row.model for row in found.metrics if row.id == "few.auc@64"} == {"before", "after", "reference"}
    verdicts = {item.id: item.verdict for item in found.comparisons if item.transform == "int8"}
    assert verdicts["recover.probe.adv.lin"] == "FAIL"


def test_a_larger_budget_needs_transformed_models_that_fit(world):
    after = world.subject("after", 0.1, absent=["Male"])
    request = Request.make(["Male"], world.test.labels)

    def ask_with(altered):
        before = world.subject("before")
        return audit_outputs(
            AuditInputs(before, after, [], request, *world.splits, altered=altered), STANDARD
        )

    with pytest.raises(OptionError, match="after transforms"):
        ask_with([])
    with pytest.raises(OptionError, match="not in this audit"):
        ask_with([Altered("int8", after), Altered("int8", world.subject("after", network=9))])
    cut = replace(after, probe=after.test, test=replace(after.test, logits=after.test.logits[:, :3]))
    with pytest.raises(ModelError, match="after int8"):
        ask_with([Altered("int8", cut)])
    with pytest.raises(OptionError, match=r"few is \[16\], but one size must be at least few_judged, 64"):
        AuditOptions(few=(16,))
    with pytest.raises(OptionError, match="no budget 'slow'"):
        AuditOptions(budget="slow")
