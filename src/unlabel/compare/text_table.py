"""A comparison as CSV, and as a table for a terminal."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unlabel.audit.figures import FIGURES
from unlabel.compare.table import CLAIMS, MEAN_AUC, WORST_AUC, judged, title


def csv_text(found: Mapping[str, Any]) -> str:
    """One row a cell, as CSV; options as JSON, what is not there empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = list(found["cells"][0]) if found["cells"] else []
    writer.writerow(columns)
    for row in found["cells"]:
        writer.writerow(
            [
                "" if row[name] is None else json.dumps(row[name]) if name == "options" else row[name]
                for name in columns
            ]
        )
    return out.getvalue()


def lines(found: Mapping[str, Any]) -> list[str]:
    """Two tables for a terminal, mean and deviation over seeds: what attacks find, and what it costs.

    Everything else is in the JSON and on the page.
    """
    budget, seeds = found["budget"], found["budget"]["seeds"]
    whole_models = [("original", found["original"]), ("retrained", found["retrain"])]
    rows = [(title(row), row) for row in found["methods"]]
    width = max(len(name) for name, _ in [*whole_models, *rows])

    def line(name: str, cells: Sequence[str], mark: str = "") -> str:
        return " ".join([f"{name:{width}s}", *(f"{cell:>11s}" for cell in cells)]).rstrip() + mark

    attacks = [(item.id, item.short) for item in FIGURES if item.short]
    out = [
        f"forget {', '.join(found['labels'])}: {_counted(rows, 'method')}, {_counted(seeds, 'seed')},"
        f" {budget['steps']:,} steps or {budget['images']:,} images each,"
        f" against {len(found['retrain']['runs'])} retrained",
        "",
        line("", [head for _, head in attacks]),
    ]
    for name, row in [*whole_models, *rows]:
        out.append(line(name, [said(row["figures"][figure]) for figure, _ in attacks]))
    cost, retrain = found["retrain"]["cost"], found["retrain"]
    heads = ["C2 excess", "AUC loss", "AUC", "worst AUC", "steps", "images", "share"]
    out += ["", " ".join([line("", heads), *(f"{claim:>4s}" for claim in CLAIMS)])]
    aucs = (MEAN_AUC, WORST_AUC)
    figures = retrain["figures"]
    cells = [said(retrain["excess"]), said(retrain["loss"]), *(said(figures[name]) for name in aucs)]
    out.append(line("retrained", [*cells, whole(cost["steps"]), whole(cost["images"])]))
    for name, row in rows:
        cost, share = row["cost"], row["cost"]["images_to_retrain"]
        cells = [said(row["excess"]), said(row["loss"]), *(said(row["figures"][figure]) for figure in aucs)]
        cells += [whole(cost["steps"]), whole(cost["images"])]
        cells.append("-" if share is None else f"{100 * share:.1f} %")
        verdicts = [f"{_verdict(row, claim):>4s}" for claim in CLAIMS]
        out.append(" ".join([line(name, cells), *verdicts]) + ("  front" if row["front"] else ""))
    out += [
        "",
        "share: images, of those that one retraining takes; front: no method is as cheap and as close",
        "C1 C2 C3 C5: PASS or FAIL in every seed that ended; open: in every seed, the data cannot decide;",
        "2/3: verdicts differ, and so many seeds pass, of those that ended",
    ]
    if 0 < len(retrain["runs"]) < 3:
        out.append("provisional: three or more retrained models are needed for a firm verdict")
    elif any(row.get("provisional") for _, row in rows):
        out.append("provisional: it is not recorded from which weights the original's training began")
    for name, row in rows:
        out += [f"{name}: {note}" for note in row["notes"]]
        out += [f"{name}: {item['count']} failed, {item['error']}" for item in row["failures"]]
        out += [f"{name}: {item['count']} INVALID, {item['reason']}" for item in row.get("invalid", ())]
    return out + ([found["search"]["sentence"]] if found["search"] else [])


def _counted(items: Sequence[Any], word: str) -> str:
    """How many there are, in words."""
    return f"{len(items)} {word}{'s' * (len(items) != 1)}"


def _verdict(row: Mapping[str, Any], claim: str) -> str:
    """A claim over a method's seeds, in four signs; digits where verdicts differ."""
    number, _, word = judged(row, claim)[1].partition(" ")
    alone = {"pass": "PASS", "fail": "FAIL", "open": "open", "not tested": "-"}
    of = number.partition("/")
    return alone[word] if word in alone and of[0] == of[2] else number if word else "-"


def said(item: Mapping[str, Any] | None) -> str:
    """A mean with its deviation, or a dash.

    >>> said({"mean": 0.5, "sd": 0.0123}), said({"mean": -1.25, "sd": None}), said(None)
    ('.500 ±.012', '-1.250', '-')
    """
    if item is None:
        return "-"
    numbers = [f"{item['mean']:.3f}"] + ([f"±{item['sd']:.3f}"] if item["sd"] is not None else [])
    return " ".join(re.sub(r"(?<!\d)0\.", ".", part) for part in numbers)


def whole(item: Mapping[str, Any] | None) -> str:
    """A mean count."""
    return "-" if item is None else f"{item['mean']:,.0f}"
