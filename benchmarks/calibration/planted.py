"""Tables of outputs in which it is exactly known how much they tell of a label.

An audit estimates. Here the right answers are known, in closed form or by numerical integration, so that
its estimates, its intervals and its verdicts can be held against the truth::

    plant("line", 0.5)      the best attack is a line and reaches advantage 0.5; its bits are known too
    plant("xor", 0.5)       no line does better than a coin, the best attack reaches 0.5
    columns(0.8)            four retained outputs whose labels agree with the forgotten one in 80 %
    world = draw(plant("xor", 0.5), columns(0.8), images=1500)
    world.model("after")    -> a `Subject`, ready for `audit_outputs`

Two images a person, whose noise goes together: an audit that ignores identities is found out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from scipy.stats import f as fisher_f

from calibration.truth import GRID, LOUD, NOTHING, RETAINED, Columns, Floats, Truth, read_out
from unlabel.audit.document.results import Role
from unlabel.audit.inputs.subject import Subject
from unlabel.core.errors import OptionError
from unlabel.core.randomness import normal, uniform
from unlabel.core.wording import suggest
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs

Shape = Literal["line", "xor", "norm"]

LABEL = "planted"
WIDTH = 16  # features; those that hold nothing are noise
BALL = 4  # features whose common spread holds the label in "norm"
PER_PERSON = 2
SHARED = 0.3  # share of the variance that the images of a person have in common


@dataclass(frozen=True)
class Plant:
    """A way to hold the label in features, with its exact strength.

    Args:
        shape: ``line``: the class means differ. ``xor``: the sign of a product. ``norm``: the spread.
        strength: Distance of the class means, distance of the four means from 0, or ratio of spreads.
        prior: Share of the people who have the label.
        linear: What the best line reaches; nothing where the class means are equal.
        best: What the best attack reaches, the likelihood ratio.
    """

    shape: Shape
    strength: float
    prior: float
    linear: Truth
    best: Truth

    def features(self, y: NDArray[np.bool_], noise: Floats, coin: NDArray[np.bool_]) -> Floats:
        """(image, `WIDTH`) features from the label, standard normal noise and a coin an image."""
        table, sign = noise.copy(), np.where(y, 1.0, -1.0)
        if self.shape == "line":
            table[:, 0] += sign * self.strength / 2
        elif self.shape == "xor":
            side = np.where(coin, 1.0, -1.0) * self.strength
            table[:, 0] += side
            table[:, 1] += side * sign
        else:
            table[:, :BALL] *= np.where(y, self.strength, 1.0)[:, None]
        return table


@lru_cache(maxsize=256)
def plant(shape: Shape, adv: float, prior: float = 0.5) -> Plant:
    """A plant of which the best attack reaches an advantage.

    ==========  ===================================================  =======================================
    shape       features                                             advantage of the best attack
    ==========  ===================================================  =======================================
    ``line``    x ~ N(+-s/2, 1)                                      2 Phi(s / sqrt 2) - 1
    ``xor``     (x1, x2) ~ N((c a, +-c a), 1), c = +-1 by a coin     by integration on a grid
    ``norm``    x ~ N(0, 1), N(0, s^2) of people with it, 4 columns  2 F(s^2; 4, 4) - 1, Fisher's F
    ==========  ===================================================  =======================================

    Bits are the mutual information, integrated on a grid to 1e-4. The best line knows all of ``line`` and
    nothing of the others, whose classes have the same mean.

    Args:
        shape: See the table.
        adv: Advantage of the best attack, 0-0.98.
        prior: Share of the people who have the label, 0-1; advantages do not depend on it, bits do.

    Raises:
        OptionError: No such shape, or a number out of its range.

    Example:
        >>> found = plant("line", 0.5)
        >>> round(found.strength, 3), round(found.best.adv, 3), round(found.best.bits, 3)
        (0.954, 0.5, 0.148)
        >>> plant("xor", 0.5).linear
        Truth(adv=0.0, bits=0.0)
    """
    if shape not in get_args(Shape):
        raise OptionError(
            f"no shape '{shape}'; expected one of line, xor, norm.{suggest(shape, get_args(Shape))}"
        )
    if not (0 <= adv <= 0.98 and 0 < prior < 1):
        raise OptionError(f"adv is {adv:g} and prior {prior:g}; expected 0 to 0.98, and between 0 and 1")
    if shape == "line":
        strength = float(np.sqrt(2) * norm.ppf((1 + adv) / 2))
    elif adv == 0:
        strength = 1.0 if shape == "norm" else 0.0
    elif shape == "norm":
        strength = float(np.sqrt(fisher_f.ppf((1 + adv) / 2, BALL, BALL)))
    else:
        strength = _solve(lambda a: _best("xor", a, prior).adv - adv, 1e-3, 6.0)
    best = Truth(adv, _best(shape, strength, prior).bits)
    return Plant(shape, strength, prior, best if shape == "line" else NOTHING, best)


def _solve(gap: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, to 1e-6, by halving."""
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if gap(middle) > 0 else (middle, high)
    return (low + high) / 2


@lru_cache(maxsize=1024)
def _best(shape: Shape, strength: float, prior: float) -> Truth:
    """The likelihood ratio's advantage and bits, by sums over a grid."""
    if shape == "line":
        x = np.linspace(-GRID - strength, GRID + strength, 4001)
        return read_out(norm.pdf(x - strength / 2), norm.pdf(x + strength / 2), prior)
    if shape == "norm":
        x = np.linspace(-30.0, 12.0, 8001)  # of log r^2
        r = np.exp(x)
        present = r * chi2.pdf(r / strength**2, BALL) / strength**2
        return read_out(present, r * chi2.pdf(r, BALL), prior)
    # turned by 45 degrees, one of two coordinates holds +-sqrt(2) a and the other nothing
    side = np.sqrt(2) * strength
    x = np.linspace(-6.0 - side, 6.0 + side, 501)
    two, one = (norm.pdf(x - side) + norm.pdf(x + side)) / 2, norm.pdf(x)
    return read_out(np.outer(two, one).ravel(), np.outer(one, two).ravel(), prior)


@dataclass(frozen=True)
class PlantedWorld:
    """Images that exist as labels only, and models of them made to measure.

    Args:
        plant: What the features hold.
        columns: What the other outputs hold.
        splits: P, E and T_in; the forgotten label is column 0.
        seed: Key of all randomness.
    """

    plant: Plant
    columns: Columns
    splits: tuple[Dataset, Dataset, Dataset]
    seed: int

    def model(self, role: Role, *, network: int = 0, plant: Plant | None = None) -> Subject:
        """A model without the label's own output, whose features hold it as planted.

        Args:
            role: Its part in the audit.
            network: Key of its noise and of the directions of its features.
            plant: Another plant than the world's.
        """
        probe, test, train = (self._outputs(part, network, plant or self.plant) for part in range(3))
        return Subject(f"{role}-{network}", role, probe, test, train, frozenset({LABEL}))

    def _outputs(self, part: int, network: int, plant: Plant) -> Outputs:
        data = self.splits[part]

        def noise(stream: str, width: int) -> Floats:
            components = (
                normal(self.seed, f"planted/{stream}/{kind}/{part}", network, keys[:, None], np.arange(width))
                for kind, keys in (("person", data.cluster), ("image", data.rows))
            )
            person, image = components
            return np.sqrt(SHARED) * person + np.sqrt(1 - SHARED) * image

        coin = uniform(self.seed, f"planted/coin/{part}", network, data.rows) < 0.5
        table = plant.features(data.target[:, 0] == 1, noise("feature", WIDTH), coin)
        turn = np.linalg.qr(normal(network, "planted/turn", np.arange(WIDTH)[:, None], np.arange(WIDTH)))[0]
        logits = LOUD * (2.0 * data.target - 1) + noise("logit", 1 + RETAINED)
        logits[:, 0] = 0.0
        return Outputs(logits.astype(np.float32), {PENULTIMATE: (table @ turn).astype(np.float32)})


def draw(plant: Plant, columns: Columns, *, images: int = 1500, seed: int = 0) -> PlantedWorld:
    """Draws P, E and T_in with two images a person.

    Args:
        plant: What the features of its models hold, by default; its prior is the label's.
        columns: What the other outputs hold.
        images: In each split, an even number.
        seed: Key of the labels and of the models' noise.
    """
    if images < 40 or images % PER_PERSON:
        raise OptionError(f"found {images} images; expected an even number, 40 or more")
    names = (LABEL, *(f"retained {k + 1}" for k in range(RETAINED)))
    datasets = []
    for part in range(3):
        person = np.arange(images) // PER_PERSON
        y = uniform(seed, f"planted/label/{part}", person) < plant.prior
        agrees = (
            uniform(seed, f"planted/follow/{part}", person[:, None], np.arange(RETAINED)) < columns.follow
        )
        target = np.column_stack([y, agrees == y[:, None]]).astype(np.int8)
        rows = np.arange(images) + part * images
        pixels = np.zeros((1, 1, 1, 3), np.uint8)
        datasets.append(Dataset(pixels, rows, target, person + part * images, rows.astype(str), names))
    return PlantedWorld(plant, columns, (datasets[0], datasets[1], datasets[2]), seed)
