"""The headline, from a fixed list; what the audit did not test; and what limits its figures."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from unlabel.audit.claims.c2_retrain_equivalent import NO_REFERENCE, SUFFICES
from unlabel.audit.document.results import Claim
from unlabel.audit.inputs.options import JUDGED_PEOPLE, AuditOptions, Budget
from unlabel.audit.inputs.question import Context
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.core.wording import joined
from unlabel.statistics.estimate import Estimate

HEADLINES = (
    "INVALID AUDIT",
    "NOT UNLEARNED",
    "DISABLED ONLY",
    "UNLEARNED BUT HARMFUL",
    "RETRAIN-EQUIVALENT, REMOVING THE OUTPUT WAS ENOUGH",
    "UNLEARNED",
    "RETRAIN-EQUIVALENT, NOT DURABLE",
    "RETRAIN-EQUIVALENT, DURABILITY OPEN",
    "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED",
    "RETRAIN-EQUIVALENT, USEFULNESS OPEN",
    "DISABLED, HARMFUL, NO REFERENCE",
    "DISABLED, NOT DURABLE, NO REFERENCE",
    "DISABLED, NO REFERENCE",
    "INCONCLUSIVE, HARMFUL",
    "INCONCLUSIVE",
    "DISABLED ONLY (PREDICTED)",
    "RETRAIN-EQUIVALENT (PREDICTED), HARMFUL",
    "RETRAIN-EQUIVALENT (PREDICTED), REMOVING THE OUTPUT WAS ENOUGH",
    "RETRAIN-EQUIVALENT (PREDICTED), NOT DURABLE",
    "RETRAIN-EQUIVALENT (PREDICTED), DURABILITY OPEN",
    "RETRAIN-EQUIVALENT (PREDICTED), DURABILITY NOT TESTED",
    "RETRAIN-EQUIVALENT (PREDICTED), USEFULNESS OPEN",
    "UNLEARNED (PREDICTED)",
)
PREDICTED: Mapping[str, str] = dict(
    zip(
        (
            "DISABLED ONLY",
            "UNLEARNED BUT HARMFUL",
            "RETRAIN-EQUIVALENT, REMOVING THE OUTPUT WAS ENOUGH",
            "RETRAIN-EQUIVALENT, NOT DURABLE",
            "RETRAIN-EQUIVALENT, DURABILITY OPEN",
            "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED",
            "RETRAIN-EQUIVALENT, USEFULNESS OPEN",
            "UNLEARNED",
        ),
        HEADLINES[-8:],
        strict=True,
    )
)
"""What a headline becomes if C2 decides it and was judged by a predicted level."""
EARLIER: Mapping[str, str] = dict.fromkeys(
    ("RETRAIN-EQUIVALENT, USEFULNESS OPEN", "RETRAIN-EQUIVALENT (PREDICTED), USEFULNESS OPEN"), "INCONCLUSIVE"
)
"""What earlier versions said where they had no such headline: statements signed then still hold."""

PREDICTED_LIMIT = (
    "No model was retrained in full. The level that C2 and C4 compare with is predicted from short"
    " trainings. How far such predictions miss was measured on small networks and a few data sets. Elsewhere"
    " they may miss by more."
)
SIZES = ("probe_seeds", "hidden", "epochs", "trees")
RELEARNING_SIZES = ("few", "draws")
TUNING_SIZES = ("tune", "tune_draws", "rated_draws", "tune_steps")
TRAINING_IMAGES = 5000


def headline(claims: Mapping[str, Claim], *, valid: bool, references: int) -> str:
    """The first of `HEADLINES` that fits; "(provisional)" where a deciding claim is provisional.

    Every claim counts but C3, which useful models seldom pass. If one FAILs, the headline says that something
    is wrong. If one headline follows from several that FAIL, it is marked only where all of them are
    provisional. No headline says more than its claims. One that rests on a predicted level says so in its
    words (`PREDICTED`), in place of "(provisional)".

    Args:
        claims: C1 to C6.
        valid: Whether the audit passed its own controls.
        references: Number of retrained models.
    """
    verdict = {name: claim.verdict for name, claim in claims.items()}

    def passed(*names: str) -> bool:
        return all(verdict[name] == "PASS" for name in names)

    def failed(*names: str) -> bool:
        return any(verdict[name] == "FAIL" for name in names)

    no_reference = claims["C2"].notes.get("finding") == NO_REFERENCE
    enough = claims["C2"].notes.get("finding") == SUFFICES
    predicted = bool(claims["C2"].notes.get("predicted")) and references == 0
    equivalent, durable = passed("C1", "C2"), passed("C4") and (references >= 3 or predicted)
    alone = no_reference or predicted
    tried = verdict["C4"] != "NOT_EVALUATED" or bool(claims["C4"].notes.get("predicted"))
    caught = ("C2", "C6") if passed("C2") or alone else ("C2", "C4", "C6")
    rules: tuple[tuple[bool, tuple[str, ...]], ...] = (
        (not valid, ()),
        (
            failed("C1") or (not passed("C1") and failed("C2", "C4", "C6")),
            ("C1",) if failed("C1") else ("C1", *_failing(claims, ("C2", "C4", "C6"))),
        ),
        (passed("C1") and failed(*caught), ("C1", *_failing(claims, caught))),
        (equivalent and failed("C5") and not failed("C4"), ("C1", "C2", "C5")),
        (equivalent and enough and passed("C5") and not failed("C4"), ("C1", "C2", "C5")),
        (equivalent and durable and passed("C5"), ("C1", "C2", "C4", "C5")),
        (equivalent and failed("C4"), ("C1", "C2", "C4")),
        (equivalent and passed("C5") and tried, ("C1", "C2", "C4", "C5")),
        (equivalent and passed("C5"), ("C1", "C2", "C5")),
        (equivalent and passed("C4") and not failed("C5"), ("C1", "C2", "C4")),
        (passed("C1") and no_reference and failed("C5"), ("C1", "C5")),
        (passed("C1") and alone and failed("C4"), ("C1", "C4")),
        (passed("C1") and no_reference, ("C1",)),
        (failed("C5"), ("C5",)),
        (True, ()),
    )
    index = next(place for place, (fits, _) in enumerate(rules) if fits)
    text, deciding = HEADLINES[index], rules[index][1]
    if predicted and "C2" in deciding and not failed("C6") and text in PREDICTED:
        return PREDICTED[text]
    return text + (" (provisional)" if any(claims[name].provisional for name in deciding) else "")


def _failing(claims: Mapping[str, Claim], names: Sequence[str]) -> tuple[str, ...]:
    """Those of some claims that FAIL: one that is not provisional is enough, if there is one."""
    failing = [name for name in names if claims[name].verdict == "FAIL"]
    firm = [name for name in failing if not claims[name].provisional]
    return tuple(firm or failing)


def untested_claims(budget: str) -> dict[str, Claim]:
    """C4 and C6, as they stand where a budget leaves them open."""
    sentences = {
        "C4": f"The {budget} budget does not test whether the label can be recovered after further training,"
        " pruning or quantisation.",
        "C6": f"The {budget} budget does not test whether the model remembers single training annotations.",
    }
    return {name: Claim("NOT_EVALUATED", text, budget) for name, text in sentences.items()}


def not_tested(claims: Mapping[str, Claim], budget: Budget) -> tuple[str, ...]:
    """What this audit did not test, in sentences."""
    lines = []
    if not budget.durability:
        lines += [
            "Durability: whether the label can be recovered after pruning, quantising or further training"
            f" ({budget.name} budget).",
            "Relearning: how few annotated images the model needs to learn the label again.",
            "Membership: whether an attacker can find out that an image was trained on.",
        ]
    elif not claims["C4"].notes.get("whole_model"):
        lines.append(
            "Relearning by training the whole model on annotated images"
            + (
                ": no model was given to train, or the probe split has too few."
                if budget.fine_tuning
                else "."
            )
        )
    if claims["C6"].verdict == "NOT_EVALUATED":
        lines.append("Canaries: whether the model remembers single training annotations.")
    before = "Layers before the last features"
    if claims["C4"].notes.get("earlier_stages"):
        before += ", but for the mean over positions of the last stages"
    elif budget.early_layers:
        before += " (these models have no stages that were read)"
    trained = claims["C4"].notes.get("whole_model")
    weights = "read the weights, or change them in other ways" if trained else "read or change the weights"
    lines.append(f"{before}, and attackers who {weights}.")
    if not budget.groups:
        lines.append(
            "Whether the other labels now work less well for images with, or without, the forgotten label."
        )
    return tuple(lines)


def limitations(
    inputs: AuditInputs, context: Context, raw: Mapping[str, Estimate], left_out: Sequence[str]
) -> tuple[str, ...]:
    """What limits the figures, in sentences.

    Args:
        inputs: The models, and what is on record.
        context: The labels, the data and the options.
        raw: The raw-pixel control, by label.
        left_out: Retained labels without enough images for a figure.
    """
    request, test, train, options = context.request, context.test, context.train, context.options
    lines = [
        "Labels are what annotators saw in a picture, not facts; their mistakes blur every figure.",
        "The figures hold for images like those tested, and for the attacks tried: a better attack may"
        " recover more.",
        "They hold for this one model. A claim about the method needs several runs of it.",
    ]
    picture = "An attacker who has the picture can guess a label from it without any model"
    if raw:
        most = max(raw, key=lambda name: raw[name].value)
        picture += f" (here {most} with advantage {raw[most].value:.2f} from its pixels)"
    lines.append(f"{picture}. Forgetting takes away the model's help, not what the picture shows.")
    if len(np.unique(test.cluster)) == len(test):
        lines.append(
            "No two test images are known to have one identity, so each counts as one. If some images"
            " belong together, the intervals are too narrow."
        )
    lines += _about_references(inputs, request.masked)
    if any(question.crossed for question in context.questions.values()):
        lines.append(
            f"Fewer than {options.rare} test images, or of {JUDGED_PEOPLE} identities in effect, have, or"
            " lack, a forgotten label. So attacks were also fitted on the test split and judged on the probe"
            " split. The figures were pooled, with larger errors. This is right only if the probe split did"
            " not serve to choose the unlearned model's settings."
        )
    if test.exclusive:
        lines.append(
            "The labels are classes that exclude each other, so the truth of the others reveals each one:"
            " there is no floor (`floor.adv` is set to 0). Retained classes are judged among themselves, on"
            " images that have one of them."
        )
    if 0 < len(train) < TRAINING_IMAGES:
        lines.append(
            f"The check on training images uses {len(train):,} images; {TRAINING_IMAGES:,} are advised."
        )
    if left_out:
        lines.append(f"There are too few test images to measure {joined(left_out)}.")
    if request.forgotten:
        lines.append(
            f"{joined(request.forgotten)} was forgotten earlier. It is audited again, and hidden from all"
            " attacks."
        )
    if inputs.deterministic is None:
        lines.append("The audit did not check whether a second pass gives the same outputs.")
    if unchecked := inputs.after.unchecked:
        lines.append(
            f"Numbers of the unlearned model that vary by no more than rounding: {unchecked}, of its features"
            " and outputs together. The audit could not check whether noise hides a label there."
        )
    if smaller := smaller_sizes(options):
        lines.append(f"The attacks are smaller than usual: {joined(smaller)}.")
    return tuple(lines)


def smaller_sizes(options: AuditOptions) -> list[str]:
    """Options that make attacks weaker than by default, with the default."""
    usual, budget = AuditOptions(), options.includes
    names = [
        *SIZES,
        *(RELEARNING_SIZES if budget.durability else ()),
        *(TUNING_SIZES if budget.fine_tuning else ()),
    ]
    pairs = [(name, getattr(options, name), getattr(usual, name)) for name in names]
    return [
        f"{name} {_size(given)} (usually {_size(full)})" for name, given, full in pairs if _less(given, full)
    ]


def _less(given: int | tuple[int, ...], usual: int | tuple[int, ...]) -> bool:
    """Whether a size is smaller; of several, whether the largest is."""
    return max(np.atleast_1d(given), default=0) < max(np.atleast_1d(usual))


def _size(value: int | tuple[int, ...]) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _about_references(inputs: AuditInputs, labels: Sequence[str]) -> Iterator[str]:
    """What the number of retrained models, and the original's start, leave open."""
    references = len(inputs.references)
    if inputs.shorts:
        yield PREDICTED_LIMIT
    elif references == 0:
        yield f"Without a model retrained without {joined(labels)}, C2 is open."
    elif references < 3:
        yield (
            f"Only {references} retrained model{'s were' if references > 1 else ' was'} given, so verdicts"
            " against retrained models are provisional: three or more show how much retraining varies."
        )
    if not inputs.start_known:
        yield (
            "The original's starting weights are not recorded, so C2 is provisional for any number of"
            " retrained models. If those weights had seen the label, models retrained from random weights are"
            " no exact reference."
        )
