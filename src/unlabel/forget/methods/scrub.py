"""SCRUB: push the student's answer away from the teacher's, then draw the others back to it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.loss import loss_of
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.distill import Network, Teacher, bernoulli_kl, divergence
from unlabel.forget.halves import forget_part, retain_part
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.phases import joined, phase
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.ranking import aucs
from unlabel.forget.repair import Aim, Guarded, brief, guarded, held_rows
from unlabel.forget.tasks import Task
from unlabel.models.features import outputs

TILT = 0.1  # of the pull towards chance; the divergence's own is up to 1


def scrub(
    *,
    rounds: int = 4,
    ascents: int = 3,
    max_steps: int = 8,
    min_steps: int = 24,
    gamma: float = 1.0,
    alpha: float = 0.5,
    temperature: float = 2.0,
    lr: float = 0.02,
    rewind: bool = False,
) -> Unlearner:
    """Pushes the answer for the label away from the original's, then draws the others back, in turns.

    The original is the teacher. Each round is a max pass, ``max KL(teacher || student)`` on the labels to
    forget, see `Away`; then a min pass, ``gamma label_loss(retained) + alpha KL(teacher || student)`` on the
    retained ones, see `Near`. The last rounds have no max pass.

    A warning that goes with alpha: the original's retained outputs carry the forgotten label, and a student
    that matches them learns it again; alpha 0 trains on true labels only.

    Differs from the paper: the divergence is the Bernoulli one of each label by itself, with no softmax
    across labels; the max pass, which has no bound there and ends in an inverted or a saturated label, stops
    at chance for each image; each pass is a short one-cycle schedule of SGD on the calibration images, where
    the paper runs Adam at 5e-4 for 10 epochs; rewinding compares with chance, the paper with its validation
    error. A class of a softmax is pushed by its log-odds, on its own images; the others are drawn by the
    softmax over them. The teacher sees the very images that the student sees, augmented alike.

    Args:
        rounds: Rounds, >= 1.
        ascents: Rounds that begin with a max pass, the first ones, >= 0; all of them where there are no more.
        max_steps: Optimiser steps of a max pass, >= 1.
        min_steps: Optimiser steps of a min pass, >= 0.
        gamma: Weight of the retained labels' true values, >= 0.
        alpha: Weight of the teacher's answers for them, >= 0.
        temperature: T of the divergences, > 0.
        lr: Peak learning rate of each pass, > 0.
        rewind: SCRUB+R: end with the model of the round after which the forgotten labels' own outputs rank
            the calibration images nearest to chance, AUC 0.5.

    References:
        Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023.
    """
    in_range("rounds", rounds, 1)
    in_range("max_steps", max_steps, 1)
    for name, value in (("ascents", ascents), ("min_steps", min_steps), ("gamma", gamma), ("alpha", alpha)):
        in_range(name, value, 0)
    in_range("temperature", temperature, 0, above=True)
    in_range("lr", lr, 0, 10, above=True)
    return Scrub(rounds, ascents, max_steps, min_steps, gamma, alpha, temperature, lr, rewind)


@dataclass(frozen=True)
class Away:
    r"""The max pass: away from the teacher's answer for the forgotten labels, to chance and no further.

    With z the student's logit, t the teacher's and c the logit of the label's base rate, the loss of an entry
    is :math:`-\mathrm{KL}(t \,\|\, \bar z) + 0.1\,|z - c|`. There :math:`\bar z` lies between c and t: as far
    from c as z does, and no farther than t. So an answer beyond chance counts as its mirror image, the
    divergence is at most that of an answer which knows nothing, and the only minimum is at chance: nothing is
    gained by inverting the label or by being more certain of it.

    The second term is ours. The student starts as the teacher, where the divergence is 0 and so is its
    gradient, and rises on both sides: something has to say which way.

    Args:
        teacher: The original.
        columns: Columns to forget.
        chance: c of each.
        temperature: T.
        exclusive: Whether the columns are classes, which are read by their log-odds.
    """

    teacher: Teacher
    columns: tuple[int, ...]
    chance: Tensor
    temperature: float
    exclusive: bool

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        read = Task(self.columns, self.exclusive, alone=True).scores
        chosen = list(self.columns)
        # the student last: what its backward pass needs is then still in the cache
        then = read(self.teacher(batch))[:, chosen]
        now = read(model(batch.image).float())[:, chosen]
        side = torch.where(then >= self.chance, 1.0, -1.0)
        left = (now - self.chance).abs()
        held = self.chance + side * left.minimum((then - self.chance).abs())
        return (TILT * left - bernoulli_kl(held, then, self.temperature)).mean(1)


@dataclass(frozen=True)
class Near:
    """The min pass: ``gamma loss(true retained labels) + alpha KL(teacher || student)`` on the retained ones.

    Args:
        teacher: The original.
        columns: Retained columns.
        gamma, alpha, temperature: Weights and T.
        exclusive: Whether the columns are classes, whose softmax is then compared.
    """

    teacher: Teacher
    columns: tuple[int, ...]
    gamma: float
    alpha: float
    temperature: float
    exclusive: bool

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        answer = self.teacher(batch) if self.alpha > 0 else None
        logits = model(batch.image)
        true = self.gamma * loss_of(exclusive=self.exclusive)(logits, batch.target, self.columns)
        if answer is None:
            return true
        return true + self.alpha * divergence(
            logits, answer, self.columns, self.temperature, exclusive=self.exclusive
        )


@dataclass(frozen=True)
class Scrub:
    """The unlearner of `scrub`; its options are documented there."""

    rounds: int
    ascents: int
    max_steps: int
    min_steps: int
    gamma: float
    alpha: float
    temperature: float
    lr: float
    rewind: bool

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        student, teacher = copy.deepcopy(model), Network(model)
        (gone, columns), (retained_data, retained) = forget_part(data, request), retain_part(data, request)
        if data.exclusive:  # the images of the classes; a label is on or off in every image
            gone = gone.take((gone.target[:, list(columns)] == 1).any(1))
        chance = torch.tensor([_log_odds(data.prior(column)) for column in columns]).to(run.device)
        away = Away(teacher, columns, chance, self.temperature, data.exclusive)
        near = Near(teacher, retained, self.gamma, self.alpha, self.temperature, data.exclusive)
        # what earlier requests removed must not come back, in either pass
        near, retained_data, read = guarded(Aim(near, retained_data), model, request, data, run)
        if isinstance(near, Guarded):
            away = Guarded(away, near.probes, near.strength)
        passes: list[History] = []
        taught = 0
        best, chosen, state = float("inf"), self.rounds, student.state_dict()
        for number in range(1, self.rounds + 1):
            if number <= self.ascents:
                passes.append(
                    brief(
                        student,
                        away,
                        gone,
                        phase(run, f"scrub/max/{number}"),
                        steps=self.max_steps,
                        lr=self.lr,
                        after=[held_rows(student, request, earlier_only=True)],
                        stage="push away",
                    )
                )
                taught += passes[-1].images_processed
            passes.append(
                brief(
                    student,
                    near,
                    retained_data,
                    phase(run, f"scrub/min/{number}"),
                    steps=self.min_steps,
                    lr=self.lr,
                    after=[held_rows(student, request)],
                    stage="draw back",
                )
            )
            taught += passes[-1].images_processed if self.alpha > 0 else 0
            if self.rewind:
                distance = from_chance(student, data, columns, run)
                if distance < best:
                    best, chosen, state = distance, number, copy.deepcopy(student.state_dict())
        if self.rewind:
            student.load_state_dict(state)
        history = joined(passes, others=taught + read)
        return Work(
            student,
            history,
            self.rounds * len(data) if self.rewind else 0,
            {"repair": history.seconds},
            {"chosen_round": chosen},
        )


def from_chance(model: nn.Module, data: Dataset, columns: Sequence[int], run: Run) -> float:
    """Mean distance of the labels' own AUC on these images from 0.5."""
    areas = aucs(outputs(model, data, run, stage="choose").logits, data, columns)
    return float(np.mean(np.abs(np.array(areas) - 0.5)))


def _log_odds(prior: float) -> float:
    return log(prior / (1 - prior))


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """Ascents, then descents; a step with a teacher counts its images twice, and rewinding reads all."""
    pushes = min(options["ascents"], options["rounds"]) * options["max_steps"]
    steps = pushes + options["rounds"] * options["min_steps"]
    taught = steps if options["alpha"] > 0 else pushes
    read = options["rounds"] * budget.images if options["rewind"] else 0
    return Bill(steps, (steps + taught) * budget.batch_size + read + budget.guard)


def sizes(options: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """So many steps in all, ascents and descents in the proportion that the options have."""
    rounds = options["rounds"]
    ascents = min(options["ascents"], rounds)
    whole = ascents * options["max_steps"] + rounds * options["min_steps"]
    most = max(1, steps * options["max_steps"] // whole)
    return {"max_steps": most, "min_steps": max(0, steps - ascents * most) // rounds}
