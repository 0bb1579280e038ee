"""Where the public data sets come from: for the message when one is missing, and for a run's record."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlabel.core.errors import MissingFiles


@dataclass(frozen=True)
class Origin:
    """A public data set's name, place and terms; nothing is downloaded from there.

    Args:
        title: Its name and its authors.
        layout: The files that are looked for, in words.
        home: Its web page.
        terms: Its terms of use in a few words; the page has the whole of them.
    """

    title: str
    layout: str
    home: str
    terms: str

    @property
    def facts(self) -> dict[str, str]:
        """What a run records of it."""
        return {"origin": f"{self.title}, {self.home}", "terms": self.terms}

    def missing(self, lack: str) -> MissingFiles:
        """The error that says what is missing, what was expected, and where it comes from.

        Example:
            >>> print(MNIST.missing("no train-images-idx3-ubyte in /data"))  # doctest: +ELLIPSIS
            no train-images-idx3-ubyte in /data; expected MNIST (LeCun, Cortes, Burges): ...
        """
        return MissingFiles(
            f"{lack}; expected {self.title}: {self.layout}. Get it from {self.home} (terms: {self.terms})"
        )

    def check_folder(self, root: Path) -> None:
        """Refuses a path that is no folder.

        Raises:
            MissingFiles: It is none.
        """
        if not root.is_dir():
            raise self.missing(
                f"{root} {'is not a folder, unpack it first' if root.exists() else 'does not exist'}"
            )

    def find(self, root: Path, inside: Sequence[str], names: Sequence[str]) -> Path:
        """The first file that is there, by any of its names, in any of the folders below the root.

        Raises:
            MissingFiles: None is there.
        """
        file = next(_files(root, inside, names), None)
        if file is None:
            looked = ", ".join(str(root / folder) for folder in inside if (root / folder).is_dir())
            raise self.missing(f"no {' or '.join(names)} in {looked}")
        return file


def _files(root: Path, inside: Sequence[str], names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        for folder in inside:
            if (root / folder / name).is_file():
                yield root / folder / name


_PERCEIVED = "labels about people are perceived labels: what annotators thought they saw"

CELEBA = Origin(
    "CelebA (Liu, Luo, Wang, Tang)",
    "the folder img_align_celeba, list_attr_celeba and list_eval_partition as .txt or .csv, and"
    " identity_CelebA.txt if there",
    "mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    f"non-commercial research only; {_PERCEIVED}",
)
CIFAR10 = Origin(
    "CIFAR-10 (Krizhevsky, Nair, Hinton), python version",
    "the folder cifar-10-batches-py with data_batch_1 to data_batch_5 and test_batch",
    "www.cs.toronto.edu/~kriz/cifar.html",
    "as its page says, with a request to cite Krizhevsky 2009",
)
MNIST = Origin(
    "MNIST (LeCun, Cortes, Burges)",
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte,"
    " plain or .gz, in MNIST/raw, in raw or directly",
    "yann.lecun.com/exdb/mnist",
    "as its page says",
)
SVHN = Origin(
    "SVHN (Netzer, Wang, Coates, Bissacco, Wu, Ng), format 2",
    "train_32x32.mat and test_32x32.mat",
    "ufldl.stanford.edu/housenumbers",
    "non-commercial use only",
)
MUFAC = Origin(
    "MUFAC (Choi, Na)",
    "custom_train_dataset.csv, custom_val_dataset.csv and custom_test_dataset.csv beside the folders"
    " train_images, val_images and test_images",
    "github.com/ndb796/MachineUnlearning",
    f"those of AI Hub, aihub.or.kr, from whose family photos it is made; {_PERCEIVED}",
)
DIGITS = Origin(
    "Optical Recognition of Handwritten Digits (Alpaydin, Kaynak), its test part",
    "as it comes with scikit-learn",
    "archive.ics.uci.edu/dataset/80",
    "CC BY 4.0",
)
