"""``audit.json`` as it is read: typed, since it may come from anyone, and with what older ones lack."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from unlabel.audit.document.results import Against, Comparison, Metric, Verdict
from unlabel.core.errors import ModelError
from unlabel.core.reading import typed
from unlabel.core.wording import joined

Number = Annotated[float, Meta(ge=-1e12, le=1e12)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
T = TypeVar("T")
EXPECTED = ("C1", "C2", "C3", "C4", "C5", "C6")


@dataclass(frozen=True)
class Figure(Metric):
    """A measured number of one model, within bounds that a page can show."""

    value: Number
    ci: tuple[Number, Number] | None
    n: Count


@dataclass(frozen=True)
class Difference(Comparison):
    """A figure set against retrained models or, in audits without the word, the model before a transform."""

    diff: Number
    lower: Number
    upper: Number
    margin: Number
    against: Against = "itself"

    @property
    def distance(self) -> float:
        """How far its upper bound is above its margin, in margins."""
        return (self.upper - self.margin) / max(self.margin, 1e-12)


@dataclass(frozen=True)
class Steps:
    """Optimiser steps until a training reached its mark; None where it did not."""

    before: Count | None = None
    after: Count | None = None
    references: tuple[Count | None, ...] | None = None


@dataclass(frozen=True)
class DepthScore:
    """What is gone of what the original reads from its stages, 0 to 1, in the mean and by stage."""

    score: Number
    stages: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class InformationLeft:
    """The share of the original's excess information over retrained models that is left, with bounds."""

    share: Number
    lower: Number
    upper: Number
    original: Number
    model: Number
    retrained: Number


@dataclass(frozen=True)
class Noted:
    """What relearning told beyond retrained models where no verdict rests on it."""

    excess: Number | None = None
    upper: Number | None = None
    steps: Steps | None = None
    lower: Number | None = None
    retrained_apart: Number | None = None
    margin: None = field(default=None, init=False)
    verdict: None = field(default=None, init=False)

    @property
    def diff(self) -> float | None:
        """The excess, by the name that a comparison gives it."""
        return self.excess


@dataclass(frozen=True)
class Worst:
    """The attacker whose bound is highest; the bound is corrected for the number it was chosen of."""

    attacker: str
    images: Count
    excess: Number
    upper: Number
    chosen_of: Count


@dataclass(frozen=True)
class ByRole:
    """A row of numbers of the original, the unlearned model and each retrained one."""

    before: tuple[Number, ...] = ()
    after: tuple[Number, ...] = ()
    references: tuple[tuple[Number, ...], ...] = ()


@dataclass(frozen=True)
class Needed:
    """How many annotated images reach an AUC; the least and the largest ratio over draws."""

    auc: Number
    retrained: Number
    after: Number
    ratio: Number
    ratios: tuple[Number, Number] | None = None


@dataclass(frozen=True)
class AttackCurve:
    """AUC of the whole model by number of images, and by steps on images held back."""

    images: tuple[Count, ...]
    steps: tuple[Count, ...]
    auc: ByRole
    looks: dict[str, ByRole]
    needed: tuple[Needed, ...] = ()


@dataclass(frozen=True)
class GroupBound:
    """How much worse a group is served; its bounds hold together with those of all other groups."""

    label: str
    present: bool
    excess: Number
    lower: Number
    upper: Number
    images: Count


@dataclass(frozen=True)
class GroupTable:
    """One figure in every group that is large enough, the worst first."""

    tested: Count = 0
    left_out: Count = 0
    beyond: Count = 0
    at_most: Number | None = None
    groups: tuple[GroupBound, ...] = ()
    retrained_apart: Number | None = None
    against: Literal["retrained", "original"] = "retrained"


@dataclass(frozen=True)
class BesideRetrained:
    """A figure against retrained models, and the least and the largest of theirs."""

    excess: Number
    lower: Number
    upper: Number
    retrained: tuple[Number, Number]


@dataclass(frozen=True)
class MovedNote:
    """Errors that were moved: in all, and the share of the added ones on images with each forgotten label."""

    total: BesideRetrained
    shares: dict[str, BesideRetrained] = field(default_factory=dict)


@dataclass(frozen=True)
class PersonsNote:
    """The share of persons whose loss rose by more than chance, and the same of each retrained model."""

    share: Number
    lower: Number
    upper: Number
    retrained: tuple[Number, ...]
    amount: Number
    persons: Count
    left_out: Count


@dataclass(frozen=True)
class GroupsNote:
    """Whom it hits; see `claims.c5_groups`."""

    losses: GroupTable
    leaks: dict[str, GroupTable] = field(default_factory=dict)
    least: Count = 100
    moved: MovedNote | None = None
    persons: PersonsNote | None = None


@dataclass(frozen=True)
class Result:
    """What a control found: a figure with its interval, or a lower bound; whether that is as it must be."""

    value: Number | None = None
    ci: tuple[Number, Number] | None = None
    n: Count | None = None
    lower: Number | None = None
    attack: str = ""
    ok: bool | None = None
    passed: bool | None = None
    not_applicable: str | None = None


@dataclass(frozen=True)
class UnfairReference:
    """A retrained model that ranks the retained labels far worse than the original."""

    run: str


@dataclass(frozen=True)
class Predicted:
    """The predicted level of one attack, its interval, and what the attack reads from the other models."""

    value: Number
    low: Number
    high: Number
    original: Number
    short: tuple[tuple[Number, ...], ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What the level of retrained models was predicted from, and at which cost."""

    cost: Number
    shares: tuple[Number, ...]
    level: Number = 0.9
    figures: dict[str, dict[str, Predicted]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bound:
    """Whether a model meets the bound that needs no training, in one word or a few, and the reason."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class SmallestMargin:
    """The smallest margin of a kind that would pass, and the test that needs it."""

    margin: Number
    published: Number
    figure: str
    label: str | None = None
    layer: str | None = None
    transform: str | None = None


@dataclass(frozen=True)
class MarginRow:
    """Multiples of all margins below which a model fails a claim and above which it passes; None: by none."""

    model: str
    fails_below: Number
    passes_above: Number | None


@dataclass(frozen=True)
class Notes:
    """What a report reads of a claim's notes."""

    rule: str = ""
    attainable: bool | None = None
    finding: str | None = None
    head_zero: str | None = None
    binding_test: dict[str, str] = field(default_factory=dict)
    start: str | None = None
    references: Count = 0
    unfair_references: tuple[UnfairReference, ...] = ()
    draws: Count | None = None
    few_shot: dict[str, dict[str, Noted]] = field(default_factory=dict)
    too_few_in_p: dict[str, tuple[Count, ...]] = field(default_factory=dict)
    tune_draws: Count | None = None
    rated_draws: Count | None = None
    whole_model: dict[str, dict[str, Noted]] = field(default_factory=dict)
    information_left: dict[str, InformationLeft] = field(default_factory=dict)
    attackers: dict[str, dict[str, dict[str, Noted]]] = field(default_factory=dict)
    worst_attacker: dict[str, Worst] = field(default_factory=dict)
    attack_curve: dict[str, AttackCurve] = field(default_factory=dict)
    depth: dict[str, dict[str, dict[str, Noted]]] = field(default_factory=dict)
    depth_score: dict[str, DepthScore] = field(default_factory=dict)
    tangent: dict[str, dict[str, Noted]] = field(default_factory=dict)
    prototypes: dict[str, dict[str, dict[str, Noted]]] = field(default_factory=dict)
    canaries: dict[str, Count] = field(default_factory=dict)
    predicted: bool = False
    prediction: Prediction | None = None
    bound: Bound | None = None
    smallest_margin: dict[str, SmallestMargin] = field(default_factory=dict)
    margin_curve: tuple[MarginRow, ...] = ()
    groups: GroupsNote | None = None
    own_check: str | None = None
    not_predicted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decided:
    """A claim and how it came out; see `audit.document.results.Claim`."""

    verdict: Verdict
    sentence: str
    budget: str | None = None
    provisional: bool = False
    binding: str | None = None
    per_label: dict[str, Verdict] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class Asked:
    """The labels: to be forgotten, forgotten earlier, retained."""

    labels: tuple[str, ...] = ()
    forgotten_earlier: tuple[str, ...] = ()
    retained: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelRecord:
    """How a model was made and what it cost; None for what is not recorded."""

    run: str | None = None
    sha256: str | None = None
    network: str | None = None
    labels: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    method: str | None = None
    seed: int | None = None
    changed: Count | None = None
    total: Count | None = None
    images_used: Count | None = None
    images_processed: Count | None = None
    steps: Count | None = None
    seconds: dict[str, Number] | None = None
    versions: dict[str, Any] | None = None
    command: str | None = None


@dataclass(frozen=True)
class ReferenceCost:
    """What references would cost, as a sentence, and the command that trains them."""

    sentence: str
    command: str


@dataclass(frozen=True)
class Models:
    """The models of an audit, and the command that made it."""

    before: ModelRecord | None = None
    after: ModelRecord | None = None
    references: tuple[ModelRecord, ...] | None = None
    command: str | None = None
    reference_cost: ReferenceCost | None = None


@dataclass(frozen=True)
class Split:
    """Sizes of a split: images, people, images with each forgotten label."""

    n: Count | None = None
    n_clusters: Count | None = None
    n_present: dict[str, Count] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """What a report reads of the facts of the data."""

    source: str | None = None
    digest: str | None = None
    exclusive: bool = False
    identities: bool | None = None
    cross_fitted: bool = False
    counts: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What a report reads of an audit's options."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    d_chance: Number = 0.1
    d_permuted: Number = 0.05


@dataclass(frozen=True)
class Document:
    """An audit as it is read of ``audit.json``.

    Args:
        headline, valid, claims, metrics, comparisons, request, models, data, options: See
            `audit.document.results.Audit`.
        invalid_because, not_tested, limitations: Sentences.
        controls: Cases with known answers, by name.
        seconds: Of the audit's stages.
        schema: Its version.
        raw: The whole content as the file holds it.
    """

    headline: str
    valid: bool
    request: Asked
    claims: dict[str, Decided]
    metrics: tuple[Figure, ...]
    comparisons: tuple[Difference, ...]
    models: Models
    data: Data
    options: Options
    invalid_because: tuple[str, ...] = ()
    not_tested: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()
    controls: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, Number] = field(default_factory=dict)
    schema: str = ""
    raw: dict[str, Any] = field(default_factory=dict)


def document_of(content: Mapping[str, Any]) -> Document:
    """The audit of a parsed ``audit.json``.

    Raises:
        ModelError: An entry is missing or of another type, or one of the claims C1 to C6 is missing.
    """
    audit = part({**content, "raw": content}, Document)
    if missing := [name for name in EXPECTED if name not in audit.claims]:
        raise ModelError(f"of the claims C1 to C6 it lacks {joined(missing)}")
    return audit


def part(value: Any, kind: type[T]) -> T:
    """A part of a parsed audit as a dataclass.

    Raises:
        ModelError: An entry is missing or of another type.
    """
    try:
        return typed(value, kind)
    except ValueError as error:
        raise ModelError(str(error)) from error
