"""The page of a comparison: what it says, what it never says, and that nothing can break it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from unlabel.compare.cells import CellResult
from unlabel.compare.charts import SIDE, TAG, costs, scatter
from unlabel.compare.page import render, verdict_of
from unlabel.compare.text_table import lines

VOID = {"meta", "link", "br", "line", "circle", "rect", "use", "path"}


class Page(HTMLParser):
    """Rows and text of each marked part, all tags, and a check that every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.open: list[tuple[str, str | None]] = []
        self.rows: dict[str | None, int] = {}
        self.texts: dict[str | None, str] = {}
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for _, mark in self.open:
            self.rows[mark] = self.rows.get(mark, 0) + (tag == "tr")
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("data-testid")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"<{opened}> closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for _, mark in self.open:
            self.texts[mark] = self.texts.get(mark, "") + data


def invalid(cell: CellResult) -> CellResult:
    """The same cell, its audit invalid."""
    because = ["Two passes gave different outputs."]
    return replace(cell, record={**cell.record, "valid": False, "invalid_because": because})


def test_every_method_is_in_every_table(make_comparison, fifteen) -> None:
    page = Page(render(make_comparison(fifteen)))
    assert page.rows["verdicts"] == 1 + 16
    assert page.rows["trade"] == page.rows["cost"] == 1 + 1 + 16
    assert page.rows["figures"] == 1 + 2 + 16
    assert "script" not in page.tags
    text = page.texts["verdicts"]
    assert "1 failed: Diverged: the loss became NaN at step 3" in text
    assert "234 steps where 188 are allowed" in text
    assert "2/3 pass" in text


def test_the_heading_says_who_passes(make_comparison, make_cell) -> None:
    def heading(*cells):
        return " ".join(Page(render(make_comparison(cells))).texts["headline"].split())

    good = [make_cell("confusion", seed, 0.6, 0.0, 64) for seed in range(3)]
    also = [make_cell("ssd", seed, 0.6, 0.0, 64) for seed in range(3)]
    bad = [make_cell("fine-tune", seed, 0.9, 0.0, 64) for seed in range(3)]
    harmful = [make_cell("neg-grad", seed, 0.6, 0.1, 64) for seed in range(3)]
    failed = [make_cell("scrub", 0, 0, 0, 0, error="NaN"), make_cell("scrub", 1, 0.6, 0.0, 64)]
    assert "confusion forgets Male as retraining does and keeps the other labels, in each of 3 seeds." in (
        heading(*good, *bad)
    )
    assert "confusion and ssd forget Male as retraining does and keep" in heading(*good, *also)
    assert "No method forgets Male as retraining does and keeps the other labels" in heading(*harmful, *bad)
    assert "Within this budget, no method forgets Male" in heading(*bad)
    assert "confusion forgets" in heading(*good, *failed)
    assert "scrub" not in heading(*good, *failed)


def test_an_invalid_audit_passes_nothing_and_is_named(make_comparison, make_cell) -> None:
    cells = [invalid(make_cell("confusion", 0, 0.6, 0.0, 64)), make_cell("confusion", 1, 0.6, 0.0, 64)]
    found = make_comparison(cells)
    page = Page(render(found))
    assert "confusion forgets" not in page.texts["headline"]
    assert "1 INVALID audit: Two passes gave different outputs." in page.texts["verdicts"]
    assert "1/2 pass" in page.texts["verdicts"]
    assert "confusion: 1 INVALID, Two passes gave different outputs." in lines(found)
    assert [cell["valid"] for cell in found["cells"]] == [False, True]
    alone = " ".join(Page(render(make_comparison(cells[:1]))).texts["headline"].split())
    assert "The data cannot decide whether a method forgets Male" in alone
    assert "some audits are INVALID" in alone


def test_the_page_is_red_only_where_every_cell_fails(make_comparison, make_cell) -> None:
    def verdict(*knows: float, **more) -> tuple[str, str]:
        cells = [make_cell(f"m{at}", 0, value, 0.0, 64) for at, value in enumerate(knows)]
        return verdict_of(make_comparison(cells, **more))

    failed, open_ = 0.9, 0.7
    assert verdict(failed, failed) == (
        "fail",
        "Within this budget, no method forgets Male as retraining does.",
    )
    both = make_comparison([make_cell("m0", 0, failed, 0.0, 64), make_cell("deep-probes", 0, 0.6, 0.1, 64)])
    both["methods"][1]["asked"] = "auto"
    assert verdict_of(both) == (
        "fail",
        "No method forgets Male as retraining does and keeps the other labels."
        " C2 (retrain-equivalent) fails: m0. C5 (useful) fails: auto (deep-probes).",
    )
    harmed = make_comparison([make_cell("m0", 0, failed, 0.0, 64), make_cell("m1", 0, open_, 0.1, 64)])
    assert verdict_of(harmed)[0] == "fail"
    assert "C5 (useful) fails: m1." in verdict_of(harmed)[1]
    undecided = "The data cannot decide whether a method forgets Male as retraining does."
    assert verdict(failed, open_) == verdict(open_) == ("open", undecided)
    assert verdict(failed, references=2)[1].endswith("does. (provisional)")
    ended = verdict_of(make_comparison([make_cell("scrub", 0, 0, 0, 0, error="NaN")]))
    assert ended == ("open", "No method came to its end, so nothing is decided about Male.")


@pytest.mark.parametrize("references", [2, 3])
def test_few_retrained_models_make_it_provisional(references: int, make_comparison, make_cell) -> None:
    found = make_comparison([make_cell("confusion", 0, 0.6, 0.0, 64)], references=references)
    few = references < 3
    assert verdict_of(found)[1].endswith("(provisional)") == few
    assert any(line.startswith("provisional: three or more") for line in lines(found)) == few
    assert ("2 retrained models: provisional" in render(found)) == few


def test_names_are_escaped_and_may_be_long(make_comparison, make_cell) -> None:
    evil = '<script>alert("x")</script>' + "y" * 90
    cells = [make_cell(evil, 0, 0.6, 0.0, 64, label=evil), make_cell("b", 0, 0, 0, 0, error=evil)]
    text = render(make_comparison(cells, label=evil, command=evil))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 5
    Page(text)


def test_a_name_that_stands_for_a_method_is_shown_with_it(make_comparison, make_cell) -> None:
    found = make_comparison([make_cell("deep-probes", 0, 0.6, 0.0, 64)], asked={"deep-probes": "auto"})
    assert found["methods"][0]["method"] == "deep-probes"
    page = Page(render(found))
    assert "auto (deep-probes) forgets Male" in " ".join(page.texts["headline"].split())
    assert all("auto (deep-probes)" in page.texts[part] for part in ("verdicts", "trade", "cost", "figures"))
    assert sum(line.startswith("auto (deep-probes)") for line in lines(found)) == 2
    del found["methods"][0]["asked"]  # of a comparison that was made before
    assert "auto" not in Page(render(found)).texts["verdicts"]


def test_an_open_verdict_is_told_from_a_failed_one(make_comparison, make_cell) -> None:
    cells = [make_cell("failed", 0, 0.9, 0.0, 64), make_cell("open", 0, 0.7, 0.0, 64)]
    cells += [make_cell("good", seed, 0.6, 0.0, 64) for seed in range(2)]
    cells += [make_cell("mixed", seed, knows, 0.0, 64) for seed, knows in enumerate((0.6, 0.9))]
    found = make_comparison(cells)
    text = " ".join(Page(render(found)).texts["verdicts"].split())
    assert all(word in text for word in ("1/1 fail", "1/1 open", "2/2 pass", "1/2 pass"))
    shown = [line.removesuffix("  front").split()[-4:] for line in lines(found)]
    assert ["PASS", "FAIL", "FAIL", "PASS"] in shown
    assert ["PASS", "open", "FAIL", "PASS"] in shown
    assert ["PASS", "1/2", "FAIL", "PASS"] in shown
    assert lines(make_comparison(cells[:1]))[0].startswith("forget Male: 1 method, 1 seed, ")


def test_the_same_comparison_gives_the_same_bytes(make_comparison, fifteen) -> None:
    found = make_comparison(fifteen)
    assert render(found) == render(json.loads(json.dumps(found)))
    assert len(render(found).encode()) < 120_000


def test_nothing_that_ended_is_still_a_page(make_comparison, make_cell) -> None:
    text = render(make_comparison([make_cell("scrub", 0, 0, 0, 0, error="NaN")]))
    assert "none" in Page(text).texts["verdicts"]
    assert "scatter" not in re.sub(r"<style>.*</style>", "", text, flags=re.S)


@pytest.mark.parametrize("references", [1, 2, 5])
def test_any_number_of_references(make_comparison, fifteen, references) -> None:
    text = render(make_comparison(fifteen, references=references))
    assert ("each against the others</span>" in text) == (references > 1)


def test_the_search_is_told(make_comparison, make_cell) -> None:
    tries = [
        {"setting": {}, "excess": 2.0, "loss": 0.001, "images_processed": 640, "error": None},
        {
            "setting": {"strength": 3.0},
            "excess": None,
            "loss": None,
            "images_processed": 0,
            "error": "Diverged: x",
        },
    ]
    search = {"rule": "the smallest", "tried": 2, "steps": 20, "images_processed": 640, "seconds": 1.0,
              "methods": {"ssd": {"tries": tries, "chosen": 0}}, "sentence": "tried 2"}  # fmt: skip
    page = Page(render(make_comparison([make_cell("ssd", 0, 0.6, 0.0, 64)], search=search)))
    assert page.rows["search"] == 1 + 2
    assert "Diverged: x" in page.texts["search"]
    assert "strength 3.0" in page.texts["search"]


def test_marks_stand_where_the_numbers_say(make_comparison, make_cell) -> None:
    cells = [make_cell("a", seed, 0.6 + 0.1 * seed, 0.01 * seed, 100 * 10**seed) for seed in range(3)]
    plane = scatter(make_comparison([*cells, make_cell("b", 0, 0.6, 0.0, 0)]))
    assert plane is not None
    (a, b) = plane.marks
    assert (a.x, a.y) == (plane.horizontal.at(0.01), plane.down(1.0))
    assert a.across == (plane.horizontal.at(0.0), plane.horizontal.at(0.02))
    assert a.upright == (plane.down(2.0), plane.down(0.0))
    assert (b.across, b.upright) == (None, None)
    assert plane.retrain is not None
    assert plane.retrain.x == plane.horizontal.at(0.0)
    cost = costs(make_comparison([*cells, make_cell("b", 0, 0.6, 0.0, 0)]))
    assert cost is not None
    assert cost.marks[1].x == cost.horizontal.at(0) < cost.horizontal.at(100) < cost.marks[0].x
    assert [mark.row["front"] for mark in cost.marks] == [False, True]


def test_marks_of_equal_cost_stand_side_by_side(make_comparison, make_cell) -> None:
    same = [make_cell(f"m{k}", 0, 0.7 + 0.001 * k, 0.02, 6400) for k in range(8)]
    plane = costs(make_comparison([*same, make_cell("far", 0, 0.9, 0.02, 64)]))
    assert plane is not None
    *crowd, far = plane.marks
    assert far.aside == 0.0
    assert len({mark.x for mark in crowd}) == 1
    assert [mark.aside for mark in crowd if mark.row["front"]] == [0.0]
    right = sorted(mark.spot[0] for mark in crowd)
    assert all(then - here >= 11 for here, then in pairwise(right))
    assert 0 <= right[0] <= right[-1] <= SIDE
    spread = costs(make_comparison([make_cell(f"m{k}", 0, 0.7 + 0.1 * k, 0.02, 6400) for k in range(4)]))
    assert spread is not None
    assert {mark.aside for mark in spread.marks} == {0.0}


def test_excess_below_zero_is_on_the_scale(make_comparison, make_cell) -> None:
    plane = scatter(make_comparison([make_cell("deep", 0, 0.29, 0.0, 64), make_cell("b", 0, 0.7, 0.0, 64)]))
    assert plane is not None
    assert plane.vertical.low <= -3.1
    assert plane.marks[0].y == plane.down(-3.1) < 100
    assert plane.down(1) < plane.down(0) < plane.marks[0].y
    plane = scatter(make_comparison([make_cell("as-retrained", 0, 0.6, 0.0, 64)], references=1))
    assert plane is not None
    assert next(text for _, text in plane.vertical.ticks) == "0.0"  # nothing is below: no room is lost
    assert 80 < plane.marks[0].y < 95


def test_every_seed_is_told_with_its_upper_bound_and_the_images(make_comparison, make_cell) -> None:
    cells = [make_cell("a", seed, 0.65, 0.002 * seed, 64) for seed in range(2)]
    text = Page(render(make_comparison(cells))).texts["trade"]
    assert "0.50 (0.80) · 0.50 (0.80)" in text
    assert "0.0000 (0.0030) · 0.0020 (0.0050)" in text
    assert "n 5,000 images" in text
    near = [make_cell("a", seed, knows, 0.006996, 64) for seed, knows in enumerate((0.6698, 0.6704))]
    text = Page(render(make_comparison(near))).texts["trade"]
    assert "0.70 (0.998) · 0.70 (1.004)" in text  # the limit is 1
    assert "0.0070 (0.009996)" in text  # and 0.01
    older = make_comparison(cells)
    del older["test_images"]
    assert "5,000 images" not in render(older)


def test_numbers_of_a_crowd_do_not_cover_each_other(make_comparison, fifteen) -> None:
    for plane in (scatter(make_comparison(fifteen)), costs(make_comparison(fifteen))):
        assert plane is not None
        at = [(m.spot[0] + m.tag[0], m.spot[1] + m.tag[1]) for m in plane.marks]
        close = [
            (one, two)
            for one in range(len(at))
            for two in range(one)
            if abs(at[one][0] - at[two][0]) < TAG[0] and abs(at[one][1] - at[two][1]) < TAG[1]
        ]
        assert close == []
