"""``unlabel compare`` and ``unlabel report``: the flags of the commands that end in a page."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.errors import OptionError
from unlabel.options import DEFAULT_PLACE, NoNegative, Place, command_line, names


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
    from unlabel.compare.sheet import lines

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


def report(
    run: Path,
    *,
    out: Path | None = None,
    with_images: Annotated[bool, NoNegative] = False,
    data: str | None = None,
    force: Annotated[bool, NoNegative] = False,
    license_: str | None = None,
) -> None:
    """Write the audit of a run as one HTML page that opens offline, and the run's model card.

    Args:
        run: A run with an audit; or the folder of a comparison, whose page is written again.
        out: HTML file to write; by default RUN/report.html, and the model card RUN/README.md with it.
        with_images: Show example images of the audit's data, photographs of people among them. The page is
            RUN-with-images.html beside RUN, never in it: what lies in RUN is signed and given away.
        data: With --with-images, where the audit's data lies now.
        force: Replace a file that is no page of the same run or comparison; a run's own files are kept.
        license_: The model's licence, for the model card: an identifier such as apache-2.0.
    """
    from unlabel.compare.command import JSON, write_page
    from unlabel.report import check_page, write_card, write_report

    compared = (run / JSON).is_file() and not (run / "audit.json").is_file()
    if license_ is not None and (compared or out is not None or with_images):
        raise OptionError(
            "--license is for the model card, which is written into RUN with the plain report only; leave out"
            " --out and --with-images"
        )
    if with_images:
        if compared:
            raise OptionError(f"{run} is a comparison, whose page shows no images; leave out --with-images")
        from unlabel.report.examples import write_gallery

        print(write_gallery(run, DEFAULT_PLACE.start(), out, data=data, force=force, command=command_line()))
        return
    if data is not None:
        raise OptionError("--data goes with --with-images; the plain report is made from audit.json")
    if compared:
        print(write_page(run, out, force=force))
        return
    if out is None:
        check_page(run, force=force)
        card = write_card(run, license_)
        print(card or f"{run / 'README.md'} is not as unlabel wrote it, and is kept; delete it for a new one")
    print(write_report(run, out, force=force))
