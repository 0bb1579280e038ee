"""A folder of photos and a table of labels, as people have them.

::

    PATH/images/...          photos, in folders of any depth
    PATH/attributes.csv      image_id, then one column a label: 1 present, 0 absent, -1 or empty unknown
    PATH/meta.csv            optional: image_id and split (train, val, test) or identity or both

What disagrees is refused by name rather than guessed at: a wrong row in the table is a wrong audit.
"""

from pathlib import Path

import numpy as np

from unlabel.core.errors import MissingFiles
from unlabel.data.dataset import Source
from unlabel.data.images.cache import decoded
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, match_files, named_folder, source_of_images
from unlabel.data.readers.tables import read_attributes, read_meta


def load_folder(path: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads ``images/``, ``attributes.csv`` and an optional ``meta.csv``.

    Images are ordered by name, so the order of the rows changes nothing, and neither does the place of the
    folder: equal contents give equal ``facts["digest"]``.

    Args:
        path: The folder.
        options: See `ReadOptions`.

    Raises:
        OptionError: No folder is named.
        MissingFiles: The folder, a table or an image is missing.
        LabelMismatch: A wanted label has no column.
        DataError: A table is malformed, an image cannot be read, or a split is too small.
    """
    root = named_folder("folder", path)
    _check_layout(root)
    names, ids, target = read_attributes(root / "attributes.csv", options.labels)
    order = np.argsort(ids, kind="stable")
    ids, target = [ids[at] for at in order], target[order]
    meta = read_meta(root / "meta.csv", ids)
    files, ignored = match_files(root / "images", ids, "attributes.csv")
    annotations, wording = Annotations(names, ids, target, meta.split, meta.identity), Wording()
    annotations.splits(wording)  # refused before the long decoding, not after it
    images = decoded(root / "images", files, options.size(), workers=options.workers, log=options.log)
    facts = {"ignored_files": ignored, "ignored_meta_rows": meta.ignored}
    return source_of_images(
        f"folder:{root}", annotations, images, wording, facts, skip_bad=options.skip_bad, log=options.log
    )


def _check_layout(root: Path) -> None:
    expected = "expected a folder with images/ and attributes.csv"
    if not root.is_dir():
        state = "is not a folder; unpack it first" if root.exists() else "does not exist"
        raise MissingFiles(f"{root} {state}; {expected}")
    for name, there in (("attributes.csv", Path.is_file), ("images", Path.is_dir)):
        if not there(root / name):
            inside = sorted(table.parent.name for table in root.glob("*/attributes.csv"))
            nearby = f". It is one level down: folder:{root / inside[0]}" if inside else ""
            raise MissingFiles(f"no {name} in {root}; {expected}{nearby}")
