"""How often clustered intervals miss, if few people show a label: why an audit asks for twenty.

python benchmarks/few_people.py        docs/decisions/0037-too-little.md

240 images of so many people have the label, and 800 images of 400 people do not. An output that knows nothing
is made of a number for each person and one for each image, of the same spread.
"""

import numpy as np

from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.estimate import advantage

PEOPLE = (1, 2, 3, 5, 10, 20, 40)
TRIALS = 1000
PRESENT, OTHERS = 240, 400  # images with the label; people without it, two images each


def draw(people: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, annotations and identities of one trial."""
    cluster = np.concatenate([np.arange(PRESENT) % people, people + np.repeat(np.arange(OTHERS), 2)])
    target = (np.arange(len(cluster)) < PRESENT).astype(np.int8)
    score = rng.normal(size=people + OTHERS)[cluster] + rng.normal(size=len(cluster))
    return score, target, cluster


def main() -> None:
    """Prints a Markdown table."""
    options, rng = AuditOptions(), np.random.default_rng(0)
    print("| people with the label | 95 % intervals that miss | C1 would FAIL | trials |")
    print("| --- | --- | --- | --- |")
    for people in PEOPLE:
        found = [advantage(*draw(people, rng)) for _ in range(TRIALS)]
        missed = sum(not low <= 0 <= high for low, high in (item.interval() for item in found))
        failed = sum(item.absolute().lower(options.level) > options.d_chance for item in found)
        print(f"| {people} | {missed / TRIALS:.3f} | {failed / TRIALS:.3f} | {TRIALS:,} |")


if __name__ == "__main__":
    main()
