"""The report in headless Chromium, offline: boxes, text sizes, contrast, requests, print."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlabel.report import render

Make = Callable[..., dict[str, Any]]
SIZES = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]

BOXES = """() => [...document.querySelectorAll('.verdict, .side, .card strong, td.v')].map(e => {
  const b = e.getBoundingClientRect();
  return {text: e.innerText, left: b.left, right: b.right, width: b.width, height: b.height};
})"""

TEXTS = (Path(__file__).parents[1] / "texts.js").read_text("utf-8")


@pytest.fixture
def show(chromium: Any, tmp_path: Path):
    """Opens an audit's report in an offline window and fails on any request or console error."""
    contexts = []
    troubles: list[str] = []

    def open_page(audit: dict[str, Any], width: int = 1280, scheme: str = "light") -> Any:
        path = tmp_path / "report.html"
        path.write_text(render(audit), encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        own = path.as_uri()
        page.on("request", lambda r: None if r.url in (own, "data:,") else troubles.append(r.url))
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.goto(own)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def check(page: Any, width: int) -> None:
    """Nothing sticks out, nothing is too small or too faint to read."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(BOXES)
    assert boxes
    for box in boxes:
        assert box["left"] >= 0, box
        assert box["right"] <= width, box
        assert box["width"] > 20, box
        assert box["height"] > 8, box
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    texts = page.evaluate(TEXTS)
    assert min(texts, key=lambda t: t["size"])["size"] >= 11, min(texts, key=lambda t: t["size"])
    assert min(texts, key=lambda t: t["contrast"])["contrast"] >= 4.5, min(texts, key=lambda t: t["contrast"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_page_reads_at_every_size_and_in_both_schemes(show: Any, make_audit: Make, width: int, scheme: str):
    page = show(make_audit(), width, scheme)
    assert page.locator("h1").inner_text().startswith("RETRAIN-EQUIVALENT, DURABILITY NOT TESTED:")
    assert page.locator(".chart").nth(1).locator(".r").count() == 10
    check(page, width)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_page_of_the_standard_budget_reads_too(show: Any, make_standard: Make, width: int, scheme: str):
    page = show(make_standard(), width, scheme)
    assert page.locator("#durable .chart .r").count() == 7
    assert page.locator("#durable .plane .p-after").count() == 3
    assert page.locator("#groups .chart .r").count() == 9
    check(page, width)
    texts = page.evaluate("[...document.querySelectorAll('.plane span')].map(e => e.getBoundingClientRect())")
    assert all(box["left"] >= 0 and box["right"] <= width for box in texts)


@pytest.mark.skipif("AXE_JS" not in os.environ, reason="name axe.min.js in AXE_JS (see decision 9)")
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_axe_finds_no_violation(show: Any, make_standard: Make, width: int, scheme: str):
    page = show(make_standard(forget=["Male", "Bald"]), width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(Path(os.environ["AXE_JS"]).read_text("utf-8"))
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 30
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_hard_audit_still_fits(show: Any, make_standard: Make, width: int):
    """Forty labels, some with very long names and markup, three forgotten, no valid verdict."""
    labels = ["W" * 90, "<i>lean</i>", "Wearing_a_very_long_name " * 6, *(f"Label_{at}" for at in range(37))]
    audit = make_standard(
        labels=labels, forget=labels[:3], valid=False, invalid_because=["decoy " + "x" * 120]
    )
    for comparison, verdict in zip(
        audit["comparisons"], ["FAIL", "INCONCLUSIVE", "NOT_EVALUATED"], strict=False
    ):
        comparison["verdict"] = verdict
    page = show(audit, width)
    assert page.locator("i").count() == 0
    check(page, width)


def test_verdict_has_a_word_and_a_shape(show: Any, make_audit: Make):
    page = show(make_audit())
    shapes = page.eval_on_selector_all(
        "[data-verdict]", "v => v.map(e => [e.innerText.trim(), e.querySelector('use').getAttribute('href')])"
    )
    assert {tuple(shape) for shape in shapes} == {
        ("PASS", "#i-pass"),
        ("FAIL", "#i-fail"),
        ("NOT EVALUATED", "#i-none"),
    }


def test_pictures_are_named_and_tables_keep_their_meaning_when_narrow(show: Any, make_audit: Make):
    page = show(make_audit(), 390)
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    assert page.get_by_role("img", name="Every label's AUC").count() == 1
    assert page.get_by_role("table", name="Claims and verdicts").get_by_role("rowheader").count() == 6
    assert page.eval_on_selector_all("svg", "s => s.every(e => e.ariaHidden || e.closest('[role=img]'))")


def test_page_prints_with_its_folded_parts(show: Any, make_audit: Make):
    page = show(make_audit())
    page.emulate_media(media="print")
    assert page.locator("[data-testid=labels]").is_visible()
    pdf = page.pdf(format="A4", print_background=True)
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 20_000
