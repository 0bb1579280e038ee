"""The claim C1, disabled: the label cannot be predicted from its own output."""

from collections.abc import Mapping
from dataclasses import replace

from unlabel.audit.attacks.outputs import OwnOutput
from unlabel.audit.claims.judging import Cell, all_of, placed
from unlabel.audit.claims.sample_size import Need, need_of, needs, notes_of
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.figures import OWN, OWN_SIGNED
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import joined
from unlabel.statistics.contrast import seeded
from unlabel.statistics.estimate import Estimate


def disabled(own: OwnOutput, question: Question, options: AuditOptions) -> Verdict:
    """C1 of one label: PASS if the output is a constant, or at chance on test and on training images."""
    if own.absent:
        return "PASS"
    if question.rare(options):
        return "INCONCLUSIVE"
    signed = _everywhere(own, question)
    if any(item.absolute().lower(options.level) > options.d_chance for item in signed):
        return "FAIL"
    return "PASS" if all(_inside(item, options) for item in signed) else "INCONCLUSIVE"


def _everywhere(own: OwnOutput, question: Question) -> list[Estimate]:
    """The output's advantage on test images and, if some were given, on training images."""
    on_train = own.signed_on_train(question)
    return [own.signed(question), *([] if on_train is None else [on_train])]


def _need(own: OwnOutput, question: Question, options: AuditOptions) -> Need:
    """Test images that would decide a label's own output, or training images if the test images do."""
    on_test, *on_train = _everywhere(own, question)

    def cell(item: Estimate) -> Cell:
        return Cell(question.label, OWN.id, seeded(item.absolute(), ()), options.d_chance, "INCONCLUSIVE")

    if on_train and _inside(on_test, options) and not question.rare(options):
        return replace(need_of([cell(on_train[0])], on_train[0].n, 0, options), of="training images")
    return needs([cell(on_test)], {question.label: question}, 0, options)[question.label]


def _inside(signed: Estimate, options: AuditOptions) -> bool:
    """Whether an advantage is within the margin of chance on both sides."""
    return signed.lower(options.level) > -options.d_chance and signed.upper(options.level) < options.d_chance


def claim_disabled(
    owns: Mapping[str, OwnOutput],
    questions: Mapping[str, Question],
    put_back: Mapping[str, Estimate | None],
    options: AuditOptions,
) -> Claim:
    """C1: the label cannot be predicted from its own output."""
    per_label: dict[str, Verdict] = {
        name: disabled(own, questions[name], options) for name, own in owns.items()
    }
    verdict = all_of(list(per_label.values()))
    signed = {
        name: max(_everywhere(own, questions[name]), key=lambda item: abs(item.value))
        for name, own in owns.items()
    }
    absent = [name for name, own in owns.items() if own.absent]
    inverted = [
        name
        for name, own in owns.items()
        if own.signed(questions[name]).upper(options.level) < -options.d_chance
    ]
    back = {name: abs(item.value) for name, item in put_back.items() if item is not None}
    notes: dict[str, object] = {
        "rule": "PASS if the output is a constant, or its advantage lies within"
        f" +-{options.d_chance:g} on test and on training images; FAIL if its advantage is above"
        f" {options.d_chance:g} on either",
        "absent": absent,
        "inverted": inverted,
        "advantage_with_row_put_back": back,
    }
    need = {
        name: _need(own, questions[name], options)
        for name, own in owns.items()
        if per_label[name] == "INCONCLUSIVE"
    }
    notes |= notes_of(need) if need else {}
    decisive = [name for name in owns if per_label[name] == verdict]
    worst = max(decisive, key=lambda name: abs(signed[name].value))
    number = f"{abs(signed[worst].value):.2f}"
    names = joined(list(owns))
    if verdict == "FAIL":
        turned = " The output is inverted: 'no' now means 'yes'." if worst in inverted else ""
        sentence = (
            f"The model's own output still predicts {worst}: advantage {number}, where 0 is chance and 1 is"
            f" perfect.{turned}"
        )
    elif verdict == "PASS" and len(absent) == len(owns):
        sentence = f"The model no longer predicts {names}: its output is the same number for every image."
        if back:
            most = max(back, key=lambda name: back[name])
            sentence += (
                f" If the original's output row for {most} is put back, the advantage is {back[most]:.2f}."
            )
    elif verdict == "PASS":
        sentence = (
            f"The model's own output does not predict {names}: it is within {options.d_chance:g} of chance."
        )
    else:
        worst = max(need, key=lambda name: abs(signed[name].value))
        sentence = (
            f"There are too few images to decide whether the model's own output predicts {worst} (advantage"
            f" {abs(signed[worst].value):.2f}){need[worst].words()}."
        )
    notes |= placed(label=worst if len(owns) > 1 else None)
    return Claim(verdict, sentence, options.budget, binding=OWN_SIGNED.id, per_label=per_label, notes=notes)
