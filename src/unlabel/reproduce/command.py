"""``unlabel reproduce NAME``: make what a page needs, write it, say where."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest
from unlabel.data.images.cache_folder import cache_folder
from unlabel.reproduce.document import check_page, document, write_page
from unlabel.reproduce.scale import SCALES, Scale
from unlabel.reproduce.study import Made, bare, carry_out, planned, with_data
from unlabel.reproduce.trained import Frontier, sized

PAGES: dict[str, str] = {
    "table1": "epsilon and tau of the paper's two methods",
    "table2": "every method, multi-label",
    "table3": "age groups, one forgotten",
    "table4": "attribute by attribute",
    "table5": "one class of three image sets forgotten",
    "figure2": "entropy of the outputs",
    "figure3": "run time",
    "privacy": "attribute inference and membership",
    "correlation": "original against decorrelated labels",
    "frontier": "cost of every method against what comes back",
}
FRONTIER = "frontier"
NOT_ASKED = Frontier()
MEASURED = "figure3"
"""The page that computes for its own sake: a time is never read back."""


@dataclass(frozen=True)
class Request:
    """One page to make.

    Args:
        name: A name of `PAGES`.
        scale: Sizes.
        out: Folder of the page.
        cache: Folder of runs and cells.
        command: What was typed, without paths.
        force: Replace files in the page's folder that are no page of this name.
    """

    name: str
    scale: Scale
    out: Path
    cache: Path
    command: str
    force: bool = False


def request(
    name: str,
    *,
    scale: str,
    data: Sequence[str],
    out: Path | None,
    cache: Path | None,
    force: bool = False,
    frontier: Frontier = NOT_ASKED,
) -> Request:
    """Checks what was typed.

    Args:
        name: The page.
        scale: ``small`` or ``full``.
        data: See `study.with_data`.
        out: Folder of the page; None for ``reproduce`` in the current folder.
        cache: Folder of runs and cells; None for one in the user's cache.
        force: See `Request`.
        frontier: Options of that page alone.

    Raises:
        OptionError: No such page, scale or data set, or the scale needs data that is not named.
        UnlabelError: A folder of `frontier` is no run.
    """
    if name not in PAGES:
        raise OptionError(f"no page '{name}'; expected one of {', '.join(PAGES)}.{suggest(name, PAGES)}")
    if scale not in SCALES:
        raise OptionError(f"no scale '{scale}'; expected one of {', '.join(SCALES)}")
    words = ["unlabel reproduce", name, f"--scale {scale}", *(f"--data {bare(item)}" for item in data)]
    sizes = with_data(SCALES[scale], data)
    if name == FRONTIER:
        if data and frontier.runs:
            raise OptionError("--runs bring their own data; leave --data out")
        words, sizes = [*words, *frontier.words()], sized(sizes, frontier)
    elif frontier != NOT_ASKED:
        raise OptionError(f"--runs, --methods, --steps and --seeds are options of {FRONTIER}, not of {name}")
    return Request(
        name, sizes, out or Path("reproduce"), cache or cache_folder() / "reproduce", " ".join(words), force
    )


def plan_lines(wanted: Request) -> list[str]:
    """What the page would make, computing nothing.

    Raises:
        OptionError: The scale needs data that is not named.
    """
    module, scale = _module(wanted.name), wanted.scale
    lines = planned(module.studies(scale), scale, wanted.cache)
    return [*lines, *module.plan(scale)] if wanted.name == MEASURED else lines


def make_page(wanted: Request, where: Run) -> Path:
    """Makes what the page needs, then the page.

    Args:
        wanted: The page.
        where: One process; its seed is the audit's.

    Returns:
        The path of the Markdown.

    Raises:
        UnlabelError: As training, forgetting and auditing raise.
    """
    module, scale = _module(wanted.name), wanted.scale
    check_page(wanted.name, wanted.out, force=wanted.force)
    if where.processes != 1:
        raise OptionError(f"--devices is {where.processes}; a page is computed in one process: leave it out")
    asked = module.studies(scale)
    planned(asked, scale, wanted.cache)  # what is missing is refused before anything is trained
    known: dict[tuple[Any, ...], str] = {}
    made = [carry_out(study, scale, wanted.cache, where, known) for study in asked]
    extra = (where,) if wanted.name == MEASURED else ()
    content = module.content(made, scale, *extra)
    page = document(wanted.name, content, scale, data_of(made, scale), where, wanted.command)
    check_page(
        wanted.name, wanted.out, force=wanted.force
    )  # another command may have written there meanwhile
    return write_page(page, content.pictures, wanted.out)


def data_of(made: Sequence[Made], scale: Scale) -> list[dict[str, Any]]:
    """What the page says of its data: each set once."""
    entries: dict[str, dict[str, Any]] = {}
    for item in made:
        task = scale.tasks[item.study.task]
        entries[item.study.task] = {
            "title": task.title,
            "source": bare(item.source),
            "stands_for": task.stands_for,
            "counts": item.facts["counts"],
            "digest": item.facts["digest"],
        }
    return list(entries.values())


def _module(name: str) -> Any:
    return import_module(f"unlabel.reproduce.pages.{name}")
