"""``--require``: 0 only where all that is named passed for certain, 3 where something failed, else 4."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unlabel.audit.claims.c2_retrain_equivalent import SUFFICES
from unlabel.audit.claims.gate import NAMES, judge, required
from unlabel.audit.claims.headline import headline
from unlabel.audit.document.results import Claim
from unlabel.core.errors import OptionError

DOCS = Path(__file__).parents[2] / "docs"
CLAIMS = ("C1", "C2", "C3", "C4", "C5", "C6")


def audit(valid: bool = True, **states: str) -> Any:
    """An audit in which every claim passes, but for those named."""
    claims = {name: Claim("PASS", "") for name in CLAIMS}
    for name, state in states.items():
        verdict, _, more = state.partition(" ")
        claims[name] = Claim(verdict, "", provisional=bool(more))  # type: ignore[arg-type]
    return SimpleNamespace(valid=valid, claims=claims)


@pytest.mark.parametrize(
    ("found", "names", "code", "says"),
    [
        (audit(), "C1,C2,C5", 0, "met: C1 PASS, C2 PASS, C5 PASS"),
        (audit(C3="FAIL"), "C1,C2,C5", 0, "met"),
        (audit(C2="FAIL"), "C1,C2,C5", 3, "not met: C2 FAIL"),
        (audit(C2="FAIL provisional"), "C2", 3, "not met: C2 FAIL"),
        (audit(C2="PASS provisional"), "C2", 4, "not decided: C2 PASS (provisional)"),
        (audit(C5="INCONCLUSIVE"), "useful", 4, "not decided: C5 INCONCLUSIVE"),
        (audit(C4="NOT_EVALUATED"), "unlearned", 4, "not decided: C4 NOT_EVALUATED"),
        (audit(C4="NOT_EVALUATED", C5="FAIL"), "unlearned", 3, "not met: C5 FAIL"),
        (audit(C3="FAIL"), "unlearned", 0, "met"),
        (audit(C6="FAIL"), "unlearned", 3, "not met: C6 FAIL"),
        (audit(valid=False), "C1", 3, "not met: the audit is invalid"),
    ],
)
def test_the_gate(found, names: str, code: int, says: str) -> None:
    given, why = judge(found, required(names.split(",")))
    assert given == code
    assert why.startswith(says)


@pytest.mark.parametrize("verdict", ["PASS", "PASS provisional", "FAIL", "INCONCLUSIVE", "NOT_EVALUATED"])
@pytest.mark.parametrize("claim", ["C1", "C2", "C3", "C4", "C5", "C6"])
def test_unlearned_is_what_the_headline_says(claim: str, verdict: str) -> None:
    found = audit(**{claim: verdict})
    said = headline(found.claims, valid=True, references=3)
    assert (judge(found, required(["unlearned"]))[0] == 0) == (said == "UNLEARNED")


def test_unlearned_is_met_where_removing_the_output_was_enough_and_all_four_pass() -> None:
    """The docs say so: the gate asks what the model is like, and the headline also what made it so."""
    found = audit()
    found.claims["C2"] = Claim("PASS", "", notes={"finding": SUFFICES})
    said = headline(found.claims, valid=True, references=3)
    assert said == "RETRAIN-EQUIVALENT, REMOVING THE OUTPUT WAS ENOUGH"
    assert judge(found, required(["unlearned"]))[0] == 0
    assert said in (DOCS / "ci.md").read_text("utf-8")
    found.claims["C4"] = Claim("INCONCLUSIVE", "")
    assert headline(found.claims, valid=True, references=3) == said
    assert judge(found, required(["unlearned"]))[0] == 4


def test_claims_go_by_number_and_by_name() -> None:
    assert [required([name]) for name in NAMES][:6] == [(name,) for name in CLAIMS]
    assert [required([name]) for name in list(NAMES)[6:12]] == [(name,) for name in CLAIMS]
    assert required(["USEFUL", "c1", "C1"]) == ("C1", "C5")
    for names in (["C7"], [], ["durabel"]):
        with pytest.raises(OptionError, match="C1, C2, C3, C4, C5, C6, disabled, retrain-equivalent, erased"):
            required(names)


def test_the_command_ends_with_the_gates_code(command, base: Path, tmp_path: Path, monkeypatch) -> None:
    """The audit itself is another test's; here its result is given."""
    from unlabel.audit.document.results import Audit
    from unlabel.audit.run import folders as module

    run = Path(shutil.copytree(base, tmp_path / "run"))
    content = dict.fromkeys(Audit.__dataclass_fields__, ()) | {"headline": "X", "valid": True}
    content |= {key: {} for key in ("controls", "data", "options", "models", "seconds")}
    content |= {"request": {"labels": ["top"], "forgotten_earlier": []}, "schema": "unlabel.audit/1"}
    result = Audit(**{**content, "claims": audit(C2="FAIL", C4="NOT_EVALUATED").claims})
    asked: list[Any] = []

    def given(*arguments: Any, **_: Any) -> Audit:
        asked.append(arguments)
        return result

    monkeypatch.setattr(module, "audit_run", given)
    plain = ["audit", run, "--before", base, "--quiet"]
    codes = {
        (): 0,
        ("--fail-on", "fail"): 3,
        ("--require", "C1,C5"): 0,
        ("--require", "C1,C5", "--fail-on", "fail"): 3,
        ("--require", "C1,C2"): 3,
        ("--require", "durable"): 4,
        ("--require", "unlearned"): 3,
        ("--require", "C4", "--json"): 4,
    }
    for more, code in codes.items():
        ran = command(*plain, *more)
        assert ran.code == code, more
        assert ran.out, "what was found is printed all the same"
        assert ("--require" in more) == ran.err.startswith("--require ")
        if "--json" in more:
            assert json.loads(ran.out)["claims"]["C2"]["verdict"] == "FAIL"
    asked.clear()
    for more in (["C9"], [""], ["C1", "--plan"]):
        ran = command(*plain, "--require", *more)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert not asked, "refused before the audit"
    result = replace(result, valid=False)
    assert command(*plain, "--require", "C1").code == 3
