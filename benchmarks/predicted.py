"""Calibration of predicted references: docs/results/predicted.md, and predicted-relearning.md.

python benchmarks/predicted.py RUNS --out docs/results/predicted.md
python benchmarks/predicted.py RUNS --relearning --out docs/results/predicted-relearning.md

RUNS is a folder of runs: of each data set an original, the same trained for 1/20 and 1/10 of the epochs, and
Retrains without one label at these lengths and at the whole one. What they are, the records of the runs tell.
What the attacks read is kept in --scratch, so that the command goes on when more worlds are there. Several
minutes a world the first time, seconds after that.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from prediction.fitted import PARAMETERS, by_data, with_drift
from prediction.measured import measured
from prediction.page import page
from prediction.relearning import SIZES, fitted, left_out, rms, taught
from prediction.relearning_page import page as relearning_page
from prediction.worlds import find_worlds
from unlabel.core import engine
from unlabel.core.files import write_text
from unlabel.core.workers import one_thread


def main() -> None:
    """Reads all worlds and writes the page; prints the rules for `audit.attacks.prediction`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path("predicted"))
    parser.add_argument("--relearning", action="store_true", help="of few annotated images, as C4 judges")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    where, worlds = engine.start(), find_worlds(given.runs)
    if given.relearning:
        with one_thread():
            found = [taught(world, where, given.scratch) for world in worlds]
        for n in SIZES:
            missed = [item for item in left_out(found) if item.n == n]
            print(f"few@{n}", replace(fitted(found), drift=2 * rms(missed), df=len(missed) - PARAMETERS))
        if given.out:
            write_text(given.out, relearning_page(found))
            print(given.out)
        return
    with one_thread():
        reads = [measured(world, where, given.scratch) for world in worlds]
    for unit, rule in with_drift(reads, by_data).items():
        print(unit, rule)
    if given.out:
        write_text(given.out, page(reads))
        print(given.out)


if __name__ == "__main__":
    main()
