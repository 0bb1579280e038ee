"""Whether a signed headline follows from its claims, and whether a repeated audit bears the claims out.

On another machine numbers differ by rounding, and a verdict at its margin may change with them. So verdicts
must be the same where all numbers are. Elsewhere a PASS must not stand against a FAIL, and the figures that
a PASS rests on must themselves lie within their margins.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from unlabel.core.errors import UnlabelError

Json = Mapping[str, Any]

QUICK = ("C1", "C2", "C3", "C5")
"""Claims that the quick budget judges."""
MORE_TESTS = ("C2", "C5")
"""Those that a larger budget judges by more tests: it may find a FAIL where the quick one does not."""
FAULTS = ("NOT UNLEARNED", "DISABLED ONLY")
"""Headlines that are as bad with "(provisional)" as without."""
ROOM = 0.25  # of an upper bound's distance to the difference: what another machine may make of it
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


def unborne(audit: Json) -> list[tuple[str, str]]:
    """Parts of a parsed, checked audit that its own figures do not bear out, and what is wrong with each.

    A signer may change a verdict and the headline that follows from it, and leave the figures as they are; or
    change margins and places of tests, or leave some out; or take away that a verdict is provisional, or that
    the audit is invalid.
    """
    from unlabel.statement.noted import invalid, unfair, unmarked

    try:
        wrong = [("valid", f"signed as valid, but {why}") for why in invalid(audit)]
        return [*_wrong_margin(audit), *_wrong_passes(audit), *wrong, *unfair(audit), *unmarked(audit)]
    except (KeyError, TypeError, AttributeError, ValueError, UnlabelError):  # it may come from anyone
        return [("claims", "a figure or an option that a PASS rests on is missing, or of another kind")]


def _wrong_margin(audit: Json) -> Iterator[tuple[str, str]]:
    """The first comparison whose margin is not the one that the options give it."""
    from unlabel.statement.needed import margin_of

    margins = {value for name, value in audit["options"].items() if name.startswith("d_")}
    for row in audit["comparisons"]:
        due = margin_of(row, audit["options"])
        if row["margin"] != due and (due is not None or row["margin"] not in margins):
            expected = "which is none of the options" if due is None else f"and its option says {due:g}"
            yield "comparisons", f"{row['id']} has the margin {row['margin']}, {expected}"
            return


def _wrong_passes(audit: Json) -> Iterator[tuple[str, str]]:
    for name, claim in audit["claims"].items():
        if claim["verdict"] == "PASS" and (against := _against(name, audit)):
            yield name, f"PASS, but {against}"


def _against(name: str, audit: Json) -> str | None:
    """What stands against a PASS: a bound above its margin, a note, or a test that is not recorded."""
    from unlabel.statement.needed import bounds, failing, lacking
    from unlabel.statement.noted import against_pass

    for figure, upper, margin in bounds(name, audit):
        if upper is None or upper > margin:
            return f"{figure} is at most {upper:.6g}, where less than {margin} is allowed"
    if name in ("C2", "C4") and (row := failing(name, audit)):
        of = row["label"] or "the mean over labels"
        value = f"{row['diff']} (from {row['lower']} to {row['upper']})"
        return f"{row['id']} of {of} is {value}, above its margin {row['margin']}"
    if noted := against_pass(name, audit):
        return noted
    if (place := lacking(name, audit)) is None:
        return None
    figure, label, layer, transform = place
    where = "".join(f", {part}" for part in (layer, transform) if part)
    among = "comparisons" if name in ("C2", "C4") else "figures"
    return f"{figure} of {label or 'the mean over labels'}{where} is not among the {among}"


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


def better_signed(signed: Json, again: Json) -> Iterator[tuple[str, str]]:
    """What a signed audit makes better than the repeated one of the same images does: a bound, or a warning.

    On another machine an upper bound may move by rounding: by a quarter of its distance to the difference, at
    most. A sentence on limitations may have other numbers.

    Args:
        signed: The signed audit, parsed and checked.
        again: The quick audit of the same models and images.
    """

    def by_test(audit: Json) -> dict[tuple[Any, ...], Json]:
        names = ("id", "label", "layer", "transform", "against")
        return {tuple(row.get(name) for name in names): row for row in audit["comparisons"]}

    repeated = by_test(again)
    for key, row in by_test(signed).items():
        now = repeated.get(key)
        if now is None or row["verdict"] != "PASS":
            continue
        room = max(ROOM * (now["upper"] - now["diff"]), 1e-5)
        if row["upper"] < now["upper"] - room and now["upper"] > row["margin"]:
            of = row["label"] or "the mean over labels"
            yield (
                "comparisons",
                f"{row['id']} of {of} was signed as at most {row['upper']:.4g}; it is at most"
                f" {now['upper']:.4g} now, where {row['margin']:g} is allowed",
            )
            return
    if again["options"]["budget"] == signed["options"]["budget"]:
        known = {_worded(line) for line in signed["limitations"]}
        gone = [line for line in again["limitations"] if _worded(line) not in known]
        if gone:
            yield "limitations", f"the repeated audit also says: {gone[0]}"


def _worded(line: str) -> str:
    """A sentence without its numbers."""
    return re.sub(r"\d[\d,.]*", "#", line)


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
    from unlabel.statement.needed import deciding, losses, measured

    if name in ("C1", "C3"):
        rows = measured(name, again)
        yield from ((row["id"], abs(row["value"]) if name == "C1" else row["value"], at) for row, at in rows)
    if name == "C2":
        tests = deciding(name, again)
        yield from ((f"{row['id']} beyond retrained models", row["diff"], row["margin"]) for row in tests)
    if name == "C5":
        yield from ((what, row["value"], margin) for what, row, margin in losses(again))
