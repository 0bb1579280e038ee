"""The claim C1, disabled: the label cannot be predicted from its own output."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from unlabel.audit.attacks.outputs import OwnOutput
from unlabel.audit.claims.judging import Cell, all_of, judge, placed
from unlabel.audit.claims.sample_size import Need, need_of, needs, notes_of
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.figures import OWN_ON_TRAIN, OWN_SIGNED
from unlabel.audit.inputs.options import JUDGED_PEOPLE, AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import joined
from unlabel.statistics.contrast import seeded
from unlabel.statistics.estimate import Estimate


def disabled(own: OwnOutput, question: Question, options: AuditOptions) -> Verdict:
    """C1 of one label: PASS if the output is a constant, or at chance on test and on training images."""
    return "PASS" if own.absent else all_of([cell.verdict for cell in _tests([(own, question)], options)])


def _tests(asked: Sequence[tuple[OwnOutput, Question]], options: AuditOptions) -> list[Cell]:
    """The advantage of each output without its sign, on test images and, if some were given, on training
    images; judged together.

    A training image's test decides nothing if too few people have, or lack, the label there.
    """
    cells = []
    for own, question in asked:
        on_train = own.signed_on_train(question)
        on_test = seeded(own.signed(question).absolute(), ())
        cells.append(Cell(question.label, OWN_SIGNED.id, on_test, options.d_chance))
        if on_train is not None:
            test = Cell(question.label, OWN_ON_TRAIN.id, seeded(on_train.absolute(), ()), options.d_chance)
            cells.append(replace(test, few_people=_thin_on_train(question, options)))
    rare = frozenset(question.label for _, question in asked if question.rare(options))
    return list(judge(cells, rare, options).cells) if cells else []


def _thin_on_train(question: Question, options: AuditOptions) -> bool:
    """Whether the training images have too few people of a kind for the output's figure there."""
    return question.people_on_train < options.least_people


def thin_on_train(
    owns: Mapping[str, OwnOutput], questions: Mapping[str, Question], options: AuditOptions
) -> tuple[str, ...]:
    """Labels whose output the training images cannot decide, in a sentence; a constant output needs none."""
    names = [
        name
        for name, own in owns.items()
        if len(own.train) and not own.absent and _thin_on_train(questions[name], options)
    ]
    if not names:
        return ()
    return (
        f"The own output on training images: fewer than {JUDGED_PEOPLE} identities in effect have, or lack,"
        f" {joined(names)} there.",
    )


def _need(cells: Sequence[Cell], question: Question, options: AuditOptions) -> Need:
    """Test images that would decide a label's own output, or training images if the test images do."""
    on_test, *on_train = cells
    if not on_train or on_test.verdict != "PASS":
        return needs([on_test], {question.label: question}, 0, options)[question.label]
    n = int((question.train >= 0).sum())
    need = replace(need_of(on_train, n, 0, options), of="training images")
    if on_train[0].few_people:
        common = ceil(n * JUDGED_PEOPLE / max(question.people_on_train, 1))
        need = replace(need, images=max(common, need.images or 0))
    return need


def claim_disabled(
    owns: Mapping[str, OwnOutput],
    questions: Mapping[str, Question],
    put_back: Mapping[str, Estimate | None],
    options: AuditOptions,
) -> Claim:
    """C1: the label cannot be predicted from its own output.

    FAIL by Holm over all labels, on test and on training images.
    """
    absent = [name for name, own in owns.items() if own.absent]
    cells = _tests([(owns[name], questions[name]) for name in owns if name not in absent], options)
    of = {name: [cell for cell in cells if cell.label == name] for name in owns}
    per_label: dict[str, Verdict] = {
        name: all_of([cell.verdict for cell in of[name]]) if of[name] else "PASS" for name in owns
    }
    verdict = all_of(list(per_label.values()))
    inverted = [
        name
        for name, own in owns.items()
        if own.signed(questions[name]).upper(options.level) < -options.d_chance
    ]
    back = {name: item.value for name, item in put_back.items() if item is not None}
    need = {
        name: _need(of[name], questions[name], options)
        for name, each in per_label.items()
        if each == "INCONCLUSIVE"
    }
    notes: dict[str, object] = {
        "rule": "PASS if the output is a constant, or its advantage lies within"
        f" +-{options.d_chance:g} on test and on training images; FAIL if its advantage is above"
        f" {options.d_chance:g} on either, corrected for the number of tests",
        "absent": absent,
        "inverted": inverted,
        "advantage_with_row_put_back": back,
        **(notes_of(need) if need else {}),
    }
    decisive = [cell for cell in cells if cell.verdict == verdict]
    worst = max(decisive, key=lambda cell: cell.contrast.value, default=None)
    label = worst.label if worst and worst.label else next(iter(owns))
    number = f"{worst.contrast.value:.2f}" if worst else "0.00"
    words = need[label].words() if label in need else ""
    sentence = _sentence(verdict, (label, number, words), list(owns), absent, inverted, back, options)
    notes |= placed(label=label if len(owns) > 1 else None)
    return Claim(verdict, sentence, options.budget, binding=OWN_SIGNED.id, per_label=per_label, notes=notes)


def _sentence(
    verdict: Verdict,
    worst: tuple[str, str, str],
    names: Sequence[str],
    absent: Sequence[str],
    inverted: Sequence[str],
    back: Mapping[str, float],
    options: AuditOptions,
) -> str:
    """Why; `worst` is the label that decides, its advantage, and what would decide it."""
    label, number, would_decide = worst
    if verdict == "FAIL":
        turned = " The output is inverted: 'no' now means 'yes'." if label in inverted else ""
        return (
            f"The model's own output still predicts {label}: advantage {number}, where 0 is chance and 1 is"
            f" perfect.{turned}"
        )
    if verdict == "INCONCLUSIVE":
        return (
            f"There are too few images to decide whether the model's own output predicts {label} (advantage"
            f" {number}){would_decide}."
        )
    if len(absent) < len(names):
        return (
            f"The model's own output does not predict {joined(names)}: it is within {options.d_chance:g} of"
            " chance."
        )
    sentence = f"The model no longer predicts {joined(names)}: its output is the same number for every image."
    if back:
        most = max(back, key=lambda name: abs(back[name]))
        sentence += (
            f" If the original's output row for {most} is put back, the advantage is {back[most]:.2f}."
        )
    return sentence
