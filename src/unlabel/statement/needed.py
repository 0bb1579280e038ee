"""The tests that a PASS of C2, C4 or C5 needs: which must be recorded, and the margin of each.

Both follow from the audit's options and figures. So whoever changes a verdict cannot give a test a wider
margin, read it elsewhere or leave it out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from unlabel.audit.attacks.recovery import REPEATED
from unlabel.audit.attacks.whole_model import BELOW
from unlabel.audit.claims.judging import reference_margin
from unlabel.audit.document.stages import TOGETHER, is_stage
from unlabel.audit.figures import (
    BATCHNORM,
    FEW_SHOT,
    FINE_TUNED,
    FP16,
    LABEL_MEMBERSHIP,
    RECOVERED,
    TRANSFORMS,
    find,
    judged_by,
    layer_of,
)
from unlabel.audit.inputs.options import AuditOptions

Json: TypeAlias = Mapping[str, Any]
Place: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Where a test is made: figure, label (None: the mean over labels), layer, transform."""

MAY_LACK = (FP16.id, BATCHNORM.id)
"""Transforms that some models cannot have: weights too large for 16 bits, and no BatchNorm."""

LOSSES = {
    "macro_auc_loss": "d_macro",
    "ece_rise": "d_ece",
    "membership_rise": "d_member",
    "worst_label": "d_worst",
}
"""What C5 judges, as its notes name it, and the option of its margin."""


def margin_of(row: Json, options: Json) -> float | None:
    """The margin that the options give a comparison; None for a figure that this version does not know.

    Args:
        row: A comparison of a parsed, checked audit.
        options: The audit's.
    """
    if find(row["id"]) is None:
        return None
    if row["id"].startswith(RECOVERED.id) and row.get("against") == "itself":
        return options["d_recover"]
    if row["id"].startswith((FEW_SHOT.id, FINE_TUNED.id)):
        return options["d_few"]
    names = ("d_reference", "d_reference_bits")
    return reference_margin(row["id"], AuditOptions(**{name: options[name] for name in names}))


def bounds(name: str, audit: Json) -> Iterator[tuple[str, float, float]]:
    """What a PASS of C2, C4 or C5 needs below its margin: figure, upper bound, margin.

    Args:
        name: Of the claim; of C6 none is recorded.
        audit: Parsed and checked.
    """
    if name == "C5":
        yield from ((what, row["upper"], margin) for what, row, margin in losses(audit))
    elif name != "C6":
        yield from ((row["id"], row["upper"], row["margin"]) for row in deciding(name, audit))


def losses(audit: Json) -> Iterator[tuple[str, Json, float]]:
    """What C5 judges: in words, the row of its notes, and the margin that the options give."""
    notes = audit["claims"]["C5"]["notes"]
    table = notes.get("against_retrained") or notes["against_original"]
    for what, row in table.items():
        yield what.replace("_", " "), row, audit["options"][LOSSES[what]]


def deciding(name: str, audit: Json) -> list[Json]:
    """The comparisons that must be within their margins for a PASS of C2 or C4.

    Those of the mean over labels if there are several; else every one.
    """
    tests = [row for row in audit["comparisons"] if _decides(name, row)]
    if any(row.get("layer") == TOGETHER for row in tests):  # then a PASS does not need a single stage
        tests = [row for row in tests if not is_stage(row.get("layer")) or row.get("layer") == TOGETHER]
    means = [row for row in tests if row["label"] is None]
    several = len({row["label"] for row in tests} - {None}) > 1
    return means if means and several else [row for row in tests if row["label"] is not None]


def _decides(name: str, row: Json) -> bool:
    """Whether a comparison is one of those that C2 or C4 rests on."""
    altered = row.get("transform") is not None or is_stage(row.get("layer"))
    if name == "C2":
        return not altered and row["id"] in judged_by("C2")
    return altered or any(row["id"].startswith(family) for family in judged_by("C4"))


def lacking(name: str, audit: Json) -> Place | None:
    """A test that a PASS of C2 or C4 needs and that is not recorded; None if all are.

    Args:
        name: Of the claim.
        audit: Parsed and checked.
    """
    there = {_place(row) for row in audit["comparisons"]}
    places = _of_c2(audit) if name == "C2" else _of_c4(audit)
    return next((place for place in places if place not in there), None)


def _place(row: Json) -> Place:
    return row["id"], row["label"], row.get("layer"), row.get("transform")


def _of_c2(audit: Json) -> Iterator[Place]:
    """Every attack on every label that there was something to forget of, and on their mean."""
    measured = {row["id"] for row in audit["metrics"] if row["model"] == "after"}
    open_ = audit["claims"]["C2"]["per_label"]
    sought = [label for label in _labels(audit) if open_.get(label) != "NOT_EVALUATED"]
    for figure in judged_by("C2"):
        if figure == LABEL_MEMBERSHIP.id and figure not in measured:  # not in the quick budget
            continue
        for label in [*sought, None] if len(sought) > 1 else sought or _labels(audit):
            yield figure, label, layer_of(figure), None


def _of_c4(audit: Json) -> Iterator[Place]:
    """Every attack after every transform; and what was learnt from annotated images or read at stages."""
    absent = [name for name in audit["claims"]["C4"]["notes"].get("not_applicable", ()) if name in MAY_LACK]
    for label in _labels(audit):
        for transform in TRANSFORMS:
            for figure in REPEATED if transform not in absent else ():
                yield RECOVERED.of(figure), label, layer_of(figure), transform
        rows = [row for row in audit["metrics"] if (row["model"], row["label"]) == ("after", label)]
        sizes = [n for row in rows if (n := _size(row)) >= audit["options"]["few_judged"]]
        for n in sizes or [audit["options"]["few_judged"]]:
            yield FEW_SHOT.of(n), label, FEW_SHOT.layer, None
        for row in rows:
            if row["id"].startswith(FINE_TUNED.id):
                yield _place(row)
        staged = [row for row in rows if is_stage(row.get("layer")) and row["id"] in BELOW]
        together = [row for row in staged if row.get("layer") == TOGETHER]
        yield from map(_place, together or staged)


def _labels(audit: Json) -> list[str]:
    """All labels that the audit is about."""
    return [*audit["request"]["labels"], *audit["request"]["forgotten_earlier"]]


def _size(row: Json) -> int:
    """From how many annotated images a probe learnt; 0 of any other figure."""
    member = FEW_SHOT.member(row["id"])
    return int(member) if member.isdecimal() else 0
