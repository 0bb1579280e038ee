"""Two solvers of logistic regression: how long a search over C takes, and how far from the optimum it ends.

    python benchmarks/logistic.py

The columns are made up, and correlated as a network's features are. Times are of the processor, in one run.
"""

import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from unlabel.audit.attacks.logistic import GRADIENT
from unlabel.audit.attacks.probes import PENALTIES

SIZES = ((2000, 128), (3000, 256), (3000, 512))
SOLVERS = {"L-BFGS": ("lbfgs", 1e-4), "Newton": ("newton-cholesky", GRADIENT)}


def main() -> None:
    rng = np.random.default_rng(0)
    print("images columns  solver  seconds  iterations  farthest score from the optimum (C = 10)")
    for images, columns in SIZES:
        x = rng.normal(size=(images, columns)) @ (
            rng.normal(size=(columns, columns)) * np.exp(-np.arange(columns) / 20)
        )
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
            print(f"{images:6,} {columns:7,}  {name:6}  {seconds:7.3f}  {iterations}  {off:.1e}")


if __name__ == "__main__":
    main()
