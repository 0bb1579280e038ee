"""What probes read at each stage and at all of them together: of a model, its original and retrained ones.

python benchmarks/all_stages.py AFTER BEFORE RETRAIN,RETRAIN,...     the table of decision 41

The linear probe of the full budget, with one seed, in advantage and in bits; the excess over the retrained
models with its one-sided 95 % bounds; and of each retrained model over the others, its upper bound.
"""

import sys
from itertools import product
from pathlib import Path

from unlabel.audit.attacks.early_layers import with_early_layers
from unlabel.audit.attacks.whole_model import BELOW, stage_readings
from unlabel.audit.document.stages import TOGETHER
from unlabel.audit.figures import unit_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.reading.outputs import read_run
from unlabel.audit.setup import open_case
from unlabel.core import engine
from unlabel.statistics.contrast import Contrast, contrast

OPTIONS = AuditOptions(budget="full", probe_seeds=1)


def bounds(excess: Contrast) -> str:
    """An excess and its bounds."""
    return f"{excess.value:.3f} ({excess.lower(0.95):.3f} to {excess.upper(0.95):.3f})"


def main(after: str, before: str, references: str) -> None:
    """Prints a Markdown table."""
    where = engine.start(accelerator="cpu")
    case = open_case(Path(after), Path(before), [Path(name) for name in references.split(",")], where, None)
    assert case.after is not None
    sets = sets_of(case.source, OPTIONS.seed, case.planting)
    models = [case.original, case.after, *case.references]
    first = [read_run(case.original, "before", sets, where), read_run(case.after, "after", sets, where)]
    subjects = [*first, *(read_run(item, "reference", sets, where) for item in case.references)]
    subjects = with_early_layers(models, subjects, sets, where)
    print("| label | read | original | model | Retrains | its excess | the model's | a Retrain's, at most |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for label in case.request.masked:
        question = ask(label, sets.probe, sets.test, sets.train)
        read = [stage_readings(subject, question, OPTIONS) for subject in subjects]
        for stage, figure in product(read[0], BELOW):
            original, model, *retrained = (readings[stage][figure] for readings in read)
            each = [contrast(one, [item for item in retrained if item is not one]) for one in retrained]
            cells = [
                label,
                f"{'all together' if stage == TOGETHER else stage}, {unit_of(figure)}",
                f"{original.value:.3f}",
                f"{model.value:.3f}",
                " ".join(f"{item.value:.3f}" for item in retrained),
                bounds(contrast(original, retrained)),
                bounds(contrast(model, retrained)),
                " ".join(f"{item.upper(0.95):.3f}" for item in each),
            ]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
