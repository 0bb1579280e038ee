"""Who trains a whole model again to bring a label back: attackers, as data.

`ADAM` is the one by whom C4 is judged. Methods are developed with it in view. So the others, which no method
here was tuned against, are reported beside it if `AuditOptions.attackers` names them. `fine_tuning` trains
for all of them, by one loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest

EVERY = 10  # steps of a training between two looks at images held back
ALL = "all"
CURVE, POSITIONS = "curve", "positions"  # what can be asked for beside attackers
STITCHED, TANGENT, PROTOTYPES = "stitched", "tangent", "prototypes"


@dataclass(frozen=True)
class Attacker:
    """How somebody who has the weights trains them again, on few annotated images.

    Args:
        name: As the command line and figures have it.
        title: As a heading.
        definition: What is done, in one sentence.
        rates: Learning rates; the attacker takes the best, by images held back.
        optimiser: Adam, or SGD with a momentum of 0.9.
        times: Steps, in units of `AuditOptions.tune_steps`, >= 1. It looks ten times as it goes, whatever
            their number.
        augmented: Whether images are mirrored, moved and relit as in training.
        moves: What is trained beside the new head: ``all``; ``adapters``, a low-rank matrix added to each
            convolution and linear layer; or ``norms``, the numbers of normalising layers.
        anew: What gets new random weights first: the ``head``, which starts as a linear probe;
            ``upper-half``, the last stages that hold half of the weights; or the ``network``, which then
            learns the model's retained outputs.
        learns: The ``label`` alone, or ``all-labels``, the retained ones of the same images as well.
        keeps: The model after the ``last`` step, or the one of the ``best`` look at images held back.
    """

    name: str
    title: str
    definition: str
    rates: tuple[float, ...]
    optimiser: Literal["adam", "sgd"] = "adam"
    times: int = 1
    augmented: bool = True
    moves: Literal["all", "adapters", "norms"] = "all"
    anew: Literal["head", "upper-half", "network"] = "head"
    learns: Literal["label", "all-labels"] = "label"
    keeps: Literal["last", "best"] = "last"

    @property
    def every(self) -> int:
        """Steps between two looks."""
        return EVERY * self.times

    @property
    def key(self) -> str:
        """All that its outcome depends on, as a text."""
        settings = (
            self.rates, self.optimiser, self.times, self.augmented, self.moves, self.anew, self.learns,
            self.keeps,
        )  # fmt: skip
        return "/".join(map(str, settings))


RATES = (1e-4, 1e-3, 1e-2)

ADAM = Attacker("adam-100", "Adam, as C4 is judged", "Adam at 0.0001, 0.001 or 0.01.", RATES)
HELD_OUT: tuple[Attacker, ...] = (
    Attacker(
        "adam-rates", "Adam at other rates", "Adam at 0.00003, 0.0003 or 0.003.", (3e-5, 3e-4, 3e-3)
    ),
    Attacker(
        "adam-plain", "Adam, images unchanged", "Adam at the first attacker's rates, without augmentation.",
        RATES, augmented=False,
    ),
    Attacker(
        "adam-1000", "Adam, ten times the steps",
        "Adam at 0.0001 or 0.001, for ten times as many steps; the best of ten looks counts.",
        (1e-4, 1e-3), times=10, keeps="best",
    ),
    Attacker(
        "sgd-momentum", "SGD with momentum", "SGD with a momentum of 0.9, at 0.001, 0.01 or 0.1.",
        (1e-3, 1e-2, 1e-1), optimiser="sgd",
    ),
    Attacker(
        "lora", "Low-rank adapters",
        "Adam on a matrix of rank 8 added to each convolution and linear layer, and on the new head.",
        (1e-3, 3e-3, 1e-2), moves="adapters",
    ),
    Attacker(
        "norm-only", "Normalising layers alone",
        "Adam on the numbers and statistics of normalising layers, and on the new head.",
        (1e-3, 3e-3, 1e-2), moves="norms",
    ),
    Attacker(
        "upper-half", "Upper half started anew",
        "The last stages that hold half of the weights get new random ones, then Adam trains everything "
        "for three times as many steps; the best of ten looks counts.",
        (1e-3, 3e-3), times=3, anew="upper-half", keeps="best",
    ),
    Attacker(
        "joint", "Together with the retained labels",
        "Adam on the label and, on the same images, on the retained labels.",
        RATES, learns="all-labels",
    ),
    Attacker(
        "distilled", "Distilled into a new network",
        "A network with new random weights learns the model's retained outputs on the probe split, then "
        "Adam trains it.",
        (1e-4, 1e-3), anew="network",
    ),
)  # fmt: skip
ATTACKERS: Mapping[str, Attacker] = {attacker.name: attacker for attacker in HELD_OUT}
UNTRAINED = (POSITIONS, STITCHED, TANGENT, PROTOTYPES)
NAMES = (*ATTACKERS, CURVE, *UNTRAINED)


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The names that are asked for, in the order of `NAMES`; ``all`` stands for every one.

    Raises:
        OptionError: There is no such attacker.

    >>> chosen(["lora", "sgd-momentum"])
    ('sgd-momentum', 'lora')
    """
    for name in names:
        if name not in (ALL, *NAMES):
            raise OptionError(
                f"no attacker '{name}'; expected {ALL}, or some of {', '.join(NAMES)}.{suggest(name, NAMES)}"
            )
    return NAMES if ALL in names else tuple(name for name in NAMES if name in names)
