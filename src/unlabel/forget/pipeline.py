"""A method on one screen: score the weights, select some, edit them, repair the rest.

Most methods are one `Pipeline`. Weight pruning is *score by gradient and curvature, select percentiles,
edit by zero and decay, repair under a clamp*; frozen-probe confusion is *everything, keep, confuse*.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias
from zlib import crc32

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import Named
from unlabel.forget.phases import joined
from unlabel.forget.retained import Retained

Bands: TypeAlias = dict[str, Tensor]  # the same, int8; 0 = untouched, 1.. = band

Score = Callable[[nn.Module, Request, Dataset, Run], Named]  # >= 0, finite, equal on every process
Select = Callable[[nn.Module, Named], Bands]  # sees scores, never data
Rule = Callable[[Tensor, Tensor, torch.Generator], Tensor]  # weight, score, rng -> new weight


class Repair(Protocol):
    """Trains the edited model in place; ``original`` is frozen, in eval mode."""

    def __call__(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History: ...


@dataclass(frozen=True)
class Outcome:
    """An unlearned model and what it took.

    Args:
        model: A new model; the argument model is untouched.
        request: What was asked.
        method: Name of the method.
        options: Its options as used.
        changed: Numbers among the parameters that differ from the original's.
        total: Numbers among the parameters.
        images_used: Different images seen.
        images_processed: Images that went through the network, repeats counted, scoring included.
        seconds: Wall clock of each stage.
        history: The steps of the repair.
        retained: The retained labels before and after, on images held back from the method.
        self_check: What the method measured of its own result, see `forget.self_check`; None if it does not.
    """

    model: nn.Module
    request: Request
    method: str
    options: dict[str, Any]
    changed: int
    total: int
    images_used: int
    images_processed: int
    seconds: dict[str, float]
    history: History
    retained: Retained
    self_check: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Work:
    """What an unlearner hands back: the model before its output rows are removed, and what it took."""

    model: nn.Module
    history: History = field(default_factory=History)
    images_scored: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Options whose default depends on others, as they were used."""
    method: str | None = None
    """The method that was chosen, where the unlearner chooses one."""
    self_check: Mapping[str, Any] | None = None
    """What the unlearner measured of its own result, see `forget.self_check`."""


class Unlearner(Protocol):
    """Anything that unlearns: sees training data only, and leaves its argument bit-identical."""

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work: ...


def uniform(model: nn.Module, request: Request, data: Dataset, run: Run) -> Named:
    """The score of a method that does not rank weights: 1 everywhere, no image seen."""
    return {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}


def everything(model: nn.Module, scores: Named) -> Bands:
    """Selects every weight, in band 1."""
    return {name: torch.ones(score.shape, dtype=torch.int8) for name, score in scores.items()}


def keep(weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
    """Leaves a weight as it is."""
    return weight


def no_repair(
    model: nn.Module, original: nn.Module, request: Request, data: Dataset, bands: Bands, run: Run
) -> History:
    """Trains nothing."""
    return History()


@dataclass(frozen=True)
class Pipeline:
    """An unlearner made of four stages.

    Args:
        score: Weights -> importance.
        select: Importance -> bands 0, 1, ...; 0 stays untouched.
        edit: One rule for each band, the first for band 1.
        repair: Restores the retained labels, or does the forgetting itself.
        passes: Forward passes over the data that `score` makes, for the bill.
        settings: Options whose default depends on others, for the record.
    """

    score: Score = uniform
    select: Select = everything
    edit: Sequence[Rule] = (keep,)
    repair: Repair = no_repair
    passes: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        clock = time.perf_counter
        seconds: dict[str, float] = {}
        edited = copy.deepcopy(model)
        started = clock()
        scores = self.score(model, request, data, run)
        seconds["score"] = clock() - started
        started = clock()
        bands = self.select(model, scores)
        seconds["select"] = clock() - started
        started = clock()
        apply_edits(edited, scores, bands, self.edit, run.seed)
        del scores  # one to two networks, which the repair has no use for
        seconds["edit"] = clock() - started
        started = clock()
        history = self.repair(edited, model, request, data, bands, run)
        seconds["repair"] = clock() - started
        return Work(edited, history, round(self.passes * len(data)), seconds, self.settings)


@dataclass(frozen=True)
class Repeated:
    """A pipeline that runs several times, each on what the one before left.

    Args:
        once: What to repeat.
        times: How often, >= 1.
    """

    once: Pipeline
    times: int

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        works = []
        now = model
        for _ in range(self.times):
            work = self.once(now, request, data, run)
            now = work.model.eval()
            works.append(replace(work, model=model))  # only the last network is kept
            del work
        history = joined([work.history for work in works])
        stages = {stage: sum((work.seconds[stage] for work in works), 0.0) for stage in works[0].seconds}
        scored = sum(work.images_scored for work in works)
        return Work(now, history, scored, stages, works[0].settings)


@torch.no_grad()
def apply_edits(model: nn.Module, scores: Named, bands: Bands, rules: Sequence[Rule], seed: int) -> None:
    """Edits the weights of bands 1, 2, ... by their rules; band 0 stays bit-identical.

    Random rules draw from a generator keyed by the seed and the parameter's name.
    """
    for name, parameter in model.named_parameters():
        for number, rule in enumerate(rules, start=1):
            if rule is keep or name not in bands:
                continue
            chosen = (bands[name] == number).to(parameter.device)
            # of a longer seed, torch would use the lowest 32 bits
            rng = torch.Generator(device="cpu").manual_seed(crc32(f"{seed}/{name}".encode()))
            parameter.copy_(torch.where(chosen, rule(parameter, scores[name], rng), parameter))
