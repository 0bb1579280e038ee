"""The page of a comparison in headless Chromium, offline: boxes, text sizes, contrast, requests."""

from collections.abc import Callable
from typing import Any

import pytest

from unlabel.compare.page import render

SHOWN = ".verdict, .card strong, .tag, .plane"


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
    assert page.locator(".plane").count() == 2
    assert page.locator(".plane >> nth=0 >> .tag").count() == 16
    readable(page, width, SHOWN)


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
    assert page.get_by_role("table", name="Seeds that pass").get_by_role("rowheader").count() == 16
    assert page.eval_on_selector_all("svg", "s => s.every(e => e.ariaHidden || e.closest('[role=img]'))")
