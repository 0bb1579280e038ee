"""An audit says if a few test images were trained on; of many, it is invalid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import overlap
from unlabel.audit.probe.one_model import probe_model
from unlabel.audit.read_only.outputs_audit import Named, audit_deployed
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.core.progress import Silent
from unlabel.core.recipe import Recipe
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.run import forget_run
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

SMALL = AuditOptions(probe_seeds=1, folds=2, epochs=5, trees=10, permutations=10, resamples=30)


class Saying(Silent):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def with_twins(source: Source, count: int) -> Source:
    """The source, its first test images replaced by copies of its first training images."""
    pixels = source.train.pixels.copy()
    pixels[source.test.rows[:count]] = pixels[source.train.rows[:count]]

    def part(of: Dataset) -> Dataset:
        return replace(of, pixels=pixels)

    return replace(source, train=part(source.train), probe=part(source.probe), test=part(source.test))


@pytest.mark.parametrize(("count", "invalid"), [(0, False), (1, False), (2, True)])
def test_more_than_one_percent_of_shared_pictures_makes_an_audit_invalid(count: int, invalid: bool) -> None:
    found = overlap(with_twins(tiny_world().source, count))
    assert (found is not None) == invalid


def test_images_are_counted_and_not_different_pictures() -> None:
    source = tiny_world().source
    pixels = source.test.pixels.copy()
    pixels[source.test.rows[:50]] = pixels[source.train.rows[0]]
    found = overlap(replace(source, test=replace(source.test, pixels=pixels)))
    assert found == "50 images of the test split are also in the training split, pixel for pixel"


def test_a_model_that_is_only_read_has_the_same_limitation(tmp_path: Path) -> None:
    source = with_twins(tiny_world().source, 1)
    data, run = f"folder:{write_folder(tmp_path / 'photos', source)}", engine.start(accelerator="cpu")
    train_run(data, tmp_path / "base", run, recipe=Recipe(epochs=1, lr=0.05), image_size=16)
    forget_run("head-removal", tmp_path / "base", ["top"], tmp_path / "less", run)
    probed = probe_model(tmp_path / "base", "top", run, options=SMALL)
    named = Named(str(tmp_path / "less"), str(tmp_path / "base"))
    audit = audit_deployed(named, data, ["top"], run, SMALL)
    for told, valid in ((probed.notes, probed.valid), (audit.limitations, audit.valid)):
        assert valid
        assert sum("1 images of the test split are in the training split too" in said for said in told) == 1


def test_an_audit_with_one_shared_picture_says_so(tmp_path: Path) -> None:
    source = with_twins(tiny_world().source, 1)
    assert len(source.test) > 100
    photos = write_folder(tmp_path / "photos", source)
    log = Saying()
    run = engine.start(accelerator="cpu", batch_size=32, log=log)
    train_run(f"folder:{photos}", tmp_path / "base", run, recipe=Recipe(epochs=1, lr=0.05), image_size=16)
    told = (
        "1 images of the test split are in the training split too"
        f" (such as {str(source.test.ids[0])!r}, which is {str(source.train.ids[0])!r})"
    )
    assert [told in line for line in log.lines if line.startswith("warning")] == [True]
    forget_run("head-removal", tmp_path / "base", ["top"], tmp_path / "less", run)
    log.lines.clear()
    audit = audit_run(tmp_path / "less", tmp_path / "base", [], run, options=SMALL)
    assert audit.valid
    assert any(told in line for line in log.lines)
    assert told in audit.limitations[-1]
    assert np.sum([told in sentence for sentence in audit.limitations]) == 1
