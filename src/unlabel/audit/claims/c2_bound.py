"""Beside C2, a bound that needs no training: at most an untrained network's share of the residual.

It HOLDS if no probe finds more of what a label alone tells than in the same network before any training. If a
retrained model tells at least as much, a model that meets the bound leaks no more than one, as far as such
probes see. The reverse is not true: a retrained model itself seldom meets it. The bound decides no claim.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from math import sqrt
from operator import attrgetter

import numpy as np
from scipy.stats import norm

from unlabel.audit.attacks.prediction import d_prime
from unlabel.audit.attacks.residual_shares import Found, Shares
from unlabel.audit.claims.judging import Cell, Judgement, all_of, judge
from unlabel.audit.document.results import Verdict
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import joined
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.contrast import contrast
from unlabel.statistics.estimate import mean

WORDS: Mapping[Verdict, str] = {
    "PASS": "HOLDS",
    "FAIL": "DOES NOT HOLD",
    "INCONCLUSIVE": "OPEN",
    "NOT_EVALUATED": "NOT AVAILABLE",
}
CLASSES = "the retained classes determine the label, so it has no residual"
NO_UNTRAINED = "no outputs of an untrained network are there"
MOST = 0.8  # of an untrained network's share, as far as the margin follows it

HOW = {"linear": "linear", "random": "random ReLU features"}


def bound_notes(
    found: Mapping[str, Found], questions: Mapping[str, Question], options: AuditOptions, *, exclusive: bool
) -> dict[str, object]:
    """What C2's notes say of the bound: its verdict, a sentence, the labels' verdicts, the figures by site.

    Args:
        found: Shares of the residual, by label; empty if they could not be measured.
        questions: The labels' annotations.
        options: The level; and C2's margin in advantage, from which the bound's follows.
        exclusive: Whether the labels are classes.
    """
    if not found:
        reason = CLASSES if exclusive else NO_UNTRAINED
        return {"verdict": "NOT AVAILABLE", "sentence": f"It cannot be measured: {reason}.", "labels": {}}
    rare = frozenset(
        name for name in found if questions[name].rare(options) or questions[name].thin(options)
    )  # it is read on the test split alone

    def judged(shares: Callable[[Found], Shares]) -> Judgement:
        tests = (cells(shares(one), one.untrained, questions[name], options) for name, one in found.items())
        return judge([*chain.from_iterable(tests)], rare, options)

    unlearned, original = judged(attrgetter("unlearned")), judged(attrgetter("original"))
    blind = [name for name in found if original.per_label[name] != "FAIL" and name not in rare]
    labels: dict[str, Verdict] = {
        name: "INCONCLUSIVE" if verdict == "PASS" and name in blind else verdict
        for name, verdict in unlearned.per_label.items()
    }
    verdict = all_of(list(labels.values()))
    return {
        "verdict": WORDS[verdict],
        "sentence": _sentence(verdict, unlearned, rare, blind, options),
        "labels": {name: WORDS[each] for name, each in labels.items()},
        "sites": [_row(cell, found, options) for cell in unlearned.cells],
    }


def cells(
    shares: Shares, untrained: Sequence[Shares], question: Question, options: AuditOptions
) -> Iterator[Cell]:
    """Each probe's share in a model, less that in untrained networks."""
    for (site, probe), item in shares.items():
        others = [one[site, probe].at_least(0.0) for one in untrained]
        least = float(np.clip(mean(others).lower(options.level), 0.0, MOST))
        margin = margin_above(least, question, options.d_reference)
        yield Cell(question.label, probe, contrast(item.at_least(0.0), others), margin, stage=site)


def margin_above(share: float, question: Question, advantage: float) -> float:
    """The share of the residual by which an attack gains an advantage, if an attack with a share is known.

    For values of a probe that are normal and equally spread with and without the label, and a label of which
    the retained annotations tell nothing; if they tell something, a share is worth less.

    Args:
        share: From 0 to 1.
        question: The label, whose base rate counts.
        advantage: What is gained.
    """
    present = float((question.test == 1).sum() / (question.test >= 0).sum())
    spread = present * (1 - present)
    before = 2 * float(norm.cdf(sqrt(share / (2 * spread * (1 - share))))) - 1
    after = spread * d_prime(before + advantage) ** 2
    return after / (1 + after) - share


def _row(cell: Cell, found: Mapping[str, Found], options: AuditOptions) -> dict[str, object]:
    place = cell.stage or "", cell.figure
    one = found[cell.label or ""]
    return {
        "label": cell.label,
        "site": cell.stage,
        "probe": cell.figure,
        "original": one.original[place].value,
        "unlearned": one.unlearned[place].value,
        "untrained": [other[place].value for other in one.untrained],
        "excess": cell.contrast.value,
        "lower": cell.lower(options),
        "upper": cell.upper(options),
        "margin": cell.margin,
        "verdict": WORDS[cell.verdict],
    }


def _sentence(
    verdict: Verdict, judged: Judgement, rare: frozenset[str], blind: Sequence[str], options: AuditOptions
) -> str:
    cell = judged.binding
    where = f"the {'last features' if cell.stage == PENULTIMATE else cell.stage}"
    found = (
        f"on {where}, a probe ({HOW[cell.figure]}) finds {cell.contrast.value:+.3f} more of the residual of"
        f" {cell.label} (at most {cell.upper(options):+.3f}; margin {cell.margin:.3f})"
    )
    if verdict == "PASS":
        return f"No probe finds more of the residual than in an untrained network: {found}."
    if verdict == "FAIL":
        return (
            f"Probes find more of the residual than in an untrained network: {found}. No claim"
            " rests on it: retrained models seldom meet this bound."
        )
    if blind:
        return (
            f"The original itself tells no more of the residual of {joined(blind)} than an untrained network,"
            " so the bound says nothing."
        )
    if rare:
        return f"Too few test images show both kinds of {joined(sorted(rare))}."
    return f"The data cannot decide: {found}."
