"""The audit's own calibration: docs/results/calibration.md, .json and .svg.

python benchmarks/calibrate.py [--repetitions 40] --out docs/results/calibration.md

Every part is written into the .json as soon as it is done, and a part that is there already is not made
again: a run that was stopped goes on where it was. Delete the .json to start anew. Forty repetitions take a
quarter of an hour on one core.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from calibration.page import page, picture
from calibration.planted import plant
from calibration.trials import disabled_at, equivalent, erased_at, errors, estimate, useful_at
from calibration.trials_durable import durable_at
from calibration.truth import columns
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.files import write_json, write_text

ONE = AuditOptions(probe_seeds=1)
FIVE = AuditOptions()
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the margin
REFERENCES = (3, 5)
SIZES = (1500, 5000)

# shape, advantage, prior, share of the people in whom a retained label follows, images, options
PLANTS: tuple[tuple[Any, float, float, float, int, AuditOptions], ...] = (
    ("line", 0.0, 0.5, 0.5, 1500, ONE),
    ("line", 0.2, 0.5, 0.55, 1500, ONE),
    ("line", 0.5, 0.5, 0.6, 1500, ONE),
    ("line", 0.8, 0.5, 0.7, 1500, ONE),
    ("line", 0.5, 0.1, 0.6, 1500, ONE),
    ("xor", 0.2, 0.5, 0.55, 1500, ONE),
    ("xor", 0.5, 0.5, 0.6, 1500, ONE),
    ("xor", 0.8, 0.5, 0.7, 1500, ONE),
    ("norm", 0.2, 0.5, 0.55, 1500, ONE),
    ("norm", 0.5, 0.5, 0.6, 1500, ONE),
    ("norm", 0.8, 0.5, 0.7, 1500, ONE),
    ("xor", 0.5, 0.5, 0.6, 1500, FIVE),
    ("line", 0.5, 0.5, 0.6, 5000, ONE),
    ("xor", 0.5, 0.5, 0.6, 5000, ONE),
    ("norm", 0.5, 0.5, 0.6, 5000, ONE),
)


def estimates(repetitions: int, kind: tuple[Any, float, float, float, int, AuditOptions]) -> dict[str, Any]:
    """The attacks on one planted world, drawn again and again, against the truth."""
    shape, adv, prior, follow, images, options = kind
    held, others = plant(shape, adv, prior), columns(follow)
    truth = {
        "probe.adv.lin": held.linear.adv,
        "probe.adv.mlp": held.best.adv,
        "probe.bits.lin": held.linear.bits,
        "probe.bits.mlp": held.best.bits,
        "others.adv.lin": others.linear,
        "others.adv.gbt": others.best,
        "floor.adv": others.floor,
    }
    rows: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in truth}
    for seed in range(repetitions):
        figures = estimate(held, others, images=images, seed=seed, options=replace(options, seed=seed))
        for name, item in figures.items():
            low, high = item.interval()
            rows[name].append((item.value, item.se, low <= truth[name] <= high))
    return {
        name: {
            "truth": truth[name],
            "mean": float(np.mean([value for value, _, _ in row])),
            "sd": float(np.std([value for value, _, _ in row], ddof=1)),
            "se": float(np.mean([se for _, se, _ in row])),
            "covered": sum(inside for _, _, inside in row),
            "of": repetitions,
        }
        for name, row in rows.items()
    }


def verdicts(repetitions: int, trial: Callable[[int], dict[Any, str]]) -> dict[str, Any]:
    """How often each verdict was given, by what was planted."""
    counts: dict[str, Counter[str]] = {}
    for seed in range(repetitions):
        for key, verdict in trial(seed).items():
            counts.setdefault(json.dumps(key), Counter())[verdict] += 1
    return {key: dict(count) for key, count in counts.items()}


def spreads(repetitions: int, images: int, adv: float) -> dict[str, Any]:
    """Standard errors: the audit's, the naive one, the bootstrap's, and the spread that was really there."""
    plain = [errors(seed, images=images, adv=adv) for seed in range(10 * repetitions)]
    again = [errors(seed, images=images, adv=adv, resamples=400) for seed in range(max(repetitions // 4, 2))]
    return {
        name: {
            "sd": float(np.std([trial[name].value for trial in plain], ddof=1)),
            "clustered": float(np.mean([trial[name].clustered for trial in plain])),
            "naive": float(np.mean([trial[name].naive for trial in plain])),
            "to_bootstrap": [
                trial[name].clustered / float(trial[name].bootstrap or np.nan) for trial in again
            ],
            "covered": sum(trial[name].covered for trial in plain),
            "of": len(plain),
        }
        for name in plain[0]
    }


def parts(repetitions: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every part of the page by name, the quick ones first."""
    many, few = 10 * repetitions, 5 * repetitions
    jobs: dict[str, Callable[[], dict[str, Any]]] = {}

    def times(margin: float) -> Sequence[float]:
        return [share * margin for share in SHARES]

    for n in SIZES:
        for adv in (0.2, 0.5, 0.8):
            jobs[f"errors/{n}/{adv}"] = lambda n=n, adv=adv: spreads(repetitions, n, adv)
        jobs[f"C1/{n}"] = lambda n=n: verdicts(many, lambda s: disabled_at(s, images=n, leaks=times(0.1)))
        jobs[f"C3/{n}"] = lambda n=n: verdicts(many, lambda s: erased_at(s, images=n, leaks=times(0.1)))
        jobs[f"C2/{n}"] = lambda n=n: verdicts(
            many, lambda s: equivalent(s, images=n, excesses=times(0.1), references=REFERENCES)
        )
        jobs[f"C5/{n}"] = lambda n=n: verdicts(
            few, lambda s: useful_at(s, images=n, losses=times(0.01), references=REFERENCES)
        )
        for name, margin, shot in (("C4", 0.1, False), ("C4few", 0.03, True)):
            jobs[f"{name}/{n}"] = lambda n=n, margin=margin, shot=shot: verdicts(
                few,
                lambda s: durable_at(s, images=n, excesses=times(margin), references=REFERENCES, few=shot),
            )
    for kind in PLANTS:
        shape, adv, prior, follow, n, options = kind
        name = f"estimate/{shape}/{adv:g}/{prior:g}/{follow:g}/{n}/{options.probe_seeds}"
        jobs[name] = lambda kind=kind: estimates(repetitions, kind)
    return jobs


def main() -> None:
    """Makes what is missing, then writes the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    store = given.out.with_suffix(".json")
    done: dict[str, Any] = json.loads(store.read_text("utf-8")) if store.exists() else {}
    if done.get("repetitions", given.repetitions) != given.repetitions:
        parser.error(f"{store} holds {done['repetitions']} repetitions; give the same number, or delete it")
    done["repetitions"] = given.repetitions
    with threadpool_limits(1):
        for name, job in parts(given.repetitions).items():
            if name in done:
                continue
            started = time.perf_counter()
            done[name] = job()
            write_json(store, done)
            print(f"{name:<36} {time.perf_counter() - started:6.1f} s", flush=True)
    write_text(given.out.with_suffix(".svg"), picture(done))
    write_text(given.out, page(done))
    print(given.out)


if __name__ == "__main__":
    main()
