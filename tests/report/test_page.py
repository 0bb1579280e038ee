"""The report without a browser: what it says, what it never says, and that nothing can break it."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.claims.headline import HEADLINES
from unlabel.audit.document.reasons import SHUFFLED
from unlabel.audit.document.results import Audit
from unlabel.audit.document.typed import document_of
from unlabel.core.errors import MissingFiles, ModelError, OptionError
from unlabel.report.card import card
from unlabel.report.page import render, write_report
from unlabel.report.sections.controls import controls
from unlabel.report.sentences import FINDINGS, banners, finding, worst_label
from unlabel.report.terminal import lines

Make = Callable[..., dict[str, Any]]
VOID = {"meta", "link", "br", "use", "path"}


class Page(HTMLParser):
    """Tags in order, the text in each marked part, and a check that every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            for _, mark in self.open:
                self.rows[mark or ""] = self.rows.get(mark or "", 0) + 1
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("data-testid")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"<{opened}> closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for _, mark in self.open:
            if mark:
                self.texts[mark] = self.texts.get(mark, "") + data


def test_heading_is_the_headline_in_a_sentence(make_audit: Make):
    audit = make_audit()
    heading = " ".join(Page(render(audit)).texts["headline"].split())
    assert heading.startswith(f"{audit['headline']}: Male is as hard to recover as from a model retrained")


def test_every_fixed_headline_has_its_own_sentence(make_audit: Make):
    sentences = set()
    for headline in HEADLINES:
        shown = Page(render(make_audit(headline=f"{headline} (provisional)"))).texts["headline"]
        assert f"{headline} (provisional):" in shown
        sentences.add(shown.split(":", 1)[1])
    assert len(sentences) == len(HEADLINES)


def test_a_headline_that_names_a_fault_is_red_and_no_other():
    faults = ("INVALID", "NOT ", "ONLY", "HARMFUL")
    red = {name for name, (tone, _) in FINDINGS.items() if tone == "fail"}
    named = {name for name in HEADLINES if any(word in name.replace("NOT TESTED", "") for word in faults)}
    assert set(FINDINGS) == set(HEADLINES)
    assert red == named


def test_a_failed_c5_without_a_reference_is_red_on_the_page_and_on_the_card(make_audit: Make):
    audit = make_audit(references=0, headline="DISABLED, HARMFUL, NO REFERENCE")
    page = render(audit)
    assert '<span class="word fail">' in page
    assert "the retained labels suffered" in Page(page).texts["headline"]
    assert "**DISABLED, HARMFUL, NO REFERENCE**" in card(audit)


def test_an_unfair_reference_is_named_above_the_numbers(make_audit: Make):
    audit = make_audit()
    assert not any("Unfair" in text for _, text, _ in banners(document_of(audit)))
    run = "runs/short<b>"
    audit["claims"]["C2"]["notes"] = {"finding": "unfair reference", "unfair_references": [{"run": run}]}
    [(tone, text, runs)] = banners(document_of(audit))
    assert (tone, runs) == ("open", [run])
    assert text.startswith("Unfair: a retrained model ranks the retained labels far worse")
    assert "runs/short&lt;b&gt;" in render(audit)


def test_a_label_that_the_original_does_not_predict_is_not_the_hardest_hit(make_audit: Make):
    audit = make_audit()
    worst = worst_label(document_of(audit))
    assert worst is not None
    audit["claims"]["C5"]["notes"] = {"not_predicted": [worst[0]]}
    other = worst_label(document_of(audit))
    assert other is None or other[0] != worst[0]


def test_the_time_of_an_adopted_model_is_not_that_of_its_adoption(make_audit: Make):
    audit = make_audit()
    assert "0.97 s" not in render(audit)
    for model in audit["models"]["references"]:
        model |= {"seconds": {"total": 0.97}}
    assert 'data-h="Time">0.97 s' in render(audit)
    for model in audit["models"]["references"]:
        model |= {"method": "adopt"}
    assert 'data-h="Time">0.97 s' not in render(audit)


def test_several_labels_are_spoken_of_in_the_plural(make_audit: Make):
    audit = make_audit(forget=["Male", "Bald"], headline="UNLEARNED")
    heading = Page(render(audit)).texts["headline"]
    assert "Male and Bald are as hard to recover" in heading
    assert "without them, they stay so after the tried changes and from few annotated images" in heading
    audit = make_audit(forget=["Male", "Bald"], headline="UNLEARNED")
    audit["claims"]["C4"] |= {"budget": "full"}
    assert "they stay so, and the retained" in Page(render(audit)).texts["headline"]


def test_a_run_whose_own_check_fell_short_is_named_above_the_numbers(make_audit: Make):
    audit, said = make_audit(), "The run's own check did not reach its aim against weights at stage4."
    audit["claims"]["C4"]["notes"] = {"own_check": said}
    assert ("open", said, []) in banners(document_of(audit))
    assert "at stage4" in render(audit)
    audit["request"] |= {"forgotten_earlier": []}
    assert f"   {said}" in lines(Audit.from_json(audit))


def test_tables_have_a_row_for_each_label_claim_and_control(make_audit: Make):
    rows = Page(render(make_audit())).rows
    assert rows["labels"] == 1 + 10
    assert rows["claims"] == 1 + 6
    assert rows["controls"] == 1 + 8
    assert rows["models"] == 1 + 5


def test_numbers_carry_their_interval_and_count(make_audit: Make):
    text = " ".join(Page(render(make_audit())).texts["attacks"].split())
    assert "0.918" in text
    assert "0.671± 0.015" in text.replace(" ±", "±")
    assert "+0.029, at most +0.059; limit 0.100" in text
    assert "n 5,000" in text.replace("\xa0", " ")


def test_cost_is_told_in_images_before_seconds(make_audit: Make):
    assert "4.9 × fewer images than retraining" in render(make_audit())
    dear = make_audit()
    dear["models"]["after"]["images_processed"] = 160_000
    assert "2.0 × as many images as retraining" in render(dear)
    unknown = make_audit()
    unknown["models"]["after"]["images_processed"] = None
    assert "8.3 × faster than retraining" in render(unknown)
    unknown["models"]["after"]["seconds"] = {"forget": 8260.0}
    assert "100 × the time of retraining" in render(unknown)


def test_a_training_whose_seconds_are_not_recorded_is_told_in_steps(make_audit: Make):
    found = make_audit()
    for reference in found["models"]["references"]:
        reference["seconds"] = None
    page = render(found)
    assert "retraining: 630 steps" in page
    assert "4.9 × fewer images than retraining" in page
    assert "no training is recorded" not in page + card(found)


def test_no_speed_up_is_claimed_where_no_training_is_recorded(make_audit: Make):
    """What an adopted model's run took is the adoption; a later request's, the forgetting before it."""
    for method in ("adopt", "auto", None):
        found = make_audit(references=0)
        found["models"]["before"] |= {"method": method, "seconds": {"total": 4000.0}}
        found["models"]["after"]["images_processed"] = None
        page = render(found)
        assert "faster than" not in page
        assert "training the original: not known, no training is recorded" in page
        assert "What that took is not known, no training is recorded." in page
        assert "- Cost of training the original: not known" in card(found)
    found = make_audit()
    for reference in found["models"]["references"]:
        reference["method"] = "adopt"
    assert "than retraining" not in render(found)
    assert "not known, no training is recorded" not in render(make_audit()) + card(make_audit())
    assert "fewer images than training the original" in render(make_audit(references=0))


def test_where_the_data_lies_is_not_in_the_heading(make_audit: Make):
    audit = make_audit()
    audit["data"]["source"] = "folder:/home/ada/photos"
    header = render(audit).split("<main>")[0]
    assert "folder:photos" in header
    assert "ada" not in header


def test_names_are_escaped_and_may_be_long(make_audit: Make):
    evil = '<script>alert("x")</script>'
    labels = [evil, "A" * 200, "a & b", "'; DROP"]
    text = render(make_audit(labels=labels, forget=labels[:2]))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 3
    assert Page(text).rows["labels"] == 1 + 4


def test_same_audit_gives_the_same_bytes(make_audit: Make):
    assert render(make_audit(), command="x") == render(json.loads(json.dumps(make_audit())), command="x")


@pytest.mark.parametrize("references", [0, 1, 2, 3, 5])
def test_any_number_of_references(make_audit: Make, references: int):
    text = render(make_audit(references=references))
    page = Page(text)
    assert page.rows["models"] == 1 + 2 + references
    assert ("Provisional: only" in text) == (references in (1, 2))
    assert ('id="excess"' in text) == (references > 0)
    assert ("No retrained model was given" in text) == (references == 0)


def test_forty_labels_and_several_forgotten_stay_small(make_audit: Make):
    labels = [f"Label_{at}" for at in range(40)]
    text = render(make_audit(labels=labels, forget=labels[:3]))
    page = Page(text)
    assert page.rows["labels"] == 1 + 40
    assert [tag for tag, _ in page.tags].count("figure") == 3 + 1 + 1  # labels, their mean, every label
    assert "All forgotten labels, mean" in text
    assert len(text.encode()) < 400_000
    assert "Label_0, Label_1 and Label_2 are as hard to recover" in text


def test_labels_forgotten_earlier_are_shown_but_not_in_the_heading(make_audit: Make):
    audit = make_audit(forget=["Male", "Bald"])
    audit["request"] = {"labels": ["Male"], "forgotten_earlier": ["Bald"]}
    page = Page(render(audit))
    assert "Male is as hard" in page.texts["headline"]
    assert page.texts["labels"].count("(forgotten)") == 2
    assert "Attacks on Bald" in page.texts["attacks"]


def test_invalid_audit_says_so_with_its_reasons(make_audit: Make):
    audit = make_audit(valid=False, headline="INVALID AUDIT", invalid_because=["decoy inverted passed C1"])
    text = render(audit)
    assert "Do not rely on any verdict" in text
    assert "decoy inverted passed C1" in text


def test_what_was_not_tested_gets_no_pass(make_audit: Make):
    text = render(make_audit())
    claims = text[text.index('data-testid="claims"') : text.index('id="attacks"')]
    assert claims.count("NOT EVALUATED") == 2
    assert re.search(r"C4.{0,300}data-verdict=.NOT_EVALUATED", claims, re.S)


def test_excess_is_undefined_where_the_original_knows_no_more_than_retraining(make_audit: Make):
    audit = make_audit()
    for metric in audit["metrics"]:
        if metric["id"] == "others.adv.lin" and metric["model"] == "before":
            metric["value"] = 0.55
    text = render(audit)
    assert "undefined: no more in the original than in a retrained model, within noise" in text


def test_no_bound_of_an_excess_is_rounded_to_what_is_allowed(make_audit: Make):
    audit = make_audit()
    row = next(row for row in audit["comparisons"] if row["id"] == "probe.adv.lin")
    row.update(lower=row["margin"] + 2e-5, diff=0.11, upper=0.12, verdict="FAIL")  # allowed: 0.1 / 0.291
    table = render(audit).partition('id="excess"')[2].partition("</table>")[0]
    assert "<td>0.3437 to 0.4124</td><td>0.3436</td>" in table


def test_a_decoy_that_was_not_caught_is_shown_as_such(make_audit: Make):
    audit = make_audit()
    assert "not caught" not in render(audit)
    audit["controls"]["decoys"]["Male"]["bias_shift_60"] = "PASS"
    assert "not caught" in render(audit)


def test_page_promises_nothing_legal_and_asks_nothing_of_the_network(make_audit: Make):
    text = render(make_audit())
    assert not re.search(r"certified|compliant|<script|javascript:|@import|url\(|https?://", text, re.I)
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "data", "action", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or target == "data:,", (tag, target)


def test_missing_optional_facts_are_tolerated(make_audit: Make):
    audit = make_audit(models={}, data={}, options={}, controls={}, metrics=[], comparisons=[])
    for name in ("not_tested", "limitations", "seconds", "schema"):
        del audit[name]
    assert "RETRAIN-EQUIVALENT" in render(audit)
    unknown = dict.fromkeys(["method", "seed", "seconds", "steps", "changed", "options", "command", "sha256"])
    assert "None" not in render(
        make_audit(models={"before": unknown, "after": unknown, "references": [unknown]})
    )


def test_report_is_written_beside_the_audit_or_where_asked(make_audit: Make, tmp_path: Path):
    (tmp_path / "audit.json").write_text(json.dumps(make_audit()), encoding="utf-8")
    assert write_report(tmp_path) == tmp_path / "report.html"
    out = tmp_path / "deep" / "page.html"
    assert write_report(tmp_path, out) == out
    assert "unlabel report" in out.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.json", "deep", "report.html"]


def test_missing_audit_names_the_command_that_makes_it(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no audit\.json in .*first run: unlabel audit"):
        write_report(tmp_path)
    with pytest.raises(MissingFiles, match=r"no run folder .*nowhere"):
        write_report(tmp_path / "nowhere")


def test_a_run_that_has_forgotten_nothing_is_not_sent_to_an_audit_that_would_refuse_it(base: Path):
    says = r"base; it has forgotten no label, so there is nothing to audit; first run: unlabel forget auto"
    with pytest.raises(ModelError, match=says):
        write_report(base)


@pytest.mark.parametrize(
    "content", [b"{", b"", b"[1, 2]", b'{"headline": "x"}', b"\xff\xfe{", b'{"headline": NaN}']
)
def test_damaged_audit_is_one_line_and_writes_nothing(tmp_path: Path, content: bytes):
    (tmp_path / "audit.json").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert "unlabel audit" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_audit_of_wrong_shape_is_one_line_too(make_audit: Make, tmp_path: Path):
    (tmp_path / "audit.json").write_text(json.dumps(make_audit(metrics=[{"value": 1}])), encoding="utf-8")
    with pytest.raises(ModelError, match="is not an audit of this version"):
        write_report(tmp_path)


def test_a_failed_write_leaves_the_old_report(
    make_audit: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "audit.json").write_text(json.dumps(make_audit()), encoding="utf-8")
    (tmp_path / "report.html").write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, force=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_is_no_place_for_the_page(make_audit: Make, tmp_path: Path):
    (tmp_path / "audit.json").write_text(json.dumps(make_audit()), encoding="utf-8")
    with pytest.raises(OptionError, match="is a folder"):
        write_report(tmp_path, tmp_path)


def test_a_missed_c3_says_that_it_asks_for_more_than_retraining(make_audit) -> None:
    """Newcomers take a red C3 under a green headline for a fault."""
    from unlabel.report.sentences import BEYOND

    assert BEYOND in render(make_audit())
    passed = make_audit()
    passed["claims"]["C3"]["verdict"] = "PASS"
    assert BEYOND not in render(passed)


def test_training_of_the_whole_model_names_the_budget_that_tests_it(make_standard, make_full) -> None:
    audit = make_standard()
    audit["not_tested"] = ["Relearning by training the whole model on annotated images.", "Another: thing."]
    text = render(audit)
    assert "Relearning by training the whole model on annotated images: --budget full tests it." in text
    assert "elearning by training the whole model on annotated images (--budget full); another." in text
    audit["not_tested"] = ["Relearning by training the whole model on annotated images: no model was given."]
    assert "--budget full" not in render(audit)


def test_shuffled_labels_are_as_the_audit_judged_them(make_audit: Make):
    """One-sided, at .05: a two-sided interval around .056 may begin below that."""
    audit = make_audit()
    row = audit["controls"]["permuted"]["Male"]["probe.lin"]
    row.update(value=0.056, ci=[0.049, 0.063])

    def ok() -> bool:
        return next(
            item["ok"] for item in controls(document_of(audit)) if item["title"] == "Shuffled answers"
        )

    assert ok()
    reason = f"An attack (probe.lin) trained on {SHUFFLED} predicts Male."
    audit.update(valid=False, headline="INVALID AUDIT", invalid_because=[reason])
    assert not ok()


@pytest.mark.parametrize(
    ("c2", "c4", "c6", "said"),
    [
        (
            "PASS",
            "PASS",
            "FAIL",
            "as hard to recover as from a model retrained without it, but the model rem",
        ),
        ("INCONCLUSIVE", "PASS", "FAIL", "gone from the output, but the model remembers single training"),
        ("FAIL", "PASS", "FAIL", "more can still be recovered"),
        ("PASS", "FAIL", "FAIL", "more can still be recovered"),
        ("FAIL", "PASS", "PASS", "more can still be recovered"),
    ],
)
def test_a_model_that_only_remembers_annotations_is_not_said_to_leak_more(make_audit, c2, c4, c6, said):
    audit = make_audit(headline="DISABLED ONLY")
    for name, verdict in {"C2": c2, "C4": c4, "C6": c6}.items():
        audit["claims"][name]["verdict"] = verdict
    assert said in finding(document_of(audit))[1]


def test_the_finding_names_only_the_labels_that_were_judged(make_audit):
    audit = make_audit(forget=["Male", "Young"])
    assert "Male and Young are as hard" in finding(document_of(audit))[1]
    audit["claims"]["C2"]["per_label"]["Young"] = "NOT_EVALUATED"
    assert "Male is as hard" in finding(document_of(audit))[1]


def test_a_bound_is_never_rounded_to_its_margin(make_audit: Make):
    audit = make_audit()
    row = next(c for c in audit["comparisons"] if c["id"] == "probe.adv.lin")
    row.update(upper=0.09996)
    text = render(audit)
    assert "at most +0.09996; limit 0.100" in text
    assert "at most +0.100" not in text


def test_a_rare_label_is_attacked_both_ways_round_and_the_page_says_so(make_audit: Make):
    audit = make_audit()
    page = render(audit)
    assert "They learnt from 5,000 images with known answers, and were scored on 5,000 others" in page
    audit["data"]["cross_fitted"] = True
    audit["data"]["splits"]["P"]["n"] = 458
    page = render(audit)
    assert (
        "each attack was made twice: learnt from 458 images and scored on 5,000, then the other way" in page
    )
    assert "others that neither they nor the model had seen" not in page
    assert "attackers learn here, and those that learnt on E are scored here" in page
