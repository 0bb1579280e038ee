"""Two things timed by turns, so that both meet the same machine; the ratio is what is reported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

Job = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Line:
    """One comparison.

    Args:
        what: What is compared, in words.
        ours: Seconds of ours, the median over the rounds.
        other: Seconds of what it is compared with.
        ratio: Median over the rounds of ``other / ours``: above 1, ours is faster.
        low, high: The smallest and the largest ratio of a round.
        rounds: Times that both were timed.
        counts: What was counted beside the time: images, steps, ...
    """

    what: str
    ours: float
    other: float
    ratio: float
    low: float
    high: float
    rounds: int
    counts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-plain copy."""
        return {**vars(self), "counts": dict(self.counts)}


def by_turns(
    what: str, ours: Job, other: Job, rounds: int, *, clock: Clock = perf_counter, **counts: Any
) -> Line:
    """Times two jobs by turns, each first as often as second.

    Args:
        what: What is compared.
        ours, other: Called ``rounds`` times each, and once before without the clock if there are several.
        rounds: 1 or more.
        clock: Seconds.
        **counts: See `Line`.

    Example:
        >>> ticks = iter([0.0, 2.0, 2.0, 6.0])
        >>> by_turns("a", lambda: None, lambda: None, 1, clock=lambda: next(ticks)).ratio
        2.0
    """
    if rounds > 1:
        ours()
        other()
    took: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            started = clock()
            (ours, other)[which]()
            took[which].append(max(clock() - started, 1e-9))
    ratios = [late / early for early, late in zip(took[0], took[1], strict=True)]
    return Line(
        what, median(took[0]), median(took[1]), median(ratios), min(ratios), max(ratios), rounds, counts
    )


def seconds(job: Callable[[], Any], clock: Clock = perf_counter) -> tuple[float, Any]:
    """Seconds that one call took, and what it gave."""
    started = clock()
    result = job()
    return clock() - started, result


def against(what: str, ours: float, other: float, **counts: Any) -> Line:
    """A line of two times that were taken once each."""
    ratio = other / max(ours, 1e-9)
    return Line(what, ours, other, ratio, ratio, ratio, 1, counts)
