"""What an audit's notes, controls and models say against its verdicts.

Whoever changes a verdict and leaves all this as it was is found here. Only what follows from the rules of
every version is asked, so that a statement that was signed before still holds.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from unlabel.audit.claims.c2_retrain_equivalent import DECIDED, SUFFICES
from unlabel.audit.claims.c5_left_out import CHANCE
from unlabel.audit.figures import UTILITY_AUC
from unlabel.core.wording import joined
from unlabel.statement.needed import at_least, most_of_own, references

Json: TypeAlias = Mapping[str, Any]
AGAINST_RETRAINED = ("C2", "C4", "C5")
"""Claims that are judged against retrained models."""
OF_EVERY_LABEL = ("C1", "C3", "C6")
"""Claims that PASS only if they do for every label."""


def against_pass(name: str, audit: Json) -> str | None:
    """What the notes and the verdicts of single labels say against a PASS; None: nothing.

    Args:
        name: Of the claim.
        audit: Parsed and checked.
    """
    claim = audit["claims"][name]
    notes = claim["notes"]
    for label, each in claim["per_label"].items():
        if each == "FAIL" or (each != "PASS" and name in OF_EVERY_LABEL):
            return f"its verdict for {label} is {each}"
    if notes.get("suspicion") == "FAIL":
        return "its notes say that an attack on models built to cheat the audit FAILs it"
    if name == "C6" and (few := min(notes["canaries"].values())) < audit["options"]["canaries"]:
        return f"{few} canaries were planted, where {audit['options']['canaries']} are needed"
    if name == "C5":
        return _left_out_of_c5(audit)
    if name not in ("C2", "C4"):
        return None
    if notes.get("rare"):
        return f"too few images show, or lack, {joined(notes['rare'])}, as its notes say"
    if notes.get("finding") not in (None, SUFFICES):
        return f"its notes say: {notes['finding']}"
    return _undecided_decoy(audit) if name == "C2" else None


def _left_out_of_c5(audit: Json) -> str | None:
    """A label that C5 left out as one that the original does not predict, and that it does predict."""
    left_out = audit["claims"]["C5"]["notes"].get("not_predicted") or ()
    for row in audit["metrics"]:
        theirs = (row["id"], row["model"]) == (UTILITY_AUC.id, "before") and row["label"] in left_out
        if theirs and (row["ci"] or [row["value"]])[0] > CHANCE:
            return f"it leaves out {row['label']}, which the original predicts"
    return None


def _undecided_decoy(audit: Json) -> str | None:
    """What the original without its output says against a PASS of C2, which needs its verdict."""
    notes = audit["claims"]["C2"]["notes"]
    removed = notes.get("head_zero")
    by_label = {each["head_zero"] for each in audit["controls"]["decoys"].values()} - {"NOT_EVALUATED"}
    if removed not in DECIDED or by_label == {"INCONCLUSIVE"}:
        return "nothing decides whether the original without its output would pass"
    if removed == "PASS" and notes.get("finding") != SUFFICES:
        return f"the original without its output passes too, and its notes do not say: {SUFFICES}"
    return None


def unfair(audit: Json) -> Iterator[tuple[str, str]]:
    """Claims that are decided against a retrained model which the audit names as unfair."""
    standing = audit["claims"]["C5"]["notes"].get("references_against_original") or ()
    named = [
        row["run"]
        for row in standing
        if not row["fair"] or row["lower"] > audit["options"].get("d_fair", row["margin"])
    ]
    for name in AGAINST_RETRAINED:
        claim = audit["claims"][name]
        runs = [*named, *(row["run"] for row in claim["notes"].get("unfair_references") or ())]
        if runs and claim["verdict"] in DECIDED:
            which = joined(list(dict.fromkeys(runs)))
            yield name, f"{claim['verdict']}, but nothing is decided against an unfair reference: {which}"


def unmarked(audit: Json) -> Iterator[tuple[str, str]]:
    """Claims that must be provisional and are not marked so."""
    given, claims = references(audit), audit["claims"]
    before = audit["models"]["before"]
    unknown = claims["C2"]["notes"].get("start") == "unknown" or (
        "start" in before and before["start"] in (None, "unknown")
    )
    predicted = bool(claims["C4"]["notes"].get("predicted"))
    due = {
        "C2": given < 3 or unknown,
        "C4": 0 < given < 3 or (given == 0 and predicted),
        "C5": 0 < given < 3,
    }
    for name, is_due in due.items():
        claim = claims[name]
        if is_due and not claim["provisional"] and claim["verdict"] != "NOT_EVALUATED":
            why = f"of 3 different retrained models, {given} {'was' if given == 1 else 'were'} given"
            if given >= 3:
                why = "it is not known from which weights the original's training began"
            yield name, f"{claim['verdict']}, but it is provisional: {why}"


def invalid(audit: Json) -> Iterator[str]:
    """Why an audit that is signed as valid is not."""
    if not audit["valid"]:
        return
    if audit["invalid_because"]:
        yield f"it says why it is invalid: {audit['invalid_because'][0]}"
    if audit["data"].get("overlap"):
        yield f"the splits overlap: {audit['data']['overlap']}"
    if audit["data"].get("deterministic") is False:
        yield "two passes of one model over the same images gave different outputs"
    options, controls = audit["options"], audit["controls"]
    for label, verdicts in controls["decoys"].items():
        passed = [kind for kind, each in verdicts.items() if kind != "head_zero" and each == "PASS"]
        # if the original's own output is at chance, its decoys are too, and may pass
        if passed and most_of_own(audit, "before", label) > options["d_chance"]:
            yield f"the decoy '{passed[0]}' of {label} passed as disabled"
    for label, found in controls["permuted"].items():
        for kind, row in found.items():
            if at_least(row, options) > options["d_permuted"]:
                yield f"an attack ({kind}) trained on shuffled labels predicts {label}"
