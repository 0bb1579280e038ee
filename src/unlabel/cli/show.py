"""``unlabel show``: describe a run and the runs that it came from."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import NoNegative


def show(
    run: Path,
    *,
    history: Annotated[bool, NoNegative] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show what a run is: labels, how it was made, sizes, ancestors.

    Args:
        run: A run folder.
        history: Show the chain of runs that it came from, back to the original.
        json_: Print as JSON.
    """
    from unlabel.runs.description import chain, chain_table, describe, table

    facts = chain(run) if history else describe(run)
    if json_:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    print(chain_table(facts) if history else table(facts))
    print(run)
