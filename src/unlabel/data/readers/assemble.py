"""From images and what is known of them to a `Source`: splits, clusters and facts. Every reader ends here."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, MissingFiles, OptionError
from unlabel.core.framing import framing_facts, plain_size
from unlabel.core.progress import Log, warn
from unlabel.core.wording import counted, listing
from unlabel.data.dataset import Dataset, Source, one_hot
from unlabel.data.images.cache import Decoded
from unlabel.data.readers.identities import crowd, people
from unlabel.data.splits import PROBE, TEST, TRAIN, assign_splits, check_sizes, cluster_codes, straddling
from unlabel.data.texts import Coded, Names

_NAMES_KEPT = 20
_NAMES_AT_ONCE = 65_536


@dataclass(frozen=True)
class Wording:
    """How messages call the parts of a data set."""

    images: str = "images/"
    table: str = "attributes.csv"
    meta: str = "meta.csv"
    splits: str = "the split column"
    remedy: str = "add images, or give the splits in meta.csv"


@dataclass(frozen=True)
class Annotations:
    """What is known of each image, in the order of the images.

    Args:
        labels: Names of the target's columns.
        ids: Name of each image.
        target: int8 (image, label): 1 present, 0 absent, -1 unknown.
        split: ``train``, ``val`` or ``test`` for each image, or empty for every image.
        identity: Whose image it is, as it is written; `people` has one spelling of each.
        exclusive: Whether the labels may be classes; they are where every image has exactly one.
    """

    labels: tuple[str, ...]
    ids: Sequence[str]
    target: NDArray[np.int8]
    split: Sequence[str]
    identity: Sequence[str]
    exclusive: bool = True

    @property
    def people(self) -> Coded:
        """Whose each image is, empty where nobody knows; one person has one spelling."""
        return people(self.identity)

    def splits(self, wording: Wording) -> tuple[NDArray[np.int8], str]:
        """The split of each image and the rule; refused where one is too small.

        Raises:
            DataError: A split has fewer than 2 images.
        """
        codes, rule = assign_splits(self.ids, self.people, self.split, giver=wording.splits)
        owners = self.people
        check_sizes(codes, rule, wording.remedy, len(np.unique(owners.codes[owners.known()])))
        return codes, rule


def named_folder(kind: str, path: str) -> Path:
    """The absolute path that a source names, so that its name reads the same from anywhere.

    Raises:
        OptionError: No path is named.
    """
    if not path:
        raise OptionError(f"found '{kind}:' without a folder; write {kind}:PATH")
    return Path(os.path.abspath(os.path.expanduser(path)))


def match_files(images: Path, names: Sequence[str], table: str, inside: Sequence[str] = ("",)) -> int:
    """Checks that each name has a file, and returns how many files have no name.

    Args:
        images: The folder that the names are relative to.
        names: Relative names with ``/``, each once.
        table: What names them, for messages.
        inside: Folders below `images` to look into, with a ``/`` at the end; all by default.

    Raises:
        MissingFiles: A name has no file.
        DataError: A file is a link out of the folder.
    """
    files, links = list_files(images, inside)
    check_matched(images, names, table, files, links)
    return len(files) + len(links) - len(names)


def check_matched(
    images: Path, names: Sequence[str], table: str, files: Collection[str], links: Collection[str]
) -> None:
    """Refuses names that have no file among those that were listed; see `match_files`."""
    escaping = [name for name in names if name in links] if links else []
    if escaping:
        raise DataError(
            f"{len(escaping):,} rows of {table} name links that lead out of {images}"
            f" ({listing([repr(name) for name in escaping], 3)}); copy the files there"
        )
    missing = [name for name in names if name not in files]
    if missing:
        near = _near(missing[0], files)
        hint = f" (there is {near!r}: write the whole name)" if near else ""
        where = (
            ", or add ?root=FOLDER if they lie elsewhere" if len(missing) == len(names) and not near else ""
        )
        raise MissingFiles(
            f"{len(missing):,} of {len(names):,} rows of {table}"
            f" {'has' if len(missing) == 1 else 'have'} no file in {images}:"
            f" {listing([repr(name) for name in missing], 3)}{hint}; add the files or remove the rows"
            f"{where}"
        )


def _near(name: str, files: Collection[str]) -> str | None:
    """The file that a name may mean: with another ending, zeros before, or alone in another folder."""
    stems = {os.path.splitext(file)[0]: file for file in files}
    if near := stems.get(name) or stems.get(os.path.splitext(name)[0]):
        return near
    if (digits := os.path.splitext(name)[0]).isdecimal():
        numbered = [file for stem, file in stems.items() if stem.lstrip("0") == digits.lstrip("0")]
        if len(numbered) == 1:
            return numbered[0]
    base = os.path.basename(name)
    fitting = [file for file in files if base in (last := os.path.basename(file), os.path.splitext(last)[0])]
    return fitting[0] if len(fitting) == 1 else None


def list_files(images: Path, inside: Sequence[str], *, deep: bool = True) -> tuple[set[str], set[str]]:
    """Files below a folder by relative name with ``/``, and apart from them the links that lead out of it.

    One listing of each folder; no file is asked for its size, which of millions takes long. A link to a
    folder is not entered: it may lead back to one above it.

    Args:
        images: The folder.
        inside: Folders below it to look into, with a ``/`` at the end or empty; they may be links.
        deep: Whether the folders in these are looked into too.
    """
    files: set[str] = set()
    links: set[str] = set()
    waiting = [(start, os.path.join(os.path.realpath(images / start), "")) for start in inside]
    while waiting:
        folder, real = waiting.pop()
        with os.scandir(images / folder) as entries:
            for entry in entries:
                name = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if deep:
                        waiting.append((name + "/", real))
                elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(real):
                    links.add(name)
                elif entry.is_file():
                    files.add(name)
    return files, links


def source_of_images(
    name: str,
    annotations: Annotations,
    images: Decoded,
    wording: Wording,
    facts: Mapping[str, Any],
    *,
    folder: Path | None = None,
    skip_bad: bool = False,
    log: Log,
) -> Source:
    """The source that decoded images and their annotations make.

    Args:
        name: The string that `data.load` reads again; its part before the colon is the reader.
        annotations: What is known of each image.
        images: The pixels, of the readable ones among them.
        wording: How messages call the parts of the data set.
        facts: What only this reader knows, JSON-plain; ``ignored_files`` and ``ignored_meta_rows`` are told.
        folder: What the images' names are relative to, where they are files.
        skip_bad: Leave out images that cannot be read, and record them, instead of refusing.
        log: Receives what was left out.

    Raises:
        DataError: An image cannot be read, or a split is too small.
    """
    codes, rule = annotations.splits(wording)
    names, identity = Names.of(annotations.ids), annotations.people
    bad = [names[at] for at in sorted(images.bad)]
    if bad and not skip_bad:
        shown = listing([f"{names[at]!r}: {images.bad[at]}" for at in sorted(images.bad)], 3)
        raise DataError(
            f"{len(bad):,} of {len(names):,} images cannot be read ({shown});"
            " mend them, or leave them out with --skip-bad"
        )
    target = annotations.target
    if bad:
        readable = np.delete(np.arange(len(names)), list(images.bad))
        names, identity, codes, target = (
            names[readable],
            identity[readable],
            codes[readable],
            target[readable],
        )
    rows, cluster = np.arange(len(codes)), cluster_codes(identity)
    exclusive = annotations.exclusive and one_hot(target)
    whole = Dataset(images.pixels, rows, target, cluster, names, annotations.labels, exclusive=exclusive)
    every: dict[str, Any] = {
        "reader": name.partition(":")[0],
        "image_size": plain_size(whole.image_size),
        "images": len(whole),
        "exclusive": exclusive,
        "counts": check_sizes(codes, rule, wording.remedy),
        "split_rule": rule,
        **_identity_facts(codes, cluster, identity),
        "ignored_files": 0,
        "ignored_meta_rows": 0,
        "skipped_bad": bad[:_NAMES_KEPT],
        "skipped_bad_count": len(bad),
        **({"skipped_bad_reasons": _reasons(images)} if bad else {}),
        **_depth_facts(images),
        **framing_facts(images.framing),
        **facts,
        "digest": _digest(whole, codes, images.digest),
        **({"identity_digest": _people_digest(cluster)} if np.any(identity.known()) else {}),
    }
    _tell(every, wording, log)
    if (said := crowd(identity)) is not None:
        warn(log, said)
    train, probe, test = (whole.take(codes == code) for code in (TRAIN, PROBE, TEST))
    return Source(name, train, probe, test, every, folder, images.photos)


def _reasons(images: Decoded) -> list[str]:
    """Why the images that facts name cannot be read, in the same order."""
    return [images.bad[at] for at in sorted(images.bad)][:_NAMES_KEPT]


def _depth_facts(images: Decoded) -> dict[str, Any]:
    """How many images had more than 8 bits a channel, by what was done to them; nothing where none had."""
    return {"depths": dict(images.depths)} if images.depths else {}


def _identity_facts(codes: NDArray[np.int8], cluster: NDArray[np.int64], identity: Coded) -> dict[str, Any]:
    """Whether identities are known, and whether one is on both sides of the audit."""
    identified, overlap = int(np.sum(identity.known())), straddling(codes, cluster)
    if not identified:
        note = "No identities are known: each image counts as one. Intervals may be too narrow."
    elif overlap:
        note = (
            f"{counted(overlap, 'identity has', 'identities have')} images in more than one split: an audit"
            " of these data is INVALID. Give each identity one split in meta.csv."
        )
    elif identified < len(identity):
        note = f"{len(identity) - identified:,} images have no identity: each counts as one of its own."
    else:
        note = "No identity is in two splits."
    return {
        "identities": identified > 0,
        "clusters": len(np.unique(cluster)),
        "identity_overlap": overlap,
        "identity_note": note,
    }


def _digest(whole: Dataset, codes: NDArray[np.int8], pixels: str) -> str:
    """SHA-256 over pixels, labels, targets, names and splits: what was loaded, wherever it lies."""
    digest = sha256(json.dumps({"pixels": pixels, "labels": whole.labels, "ids": []})[:-2].encode())
    for at in range(0, len(whole), _NAMES_AT_ONCE):
        names = json.dumps(whole.ids[at : at + _NAMES_AT_ONCE].tolist())[1:-1]
        digest.update(((", " if at else "") + names).encode())
    digest.update(f'], "shape": {json.dumps(whole.pixels.shape)}}}'.encode())
    digest.update(np.ascontiguousarray(whole.target).data)
    digest.update(codes.data)
    return digest.hexdigest()


def _people_digest(cluster: NDArray[np.int64]) -> str:
    """SHA-256 over which images are one identity's, whatever these are called."""
    _, first, people = np.unique(cluster, return_index=True, return_inverse=True)
    return sha256(first[people].astype("<i8").tobytes()).hexdigest()


def _tell(facts: Mapping[str, Any], wording: Wording, log: Log) -> None:
    """One line for each thing that was left out or may surprise."""
    if facts["exclusive"]:
        log.say("every image has exactly one label: they are taken for classes, answered by a softmax")
    if facts["ignored_files"]:
        count = facts["ignored_files"]
        warn(
            log,
            f"{counted(count, 'file')} in {wording.images} {'has' if count == 1 else 'have'} no row in"
            f" {wording.table}: ignored",
        )
    if facts["ignored_meta_rows"]:
        count = facts["ignored_meta_rows"]
        warn(
            log,
            f"{counted(count, 'row')} of {wording.meta} {'names' if count == 1 else 'name'} no image of"
            f" {wording.table}: ignored",
        )
    if facts["skipped_bad"]:
        shown = listing([repr(name) for name in facts["skipped_bad"]], 3)
        warn(log, f"{counted(facts['skipped_bad_count'], 'image')} cannot be read: left out ({shown})")
    for depth, count in facts.get("depths", {}).items():
        log.say(f"{count:,} images have more than 8 bits a channel: {depth}")
    if facts["identity_overlap"]:
        warn(log, facts["identity_note"])
