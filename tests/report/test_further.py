"""What the page says of the larger budgets: durability, memory, groups, and what every figure is."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.document.typed import SmallestMargin, document_of
from unlabel.audit.figures import OWN_PERTURBED, TRANSFORMS
from unlabel.report import tables as rows
from unlabel.report import words
from unlabel.report.page import render
from unlabel.report.sections import durability, groups, margins
from unlabel.report.sections import full_budget as deeper
from unlabel.report.sections import memorisation as memory
from unlabel.report.sections.evasion import condemning
from unlabel.report.sentences import summary
from unlabel.report.views import claim

Make = Callable[..., dict[str, Any]]
CLAIMS = Path(__file__).parents[2] / "docs" / "claims.md"


def lines(text: str, testid: str) -> int:
    table = text[text.index(f'data-testid="{testid}"') :]
    return table[: table.index("</table>")].count("<tr")


def test_every_kind_of_figure_has_its_section_and_table(make_standard: Make):
    text = render(make_standard())
    assert text == render(make_standard())
    assert {name: lines(text, name) for name in ("gains", "few", "canaries", "membership", "groups")} == {
        "gains": 1 + 7 + 7 * 6,
        "few": 1 + 3,
        "canaries": 1 + 4,
        "membership": 1 + 3,
        "groups": 1 + 9,
    }
    for name in ("durable", "memory", "groups", "further", "words"):
        assert f'<section id="{name}"' in text
        assert name == "further" or f'href="#{name}"' in text


def test_the_title_of_c4_is_what_its_budget_tested(make_standard: Make):
    audit = make_standard()
    for budget, told in (("standard", False), ("full", True)):
        audit["claims"]["C4"]["budget"] = budget
        meaning = claim(document_of(audit), "C4")["meaning"]
        assert "Nobody" not in meaning
        assert ("whole model" in meaning) is told


def test_a_quick_audit_shows_no_section_of_what_it_did_not_test(make_audit: Make):
    text = render(make_audit())
    assert not re.search(r'id="(durable|memory|groups|further)"', text)
    assert durability.lasting(document_of(make_audit())) == ""


def test_the_summary_says_over_how_many_labels_a_mean_is(make_audit: Make):
    said = dict(summary(document_of(make_audit())))["What it cost the retained labels."]
    assert "mean over 9)" in said


def test_the_summary_says_if_not_even_the_original_is_told_from_retrained_models(make_audit: Make):
    audit = make_audit()
    audit["claims"]["C2"]["notes"]["head_zero"] = "INCONCLUSIVE"
    lead, words = "How much is left.", "cannot tell even the original, its output removed"
    assert words not in dict(summary(document_of(audit)))[lead]
    audit["claims"]["C2"]["verdict"] = "INCONCLUSIVE"
    assert words in dict(summary(document_of(audit)))[lead]


def test_the_attack_closest_to_its_limit_is_the_one_that_is_shown(make_standard: Make):
    audit = make_standard()
    worst = next(
        c for c in audit["comparisons"] if (c["id"], c.get("transform")) == ("recover.probe.bits.lin", "int8")
    )
    worst.update(diff=0.21, lower=0.18, upper=0.24, verdict="FAIL")
    shown = durability.closest(durability.gains(document_of(audit), "Male"))
    assert [item.transform for item in shown] == list(TRANSFORMS)
    judged = next(item for item in shown if item.transform == "int8").judged
    assert (judged.id, judged.diff, judged.verdict) == (worst["id"], 0.21, "FAIL")
    said = dict(summary(document_of(audit)))["Whether it lasts."]
    assert "changed in 7 ways" in said
    assert "After storing it in 8 bits, the attack that came closest to its limit" in said
    assert (
        "(features, linear, bits) finds +0.210 bits more than before, at most +0.240; 0.050 is allowed."
        in said
    )
    assert "256 annotated images predicts Male with an AUC of 0.750 ± 0.012 on this model, 0.920" in said
    assert "That is +0.006 AUC more than on retrained models, at most +0.021; 0.030 is allowed." in said


def test_of_several_labels_the_one_closest_to_its_limit_is_named(make_standard: Make):
    audit = make_standard(forget=["Male", "Young"])
    worst = [c for c in audit["comparisons"] if (c["id"], c.get("transform")) == ("recover.own.adv", "int8")]
    worst[1].update(diff=0.21, lower=0.18, upper=0.24, verdict="FAIL")
    said = durability.lasting(document_of(audit))
    assert "(own output, for Young) finds +0.210 advantage more than before" in said


def test_the_number_of_images_closest_to_its_limit_is_shown_with_bound_and_limit(make_standard: Make):
    audit = make_standard()
    worst = next(row for row in audit["comparisons"] if row["id"] == "few.auc@64")
    worst.update(diff=0.028, lower=0.01, upper=0.02996)
    said = durability.lasting(document_of(audit))
    assert "is shown 64 annotated images predicts Male with an AUC of 0.730" in said
    assert "That is +0.028 AUC more than on retrained models, at most +0.02996; 0.030 is allowed." in said


def test_the_test_that_keeps_a_claim_from_a_pass_is_named(make_full: Make):
    audit = make_full()
    audit["claims"]["C4"] |= {"binding": "tune.auc@256"}
    audit["claims"]["C2"] |= {"verdict": "INCONCLUSIVE", "binding": "others.adv.gbt"}
    trees = next(row for row in audit["comparisons"] if row["id"] == "others.adv.gbt")
    trees.update(upper=0.104, verdict="INCONCLUSIVE")
    said = dict(summary(document_of(audit)))
    assert said["Whether it lasts."].endswith(
        "C4 fails by the whole model, trained on 256 annotated images: +0.050 AUC more than retrained models"
        " do, at least +0.036; 0.030 is allowed."
    )
    assert said["How much is left."].endswith(
        "C2 is open because of boosted trees on the other outputs: +0.008 advantage more than retrained"
        " models do, at most +0.104; 0.100 is allowed."
    )
    audit["claims"]["C4"]["binding"] = "probe.bits.lin"
    audit["claims"]["C4"]["notes"]["binding_test"] = {"layer": "stage3"}
    assert "C4 fails by a linear probe at stage 3:" in durability.lasting(document_of(audit))
    audit["claims"]["C2"]["verdict"] = "PASS"
    assert "C2" not in dict(summary(document_of(audit)))["How much is left."]


def test_a_predicted_level_is_not_called_that_of_retrained_models(make_standard: Make):
    audit = make_standard()
    for item in audit["comparisons"]:
        if item.get("transform"):
            item |= {"against": "retrained"}
    assert "more than it does on retrained models, at most" in render(audit)
    audit["models"]["references"] = []
    audit["claims"]["C2"]["notes"]["predicted"] = True
    page = render(audit)
    assert "more than is predicted for retrained models, at most" in page
    assert "than predicted for retrained<" in page
    assert "it does on retrained models" not in page
    assert "Advantage over retrained models" not in page


def test_what_retrained_models_gain_is_the_mean_over_them_and_unknown_without(make_standard: Make):
    audit = make_standard()
    found = {item.row.id: item for item in durability.gains(document_of(audit), "Male")["int4"]}
    assert found["recover.probe.adv.lin"].retrained == pytest.approx(0.002)  # 0.613 less 0.611
    audit["metrics"] = [m for m in audit["metrics"] if m["model"] != "reference"]
    assert {item.retrained for item in durability.gains(document_of(audit), "Male")["int4"]} == {None}


def test_the_curve_stands_where_its_figures_are(make_standard: Make):
    few = durability.curve(document_of(make_standard()), "Male")
    assert few is not None
    assert few.sizes == [16, 64, 256]
    assert [item.margin for item in few.known] == [None, 0.03, 0.03]
    point = few.series["after"][1]
    assert point.x == 50.0
    assert point.y == pytest.approx(100 - few.scale.at(0.73))
    assert point.low > point.y > point.high  # percent from the top


def test_the_full_budget_has_its_picture_its_tables_and_a_sentence_each(make_full: Make):
    audit = make_full()
    text = render(audit)
    assert {name: lines(text, name) for name in ("tuned", "staged")} == {"tuned": 1 + 2, "staged": 1 + 6}
    (part,) = durability.sections(document_of(audit))
    assert [item.title for item in part["deep"]] == [
        *("Trained on 256 images", "Trained on 1,024 images", "Stage 1", "Stage 2", "Stage 3"),
    ]
    assert "10; 70; —, 90, —" in text
    said = dict(summary(document_of(audit)))["Whether it lasts."]
    whole = "annotated images, it finds +0.050 AUC more than retrained models do, at most +0.064;"
    assert f"Trained as a whole on 256 {whole}" in said
    audit["comparisons"] = [row for row in audit["comparisons"] if row["id"] != "tune.auc@256"]
    longer = dict(summary(document_of(audit)))["Whether it lasts."]
    assert "Trained as a whole on 1,024 annotated images, it finds" in longer
    assert "at stage 3, a linear probe finds +0.076 advantage more than retrained models do" in said
    # stages are no rows of the attacks on outputs and last features, whose strongest stands on top
    assert {found.layer for _, group in rows.attack_rows(document_of(audit), "Male") for found in group} == {
        None,
        "penultimate",
    }


@pytest.mark.parametrize("alone", ["PASS", "INCONCLUSIVE", "FAIL"])
def test_the_sentence_on_depth_is_of_all_stages_together_unless_a_single_one_fails(
    alone: str, make_full: Make
) -> None:
    audit = make_full()

    def joint(rows: list[dict]) -> list[dict]:
        return [{**row, "layer": "stages"} for row in rows if row["layer"] == "stage2"]

    audit["metrics"] += joint(audit["metrics"])
    audit["comparisons"] += [
        {**row, "diff": -0.02, "upper": 0.01, "verdict": "PASS"} for row in joint(audit["comparisons"])
    ]
    for row in audit["comparisons"]:
        if row["layer"] == "stage3":
            row["verdict"] = alone
    said = dict(summary(document_of(audit)))["Whether it lasts."]
    assert ("At all stages and the last features together, a linear probe finds" in said) is (alone != "FAIL")
    assert ("Below its last features, at stage 3, a linear probe finds" in said) is (alone == "FAIL")
    first = deeper.staged(document_of(audit), "Male")[0]
    assert first.title == "All stages and the last features together"


def test_a_margin_at_all_stages_together_is_said_as_such():
    item = SmallestMargin(0.05, 0.1, "probe.adv.lin", "Male", "stages", None)
    assert margins.of(item) == "Features, linear, at all stages and the last features together (Male)"
    assert margins.of(replace(item, layer="stage2")) == "Features, linear, at stage 2 (Male)"


def test_without_retrained_models_the_full_budget_shows_figures_and_no_verdict(make_full: Make):
    audit = make_full()
    audit["comparisons"] = [c for c in audit["comparisons"] if not c["id"].startswith(("tune", "probe"))]
    assert (
        deeper.closest(deeper.tuned(document_of(audit), "Male"), deeper.staged(document_of(audit), "Male"))
        == []
    )
    text = render(audit)
    table = text[text.index('data-testid="tuned"') :]
    assert table[: table.index("</table>")].count("not judged") == 2


def test_canaries_and_membership_are_two_sentences_each(make_standard: Make):
    audit = make_standard()
    coins, members = memory.canaries(document_of(audit)), memory.membership(document_of(audit))
    assert coins is not None
    assert members is not None
    assert "a coin drew the annotations of 2,000 images" in coins["text"]
    assert "a share of 0.504 ± 0.030 (original: 0.571 ± 0.030)" in coins["text"]
    assert "AUC of 0.521 ± 0.012, on retrained models 0.522 ± 0.002; 0.5 is chance" in members["text"]
    assert "AUC of 0.507 ± 0.012, on retrained models 0.503 ± 0.002; 0.5 is chance" in members["text"]
    judged = {row.id: memory.verdict(document_of(audit), row) for row in members["rows"]}
    assert judged["mia.label.auc"] == ("PASS", "C2: +0.004, at most +0.019; limit 0.050")
    assert judged["mia.sample.auc"] is None


def test_the_widest_gap_is_named_and_the_picture_stays_small(make_standard: Make):
    labels = [f"Label_{at}" for at in range(40)]
    (found,) = groups.groups(document_of(make_standard(labels=labels, forget=labels[:1])))
    assert len(found["table"]) == 39
    assert len(found["marks"]) == groups.MOST_SHOWN
    assert found["left_out"] == 39 - groups.MOST_SHOWN
    changes = [abs(mark.loss) for mark in found["marks"]]
    assert changes == sorted(changes, reverse=True)
    assert "from +0.120 ± 0.030 to +0.154 ± 0.030; retrained models have +0.120 ± 0.010." in found["text"]


@pytest.mark.exhaustive
def test_forty_labels_under_the_standard_budget_stay_small(make_standard: Make):
    labels = [f"Label_{at}" for at in range(40)]
    assert len(render(make_standard(labels=labels, forget=labels[:3])).encode()) < 430_000


def test_many_forgotten_labels_have_smaller_pictures_and_whole_tables(make_standard: Make):
    labels = make_standard()["models"]["after"]["labels"]
    found = groups.groups(
        document_of(make_standard(labels=[*labels, "More", "Still_more"], forget=labels[:7]))
    )
    assert {(len(part["marks"]), len(part["table"])) for part in found} == {(4, 5)}
    assert {
        len(part["shown"]) for part in durability.sections(document_of(make_standard(forget=labels[:3])))
    } == {7}
    for part in durability.sections(document_of(make_standard(forget=labels[:7]))):
        assert [item.transform for item in part["shown"]] == ["prune50", "bn", "retain_ft"]  # gained most
        assert list(part["gains"]) == list(TRANSFORMS)
    labels = [f"Label_{at}" for at in range(40)]
    found = groups.groups(document_of(make_standard(labels=labels, forget=labels[:20])))
    assert {(len(part["marks"]), part["left_out"], len(part["table"])) for part in found} == {(4, 16, 20)}


def test_seven_labels_under_the_full_budget_stay_small(make_full: Make):
    labels = make_full()["models"]["after"]["labels"]
    audit = make_full(forget=labels[:7])
    assert len(render(audit).encode()) < 480_000
    assert {len(part["deep"]) for part in durability.sections(document_of(audit))} == {3}
    assert {len(part["staged"]) for part in durability.sections(document_of(audit))} == {6}


def test_every_figure_that_an_audit_can_hold_is_defined_and_named(make_standard: Make):
    """The names are those of docs/claims.md, so that a new figure without a definition is noticed."""
    table = CLAIMS.read_text("utf-8").split("## Metrics")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    full, unknown, names = "", [], re.findall(r"`([^`]+)`", " ".join(cells))
    for name in names:
        name = name.replace("*", "own.adv").replace("LABEL", "Male").replace("NAME", "lora")
        if name[0] not in "@.":
            full = name
        endings = [f"{full.split('@')[0]}{name}", f"{full.rpartition('.')[0]}{name}"]
        if not any(words.definition(id_) for id_ in (endings if name != full else [full])):
            unknown.append(name)
    assert len(names) > 30
    assert unknown == []
    audit = make_standard()
    assert all(text for _, text in words.defined(document_of(audit)))
    shown = [found for _, group in rows.further(document_of(audit)) for found in group]
    assert shown
    assert [found.id for found in shown if found.name == found.id] == []


def test_attacks_that_only_condemn_have_a_fold_that_says_so(make_audit: Make):
    audit = make_audit()
    assert "Attacks that can only fail a model" not in render(audit)
    for id_, verdict in (("probe.adv.lin@nudged", "FAIL"), ("probe.adv.lsq", "INCONCLUSIVE")):
        plain = {"id": "probe.adv.lin", "label": "Male"}
        model = [m for m in audit["metrics"] if plain.items() <= m.items() and m["model"] != "before"]
        audit["metrics"] += [{**m, "id": id_} for m in model]
        judged = next(c for c in audit["comparisons"] if plain.items() <= c.items())
        audit["comparisons"].append({**judged, "id": id_, "verdict": verdict})
    text = render(audit)
    part = text[text.index('data-testid="condemning"') :]
    part = part[: part.index("</table>")]
    assert part.count("<tr") == 1 + 2
    assert (
        part.count('data-verdict="FAIL"'),
        part.count("does not fail it"),
        part.count("INCONCLUSIVE"),
    ) == (
        1,
        1,
        0,
    )
    assert "Features, linear, nudged images" in part
    assert rows.strongest(document_of(audit), "after") == rows.strongest(document_of(make_audit()), "after")


def test_a_label_that_the_nudged_output_does_not_predict_is_not_shown_as_condemned(make_audit: Make):
    audit = make_audit(forget=["Male", "Young"])
    plain = next(m for m in audit["metrics"] if (m["id"], m["model"]) == ("own.adv", "after"))
    for label, value in (("Male", 0.5), ("Young", 0.02)):
        half = [value - 0.01, value + 0.01]
        audit["metrics"].append({**plain, "id": OWN_PERTURBED.id, "label": label, "value": value, "ci": half})
    audit["claims"]["C1"].update(
        verdict="FAIL", binding=OWN_PERTURBED.id, per_label={"Male": "FAIL", "Young": "PASS"}
    )
    found = {item.row.label: item.condemns for item in condemning(document_of(audit))}
    assert found == {"Male": True, "Young": False}
