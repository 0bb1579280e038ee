"""Whether the retrained models are a fair comparison: none may work far worse than the original.

A reference that was trained too briefly makes any harm look small, and any leak large. The audit names it as
unfair, and decides nothing against it: C2, C4 and C5 are INCONCLUSIVE until it is left out or replaced.

There is no bound the other way. References that rank the retained labels better than the original are often
honest, since they had fewer labels to learn, and they only make C5 harder to pass.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unlabel.audit.attacks.utility import Utility
from unlabel.audit.claims.margins import without_margins
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.wording import joined
from unlabel.statistics.contrast import contrast

UNFAIR = "unfair reference"


@dataclass(frozen=True)
class Standing:
    """One reference's retained labels against the original's.

    Args:
        run: Its run folder or name.
        loss: Mean AUC of the original less its own, on the same images.
        lower: One-sided 95 % lower bound of that, images of one person summed first.
        upper: The upper bound.
        margin: The loss that is tolerated.
        elsewhere: Whether the original was trained by the user's own code, which alone can repeat its recipe.
    """

    run: str
    loss: float
    lower: float
    upper: float
    margin: float
    elsewhere: bool = False

    @property
    def fair(self) -> bool:
        """Whether the data do not show that it loses more than the margin."""
        return self.lower <= self.margin

    def to_json(self) -> dict[str, object]:
        """JSON-plain copy for the report."""
        figures = {name: value for name, value in asdict(self).items() if name != "elsewhere"}
        return {**figures, "fair": self.fair}


def standings(
    before: Utility,
    references: Sequence[Utility],
    runs: Sequence[str],
    options: AuditOptions,
    *,
    elsewhere: bool = False,
) -> list[Standing]:
    """How far each reference lies below the original.

    Args:
        before: Utility of the original.
        references: Of the retrained models.
        runs: Their names, in the same order.
        options: Level and margin.
        elsewhere: Whether the original was trained by the user's own code.
    """
    rows = []
    for run, reference in zip(runs, references, strict=True):
        loss = contrast(before.judged_area(), [reference.judged_area()])
        bounds = loss.lower(options.level), loss.upper(options.level)
        rows.append(Standing(run, loss.value, *bounds, options.d_fair, elsewhere))
    return rows


def undecided(claim: Claim, fair: Sequence[Standing]) -> Claim:
    """A claim that compares with references; INCONCLUSIVE if one of them is unfair.

    Args:
        claim: C2, C4 or C5. If it was not evaluated, it stays so.
        fair: Of `standings`.
    """
    unfair = [item for item in fair if not item.fair]
    if not unfair or claim.verdict == "NOT_EVALUATED":
        return claim
    per_label: dict[str, Verdict] = {
        name: each if each == "NOT_EVALUATED" else "INCONCLUSIVE" for name, each in claim.per_label.items()
    }
    kept = without_margins(claim.notes).items()
    notes: dict[str, Any] = {key: value for key, value in kept if not key.endswith("_needed")}
    notes |= {"finding": UNFAIR, "unfair_references": [item.to_json() for item in unfair]}
    return replace(
        claim, verdict="INCONCLUSIVE", sentence=_sentence(unfair), per_label=per_label, notes=notes
    )


def _sentence(unfair: Sequence[Standing]) -> str:
    one = len(unfair) == 1
    it = "it" if one else "them"
    recipe = (
        f"by the code that made the original, and adopt {it} with --without"
        if unfair[0].elsewhere
        else "by the original's recipe"
    )
    names = joined([item.run for item in unfair])
    worst = max(unfair, key=lambda item: item.loss)
    return (
        f"{'An unfair reference' if one else 'Unfair references'}: {names}. {'Its' if one else 'Their'} mean"
        f" AUC over retained labels lies {'' if one else 'up to '}{worst.loss:.3f} below the original's"
        f" (allowed {worst.margin:g}), so nothing is decided against {it}. Leave {it} out, or train"
        f" {it} again {recipe}."
    )
