"""Stitches: exact where two networks differ by an affine map, silent where a stage says nothing."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.audit.attacks.held_out import HeldOut
from unlabel.audit.attacks.stitching import (
    fit_stitch,
    rows_of,
    shaped_like,
    shared_stages,
    stitched_outputs,
    stitched_readings,
)
from unlabel.audit.claims.c4_beside import depth_score
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.core import engine
from unlabel.models.features import outputs
from unlabel.models.outputs import Outputs
from unlabel.models.sites import Site, find_stages
from unlabel.statistics.estimate import Estimate
from unlabel.testing import tiny_world


@pytest.fixture(scope="module")
def run():
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def world():
    return tiny_world(images=512)


def said(model: nn.Module, world, run) -> dict[str, np.ndarray]:
    probe, test = world.source.probe, world.source.test
    return stitched_outputs((model, world.model), (probe, probe), (test, test), run)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((2, 3, 4, 5), (4, 5)), ((2, 4, 5, 3), (4, 5)), ((2, 7, 3), (7,)), ((2, 4, 4, 4), (4, 4))],
)
def test_rows_of_every_layout_turn_back(shape, size):
    output = torch.arange(float(np.prod(shape))).reshape(shape)
    site = Site("stage1", "stage", "", size, 3)
    rows = rows_of(output, site)
    assert rows.shape == (2 * int(np.prod(size)), output.numel() // (2 * int(np.prod(size))))
    assert torch.equal(shaped_like(rows, output, site, 2), output)
    if shape == (2, 3, 4, 5):
        assert rows[6].tolist() == output[0, :, 1, 1].tolist()


def test_a_stitch_is_the_ridge_regression_of_all_batches_together():
    rng = torch.Generator().manual_seed(0)
    u, o = torch.randn(300, 4, generator=rng), torch.randn(300, 2, generator=rng)
    found = fit_stitch(iter([(u[:100], o[:100]), (u[100:], o[100:])]))
    x, y = (table - table.mean(0) for table in (u.double(), o.double()))
    gram = x.T @ x / 300
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(4)
    assert torch.allclose(found.weight.double(), torch.linalg.solve(gram, x.T @ y / 300), atol=1e-5)
    assert torch.allclose(found(u).mean(0), o.mean(0), atol=1e-5)


def test_the_original_stitched_to_itself_says_what_it_says(world, run):
    found = said(world.model, world, run)
    own = outputs(world.model, world.source.test, run).logits
    assert list(found) == ["stitched1"]
    assert found["stitched1"].shape == own.shape
    assert np.corrcoef(found["stitched1"][:, 0], own[:, 0])[0, 1] > 0.99


def test_channels_in_another_order_and_scale_say_the_same(world, run):
    other = copy.deepcopy(world.model)
    first = other[0]
    with torch.no_grad():
        order = torch.randperm(len(first.weight), generator=torch.Generator().manual_seed(1))
        scale = torch.linspace(0.5, 2.0, len(order))
        first.weight.copy_(first.weight[order] * scale[:, None, None, None])
        first.bias.copy_(first.bias[order] * scale)
    same, found = said(world.model, world, run), said(other.eval(), world, run)
    assert np.corrcoef(found["stitched1"][:, 0], same["stitched1"][:, 0])[0, 1] > 0.99


def test_a_stage_that_says_nothing_gives_nothing_back_whatever_stands_above_it(world, run):
    other = copy.deepcopy(world.model).eval()
    with torch.no_grad():
        other[0].weight.zero_()
    test = world.source.test
    question = ask("top", world.source.probe, test, world.source.train)

    def read(model: nn.Module) -> float:
        blank = Outputs(np.zeros((len(test), 3), np.float32), dict(said(model, world, run)))
        subject = Subject("x", "after", blank, blank, replace(blank, features={}))
        return stitched_readings(subject, question)["stage1"].value

    assert read(world.model) > 0.8
    assert read(other) == pytest.approx(0.0, abs=1e-9)


def test_the_score_is_the_share_that_is_gone_of_what_only_the_original_has():
    """Stage 1 tells alike everywhere, so it does not count; half of stage 2 is gone; stage 3 is below."""
    rng = np.random.default_rng(0)

    def tells(*values: float) -> dict[tuple[str, str | None], Estimate]:
        return {
            ("depth.adv.stitch", f"stage{at}"): Estimate(
                value, rng.normal(size=900) * 0.3 / 900, np.arange(900), np.ones(900, bool)
            )
            for at, value in enumerate(values, 1)
        }

    models = [tells(0.8, 0.8, 0.8), tells(0.79, 0.7, 0.4), tells(0.8, 0.6, 0.5), tells(0.79, 0.6, 0.5)]
    found = depth_score(HeldOut(depth={"Male": models}), "Male", AuditOptions())
    assert found["stages"] == {"stage2": pytest.approx(0.5), "stage3": 1.0}
    assert found["score"] == pytest.approx(0.75)
    assert depth_score(HeldOut(depth={"Male": models[:2]}), "Male", AuditOptions()) == {}


class Skips(nn.Module):
    """A stage whose module is skipped by a connection, or a layer that is used at two sizes."""

    def __init__(self, way: str) -> None:
        super().__init__()
        wide = 4 if way == "skip" else 6
        self.way, self.first, self.block = way, nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, wide, 3, 1, 1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(wide, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.way == "skip":
            return self.head((x + self.block(x)).mean((2, 3)))
        return self.head(self.pool(self.block(self.pool(x))).mean((2, 3)))


@pytest.mark.parametrize(("way", "module"), [("skip", "block"), ("twice", "pool")])
def test_where_the_original_cannot_be_cut_nothing_is_said(way, module):
    network, look = Skips(way).eval(), torch.randn(2, 3, 32, 32)
    assert module in {site.module for site in find_stages(network, 3, look)}
    assert module not in {there.module for _, there in shared_stages(network, network, 3, look)}


class Rows(nn.Module):
    """Blocks of one size, as a vision transformer has."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 4, 4)
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh()) for _ in range(depth)])
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.first(x)).mean((2, 3)))


def test_of_several_stages_of_one_size_the_first_goes_with_the_first():
    network, look = Rows(2).eval(), torch.randn(2, 3, 32, 32)
    found = shared_stages(network, network, 3, look)
    assert len(found) > 1
    assert all(here == there for here, there in found)
    assert shared_stages(Rows(1).eval(), network, 3, look) == []  # which goes with which, nobody can say


def test_what_the_last_of_several_stages_lost_the_earlier_ones_still_say(world, run):
    """The two networks differ in the last block alone, which says nothing."""
    torch.manual_seed(0)
    original = Rows(3).eval()
    other = copy.deepcopy(original)
    with torch.no_grad():
        other.blocks[-1][0].weight.zero_()
    probe, test = world.source.probe, world.source.test
    found = stitched_outputs((other, original), (probe, probe), (test, test), run)
    own = outputs(original, test, run).logits
    *earlier, last, whole = found.values()  # the row of blocks ends where its last block does
    assert len(earlier) == 2
    assert all(np.corrcoef(table[:, 0], own[:, 0])[0, 1] > 0.99 for table in earlier)
    assert all(np.ptp(table, 0) == pytest.approx(0.0, abs=1e-6) for table in (last, whole))


def test_both_networks_stay_as_they_are_and_unhooked(world, run):
    before = {key: value.clone() for key, value in world.model.state_dict().items()}
    said(world.model, world, run)
    assert all(torch.equal(value, before[key]) for key, value in world.model.state_dict().items())
    assert not any(module._forward_hooks for module in world.model.modules())
