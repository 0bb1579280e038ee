"""What an audit could decide, before anything is trained or attacked: images, references and seconds.

From the label's counts alone. A standard error of an advantage is at most what it is at chance,
``2 sqrt((N + 1) / (12 p (1 - p) N^2))`` for N images of which a share p have the label; the number of images
follows from the margin, an error rate of 5 % and a power of 80 %, if nothing is left to find.
"""

from collections.abc import Mapping
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from unlabel.audit.attacks.annotated import Target, tune_sizes
from unlabel.audit.attacks.cross_fit import TOGETHER
from unlabel.audit.figures import TRANSFORMS
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.perturbed_images import IMAGES as PERTURBED
from unlabel.audit.inputs.sets import Sets, sets_of
from unlabel.audit.plan.trainings import (
    FORWARD,
    annotated,
    annotated_line,
    attackers_lines,
    attackers_plan,
    seconds_to_train,
)
from unlabel.audit.references.full import duration, reference_seconds
from unlabel.audit.references.short import can_be_short, least_budget
from unlabel.audit.setup import Case
from unlabel.data.splits import audit_refusal
from unlabel.statistics.estimate import people_in_effect, rarer

SEED_SPREAD = 0.02  # of an advantage over references; measured on this tool's own demos
SHARED = 0.8  # correlation of two models' figures on the same images
WITHIN = 0.5  # correlation of two images of one person
ATTACKS = 6.0  # seconds of one core for all quick attacks on one model and label at 5,000 + 5,000 images
BELOW = 1.0  # the same for probes on earlier stages and code lengths, in units of ATTACKS
WANTED = 3
ADVISED = 2000  # canaries
ASSUMED = (
    "power 0.8, and a model that leaks and harms nothing; an output that is constant passes C1 on any images;"
    f" the seeds of retrained models vary by {SEED_SPREAD:g} in advantage; two models' figures on the same"
    f" images correlate by {SHARED:g}, two images of one person by {WITHIN:g}"
)


def images_for(margin: float, share: float, *, both_sides: bool = False, factor: float = 1.0) -> int:
    """Images that bring an advantage of 0 within a margin, one-sided or on both sides.

    Args:
        margin: In advantage.
        share: Share of the images that have the label, above 0 and below 1.
        both_sides: Whether the advantage must be shown to lie above ``-margin`` as well.
        factor: What the variance is multiplied by: people with several images, differences of models.

    >>> [images_for(margin, 0.5, both_sides=True) for margin in (0.10, 0.05)]
    [1143, 4569]
    """
    reach = norm.ppf(0.95) + norm.ppf(0.9 if both_sides else 0.8)
    rate = factor * (reach / margin) ** 2 / (3 * share * (1 - share))
    return ceil((rate + sqrt(rate**2 + 4 * rate)) / 2)  # N^2 = rate (N + 1)


def design_effect(cluster: NDArray[np.int64]) -> float:
    """How many times the variance grows because images are of the same people, not of as many as images.

    ``1 + c (sum n^2 / sum n - 1)`` of the numbers n of images a person, with the correlation c of two images
    of one.

    >>> design_effect(np.arange(1000) // 2), round(design_effect(np.repeat(range(20), [181, *[1] * 19])), 1)
    (1.5, 82.5)
    """
    _, images = np.unique(cluster, return_counts=True)
    return 1.0 + WITHIN * (float(np.sum(images**2)) / max(int(images.sum()), 1) - 1.0)


def label_effect(target: Target, cluster: NDArray[np.int64]) -> float:
    """The same of an advantage: of both kinds of images, the rarer one counting more.

    Its variance has a part of each kind, in inverse proportion to the images of that kind.

    Args:
        target: (image,) 1 present, 0 absent, -1 unknown.
        cluster: (image,) identity of each image.
    """
    effects = [design_effect(cluster[target == kind]) for kind in (1, 0)]
    present = float(np.mean(target[target >= 0] == 1)) if np.any(target >= 0) else 0.5
    return (1 - present) * effects[0] + present * effects[1]


def references_for(margin: float) -> int:
    """Fewest references, from three on, whose spread leaves half of a margin to the images."""
    count = WANTED
    while t.ppf(0.95, count - 1) * SEED_SPREAD / sqrt(count) > margin / 2:
        count += 1
    return count


def plan_audit(case: Case, options: AuditOptions, seed: int, *, made: int = 0) -> dict[str, Any]:
    """What each claim needs and what there is, by label.

    Args:
        case: The runs and their data; the unlearned run may be missing.
        options: Margins; and attackers to report beside C4, if any are to be planned.
        seed: Draws the training images that are read.
        made: References that are to be trained first; they count as given.

    Returns:
        ``labels``: by name, what the test split holds and, by claim, ``images``, ``references`` and
        ``canaries`` that it needs and whether there are as many; ``annotated`` images that C4 learns from;
        ``too_few``, why an audit is refused, or None. ``reference_budget``, the least, None if references
        cannot be predicted; ``predictable``, whether they could be with more optimiser steps; ``seconds`` of
        reading, references and attacks; ``attackers``, rows of those that the options name; ``assumed``, in a
        sentence.
    """
    sets = sets_of(case.source, seed, case.planting)
    columns = {name: case.request.labels.index(name) for name in case.request.masked}
    test, probe = (part.with_labels(case.request.labels) for part in (sets.test, sets.probe))
    on_test = {name: test.target[:, column] for name, column in columns.items()}
    on_probe = {name: probe.target[:, column] for name, column in columns.items()}
    crossed = options.cross_fit and any(
        rarer(target) < options.rare or min(people_in_effect(target, test.cluster)) < options.least_people
        for target in on_test.values()
    )
    judged = {
        name: np.concatenate([target, on_probe[name]]) if crossed else target
        for name, target in on_test.items()
    }
    cluster = np.concatenate([test.cluster, probe.cluster]) if crossed else test.cluster
    given = len(case.references) + made
    labels = {
        name: label_plan(
            target,
            (label_effect(target, cluster), design_effect(test.cluster)),
            case,
            name,
            options,
            given,
            alone=on_test[name] if crossed else None,
        )
        for name, target in judged.items()
    }
    for name, item in labels.items():
        item["annotated"] = annotated(on_probe[name], options)
        item["too_few"] = audit_refusal(name, probe, test, sets.train.with_labels(case.request.labels))
    wanted = max(claim["references"] for item in labels.values() for claim in item["claims"].values())
    models = max(wanted, given) + 2
    size = (len(probe), len(test))
    return {
        "labels": labels,
        "references": {"given": given, "needed": wanted},
        "reference_budget": least_budget(case),
        "predictable": can_be_short(case),
        "seconds": seconds_of(case, sets, on_probe, 1 + crossed, models - 2, options),
        **(
            {"attackers": attackers_plan(on_probe, models, size, reference_seconds(case)[1], options)}
            if options.asked
            else {}
        ),
        "assumed": ASSUMED,
    }


def label_plan(
    target: np.ndarray,
    effects: tuple[float, float],
    case: Case,
    name: str,
    options: AuditOptions,
    given: int,
    *,
    alone: np.ndarray | None = None,
) -> dict[str, Any]:
    """What each claim of one label needs, and whether it is there.

    If both the test and the probe split are judged (see `audit.attacks.cross_fit`), `target` is of both and
    `alone` of the test split, which is all that C5 has. Of the `effects` of people with several images, the
    first is the label's, the second that of all images.
    """
    effect, overall = effects
    n, present = int(np.sum(target >= 0)), int(np.sum(target == 1))
    share = min(max(present / max(n, 1), 1e-4), 1 - 1e-4)
    common = ceil(options.rare / min(share, 1 - share))
    between = effect * (1 + 1 / WANTED)  # a model less the mean of three
    paired = between * (1 - SHARED)
    fitted = 1.0 if alone is None else TOGETHER**2
    macro = overall * (1 + 1 / WANTED) * (1 - SHARED) / max(len(case.request.retained), 1)
    needed = {
        "C1": (images_for(options.d_chance, share, both_sides=True, factor=effect), 0),
        "C2": (
            images_for(options.d_reference / 2, share, factor=fitted * paired),
            references_for(options.d_reference),
        ),
        "C3": (images_for(options.d_chance, share, factor=fitted * effect), 0),
        "C4": (
            max(
                images_for(options.d_recover, share, factor=fitted * 2 * effect * (1 - SHARED)),
                images_for(2 * options.d_few, share, factor=paired),
            ),
            references_for(2 * options.d_few),
        ),
        "C5": (images_for(2 * options.d_macro, 0.5, factor=macro), 1),
    }
    fewest = {claim: 0 if claim == "C5" else common for claim in needed}
    there = {claim: int(np.sum(alone >= 0)) if claim == "C5" and alone is not None else n for claim in needed}
    claims = {
        claim: {
            "images": max(images, fewest[claim]),
            "references": references,
            "enough": there[claim] >= max(images, fewest[claim]) and given >= references,
        }
        for claim, (images, references) in needed.items()
    }
    planted = len(case.planting[name].planted) if name in case.planting else 0
    claims["C6"] = {
        "images": 0,
        "references": 0,
        "canaries": planted,
        "canaries_needed": ADVISED,
        "enough": planted >= ADVISED,
    }
    fewer = min(present, n - present)
    return {"images": n, "present": present, "rarer": fewer, "crossed": alone is not None, "claims": claims}


def seconds_of(
    case: Case, sets: Sets, targets: Mapping[str, Target], ways: int, references: int, options: AuditOptions
) -> dict[str, Any]:
    """Seconds of one core, None without a known speed: references still to train, models to read and, for the
    full budget, to train on annotated images, and attacks, fitted one way or both."""
    each, rate, basis = reference_seconds(case)
    models = references + 2
    images = len(sets.probe) + len(sets.test)
    size = images / 10_000
    changed = len(TRANSFORMS) * (references + 1)
    near = sum(min(len(part), PERTURBED) for part in (sets.probe, sets.test))
    quick = models * (images + len(sets.train)) + (models - 1) * near
    reading = {
        "quick": quick,
        "standard": quick + changed * images,
        "full": quick + (changed + models) * images,
    }
    unit = ATTACKS * size * len(targets) * ways
    attacks = {
        "quick": unit * models,
        "standard": unit * (2 * models + 0.6 * changed),
        "full": unit * ((2 + BELOW) * models + 0.6 * changed),
    }
    chosen = [(ADAM, n) for target in targets.values() for n in tune_sizes(target, options)]
    missing = max(references - len(case.references), 0)
    return {
        "references": None if each is None else each * missing,
        "reading": {name: None if rate is None else n / (FORWARD * rate) for name, n in reading.items()},
        "training": {"full": seconds_to_train(chosen, models, len(sets.test), rate, options)},
        "attacks": attacks,
        "estimated_from": basis,
    }


def lines(plan: Mapping[str, Any]) -> list[str]:
    """The plan, as lines for the terminal."""
    text = []
    for name, item in plan["labels"].items():
        sets = "test and probe images" if item["crossed"] else "test images"
        text.append(f"{name}: {item['present']:,} of {item['images']:,} {sets} have it")
        if item["too_few"] is not None:
            text.append(f"  an audit is refused: {item['too_few']}")
        for claim, need in item["claims"].items():
            if claim == "C6":
                what = f"{need['canaries_needed']:,} canaries ({need['canaries']:,} planted)"
            else:
                what = f"at most {need['images']:,} {'test images' if claim == 'C5' else sets}"
                if count := need["references"]:
                    given = plan["references"]["given"]
                    what += f", {count} retrained model{'s' * (count > 1)} ({given} given)"
            text.append(f"  {claim} {'enough' if need['enough'] else 'may lack'}: needs {what}")
        text.append(annotated_line(item["annotated"]))
    least = plan["reference_budget"]
    if least is not None and not plan["references"]["given"]:
        text.append(f"instead of retrained models, a prediction: --reference-budget {least:.2f} or more")
    elif plan["predictable"] and not plan["references"]["given"]:
        text.append(
            "no --reference-budget below 1 is enough: the original's training has too few optimiser steps for"
            " short ones"
        )
    seconds = plan["seconds"]
    if seconds["references"]:
        text.append(f"training the references: about {duration(seconds['references'])}")
    for budget, attacks in seconds["attacks"].items():
        reading = seconds["reading"][budget]
        times = f"about {duration(reading)} to read the models, " if reading is not None else ""
        training = seconds["training"].get(budget)
        times += f"{duration(training)} to fine-tune on few images, " if training is not None else ""
        text.append(f"{budget}: {times}{duration(attacks)} of one core for the attacks")
    if "attackers" in plan:
        text += attackers_lines(plan["attackers"])
    if seconds["estimated_from"]:
        text.append(f"speeds are from {seconds['estimated_from']}")
    return [*text, f"assumed: {plan['assumed']}"]
