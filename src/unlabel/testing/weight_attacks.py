"""What attackers with the weights find in a model on the stage, beside models that never saw the label.

::

    attack(stage(), my_cheat, ["adam-100", "sgd-momentum", "positions"])["sgd-momentum"].excess

An audit with ``--attackers`` does the same to runs; here the networks are those of `stage`, and it takes
seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from unlabel.audit.attacks.early_layers import cell_means, stage_means
from unlabel.audit.attacks.fine_tuning import best_of_rates
from unlabel.audit.attacks.held_out import position_readings
from unlabel.audit.attacks.lessons import Lesson, draw_images
from unlabel.audit.attacks.starts import can_attack
from unlabel.audit.attacks.whole_model import stage_readings
from unlabel.audit.figures import LINEAR_PROBE
from unlabel.audit.inputs.attackers import ADAM, ATTACKERS, POSITIONS
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.forget.pipeline import Unlearner
from unlabel.models.features import outputs
from unlabel.models.outputs import Outputs
from unlabel.statistics.estimate import auc
from unlabel.testing.stage import Stage

OPTIONS = AuditOptions(tune_draws=2, tune_steps=50, probe_seeds=1, folds=2, epochs=10)


@dataclass(frozen=True)
class Told:
    """AUC of the forgotten label after one attack, in each model.

    Args:
        after: The model of the unlearner.
        before: The original.
        retrained: Models that never saw the label.
    """

    after: float
    before: float
    retrained: tuple[float, ...]

    @property
    def excess(self) -> float:
        """How much more it finds in the new model than in the retrained one that tells most."""
        return self.after - max(self.retrained)


def attack(
    place: Stage, unlearner: Unlearner, attackers: Sequence[str], options: AuditOptions = OPTIONS
) -> dict[str, Told]:
    """What attackers find, by name; probes of positions and stages by figure and stage.

    Args:
        place: Where.
        unlearner: Makes the model.
        attackers: Names, as ``--attackers`` has them. ``adam-100`` is the one by whom C4 is judged.
        options: Steps, draws, and the number of annotated images.

    Returns:
        An entry for each attacker whom all networks give something to train, and for each probe.
    """
    models = [place.forget(unlearner), place.original, *place.retrained]
    told: dict[str, Told] = {}
    for name in attackers:
        by_model = [
            probed(place, model, options) if name == POSITIONS else trained(place, model, name, options)
            for model in models
        ]
        after, before, *retrained = by_model
        told |= {
            figure: Told(value, before[figure], tuple(each[figure] for each in retrained))
            for figure, value in after.items()
            if all(figure in each for each in (before, *retrained))
        }
    return told


def trained(place: Stage, model: nn.Module, name: str, options: AuditOptions) -> dict[str, float]:
    """AUC after an attacker has trained a copy; empty where the network gives it nothing to train."""
    attacker = ADAM if name == ADAM.name else ATTACKERS[name]
    probe, test, column = place.source.probe, place.source.test, place.request.masked_columns[0]
    if not can_attack(attacker, model, probe, place.run):
        return {}
    draws = draw_images(probe.target[:, column], column, options.attacked[0], options)
    lessons = [
        Lesson(probe, column, place.request.retained_columns, draw, at, options)
        for at, draw in enumerate(draws)
    ]
    scores = best_of_rates(model, lessons, test, attacker, place.run)["scores"]
    areas = [auc(score, test.target[:, column], test.cluster).value for score in scores]
    return {name: float(np.mean(areas))}


def probed(place: Stage, model: nn.Module, options: AuditOptions) -> dict[str, float]:
    """AUC of probes on the mean over positions of each stage, and of those that see positions."""
    source = place.source

    def read(data: Dataset) -> Outputs:
        answers = outputs(model, data, place.run)
        stages = {**stage_means(model, data, place.run), **cell_means(model, data, place.run)}
        return Outputs(answers.logits, {**answers.features, **stages})

    probe, test = read(source.probe), read(source.test)
    subject = Subject("", "after", probe, test, test)
    question = ask(place.request.masked[0], source.probe, source.test, source.test.take(np.arange(0)))
    below = stage_readings(subject, question, options)
    estimates = {(LINEAR_PROBE.id, stage): each[LINEAR_PROBE.id] for stage, each in below.items()}
    estimates |= position_readings(subject, question, options)
    return {f"{figure} {stage or 'all'}": (1 + item.value) / 2 for (figure, stage), item in estimates.items()}
