"""Claims where models were given by their outputs alone: what could not be tried passes nothing.

A FAIL stands: an attack on the outputs found the label. A PASS stands if all that its rule asks was tried.
"""

from collections.abc import Mapping
from dataclasses import replace

from unlabel.audit.claims.fair_references import UNFAIR
from unlabel.audit.claims.margins import without_margins
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.core.wording import joined

NO_TRAINING = "outputs on training images"
NO_FEATURES = "features"
WEIGHTS = {
    "C4": "This audit has the models' outputs and no weights. So it did not test whether the label can be"
    " recovered after further training, pruning or quantisation.",
    "C6": "This audit has the models' outputs and no training record. So it did not test whether the model"
    " remembers single training annotations.",
}
UNTESTED = (
    "Training the whole model, earlier layers, changed weights and changed images: these attacks need the"
    " model, and only outputs were given.",
)


def lacking(inputs: AuditInputs) -> dict[str, str]:
    """What was not given, by the claim that asks for it."""
    missing = {}
    if not len(inputs.train):
        missing["C1"] = NO_TRAINING
    if not inputs.has_features:
        missing |= dict.fromkeys(("C2", "C3"), NO_FEATURES)
    return missing


def restricted(claims: Mapping[str, Claim], inputs: AuditInputs) -> dict[str, Claim]:
    """The claims, without a PASS for what was not tried.

    Args:
        claims: C1 to C6, as the attacks that were made decide them.
        inputs: What was given.
    """
    without = WEIGHTS if inputs.outputs_only else {}
    open_ = {
        name: replace(claims[name], verdict="NOT_EVALUATED", sentence=text) for name, text in without.items()
    }
    held = {name: _held(claims[name], what) for name, what in lacking(inputs).items()}
    return {**claims, **open_, **held}


def _held(claim: Claim, what: str) -> Claim:
    """A claim that may not PASS without what was not given."""
    per_label: dict[str, Verdict] = {
        name: "INCONCLUSIVE" if verdict == "PASS" else verdict for name, verdict in claim.per_label.items()
    }
    kept = without_margins(claim.notes).items()
    notes = {key: value for key, value in kept if key != "finding"} | {"not_given": what}
    if claim.verdict not in ("PASS", "INCONCLUSIVE") or claim.notes.get("finding") == UNFAIR:
        return replace(claim, per_label=per_label, notes={**claim.notes, "not_given": what})
    return replace(
        claim,
        verdict="INCONCLUSIVE",
        sentence=f"Not decided, because no {what} were given. The attacks that were made found too little for"
        " a FAIL.",
        per_label=per_label,
        notes=notes,
    )


def untested(inputs: AuditInputs) -> tuple[str, ...]:
    """What could not be tried, in sentences."""
    lines: list[str] = list(UNTESTED) if inputs.outputs_only else []
    if not len(inputs.train):
        lines.append("The outputs on training images: none were given.")
    if inputs.featureless:
        names = joined(inputs.featureless)
        lines.append(
            f"The features: there are none of {names}, so attacks saw the outputs alone, of every model."
        )
    elif not inputs.has_features:
        lines.append("The features: none were given, so attacks saw the outputs alone.")
    return tuple(lines)
