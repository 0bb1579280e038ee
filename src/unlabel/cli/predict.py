"""``unlabel predict``: label probabilities of image files and folders."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import NoNegative
from unlabel.core.errors import OptionError
from unlabel.core.wording import counted, listing, padded


def predict(
    run: Path,
    *images: Path,
    csv: Path | None = None,
    skip_bad: Annotated[bool, NoNegative] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    force: Annotated[bool, NoNegative] = False,
    quiet: Annotated[bool, NoNegative] = False,
) -> None:
    """Print the probability of each label for some images. A forgotten label has none.

    Args:
        run: A run folder.
        images: Image files, and folders of them.
        csv: File for a table: one row an image, one column a label, empty for a forgotten label.
        skip_bad: Leave out and name unreadable images instead of refusing.
        json_: Print one JSON list.
        force: Replace an existing file.
        quiet: Print warnings and errors alone.
    """
    from unlabel.cli.progress import terminal_log
    from unlabel.core.files import make_parent, write_text
    from unlabel.core.places import check_file
    from unlabel.exchange.predict import images_in, predict_images, to_csv

    if not images:
        raise OptionError(
            "no image is named; expected one or more files or folders: unlabel predict RUN IMAGE..."
        )
    if csv is not None:
        check_file(csv, force=force)
    files, others = images_in(images)
    log = terminal_log(quiet=quiet or len(files) == 1)
    made = predict_images(run, files, skip_bad=skip_bad, log=log)
    if others:
        print(f"unlabel: {others:,} files in the folders are no images by their names", file=sys.stderr)
    if made.bad:
        shown = listing([f"{path}: {reason}" for path, reason in made.bad.items()], 20)
        print(
            f"unlabel: {counted(len(made.bad), 'image')} cannot be read: left out ({shown})", file=sys.stderr
        )
    if csv is not None:
        make_parent(csv)
        write_text(csv, to_csv(made.rows))
    if json_:
        print(json.dumps(made.rows, ensure_ascii=False))
    elif csv is not None:
        print(csv)
    else:
        for row in made.rows:
            print(row["image"])
            for label, probability in row["labels"].items():
                print(f"  {padded(label, 24)} {'forgotten' if probability is None else f'{probability:.3f}'}")
