"""Claims about what would be computed, at the published size too, and about bad input."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from unlabel.cli.reproduce import Page
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.reading import read_json
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.reproduce.command import PAGES, Request, make_page, plan_lines, request
from unlabel.reproduce.pages import table2, table4, table5
from unlabel.reproduce.scale import FULL, SMALL, TEN, Scale
from unlabel.reproduce.settings import Setting
from unlabel.reproduce.study import Study, carry_out, planned, trainings, with_data
from unlabel.runs.files import read_record
from unlabel.testing import write_folder


def test_the_full_plan_is_the_published_setting(tmp_path: Path) -> None:
    scale = with_data(FULL, ["celeba:photos"])
    lines = planned(table2.studies(scale), scale, tmp_path)
    trainings = [line for line in lines if line.startswith("train")]
    assert [line.split()[1] for line in trainings] == ["resnet18"] * 4 + ["resnet50"] * 4
    assert all(
        f"on celeba:{Path.cwd() / 'photos'}," in line and "50 epochs of constant at 0.01, batch 64" in line
        for line in trainings
    )
    assert sum("without Male" in line for line in trainings) == 6
    recipe = FULL.recipe
    assert (recipe.momentum, recipe.weight_decay, recipe.rate(0, 100), recipe.rate(99, 100)) == (
        0.9, 5e-4, 0.01, 0.01,
    )  # fmt: skip
    assert FULL.tasks["celeba"].labels is not None
    assert len(FULL.tasks["celeba"].labels) == 10


def test_the_small_plan_needs_no_data_and_trains_each_model_once(tmp_path: Path) -> None:
    lines = planned(table4.studies(SMALL), SMALL, tmp_path)
    trainings = [line for line in lines if line.startswith("train")]
    assert len(trainings) == len(set(trainings)) == 1 + 3 * 3
    assert all("faces:train=4000" in line and "8 epochs" in line for line in trainings)
    assert len({study.task for study in table5.studies(SMALL)}) == 3


def test_a_dry_run_says_what_is_there(pages: Any, tiny: Scale, cache: Path, tmp_path: Path) -> None:
    assert pages["table2"].is_file()
    wanted = Request("table2", tiny, tmp_path, cache, "")
    lines = plan_lines(wanted)
    assert all(line.endswith("is there already") for line in lines if line.startswith("train"))
    assert not (tmp_path / "table2.md").exists()


def test_own_data_takes_a_stand_ins_place(tmp_path: Path) -> None:
    scale = with_data(SMALL, ["mnist:digits", "celeba=folder:photos,odd=1"])
    assert scale.tasks["mnist"].source == f"mnist:{Path.cwd() / 'digits'}"
    assert scale.tasks["celeba"].source == f"folder:{Path.cwd() / 'photos,odd=1'}"
    assert scale.tasks["celeba"].stands_for == ""
    assert scale.tasks["svhn"] == SMALL.tasks["svhn"]
    shown = request("table2", scale="small", data=["celeba=folder:/home/me/photos"], out=None, cache=tmp_path)
    assert shown.command == "unlabel reproduce table2 --scale small --data celeba=folder:PATH"


def test_the_same_relative_path_elsewhere_is_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one shared folder: those of another `photos` must not be taken for these."""

    def folder() -> Path:
        scale = with_data(SMALL, ["celeba=folder:photos?absent=0"])
        study = table2.studies(scale)[0]
        return trainings(study, scale, tmp_path)[0].out

    found = []
    for name in ("one", "other"):
        (tmp_path / name / "photos").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        found.append(folder())
    assert found[0] != found[1]
    drawn = with_data(SMALL, ["celeba=shapes:set=digits"])
    assert drawn.tasks["celeba"].source == "shapes:set=digits"


def test_data_that_changed_behind_its_path_are_trained_on_anew(tiny: Scale, tmp_path: Path) -> None:
    """The page's digest, models and cells are of the data as they are now; runs on the same data are kept."""
    photos, run = tmp_path / "photos", engine.start(accelerator="cpu")
    source = load("faces:train=96,probe=64,test=64,size=16")
    parts = [
        replace(part, ids=np.array([f"{name}_{image}" for image in part.ids]))
        for name, part in (("train", source.train), ("probe", source.probe), ("test", source.test))
    ]
    write_folder(photos, Source("faces", *parts))
    scale = replace(with_data(tiny, [f"celeba=folder:{photos}"]), retrain_seeds=(1,))
    study = Study("celeba", "Male", (Setting("head removal", "head-removal"),))
    cache = tmp_path / "cache"

    def digest() -> str:
        return load(f"folder:{photos}", labels=TEN).facts["digest"]

    first = carry_out(study, scale, cache, run)
    assert first.facts["digest"] == digest()
    old = trainings(study, scale, cache)[0].out  # where runs lay that were made before this was looked at
    first.folder.parent.rename(old.parent)
    made = sorted(cache.rglob("*"))
    assert carry_out(study, scale, cache, run).folder == old
    assert sorted(cache.rglob("*")) == made

    table = (photos / "attributes.csv").read_text("utf-8").splitlines()
    young = table[0].split(",").index("Young")
    for at in range(1, 90):
        row = table[at].split(",")
        table[at] = ",".join([*row[:young], str(1 - int(row[young])), *row[young + 1 :]])
    (photos / "attributes.csv").write_text("\n".join(table) + "\n", "utf-8")
    second = carry_out(study, scale, cache, run)
    assert second.facts["digest"] == digest() != first.facts["digest"]
    assert read_record(second.folder).digest == digest()
    assert read_record(old).digest == first.facts["digest"]
    assert "is there already unless the data have changed" in planned([study], scale, cache)[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["celebA:photos"], "Close: celeba"),
        (["folder:photos"], "belongs to no data set of the paper"),
        (["celeba:a", "celeba:b"], "twice"),
        (["celeba="], "without a source"),
    ],
)
def test_data_that_belongs_nowhere_is_refused(data: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        with_data(SMALL, data)


def test_the_full_size_asks_for_its_data(tmp_path: Path) -> None:
    wanted = request("table5", scale="full", data=["cifar10:a"], out=tmp_path, cache=tmp_path)
    with pytest.raises(OptionError, match="needs MNIST: add --data mnist:PATH"):
        make_page(wanted, engine.start(accelerator="cpu"))
    assert not list(tmp_path.iterdir())


def test_cells_are_kept_with_the_version_of_what_reads_them(pages: Any, cache: Path) -> None:
    assert all(pages[name].is_file() for name in ("table2", "frontier"))
    cells = [read_json(path) for path in (cache / "cells").iterdir()]
    versions = {"Reader(version=1)": "labels", "Relearner(version=1)": "relearnt"}
    assert {cell["identity"]["also"] for cell in cells} == {*versions}
    assert all(
        cell["also"][versions[cell["identity"]["also"]]] for cell in cells if cell["outcome"] == "done"
    )


def test_the_command_plans_and_refuses(command: Any) -> None:
    done = command("reproduce", "figure2", "--dry-run")
    assert done.code == 0
    assert done.out.count("train small on faces") == 4
    wrong = command("reproduce", "tabel2")
    assert (wrong.code, "table2" in wrong.err) == (2, True)
    missing = command("reproduce", "table3", "--scale", "full", "--dry-run")
    assert missing.code == 2
    assert "needs MUFAC" in missing.err
    assert set(get_args(Page)) == set(PAGES)


def test_the_plan_of_the_timed_page_says_what_it_computes(tmp_path: Path) -> None:
    *trainings, last = plan_lines(Request("figure3", SMALL, tmp_path, tmp_path, ""))
    assert [line.split()[0] for line in trainings] == ["train"] * 4
    count = len(table2.studies(SMALL)[0].settings)
    assert f"time Retrain and {count} settings that forget Male of CelebA, 3 times each, anew" in last
    assert all(f"{setting.name}" in last for setting in table2.studies(SMALL)[0].settings)


@pytest.mark.parametrize("word", ["disk", "memory", "none"])
def test_a_word_for_decoded_photos_is_no_folder_of_trained_models(word: str, command: Any) -> None:
    ran = command("reproduce", "table2", "--cache", word)
    assert (ran.code, ran.out, list(Path().iterdir())) == (2, "", [])
    assert (
        f"--cache is {word}, which other commands take for decoded photos; here it is the folder" in ran.err
    )
