"""What a network's own library says of a model that is adopted, where the user says nothing."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from unlabel.core.errors import LabelMismatch, OptionError
from unlabel.data.dataset import Colours
from unlabel.data.options import Size
from unlabel.models.named import preprocessing_of, resolve
from unlabel.models.named_folder import WEIGHTS, Folder, folder_of, load_folder, read_folder
from unlabel.models.named_options import is_named


@dataclass(frozen=True)
class Library:
    """A network's name, and what its library says of it; None for what it does not say.

    Args:
        network: The name by which a run knows it.
        folder: Of Hugging Face's, with labels and weights.
        size: Side of the square images that it reads, in pixels, or height and width.
        normalisation: Mean and standard deviation.
        source: Where size and normalisation were read.
    """

    network: str
    folder: Folder | None = None
    size: Size | None = None
    normalisation: tuple[Colours, Colours] | None = None
    source: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs, in order.

        Raises:
            LabelMismatch: The library does not say.
        """
        if self.folder is None or not self.folder.labels:
            why = "" if self.folder is None else f": {self.folder.path} has no names for them"
            raise LabelMismatch(
                f"the labels of the outputs are not known{why}; name them in order, one a line, in a file"
                " given with --labels"
            )
        return self.folder.labels

    @property
    def weights(self) -> Path:
        """The file that the folder's weights are in.

        Raises:
            OptionError: There is no folder.
        """
        if self.folder is None:
            raise OptionError(
                f"the weights of '{self.network[:80]}' are not known; give their file with --weights"
            )
        return self.folder.path / WEIGHTS

    def module(self) -> nn.Module | None:
        """The folder's model as its own library loads it; None where there is no folder."""
        return None if self.folder is None else load_folder(self.folder)

    def notes(self, *, exclusive: bool, asked_size: bool, asked_colours: bool) -> list[str]:
        """What was taken from the library, and where the data say something else, in sentences.

        Args:
            exclusive: Whether the data's labels are classes of which an image has one.
            asked_size, asked_colours: Whether the user gave the size, and the normalisation.
        """
        size = self.size is not None and not asked_size
        colours = self.normalisation is not None and not asked_colours
        what = "size, mean and std" if size and colours else "size" if size else "mean and std"
        found = [f"read from {self.source}: {what}"] if size or colours else []
        if self.folder is None:
            return found
        problem = {True: "single_label_classification", False: "multi_label_classification"}[exclusive]
        if self.folder.problem not in (None, problem):
            found.append(
                f"config.json says {self.folder.problem}, but the data says {problem}, which decides"
            )
        return [*found, *self.folder.notes]


def library_of(network: str) -> Library:
    """What the library of a network says; of our own and the user's own networks, nothing.

    For torchvision's networks size and normalisation are left to the data and to the loss, as for ours.

    Args:
        network: As the user names it.

    Raises:
        OptionError: The library is not installed, or does not know the network.
        UnlabelError: As `read_folder` raises.
    """
    if not is_named(network):
        return Library(network)
    path = folder_of(network)
    name = resolve(network)
    if name.startswith("torchvision:"):
        return Library(name)
    found = preprocessing_of(network)
    normalisation = None if found.mean is None or found.std is None else (found.mean, found.std)
    folder = None if path is None else read_folder(path)
    return Library(name, folder, _size(found.size), normalisation, found.source)


def _size(size: tuple[int, int] | None) -> Size | None:
    return size and (size[0] if size[0] == size[1] else size)
