"""Whether a signed headline follows from its claims, and whether a repeated audit bears the claims out.

On another machine numbers differ by rounding, and a verdict at its margin may change with them. So verdicts
must be the same where all numbers are. Elsewhere a PASS must not stand against a FAIL, and the figures that
a PASS rests on must themselves lie within their margins.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

QUICK = ("C1", "C2", "C3", "C5")
"""Claims that the quick budget judges."""
MORE_TESTS = ("C2", "C5")
"""Those that a larger budget judges by more tests: it may find a FAIL where the quick one does not."""
FAULTS = ("NOT UNLEARNED", "DISABLED ONLY")
"""Headlines that are as bad with "(provisional)" as without."""
TOGETHER = "stages"
"""Layer of the test of all stages together; older audits have none, and need each stage."""
DECIDING = ("alpha", "rare", "canaries")
"""Options that a verdict rests on, beside the margins, whose names begin with ``d_``."""


def headline_fault(audit: Json) -> str | None:
    """What is wrong with the headline of a parsed, checked audit; None if it follows from the claims."""
    from unlabel.audit.claims.headline import EARLIER, headline
    from unlabel.audit.document.results import Claim

    claims = {name: Claim(**claim) for name, claim in audit["claims"].items()}
    references = len(audit["models"].get("references") or ())
    expected = headline(claims, valid=audit["valid"], references=references)
    mark = " (provisional)"
    signed, plain = audit["headline"].removesuffix(mark), expected.removesuffix(mark)
    # earlier versions had fewer headlines, and marked those that tell of a fault by other claims
    if audit["headline"] == expected or EARLIER.get(plain) == signed or signed == plain in FAULTS:
        return None
    return f"is {audit['headline']}, but its claims give {expected}"


def unborne(audit: Json) -> Iterator[tuple[str, str]]:
    """Parts of a parsed, checked audit that its own figures do not bear out, and what is wrong with each.

    A signer may change a verdict and the headline that follows from it, and leave the figures as they are.
    """
    margins = {value for name, value in audit["options"].items() if name.startswith("d_")}
    for row in audit["comparisons"]:
        if row["margin"] not in margins:
            yield "comparisons", f"{row['id']} has the margin {row['margin']}, which is none of the options"
            break
    for name, claim in audit["claims"].items():
        if claim["verdict"] == "PASS" and (beyond := _bound_beyond(name, audit)):
            yield name, f"PASS, but {beyond}"


def _bound_beyond(name: str, audit: Json) -> str | None:
    """A recorded bound above its margin, among those that a PASS of the claim needs below."""
    if name not in ("C2", "C4"):
        beyond = _beyond(name, audit)
        return beyond and beyond.replace(" now", "")
    for row in _tests(name, audit):
        if row["upper"] is None or row["upper"] > row["margin"]:
            return f"{row['id']} is at most {row['upper']}, where less than {row['margin']} is allowed"
    return None


def _tests(name: str, audit: Json) -> list[Json]:
    """The comparisons that decide C2 or C4: of all labels together if there are such, else of each."""
    from unlabel.audit.figures import judged_by

    families = judged_by("C4")

    def decides(row: Json) -> bool:
        altered = row.get("transform") is not None or (row.get("layer") or "").startswith("stage")
        if name == "C2":
            return not altered and row["id"] in judged_by("C2")
        return altered or any(row["id"].startswith(family) for family in families)

    tests = [row for row in audit["comparisons"] if decides(row)]
    if any(row.get("layer") == TOGETHER for row in tests):  # then a PASS does not need a single stage
        tests = [row for row in tests if not _is_single_stage(row)]
    return [row for row in tests if row["label"] is None] or tests


def _is_single_stage(row: Json) -> bool:
    layer = row.get("layer") or ""
    return layer.startswith("stage") and layer != TOGETHER


def changed_margins(options: Json) -> dict[str, dict[str, Any]]:
    """By name, the signed and the published value of each changed option that verdicts rest on."""
    from unlabel.audit.inputs.options import AuditOptions

    published = AuditOptions().to_json()
    names = [name for name in published if name.startswith("d_") or name in DECIDING]
    return {
        name: {"signed": options[name], "published": published[name]}
        for name in names
        if name in options and options[name] != published[name]
    }


def contradictions(signed: Json, again: Json, *, exact: bool) -> Iterator[tuple[str, str]]:
    """What the repeated audit does not bear out: the part of the audit, and what is wrong with it.

    Args:
        signed: The signed audit, parsed and checked.
        again: The quick audit of the same models.
        exact: Whether the same version measured the same images, and every number is the same.
    """
    if signed["valid"] and not again["valid"]:
        yield "valid", f"signed as valid; INVALID now: {again['invalid_because'][0]}"
    larger = signed["options"]["budget"] != again["options"]["budget"]
    for name in judged_again(signed, larger=larger):
        was, now = signed["claims"][name], again["claims"][name]
        if _differs(name, was, now, larger=larger, exact=exact):
            yield name, f"{was['verdict']} was signed; {now['verdict']} now: {now['sentence']}"
        elif was["verdict"] == now["verdict"] and now["provisional"] and not was["provisional"]:
            yield name, f"{was['verdict']} was signed; it is provisional now"
        elif (was["verdict"], now["verdict"]) == ("PASS", "INCONCLUSIVE") and (
            beyond := _beyond(name, again)
        ):
            yield name, f"PASS was signed; {beyond}"


def judged_again(signed: Json, *, larger: bool) -> list[str]:
    """Claims that the repeated audit judges as the signed one did; it repeats no short trainings."""
    names = QUICK if larger else tuple(signed["claims"])
    return [name for name in names if not (signed["models"].get("shorts") and name in ("C2", "C4"))]


def _differs(name: str, was: Json, now: Json, *, larger: bool, exact: bool) -> bool:
    """Whether two verdicts cannot both be right."""
    from unlabel.audit.claims.c2_retrain_equivalent import BLIND, NOTHING

    pair = was["verdict"], now["verdict"]
    if pair[0] == pair[1]:
        return False
    if exact and not larger:
        return True
    if exact and pair[0] == "PASS":  # a larger budget may see that the original without its output fails
        return now["notes"].get("finding") != BLIND
    if pair == ("FAIL", "PASS"):
        return not (larger and name in MORE_TESTS)
    if pair[1] == "NOT_EVALUATED":
        return now["notes"].get("finding") != NOTHING
    return pair == ("PASS", "FAIL")


def _beyond(name: str, again: Json) -> str | None:
    """A figure beyond its margin, among those that a PASS of the claim rests on."""
    for figure, value, margin in _deciding(name, again):
        if value > margin:
            return f"{figure} is {value:.4g} now, above the margin {margin:g}"
    return None


def _deciding(name: str, again: Json) -> Iterator[tuple[str, float, float]]:
    """Figures that a PASS of a claim rests on: name, value, margin."""
    from unlabel.audit.figures import ATTACKS, OWN_ON_TRAIN, OWN_SIGNED, unit_of

    options = again["options"]
    rows = [row for row in again["metrics"] if row["model"] == "after"]
    if name == "C1":
        own = (OWN_SIGNED.id, OWN_ON_TRAIN.id)
        yield from ((row["id"], abs(row["value"]), options["d_chance"]) for row in rows if row["id"] in own)
    if name == "C2":
        tests = _tests(name, again)
        yield from ((f"{row['id']} beyond retrained models", row["diff"], row["margin"]) for row in tests)
    if name == "C3":
        for row in rows:
            if row["id"] in ATTACKS:
                margin = "d_erased_bits" if unit_of(row["id"]) == "bits" else "d_chance"
                yield row["id"], row["value"], options[margin]
    if name == "C5":
        notes = again["claims"]["C5"]["notes"]
        table = notes.get("against_retrained") or notes["against_original"]
        yield from ((what.replace("_", " "), row["value"], row["margin"]) for what, row in table.items())
