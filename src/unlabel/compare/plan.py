"""The same budget for every method: so many optimiser steps, and so many images through a network.

A budget of S steps allows ``S x batch size`` images. What a method reads besides its steps (scores, teachers,
noise) is paid from the same images, so it takes fewer steps: the most whose bill stays within both. The bill
of each method is written down here, and compared with what each cell really took.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlabel.compare.jobs import Job, resolved
from unlabel.core.errors import OptionError
from unlabel.forget.driver import DEFAULT_IMAGES
from unlabel.forget.feature_layer import LOOK
from unlabel.forget.methods import METHODS, find_method

LEAST = 1  # optimiser steps that a method takes where its scores alone use the budget up


@dataclass(frozen=True)
class Budget:
    """What every method may spend.

    Args:
        steps: Optimiser steps, >= 1.
        batch_size: Images in a step.
        images: Calibration images that are really there.
        labels: Labels to forget at once.
        guarded: Whether labels were forgotten earlier: repairs then read the images once more, to guard them.
    """

    steps: int
    batch_size: int
    images: int = DEFAULT_IMAGES
    labels: int = 1
    guarded: bool = False

    @property
    def processed(self) -> int:
        """Images that may go through a network."""
        return self.steps * self.batch_size


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Methods to compare, aliases resolved, each once; ``all`` is every one but `retrain`.

    Raises:
        OptionError: No such method, or none.

    Example:
        >>> chosen(["auto", "confusion", "ssd"])
        ('erasure', 'confusion', 'ssd')
    """
    if not names:
        raise OptionError("no method is named; expected --methods all, or some of `unlabel methods`")
    wanted = []
    for name in names:
        if name == "all":
            wanted += [entry.name for entry in METHODS.values() if not entry.alias_of]
        else:
            entry = find_method(name)
            wanted.append(entry.alias_of or entry.name)
    if "retrain" in wanted and "retrain" in names:
        raise OptionError(
            "retrain is what methods are compared with; name its runs with --reference, or make them with"
            " --make-references 3"
        )
    return tuple(dict.fromkeys(name for name in wanted if name != "retrain"))


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
    options = job.options
    if job.method == "scrub":
        rounds = options["rounds"]
        ascents = min(options["ascents"], rounds)
        whole = ascents * options["max_steps"] + rounds * options["min_steps"]
        most = max(1, steps * options["max_steps"] // whole)
        return {"max_steps": most, "min_steps": max(0, steps - ascents * most) // rounds}
    if job.method == "unsir":
        whole = options["impair_steps"] + options["repair_steps"]
        impair = max(1, steps * options["impair_steps"] // whole)
        return {"impair_steps": impair, "repair_steps": max(0, steps - impair)}
    if "steps" not in options:
        return {}
    return {"steps": max(LEAST, steps // options.get("iterations", 1))}


def bill(job: Job, budget: Budget) -> tuple[int, int]:
    """Optimiser steps and images that a job takes, before it is done.

    Of a plug-in: its steps, and the passes that its `Pipeline` names.

    Args:
        job: With every option named.
        budget: Batch size, images, and number of labels.
    """
    options, batch = job.options, budget.batch_size
    read = round(passes(job) * budget.images)
    if job.method == "scrub":
        pushes = min(options["ascents"], options["rounds"]) * options["max_steps"]
        steps = pushes + options["rounds"] * options["min_steps"]
        taught = steps if options["alpha"] > 0 else pushes
        read += options["rounds"] * budget.images if options["rewind"] else 0
        read += budget.images if budget.guarded else 0
        return steps, (steps + taught) * batch + read
    if job.method == "unsir":
        steps = options["impair_steps"] + options["repair_steps"]
        noise = 2 * options["noise"] * budget.labels * options["noise_steps"]
        read += budget.images if budget.guarded else 0
        return steps, (steps + options["impair_steps"]) * batch + noise + read
    if job.method == "bad-teacher":
        shown = options["steps"] * batch
        asked = min(shown, budget.images) if options["bad"] == "random_init" else 0
        guard = budget.images if budget.guarded else 0
        return options["steps"], 2 * shown + asked + guard
    if job.method == "erasure":
        return 0, budget.images + LOOK
    times = options.get("iterations", 1)
    steps = options.get("steps", 0) * times
    read += times * budget.images if budget.guarded and steps else 0
    return steps, steps * batch + read


def passes(job: Job) -> float:
    """Passes over the calibration images before the first step, as the method's pipeline names them."""
    if job.method in ("leace-head", "leace-layer"):
        return 1.0
    unlearner = find_method(job.method).load()(**job.options)
    once, times = getattr(unlearner, "once", unlearner), getattr(unlearner, "times", 1)
    return times * float(getattr(once, "passes", 0.0))


def overrun(cost: Mapping[str, Any], budget: Budget) -> str | None:
    """In what a finished cell went beyond the budget, in a sentence; None where it did not."""
    found = [
        f"{used:,} {what} where {allowed:,} are allowed"
        for what, used, allowed in (
            ("steps", cost["steps"], budget.steps),
            ("images", cost["images_processed"], budget.processed),
        )
        if used > allowed
    ]
    return " and ".join(found) or None
