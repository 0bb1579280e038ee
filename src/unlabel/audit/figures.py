"""The registry of an audit: every figure, every transform of the weights and every claim, one entry each.

A new figure is the file of its attack, which returns it under its id, and one entry here. The verdicts, the
terminal, the page, the card, comparisons and the table of the documentation read this registry. ::

    LINEAR_PROBE.id                 probe.adv.lin
    FEW_SHOT.of(64)                 few.auc@64
    figure("few.auc@64").unit       auc

``python -m unlabel.audit.figures`` prints the table of ``docs/figures.md``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from unlabel.audit.inputs.attackers import ADAM, HELD_OUT
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import Estimate

Readings = Mapping[str, Estimate]  # id of a figure -> its estimate, of one model and label

Role = Literal["judged", "condemning", "described"]
Unit = Literal["adv", "bits", "auc", "fraction", "steps", "nats", "ratio"]


@dataclass(frozen=True)
class Group:
    """Figures that the page shows together: its heading, and what the attacker was given, in a sentence."""

    title: str
    given: str = ""


OWN_OUTPUT = Group("Its own output", "from the model's own output for it")
OTHER_OUTPUTS = Group("The other outputs", "from its other outputs")
FEATURES = Group("The inner features", "from its inner features")
INFERENCE = Group("Attribute inference as papers report it")
DISTANCES = Group("Distances to retrained models")
CODE = Group("Length of the code that the label needs")
GAPS = Group("Between images with and without the forgotten label")
MEASURES = Group("Other measures of the retained labels")

ATTACKED = (OWN_OUTPUT, OTHER_OUTPUTS, FEATURES)  # in the page's table of attacks
LARGER = (INFERENCE, DISTANCES, CODE)  # of the larger budgets, without a section of their own

SIGNED_RANGE = (-1.0, 1.0)


@dataclass(frozen=True)
class Figure:
    """One figure, or a family of them.

    Args:
        id: As ``audit.json`` has it. That of a family ends in ``@`` or ``.``; what follows names a member.
        unit: Of its value.
        name: In two or three words, for tables; ``{}`` stands for what names a member, here and below.
        definition: What it is, in one or two sentences.
        range: The least and the largest value that it can have; intervals are cut there.
        layer: Where in the model it is read; None: at the outputs, or where its row says.
        claims: The claims that it decides; none: it is only described.
        condemning: Whether it can make these claims FAIL and never PASS.
        budget: The smallest budget that measures it; ``asked``: none, but ``--attackers`` does.
        in_words: Its words in the sentence of a claim: of a judged figure what the attack is, of a
            condemning one where it found the label.
        group: What it is shown with on the page.
        how: What its attack does, beside its name on the page.
        terminal: Its words on the terminal, at most 29 letters; empty: it is not shown there. Of a family,
            of every member, which is a number.
        column: Its heading on the page of a comparison; empty: it is not there.
        short: Its heading on the terminal of a comparison, at most 11 letters; empty: it is not there.
        family: Id of the family that it is a member of; empty: of none.
    """

    id: str
    unit: Unit
    name: str
    definition: str
    range: tuple[float, float] = (0.0, 1.0)
    layer: str | None = None
    claims: tuple[str, ...] = ()
    condemning: bool = False
    budget: Literal["quick", "standard", "full", "asked"] = "quick"
    in_words: str = ""
    group: Group | None = None
    how: str = ""
    terminal: str = ""
    column: str = ""
    short: str = ""
    family: str = ""

    @property
    def role(self) -> Role:
        """Whether a verdict rests on it, can be overturned by it, or neither."""
        if not self.claims:
            return "described"
        return "condemning" if self.condemning else "judged"

    @property
    def is_family(self) -> bool:
        """Whether what follows its id names one of many."""
        return self.id[-1] in "@."

    @property
    def kind(self) -> str:
        """Its family's id, or its own where it is of none."""
        return self.family or self.id

    def of(self, member: object) -> str:
        """Id of a member of this family.

        >>> FEW_SHOT.of(64), GAP_AUC.of("Male")
        ('few.auc@64', 'fair.auc_gap@Male')
        """
        return f"{self.id}{member}"

    def member(self, id_: str) -> str:
        """What names a member of this family; the id itself where it is of another one."""
        return id_.removeprefix(self.id)

    def named(self, member: str, *, name: str = "", terminal: str = "") -> "Figure":
        """The entry of a member, with a name or words on the terminal of its own."""
        return replace(
            self,
            id=self.of(member),
            family=self.id,
            name=name or self.name.format(member),
            in_words=self.in_words.format(member),
            terminal=terminal,
        )


OWN = Figure(
    "own.adv", "adv", "Own output",
    "Advantage of the label's own output, in either direction.",
    claims=("C2", "C3"),
    in_words="the label's own output",
    group=OWN_OUTPUT, how="how well it ranks the images, in either direction",
    terminal="its own output", column="own output",
)  # fmt: skip
OWN_RATE = Figure(
    "own.ppr", "fraction", "Share of images called positive",
    "Share of images for which the label's own output predicts it (a probability above one half).",
)  # fmt: skip
OWN_SIGNED = Figure(
    "own.sadv", "adv", "Own output, signed",
    "Advantage of the label's own output, with its sign: below 0, it is inverted.",
    range=SIGNED_RANGE, claims=("C1",),
    group=OWN_OUTPUT, how="how well it ranks the images; below 0 means inverted",
)  # fmt: skip
OWN_ON_TRAIN = Figure(
    "own.sadv@train", "adv", "Own output, training images",
    "The same on images that the model was trained on.",
    range=SIGNED_RANGE, claims=("C1",),
    group=OWN_OUTPUT, how="signed, on images that the model was trained on",
)  # fmt: skip
OWN_RESTORED = Figure(
    "own.sadv@restored", "adv", "Own output, row put back",
    "The same after the original's output row is put back on the edited features.",
    range=SIGNED_RANGE,
    group=OWN_OUTPUT, how="signed, with the removed output row put back",
    terminal="the output row put back", column="row put back", short="row back",
)  # fmt: skip
OWN_BITS = Figure(
    "own.mi_bits", "bits", "Information in the yes or no answer",
    "Bits in yes-or-no decisions of the own output; threshold and direction from the probe split.",
)  # fmt: skip
OTHERS_LINEAR = Figure(
    "others.adv.lin", "adv", "Other outputs, linear",
    "Advantage of logistic regression on the other outputs; those of all forgotten labels hidden.",
    range=SIGNED_RANGE, claims=("C2", "C3"),
    in_words="a linear attack on the other outputs",
    group=OTHER_OUTPUTS, how="logistic regression on the other outputs",
    terminal="the other outputs, linear", column="others, linear", short="others lin",
)  # fmt: skip
OTHERS_TREES = Figure(
    "others.adv.gbt", "adv", "Other outputs, trees",
    "Advantage of boosted trees on the same outputs.",
    range=SIGNED_RANGE, claims=("C2", "C3"),
    in_words="boosted trees on the other outputs",
    group=OTHER_OUTPUTS, how="boosted trees on the other outputs",
    terminal="the other outputs, trees", column="others, trees", short="others gbt",
)  # fmt: skip
LINEAR_PROBE = Figure(
    "probe.adv.lin", "adv", "Features, linear",
    "Advantage of logistic regression on the last features, or at the stage that is named.",
    range=SIGNED_RANGE, layer=PENULTIMATE, claims=("C2", "C3"),
    in_words="a linear probe on the features",
    group=FEATURES, how="logistic regression on the features",
    terminal="the features, linear probe", column="linear probe", short="probe lin",
)  # fmt: skip
MLP_PROBE = Figure(
    "probe.adv.mlp", "adv", "Features, MLP",
    "Advantage of an MLP, a small neural network, on the last features, mean of its seeds.",
    range=SIGNED_RANGE, layer=PENULTIMATE, claims=("C2", "C3"),
    in_words="an MLP probe on the features",
    group=FEATURES, how="MLP, a small neural network, on the features",
    terminal="the features, MLP probe", column="MLP probe", short="probe mlp",
)  # fmt: skip
LINEAR_BITS = Figure(
    "probe.bits.lin", "bits", "Features, linear, bits",
    "Bits about the label in the linear probe's probabilities: entropy of the label less cross-entropy.",
    layer=PENULTIMATE, claims=("C2", "C3"),
    in_words="a linear probe on the features",
    group=FEATURES, how="information a linear probe recovers",
    terminal="the features, linear, bits", column="linear, bits", short="lin bits",
)  # fmt: skip
AT_STAGES = (LINEAR_PROBE.id, LINEAR_BITS.id)
"""What is read below the last features: at single stages, and at all of them together."""
MLP_BITS = Figure(
    "probe.bits.mlp", "bits", "Features, MLP, bits",
    "Bits about the label in the MLP probe's probabilities.",
    layer=PENULTIMATE, claims=("C2", "C3"),
    in_words="an MLP probe on the features",
    group=FEATURES, how="information an MLP probe recovers",
    terminal="the features, MLP, bits", column="MLP, bits", short="mlp bits",
)  # fmt: skip

PERTURBED, TRAIN = "@nudged", "@train"  # endings of figures that are read on other images
ON_PERTURBED = "on the audit's images mirrored and moved by one pixel"
ON_TRAIN = "on training images"
LEAST_SQUARES = Figure(
    "probe.adv.lsq", "adv", "Features, least squares",
    "Advantage of least squares on the last features, without a penalty.",
    range=SIGNED_RANGE, layer=PENULTIMATE, claims=("C2",), condemning=True,
    in_words="to least squares without penalty",
)  # fmt: skip
RANKED = Figure(
    "probe.adv.rank", "adv", "Features, ranks",
    "Advantage of logistic regression on each feature's rank among the probe images.",
    range=SIGNED_RANGE, layer=PENULTIMATE, claims=("C2",), condemning=True,
    in_words="to a linear probe on the ranks of features",
)  # fmt: skip
TREES_PROBE = Figure(
    "probe.adv.gbt", "adv", "Features that tell most, trees",
    "Advantage of boosted trees on the sixteen features whose tenths differ most in how many images have the "
    "label.",
    range=SIGNED_RANGE, layer=PENULTIMATE, claims=("C2",), condemning=True,
    in_words="to boosted trees on single features",
)  # fmt: skip
FINE = Figure(
    "probe.adv.fine", "adv", "Features that hardly vary, trees",
    "Advantage of boosted trees on features that vary by less than float32 rounds their mean; the other "
    "probes leave these out. No row if the unlearned model has none.",
    range=SIGNED_RANGE, layer=PENULTIMATE, claims=("C2",), condemning=True,
    in_words="in features that hardly vary",
)  # fmt: skip
OWN_PERTURBED = Figure(
    OWN.id + PERTURBED, "adv", "Own output, nudged images",
    "Advantage of the own output on images mirrored, moved by one pixel and relit.",
    claims=("C1",), condemning=True, in_words=ON_PERTURBED,
)  # fmt: skip
_FITTED_AGAIN: Mapping[Figure, str] = {
    OTHERS_TREES: "Boosted trees on the other outputs",
    LINEAR_PROBE: "The linear probe on the features",
    MLP_PROBE: "The MLP probe on the features",
    RANKED: "Logistic regression on ranks",
    TREES_PROBE: "The trees on features",
    FINE: "Boosted trees on features that hardly vary",
}
"""Attacks that are made again on other images than the audit's own, as a sentence calls them."""


def _again(figure: Figure, ending: str) -> Figure:
    """The same attack, fitted and judged on perturbed or on training images: it can only fail C2."""
    kind, images, where = {
        PERTURBED: ("nudged images", "such images", ON_PERTURBED),
        TRAIN: ("training images", "training images", ON_TRAIN),
    }[ending]
    definition = f"{_FITTED_AGAIN[figure]}, fitted and judged on {images}."
    return Figure(
        figure.id + ending, figure.unit, f"{figure.name}, {kind}", definition,
        range=SIGNED_RANGE, layer=figure.layer, claims=("C2",), condemning=True, in_words=where,
    )  # fmt: skip


ON_PERTURBED_IMAGES = tuple(_again(figure, PERTURBED) for figure in _FITTED_AGAIN)
ON_TRAINING_IMAGES = tuple(_again(figure, TRAIN) for figure in _FITTED_AGAIN)

RECOVERED = Figure(
    "recover.", "adv", "{}",
    "The attack of that name again, after the model was changed; the gain is after less before.",
    range=SIGNED_RANGE, claims=("C4",), budget="standard",
)  # fmt: skip
FEW_SHOT = Figure(
    "few.auc@", "auc", "Linear probe from {} annotated images",
    "AUC of a new linear probe fitted to that many annotated images, half of them with the label; "
    "mean of several draws.",
    layer=PENULTIMATE, claims=("C4",), budget="standard",
    in_words="a probe on {} annotated images",
)  # fmt: skip
FINE_TUNED = Figure(
    "tune.auc@", "auc", "Whole model, trained on {} annotated images",
    "AUC of the whole model with a new head, trained on that many annotated images, half of them with "
    "the label; best of three learning rates, mean of several draws.",
    claims=("C4",), budget="full", terminal="whole model trained on {}",
    in_words="the whole model, trained on {} annotated images,",
)  # fmt: skip
TUNING_STEPS = Figure(
    "tune.steps@", "steps", "Steps of that training, {} images",
    "Steps of that training until it reached 95 % of what the original's own output is above one half; "
    "missing where it did not.",
    range=(0.0, float("inf")), budget="full",
)  # fmt: skip
TRIED_BY: Mapping[str, Figure] = {
    attacker.name: Figure(
        f"tune.{attacker.name}@", "auc", f"{attacker.title}, {{}} images",
        f"AUC after another attacker trained the whole model on that many annotated images: "
        f"{attacker.definition}",
        budget="asked",
    )
    for attacker in (ADAM, *HELD_OUT)
}  # fmt: skip
TRIED_BY_BEST = Figure(
    "tune.best@", "auc", "Each model's own best attacker, {} images",
    "The same after the attacker who, of these, did best on images held back; each model has its own.",
    budget="asked",
)  # fmt: skip
GRID_PROBE = Figure(
    "depth.adv.grid", "adv", "Grid of positions, linear",
    "Advantage of logistic regression on the means over a grid of 4 x 4 positions at the end of a stage.",
    range=SIGNED_RANGE, budget="asked",
)  # fmt: skip
STAGE_MLP = Figure(
    "depth.adv.mlp", "adv", "Mean over positions, MLP",
    "Advantage of an MLP on the mean over positions at the end of a stage.",
    range=SIGNED_RANGE, budget="asked",
)  # fmt: skip
ALL_STAGES = Figure(
    "depth.adv.all.lin", "adv", "All stages together, linear",
    "Advantage of logistic regression on the means of all stages and the last features together.",
    range=SIGNED_RANGE, budget="asked",
)  # fmt: skip
STITCHED_OUTPUT = Figure(
    "depth.adv.stitch", "adv", "The original from there on",
    "Advantage of the original's own output if its layers up to the end of a stage are this model's, with an "
    "affine map of the channels between them that knows no annotation.",
    range=SIGNED_RANGE, budget="asked",
)  # fmt: skip
TANGENT_AUC = Figure(
    "tangent.auc@", "auc", "Whole model, predicted, {} images",
    "AUC that training the whole model on that many annotated images is predicted to reach: ridge regression "
    "with the tangent kernel, nothing is trained.",
    budget="asked",
)  # fmt: skip
TANGENT_SHARE = Figure(
    "tangent.share@", "fraction", "Where it would be learnt, {} images",
    "Part of the squared length of that training's predicted step that lies in the weights of a stage, after "
    "the last stage, or in the head.",
    budget="asked",
)  # fmt: skip
NEAREST_MEAN = Figure(
    "prototype.auc@", "auc", "Nearest mean, {} images",
    "AUC of how much nearer the features are to the mean of a handful of images with the label than to "
    "that of as many without; that many images in all, mean of several draws.",
    layer=PENULTIMATE, budget="asked",
)  # fmt: skip
CLUSTERS = Figure(
    "cluster.auc@", "auc", "Clusters that begin at {} images",
    "AUC of least squares on pseudo-labels: k-means on the features of the probe split begins at a handful "
    "of annotated images, and all images of a cluster take the annotation of its first one; mean of several "
    "draws.",
    layer=PENULTIMATE, budget="asked",
)  # fmt: skip
ALL_STAGES_MLP = Figure(
    "depth.adv.all.mlp", "adv", "All stages together, MLP",
    "Advantage of an MLP on the same.",
    range=SIGNED_RANGE, budget="asked",
)  # fmt: skip
CANARY_OWN = Figure(
    "canary.own.acc", "fraction", "Canaries guessed right, own output",
    "Share of canaries that the own output guesses right, with the original's row put back if the model "
    "lost its own; threshold from other canaries.",
    claims=("C6",), budget="standard", in_words="the label's own output",
)  # fmt: skip
CANARY_PROBE = Figure(
    "canary.probe.acc", "fraction", "Canaries guessed right, features",
    "The same for a linear probe on the features, fitted to honest annotations.",
    layer=PENULTIMATE, claims=("C6",), budget="standard", in_words="a probe on the features",
)  # fmt: skip
CANARY_RESTORED = Figure(
    "canary.restored.acc", "fraction", "Canaries guessed right, row put back",
    "The same for the original's row, put back on the features of a model that has an output of its own.",
    claims=("C6",), budget="standard", in_words="the original's output row, put back,",
)  # fmt: skip
CANARY_OWN_CALIBRATED = Figure(
    "canary.own.acc@calibrated", "fraction", "Canaries guessed right, own output, less retrained models",
    "Share of all canaries that the own output guesses right after what retrained models score on the same "
    "images is taken from it; cut at the mean.",
    claims=("C6",), budget="standard", in_words="the label's own output beside retrained models' scores",
)  # fmt: skip
CANARY_PROBE_CALIBRATED = Figure(
    "canary.probe.acc@calibrated", "fraction", "Canaries guessed right, features, less retrained models",
    "The same for the probe on the features.",
    layer=PENULTIMATE, claims=("C6",), budget="standard",
    in_words="a probe on the features beside retrained models' scores",
)  # fmt: skip
CANARY_RESTORED_CALIBRATED = Figure(
    "canary.restored.acc@calibrated", "fraction",
    "Canaries guessed right, row put back, less retrained models",
    "The same for the original's row, put back.",
    claims=("C6",), budget="standard",
    in_words="the original's output row, put back, beside retrained models' scores",
)  # fmt: skip
CANARY_OWN_PRIVACY = Figure(
    "canary.own.eps_lb", "nats", "Label privacy lost, own output",
    "Lower bound of the label privacy lost: log(p / (1 - p)) for the lower bound p of that share, in nats. "
    "An observation on these canaries.",
    range=(0.0, float("inf")), budget="standard",
)  # fmt: skip
CANARY_PROBE_PRIVACY = Figure(
    "canary.probe.eps_lb", "nats", "Label privacy lost, features",
    "The same for the probe on the features.",
    range=(0.0, float("inf")), layer=PENULTIMATE, budget="standard",
)  # fmt: skip
CANARY_RESTORED_PRIVACY = Figure(
    "canary.restored.eps_lb", "nats", "Label privacy lost, row put back",
    "The same for the original's row, put back.",
    range=(0.0, float("inf")), budget="standard",
)  # fmt: skip
CANARY_OWN_CALIBRATED_PRIVACY = Figure(
    "canary.own.eps_lb@calibrated", "nats", "Label privacy lost, own output, less retrained models",
    "The same for the own output less what retrained models score.",
    range=(0.0, float("inf")), budget="standard",
)  # fmt: skip
CANARY_PROBE_CALIBRATED_PRIVACY = Figure(
    "canary.probe.eps_lb@calibrated", "nats", "Label privacy lost, features, less retrained models",
    "The same for the probe on the features less what retrained models score.",
    range=(0.0, float("inf")), layer=PENULTIMATE, budget="standard",
)  # fmt: skip
CANARY_RESTORED_CALIBRATED_PRIVACY = Figure(
    "canary.restored.eps_lb@calibrated", "nats", "Label privacy lost, row put back, less retrained models",
    "The same for the original's row, put back, less what retrained models score.",
    range=(0.0, float("inf")), budget="standard",
)  # fmt: skip
LABEL_MEMBERSHIP = Figure(
    "mia.label.auc", "auc", "By certainty of the annotation",
    "How well a new probe's certainty of the true annotation separates training images from others.",
    layer=PENULTIMATE, claims=("C2",), budget="standard",
    in_words="a probe's certainty of training annotations",
    terminal="membership by annotation, AUC",
)  # fmt: skip
SAMPLE_MEMBERSHIP = Figure(
    "mia.sample.auc", "auc", "By loss on the retained labels",
    "How well the model's own loss on the retained labels separates training images from others.",
    claims=("C5",), budget="standard", in_words="how well the loss separates training images from others",
)  # fmt: skip
SAMPLES_CAUGHT = Figure(
    "mia.sample.tpr@1%", "fraction", "By that loss, 1 % false alarms",
    "Share of training images found by that loss, while 1 % of the others are wrongly found.",
    budget="standard",
)  # fmt: skip
INFERRED_OUTPUTS = Figure(
    "paper_aia.outputs", "fraction", "Guesses from the other outputs",
    "Balanced share of right yes-or-no guesses of a linear attacker on the other outputs, as papers "
    "print it.",
    budget="standard", group=INFERENCE,
)  # fmt: skip
INFERRED_OUTPUTS_ADV = Figure(
    "paper_aia.outputs.adv", "adv", "The same, advantage",
    "Twice its distance from one half: inverting the guesses does not change it.",
    budget="standard", group=INFERENCE,
)  # fmt: skip
INFERRED_OUTPUTS_BITS = Figure(
    "paper_aia.outputs.bits", "bits", "The same, bits",
    "Bits about a label that half of the images have, in those guesses.",
    budget="standard", group=INFERENCE,
)  # fmt: skip
INFERRED_FEATURES = Figure(
    "paper_aia.features", "fraction", "Guesses from the features",
    "Balanced share of right guesses of a linear attacker on the features.",
    layer=PENULTIMATE, budget="standard", group=INFERENCE,
)  # fmt: skip
INFERRED_FEATURES_ADV = Figure(
    "paper_aia.features.adv", "adv", "The same, advantage (features)",
    "Twice its distance from one half.",
    layer=PENULTIMATE, budget="standard", group=INFERENCE,
)  # fmt: skip
INFERRED_FEATURES_BITS = Figure(
    "paper_aia.features.bits", "bits", "The same, bits (features)",
    "Bits about a label that half of the images have, in those guesses.",
    layer=PENULTIMATE, budget="standard", group=INFERENCE,
)  # fmt: skip
GAP_FOUND = Figure(
    "fair.tpr_gap@", "fraction", "Found where present",
    "Share of a retained label's images that are called so, among those with the forgotten label, less "
    "the share among those without it.",
    range=SIGNED_RANGE, budget="standard", group=GAPS,
)  # fmt: skip
GAP_CALLED = Figure(
    "fair.fpr_gap@", "fraction", "Called where absent",
    "Share of images without a retained label that are called so, with the forgotten label less without.",
    range=SIGNED_RANGE, budget="standard", group=GAPS,
)  # fmt: skip
GAP_AUC = Figure(
    "fair.auc_gap@", "auc", "AUC",
    "AUC of a retained label among images with the forgotten label, less the AUC among those without.",
    range=SIGNED_RANGE, budget="standard", group=GAPS,
)  # fmt: skip


def _by_side(stem: str, name: str, definition: str, unit: Unit, **more: Any) -> Mapping[bool, Figure]:
    """A figure of groups: its family for images with a label (True), and for those without (False)."""
    return {
        present: Figure(
            f"group.{stem}.{word}@", unit, f"{name}, {word} {{}}", definition.format(word),
            budget="standard", **more,
        )
        for present, word in ((True, "with"), (False, "without"))
    }  # fmt: skip


GROUP_LEAK = _by_side(
    "leak", "Forgotten label",
    "Advantage of a linear probe on the features, among images {} the label that is named.",
    "adv", range=SIGNED_RANGE, layer=PENULTIMATE,
)  # fmt: skip
GROUP_AUC = _by_side(
    "auc", "Retained labels, mean AUC",
    "Mean AUC of the retained labels, among images {} the label that is named.", "auc",
)  # fmt: skip
GROUP_MISSED = _by_side(
    "missed", "Missed",
    "Share of images with a retained label that are not called so, mean over these labels, among images {} "
    "the label that is named.",
    "fraction",
)  # fmt: skip
GROUP_CALLED = _by_side(
    "called", "Wrongly called",
    "Share of images without a retained label that are called so, mean over these labels, among images {} "
    "the label that is named.",
    "fraction",
)  # fmt: skip
MOVED = Figure(
    "group.moved", "fraction", "Error moved",
    "Mean over groups and retained labels of how far those two shares are from the original's.",
    budget="standard",
)  # fmt: skip
MOVED_SHARE = Figure(
    "group.moved.share", "fraction", "Added error, on images with the label",
    "Share of the error that was added since the original which fell on images with the forgotten label: "
    "0.5 is as much as on those without.",
    budget="standard",
)  # fmt: skip
PERSONS_HARMED = Figure(
    "person.harmed", "fraction", "Identities with a higher loss",
    "Share of identities whose mean loss on the retained labels rose by more than that of one identity in "
    "twenty does from one retrained model to another.",
    budget="standard",
)  # fmt: skip
DIVERGENCE = Figure(
    "dist.js", "bits", "Answers, divergence",
    "How far the retained labels' probabilities are from the retrained models' (Jensen-Shannon "
    "divergence, bits).",
    budget="standard", group=DISTANCES,
)  # fmt: skip
DIVERGENCE_RATIO = Figure(
    "dist.js_ratio", "ratio", "Answers, in units of retrained models",
    "The same, in units of how far retrained models are from each other: 1 is like one of them.",
    range=(0.0, float("inf")), budget="standard", group=DISTANCES,
)  # fmt: skip
AGREEMENT = Figure(
    "dist.agree", "fraction", "Images with equal answers",
    "Share of images on which no retained label's probability differs by more than 0.05 from the "
    "retrained model that agrees least.",
    budget="standard", group=DISTANCES,
)  # fmt: skip
NEARER = Figure(
    "dist.nearer", "bits", "Answers, nearer to retrained",
    "How much nearer the retained labels' probabilities are to the retrained models' than to the "
    "original's: the difference of two Jensen-Shannon divergences (bits). Below 0 they are nearer to the "
    "original's. Its interval is of the images alone.",
    range=SIGNED_RANGE, budget="standard", group=DISTANCES,
)  # fmt: skip
LIKENESS = Figure(
    "dist.cka", "fraction", "Features, like retrained",
    "How alike the last features are to those of retrained models, whatever their order and size (linear "
    "CKA, without its bias): 1 is alike, 0 is unrelated.",
    range=SIGNED_RANGE, layer=PENULTIMATE, budget="standard", group=DISTANCES,
)  # fmt: skip
LIKENESS_ORIGINAL = Figure(
    "dist.cka_original", "fraction", "Features, like the original",
    "The same likeness to the original.",
    range=SIGNED_RANGE, layer=PENULTIMATE, budget="standard", group=DISTANCES,
)  # fmt: skip
KOLMOGOROV = Figure(
    "dist.ks.", "fraction", "{}",
    "Largest difference between the distributions (loss or entropy, training or test images) of this "
    "model and of retrained ones: 0 is the same, 1 is apart.",
    budget="standard", group=DISTANCES,
)  # fmt: skip
COMPRESSION = Figure(
    "mdl.compression", "ratio", "Code is shorter by",
    "How many times shorter the annotations' code is with the features: 1 saves nothing.",
    range=(0.0, float("inf")), layer=PENULTIMATE, budget="full", group=CODE,
)  # fmt: skip
FLOOR = Figure(
    "floor.adv", "adv", "True other labels (floor)",
    "Advantage of boosted trees on the true values of the retained labels, with no model at all.",
    range=SIGNED_RANGE,
)  # fmt: skip
UTILITY_AUC = Figure(
    "util.auc", "auc", "AUC",
    "AUC of a retained label's own output.",
    claims=("C5",), in_words="the AUC",
)  # fmt: skip
UTILITY_AUC_MEAN = Figure(
    "util.auc.macro", "auc", "Retained labels, mean AUC",
    "Mean of that over the retained labels.",
    claims=("C5",), in_words="the mean AUC",
)  # fmt: skip
UTILITY_PRECISION = Figure(
    "util.ap", "fraction", "Average precision",
    "Average precision of a retained label: precision averaged over recall.",
    group=MEASURES,
)  # fmt: skip
UTILITY_ACCURACY = Figure(
    "util.bacc", "fraction", "Balanced accuracy",
    "Balanced accuracy at one half: mean of the shares of right answers with and without the label.",
    group=MEASURES,
)  # fmt: skip
UTILITY_BRIER = Figure(
    "util.brier", "fraction", "Brier score",
    "Mean squared error of a probability: 0 is perfect.",
    group=MEASURES,
)  # fmt: skip
UTILITY_CALIBRATION = Figure(
    "util.ece", "fraction", "Calibration error",
    "Calibration error: distance of stated probability and true share, over 15 bins of equal mass.",
    group=MEASURES,
)  # fmt: skip
UTILITY_CALIBRATION_MEAN = Figure(
    "util.ece.macro", "fraction", "Retained labels, mean calibration error",
    "Mean of that over the retained labels.",
    claims=("C5",), in_words="the calibration of the probabilities",
)  # fmt: skip

FIGURES: tuple[Figure, ...] = (
    OWN, OWN_RATE, OWN_SIGNED, OWN_ON_TRAIN, OWN_RESTORED, OWN_BITS,
    OTHERS_LINEAR, OTHERS_TREES,
    LINEAR_PROBE, MLP_PROBE, LINEAR_BITS, MLP_BITS,
    LEAST_SQUARES, RANKED, TREES_PROBE, FINE,
    OWN_PERTURBED, *ON_PERTURBED_IMAGES, *ON_TRAINING_IMAGES,
    RECOVERED,
    FEW_SHOT,
    FEW_SHOT.named("64", terminal="AUC from 64 annotated images"),
    FEW_SHOT.named("256", terminal="AUC from 256"),
    FINE_TUNED,
    TUNING_STEPS,
    *TRIED_BY.values(), TRIED_BY_BEST,
    STITCHED_OUTPUT, TANGENT_AUC, TANGENT_SHARE, NEAREST_MEAN, CLUSTERS,
    GRID_PROBE, STAGE_MLP, ALL_STAGES, ALL_STAGES_MLP,
    CANARY_OWN, CANARY_PROBE, CANARY_RESTORED,
    CANARY_OWN_CALIBRATED, CANARY_PROBE_CALIBRATED, CANARY_RESTORED_CALIBRATED,
    CANARY_OWN_PRIVACY, CANARY_PROBE_PRIVACY, CANARY_RESTORED_PRIVACY,
    CANARY_OWN_CALIBRATED_PRIVACY, CANARY_PROBE_CALIBRATED_PRIVACY, CANARY_RESTORED_CALIBRATED_PRIVACY,
    LABEL_MEMBERSHIP, SAMPLE_MEMBERSHIP, SAMPLES_CAUGHT,
    INFERRED_OUTPUTS, INFERRED_OUTPUTS_ADV, INFERRED_OUTPUTS_BITS,
    INFERRED_FEATURES, INFERRED_FEATURES_ADV, INFERRED_FEATURES_BITS,
    GAP_FOUND, GAP_CALLED, GAP_AUC,
    *GROUP_LEAK.values(), *GROUP_AUC.values(), *GROUP_MISSED.values(), *GROUP_CALLED.values(),
    MOVED, MOVED_SHARE, PERSONS_HARMED,
    DIVERGENCE, DIVERGENCE_RATIO, AGREEMENT, NEARER, LIKENESS, LIKENESS_ORIGINAL,
    KOLMOGOROV,
    KOLMOGOROV.named("loss@test", name="Loss, test images"),
    KOLMOGOROV.named("loss@train", name="Loss, training images"),
    KOLMOGOROV.named("entropy@test", name="Entropy, test images"),
    KOLMOGOROV.named("entropy@train", name="Entropy, training images"),
    COMPRESSION,
    FLOOR,
    UTILITY_AUC, UTILITY_AUC_MEAN, UTILITY_PRECISION, UTILITY_ACCURACY, UTILITY_BRIER,
    UTILITY_CALIBRATION, UTILITY_CALIBRATION_MEAN,
)  # fmt: skip
"""Every figure, in the order in which the page explains them."""


def find(id_: str) -> Figure | None:
    """The entry of an id, or of the member of a family that it names; None: this version does not know it.

    >>> find("recover.own.adv").name, find("few.auc@16").name, find("zzz")
    ('Own output', 'Linear probe from 16 annotated images', None)
    """
    for item in FIGURES:
        if item.id == id_:
            return item
    family = next((item for item in FIGURES if item.is_family and id_.startswith(item.id)), None)
    if family is None:
        return None
    if family is RECOVERED and (again := find(family.member(id_))) is not None:
        changed = replace(again, id=id_, family=family.id, definition=family.definition)
        return replace(changed, claims=family.claims, budget=family.budget)
    return family.named(family.member(id_))


def figure(id_: str) -> Figure:
    """The entry of an id that an attack gave.

    Raises:
        KeyError: There is none: add one to `FIGURES`.
    """
    if (found := find(id_)) is None:
        raise KeyError(f"no figure '{id_}' in unlabel.audit.figures")
    return found


def name_of(id_: str) -> str:
    """The name of a figure; its id where this version does not know it."""
    entry = find(id_)
    return id_ if entry is None else entry.name


def unit_of(id_: str) -> Unit:
    """Unit of a figure."""
    return figure(id_).unit


def layer_of(id_: str) -> str | None:
    """Where a figure is read: features for probes, None for outputs."""
    return figure(id_).layer


def in_group(group: Group) -> tuple[Figure, ...]:
    """The figures that are shown together, families as one."""
    return tuple(item for item in FIGURES if item.group is group and not item.family)


def judged_by(claim: str, *groups: Group) -> tuple[str, ...]:
    """Ids of the figures that a claim is judged by, of some groups or of any; those that only condemn are
    not among them.

    >>> judged_by("C3", OTHER_OUTPUTS)
    ('others.adv.lin', 'others.adv.gbt')
    """
    return tuple(
        item.id
        for item in FIGURES
        if claim in item.claims and not item.condemning and (not groups or item.group in groups)
    )


OUTPUT_ATTACKS = judged_by("C3", OWN_OUTPUT, OTHER_OUTPUTS)
FEATURE_ATTACKS = judged_by("C3", FEATURES)
ATTACKS = (*OUTPUT_ATTACKS, *FEATURE_ATTACKS)


@dataclass(frozen=True)
class Transform:
    """What a later user does to a model; `unlabel.audit.attacks.transforms` does it.

    Args:
        id: As ``audit.json`` has it.
        name: As a heading.
        in_words: In the sentence of a claim, after "after".
        of_model: The same where the model was named before.
    """

    id: str
    name: str
    in_words: str
    of_model: str


FP16 = Transform("fp16", "Stored in 16 bits", "storing the weights in 16 bits", "storing it in 16 bits")
INT8 = Transform("int8", "Stored in 8 bits", "storing the weights in 8 bits", "storing it in 8 bits")
INT4 = Transform("int4", "Stored in 4 bits", "storing the weights in 4 bits", "storing it in 4 bits")
PRUNE20 = Transform(
    "prune20",
    "Smallest fifth of weights cut",
    "removing the smallest fifth of the weights",
    "removing the smallest fifth of its weights",
)
PRUNE50 = Transform(
    "prune50",
    "Smallest half of weights cut",
    "removing the smallest half of the weights",
    "removing the smallest half of its weights",
)
BATCHNORM = Transform(
    "bn", "BatchNorm recalibrated", "recalibrating BatchNorm", "recalibrating its BatchNorm"
)
RETAIN_TUNED = Transform(
    "retain_ft",
    "Trained on with the retained labels",
    "training on with the retained labels",
    "training it on with the retained labels",
)
TRANSFORMS: Mapping[str, Transform] = {
    item.id: item for item in (FP16, INT8, INT4, PRUNE20, PRUNE50, BATCHNORM, RETAIN_TUNED)
}


def transform(id_: str) -> Transform:
    """The entry of a transform; one that this version does not know goes by its id."""
    return TRANSFORMS.get(id_) or Transform(id_, id_, id_, id_)


@dataclass(frozen=True)
class ClaimKind:
    """One of the claims: its name, its title on the page, and what a PASS means.

    What the full budget alone tests adds to the meaning.
    """

    id: str
    name: str
    title: str
    meaning: str
    in_full: str = ""

    def meaning_by(self, budget: str | None) -> str:
        """What a PASS means under a budget."""
        return f"{self.meaning} {self.in_full}".rstrip() if budget == "full" else self.meaning


CLAIMS: Mapping[str, ClaimKind] = {
    item.id: item
    for item in (
        ClaimKind("C1", "disabled", "Disabled", "The label cannot be predicted from its own output."),
        ClaimKind(
            "C2",
            "retrain-equivalent",
            "Retrain-equivalent",
            "No attack on the outputs or the last features recovers more than from a model retrained without"
            " the label.",
        ),
        ClaimKind("C3", "erased", "Erased", "No attack predicts the label better than chance."),
        ClaimKind(
            "C4",
            "durable",
            "Durable",
            "The label does not come back if the model is compressed, pruned or trained on with the retained"
            " labels, nor to a new probe on few annotated images.",
            "Nor if the whole model is trained on these, or earlier layers are read.",
        ),
        ClaimKind("C5", "useful", "Useful", "The retained labels work as well as in a retrained model."),
        ClaimKind(
            "C6",
            "unmemorised",
            "No memorised annotation",
            "The model does not remember single training annotations.",
        ),
    )
}


def claim_kind(id_: str) -> ClaimKind:
    """The entry of a claim; one that this version does not know goes by its id."""
    return CLAIMS.get(id_) or ClaimKind(id_, id_, id_, "")


def documentation() -> Iterator[str]:
    """Lines of the documentation's table of figures, transforms and claims, in Markdown."""
    yield "# Figures of an audit"
    yield ""
    yield "Made by `python -m unlabel.audit.figures > docs/figures.md`. Figures are rows of `metrics[]` in"
    yield "`audit.json`; `…` stands for the name of a member of a family. Budget `asked`: only if"
    yield "`--attackers` names it."
    yield ""
    yield "| figure | what it is | unit | range | read at | budget | decides |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for item in FIGURES:
        if item.family:
            continue
        low, high = (f"{end:g}" for end in item.range)
        claims = ", ".join(item.claims) + (" (FAIL only)" if item.condemning else "")
        of = "…" if item.is_family else ""
        yield (
            f"| `{item.id}{of}` | {item.definition} | {item.unit} | {low} to {high} |"
            f" {item.layer or 'outputs'} | {item.budget} | {claims or '-'} |"
        )
    yield from ("", "| transform | what is done |", "| --- | --- |")
    yield from (f"| `{item.id}` | {item.in_words} |" for item in TRANSFORMS.values())
    yield from ("", "| claim | name | a PASS means |", "| --- | --- | --- |")
    yield from (f"| {item.id} | {item.name} | {item.meaning_by('full')} |" for item in CLAIMS.values())


if __name__ == "__main__":
    print("\n".join(documentation()))
