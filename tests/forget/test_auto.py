from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged, EmptySelection, MethodError, OptionError
from unlabel.core.progress import Silent
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget import self_check
from unlabel.forget.adversary import Adversary
from unlabel.forget.driver import forget_labels
from unlabel.forget.given import FEW
from unlabel.forget.methods import auto as room
from unlabel.forget.methods.auto import Attempt, _kept, auto
from unlabel.forget.methods.deep_probes import DeepProbes
from unlabel.forget.pipeline import Work
from unlabel.forget.residual import Residuals, retained_logits
from unlabel.forget.retained import Retained, warning
from unlabel.forget.run import forget_run
from unlabel.forget.self_check import (
    APART,
    SLIGHT,
    Finding,
    Look,
    SelfCheck,
    allowance,
    instead_of,
    label_told,
    little,
    rows_of,
    sentence_of,
    set_aside,
    shares_of,
    slight,
    unchecked,
)
from unlabel.models.sites import find_sites
from unlabel.runs.files import read_record
from unlabel.statistics.estimate import Estimate
from unlabel.testing import differing, tiny_world
from unlabel.testing.passes import count_passes


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of 20 steps, so that the tests are about what follows."""
    monkeypatch.setattr(room, "deep_probes", lambda: DeepProbes(0.15, 0.03, 20, 0.1))


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


@pytest.mark.parametrize(
    ("against", "method", "sites"),
    [
        ("outputs", "erasure", {"outputs"}),  # leace-head falls short here
        ("features", "erasure", {"features", "outputs"}),
        ("weights", "deep-probes", {"grid1", "stage1", "features", "outputs"}),
    ],
)
def test_whom_the_model_is_given_to_decides_the_method_and_what_is_checked(
    against: str, method: str, sites: set[str]
) -> None:
    world = tiny_world(images=1024)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", against=against)
    assert outcome.method == method
    assert outcome.options["against"] == against
    assert outcome.self_check is not None
    assert {row["site"] for row in outcome.self_check["sites"]} == sites
    assert outcome.self_check["n"] == 64


def test_if_the_head_alone_is_not_enough_the_layer_before_it_is_erased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = tiny_world(images=1024)
    for script, method in (
        ([checked(0.05)], "leace-head"),
        ([checked(0.4), checked(0.05)], "erasure"),
        ([checked(0.05, 0.05), checked(0.05)], "erasure"),
        ([checked(0.3), checked(0.4), checked(0.4), checked(0.4)], "leace-head"),
    ):
        verdicts = list(script)
        monkeypatch.setattr(room, "check", lambda *_, verdicts=verdicts, **__: verdicts.pop(0))
        outcome = forget_labels(world.model, ["top"], world.data, method="auto", against="outputs")
        assert outcome.method == method
        assert verdicts == []


def test_costs_are_told_of_the_attempt_that_is_kept_and_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = tiny_world(images=1024)
    for script, method in (
        ([checked(0.05)], "leace-head"),
        ([checked(0.4), checked(0.05)], "erasure"),
        ([checked(0.3), checked(0.4), checked(0.4), checked(0.4)], "leace-head"),
    ):
        verdicts, heard = list(script), Heard()
        monkeypatch.setattr(room, "check", lambda *_, verdicts=verdicts, **__: verdicts.pop(0))
        run = engine.start(accelerator="cpu", log=heard)
        outcome = forget_labels(world.model, ["top"], world.data, method="auto", against="outputs", run=run)
        assert outcome.method == method
        told = [line for line in heard.lines if line.startswith(("cost: ", "scope: "))]
        assert len(told) == (3 if method == "leace-head" else 0)
        assert ("scope" in outcome.options) is (method == "leace-head")


def row(site: str, before: float, after: float, error: float = 0.0, floor: float = 0.0) -> Finding:
    return Finding(site, "striped", before, after, error, floor)


@pytest.mark.parametrize(
    ("findings", "against", "said"),
    [
        (
            [row("grid4", 0.86, 0.3, floor=0.05), row("stage1", 0.2, 0.01)],
            "weights",
            "reached; of what the other labels do not tell of striped, the closest probe (stage1) tells"
            " 0.01 of 0.08 allowed (0.20 before), on 4 training images held back",
        ),
        (
            [row("grid4", -0.01, -0.02)],
            "weights",
            "the closest probe (grid4) tells 0.00 of 0.05 allowed (0.00 before)",
        ),
        (
            [row("stage2", 0.5, 0.22, 0.05)],
            "weights",
            "cannot tell; of what the other labels do not tell of striped, the probe at stage2 tells 0.22"
            " where 0.20 is allowed (0.50 before), and 4 training images held back cannot tell that from"
            " chance",
        ),
        (
            [row("stage2", 0.5, 0.204, 0.05)],  # no more, as far as it is printed
            "weights",
            "the closest probe (stage2) tells 0.20 of 0.20 allowed (0.50 before)",
        ),
        (
            [row("stage2", 0.5, 0.3)],
            "weights",
            "NOT reached at stage2; of what the other labels do not tell of striped, the probe at stage2"
            " tells 0.30 where 0.20 is allowed (0.50 before), on 4 training images held back; to see what is"
            " left: audit the run at --budget full; with more --images, less may be left",
        ),
        (
            [row("stage2", 0.5, 0.3)],
            "features",
            "(0.50 before), on 4 training images held back; to go further: --against weights",
        ),
    ],
)
def test_the_sentence_shows_what_is_allowed_where_least_room_is_left(
    findings: list[Finding], against: str, said: str
) -> None:
    record = replace(checked(0.0), findings=tuple(findings), against=against).to_json()  # type: ignore[arg-type]
    assert sentence_of(record).startswith(f"self-check against {against}: ")
    assert sentence_of(record).endswith(said) or (f"{said}, on" in sentence_of(record))


@pytest.mark.parametrize(
    ("against", "after", "instead"),
    [
        ("features", 0.4, "--against weights"),
        ("outputs", 0.4, "--against weights"),
        ("weights", 0.4, "another method, such as head-removal, which leaves the features as they are"),
        ("features", 0.1, "another method or milder options"),
    ],
)
def test_after_a_weaker_protection_that_falls_short_the_stronger_one_is_named(
    against: str, after: float, instead: str
) -> None:
    record = replace(checked(after), against=against).to_json()  # type: ignore[arg-type]
    assert instead_of(record) == instead
    lost = {"loss": {"value": 0.03, "low": 0.01, "high": 0.05}, "n": 25}
    assert str(warning(lost, instead_of(record))).endswith(f"or try {instead}")


def test_without_a_check_no_protection_is_named() -> None:
    assert instead_of(None) == "another method or milder options"
    assert instead_of(unchecked("features")) == "another method or milder options"


def test_without_options_the_weights_are_protected() -> None:
    assert auto() == auto(against="weights")


def test_on_few_images_little_of_a_target_is_its_annotation() -> None:
    """No check, so one training is all: 3 steps are 5.25 passes over 32 images, and 9 are 3 / .35."""
    world = tiny_world(images=64)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto")
    assert outcome.history.steps == outcome.options["steps"] == 9
    assert outcome.options["annotated"] == 0.35
    assert outcome.images_used == 32


@pytest.mark.parametrize(
    ("images", "epochs", "trained"),
    [
        (1024, 0, [20, 10, 7, 20]),
        (1024, 100, [20, 10, 10, 20]),
        (664, 0, [20, 20]),
        (256, 0, [20]),
        (64, 0, [9]),
    ],
)
def test_trainings_on_annotations_are_few_passes_or_three_tenths_of_the_originals(
    images: int, epochs: int, trained: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check asks for more each time."""
    world, lengths = tiny_world(images=images), []
    whole = DeepProbes.train
    monkeypatch.setattr(
        DeepProbes, "train", lambda self, *rest: lengths.append(self.steps) or whole(self, *rest)
    )
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(0.4))
    shown = epochs * len(world.data)
    outcome = forget_labels(world.model, ["top"], world.data, "auto", run=run, images_trained=shown)
    assert lengths == trained
    assert outcome.options["images_trained"] == shown


@pytest.mark.parametrize(("hardly", "annotated", "exclusive"), [(1, 0.0, 0), (0, 0.35, 0), (0, 1.0, 1)])
def test_on_few_images_a_training_is_as_long_and_annotations_are_a_part_of_each_target(
    hardly: bool, annotated: float, exclusive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 256 images, annotations alone may be trained on for 10 of the 20 steps."""
    monkeypatch.setattr(room, "little", lambda shares, allowed: bool(hardly))
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(0.05))
    monkeypatch.setattr(room, "label_told", lambda *_: 0.3)
    world, heard = tiny_world(images=256), Heard()
    classes = np.eye(3, dtype=np.int8)[np.arange(256) % 3]
    data = replace(world.data, exclusive=True, target=classes) if exclusive else world.data
    run = engine.start(accelerator="cpu", log=heard)
    outcome = forget_labels(world.model, ["top"], data, "auto", run=run)
    assert (outcome.method, outcome.options["annotated"]) == ("deep-probes", annotated)
    assert outcome.options["steps"] == (10 if exclusive else 20)
    few = any("images are few: 65% of each target is what the original" in line for line in heard.lines)
    assert few is (annotated == 0.35)


def test_the_record_names_every_training_that_the_model_went_through(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [checked(0.4), checked(0.05)]
    monkeypatch.setattr(room, "check", lambda *_, **__: checks.pop(0))
    world = tiny_world(images=1024)
    options = forget_labels(world.model, ["top"], world.data, "auto", run=run).options
    assert (options["steps"], options["lr"], options["pressure"]) == (30, 0.1, 0.03)
    assert options["trainings"] == [
        {"steps": 20, "lr": 0.1, "pressure": 0.03},
        {"steps": 10, "lr": 0.025, "pressure": 0.03},
    ]


def test_a_run_tells_how_long_its_original_was_trained(base: Path, tmp_path: Path, run: Run) -> None:
    given = {"max_loss": 1.0, "images_trained": 0}  # as the command line gives it
    record = forget_run("auto", base, ["top"], tmp_path / "less", run, **given)
    assert record["options"]["images_trained"] == read_record(base).images_processed > 0


def test_an_unknown_protection_is_refused_with_a_suggestion() -> None:
    with pytest.raises(
        OptionError, match=r"--against is 'wieghts'; expected outputs, features or weights\..*weights"
    ):
        auto(against="wieghts")  # type: ignore[arg-type]


def test_images_of_the_check_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other annotations of the images that are set aside change the check, and not one weight."""
    world = tiny_world(images=1024)
    request = Request.make(["top"], world.labels)
    used, held = set_aside(world.data, request, 0)
    assert held is not None
    assert not set(used.rows) & set(held.rows)
    monkeypatch.setattr(room, "FURTHER", 0)
    models, found = [], []
    for change in (False, True):
        data = replace(world.data, target=world.data.target.copy())
        if change:
            rows = np.flatnonzero(np.isin(data.rows, held.rows))
            data.target[rows, 2] = data.target[rows[::-1], 2]
        outcome = forget_labels(world.model, ["top"], data, method="auto")
        models.append(outcome.model)
        found.append(outcome.self_check)
    assert found[0] != found[1]
    # the residual is a regression on all images: it moves a little with the annotations of a few
    assert differing(models[0], models[1])


def test_too_few_images_of_a_kind_are_told_and_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = tiny_world(images=64)
    monkeypatch.setattr(self_check, "LEAST", 9)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto")
    assert outcome.self_check is not None
    assert outcome.self_check["reached"] is None
    assert outcome.self_check["n"] == 0
    assert "not made" in sentence_of(outcome.self_check)


def checked(after: float, loss: float = 0.0, site: str = "stage1") -> SelfCheck:
    found = Finding(site, "top", 0.5, after, 0.01, 0.0)
    before, now = (Estimate(value, np.zeros(4), np.arange(4), np.arange(4)) for value in (0.9, 0.9 - loss))
    return SelfCheck("weights", (found,), Retained(("middle",), 4, True, before, now), 4, 8)


@pytest.mark.parametrize(
    ("loss", "spread", "spent"), [(0.04, 0.02, False), (0.04, 0.001, True), (0.029, 0, False)]
)
def test_harm_is_a_loss_past_the_most_for_certain(loss: float, spread: float, spent: bool) -> None:
    found = checked(0.1, loss)
    assert found.retained.before is not None
    noisy = replace(
        found.retained.before, influence=spread / 2 * np.array([1, -1, 1, -1]), used=np.ones(4, bool)
    )
    assert replace(found, retained=replace(found.retained, before=noisy)).spent is spent


def test_what_all_sites_tell_beyond_their_aims_counts_and_not_the_worst_alone() -> None:
    def attempt(*told: float) -> Attempt:
        findings = tuple(
            Finding(f"stage{number}", "top", 0.5, each, 0.0, 0.0) for number, each in enumerate(told)
        )
        return Attempt(Work(tiny_world().model), replace(checked(0.0), findings=findings))

    several, one = attempt(0.23, 0.23, 0.23), attempt(0.24, 0.19, 0.1)  # the aim is .2
    assert min([several, one], key=lambda item: item.rank) is one
    assert one.rank == (False, pytest.approx(0.04))


def test_the_aim_is_a_part_of_the_excess_or_little_but_for_chance_and_less_at_the_end() -> None:
    assert Finding("grid3", "top", 0.35, 0.2, 0.0, 0.1).aim == pytest.approx(0.2)
    assert Finding("features", "top", 0.5, 0.2, 0.0, 0.1).aim == pytest.approx(0.2)
    assert Finding("outputs", "top", 0.9, 0.2, 0.0, 0.1).aim == pytest.approx(0.3)
    assert not Finding("stage1", "top", 0.35, 0.21, 0.0, 0.1).reached
    assert Finding("stage1", "top", 0.35, 0.21, 0.01, 0.1).reached is None  # the images cannot tell
    assert not Finding("stage1", "top", 0.35, 0.21, 0.01, 0.1).missed
    assert Finding("stage1", "top", 0.35, 0.22, 0.01, 0.1).missed
    assert Finding("stage1", "top", 0.02, 0.05, 0.0, 0.0).reached


def test_a_label_of_an_earlier_request_must_not_come_back_and_need_not_go_further() -> None:
    earlier = Finding("stage1", "top", 0.15, 0.15, 0.0, 0.0, earlier=True)
    assert earlier.aim == 0.15
    assert earlier.reached
    assert replace(earlier, after=0.2).missed
    assert replace(earlier, earlier=False).missed


def test_what_too_few_images_show_is_not_reached_and_not_missed() -> None:
    blind = Finding("stage1", "rare", float("nan"), float("nan"), float("nan"), 0.0)
    found = replace(checked(0.05), findings=(*checked(0.05).findings, blind))
    record = found.to_json()
    assert record["reached"] is None
    assert not found.missed
    assert record["sites"][1] == {**dict.fromkeys(record["sites"][1]), "site": "stage1", "label": "rare"}
    assert sentence_of(record).endswith("cannot tell; too few images held back show both kinds of rare")
    unseen = {"stage1": (torch.tensor([0.0, torch.nan]), torch.zeros(2))}
    assert not slight(unseen, torch.tensor([SLIGHT, SLIGHT]))
    assert not little(unseen, torch.tensor([SLIGHT, SLIGHT]))


def test_a_rare_label_leaves_the_retained_ones_measured(run: Run) -> None:
    world = tiny_world(images=1024)
    target = world.data.target.copy()
    target[:, 0] = 0
    target[:12, 0] = 1
    data = replace(world.data, target=target)
    used, held = set_aside(data, Request.make(["top"], world.labels), 0)
    assert held is not None
    assert len(used) + len(held) == len(data)


def test_a_training_is_not_dropped_for_a_label_that_too_few_images_show(run: Run) -> None:
    """What was not measured is no reason to say that probes find more, or that sites tell too much."""
    world = tiny_world(images=256)
    target = world.data.target.copy()
    target[:, 0] = 0
    target[:12, 0] = 1
    outcome = forget_labels(world.model, ["top"], replace(world.data, target=target), "auto", run=run)
    assert outcome.method == "deep-probes"
    assert outcome.self_check is not None
    assert outcome.self_check["label_told"] == {"before": None, "after": None}
    assert "cannot tell" in sentence_of(outcome.self_check)


def test_of_a_class_more_may_be_left_as_retrain_learns_what_belongs_to_no_other_class() -> None:
    assert Finding("grid3", "top", 0.4, 0.2, 0.0, 0.1, of_class=True).aim == pytest.approx(0.31)
    assert Finding("features", "top", 0.5, 0.2, 0.0, 0.1, of_class=True).aim == pytest.approx(0.3)
    assert Finding("stage1", "top", 0.02, 0.05, 0.0, 0.0, of_class=True).aim == pytest.approx(0.05)


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_check_knows_whether_labels_are_classes(exclusive: bool, run: Run) -> None:
    world = tiny_world(images=1024)
    data, request = replace(world.data, exclusive=exclusive), Request.make(["top"], world.labels)
    used, held = set_aside(data, request, 0)
    assert held is not None
    sites = find_sites(world.model, len(world.labels), batch_of(data, range(4), run.device).image)
    logits = retained_logits(world.model, request, data, run)
    told = Residuals.of(logits, request, data, run, 0.5)
    look = Look.of("weights", sites, told, (used, held), request, 0)
    model = world.model.eval()
    read = model, shares_of(rows_of(model, look, run), look, run)
    found = self_check.check(read, read, look, request, run, {})
    assert [item.of_class for item in found.findings] == [exclusive] * len(look.sites)


def test_without_harm_comes_before_forgetting_more() -> None:
    model = tiny_world().model
    attempts = [
        Attempt(Work(model), checked(after, loss)) for after, loss in ((0.05, 0.05), (0.3, 0.0), (0.2, 0.001))
    ]
    assert min(attempts, key=lambda attempt: attempt.rank) is attempts[2]
    assert not attempts[0].done
    assert Attempt(Work(model), checked(0.1)).done
    assert Attempt(Work(model), None).done


def test_a_training_that_falls_short_goes_on_and_one_that_harms_begins_again_gently(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """What is tried follows from what the check says; all that is tried is on the bill."""
    world = tiny_world(images=2048)
    verdicts: list[SelfCheck] = []
    lengths: list[tuple[int, float]] = []

    def say(*_: object, **__: object) -> SelfCheck:
        return verdicts.pop(0)

    plain = DeepProbes.train

    def note(self: DeepProbes, *given: object) -> object:
        lengths.append((self.steps, self.lr))
        return plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "check", say)
    monkeypatch.setattr(DeepProbes, "train", note)
    for script, expected in (
        ([checked(0.05)], [(20, 0.1)]),
        ([checked(0.3), checked(0.05)], [(20, 0.1), (10, 0.025)]),
        ([checked(0.4), checked(0.3), checked(0.05)], [(20, 0.1), (10, 0.025), (10, 0.025)]),
        (
            [checked(0.4), checked(0.3), checked(0.25), checked(0.05)],
            [(20, 0.1), (10, 0.025), (10, 0.025), (20, 0.1)],
        ),
        ([checked(0.05, 0.05), checked(0.05, 0.0)], [(20, 0.1), (20, 0.025)]),
    ):
        verdicts[:], lengths[:] = script, []
        outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
        assert lengths == expected
        assert verdicts == []
        assert outcome.history.steps == sum(steps for steps, _ in expected)
        assert outcome.self_check is not None
        assert outcome.self_check["attempts"] == len(expected)


@pytest.mark.parametrize(
    ("after", "loss", "kept"), [(0.05, 0.003, True), (0.05, 0.008, False), (0.25, 0.0, False)]
)
def test_without_steps_left_a_harder_training_counts_if_it_succeeds_and_the_retained_labels_hardly_pay(
    after: float, loss: float, kept: bool, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    verdicts = [checked(0.3), checked(after, loss)]
    monkeypatch.setattr(room, "check", lambda *_, **__: verdicts.pop(0))
    monkeypatch.setattr(room, "FURTHER", 0)
    pressures, plain = [], DeepProbes.train

    def note(self: DeepProbes, model: object, adversary: Adversary, *given: object) -> object:
        pressures.append((self.pressure, adversary.pressure))
        return plain(self, model, adversary, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DeepProbes, "train", note)
    world = tiny_world(images=1024)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    first, harder = pressures
    assert harder == (2 * first[0], 2 * first[1])
    assert outcome.options["pressure"] == (harder if kept else first)[0]
    assert outcome.self_check is not None
    assert outcome.self_check["attempts"] == 2
    assert verdicts == []


@pytest.mark.parametrize(
    ("erased", "losses", "strengths", "kept"),
    [
        ([0.1], [0.004], [0.5], 0.5),
        ([0.3, 0.1], [0.004] * 2, [0.5, 1.0], 1.0),
        ([0.3, 0.28, 0.26], [0.0] * 3, [0.5, 1.0, 2.0], 2.0),  # better than nothing, though not enough
        ([0.1, 0.1], [0.008] * 2, [0.5, 0.05], None),  # the retained labels pay too much
        ([0.05, 0.1], [0.008, 0.002], [0.5, 0.05], 0.05),  # a milder one costs less
        ([0.3, 0.1], [0.004, 0.008], [0.5, 1.0], 0.5),  # what costs too much is no choice
    ],
)
def test_what_the_training_leaves_at_the_last_features_is_erased_there(
    erased: list[float],
    losses: list[float],
    strengths: list[float],
    kept: float | None,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    trained = [checked(0.37, site="features")]
    read = (checked(after, loss, "features") for after, loss in zip(erased, losses, strict=True))
    verdicts = [*trained, *read, checked(0.35)]
    monkeypatch.setattr(room, "check", lambda *_, **__: verdicts.pop(0))
    monkeypatch.setattr(room, "_from_original", lambda case, adversary, attempts: attempts)  # tested below
    monkeypatch.setattr(room, "FURTHER", 0)
    tried, plain, trained_alone = [], room.erasure, []
    monkeypatch.setattr(room, "erasure", lambda strength: tried.append(strength) or plain(strength=strength))
    whole = DeepProbes.train

    def note(self: DeepProbes, model: nn.Module, *given: object) -> object:
        history = whole(self, model, *given)  # type: ignore[arg-type]
        trained_alone.append({name: value.clone() for name, value in model.state_dict().items()})
        return history

    monkeypatch.setattr(DeepProbes, "train", note)
    outcome = forget_labels(tiny_world().model, ["top"], tiny_world().data, method="auto", run=run)
    assert tried == strengths
    assert outcome.options.get("erasure_strength") == kept
    changed = set(differing(outcome.model, trained_alone[0]))
    head = {name for name in changed if name.startswith(str(len(list(outcome.model)) - 1))}  # type: ignore[arg-type]
    assert (changed > head) is (kept is not None)  # a layer before the head, too
    assert outcome.method == "deep-probes"


def test_after_a_training_that_did_harm_none_is_begun_at_more_pressure(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    verdicts = [checked(0.4), checked(0.3, 0.05)]  # the further one harms; the first is kept
    monkeypatch.setattr(room, "check", lambda *_, **__: verdicts.pop(0))
    world = tiny_world(images=2048)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert verdicts == []
    assert outcome.self_check is not None
    assert (outcome.self_check["attempts"], outcome.options["pressure"]) == (2, 0.03)


def test_an_erasure_that_is_not_possible_leaves_what_was_trained(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    verdicts = [checked(0.37, site="features"), checked(0.45)]
    monkeypatch.setattr(room, "check", lambda *_, **__: verdicts.pop(0))
    monkeypatch.setattr(room, "FURTHER", 0)

    def refuse(**_: object) -> object:
        def unlearner(*_: object) -> Work:
            raise MethodError("one feature a channel")

        return unlearner

    monkeypatch.setattr(room, "erasure", refuse)
    world = tiny_world(images=1024)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert outcome.self_check is not None
    assert outcome.self_check["attempts"] == 2  # the training, and the harder one
    assert "erasure_strength" not in outcome.options


def test_a_training_that_diverges_is_begun_again_gently(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    plain, rates = DeepProbes.train, []

    def fragile(self: DeepProbes, *given: object) -> object:
        rates.append(self.lr)
        if self.lr > 0.05:
            raise Diverged("the loss became nan at step 1 of 20")
        return plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DeepProbes, "train", fragile)
    monkeypatch.setattr(room, "FURTHER", 0)
    outcome = forget_labels(tiny_world().model, ["top"], tiny_world().data, method="auto", run=run)
    assert rates == [0.1, 0.025]
    assert outcome.options["lr"] == 0.025
    monkeypatch.setattr(room, "GENTLER", 1.0)  # both diverge
    outcome = forget_labels(tiny_world().model, ["top"], tiny_world().data, method="auto", run=run)
    assert outcome.method in ("erasure", "head-removal")


def test_an_attempt_that_may_still_be_chosen_keeps_its_network(run: Run) -> None:
    """An erasure afterwards makes the dearest no choice; then the first is the best."""
    original = tiny_world().model
    attempts: list[Attempt] = []
    for after, loss in ((0.475, 0.0), (0.325, 0.026), (0.345, 0.027), (0.4, 0.001)):
        attempts = _kept([*attempts, Attempt(Work(tiny_world().model), checked(after, loss))], original)
    assert [attempt.work.model is original for attempt in attempts] == [False, False, True, False]


@pytest.mark.parametrize("where", ["further", "harder"])
@pytest.mark.parametrize("error", [Diverged("the loss became nan"), MethodError("outputs are NaN")])
def test_a_later_training_that_fails_leaves_what_was_trained_before(
    where: str, error: MethodError, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    calls, plain = [], DeepProbes.train

    def fragile(self: DeepProbes, *given: object) -> object:
        calls.append(self)
        if len(calls) > 1:
            raise error
        return plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DeepProbes, "train", fragile)
    monkeypatch.setattr(room, "FURTHER", 1 if where == "further" else 0)
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(0.3))
    world = tiny_world(images=1024)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert len(calls) > 1
    assert outcome.self_check is not None
    assert outcome.self_check["attempts"] == 1
    assert outcome.method == "deep-probes"


@pytest.mark.parametrize("against", ["outputs", "features", "weights"])
def test_a_label_whose_opposite_is_retained_has_its_output_removed_and_nothing_else(
    against: str, run: Run
) -> None:
    """Whoever tells one tells the other, so nothing is to be pushed out."""
    world = tiny_world(images=1024)
    target = np.c_[world.data.target, 1 - world.data.target[:, 0]]
    data = replace(world.data, target=target, labels=(*world.data.labels, "not top"))
    model = nn.Sequential(*list(world.model)[:-1], nn.Linear(world.model[-1].in_features, 4)).eval()
    with torch.no_grad():
        model[-1].weight[:3], model[-1].bias[:3] = world.model[-1].weight, world.model[-1].bias
        model[-1].weight[3], model[-1].bias[3] = -world.model[-1].weight[0], -world.model[-1].bias[0]
    outcome = forget_labels(model, ["not top"], data, method="auto", run=run, against=against)
    assert outcome.method == "head-removal"
    assert {name.rpartition(".")[0] for name in differing(outcome.model, model)} == {f"{len(model) - 1}"}
    request = Request.make(["not top"], data.labels)
    logits = retained_logits(model, request, data, run)
    assert not Residuals.of(logits, request, data, run, 0.5).values.any()


def test_the_bill_counts_the_check_and_every_attempt() -> None:
    world = tiny_world(images=1024)
    for against in ("outputs", "features", "weights"):
        with count_passes(3) as seen:
            outcome = forget_labels(world.model, ["top"], world.data, method="auto", against=against)
        looked = 2 * outcome.retained.images if outcome.retained.loss else 0
        assert outcome.images_processed == seen.forward - looked - 2 * FEW


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("readable", [True, False])
def test_a_network_of_which_no_earlier_layer_can_be_read_is_told(readable: bool) -> None:
    world, heard = tiny_world(images=1024), Heard()
    torch.manual_seed(0)
    hidden = [nn.Linear(768, 16), nn.ReLU(), *([nn.Linear(16, 16), nn.ReLU()] if readable else [])]
    model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 3))
    run = engine.start(accelerator="cpu", log=heard)
    outcome = forget_labels(model, ["top"], world.data, method="auto", run=run)
    assert outcome.self_check is not None
    assert ("stage1" in {row["site"] for row in outcome.self_check["sites"]}) is readable
    assert any("no layer before the last features" in line for line in heard.lines) is not readable


@pytest.mark.parametrize("enough", [True, False])
def test_if_the_original_hardly_tells_the_label_the_method_says_so(
    enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "slight", lambda shares, allowed: enough)
    world, heard = tiny_world(images=1024), Heard()
    run = engine.start(accelerator="cpu", log=heard)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert outcome.self_check is not None
    assert outcome.self_check["removal_may_suffice"] is enough
    assert any("removing the output (head-removal) may be enough" in line for line in heard.lines) is enough
    assert ("label_told" in outcome.self_check) is (enough or not outcome.self_check["reached"])


@pytest.mark.parametrize("hardly", [True, False])
def test_if_little_is_to_be_pushed_out_the_training_keeps_to_the_originals_answers(
    hardly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "little", lambda shares, allowed: hardly)
    world, heard = tiny_world(images=1024), Heard()
    run = engine.start(accelerator="cpu", log=heard)
    with count_passes(3) as seen:
        outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert outcome.self_check is not None
    assert ("label_told" in outcome.self_check) is (hardly or not outcome.self_check["reached"])
    assert any("keeps to what the original answers" in line for line in heard.lines) is hardly
    assert outcome.images_processed == seen.forward - 2 * outcome.retained.images - 2 * FEW
    weaker = forget_labels(world.model, ["top"], world.data, method="auto", against="features", run=run)
    assert "annotated" not in weaker.options


def test_little_is_what_was_seen_and_slight_what_is_certain() -> None:
    some, usual = {"stage1": (torch.tensor([0.04]), torch.tensor([0.02]))}, torch.tensor([SLIGHT])
    assert little(some, usual)
    assert not slight(some, usual)
    two = {**some, "features": (torch.tensor([0.01, 0.06]), torch.tensor([0.0, 0.0]))}
    assert not little(two, torch.tensor([SLIGHT, SLIGHT]))


def test_of_a_rare_label_less_may_be_left() -> None:
    """Two normal kinds of images, d standard deviations apart: the share of the label's variance."""
    rng = np.random.default_rng(0)
    for present, apart in ((0.02, APART), (0.05, APART), (0.5, 0.459)):
        label = rng.random(400_000) < present
        number = rng.normal(size=len(label)) + apart * label
        assert np.corrcoef(label, number)[0, 1] ** 2 == pytest.approx(allowance(present), rel=0.05)
    rare = torch.tensor([allowance(0.02)])
    told = torch.tensor([0.03])
    assert little({"stage1": (told, torch.tensor([0.02]))}, rare)  # chance may be as large
    assert not little({"stage1": (told, torch.tensor([0.01]))}, rare)
    assert not slight({"stage1": (told, torch.tensor([0.0]))}, rare)
    assert slight({"stage1": (told, torch.tensor([0.0]))}, torch.tensor([allowance(0.5)]))


def test_a_check_of_a_rare_label_asks_for_less(run: Run) -> None:
    """What passes of a common label, .04 beyond what the original told, is more than a rare one may keep."""
    found = Finding("stage1", "Bald", 0.0, 0.04, 0.01, 0.0)
    assert found.reached
    rare = replace(found, allowed=allowance(0.02))
    assert rare.missed
    assert replace(rare, after=0.0082, error=0.0).reached
    assert replace(rare, after=0.012).reached is None
    world = tiny_world(images=2048)
    request = Request.make(["top"], world.labels)
    used, held = set_aside(world.data, request, 0)
    assert held is not None
    told = Residuals.of_annotations(request, world.data, run)
    look = Look.of("weights", [], told, (used, held), request, 0)
    present = float(np.mean(look.fitted.target[:, 0] == 1))
    assert look.allowed.tolist() == pytest.approx([allowance(present)])


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize(("after", "loss"), [(0.1, 0.0), (0.3, 0.0)])
@pytest.mark.parametrize("now", [0.2, 0.4])
def test_no_request_leaves_its_label_easier_to_read_where_that_is_in_doubt(
    earlier: bool, after: float, loss: float, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training makes the model better at the retained labels; after an earlier request that can be all."""
    figures = [0.3, now]
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(after, loss))
    monkeypatch.setattr(room, "label_told", lambda *_: figures.pop(0))
    world, forgotten = tiny_world(images=1024), ["middle"] if earlier else []
    model = world.model
    if earlier:
        model = forget_labels(model, ["middle"], world.data, method="head-removal").model
    outcome = forget_labels(model, ["top"], world.data, method="auto", forgotten=forgotten)
    doubtful = earlier or after == 0.3
    assert (figures == []) is doubtful
    assert (outcome.method == "head-removal") is (doubtful and now == 0.4)


@pytest.mark.parametrize(
    ("told", "losses", "method"),
    [
        ([0.05, 0.05, 0.3, 0.3, 0.3], [0.05, 0.04, 0.0, 0.0, 0.0], "erasure"),  # both trainings harm
        ([0.05, 0.05, 0.3, 0.3, 0.3], [0.05, 0.04, 0.06, 0.06, 0.06], "deep-probes"),  # the least harm
        ([0.05, 0.05], [0.05, 0.0], "deep-probes"),
        ([0.3, *[0.5] * 3, *[0.35] * 3], [0.028, *[0.05] * 3, *[0.0] * 3], "erasure"),  # for next to nothing
        ([0.3, *[0.5] * 3, *[0.35] * 3], [0.015, *[0.05] * 3, *[0.0] * 3], "deep-probes"),
    ],
)
def test_if_trainings_harm_or_leave_much_at_the_end_the_original_is_erased_there_in_closed_form(
    told: list[float], losses: list[float], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [checked(after, loss, "features") for after, loss in zip(told, losses, strict=True)]
    expected, floors = len(script), []

    def say(*given: object, **_: object) -> SelfCheck:
        floors.append(given[-1])
        return script.pop(0)

    monkeypatch.setattr(room, "check", say)
    monkeypatch.setattr(room, "label_told", lambda *_: 0.3)
    world, heard = tiny_world(images=1024), Heard()
    run = engine.start(accelerator="cpu", log=heard)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert (outcome.method, script) == (method, [])
    for each in floors:  # every attempt is judged by the same aims
        assert {name: value.tolist() for name, value in each.items()} == {
            name: value.tolist() for name, value in floors[0].items()
        }
    assert floors[0]
    assert any("again from the original, at a quarter" in line for line in heard.lines) is (losses[0] > 0.03)
    closed = any("erasing at the last features of the original" in line for line in heard.lines)
    assert closed is (expected > 2)


@pytest.mark.parametrize(
    ("before", "after", "loss", "why"),
    [
        (0.3, 0.29, 0.0, None),
        (0.3, 0.31, 0.0, "probes would find more of top, 0.31 and not 0.30"),
        (-0.02, -0.01, 0.0, "probes would find no less of top"),  # below 0, both tell nothing
        (-0.02, 0.01, 0.0, "probes would find more of top, 0.01 and not 0.00"),
        (0.3, 0.2, 0.05, "the retained labels would pay too much"),  # so they would after every attempt
    ],
)
def test_if_there_is_nothing_to_push_out_no_training_may_make_the_label_easier_to_read(
    before: float, after: float, loss: float, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "head-removal" if why else "deep-probes"
    figures, checks = [before, after], [checked(0.04, loss), checked(0.04, loss), checked(0.03)]
    monkeypatch.setattr(room, "slight", lambda shares, allowed: True)
    monkeypatch.setattr(room, "label_told", lambda *_: figures.pop(0))
    monkeypatch.setattr(room, "check", lambda *_, **__: checks.pop(0))
    world, heard = tiny_world(images=1024), Heard()
    run = engine.start(accelerator="cpu", log=heard)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    removed = forget_labels(world.model, ["top"], world.data, method="head-removal")
    assert outcome.method == method
    assert outcome.self_check is not None
    assert outcome.self_check["label_told"] == {"before": before, "after": after}
    assert (differing(outcome.model, removed.model) == []) is (method == "head-removal")
    said = [line for line in heard.lines if "only the output is removed" in line]
    assert said == ([f"only the output is removed: after deep-probes {why}"] if why else [])
    assert outcome.history.steps >= 20  # what was tried is on the bill


@pytest.mark.parametrize("keep_row", [True, False])
def test_a_training_that_misses_its_aim_gives_way_to_removing_the_output_unless_rows_are_kept(
    keep_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows are kept, nothing is left to be done: that is an error, and no row goes in silence."""
    monkeypatch.setattr(room, "slight", lambda shares, allowed: True)
    monkeypatch.setattr(room, "label_told", lambda *_: 0.3)
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(0.4))
    world = tiny_world(images=1024)
    if keep_row:
        with pytest.raises(EmptySelection, match="or do not keep the output row"):
            forget_labels(world.model, ["top"], world.data, method="auto", keep_row=True)
        return
    outcome = forget_labels(world.model, ["top"], world.data, method="auto")
    removed = forget_labels(world.model, ["top"], world.data, method="head-removal")
    assert outcome.method == "head-removal"
    assert differing(outcome.model, removed.model) == []


@pytest.mark.parametrize(
    ("after", "site", "removed"),
    [(0.485, "features", True), (0.48, "features", False), (0.485, "grid2", False)],
)
def test_a_training_after_which_no_less_is_told_for_certain_gives_way_to_removing_the_output(
    after: float, site: str, removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original's features tell .5, and .125 is aimed at; the error is .01."""
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(after, site=site))
    monkeypatch.setattr(room, "_from_original", lambda case, adversary, attempts: attempts)
    world, heard = tiny_world(images=1024), Heard()
    run = engine.start(accelerator="cpu", log=heard)
    outcome = forget_labels(world.model, ["top"], world.data, method="auto", run=run)
    assert (outcome.method == "head-removal") is removed
    assert any("may tell as much of top as before" in line for line in heard.lines) is removed
    if removed:
        plain = forget_labels(world.model, ["top"], world.data, method="head-removal")
        assert differing(outcome.model, plain.model) == []
        assert outcome.history.steps > 0  # what was tried is on the bill


def test_whether_less_is_told_is_read_at_the_end_of_the_network() -> None:
    def less(*told: tuple[str, float, float, float]) -> bool:
        findings = tuple(
            Finding(site, "top", before, after, error, 0.0) for site, before, after, error in told
        )
        return replace(checked(0.0), findings=findings).less_at_the_end

    assert less(("features", 0.42, 0.35, 0.023), ("outputs", 0.41, 0.35, 0.021))
    assert not less(("features", 0.16, 0.145, 0.019), ("outputs", 0.17, 0.145, 0.015))
    assert not less(("features", 0.3, 0.3, 0.01), ("grid2", 0.9, 0.0, 0.01))
    nan = float("nan")
    assert less(("features", 0.3, 0.2, 0.02), ("outputs", nan, nan, nan))


def test_where_an_earlier_label_is_not_annotated_the_head_alone_is_the_last_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An edit of the features could bring it back unseen."""
    world, heard = tiny_world(images=1024), Heard()
    first = forget_labels(world.model, ["middle"], world.data, method="head-removal").model
    target = world.data.target.copy()
    target[:, 1] = -1
    monkeypatch.setattr(room, "check", lambda *_, **__: checked(0.4))
    run = engine.start(accelerator="cpu", log=heard)
    options = {"against": "outputs", "forgotten": ["middle"], "run": run}
    outcome = forget_labels(first, ["top"], replace(world.data, target=target), "auto", **options)
    assert outcome.method == "leace-head"
    assert {name.rpartition(".")[0] for name in differing(outcome.model, first)} == {
        f"{len(world.model) - 1}"
    }
    assert outcome.self_check is not None
    assert outcome.self_check["reached"] is False
    assert any("erasure was not possible: middle was forgotten earlier" in line for line in heard.lines)


@pytest.mark.parametrize("exclusive", [True, False])
def test_probes_of_the_label_itself_find_what_those_of_its_residual_leave_out(
    exclusive: bool, run: Run
) -> None:
    """The network was trained on the label, so it tells most of it."""
    world = tiny_world(images=1024)
    data, request = replace(world.data, exclusive=exclusive), Request.make(["top"], world.labels)
    labels = Residuals.of_annotations(request, data, run)
    column = data.target[:, list(request.masked_columns)]
    torch.testing.assert_close(labels.values.double(), torch.from_numpy(column - column.mean(0)))
    used, held = set_aside(data, request, 0)
    assert held is not None
    sites = find_sites(world.model, len(world.labels), batch_of(data, range(4), run.device).image)
    look = Look.of("weights", sites, labels, (used, held), request, 0)
    rows = rows_of(world.model.eval(), look, run)
    told = label_told(rows, look, labels, run)
    order = torch.randperm(len(labels.values), generator=torch.Generator().manual_seed(0))
    noise = replace(labels, values=labels.values[order])
    assert told > 0.5
    assert label_told(rows, look, noise, run) < 0.2
    logits = retained_logits(world.model, request, data, run)
    rest = Residuals.of(logits, request, data, run, 1e-6)  # less nearly all that the outputs tell
    if exclusive:  # of a class nothing is spared, and the outputs are not read
        assert torch.equal(rest.values, labels.values)
    else:
        assert label_told(rows, look, rest, run) < told


@pytest.mark.parametrize(
    ("second", "error", "enough"), [(0.04, 0.005, True), (0.04, 0.007, False), (0.06, 0, False)]
)
def test_a_share_is_slight_if_its_upper_bound_is_small_for_every_label(
    second: float, error: float, enough: bool
) -> None:
    shares = {"features": (torch.tensor([0.0, second]), torch.full((2,), error))}
    assert slight(shares, torch.tensor([SLIGHT, SLIGHT])) is enough


def test_the_check_sees_a_label_that_stays_and_one_that_goes(run: Run) -> None:
    world = tiny_world(images=2048)
    plain = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    request = Request.make(["top"], world.labels)
    used, held = set_aside(world.data, request, 0)
    assert held is not None
    from unlabel.data.batches import batch_of
    from unlabel.models.sites import find_sites

    logits = retained_logits(world.model, request, world.data, run)
    told = Residuals.of(logits, request, world.data, run, 0.5)
    sites = find_sites(world.model, 3, batch_of(world.data, range(2), run.device).image)
    look = Look.of("weights", sites, told, (used, held), request, 0)
    before = shares_of(rows_of(world.model.eval(), look, run), look, run)
    assert not slight(before, look.allowed)
    after = shares_of(rows_of(plain.eval(), look, run), look, run)
    found = self_check.check((world.model, before), (plain, after), look, request, run, {})
    assert found.missed
    row = next(item for item in found.findings if item.site == "features")
    assert row.after == pytest.approx(row.before, abs=1e-6)
    assert row.after > 0.8
    assert "NOT reached" in sentence_of(found.to_json())


@pytest.mark.parametrize("copied", [True, False])
def test_only_a_label_with_a_copy_among_the_retained_ones_is_called_one(copied: bool, run: Run) -> None:
    """A label forgotten earlier may be unannotated: no residual is left of it, and it is nobody's copy."""
    world, heard = tiny_world(images=1024), Heard()
    removed = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    target = world.data.target.copy()
    target[:, 0] = -1
    if copied:
        target[:, 2] = target[:, 1]
    data = replace(world.data, target=target)
    heard_run = engine.start(accelerator="cpu", log=heard)
    options = {"against": "outputs", "forgotten": ["top"], "run": heard_run}
    forget_labels(removed, ["middle"], data, "auto", **options)  # pyright: ignore[reportArgumentType]
    said = [line for line in heard.lines if "is a copy of" in line]
    assert bool(said) is copied
    assert all("copy of middle" in line for line in said)


def test_the_error_of_a_share_counts_images_of_one_identity_as_one(run: Run) -> None:
    """Each image twice, as of one identity: as sure as each once."""
    world, request = tiny_world(images=1024), Request.make(["top"], tiny_world().labels)
    used, held = set_aside(world.data, request, 0)
    assert held is not None
    held = replace(held, cluster=np.arange(len(held)))
    twice = held.take(np.repeat(np.arange(len(held)), 2))
    logits = retained_logits(world.model, request, world.data, run)
    told = Residuals.of(logits, request, world.data, run, 0.5)
    sites = find_sites(world.model, 3, batch_of(world.data, range(2), run.device).image)
    errors = []
    for part in (held, twice, replace(twice, cluster=np.arange(len(twice)))):
        look = Look.of("features", sites, told, (used, part), request, 0)
        errors.append(float(shares_of(rows_of(world.model.eval(), look, run), look, run)["features"][1]))
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    assert errors[2] == pytest.approx(errors[0] / 2**0.5, rel=1e-3)
