"""The test that keeps a claim from a PASS, in a sentence."""

from unlabel.audit.document.stages import in_words, is_stage
from unlabel.audit.document.typed import Difference, Document
from unlabel.audit.figures import find, transform
from unlabel.report.formatting import beside_margin, brief, number
from unlabel.report.sections.full_budget import SPOKEN_UNITS, level
from unlabel.report.tables import targets


def sentence(audit: Document, id_: str) -> str:
    """By which test a claim fails or is open; empty if it passes, or no test is beyond its limit.

    Args:
        audit: The parsed audit.
        id_: Of the claim.
    """
    claim, test = audit.claims[id_], _test(audit, id_)
    if test is None:
        return ""
    failed = claim.verdict == "FAIL"
    label = f" for {brief(test.label)}" if test.label and len(targets(audit)) > 1 else ""
    bound = beside_margin(test.lower if failed else test.upper, test.margin, signed=True)
    figure = find(test.id)
    unit = SPOKEN_UNITS.get(figure.unit if figure else "", "advantage")
    than = "before" if test.transform and test.against == "itself" else level(audit, "retrained models do")
    return (
        f"{id_} {'fails by' if failed else 'is open because of'} {_in_words(test)}{label}:"
        f" {beside_margin(test.diff, test.margin, signed=True)} {unit} more than {than},"
        f" at {'least' if failed else 'most'} {bound}; {number(test.margin)} is allowed."
    )


def _test(audit: Document, id_: str) -> Difference | None:
    """The comparison that decided, of those beyond their limit; None if it is not known."""
    claim = audit.claims[id_]
    if claim.verdict not in ("FAIL", "INCONCLUSIVE"):
        return None
    where = claim.notes.binding_test
    rows = [
        row
        for row in audit.comparisons
        if row.id == claim.binding
        and all(where.get(key, value) == value for key, value in (("label", row.label), ("layer", row.layer)))
        and row.transform == where.get("transform")
        and row.verdict != "PASS"
        and row.distance > 0
    ]
    return max(rows, key=lambda row: (row.verdict == "FAIL", row.distance), default=None)


def _in_words(test: Difference) -> str:
    """The attack, after which change of the model, and at which stage."""
    figure = find(test.id)
    words = figure.in_words.rstrip(",") if figure else test.id
    if test.layer is not None and is_stage(test.layer):
        words = f"a linear probe at {in_words(test.layer)}"
    return f"{words} after {transform(test.transform).of_model}" if test.transform else words
