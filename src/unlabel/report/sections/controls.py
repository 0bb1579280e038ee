"""The cases with known answers, as rows: what each is, what was found, whether that is as it should be."""

from collections.abc import Iterator, Mapping
from typing import Any

from unlabel.audit.document.reasons import SHUFFLED
from unlabel.audit.document.typed import Document, Result, part
from unlabel.audit.figures import LINEAR_PROBE, OTHERS_LINEAR, name_of
from unlabel.report.formatting import MINUS, count, number, spread
from unlabel.report.sentences import CONTROLS, VERDICTS
from unlabel.report.tables import audited

PERMUTED: Mapping[str, str] = {"others.lin": OTHERS_LINEAR.name, "probe.lin": LINEAR_PROBE.name}
CONTEXT = ("raw_image", "random_init", "floor")


def controls(audit: Document) -> Iterator[dict[str, Any]]:
    """One row a control or decoy, those that are judged first; what was not run is left out."""
    given = dict(audit.controls)
    decoys = part(given.pop("decoys", None) or {}, dict[str, Any])
    labels = audited(audit)
    if any(label in decoys for label in labels):
        by_label = part(decoys, dict[str, dict[str, Any]])
        kinds = dict.fromkeys(kind for outcome in by_label.values() for kind in outcome)
        decoys = {
            kind: {label: outcome[kind] for label, outcome in by_label.items() if kind in outcome}
            for kind in kinds
        }
    context = {name: given.pop(name) for name in CONTEXT if name in given}
    for name, outcome in [*given.items(), *decoys.items(), *context.items()]:
        if outcome is None or outcome == {}:
            continue
        if isinstance(outcome, Mapping) and len(labels) == 1 and set(outcome) == set(labels):
            outcome = outcome[labels[0]]
        control = next((known for known in CONTROLS if name.startswith(known)), name)
        title, meaning = CONTROLS.get(control, (name, ""))
        ending = name.removeprefix(control).strip("_")
        ok = _as_expected(name, outcome, audit)
        words = {True: "as expected", False: "not as expected", None: "not judged"}
        if name in decoys:
            words |= {True: "caught", False: "not caught"}
        yield {
            "title": f"{title} by {ending}" if ending else title,
            "meaning": meaning.format(limit=f"{audit.options.d_permuted:g}"),
            "ok": ok,
            "word": "for comparison" if name in context else words[ok],
            "found": list(_lines(outcome)),
        }


def _as_expected(name: str, found: Any, audit: Document) -> bool | None:
    """Decoys must FAIL, others say themselves whether they passed.

    Shuffled labels are as the audit judged them: if an attack finds them, that is among its reasons.
    """
    if name == "permuted":
        return not any(word in reason for reason in audit.invalid_because for word in (SHUFFLED, "permut"))
    outcomes = [_one(item) for item in _leaves(found)]
    judged = [part for part in outcomes if part is not None]
    return all(judged) if judged else None


def _one(item: Any) -> bool | None:
    if isinstance(item, str) and item in VERDICTS:
        return None if item == "NOT_EVALUATED" else item == "FAIL"
    if isinstance(item, Mapping):
        result = part(item, Result)
        return result.passed if result.ok is None else result.ok
    return None


def _leaves(found: Any) -> Iterator[Any]:
    """Every single result within a control: a verdict, or a mapping that holds a figure."""
    if not isinstance(found, Mapping) or {"value", "lower", "ok", "passed"} & set(found):
        yield found
    else:
        for item in found.values():
            yield from _leaves(item)


def _lines(found: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A control's results as (name, text); the name of a lone result is empty."""
    if not isinstance(found, Mapping):
        yield name, VERDICTS[found][1] if isinstance(found, str) and found in VERDICTS else flat(found)[0][1]
        return
    result = part(found, Result) if {"not_applicable", "value", "lower"} & set(found) else Result()
    if result.not_applicable is not None:
        yield name, f"no measure here: {result.not_applicable}"
    elif result.value is not None:
        images = f", n {count(result.n)}" if result.n else ""
        yield name, f"{number(result.value)} {spread(result.ci, result.value)}".strip() + images
    elif result.lower is not None:
        title = ", ".join(text for text in (name, name_of(result.attack)) if text)
        yield title, f"at least {number(result.lower)}"
    else:
        for key, item in found.items():
            if key not in ("ok", "passed", "expected"):
                yield from _lines(
                    item, ", ".join(text for text in (name, PERMUTED.get(key, name_of(key))) if text)
                )


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested plain data as (dotted name, text) rows; the items of a list that are nested are numbered.

    >>> flat({"a": [{"b": 1}, {"b": 2000}], "c": ["x", "y"]})
    [('a.1.b', '1'), ('a.2.b', '2,000'), ('c', 'x, y')]
    """
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        value = {str(at): item for at, item in enumerate(value, 1)}
    if isinstance(value, Mapping):
        return [
            pair for key, item in value.items() for pair in flat(item, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(str(item) for item in value) or "none")]
    if isinstance(value, bool) or value is None:
        return [(name, {True: "yes", False: "no", None: "none"}[value])]
    if isinstance(value, float):
        return [(name, f"{value:.4g}".replace("-", MINUS))]
    return [(name, f"{value:,}" if isinstance(value, int) and not _is_key(name) else str(value))]


def _is_key(name: str) -> bool:
    """Whether a whole number is the key of a random generator and no amount."""
    return name.rpartition(".")[2] in ("seed", "seeds")
