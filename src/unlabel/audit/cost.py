"""What the references that an audit lacks would cost, from what training took on the record."""

import shlex
from collections.abc import Mapping
from math import ceil
from typing import Any

from unlabel.audit.setup import Case
from unlabel.core.recipe import Recipe

REFERENCES = 3  # from three on, C2 is not provisional


def reference_cost(case: Case, data: str | None) -> dict[str, Any]:
    """What three references would cost, as plain data.

    Args:
        case: The audit's runs and data.
        data: Another data source than the one the original remembers, for the command.

    Returns:
        ``count``; ``images`` and ``seconds`` of one reference (of one *pass* over the training images
        where the recipe is not recorded, then ``per`` is ``pass``), seconds None where nothing tells the
        speed; ``estimated_from``; ``command``; and all of it as a ``sentence`` without the command.
    """
    assert case.after is not None
    plan = case.original.record.get("blueprint")
    command = ["unlabel", "audit", str(case.after.path), "--before", str(case.original.path)]
    command += ["--data", data] if data else []
    command += ["--make-references", str(REFERENCES)]
    if plan:
        steps = Recipe(**plan["recipe"]).steps(len(case.source.train), plan["batch_size"])
        images = steps * plan["batch_size"]
    else:
        images = len(case.source.train)
    rate, basis = speed(case)
    seconds = images / rate if rate else None
    each = f"about {images:,} images {'each' if plan else 'a pass'}"
    if seconds is not None:
        each += f", about {duration(seconds)} {'each' if plan else 'a pass'} (estimated from {basis})"
    sentence = f"{REFERENCES} references would take {each}"
    if not plan:
        sentence += "; the original's recipe is not recorded, so name the passes and the learning rate"
    return {
        "count": REFERENCES,
        "images": images,
        "seconds": seconds,
        "per": "reference" if plan else "pass",
        "estimated_from": basis,
        "sentence": sentence,
        "command": shlex.join(command) + ("" if plan else " --epochs EPOCHS --lr LR"),
    }


def reference_seconds(case: Case) -> tuple[float | None, float | None, str | None]:
    """Seconds of one reference, training images a second, and whose: None where the record does not tell."""
    plan = case.original.record.get("blueprint")
    rate, basis = speed(case)
    if not plan or not rate:
        return None, rate, basis
    steps = Recipe(**plan["recipe"]).steps(len(case.source.train), plan["batch_size"])
    return steps * plan["batch_size"] / rate, rate, basis


def speed(case: Case) -> tuple[float | None, str | None]:
    """Training images a second on the record, and whose: the original's training, or the forgetting's."""
    later: Mapping[str, Any] = case.after.record if case.after else {}
    sources: tuple[tuple[Mapping[str, Any], str, str], ...] = (
        (case.original.record, "train", "the original's training"),
        (later, "repair", "the forgetting's repair"),
        (later, "train", "the forgetting's training"),
    )
    for record, stage, whose in sources:
        images, seconds = record.get("images_processed"), (record.get("seconds") or {}).get(stage)
        if images and seconds:
            return images / seconds, f"{whose} on {record.get('device', 'its machine')}"
    return None, None


def duration(seconds: float) -> str:
    """A time to expect, never nothing.

    >>> duration(0.2), duration(61), duration(1500), duration(20000)
    ('1 s', '61 s', '25 min', '5.6 h')
    """
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
