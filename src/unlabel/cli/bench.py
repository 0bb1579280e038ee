"""``unlabel bench``: how fast the program is here, as ratios measured in one run."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place, named


def bench(
    *,
    scale: str = "default",
    parts: str | None = None,
    methods: str | None = None,
    out: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Measure speed on this machine: training, input, forgetting, audits, each against something known.

    A ratio above 1 says that ours is faster. Figures of two runs are not comparable: use one.

    Args:
        scale: tiny, default (for two cores), or full (for a machine with a GPU).
        parts: Some of start, loop, input, index, processes, methods, sizes, audit, comma-separated. All by
            default.
        methods: Methods to time, comma-separated. All but retrain by default, which the others are compared
            with.
        out: File to write the figures to, as JSON.
        json_: Print the figures as JSON.
        force: Replace an existing file.
    """
    from unlabel.bench.command import PARTS, table
    from unlabel.bench.command import bench as measure
    from unlabel.core.files import make_parent, write_json
    from unlabel.core.places import check_file

    if out is not None:
        check_file(out, force=force)
    chosen = named("--parts", parts, "part") or PARTS
    results = measure(place.start(), scale=scale, parts=chosen, methods=named("--methods", methods, "method"))
    if out is not None:
        make_parent(out)
        write_json(out, results)
    print(json.dumps(results, ensure_ascii=False) if json_ else table(results))
    if out is not None and not json_:
        print(out)
