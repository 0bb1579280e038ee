"""The page of a comparison in headless Chromium, offline: boxes, text sizes, contrast, requests."""

import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from unlabel.compare.page import render

SHOWN = ".verdict, .card strong, .tag, .scatter"


@pytest.fixture
def show(window: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the page of a comparison."""
    return lambda found, width, scheme="light": window(render(found), width, scheme)


@pytest.mark.parametrize(
    ("width", "scheme"), [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
)
def test_page_reads_at_every_size_and_in_both_schemes(
    show, readable, make_comparison, fifteen, width, scheme
) -> None:
    page = show(make_comparison(fifteen), width, scheme)
    assert page.locator(".scatter").count() == 2
    assert page.locator(".scatter >> nth=0 >> .tag").count() == 16
    readable(page, width, SHOWN)


BOXES = """selector => [...document.querySelectorAll(selector)].map(e => {
  const b = e.getBoundingClientRect();
  return [b.left, b.top, b.right, b.bottom];
})"""


def overlap(one: list[float], two: list[float], least: float = 1.0) -> bool:
    """Whether two boxes share more than `least` px in both directions."""
    wide, tall = (min(one[at + 2], two[at + 2]) - max(one[at], two[at]) for at in (0, 1))
    return wide > least and tall > least


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_in_a_picture_hides_another(show, make_comparison, fifteen, width) -> None:
    page = show(make_comparison(fifteen), width)
    page.evaluate("document.querySelectorAll('.scatter').forEach((e, at) => e.id = 'plane' + at)")
    for at in range(2):
        area = page.evaluate(BOXES, f"#plane{at} .area")[0]
        marks = page.evaluate(BOXES, f"#plane{at} circle")
        assert len(marks) == 17
        # circles of 12 px may touch by the width of their strokes
        assert not [pair for pair in combinations(marks, 2) if overlap(*pair, least=4.0)]
        assert all(area[0] - 7 <= box[0] and box[2] <= area[2] + 7 for box in marks)
        across = page.evaluate(BOXES, f"#plane{at} .xs span")
        assert len(across) >= 4
        assert not [pair for pair in combinations(across, 2) if overlap(*pair)]
        assert all(box[1] >= area[3] and area[0] - 30 <= box[0] <= area[2] for box in across)
        upright = page.evaluate(BOXES, f"#plane{at} .ys span")
        assert not [pair for pair in combinations(upright, 2) if overlap(*pair)]
        assert all(box[2] <= area[0] for box in upright)
        (name,) = page.evaluate(BOXES, f"#plane{at} .yname")
        assert name[3] <= area[1]
        assert name[3] - name[1] < 40


@pytest.mark.skipif("AXE_JS" not in os.environ, reason="name axe.min.js in AXE_JS (see decision 9)")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(show, make_comparison, fifteen, width, scheme) -> None:
    page = show(make_comparison(fifteen), width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(Path(os.environ["AXE_JS"]).read_text("utf-8"))
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 30
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []


def test_a_printed_picture_stays_on_one_page_and_names_stay_whole(show, make_comparison, fifteen) -> None:
    page = show(make_comparison(fifteen), 690)  # A4 within its margins, in px
    page.emulate_media(media="print")
    kept = page.eval_on_selector_all("figure", "f => f.map(e => getComputedStyle(e).breakInside)")
    assert kept == ["avoid", "avoid"]
    assert min(box[2] - box[0] for box in page.evaluate(BOXES, ".tones tbody th")) > 100
    assert page.pdf(format="A4").startswith(b"%PDF-")


def test_long_names_still_fit(show, readable, make_comparison, make_cell) -> None:
    cells = [make_cell("m" * 60, 0, 0.7, 0.01, 64), make_cell("<i>b</i>", 0, 0, 0, 0, error="x" * 200)]
    cells += [make_cell(f"method-{k}", 0, 0.7, 0.01, 64) for k in range(20)]
    page = show(make_comparison(cells, label="W" * 90), 390)
    assert page.locator("i").count() == 0
    readable(page, 390, SHOWN)


def test_pictures_are_named_and_tables_keep_their_meaning_when_narrow(show, make_comparison, fifteen) -> None:
    page = show(make_comparison(fifteen), 390)
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    assert page.get_by_role("img", name="Every method's processed images").count() == 1
    assert page.get_by_role("table", name="Verdict on each claim").get_by_role("rowheader").count() == 16
    assert page.eval_on_selector_all("svg", "s => s.every(e => e.ariaHidden || e.closest('[role=img]'))")
