"""Two solvers of logistic regression: how long a search over C takes, and how far from the optimum it ends.

    python benchmarks/logistic.py

The columns are made up: sums of as many numbers, whose spread falls off (correlated columns, as a network's
features are) or is one. Times are of the processor, in one run.
"""

import time
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression

from unlabel.audit.attacks.logistic import GRADIENT
from unlabel.audit.attacks.probes import PENALTIES

SIZES = ((2000, 128), (3000, 256), (3000, 512))
FALL = {"correlated": 20.0, "not": np.inf}  # numbers after which the spread is 1/e
SOLVERS = {"L-BFGS": ("lbfgs", 1e-4), "Newton": ("newton-cholesky", GRADIENT)}


def main() -> None:
    rng = np.random.default_rng(0)
    print("images columns  correlated  solver  seconds  iterations  farthest from the optimum (C = 10)")
    for (images, columns), (kind, fall) in product(SIZES, FALL.items()):
        spread = np.exp(-np.arange(columns) / fall)
        x = (rng.normal(size=(images, columns)) * spread) @ rng.normal(size=(columns, columns))
        x = (x - x.mean(0)) / x.std(0)
        y = x @ rng.normal(size=columns) / columns**0.5 + rng.logistic(size=images) > 0
        best = LogisticRegression(C=PENALTIES[-1], solver="newton-cholesky", tol=1e-12).fit(x, y)
        for name, (solver, tol) in SOLVERS.items():
            start = time.process_time()
            fits = [
                LogisticRegression(C=c, solver=solver, tol=tol, max_iter=2000).fit(x, y) for c in PENALTIES
            ]
            seconds = time.process_time() - start
            iterations = [int(fitted.n_iter_[0]) for fitted in fits]
            off = np.abs(fits[-1].decision_function(x) - best.decision_function(x)).max()
            print(f"{images:6,} {columns:7,}  {kind:10}  {name:6}  {seconds:7.3f}  {iterations}  {off:.1e}")


if __name__ == "__main__":
    main()
