"""What would decide a test that the data leave open: so many test images, or so many retrained models.

An error has three parts. The images' part shrinks with their number, that of training seeds with the number
of retrained models, that of the draws of annotated images with neither. If the figure stays where it is,
below its margin or above, enough of them make a PASS or a FAIL of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, sqrt

from scipy.stats import norm, t

from unlabel.audit.claims.judging import Cell, few_people
from unlabel.audit.inputs.options import JUDGED_PEOPLE, AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import joined
from unlabel.statistics.contrast import Contrast

POWER = 0.8
MOST = 30  # retrained models that anybody would be advised to train
MANY = 100  # times the images that there are: more than that nobody would be advised to find
FARTHEST = 10**7  # times the images that there are: what more than that would decide, none would


@dataclass(frozen=True)
class Need:
    """What would decide, four times in five: images, or retrained models where images alone would not do.

    Args:
        images, references: How many; None where no number of them would.
        of: What images.
        there: Images that there are; 0 if that says nothing of what can be had.
    """

    images: int | None
    references: int | None = None
    of: str = "test images"
    there: int = field(default=0, compare=False)

    @property
    def affordable(self) -> bool:
        """Whether there is a number of images, and it is not far from what there is."""
        return self.images is not None and (not self.there or self.images <= MANY * self.there)

    def words(self) -> str:
        """The end of a sentence.

        >>> Need(2000).words(), Need(200_000, there=500).words()
        ('; about 2,000 test images would decide', '; no affordable number of test images would decide')
        """
        if self.affordable:
            return f"; about {self.images:,} {self.of} would decide"
        if self.references is not None:
            return f"; about {self.references} retrained models would decide"
        return "" if self.images is None else f"; no affordable number of {self.of} would decide"


def images_for(contrast: Contrast, margin: float, n: int, level: float) -> int | None:
    """Images with which a bound of this level keeps clear of the margin, if the value stays.

    The images' part of the variance shrinks with their number, the rest stays; the bound is Student's, of as
    many degrees of freedom as both parts have together, and its power is .8.

    Args:
        contrast: The figure and its error.
        margin: What is tolerated.
        n: Images behind the figure.
        level: Level of the bound, such as .95.

    Returns:
        The number, at least `n`, and more than `n` if the bound does not keep clear of the margin now; None
        where no number of images would do.

    >>> images_for(Contrast(0.0, 0.05, 999), 0.1, 1000, 0.95)
    1547
    """
    gap, part = abs(margin - contrast.value), contrast.se**2 - contrast.fixed
    if contrast.se == 0.0:
        return n
    few = contrast.fixed**2 * contrast.df / contrast.se**4  # degrees of freedom of what stays

    def clear(wanted: float) -> bool:
        images = part * n / wanted
        df = (images + contrast.fixed) ** 2 * few / contrast.fixed**2 if few else contrast.df * wanted / n
        return float(t.ppf(level, df) + norm.ppf(POWER)) * sqrt(images + contrast.fixed) < gap

    if clear(n):
        return n
    if not clear(n * FARTHEST):
        return None
    low, high = n, n * FARTHEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if clear(middle) else (middle, high)
    return high


def references_for(contrast: Contrast, margin: float, count: int, level: float) -> int | None:
    """Retrained models with which a bound keeps clear of the margin, with the images there are.

    Args:
        contrast: The figure, less the mean of `count` retrained models.
        margin: What is tolerated.
        count: Retrained models behind it, 2 or more: one has no spread.
        level: Level of the bound.

    Returns:
        The number; None where more of them would not do, or only more than 30.

    >>> references_for(Contrast(0.05, 0.0224, 3, 0.0004), 0.1, 3, 0.95)
    5
    >>> references_for(Contrast(0.05, 0.0224, 3, 0.0004, draws=0.0004), 0.1, 3, 0.95)  # None
    """
    each = max(contrast.fixed - contrast.draws, 0.0) * count
    images = max(contrast.se**2 - contrast.fixed, 0.0) + contrast.draws
    for wanted in range(count + 1, MOST + 1):
        part = each / wanted
        df = (images + part) ** 2 / (part**2 / (wanted - 1)) if part else 1e9
        reach = float(t.ppf(level, df)) + float(norm.ppf(POWER))
        if reach * sqrt(images + part) < abs(margin - contrast.value):
            return wanted
    return None


def need_of(
    cells: Iterable[Cell], n: int, references: int, options: AuditOptions, named: Cell | None = None
) -> Need:
    """What would decide tests that go together: every one to a PASS, or one to a FAIL.

    Args:
        cells: The tests; what is decided counts for nothing.
        n: Images behind them.
        references: Retrained models behind them.
        options: Level.
        named: One of them, of which alone it is asked.
    """
    cells = list(cells)
    open_ = [cell for cell in ([named] if named else cells) if cell.verdict == "INCONCLUSIVE"]
    beyond = [cell for cell in open_ if cell.contrast.value > cell.margin]

    def level(cell: Cell) -> float:
        return 1 - options.alpha / len(cells) if beyond else cell.level(options)

    chosen, pick = (beyond, min) if beyond else (open_, max)
    images = [images_for(cell.contrast, cell.margin, n, level(cell)) for cell in chosen]
    known = [item for item in images if item is not None]
    need = Need(pick(known, default=n) if (beyond and known) or None not in images else None, there=n)
    if need.affordable:
        return need
    models = [
        references_for(cell.contrast, cell.margin, references, level(cell)) if references > 1 else None
        for cell, item in zip(chosen, images, strict=True)
        if item is None or item > MANY * n
    ]
    return replace(
        need, references=None if None in models else pick(item for item in models if item is not None)
    )


def needs(
    cells: Sequence[Cell], questions: Mapping[str, Question], references: int, options: AuditOptions
) -> dict[str, Need]:
    """What would decide each label of some questions; a rare one needs images until it is none.

    Args:
        cells: All tests of a claim.
        questions: The labels that are open.
        references: Retrained models.
        options: Level, and what is rare.
    """
    rows = {}
    for name, question in questions.items():
        needed = (cell for cell in cells if cell.label == name and not cell.only_fails)
        need = need_of(needed, question.n, references, options)
        if question.rare(options):
            short = max(options.rare / max(question.rarer, 1), JUDGED_PEOPLE / max(question.people, 1))
            common = ceil(question.n * short)
            need = replace(need, images=max(common, need.images or 0))
        if name in few_people(cells):
            common = ceil(question.n * JUDGED_PEOPLE / max(question.people_on_test, 1))
            need = replace(need, images=max(common, need.images or 0))
        if question.crossed:
            need = replace(need, of="test and probe images together")
        rows[name] = need
    return rows


def notes_of(need: Mapping[str, Need]) -> dict[str, object]:
    """What would decide, as a claim's notes hold it."""
    return {
        "images_needed": {name: each.images for name, each in need.items()},
        "references_needed": {name: each.references for name, each in need.items()},
    }


def too_rare(rare: frozenset[str], need: Mapping[str, Need], options: AuditOptions) -> str:
    """The sentence of a claim whose labels are too rare."""
    names = sorted(rare)
    would_decide = need[names[0]].words() if len(names) == 1 and names[0] in need else ""
    few = f"Fewer than {options.rare} of the images judged, or of {JUDGED_PEOPLE} identities in effect, have,"
    return f"{few} or lack, {joined(names)}: too few to decide{would_decide}."


def too_thin(thin: frozenset[str], need: Mapping[str, Need]) -> str:
    """The sentence of a claim of which some tests are read on the test split alone, with too few people."""
    names = sorted(thin)
    would_decide = need[names[0]].words() if len(names) == 1 and names[0] in need else ""
    return (
        f"Fewer than {JUDGED_PEOPLE} identities in effect have, or lack, {joined(names)} in the test split."
        f" Some attacks of this claim are read there alone, so it is not decided{would_decide}."
    )


def words_of(named: Need, whole: Need) -> str:
    """The end of a sentence that names one test, where others may be open, too.

    >>> words_of(Need(900), Need(2000))
    '; about 900 test images would decide that alone'
    """
    return named.words() + (" that alone" if named.words() and named != whole else "")


def worded(sentence: str, need: Mapping[str, Need]) -> str:
    """A sentence that ends in what would decide, the most that any label needs."""
    hardest = max(need.values(), key=lambda item: item.images or float("inf"), default=Need(None))
    return f"{sentence.removesuffix('.')}{hardest.words()}."
