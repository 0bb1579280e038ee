"""A small world with known answers: labels, networks that know them to a chosen degree, and their outputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from unlabel.audit.document.results import Role
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate

LABELS = ("Male", "Bald", "Young", "Smiling", "Hat")
FEATURES = 16
QUICK = AuditOptions(
    probe_seeds=1, folds=3, epochs=15, trees=15, permutations=10, resamples=30, raw_image=False
)


@dataclass(frozen=True)
class World:
    """Three splits of made-up images; label 0 and label 2 go together."""

    probe: Dataset
    test: Dataset
    train: Dataset
    seed: int

    def outputs(self, data: Dataset, know: Sequence[float], network: int) -> Outputs:
        """What a network says whose features carry label k with strength ``know[k]``."""
        weights = np.random.default_rng((network, 1))
        directions = np.linalg.qr(weights.normal(size=(FEATURES, FEATURES)))[0][: len(LABELS)]
        noise = np.random.default_rng((self.seed, network, int(data.rows[0]), 2))
        signal = (2.0 * (data.target == 1) - 1) * np.asarray(know)
        features = signal @ directions + noise.normal(size=(len(data), FEATURES))
        return Outputs(
            (2 * features @ directions.T).astype(np.float32), {PENULTIMATE: features.astype(np.float32)}
        )

    def subject(
        self,
        role: Role,
        know: float | Sequence[float] = 1.5,
        *,
        network: int = 0,
        absent: Sequence[str] = (),
    ) -> Subject:
        """A model that knows label 0 to a degree (or every label to its own), without some outputs."""
        strengths = [know, 1.5, 1.5, 1.5, 1.5] if isinstance(know, float | int) else list(know)
        made = [self.outputs(data, strengths, network) for data in (self.probe, self.test, self.train)]
        for item in made:
            for name in absent:
                item.logits[:, LABELS.index(name)] = -20.0
        directions = np.linalg.qr(np.random.default_rng((network, 1)).normal(size=(FEATURES, FEATURES)))[0]
        head = (2 * directions[: len(LABELS)], np.zeros(len(LABELS)))
        return Subject(f"{role}-{network}", role, *made, frozenset(absent), head)

    def references(self, count: int, know: float | Sequence[float] = 0.1) -> list[Subject]:
        """Retrained models, each its own network."""
        return [self.subject("reference", know, network=10 + k, absent=["Male"]) for k in range(count)]

    @property
    def splits(self) -> tuple[Dataset, Dataset, Dataset]:
        """P, E and T_in."""
        return self.probe, self.test, self.train


def draw(seed: int, part: int, n: int, people: int) -> Dataset:
    """One split with ``people`` images a person."""
    rng = np.random.default_rng((seed, part))
    common = rng.normal(size=(n, 1)) * np.array([1.2, 0, 1.2, 0, 0])
    target = common + rng.normal(size=(n, len(LABELS))) > 0.2
    pixels = np.zeros((1, 1, 1, 3), np.uint8)
    rows = np.arange(n) + part * n
    cluster = rows // people
    return Dataset(pixels, rows, target.astype(np.int8), cluster, rows.astype(str), LABELS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread a library, as `audit_outputs` sets it: many small jobs wait for each other otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """Draws a world: ``make_world(seed, n=1500, people=2)``."""

    def make(seed: int = 0, n: int = 1500, people: int = 2) -> World:
        return World(*(draw(seed, part, n, people) for part in range(3)), seed)

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[..., World]) -> World:
    """The world most tests share."""
    return make_world()


@pytest.fixture
def quick() -> AuditOptions:
    """Fewer seeds, epochs and trees than an audit uses; every margin as it is."""
    return replace(QUICK)


@pytest.fixture
def figure() -> Callable[[float, float], Estimate]:
    """An estimate with a chosen value and standard error, on 2,000 images; no two go together."""
    rng = np.random.default_rng(0)

    def make(value: float, se: float = 0.01, n: int = 2000) -> Estimate:
        influence = rng.choice([-1.0, 1.0], n) * se / n * np.sqrt(n - 1)
        return Estimate(value, influence, np.arange(n), np.ones(n, bool))

    return make
