"""Measuring a signed run again: the same figures from the same data, differences listed, nothing written."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.attacks.recovery import REPEATED
from unlabel.audit.claims.c2_retrain_equivalent import BLIND, NO_REFERENCE, NOTHING
from unlabel.audit.claims.headline import headline
from unlabel.audit.document.results import Claim
from unlabel.audit.figures import AT_STAGES, RECOVERED, TRANSFORMS, layer_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.cli.verify import lines
from unlabel.core.errors import ModelError
from unlabel.core.files import write_json
from unlabel.core.reading import file_sha256
from unlabel.report.card import write_card
from unlabel.report.page import write_report
from unlabel.statement.again import Figure, measure_again
from unlabel.statement.needed import bounds, margin_of
from unlabel.statement.verdicts import better_signed, contradictions, headline_fault, unborne
from unlabel.statement.verify import Verified
from unlabel.testing import tiny_world, write_folder

Resign = Callable[[Path], None]


def audit_of(run: Path) -> dict[str, Any]:
    """The parsed audit of a run."""
    return json.loads((run / "audit.json").read_text("utf-8"))


def rewrite(run: Path, resign: Resign, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the audit of a run, and signs that."""
    audit = audit_of(run)
    change(audit)
    write_json(run / "audit.json", audit)
    write_report(run)
    write_card(run)
    resign(run)


def test_the_same_images_give_the_same_figures(signed: Path, command) -> None:
    before = {path: file_sha256(path) for path in signed.iterdir()}
    ran = command("verify", signed, "--data", f"folder:{signed.parent / 'photos'}", "--quiet")
    assert ran.code == 0
    many = len(audit_of(signed)["metrics"])
    assert f"{many} figures measured again on the same images, 0 outside their interval" in ran.out
    assert {path: file_sha256(path) for path in signed.iterdir()} == before


def test_a_figure_that_was_made_up_is_listed(signed: Path, resign: Resign, command) -> None:
    def lie(audit: dict[str, Any]) -> None:
        row = next(r for r in audit["metrics"] if (r["id"], r["model"]) == ("probe.adv.lin", "after"))
        row.update(value=-0.5, ci=[-0.6, -0.4])

    rewrite(signed, resign, lie)
    data = f"folder:{signed.parent / 'photos'}"
    ran = command("verify", signed, "--data", data, "--json")
    assert ran.code == 3
    facts = json.loads(ran.out)
    assert [problem["kind"] for problem in facts["problems"]] == ["data"]
    (figure,) = facts["data"]["outside"]
    assert (figure["id"], figure["recorded"], figure["interval"]) == ("probe.adv.lin", -0.5, [-0.6, -0.4])
    assert figure["again"] > 0
    shown = command("verify", signed, "--data", data, "--quiet")
    assert "probe.adv.lin of top (after) is" in shown.out
    assert "NOT as stated" in shown.out


def test_other_images_are_said_to_be_others(signed: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "others", tiny_world(images=160, seed=9).source)
    found = measure_again(signed, audit_of(signed), f"folder:{other}")
    assert found["same_images"] is False
    assert found["compared"] == len(audit_of(signed)["metrics"])
    assert not [figure.name for figure in found["outside"]]  # an honest signer is borne out there, too


def test_models_are_found_beside_the_run_or_where_they_are_named(
    signed: Path, tmp_path: Path, command
) -> None:
    alone = Path(shutil.copytree(signed, tmp_path / "alone" / "less"))
    rewritten = {"before": str(tmp_path / "gone" / "base"), "again": str(tmp_path / "gone" / "again")}
    audit = audit_of(alone)
    audit["models"]["before"]["run"] = rewritten["before"]
    audit["models"]["references"][0]["run"] = rewritten["again"]
    data = f"folder:{signed.parent / 'photos'}"
    with pytest.raises(ModelError, match=r"gone/base, which the audit compared with, is not there.*--before"):
        measure_again(alone, audit, data)
    with pytest.raises(ModelError, match=r"gone/again, .*is not there.*--reference"):
        measure_again(alone, audit, data, before=signed.parent / "base")
    wrong = signed.parent / "again"
    with pytest.raises(ModelError, match="gone/base, which the audit compared with, is not there"):
        measure_again(alone, audit, data, before=wrong)
    shutil.copytree(signed.parent / "base", alone.parent / "base")
    found = measure_again(alone, audit, data, references=[signed.parent / "again"])
    assert found["outside"]  # the rows still carry the paths that were recorded at first
    audit["metrics"] = [
        row | {"run": audit["models"][role]["run"] if role == "before" else row["run"]}
        for row in audit["metrics"]
        if (role := row["model"]) != "reference"
    ]
    assert measure_again(alone, audit, data, references=[signed.parent / "again"])["outside"] == []
    shutil.copy(signed / "model.safetensors", alone.parent / "base" / "model.safetensors")
    with pytest.raises(ModelError, match="has other weights now"):
        measure_again(alone, audit, data, references=[signed.parent / "again"])


def test_figures_that_the_quick_budget_does_not_measure_are_named(signed: Path) -> None:
    audit = audit_of(signed)
    audit["metrics"].append(audit["metrics"][0] | {"id": "few.auc"})
    audit["metrics"].append(audit["metrics"][0] | {"transform": "int4"})  # of an id that is repeated as it is
    audit["options"].update(budget="standard", a_later_option=[1])
    found = measure_again(signed, audit, f"folder:{signed.parent / 'photos'}")
    again = f"{audit['metrics'][0]['id']} after int4"
    assert (found["not_repeated"], found["outside"]) == (sorted(["few.auc", again]), [])


OPTIONS: dict[str, dict[str, Any]] = {
    "a billion trees": {"trees": 10**9},
    "endless resamples": {"resamples": 10**8},
    "epochs of text": {"epochs": "ten"},
    "folds that are true": {"folds": True},
    "alpha above one half": {"alpha": 0.7},
    "a negative margin": {"d_chance": -1},
    "thresholds of text": {"thresholds": {"top": "high"}},
    "a list": {"hidden": [64]},
    "a negative seed": {"seed": -1},
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options_that_no_audit_has_are_refused_before_the_work(what: str, signed: Path) -> None:
    audit = audit_of(signed)
    audit["options"] |= OPTIONS[what]
    with pytest.raises(ModelError, match=r"audit\.json has"):
        measure_again(signed, audit, "folder:nowhere")


def test_measuring_again_needs_data_an_audit_and_files_as_they_were(signed: Path, resign, command) -> None:
    assert "add --data SOURCE" in command("verify", signed, "--before", signed).err
    base = signed.parent / "base"
    resign(base)
    ran = command("verify", base, "--data", "folder:nowhere")
    assert (ran.code, "has no audit" in ran.err) == (2, True)
    assert command("verify", signed, "--data", "folder:nowhere").code == 2
    (signed / "log.jsonl").write_text("changed")
    ran = command("verify", signed, "--data", "folder:nowhere")
    assert ran.code == 3
    assert "not measured again" in ran.out


@pytest.mark.parametrize(
    ("recorded", "interval", "again", "agrees"),
    [
        (0.5, (0.4, 0.6), 0.6, True),
        (0.5, (0.4, 0.6), 0.6000001, True),  # six digits were written
        (0.5, (0.4, 0.6), 0.61, False),
        (0.5, None, 0.5, True),
        (0.5, None, 0.501, False),
        (0.0, (0.0, 0.0), 0.0, True),
        (0.0, (0.0, 0.0), 1e-4, False),
        (0.5, (0.4, 0.6), None, False),
    ],
)
def test_agreement_is_lying_in_the_interval(recorded, interval, again, agrees) -> None:
    assert Figure("a", None, "after", None, None, "run", recorded, interval, again).agrees is agrees


@pytest.mark.parametrize(
    ("interval", "now", "again", "many", "agrees"),
    [
        ((0.4, 0.6), (0.41, 0.59), 0.5, 0, True),
        ((0.3, 0.7), (0.42, 0.58), 0.5, 0, False),  # the signer claims less than was measured
        ((0.4, 0.6), (0.4, 0.6), 0.64, 1, True),  # two samples: the root of two times .1
        ((0.4, 0.6), (0.4, 0.6), 0.65, 1, False),
        ((0.4, 0.6), (0.4, 0.6), 0.7, 50, True),  # 3.29 standard errors, of fifty figures
        ((0.4, 0.6), (0.4, 0.6), 0.75, 50, False),
        (None, None, 0.9, 50, True),
    ],
)
def test_what_agrees_of_wide_intervals_and_on_other_images(interval, now, again, many, agrees) -> None:
    figure = Figure("a", None, "after", None, None, "run", 0.5, interval, again, now, many)
    assert figure.agrees is agrees


def test_an_interval_that_was_widened_is_a_problem(signed: Path, resign: Resign, command) -> None:
    def widen(audit: dict[str, Any]) -> None:
        row = next(r for r in audit["metrics"] if (r["id"], r["model"]) == ("probe.adv.lin", "after"))
        row["ci"] = [row["ci"][0] - 0.2, row["ci"][1] + 0.2]

    rewrite(signed, resign, widen)
    ran = command("verify", signed, "--data", f"folder:{signed.parent / 'photos'}", "--quiet")
    assert ran.code == 3
    assert "probe.adv.lin of top (after) is" in ran.out


def say(name: str, verdict: str) -> Callable[[dict[str, Any]], object]:
    """A change of one claim's verdict; the headline follows by the rule."""

    def change(audit: dict[str, Any]) -> None:
        audit["claims"][name]["verdict"] = verdict
        claims = {claim: Claim(**content) for claim, content in audit["claims"].items()}
        references = len(audit["models"]["references"])
        audit["headline"] = headline(claims, valid=audit["valid"], references=references)

    return change


@pytest.mark.parametrize(
    ("name", "verdict"), [("C1", "FAIL"), ("C2", "PASS"), ("C3", "PASS"), ("C4", "PASS"), ("C5", "PASS")]
)
def test_a_verdict_that_was_made_up_is_a_problem(
    name: str, verdict: str, signed: Path, resign: Resign, command
) -> None:
    true = audit_of(signed)["claims"][name]["verdict"]
    assert true != verdict
    rewrite(signed, resign, say(name, verdict))
    ran = command("verify", signed, "--data", f"folder:{signed.parent / 'photos'}", "--quiet")
    assert ran.code == 3
    if "PASS, but" in ran.out:  # its own figures say otherwise, so nothing is measured again
        assert f"audit            {name}: PASS, but" in ran.out
    else:
        assert f"{name}: {verdict} was signed; {true} now" in ran.out
        assert "0 outside their interval" in ran.out


def test_a_made_up_headline_is_a_problem_without_data_too(signed: Path, resign: Resign, command) -> None:
    true = audit_of(signed)["headline"]
    rewrite(signed, resign, lambda audit: audit.update(headline="UNLEARNED"))
    ran = command("verify", signed)
    assert ran.code == 3
    assert f"headline: is UNLEARNED, but its claims give {true}" in ran.out


def unlearned(audit: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    """Makes an audit say that C2 PASSes, with all that follows, and changes it."""
    audit.update(valid=True, invalid_because=[])
    audit["claims"]["C2"].update(verdict="PASS", per_label={"top": "PASS"})
    audit["claims"]["C2"]["notes"].update(rare=[], finding=None, head_zero="FAIL")
    audit["controls"]["decoys"]["top"]["head_zero"] = "FAIL"
    deciding = [each for each in audit["comparisons"] if each["transform"] is None]
    for each in deciding:
        each.update(upper=0.0, diff=-0.1, lower=-0.2)
    change(audit)
    claims = {name: Claim(**claim) for name, claim in audit["claims"].items()}
    audit["headline"] = headline(claims, valid=True, references=len(audit["models"]["references"]))


def probe(**more: Any) -> Callable[[dict[str, Any]], None]:
    """Changes the linear probe's comparison."""

    def change(audit: dict[str, Any]) -> None:
        next(row for row in audit["comparisons"] if row["id"] == "probe.adv.lin").update(more)

    return change


def without(audit: dict[str, Any]) -> None:
    """Takes the linear probe out of the comparisons."""
    audit["comparisons"] = [row for row in audit["comparisons"] if row["id"] != "probe.adv.lin"]


def in_the_mean(audit: dict[str, Any]) -> None:
    """Adds means over labels, of which there is one, and leaves the label's own tests as they were."""
    audit["comparisons"] += [row | {"label": None} for row in audit["comparisons"]]
    probe(upper=0.2)(audit)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (probe(upper=0.09), None),
        (probe(upper=0.11), "C2: PASS, but probe.adv.lin is at most 0.11, where less than 0.1 is allowed"),
        (probe(upper=0.2, margin=0.5), "probe.adv.lin has the margin 0.5, and its option says 0.1"),
        (probe(upper=0.2, margin=0.55), "probe.adv.lin has the margin 0.55, and its option says 0.1"),
        (probe(id="my.attack", margin=0.5), "my.attack has the margin 0.5, which is none of the options"),
        (probe(upper=0.2, layer="stage9"), "C2: PASS, but probe.adv.lin of top, penultimate is not among"),
        (without, "C2: PASS, but probe.adv.lin of top, penultimate is not among the comparisons"),
        (in_the_mean, "C2: PASS, but probe.adv.lin is at most 0.2, where less than 0.1 is allowed"),
        (
            lambda audit: audit["claims"]["C2"]["notes"].update(rare=["top"]),
            "C2: PASS, but too few images show, or lack, top, as its notes say",
        ),
        (
            lambda audit: audit["claims"]["C2"]["notes"].update(finding=BLIND),
            "C2: PASS, but its notes say: cannot discriminate",
        ),
        (lambda audit: audit["options"].pop("d_reference"), "claims: a figure or an option that a PASS"),
    ],
)
def test_a_pass_that_the_recorded_tests_do_not_allow_is_a_problem_without_data(
    signed: Path, resign: Resign, command, change, said
) -> None:
    rewrite(signed, resign, lambda audit: unlearned(audit, change))
    ran = command("verify", signed)
    assert ran.code == (3 if said else 0), ran.out
    assert said is None or said in ran.out


def test_each_test_has_the_margin_of_its_own_option() -> None:
    options = AuditOptions().to_json()
    for name, margin in (("few.auc@64", 0.03), ("tune.auc@256", 0.03), ("probe.adv.lin", 0.1)):
        assert margin_of({"id": name, "margin": 9.0}, options) == margin


@pytest.mark.parametrize(
    ("beyond", "layers", "said"),
    [
        ("stage1", ["stage1", "stages"], False),  # a single stage can only FAIL C4
        ("stages", ["stage1", "stages"], True),
        ("stage1", ["stage1"], True),  # audits of earlier versions need every stage
    ],
)
def test_a_pass_of_c4_needs_all_stages_together_within_the_margin(beyond, layers, said) -> None:
    row = {"id": "probe.adv.lin", "label": "top", "margin": 0.1, "transform": None}
    rows = [{**row, "layer": layer, "upper": 0.2 if layer == beyond else 0.0} for layer in layers]
    assert any(upper > margin for _, upper, margin in bounds("C4", {"comparisons": rows})) is said


def durable() -> dict[str, Any]:
    """A made-up full audit whose C4 PASSes, with every test that it needs."""
    places = [(RECOVERED.of(figure), name) for name in TRANSFORMS for figure in REPEATED]
    tests = [(figure, layer_of(figure.removeprefix(RECOVERED.id)), name, 0.05) for figure, name in places]
    tests += [(f"few.auc@{n}", "penultimate", None, 0.03) for n in (64, 256)]
    tests += [("tune.auc@256", None, None, 0.03)]
    tests += [
        (figure, "stages", None, margin) for figure, margin in zip(AT_STAGES, (0.1, 0.075), strict=True)
    ]
    rows = [
        {"id": id_, "label": "top", "layer": layer, "transform": name, "margin": margin, "upper": 0.01}
        | {"against": "retrained" if name is None else "itself", "verdict": "PASS"}
        for id_, layer, name, margin in tests
    ]
    metrics = [{**row, "model": "after"} for row in rows]
    metrics += [metrics[-1] | {"layer": "stage1"}, metrics[0] | {"id": "few.auc@16", "transform": None}]
    return {
        "options": AuditOptions(budget="full").to_json(),
        "request": {"labels": ["top"], "forgotten_earlier": []},
        "comparisons": rows,
        "metrics": metrics,
        "claims": {
            name: {"verdict": verdict, "provisional": False, "per_label": {}, "notes": {"not_applicable": []}}
            for name, verdict in (("C2", "NOT_EVALUATED"), ("C4", "PASS"), ("C5", "NOT_EVALUATED"))
        },
        "models": {"before": {}, "references": [{"sha256": sha} for sha in "abc"]},
        "valid": False,
    }


def test_a_pass_of_c4_needs_every_test() -> None:
    assert unborne(durable()) == []
    for at, row in enumerate(durable()["comparisons"]):
        audit = durable()
        del audit["comparisons"][at]
        ((claim, what),) = unborne(audit)
        assert (claim, what.startswith(f"PASS, but {row['id']} of top")) == ("C4", True), what


@pytest.mark.parametrize(("lacks", "right"), [("bn", True), ("fp16", True), ("int8", False)])
def test_a_transform_may_lack_only_where_a_model_cannot_have_it(lacks: str, right: bool) -> None:
    audit = durable()
    audit["comparisons"] = [row for row in audit["comparisons"] if row["transform"] != lacks]
    audit["claims"]["C4"]["notes"]["not_applicable"] = [lacks]
    assert (unborne(audit) == []) is right


def test_c5_is_held_to_the_margins_of_the_options() -> None:
    row = {"value": 0.02, "upper": 0.03, "margin": 0.04}
    audit = durable()
    audit["claims"]["C5"] |= {"verdict": "PASS", "notes": {"against_original": {"macro_auc_loss": row}}}
    assert unborne(audit) == [
        ("C5", "PASS, but macro auc loss is at most 0.03, where less than 0.01 is allowed")
    ]


@pytest.mark.parametrize(
    ("signed", "given", "right"),
    [
        ("RETRAIN-EQUIVALENT, USEFULNESS OPEN", {}, True),
        ("INCONCLUSIVE", {}, True),  # as said before there was that headline
        ("UNLEARNED", {}, False),
        ("DISABLED ONLY", {"C2": "FAIL"}, True),
        ("DISABLED ONLY (provisional)", {"C2": "FAIL"}, True),  # a mark by another claim, as before
        ("RETRAIN-EQUIVALENT, USEFULNESS OPEN (provisional)", {}, False),
        ("INCONCLUSIVE", {"C2": "FAIL"}, False),
    ],
)
def test_a_headline_of_an_earlier_version_that_says_no_more_still_holds(signed, given, right) -> None:
    verdicts = {"C1": "PASS", "C2": "PASS", "C3": "FAIL", "C4": "PASS", "C5": "INCONCLUSIVE"} | given
    claims = {name: {"verdict": each, "sentence": ""} for name, each in verdicts.items()}
    claims["C6"] = {"verdict": "NOT_EVALUATED", "sentence": ""}
    audit = {"claims": claims, "models": {"references": [{}] * 3}, "valid": True, "headline": signed}
    assert (headline_fault(audit) is None) is right


def test_an_audit_that_says_two_things_is_refused(signed: Path, resign: Resign, command) -> None:
    """Of two headlines, one program reads the first and another one the last."""
    text = (signed / "audit.json").read_text("utf-8").lstrip()
    (signed / "audit.json").write_text('{"headline": "UNLEARNED",' + text[1:])
    ran = command("sign", signed, "--key", signed.parent / "ada", "--force")
    assert (ran.code, "'headline' is there twice" in ran.err) == (2, True), ran


def test_both_headlines_are_printed(signed: Path, command) -> None:
    true = audit_of(signed)["headline"]
    ran = command("verify", signed, "--data", f"folder:{signed.parent / 'photos'}", "--quiet")
    assert f"headline         {true}\n" in ran.out
    assert f"headline now     {true}, by the quick budget\n" in ran.out


def test_a_lower_headline_of_the_quick_budget_says_why() -> None:
    data = {
        "same_images": True, "compared": 3, "outside": [], "headline": "INCONCLUSIVE", "version": "1",
        "not_repeated": [], "not_judged": ["C4"], "contradicted": [],
    }  # fmt: skip
    predicate = {"signer": "Ada", "issued_at": "", "headline": "UNLEARNED", "tool": {"version": "1"}}
    found = Verified(Path("statement"), (), True, data=data, predicate=predicate)
    [line] = [line for line in lines(found) if line.startswith("headline now")]
    assert line.endswith(
        "INCONCLUSIVE, by the quick budget; it does not judge C4, so its headline may say less than the"
        " signed one"
    )
    for other in (
        {"not_judged": []},
        {"headline": "UNLEARNED"},
        {"contradicted": [{"where": "C2", "what": "x"}]},
    ):
        [line] = [
            line for line in lines(replace(found, data=data | other)) if line.startswith("headline now")
        ]
        assert line.endswith("by the quick budget")


def test_figures_that_the_record_lacks_are_a_problem(signed: Path, resign: Resign, command) -> None:
    data = f"folder:{signed.parent / 'photos'}"

    def drop(audit: dict[str, Any]) -> None:
        audit["metrics"] = [
            row for row in audit["metrics"] if (row["id"], row["model"]) != ("probe.adv.lin", "after")
        ]

        probe = next(row for row in audit["metrics"] if row["id"] == "probe.adv.mlp")
        beside = probe | {"id": "probe.adv.lin", "model": "after"}  # what is there is of other features
        audit["metrics"] += [beside | {"layer": "stage1"}, beside | {"transform": "int8"}]

    rewrite(signed, resign, drop)
    ran = command("verify", signed, "--data", data, "--quiet")
    assert ran.code == 3
    assert "probe.adv.lin of top (after) was measured now and is not recorded" in ran.out
    rewrite(signed, resign, lambda audit: audit.update(metrics=[]))
    ran = command("verify", signed, "--data", data, "--quiet")
    assert "C1: PASS, but own.sadv of top is not among the figures" in ran.out
    rewrite(signed, resign, say("C1", "INCONCLUSIVE"))
    ran = command("verify", signed, "--data", data, "--quiet")
    assert ran.code == 3
    assert "no figure was compared" in ran.out


def test_margins_that_are_not_the_published_ones_are_named(signed: Path, resign: Resign, command) -> None:
    assert "margin " not in command("verify", signed).out

    def widen(audit: dict[str, Any]) -> None:
        audit["options"].update(d_reference=0.5)
        for row in audit["comparisons"]:
            row["margin"] = 0.5 if row["margin"] == 0.1 else row["margin"]

    rewrite(signed, resign, widen)
    ran = command("verify", signed)
    assert (ran.code, "margin           d_reference 0.5; published: 0.1\n" in ran.out) == (0, True)
    facts = json.loads(command("verify", signed, "--json").out)
    assert facts["margins"] == {"d_reference": {"signed": 0.5, "published": 0.1}}


def test_attackers_reported_beside_a_larger_budget_are_no_obstacle(signed: Path) -> None:
    audit = audit_of(signed)
    audit["options"].update(budget="standard", attackers=["curve"], attacked=[256], curve=[16, 64])
    assert measure_again(signed, audit, f"folder:{signed.parent / 'photos'}")["outside"] == []


def audits(was: str, now: str, *, budget: str = "quick", diff: float = 0.0, **notes: Any) -> tuple[Any, Any]:
    """Two made-up audits that differ in the verdict of C2."""

    def one(verdict: str, budget: str) -> dict[str, Any]:
        claim = {"verdict": "PASS", "provisional": False, "sentence": "Why.", "notes": {}}
        claims = {f"C{n}": claim for n in (1, 2, 3, 5)} | {"C2": claim | {"verdict": verdict, "notes": notes}}
        row = {"id": "probe.adv.lin", "label": "top", "diff": diff, "margin": 0.1}
        options = {"budget": budget, "d_chance": 0.1, "d_erased_bits": 0.05}
        return {
            "valid": True,
            "claims": claims,
            "comparisons": [row, row | {"id": "stolen.adv.lin", "diff": 0.3}],
            "metrics": [],
            "options": options,
            "models": {},
        }

    return one(was, budget), one(now, "quick")


@pytest.mark.parametrize(
    ("was", "now", "more", "exact", "wrong"),
    [
        ("PASS", "FAIL", {}, False, True),
        ("FAIL", "PASS", {}, False, True),
        ("PASS", "INCONCLUSIVE", {"diff": 0.05}, True, True),
        ("PASS", "INCONCLUSIVE", {"diff": 0.05}, False, False),  # another machine: at its margin
        ("PASS", "INCONCLUSIVE", {"diff": 0.15}, False, True),  # there too: the figure is above the margin
        ("INCONCLUSIVE", "FAIL", {}, False, False),
        ("INCONCLUSIVE", "FAIL", {}, True, True),
        ("FAIL", "PASS", {"budget": "standard"}, True, False),  # found by what that budget adds
        ("PASS", "INCONCLUSIVE", {"budget": "standard", "finding": BLIND}, True, False),
        ("PASS", "INCONCLUSIVE", {"budget": "standard"}, True, True),
        ("PASS", "NOT_EVALUATED", {"finding": NO_REFERENCE}, False, True),
        ("PASS", "NOT_EVALUATED", {"finding": NOTHING}, False, False),
    ],
)
def test_verdicts_that_cannot_both_be_right(was, now, more, exact, wrong) -> None:
    found = [where for where, _ in contradictions(*audits(was, now, **more), exact=exact)]
    assert found == (["C2"] if wrong else [])


@pytest.mark.parametrize(
    ("signed", "now", "wrong"),
    [
        (0.097, 0.163, True),  # what a forger wrote, and what the data give
        (0.099, 0.102, False),  # another machine: rounding
        (0.05, 0.09, False),  # both below the margin
    ],
)
def test_a_bound_that_is_signed_smaller_than_the_same_images_give_is_a_fault(signed, now, wrong) -> None:
    def audit(upper: float, *limits: str) -> dict[str, Any]:
        row = {
            "id": "probe.adv.lin",
            "label": "top",
            "diff": 0.02,
            "upper": upper,
            "margin": 0.1,
            "verdict": "PASS",
        }
        return {"comparisons": [row], "limitations": [*limits], "options": {"budget": "quick"}}

    assert [where for where, _ in better_signed(audit(signed), audit(now))] == ["comparisons"] * wrong
    said = audit(0.05, "The check uses 180 images; 5,000 are advised.")
    other = audit(0.05, "The check uses 181 images; 5,000 are advised.")
    assert list(better_signed(said, other)) == []
    assert [where for where, _ in better_signed(audit(0.05), other)] == ["limitations"]


def test_a_predicted_level_is_not_repeated_and_says_nothing_against_the_signer() -> None:
    signed, again = audits("PASS", "NOT_EVALUATED", finding=NO_REFERENCE)
    signed["models"]["shorts"] = [{}]
    assert list(contradictions(signed, again, exact=True)) == []


def test_an_invalid_or_provisional_repeat_is_a_problem() -> None:
    signed, again = audits("PASS", "PASS")
    again |= {"valid": False, "invalid_because": ["The splits overlap."]}
    again["claims"]["C2"] |= {"provisional": True}
    assert dict(contradictions(signed, again, exact=False)) == {
        "valid": "signed as valid; INVALID now: The splits overlap.",
        "C2": "PASS was signed; it is provisional now",
    }
