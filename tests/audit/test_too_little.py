"""Audits that were given too little: few images, few people, outputs that are missing or broken."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.probes import folds
from unlabel.audit.attacks.utility import Utility, read_utility
from unlabel.audit.claims.c5_left_out import unpredicted, with_left_out, without
from unlabel.audit.document.results import Audit, Claim
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import JUDGED_PEOPLE, AuditOptions
from unlabel.audit.inputs.perturbed_images import Perturbed
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.inputs.subject import Altered, Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.request import Request
from unlabel.models.outputs import PENULTIMATE

MALE = "Male"


@pytest.fixture(scope="module")
def found_before() -> Memory:
    """What attacks found on the originals and references that several tests have in common."""
    return Memory()


@pytest.fixture
def audited(world, quick, found_before):
    """Audits models of the world: by default the original, a clean unlearned one and three retrained ones."""

    def call(
        *,
        here=world,
        names: Sequence[str] = (MALE,),
        options: AuditOptions = quick,
        memory: Memory = found_before,
        **given,
    ) -> Audit:
        request = Request.make(names, here.test.labels)
        models = {
            "before": here.subject("before"),
            "after": here.subject("after", 0.1, network=1, absent=[MALE]),
            "references": here.references(3),
        }
        parts = dict(zip(("probe", "test", "train"), here.splits, strict=True))
        inputs = AuditInputs(request=request, **{**models, **parts, **given})
        return audit_outputs(inputs, options, memory=memory)

    return call


def thinned(world, name, *counts):
    """The world with so many images of a label left on the probe, the test and the training split."""
    column, rng = world.test.labels.index(name), np.random.default_rng(5)

    def part(data, count):
        target = data.target.copy()
        kept = rng.choice(np.flatnonzero(target[:, column] == 1), count, replace=False)
        target[:, column] = 0
        target[kept, column] = 1
        return replace(data, target=target)

    made = (part(data, count) for data, count in zip(world.splits, counts, strict=True))
    return replace(world, **dict(zip(("probe", "test", "train"), made, strict=True)))


def test_a_label_too_rare_to_judge_keeps_the_others_from_passing_for_it(world, audited):
    """Its few images show hardly anything in the original, and more in the unlearned model."""
    here = thinned(world, "Hat", 14, 12, 60)
    gone = [MALE, "Hat"]
    know = {"before": 0.12, "after": 0.3, "reference": 0.0}

    def model(role, network, male=0.1):
        absent = [] if role == "before" else gone
        return here.subject(role, [male, 1.5, 1.5, 1.5, know[role]], network=network, absent=absent)

    audit = audited(
        here=here, names=gone, before=model("before", 0, 1.5), after=model("after", 1),
        references=[model("reference", 10 + k) for k in range(3)],
    )  # fmt: skip
    claim = audit.claims["C2"]
    assert (claim.verdict, claim.per_label["Hat"], claim.notes["rare"]) == (
        "INCONCLUSIVE",
        "INCONCLUSIVE",
        ["Hat"],
    )
    assert "have, or lack, Hat: too few to decide" in claim.sentence


def leaking(subject: Subject, world, know: float) -> Subject:
    """The model, which knows so much of the label on perturbed images."""
    parts = [world.outputs(data, [know, 1.5, 1.5, 1.5, 1.5], 77) for data in (world.probe, world.test)]
    for part in parts:
        part.logits[:, 0] = -20.0
    rows = (np.arange(len(data)) for data in (world.probe, world.test))
    return replace(subject, perturbed=Perturbed(*parts, *rows))


@pytest.mark.parametrize("present", [220, 190])
def test_a_model_that_cheats_fails_where_both_splits_are_judged_too(world, audited, present):
    here = thinned(world, MALE, present, present, 400)
    after = leaking(here.subject("after", 0.0, network=1, absent=[MALE]), here, 3.0)
    others = [leaking(item, here, 0.0) for item in here.references(3, 0.0)]
    claim = audited(here=here, before=here.subject("before", 3.0), after=after, references=others).claims[
        "C2"
    ]
    assert (claim.verdict, claim.notes["suspicion"]) == ("FAIL", "FAIL")


def test_outputs_on_perturbed_images_that_are_no_numbers_are_refused(world, audited):
    after = leaking(world.subject("after", 0.1, network=1, absent=[MALE]), world, 1.5)
    after.perturbed.probe.features[PENULTIMATE][0] = np.nan
    with pytest.raises(ModelError, match="of after-1 on perturbed images are not finite numbers"):
        audited(after=after)


def test_two_models_of_one_name_are_refused(world, audited):
    others = [replace(item, run="after-1") for item in world.references(3)]
    with pytest.raises(OptionError, match="two models are called after-1"):
        audited(references=others)


@pytest.mark.parametrize(("people", "few"), [(JUDGED_PEOPLE - 1, True), (JUDGED_PEOPLE, False)])
def test_images_of_few_people_decide_nothing(world, quick, people, few):
    """240 images of so many people have the label."""
    test = world.test
    target, cluster = np.zeros_like(test.target), np.arange(len(test))
    target[:240, 0], cluster[:240] = 1, -1 - np.arange(240) % people
    asked = ask(MALE, world.probe, replace(test, target=target, cluster=cluster), world.train)
    assert (asked.rarer, asked.people) == (240, pytest.approx(people, rel=0.01))
    assert asked.rare(quick) == few
    crossed = replace(asked, crossed=True)
    assert crossed.people > 100  # the probe split has people of its own
    assert not crossed.rare(quick)


@pytest.mark.parametrize(("most", "few"), [(12, False), (181, True)])
def test_people_count_by_how_evenly_images_spread_over_them(world, quick, most, few):
    """Of 240 images that have the label, one of 24 or more people has so many."""
    target, cluster = np.zeros_like(world.test.target), np.arange(len(world.test))
    target[:240, 0] = 1
    cluster[:most], cluster[most:240] = -1, -2 - (np.arange(240 - most) // 10)
    asked = ask(MALE, world.probe, replace(world.test, target=target, cluster=cluster), world.train)
    assert asked.rare(quick) == asked.thin(quick) == few
    assert asked.people == pytest.approx(240**2 / (most**2 + 10 * (240 - most)), rel=0.01)


@pytest.mark.parametrize(("people", "few"), [(JUDGED_PEOPLE - 1, True), (JUDGED_PEOPLE, False)])
def test_a_retained_label_of_few_people_is_not_judged(world, audited, quick, people, few):
    """240 test images of so many people have Hat, of which the model answers at random."""
    target, cluster = world.test.target.copy(), 10_000 + np.arange(len(world.test))
    target[:, 4], target[:240, 4], cluster[:240] = 0, 1, -1 - np.arange(240) % people
    here = replace(world, test=replace(world.test, target=target, cluster=cluster))
    after = here.subject("after", [0.1, 1.5, 1.5, 1.5, 0.0], network=1, absent=[MALE])
    audit = audited(here=here, after=after)
    claim = audit.claims["C5"]
    shown = {"Bald", "Young", "Smiling"} | (set() if few else {"Hat"})
    assert set(claim.notes["judged_labels"]) == shown
    assert any("is without Hat" in line for line in audit.limitations) == few
    assert claim.sentence.endswith("Not judged, with too few images: Hat.") == few

    def lost(names):
        areas = {
            role: np.mean(
                [row.value for row in audit.metrics
                 if row.id == "util.auc" and row.model == role and row.label in names]
            )
            for role in ("after", "reference")
        }  # fmt: skip
        return areas["reference"] - areas["after"]

    assert claim.notes["against_retrained"]["macro_auc_loss"]["value"] == pytest.approx(lost(shown))
    assert claim.notes["references_against_original"][0]["fair"]
    whole = {row.model: row.value for row in audit.metrics if row.id == "util.auc.macro"}  # of all labels
    assert whole["reference"] - whole["after"] > 0.08
    utility = read_utility(after, here.test, ("Hat",), quick)
    assert utility.steady == (() if few else ("Hat",))
    assert utility.judged_area().value == utility.labels["Hat"]["util.auc"].value  # there is no other


def test_a_label_that_the_original_does_not_predict_is_not_lost(world, audited):
    """The retrained models happened to learn Hat. The model works as the original does."""
    know = [1.5, 1.5, 1.5, 1.5, 0.0]
    before = world.subject("before", know)
    after = world.subject("after", [0.1, *know[1:]], network=1, absent=[MALE])
    audit = audited(before=before, after=after)
    claim = audit.claims["C5"]
    assert (claim.verdict, claim.notes["not_predicted"]) == ("PASS", ["Hat"])
    assert "Left out, since the original does not predict it: Hat (AUC 0.4" in claim.sentence
    assert "mean AUC over 3 of 4 retained labels" in claim.sentence
    assert "Hat" not in claim.notes["judged_labels"]
    assert any("is without Hat: the original does not predict it" in line for line in audit.limitations)
    harmed = world.subject("after", [0.1, 1.5, 0.5, 1.5, 0.0], network=1, absent=[MALE])
    assert audited(before=before, after=harmed).claims["C5"].verdict == "FAIL"
    alone = audited(before=before, after=after, references=[]).claims["C5"]
    assert "not_predicted" not in alone.notes


def test_a_label_that_the_unlearned_model_lost_is_never_left_out(world, audited):
    after = world.subject("after", [0.1, 1.5, 1.5, 1.5, 0.0], network=1, absent=[MALE])
    claim = audited(after=after).claims["C5"]
    assert (claim.verdict, claim.notes.get("not_predicted")) == ("FAIL", None)


def test_a_label_is_left_out_only_if_enough_images_show_that_the_original_lacks_it(figure, quick):
    def original(steady=("Young", "Hat"), **areas):
        given = {"Young": (0.9, 0.01), "Hat": (0.51, 0.02)} | areas
        return Utility({name: {"util.auc": figure(*area)} for name, area in given.items()}, steady)

    assert unpredicted(original(), quick) == ("Hat",)
    assert unpredicted(original(Hat=(0.51, 0.1)), quick) == ()  # it may well predict it
    assert unpredicted(original(Hat=(0.56, 0.02)), quick) == ()
    assert unpredicted(original(steady=("Young",)), quick) == ()
    assert unpredicted(original(steady=("Hat",)), quick) == ()  # nothing would be left
    assert without(original(), ["Hat"]).steady == ("Young",)


def test_a_label_at_which_retrained_models_are_better_is_named(figure, quick):
    before, reference = (
        Utility(
            {name: {"util.auc": figure(area, 0.001)} for name in ("Young", "Hat")} | there, ("Young", "Hat")
        )
        for area, there in ((0.9, {"Hat": {"util.auc": figure(0.6, 0.001)}}), (0.9, {}))
    )
    for verdict, said in (("FAIL", True), ("PASS", False)):
        found = with_left_out(Claim(verdict, "So it is."), before, [reference] * 3, (), quick)
        assert found.notes["retrained_better"] == pytest.approx({"Hat": 0.3})
        assert ("better than the original itself at Hat by 0.300." in found.sentence) == said


def bare(subject):
    """A model that is given by its outputs."""
    parts = {name: replace(getattr(subject, name), features={}) for name in ("probe", "test", "train")}
    return replace(subject, **parts, head=None)


def test_an_unfair_reference_is_told_though_features_are_missing(world, audited):
    """The model leaks, and of the retrained ones nobody can say what they would."""
    models = (world.subject("before"), world.subject("after", 1.5, network=1, absent=[MALE]))
    before, after, *others = map(bare, (*models, *world.references(3, [0.1, 0.1, 0.1, 0.1, 0.1])))
    claim = audited(before=before, after=after, references=others).claims["C2"]
    assert (claim.verdict, claim.notes["finding"]) == ("INCONCLUSIVE", "unfair reference")
    assert claim.sentence.startswith("Unfair references")


def test_what_was_not_given_passes_nothing(world, audited):
    models = (world.subject("before"), world.subject("after", 0.1, network=1, absent=[MALE]))
    before, after, *others = map(bare, (*models, *world.references(3)))
    audit = audited(before=before, after=after, references=others, memory=Memory())
    assert audit.claims["C2"].verdict == "INCONCLUSIVE"
    assert audit.claims["C2"].notes["not_given"] == "features"
    assert "margin_curve" not in audit.claims["C2"].notes  # it would say that the claim passes
    assert any("The features: none were given" in line for line in audit.not_tested)


def test_without_training_images_c1_is_open_and_the_standard_budget_refused(world, audited, quick):
    none = world.train.take(np.arange(0))

    def cut(subject):
        logits, features = subject.train.logits[:0], subject.train.features[PENULTIMATE][:0]
        return replace(subject, train=replace(subject.train, logits=logits, features={PENULTIMATE: features}))

    at_chance = cut(replace(world.subject("after", 0.0, network=1), absent=frozenset()))
    models = {
        "before": cut(world.subject("before")),
        "after": at_chance,
        "references": [cut(item) for item in world.references(3)],
    }
    audit = audited(train=none, **models)
    assert audit.claims["C1"].notes["not_given"] == "outputs on training images"
    assert audit.claims["C1"].verdict in ("INCONCLUSIVE", "FAIL")
    with pytest.raises(OptionError, match="standard budget needs outputs on training images"):
        audited(train=none, options=replace(quick, budget="standard"), **models)


def test_a_number_of_images_without_a_predicted_level_keeps_c4_from_passing(make_world, audited, quick):
    here = make_world(n=2500, people=1)
    after = here.subject("after", 0.0, network=1, absent=[MALE])
    shorts = [
        ShortPair(
            share,
            here.subject("before", 1.2, network=20 + at),
            here.subject("before", 0.1, network=30 + at, absent=[MALE]),
        )
        for at, share in enumerate((0.05, 0.1))
    ]
    given = {
        "here": here,
        "after": after,
        "references": [],
        "shorts": shorts,
        "altered": [Altered("int8", after)],
    }
    options = replace(quick, budget="standard", draws=8)
    assert audited(options=replace(options, few=(64, 256)), **given).claims["C4"].verdict == "PASS"
    claim = audited(options=replace(options, few=(64, 512)), **given).claims["C4"]
    assert claim.verdict == "NOT_EVALUATED"


def test_no_fold_holds_all_images_of_a_kind():
    """Four people have the rarer kind, beside as many images of the other as everybody else."""
    cluster = np.repeat(np.arange(40), 3)
    y = np.ones(len(cluster), bool)
    y[np.isin(cluster, (3, 11, 20, 33)) & (np.arange(len(cluster)) % 3 == 0)] = False
    cluster = np.concatenate([cluster, (3, 11, 20, 33)])
    y = np.concatenate([y, np.ones(4, bool)])
    for seed in range(400):
        fold = folds(y, cluster, 4, seed, "folds")
        assert len(set(fold[~y])) > 1
