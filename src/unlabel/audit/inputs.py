"""What an audit is given: models as tables of outputs, the question asked of them, and the rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.attackers import chosen
from unlabel.audit.attacks.perturbed_images import Perturbed
from unlabel.audit.attacks.tuned import Predicted, Tuned
from unlabel.audit.reading.memory import Memory
from unlabel.audit.references.short_pair import ShortPair
from unlabel.audit.results import Role
from unlabel.core.errors import DataError, ModelError, OptionError
from unlabel.core.progress import SILENT, Log
from unlabel.core.request import Request
from unlabel.core.wording import joined, listing, suggest
from unlabel.data.dataset import Dataset
from unlabel.data.splits import LEAST_OF_A_KIND, PEOPLE
from unlabel.models.features import PENULTIMATE, Outputs
from unlabel.statistics.estimate import people, rarer


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

JUDGED_PEOPLE = 20  # of each kind: with fewer, the error that people make is understated


NOTHING = np.zeros((0, 0))  # in place of features that were not given


@dataclass(frozen=True)
class Subject:
    """One model as the audit sees it: nothing but what it says about three sets of images.

    Args:
        run: Its run folder or name.
        role: Its part in the audit.
        probe: Outputs on the probe split, where attacks are fitted; without features, these are not attacked.
        test: Outputs on the test split, where every figure is computed.
        train: Outputs on training images: at least 5,000 of them, or all; of none, where none were given.
        absent: Labels whose output was removed; one that varies all the same is audited like any other.
        head: Rows of the last linear layer, (label, feature) weights and (label,) biases, or None.
        perturbed: Outputs on perturbed images, see `audit.attacks.perturbed_images`.
        odd: Reasons not to trust its figures, see `audit.attacks.input_stability`.
    """

    run: str
    role: Role
    probe: Outputs
    test: Outputs
    train: Outputs
    absent: frozenset[str] = frozenset()
    head: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None
    perturbed: Perturbed | None = None
    odd: tuple[str, ...] = ()


def has_features(subject: Subject) -> bool:
    """Whether the model's last features are known, and not its outputs alone."""
    return PENULTIMATE in subject.probe.features


@dataclass(frozen=True)
class Altered:
    """A model after a transform of its weights: outputs on the probe and test splits alone."""

    transform: str
    subject: Subject


@dataclass(frozen=True)
class Canaries:
    """Training images whose annotation of one label was drawn by a coin, and what each model says of them.

    Args:
        label: The label.
        planted: int8 (canary,) what training was told.
        true: int8 (canary,) what the data says, which an attacker with the picture may well know.
        outputs: By run, outputs on these images; of the original and the unlearned model at least.
    """

    label: str
    planted: NDArray[np.int8]
    true: NDArray[np.int8]
    outputs: Mapping[str, Outputs]


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
            ``tangent`` and ``prototypes``, or ``all``; see `audit.attacks.attackers`. They decide nothing,
            and need a budget that judges C4.
        attacked: Numbers of annotated images of these attackers.
        curve: Numbers of annotated images of the curve, beside all that there are.
        raw_image: Whether to run the control on raw pixels.
        cross_fit: Whether attacks on labels that are rare in the test split are repeated with the probe and
            test splits exchanged.
        thresholds: Decision threshold (logit, or log-odds of a class) of a label for balanced accuracy; where
            not named, 0, or being the most likely of the retained classes.
        seed: Seed of folds, probes and resamples, the same for every model.
        budget: How much is tested: quick, standard or full.
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
        least = dict.fromkeys(("probe_seeds", "hidden", "epochs", "trees", "rated_draws"), 1) | {
            "rare": 0,
            "seed": 0,
        }
        least |= dict.fromkeys(("folds", "permutations", "draws", "tune_draws"), 2)
        for name, bound in {**least, "resamples": 10, "tune_steps": 10}.items():
            if getattr(self, name) < bound:
                raise OptionError(f"{name} is {getattr(self, name)}, but must be at least {bound}")
        if max(self.few, default=0) < self.few_judged:
            raise OptionError(
                f"few is {list(self.few)}, but one size must be at least few_judged, {self.few_judged}:"
                " C4 would judge none"
            )
        if self.budget not in BUDGETS:
            raise OptionError(f"no budget '{self.budget}'; expected one of {', '.join(BUDGETS)}")
        if self.asked and not self.includes.durability:
            raise OptionError(
                f"attackers are reported beside C4, which the {self.budget} budget does not judge; choose the"
                " budget standard or full"
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
        """People of each kind below which a label's claims are inconclusive."""
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


@dataclass(frozen=True)
class Question:
    """One label to guess: its annotations on the three splits (1, 0, or -1 unknown), and identities.

    ``crossed``: attacks are fitted on the probe split and judged on the test split, and the other way round
    (`cross_fit`).
    """

    label: str
    column: int
    probe: NDArray[np.int8]
    test: NDArray[np.int8]
    train: NDArray[np.int8]
    probe_cluster: NDArray[np.int64]
    test_cluster: NDArray[np.int64]
    train_cluster: NDArray[np.int64]
    crossed: bool = False

    @property
    def judged(self) -> NDArray[np.int8]:
        """Annotations of the images that are judged: of the test split, or of the probe and test splits."""
        return np.concatenate([self.test, self.probe]) if self.crossed else self.test

    @property
    def rarer(self) -> int:
        """Images of the rarer kind that are judged."""
        return rarer(self.judged)

    @property
    def people(self) -> int:
        """People of the kind of which the judged images show fewer; no person is in two splits."""
        counts = people(self.test, self.test_cluster)
        if self.crossed:
            counts = tuple(map(sum, zip(counts, people(self.probe, self.probe_cluster), strict=True)))
        return min(counts)

    @property
    def people_on_test(self) -> int:
        """The same of the test split alone."""
        return min(people(self.test, self.test_cluster))

    def thin(self, options: AuditOptions) -> bool:
        """Whether the test split has too few people of a kind for figures that are read there alone."""
        return self.people_on_test < options.least_people

    def rare(self, options: AuditOptions) -> bool:
        """Whether the judged images of a kind, or the people in them, are too few to decide anything."""
        return self.rarer < options.rare or self.people < options.least_people

    @property
    def n(self) -> int:
        """Images that are judged and whose annotation is known."""
        return int(np.sum(self.judged >= 0))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows of the probe split whose annotation is known."""
        return self.probe >= 0


def ask(label: str, probe: Dataset, test: Dataset, train: Dataset) -> Question:
    """The question of one label; without training images, it is not asked of them.

    Raises:
        DataError: The probe or test split has too few images of one kind for any attack to be fitted or
            scored.
    """
    column = test.labels.index(label)
    splits = {"the probe split": probe, "the test split": test, "the training images": train}
    for name, data in splits.items():
        if data is train and not len(train):
            continue
        for kind, word in ((1, "present"), (0, "absent")):
            rows = data.target[:, column] == kind
            identities = len(np.unique(data.cluster[rows]))
            if int(rows.sum()) < LEAST_OF_A_KIND or (data is probe and identities < PEOPLE):
                raise DataError(
                    f"label '{label}' is {word} in {int(rows.sum())} images of {identities} people in {name};"
                    f" an audit needs at least {LEAST_OF_A_KIND} images of {PEOPLE} people: add images, or"
                    " use another split"
                )
    p, e, t = (part.target[:, column] for part in (probe, test, train))
    return Question(label, column, p, e, t, probe.cluster, test.cluster, train.cluster)


@dataclass(frozen=True)
class AuditInputs:
    """What an audit is computed from: tables of outputs, the images' annotations, and what is on record.

    Args:
        before: The original.
        after: The unlearned model.
        references: Models retrained without the labels; none leaves C2 open, one or two are provisional.
        request: What was to be forgotten. Labels forgotten earlier are audited again.
        probe: The probe split, with the label columns of the request.
        test: The test split, the same columns; no identity in common with the probe split or the training
            images.
        train: The images behind `Subject.train`.
        altered: The unlearned and the retrained models after each transform of their weights, for the
            standard and the full budget: C4 is only as wide as these.
        canaries: Planted annotations of forgotten labels, for the same budgets: what C6 is judged by.
        tuned: Every model after it was trained on few annotated images, for the full budget; without, the
            audit says that this was not tested.
        predicted: What training every model is predicted to find, if it is asked for.
        random_init: Outputs on the probe and test splits of the network before any training, for a control.
        overlap: What images or identities the splits share, in a sentence; None: what `shared` finds.
        deterministic: Whether a second pass gave equal outputs; None: not checked.
        facts: JSON-plain record of the data, written into the report.
        models: JSON-plain records of before, after and references, written into the report.
        start_known: Whether the weights are known from which the original's training began; if not, C2
            stays provisional.
        outputs_only: Whether the models' outputs were given and no weights: what needs the weights is then
            named as not tested.
        shorts: Pairs of short trainings, from which the level of retrained models is predicted; only without
            references.
        untrained: As `random_init`, of further networks: without references, for the bound beside C2.
    """

    before: Subject
    after: Subject
    references: Sequence[Subject]
    request: Request
    probe: Dataset
    test: Dataset
    train: Dataset
    altered: Sequence[Altered] = ()
    canaries: Sequence[Canaries] = ()
    tuned: Sequence[Tuned] = ()
    predicted: Sequence[Predicted] = ()
    random_init: tuple[Outputs, Outputs] | None = None
    overlap: str | None = None
    deterministic: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    start_known: bool = True
    outputs_only: bool = False
    shorts: Sequence[ShortPair[Subject]] = ()
    untrained: Sequence[tuple[Outputs, Outputs]] = ()

    @property
    def has_features(self) -> bool:
        """Whether the models' features were given, and not their outputs alone."""
        return has_features(self.before)

    @property
    def subjects(self) -> list[Subject]:
        """The original, the unlearned model and the retrained ones."""
        return [self.before, self.after, *self.references]

    @property
    def short_subjects(self) -> list[Subject]:
        """The models of the short pairs, pair by pair."""
        return [item for pair in self.shorts for item in pair.both]

    def checked(self, budget: Budget) -> "AuditInputs":
        """The same, the data's columns in the order of the request; refused where they do not fit.

        Raises:
            ModelError: Outputs that do not fit the images or are not finite.
            OptionError: A Subject's role is not the one it is passed as, canaries are of another label, or
                there is nothing to judge C4 by.
        """
        roles = ["before", "after", *("reference" for _ in self.references)]
        if [subject.role for subject in self.subjects] != roles:
            raise OptionError(f"roles are {[subject.role for subject in self.subjects]}, expected {roles}")
        if self.shorts and self.references:
            raise OptionError("a level is predicted only without references; pass references or shorts")
        runs = [subject.run for subject in [*self.subjects, *self.short_subjects]]
        if twice := next((run for run in runs if runs.count(run) > 1), None):
            raise OptionError(f"two models are called {twice}; expected a name of its own for each")
        if budget.membership and not len(self.train):
            raise OptionError(
                f"the {budget.name} budget needs outputs on training images, and none were given; pass them,"
                " or budget='quick'"
            )
        labels = self.request.labels
        splits = {name: getattr(self, name).with_labels(labels) for name in ("probe", "test", "train")}
        if budget.durability and not self.has_features:
            raise OptionError(
                f"the {budget.name} budget attacks the last features, and {self.before.run} has only outputs;"
                f" pass outputs with '{PENULTIMATE}' features of every model, or budget='quick'"
            )
        for item in self.canaries:
            if item.label not in self.request.masked:
                raise OptionError(
                    f"canaries of {item.label} were given, which the request does not forget; expected"
                    f" canaries of {joined(self.request.masked)}, or none"
                )
        for subject in [*self.subjects, *self.short_subjects]:
            check(subject, len(labels), **splits)
            if has_features(subject) != self.has_features:
                raise ModelError(
                    f"only one of {self.before.run} and {subject.run} has features; give those of every"
                    " model, or of none"
                )
        if budget.transforms:
            check_altered(self.altered, self.subjects, splits["probe"], splits["test"])
        return replace(self, **splits, overlap=self.overlap or shared(**splits))


def shared(probe: Dataset, test: Dataset, train: Dataset) -> str | None:
    """What images or people the sets share by their names and identities; None where they share nothing.

    Of two sets in which each image is an identity of its own, identities may be mere positions: they are not
    compared.
    """
    named = {"the probe split": probe, "the test split": test, "the training images": train}
    for (one, first), (two, second) in combinations(named.items(), 2):
        images = np.intersect1d(first.ids, second.ids)
        if len(images):
            return f"{len(images)} images are in both {one} and {two}, such as {images[0]}"
        alone = all(len(np.unique(part.cluster)) == len(part) for part in (first, second))
        persons = 0 if alone else len(np.intersect1d(first.cluster, second.cluster))
        if persons:
            return f"{persons} identities have images in both {one} and {two}; split by identity"
    return None


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


@dataclass(frozen=True)
class Context:
    """What the attacks of an audit have in common, whichever model they attack.

    Args:
        questions: The labels to be guessed, by name.
        request: Names the columns that are hidden from attacks on other outputs, and the retained ones.
        probe, test, train: The probe, test and training images, with the label columns of the request.
        options: Sizes and seed.
        random_init: Outputs on the probe and test splits of the network before any training; None: no such
            control.
        log: Receives progress.
        memory: Where attacks on the original and the references are looked up and kept; of the unlearned
            model, which no other audit has, nothing is.
    """

    questions: Mapping[str, Question]
    request: Request
    probe: Dataset
    test: Dataset
    train: Dataset
    options: AuditOptions
    random_init: tuple[Outputs, Outputs] | None = None
    log: Log = SILENT
    memory: Memory | None = None

    @property
    def hidden(self) -> tuple[int, ...]:
        """Columns of forgotten labels, which no attack on other outputs sees."""
        return self.request.masked_columns

    @property
    def exclusive(self) -> bool:
        """Whether the labels are classes."""
        return self.test.exclusive


def check(subject: Subject, labels: int, probe: Dataset, test: Dataset, train: Dataset) -> None:
    """Refuses outputs that do not belong to these images.

    Raises:
        ModelError: An array has the wrong shape, or a logit or feature is not a finite number.
    """
    for name, outputs, data in (
        ("the probe split", subject.probe, probe),
        ("the test split", subject.test, test),
        ("the training images", subject.train, train),
    ):
        if outputs.logits.shape != (len(data), labels):
            raise ModelError(
                f"the outputs of {subject.run} on {name} have shape {outputs.logits.shape}, expected"
                f" {(len(data), labels)}; compute them again on these images"
            )
        for table in outputs.ends:
            if len(table) != len(data) or not np.isfinite(table).all():
                raise ModelError(
                    f"the outputs of {subject.run} on {name} are not finite numbers, one row an image; the"
                    " model may have diverged: forget again with a smaller step"
                )
    if subject.perturbed is not None:
        _check_perturbed(subject.run, subject.perturbed, labels)


def _check_perturbed(run: str, perturbed: Perturbed, labels: int) -> None:
    """Refuses outputs on perturbed images that are not numbers, or not one row an image: they hide a leak."""
    for outputs, rows in ((perturbed.probe, perturbed.probe_rows), (perturbed.test, perturbed.test_rows)):
        fit = outputs.logits.shape == (len(rows), labels)
        if not fit or not all(len(item) == len(rows) and np.isfinite(item).all() for item in outputs.ends):
            raise ModelError(
                f"the outputs of {run} on perturbed images are not finite numbers, one row an image; the"
                " model may have diverged: forget again with a smaller step"
            )


def check_altered(
    altered: Sequence[Altered], subjects: Sequence[Subject], probe: Dataset, test: Dataset
) -> None:
    """Refuses transformed models that cannot serve a test of durability.

    Raises:
        OptionError: The unlearned model was not transformed, or a transformed model is not in the audit.
        ModelError: Outputs that do not fit the images or are not finite.
    """
    after, labels = subjects[1].run, subjects[1].test.logits.shape[1]
    if not any(item.subject.run == after for item in altered):
        raise OptionError(
            f"a budget beyond quick tests {after} after transforms of its weights; pass them as altered="
        )
    runs = {subject.run for subject in subjects[1:]}
    for item in altered:
        if item.subject.run not in runs:
            raise OptionError(f"{item.subject.run}, transformed by {item.transform}, is not in this audit")
        for name, outputs, data in (
            ("the probe split", item.subject.probe, probe),
            ("the test split", item.subject.test, test),
        ):
            for table in (outputs.logits, outputs.features.get(PENULTIMATE, NOTHING)):
                if (
                    len(table) != len(data)
                    or not np.isfinite(table).all()
                    or outputs.logits.shape[1] != labels
                ):
                    raise ModelError(
                        f"after {item.transform}, the outputs of {item.subject.run} on {name} are not finite"
                        f" numbers of {labels} labels, one row an image; compute them again on these images"
                    )
