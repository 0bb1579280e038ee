"""The cases with known answers, as rows: what each is, what was found, whether that is as it should be."""

from collections.abc import Iterator, Mapping
from typing import Any

from unlabel.audit.figures import LINEAR_PROBE, OTHERS_LINEAR, name_of
from unlabel.report.formatting import MINUS, count, number, spread
from unlabel.report.sentences import CONTROLS, VERDICTS
from unlabel.report.tables import Json, audited

PERMUTED: Mapping[str, str] = {"others.lin": OTHERS_LINEAR.name, "probe.lin": LINEAR_PROBE.name}
CONTEXT = ("raw_image", "random_init", "floor")


def controls(audit: Json) -> Iterator[dict[str, Any]]:
    """One row a control or decoy, those that are judged first; what was not run is left out."""
    given = dict(audit["controls"])
    decoys = given.pop("decoys", None) or {}
    labels = audited(audit)
    if any(label in decoys for label in labels):
        kinds = dict.fromkeys(kind for found in decoys.values() for kind in found)
        decoys = {
            kind: {label: found[kind] for label, found in decoys.items() if kind in found} for kind in kinds
        }
    context = {name: given.pop(name) for name in CONTEXT if name in given}
    for name, found in [*given.items(), *decoys.items(), *context.items()]:
        if found is None or found == {}:
            continue
        if isinstance(found, Mapping) and len(labels) == 1 and set(found) == set(labels):
            found = found[labels[0]]
        known = next((known for known in CONTROLS if name.startswith(known)), name)
        title, meaning = CONTROLS.get(known, (name, ""))
        more = name.removeprefix(known).strip("_")
        ok = _as_expected(name, found, audit)
        words = {True: "as expected", False: "not as expected", None: "not judged"}
        if name in decoys:
            words |= {True: "caught", False: "not caught"}
        yield {
            "title": f"{title} by {more}" if more else title,
            "meaning": meaning,
            "ok": ok,
            "word": "for comparison" if name in context else words[ok],
            "found": list(_lines(found)),
        }


def _as_expected(name: str, found: Any, audit: Json) -> bool | None:
    """Decoys must FAIL, permuted labels must stay near chance, others say themselves whether they passed."""
    if name == "permuted" and any("permut" in reason for reason in audit["invalid_because"]):
        return False
    parts = [_one(name, item, audit) for item in _leaves(found)]
    known = [part for part in parts if part is not None]
    return all(known) if known else None


def _one(name: str, item: Any, audit: Json) -> bool | None:
    if isinstance(item, str) and item in VERDICTS:
        return None if item == "NOT_EVALUATED" else item == "FAIL"
    if isinstance(item, Mapping):
        said = item.get("ok", item.get("passed"))
        if isinstance(said, bool):
            return said
        if name == "permuted" and item.get("ci"):
            return item["ci"][0] <= audit["options"].get("d_permuted", 0.05)
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
        yield name, VERDICTS[found][1] if found in VERDICTS else flat(found)[0][1]
    elif "not_applicable" in found:
        yield name, f"no measure here: {found['not_applicable']}"
    elif isinstance(found.get("value"), int | float):
        images = f", n {count(found['n'])}" if found.get("n") else ""
        yield name, f"{number(found['value'])} {spread(found.get('ci'), found['value'])}".strip() + images
    elif "lower" in found:
        attack = name_of(found.get("attack", ""))
        yield ", ".join(part for part in (name, attack) if part), f"at least {number(found['lower'])}"
    else:
        for key, item in found.items():
            if key not in ("ok", "passed", "expected"):
                yield from _lines(
                    item, ", ".join(part for part in (name, PERMUTED.get(key, name_of(key))) if part)
                )


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested plain data as (dotted name, text) rows."""
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
    return [(name, f"{value:,}" if isinstance(value, int) and abs(value) > 9999 else str(value))]
