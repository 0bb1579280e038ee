"""What the unlearned run's own check says of places that this audit's budget does not read.

`forget auto` reads its result before it returns, and its run records what it found under ``self_check``. A
check that fell short at an earlier stage is no verdict. But an audit that reads no such stage must say so.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unlabel.audit.document.results import Claim
from unlabel.audit.inputs.options import Budget
from unlabel.core.wording import listing

EARLY = ("stage", "grid")
"""How the names of sites before the last features begin."""


def unread_sites(record: Any, budget: Budget) -> str | None:
    """Where the run's check did not reach its aim and the audit does not look, in sentences; None: nowhere.

    Args:
        record: The unlearned run's, with its ``self_check`` if the method made one. It may be damaged.
        budget: Of the audit.
    """
    if not budget.durability or budget.early_layers:
        return None
    check = record.get("self_check") if isinstance(record, Mapping) else None
    if (
        not isinstance(check, Mapping)
        or check.get("against") != "weights"
        or check.get("reached") is not False
    ):
        return None
    rows = check.get("sites")
    rows = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
    sites = [str(row.get("site")) for row in rows if row.get("reached") is False]
    early = list(dict.fromkeys(site for site in sites if site.startswith(EARLY)))
    if not early:
        return None
    return (
        f"The run's own check did not reach its aim against weights at {listing(early, 3)}. The {budget.name}"
        " budget does not read earlier stages: audit the run under --budget full."
    )


def with_own_check(claim: Claim, found: str | None) -> Claim:
    """C4 with what `unread_sites` says among its notes; its verdict stays."""
    return claim if found is None else replace(claim, notes={**claim.notes, "own_check": found})
