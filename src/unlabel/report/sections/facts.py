"""What is on record of a claim and of the data that no other part of the page shows: names and texts."""

from collections.abc import Iterator, Mapping
from typing import Any

from unlabel.audit.document.typed import Document
from unlabel.audit.figures import name_of, transform
from unlabel.report.formatting import MINUS, beside_margin, count, number
from unlabel.report.sentences import VERDICTS

ELSEWHERE = (
    *("rule", "bound", "canaries", "prediction", "predicted", "groups", "margin_curve", "smallest_margin"),
    *("recoveries", "few_shot", "whole_model", "earlier_stages", "information_left", "prototypes"),
    *("attackers", "worst_attacker", "attack_curve", "depth", "depth_score", "tangent"),
    "own_check",
)
"""Notes that have a sentence, a picture or a table of their own."""

WORDS: Mapping[str, str] = {
    "absent": "labels without an output",
    "inverted": "labels whose output says the opposite",
    "advantage_with_row_put_back": "advantage with the output row put back",
    "suspicion": "attacks that can only fail a model (no PASS rests on them)",
    "head_zero": "the original, its output removed",
    "references": "retrained models",
    "nothing_to_forget": "labels with nothing to forget",
    "open_labels": "labels that are open by themselves",
    "rare": "labels with few images",
    "start": "start of the original's training",
    "unfair_references": "unfair retrained model",
    "not_given": "not given to the audit",
    "outputs": "judged by the outputs",
    "embedding": "judged by the features",
    "attainable": "a retrained model may reach it",
    "images_needed": "images that would decide",
    "references_needed": "retrained models that would decide",
    "probe_images_needed": "probe images that would be needed",
    "transforms": "changes of the model",
    "not_applicable": "changes that this model cannot have",
    "draws": "draws of annotated images",
    "few_sizes": "annotated images that decide",
    "tune_sizes": "annotated images, whole model",
    "too_few_in_p": "annotated images that P does not have",
    "tune_draws": "draws, whole model",
    "rated_draws": "draws, other rates of learning",
    "against": "compared with",
    "against_original": "against the original",
    "against_retrained": "against retrained models",
    "references_against_original": "retrained model against the original",
    "judged_labels": "labels judged one by one",
    "not_predicted": "left out, the original does not predict them",
    "retrained_better": "retrained models are better than the original",
    "macro_auc_loss": "loss of mean AUC",
    "ece_rise": "rise of calibration error",
    "membership_rise": "rise of membership",
    "worst_label": "label with the largest loss",
    "without": "labels without planted annotations",
    "told_right": "planted annotations guessed right",
    "power": "probability to pass with nothing remembered",
    "advised": "advised number of planted annotations",
    "original_remembers": "the original remembers them",
}
"""A note's key in plain words; another key is shown as it is."""

DATA_WORDS: Mapping[str, str] = {
    "source": "data source",
    "reader": "kind of source",
    "image_size": "size of an image, pixels",
    "exclusive": "one label an image (classes)",
    "split_rule": "rule of the splits",
    "identities": "identities known",
    "clusters": "identities",
    "identity_overlap": "identities in two splits",
    "identity_note": "note on identities",
    "ignored_files": "files not used",
    "ignored_meta_rows": "rows without an image",
    "ignored_meta_columns": "columns of meta.csv not used",
    "skipped_bad": "damaged images",
    "skipped_bad_count": "number of damaged images",
    "table": "table of labels",
    "absent": "sign of an absent label",
    "names": "column of image names",
    "columns_of_names": "columns that hold names",
    "ignored_columns": "columns not used",
    "digest": "sha256 of the images and labels",
    "identity_digest": "sha256 of the identities",
    "same_as_training": "the same data as in training",
    "references_differ": "how references may differ",
    "cross_fitted": "attacks made twice, both ways round",
    "overlap": "what the splits share",
    "deterministic": "the same outputs in two passes",
    "canaries": "planted annotations",
}
"""A fact of the data in plain words."""

SPLITS = ("splits", "counts")
"""Facts of the data that have a table of their own."""

CHANGES = ("transforms", "not_applicable")
"""Notes that list changes of a model."""

NAMED = ("run", "model")
"""What tells the items of a list apart, where they have it."""

LARGEST = 10**15
"""A larger number is none that an audit wrote; an audit may come from anyone."""


def rows(audit: Document, id_: str) -> list[tuple[str, str]]:
    """The facts behind a claim; empty where it has no notes."""
    claim = audit.claims[id_]
    notes = audit.raw["claims"][id_].get("notes") or {}
    if not notes:
        return []
    decided = [("decided by", name_of(claim.binding))] if claim.binding else []
    budget = [("budget", claim.budget)] if claim.budget else []
    found = [
        pair
        for key, item in notes.items()
        if key not in ELSEWHERE
        for pair in _rows(_word(key), _named(item) if key in CHANGES else item)
    ]
    return [*decided, *budget, *found]


def of_data(audit: Document) -> list[tuple[str, str]]:
    """The facts of the data, but the sizes of the splits."""
    facts = audit.raw["data"].items()
    return [
        pair
        for key, item in facts
        if key not in SPLITS
        for pair in _rows(_word(key, DATA_WORDS), item, DATA_WORDS)
    ]


def _named(changes: Any) -> Any:
    """The names of changes of a model, by their ids."""
    return [transform(str(item)).name for item in changes] if isinstance(changes, list) else changes


def rule(text: object) -> str:
    """A claim's rule with the signs of a page.

    >>> rule("its advantage lies within +-0.1 on test images")
    'its advantage lies within ±0.1 on test images'
    """
    return str(text or "").replace("+-", "±")


def _word(key: str, words: Mapping[str, str] = WORDS) -> str:
    """A key as it is read."""
    return words.get(key) or key.replace("_", " ")


def _rows(name: str, value: Any, words: Mapping[str, str] = WORDS) -> Iterator[tuple[str, str]]:
    """A value, and what is nested in it: a row each."""
    if isinstance(value, Mapping) and {"upper", "margin"} <= set(value):
        yield name, _compared(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _rows(f"{name}: {_word(key, words)}", item, words)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for at, item in enumerate(value, 1):
            called = (
                next((item[key] for key in NAMED if key in item), at) if isinstance(item, Mapping) else at
            )
            yield from _rows(f"{name}: {called}", item, words)
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(_text, value)) or "none"
    else:
        yield name, _text(value)


def _compared(item: Mapping[str, Any]) -> str:
    """A comparison in a line: of what label, the value, its bounds and its limit.

    >>> _compared({"value": -0.0228, "upper": -0.0166, "margin": 0.01})
    '−0.023, at most −0.017; limit 0.010'
    >>> _compared({"value": 0.012, "lower": 0.01004, "upper": 0.02, "margin": 0.01})
    '+0.012, at least +0.01004, at most +0.020; limit 0.010'
    """
    value, margin, lower = item.get("value", item.get("loss")), item["margin"], item.get("lower")
    figures = [one for one in (value, lower, item["upper"], margin) if one is not None]
    if not all(isinstance(one, int | float) and abs(one) < LARGEST for one in figures):
        return ", ".join(f"{_word(str(key))} {_text(one)}" for key, one in item.items())
    label = f"{item['label']}: " if item.get("label") is not None else ""
    least = f"at least {beside_margin(lower, margin, signed=True)}, " if lower is not None else ""
    most = beside_margin(item["upper"], margin, signed=True)
    return f"{label}{number(value, signed=True)}, {least}at most {most}; limit {number(margin)}"


def _text(value: Any) -> str:
    """A single value: a number, a verdict's word, a change's name."""
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int | float) and abs(value) >= LARGEST:
        return "a number too large to show"
    if isinstance(value, int):
        return count(value).replace("-", MINUS)
    if isinstance(value, float):
        return number(value)
    text = str(value)
    return VERDICTS[text][1] if text in VERDICTS else text
