"""Probes at every depth: a short training on the retained labels, closed-form probes its adversary."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.loss import loss_of
from unlabel.core.randomness import permutation
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.batches import Batch, batch_of
from unlabel.data.dataset import Dataset
from unlabel.data.feed import batches
from unlabel.forget.adversary import BANK, Adversary, Seen, joined
from unlabel.forget.answers import Answers
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.fresh import reinitialise
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.phases import phase
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.repair import brief, held_rows
from unlabel.forget.residual import Floats, Residuals, retained_logits
from unlabel.models.sites import Site, find_sites, reading

LOOK = 2  # images by which the sites are found
REFIT = 5  # steps between two fits of the probes
SPARE = 0.5  # how little of what the retained outputs tell of the label is spared, see `forget.residual`
CLIP = 5.0  # longest gradient


def deep_probes(
    *,
    strength: float = 0.15,
    pressure: float = 0.06,
    steps: int = 600,
    lr: float = 0.2,
    annotated: float = 1.0,
) -> Unlearner:
    r"""Trains on the retained labels, against probes of the label at every depth, fitted anew every 5 steps.

    One short training from the original, on the calibration images, minimises

    .. math:: L_R + \sum_{s, j} w_{sj}\, \frac{\mathrm{Cov}(p_{sj}(f_s), r_j)}{\mathrm{Var}(r_j)}

    with L_R the retained labels' loss on their annotations, s the sites of the network (`models.sites`), j
    the forgotten labels, r_j what label j tells beyond the retained ones (`forget.residual`), and p_sj the
    probe of r_j at site s, fixed between two fits (`forget.adversary`, which also sets the weights w). A
    site that tells no more than an untrained network does has weight 0; without any weight the training is
    ordinary fine-tuning. Then the output row is removed.

    How far it goes: all sites at once, from early stages to the outputs, and with them what training the
    whole model again brings back; measured in docs/results/auto.md. The cost is ``steps`` batches and about
    10,000 images forward, whatever the size of the data.

    With ``annotated`` = a < 1, a retained label's target is

    .. math:: a\, y + (1 - a)\, \sigma(z - r_j b_j)

    with y its annotation and, for the rest, what the original itself answers, less what r_j adds to it
    (`forget.answers`). Each step also passes its images through the original. With a = 0 the model learns
    nothing further of the retained labels. That serves an original that has not learnt them to the end: a
    better model tells more of every label that goes along with them. In between, few images can be passed
    over more often before the model knows them by heart. The answers hold the retained outputs where they
    are, so less of what these tell has to be spared of r_j: s = .5 / a (`forget.residual.residuals`).

    Labels forgotten earlier have probes of their own. An unknown annotation moves no probe and no covariance.
    Of exclusive classes, images of a forgotten class move the probes and have no retained loss. There r_j is
    the class less its mean.

    This project's own. Related: adversarial removal of a domain (Ganin & Lempitsky, ICML 2015), where the
    adversary is trained by gradient steps beside the network and reads its last features alone; INLP
    (Ravfogel et al., ACL 2020) and LEACE (Belrose et al., NeurIPS 2023), closed-form probes that are
    projected out.

    Args:
        strength: Weight of the share where a site tells most, > 0.
        pressure: How fast the weight of a site grows while it still tells something, >= 0; of several labels
            divided by the root of their number.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0. High: the retained labels have to find another way.
        annotated: How much of a retained label's target is its annotation, 0 to 1; the rest is what the
            original answers. Of exclusive classes, 1.
    """
    in_range("strength", strength, 0, above=True)
    in_range("pressure", pressure, 0)
    check_schedule(steps, lr)
    in_range("annotated", annotated, 0, 1)
    return DeepProbes(strength, pressure, steps, lr, annotated)


@dataclass(frozen=True)
class DeepProbes:
    """The unlearner of `deep_probes`, with its options."""

    strength: float
    pressure: float
    steps: int
    lr: float
    annotated: float = 1.0

    @property
    def spare(self) -> float:
        """How little of what the retained outputs tell is spared: less, the more they are held in place."""
        return SPARE / self.annotated if self.annotated else inf

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        logits = self.logits(model, request, data, run)
        told = Residuals.of(logits, request, data, run, self.spare)
        sites = find_sites(model, len(request.labels), batch_of(data, range(LOOK), run.device).image)
        answers = self.answers(model, logits, request, data, run)
        adversary, read = self.adversary(model, sites, told, data, run)
        prepared = time.perf_counter()
        edited = copy.deepcopy(model)
        history = self.train(edited, adversary, told, request, data, run, answers)
        seconds = {"prepare": prepared - started, "train": time.perf_counter() - prepared}
        read += LOOK + self.read_first(data) + self.answered(run)
        return Work(edited, history, read, seconds)

    def logits(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Floats | None:
        """The retained logits of all images, for the residuals and the answers; None of exclusive classes."""
        return retained_logits(model, request, data, run) if self.read_first(data) else None

    def read_first(self, data: Dataset) -> int:
        """How many images that are."""
        return 0 if data.exclusive else len(data)

    def answers(
        self, model: nn.Module, logits: Floats | None, request: Request, data: Dataset, run: Run
    ) -> Answers | None:
        """What the retained labels are trained on, if it is not their annotations alone.

        All that the retained annotations do not tell is taken off the answers, whatever is spared.

        Raises:
            MethodError: The labels are exclusive classes.
        """
        if self.annotated == 1:
            return None
        if logits is None:
            raise MethodError(
                f"--annotated is {self.annotated:g}, and the labels are exclusive classes; it works with"
                " labels that stand alone: use --annotated 1"
            )
        told = Residuals.of(None, request, data, run, inf)
        return Answers.of(model, told, logits, data, run, self.annotated)

    def answered(self, run: Run) -> int:
        """Images of the steps that pass through the original, too."""
        return self.steps * run.batch_size if self.annotated < 1 else 0

    def adversary(
        self, model: nn.Module, sites: Sequence[Site], told: Residuals, data: Dataset, run: Run
    ) -> tuple[Adversary, int]:
        """Floors, full banks and first probes of a model; and how many images were read for them."""
        bank = bank_of(len(data))
        floors = floors_of(model, sites, told, data, run, bank)
        adversary = Adversary(sites, run.seed, self.strength, self.pressure, bank, floors)
        adversary.keep(passes(model, sites, told, data, phase(run, "bank"), 2 * bank))
        adversary.fit(run)
        return adversary, 5 * bank

    def train(
        self,
        model: nn.Module,
        adversary: Adversary,
        told: Residuals,
        request: Request,
        data: Dataset,
        run: Run,
        answers: Answers | None = None,
    ) -> History:
        """Trains a model in place; the adversary goes on from where it is."""
        objective = AgainstProbes(adversary, told, data.exclusive, run, answers)
        after = [held_rows(model, request), objective.after_step]
        return brief(
            model,
            objective,
            data,
            run,
            steps=self.steps,
            lr=self.lr,
            after=after,
            clip=CLIP,
            stage="forget",
        )


def bank_of(images: int) -> int:
    """Rows of a bank: few enough that a probe meets images that it was not fitted on.

    >>> bank_of(100_000), bank_of(2048)
    (2048, 512)
    """
    return min(BANK, max(images // 4, 2))


@dataclass
class AgainstProbes:
    """The retained labels' loss, and the weighted share that the adversary's probes tell.

    Args:
        adversary: Its probes are fixed between two fits.
        told: The residuals, and the retained columns.
        exclusive: Whether the columns are classes.
        run: Where.
        answers: What the retained labels are trained on; None: their annotations alone.
        met: What this process's micro-batches showed since the last step.
        weights: By site, see `adversary.Adversary.weights`; without sites whose weights are all 0.
        steps: Steps taken.
    """

    adversary: Adversary
    told: Residuals
    exclusive: bool
    run: Run
    answers: Answers | None = None
    met: list[Seen] = field(default_factory=list)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        with reading(model, self.adversary.sites) as rows:
            logits = model(batch.image)
        rows["outputs"] = logits[:, list(self.told.retain)].float()
        residual, known = self.told.at(batch)
        self.met.append(Seen({name: row.detach() for name, row in rows.items()}, residual, known))
        loss = self.retained(logits, batch)
        unit = self.told.pull(residual, known)
        for name, weight in self.weights.items():
            loss = loss + (self.adversary.probes[name](rows[name]) * unit * weight).sum(1)
        return loss

    def retained(self, logits: Tensor, batch: Batch) -> Tensor:
        """The retained labels' loss of each image."""
        if self.answers is not None:
            return self.answers.loss(logits, batch)
        return loss_of(exclusive=self.exclusive)(logits, batch.target, self.told.retain)

    def nothing(self) -> Seen:
        """What no image shows: the share of a process that has no micro-batch of a step."""
        values, retain = self.told.values[:0], len(self.told.retain)
        widths = {
            site.name: retain if site.kind == "outputs" else site.width for site in self.adversary.sites
        }
        rows = {name: values.new_zeros((0, width)) for name, width in widths.items()}
        return Seen(rows, values, self.told.known[:0])

    def after_step(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """What the step's images showed goes to the adversary; every few steps its probes are fitted anew."""
        seen = gathered(self.met, self.nothing(), self.run, self.run.batch_size)
        self.met.clear()
        self.adversary.meet(seen)
        self.adversary.keep(seen)
        self.steps += 1
        if self.steps % REFIT == 0:
            self.adversary.fit(self.run)
        self.weights = {name: each for name, each in self.adversary.weights().items() if bool(each.any())}


def gathered(met: Sequence[Seen], nothing: Seen, run: Run, images: int) -> Seen:
    """What all processes' micro-batches of so many images showed, in the images' order."""
    mine = joined([nothing, *met])
    if run.world == 1:
        return mine
    wide = torch.cat([*mine.rows.values(), mine.residual, mine.known.to(mine.residual.dtype)], 1)
    whole = engine.gather_micro_batches(run, wide, images)
    labels = mine.residual.shape[1]
    *parts, residual, known = whole.split([*(row.shape[1] for row in mine.rows.values()), labels, labels], 1)
    rows = {name: part.contiguous() for name, part in zip(mine.rows, parts, strict=True)}  # sums as in one
    return Seen(rows, residual.contiguous(), known > 0.5)


@torch.no_grad()
def passes(
    model: nn.Module, sites: Sequence[Site], told: Residuals, data: Dataset, run: Run, images: int
) -> Seen:
    """What a model shows of so many images, augmented, as in training; its weights and statistics stay."""
    model = copy.deepcopy(model).train()
    objective = AgainstProbes(Adversary(sites, run.seed), told, data.exclusive, run)
    rounds = -(-images // len(data))
    stream = np.concatenate([permutation(run.seed, "passes", len(data), each) for each in range(rounds)])
    epochs = np.repeat(np.arange(rounds), len(data))
    micro_batches = run.micro_batches(images)
    with engine.own_draws(run):
        numbers = run.shard(len(micro_batches))
        wanted = ((stream[micro_batches[number]], epochs[micro_batches[number]]) for number in numbers)
        for number, batch in zip(numbers, batches(data, wanted, run), strict=True):
            engine.key_draws(run, "passes", number)
            with run.fabric.autocast():
                objective(model, batch)
    return gathered(objective.met, objective.nothing(), run, images)


def floors_of(
    model: nn.Module, sites: Sequence[Site], told: Residuals, data: Dataset, run: Run, bank: int
) -> Mapping[str, Tensor]:
    """By site, the share that a probe of the same network with new weights tells, on images left out."""
    fresh = copy.deepcopy(model)
    reinitialise(fresh, [name for name, _ in fresh.named_modules()], run.seed)
    seen = passes(fresh, sites, told, data, phase(run, "floor"), 3 * bank)
    adversary = Adversary(sites, run.seed, bank=bank)
    adversary.keep(seen.part(slice(2 * bank)))
    adversary.fit(run)
    shares = adversary.shares(seen.part(slice(2 * bank, None)))
    return {name: share.clamp(min=0) for name, share in shares.items()}


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """The pass for the residual and the answers, the floors and the banks, and the steps."""
    read = LOOK + budget.images + 5 * bank_of(budget.images)
    if options.get("annotated", 1.0) < 1:
        read += options["steps"] * budget.batch_size
    return Bill(options["steps"], options["steps"] * budget.batch_size + read)
