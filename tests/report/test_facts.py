"""The facts behind a claim: readable rows, none that stands elsewhere on the page, no Python."""

from collections.abc import Callable
from typing import Any

from unlabel.audit.document.typed import document_of
from unlabel.report.page import render
from unlabel.report.sections.facts import rows

Make = Callable[..., dict[str, Any]]


def behind(page: str) -> str:
    """The fold of rules and facts."""
    return page.partition("The rule and the facts behind each verdict")[2].partition("</details>")[0]


def test_no_python_and_no_table_of_another_section_is_in_the_facts(make_full: Make):
    audit = make_full()
    audit["claims"]["C2"]["notes"] |= {
        "rule": "PASS if within +-0.1",
        "suspicion": "INCONCLUSIVE",
        "margin_curve": [{"model": "after", "fails_below": 0.1, "passes_above": None}],
    }
    fold = behind(render(audit))
    assert "{" not in fold
    assert "+-" not in fold
    assert "PASS if within ±0.1." in fold
    assert "margin" not in fold.partition("C2")[2].partition("C3")[0]
    assert "attacks that can only fail a model (no PASS rests on them)</dt><dd>INCONCLUSIVE" in fold


def test_nested_notes_are_a_row_a_comparison(make_audit: Make):
    audit = make_audit()
    test = {"loss": 0.004, "lower": -0.001, "upper": 0.0102, "margin": 0.05, "fair": True}
    audit["claims"]["C5"]["notes"] = {
        "references_against_original": [{"run": "runs/a", **test}, {"run": "runs/b", **test}],
        "against_original": {"worst_label": {"label": "Hat", "value": 0.01, "upper": 0.02, "margin": 0.05}},
        "images_needed": {"retained": 12345},
        "something_new": {"deep": [1, 2]},
        "odd": {"upper": "high", "margin": None},
    }
    assert rows(document_of(audit), "C5")[-6:] == [
        (
            "retrained model against the original: runs/a",
            "+0.004, at least −0.001, at most +0.010; limit 0.050",
        ),
        (
            "retrained model against the original: runs/b",
            "+0.004, at least −0.001, at most +0.010; limit 0.050",
        ),
        ("against the original: label with the largest loss", "Hat: +0.010, at most +0.020; limit 0.050"),
        ("images that would decide: retained", "12,345"),
        ("something new: deep", "1, 2"),
        ("odd", "upper high, margin none"),
    ]


def test_a_lower_bound_is_not_rounded_to_its_limit(make_audit: Make):
    audit = make_audit()
    loss = {"value": 0.012, "lower": 0.01004, "upper": 0.02, "margin": 0.01}
    audit["claims"]["C5"]["notes"] = {"against_retrained": {"macro_auc_loss": loss}}
    said = dict(rows(document_of(audit), "C5"))
    assert "+0.012, at least +0.01004, at most +0.020; limit 0.010" in said.values()


def test_the_data_is_told_in_words_and_one_number_format(make_audit: Make):
    audit = make_audit()
    audit["data"] |= {
        "images": 3200,
        "overlap": None,
        "table": {"absent": "0"},
        "new_fact": {"deep_down": 1234},
    }
    page = render(audit)
    data = page.partition("<h3>Data</h3>")[2].partition("<h3>Audit</h3>")[0]
    for name, text in {
        "images": "3,200",
        "what the splits share": "none",
        "table of labels: sign of an absent label": "0",
        "new fact: deep down": "1,234",
    }.items():
        assert f"<dt>{name}</dt><dd>{text}</dd>" in data
    assert all(
        f"<b>{name}</b>" in data for name in ("Probe split (P)", "Test split (E)", "Training images (T_in)")
    )


def test_commands_stand_in_the_order_of_use(make_audit: Make):
    audit = make_audit()
    for reference in audit["models"]["references"]:
        reference["command"] = "unlabel audit runs/no-male --make-references 3"
    audit["models"]["command"] = "unlabel audit runs/no-male --make-references 3"
    made = render(audit, command="unlabel report runs/no-male").partition('aria-label="Commands">')[2]
    assert made.partition("</pre>")[0].split("\n")[:4] == [
        "unlabel train faces --out runs/base",
        "unlabel train faces --out runs/no-male",
        "unlabel audit runs/no-male --make-references 3",
        "unlabel report runs/no-male",
    ]
