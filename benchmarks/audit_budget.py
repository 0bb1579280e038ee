"""Time of an audit of run folders under one budget, with its models' outputs read before and not.

    python benchmarks/audit_budget.py RUN --before BEFORE --reference A,B,C [--budget standard] [--json FILE]

Audits twice and prints seconds of wall clock and of processor time of each: the second finds every model's
outputs in the cache, as the budgets promise (quick under a minute, standard under ten on two cores).
Writes nothing into RUN.
"""

import argparse
import json
import time
from pathlib import Path

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine

PROMISED = {"quick": 60.0, "standard": 600.0}


def once(given: argparse.Namespace, references: list[Path]) -> dict[str, object]:
    """One audit's seconds, verdicts and number of figures."""
    wall, processor = time.perf_counter(), time.process_time()
    options = AuditOptions(budget=given.budget, seed=given.seed)
    audit = audit_run(
        given.run, given.before, references, engine.start(seed=given.seed), options=options, write=False
    )
    return {
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "stages": {name: round(seconds, 1) for name, seconds in audit.seconds.items()},
        "headline": audit.headline,
        "claims": {name: claim.verdict for name, claim in audit.claims.items()},
        "figures": len(audit.metrics),
        "images": {name: split["n"] for name, split in audit.data["splits"].items()},
    }


def main() -> None:
    """Reads the arguments, audits twice, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--reference", default="")
    parser.add_argument("--budget", choices=("quick", "standard", "full"), default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    references = [Path(name) for name in given.reference.split(",") if name]
    first, cached = once(given, references), once(given, references)
    promised = PROMISED.get(given.budget)
    record = {
        "budget": given.budget,
        "references": len(references),
        "promised_seconds": promised,
        "kept": None if promised is None else cached["wall_seconds"] < promised,
        "first": first,
        "cached": cached,
    }
    print(json.dumps(record, indent=2))
    if given.json:
        given.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
