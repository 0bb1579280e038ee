"""The claim C6, unmemorised: the model does not remember single annotations of the forgotten label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from unlabel.audit.attacks.canaries import ADVISED, ATTACKS, Guesses
from unlabel.audit.claims.judging import all_of, placed
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.wording import beside_margin, joined
from unlabel.data.canaries import LEAST, MOST
from unlabel.data.dataset import Dataset
from unlabel.statistics.contrast import holm
from unlabel.statistics.estimate import clopper_pearson


def power(n: int, options: AuditOptions) -> float:
    """Probability that a model which remembers nothing stays below the margin, for one attack on n canaries.

    >>> [round(power(n, AuditOptions()), 2) for n in (200, 400, 600, 800, 1000)]
    [0.36, 0.64, 0.78, 0.88, 0.93]
    """
    hits = np.arange(n + 1)
    passing = [clopper_pearson(int(k), n, options.level)[1] < options.d_canary for k in hits]
    return float(binom.pmf(hits, n, 0.5)[passing].sum())


def plantable(facts: Mapping[str, Any], train: Dataset) -> int | None:
    """Most canaries that `unlabel train` plants in this data; 0 in classes, None if the facts do not tell.

    >>> from unlabel.testing import tiny_world
    >>> plantable({"counts": {"train": 1758}}, tiny_world().data)
    175
    """
    counts = facts.get("counts")
    images = counts.get("train") if isinstance(counts, Mapping) else None
    return 0 if train.exclusive else images // MOST if isinstance(images, int) else None


def how_to_plant(most: int | None, options: AuditOptions) -> str:
    """What to do where no canaries were planted, as a sentence.

    Args:
        most: Of `plantable`.
        options: How many C6 needs for a PASS.
    """
    if most is None or most >= options.canaries:
        return f"To plant them, train with --canaries {min(most or ADVISED, ADVISED)}."
    if most < LEAST:
        return "This data allows no canaries: its labels are classes, or it has too few training images."
    return (
        f"This data has too few training images for C6 to pass: they allow {most:,} canaries, and"
        f" {options.canaries:,} are needed."
    )


def claim_canaries(
    found: Sequence[Guesses],
    planted: Mapping[str, int],
    names: Sequence[str],
    options: AuditOptions,
    most: int | None = None,
) -> Claim:
    """C6: no attack guesses planted annotations better than chance.

    Args:
        found: Every attack on every model.
        planted: By label, the number of canaries.
        names: The forgotten labels.
        options: Margin and level.
        most: Canaries that the data allows, if that is known: of `plantable`.
    """
    tests = [item for item in found if item.subject.role == "after"]
    missing = [name for name in names if name not in planted]
    rule = (
        f"PASS if the exact upper bound of the share of canaries guessed right is below {options.d_canary:g}"
        f" for every attack, with {options.canaries:,} canaries or more; FAIL if its lower bound is above"
        f" {options.d_canary:g} for some attack, corrected for the number of attacks"
    )
    if not tests:
        sentence = (
            f"No canaries of {joined(names)} were planted before training, so the audit cannot separate"
            f" memory from knowledge. {how_to_plant(most, options)}"
        )
        open_labels: dict[str, Verdict] = dict.fromkeys(names, "NOT_EVALUATED")
        return Claim("NOT_EVALUATED", sentence, options.budget, False, None, open_labels, {"rule": rule})
    adjusted = holm([float(binom.sf(item.hits - 1, item.n, options.d_canary)) for item in tests])
    verdicts: list[Verdict] = []
    for item, p in zip(tests, adjusted, strict=True):
        enough = planted[item.label] >= options.canaries
        below = item.bounds(options.level)[1] < options.d_canary
        verdicts.append("FAIL" if p < options.alpha else "PASS" if enough and below else "INCONCLUSIVE")
    per_label: dict[str, Verdict] = {
        name: all_of([v for item, v in zip(tests, verdicts, strict=True) if item.label == name])
        for name in planted
    }
    per_label |= dict.fromkeys(missing, "NOT_EVALUATED")
    verdict = all_of([per_label[name] for name in planted])
    if verdict == "PASS" and missing:
        verdict = "INCONCLUSIVE"
    failed = [
        pair for pair, each in zip(zip(adjusted, tests, strict=True), verdicts, strict=True) if each == "FAIL"
    ]
    if failed:
        worst = min(failed, key=lambda pair: pair[0])[1]
    else:
        worst = max(tests, key=lambda item: item.bounds(options.level)[1])
    remembered = {
        name: max(
            item.bounds(options.level)[0]
            for item in found
            if item.subject.role == "before" and item.label == name
        )
        > 0.5
        for name in planted
    }
    notes: dict[str, object] = {
        "rule": rule,
        "canaries": dict(planted),
        "without": missing,
        "told_right": {
            name: {item.attack: item.accuracy for item in tests if item.label == name} for name in planted
        },
        "power": {name: power(count // 2, options) for name, count in planted.items()},
        "advised": ADVISED,
        "original_remembers": remembered,
        **placed(label=worst.label if len(planted) > 1 else None),
    }
    sentence = _sentence(verdict, worst, planted, missing, remembered, options)
    return Claim(verdict, sentence, options.budget, False, ATTACKS[worst.attack][0].id, per_label, notes)


def _sentence(
    verdict: Verdict,
    worst: Guesses,
    planted: Mapping[str, int],
    missing: Sequence[str],
    remembered: Mapping[str, bool],
    options: AuditOptions,
) -> str:
    low, high = (beside_margin(bound, options.d_canary) for bound in worst.bounds(options.level))
    attack = ATTACKS[worst.attack][0].in_words
    share = f"{attack} guesses {worst.accuracy:.3f} of {worst.n:,} canaries of {worst.label} right"
    if verdict == "PASS":
        text = (
            f"The model does not remember training annotations: {share}, at most {high}. One half is"
            f" chance, and {options.d_canary:g} is allowed."
        )
        if not any(remembered.values()):
            text += " The original does not show that it remembers them either."
        return text
    if verdict == "FAIL":
        return f"The model remembers training annotations: {share}, at least {low}, where one half is chance."
    few = min(planted.values())
    if few < options.canaries:
        return (
            f"{few:,} canaries are too few to decide: with {few // 2:,} to test on, a model that remembers"
            f" nothing would pass with probability {power(few // 2, options):.2f} an attack. {ADVISED:,} are"
            " advised."
        )
    if missing:
        return f"No canaries of {joined(missing)} were planted, so nothing is known about its annotations."
    return (
        f"The canaries cannot decide whether the model remembers annotations: {share}, between {low}"
        f" and {high} (margin {options.d_canary:g})."
    )
