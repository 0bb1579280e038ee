"""What a network's own library says of a model that is adopted, where the user says nothing."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from unlabel.core.errors import LabelMismatch, OptionError
from unlabel.core.framing import Framing, Size
from unlabel.exchange.check import Colours
from unlabel.models.named import preprocessing_of, resolve
from unlabel.models.named_folder import WEIGHTS, Folder, folder_of, load_folder, read_folder
from unlabel.models.named_options import is_named


@dataclass(frozen=True)
class Library:
    """A network's name, and what its library says of it; None for what it does not say.

    Args:
        network: The name by which a run knows it.
        folder: Of Hugging Face's, with labels and weights.
        size: Of the images that it reads, in pixels.
        normalisation: Mean and standard deviation.
        framing: How a picture of another shape comes to that size.
        source: Where these were read.
    """

    network: str
    folder: Folder | None = None
    size: Size | None = None
    normalisation: tuple[Colours, Colours] | None = None
    framing: Framing | None = None
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

    def notes(
        self, *, exclusive: bool, asked_size: bool, asked_colours: bool, asked_framing: bool
    ) -> list[str]:
        """What was taken from the library, and where the data say something else, in sentences.

        Args:
            exclusive: Whether the data's labels are classes of which an image has one.
            asked_size, asked_colours, asked_framing: Whether the user gave the size, the normalisation, and
                how photos are resized.
        """
        framing = self.framing
        resized = framing and f"resize {framing.resize}, crop {framing.crop_pct:g}, {framing.interpolation}"
        read = (
            ("size", self.size is not None and not asked_size),
            ("mean and std", self.normalisation is not None and not asked_colours),
            (resized, framing is not None and not asked_framing),
        )
        what = [str(name) for name, taken in read if taken]
        notes = [f"read from {self.source}: {'; '.join(what)}"] if what else []
        if self.folder is None:
            return notes
        problem = {True: "single_label_classification", False: "multi_label_classification"}[exclusive]
        if self.folder.problem not in (None, problem):
            notes.append(
                f"config.json says {self.folder.problem}, but the data says {problem}, which decides"
            )
        return [*notes, *self.folder.notes]


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
    preprocessing = preprocessing_of(network)
    normalisation = (
        None
        if preprocessing.mean is None or preprocessing.std is None
        else (preprocessing.mean, preprocessing.std)
    )
    folder = None if path is None else read_folder(path)
    size = preprocessing.size and (
        preprocessing.size[0] if preprocessing.size[0] == preprocessing.size[1] else preprocessing.size
    )
    return Library(name, folder, size, normalisation, preprocessing.framing, preprocessing.source)
