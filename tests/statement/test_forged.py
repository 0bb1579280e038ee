"""Verdicts that were changed while figures, notes or controls stayed: each is found without data."""

import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.claims.c2_retrain_equivalent import SUFFICES
from unlabel.audit.claims.headline import headline
from unlabel.audit.document.results import Claim
from unlabel.statement.schema import audit_faults
from unlabel.statement.verdicts import headline_fault, unborne

GOLDEN = Path(__file__).parents[1] / "golden"
Audit = dict[str, Any]
Change = Callable[[Audit], object]
CAL = "@calibrated"
DECIDED = ("C1", "C2", "C4", "C5", "C6")


@cache
def stored() -> Audit:
    """The golden audit by the standard budget, parsed."""
    return json.loads(gzip.decompress((GOLDEN / "standard" / "audit.json.gz").read_bytes()))


def sound() -> Audit:
    """A made-up audit, UNLEARNED against three retrained models, of which everything fits together."""
    audit = deepcopy(stored())
    audit.update(valid=True, invalid_because=[])
    (reference,) = audit["models"]["references"]
    audit["models"]["references"] = [reference | {"sha256": sha * 64} for sha in "abc"]
    for row in audit["comparisons"]:
        row.update(diff=0.0, lower=-0.01, upper=0.01, verdict="PASS")
    for name in DECIDED:
        claim = audit["claims"][name]
        claim.update(verdict="PASS", provisional=False, per_label=dict.fromkeys(claim["per_label"], "PASS"))
    audit["claims"]["C2"]["notes"].update(head_zero="FAIL", references=3)
    audit["claims"]["C2"]["notes"].pop("finding", None)
    for table in ("against_retrained", "against_original"):
        for row in audit["claims"]["C5"]["notes"][table].values():
            row.update(value=0.0, upper=row["margin"] / 2)
    for verdicts in audit["controls"]["decoys"].values():
        verdicts.update(dict.fromkeys(verdicts, "FAIL"))
    told(0.5)(audit)
    own([0.0, 0.0], value=0.0)(audit)
    return audit


def rows(audit: Audit, *ids: str, label: str = "top") -> list[Audit]:
    """The unlearned model's figures of these ids, as it is."""
    there = [row for row in audit["metrics"] if row["model"] == "after" and row["transform"] is None]
    return [row for row in there if row["id"] in ids and row["label"] == label]


def own(interval: list[float], value: float = 0.09) -> Change:
    """Changes the own output's figures."""

    def change(audit: Audit) -> None:
        for row in rows(audit, "own.sadv", "own.sadv@train"):
            row.update(value=value, ci=interval)

    return change


def left_out(low: float) -> Change:
    """Names a retained label that C5 leaves out, of which the original's AUC is at least so much."""

    def change(audit: Audit) -> None:
        audit["claims"]["C5"]["notes"]["not_predicted"] = ["middle"]
        for row in audit["metrics"]:
            if (row["id"], row["label"], row["model"]) == ("util.auc", "middle", "before"):
                row.update(value=low + 0.1, ci=[low, low + 0.2])

    return change


def told(share: float) -> Change:
    """Changes the share of canaries that is told right, of 2,000."""

    def change(audit: Audit) -> None:
        for row in rows(audit, *(f"canary.{who}.acc{how}" for who in ("own", "probe") for how in ("", CAL))):
            row.update(value=share, n=2000)
        audit["claims"]["C6"]["notes"]["canaries"] = {"top": 2000}

    return change


def comparison(id_: str, **more: Any) -> Change:
    """Changes the comparison of one figure of every label, but not that of the mean over labels."""

    def change(audit: Audit) -> None:
        for row in audit["comparisons"]:
            if (row["id"], row["transform"]) == (id_, None) and row["label"] is not None:
                row.update(more)

    return change


def noted(name: str, **more: Any) -> Change:
    """Changes the notes of a claim."""
    return lambda audit: audit["claims"][name]["notes"].update(more)


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(audit: Audit) -> None:
        for each in changes:
            each(audit)

    return change


def two_labels(audit: Audit) -> None:
    """Adds a label x with the same figures, and the means over both."""
    audit["request"]["labels"] = ["top", "x"]
    more = [{**row, "label": "x"} for row in audit["comparisons"]]
    main = [row for row in audit["comparisons"] if row["transform"] is None and "few" not in row["id"]]
    means = [{**row, "label": None} for row in main if "@" not in row["id"] and row["id"] != "probe.adv.lsq"]
    audit["comparisons"] += more + means
    audit["metrics"] += [{**row, "label": "x"} for row in audit["metrics"] if row["label"] == "top"]
    for claim in audit["claims"].values():
        claim["per_label"] |= dict.fromkeys("x" if claim["per_label"] else "", claim["verdict"])
    audit["controls"]["decoys"]["x"] = dict(audit["controls"]["decoys"]["top"])
    audit["claims"]["C6"]["notes"]["canaries"]["x"] = 2000


def of_x(**more: Any) -> Change:
    """Two labels, and a change of the linear probe's comparison of the second."""

    def change(audit: Audit) -> None:
        two_labels(audit)
        row = next(r for r in audit["comparisons"] if (r["id"], r["label"]) == ("probe.adv.lin", "x"))
        row.update(more)

    return change


def given(count: int) -> Change:
    """Leaves so many retrained models."""

    def change(audit: Audit) -> None:
        del audit["models"]["references"][count:]

    return change


def start(value: str | None) -> Change:
    """Changes what is recorded of the original's start."""
    return lambda audit: audit["models"]["before"].update(start=value)


def decoys(kind: str, verdict: str) -> Change:
    """Changes the verdict of a decoy."""
    return lambda audit: audit["controls"]["decoys"]["top"].update({kind: verdict})


def shuffled(audit: Audit) -> None:
    """An attack on shuffled labels finds something."""
    audit["controls"]["permuted"]["top"]["probe.lin"].update(value=0.5, ci=[0.4, 0.6])


FAILING = {"diff": 0.5, "lower": 0.4, "upper": 0.6, "verdict": "FAIL"}
UNFAIR = {"run": "x", "loss": 0.2, "lower": 0.1, "upper": 0.3, "margin": 0.05, "fair": False}

FORGED: dict[str, tuple[Change, str, str]] = {
    "an attack that can only condemn FAILs": (
        comparison("probe.adv.mlp@train", **FAILING), "C2", "probe.adv.mlp@train of top is 0.5"),
    "its verdict changed as well": (
        comparison("probe.adv.mlp@train", **FAILING | {"verdict": "PASS"}), "C2", "mlp@train of top is 0.5"),
    "only the note says so": (noted("C2", suspicion="FAIL"), "C2", "built to cheat"),
    "the note of C1": (noted("C1", suspicion="FAIL"), "C1", "built to cheat"),
    "one of two labels FAILs": (of_x(**FAILING), "C2", "probe.adv.lin of x is 0.5"),
    "far above its margin, open": (
        of_x(**FAILING | {"lower": 0.49, "verdict": "INCONCLUSIVE"}), "C2", "probe.adv.lin of x is 0.5"),
    "a label's verdict is FAIL": (
        lambda audit: audit["claims"]["C2"]["per_label"].update(top="FAIL"), "C2", "for top is FAIL"),
    "a label's own output is open": (
        lambda audit: audit["claims"]["C1"]["per_label"].update(top="INCONCLUSIVE"), "C1", "for top is INC"),
    "a wide interval of C1": (own([-0.2, 0.38]), "C1", "own.sadv is at most 0.23"),
    "a wide interval of C1, below": (own([-0.38, 0.2], -0.09), "C1", "own.sadv is at most 0.23"),
    "no figure of C1": (
        lambda audit: audit.update(metrics=[r for r in audit["metrics"] if r["id"] != "own.sadv"]),
        "C1", "own.sadv of top is not among the figures"),
    "canaries told right": (told(0.9), "C6", "is at most 0.91"),
    "canaries that are too few": (noted("C6", canaries={"top": 10}), "C6", "10 canaries were planted"),
    "one reference, C2": (given(1), "C2", "it is provisional: of 3 different retrained models, 1 was given"),
    "one reference, C4": (given(1), "C4", "of 3 different retrained models, 1 was given"),
    "two references, C5": (given(2), "C5", "of 3 different retrained models, 2 were given"),
    "one reference, three times": (
        lambda audit: audit["models"].update(references=3 * audit["models"]["references"][:1]),
        "C2", "1 was given"),
    "the note says two references": (noted("C2", references=2), "C2", "2 were given"),
    "a predicted level": (
        both(given(0), noted("C4", predicted=True)), "C4", "of 3 different retrained models, 0 were given"),
    "an unknown start": (noted("C2", start="unknown"), "C2", "from which weights the original's training"),
    "an unknown start of the original": (start("unknown"), "C2", "from which weights the original's"),
    "no start of the original": (start(None), "C2", "from which weights the original's training began"),
    "an unfair reference": (noted("C2", unfair_references=[UNFAIR]), "C2", "against an unfair reference: x"),
    "one in the notes of C5": (noted("C5", references_against_original=[UNFAIR]), "C4", "reference: x"),
    "one that is called fair": (
        noted("C5", references_against_original=[UNFAIR | {"fair": True}]), "C5", "reference: x"),
    "a label left out that the original predicts": (
        left_out(0.7), "C5", "it leaves out middle, which the original predicts"),
    "a decoy passed": (decoys("bias_shift_60", "PASS"), "valid", "the decoy 'bias_shift_60' of top passed"),
    "splits overlap": (
        lambda audit: audit["data"].update(overlap="500 images are in two splits"), "valid", "500 images"),
    "two passes differ": (
        lambda audit: audit["data"].update(deterministic=False), "valid", "gave different outputs"),
    "shuffled labels are found": (shuffled, "valid", "(probe.lin) trained on shuffled labels predicts top"),
    "a reason why it is invalid": (
        lambda audit: audit.update(invalid_because=["A reason."]), "valid", "why it is invalid: A reason."),
    "the original without its output is open": (
        both(noted("C2", head_zero="INCONCLUSIVE"), decoys("head_zero", "INCONCLUSIVE")),
        "C2", "nothing decides whether the original without its output"),
    "by the decoy alone": (decoys("head_zero", "INCONCLUSIVE"), "C2", "nothing decides"),
    "by the note alone": (noted("C2", head_zero=None), "C2", "nothing decides whether the original"),
    "the original without its output passes": (noted("C2", head_zero="PASS"), "C2", SUFFICES),
}  # fmt: skip


def signed_as(audit: Audit) -> Audit:
    """The audit with the headline that its claims give."""
    claims = {name: Claim(**claim) for name, claim in audit["claims"].items()}
    references = len(audit["models"]["references"])
    audit["headline"] = headline(claims, valid=audit["valid"], references=references)
    return audit


@pytest.mark.parametrize("what", FORGED)
def test_a_verdict_that_the_record_contradicts_is_a_problem(what: str) -> None:
    change, where, said = FORGED[what]
    audit = sound()
    change(audit)
    signed_as(audit)
    assert (audit_faults(audit), headline_fault(audit)) == ([], None)
    found = [why for place, why in unborne(audit) if place == where]
    assert any(said in why for why in found), unborne(audit)


def nothing(audit: Audit) -> None:
    """Changes nothing."""


HONEST: dict[str, Change] = {
    "as it is": nothing,
    "two labels": two_labels,
    "one label open, below its margin": of_x(diff=0.05, lower=-0.02, upper=0.12, verdict="INCONCLUSIVE"),
    "one label above its margin, not for certain": of_x(
        diff=0.2, lower=0.05, upper=0.35, verdict="INCONCLUSIVE"
    ),
    "a condemning attack that decides nothing": comparison(
        "probe.adv.mlp@train", diff=0.5, lower=0.4, upper=0.6, verdict="INCONCLUSIVE"
    ),
    "an own output within its margin": own([-0.06, 0.1], 0.02),
    "removing the output was enough": both(
        noted("C2", head_zero="PASS", finding=SUFFICES), decoys("head_zero", "PASS")
    ),
    "a fair reference": noted("C5", references_against_original=[UNFAIR | {"fair": True, "lower": 0.02}]),
    "few canaries told right": told(0.51),
    "a label left out that the original does not predict": left_out(0.4),
}


@pytest.mark.parametrize("what", HONEST)
def test_an_audit_that_fits_together_is_borne_out(what: str) -> None:
    audit = sound()
    HONEST[what](audit)
    signed_as(audit)
    assert (audit_faults(audit), headline_fault(audit), unborne(audit)) == ([], None, [])


def test_decoys_of_an_output_at_chance_may_pass() -> None:
    audit = sound()
    decoys("inverted", "PASS")(audit)
    for row in audit["metrics"]:
        if (row["id"], row["model"]) == ("own.sadv", "before"):
            row.update(value=0.01, ci=[-0.05, 0.07])
    assert unborne(audit) == []


def test_c3_is_held_to_its_bounds() -> None:
    audit = sound()
    audit["claims"]["C3"].update(verdict="PASS", per_label={"top": "PASS"})
    ids = ("own.adv", "others.adv.lin", "others.adv.gbt", "probe.adv.lin", "probe.adv.mlp")
    for row in rows(audit, *ids, "probe.bits.lin", "probe.bits.mlp"):
        row.update(value=0.01, ci=[-0.02, 0.04])
    audit["claims"]["C4"]["verdict"] = "NOT_EVALUATED"
    audit["metrics"].append(rows(audit, "probe.adv.lin")[0] | {"layer": "stage1", "value": 0.9})
    assert unborne(audit) == []  # C3 does not read stages before the last features
    rows(audit, "probe.bits.lin")[0].update(ci=[-0.1, 0.12])
    ((where, why),) = unborne(audit)
    assert (where, "probe.bits.lin is at most 0.06" in why) == ("C3", True), why


@pytest.mark.parametrize("place", ["first/less", "runs/less", "standard"])
def test_stored_audits_are_borne_out(place: str) -> None:
    plain = GOLDEN / place / "audit.json"
    audit = json.loads(plain.read_text("utf-8")) if plain.is_file() else stored()
    assert (headline_fault(audit), unborne(audit)) == (None, [])
