"""``unlabel demo``: forget a label, audit and report, with no data and no arguments."""

from pathlib import Path
from typing import Annotated

from unlabel.cli.options import DEFAULT_PLACES, Json, NoNegative, Places
from unlabel.cli.output import print_json


def demo(
    *,
    out: Path = Path("demo"),
    from_scratch: Annotated[bool, NoNegative] = False,
    json_: Json = False,
    force: Annotated[bool, NoNegative] = False,
    place: Places = DEFAULT_PLACES,
) -> None:
    """Make a network forget Male, audit it against three retrained ones, and write the page. No data needed.

    Args:
        out: Folder for the five runs and the report.
        from_scratch: Train the original and the three retrained networks here, by --seed and the three seeds
            after it, instead of copying the ones that come with unlabel.
        json_: Print where the page and the runs are as JSON.
        force: Replace the runs of an earlier demo.
    """
    from unlabel.cli.demo_networks import SHIPPED
    from unlabel.cli.demo_steps import run_demo

    page = run_demo(
        out,
        place.start(),
        networks=None if from_scratch else SHIPPED,
        force=force,
        show=(lambda _: None) if json_ else print,
    )
    if json_:
        runs = sorted(str(record.parent) for record in out.glob("*/unlabel.json"))
        print_json({"page": str(page), "audit": str(out / "unlearned" / "audit.json"), "runs": runs})
    else:
        print(page)
