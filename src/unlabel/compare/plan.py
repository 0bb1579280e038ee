"""The same budget for every method: so many optimiser steps, and so many images through a network.

A budget of S steps allows ``S x batch size`` images. What a method reads besides its steps (scores, teachers,
noise) is paid from the same images, so it takes fewer steps: the most whose bill stays within both. Each
method brings its bill (`forget.bill`), which is compared with what each cell really took.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from unlabel.compare.jobs import Job, resolved
from unlabel.core.errors import OptionError
from unlabel.forget.bill import LEAST, Bill, Budget
from unlabel.forget.methods import find_method, methods


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Methods to compare, aliases resolved, each once; ``all`` is every one but `retrain`.

    Raises:
        OptionError: No such method, or none.

    Example:
        >>> chosen(["auto", "confusion", "ssd"])
        ('deep-probes', 'confusion', 'ssd')
    """
    if not names:
        raise OptionError("no method is named; expected --methods all, or some of `unlabel methods`")
    wanted: dict[str, None] = {}
    for name in names:
        if name == "all":
            wanted |= {
                entry.name: None for entry in methods().values() if not (entry.alias_of or entry.reference)
            }
            continue
        entry = find_method(name)
        if entry.reference:
            raise OptionError(
                f"{name} is what methods are compared with; name its runs with --reference, or make them with"
                " --make-references 3"
            )
        wanted[entry.alias_of or entry.name] = None
    return tuple(wanted)


def asked(names: Sequence[str]) -> dict[str, str]:
    """By method, the name that a user gave where it stands for that method.

    >>> asked(["auto", "ssd"])
    {'deep-probes': 'auto'}
    """
    entries = [find_method(name) for name in names if name != "all"]
    return {entry.alias_of: entry.name for entry in entries if entry.alias_of}


def spend(job: Job, budget: Budget) -> Job:
    """The job with the most steps whose bill is within the budget; one step where none is.

    A method that takes no steps is left as it is.
    """
    job = resolved(job)
    if not sized(job, 1):
        return job
    low, high = LEAST, max(budget.steps, LEAST)
    while low < high:
        middle = (low + high + 1) // 2
        steps, images = bill(with_steps(job, middle), budget)
        if steps <= budget.steps and images <= budget.processed:
            low = middle
        else:
            high = middle - 1
    return resolved(with_steps(job, low))


def with_steps(job: Job, steps: int) -> Job:
    """The job, its options set to so many optimiser steps in all."""
    return Job(job.method, {**job.options, **sized(job, steps)}, job.seed, job.images)


def sized(job: Job, steps: int) -> dict[str, Any]:
    """The options that make a method take so many steps in all; none where it takes no steps.

    Phases keep the proportions that their options have.
    """
    return find_method(job.method).sized(job.options, steps)


def bill(job: Job, budget: Budget) -> Bill:
    """Optimiser steps and images that a job takes, before it is done.

    Args:
        job: With every option named.
        budget: Batch size, images, and number of labels.
    """
    return find_method(job.method).costs(job.options, budget)


def overrun(cost: Mapping[str, Any], budget: Budget) -> str | None:
    """In what a finished cell went beyond the budget, in a sentence; None where it did not."""
    excesses = [
        f"{used:,} {what} where {allowed:,} are allowed"
        for what, used, allowed in (
            ("steps", cost["steps"], budget.steps),
            ("images", cost["images_processed"], budget.processed),
        )
        if used > allowed
    ]
    return " and ".join(excesses) or None
