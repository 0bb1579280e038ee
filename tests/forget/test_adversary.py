import numpy as np
import pytest
import torch

from unlabel.forget.adversary import RANDOM, RIDGE, WIDEST, Adversary, Seen, fit_probe, joined, share
from unlabel.forget.residual import centred
from unlabel.models.sites import Site

GRID = Site("grid1", "grid", "1", (4, 4), 3)
STAGE = Site("stage1", "stage", "1", (4, 4), 3)


def world(n: int = 400, width: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows, and a residual that half depends on the first of them."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, width))
    residual = 0.7 * rows[:, 0] + 0.7 * rng.normal(size=n)
    return torch.from_numpy(rows).float(), torch.from_numpy(residual - residual.mean())[:, None].float()


def seen(rows: torch.Tensor, residual: torch.Tensor, name: str = "stage1") -> Seen:
    return Seen({name: rows}, residual, torch.ones_like(residual, dtype=torch.bool))


def test_the_probe_at_a_grid_is_ridge_regression_in_float64() -> None:
    rows, residual = world()
    rows = rows * torch.tensor([1.0, 100.0, 1e-3]) + 5  # of any scale
    probe = fit_probe(GRID, rows, residual, 0)
    x = rows.double().numpy()
    z = (x - x.mean(0)) / x.std(0)
    y = residual.double().numpy()
    gram = z.T @ z
    weight = np.linalg.solve(gram + RIDGE * np.trace(gram) / 3 * np.eye(3), z.T @ (y - y.mean(0)))
    exact = (z - z.mean(0)) @ weight + y.mean(0)
    assert np.abs(probe(rows).numpy() - exact).max() < 1e-4  # float32 rows far from 0


def test_a_probe_of_a_stage_sees_what_is_not_linear() -> None:
    rows, _ = world(2000)
    residual = (rows[:, :1] ** 2 - 1) / 2**0.5
    linear, curved = (fit_probe(site, rows[:1000], residual[:1000], 0) for site in (GRID, STAGE))
    known = torch.ones(1000, 1, dtype=torch.bool)
    assert float(share(linear(rows[1000:]), residual[1000:], known)) < 0.05
    assert float(share(curved(rows[1000:]), residual[1000:], known)) > 0.8


def test_wide_rows_are_summed_anew_for_every_probe() -> None:
    rows, residual = world(300, WIDEST + 10)
    wide = Site("grid1", "grid", "1", (4, 4), WIDEST + 10)
    one, again, other = (fit_probe(wide, rows, residual, 0, number) for number in (0, 0, 1))
    assert one.weight.shape == (WIDEST, 1)
    assert torch.equal(one(rows), again(rows))
    assert not torch.equal(one(rows), other(rows))
    assert fit_probe(STAGE, world()[0], world()[1], 0).weight.shape == (3 + RANDOM, 1)


def test_a_constant_feature_and_a_constant_label_give_no_nan() -> None:
    rows, residual = world()
    rows[:, 1] = 3.0
    probe = fit_probe(STAGE, rows, torch.cat([residual, torch.zeros_like(residual)], 1), 0)
    said = probe(rows)
    assert said.isfinite().all()
    assert said[:, 1].abs().max() < 1e-6


def test_the_share_is_the_covariance_in_units_of_the_variance() -> None:
    rows, residual = world()
    known = torch.ones_like(residual, dtype=torch.bool)
    known[::3] = False
    said = 2.0 * rows[:, :1] + 1
    r, p = residual[known].double().numpy(), said[known].double().numpy()
    exact = np.cov(p, r, bias=True)[0, 1] / r.var()
    found = float(share(said / 4, torch.where(known, residual, 0.0), known))
    assert found == pytest.approx(exact / 4, abs=1e-6)
    nothing = torch.zeros(5, 1)
    assert float(share(torch.ones(5, 1), nothing, torch.ones(5, 1, dtype=torch.bool))) == 0
    assert float(share(torch.ones(5, 1), nothing, torch.zeros(5, 1, dtype=torch.bool))) == 0


def test_the_gradient_of_the_signed_covariance_is_that_of_finite_differences() -> None:
    """Of a linear network W x with fixed probe: the loss that the training adds, in float64."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(32, 5, dtype=torch.float64, generator=rng)
    weight = torch.randn(3, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    residual = torch.randn(32, 2, dtype=torch.float64, generator=rng)
    known = torch.rand(32, 2, generator=rng) > 0.2
    probe = fit_probe(STAGE, (x @ weight.T).detach(), torch.where(known, residual, 0.0), 0)

    def told(w: torch.Tensor) -> torch.Tensor:
        return (probe(x @ w.T) * centred(torch.where(known, residual, 0.0), known)).sum()

    told(weight).backward()
    assert weight.grad is not None
    for at in [(0, 0), (1, 3), (2, 4)]:
        step = torch.zeros_like(weight)
        step[at] = 1e-6
        exact = (told(weight.detach() + step) - told(weight.detach() - step)) / 2e-6
        assert float(weight.grad[at]) == pytest.approx(float(exact), rel=1e-5)


def test_what_is_unknown_moves_neither_probe_nor_mean() -> None:
    residual = torch.tensor([[1.0], [3.0], [0.0]])
    known = torch.tensor([[True], [True], [False]])
    assert centred(residual, known).tolist() == [[-1.0], [1.0], [0.0]]


def test_banks_keep_the_latest_rows_and_probes_stay_between_fits() -> None:
    adversary = Adversary([STAGE, GRID], 0, bank=10)
    rows, residual = world(40)
    batch = Seen({"stage1": rows, "grid1": rows}, residual, torch.ones(40, 1, dtype=torch.bool))
    adversary.keep(batch)
    banks = adversary.banks()
    assert torch.equal(banks["stage1"].rows["stage1"], rows[-10:])
    assert torch.equal(banks["grid1"].residual, residual[-20:])
    adversary.fit()
    before = adversary.probes["stage1"]
    adversary.keep(batch)
    adversary.meet(batch)
    assert adversary.probes["stage1"] is before
    adversary.fit()
    assert adversary.probes["stage1"] is not before


def test_a_site_that_tells_nothing_has_no_weight_and_one_that_goes_on_telling_a_growing_one() -> None:
    rows, residual = world(2000)
    adversary = Adversary([STAGE], 0, strength=1.0, pressure=0.1, bank=1000)
    adversary.keep(seen(rows[:1000], residual[:1000]))
    adversary.fit()
    assert adversary.weights() == {}
    weights = []
    for _ in range(3):
        adversary.meet(seen(rows[1000:], residual[1000:]))
        weights.append(float(adversary.weights()["stage1"]))
    found = float(adversary.shares(seen(rows[1000:], residual[1000:]))["stage1"])
    assert found == pytest.approx(0.5, abs=0.1)
    assert weights == pytest.approx([found**0.5 + count * 0.1 * found for count in (1, 2, 3)], rel=1e-4)
    for _ in range(200):
        adversary.meet(seen(rows[1000:], -residual[1000:]))
    assert float(adversary.weights()["stage1"]) == 0
    floors = {"stage1": torch.tensor([0.9])}
    silent = Adversary([STAGE], 0, strength=1.0, pressure=0.1, bank=1000, floors=floors)
    silent.keep(seen(rows[:1000], residual[:1000]))
    silent.fit()
    silent.meet(seen(rows[1000:], residual[1000:]))
    assert float(silent.weights()["stage1"]) == 0


def test_several_labels_share_the_pressure_by_the_root_of_their_number() -> None:
    rows, residual = world(2000)
    multipliers = {}
    for labels in (1, 4):
        known = torch.ones(1000, labels, dtype=torch.bool)
        copies = residual.expand(-1, labels)
        adversary = Adversary([STAGE], 0, strength=1.0, pressure=0.1, bank=1000)
        adversary.keep(Seen({"stage1": rows[:1000]}, copies[:1000], known))
        adversary.fit()
        adversary.meet(Seen({"stage1": rows[1000:]}, copies[1000:], known))
        multipliers[labels] = adversary.multipliers["stage1"]
    assert float(multipliers[1]) > 0.03
    assert multipliers[4].tolist() == pytest.approx([float(multipliers[1]) / 2] * 4, rel=1e-5)


def test_joined_batches_are_one_in_order() -> None:
    rows, residual = world(6)
    both = joined([seen(rows[:2], residual[:2]), seen(rows[2:], residual[2:])])
    assert torch.equal(both.rows["stage1"], rows)
    assert torch.equal(both.residual, residual)


@pytest.mark.parametrize("share_known", [1.0, 0.5, 0.1, 0.03])
def test_annotations_that_are_missing_at_random_do_not_move_a_probe(share_known):
    """Fitted on the annotated rows alone, it tells of new rows what the probe of all annotations tells."""
    rows, residual = world(8000)
    known = torch.rand(residual.shape, generator=torch.Generator().manual_seed(1)) < share_known
    given = torch.where(known, residual, 0.0)
    whole = fit_probe(GRID, rows, residual, 0)(rows)
    part = fit_probe(GRID, rows, given, 0, known=known)(rows)
    every = torch.ones_like(known)
    told = [share(said, residual, every).item() for said in (part, whole)]
    assert told[0] == pytest.approx(told[1], abs=0.06)


def test_a_label_that_is_annotated_nowhere_is_told_nowhere():
    rows, residual = world()
    nowhere = torch.zeros_like(residual, dtype=torch.bool)
    assert not fit_probe(GRID, rows, torch.zeros_like(residual), 0, known=nowhere)(rows).any()


def test_a_step_that_shows_less_than_two_annotations_moves_no_running_mean():
    rows, residual = world()
    adversary = Adversary([GRID], 0, strength=1.0, pressure=0.1, bank=500)
    adversary.keep(Seen({"grid1": rows}, residual, torch.ones_like(residual, dtype=torch.bool)))
    adversary.fit()
    adversary.meet(Seen({"grid1": rows}, residual, torch.ones_like(residual, dtype=torch.bool)))
    before = adversary.running["grid1"].clone()
    one = torch.zeros_like(residual, dtype=torch.bool)
    one[0] = True
    adversary.meet(Seen({"grid1": rows}, torch.where(one, residual, 0.0), one))
    assert torch.equal(adversary.running["grid1"], before)
