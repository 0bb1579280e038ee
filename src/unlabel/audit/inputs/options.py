"""The rules of an audit: what each budget measures, and the margins, sizes and seed of all tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from unlabel.audit.inputs.attackers import chosen
from unlabel.core.errors import OptionError
from unlabel.core.kinds import is_number, is_whole
from unlabel.core.wording import listing, suggest


@dataclass(frozen=True)
class Budget:
    """What an audit measures beyond the attacks on outputs and features, which every audit makes.

    Args:
        name: As the command line and ``audit.json`` have it.
        transforms: Attacks again after each transform of the weights (C4).
        few_shot: Probes on few annotated images (C4).
        canaries: Planted annotations (C6).
        membership: Whether training images can be told from others (C2, C5).
        groups: Retained labels among people with and without the forgotten one.
        described: Attribute inference as papers report it, and distances to retrained models.
        fine_tuning: The whole model, trained on few annotated images (C4).
        early_layers: Probes on the stages before the last features (C4).
        code_length: Length of the code that the label needs.
        more_few: Numbers of annotated images of the few-shot probes, beside those of the options.
    """

    name: str
    transforms: bool = False
    few_shot: bool = False
    canaries: bool = False
    membership: bool = False
    groups: bool = False
    described: bool = False
    fine_tuning: bool = False
    early_layers: bool = False
    code_length: bool = False
    more_few: tuple[int, ...] = ()

    @property
    def durability(self) -> bool:
        """Whether C4 is tested."""
        return self.transforms or self.few_shot or self.fine_tuning or self.early_layers


QUICK = Budget("quick")


STANDARD = Budget(
    "standard",
    transforms=True,
    few_shot=True,
    canaries=True,
    membership=True,
    groups=True,
    described=True,
)


FULL = replace(STANDARD, name="full", fine_tuning=True, early_layers=True, code_length=True, more_few=(1024,))


BUDGETS: Mapping[str, Budget] = {budget.name: budget for budget in (QUICK, STANDARD, FULL)}


MOST_SEED = 2**31 - 1


def _is_thresholds(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and is_number(threshold) for name, threshold in value.items()
    )


KINDS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("a whole number", is_whole),
    float: ("a number", is_number),
    str: ("a text", lambda value: isinstance(value, str)),
    tuple[int, ...]: (
        "whole numbers, such as (16, 64)",
        lambda value: isinstance(value, tuple) and all(map(is_whole, value)),
    ),
    tuple[str, ...]: (
        "names",
        lambda value: isinstance(value, tuple) and all(isinstance(name, str) for name in value),
    ),
    Mapping[str, float]: ("a number for each label, such as {'Male': 0.5}", _is_thresholds),
}
"""By the annotation of an option: what it must be, in words, and whether a value is."""

JUDGED_PEOPLE = 20  # in effect, of each kind: with fewer, the error that people make is understated


@dataclass(frozen=True)
class AuditOptions:
    """Margins, sizes and seed of an audit. All are written into the report.

    Args:
        alpha: Error rate of every test, 0-0.5.
        d_chance: Advantage below which an attack counts as a coin (C1, C3).
        d_reference: Advantage over the retrained models that is tolerated (C2).
        d_reference_bits: The same for probes in bits (C2).
        d_erased_bits: Bits below which a probe counts as finding nothing (C3).
        d_macro: Loss of mean AUC over retained labels that is tolerated (C5).
        d_worst: Loss of AUC of the worst retained label that is tolerated (C5).
        d_ece: Rise of the mean calibration error that is tolerated (C5).
        d_recover: Advantage, or bits, that a transform of the weights may bring back (C4).
        d_few: AUC by which a probe or a model trained on few annotated images may exceed retrained ones (C4).
        d_member: Rise of the AUC of sample-level membership that is tolerated (C5).
        d_fair: Mean AUC over retained labels by which a retrained model may lie below the original; one that
            does so by more is an unfair measure (C2, C4, C5).
        d_permuted: Advantage on permuted labels above which the audit is invalid.
        d_canary: Share of canaries told right from which on annotations count as memorised (C6), 0.5-1.
        canaries: Canaries of a label below which C6 gives no PASS.
        rare: Images of each kind in the test split below which a label's claims are inconclusive.
        probe_seeds: Probes averaged for every probe figure, >= 1.
        folds: Calibration folds of each probe, >= 2.
        hidden: Hidden units of the MLP probe.
        epochs: Most passes over the probe split of the MLP probe.
        trees: Boosting rounds of the tree attack.
        permutations: Label permutations of the negative control, >= 2.
        resamples: Bootstrap resamples of the interval of ``own.mi_bits``.
        few: Numbers of annotated images of the few-shot probes; the full budget adds 1,024. Where the probe
            split has too few for one, fewer are tried, see `audit.attacks.annotated`.
        few_judged: Least of them that C4 judges, and least that is tried in place of a larger number.
        draws: Draws of every few-shot probe, >= 2.
        tune: Numbers of annotated images on which the full budget trains the whole model; or fewer, as above.
        tune_draws: Draws of those images, >= 2.
        rated_draws: How many of these draws are trained at every rate and choose the best, >= 1; the others
            are trained at that rate alone, for the error of the mean.
        tune_steps: Steps of that training, >= 10.
        attackers: Names of attackers to report beside it, of ``curve``, ``positions``, ``stitched``,
            ``tangent`` and ``prototypes``, or ``all``; see `audit.inputs.attackers`. They decide nothing,
            and need a budget that judges C4.
        attacked: Numbers of annotated images of these attackers.
        curve: Numbers of annotated images of the curve, beside all that there are.
        raw_image: Whether to run the control on raw pixels.
        cross_fit: Whether attacks on labels that are rare in the test split are repeated with the probe and
            test splits exchanged.
        thresholds: Decision threshold (logit, or log-odds of a class) of a label for balanced accuracy; where
            not named, 0, or being the most likely of the retained classes.
        seed: Seed of folds, probes and resamples, the same for every model: 0 to 2147483647.
        budget: How much is tested: quick, standard or full.

    Raises:
        OptionError: A value is of another kind or out of range.
    """

    alpha: float = 0.05
    d_chance: float = 0.10
    d_reference: float = 0.10
    d_reference_bits: float = 0.075
    d_erased_bits: float = 0.05
    d_macro: float = 0.01
    d_worst: float = 0.05
    d_ece: float = 0.02
    d_recover: float = 0.05
    d_few: float = 0.03
    d_member: float = 0.02
    d_fair: float = 0.05
    d_permuted: float = 0.05
    d_canary: float = 0.55
    canaries: int = 1000
    rare: int = 200
    probe_seeds: int = 5
    folds: int = 5
    hidden: int = 64
    epochs: int = 40
    trees: int = 200
    permutations: int = 50
    resamples: int = 1000
    few: tuple[int, ...] = (16, 64, 256)
    few_judged: int = 64
    draws: int = 50
    tune: tuple[int, ...] = (256, 1024)
    tune_draws: int = 6
    rated_draws: int = 3
    tune_steps: int = 100
    attackers: tuple[str, ...] = ()
    attacked: tuple[int, ...] = (256,)
    curve: tuple[int, ...] = (16, 64, 256, 1024)
    raw_image: bool = True
    cross_fit: bool = True
    thresholds: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    budget: str = "quick"

    def __post_init__(self) -> None:
        for item in fields(self):
            given = getattr(self, item.name)
            value = (given,) if isinstance(given, str) and item.name == "attackers" else given
            value = tuple(value) if isinstance(value, list) else value
            words, fits = KINDS[item.type]
            if not fits(value):
                raise OptionError(f"{item.name} is {given!r}; expected {words}")
            object.__setattr__(self, item.name, value)
        self._check_margins()
        self._check_sizes()
        if self.budget not in BUDGETS:
            raise OptionError(f"no budget '{self.budget}'; expected one of {', '.join(BUDGETS)}")
        if self.asked and not self.includes.durability:
            raise OptionError(
                f"attackers are reported beside C4, which the {self.budget} budget does not judge; choose the"
                " budget standard or full"
            )

    def _check_margins(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise OptionError(f"alpha is {self.alpha:g}, but must lie between 0 and 0.5; 0.05 is usual")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.startswith("d_") and not value > 0:
                raise OptionError(f"{item.name} is {value:g}, but a margin must be above 0")
        if not 0.5 < self.d_canary < 1:
            raise OptionError(
                f"d_canary is {self.d_canary:g}, but must lie between 0.5, which is chance, and 1; 0.55 is"
                " usual"
            )

    def _check_sizes(self) -> None:
        least = dict.fromkeys(("probe_seeds", "hidden", "epochs", "trees", "rated_draws"), 1) | {
            "rare": 0,
            "seed": 0,
        }
        least |= dict.fromkeys(("folds", "permutations", "draws", "tune_draws"), 2)
        for name, bound in {**least, "resamples": 10, "tune_steps": 10}.items():
            if getattr(self, name) < bound:
                raise OptionError(f"{name} is {getattr(self, name)}, but must be at least {bound}")
        if self.seed > MOST_SEED:
            raise OptionError(f"seed is {self.seed}; expected 0 to {MOST_SEED}")
        if max(self.few, default=0) < self.few_judged:
            raise OptionError(
                f"few is {list(self.few)}, but one size must be at least few_judged, {self.few_judged}:"
                " C4 would judge none"
            )
        for name in ("few", "tune", "attacked", "curve"):
            sizes = getattr(self, name)
            if (not sizes and name != "tune") or any(n < 2 or n % 2 for n in sizes):
                raise OptionError(
                    f"{name} is {list(sizes)}, but half of these images have the label; expected even"
                    " numbers, each at least 2"
                )

    @property
    def few_sizes(self) -> tuple[int, ...]:
        """Numbers of annotated images of the few-shot probes under this budget."""
        return (*self.few, *self.includes.more_few)

    @property
    def asked(self) -> tuple[str, ...]:
        """What was asked for beside the attacks of the budget, ``all`` spelt out."""
        return chosen(self.attackers)

    @property
    def includes(self) -> Budget:
        """What the budget measures."""
        return BUDGETS[self.budget]

    @property
    def least_people(self) -> int:
        """People in effect, of each kind, below which a label's claims are inconclusive."""
        return min(JUDGED_PEOPLE, self.rare)

    @property
    def level(self) -> float:
        """Confidence level of one-sided bounds."""
        return 1.0 - self.alpha

    def to_json(self) -> dict[str, Any]:
        """JSON-plain copy for the report; without what is there for attackers that nobody asked for."""
        beside = () if self.attackers else ("attackers", "attacked", "curve")
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in beside}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def check_thresholds(options: AuditOptions, labels: Sequence[str]) -> None:
    """Refuses a threshold of a label that no model has: it would be left out in silence.

    Raises:
        OptionError: A name is not among the labels.
    """
    for name in options.thresholds:
        if name not in labels:
            raise OptionError(
                f"thresholds name '{name}', which is no label of the models.{suggest(name, labels)} Expected"
                f" some of {listing(labels)}"
            )
