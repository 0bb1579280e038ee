"""The page's strips: where a claim would fail, stay open and pass, by the multiple of its margins."""

from collections.abc import Callable
from typing import Any

import pytest

from unlabel.audit.document.typed import MarginRow, document_of
from unlabel.report.charts import Axis
from unlabel.report.page import render
from unlabel.report.sections.margins import margins, strip

Make = Callable[..., dict[str, Any]]
SCALE = Axis(0.0, 2.0, 0.5)


def test_both_claims_have_a_strip_a_model_and_a_row_a_margin(make_standard: Make):
    audit = make_standard()
    both = list(margins(document_of(audit)))
    assert [part.id for part in both] == ["C2", "C4"]
    assert [item.name for item in both[0].strips] == [
        *("This model", "Original, output removed", "Retrained 1", "Retrained 2", "Retrained 3"),
    ]
    assert both[0].strips[0].said == "passes above 0.70 times the margins"
    assert both[0].strips[1].said == "fails below 1.81, passes above 2.60 times the margins"
    assert both[0].scale == Axis(0.0, 3.0, 0.5)
    text = render(audit)
    assert text.count('data-testid="margins"') == 2
    assert "Which margins would pass" in text
    assert 'href="#margins"' in text


def test_an_audit_made_before_has_no_such_section(make_standard: Make):
    audit = make_standard()
    for claim in audit["claims"].values():
        claim.get("notes", {}).pop("margin_curve", None)
    assert list(margins(document_of(audit))) == []
    assert "Which margins would pass" not in render(audit)


@pytest.mark.parametrize(
    ("fails", "passes", "zones"),
    [
        (0.0, 0.5, [("open", 0, 25), ("pass", 25, 100)]),
        (0.5, 1.5, [("fail", 0, 25), ("open", 25, 75), ("pass", 75, 100)]),
        (0.5, None, [("fail", 0, 25), ("open", 25, 100)]),
        (9.0, 9.5, [("fail", 0, 100)]),
        (0.0, 0.0, [("pass", 0, 100)]),
    ],
)
def test_zones_follow_each_other_and_stay_inside(fails, passes, zones):
    found = strip(MarginRow("after", fails, passes), SCALE, 1)
    assert [(zone.kind, zone.start, zone.end) for zone in found.zones] == zones
    assert ("by no margins" in found.said) == (passes is None)


def test_a_narrow_zone_has_no_word():
    found = strip(MarginRow("reference", 0.1, 0.2), SCALE, 2)
    assert found.name == "Retrained 2"
    assert [zone.word for zone in found.zones] == ["", "", "passes"]
