"""The plan of an audit: its numbers follow from counts, and reading it costs no attack."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.plan.trainings import attackers_plan
from unlabel.audit.plan.whole import (
    design_effect,
    images_for,
    label_effect,
    lines,
    plan_audit,
    references_for,
)
from unlabel.audit.setup import open_request
from unlabel.core import engine
from unlabel.testing import tiny_world


def test_published_sizes_come_out():
    # two-sided equivalence at power .8, a label that half have: 571, 2,284 and 14,275 of each kind
    for margin, kind in ((0.10, 571), (0.05, 2284), (0.02, 14275)):
        assert images_for(margin, 0.5, both_sides=True) == pytest.approx(2 * kind, rel=2e-3)


def test_the_planned_size_has_the_error_that_it_promises():
    for share in (0.5, 0.1):
        n = images_for(0.05, share)
        error = 2 * ((n + 1) / (12 * share * (1 - share) * n**2)) ** 0.5
        assert (norm.ppf(0.95) + norm.ppf(0.8)) * error == pytest.approx(0.05, rel=1e-3)


def test_rare_labels_people_and_small_margins_cost_images_and_references():
    assert images_for(0.1, 0.02) > 10 * images_for(0.1, 0.5)
    assert images_for(0.1, 0.5, factor=4.0) == pytest.approx(4 * images_for(0.1, 0.5), rel=0.01)
    assert design_effect(tiny_world().source.test.cluster) == 1.5  # two images of each person
    target, own = (np.arange(5200) < 200).astype(np.int8), np.arange(5200)
    assert label_effect(target, own) == 1.0
    one = np.where(own < 181, -1, own)  # of 200 images that have the label, one person has 181
    assert label_effect(target, one) > 70
    assert design_effect(one) < 5  # among all images it shows less
    assert references_for(0.10) == 3
    assert references_for(0.03) > 3


def test_a_plan_is_made_before_anything_is_forgotten(base):
    case = open_request(["top"], base, [], engine.start(accelerator="cpu"), None)
    plan = plan_audit(case, AuditOptions(), 0)
    claims = plan["labels"]["top"]["claims"]
    assert set(claims) == {"C1", "C2", "C3", "C4", "C5", "C6"}
    assert not any(claim["enough"] for claim in claims.values())  # 24 test images
    assert plan["references"] == {"given": 0, "needed": max(claim["references"] for claim in claims.values())}
    assert plan["seconds"]["references"] > 0
    assert plan["seconds"]["reading"]["standard"] > plan["seconds"]["reading"]["quick"]


def test_the_command_prints_the_plan(command, base):
    ran = command("audit", base, "--plan", "--labels", "top", "--quiet")
    assert ran.code == 0
    assert "C4 may lack: needs at most" in ran.out
    assert "1 retrained model (0 given)" in ran.out
    assert "no --reference-budget below 1 is enough" in ran.out  # too few steps for any
    assert "C4 full: the probe split has too few annotated images" in ran.out
    assert "test and probe images have it" in ran.out
    ran = command("audit", base, "--plan", "--labels", "top", "--json", "--quiet")
    top = json.loads(ran.out)["labels"]["top"]
    assert top["crossed"]  # 24 test images are few: the 24 probe images are judged as well
    assert top["images"] == 48
    assert "needs either" in command("audit", base, "--plan").err
    assert "--before BEFORE" in command("audit", base).err


def test_the_plan_says_the_least_budget_that_leaves_enough_steps(base):
    case = open_request(["top"], base, [], engine.start(accelerator="cpu"), None)
    plan = case.original.record.blueprint
    assert plan is not None
    longer = replace(plan, recipe=replace(plan.recipe, epochs=300 * plan.recipe.epochs))
    record = replace(case.original.record, blueprint=longer)
    found = plan_audit(replace(case, original=replace(case.original, record=record)), AuditOptions(), 0)
    least = found["reference_budget"]
    steps = longer.recipe.steps(len(case.source.train), longer.batch_size)
    assert 6 * 29 / steps < least <= 6 * 29 / steps + 0.01  # a part of a step is a step: more than 29 are 30
    assert f"a prediction: --reference-budget {least:.2f} or more" in "\n".join(lines(found))
    few = plan_audit(case, AuditOptions(), 0)
    assert (few["reference_budget"], few["predictable"]) == (None, True)
    assert "no --reference-budget below 1 is enough" in "\n".join(lines(few))


def test_judging_both_sets_is_planned_with_larger_errors_and_without_c5(base):
    case = open_request(["top"], base, [], engine.start(accelerator="cpu"), None)
    both, alone = (plan_audit(case, AuditOptions(cross_fit=way), 0)["labels"]["top"] for way in (True, False))
    assert (both["images"], alone["images"]) == (48, 24)
    assert both["claims"]["C2"]["images"] > alone["claims"]["C2"]["images"]
    assert both["claims"]["C5"] == alone["claims"]["C5"]


def test_attackers_are_planned_by_what_the_audit_would_train():
    options = AuditOptions(budget="standard", attackers=("all",))
    target = np.repeat([1, 0], [900, 2100]).astype(np.int8)
    rows = {row["attacker"]: row for row in attackers_plan({"top": target}, 5, (3000, 5000), 1000.0, options)}
    assert list(rows) == ["adam-100", *options.asked]
    first = rows["adam-100"]  # 3 draws at 3 rates and 3 at the best; 5 models
    assert (first["trainings"], first["in_full"]) == (60, 60)
    assert rows["upper-half"]["trainings"] == 45
    assert rows["curve"]["images"] == [16, 64, 1024, 1200]  # 256 is the first attacker's
    assert (rows["curve"]["trainings"], rows["curve"]["in_full"]) == (240, 60)
    assert rows["positions"]["reads"] == 2 * 5 * 8000
    tangent = rows["tangent"]  # gradients of 256 images, and 3,000 read before and after a step
    assert (tangent["trainings"], tangent["reads"]) == (0, 5 * 3 * (3 * 256 + 2 * 3000))
    assert (rows["prototypes"]["images"], rows["prototypes"]["reads"]) == ([2, 10, 20], 0)
    least = 5 * 12 * 100 * 64 / 1000  # seconds of the steps alone
    assert least < rows["sgd-momentum"]["seconds"] < 2 * least
    assert rows["adam-1000"]["seconds"] > 4 * rows["sgd-momentum"]["seconds"]
    assert rows["distilled"]["seconds"] > rows["upper-half"]["seconds"] / 3
    alone = AuditOptions(budget="standard", attackers=("curve",))
    (row,) = attackers_plan({"top": target}, 5, (3000, 5000), None, alone)
    assert (row["images"], row["seconds"]) == ([16, 64, 256, 1024, 1200], None)


def test_attackers_are_planned_on_as_many_images_as_there_are():
    options = AuditOptions(budget="standard", attackers=("lora", "curve"))
    few, none = (np.repeat([1, 0], [n, 1000]).astype(np.int8) for n in (138, 40))
    rows = attackers_plan({"few": few, "none": none}, 5, (1140, 2000), 1000.0, options)
    assert [(row["label"], row["attacker"], row["images"]) for row in rows] == [
        ("few", "adam-100", [212]), ("few", "lora", [212]), ("few", "curve", [16, 64, 184]),
        ("none", "adam-100", []), ("none", "lora", []), ("none", "curve", [16]),
    ]  # fmt: skip


def test_the_command_plans_attackers(command, base):
    ran = command("audit", base, "--plan", "--labels", "top", "--attackers", "lora,positions", "--quiet")
    assert ran.code == 0
    assert "attackers beside C4, of all models:" in ran.out
    assert "top lora: nothing: the probe split has too few annotated images" in ran.out
    assert "images read at their stages, about" in ran.out
    ran = command("audit", base, "--plan", "--labels", "top", "--attackers", "curve", "--json", "--quiet")
    assert [row["attacker"] for row in json.loads(ran.out)["attackers"]] == ["curve"]
    assert "attackers" not in json.loads(
        command("audit", base, "--plan", "--labels", "top", "--json", "--quiet").out
    )
    assert (
        "no attacker 'zzz'" in command("audit", base, "--plan", "--labels", "top", "--attackers", "zzz").err
    )


def test_forget_and_the_plan_tell_of_data_that_an_audit_refuses(command, base, photos, tmp_path):
    """Of the probe images, three have the label."""
    data = shutil.copytree(photos, tmp_path / "photos")
    meta = list(csv.DictReader((data / "meta.csv").read_text().splitlines()))
    probe = {row["image_id"] for row in meta if row["split"] == "val"}
    rows = list(csv.DictReader((data / "attributes.csv").read_text().splitlines()))
    present = [row for row in rows if row["image_id"] in probe and row["top"] == "1"]
    assert len(present) > 3
    for row in present[3:]:
        row["top"] = "-1"
    with (data / "attributes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    said = "label 'top' is present in 3 images of"
    given = ("--data", f"folder:{data}", "--quiet")
    ran = command("forget", "head-removal", base, "--labels", "top", "--out", "less", *given)
    assert ran.code == 0
    assert f"these data are not enough to measure how far: {said}" in ran.out
    assert "unlabel audit" not in ran.out
    assert said in json.loads(Path("less/unlabel.json").read_text())["too_few_to_audit"]
    ran = command("audit", "less", "--before", base, "--plan", *given)
    assert f"an audit is refused: {said}" in ran.out
    assert said in command("audit", "less", "--before", base, *given).err
    ran = command("forget", "head-removal", base, "--labels", "top", "--out", "more", "--quiet")
    assert "to measure how far: unlabel audit" in ran.out
    assert "too_few_to_audit" not in json.loads(Path("more/unlabel.json").read_text())
    plan = json.loads(command("audit", "more", "--before", base, "--plan", "--json", "--quiet").out)
    assert plan["labels"]["top"]["too_few"] is None
