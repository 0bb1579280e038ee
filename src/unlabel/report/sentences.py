"""What the report says in plain words: the finding, what was attacked, how strong, what was not tested."""

from collections.abc import Mapping

from unlabel.audit.document.reasons import CANNOT_TELL
from unlabel.audit.document.typed import Document
from unlabel.audit.figures import FLOOR, UTILITY_AUC_MEAN, claim_kind
from unlabel.report.formatting import brief, count, names, number, spoken
from unlabel.report.readings import reading
from unlabel.report.sections import binding
from unlabel.report.sections.durability import lasting
from unlabel.report.sections.provenance import split_size
from unlabel.report.tables import (
    attack_rows,
    audited,
    how,
    label_rows,
    loss,
    predicted,
    row,
    strongest,
    targets,
)

# headline -> (tone of the page, the finding as a sentence about {labels})
FINDINGS: Mapping[str, tuple[str, str]] = {
    "INVALID AUDIT": ("fail", "this audit cannot be relied on, whatever its numbers say about {labels}."),
    "NOT UNLEARNED": ("fail", "{labels} can still be read out of the model."),
    "DISABLED ONLY": (
        "fail",
        "{labels} {is_} gone from the output, but more can still be recovered than from a model"
        " retrained without {it}.",
    ),
    "UNLEARNED BUT HARMFUL": (
        "fail",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, but the retained labels"
        " suffered.",
    ),
    "UNLEARNED": (
        "pass",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, {it_stays}, and the"
        " retained labels still work.",
    ),
    "RETRAIN-EQUIVALENT, REMOVING THE OUTPUT WAS ENOUGH": (
        "pass",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, and the retained labels"
        " still work. The original, once that output was removed, gave no more away.",
    ),
    "RETRAIN-EQUIVALENT, NOT DURABLE": (
        "fail",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, but not for good: when the"
        " model is compressed, trained again or read at earlier layers, more comes back.",
    ),
    "RETRAIN-EQUIVALENT, DURABILITY OPEN": (
        "open",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, and the retained labels"
        " still work. Whether that lasts could not be decided.",
    ),
    "RETRAIN-EQUIVALENT, DURABILITY NOT TESTED": (
        "pass",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, and the retained labels"
        " still work. Whether that lasts was not tested.",
    ),
    "RETRAIN-EQUIVALENT, USEFULNESS OPEN": (
        "open",
        "{labels} {is_} as hard to recover as from a model retrained without {it}, and {it_stays}. Whether"
        " the retained labels work as well could not be decided.",
    ),
    "DISABLED, HARMFUL, NO REFERENCE": (
        "fail",
        "the model no longer answers for {labels}, but the retained labels suffered. Without a retrained"
        " model to compare with, nobody can say how far the forgetting goes.",
    ),
    "DISABLED, NOT DURABLE, NO REFERENCE": (
        "fail",
        "the model no longer answers for {labels}, but when it is compressed or trained again, or a new probe"
        " is, more comes back than should.",
    ),
    "DISABLED, NO REFERENCE": (
        "open",
        "the model no longer answers for {labels}, but without a retrained model to compare with, nobody"
        " can say how far that goes.",
    ),
    "INCONCLUSIVE, HARMFUL": (
        "fail",
        "the retained labels suffered, and these measurements do not settle how far {labels} {is_}"
        " forgotten.",
    ),
    "INCONCLUSIVE": ("open", "these measurements do not settle how far {labels} {is_} forgotten."),
    "DISABLED ONLY (PREDICTED)": (
        "fail",
        "{labels} {is_} gone from the output, but more can still be recovered than is predicted for a model"
        " retrained without {it}. No model was retrained in full.",
    ),
    "RETRAIN-EQUIVALENT (PREDICTED), HARMFUL": (
        "fail",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, but the"
        " retained labels suffered. No model was retrained in full.",
    ),
    "RETRAIN-EQUIVALENT (PREDICTED), REMOVING THE OUTPUT WAS ENOUGH": (
        "open",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, and so"
        " {it_is} in the original without that output. No model was retrained in full.",
    ),
    "RETRAIN-EQUIVALENT (PREDICTED), NOT DURABLE": (
        "fail",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, but when the"
        " model is compressed or trained again, more comes back. No model was retrained in full.",
    ),
    "RETRAIN-EQUIVALENT (PREDICTED), DURABILITY OPEN": (
        "open",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, and the"
        " retained labels still work. Whether that lasts could not be decided. No model was retrained in"
        " full.",
    ),
    "RETRAIN-EQUIVALENT (PREDICTED), DURABILITY NOT TESTED": (
        "open",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, and the"
        " retained labels still work. Whether that lasts was not tested. No model was retrained in full.",
    ),
    "RETRAIN-EQUIVALENT (PREDICTED), USEFULNESS OPEN": (
        "open",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, and"
        " {it_stays}. Whether the retained labels work as well could not be decided. No model was"
        " retrained in full.",
    ),
    "UNLEARNED (PREDICTED)": (
        "open",
        "{labels} {is_} as hard to recover as is predicted for a model retrained without {it}, the retained"
        " labels still work, and the tried changes to the model do not bring {it} back. No model was"
        " retrained in full.",
    ),
}
REMEMBERS = "{labels} {is_} gone from the output, but the model remembers single training annotations."
REMEMBERS_ALONE = (
    "{labels} {is_} as hard to recover as from a model retrained without {it}, but the model"
    " remembers single training annotations."
)
PERCEIVED = (
    "Labels are what annotators thought they saw in a picture, with their mistakes. If the images show"
    " people, labels about them are perceived labels, in the categories of their time. They are no facts"
    " about a person, and neither are the answers of this model."
)
NOTICED = 0.0005  # a change in AUC that three decimals can show
VERDICTS: Mapping[str, tuple[str, str]] = {  # verdict -> (shape and colour, word)
    "PASS": ("pass", "PASS"),
    "FAIL": ("fail", "FAIL"),
    "INCONCLUSIVE": ("open", "INCONCLUSIVE"),
    "NOT_EVALUATED": ("none", "NOT EVALUATED"),
}
CONTROLS: Mapping[str, tuple[str, str]] = {
    "positive": ("The original model", "Attacks must find the label here, or they are too weak."),
    "permuted": (
        "Shuffled answers",
        "Attacks must find nothing here. Only an advantage above {limit} for certain counts.",
    ),
    "bias_shift": ("Decoy: output pushed down", "Always says no, but still ranks. Must fail C1."),
    "inverted": ("Decoy: output turned round", "Says the opposite of what it knows. Must fail C1."),
    "head_zero": ("Decoy: output row zeroed", "Only the output is silenced. Must fail C2."),
    "raw_image": ("The image itself", "What a probe of raw pixels finds, with no model at all."),
    "random_init": ("An untrained network", "What features give away before any learning."),
    "floor": ("The true other labels", "What error-free answers on the retained labels give away."),
}


def core(headline: str) -> str:
    """The fixed headline without what is appended to it.

    >>> core("UNLEARNED (provisional)"), core("DISABLED ONLY, GUARDED (linear, logits)")
    ('UNLEARNED', 'DISABLED ONLY')
    """
    return max((known for known in FINDINGS if headline.startswith(known)), key=len, default="")


def finding(audit: Document) -> tuple[str, str]:
    """Tone (pass, fail or open) and the sentence that follows the headline."""
    labels = _judged(audit)
    one = len(labels) <= 1
    tone, sentence = FINDINGS.get(core(audit.headline), ("open", "see the claims below for {labels}."))
    if core(audit.headline) == "DISABLED ONLY" and _remembers_only(audit):
        passed = audit.claims["C2"].verdict == "PASS" and not predicted(audit)
        sentence = REMEMBERS_ALONE if passed else REMEMBERS
    words = {"is_": "is" if one else "are", "it": "it" if one else "them"}
    words |= {"it_stays": f"{'it stays' if one else 'they stay'} so{_how_far(audit)}"}
    words |= {"it_is": "it is" if one else "they are"}
    words |= {"labels": spoken(labels) or "the label"}
    return tone, sentence.format(**words)


def _judged(audit: Document) -> list[str]:
    """The labels that C2 judged; all if it judged none."""
    verdict = audit.claims["C2"].per_label
    return [name for name in targets(audit) if verdict.get(name) != "NOT_EVALUATED"] or targets(audit)


def _how_far(audit: Document) -> str:
    """What a PASS of C4 covers, where the budget neither trains the whole model nor reads earlier stages."""
    if audit.claims["C4"].budget == "full":
        return ""
    return " after the tried changes and from few annotated images"


def _remembers_only(audit: Document) -> bool:
    """Whether C6 alone is behind the headline, and neither C2 nor C4 says that more can be recovered."""
    verdict = {name: audit.claims[name].verdict for name in ("C2", "C4", "C6")}
    return verdict["C6"] == "FAIL" and "FAIL" not in (verdict["C2"], verdict["C4"])


def summary(audit: Document) -> list[tuple[str, str]]:
    """Short paragraphs, each with its lead: attacked, how strong, how long, retained labels, not tested."""
    paragraphs = [("What was attacked.", _attacked(audit)), ("How much is left.", _strength(audit))]
    paragraphs += [("Whether it lasts.", lasting(audit))]
    paragraphs += [
        ("What it cost the retained labels.", _retained(audit)),
        ("What was not tested.", _untested(audit)),
    ]
    return [(lead, text) for lead, text in paragraphs if text]


def _attacked(audit: Document) -> str:
    labels = targets(audit)
    sites = [group.given for group, _ in attack_rows(audit, labels[0] if labels else None)]
    attack = strongest(audit, "after") or strongest(audit, "before")
    if not sites or attack is None:
        return ""
    return f"Attackers tried to recover {spoken(labels)} {names(sites)}. {_scored(audit, attack.any.n)}"


def _scored(audit: Document, images: int) -> str:
    """From which images attackers learnt, and on which they were scored; both ways round for a rare label."""
    learnt, other = split_size(audit, "P", "probe"), split_size(audit, "E", "test")
    if audit.data.cross_fitted and learnt and other:
        return (
            "Few images have, or lack, the label. So each attack was made twice: learnt from"
            f" {count(learnt)} images and scored on {count(other)}, then the other way round."
            f" In all, {count(images)} images were scored, each by an attack that had not learnt from it."
            " The model had seen none of them."
        )
    return (
        f"They learnt from {count(learnt) if learnt else 'many'} images with known answers, and were scored"
        f" on {count(images)} others that neither they nor the model had seen."
    )


def _strength(audit: Document) -> str:
    before, after = strongest(audit, "before"), strongest(audit, "after")
    if after is None or after.after is None:
        return ""
    of = f" on {brief(after.label)}" if len(targets(audit)) > 1 and after.label else ""
    text = f"On a scale where 0 is chance and 1 is perfect, the best attack{of} now reaches"
    text += f" {reading(after.after)} ({how(after.id)})."
    if before is not None and before.before is not None:
        text += f" On the original model the best reached {reading(before.before)}."
    if after.retrained is not None:
        models = after.retrained.models
        who = f"{models} models" if models > 1 else "a model"
        text += f" The target is what the same attack reaches on {who} retrained without the label:"
        text += f" {reading(after.retrained)}"
        text += f", and {number(after.comparison.margin)} above it is allowed." if after.comparison else "."
    elif after.predicted is not None:
        text += " No model was retrained in full. The same attack is predicted to reach"
        text += f" {number(after.predicted.value)} on one"
        text += f", and {number(after.comparison.margin)} above it is allowed." if after.comparison else "."
    floor = None if audit.data.exclusive else row(audit, FLOOR.id, after.label)
    if floor is not None:
        text += " Chance is no fair target where labels go together: the true other labels alone, with no"
        text += f" model, give away {reading(floor.any)}."
    equivalent = audit.claims["C2"]
    if (equivalent.verdict, equivalent.notes.head_zero) == ("INCONCLUSIVE", "INCONCLUSIVE"):
        text += f" {CANNOT_TELL}"
    return f"{text} {binding.sentence(audit, 'C2')}".rstrip()


def _retained(audit: Document) -> str:
    macro = row(audit, UTILITY_AUC_MEAN.id)
    if macro is None or macro.before is None or macro.after is None:
        return ""
    change = macro.after.value - macro.before.value
    moved = f"{'fell' if change < 0 else 'rose'} by {number(abs(change))} to"
    labels = {found.label for found in label_rows(audit)} - {*audited(audit)}
    text = f"Their quality (AUC; 0.5 = chance, 1 = perfect; mean over {len(labels)}) "
    text += f"{moved if abs(change) >= NOTICED else 'stayed at'} {reading(macro.after)}"
    if macro.retrained is not None:
        text += f"; retraining gives {reading(macro.retrained)}"
    worst = worst_label(audit)
    return text + (f". Hardest hit: {brief(worst[0])}, {number(-worst[1], signed=True)}." if worst else ".")


def worst_label(audit: Document) -> tuple[str, float] | None:
    """The retained label that lost most, and how much AUC; None when none lost visibly.

    What the original does not predict is no loss.
    """
    gone = [*audited(audit), *audit.claims["C5"].notes.not_predicted]
    losses = [
        (found.label, change)
        for found in label_rows(audit)
        if found.label and found.label not in gone and (change := loss(found)) is not None
    ]
    label, change = max(losses, key=lambda pair: pair[1], default=("", 0.0))
    return (label, change) if change >= NOTICED else None


def _untested(audit: Document) -> str:
    skipped = [
        f"{id_} ({claim_kind(id_).title.lower()})"
        for id_, claim in sorted(audit.claims.items())
        if claim.verdict == "NOT_EVALUATED"
    ]
    heads = [_head(text) for text in untested(audit)]
    listed = "; ".join(head[:1].lower() + head[1:] for head in heads)
    text = f"{listed[:1].upper()}{listed[1:]}." if listed else ""
    if skipped:
        text += f" No verdict is given on {names(skipped)}."
    return text.strip()


def _head(text: str) -> str:
    """The short form of a sentence about what was not tested; it keeps the budget that would test it."""
    head, _, tail = text.partition(": ")
    return f"{head} (--budget full)" if tail.startswith("--budget full") else head.rstrip(".")


BEYOND = (
    "C3 asks for chance, which even a model retrained without the label may miss. The headline does not"
    " depend on it."
)
WHOLE_MODEL = "Relearning by training the whole model"


def beyond(id_: str, verdict: str) -> str | None:
    """What a missed C3 means: newcomers take it for a fault of a model that is as good as a retrained one.

    >>> beyond("C3", "FAIL") == BEYOND, beyond("C2", "FAIL"), beyond("C3", "PASS")
    (True, None, None)
    """
    return BEYOND if id_ == "C3" and verdict in ("FAIL", "INCONCLUSIVE") else None


def untested(audit: Document) -> list[str]:
    """What was not tested, in sentences; training of the whole model with the budget that tests it."""
    return [_with_budget(text) for text in audit.not_tested]


def _with_budget(text: str) -> str:
    """One of them; where no reason is given, the budget left it out.

    >>> _with_budget("Relearning by training the whole model on annotated images.")
    'Relearning by training the whole model on annotated images: --budget full tests it.'
    """
    left_out = text.startswith(WHOLE_MODEL) and ": " not in text
    return f"{text.rstrip('.')}: --budget full tests it." if left_out else text


UNKNOWN_START = "it is not recorded from which weights the original's training began"


def why_provisional(references: int, *, start_unknown: bool) -> str:
    """Why a verdict against so many retrained models is provisional, as a part of a sentence.

    >>> why_provisional(2, start_unknown=True)
    'fewer than three retrained models'
    """
    return UNKNOWN_START if start_unknown and references >= 3 else "fewer than three retrained models"


def banners(audit: Document) -> list[tuple[str, str, list[str]]]:
    """Warnings above the numbers: (tone, sentence, reasons)."""
    result: list[tuple[str, str, list[str]]] = []
    if not audit.valid:
        text = "Invalid: the audit failed its own checks. Do not rely on any verdict below."
        result.append(("fail", text, list(audit.invalid_because)))
    notes = [claim.notes for claim in audit.claims.values()]
    result += [("open", item.own_check, []) for item in notes if item.own_check]
    if unfair := [item for item in notes if item.finding == "unfair reference"]:
        runs = [item.run for item in unfair[0].unfair_references]
        text = (
            "Unfair: a retrained model ranks the retained labels far worse than the original does. Nothing is"
        )
        result.append(("open", f"{text} decided against it.", runs))
    references = len(audit.models.references or ())
    provisional = any(claim.provisional for claim in audit.claims.values())
    if predicted(audit):
        text = (
            "Predicted: no model was retrained in full. The audit compares with a level from short trainings."
        )
        result.append(("open", text, []))
        return result
    if provisional and references >= 3:
        text = f"Provisional: {UNKNOWN_START}."
        result.append(("open", text, []))
    elif provisional and references:
        models = "one retrained model stands" if references == 1 else f"{references} retrained models stand"
        text = (
            f"Provisional: only {models} behind the comparison. Three or more are needed for a firm verdict."
        )
        result.append(("open", text, []))
    if references == 0:
        text = "No retrained model was given, so nothing here says how far forgetting could go."
        result.append(("open", text, []))
    return result
