"""What an audit is given: budgets as values, inputs that are refused as a whole, models read in one way."""

from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.evidence import gather_larger
from unlabel.audit.inputs import (
    BUDGETS,
    FULL,
    QUICK,
    STANDARD,
    AuditInputs,
    AuditOptions,
    Budget,
    Context,
    ask,
)
from unlabel.audit.reading.outputs import read_model
from unlabel.audit.setup import Sets
from unlabel.core import engine
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.parallel import run_jobs
from unlabel.core.progress import SILENT
from unlabel.core.request import Request
from unlabel.models.features import PENULTIMATE, outputs
from unlabel.testing import tiny_world


def test_a_budget_is_a_value() -> None:
    assert list(BUDGETS) == ["quick", "standard", "full"]
    assert (AuditOptions().includes, AuditOptions(budget="full").includes) == (QUICK, FULL)
    assert (QUICK.durability, STANDARD.durability, STANDARD.fine_tuning) == (False, True, False)
    assert AuditOptions(budget="full").few_sizes == (*AuditOptions().few, 1024)
    assert AuditOptions(budget="standard").to_json()["budget"] == "standard"


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


def test_results_stand_in_the_order_of_the_jobs() -> None:
    jobs = {name: (lambda name=name: name.upper()) for name in "dacb"}
    assert list(run_jobs(jobs, SILENT).items()) == [("d", "D"), ("a", "A"), ("c", "C"), ("b", "B")]
