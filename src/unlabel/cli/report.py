"""``unlabel report``: an audit as a page, and a run's model card."""

import sys
from pathlib import Path
from typing import Annotated

from unlabel.cli.options import DEFAULT_PLACE, Json, NoNegative, command_line
from unlabel.cli.output import print_json
from unlabel.core.errors import OptionError


def report(
    run: Path,
    *,
    out: Path | None = None,
    with_images: Annotated[bool, NoNegative] = False,
    data: str | None = None,
    force: Annotated[bool, NoNegative] = False,
    license_: str | None = None,
    json_: Json = False,
) -> None:
    """Write the audit of a run as one HTML page, which opens offline, and the run's model card.

    Args:
        run: A run with an audit, or the folder of a comparison.
        out: HTML file to write. By default RUN/report.html, together with the model card RUN/README.md.
        with_images: Show example images of the audit's data, which may be photographs of people. The page is
            RUN-with-images.html beside RUN, never in it, because the files in RUN may be signed and shared.
        data: With --with-images: data source to use instead of the recorded one.
        force: Replace a file that is no page of the same run or comparison. The run's own files are never
            replaced.
        license_: Licence of the model, for the model card: an identifier such as apache-2.0.
        json_: Print where the page and the model card are as JSON.
    """
    from unlabel.compare.files import JSON
    from unlabel.report.card import write_card
    from unlabel.report.page import check_page, write_report

    compared = (run / JSON).is_file() and not (run / "audit.json").is_file()
    if license_ is not None and (compared or out is not None or with_images):
        raise OptionError(
            "--license is for the model card, which comes with the plain report only; leave out --out and"
            " --with-images"
        )
    if with_images:
        if compared:
            raise OptionError(f"{run} is a comparison, whose page shows no images; leave out --with-images")
        from unlabel.report.examples import write_gallery

        where, line = DEFAULT_PLACE.start(), command_line()
        _print(write_gallery(run, where, out, data=data, force=force, command=line), json_=json_)
        return
    if data is not None:
        raise OptionError("--data is for --with-images alone; the plain report reads audit.json")
    if compared:
        from unlabel.compare.page import write_page

        _print(write_page(run, out, force=force), json_=json_)
        return
    card = None
    if out is None:
        check_page(run, force=force)
        card = write_card(run, license_)
    page = write_report(run, out, force=force)
    if out is None:
        message = f"{run / 'README.md'} is not as unlabel wrote it, and is kept; delete it for a new one"
        print(card or message, file=sys.stderr if json_ else sys.stdout)
    _print(page, card, json_=json_)


def _print(page: Path, card: Path | None = None, *, json_: bool) -> None:
    """The last line, or the one object: the page, and the model card if one was written."""
    if json_:
        print_json({"page": str(page), "card": None if card is None else str(card)})
    else:
        print(page)
