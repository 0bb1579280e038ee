"""What training whole models costs, before any is trained: the full budget's part, and other attackers'."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unlabel.audit.attacks.annotated import HELD, Target, few_sizes, tune_sizes
from unlabel.audit.attacks.fine_tuning import Training, trainings
from unlabel.audit.attacks.lessons import BATCH
from unlabel.audit.attacks.prototypes import IMAGES
from unlabel.audit.attacks.starts import DISTILLED
from unlabel.audit.attacks.stitching import FITTED
from unlabel.audit.attacks.tangent import SCORED
from unlabel.audit.inputs.attackers import (
    ADAM,
    ATTACKERS,
    CURVE,
    POSITIONS,
    PROTOTYPES,
    STITCHED,
    TANGENT,
    Attacker,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.references.full import duration
from unlabel.models.sites import STAGES

FORWARD = 3.0  # a forward pass is so many times quicker than a training step
Row = dict[str, Any]


def seconds_to_train(
    found: Iterable[Training], models: int, tested: int, rate: float | None, options: AuditOptions
) -> float | None:
    """Seconds to train every model as often as attackers do; None without a known speed.

    Args:
        found: Who trains on how many images.
        models: How many there are.
        tested: Images of the test split.
        rate: Training images a second.
        options: Draws and steps.
    """
    if rate is None:
        return None
    pairs = [work(attacker.name, tested, options) for attacker, _ in found]
    return models * sum(shown + read / FORWARD for shown, read in pairs) / rate


def work(attacker: str, tested: int, options: AuditOptions) -> tuple[int, int]:
    """Images that one attacker shows one model on one number of images, and those that it reads it on.

    >>> work("adam-100", 5000, AuditOptions()), work("adam-1000", 5000, AuditOptions())
    ((76800, 122160), (576000, 122160))
    """
    who = ATTACKERS.get(attacker, ADAM)
    count = _trainings_each(who, options)
    shown = count * who.times * options.tune_steps * BATCH
    looked = count if who.keeps == "best" else min(options.rated_draws, options.tune_draws) * len(who.rates)
    looks = looked * (options.tune_steps // ADAM.every) * HELD
    taught = DISTILLED * options.tune_draws * options.tune_steps * BATCH if who.anew == "network" else 0
    return shown + taught, looks + options.tune_draws * tested + taught


def _trainings_each(attacker: Attacker, options: AuditOptions) -> int:
    """Trainings of one model on one number of images: some draws at every rate, the others at the best."""
    rated = min(options.rated_draws, options.tune_draws)
    return rated * len(attacker.rates) + options.tune_draws - rated


def images_of_prediction(n: int, tested: int, options: AuditOptions) -> int:
    """Images that the tangent kernel reads one model on, to predict what n annotated images teach it.

    >>> images_of_prediction(256, 5000, AuditOptions())
    20304
    """
    return min(options.rated_draws, options.tune_draws) * round(FORWARD * n + 2 * min(tested, SCORED))


def images_of_stitches(probed: int, tested: int) -> int:
    """Images that one model and the original are read on, to stitch them at the end of every stage.

    >>> images_of_stitches(3000, 5000)
    48192
    """
    return STAGES * 2 * (min(probed, FITTED) + tested)


def annotated(target: Target, options: AuditOptions) -> dict[str, list[int]]:
    """Numbers of annotated images by which the full budget judges C4; none if the probe split has too few.

    >>> import numpy as np
    >>> annotated(np.repeat([1, 0], [138, 1160]).astype(np.int8), AuditOptions())
    {'few_sizes': [64, 256, 276], 'tune_sizes': [212]}
    """
    full = replace(options, budget="full")
    few = [n for n in few_sizes(target, full) if n >= options.few_judged]
    return {"few_sizes": few, "tune_sizes": list(tune_sizes(target, full))}


def annotated_line(found: Mapping[str, Sequence[int]]) -> str:
    """The same as a line for the terminal."""
    few, whole = (", ".join(f"{n:,}" for n in found[key]) for key in ("few_sizes", "tune_sizes"))
    if not whole:
        return "  C4 full: the probe split has too few annotated images to train the whole model"
    return f"  C4 full: relearnt from {few} annotated images by probes, {whole} by the whole model"


def attackers_plan(
    targets: Mapping[str, Target],
    models: int,
    images: tuple[int, int],
    rate: float | None,
    options: AuditOptions,
) -> list[Row]:
    """A row for every label and attacker that the options name, and what each takes.

    Args:
        targets: By label, annotations of the probe split.
        models: The original, the unlearned one and the retrained ones.
        images: Of the probe split and of the test split.
        rate: Training images a second; None: not recorded.
        options: The attackers, under a budget that judges C4.

    Returns:
        ``label``; ``attacker``, or ``curve``, ``positions``, ``stitched``, ``tangent`` or ``prototypes``;
        ``images``, the numbers of annotated images that it gets; ``trainings`` of all models; ``reads``,
        images that all models are read on if nothing is trained; and ``seconds``, None without a known speed.
        The full budget trains ``in_full`` of the trainings anyway.
    """
    rows = []
    for label, target in targets.items():
        wanted = trainings(options, target)
        in_budget = {(ADAM.name, n) for n in tune_sizes(target, options)}
        attacked = tune_sizes(target, options, options.attacked)
        for name in _names(options):
            if name == POSITIONS:  # at the stages, and at their cells
                rows.append(_read(label, name, [], 2 * models * sum(images), rate))
                continue
            if name == STITCHED:
                rows.append(_read(label, name, [], models * images_of_stitches(*images), rate))
                continue
            if name == PROTOTYPES:  # on features that the audit reads anyway
                rows.append(_read(label, name, list(IMAGES), 0, rate))
                continue
            if name == TANGENT:
                reads = models * sum(images_of_prediction(n, images[1], options) for n in attacked)
                rows.append(_read(label, name, list(attacked), reads, rate))
                continue
            mine = _trainings_of(name, wanted, attacked)
            each = {item: _trainings_each(item[0], options) * models for item in mine}
            rows.append(
                {
                    "label": label,
                    "attacker": name,
                    "images": sorted(n for _, n in mine),
                    "trainings": sum(each.values()),
                    "in_full": sum(many for (who, n), many in each.items() if (who.name, n) in in_budget),
                    "seconds": seconds_to_train(mine, models, images[1], rate, options),
                }
            )
    return rows


def _names(options: AuditOptions) -> list[str]:
    """Who is asked for, after the attacker whom the others are compared with."""
    beside = [ADAM.name] if any(name in ATTACKERS for name in options.asked) else []
    return [*beside, *options.asked]


def _trainings_of(name: str, wanted: Sequence[Training], attacked: Sequence[int]) -> list[Training]:
    """Of all trainings, those of one row: the curve has what the first attacker does not train anyway."""
    if name == CURVE:
        named = any(who.name != ADAM.name for who, _ in wanted)
        return [(who, n) for who, n in wanted if who == ADAM and not (named and n in attacked)]
    return [(who, n) for who, n in wanted if who.name == name and n in attacked]


def _read(label: str, name: str, images: list[int], reads: int, rate: float | None) -> Row:
    """What trains nothing: models are read, and the time is that of the reading alone."""
    return {
        "label": label,
        "attacker": name,
        "images": images,
        "trainings": 0,
        "in_full": 0,
        "reads": reads,
        "seconds": None if rate is None else reads / (FORWARD * rate),
    }


def attackers_lines(rows: Sequence[Row]) -> list[str]:
    """The rows as lines for the terminal."""
    text = [
        f"attackers beside C4, of all models{' and labels' if len({r['label'] for r in rows}) > 1 else ''}:"
    ]
    for row in rows:
        if row["attacker"] == STITCHED:
            what = f"{row['reads']:,} images read, nothing trained"
        elif row["attacker"] == POSITIONS:
            what = f"{row['reads']:,} images read at their stages"
        elif row["attacker"] == PROTOTYPES:
            what = "nothing read or trained beyond the audit"
        elif not row["images"]:
            what = "nothing: the probe split has too few annotated images"
        elif row["attacker"] == TANGENT:
            what = f"{row['reads']:,} images read, nothing trained"
        else:
            sizes = ", ".join(f"{n:,}" for n in row["images"])
            what = f"{row['trainings']:,} trainings on {sizes} annotated images"
            what += f", {row['in_full']:,} of them in the full budget anyway" if row["in_full"] else ""
        if row["seconds"]:
            what += f", about {duration(row['seconds'])}"
            what += " to read them, and the probes'" if row["attacker"] == POSITIONS else ""
        text.append(f"  {row['label']} {row['attacker']}: {what}")
    return text
