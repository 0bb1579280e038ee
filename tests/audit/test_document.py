"""Reading ``audit.json``: what is missing has a default, and another type is named by its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.document.typed import document_of
from unlabel.core.errors import ModelError
from unlabel.report.card import card
from unlabel.report.page import render

STORED = Path(__file__).parent.parent / "golden" / "runs" / "less" / "audit.json"


@pytest.fixture
def content() -> dict[str, Any]:
    """The parsed audit.json of a stored run."""
    return json.loads(STORED.read_text("utf-8"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a["metrics"][0].update(value="high"), "metrics[0].value: expected a number, got text"),
        (lambda a: a["metrics"][0].update(n=True), "metrics[0].n: expected a whole number"),
        (lambda a: a["metrics"][0].update(value=1e300), "metrics[0].value: expected a number <="),
        (lambda a: a["metrics"][0].update(ci=[1]), "metrics[0].ci: expected a list of length 2"),
        (lambda a: a["comparisons"][0].pop("margin"), "missing required field `margin`"),
        (lambda a: a["claims"]["C1"].update(verdict="MAYBE"), "invalid enum value"),
        (
            lambda a: a["claims"]["C4"]["notes"].update(few_shot=[1]),
            "few_shot: expected an object, got a list",
        ),
        (
            lambda a: a["models"]["after"].update(changed="all"),
            "models.after.changed: expected a whole number or null",
        ),
        (lambda a: a["data"]["splits"].update(P=3), "data.splits[...]: expected an object"),
        (lambda a: a.pop("claims"), "claims"),
        (lambda a: a["controls"]["decoys"].update(top=3), "expected an object, got a whole number"),
        (
            lambda a: a["controls"]["positive"]["top"].update(lower="much"),
            "lower: expected a number or null, got text",
        ),
    ],
)
def test_an_entry_of_another_type_is_named(
    content: dict[str, Any], change: Callable[[dict[str, Any]], object], says: str
) -> None:
    change(content)
    with pytest.raises(ModelError) as found:
        render(content)
    assert says in str(found.value)


def test_keys_that_are_not_known_are_shown_as_facts_and_change_nothing_else(content: dict[str, Any]) -> None:
    text = card(content)
    content["data"]["invented"] = {"a fact": 3}
    content["models"]["after"]["invented"] = [1]
    content["claims"]["C2"]["invented"] = None
    assert document_of(content).raw == content
    assert card(content) == text
    assert "invented: a fact" in render(content)
