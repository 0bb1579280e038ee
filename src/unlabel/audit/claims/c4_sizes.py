"""On how many annotated images C4 is judged, whether they are enough, and against whom it then speaks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unlabel.audit.attacks.annotated import LEAST, few_sizes, tune_sizes
from unlabel.audit.attacks.recovery import Recovery
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import joined
from unlabel.statistics.estimate import rarer


@dataclass(frozen=True)
class Tried:
    """Numbers of annotated images from which one attack learnt one label.

    Args:
        wanted: By the options.
        possible: By the images of the probe split, see `audit.attacks.annotated`.
        measured: What was tried.
        kind: Images of each kind that the probe split needs for the least number that is judged.
    """

    wanted: Sequence[int]
    possible: Sequence[int]
    measured: Sequence[int]
    kind: int

    @property
    def absent(self) -> set[int]:
        """Wanted, and not tried."""
        return {*self.wanted} - {*self.measured}

    @property
    def lacking(self) -> set[int]:
        """What would have to be tried for a PASS."""
        return {*(self.possible or self.wanted)} - {*self.measured}


@dataclass(frozen=True)
class Sizes:
    """What was tried, by label.

    Args:
        few: By probes on annotated images.
        tuned: By the whole model, trained on them; of no label if the audit trained none.
    """

    few: Mapping[str, Tried]
    tuned: Mapping[str, Tried]

    @property
    def too_few(self) -> dict[str, list[int]]:
        """Wanted numbers that were not tried; fewer images may have been tried in their place."""
        return self._of_labels(lambda item: item.absent)

    @property
    def lacking(self) -> dict[str, list[int]]:
        """Labels that cannot pass, with what would have to be tried."""
        return self._of_labels(lambda item: item.lacking)

    @property
    def needed(self) -> dict[str, int]:
        """Images of each kind that the probe split needs; of labels for which it has too few for any test."""
        tried = [(name, item) for each in (self.few, self.tuned) for name, item in each.items()]
        short = [(name, item.kind) for name, item in tried if not item.possible]
        return {name: max(kind for label, kind in short if label == name) for name, _ in short}

    def _of_labels(self, part: Callable[[Tried], set[int]]) -> dict[str, list[int]]:
        by_label = {
            name: sorted({n for each in (self.few, self.tuned) if name in each for n in part(each[name])})
            for name in {**self.few, **self.tuned}
        }
        return {name: sizes for name, sizes in by_label.items() if sizes}

    def notes(self) -> dict[str, object]:
        """Part of the claim's notes."""
        record: dict[str, object] = {"too_few_in_p": self.too_few}
        for key, each in (("few_sizes", self.few), ("tune_sizes", self.tuned)):
            if each:
                record[key] = {name: list(item.measured) for name, item in each.items()}
        return record | ({"probe_images_needed": self.needed} if self.needed else {})

    def attacker(self, options: AuditOptions) -> str:
        """Against whom a PASS speaks, if it is not the attacker whom the options name; else empty."""
        if not self.too_few:
            return ""
        most = min(max(item.measured) for item in (self.tuned or self.few).values())
        how = f"at most {options.tune_steps} steps" if self.tuned else "no training but of a new probe"
        wanted = sorted({n for sizes in self.too_few.values() for n in sizes})
        return (
            f" The probe split has too few images for {joined([str(n) for n in wanted])}. So this covers"
            f" an attacker who has at most {most} annotated images, and {how}."
        )

    def sentence(self, questions: Mapping[str, Question], options: AuditOptions) -> str:
        """What keeps the first label that lacks images from a PASS."""
        name, sizes = next(iter(self.lacking.items()))
        if name not in self.needed:
            return (
                f"{name} was not relearnt from {joined([str(n) for n in sizes])} annotated images, though the"
                " probe split has enough of them."
            )
        return (
            f"The probe split has too few images with, or without, {name} to relearn it from"
            f" {options.few_judged} annotated images: {rarer(questions[name].probe)} of the rarer kind;"
            f" {self.needed[name]} would be enough."
        )


def sizes_of(recovery: Recovery, questions: Mapping[str, Question], options: AuditOptions) -> Sizes:
    """What was tried of each label, against what the options want and the probe split allows."""
    least, weights = options.few_judged, recovery.weights or WeightAttacks()
    wanted = [n for n in options.few_sizes if n >= least]
    few, tuned = {}, {}
    for name, question in questions.items():
        if name in recovery.few:
            possible = [n for n in few_sizes(question.probe, options) if n >= least]
            measured = [n for n in recovery.few[name][1] if n >= least]
            few[name] = Tried(wanted, possible, measured, least // 2)
        allowed = tune_sizes(question.probe, options)
        if options.includes.fine_tuning:
            measured = sorted(weights.tuned[name][1]) if name in weights.tuned else []
            tuned[name] = Tried(options.tune, allowed, measured, least // 2 + LEAST)
    return Sizes(few, tuned)
