"""``unlabel reproduce``: make the tables and figures of the paper again."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place

Page = Literal[
    "table1", "table2", "table3", "table4", "table5", "figure2", "figure3", "privacy", "correlation"
]


def reproduce(
    page: Page,
    *,
    scale: Literal["small", "full"] = "small",
    data: Annotated[list[str] | None, NoNegative] = None,
    out: Path = Path("reproduce"),
    cache: Path | None = None,
    dry_run: Annotated[bool, NoNegative] = False,
    force: Annotated[bool, NoNegative] = False,
    place: Annotated[Place, Parameter(name="*")] = DEFAULT_PLACE,
) -> None:
    """Make a table or figure of the paper again, beside the paper's figures, as a page of Markdown and JSON.

    Args:
        page: Table or figure to make.
        scale: small needs no data and two cores; full is the published setting and needs data and a GPU.
        data: Data set to use instead of the scale's own: celeba:PATH, mufac:PATH ... or NAME=SOURCE. May be
            repeated.
        out: Folder of the page.
        cache: Folder of trained models and finished cells, shared by all pages. By default the user's cache.
        dry_run: Only list the models to train and the labels to forget.
        force: Replace files in OUT that have the page's names but are other files.
    """
    from unlabel.reproduce.command import make_page, plan_lines, request

    wanted = request(page, scale=scale, data=data or (), out=out, cache=cache, force=force)
    if dry_run:
        print("\n".join(plan_lines(wanted)))
        return
    print(make_page(wanted, place.start()))
