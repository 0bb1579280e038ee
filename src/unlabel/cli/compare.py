"""``unlabel compare``: methods side by side under one budget."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place, command_line, names


def compare(
    run: Path,
    *,
    labels: str,
    out: Path,
    methods: str = "all",
    seeds: int = 3,
    budget_steps: int = 188,
    reference: str | None = None,
    make_references: int | None = None,
    images: int = 2048,
    search: int = 0,
    data: str | None = None,
    keep_models: Annotated[bool, NoNegative] = False,
    force: Annotated[bool, NoNegative] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Compare methods under one budget, over several seeds, against retrained models. Resumes.

    Args:
        run: The run to forget from; it is only read.
        labels: Labels to forget, comma-separated; a comma in a name stands after a backslash.
        out: Folder of the comparison; what is finished in it is used again.
        methods: Methods, comma-separated; all of them by default.
        seeds: Forgetting seeds of each method, from --seed on.
        budget_steps: Optimiser steps each may take; images through the network follow from the batch size.
        reference: Runs retrained without the labels, comma-separated.
        make_references: Train so many first, by RUN's recipe and beside it; finished ones serve again.
        images: Calibration images.
        search: Settings of each method to try on P first, up to 6; 0 takes the defaults.
        data: Another data source than the one the run remembers.
        keep_models: Keep the unlearned models in OUT/runs.
        force: Compute finished cells again, and replace another comparison in OUT.
        json_: Print the comparison as JSON.
    """
    from unlabel.compare.command import compare_run
    from unlabel.compare.text_table import lines

    found = compare_run(
        run,
        names(labels),
        names(methods),
        out,
        place.start(),
        seeds=seeds,
        budget_steps=budget_steps,
        references=[Path(name) for name in names(reference)],
        make_references=make_references,
        images=images,
        settings=search,
        data=data,
        force=force,
        keep_models=keep_models,
        command=command_line(),
    )
    if json_:
        print(json.dumps(found, ensure_ascii=False))
        return
    print("\n".join(lines(found)))
    print(out / "compare.html")
