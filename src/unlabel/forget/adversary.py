r"""The adversary of a training: closed-form probes of a label at several sites, often fitted anew.

At each site a bank holds the latest rows f of training images, with the *residual* r of the label: what
neither the retained annotations nor, by a strength, the retained outputs tell of it (`forget.residual`).
Every few steps a probe p of r is fitted on the bank in closed form: ridge regression on the standardised
rows and, except at a grid, on fixed random ReLU features of them. The probe stays as it is until the next
fit.

The network is to reduce the share of r that the probe tells, as a signed covariance:

.. math:: s = \mathrm{Cov}(p(f), r) \,/\, \mathrm{Var}(r)

With the probe fixed, its gradient is unbiased however small the batch is; that of a squared covariance is
not. The share of each site and label has a weight of its own, which the training sets from what it meets:

.. math:: w = \frac{\lambda}{S}\left[\sqrt{\max(\bar{s} - c, 0)} + m\right], \qquad
    m \leftarrow \min(\max(m + \frac{\rho}{\sqrt{J}}\,(\bar{s} - c), 0), 3) \text{ after each step}

with S the sites, J the labels, s-bar the running mean of s on images that the probe was not fitted on, and c
the site's floor: what the same probe tells in the same network untrained. What is plain to any network need
not go, and cannot. A site that tells nothing is left alone. A site that goes on telling meets a weight that
grows until it stops: m is the multiplier of the constraint ``s <= c``, found by dual ascent. Of several
labels each rises slower, by the root of their number: together they would push the retained labels aside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.randomness import normal
from unlabel.forget.residual import centred
from unlabel.models.sites import Site

BANK = 2048  # rows a site
RANDOM = 256  # ReLU features
RIDGE = 0.02  # of the mean diagonal of their covariance
WIDEST = 512  # features of a row that a probe sees at most; of wider rows, random sums, new for every probe
MEMORY = 0.95  # of a step, in the running mean of the share
MOST = 3.0  # a multiplier rises no further: a label that stays however it is pushed would end the network
DRAWN = 2**14  # numbers that are drawn at a time
FLAT = 1e-6  # of the largest spread: a feature that varies less is constant


@dataclass(frozen=True)
class Probe:
    """A fixed regression of residuals on the rows of one site, from the rows to one number a label.

    ``p(f) = [v, relu(v A + b)] W + a``, with v the standardised rows, or random sums of wide ones.
    """

    centre: Float[Tensor, " feature"]
    scale: Float[Tensor, " feature"]
    sums: Float[Tensor, "feature sum"] | None
    mix: Float[Tensor, "sum random"] | None
    offset: Float[Tensor, " random"] | None
    weight: Float[Tensor, "column label"]
    constant: Float[Tensor, " label"]

    def __call__(self, rows: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch label"]:
        design = _design((rows - self.centre) * self.scale, self.sums, self.mix, self.offset)
        return design @ self.weight + self.constant

    @property
    def fitted(self) -> tuple[Tensor, ...]:
        """What was computed from rows; all else is keyed."""
        return self.centre, self.scale, self.weight, self.constant


def _design(rows: Tensor, sums: Tensor | None, mix: Tensor | None, offset: Tensor | None) -> Tensor:
    rows = rows if sums is None else rows @ sums
    if mix is None or offset is None:
        return rows
    return torch.cat([rows, (rows @ mix + offset).relu()], 1)


def fit_probe(
    site: Site,
    rows: Float[Tensor, "row feature"],
    residual: Float[Tensor, "row label"],
    seed: int,
    number: int = 0,
    known: Bool[Tensor, "row label"] | None = None,
) -> Probe:
    """The probe of one site: ridge regression of the residuals on the rows, by float64 normal equations.

    Args:
        site: Whose rows they are. At a grid the probe is linear.
        rows: Of at least two images.
        residual: Of the same images.
        seed: Key of the random features.
        number: Of the fit, a part of the key of the random sums of wide rows.
        known: Whether the label is annotated: each is fitted to the rows where it is. None: everywhere.
    """
    centre = rows.mean(0)
    moved = rows - centre
    spread = (moved * moved).mean(0).sqrt()  # `Tensor.std` over rows takes two to six times as long
    varies = spread > FLAT * spread.max().clamp(min=1e-12)
    scale = torch.where(varies, 1 / spread.clamp(min=1e-12), 0.0)
    sums, mix, offset = _random(site, rows, seed, number)
    design = _design(moved * scale, sums, mix, offset)
    if known is None or bool(known.all()):
        return Probe(centre, scale, sums, mix, offset, *_ridge(design, residual))
    fits = [_ridge(design[where], y[where, None]) for where, y in zip(known.T, residual.T, strict=True)]
    weights, constants = zip(*fits, strict=True)
    return Probe(centre, scale, sums, mix, offset, torch.cat(weights, 1), torch.cat(constants))


def _ridge(
    design: Float[Tensor, "row column"], residual: Float[Tensor, "row label"]
) -> tuple[Float[Tensor, "column label"], Float[Tensor, " label"]]:
    """Weights and constants of the regression; of no row, 0."""
    if not len(design):
        return design.new_zeros((design.shape[1], residual.shape[1])), residual.new_zeros(residual.shape[1])
    middle, mean = design.mean(0), residual.mean(0)
    x, y = design - middle, residual - mean
    gram = (x.T @ x).double()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, (x.T @ y).double()).to(design.dtype)
    return weight, mean - middle @ weight


def blank_probe(
    site: Site,
    rows: Float[Tensor, "row feature"],
    residual: Float[Tensor, "row label"],
    seed: int,
    number: int = 0,
    known: Bool[Tensor, "row label"] | None = None,
) -> Probe:
    """The probe of `fit_probe` with 0 in place of what is fitted, for a process that does not fit it."""
    random = sums, mix, _ = _random(site, rows, seed, number)
    width = rows.shape[1] if sums is None else sums.shape[1]
    columns = width if mix is None else width + mix.shape[1]
    centre, scale = rows.new_zeros(rows.shape[1]), rows.new_zeros(rows.shape[1])
    labels = residual.shape[1]
    return Probe(centre, scale, *random, rows.new_zeros((columns, labels)), rows.new_zeros(labels))


def _random(
    site: Site, rows: Tensor, seed: int, number: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The keyed parts of a probe: random sums of wide rows, and the mix and offset of the ReLU features."""
    width, sums = rows.shape[1], None
    if width > WIDEST:
        sums = _normal(seed, f"{site.name}/sums/{number}", (width, WIDEST)).to(rows) / width**0.5
        width = WIDEST
    if site.kind == "grid":
        return sums, None, None
    mix, offset = _features(seed, site.name, width)
    return sums, mix.to(rows) / width**0.5, offset.to(rows)


@lru_cache(maxsize=16)  # sites of a network; the same at every fit
def _features(seed: int, name: str, width: int) -> tuple[Tensor, Tensor]:
    """The keyed mix and offset of the ReLU features of a site."""
    return _normal(seed, f"{name}/mix", (width, RANDOM)), _normal(seed, f"{name}/offset", (RANDOM,))


def _normal(seed: int, stream: str, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Keyed standard normal numbers in float64, the same on every device; in blocks that a cache holds."""
    numbers = np.arange(int(np.prod(shape)))
    blocks = np.array_split(numbers, max(len(numbers) // DRAWN, 1))
    drawn = [normal(seed, f"adversary/{stream}", block) for block in blocks]
    return torch.from_numpy(np.concatenate(drawn).reshape(shape))


def share(
    said: Float[Tensor, "row label"], residual: Float[Tensor, "row label"], known: Float[Tensor, "row label"]
) -> Float[Tensor, " label"]:
    """Cov(said, r) / Var(r) over the rows whose label is known, between -1 and 1; 0 where r does not vary.

    >>> r, known = torch.tensor([[1.0], [-1.0], [0.0]]), torch.tensor([[True], [True], [False]])
    >>> share(torch.tensor([[0.5], [-0.5], [9.0]]), r, known)
    tensor([0.5000])
    """
    r = centred(residual, known)
    variance = (r * r).sum(0)
    return torch.where(variance > 0, (said * r).sum(0) / variance.clamp(min=1e-12), 0.0).clamp(-1, 1)


@dataclass(frozen=True)
class Seen:
    """What a batch showed: by site its rows, without a gradient, and the residuals of its images.

    Args:
        rows: By site, (image, feature).
        residual: (image, label), 0 where the label is unknown.
        known: (image, label), whether it is annotated.
    """

    rows: Mapping[str, Tensor]
    residual: Tensor
    known: Tensor

    def part(self, where: slice) -> "Seen":
        """Some of the images."""
        rows = {name: row[where] for name, row in self.rows.items()}
        return Seen(rows, self.residual[where], self.known[where])


def joined(seen: Sequence[Seen]) -> Seen:
    """Several batches as one."""
    rows = {name: torch.cat([each.rows[name] for each in seen]) for name in seen[0].rows}
    residual, known = (torch.cat([getattr(each, name) for each in seen]) for name in ("residual", "known"))
    return Seen(rows, residual, known)


@dataclass
class Adversary:
    """Banks, probes and weights of all sites; every process holds the same.

    Args:
        sites: Where the label is read.
        seed: Key of the random features.
        strength: Lambda, >= 0.
        pressure: Rho, >= 0; at 0 the weights never rise above their gates.
        bank: Rows a site; at a grid, whose rows are wide, twice as many.
        floors: By site, the share a label that is plain to any network; empty for 0.
        met: What the latest batches showed; `fit` joins them and lets go what no bank holds.
        probes: By site, the latest; empty before the first fit.
        running: By site, the running mean of the share, one number a label.
        multipliers: By site, m, one number a label.
        fits: How often the probes were fitted.
    """

    sites: Sequence[Site]
    seed: int
    strength: float = 0.0
    pressure: float = 0.0
    bank: int = BANK
    floors: Mapping[str, Tensor] = field(default_factory=dict)
    met: list[Seen] = field(default_factory=list)
    probes: dict[str, Probe] = field(default_factory=dict)
    running: dict[str, Tensor] = field(default_factory=dict)
    multipliers: dict[str, Tensor] = field(default_factory=dict)
    fits: int = 0

    def keep(self, seen: Seen) -> None:
        """Adds rows to the banks."""
        self.met.append(seen)

    def banks(self) -> dict[str, Seen]:
        """By site, the latest rows, which a probe is fitted on. The oldest leave."""
        latest = joined(self.met).part(slice(-2 * self.bank, None))
        self.met = [latest]
        narrow = latest.part(slice(-self.bank, None))
        return {site.name: latest if site.kind == "grid" else narrow for site in self.sites}

    def fit(self, run: Run | None = None) -> None:
        """Fits every probe anew on its bank; the processes of a run share the sites out."""
        world, rank = (run.world, run.rank) if run else (1, 0)
        costly = sorted(self.sites, key=lambda site: (site.kind != "grid", -site.width))
        banks = self.banks()
        for number, site in enumerate(costly):
            fit = fit_probe if number % world == rank else blank_probe
            bank = banks[site.name]
            rows = bank.rows[site.name]
            self.probes[site.name] = fit(site, rows, bank.residual, self.seed, self.fits, bank.known)
        if run:  # a sum with zeros is the number itself
            engine.reduce_sums(run, [part for site in self.sites for part in self.probes[site.name].fitted])
        self.fits += 1

    def shares(self, seen: Seen) -> dict[str, Tensor]:
        """By site, the share that its probe tells of images, one number a label."""
        return {
            name: share(probe(seen.rows[name]), seen.residual, seen.known)
            for name, probe in self.probes.items()
        }

    def meet(self, seen: Seen) -> None:
        """After a step: what the probes tell of its images moves the running means and the multipliers."""
        enough = seen.known.sum(0) >= 2  # images of a batch that tell a share of the label
        for name, shares in self.shares(seen).items():
            before = self.running.get(name, shares)
            running = torch.where(enough, MEMORY * before + (1 - MEMORY) * shares, before)
            self.running[name] = running
            rise = self.pressure / running.numel() ** 0.5 * self.over(name)
            grown = self.multipliers.get(name, torch.zeros_like(running)) + rise
            self.multipliers[name] = grown.clamp(0, MOST)

    def over(self, name: str) -> Tensor:
        """What a site's running mean exceeds its floor by, one number a label; negative below it."""
        return self.running[name] - self.floors.get(name, torch.zeros_like(self.running[name]))

    def weights(self) -> dict[str, Tensor]:
        """By site, the weight of the share, one number a label; 0 at a site that tells nothing."""
        each = self.strength / len(self.sites)
        return {
            name: each * (self.over(name).clamp(min=0).sqrt() + multiplier)
            for name, multiplier in self.multipliers.items()
        }
