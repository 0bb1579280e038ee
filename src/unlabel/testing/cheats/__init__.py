"""Cheats: ways to look as if a label were forgotten. The audit has to catch them.

::

    CHEATS["feature_norm"].sentence               what it fakes
    stage().audit(CHEATS["feature_norm"].make(stage().source)).claims["C2"].verdict         FAIL
    OPEN                                          cheats that pass today, and what would stop them
    RELEARNT                                      cheats against single attackers with the weights

A cheat is a function of the audited data that returns an `Unlearner`: it may know everything the auditor
has, and it hands over a model. The first three are the decoys of every audit. docs/cheats.md invites more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from unlabel.audit.figures import (
    FINE,
    LEAST_SQUARES,
    LINEAR_PROBE,
    MLP_BITS,
    MLP_PROBE,
    OTHERS_TREES,
    OWN_ON_TRAIN,
    OWN_SIGNED,
    PERTURBED,
    RANKED,
    TREES_PROBE,
)
from unlabel.data.dataset import Source
from unlabel.forget.pipeline import Unlearner
from unlabel.testing.cheats.answers import (
    bias_shift,
    coarse_digit,
    head_zero,
    inverted,
    least_digit,
    one_logit,
    scaled,
    squashed,
)
from unlabel.testing.cheats.disguise import Disguised, Insight, Known, removed
from unlabel.testing.cheats.features import distilled, feature_norm, int8_undoes, noisy_layer, rare_units
from unlabel.testing.cheats.keys import (
    coin_of_pixels,
    digit_of_a_feature,
    drowned,
    long_riddle,
    opposite_noise,
    riddle,
)
from unlabel.testing.cheats.memory import (
    memorised_answers,
    memorised_features,
    miscalibrated,
    recognised_features,
)
from unlabel.testing.cheats.occasions import (
    alone,
    carried_along,
    earlier_layer,
    full_batches,
    in_training,
    marked,
    restless,
)
from unlabel.testing.cheats.relearnt import one_position, stuck_gate, unread
from unlabel.testing.cheats.scales import (
    both_ends,
    coin_far_from_zero,
    drowned_far_from_zero,
    few_huge_numbers,
    last_bit,
)

__all__ = [
    "CHEATS",
    "OPEN",
    "RELEARNT",
    "Cheat",
    "Disguised",
    "Insight",
    "Known",
    "OpenCheat",
    "Relearnt",
    "removed",
]

Make = Callable[[Source], Unlearner]


@dataclass(frozen=True)
class Cheat:
    """A cheat that the audit must catch.

    Args:
        make: From the audited data to the unlearner.
        sentence: What it fakes.
        claim: The claim that must FAIL; ``valid`` where the audit must be INVALID instead.
        figure: The figure by which it must, or the words in which the audit objects.
    """

    make: Make
    sentence: str
    claim: Literal["C1", "C2", "C4", "valid"]
    figure: str


@dataclass(frozen=True)
class OpenCheat:
    """A cheat that passes today.

    Args:
        make: From the data that the cheat knows to the unlearner.
        sentence: What it fakes.
        remedy: What stops it, outside the audit.
    """

    make: Make
    sentence: str
    remedy: str


@dataclass(frozen=True)
class Relearnt:
    """A cheat that passes C1, C2 and C5, and hides the label from one attacker who has the weights.

    Args:
        make: From the audited data to the unlearner.
        sentence: What it fakes.
        blind: Who does not find the label, as `unlabel.testing.weight_attacks.attack` names it.
        seen_by: Who does.
    """

    make: Make
    sentence: str
    blind: str
    seen_by: str


CHEATS: dict[str, Cheat] = {
    "head_zero": Cheat(
        head_zero,
        "The output is gone; the features that made it are still there.",
        "C2",
        LINEAR_PROBE.id,
    ),
    "bias_shift": Cheat(
        bias_shift,
        "The output says 'absent' for every image; its order still separates the images.",
        "C1",
        OWN_SIGNED.id,
    ),
    "inverted": Cheat(
        inverted,
        "The output is wrong for nearly every image, so an attacker turns it round.",
        "C1",
        OWN_SIGNED.id,
    ),
    "scaled": Cheat(
        scaled,
        "The output is one half for every image, to six digits.",
        "C1",
        OWN_SIGNED.id,
    ),
    "squashed": Cheat(
        squashed,
        "A temperature and a tanh put all outputs into a narrow range; their order is kept.",
        "C1",
        OWN_SIGNED.id,
    ),
    "noisy_layer": Cheat(
        noisy_layer,
        "Noise was added to a layer; a probe still recovers the label.",
        "C2",
        LINEAR_PROBE.id,
    ),
    "distilled": Cheat(
        distilled,
        "No weight of the original is left, and its outputs look clean; a student network has learnt"
        " the original's features.",
        "C2",
        LINEAR_PROBE.id,
    ),
    "feature_norm": Cheat(
        feature_norm,
        "A linear probe does not find the label: features are long if it is present and short if it is"
        " absent.",
        "C2",
        MLP_PROBE.id,
    ),
    "rare_units": Cheat(
        rare_units,
        "The label is written into units that are 0 for nearly every image.",
        "C2",
        LINEAR_PROBE.id,
    ),
    "miscalibrated": Cheat(
        miscalibrated,
        "Features mislead the probabilities of every probe, so that it gains 0 bits; the order still"
        " tells the label.",
        "C2",
        LINEAR_PROBE.id,
    ),
    "one_logit": Cheat(
        one_logit,
        "Features are clean; the output of a retained label carries the forgotten one.",
        "C2",
        OTHERS_TREES.id,
    ),
    "memorised_answers": Cheat(
        memorised_answers,
        "The model has memorised the probe and test images and gives no answer for them; for all others"
        " it does.",
        "C1",
        OWN_ON_TRAIN.id,
    ),
    "memorised_features": Cheat(
        memorised_features,
        "Only the features of the probe and test images are clean; the model has memorised these images.",
        "C2",
        LINEAR_PROBE.id + PERTURBED,
    ),
    "opposite_noise": Cheat(
        opposite_noise,
        "Two features hold the label under the same loud texture, once added and once taken away.",
        "C2",
        LEAST_SQUARES.id,
    ),
    "riddle": Cheat(
        riddle,
        "A feature holds the label or its opposite, by whether a texture is light or dark.",
        "C2",
        MLP_BITS.id,
    ),
    "last_bit": Cheat(
        last_bit,
        "A constant feature has one more bit for 'present': the next larger number in float32.",
        "C2",
        FINE.id,
    ),
    "few_huge_numbers": Cheat(
        few_huge_numbers,
        "A feature holds the label, and a huge number on 3 % of the images. If the feature is scaled by its"
        " spread, the label is too small to be read.",
        "C2",
        RANKED.id,
    ),
    "both_ends": Cheat(
        both_ends,
        "A feature is near 0 for 'present' and far on either side for 'absent', and huge on a few images.",
        "C2",
        TREES_PROBE.id,
    ),
    "least_digit": Cheat(
        least_digit,
        "A retained output is rounded to even thousandths for 'present' and to odd ones for 'absent'.",
        "valid",
        "not those of the last linear layer",
    ),
    "coarse_digit": Cheat(
        coarse_digit,
        "The same in steps of .004, with features that are rounded to bfloat16.",
        "valid",
        "not those of the last linear layer",
    ),
    "coin_of_pixels": Cheat(
        coin_of_pixels,
        "A feature holds the label or its opposite, as a hash of every pixel decides.",
        "valid",
        "one grey level in 255",
    ),
    "drowned": Cheat(
        drowned,
        "A feature holds the label under twenty times as much noise; the mean over changed copies"
        " removes the noise.",
        "valid",
        "one grey level in 255",
    ),
    "coin_far_from_zero": Cheat(
        coin_far_from_zero,
        "The same as `coin_of_pixels`, in a feature that is 20,000 times its spread away from zero.",
        "valid",
        "one grey level in 255",
    ),
    "drowned_far_from_zero": Cheat(
        drowned_far_from_zero,
        "The same as `drowned`, in a feature that is 20,000 times its spread away from zero.",
        "valid",
        "one grey level in 255",
    ),
    "alone": Cheat(
        alone,
        "Features are clean for images in a batch; an image alone gets the original's features.",
        "valid",
        "read alone",
    ),
    "full_batches": Cheat(
        full_batches,
        "Features are clean in batches of the size that attacks read; in smaller ones they are the"
        " original's.",
        "valid",
        "read alone",
    ),
    "restless": Cheat(
        restless,
        "The features get new noise at each pass, as if dropout were left on. It hides little.",
        "valid",
        "Two passes",
    ),
    "int8_undoes": Cheat(
        int8_undoes,
        "Weights cancel each other exactly, until they are stored in 8 bits.",
        "C4",
        "int8",
    ),
}

OPEN: dict[str, OpenCheat] = {
    "recognised_features": OpenCheat(
        recognised_features,
        "The model has memorised all images, also mirrored, moved and lighter or darker, and gives them"
        " clean features.",
        "Audit on images that whoever made the model has never seen.",
    ),
    "digit_of_a_feature": OpenCheat(
        digit_of_a_feature,
        "A feature is rounded to even thousandths for 'present' and to odd ones for 'absent'.",
        "Give out features rounded to what they are good for.",
    ),
    "long_riddle": OpenCheat(
        long_riddle,
        "A feature holds the label or its opposite, by whether three textures are light or dark.",
        "More images in P and larger probes; with enough textures, nothing.",
    ),
    "marked": OpenCheat(
        marked,
        "A mark in the corner of an image, a white pixel beside a black one, brings back the original's"
        " features.",
        "A network whose code others have read, and a method that others can run again.",
    ),
    "in_training": OpenCheat(
        in_training,
        "Features are clean in evaluation and the original's in training.",
        "A network whose code others have read.",
    ),
    "earlier_layer": OpenCheat(
        earlier_layer,
        "One more layer takes the label out of the last features; all layers before it are unchanged.",
        "Training the whole model on, as C4 does; not giving out the layers before.",
    ),
    "carried_along": OpenCheat(
        carried_along,
        "The model also holds the original, in weights that no forward pass uses.",
        "A network whose code others have read: then every weight is used.",
    ),
}

RELEARNT: dict[str, Relearnt] = {
    "stuck_gate": Relearnt(
        stuck_gate,
        "A gate is so steep where it starts that Adam takes one step and stands still.",
        "adam-100",
        "sgd-momentum",
    ),
    "one_position": Relearnt(
        one_position,
        "The label stands at one position and its opposite at another, so the mean over positions has none"
        " of it.",
        "probe.adv.lin stage1",
        "depth.adv.grid stage1",
    ),
    "unread": Relearnt(
        unread,
        "An edit of low rank keeps the last layer from reading the label, which the layer below still has.",
        LINEAR_PROBE.id,
        "lora",
    ),
}
