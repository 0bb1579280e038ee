"""The bound that needs no training, on many models of one original: docs/results/bound.md.

python benchmarks/bound.py ORIGINAL LABEL RUN...

Prints one line of JSON a model, the original first: what an audit without references has in
``claims.C2.notes.bound``. A Retrain is judged as if it had been unlearned. Readings are kept in the cache.
"""

import argparse
import json
from pathlib import Path

from unlabel.audit.attacks.residual_shares import find_residual
from unlabel.audit.claims.c2_bound import bound_notes
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import context_of
from unlabel.audit.reading.outputs import more_untrained, random_init, read_run
from unlabel.audit.setup import open_request
from unlabel.core import engine
from unlabel.core.progress import SILENT
from unlabel.core.workers import one_thread
from unlabel.runs.folder import load_run


def main() -> None:
    """Reads the models and prints the bound of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("label")
    parser.add_argument("runs", type=Path, nargs="*")
    given = parser.parse_args()
    options = AuditOptions()
    where = engine.start().with_seed(options.seed)
    case = open_request([given.label], given.original, [], where, None)
    sets = sets_of(case.source, options.seed, case.planting)
    with one_thread():
        untrained = random_init(case.original, sets, where)
        further = more_untrained(case, sets, where)
        before = read_run(case.original, "before", sets, where)
        for path in (given.original, *given.runs):
            after = read_run(load_run(path), "after", sets, where)
            inputs = AuditInputs(
                before, after, (), case.request, *(sets.probe, sets.test, sets.train),
                random_init=untrained, untrained=further,
            )  # fmt: skip
            context = context_of(inputs, options, SILENT, None)
            found = find_residual(inputs, context)
            bound = bound_notes(found, context.questions, options, exclusive=context.exclusive)
            print(json.dumps({"run": path.name, **bound}), flush=True)


if __name__ == "__main__":
    main()
