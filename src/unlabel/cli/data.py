"""``unlabel data``: show what a data source holds, before a model is trained on it."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import NoNegative, named
from unlabel.cli.options import image_size as image_size_of
from unlabel.core.caching import Cache

_PICTURE, _FACTS = "correlations.svg", "data.json"


def data(
    source: str,
    *,
    labels: str | None = None,
    image_size: str | None = None,
    out: Path | None = None,
    cache: Cache = "disk",
    workers: int | None = None,
    force: Annotated[bool, NoNegative] = False,
    quiet: Annotated[bool, NoNegative] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show what a data source holds: splits, labels, correlations, sizes, duplicates, unreadable files.

    Args:
        source: Where the data comes from: faces, folder:PATH, table:FILE, parquet:PATH ...
        labels: Labels to read, comma-separated; all by default. Put a backslash before a comma in a name.
        image_size: Side in pixels at which images are compared, or height,width such as 256,128.
        out: Folder for correlations.svg and data.json.
        cache: Where decoded photos are kept: disk, memory or none.
        workers: Processes that decode photos; by default one a core.
        force: Replace these files.
        quiet: Print warnings and errors alone.
        json_: Print as JSON.
    """
    from unlabel.cli.progress import terminal_log
    from unlabel.core.files import make_parent, write_json, write_text
    from unlabel.core.places import check_file, check_folder
    from unlabel.data import load
    from unlabel.data.survey import survey
    from unlabel.data.survey.picture import correlations
    from unlabel.data.survey.text import lines

    wanted = named("--labels", labels) or None
    size = None if image_size is None else image_size_of("--image-size", image_size)
    if out is not None:
        check_folder(out)
        for name in (_PICTURE, _FACTS):
            check_file(out / name, force=force)
    log = terminal_log(quiet=quiet)
    data = load(
        source,
        image_size=size,
        labels=wanted,
        skip_bad=True,
        cache=cache,
        workers=workers,
        log=log,
    )
    facts = survey(data, log)
    if out is not None:
        make_parent(out / _PICTURE)
        write_text(out / _PICTURE, correlations(facts))
        write_json(out / _FACTS, facts)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if json_ else "\n".join(lines(facts)))
    if out is not None and not json_:
        print(out / _PICTURE)
