"""The comparison as one HTML page in the manner of the report, made from compare.json and nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from unlabel.audit.figures import claim_kind
from unlabel.compare.charts import costs, numbered, scatter
from unlabel.compare.files import JSON, PAGE, WRONG, subject_of
from unlabel.compare.table import CLAIMS, FIGURES, judged, title
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import make_parent, write_bytes
from unlabel.core.places import check_file
from unlabel.core.reading import read_json
from unlabel.report.formatting import (
    NOTHING,
    beside_margin,
    brief,
    give_or_take,
    names,
    number,
    percent,
    spoken,
)
from unlabel.report.marks import marked, written
from unlabel.report.page import environment

WORDS = {"C1": "disabled", "C2": "retrain-equivalent", "C3": "erased", "C5": "useful"}
Json = Mapping[str, Any]


def render(found: Json) -> str:
    """The page as HTML text: no script, no outside request, the same bytes for the same input.

    Args:
        found: Content of compare.json, as `table.table` gives it.
    """
    shared = environment(Path(__file__).parent / "templates")
    return shared.get_template("compare.html").render(**_content(found))


def _content(found: Json) -> dict[str, Any]:
    tone, sentence = verdict_of(found)
    return {
        "found": found,
        "tone": tone,
        "sentence": sentence,
        "cards": cards(found),
        "numbers": numbered(found),
        "titles": {row["method"]: title(row) for row in found["methods"]},
        "scatter": scatter(found),
        "costs": costs(found),
        "claims": WORDS,
        "meanings": {claim: claim_kind(claim).meaning for claim in WORDS},
        "judged": judged,
        "bounded": bounded,
        "limits": {"c2_excess": 1.0, "macro_auc_loss": found["margins"]["c5_macro"]},
        "of": lambda name: [cell for cell in found["cells"] if cell["method"] == name],
        "figures": FIGURES,
        "mean": mean,
        "whole": lambda item: NOTHING if item is None else f"{item['mean']:,.0f}",
        "share": percent,
        "settings": settings,
        "spoken": spoken,
    }


def passing(found: Json) -> list[Json]:
    """Methods that end in every seed, and pass C1, C2 and C5 of a valid audit in each."""
    return [
        row
        for row in found["methods"]
        if row["done"] == len(row["seeds"])
        and all(row["verdicts"][claim].get("PASS", 0) == row["done"] for claim in AIM)
    ]


def verdict_of(found: Json) -> tuple[str, str]:
    """Tone of the page, and what the comparison came to in a sentence."""
    tone, sentence = _verdict_of(found)
    return tone, sentence + (" (provisional)" if provisional(found) else "")


AIM = ("C1", "C2", "C5")
"""The claims that a method must pass."""


def failing(found: Json) -> list[str]:
    """By which claim each method fails, in sentences; empty unless every seed that ended fails one."""
    ended = [cell for cell in found["cells"] if cell["outcome"] == "done"]
    valid = [cell for cell in ended if cell.get("valid", True)]
    failed = {claim: [cell["method"] for cell in valid if cell[claim] == "FAIL"] for claim in AIM}
    if not ended or len(valid) < len(ended):
        return []
    if any(all(cell[claim] != "FAIL" for claim in AIM) for cell in valid):
        return []
    by_claim = {
        claim: [title(row) for row in found["methods"] if row["method"] in methods]
        for claim, methods in failed.items()
    }
    return [f"{claim} ({WORDS[claim]}) fails: {names(of)}." for claim, of in by_claim.items() if of]


def _ended(found: Json) -> int:
    """How many cells came to their end."""
    return sum(row["done"] for row in found["methods"])


def provisional(found: Json) -> bool:
    """Whether fewer than three retrained models are behind C2, or the original's start is unknown."""
    return 0 < len(found["retrain"]["runs"]) < 3 or any(row.get("provisional") for row in found["methods"])


def _verdict_of(found: Json) -> tuple[str, str]:
    good, labels = passing(found), spoken(found["labels"])
    seeds = len(found["budget"]["seeds"])
    each = f"in {f'each of {seeds} seeds' if seeds > 1 else 'the one seed tried'}"
    if good:
        best = names([title(row) for row in good])
        forget, keep = ("forgets", "keeps") if len(good) == 1 else ("forget", "keep")
        return "pass", f"{best} {forget} {labels} as retraining does and {keep} the other labels, {each}."
    verdicts = [row["verdicts"]["C2"] for row in found["methods"]]
    if (why := failing(found)) and sum(counts.get("FAIL", 0) for counts in verdicts) < _ended(found):
        aim = f"No method forgets {labels} as retraining does and keeps the other labels"
        return "fail", f"{aim}. {' '.join(why)}"
    if any(counts.get("PASS") for counts in verdicts):
        return "open", (
            f"No method forgets {labels} as retraining does and keeps the other labels {each}; some do one of"
            " the two, or both in some seeds."
        )
    return _not_one(found, verdicts, labels)


def _not_one(found: Json, verdicts: Sequence[Json], labels: str) -> tuple[str, str]:
    """Tone and sentence if C2 passes nowhere: red only if it fails in every cell that ended."""
    done = _ended(found)
    if not done:
        return "open", f"No method came to its end, so nothing is decided about {labels}."
    if sum(counts.get("FAIL", 0) for counts in verdicts) == done:
        return "fail", f"Within this budget, no method forgets {labels} as retraining does."
    if not found["retrain"]["runs"]:
        return "open", f"Without a retrained model, nobody can say whether a method forgets {labels}."
    sentence = f"The data cannot decide whether a method forgets {labels} as retraining does"
    if sum(sum(counts.values()) for counts in verdicts) < done:
        return "open", f"{sentence}: some audits are INVALID, and no verdict of theirs counts."
    return "open", f"{sentence}."


def cards(found: Json) -> list[dict[str, Any]]:
    """Four numbers: how many pass, the closest, the cheapest, and retraining."""
    good, rows = passing(found), [row for row in found["methods"] if row["excess"]]
    seeds = len(found["budget"]["seeds"])
    out = [
        {
            "title": "Pass C1, C2 and C5 in every seed",
            "value": f"{len(good)} of {len(found['methods'])}",
            "notes": [
                f"{seeds} seed{'s' * (seeds != 1)} a method",
                _retrained_models(found),
            ],
        }
    ]
    if rows:
        lost = {row["method"]: row["loss"]["mean"] if row["loss"] else None for row in rows}
        closest = min(rows, key=lambda row: (row["excess"]["mean"], lost[row["method"]] or 0.0))
        loss = lost[closest["method"]]
        out.append(
            {
                "title": "Closest to retraining",
                "value": brief(title(closest)),
                "notes": [
                    f"excess {mean(closest['excess'], 2)} margins",
                    f"{number(loss)} of mean AUC lost" if loss is not None else "",
                ],
            }
        )
    cheap = [row for row in good if row["cost"]["images_to_retrain"] is not None]
    if cheap:
        least = min(cheap, key=lambda row: row["cost"]["images_to_retrain"])
        share = least["cost"]["images_to_retrain"]
        out.append(
            {
                "title": "Cheapest that passes",
                "value": brief(title(least)),
                "notes": [f"{percent(share)} of retraining's images"],
            }
        )
    cost = found["retrain"]["cost"]
    if cost["images"]:
        allowed = found["budget"]["images"] / cost["images"]["mean"]
        out.append(
            {
                "title": "Each method may process",
                "value": f"{found['budget']['images']:,} images",
                "notes": [
                    f"{percent(allowed)} of one retraining",
                    f"{found['budget']['steps']:,} optimiser steps",
                ],
            }
        )
    return out


def _retrained_models(found: Json) -> str:
    """How many retrained models there are, and whether they make the verdicts provisional."""
    count = len(found["retrain"]["runs"])
    words = f"{count} retrained model{'s' * (count != 1)}"
    return f"{words}: provisional, three or more are needed" if 0 < count < 3 else words


def mean(item: Json | None, digits: int = 3) -> str:
    """A mean over seeds with its deviation.

    >>> mean({"mean": 0.5, "sd": 0.01, "values": []}), mean(None)
    ('0.500 ± 0.010', '—')
    """
    if item is None:
        return NOTHING
    text = number(item["mean"], digits)
    return text if item["sd"] is None else f"{text} {give_or_take(item['sd'], digits)}"


def bounded(cells: Sequence[Json], figure: str, digits: int, limit: float) -> str:
    """A figure of each finished seed, with the upper bound that its verdict asked for.

    Args:
        cells: Of compare.json.
        figure: ``c2_excess``, in margins, or ``macro_auc_loss``.
        digits: Decimals; more where a bound would be rounded to its limit.
        limit: What the bound must be below for a PASS.

    >>> bounded([{"c2_excess": 0.4, "c2_upper": 0.7}, {"c2_excess": None}], "c2_excess", 2, 1)
    '0.40 (0.70)'
    >>> bounded([{"c2_excess": 0.9, "c2_upper": 0.998}], "c2_excess", 2, 1)
    '0.90 (0.998)'
    """

    def bound(end: float | None) -> str:
        text = number(end, digits)
        return beside_margin(end, limit) if text == number(limit, digits) else text

    upper = {"c2_excess": "c2_upper", "macro_auc_loss": "macro_auc_loss_upper"}[figure]
    pairs = [(cell.get(figure), cell.get(upper)) for cell in cells]
    shown = [f"{number(value, digits)} ({bound(end)})" for value, end in pairs if value is not None]
    return " · ".join(shown) or NOTHING


def settings(options: Json) -> str:
    """Options in a line."""
    return (
        ", ".join(f"{name} {value}" for name, value in options.items() if value is not None) or "no options"
    )


assert set(WORDS) == set(CLAIMS)


def write_page(folder: Path, out: Path | None = None, *, force: bool = False) -> Path:
    """Writes the page of a comparison again, from its ``compare.json``, and returns its path.

    Args:
        folder: Of the comparison.
        out: File to write; FOLDER/compare.html where it is None.
        force: Replace a file that is no page of this comparison.

    Raises:
        ModelError: The file is damaged.
        OptionError: `out` is a folder, a link, a part of a run, or, without `force`, no page of this
            comparison.
    """
    path = folder / PAGE if out is None else out
    if path.is_dir():
        raise OptionError(f"{path} is a folder; name the HTML file to write, such as {path / PAGE}")
    try:
        comparison = read_json(folder / JSON)
        subject, text = subject_of(comparison), render(comparison)
    except (OSError, TemplateError, *WRONG) as error:
        fault = f"{type(error).__name__}: {str(error)[:200]}"
        raise ModelError(
            f"{folder / JSON} is not a comparison of this version ({fault}); make it again: unlabel compare"
        ) from error
    check_file(path, force=force, ours=lambda: written(path) == ("page", subject))
    make_parent(path)
    write_bytes(path, marked(text, "page", subject, folder / JSON))
    return path
