"""The page of a comparison in headless Chromium, offline: boxes, text sizes, contrast, requests."""

from pathlib import Path
from typing import Any

import pytest

from unlabel.compare.page import render

TEXTS = (Path(__file__).parents[1] / "texts.js").read_text("utf-8")
BOXES = """() => [...document.querySelectorAll('.verdict, .card strong, .tag, .plane')].map(e => {
  const b = e.getBoundingClientRect();
  return {text: e.innerText, left: b.left, right: b.right, height: b.height};
})"""


@pytest.fixture
def show(chromium: Any, tmp_path: Path):
    """Opens a comparison in an offline window and fails on any request or console error."""
    contexts, troubles = [], []

    def open_page(found: dict[str, Any], width: int, scheme: str = "light") -> Any:
        path = tmp_path / "compare.html"
        path.write_text(render(found), encoding="utf-8")
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
    boxes = page.evaluate(BOXES)
    assert len(boxes) > 20
    for box in boxes:
        assert box["left"] >= 0, box
        assert box["right"] <= width, box
        assert box["height"] > 8, box
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    texts = page.evaluate(TEXTS)
    assert min(texts, key=lambda t: t["size"])["size"] >= 11, min(texts, key=lambda t: t["size"])
    assert min(texts, key=lambda t: t["contrast"])["contrast"] >= 4.5, min(texts, key=lambda t: t["contrast"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("width", "scheme"), [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
)
def test_page_reads_at_every_size_and_in_both_schemes(show, make_comparison, fifteen, width, scheme) -> None:
    page = show(make_comparison(fifteen), width, scheme)
    assert page.locator(".plane").count() == 2
    assert page.locator(".plane >> nth=0 >> .tag").count() == 16
    check(page, width)


def test_long_names_still_fit(show, make_comparison, make_cell) -> None:
    cells = [make_cell("m" * 60, 0, 0.7, 0.01, 64), make_cell("<i>b</i>", 0, 0, 0, 0, error="x" * 200)]
    cells += [make_cell(f"method-{k}", 0, 0.7, 0.01, 64) for k in range(20)]
    page = show(make_comparison(cells, label="W" * 90), 390)
    assert page.locator("i").count() == 0
    check(page, 390)


def test_pictures_are_named_and_tables_keep_their_meaning_when_narrow(show, make_comparison, fifteen) -> None:
    page = show(make_comparison(fifteen), 390)
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    assert page.get_by_role("img", name="Every method's processed images").count() == 1
    assert page.get_by_role("table", name="Seeds that pass").get_by_role("rowheader").count() == 16
    assert page.eval_on_selector_all("svg", "s => s.every(e => e.ariaHidden || e.closest('[role=img]'))")
