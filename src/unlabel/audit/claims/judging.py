"""From figures with errors to verdicts: margins, one-sided bounds, many tests at once.

PASS needs *every* test within its margin: an intersection-union test, so none is corrected. FAIL needs
*some* test beyond its margin after Holm's correction. All else is INCONCLUSIVE.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unlabel.audit.document.results import BINDING_TEST, Against, Comparison, Verdict
from unlabel.audit.figures import Readings, layer_of, unit_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.contrast import Contrast, contrast, holm, seeded
from unlabel.statistics.estimate import Estimate, mean

Margin = Callable[[str], float]


def reference_margin(figure: str, options: AuditOptions) -> float:
    """C2's margin of an attack, in its own unit; an advantage is twice an AUC."""
    if unit_of(figure) == "auc":
        return options.d_reference / 2
    return options.d_reference_bits if unit_of(figure) == "bits" else options.d_reference


def unit_words(cell: "Cell") -> str:
    """The unit of a test, in a sentence."""
    return {"adv": "advantage", "bits": "bits", "auc": "AUC"}[unit_of(cell.figure)]


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """FAIL where one fails, PASS where all pass."""
    if "FAIL" in verdicts:
        return "FAIL"
    return "PASS" if set(verdicts) == {"PASS"} else "INCONCLUSIVE"


def of_tests(cells: Sequence["Cell"]) -> Verdict:
    """FAIL where one test fails, PASS where all pass that a PASS needs."""
    return all_of([cell.verdict for cell in cells if cell.verdict == "FAIL" or not cell.only_fails])


@dataclass(frozen=True)
class Cell:
    """One test: a figure of one label (None: the mean over labels), perhaps after a transform of the
    weights, against its margin.

    Args:
        label: The label.
        figure: The attack.
        contrast: The model against what it is compared with.
        margin: What is tolerated.
        verdict: Of this test.
        transform: What was done to the weights before.
        against: Whether the figure is compared with retrained models, or with the model before the transform.
        chosen_of: Comparisons that this one was chosen from, as the one nearest to a PASS. Each has its part
            of the error rate, so that the choice is paid for.
        stage: Where before the last features it is read; None: where its figure always is.
        few_people: Whether the images that it is read on show too few people of a kind for it to decide.
        only_fails: Whether it can only FAIL its claim, and a PASS does not need it.
        offset: Of a mean over labels, >= 0: how much higher it would be if labels below 0 counted as 0. The
            upper bound has it, so that no label that leaks less makes up for one that leaks more.
    """

    label: str | None
    figure: str
    contrast: Contrast
    margin: float
    verdict: Verdict = "NOT_EVALUATED"
    transform: str | None = None
    against: Against = "retrained"
    chosen_of: int = 1
    stage: str | None = None
    few_people: bool = False
    only_fails: bool = False
    offset: float = 0.0

    def lower(self, options: AuditOptions) -> float:
        """One-sided lower bound."""
        return self.contrast.lower(self.level(options))

    def upper(self, options: AuditOptions) -> float:
        """One-sided upper bound."""
        return self.contrast.upper(self.level(options)) + self.offset

    def level(self, options: AuditOptions) -> float:
        """Confidence level of its bounds."""
        return 1.0 - options.alpha / self.chosen_of

    def distance(self, options: AuditOptions) -> float:
        """How far its upper bound is above the margin, in margins; below 0 it passes."""
        return (self.upper(options) - self.margin) / self.margin


@dataclass(frozen=True)
class Judgement:
    """Verdicts of a table of tests.

    Args:
        verdict: Of all labels together.
        per_label: Of each label.
        cells: The tests with their verdicts.
        binding: The test that decided, or came closest to its margin.
    """

    verdict: Verdict
    per_label: dict[str, Verdict]
    cells: tuple[Cell, ...]
    binding: Cell

    def comparisons(self, options: AuditOptions) -> tuple[Comparison, ...]:
        """The tests as rows of the report."""
        return tuple(
            Comparison(
                cell.figure,
                cell.label,
                cell.contrast.value,
                cell.lower(options),
                cell.upper(options),
                cell.margin,
                cell.verdict,
                cell.stage or layer_of(cell.figure),
                cell.transform,
                cell.against,
            )
            for cell in self.cells
        )


def excess_cells(
    model: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    figures: Sequence[str],
    margin: Margin,
    *,
    pooled: bool,
) -> list[Cell]:
    """Each attack on each label: the model less the mean of the references (or 0 where there is none).

    Args:
        model: Readings of the model, by label.
        references: The same of every reference.
        figures: Attacks to test.
        margin: Margin of an attack.
        pooled: Whether to add, for several labels, the mean over labels as tests of label None. Labels below
            the references count as equal in its upper bound.
    """

    def against(item: Estimate, others: Sequence[Estimate]) -> Contrast:
        return contrast(item, others) if others else seeded(item, ())

    cells = [
        Cell(
            label,
            figure,
            against(rows[figure], [other[label][figure] for other in references]),
            margin(figure),
        )
        for label, rows in model.items()
        for figure in figures
    ]
    if pooled and len(model) > 1:
        for figure in figures:
            average = mean([rows[figure] for rows in model.values()])
            others = [mean([rows[figure] for rows in other.values()]) for other in references]
            values = [cell.contrast.value for cell in cells if cell.figure == figure and cell.label]
            offset = sum(max(-value, 0.0) for value in values) / len(values)
            cells.append(Cell(None, figure, against(average, others), margin(figure), offset=offset))
    return cells


def counts(cell: Cell, rare: frozenset[str]) -> bool:
    """Whether a test may decide: it is not of a rare label, nor of a mean that a rare label is a part of."""
    if cell.few_people:
        return False
    return not rare if cell.label is None else cell.label not in rare


def place_of(cell: Cell, labels: Collection[str]) -> dict[str, object]:
    """Where the test that decided was made, as a claim's notes hold it; empty if its figure says it all.

    Args:
        cell: The test.
        labels: All that the claim is about; the label of a single one goes without saying.
    """
    label = cell.label if len(labels) > 1 else None
    return placed(label=label, layer=cell.stage, transform=cell.transform)


def placed(**where: str | None) -> dict[str, object]:
    """The same, of what is known: ``label``, ``layer``, ``transform``."""
    noted = {key: value for key, value in where.items() if value is not None}
    return {BINDING_TEST: noted} if noted else {}


def above_margin(cell: Cell) -> bool:
    """Whether the value itself lies above the margin, whatever its error."""
    return cell.contrast.value > cell.margin


def few_people(cells: Iterable[Cell]) -> frozenset[str]:
    """Labels of which some tests are read on images of too few people."""
    return frozenset(cell.label for cell in cells if cell.few_people and cell.label is not None)


def judge(
    cells: Sequence[Cell], rare: frozenset[str], options: AuditOptions, *, mean_passes: bool = False
) -> Judgement:
    """Verdict of every test, every label and all together.

    Args:
        cells: The tests.
        rare: Labels with too few images: their tests decide nothing, and keep the whole from passing. While
            there is one, tests of the mean decide nothing either, since it is a part of the mean.
        options: Level of the tests.
        mean_passes: With tests of the mean over labels (label None): they give the PASS, unless a single
            label's value lies above its margin; and a single label can FAIL the whole. Otherwise every test
            must pass.
    """
    counted = [cell for cell in cells if counts(cell, rare)]
    adjusted = dict(zip(map(id, counted), holm([c.contrast.p_above(c.margin) for c in counted]), strict=True))

    def verdict_of(cell: Cell) -> Verdict:
        if id(cell) not in adjusted:
            return "INCONCLUSIVE"
        if adjusted[id(cell)] < options.alpha:
            return "FAIL"
        return "PASS" if cell.upper(options) < cell.margin else "INCONCLUSIVE"

    judged = tuple(replace(cell, verdict=verdict_of(cell)) for cell in cells)

    labels = dict.fromkeys(cell.label for cell in cells if cell.label is not None)
    per_label: dict[str, Verdict] = {
        label: of_tests([cell for cell in judged if cell.label == label]) for label in labels
    }
    means = [cell for cell in judged if cell.label is None] if mean_passes else []
    whole = [cell for cell in means or judged if not cell.only_fails]
    above = [cell for cell in judged if means and cell.label and not cell.only_fails and above_margin(cell)]
    verdict: Verdict = "FAIL" if any(cell.verdict == "FAIL" for cell in judged) else of_tests(whole)
    if verdict == "PASS" and (rare or above):
        verdict = "INCONCLUSIVE"
    failed = [cell for cell in judged if cell.verdict == "FAIL"]
    return Judgement(
        verdict, per_label, judged, binding_of([failed, [*whole, *above], judged], rare, options)
    )


def binding_of(pools: Sequence[Sequence[Cell]], rare: frozenset[str], options: AuditOptions) -> Cell:
    """The test farthest beyond its margin in the first pool that has one that counts; else in the last pool.

    Args:
        pools: Tests, those that may decide first.
        rare: Labels whose tests decide nothing.
        options: Level of the tests.
    """
    pool = next((found for each in pools if (found := [c for c in each if counts(c, rare)])), pools[-1])
    return max(pool, key=lambda cell: cell.distance(options))
