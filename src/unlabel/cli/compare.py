"""``unlabel compare``: methods side by side under one budget."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import DEFAULT_PLACES, NoNegative, Places, command_line, named, names


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
    place: Places = DEFAULT_PLACES,
) -> None:
    """Compare methods under one budget, over several seeds, with retrained models. A second call resumes.

    Args:
        run: The run to forget from. The command only reads it.
        labels: Labels to forget, comma-separated. Put a backslash before a comma in a name.
        out: Folder of the comparison. Finished parts in it are used again.
        methods: Names of methods, comma-separated; all of them by default.
        seeds: Number of times that each method forgets, with the seeds from --seed on.
        budget_steps: Optimiser steps that each method may take. The batch size then gives the images.
        reference: Runs retrained without the labels, comma-separated.
        make_references: Number of references to train first, by RUN's recipe and beside it. Finished ones are
            used again.
        images: Number of training images that a method reads.
        search: Settings of each method to try first on the probe split, up to 6; 0 takes the defaults.
        data: Data source to use instead of the recorded one.
        keep_models: Keep the unlearned models in OUT/runs.
        force: Compute finished cells again, and replace another comparison in OUT.
        json_: Print the comparison as JSON.
    """
    from unlabel.compare.command import CompareOptions, compare_run
    from unlabel.compare.text_table import lines

    options = CompareOptions(
        seeds=seeds,
        budget_steps=budget_steps,
        make_references=make_references,
        images=images,
        settings=search,
        data=data,
        force=force,
        keep_models=keep_models,
    )
    references = [Path(name) for name in named("--reference", reference, "run")]
    chosen = named("--methods", methods, "method")
    comparison = compare_run(
        run, names(labels), chosen, references, out, place.start(), options, command=command_line()
    )
    if json_:
        print(json.dumps(comparison, ensure_ascii=False))
        return
    print("\n".join(lines(comparison)))
    print(out / "compare.html")
