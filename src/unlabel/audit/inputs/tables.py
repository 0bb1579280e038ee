"""All that one audit is computed from, checked to belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unlabel.audit.inputs.options import Budget
from unlabel.audit.inputs.sets import shared
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.inputs.subject import Altered, Canaries, Subject, check, check_altered, has_features
from unlabel.audit.inputs.tuned import Predicted, Tuned
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.request import Request
from unlabel.core.wording import joined
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs


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
        adopted: Whether the original was trained by other code and adopted, or made from such a model.
        outputs_only: Whether the models' outputs were given and no weights: what needs the weights is then
            named as not tested.
        featureless: Names of models without features, for which those of the others were left out.
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
    adopted: bool = False
    outputs_only: bool = False
    featureless: Sequence[str] = ()
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
