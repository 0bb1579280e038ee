"""Batches are the same to the bit, however many threads prepare them and wherever pixels are kept."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.caching import Cache
from unlabel.core.engine import Run
from unlabel.core.errors import DataError, OptionError
from unlabel.core.recipe import Recipe
from unlabel.data import load
from unlabel.data.batches import Batch, batch_of
from unlabel.data.dataset import Source
from unlabel.data.feed import Wanted, batches, in_order, workers_of
from unlabel.data.images.on_access import Decoding
from unlabel.data.survey import survey
from unlabel.data.survey.duplicates import shared_pictures
from unlabel.models.features import outputs
from unlabel.testing import tiny_network, tiny_world, write_folder
from unlabel.training.fit import LabelLoss, fit

CPU = torch.device("cpu")
CACHES: tuple[Cache, ...] = ("disk", "memory", "none")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    return write_folder(tmp_path / "photos", tiny_world(images=96).source)


def opened(folder: Path, cache: Cache) -> Source:
    return load(f"folder:{folder}", image_size=16, cache=cache, workers=0)


def here(workers: int | None) -> Run:
    return engine.start(accelerator="cpu", workers=workers, seed=3)


def visits(images: int) -> list[Wanted]:
    """Every image three times, in batches of 7, by epochs that change within a batch."""
    stream = np.random.default_rng(0).permutation(np.tile(np.arange(images), 3))
    return [(part, part % 3) for part in np.array_split(stream, len(stream) // 7)]


def equal(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("cache", CACHES)
def test_batches_are_equal_for_any_workers_and_cache(folder: Path, cache: Cache) -> None:
    plain = opened(folder, "disk").train
    wanted = visits(len(plain))
    expected = [batch_of(plain, where, CPU, seed=3, epoch=epoch) for where, epoch in wanted]
    data = opened(folder, cache).train
    assert isinstance(data.pixels, Decoding) == (cache == "none")
    for workers in (0, 1, 3):
        assert equal(list(batches(data, wanted, here(workers))), expected)
    assert not equal(list(batches(data, wanted, here(2), seed=4)), expected)


def test_a_gpu_gets_the_same_batches_as_a_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, which finishes batches in the computing thread, followed without one."""
    data = opened(folder, "none").train
    wanted, threads = visits(len(data)), set()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Run, "device", property(lambda self: torch.device("cuda")))

    def finished(batch: object, *_: object) -> Batch:
        threads.add(threading.current_thread())
        return real(batch, data, CPU)  # type: ignore[arg-type]

    real = __import__("unlabel.data.feed", fromlist=["finish"]).finish
    monkeypatch.setattr("unlabel.data.feed.finish", finished)
    found = list(batches(data, wanted, here(2)))
    assert equal(found, [batch_of(data, where, CPU, seed=3, epoch=epoch) for where, epoch in wanted])
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("cache", CACHES)
def test_source_facts_survey_and_record_do_not_depend_on_the_cache(folder: Path, cache: Cache) -> None:
    photo = sorted((folder / "images").iterdir())[0]
    twin = sorted((folder / "images").iterdir())[-1]
    twin.write_bytes(photo.read_bytes())
    plain, other = opened(folder, "disk"), opened(folder, cache)
    assert other.facts == plain.facts
    assert survey(other) == survey(plain)
    assert shared_pictures(other) == shared_pictures(plain)


def test_training_and_reading_are_equal_for_any_workers_and_cache(folder: Path) -> None:
    def trained(cache: Cache, workers: int) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        run, source = here(workers), opened(folder, cache)
        model = engine.place(tiny_network(3, seed=1), run)
        fit(model, LabelLoss((0, 1, 2)), source.train, Recipe(epochs=2), run)
        return model.state_dict(), outputs(model, source.test, run).logits

    weights, logits = trained("disk", 0)
    for cache, workers in (("none", 2), ("memory", 1)):
        again, read = trained(cache, workers)
        assert all(torch.equal(again[name], weights[name]) for name in weights)
        assert np.array_equal(read, logits)


def _read(run: Run, source: Source, folder: Path) -> Path:
    wanted = visits(len(source.train))[run.rank :: run.world]
    np.savez(
        folder / f"{run.rank}.npz", *[batch.image.numpy() for batch in batches(source.train, wanted, run)]
    )
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_get_what_one_gets(folder: Path, tmp_path: Path, workers: int) -> None:
    source = opened(folder, "none")
    wanted = visits(len(source.train))
    whole = [batch.image.numpy() for batch in batches(source.train, wanted, here(0))]
    run = engine.start(devices=2, accelerator="cpu", workers=workers, seed=3)
    engine.launch(run, _read, source, tmp_path)
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as part:
            images = [part[name] for name in part.files]
        assert all(np.array_equal(*pair) for pair in zip(images, whole[rank::2], strict=True))


def test_workers_are_few_batches_ahead_and_end_with_their_reader(folder: Path) -> None:
    data, asked = opened(folder, "memory").train, []

    def wanted() -> Iterator[Wanted]:
        for where in range(10_000):
            asked.append(where)
            yield [where % len(data)], None

    with closing(batches(data, wanted(), here(2))) as feed:
        next(feed)
        assert len(asked) <= 6
        assert [t for t in threading.enumerate() if t.name.startswith("unlabel-input")]
    assert not [t for t in threading.enumerate() if t.name.startswith("unlabel-input")]


def test_workers_leave_the_number_of_threads_as_it_was(folder: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(in_order(opened(folder, "memory").train, here(2), 8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_workers_by_default_are_none_for_a_file_and_one_a_core_where_photos_are_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlabel.data.feed.cores", lambda: 6)
    disk, none = opened(folder, "disk").train, opened(folder, "none").train
    assert workers_of(disk, here(None)) == 0
    assert workers_of(none, here(None)) == 6
    assert workers_of(none, replace(here(None), processes=4)) == 1
    assert workers_of(none, here(0)) == 0
    monkeypatch.setattr(Run, "device", property(lambda self: torch.device("cuda")))
    assert workers_of(disk, here(None)) == 2


@pytest.mark.parametrize("cache", CACHES)
def test_a_broken_image_is_named_at_opening_whatever_the_cache(folder: Path, cache: Cache) -> None:
    broken = sorted((folder / "images").iterdir())[5]
    broken.write_bytes(b"not a photo")
    for _ in range(2):  # read, and then remembered
        with pytest.raises(DataError, match=f"1 of 96 .*{broken.name}.*not an image"):
            opened(folder, cache)
    source = load(f"folder:{folder}", image_size=16, cache=cache, workers=0, skip_bad=True)
    assert source.facts["skipped_bad"] == [broken.name]
    assert sum(len(part) for part in (source.train, source.probe, source.test)) == 95


def changed(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes() + b" ")


def broken(photo: Path) -> None:
    status = photo.stat()
    photo.write_bytes(b" " * status.st_size)
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(changed, "changed since"), (broken, "cannot be decoded"), (Path.unlink, "cannot open")],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_that_is_spoilt_after_opening_ends_the_run_by_its_name(
    folder: Path, spoil: Callable[[Path], None], reason: str, workers: int
) -> None:
    data = opened(folder, "none").train
    name = str(data.ids[9])
    spoil(folder / "images" / name)
    with pytest.raises(DataError, match=f"{reason}|{name}") as caught:
        list(in_order(data, here(workers), 8))
    assert name in str(caught.value)
    assert reason in str(caught.value)


def test_with_cache_none_no_pixels_are_written_and_a_second_opening_reads_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlabel.data.images.photos._SETTLED_SECONDS", -1e9)
    first = opened(folder, "none")
    assert not list((tmp_path / "cache").glob("*.npy"))
    monkeypatch.setattr("unlabel.data.images.cache.read_picture", None)
    assert opened(folder, "none").facts == first.facts
    with pytest.raises(TypeError):  # a positive control: the disk has no pixels, so they would be decoded
        opened(folder, "disk")


def test_with_cache_memory_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    opened(folder, "memory")
    load("faces:train=20,probe=10,test=10", image_size=16, cache="memory")
    load("digits", cache="memory")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("name", ["faces:train=20,probe=10,test=10", "ages", "shapes:set=digits", "digits"])
def test_drawings_and_arrays_refuse_to_be_kept_nowhere(name: str) -> None:
    with pytest.raises(OptionError, match="--cache none is for photos"):
        load(name, cache="none")


def test_drawings_in_memory_are_those_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path))
    disk, memory = (
        load("faces:train=20,probe=10,test=10", image_size=16, cache=cache) for cache in CACHES[:2]
    )
    assert memory.facts == disk.facts
    assert np.array_equal(memory.train.images(slice(None)), disk.train.images(slice(None)))


def test_a_wrong_cache_or_number_of_workers_is_refused() -> None:
    with pytest.raises(OptionError, match=r"the cache is 'memroy'.*Close: memory"):
        load("faces", cache="memroy")  # type: ignore[call-overload]
    for workers in (-1, 257):
        with pytest.raises(OptionError, match=f"--workers is {workers}"):
            engine.start(accelerator="cpu", workers=workers)
