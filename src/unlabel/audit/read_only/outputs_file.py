"""What a model says of images, in a file: ``.npz`` with numbers alone, for an audit without the model.

==============  ========================  ====================================================================
array           form                      what it holds
==============  ========================  ====================================================================
logits          (image, output)           outputs before the sigmoid or softmax
targets         (image, label)            1 present, 0 absent, -1 unknown; or (image,), class numbers from 0
labels          (output,) text            names of the columns of logits
features        (image, feature)          input of the last layer; may be left out
split           (image,)                  0 probe, 1 test, 2 train; if left out, half of the people are each
identity        (image,) number or text   whose image it is, -1 or "" unknown; left out: each another person's
target_labels   (label,) text             names of the columns of targets, if they are others than `labels`
activation      text                      softmax or sigmoid; left out: softmax where the targets are classes
==============  ========================  ====================================================================
"""

import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.document.results import Role
from unlabel.audit.inputs.subject import Subject
from unlabel.core.errors import DataError, LabelMismatch, MissingFiles
from unlabel.core.files import visible
from unlabel.core.randomness import uniform
from unlabel.core.reading import file_sha256, open_plain
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset, one_hot
from unlabel.data.readers.identities import person
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.runs.config import LONGEST_LABEL, MOST_LABELS

SUFFIX = ".npz"
MOST_BYTES = 8_000_000_000  # of all arrays of a file, unpacked
ARRAYS = ("logits", "targets", "labels", "features", "split", "identity", "target_labels", "activation")
ACTIVATIONS = ("softmax", "sigmoid")
PROBE, TEST, TRAIN = 0, 1, 2
DAMAGED = (ValueError, OSError, EOFError, MemoryError, KeyError, OverflowError, RuntimeError)
DAMAGED += (zipfile.BadZipFile, zlib.error)  # a compression that Python lacks is a RuntimeError

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Tables:
    """The content of such a file, checked.

    Args:
        name: The file as the user named it.
        sha256: Of its bytes.
        logits: float64 (image, output): cut to float32, a column may tie what the file tells apart.
        features: float32 (image, feature), or None.
        targets: int8 (image, label).
        split: int8 (image,): 0, 1 or 2.
        cluster: int64 (image,) number of the person.
        labels: Names of the outputs; empty where nobody names them.
        target_labels: Names of the columns of `targets`.
        exclusive: Whether the model answers by a softmax over its labels.
        classes: Whether the columns of `targets` are read as classes, of which each image has one.
        note: What was taken for granted of the answers, in a sentence; empty: nothing.
        split_rule: ``split`` if the file deals its images, else ``identity``.
        identities: Whether the file says of any image whose it is.
    """

    name: str
    sha256: str
    logits: Floats
    features: Floats | None
    targets: NDArray[np.int8]
    split: NDArray[np.int8]
    cluster: NDArray[np.int64]
    labels: tuple[str, ...]
    target_labels: tuple[str, ...]
    exclusive: bool
    classes: bool
    note: str
    split_rule: str
    identities: bool

    def outputs(self, part: int) -> Outputs:
        """Logits and, if there are some, features of one split."""
        rows = self.split == part
        inner = {} if self.features is None else {PENULTIMATE: self.features[rows]}
        return Outputs(self.logits[rows], inner)

    def subject(self, role: Role) -> Subject:
        """The model as an audit sees it."""
        return Subject(self.name, role, self.outputs(PROBE), self.outputs(TEST), self.outputs(TRAIN))

    def dataset(self, part: int) -> Dataset:
        """The images of one split, without pixels: what is known of them."""
        rows = np.flatnonzero(self.split == part)
        blank = np.zeros((1, 1, 1, 3), np.uint8)
        return Dataset(
            blank,
            rows,
            self.targets[rows],
            self.cluster[rows],
            rows.astype(str),
            self.target_labels,
            exclusive=self.classes,
        )

    def overlap(self) -> str | None:
        """What people the splits share, in a sentence; None where they share nobody."""
        people = [set(self.cluster[self.split == part].tolist()) for part in (PROBE, TEST, TRAIN)]
        shared = len((people[0] & people[1]) | (people[0] & people[2]) | (people[1] & people[2]))
        return f"{shared} identities of {self.name} have images in more than one split" if shared else None


def read_outputs(file: Path, seed: int = 0) -> Tables:
    """Reads and checks such a file; it may come from anyone, and no code in it is run.

    Args:
        file: The file.
        seed: Key of the deal into probe and test images where the file has no `split`.

    Raises:
        MissingFiles: There is no such file.
        DataError: It is damaged, too large, or an array is missing, of another form, or holds NaN.
        LabelMismatch: Names of labels are missing, twice there, or not as many as columns.
    """
    if not file.is_file():
        raise MissingFiles(f"no file {file}; expected arrays that numpy.savez wrote")
    arrays = _arrays(file)
    logits = _numbers(arrays, "logits", file)
    n = len(logits)
    targets, numbered = _targets(arrays, n, file)
    features = _numbers(arrays, "features", file, n) if "features" in arrays else None
    cluster, identities = _people(arrays, n, file)
    labels, target_labels = _labels(arrays, logits.shape[1], targets.shape[1], file)
    own = set(labels) == set(target_labels)
    told = _activation(arrays, file)
    classes = numbered or (own and one_hot(targets))
    exclusive = classes if told is None else told == "softmax"
    if exclusive and own:
        _check_classes(targets, file)
    return Tables(
        name=str(file),
        sha256=file_sha256(file),
        logits=logits,
        features=features,
        targets=targets,
        split=_split(arrays, cluster, seed, file),
        cluster=cluster,
        labels=labels,
        target_labels=target_labels,
        exclusive=exclusive,
        classes=exclusive and (numbered or own),
        note=_taken_for_classes(file) if told is None and classes and not numbered else "",
        split_rule="split" if "split" in arrays else "identity",
        identities=identities,
    )


def check_same_images(first: Tables, other: Tables) -> None:
    """Refuses two files that do not hold the same images in the same order, or other labels.

    Raises:
        DataError: With the first array that differs.
    """
    if first.labels != other.labels or first.target_labels != other.target_labels:
        raise LabelMismatch(
            f"{first.name} and {other.name} name other labels; expected the outputs of both models for the"
            " same labels, in one order"
        )
    for array, one, two in (
        ("targets", first.targets, other.targets),
        ("split", first.split, other.split),
        ("identity", first.cluster, other.cluster),
    ):
        if one.shape != two.shape:
            raise DataError(
                f"{first.name} has {len(one):,} images and {other.name} has {len(two):,}; expected the same"
                " images in the same order"
            )
        if not np.array_equal(one, two):
            row = int(np.argmax((one != two).reshape(len(one), -1).any(1)))
            raise DataError(
                f"{array} of {first.name} and {other.name} differ, first in row {row}; expected the same"
                " images in the same order"
            )


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The known arrays of a file of bounded size."""
    fault = ""
    try:
        with open_plain(file) as handle:
            size = sum(item.file_size for item in zipfile.ZipFile(handle).infolist())
            if size > MOST_BYTES:
                raise DataError(f"{file} holds {size:,} bytes; expected at most {MOST_BYTES:,}")
            handle.seek(0)
            with np.load(handle, allow_pickle=False) as archive:
                return {name: archive[name] for name in ARRAYS if name in archive.files}
    except DataError:
        raise
    except DAMAGED as error:
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    raise DataError(
        f"{file} cannot be read ({fault}); expected arrays of numbers and text that numpy.savez wrote"
    )


def _needed(arrays: dict[str, NDArray[Any]], name: str, file: Path) -> NDArray[Any]:
    if name not in arrays:
        raise DataError(
            f"{file} has no array '{name}'; it has {', '.join(arrays) or 'none that is known'}: expected"
            " logits, targets and labels, and better features, split and identity"
        )
    return arrays[name]


def _numbers(arrays: dict[str, NDArray[Any]], name: str, file: Path, n: int | None = None) -> Floats:
    """A table of finite numbers, one row an image: logits in float64, features in float32."""
    table = _needed(arrays, name, file)
    real = np.issubdtype(table.dtype, np.integer) or np.issubdtype(table.dtype, np.floating)
    if table.ndim != 2 or not table.size or not real:
        raise DataError(
            f"{name} of {file} has the shape {table.shape} of {table.dtype}; expected real numbers"
            " (image, column)"
        )
    if n is not None and len(table) != n:
        raise DataError(f"{name} of {file} has {len(table):,} rows; expected {n:,}, as logits has")
    with np.errstate(over="ignore"):
        short = table.astype(np.float32)
    if not (finite := np.isfinite(short).all(1)).all():
        row = int(np.argmin(finite))
        raise DataError(f"{name} of {file} holds NaN or infinity, first in row {row}; compute it again")
    if name == "logits" and len(table) > 1 and table.min() >= 0 and table.max() <= 1 and np.ptp(table) > 0:
        raise DataError(
            f"logits of {file} all lie from 0 to 1, so they are probabilities, which hide what a sigmoid"
            " rounds; expected its input: numpy.log(p / (1 - p)) where p is exact"
        )
    return table.astype(np.float64) if name == "logits" else short


def _targets(arrays: dict[str, NDArray[Any]], n: int, file: Path) -> tuple[NDArray[np.int8], bool]:
    """Annotations, and whether they are classes."""
    table = _needed(arrays, "targets", file)
    whole = np.issubdtype(table.dtype, np.number) or table.dtype == bool
    if table.ndim not in (1, 2) or len(table) != n or not table.size or not whole or np.iscomplexobj(table):
        raise DataError(
            f"targets of {file} has the shape {table.shape} of {table.dtype}; expected {n:,} rows of 1, 0 or"
            " -1, (image, label)"
        )
    if table.ndim == 1:
        return _of_classes(table, arrays, file), True
    odd = ~np.isin(table, (1, 0, -1))
    if odd.any():
        row = int(np.argmax(odd.any(1)))
        raise DataError(
            f"targets of {file} holds {table[odd][0]} in row {row}; expected 1 present, 0 absent, -1 unknown"
        )
    return table.astype(np.int8), False


def _of_classes(number: NDArray[Any], arrays: dict[str, NDArray[Any]], file: Path) -> NDArray[np.int8]:
    """A column for each class, of class numbers."""
    name = "target_labels" if "target_labels" in arrays else "labels"
    names = arrays.get(name)
    if names is None or names.ndim != 1:
        shape = "no such array" if names is None else f"the shape {names.shape} of {names.dtype}"
        raise LabelMismatch(
            f"{file} has class numbers in targets, and {shape} in {name}; expected the name of each class,"
            ' such as numpy.array(["cat", "dog"])'
        )
    if len(names) < 2:
        raise DataError(
            f"targets of {file} has one axis, as class numbers have, and {len(names)} in {name}; expected the"
            " names of all classes, or a table: of one label, targets[:, None]"
        )
    odd = ~np.isin(number, np.arange(len(names)))
    if odd.any():
        row = int(np.argmax(odd))
        raise DataError(
            f"targets of {file} has one axis, as class numbers have, and holds {number[row]} in row {row};"
            f" expected 0 to {len(names) - 1}, as {name} has {len(names)} names"
        )
    return (number[:, None] == np.arange(len(names))).astype(np.int8)


def _activation(arrays: dict[str, NDArray[Any]], file: Path) -> str | None:
    """What the model makes of its logits, as the file tells it; None where it does not."""
    if "activation" not in arrays:
        return None
    table = arrays["activation"]
    if table.dtype.kind != "U" or table.size != 1 or (told := str(table.ravel()[0])) not in ACTIVATIONS:
        raise DataError(
            f"activation of {file} has the shape {table.shape} of {table.dtype}, or another text than"
            f" expected: {' or '.join(ACTIVATIONS)}"
        )
    return told


def _check_classes(targets: NDArray[np.int8], file: Path) -> None:
    """Refuses images that do not have exactly one of the labels that a softmax answers by."""
    fit = np.all(targets >= 0, axis=1) & (targets.sum(1) == 1)
    if not fit.all():
        raise DataError(
            f"activation of {file} is softmax, but row {int(np.argmin(fit))} of targets does not have exactly"
            " one label; leave out such images, or write sigmoid if the model answers each label by itself"
        )


def _taken_for_classes(file: Path) -> str:
    return (
        f"Each image of {file} has exactly one label. So the labels are taken for classes, answered by a"
        " softmax; if each is answered by a sigmoid, save activation='sigmoid'."
    )


def _people(arrays: dict[str, NDArray[Any]], n: int, file: Path) -> tuple[NDArray[np.int64], bool]:
    """A number for each person, and whether any is known; an image of an unknown person is one of its own."""
    if "identity" not in arrays:
        return np.arange(n), False
    names = arrays["identity"]
    if names.shape != (n,) or names.dtype.kind not in "iuUS":
        raise DataError(
            f"identity of {file} has the shape {names.shape} of {names.dtype}; expected {n:,} whole numbers"
            " or texts, (image,)"
        )
    written, code = np.unique(names, return_inverse=True)
    texts = [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in written]
    people = [person(text) for text in texts]
    rank = {text: at for at, text in enumerate(dict.fromkeys(filter(None, people)))}
    number = np.array([rank.get(text, -1) for text in people], np.int64)[code]
    unknown = number < 0
    number[unknown] = len(rank) + np.arange(int(unknown.sum()))
    return number, bool(rank)


def _split(
    arrays: dict[str, NDArray[Any]], cluster: NDArray[np.int64], seed: int, file: Path
) -> NDArray[np.int8]:
    """0 probe, 1 test, 2 train; without the array, people are dealt into probe and test by a keyed number."""
    if "split" not in arrays:
        return (uniform(seed, "outputs/split", cluster) < 0.5).astype(np.int8)
    split = arrays["split"]
    expected = f"expected {len(cluster):,} numbers: 0 probe, 1 test, 2 train"
    if split.shape != cluster.shape:
        raise DataError(f"split of {file} has the shape {split.shape}; {expected}")
    odd = ~np.isin(split, (PROBE, TEST, TRAIN))
    if odd.any():
        row = int(np.argmax(odd))
        raise DataError(f"split of {file} holds {split[row].item()!r} in row {row}; {expected}")
    return split.astype(np.int8)


def _labels(
    arrays: dict[str, NDArray[Any]], outputs: int, columns: int, file: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the outputs and of the columns of targets."""
    if "labels" not in arrays and "target_labels" not in arrays:
        raise LabelMismatch(f"{file} has no array 'labels'; expected the name of each column of logits")
    labels = _texts(arrays, "labels", outputs, file) if "labels" in arrays else ()
    targets = _texts(arrays, "target_labels", columns, file) if "target_labels" in arrays else labels
    if len(targets) != columns:
        raise LabelMismatch(
            f"{file} names {len(targets)} labels for {columns} columns of targets; name these in"
            " target_labels"
        )
    return labels, targets


def _texts(arrays: dict[str, NDArray[Any]], name: str, count: int, file: Path) -> tuple[str, ...]:
    texts = arrays[name]
    if texts.dtype.kind != "U" or texts.shape != (count,) or not 0 < count <= MOST_LABELS:
        raise LabelMismatch(
            f"{name} of {file} has the shape {texts.shape} of {texts.dtype}; expected {count} texts"
        )
    names = tuple(map(str, texts))
    odd = [item for item in names if not 0 < len(item) <= LONGEST_LABEL or visible(item) != item]
    odd += [item for item, times in Counter(names).items() if times > 1]
    if odd:
        raise LabelMismatch(
            f"{name} of {file} holds {listing([repr(item[:40]) for item in odd])} twice, or a name of no or"
            f" more than {LONGEST_LABEL} letters or with control characters; name each column once"
        )
    return names
