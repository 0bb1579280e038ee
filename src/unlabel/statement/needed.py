"""The tests that a PASS needs: which must be recorded, the margin of each, and how far each may reach.

All follow from the audit's options and figures. So whoever changes a verdict cannot give a test a wider
margin, read it elsewhere or leave it out.

An audit does not record the degrees of freedom of a figure's error. So a bound that is computed here is the
lowest that any number of them gives: what lies beyond a margin by it does so by the audit's own rule.
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, TypeAlias

from scipy.stats import t as student

from unlabel.audit.attacks.recovery import REPEATED
from unlabel.audit.claims.judging import reference_margin
from unlabel.audit.document.stages import TOGETHER, is_stage
from unlabel.audit.figures import (
    AT_STAGES,
    ATTACKS,
    BATCHNORM,
    CANARY_OWN,
    CANARY_PROBE,
    FEW_SHOT,
    FIGURES,
    FINE_TUNED,
    FP16,
    LABEL_MEMBERSHIP,
    OWN_ON_TRAIN,
    OWN_SIGNED,
    RECOVERED,
    TRANSFORMS,
    find,
    judged_by,
    layer_of,
    unit_of,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.estimate import clopper_pearson

Json: TypeAlias = Mapping[str, Any]
Place: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Where a test is made: figure, label (None: the mean over labels), layer, transform."""

MAY_LACK = (FP16.id, BATCHNORM.id)
"""Transforms that some models cannot have: weights too large for 16 bits, and no BatchNorm."""

CONDEMNING = tuple(item.id for item in FIGURES if "C2" in item.claims and item.condemning)
"""Figures that can only FAIL C2."""

MEASURED = {"C1": (OWN_SIGNED.id,), "C3": ATTACKS, "C6": (CANARY_OWN.id, CANARY_PROBE.id)}
"""Figures of the unlearned model that a PASS needs of every label."""

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
    """What a PASS needs below its margin: figure, upper bound, margin.

    Args:
        name: Of the claim.
        audit: Parsed and checked.
    """
    if name == "C5":
        yield from ((what, row["upper"], margin) for what, row, margin in losses(audit))
    elif name in ("C2", "C4"):
        yield from ((row["id"], row["upper"], row["margin"]) for row in deciding(name, audit))
    else:
        for row, margin in measured(name, audit):
            yield row["id"], at_most(row, audit["options"]), margin


def measured(name: str, audit: Json) -> list[tuple[Json, float]]:
    """Figures of the unlearned model that C1, C3 or C6 is judged by, and their margins."""
    options, ids = audit["options"], judged_by(name)
    rows = [
        row for row in audit["metrics"] if row["model"] == "after" and row["id"] in ids and not _altered(row)
    ]

    def margin(figure: str) -> float:
        if name == "C6":
            return options["d_canary"]
        return options["d_erased_bits" if unit_of(figure) == "bits" else "d_chance"]

    return [(row, margin(row["id"])) for row in rows]


def at_most(row: Json, options: Json) -> float:
    """The least that the one-sided upper bound of a figure can be; of an own output, that of its size."""
    if row["id"] in judged_by("C6"):
        hits = round(row["value"] * row["n"])
        return clopper_pearson(hits, row["n"], 1.0 - options["alpha"])[1]
    value, (low, high) = row["value"], row["ci"] or (row["value"], row["value"])
    reach = min(_reaches(options))
    above = value + reach * max(high - value, 0.0)
    if row["id"] not in (OWN_SIGNED.id, OWN_ON_TRAIN.id):
        return above
    return max(above, reach * max(value - low, 0.0) - value)


def at_least(row: Json, options: Json) -> float:
    """The least that the one-sided lower bound of a control can be."""
    low, high = row["ci"]
    return row["value"] - max(_reaches(options)) * max(high - low, 0.0) / 2


def most_of_own(audit: Json, model: str, label: str) -> float:
    """How far an own output's advantage on the test split may lie from chance; inf if it is not recorded."""
    rows = [
        row
        for row in audit["metrics"]
        if (row["id"], row["model"], row["label"]) == (OWN_SIGNED.id, model, label) and not _altered(row)
    ]
    return max((at_most(row, audit["options"]) for row in rows), default=inf)


def _reaches(options: Json) -> tuple[float, float]:
    """A one-sided bound's distance, in halves of the 95 % interval: with 1 and with any number of degrees."""
    one, many = (
        float(student.ppf(1.0 - options["alpha"], degrees) / student.ppf(0.975, degrees))
        for degrees in (1, inf)
    )
    return one, many


def references(audit: Json) -> int:
    """How many different retrained models were given: by their weights, and as the notes of C2 count them."""
    different = len({model["sha256"] for model in audit["models"]["references"]})
    return min(different, audit["claims"]["C2"]["notes"].get("references", different))


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
    if name == "C2":
        return not _altered(row) and row["id"] in judged_by("C2")
    return _altered(row) or any(row["id"].startswith(family) for family in judged_by("C4"))


def _altered(row: Json) -> bool:
    """Whether a figure is read after a change of the weights, or at an earlier stage."""
    return row.get("transform") is not None or is_stage(row.get("layer"))


def failing(name: str, audit: Json) -> Json | None:
    """A comparison that does not let C2 or C4 PASS: of any label, and also one that can only FAIL it."""
    for row in audit["comparisons"]:
        condemns = name == "C2" and not _altered(row) and row["id"] in CONDEMNING
        if (condemns or _decides(name, row)) and (
            row["verdict"] == "FAIL" or (row["verdict"] == "PASS" and row["upper"] > row["margin"])
        ):
            return row
    tests = [row for row in audit["comparisons"] if name == "C2" and _decides(name, row)]
    return next((row for row in tests if _certain(row, len(tests), audit)), None)


def _certain(row: Json, tests: int, audit: Json) -> bool:
    """Whether a comparison is above its margin by Holm's first step, with the fewest degrees of freedom.

    Three references give two or more. Later rules give a PASS only if no label's value is above its margin.
    """
    beyond, spread = row["diff"] - row["margin"], row["diff"] - row["lower"]
    if beyond <= 0 or spread <= 0:
        return beyond > 0
    alpha, degrees = audit["options"]["alpha"], 2 if references(audit) > 2 else 1
    errors = beyond / spread * float(student.ppf(1.0 - alpha, degrees))
    return tests * float(student.sf(errors, degrees)) < alpha


def lacking(name: str, audit: Json) -> Place | None:
    """A test that a PASS needs and that is not recorded; None if all are.

    Args:
        name: Of the claim; of C5 none is asked.
        audit: Parsed and checked.
    """
    if name in ("C2", "C4"):
        there = {_place(row) for row in audit["comparisons"]}
        places = _of_c2(audit) if name == "C2" else _of_c4(audit)
    else:
        there = {_place(row) for row, _ in measured(name, audit)} if name != "C5" else set()
        figures = MEASURED.get(name, ())
        places = ((figure, label, layer_of(figure), None) for label in _labels(audit) for figure in figures)
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
        trained = [row for row in rows if row["id"].startswith(FINE_TUNED.id)]
        yield from map(_place, trained)
        if not trained and audit["options"]["budget"] == "full":
            yield (
                FINE_TUNED.of(min(audit["options"]["tune"] or AuditOptions().tune)),
                label,
                FINE_TUNED.layer,
                None,
            )
        staged = [row for row in rows if is_stage(row.get("layer")) and row["id"] in AT_STAGES]
        together = [row for row in staged if row.get("layer") == TOGETHER]
        yield from map(_place, together or staged)


def _labels(audit: Json) -> list[str]:
    """All labels that the audit is about."""
    return [*audit["request"]["labels"], *audit["request"]["forgotten_earlier"]]


def _size(row: Json) -> int:
    """From how many annotated images a probe learnt; 0 of any other figure."""
    member = FEW_SHOT.member(row["id"])
    return int(member) if member.isdecimal() else 0
