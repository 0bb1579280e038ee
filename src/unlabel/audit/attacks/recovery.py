"""What comes back: tests of a model after each transform of its weights, and of how few images teach it.

A transform brings a label back when an attack then finds more than it found before, *and* more than it
finds on retrained models, as they are or after the same transform: whoever has a retrained model may change
it or not. A model that regains what they have is as they are; one that gains nothing is as it was, and C2
has judged that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.attacks.held_out import HeldOut
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.figures import FEATURE_ATTACKS, OTHERS_LINEAR, OWN, Readings
from unlabel.statistics.contrast import Contrast, contrast, seeded

REPEATED = (OWN.id, OTHERS_LINEAR.id, *FEATURE_ATTACKS)  # after every transform

Rows = Mapping[str, Readings]  # label -> attack -> figure


@dataclass(frozen=True)
class Recovery:
    """What the durability tests measured.

    Args:
        after: Of the unlearned model, by transform and label: every attack of `REPEATED` after it.
        references: The same of each retrained model.
        few: By label, of every model in the audit's order (before, after, references): few-shot probes.
        weights: What the full budget adds.
        beside: What was asked for beside it, which decides nothing.
    """

    after: Mapping[str, Rows]
    references: Sequence[Mapping[str, Rows]]
    few: Mapping[str, Sequence[Mapping[int, Relearnt]]]
    weights: WeightAttacks | None = None
    beside: HeldOut = field(default_factory=HeldOut)

    def gain(self, transform: str, label: str, figure: str, untouched: Rows) -> Contrast:
        """What a transform brought back: the figure after it less the figure before."""
        return seeded(self.after[transform][label][figure] - untouched[label][figure], ())

    def excess(self, transform: str, label: str, figure: str, retrained: Sequence[Rows]) -> Contrast | None:
        """What the model tells more than retrained ones, before or after the same transform, whichever tell
        more in the mean; None without them. A level that was predicted is that before the transform."""
        if not retrained or any(transform not in other for other in self.references):
            return None
        changed = [other[transform][label][figure] for other in self.references]
        plain = [other[label][figure] for other in retrained]
        estimate = self.after[transform][label][figure]
        each = [contrast(estimate, others) for others in (changed, plain) if others]
        return min(each, key=lambda item: item.value)
