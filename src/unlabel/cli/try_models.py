"""``unlabel try``: a local page with the answers of original, unlearned and retrained model side by side."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabel.cli.options import DEFAULT_PLACE, Json
from unlabel.cli.output import print_json
from unlabel.core.errors import OptionError

if TYPE_CHECKING:
    from unlabel.cli.try_page import Pages
    from unlabel.data.dataset import Dataset
    from unlabel.runs.folder import Loaded

MOST_PORT = 65_535
_PRESENT = {1: "yes", 0: "no", -1: "unknown"}


def try_(
    run: Path,
    *,
    reference: Path | None = None,
    before: Path | None = None,
    port: int = 0,
    data: str | None = None,
    json_: Json = False,
) -> None:
    """Show what a run, its original and a retrained run say of a picture, on a page of this machine.

    The page keeps nothing. Only this machine can open it. Ctrl-C ends it.

    Args:
        run: The unlearned run.
        reference: A run retrained without the label.
        before: The run that RUN was made from, if it is neither at its recorded place nor beside RUN.
        port: Port on 127.0.0.1; by default one that is free.
        data: Data source of the pictures, instead of the recorded one.
        json_: Print the address as JSON.
    """
    from unlabel.cli.try_page import Server
    from unlabel.exchange.side_by_side import models_to_try

    if not 0 <= port <= MOST_PORT:
        raise OptionError(f"--port is {port}; expected 0 to {MOST_PORT}")
    models = models_to_try(run, before, reference)
    pages = pages_of(models, _pictures(models, data))
    try:
        server = Server(pages, port)
    except OSError as error:
        raise OptionError(
            f"--port {port} cannot be used ({error.strerror}); leave it out for a free one"
        ) from error
    with server:
        print_json({"address": server.address}) if json_ else print(server.address, flush=True)
        sys.stdout.flush()
        print("open this address in a browser; Ctrl-C ends it", file=sys.stderr)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)


def _pictures(models: Mapping[str, "Loaded"], data: str | None) -> "Dataset | None":
    """The test images of the run's data; None, and a line on stderr, where the recorded data is not there."""
    from unlabel.core.errors import UnlabelError
    from unlabel.exchange.side_by_side import UNLEARNED
    from unlabel.runs.record import source_of

    run = models[UNLEARNED]
    try:
        return source_of(run.config, run.record, data, skip_bad=True, run=DEFAULT_PLACE.start()).test
    except UnlabelError as error:
        if data is not None:
            raise
        print(f"no pictures of the data are shown: {error}", file=sys.stderr)
        return None


def pages_of(models: Mapping[str, "Loaded"], pictures: "Dataset | None") -> "Pages":
    """The pages that a server shows of these models.

    Args:
        models: By title, see `exchange.side_by_side`.
        pictures: Images to go through, with annotations; None for none.
    """
    import numpy as np

    from unlabel.cli.try_page import Pages
    from unlabel.data.images.decoding import Unreadable
    from unlabel.exchange.side_by_side import answers, shown_pixels

    def page(picture: Any, said: str, number: int = -1, present: Mapping[str, str] | None = None) -> str:
        facts = {"said": said, "next": number + 1, "present": present, "drawings": pictures is not None}
        if picture is None:
            return _html(models, **facts)
        try:
            return _html(models, rows=answers(models, picture), pixels=shown_pixels(models, picture), **facts)
        except Unreadable as error:
            facts["said"] = "No picture is shown."
            return _html(models, trouble=f"This file cannot be used: {error}.", **facts)

    def drawing(number: int) -> str:
        if pictures is None:
            return page(None, "The run's data is not at hand. Choose a picture of your own.")
        at = number % len(pictures)
        target = dict(zip(pictures.labels, pictures.target[at].tolist(), strict=True))
        present = {name: _PRESENT[value] for name, value in target.items()}
        caption = f"Picture {at + 1:,} of {len(pictures):,} test images, which no model was trained on."
        return page(pictures.images(np.array([at]))[0], caption, at, present)

    return Pages(drawing, lambda content: page(content, "Your own picture, as the models see it."))


def _html(
    models: Mapping[str, "Loaded"], *, rows: Any = (), pixels: Any = None, trouble: str = "", **facts: Any
) -> str:
    from unlabel.exchange.side_by_side import UNLEARNED
    from unlabel.report.page import environment
    from unlabel.report.pictures import address
    from unlabel.report.sections.provenance import place

    run = models[UNLEARNED]
    source = run.record.data.source if run.record.data else None
    return (
        environment()
        .get_template("try.html")
        .render(
            titles=list(models),
            forgotten=run.config.forgotten,
            network=run.config.network,
            place=place(source),
            image=None if pixels is None else address(pixels),
            rows=rows,
            trouble=trouble,
            **facts,
        )
    )
