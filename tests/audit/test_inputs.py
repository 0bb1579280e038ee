"""What an audit is given: budgets as values, inputs that are refused as a whole, models read in one way."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from unlabel.audit.attacks.evidence import gather_larger
from unlabel.audit.inputs.options import BUDGETS, FULL, QUICK, STANDARD, AuditOptions, Budget
from unlabel.audit.inputs.question import Context, ask
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Altered, Canaries
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.reading.outputs import read_model
from unlabel.audit.setup import check_references
from unlabel.core import engine
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.recipe import Recipe
from unlabel.core.request import Request
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded
from unlabel.runs.origin import Plan, Record
from unlabel.testing import tiny_world


def test_a_budget_is_a_value() -> None:
    assert list(BUDGETS) == ["quick", "standard", "full"]
    assert (AuditOptions().includes, AuditOptions(budget="full").includes) == (QUICK, FULL)
    assert (QUICK.durability, STANDARD.durability, STANDARD.fine_tuning) == (False, True, False)
    assert AuditOptions(budget="full").few_sizes == (*AuditOptions().few, 1024)
    assert AuditOptions(budget="standard").to_json()["budget"] == "standard"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tune": 256}, "tune is 256; expected whole numbers, such as"),
        ({"few": (16.0, 64.0)}, "few is .*; expected whole numbers"),
        ({"thresholds": 0.5}, "expected a number for each label"),
        ({"thresholds": {"Male": "x"}}, "expected a number for each label"),
        ({"alpha": "0.05"}, "alpha is '0.05'; expected a number"),
        ({"d_few": None}, "d_few is None; expected a number"),
        ({"d_canary": float("nan")}, "d_canary is nan; expected a number"),
        ({"probe_seeds": 1.5}, "probe_seeds is 1.5; expected a whole number"),
        ({"permutations": float("inf")}, "expected a whole number"),
        ({"seed": True}, "expected a whole number"),
        ({"seed": 2**40}, "expected 0 to 2147483647"),
        ({"raw_image": 1}, "raw_image is 1; expected True or False"),
        ({"attackers": 5}, "attackers is 5; expected names"),
        ({"budget": ["full"]}, "expected a text"),
    ],
)
def test_an_option_of_another_kind_is_named(given, says) -> None:
    with pytest.raises(OptionError, match=says):
        AuditOptions(**given)


def test_one_attacker_is_a_name_and_not_its_letters() -> None:
    one = AuditOptions(budget="standard", attackers="lora")  # pyright: ignore[reportArgumentType]
    assert one == AuditOptions(budget="standard", attackers=("lora",))
    assert AuditOptions(few=[16, 64]) == AuditOptions(few=(16, 64))  # pyright: ignore[reportArgumentType]


def test_only_what_a_budget_includes_is_measured(world, quick, monkeypatch) -> None:
    monkeypatch.setitem(BUDGETS, "groups", Budget("groups", groups=True))
    models = [world.subject("before"), world.subject("after", 0.1, absent=["Male"])]
    request = Request.make(["Male"], world.probe.labels)
    questions = {"Male": ask("Male", *world.splits)}
    context = Context(questions, request, *world.splits, replace(quick, budget="groups"))
    found = gather_larger(models, context)
    assert {row.id for row in found.described} == {f"fair.{name}_gap@Male" for name in ("tpr", "fpr", "auc")}
    assert (found.altered, found.recovery.few, found.recovery.weights) == ({}, {}, None)
    assert (list(found.labels), list(found.samples)) == ([], [])


@pytest.mark.parametrize("known", [True, False])
def test_membership_is_measured_if_training_images_have_known_retained_labels(
    known, world, quick, monkeypatch
) -> None:
    """Without one there is no loss to rank images by: the audit goes on without that figure."""
    monkeypatch.setitem(BUDGETS, "members", Budget("members", membership=True))
    models = [world.subject("before"), world.subject("after", 0.1, absent=["Male"])]
    request, train = Request.make(["Male"], world.probe.labels), world.train
    if not known:
        target = np.full_like(train.target, -1)
        target[:, 0] = train.target[:, 0]
        train = replace(train, target=target)
    splits = world.probe, world.test, train
    context = Context({"Male": ask("Male", *splits)}, request, *splits, replace(quick, budget="members"))
    found = gather_larger(models, context)
    assert len(found.samples) == (2 if known else 0)
    assert ("mia.sample.tpr@1%" in {row.id for row in found.described}) is known
    assert [list(labels) for labels in found.labels] == [["Male"], ["Male"]]


def test_inputs_that_do_not_fit_are_refused_before_any_attack(world) -> None:
    before, after = world.subject("before"), world.subject("after")
    request = Request.make(["Male"], world.probe.labels)
    inputs = AuditInputs(before, after, [], request, *world.splits)
    assert inputs.checked(QUICK).subjects == [before, after]
    with pytest.raises(OptionError, match=r"roles are \['after', 'after'\]"):
        replace(inputs, before=after).checked(QUICK)
    with pytest.raises(ModelError, match="have shape"):
        replace(inputs, probe=world.probe.take(np.arange(9))).checked(QUICK)
    with pytest.raises(OptionError, match="after transforms"):
        inputs.checked(STANDARD)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"d_canary": 1.5}, "d_canary is 1.5, but must lie between 0.5"),
        ({"d_canary": 0.5}, "d_canary is 0.5"),
        ({"few": (1, 64)}, r"few is \[1, 64\], but half of these images have the label; expected even"),
        ({"few": (65,)}, r"few is \[65\]"),
        ({"tune": (255,)}, r"tune is \[255\]"),
        ({"curve": (16, 33)}, r"curve is \[16, 33\]"),
    ],
)
def test_options_that_no_audit_can_keep_are_refused(given, said) -> None:
    with pytest.raises(OptionError, match=said):
        AuditOptions(**given)


def test_a_threshold_of_no_label_is_refused(world, quick) -> None:
    request = Request.make(["Male"], world.probe.labels)
    inputs = AuditInputs(world.subject("before"), world.subject("after"), [], request, *world.splits)
    options = replace(quick, thresholds={"Bald": 0.5, "Smilling": 1.0})
    with pytest.raises(OptionError, match=r"'Smilling', which is no label of the models. Close: Smiling."):
        audit_outputs(inputs, options)


def test_a_larger_budget_without_features_or_with_canaries_of_another_label_is_refused(world) -> None:
    def bare(subject):
        parts = {name: replace(getattr(subject, name), features={}) for name in ("probe", "test", "train")}
        return replace(subject, **parts)

    before, after = world.subject("before"), world.subject("after")
    request = Request.make(["Male"], world.probe.labels)
    inputs = AuditInputs(before, after, [], request, *world.splits, altered=[Altered("int8", after)])
    assert inputs.checked(STANDARD).altered
    bared = replace(inputs, before=bare(before), after=bare(after))
    assert bared.checked(QUICK).subjects
    with pytest.raises(OptionError, match="before-0 has only outputs; pass outputs with 'penultimate'"):
        bared.checked(STANDARD)
    with pytest.raises(ModelError, match="after int8, the outputs of after-0"):
        replace(inputs, altered=[Altered("int8", bare(after))]).checked(STANDARD)
    coins = np.ones(3, np.int8)
    with pytest.raises(OptionError, match=r"canaries of Bald were given.*expected canaries of Male, or none"):
        replace(inputs, canaries=[Canaries("Bald", coins, coins, {})]).checked(STANDARD)


def test_sets_that_share_images_or_people_make_the_audit_invalid_though_nobody_said_so(world, quick) -> None:
    models = [world.subject("before"), world.subject("after", 0.1, absent=["Male"])]
    request = Request.make(["Male"], world.probe.labels)

    def overlap(probe, test, train):
        return AuditInputs(*models, [], request, probe, test, train).checked(QUICK).overlap

    probe, test, train = world.splits
    assert overlap(*world.splits) is None
    people = replace(test, cluster=probe.cluster)
    assert overlap(probe, people, train) == (
        "750 identities have images in both the probe split and the test split; split by identity"
    )
    assert overlap(probe, test, replace(train, cluster=probe.cluster)).endswith(
        "the probe split and the training images; split by identity"
    )
    images = np.concatenate([probe.ids[:2], test.ids[2:]])
    assert "2 images are in both the probe split" in overlap(probe, replace(test, ids=images), train)
    apart = np.arange(len(probe))  # no identities are known: each set counts its images
    assert overlap(*(replace(part, cluster=apart) for part in world.splits)) is None
    found = audit_outputs(AuditInputs(*models, [], request, probe, people, train), quick)
    assert (found.valid, found.headline) == (False, "INVALID AUDIT")
    assert "750 identities" in found.data["overlap"]
    assert any("The splits overlap: 750 identities" in line for line in found.invalid_because)


def test_any_network_becomes_a_subject_in_one_way() -> None:
    world, run = tiny_world(images=64), engine.start(accelerator="cpu")
    source = world.source
    sets = Sets(source.probe, source.test, source.train, "", 3)
    before, after = (read_model(world.model, role, sets, run, name="m") for role in ("before", "after"))
    plain = outputs(world.model, source.test, run)
    for subject in (before, after):
        assert np.array_equal(subject.test.logits, plain.logits)
        assert np.array_equal(subject.test.features[PENULTIMATE], plain.features[PENULTIMATE])
        assert subject.head is not None
        assert subject.head[0].shape == (3, plain.features[PENULTIMATE].shape[1])
    assert before.perturbed is None
    assert after.perturbed is not None
    assert not np.array_equal(after.perturbed.test.logits, plain.logits)


def test_two_references_of_one_training_are_refused(tmp_path):
    """Three copies of one model with a little noise are no three retrained models."""
    config = Config("small", "imagenet", ("a", "b"), ("a",), 32, (0.5,) * 3, (0.25,) * 3, (0.5, 0.5))
    plan = Plan("small", "imagenet", Recipe(), 64, 32, None)

    def run(name: str, seed: int) -> Loaded:
        record = Record(method="train", blueprint=plan, seed=seed)
        return Loaded(tmp_path / name, nn.Identity(), config, record, name)

    request = Request.make("a", ("a", "b"))
    original = replace(run("original", 0), config=replace(config, forgotten=()))
    check_references([original], [run("r1", 1), run("r2", 2)], request)
    with pytest.raises(OptionError, match=r"r2 was trained with the seed and recipe of .*r1; expected"):
        check_references([original], [run("r1", 1), run("r2", 1)], request)
