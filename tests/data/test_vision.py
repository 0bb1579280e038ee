import gzip
import io
import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles, OptionError
from unlabel.data import load
from unlabel.data.images.arrays import resized
from unlabel.data.images.decoding import decode
from unlabel.data.readers.cifar import read_batch
from unlabel.data.readers.digits import read_idx, read_svhn
from unlabel.data.readers.matlab import read_arrays
from unlabel.data.splits import hash_fraction

TRAIN, TEST = 60, 20
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple(f"digit_{digit}" for digit in range(10))
ROOMS = ("cifar10", "mnist", "svhn")


def images(count: int, seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def classes(count: int) -> np.ndarray:
    return np.arange(count) * 7 % 10


def batch(pixels: np.ndarray, labels: np.ndarray) -> dict[bytes, object]:
    """The content of a CIFAR-10 batch file: rows of three planes."""
    return {
        b"batch_label": b"training batch",
        b"labels": labels.tolist(),
        b"data": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1),
        b"filenames": [b"a_s_%06d.png" % at for at in range(len(pixels))],
    }


def write_cifar10(root: Path) -> tuple[np.ndarray, np.ndarray]:
    train, test = images(TRAIN, 0, 32, 32, 3), images(TEST, 1, 32, 32, 3)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number in range(5):
        part = slice(number * 12, number * 12 + 12)
        content = batch(train[part], classes(TRAIN)[part])
        (folder / f"data_batch_{number + 1}").write_bytes(pickle.dumps(content, protocol=2))
    (folder / "test_batch").write_bytes(pickle.dumps(batch(test, classes(TEST)), protocol=2))
    return train, test


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def mnist_files() -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte": idx(images(TRAIN, 2, 28, 28)),
        "train-labels-idx1-ubyte": idx(classes(TRAIN)),
        "t10k-images-idx3-ubyte": idx(images(TEST, 3, 28, 28)),
        "t10k-labels-idx1-ubyte": idx(classes(TEST)),
    }


def write_mnist(root: Path) -> tuple[np.ndarray, np.ndarray]:
    (root / "MNIST" / "raw").mkdir(parents=True)
    for name, data in mnist_files().items():
        (root / "MNIST" / "raw" / name).write_bytes(data)
    return tuple(np.repeat(images(n, seed, 28, 28)[..., None], 3, 3) for n, seed in ((TRAIN, 2), (TEST, 3)))


def write_svhn(root: Path) -> tuple[np.ndarray, np.ndarray]:
    root.mkdir(parents=True)
    found = images(TRAIN, 4, 32, 32, 3), images(TEST, 5, 32, 32, 3)
    for part, pixels in zip(("train", "test"), found, strict=True):
        labels = np.where(classes(len(pixels)) == 0, 10, classes(len(pixels))).astype(np.uint8)[:, None]
        content = {"X": pixels.transpose(1, 2, 3, 0), "y": labels}
        savemat(root / f"{part}_32x32.mat", content, do_compression=True)
    return found


WRITE = {"cifar10": write_cifar10, "mnist": write_mnist, "svhn": write_svhn}


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None: ...


# -- all three alike


@pytest.mark.parametrize("kind", ROOMS)
def test_pixels_and_classes_come_back(kind: str, tmp_path: Path) -> None:
    train, test = WRITE[kind](tmp_path / "data")
    size = 28 if kind == "mnist" else 32
    source = load(f"{kind}:{tmp_path / 'data'}", image_size=size)
    assert source.labels == (OBJECTS if kind == "cifar10" else DIGITS)
    for part, whole in ((source.train, train), (source.probe, train), (source.test, test)):
        at = np.array([int(name.split("_")[1]) for name in part.ids])
        assert (part.images(slice(None)) == whole[at]).all()
        assert (part.target.argmax(1) == classes(len(whole))[at]).all()
        assert (part.target.sum(1) == 1).all()
        assert part.target.dtype == np.int8


@pytest.mark.parametrize("kind", ROOMS)
def test_the_test_part_is_e_and_a_fifth_of_training_is_p(kind: str, tmp_path: Path) -> None:
    WRITE[kind](tmp_path / "data")
    source = load(f"{kind}:{tmp_path / 'data'}")
    assert source.test.ids.tolist() == [f"test_{n:05d}" for n in range(TEST)]
    names = [f"train_{n:05d}" for n in range(TRAIN)]
    assert source.probe.ids.tolist() == [name for name in names if hash_fraction(name) < 0.2]
    assert sorted([*source.probe.ids, *source.train.ids]) == names
    assert source.facts["split_rule"] == (
        "its own parts without val: test is E, and 20 % of train by hash of image_id is P"
    )


@pytest.mark.parametrize("kind", ROOMS)
def test_the_classes_are_exclusive_and_facts_plain(kind: str, tmp_path: Path, make_folder) -> None:
    WRITE[kind](tmp_path / "data")
    source = load(f"{kind}:{tmp_path / 'data'}")
    facts = source.facts
    assert source.train.exclusive
    assert source.train.image_size == facts["image_size"] == 32
    assert facts["exclusive"] is True
    assert facts["reader"] == kind
    assert json.loads(json.dumps(facts)) == facts
    assert set(load(f"folder:{make_folder()}", image_size=16).facts) - {"table"} <= set(facts)
    assert facts["terms"]
    assert facts["origin"]


@pytest.mark.parametrize("kind", ROOMS)
def test_the_name_loads_the_same_data_from_anywhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE[kind](tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    source = load(f"{kind}:data")
    assert source.name == f"{kind}:{tmp_path / 'data'}"
    monkeypatch.chdir("/")
    assert load(source.name).facts == source.facts


@pytest.mark.parametrize("kind", ROOMS)
def test_chosen_classes_are_labels_and_no_longer_exclusive(kind: str, tmp_path: Path) -> None:
    WRITE[kind](tmp_path / "data")
    name = f"{kind}:{tmp_path / 'data'}"
    whole = load(name)
    chosen = [whole.labels[at] for at in (8, 0, 3)]
    source = load(name, labels=chosen)
    assert source.labels == tuple(chosen)
    assert (source.test.target == whole.test.target[:, [8, 0, 3]]).all()
    assert not source.test.exclusive
    assert source.facts["digest"] != whole.facts["digest"]
    with pytest.raises(LabelMismatch, match="has no label column 'digit' among its 10"):
        load(name, labels=["digit"])


@pytest.mark.parametrize("kind", ROOMS)
def test_another_size_is_what_decoding_a_png_gives(kind: str, tmp_path: Path) -> None:
    _, test = WRITE[kind](tmp_path / "data")
    found = load(f"{kind}:{tmp_path / 'data'}", image_size=48).test.images(slice(None))
    for image, expected in zip(found, test, strict=True):
        file = io.BytesIO()
        grey = kind == "mnist"
        Image.fromarray(expected[..., 0] if grey else expected).save(file, "PNG")
        assert (image == decode(file.getvalue(), 48)).all()


@pytest.mark.parametrize("kind", ROOMS)
def test_a_missing_path_says_what_was_looked_for_and_where_it_comes_from(kind: str, tmp_path: Path) -> None:
    homes = {"cifar10": "cs.toronto.edu", "mnist": "yann.lecun.com", "svhn": "ufldl.stanford.edu"}
    files = {"cifar10": "data_batch_1", "mnist": "train-images-idx3-ubyte", "svhn": "train_32x32.mat"}
    with pytest.raises(MissingFiles, match=f"nowhere does not exist; expected .*{homes[kind]}"):
        load(f"{kind}:{tmp_path / 'nowhere'}")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingFiles, match="file is not a folder, unpack it first; expected"):
        load(f"{kind}:{tmp_path / 'file'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFiles, match=f"no {files[kind]}.* in {re.escape(str(tmp_path / 'empty'))}"):
        load(f"{kind}:{tmp_path / 'empty'}")
    with pytest.raises(OptionError, match=f"found '{kind}:' without a folder; write {kind}:PATH"):
        load(f"{kind}:")


@pytest.mark.parametrize("kind", ROOMS)
def test_every_file_is_needed_and_named_when_cut_or_empty(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    WRITE[kind](root)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(MissingFiles, match=re.escape(path.name)):
            load(f"{kind}:{root}")
        for damaged in (b"", data[:3], data[: len(data) // 2], data[:-9], b"hello, this is no data\n" * 40):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=re.escape(str(path))) as caught:
                load(f"{kind}:{root}")
            assert "\n" not in str(caught.value)
        path.write_bytes(data)
    assert load(f"{kind}:{root}").facts["images"] == TRAIN + TEST


def test_resizing_is_cached_and_changed_images_are_seen(cache: Path) -> None:
    pixels = images(300, 6, 8, 8, 3)
    first = resized(pixels, 16, workers=0)
    assert isinstance(first.pixels, np.memmap)
    times = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert resized(pixels, 16, workers=0).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == times
    pixels[299, 0, 0, 0] ^= 255
    assert resized(pixels, 16, workers=0).digest != first.digest


def test_processes_resize_as_one_does(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = images(600, 7, 8, 8)
    alone = resized(pixels, 16, workers=1)
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "other"))
    assert resized(pixels, 16, workers=2).digest == alone.digest


# -- CIFAR-10's pickles


def python2_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as the published files have it: written by Python 2, whose strings are bytes."""
    raw = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).tobytes()

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\x09K\x00\x85" + text(b"b")
        + b"\x87Rq\x0a(K\x01K" + bytes([len(labels)]) + b"M\x00\x0c\x86"
        + b"cnumpy\ndtype\nq\x0b" + text(b"u1") + b"K\x00K\x01\x87R"
        + b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + struct.pack("<I", len(raw)) + raw + b"tb"
    )  # fmt: skip
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
        + text(b"labels") + b"q\x04]q\x05(" + numbers + b"e" + text(b"data") + b"q\x07" + array
        + text(b"filenames") + b"q\x0c]q\x0d(" + text(b"a.png") + text(b"b.png") + b"eu."
    )  # fmt: skip


def test_a_batch_written_by_python_2_is_read(tmp_path: Path) -> None:
    pixels, labels = images(6, 8, 32, 32, 3), classes(6)
    data = python2_batch(pixels, labels)
    assert pickle.loads(data, encoding="bytes")[b"labels"] == labels.tolist()  # the usual reader takes it too
    (tmp_path / "data_batch_1").write_bytes(data)
    found, told = read_batch(tmp_path / "data_batch_1")
    assert (found == pixels).all()
    assert told.tolist() == labels.tolist()


class Gadget:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    proof, path = tmp_path / "proof", tmp_path / "data_batch_1"
    data = pickle.dumps(
        {b"data": Gadget(f"touch {proof}"), b"labels": [Gadget(f"touch {proof}")]}, protocol=protocol
    )
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not a batch of CIFAR-10 .*not run") as caught:
        read_batch(path)
    assert str(path) in str(caught.value)
    assert not proof.exists()
    pickle.loads(data)  # the gadget is a real one
    assert proof.exists()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"\x80\x02cos\nsystem\n.", "asks for 'os.system', which was not run"),
        (b"\x80\x02cbuiltins\neval\n.", "asks for 'builtins.eval'"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "encoded otherwise"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8\x85RU\x01ab.", "puts a bytes where a batch has a tuple"),
        (b"\x80\x02c_codecs\nencode\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02U\x01aQ.", "instruction BINPERSID"),
        (b"\x80\x02](K\x01e.", "holds a list, expected a dictionary"),
        (b"\x80\x02}.", "expected data and labels, found []"),
        (b"\x80\x02}(]K\x01u.", "puts a list where a batch has a str"),
        (b"\x80\x02h\x05.", "not a batch"),
        (b"\x80\x02e.", "not a batch"),
        (b"\x80\x02.", "not a batch"),
        (b"\x80\x02}", "not a batch"),
    ],
)
def test_a_program_that_no_batch_needs_is_refused(tmp_path: Path, program: bytes, said: str) -> None:
    (tmp_path / "test_batch").write_bytes(program)
    with pytest.raises(DataError, match=re.escape(said)):
        read_batch(tmp_path / "test_batch")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({b"labels": [1, 2, 3]}, "its array is not of 3 rows"),
        ({b"labels": [1, 10]}, "a label is not a whole number from 0 to 9"),
        ({b"labels": [1, True]}, "a label is not a whole number"),
        ({b"labels": b"12"}, "expected data and labels"),
        ({b"data": np.zeros((2, 3071), np.uint8)}, "of 3072 values"),
        ({b"data": np.zeros((2, 3072), np.int16)}, "its data are not bytes"),
        ({b"data": np.zeros((2, 3072), np.uint8, order="F")}, "of 3072 values"),
        ({b"data": [1, 2]}, "expected data and labels"),
    ],
)
def test_a_batch_of_another_shape_is_refused(tmp_path: Path, change: dict[bytes, object], said: str) -> None:
    content = {**batch(images(2, 9, 32, 32, 3), np.array([1, 2])), **change}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=re.escape(said)):
        read_batch(tmp_path / "test_batch")


def test_a_batch_of_too_many_bytes_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlabel.data.readers.cifar.MAX_BYTES", 10)
    (tmp_path / "test_batch").write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="test_batch: it has more than 10 bytes"):
        read_batch(tmp_path / "test_batch")


def test_cifar_batches_may_lie_directly_in_the_path(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "data")
    above = load(f"cifar10:{tmp_path / 'data'}")
    direct = load(f"cifar10:{tmp_path / 'data' / 'cifar-10-batches-py'}")
    assert above.facts == direct.facts


# -- MNIST's idx files


@pytest.mark.parametrize("inside", ["", "raw/", "MNIST/raw/"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_is_found_plain_or_packed(tmp_path: Path, inside: str, packed: bool, dotted: bool) -> None:
    write_mnist(tmp_path / "one")
    root = tmp_path / "two"
    (root / inside).mkdir(parents=True)
    for name, data in mnist_files().items():
        name = name.replace("-idx", ".idx") if dotted else name
        path = root / inside / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    assert load(f"mnist:{root}").facts == load(f"mnist:{tmp_path / 'one'}").facts


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with nothing; expected 00000803"),
        (idx(classes(5)), "begins with 00000801; expected 00000803, an idx file of bytes with 3 axes"),
        (idx(images(2, 0, 27, 28)), "tells of 2 items of size (27, 28); expected size (28, 28)"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28), "tells of 2,147,483,648 items"),
        (idx(images(2, 0, 28, 28))[:-1], "has 1,567 bytes after its header; expected 1,568"),
        (idx(images(2, 0, 28, 28)) + b"x", "has more bytes after its header; expected 1,568"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_malformed_idx_file_is_named(tmp_path: Path, data: bytes, said: str, packed: bool) -> None:
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_idx(path, (28, 28))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [5, 30, -9, -1])
def test_a_cut_gzip_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(images(2, 0, 28, 28)))[:keep])
    with pytest.raises(DataError, match=r"images\.gz is a damaged or cut gzip file"):
        read_idx(path, (28, 28))


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data")
    path = tmp_path / "data" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx(classes(TEST - 1)))
    with pytest.raises(DataError, match=r"has 20 images and t10k-labels-idx1-ubyte 19 labels; expected as"):
        load(f"mnist:{tmp_path / 'data'}")
    path.write_bytes(idx(np.full(TEST, 10)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte has the label 10; expected digits"):
        load(f"mnist:{tmp_path / 'data'}")


# -- SVHN's MATLAB files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"X": np.zeros((32, 32, 3, 4), np.uint8)}, "has 4 images in X and a y of shape ()"),
        ({"y": np.ones((4, 1))}, "has an X of shape ()"),
        ({"X": np.zeros((4, 32, 32, 3), np.uint8), "y": np.ones((4, 1))}, "expected (32, 32, 3, images)"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((3, 1))}, "a y of shape (3, 1)"),
        ({"X": np.zeros((32, 32, 3, 4)), "y": np.ones((4, 1))}, "has an X of float64; expected bytes"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.zeros((4, 1))}, "has the label 0"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.full((4, 1), 1.5)}, "has the label 1.5"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.full((4, 1), "a")}, "expected"),
    ],
)
def test_a_malformed_matlab_file_is_named(tmp_path: Path, content: dict[str, np.ndarray], said: str) -> None:
    path = tmp_path / "train_32x32.mat"
    savemat(path, content)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_svhn(path)
    assert str(path) in str(caught.value)


def test_a_newer_matlab_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(DataError, match=r"train_32x32\.mat is not a whole MATLAB 5 file"):
        read_svhn(path)


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_come_back_as_scipy_writes_them(tmp_path: Path, packed: bool) -> None:
    arrays = {
        "a": images(3, 0, 4, 5),
        "longer_name": np.random.default_rng(1).normal(size=(2, 3)),
        "b": np.arange(6, dtype=np.int16)[None],
        "one": np.array([[7]], np.uint8),
    }
    path = tmp_path / "arrays.mat"
    savemat(path, {**arrays, "text": "abc", "cell": np.array([[1], "x"], object)}, do_compression=packed)
    found = read_arrays(path, [*arrays, "text", "cell", "missing"])
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("packed", [False, True])
def test_every_changed_byte_of_a_matlab_file_is_survived(tmp_path: Path, packed: bool) -> None:
    """SciPy's reader ends the whole process for some of these."""
    path = tmp_path / "train_32x32.mat"
    pixels = images(1, 0, 32, 32, 3).transpose(1, 2, 3, 0)
    savemat(path, {"X": pixels, "y": np.array([[3]], np.uint8)}, do_compression=packed)
    data = path.read_bytes()
    refused = 0
    for at in [*range(124, 260), *range(len(data) - 80, len(data))]:
        for value in (1, 187):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            with suppress(DataError):
                read_svhn(path)
                continue
            refused += 1
    assert refused > 50


def test_an_array_that_unpacks_too_far_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": np.zeros((32, 32, 3, 100), np.uint8), "y": np.ones((100, 1))}, do_compression=True)
    monkeypatch.setattr("unlabel.data.readers.matlab.MAX_BYTES", 10_000)
    with pytest.raises(DataError, match="an array unpacks to more than 10,000 bytes"):
        read_svhn(path)
