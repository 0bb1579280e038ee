"""What judging rare labels on both E and P is worth, and what its errors must be multiplied by.

python benchmarks/crossing.py [--worlds 200]

In planted worlds, drawn again and again, linear attacks. `worth`: the variance of a figure over worlds on E
alone, over that on both sets; so many times more images crossing is worth. `alone` and `both`: spread over
worlds over the mean standard error, on E alone and, without `cross_fit.TOGETHER`, on both.
"""

import argparse
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from calibration.planted import LABEL, draw, plant
from calibration.truth import columns
from unlabel.audit.attacks.cross_fit import TOGETHER, both
from unlabel.audit.attacks.outputs import read_others_linear
from unlabel.audit.attacks.probes import linear
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question, ask
from unlabel.audit.inputs.subject import Subject
from unlabel.statistics.estimate import Estimate

OPTIONS = AuditOptions(probe_seeds=1)
WORLDS = [
    (images, prior, adv)
    for images, prior in ((300, 0.3), (1200, 0.1), (3000, 0.05))
    for adv in (0.0, 0.3, 0.6)
]


def read(subject: Subject, question: Question) -> dict[str, Estimate]:
    """The linear attacks."""
    adv, bits = linear(subject.probe, subject.test, question, OPTIONS).estimates(question)
    return {
        "others.adv.lin": read_others_linear(subject, (0,), question),
        "probe.adv.lin": adv,
        "probe.bits.lin": bits,
    }


def readings(images: int, prior: float, adv: float, seed: int) -> dict[str, list[Estimate]]:
    """Of one world, by figure and comparison: on E and on both."""
    world = draw(plant("line", adv, prior), columns(0.6), images=images, seed=seed)
    question = ask(LABEL, *world.splits)
    models = [world.model("after", network=network) for network in (0, 1)]
    values = defaultdict(list)
    for crossed in (False, True):
        first, second = (both(read, model, replace(question, crossed=crossed)) for model in models)
        for name in first:
            values[f"{name} level"].append(first[name])
            values[f"{name} difference"].append(first[name] - second[name])
    return values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=200)
    worlds = parser.parse_args().worlds
    torch.set_num_threads(1)
    print("images  prior  adv  figure                     worth  alone  both")
    with threadpool_limits(1):
        for images, prior, adv in WORLDS:
            table = defaultdict(list)
            for seed in range(worlds):
                for name, pair in readings(images, prior, adv, seed).items():
                    table[name].append([number for item in pair for number in (item.value, item.se)])
            for name, rows in table.items():
                (alone, error, crossed, error_both) = np.array(rows).T
                spreads = [np.std(values, ddof=1) for values in (alone, crossed)]
                ratios = spreads[0] / error.mean(), TOGETHER * spreads[1] / error_both.mean()
                worth = (spreads[0] / spreads[1]) ** 2
                figures = f"{worth:5.2f}  {ratios[0]:5.2f}  {ratios[1]:4.2f}"
                print(f"{images:6d}  {prior:5.2f}  {adv:3.1f}  {name:25s}  {figures}", flush=True)


if __name__ == "__main__":
    main()
