"""``unlabel demo``: train, forget, audit and report, with no data and no arguments."""

from pathlib import Path
from typing import Annotated

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place


def demo(
    *,
    out: Path = Path("demo"),
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Train on drawn faces, forget Male, retrain without it, audit, and write the page. No data needed.

    Args:
        out: Folder for the four runs and the report.
        force: Replace the runs of an earlier demo.
    """
    from unlabel.cli.demo_steps import run_demo

    print(run_demo(out, place.start(), force=force))
