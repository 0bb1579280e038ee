"""Images and their labels, split for training and auditing.

``load("faces")``, ``load("shapes")`` and ``load("ages")`` draw them, ``load("folder:PATH")`` reads a folder
of photos, ``load("celeba:PATH")`` and its like read public data sets where they lie; see `READERS`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from types import MappingProxyType

from unlabel.core.errors import OptionError
from unlabel.core.progress import SILENT, Log
from unlabel.core.wording import suggest
from unlabel.data.dataset import Dataset, Source
from unlabel.data.splits import constant_labels

__all__ = ["READERS", "Dataset", "Source", "constant_labels", "load"]

DEFAULT_IMAGE_SIZE = 64
_SMALLEST, _LARGEST = 16, 512


def load(
    source: str,
    *,
    image_size: int | None = None,
    labels: Sequence[str] | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    log: Log = SILENT,
) -> Source:
    """Reads a data set by its name.

    Args:
        source: ``faces``, ``faces:train=N,labels=20,size=96``, ``folder:PATH``, ``celeba:PATH``,
            ``cifar10:PATH``, ``mnist:PATH``, ``svhn:PATH``, ``mufac:PATH``, ``shapes:set=digits``, ``ages``
            or ``digits``.
        image_size: Height and width of the images in pixels, 16 to 512; None for 64, for 32 where images are
            that small (cifar10, mnist, svhn, shapes, digits), or for what the name says.
        labels: Label columns to keep, in this order; None for all.
        skip_bad: Leave out images that cannot be read, and record them, instead of refusing.
        workers: Processes that decode or draw, >= 0; None for one a core.
        log: Receives progress and remarks.

    Raises:
        OptionError: No such source, or an option out of its range.
        DataError: The data cannot be read; its subclasses say why.

    Example:
        >>> load("CelebA:photos")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        unlabel.core.errors.OptionError: no data source 'CelebA'. Close: celeba. Use one of: faces, folder:PATH...
    """
    kind, _, spec = source.partition(":")
    if kind not in READERS:
        raise _unknown(source, kind)
    if image_size is not None and not _SMALLEST <= image_size <= _LARGEST:
        raise OptionError(f"image size {image_size} is out of range; choose {_SMALLEST} to {_LARGEST} pixels")
    if workers is not None and workers < 0:
        raise OptionError(f"found {workers} workers; choose 0 or more")
    if labels is not None:
        _check_labels(labels)
    return READERS[kind](spec, image_size, labels, skip_bad, workers, log)


def _check_labels(labels: Sequence[str]) -> None:
    if not labels:
        raise OptionError("no label is named; name one or more with --labels A,B, or leave it out for all")
    for name in labels:
        if list(labels).count(name) > 1:
            raise OptionError(f"label {name!r} is named more than once; name each label once")


def _unknown(source: str, kind: str) -> OptionError:
    """What to write instead of a source that is none."""
    if source and os.path.isdir(os.path.expanduser(source)):
        return OptionError(f"found the folder {source!r} as data source; write folder:{source}")
    known = ", ".join(name if name in DRAWN else f"{name}:PATH" for name in READERS)
    return OptionError(f"no data source {kind!r}.{suggest(kind, READERS)} Use one of: {known}")


DRAWN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "faces": ("drawn.faces", "load_faces"),
        "shapes": ("drawn.shapes", "load_shapes"),
        "ages": ("drawn.ages", "load_ages"),
        "digits": ("readers.scikit_digits", "load_digits_of_8"),
    }
)
"""Sources that need no path, as what they hold is drawn or comes with a library: module and function."""


def _drawn(
    kind: str,
    spec: str,
    image_size: int | None,
    labels: Sequence[str] | None,
    skip_bad: bool,
    workers: int | None,
    log: Log,
) -> Source:
    """Such images are never bad: `skip_bad` has nothing to skip."""
    module, function = DRAWN[kind]
    read = getattr(import_module(f"unlabel.data.{module}"), function)
    return read(spec, image_size=image_size, labels=labels, workers=workers, log=log)


def _folder(
    spec: str,
    image_size: int | None,
    labels: Sequence[str] | None,
    skip_bad: bool,
    workers: int | None,
    log: Log,
) -> Source:
    from unlabel.data.readers.folder import load_folder

    return load_folder(
        spec,
        image_size=DEFAULT_IMAGE_SIZE if image_size is None else image_size,
        labels=labels,
        skip_bad=skip_bad,
        workers=workers,
        log=log,
    )


def _celeba(
    spec: str,
    image_size: int | None,
    labels: Sequence[str] | None,
    skip_bad: bool,
    workers: int | None,
    log: Log,
) -> Source:
    from unlabel.data.readers.celeba import load_celeba

    return load_celeba(
        spec, image_size=image_size, labels=labels, skip_bad=skip_bad, workers=workers, log=log
    )


def _mufac(
    spec: str,
    image_size: int | None,
    labels: Sequence[str] | None,
    skip_bad: bool,
    workers: int | None,
    log: Log,
) -> Source:
    from unlabel.data.readers.mufac import load_mufac

    return load_mufac(spec, image_size=image_size, labels=labels, skip_bad=skip_bad, workers=workers, log=log)


def _vision(
    kind: str,
    spec: str,
    image_size: int | None,
    labels: Sequence[str] | None,
    skip_bad: bool,
    workers: int | None,
    log: Log,
) -> Source:
    """All images of a part are one file, which is whole or refused: `skip_bad` has nothing to skip."""
    from unlabel.data.readers.small_images import load_vision

    return load_vision(kind, spec, image_size=image_size, labels=labels, workers=workers, log=log)


Reader = Callable[[str, int | None, Sequence[str] | None, bool, int | None, Log], Source]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "faces": partial(_drawn, "faces"),
        "folder": _folder,
        "celeba": _celeba,
        "cifar10": partial(_vision, "cifar10"),
        "mnist": partial(_vision, "mnist"),
        "svhn": partial(_vision, "svhn"),
        "mufac": _mufac,
        **{kind: partial(_drawn, kind) for kind in ("shapes", "ages", "digits")},
    }
)
"""What may stand before the first colon of a source's name; a reader gets what stands after it."""
