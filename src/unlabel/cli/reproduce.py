"""``unlabel reproduce``: make the tables and figures of the paper again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import Group, Parameter

from unlabel.cli.options import Json, NoNegative, Place, named, whole_numbers
from unlabel.cli.output import print_json
from unlabel.core.caching import Cache
from unlabel.core.errors import OptionError

Page = Literal[
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "figure2",
    "figure3",
    "privacy",
    "correlation",
    "frontier",
]
ALONE = Group("For frontier only")


@dataclass(frozen=True)
class PagePlace(Place):
    """The same without a choice for decoded photos: ``--cache`` is here the folder of trained models."""

    cache: Annotated[Cache, Parameter(parse=False)] = "disk"


DEFAULT_PAGE_PLACE = PagePlace()


def reproduce(
    page: Page,
    *,
    scale: Literal["small", "full"] = "small",
    data: Annotated[list[str] | None, NoNegative] = None,
    out: Path = Path("reproduce"),
    cache: Path | None = None,
    dry_run: Annotated[bool, NoNegative] = False,
    json_: Json = False,
    force: Annotated[bool, NoNegative] = False,
    runs: Annotated[list[str] | None, Parameter(negative=(), group=ALONE)] = None,
    methods: Annotated[str, Parameter(group=ALONE)] = "all",
    steps: Annotated[str | None, Parameter(group=ALONE)] = None,
    seeds: Annotated[int | None, Parameter(group=ALONE)] = None,
    place: PagePlace = DEFAULT_PAGE_PLACE,
) -> None:
    """Make a table or figure of the paper again, beside the paper's figures, as a page of Markdown and JSON.

    Args:
        page: Table or figure to make.
        scale: small needs no data and two cores; full is the published setting and needs data and a GPU.
        data: Data set to use instead of the scale's own: celeba:PATH, mufac:PATH ... or NAME=SOURCE. May be
            repeated.
        out: Folder of the page.
        cache: Folder of trained models and finished cells, shared by all pages. By default the user's cache.
            Decoded photos are always kept on the disk.
        dry_run: Only list the models to train, the labels to forget and, for figure3, what is timed.
        json_: Print the path of the page, or the plan, as JSON.
        force: Replace files in OUT that have the page's names but are other files.
        runs: Data set whose models are trained already, as run folders: TITLE=ORIGINAL,RETRAIN,RETRAIN. May
            be repeated.
        methods: Names of methods, comma-separated; all of them by default.
        steps: Numbers of optimiser steps, comma-separated, that each method with a length also takes.
        seeds: Number of times that each method forgets; 3 by default.
    """
    from unlabel.reproduce.command import make_page, plan_lines, request
    from unlabel.reproduce.trained import Frontier

    if str(cache) in get_args(Cache):
        raise OptionError(
            f"--cache is {cache}, which other commands take for decoded photos; here it is the folder of"
            " trained models: name a folder of another name, or leave it out"
        )
    chosen = named("--methods", methods, "method")
    wanted = request(
        page,
        scale=scale,
        data=data or (),
        out=out,
        cache=cache,
        force=force,
        frontier=Frontier(tuple(runs or ()), chosen, whole_numbers("--steps", steps), seeds),
    )
    if dry_run:
        plan = plan_lines(wanted)
        print_json({"plan": plan}) if json_ else print("\n".join(plan))
        return
    made = make_page(wanted, place.start())
    print_json({"page": str(made)}) if json_ else print(made)
