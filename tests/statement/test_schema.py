"""The schema of audit.json: what it lets through, and that the small validator agrees with a whole one."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.statement.schema import audit_faults, audit_schema

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def audit(made: Path) -> dict[str, Any]:
    """A parsed audit.json, as written."""
    return json.loads((made / "less" / "audit.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def whole() -> Draft202012Validator:
    """A complete validator of the same schema."""
    Draft202012Validator.check_schema(audit_schema())
    return Draft202012Validator(audit_schema())


def test_what_unlabel_audit_writes_fits(audit: dict[str, Any], whole: Draft202012Validator) -> None:
    assert audit_faults(audit) == []
    whole.validate(audit)
    assert len(audit["metrics"]) > 40
    assert audit["comparisons"]


def test_what_the_standard_budget_adds_fits_too(here: Path, small: AuditOptions, whole) -> None:
    """About three seconds: the transforms train and read two models more than once."""
    few: dict[str, Any] = {"few": (16,), "few_judged": 16, "draws": 2}
    options = replace(small, budget="standard", **few)
    run = engine.start(accelerator="cpu", seed=4)
    found = audit_run(here / "less", here / "base", [here / "again"], run, options=options, write=False)
    audit = json.loads(json.dumps(found.to_json()))
    assert audit_faults(audit) == []
    whole.validate(audit)
    assert {row["transform"] for row in audit["metrics"]} > {None, "int8"}


def test_the_ids_of_metrics_are_open(audit: dict[str, Any]) -> None:
    audit = copy.deepcopy(audit)
    audit["metrics"].append(audit["metrics"][0] | {"id": "recover.int4.own", "ci": None, "unit": "steps"})
    assert audit_faults(audit) == []


BREAKS: dict[str, Change] = {
    "no headline": lambda a: a.pop("headline"),
    "another headline": lambda a: a.update(headline="CERTIFIED"),
    "a headline with more behind it": lambda a: a.update(headline=a["headline"] + "\n"),
    "a headline that is a list": lambda a: a.update(headline=[a["headline"]]),
    "another schema": lambda a: a.update(schema="unlabel.audit/2"),
    "a part that is not foreseen": lambda a: a.update(certificate="yes"),
    "valid as a number": lambda a: a.update(valid=1),
    "valid as text": lambda a: a.update(valid="true"),
    "no label": lambda a: a["request"].update(labels=[]),
    "a label without a name": lambda a: a["request"].update(labels=[""]),
    "a label that is a number": lambda a: a["request"].update(labels=[3]),
    "a claim less": lambda a: a["claims"].pop("C4"),
    "a claim more": lambda a: a["claims"].update(C7=a["claims"]["C1"]),
    "an unknown verdict": lambda a: a["claims"]["C1"].update(verdict="MAYBE"),
    "a verdict that is null": lambda a: a["claims"]["C2"].update(verdict=None),
    "an unknown verdict of a label": lambda a: a["claims"]["C1"]["per_label"].update(top="OK"),
    "provisional as a number": lambda a: a["claims"]["C2"].update(provisional=0),
    "a metric less a key": lambda a: a["metrics"][5].pop("n"),
    "a metric more a key": lambda a: a["metrics"][5].update(colour="red"),
    "a value that is text": lambda a: a["metrics"][0].update(value="0.5"),
    "a value that is true": lambda a: a["metrics"][0].update(value=True),
    "half an interval": lambda a: a["metrics"][0].update(ci=[0.5]),
    "an interval of three": lambda a: a["metrics"][0].update(ci=[0.5, 0.6, 0.7]),
    "half an image": lambda a: a["metrics"][0].update(n=10.5),
    "fewer images than none": lambda a: a["metrics"][0].update(n=-1),
    "an unknown role": lambda a: a["metrics"][0].update(model="teacher"),
    "metrics as an object": lambda a: a.update(metrics={}),
    "a comparison less a key": lambda a: a["comparisons"][0].pop("margin"),
    "a negative margin": lambda a: a["comparisons"][0].update(margin=-0.1),
    "no split E": lambda a: a["data"]["splits"].pop("E"),
    "a split that is a number": lambda a: a["data"]["splits"].update(E=5),
    "an alpha above one half": lambda a: a["options"].update(alpha=0.9),
    "a seed of one half": lambda a: a["options"].update(seed=0.5),
    "no model after": lambda a: a["models"].pop("after"),
    "a hash in capitals": lambda a: a["models"]["after"].update(sha256="A" * 64),
    "a hash too short": lambda a: a["models"]["before"].update(sha256="ab"),
    "a reference that is text": lambda a: a["models"].update(references=["retrained"]),
    "negative seconds": lambda a: a["seconds"].update(attacks=-1),
    "limitations as text": lambda a: a.update(limitations="none"),
}
FITS: dict[str, Change] = {
    "a whole number written as a float": lambda a: a["metrics"][0].update(n=10.0, value=1),
    "no interval": lambda a: a["metrics"][0].update(ci=None),
    "provisional": lambda a: a.update(headline="UNLEARNED (provisional)"),
    "facts of another reader": lambda a: a["data"].update(origin="elsewhere", terms={"a": [1]}),
    "an option more": lambda a: a["options"].update(finetune_steps=[10, 100]),
    "a run from before seeds were recorded": lambda a: a["models"]["after"].update(seed=None, versions=None),
}


@pytest.mark.parametrize("what", [*BREAKS, *FITS])
def test_it_agrees_with_a_complete_validator(
    what: str, audit: dict[str, Any], whole: Draft202012Validator
) -> None:
    audit = copy.deepcopy(audit)
    (BREAKS | FITS)[what](audit)
    faults = audit_faults(audit)
    assert bool(faults) == (what in BREAKS)
    assert whole.is_valid(audit) == (what in FITS)
    assert all("\n" not in fault and len(fault) < 300 for fault in faults)


@pytest.mark.parametrize("value", [None, [], 3, "audit", {}, {"schema": {}}], ids=repr)
def test_anything_at_all_gets_an_answer(value: Any, whole: Draft202012Validator) -> None:
    assert audit_faults(value)
    assert not whole.is_valid(value)


def test_faults_say_where_and_show_no_control_characters(audit: dict[str, Any]) -> None:
    audit = copy.deepcopy(audit)
    audit["metrics"][3]["value"] = "\x1b[2J"
    audit["\x1b]0;evil"] = 1
    found = audit_faults(audit)
    assert any(fault.startswith("metrics.3.value: ") and "number" in fault for fault in found)
    assert not any("\x1b" in fault for fault in found)
