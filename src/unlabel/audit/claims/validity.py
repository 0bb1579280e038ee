"""Whether the audit is valid: decoys must fail, attacks on shuffled labels must find nothing, no overlap."""

from collections.abc import Mapping, Sequence
from typing import Any

from unlabel.audit.attacks import controls
from unlabel.audit.attacks.evidence import Evidence
from unlabel.audit.claims.c1_disabled import disabled
from unlabel.audit.claims.judging import Judgement
from unlabel.audit.document.reasons import SHUFFLED
from unlabel.audit.document.results import Verdict
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question

Decoys = dict[str, dict[str, Verdict]]
EXCLUSIVE = "classes exclude each other: if no other class is true, this one is"


def judge_decoys(
    evidence: Evidence, questions: Mapping[str, Question], removed: Judgement | None, options: AuditOptions
) -> Decoys:
    """Verdict of every decoy: C1 of the dressed-up originals, C2 of the original without its output row."""
    verdicts: Decoys = {}
    for name, question in questions.items():
        dressed = controls.decoys(evidence.owns[0][name])
        verdicts[name] = {kind: disabled(own, question, options) for kind, own in dressed.items()}
        verdicts[name]["head_zero"] = (
            removed.per_label.get(name, "NOT_EVALUATED") if removed else "NOT_EVALUATED"
        )
    return verdicts


def objections(
    evidence: Evidence,
    decoys: Decoys,
    questions: Mapping[str, Question],
    overlap: str | None,
    deterministic: bool | None,
    odd: Sequence[str],
    options: AuditOptions,
) -> tuple[str, ...]:
    """Why the audit is invalid, in sentences; none if it is valid.

    If the original's own output is at chance, its decoys are too, and may pass.
    """
    reasons: list[str] = []
    for name, verdicts in decoys.items():
        if disabled(evidence.owns[0][name], questions[name], options) != "PASS":
            reasons += [
                f"The decoy '{kind}' of {name}, an original that only hides its output, passed as disabled."
                for kind, verdict in verdicts.items()
                if kind != "head_zero" and verdict == "PASS"
            ]
        reasons += [
            f"An attack ({kind}) trained on {SHUFFLED} predicts {name}: it has access to the test"
            " annotations."
            for kind, contrast in evidence.permuted[name].items()
            if contrast.lower(options.level) > options.d_permuted
        ]
    if overlap:
        reasons.append(f"The splits overlap: {overlap}")
    if deterministic is False:
        reasons.append("Two passes of one model over the same images gave different outputs.")
    return (*reasons, *odd)


def controls_record(
    evidence: Evidence,
    positive: Mapping[str, tuple[str, float]],
    decoys: Decoys,
    questions: Mapping[str, Question],
    options: AuditOptions,
    *,
    exclusive: bool = False,
) -> dict[str, Any]:
    """The controls as the report holds them, each by label; the floor is no measure of exclusive classes."""
    floor = {"not_applicable": EXCLUSIVE} if exclusive else {}
    return {
        "positive": {
            name: {"attack": attack, "lower": bound, "passed": bound >= options.d_chance}
            for name, (attack, bound) in positive.items()
        },
        "permuted": {
            name: {kind: controls.spread(item, questions[name].n) for kind, item in found.items()}
            for name, found in evidence.permuted.items()
        },
        "decoys": decoys,
        "floor": {name: {**controls.context(item), **floor} for name, item in evidence.floors.items()},
        "raw_image": {name: controls.context(item) for name, item in evidence.raw.items()},
        "random_init": {name: controls.context(item) for name, item in evidence.random_init.items()},
    }
