"""A folder of photos and a table of labels, as people have them.

::

    PATH/images/...          photos, in folders of any depth
    PATH/attributes.csv      image_id, then one column a label: 1 present, 0 absent, -1 or empty unknown
    PATH/meta.csv            optional: image_id and split (train, val, test) or identity or both

What disagrees is refused by name rather than guessed at: a wrong row in the table is a wrong audit.
"""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.data.cache import decoded
from unlabel.data.dataset import Dataset, Source, one_hot
from unlabel.data.splits import PROBE, TEST, TRAIN, assign_splits, check_sizes, cluster_codes, straddling
from unlabel.data.tables import read_attributes, read_meta
from unlabel.errors import DataError, MissingFiles, OptionError, listing
from unlabel.log import SILENT, Log

_NAMES_KEPT = 20


def load_folder(
    path: str,
    *,
    image_size: int = 64,
    labels: Sequence[str] | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    log: Log = SILENT,
) -> Source:
    """Reads ``images/``, ``attributes.csv`` and an optional ``meta.csv``.

    Images are ordered by name, so the order of the rows changes nothing, and neither does the place of the
    folder: equal contents give equal ``facts["digest"]``.

    Args:
        path: The folder.
        image_size: Height and width to bring images to, in pixels.
        labels: Columns to read, in this order; None for all. Others may hold anything.
        skip_bad: Leave out images that cannot be read, and record them, instead of refusing.
        workers: Processes that decode; None for one a core.
        log: Receives progress, and what was left out.

    Raises:
        OptionError: No folder is named.
        MissingFiles: The folder, a table or an image is missing.
        LabelMismatch: A wanted label has no column.
        DataError: A table is malformed, an image cannot be read, or a split is too small.
    """
    if not path:
        raise OptionError("found 'folder:' without a folder; write folder:PATH")
    root = Path(os.path.abspath(os.path.expanduser(path)))
    _check_layout(root)
    names, ids, target = read_attributes(root / "attributes.csv", labels)
    order = np.argsort(ids, kind="stable")
    ids, target = [ids[at] for at in order], target[order]
    meta = read_meta(root / "meta.csv", ids)
    files, ignored = _match_files(root / "images", ids)

    codes, rule = assign_splits(ids, meta.identity, meta.split)
    check_sizes(codes, rule)

    images = decoded(root / "images", files, image_size, workers=workers, log=log)
    bad = [ids[at] for at in sorted(images.bad)]
    if bad and not skip_bad:
        shown = listing([f"{ids[at]!r}: {images.bad[at]}" for at in sorted(images.bad)], 3)
        raise DataError(
            f"{len(bad):,} of {len(ids):,} images cannot be read ({shown});"
            " mend them, or leave them out with --skip-bad"
        )
    kept = np.array([at not in images.bad for at in range(len(ids))])
    codes, identity = codes[kept], [meta.identity[at] for at in np.flatnonzero(kept)]
    rows, cluster = np.arange(len(codes)), cluster_codes(identity)
    exclusive = one_hot(target[kept])
    whole = Dataset(
        images.pixels, rows, target[kept], cluster, np.array(ids)[kept], names, exclusive=exclusive
    )
    facts = {
        "reader": "folder",
        "image_size": image_size,
        "images": len(whole),
        "exclusive": exclusive,
        "counts": check_sizes(codes, rule),
        "split_rule": rule,
        **_identity_facts(codes, cluster, identity),
        "ignored_files": ignored,
        "ignored_meta_rows": meta.ignored,
        "skipped_bad": bad[:_NAMES_KEPT],
        "skipped_bad_count": len(bad),
        "digest": _digest(whole, codes, images.digest),
    }
    _tell(facts, log)
    train, probe, test = (whole.take(codes == code) for code in (TRAIN, PROBE, TEST))
    return Source(f"folder:{root}", train, probe, test, facts)


def _check_layout(root: Path) -> None:
    expected = "expected a folder with images/ and attributes.csv"
    if not root.is_dir():
        found = "is not a folder; unpack it first" if root.exists() else "does not exist"
        raise MissingFiles(f"{root} {found}; {expected}")
    for name, there in (("attributes.csv", Path.is_file), ("images", Path.is_dir)):
        if not there(root / name):
            inside = sorted(found.parent.name for found in root.glob("*/attributes.csv"))
            nearby = f". It is one level down: folder:{root / inside[0]}" if inside else ""
            raise MissingFiles(f"no {name} in {root}; {expected}{nearby}")


def _match_files(images: Path, ids: Sequence[str]) -> tuple[dict[str, os.stat_result], int]:
    """The file of each id, and how many files no row names.

    Raises:
        MissingFiles: A row has no file.
        DataError: A row's file is a link out of the folder.
    """
    files, links = _list_files(images)
    escaping = [name for name in ids if name in links]
    if escaping:
        raise DataError(
            f"{len(escaping):,} rows of attributes.csv name links that lead out of {images}"
            f" ({listing([repr(name) for name in escaping], 3)}); copy the files there"
        )
    missing = [name for name in ids if name not in files]
    if missing:
        stems = {os.path.splitext(file)[0]: file for file in files}
        near = stems.get(missing[0]) or stems.get(os.path.splitext(missing[0])[0])
        hint = f" (there is {near!r}: write the whole name)" if near else ""
        raise MissingFiles(
            f"{len(missing):,} of {len(ids):,} rows of attributes.csv have no file in {images}:"
            f" {listing([repr(name) for name in missing], 3)}{hint}; add the files or remove the rows"
        )
    return {name: files[name] for name in ids}, len(files) + len(links) - len(ids)


def _list_files(images: Path) -> tuple[dict[str, os.stat_result], set[str]]:
    """Files below a folder by relative name with ``/``, and apart from them the links that lead out of it.

    A link to a folder is not entered: it may lead back to one above it.
    """
    files: dict[str, os.stat_result] = {}
    links: set[str] = set()
    real = os.path.join(os.path.realpath(images), "")
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(images / inside) as entries:
            for entry in entries:
                name = inside + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name + "/")
                elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(real):
                    links.add(name)
                elif entry.is_file():
                    files[name] = entry.stat()
    return files, links


def _identity_facts(
    codes: NDArray[np.int8], cluster: NDArray[np.int64], identity: Sequence[str]
) -> dict[str, Any]:
    """Whether it is known whose face is whose, and whether a person is on both sides of the audit."""
    known, overlap = sum(map(bool, identity)), straddling(codes, cluster)
    if not known:
        note = "No identities are known: each image counts as another person, so intervals may be too narrow."
    elif overlap:
        note = (
            f"{overlap:,} identities have images in more than one split: the audit may recognise people"
            " it was trained on."
        )
    elif known < len(identity):
        note = f"{len(identity) - known:,} images have no identity: each counts as another person."
    else:
        note = "No identity is in two splits."
    return {
        "identities": known > 0,
        "clusters": len(np.unique(cluster)),
        "identity_overlap": overlap,
        "identity_note": note,
    }


def _digest(whole: Dataset, codes: NDArray[np.int8], pixels: str) -> str:
    """SHA-256 over pixels, labels, targets, names and splits: what was loaded, wherever it lies."""
    head = {"pixels": pixels, "labels": whole.labels, "ids": whole.ids.tolist(), "shape": whole.pixels.shape}
    digest = sha256(json.dumps(head).encode())
    digest.update(whole.target.tobytes() + codes.tobytes())
    return digest.hexdigest()


def _tell(facts: Mapping[str, Any], log: Log) -> None:
    """One line for each thing that was left out or may surprise."""
    if facts["exclusive"]:
        log.say("every image has exactly one label: they are taken for classes, answered by a softmax")
    if facts["ignored_files"]:
        log.say(f"{facts['ignored_files']:,} files in images/ have no row in attributes.csv: ignored")
    if facts["ignored_meta_rows"]:
        log.say(f"{facts['ignored_meta_rows']:,} rows of meta.csv name no image of attributes.csv: ignored")
    if facts["skipped_bad"]:
        shown = listing([repr(name) for name in facts["skipped_bad"]], 3)
        log.say(f"{facts['skipped_bad_count']:,} images cannot be read: left out ({shown})")
    if facts["identity_overlap"]:
        log.say(facts["identity_note"])
