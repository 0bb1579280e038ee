"""Images and their labels, split for training and auditing.

``load("faces")``, ``load("shapes")`` and ``load("ages")`` draw them. ``load("folder:PATH")``,
``load("table:FILE")`` and ``load("parquet:PATH")`` read photos. ``load("celeba:PATH")`` and its like read
public data sets where they lie; see `READERS`.
``load(train=..., probe=..., test=..., labels=[...])`` takes images that the caller holds.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from unlabel.core.caching import Cache, checked_cache
from unlabel.core.errors import OptionError
from unlabel.core.framing import CENTRE, Framing, Size, checked_size
from unlabel.core.notebook import default_log
from unlabel.core.progress import Log
from unlabel.core.request import as_names
from unlabel.core.wording import suggest
from unlabel.data.dataset import Colours, Dataset, Source
from unlabel.data.options import ReadOptions
from unlabel.data.splits import constant_labels

if TYPE_CHECKING:
    from unlabel.data.readers.in_memory import Images

__all__ = ["READERS", "Dataset", "Framing", "ReadOptions", "Source", "constant_labels", "load"]


@overload
def load(
    source: str,
    *,
    image_size: Size | None = None,
    framing: Framing | None = None,
    labels: str | Sequence[str] | None = None,
    mean: Colours | None = None,
    std: Colours | None = None,
    skip_bad: bool = False,
    cache: Cache = "disk",
    workers: int | None = None,
    log: Log | None = None,
) -> Source: ...


@overload
def load(
    *,
    train: "Images",
    probe: "Images",
    test: "Images",
    labels: str | Sequence[str],
    identities: Mapping[str, Sequence[Any]] | None = None,
    mean: Colours | None = None,
    std: Colours | None = None,
    normalised: bool = False,
    log: Log | None = None,
) -> Source: ...


def load(
    source: str | None = None,
    *,
    train: "Images | None" = None,
    probe: "Images | None" = None,
    test: "Images | None" = None,
    identities: Mapping[str, Sequence[Any]] | None = None,
    image_size: Size | None = None,
    framing: Framing | None = None,
    labels: str | Sequence[str] | None = None,
    mean: Colours | None = None,
    std: Colours | None = None,
    normalised: bool = False,
    skip_bad: bool = False,
    cache: Cache = "disk",
    workers: int | None = None,
    log: Log | None = None,
) -> Source:
    """Reads a data set by its name, or takes images that the caller holds.

    Images in memory have sides of 16 to 512 pixels, all of one size, and are not resized: uint8; uint16,
    which is divided by 257; or floating from 0 to 1, times 255. Their three channels, or one, come last or
    first. They are copied, 16 GiB at most.

    Args:
        source: ``faces``, ``faces:train=N,labels=20,size=96``, ``folder:PATH``, ``table:FILE``,
            ``parquet:PATH``, ``webdataset:PATH``, ``datasets:PATH``, ``celeba:PATH``, ``cifar10:PATH``,
            ``mnist:PATH``, ``svhn:PATH``, ``mufac:PATH``, ``shapes:set=digits``, ``ages`` or ``digits``.
        train: Instead of a name: images to train on. Each of the three splits is (images, targets), a
            torch Dataset of (image, target), whose images may be PIL's, or a DataLoader of one. A DataLoader
            is read in the order of its dataset, however it shuffles. Targets are 1 present, 0 absent, -1
            unknown, (image, label); or class numbers from 0, (image,).
        probe: Images that the audit's probes are fitted on.
        test: Images that all figures are measured on.
        identities: Of images in memory, by split: whose each image is, None where that is unknown. Images of
            one person are not independent, and a person in two splits makes an audit invalid.
        image_size: Side of square images in pixels, or (height, width), 16 to 512; None for 64, for 32 where
            images are that small (cifar10, mnist, svhn, shapes, digits), or for what the name says. Drawn
            images are square.
        framing: How a picture of another shape comes to that size; the largest centred cut by default.
        labels: Label column, or columns in this order, to keep; None for all. Of images in memory, names of
            the targets' columns, or of the classes.
        mean: Red, green and blue with which the network wants its input normalised, (pixel / 255 - mean)
            / std; .5 by default. One number: the network reads grey, one channel.
        std: See ``mean``, above 0; .25 by default.
        normalised: Whether images in memory are normalised by ``mean`` and ``std`` already, which is undone.
        skip_bad: Leave out images that cannot be read, and record them, instead of refusing.
        cache: Where decoded images are kept: ``disk`` decodes them once into a file, ``memory`` once into
            memory, ``none`` each time they are used. Pixels, digest and record are the same.
        workers: Processes that decode or draw, >= 0; None for one a core.
        log: Receives progress and remarks; by default a notebook shows them, and nothing else does.

    Raises:
        OptionError: No such source, or an option out of its range.
        DataError: The data cannot be read; its subclasses say why.

    Example:
        >>> load("CelebA:photos")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        unlabel.core.errors.OptionError: no data source 'CelebA'. Close: celeba. Use one of: faces, ...
    """
    log = log or default_log()
    if labels is not None:
        labels = as_names(labels)
        _check_labels(labels)
    arrays = {"train": train, "probe": probe, "test": test}
    splits = {name: split for name, split in arrays.items() if split is not None}
    usual = (image_size, framing, workers, cache, skip_bad) == (None, None, None, "disk", False)
    _check_form(source, splits, labels, named=not usual)
    if splits and labels is not None:
        from unlabel.data.readers.in_memory import load_arrays
        from unlabel.data.readers.loaders import plain_splits

        if normalised:
            _check_colours(mean, std)
        plain = plain_splits(splits, mean, std, normalised=normalised)
        return _normalised(load_arrays(plain, labels, identities, log), mean, std)
    if normalised:
        raise OptionError("normalised=True is for images in memory; a named source reads them as they are")
    if identities is not None:
        raise OptionError("identities are those of images in memory; a folder has them in meta.csv")
    assert source is not None
    options = ReadOptions(image_size, labels, skip_bad, checked_cache(cache), workers, log, framing or CENTRE)
    return _normalised(_named(source, options), mean, std)


def _named(source: str, options: ReadOptions) -> Source:
    kind, _, spec = source.partition(":")
    if kind not in READERS:
        raise _unknown(source, kind)
    workers = options.workers
    if options.image_size is not None:
        options = replace(options, image_size=checked_size(options.image_size))
    if workers is not None and workers < 0:
        raise OptionError(f"found {workers} workers; choose 0 or more")
    return READERS[kind](spec, options)


def _check_form(source: Any, splits: Mapping[str, Any], labels: Sequence[str] | None, *, named: bool) -> None:
    """Refuses what is neither a name nor three splits with labels."""
    both = "write load('folder:PATH'), or load(train=..., probe=..., test=..., labels=[...])"
    if not isinstance(source, str | None):
        raise OptionError(f"the data source is a {type(source).__name__}; expected text: {both}")
    if (source is None) == (not splits):
        raise OptionError(f"found {'both' if splits else 'neither'} a named source and images; {both}")
    if not splits:
        return
    missing = [name for name in ("train", "probe", "test") if name not in splits]
    if missing:
        raise OptionError(f"found no {' and no '.join(missing)}; an audit needs all three splits: {both}")
    if labels is None:
        raise OptionError("images in memory have no label names; name the targets' columns: labels=[...]")
    if named:
        raise OptionError(
            "image_size, framing, skip_bad, cache and workers are for named sources; images in memory stay as"
            " they are"
        )


def _normalised(source: Source, mean: Colours | None, std: Colours | None) -> Source:
    """The source for a network that wants this normalisation; as it is where none is named."""
    if mean is None and std is None:
        return source
    mean, std = mean or source.train.mean, std or source.train.std
    _check_colours(mean, std)
    return source.normalised(tuple(mean), tuple(std))


def _check_colours(mean: Colours | None, std: Colours | None) -> None:
    if mean is None or std is None:
        raise OptionError(
            "normalised=True says that images are (pixel / 255 - mean) / std; name mean= and std="
        )
    if len(mean) not in (1, 3) or len(std) != len(mean):
        raise OptionError(f"found mean {mean} and std {std}; expected three numbers each, or one for grey")
    if not all(map(isfinite, (*mean, *std))) or min(std) <= 0:
        raise OptionError(f"found mean {mean} and std {std}; expected three numbers each, std above 0")


def _check_labels(labels: Sequence[str]) -> None:
    if not labels:
        raise OptionError("no label is named; name one or more with --labels A,B, or leave it out for all")
    twice = next((name for name, count in Counter(labels).items() if count > 1), None)
    if twice is not None:
        raise OptionError(f"label {twice!r} is named more than once; name each label once")


def _unknown(source: str, kind: str) -> OptionError:
    """What to write instead of a source that is none."""
    if source and os.path.isdir(os.path.expanduser(source)):
        return OptionError(f"found the folder {source!r} as data source; write folder:{source}")
    kinds = {".parquet": "parquet", ".csv": "table", ".tsv": "table", ".jsonl": "table"}
    ending = os.path.splitext(source)[1]
    if ending in kinds and os.path.isfile(os.path.expanduser(source)):
        return OptionError(f"found the file {source!r} as data source; write {kinds[ending]}:{source}")
    sources = ", ".join(name if name in DRAWN else f"{name}:PATH" for name in READERS)
    return OptionError(f"no data source {kind!r}.{suggest(kind, READERS)} Use one of: {sources}")


DRAWN = ("faces", "shapes", "ages", "digits")
"""Sources that need no path, as what they hold is drawn or comes with a library."""

Reader = Callable[[str, ReadOptions], Source]


def _reader(module: str, function: str, *kind: str) -> Reader:
    """A reader whose module is imported when it is called: importing this room loads no heavy library."""

    def read(spec: str, options: ReadOptions) -> Source:
        return getattr(import_module(f"unlabel.data.{module}"), function)(*kind, spec, options)

    return read


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "faces": _reader("drawn.faces", "load_faces"),
        "folder": _reader("readers.folder", "load_folder"),
        "table": _reader("readers.folder", "load_table"),
        "parquet": _reader("readers.parquet", "load_parquet"),
        "datasets": _reader("readers.hf_datasets", "load_datasets"),
        "webdataset": _reader("readers.webdataset", "load_webdataset"),
        "celeba": _reader("readers.celeba", "load_celeba"),
        "cifar10": _reader("readers.small_images", "load_vision", "cifar10"),
        "mnist": _reader("readers.small_images", "load_vision", "mnist"),
        "svhn": _reader("readers.small_images", "load_vision", "svhn"),
        "mufac": _reader("readers.mufac", "load_mufac"),
        "shapes": _reader("drawn.shapes", "load_shapes"),
        "ages": _reader("drawn.ages", "load_ages"),
        "digits": _reader("readers.scikit_digits", "load_digits_of_8"),
    }
)
"""What may stand before the first colon of a source's name; a reader gets what stands after it."""
