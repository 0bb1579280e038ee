"""``unlabel inspect``: show where a run's network can be read, and which protection looks there."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def inspect(run: Path, *, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """Show the head and the sites of a run's network: the places at which a label can be read.

    Args:
        run: A run folder.
        json_: Print as JSON.
    """
    from unlabel.forget.inspection import inspect_run, table

    facts = inspect_run(run)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if json_ else table(facts))
    if not json_:
        print(run)
