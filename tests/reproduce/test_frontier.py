"""The frontier: its costs, its intervals, runs that are trained already, and pictures that can be read."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from unlabel.audit.attacks.fine_tuning import tune_all
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.setup import open_request
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.reading import read_json
from unlabel.core.recipe import Recipe
from unlabel.forget.methods import methods
from unlabel.reproduce import plane
from unlabel.reproduce.command import Request, make_page, plan_lines, request
from unlabel.reproduce.document import check_page
from unlabel.reproduce.pages.frontier import settings, studies
from unlabel.reproduce.relearning import pooled
from unlabel.reproduce.scale import SMALL, Scale
from unlabel.reproduce.study import audit_options, jobs_of
from unlabel.reproduce.trained import Frontier, sized
from unlabel.training.run import train_run

Sizes = Callable[[str], Scale]
TITLES = ("CelebA", "CelebA, decorrelated")


def rows_of(page: Mapping[str, Any], title: str) -> dict[str, dict[str, Any]]:
    """The JSON's rows of one data set, by model."""
    return {row["model"]: row for row in page["extra"]["rows"][title]}


def runs_of(cache: Path, task: str) -> list[Path]:
    """The original and the references of a data set, as other pages trained them."""
    (folder,) = cache.glob(f"runs/{task}-*")
    return [folder / name for name in ("original", "without-Male-seed1", "without-Male-seed2")]


@pytest.fixture(scope="session")
def page(contents: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The frontier of two data sets."""
    return contents["frontier"]


def test_every_method_stands_beside_the_original_and_retrain_on_both_sets(page: dict[str, Any]) -> None:
    assert tuple(page["extra"]["rows"]) == TITLES
    for title in TITLES:
        found = [row["model"] for row in page["extra"]["rows"][title]]
        assert found == [
            "original", "Retrain", "erasure", "head-removal", "fine-tune", "fine-tune 4",
        ]  # fmt: skip


def test_what_comes_back_is_the_audits_attack(page: dict[str, Any], cache: Path, sizes: Sizes) -> None:
    original = runs_of(cache, "celeba")[0]
    run = engine.start(accelerator="cpu")
    case = open_request(["Male"], original, [], run, None)
    sets, options = sets_of(case.source, 0), audit_options(sizes("frontier"), 0)
    target = sets.test.with_labels(case.request.labels).target[:, case.request.labels.index("Male")]
    tuned = tune_all([case.original], sets, case.request, options, run)
    assert [item.images for item in tuned] == [4]  # the probe split has 34 images with the label
    for item in tuned:
        areas = [roc_auc_score(target, scores) for scores in item.scores]
        figure = rows_of(page, "CelebA")["original"]["relearnt"][str(item.images)]
        assert figure["value"] == pytest.approx(np.mean(areas), abs=1e-6)
        assert figure["n"] == len(target)


def test_head_removal_gives_all_back_and_each_method_is_attacked_itself(page: dict[str, Any]) -> None:
    for title in TITLES:
        rows = rows_of(page, title)
        back = {name: row["relearnt"]["4"]["value"] for name, row in rows.items()}
        assert back["head-removal"] == pytest.approx(back["original"], abs=1e-9)
        assert len({back[name] for name in ("head-removal", "erasure", "fine-tune")}) == 3


def test_a_number_of_images_that_the_probe_split_has_not_is_a_dash(contents: Mapping[str, Any]) -> None:
    for (title, there), table in zip(
        zip(TITLES, (False, True), strict=True), contents["frontier"]["tables"], strict=True
    ):
        at = table["columns"].index("AUC of Male after 12 images")
        for row in table["rows"]:
            assert ("12" in rows_of(contents["frontier"], title)[row[0]]["relearnt"]) is there
            assert (row[at] != "-") is there


def test_cost_counts_steps_threefold_and_reading_once(page: dict[str, Any], sizes: Sizes) -> None:
    batch = sizes("frontier").batch_size
    rows = rows_of(page, "CelebA")
    assert rows["original"]["cost"] is None
    assert rows["Retrain"]["cost"] == {"at_least": 3 * 5 * batch, "at_most": 3 * 5 * batch}  # 160 images
    assert rows["fine-tune 4"]["cost"] == {"at_least": 3 * 4 * batch, "at_most": 3 * 4 * batch}
    assert rows["head-removal"]["cost"] == {"at_least": 0, "at_most": 0}
    erased = rows["erasure"]["cost"]
    assert erased["at_most"] == 3 * erased["at_least"] > 0


def test_the_frontier_holds_what_no_other_within_the_margin_beats(page: dict[str, Any]) -> None:
    for title in TITLES:
        rows = [row for row in rows_of(page, title).values() if row["within_margin"]]
        for row in rows:
            here = (row["cost"]["at_least"], row["relearnt"]["4"]["value"])
            others = [(o["cost"]["at_least"], o["relearnt"]["4"]["value"]) for o in rows if o is not row]
            beaten = any(o != here and o[0] <= here[0] and o[1] <= here[1] for o in others)
            assert row["front"] is not beaten
        assert all(row["loss"]["value"] <= page["extra"]["margin"] for row in rows)
        assert rows_of(page, title)["head-removal"]["within_margin"] is not None


def test_an_interval_holds_images_seeds_and_draws() -> None:
    items = [
        {"value": 0.70, "se": 0.010, "groups": 901, "n": 1000, "draws": [0.69, 0.70, 0.71]},
        {"value": 0.74, "se": 0.014, "groups": 901, "n": 1000, "draws": [0.71, 0.75, 0.76]},
    ]
    seeds, draws = 0.0008 / 2, np.var([0.70, 0.725, 0.735], ddof=1) / 3
    images = 0.012**2
    total = images + seeds + draws
    df = total**2 / (images**2 / 900 + seeds**2 / 1 + draws**2 / 2)
    found, half = pooled(items), student.ppf(0.975, df) * sqrt(total)
    assert found["value"] == pytest.approx(0.72)
    assert found["ci"] == pytest.approx([0.72 - half, min(1.0, 0.72 + half)])
    assert (found["n"], found["models"], found["low"], found["high"]) == (1000, 2, 0.70, 0.74)


def test_runs_that_are_trained_already_are_taken_as_they_are(
    page: dict[str, Any],
    cache: Path,
    sizes: Sizes,
    tmp_path: Path,
    nothing_computed: None,
) -> None:
    """The runs of the first page again: nothing is trained, no cell is computed, the figures are the same."""

    given = tuple(
        f"{title}={','.join(map(str, runs_of(cache, task)))}"
        for title, task in zip(TITLES, ("celeba", "decorrelated"), strict=True)
    )
    base = sizes("frontier")
    scale = sized(
        replace(base, tasks={}, recipe=Recipe(epochs=99), batch_size=7, retrain_seeds=(8,)),
        Frontier(given, base.methods, base.lengths),
    )
    wanted = Request("frontier", scale, tmp_path, cache, "unlabel reproduce frontier")
    assert plan_lines(wanted)[0].startswith("take ")
    again = read_json(make_page(wanted, engine.start(accelerator="cpu")).with_suffix(".json"))
    assert again["extra"] == page["extra"]
    assert (again["sizes"], again["seeds"]) == (page["sizes"], page["seeds"])
    assert not any(item["stands_for"] for item in again["data"])


def test_runs_that_do_not_belong_together_are_refused(pages: Any, cache: Path, tmp_path: Path) -> None:
    assert pages["frontier"].is_file()
    original, first, second = runs_of(cache, "celeba")
    other, longer = tmp_path / "other", tmp_path / "longer"
    run = engine.start(accelerator="cpu", batch_size=32, seed=3)
    for out, label in ((other, "Young"), (longer, "Male")):
        train_run(read_source(original), out, run, recipe=Recipe(epochs=0.5), image_size=16, without=[label])
    for given, message in (
        ((f"A={original}",), "write TITLE=ORIGINAL,RETRAIN"),
        ((f"{original},{first}",), "write TITLE=ORIGINAL,RETRAIN"),
        ((f"A={original},{first}", f"A={original},{second}"), "names A twice"),
        ((f"A={first},{original}",), "trained without no label"),
        ((f"A={original},{first},{other}",), "other labels than"),
        ((f"A={original},{longer}",), "another recipe"),
        ((f"A={original},{first}", f"B={original},{second}"), "retrain seeds of B differ from those of A"),
    ):
        with pytest.raises(OptionError, match=message):
            sized(SMALL, Frontier(given))


def read_source(run: Path) -> str:
    """The data source of a run."""
    return read_json(run / "unlabel.json")["data"]["source"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"frontier": Frontier(seeds=0)}, "--seeds is 0; expected 1 to 100"),
        ({"frontier": Frontier(steps=(5, 0))}, "--steps has 0"),
        ({"frontier": Frontier(methods=("retrain",))}, "names retrain"),
        ({"frontier": Frontier(methods=("erazure",))}, "no method 'erazure'"),
        ({"frontier": Frontier(runs=("A=b,c",)), "data": ["celeba:photos"]}, "leave --data out"),
        ({"name": "table2", "frontier": Frontier(seeds=1)}, "are options of frontier, not of table2"),
    ],
)
def test_what_the_frontier_cannot_do_is_refused(asked: dict[str, Any], message: str, tmp_path: Path) -> None:
    wanted = {"name": "frontier", "scale": "small", "data": (), "out": tmp_path, "cache": tmp_path, **asked}
    with pytest.raises(OptionError, match=message):
        request(wanted.pop("name"), **wanted)


def test_all_methods_come_at_their_defaults_and_at_the_lengths_asked_for() -> None:
    found = {setting.name: setting for setting in settings(sized(SMALL, Frontier(steps=(53, 188))))}
    expected = {name for name, entry in methods().items() if not (entry.alias_of or entry.reference)}
    assert {setting.method for setting in found.values()} == expected
    assert all(not found[name].options for name in expected if name in found)
    assert found["fine-tune 53"].options == {"steps": 53}
    assert "head-removal 53" not in found
    assert "fine-tune 188" not in found  # its default


def test_each_method_reads_as_many_images_as_it_does_by_itself() -> None:
    """600 steps on 2,048 images would be 19 passes: this project's own method takes more images."""
    (study, *_), scale = studies(sized(SMALL, Frontier(methods=("all",)))), sized(SMALL, Frontier())
    images = {job.method: job.images for _, job in jobs_of(study, scale)}
    assert images == {name: methods()[name].images for name in images}
    assert images["deep-probes"] > images["erasure"]


def test_the_command_plans_runs_and_says_so_without_paths(command: Any, cache: Path, pages: Any) -> None:
    assert pages["frontier"].is_file()
    runs = ",".join(map(str, runs_of(cache, "celeba")))
    done = command(
        "reproduce", "frontier", "--runs", f"Faces={runs}", "--methods", "erasure,fine-tune",
        "--steps", "53", "--seeds", "2", "--dry-run",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert sum(line.startswith("take ") for line in lines) == 3
    assert "3 settings x 2 seeds on each method's default number of images (erasure, fine-tune" in lines[3]
    assert lines[4].startswith(
        "train 9 models again on 256 and 1,024 annotated images, each in 6 draws, 3 of them at 3 rates"
    )
    wanted = request(
        "frontier", scale="small", data=(), out=None, cache=cache, frontier=Frontier((f"Faces={runs}",))
    )
    assert wanted.command == (
        "unlabel reproduce frontier --scale small --runs Faces=original,without-Male-seed1,without-Male-seed2"
    )
    wrong = command("reproduce", "frontier", "--steps", "5.5")
    assert (wrong.code, "expected whole numbers" in wrong.err) == (2, True)


def test_a_picture_of_another_hand_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "frontier-1.svg").write_text("mine")
    with pytest.raises(OptionError, match=r"frontier-1\.svg"):
        check_page("frontier", tmp_path, force=False)


def test_the_pictures_name_every_model(pages: Mapping[str, Path]) -> None:
    shown = pages["frontier"].read_text("utf-8")
    for number in (1, 2):
        root = ET.fromstring(pages["frontier"].with_name(f"frontier-{number}.svg").read_text("utf-8"))
        texts = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {"Retrain", "original", "erasure", "head-removal", "fine-tune", "fine-tune 4"} <= texts
        assert f"](frontier-{number}.svg)" in shown


@pytest.mark.parametrize("seed", range(4))
def test_names_cover_neither_each_other_nor_a_mark(seed: int) -> None:
    """Thirty of up to twenty letters, most of them at three costs."""
    draw = np.random.default_rng(seed)
    across = np.where(
        draw.random(30) < 0.7, draw.choice([120.0, 180.0, 200.0], 30), draw.uniform(60, 450, 30)
    )
    spots = list(zip(across.tolist(), draw.uniform(120, 640, 30).tolist(), strict=True))
    texts = ["m" * int(size) for size in draw.integers(3, 21, 30)]
    boxes = plane.names(spots, texts)
    for at, box in enumerate(boxes):
        assert plane.LEFT <= box[0] < box[2] <= plane.RIGHT
        assert plane.TOP <= box[1] < box[3] <= plane.BOTTOM
        assert not any(plane.overlap(box, other) for other in boxes[:at])
        assert not any(plane.overlap(box, (x - 5, y - 5, x + 5, y + 5)) for x, y in spots)
