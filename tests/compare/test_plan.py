"""The budget: what each method of the catalogue really takes is what was planned, and within it."""

import pytest

from unlabel.compare.jobs import Job, resolved
from unlabel.compare.plan import bill, chosen, overrun, sized, spend
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.forget.bill import Budget
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import METHODS
from unlabel.testing import tiny_world

NAMES = [entry.name for entry in METHODS.values() if not entry.alias_of and entry.name != "retrain"]
CHEAP = {"unsir": {"noise": 2, "noise_steps": 2}, "scrub": {"rewind": True}}


def taken(job: Job, budget: Budget, labels: tuple[str, ...], forgotten: tuple[str, ...]) -> tuple[int, int]:
    world = tiny_world(images=256)
    run = engine.start(accelerator="cpu", batch_size=budget.batch_size)
    outcome = forget_labels(
        world.model, labels, world.data, method=job.method, images=job.images, forgotten=forgotten, run=run,
        **job.options,
    )  # fmt: skip
    return outcome.history.steps, outcome.images_processed


@pytest.mark.parametrize("request_", [(("top",), ()), (("bottom", "top"), ()), (("bottom",), ("top",))])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_to_the_budget_and_its_bill_is_known(name, request_) -> None:
    labels, forgotten = request_
    budget = Budget(40, 16, images=64, labels=len(labels), guarded=bool(forgotten))
    job = spend(Job(name, CHEAP.get(name, {}), images=64), budget)
    steps, images = taken(job, budget, labels, forgotten)
    assert (steps, images) == bill(job, budget)
    assert steps <= 40
    assert images <= 640
    assert overrun({"steps": steps, "images_processed": images}, budget) is None
    if sized(job, 1):  # and one more step would be too many, up to the grain of its phases
        assert images > 640 - 9 * 16 or steps > 36


def test_a_method_without_steps_uses_what_it_uses() -> None:
    for name in ("head-removal", "leace-head", "ssd"):
        assert spend(Job(name), Budget(7, 16)) == resolved(Job(name))


def test_scores_that_use_the_budget_up_leave_one_step_and_are_told() -> None:
    budget = Budget(5, 16, images=128)
    job = spend(Job("weight-filtering", images=128), budget)
    assert job.options["steps"] == 1
    steps, images = taken(job, budget, ("top",), ())
    told = overrun({"steps": steps, "images_processed": images}, budget)
    assert told == f"{images:,} images where 80 are allowed"


def test_phases_keep_their_proportions() -> None:
    job = spend(Job("scrub", {"alpha": 0.0}), Budget(240, 16))
    assert (job.options["max_steps"], job.options["min_steps"]) == (13, 40)
    job = spend(Job("unsir", {"noise_steps": 0}), Budget(96, 16))
    assert job.options["repair_steps"] / job.options["impair_steps"] == pytest.approx(2, abs=0.1)
    job = spend(Job("weight-pruning", {"iterations": 2}, images=64), Budget(40, 16, images=64))
    assert bill(job, Budget(40, 16, images=64)) == (32, 640)
    assert job.options["steps"] == 16


def test_all_is_every_method_but_retrain() -> None:
    assert list(chosen(["all"])) == NAMES
    assert chosen(["ssd", "all"])[0] == "ssd"
    assert len(chosen(["ssd", "all"])) == len(NAMES)


@pytest.mark.parametrize(
    ("names", "says"),
    [((), "no method is named"), (("retrain",), "name its runs with --reference"), (("sdd",), "Close: ssd")],
)
def test_a_wrong_choice_is_refused(names, says) -> None:
    with pytest.raises(OptionError, match=says):
        chosen(names)
