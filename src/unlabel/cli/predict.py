"""``unlabel predict``: label probabilities of image files."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.core.errors import OptionError


def predict(
    run: Path,
    *images: Path,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Print the probability of each label for some images. A forgotten label has none.

    Args:
        run: A run folder.
        images: Image files.
        json_: Print one JSON list.
    """
    from unlabel.exchange.predict import predict_files

    if not images:
        raise OptionError("no image is named; expected one or more files: unlabel predict RUN IMAGE...")
    rows = predict_files(run, images)
    if json_:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        print(row["image"])
        for label, probability in row["labels"].items():
            print(f"  {label:24s} {'forgotten' if probability is None else f'{probability:.3f}'}")
