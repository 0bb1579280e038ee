"""The claim C3, erased: attacks are at chance, on the outputs and on the features."""

from collections.abc import Mapping, Sequence

from unlabel.audit.claims.judging import binding_of, excess_cells, judge, of_tests, place_of, unit_words
from unlabel.audit.claims.sample_size import needs, notes_of, too_rare, worded
from unlabel.audit.document.results import Claim
from unlabel.audit.figures import FEATURE_ATTACKS, OTHERS_TREES, OUTPUT_ATTACKS, Readings, unit_of
from unlabel.audit.figures import figure as entry
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import joined
from unlabel.statistics.contrast import seeded
from unlabel.statistics.estimate import Estimate, mean


def claim_erased(
    after: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    floors: Mapping[str, Estimate] | None,
    questions: Mapping[str, Question],
    options: AuditOptions,
) -> Claim:
    """C3: attacks are at chance, on the outputs and on the features.

    Labels go together, so no useful model may be able to pass; `attainable` says so. Without `floors`
    (exclusive classes, whose truth reveals each other), it is judged from the retrained models alone.
    """
    rare = frozenset(name for name, question in questions.items() if question.rare(options))

    def margin(figure: str) -> float:
        return options.d_erased_bits if unit_of(figure) == "bits" else options.d_chance

    measured = next(iter(after.values()))
    attacks = {
        level: figures
        for level, figures in (("outputs", OUTPUT_ATTACKS), ("embedding", FEATURE_ATTACKS))
        if set(figures) <= measured.keys()
    }
    asked = [figure for figures in attacks.values() for figure in figures]
    judged = judge(excess_cells(after, (), asked, margin, pooled=False), rare, options)
    verdict, per_label = judged.verdict, judged.per_label
    levels = {
        level: [cell for cell in judged.cells if cell.figure in figures] for level, figures in attacks.items()
    }
    per_level = {level: of_tests(cells) for level, cells in levels.items()}
    attainable: bool | None = None
    if references:
        attainable = not any(
            (floors is None or floors[name].lower(options.level) > options.d_chance)
            and seeded(
                mean([other[name][OTHERS_TREES.id] for other in references]),
                [other[name][OTHERS_TREES.id].value for other in references],
            ).lower(options.level)
            > options.d_chance
            for name in after
        )
    first = levels[next((level for level, each in per_level.items() if each == verdict), "outputs")]
    failed = [cell for cell in first if cell.verdict == "FAIL"]
    binding = binding_of([failed, first], rare, options)
    names, attack = joined(list(after)), entry(binding.figure).in_words
    number = f"{binding.contrast.value:.2f} {unit_words(binding)}"
    sentence = {
        "PASS": f"No attack predicts {names} better than chance, from the outputs or from the features.",
        "FAIL": f"{binding.label} can still be recovered: {attack} reaches {number}, where 0 is chance.",
        "INCONCLUSIVE": f"The data cannot decide whether every attack on {names} is at chance.",
    }[verdict]
    if attainable is False and verdict != "PASS":
        sentence += (
            " Attacks on models retrained without it are above chance as well."
            if floors is None
            else " The retained labels, if predicted correctly, reveal that much by themselves."
        )
    open_ = {name: questions[name] for name, each in per_label.items() if each == "INCONCLUSIVE"}
    need = needs(judged.cells, open_, 0, options)
    if verdict == "INCONCLUSIVE":
        sentence = too_rare(rare, need, options) if rare else worded(sentence, need)
    notes = {
        "rule": f"PASS: every attack is below {options.d_chance:g} advantage and every probe below"
        f" {options.d_erased_bits:g} bits; FAIL: some attack is above, corrected for the number of attacks",
        "outputs": per_level["outputs"],
        "embedding": per_level.get("embedding", "NOT_EVALUATED"),
        "attainable": attainable,
        **(notes_of(need) if need else {}),
        **place_of(binding, after),
    }
    return Claim(verdict, sentence, options.budget, False, binding.figure, per_label, notes)
