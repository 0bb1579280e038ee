"""Cells: equal to `unlabel forget` and `unlabel audit`, kept, found again, never reused wrongly."""

import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from unlabel.audit.attacks import evidence
from unlabel.audit.document.results import Audit, Claim, Comparison
from unlabel.audit.figures import FIGURES, LEAST_SQUARES, judged_by
from unlabel.audit.run.folders import audit_run
from unlabel.compare import run_cell as work
from unlabel.compare.cells import Job
from unlabel.compare.jobs import resolved
from unlabel.compare.run_cell import judged
from unlabel.core import engine
from unlabel.core.errors import Diverged, LabelMismatch, ModelError, OptionError, UnknownLabel, UnlabelError
from unlabel.core.recipe import Recipe
from unlabel.data import load
from unlabel.forget.run import forget_run
from unlabel.runs.folder import load_run
from unlabel.testing import differing, tiny_world, write_folder
from unlabel.training.run import train_run

SHORT = Job("confusion", {"steps": 4})
ELSEWHERE = ("others.adv.gbt", "probe.adv.lin", "probe.adv.mlp")
# attacks that only condemn: every audit makes them, but no figure of the models in common needs them
CONDEMN = {item.id for item in FIGURES if item.condemning}


@pytest.fixture
def forgets(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts forgetting by method, from now on."""
    seen: Counter[str] = Counter()
    honest = work.forget_labels

    def spy(*rest, method, **more):
        seen[method] += 1
        return honest(*rest, method=method, **more)

    monkeypatch.setattr(work, "forget_labels", spy)
    return seen


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts forgetting by method, which fails at once: for tests of which cell it would be."""
    seen: Counter[str] = Counter()

    def diverge(*rest, method, **more):
        seen[method] += 1
        raise Diverged("the loss became NaN at step 1")

    monkeypatch.setattr(work, "forget_labels", diverge)
    return seen


def test_a_cell_is_forget_and_audit(made, compare, where, tiny, tmp_path) -> None:
    """The same figures and verdicts, to the digit, as the two commands give."""
    cell = compare(replace(SHORT, seed=3)).cells[0]
    forget_run("confusion", made.base, ["top"], tmp_path / "less", where.with_seed(3), steps=4)
    audit = audit_run(tmp_path / "less", made.base, made.references, where, options=tiny).to_json()
    after = [row for row in audit["metrics"] if row["model"] == "after"]
    expected = {(row["id"], row["label"]): (row["value"], row["ci"], row["n"]) for row in after}
    found = {(row["id"], row["label"]): (row["value"], row["ci"], row["n"]) for row in cell.record["figures"]}
    assert found == {key: row for key, row in expected.items() if not key[0].startswith("util.")}
    assert len(found) == 26
    assert cell.record["utility"]["E"]["macro"]["value"] == expected["util.auc.macro", None][0]
    assert cell.record["utility"]["E"]["labels"]["bottom"]["value"] == expected["util.auc", "bottom"][0]
    assert cell.record["headline"] == audit["headline"]
    for name, claim in cell.record["claims"].items():
        whole = audit["claims"][name]
        assert (claim["verdict"], claim["sentence"]) == (whole["verdict"], whole["sentence"])
    largest = max(row["diff"] / row["margin"] for row in audit["comparisons"] if row["id"] in judged_by("C2"))
    assert cell.record["c2"]["excess"] == pytest.approx(largest, rel=1e-4)
    assert cell.record["c5"] == audit["claims"]["C5"]["notes"]["against_retrained"]
    assert (cell.record["cost"]["steps"], cell.record["cost"]["images_processed"]) == (4, 64)


def test_attacks_that_can_only_condemn_are_not_in_the_excess() -> None:
    """They are among the rows; a PASS of C2 does not rest on them."""

    def row(id_: str, diff: float) -> Comparison:
        return Comparison(id_, "top", diff, diff - 0.02, diff + 0.02, 0.1, "INCONCLUSIVE")

    claims = {f"C{n}": Claim("INCONCLUSIVE", "Why.", notes={"against_original": {}}) for n in range(1, 7)}
    audit = cast(
        Audit,
        SimpleNamespace(
            comparisons=(row("probe.adv.lin", 0.01), row(LEAST_SQUARES.id, 0.09)),
            claims=claims,
            headline="INCONCLUSIVE",
            valid=True,
            invalid_because=(),
        ),
    )
    found = judged(audit)["c2"]
    assert (found["excess"], found["figure"], found["upper"]) == (pytest.approx(0.1), "probe.adv.lin", 0.3)
    assert [item["id"] for item in found["rows"]] == ["probe.adv.lin", LEAST_SQUARES.id]


def test_the_original_and_the_references_read_as_in_an_audit(made, compare, where, tiny, tmp_path) -> None:
    cells = compare(SHORT)
    forget_run("confusion", made.base, ["top"], tmp_path / "less", where, steps=4)
    audit = audit_run(tmp_path / "less", made.base, made.references, where, options=tiny).to_json()
    for record in (cells.before, *cells.references):
        rows = [row for row in audit["metrics"] if row["run"] == record["run"]]
        figures = {row["id"]: row["value"] for row in record["figures"]}
        decide = [row for row in rows if not row["id"].startswith("util.") and row["id"] not in CONDEMN]
        assert figures == {row["id"]: row["value"] for row in decide}
        assert figures["probe.adv.mlp"] is not None
        assert record["cost"]["images_processed"] == 720
    assert [row["id"] for row in cells.floor] == ["floor.adv"]
    assert [record["seed"] for record in cells.references] == [1, 2]


def test_attacks_on_shared_models_are_made_once(compare, monkeypatch, tmp_path) -> None:
    seen: Counter[str] = Counter()
    honest = evidence.read_features

    def spy(probe, test, question, options):
        seen["features"] += 1
        return honest(probe, test, question, options)

    monkeypatch.setattr(evidence, "read_features", spy)
    compare(SHORT, replace(SHORT, seed=1))
    assert seen["features"] == 3 + 2  # the original and two references, then each unlearned model
    compare(replace(SHORT, seed=2))
    assert seen["features"] == 3 + 3
    compare(replace(SHORT, seed=2), folder=tmp_path / "other")
    assert seen["features"] == 3 + 3 + 4


def test_finished_cells_are_found_again(compare, forgets) -> None:
    first = compare(SHORT, Job("head-removal"))
    content = [cell.file.read_bytes() for cell in first.cells]
    again = compare(Job("head-removal"), SHORT, replace(SHORT, seed=1))
    assert forgets == {"confusion": 2, "head-removal": 1}
    assert [cell.file for cell in again.cells[:2]] == [cell.file for cell in first.cells[::-1]]
    assert [cell.file.read_bytes() for cell in first.cells] == content
    assert again.cells[1].record == first.cells[0].record
    assert again.before == first.before
    compare(SHORT, force=True)
    assert forgets["confusion"] == 3


def test_an_alias_and_a_named_default_are_the_same_cell(compare, forgets) -> None:
    cells = compare(Job("auto", {"steps": 5}), Job("deep-probes", {"steps": 5, "lr": 0.2})).cells
    assert len({cell.file for cell in cells}) == 1
    assert forgets == {"deep-probes": 1}


def test_a_kill_loses_the_running_cell_at_most(compare, monkeypatch, tmp_path) -> None:
    whole = compare(SHORT, Job("head-removal"), folder=tmp_path / "whole")
    honest = work.CellRunner.work
    started: list[str] = []

    def killed(runner, job, key, where):
        started.append(job.method)
        if len(started) == 2:
            raise KeyboardInterrupt
        return honest(runner, job, key, where)

    with monkeypatch.context() as patch:
        patch.setattr(work.CellRunner, "work", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(SHORT, Job("head-removal"))
    left = sorted((tmp_path / "out" / "cells").iterdir())
    assert [file.name for file in left] == [whole.cells[0].file.name]
    assert not list((tmp_path / "out").rglob(".*"))
    started.clear()
    monkeypatch.setattr(
        work.CellRunner, "work", lambda *rest: started.append(rest[1].method) or honest(*rest)
    )
    found = compare(SHORT, Job("head-removal"))
    assert started == ["head-removal"]
    for one, other in zip(found.cells, whole.cells, strict=True):
        assert one.record["figures"] == other.record["figures"]
        assert one.record["claims"] == other.record["claims"]


def test_cells_of_two_processes_are_those_of_one(compare, tmp_path) -> None:
    jobs = (SHORT, replace(SHORT, seed=1), Job("head-removal"), SHORT)
    two = engine.start(accelerator="cpu", batch_size=16, devices=2)
    found = [
        compare(*jobs, folder=tmp_path / name, **more).cells
        for name, more in (("one", {}), ("two", {"where": two}))
    ]
    for one, other in zip(*found, strict=True):
        assert one.file.name == other.file.name
        assert untimed(one.record) == untimed(other.record)
        assert one.done


def untimed(record):
    return {**record, "sha256": None, "cost": {**record["cost"], "seconds": None}}


def test_a_killed_worker_loses_its_cell_alone_and_the_same_call_goes_on(
    compare, monkeypatch, tmp_path
) -> None:
    two = engine.start(accelerator="cpu", batch_size=16, devices=2)
    jobs = [Job("head-removal", seed=seed) for seed in range(4)]
    honest = work.CellRunner.work

    def killed(runner, job, key, where):
        if job.seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(runner, job, key, where)

    with monkeypatch.context() as patch:
        patch.setattr(work.CellRunner, "work", killed)
        with pytest.raises(UnlabelError, match="killed by SIGKILL during: head-removal, seed 3; finished"):
            compare(*jobs, where=two)
    left = {file: file.read_bytes() for file in (tmp_path / "out" / "cells").iterdir()}
    assert len(left) in (2, 3)  # another one may have been running
    assert all(cell.done for cell in compare(*jobs, where=two).cells)
    assert all(file.read_bytes() == content for file, content in left.items())


def test_another_job_is_another_cell(compare, fails) -> None:
    others = [
        replace(SHORT, seed=1),
        replace(SHORT, images=64),
        replace(SHORT, options={"steps": 5}),
        replace(SHORT, options={"steps": 4, "strength": 1.0000001}),
        Job("fine-tune", {"steps": 4}),
    ]
    found = compare(SHORT, *others)
    assert len({cell.file for cell in found.cells}) == 6
    assert sum(fails.values()) == 6


def test_other_surroundings_are_another_cell(made, compare, fails, where, tiny, tmp_path) -> None:
    """Weights, references, audit, place: one changed number, and nothing is reused."""
    files = {compare(SHORT).cells[0].file}
    touched = tmp_path / "touched"
    shutil.copytree(made.base, touched)
    tensors = load_file(touched / "model.safetensors")
    name = next(key for key, value in tensors.items() if value.ndim == 4)
    tensors[name].flat[0] = np.nextafter(tensors[name].flat[0], np.float32(1))
    save_file(tensors, touched / "model.safetensors")
    for more in (
        {"base": touched},
        {"references": made.references[:1]},
        {"references": []},
        {"options": replace(tiny, trees=6)},
        {"where": where.with_seed(9)},
        {"where": engine.start(accelerator="cpu", batch_size=8)},
        {"data": f"folder:{relabelled(made.photos, tmp_path)}"},
        {"data": f"folder:{renamed(made.photos, tmp_path)}"},
        {"data": f"folder:{renamed(made.photos, tmp_path, nobody=True)}"},
    ):
        files.add(compare(SHORT, **more).cells[0].file)
    assert len(files) == 10
    assert fails["confusion"] == 10


def test_a_reference_that_is_fed_otherwise_is_another_one(made, compare, forgets, tmp_path) -> None:
    """The same weights; and the path that is shown is the one of the call."""
    first = compare(SHORT)
    moved = [Path(shutil.copytree(run, tmp_path / "moved" / run.name)) for run in made.references]
    again = compare(SHORT, references=moved)
    assert [record["run"] for record in again.references] == list(map(str, moved))
    assert again.cells[0].file == first.cells[0].file
    for run in moved:
        config = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(config | {"mean": [0.0] * 3, "std": [1.0] * 3}))
    found = compare(SHORT, references=moved)
    assert found.cells[0].file != first.cells[0].file
    assert found.references[0]["figures"] != first.references[0]["figures"]
    assert forgets["confusion"] == 2


def renamed(photos: Path, folder: Path, *, nobody: bool = False) -> Path:
    """The same photos and annotations in the same splits, one of another person, or all of nobody known."""
    copy = folder / f"renamed {nobody}"
    shutil.copytree(photos, copy)
    head, *rows = (copy / "meta.csv").read_text().splitlines()
    names = [row.rpartition(",")[0] for row in rows]
    rows = [f"{name}," for name in names] if nobody else [*rows[:-1], f"{names[-1]},somebody else"]
    (copy / "meta.csv").write_text("\n".join([head, *rows]) + "\n")
    assert load(f"folder:{copy}").facts["digest"] == load(f"folder:{photos}").facts["digest"]
    return copy


def relabelled(photos: Path, folder: Path) -> Path:
    """The same photos with one annotation turned round."""
    copy = folder / "relabelled"
    shutil.copytree(photos, copy)
    rows = (copy / "attributes.csv").read_text().splitlines()
    name, *values = rows[-1].split(",")
    rows[-1] = ",".join([name, *values[:-1], str(1 - int(values[-1]))])
    (copy / "attributes.csv").write_text("\n".join(rows) + "\n")
    return copy


@pytest.mark.parametrize("damage", ["{", '{"schema": "unlabel.cell/0"}'])
def test_a_damaged_file_is_computed_again(compare, forgets, tmp_path, damage) -> None:
    first = compare(SHORT)
    expected = first.cells[0].record
    files = [first.cells[0].file, *(tmp_path / "out" / "models").iterdir()]
    for file in [*files, *(tmp_path / "out" / "attacks").iterdir()]:
        file.write_text(damage)
    again = compare(SHORT)
    assert forgets["confusion"] == 2
    assert again.cells[0].record["figures"] == expected["figures"]
    assert json.loads(files[0].read_text("utf-8"))["claims"] == expected["claims"]
    assert again.references == first.references


def test_a_method_that_fails_is_an_outcome(compare, monkeypatch) -> None:
    def fail(*rest, **more):
        raise Diverged("the loss became NaN at step 3; take a smaller --lr")

    monkeypatch.setattr(work, "forget_labels", fail)
    cells = compare(SHORT, Job("head-removal"))
    assert [cell.done for cell in cells.cells] == [False, False]
    assert cells.cells[0].record["error"]["kind"] == "Diverged"
    assert "step 3" in cells.cells[0].record["error"]["message"]
    assert cells.cells[0].value("probe.adv.lin") is None
    written = json.loads(cells.cells[0].file.read_text("utf-8"))
    assert len(written.pop("sha256")) == 64
    assert written == cells.cells[0].record


def test_a_full_disk_is_no_outcome(compare, monkeypatch) -> None:
    def full(*rest, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work, "forget_labels", full)
    with pytest.raises(OSError, match="No space"):
        compare(SHORT)


@pytest.mark.parametrize(
    ("job", "error", "says"),
    [
        (Job("confusoin"), OptionError, "no method 'confusoin'.*Close: confusion"),
        (Job("confusion", {"step": 3}), OptionError, "has no option 'step'"),
        (Job("confusion", {"steps": 0}), OptionError, "--steps is 0"),
        (Job("confusion", images=3), OptionError, "--images is 3"),
    ],
)
def test_a_mistake_in_a_job_is_refused_before_anything_is_computed(
    compare, forgets, tmp_path, job, error, says
) -> None:
    with pytest.raises(error, match=says):
        compare(SHORT, job)
    assert not forgets
    assert not (tmp_path / "out").exists()


def test_runs_that_do_not_fit_are_refused(made, compare, forgets, tiny, tmp_path) -> None:
    with pytest.raises(UnknownLabel, match=r"no label 'tip'.*Close: top"):
        compare(SHORT, labels=("tip",))
    with pytest.raises(OptionError, match="has the same weights as"):
        compare(SHORT, references=[made.references[0]] * 2)
    with pytest.raises(ModelError, match=r"was trained without top; expected one trained without"):
        compare(SHORT, labels=("middle",))
    with pytest.raises(OptionError, match="budget is standard; cells"):
        compare(SHORT, options=replace(tiny, budget="standard"))
    with pytest.raises(LabelMismatch, match="no label column"):
        compare(SHORT, data=f"folder:{other_labels(tmp_path)}")
    assert not forgets
    assert not (tmp_path / "out").exists()


def other_labels(folder: Path) -> Path:
    return write_folder(folder / "others", tiny_world("duplicate", images=64).source)


def test_kept_models_are_the_models_that_were_audited(compare, where, made, tmp_path) -> None:
    kept = compare(replace(SHORT, seed=1), keep_models=tmp_path / "models")
    plain = compare(replace(SHORT, seed=1), folder=tmp_path / "plain")
    (run,) = (tmp_path / "models").iterdir()
    forget_run("confusion", made.base, ["top"], tmp_path / "less", where.with_seed(1), steps=4)
    assert differing(load_run(run).model, load_run(tmp_path / "less").model) == []
    assert kept.cells[0].file.name == plain.cells[0].file.name
    assert kept.cells[0].record["figures"] == plain.cells[0].record["figures"]
    assert kept.cells[0].record["cost"]["options"] == plain.cells[0].record["cost"]["options"] | {
        "images": 2048,
        "keep_row": False,
    }


def test_models_are_kept_of_cells_that_were_finished_without(compare, forgets, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(work, "forget_run", counted(work.forget_run, forgets))
    first = compare(SHORT)
    kept = compare(SHORT, keep_models=tmp_path / "models")
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert kept.cells[0].record["figures"] == first.cells[0].record["figures"]
    compare(SHORT, keep_models=tmp_path / "models")
    assert forgets["confusion"] == 2  # once without, once to be kept


def counted(call, seen: Counter[str]):
    """A call that is counted by its first argument."""

    def spy(method, *rest, **more):
        seen[method] += 1
        return call(method, *rest, **more)

    return spy


def test_retrain_is_a_job_as_well(compare, made) -> None:
    """By the recorded recipe; a reference's seed gives the reference."""
    cell = compare(Job("retrain", seed=1)).cells[0]
    reference = compare(SHORT).references[0]
    assert cell.value("probe.adv.lin") == next(
        row["value"] for row in reference["figures"] if row["id"] == "probe.adv.lin"
    )
    assert cell.record["cost"]["images_processed"] == reference["cost"]["images_processed"]
    assert "blueprint" not in cell.record["cost"]["options"]


def test_several_labels_at_once(compare) -> None:
    cells = compare(SHORT, labels=("bottom", "top"), references=[])
    record = cells.cells[0].record
    assert record["claims"]["C2"]["verdict"] == "NOT_EVALUATED"
    assert record["c2"] == {"excess": None, "figure": None, "upper": None, "rows": []}
    each = [cells.cells[0].value("probe.adv.lin", label) for label in ("top", "bottom")]
    assert cells.cells[0].value("probe.adv.lin") == pytest.approx(np.mean(each))
    assert set(record["utility"]["E"]["labels"]) == {"middle"}
    assert set(record["shapes"]["own_logit"]["labels"]) == {"top", "bottom"}


def test_small_tables_hold_every_image(compare) -> None:
    cells = compare(SHORT)
    for record in (cells.cells[0].record, cells.before):
        for split, count in (("E", 60), ("T_in", 120)):
            for table in record["shapes"]["entropy"][split].values():
                assert sum(table["counts"]) == count
                assert 0 <= table["mean"] <= 1
        own = record["shapes"]["own_logit"]["labels"]["top"]
        assert sum(own["present"]) + sum(own["absent"]) == 60
    assert (
        sum(count > 0 for count in cells.cells[0].record["shapes"]["own_logit"]["labels"]["top"]["absent"])
        == 1
    )
    assert cells.cells[0].file.stat().st_size < 30_000


def test_classes_of_a_softmax(where, tiny, tmp_path, compare) -> None:
    """A digit among three: one class forgotten, with a reference that never saw it."""
    photos = one_hot_photos(tmp_path)
    for name, seed, without in (("digits", 0, ()), ("retrained", 1, ("top",))):
        run = engine.start(accelerator="cpu", batch_size=16, seed=seed)
        train_run(
            f"folder:{photos}", tmp_path / name, run, recipe=Recipe(epochs=4), image_size=16, without=without
        )
    found = compare(SHORT, base=tmp_path / "digits", references=[tmp_path / "retrained"])
    cell = found.cells[0]
    assert cell.done, cell.record["error"]
    assert list(cell.record["shapes"]["entropy"]["E"]) == ["(all classes)"]
    assert cell.record["claims"]["C1"]["verdict"] == "PASS"
    assert cell.value("util.auc.worst") == min(
        item["value"] for item in cell.record["utility"]["E"]["labels"].values()
    )


def one_hot_photos(folder: Path) -> Path:
    """Photos of which each shows one of three bands."""
    world = tiny_world(images=720).source

    def single(part):
        return part.take(part.target.sum(1) == 1)

    parts = {name: single(getattr(world, name)) for name in ("train", "probe", "test")}
    return write_folder(folder / "digits-photos", replace(world, **parts))


def test_a_job_names_every_option() -> None:
    job = resolved(Job("auto"))
    assert job.method == "deep-probes"
    assert set(job.options) == {"strength", "pressure", "steps", "lr", "annotated"}
