"""Time of a quick audit on made-up outputs: one label of ten, before, after and three references.

    python benchmarks/audit.py [--images 5000] [--features 128] [--labels 10] [--json FILE] [--audit FILE]

Prints the seconds of wall clock and of processor time, and the headline. The outputs come from a small
linear world in which retrained models keep a tenth of what the original's features tell of the label.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from unlabel.audit.inputs.subject import Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs

SIZES = {"P": 0, "E": 1, "T": 2}


def split(kind: str, n: int, labels: int, pixels: np.ndarray) -> Dataset:
    """Images of one split: label 0 is correlated with half of the others."""
    rng = np.random.default_rng(SIZES[kind])
    common = rng.normal(size=(n, 1))
    weight = np.where(np.arange(labels) % 2 == 0, 0.6, 0.0)
    target = common * weight + rng.normal(size=(n, labels)) * np.sqrt(1 - weight**2) > 0.25
    cluster = np.arange(n) // 3 + SIZES[kind] * n
    ids = np.array([f"{kind}{index}" for index in range(n)])
    names = ("Male", *(f"label_{index}" for index in range(1, labels)))
    return Dataset(pixels, np.arange(n), target.astype(np.int8), cluster, ids, names)


def outputs(data: Dataset, strength: float, features: int, seed: int) -> tuple[Outputs, tuple]:
    """A network whose features tell label 0 by `strength` and the others by 1."""
    rng = np.random.default_rng(1000 + seed)
    labels = len(data.labels)
    directions = rng.normal(size=(labels, features))
    bias = rng.normal(size=features) * 0.3
    noise = np.random.default_rng((seed, len(data.ids[0]), ord(data.ids[0][0]))).normal(
        size=(len(data), features)
    )
    signal = (2.0 * data.target - 1) * np.array([strength] + [1.0] * (labels - 1))
    hidden = np.maximum(signal @ directions * 0.5 + bias + noise * 1.5, 0).astype(np.float32)
    head = directions.astype(np.float32) / features, np.zeros(labels, np.float32)
    return Outputs(hidden @ head[0].T + head[1], {PENULTIMATE: hidden}), head


def subject(run: str, role: str, data: list[Dataset], strength: float, features: int, seed: int) -> Subject:
    """One model on the three splits; all but the original have lost the first output."""
    made = [outputs(item, strength, features, seed) for item in data]
    absent = frozenset[str]() if role == "before" else frozenset({"Male"})
    for item, _ in made:
        if absent:
            item.logits[:, 0] = -20.0
    return Subject(run, role, made[0][0], made[1][0], made[2][0], absent, made[0][1])


def main() -> None:
    """Reads the arguments, audits once, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("images", 5000), ("features", 128), ("labels", 10), ("references", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--after", type=float, default=0.12, help="how much the unlearned features still tell, 0-1"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--audit", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (given.images, 64, 64, 3), np.uint8)
    data = [split(kind, given.images, given.labels, pixels) for kind in SIZES]
    before = subject("runs/base", "before", data, 1.0, given.features, 0)
    after = subject("runs/no-male", "after", data, given.after, given.features, 0)
    references = [
        subject(f"runs/retrain-{index}", "reference", data, 0.1, given.features, index)
        for index in range(1, given.references + 1)
    ]
    request = Request.make(["Male"], data[0].labels)
    wall, processor = time.perf_counter(), time.process_time()
    audit = audit_outputs(AuditInputs(before, after, references, request, *data, deterministic=True))
    record = {
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "images": given.images,
        "features": given.features,
        "labels": given.labels,
        "models": 2 + given.references,
        "headline": audit.headline,
    }
    print(json.dumps(record, indent=2))
    if given.json:
        given.json.write_text(json.dumps(record, indent=2) + "\n")
    if given.audit:
        given.audit.write_text(json.dumps(audit.to_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
