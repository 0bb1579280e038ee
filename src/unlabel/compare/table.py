"""Finished cells as one table of plain data: the JSON, from which CSV, terminal and page are made."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from unlabel.audit.document.results import plain
from unlabel.audit.figures import ATTACKS, UTILITY_AUC_MEAN, unit_of
from unlabel.audit.figures import FIGURES as ALL
from unlabel.compare.cell_figures import value_of
from unlabel.compare.cells import CellResult, Cells
from unlabel.compare.plan import overrun
from unlabel.data.splits import TRAIN_SET
from unlabel.forget.bill import Budget

SCHEMA = "unlabel.compare/1"
CLAIMS = ("C1", "C2", "C3", "C5")

MEAN_AUC, WORST_AUC = UTILITY_AUC_MEAN.id, "util.auc.worst"  # see `cell_figures.value_of`
FIGURES: tuple[tuple[str, str, str], ...] = (  # id, heading, unit
    *((item.id, item.column, item.unit) for item in ALL if item.column),
    (f"{MEAN_AUC}@{TRAIN_SET}", "AUC, training", "auc"),
    (f"{MEAN_AUC}@P", "AUC, probe", "auc"),
    (MEAN_AUC, "AUC, test", "auc"),
    (WORST_AUC, "worst AUC, test", "auc"),
)


def table(
    cells: Cells,
    budget: Budget,
    *,
    search: Mapping[str, Any] | None = None,
    command: str = "",
    original: str = "",
    asked: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The comparison as plain data: the content of ``compare.json``.

    Args:
        cells: Of every method, all its seeds.
        budget: What each method was allowed.
        search: What a settings search tried and chose, see `search.search`.
        command: The command line, for the record.
        original: The run that was compared on.
        asked: By method, the name that the user gave for it, where that is another one; see `plan.asked`.
    """
    groups: dict[str, list[CellResult]] = {}
    for cell in cells.cells:
        groups.setdefault(cell.job.method, []).append(cell)
    retrain = _retrained(cells)
    methods = [
        {"method": name, "asked": (asked or {}).get(name), **_method(group, retrain, budget)}
        for name, group in groups.items()
    ]
    front = pareto(
        [
            (row["cost"]["images"]["mean"], row["excess"]["mean"])
            if row["cost"]["images"] and row["excess"]
            else None
            for row in methods
        ]
    )
    for row, best in zip(methods, front, strict=True):
        row["front"] = best
    facts = cells.facts
    return plain(
        {
            "schema": SCHEMA,
            "command": command,
            "original": {"run": original, "sha256": facts["original"], **_figures([cells.before])},
            "labels": facts["labels"],
            "test_images": next((row["n"] for row in cells.before["figures"]), None),
            "retained": list((cells.before["utility"]["E"] or {"labels": {}})["labels"]),
            "budget": {
                "steps": budget.steps,
                "batch_size": budget.batch_size,
                "images": budget.processed,
                "calibration_images": budget.images,
                "seeds": list(dict.fromkeys(cell.job.seed for cell in cells.cells)),
            },
            "hyperparameters": {
                "scientific": ["method"],
                "nuisance": "the method's own options, "
                + ("searched on the probe split" if search else "at their defaults"),
                "fixed": ["steps", "images", "batch size", "calibration images", "seeds", "network", "data"],
            },
            "margins": {
                "c2_adv": facts["audit"]["d_reference"],
                "c2_bits": facts["audit"]["d_reference_bits"],
                "c5_macro": facts["audit"]["d_macro"],
            },
            "audit": facts["audit"],
            "versions": facts["versions"],
            "data": facts["data"],
            "retrain": retrain,
            "floor": [{"label": row["label"], "value": row["value"]} for row in cells.floor],
            "search": search,
            "methods": methods,
            "cells": [_cell(cell, retrain, budget) for cell in cells.cells],
        }
    )


def spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean, deviation and the numbers themselves; None where there is none, a deviation from two on.

    >>> spread([1.0, 3.0])
    {'mean': 2.0, 'sd': 1.4142135623730951, 'values': [1.0, 3.0]}
    >>> spread([None]) is None, spread([2.0])["sd"]
    (True, None)
    """
    numbers = [float(value) for value in values if value is not None]
    if not numbers:
        return None
    return {"mean": fmean(numbers), "sd": stdev(numbers) if len(numbers) > 1 else None, "values": numbers}


def pareto(points: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Which points no other beats: none is as cheap and as close, and cheaper or closer.

    >>> pareto([(1.0, 5.0), (2.0, 2.0), (3.0, 3.0), None])
    [True, True, False, False]
    """

    def beaten(point: tuple[float, float]) -> bool:
        others = (other for other in points if other is not None and other != point)
        return any(other[0] <= point[0] and other[1] <= point[1] for other in others)

    return [point is not None and not beaten(point) for point in points]


def _figures(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"figures": {name: spread(value_of(record, name) for record in records) for name, _, _ in FIGURES}}


def _retrained(cells: Cells) -> dict[str, Any]:
    """The references: their figures, their cost, and how far each is from the mean of the others."""
    records, margins = cells.references, cells.facts["audit"]
    excess, loss = [], []
    for record in records if len(records) > 1 else ():
        others = [other for other in records if other is not record]
        gaps = []
        for name in ATTACKS:
            value, others_values = value_of(record, name), [value_of(other, name) for other in others]
            if value is not None:
                margin = margins["d_reference_bits" if unit_of(name) == "bits" else "d_reference"]
                gaps.append((value - fmean(item for item in others_values if item is not None)) / margin)
        excess.append(max(gaps))
        value = value_of(record, MEAN_AUC)
        if value is not None:
            loss.append(fmean(value_of(other, MEAN_AUC) or 0.0 for other in others) - value)
    return {
        "runs": [record["run"] for record in records],
        "seeds": [record["seed"] for record in records],
        **_figures(records),
        "excess": spread(excess),
        "loss": spread(loss),
        "cost": {
            "steps": spread(record["cost"]["steps"] for record in records),
            "images": spread(record["cost"]["images_processed"] for record in records),
            "seconds": spread((record["cost"]["seconds"] or {}).get("total") for record in records),
        },
    }


def _method(group: Sequence[CellResult], retrain: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    done = [cell for cell in group if cell.done]
    records = [cell.record for cell in done]
    costs = [record["cost"] for record in records]
    images = spread(cost["images_processed"] for cost in costs)
    steps = spread(cost["steps"] for cost in costs)
    notes = list(dict.fromkeys(filter(None, (overrun(cost, budget) for cost in costs))))
    if steps and steps["mean"] == 0:
        notes.append("takes no steps, so their limit does not bind it")
    failures = Counter(
        f"{cell.record['error']['kind']}: {cell.record['error']['message']}"
        for cell in group
        if not cell.done
    )
    return {
        "options": dict(group[0].job.options),
        "seeds": [cell.job.seed for cell in group],
        "done": len(done),
        "failures": [{"error": error, "count": count} for error, count in failures.items()],
        **_figures(records),
        "excess": spread(record["c2"]["excess"] for record in records),
        "loss": spread(record["c5"]["macro_auc_loss"]["value"] for record in records),
        "verdicts": {
            claim: dict(Counter(record["claims"][claim]["verdict"] for record in records if counts(record)))
            for claim in CLAIMS
        },
        "invalid": [
            {"reason": reason, "count": count}
            for reason, count in Counter(
                record["invalid_because"][0] for record in records if not counts(record)
            ).items()
        ],
        "provisional": any(record["claims"]["C2"].get("provisional", False) for record in records),
        "headlines": dict(Counter(record["headline"] for record in records)),
        "cost": {
            "steps": steps,
            "images": images,
            "seconds": spread(cost["seconds"]["total"] for cost in costs),
            "steps_to_retrain": ratio(steps, retrain["cost"]["steps"]),
            "images_to_retrain": ratio(images, retrain["cost"]["images"]),
        },
        "budget_kept": not any(overrun(cost, budget) for cost in costs),
        "notes": notes,
    }


def title(row: Mapping[str, Any]) -> str:
    """A method's name for a reader: as the user gave it, with what was taken for it in brackets.

    >>> title({"method": "deep-probes", "asked": "auto"}), title({"method": "ssd"})
    ('auto (deep-probes)', 'ssd')
    """
    return f"{row['asked']} ({row['method']})" if row.get("asked") else str(row["method"])


def judged(row: Mapping[str, Any], claim: str) -> tuple[str, str]:
    """Shape and words of one claim over a method's seeds; an invalid audit passes and fails nothing.

    >>> judged({"verdicts": {"C2": {"PASS": 2, "FAIL": 1}}, "done": 3}, "C2")
    ('open', '2/3 pass')
    >>> judged({"verdicts": {"C2": {"PASS": 2}}, "done": 3}, "C2")
    ('open', '2/3 pass')
    >>> judged({"verdicts": {"C2": {"INCONCLUSIVE": 3}}, "done": 3}, "C2")
    ('open', '3/3 open')
    """
    found, done = row["verdicts"][claim], row["done"]
    if not done:
        return "none", "none"
    alone = [verdict for verdict, number in found.items() if number == done]
    kinds = {"PASS": ("pass", "pass"), "FAIL": ("fail", "fail"), "NOT_EVALUATED": ("none", "not tested")}
    kind, word = kinds.get(alone[0], ("open", "open")) if alone else ("open", "pass")
    return kind, f"{done if alone else found.get('PASS', 0)}/{done} {word}"


def counts(record: Mapping[str, Any]) -> bool:
    """Whether a finished cell's audit is valid; in an invalid one no verdict counts."""
    return record.get("valid", True)


def ratio(own: Mapping[str, Any] | None, whole: Mapping[str, Any] | None) -> float | None:
    """One mean as a share of another."""
    return own["mean"] / whole["mean"] if own and whole and whole["mean"] else None


def _cell(cell: CellResult, retrain: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """One cell as a row: of the JSON, and of the CSV."""
    record = cell.record
    row: dict[str, Any] = {
        "key": cell.file.stem,
        "method": cell.job.method,
        "seed": cell.job.seed,
        "options": dict(cell.job.options),
        "outcome": record["outcome"],
        "error": f"{record['error']['kind']}: {record['error']['message']}" if record["error"] else None,
    }
    row |= {name: cell.value(name) for name, _, _ in FIGURES}
    cost = record.get("cost") or {}
    c2, c5 = record.get("c2") or {}, record.get("c5") or {}
    images, whole = cost.get("images_processed"), retrain["cost"]["images"]
    return row | {
        **{claim: record["claims"][claim]["verdict"] if cell.done else None for claim in CLAIMS},
        "headline": record.get("headline"),
        "valid": counts(record) if cell.done else None,
        "c2_excess": c2.get("excess"),
        "c2_upper": c2.get("upper"),
        "c2_figure": c2.get("figure"),
        "macro_auc_loss": c5["macro_auc_loss"]["value"] if c5 else None,
        "macro_auc_loss_upper": c5["macro_auc_loss"]["upper"] if c5 else None,
        "steps": cost.get("steps"),
        "images_processed": images,
        "images_to_retrain": images / whole["mean"] if whole and images is not None else None,
        "seconds": (cost.get("seconds") or {}).get("total"),
        "over_budget": overrun(cost, budget) if cell.done else None,
    }
