"""What a method says of its own result before it returns: measured on training images that it did not use.

The check reads the sites that the request is protected at, and the retained labels. It needs no annotation
beyond the training set's and no retrained model, so it is no audit: it says whether the closed-form probes
that the method trains against (`forget.adversary`) still find the label on images left out, and what the
retained labels lost.

The original was trained on these images. What it knows of them by heart counts as lost, too: the fall of the
retained labels is the most that it can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset
from unlabel.data.feed import batches
from unlabel.forget.adversary import fit_probe, share
from unlabel.forget.residual import Residuals, centred
from unlabel.forget.retained import LEAST, OTHERS, Retained, compare
from unlabel.models.features import BATCH
from unlabel.models.sites import Site, reading
from unlabel.statistics.estimate import numbered

Against: TypeAlias = Literal["outputs", "features", "weights"]
"""Whom the model is given to: who sees its outputs, its last features as well, or has the weights."""

SITES: Mapping[str, tuple[str, ...]] = {
    "outputs": ("outputs",),
    "features": ("features", "outputs"),
    "weights": ("stage", "grid", "features", "outputs"),
}
HELD = 1024  # images of the check, or an eighth of the images if that is fewer
FITTED = 4096  # images that its probes are fitted on, at most
AIM = 0.4  # of what an earlier site told beyond its floor: the most that may be left
AIM_AT_THE_END = 0.25  # the same of the last features and the outputs, where Retrain is left with less
AIM_OF_CLASS = 0.7  # both, of a class: Retrain learns what belongs to none of the others, and so keeps more
AIM_OF_CLASS_AT_THE_END = 0.5
SLIGHT = 0.05  # share of the residual that may be left in any case, and less of a rare label: `allowance`
APART = 0.65  # standard deviations between the means of the two kinds of images
MOST_LOSS = 0.03  # of the retained labels' mean AUC: past it a gentler attempt is made, and no further one


def protected(sites: Sequence[Site], against: Against) -> list[Site]:
    """The sites at which this protection is checked."""
    return [site for site in sites if site.kind in SITES[against]]


def set_aside(data: Dataset, request: Request, seed: int) -> tuple[Dataset, Dataset | None]:
    """Images to train on, and those of the check; None where too few would show both kinds of any label.

    Args:
        data: The calibration images.
        request: The labels. If no image shows a rare one, the retained labels are still measured.
        seed: Which images, with the images alone.
    """
    rank = uniform(seed, "self-check", data.rows)
    order = np.argsort(rank, kind="stable")[: min(HELD, len(data) // 8)]
    held = data.take(np.sort(order))
    if not any(shows(held, column) for column in (*request.columns, *request.retained_columns)):
        return data, None
    return data.take(np.setdiff1d(np.arange(len(data)), order)), held


def allowance(present: float) -> float:
    r"""Share of a label's residual that may be left in any case, at most `SLIGHT`.

    .. math:: \frac{v d^2}{1 + v d^2}, \quad v = p (1 - p)

    That is the share of the variance of a 0/1 label that a number explains, if the label shifts it by d
    standard deviations. One share means little of a common label and much of a rare one: .05 is d = .46 (AUC
    .63) if half of the images have the label, and d = 1.6 (AUC .88) if 2 % have it. So d is at most `APART`
    (AUC .68).

    Args:
        present: p, the share of images that have the label, 0 to 1.

    >>> [round(allowance(share), 4) for share in (0.5, 0.15, 0.05, 0.02)]
    [0.05, 0.05, 0.0197, 0.0082]
    """
    shift = present * (1 - present) * APART**2
    return min(shift / (1 + shift), SLIGHT)


def shows(data: Dataset, column: int) -> bool:
    """Whether enough images show both kinds of a label for a probe of it to be read."""
    return min(np.sum(data.target[:, column] == kind) for kind in (0, 1)) >= LEAST


@dataclass(frozen=True)
class Finding:
    """What the probe of one site tells of one label, as shares of the residual's variance.

    Args:
        site, label: Names.
        before, after: Of the original and of the result; negative if the probe misleads, NaN if too few
            images show both kinds of the label.
        error: Standard error of `after`.
        floor: What it tells of the untrained network.
        of_class: Whether the label is one of classes that exclude each other, or of a group like them.
        earlier: Whether an earlier request forgot it: it must not come back, and need not go further.
        allowed: What may be left in any case, beyond the floor.
    """

    site: str
    label: str
    before: float
    after: float
    error: float
    floor: float
    of_class: bool = False
    earlier: bool = False
    allowed: float = SLIGHT

    @property
    def measured(self) -> bool:
        """Whether enough images showed both kinds."""
        return not isnan(self.after)

    @property
    def aim(self) -> float:
        """The most that may be left."""
        earlier, last = AIM, AIM_AT_THE_END
        if self.of_class:
            earlier, last = AIM_OF_CLASS, AIM_OF_CLASS_AT_THE_END
        share = last if self.site in SITES["features"] else earlier
        usual = self.floor + max(share * max(self.before - self.floor, 0.0), self.allowed)
        return max(usual, self.before) if self.earlier else usual

    @property
    def missed(self) -> bool:
        """Whether more is left, by more than chance (one-sided 95 %)."""
        return self.measured and self.after - 1.645 * self.error > self.aim

    @property
    def reached(self) -> bool | None:
        """Whether no more is left; None if more is, but no more than chance, or if nothing was measured."""
        if self.missed:
            return False
        digits = shown_digits(self.aim)
        within = self.measured and round(self.after, digits) <= round(self.aim, digits)
        return True if within else None

    def to_json(self) -> dict[str, Any]:
        """A row of the record, with the 95 % interval of ``after``; null where nothing was measured."""
        span = 1.96 * self.error
        figures = {
            "before": self.before,
            "after": self.after,
            "low": self.after - span,
            "high": self.after + span,
            "floor": self.floor,
            "aim": self.aim,
        }
        known = {name: value if self.measured else None for name, value in figures.items()}
        of_class = {"of_class": True} if self.of_class else {}
        return {"site": self.site, "label": self.label, **of_class, **known, "reached": self.reached}


@dataclass(frozen=True)
class SelfCheck:
    """Everything that a check found.

    Args:
        against: What the request is protected against.
        findings: One a site and label.
        retained: The retained labels before and after, on the images of the check.
        images: How many those are.
        fitted_on: Images that the probes were fitted on.
    """

    against: Against
    findings: tuple[Finding, ...]
    retained: Retained
    images: int
    fitted_on: int

    @property
    def missed(self) -> bool:
        """Whether a site tells more than was aimed at."""
        return any(item.missed for item in self.findings)

    @property
    def reached(self) -> bool | None:
        """Whether every site tells as little as was aimed at; None if the images cannot tell."""
        if self.missed:
            return False
        return True if all(item.reached for item in self.findings) else None

    @property
    def less_at_the_end(self) -> bool:
        """Whether the last features and the outputs tell less than before for certain (one-sided 95 %).

        Their errors add up: both are read on the same images.
        """
        at = [item for item in self.findings if item.site in SITES["features"] and item.measured]
        return sum(item.before - item.after for item in at) > 1.645 * sum(item.error for item in at)

    @property
    def spent(self) -> bool:
        """Whether the retained labels lost so much that no further attempt should be made.

        That is so if the loss is larger for certain (one-sided 95 %): on few images chance is as large.
        """
        return self.retained.loss is not None and self.retained.loss.lower() > MOST_LOSS

    def to_json(self) -> dict[str, Any]:
        """JSON-plain copy for a run's record."""
        return {
            "against": self.against,
            "reached": self.reached,
            "n": self.images,
            "fitted_on": self.fitted_on,
            "sites": [item.to_json() for item in self.findings],
            "retained": self.retained.to_json(),
        }


def shown_digits(aim: float) -> int:
    """Digits with which a share is shown beside its aim, and compared: more of a small one.

    >>> shown_digits(0.05), shown_digits(0.0082)
    (2, 3)
    """
    return 2 if round(aim, 2) >= SLIGHT else 3


def unchecked(against: Against) -> dict[str, Any]:
    """What stands in the record where no check was possible."""
    return {"against": against, "reached": None, "n": 0, "fitted_on": 0, "sites": []}


def sentence_of(record: Mapping[str, Any]) -> str:
    """One sentence of what a run's record holds under ``self_check``, without its full stop."""
    start = f"self-check against {record['against']}"
    if record["n"] == 0:
        return f"{start}: not made, too few images show both kinds of the label"
    blind = list(dict.fromkeys(row["label"] for row in record["sites"] if row["after"] is None))
    read = [row for row in record["sites"] if row["after"] is not None]
    missed = [row for row in read if row["reached"] is False]
    if blind and not missed:
        return f"{start}: cannot tell; too few images held back show both kinds of {listing(blind)}"
    row = max(missed or read, key=lambda row: row["after"] - row["aim"])
    after, aim, before = (max(row[name], 0.0) for name in ("after", "aim", "before"))
    digits = shown_digits(row["aim"])
    told, most, first = (f"{number:.{digits}f}" for number in (after, aim, before))
    what, images = f"what the other labels do not tell of {row['label']}", f"{record['n']:,} training images"
    if row.get("of_class"):  # the others of its group, or the other classes, tell it whole
        what = row["label"]
    if not missed and record["reached"] is not True:
        return (
            f"{start}: cannot tell; of {what}, the probe at {row['site']} tells {told} where"
            f" {most} is allowed ({first} before), and {images} held back cannot tell that from"
            " chance"
        )
    if not missed:
        return (
            f"{start}: reached; of {what}, the closest probe ({row['site']}) tells {told} of {most}"
            f" allowed ({first} before), on {images} held back"
        )
    places = listing(list(dict.fromkeys(row["site"] for row in missed)), 3)
    further = f"; {what_next(record)}"
    return (
        f"{start}: NOT reached at {places}; of {what}, the probe at {row['site']} tells {told} where"
        f" {most} is allowed ({first} before), on {images} held back{further}"
    )


def what_next(record: Mapping[str, Any]) -> str:
    """What to do where a check fell short of its aim."""
    if goes_further(record):
        return "to go further: --against weights"
    return "to see what is left: audit the run at --budget full; with more --images, less may be left"


def goes_further(record: Mapping[str, Any]) -> bool:
    """Whether a check fell short of its aim against someone who does not have the weights."""
    return record["reached"] is False and record["against"] != "weights"


def instead_of(record: Mapping[str, Any] | None) -> str:
    """What else may be tried after a run with this ``self_check``; None where the method made none."""
    if record and record["against"] == "weights":
        return "another method, such as head-removal, which leaves the features as they are"
    return "--against weights" if record and goes_further(record) else OTHERS


@dataclass(frozen=True)
class Look:
    """Where and on what images the original and all attempts are read.

    Args:
        against: What the request is protected against.
        sites: The sites at which it is.
        told: Residuals of all images.
        fitted: Images that the probes are fitted on.
        held: Images that they are read on.
        columns: Of the labels that the residuals are of.
    """

    against: Against
    sites: Sequence[Site]
    told: Residuals
    fitted: Dataset
    held: Dataset
    columns: tuple[int, ...]

    @classmethod
    def of(
        cls,
        against: Against,
        sites: Sequence[Site],
        told: Residuals,
        parts: tuple[Dataset, Dataset],
        request: Request,
        seed: int,
    ) -> "Look":
        """At the sites that the protection is about, with probes fitted on some of the images used."""
        used, held = parts
        chosen = np.sort(np.argsort(uniform(seed, "self-check/fit", used.rows))[:FITTED])
        fitted = used.take(chosen)
        return cls(against, protected(sites, against), told, fitted, held, request.masked_columns)

    @property
    def measured(self) -> Tensor:
        """(label,) whether enough images show both kinds, of those that probes are fitted and read on."""
        parts = self.fitted, self.held
        return torch.tensor([all(shows(part, column) for part in parts) for column in self.columns])

    @property
    def allowed(self) -> Tensor:
        """(label,) `allowance` of the images that probes are fitted on."""
        annotated = [self.fitted.target[:, column] for column in self.columns]
        shares = [np.sum(target == 1) / max(np.sum(target >= 0), 1) for target in annotated]
        return torch.tensor([allowance(float(present)) for present in shares])


Shares: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""By site, the share that a probe tells of images left out of its fit, and its standard error over their
identities, by label: NaN if too few images show both kinds of the label."""


Rows: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""By site, the rows of the images that probes are fitted on, and of those held back."""


def check(
    original: tuple[nn.Module, Shares],
    after: tuple[nn.Module, Shares],
    look: Look,
    request: Request,
    run: Run,
    floors: Mapping[str, Tensor],
) -> SelfCheck:
    """Reads a model at the sites of a look, and says what the label's probes tell of it and of the original.

    Args:
        original: On the run's device, in eval mode, and what its probes tell: `shares_of`.
        after: The result, likewise; the original itself if nothing was changed.
        look: Where, and on what images.
        request: What was asked.
        run: Where.
        floors: By site, the share that an untrained network tells; empty for 0.
    """
    (model, before), (made, shares) = original, after
    findings = []
    for site in look.sites:
        for at, label in enumerate(request.masked):
            floor = floors.get(site.name)
            value, error = shares[site.name]
            findings.append(
                Finding(
                    site.name,
                    label,
                    float(before[site.name][0][at]),
                    float(value[at]),
                    float(error[at]),
                    0.0 if floor is None else float(floor[at]),
                    of_class=look.told.of_class[at],
                    earlier=label in request.forgotten,
                    allowed=float(look.allowed[at]),
                )
            )
    retained = compare(model, made, look.held, request, run)
    return SelfCheck(look.against, tuple(findings), retained, len(look.held), len(look.fitted))


def slight(shares: Shares, allowed: Tensor) -> bool:
    """Whether no site tells more of any label's residual than is left in any case (one-sided 95 %).

    No if it was not measured.

    Args:
        shares: Of one model.
        allowed: (label,), see `Look.allowed`.
    """
    return all(bool((value + 1.645 * error <= allowed.to(value)).all()) for value, error in shares.values())


def little(shares: Shares, allowed: Tensor) -> bool:
    """Whether every site was seen to tell no more of any label's residual than is left in any case.

    Of a rare label, too, a share up to `SLIGHT` counts as little unless it is more than is left for certain
    (one-sided 95 %): chance alone is often as large.

    Args:
        shares: Of one model.
        allowed: (label,), see `Look.allowed`.
    """
    return all(
        bool(((value <= SLIGHT) & (value - 1.645 * error <= allowed.to(value))).all())
        for value, error in shares.values()
    )


def label_told(rows: Rows, look: Look, labels: Residuals, run: Run) -> float:
    """The share of the labels' own variance that the probes tell at the last features and the outputs, mean.

    The residual leaves out what the retained annotations tell of a label, and this does not. NaN if too few
    images show both kinds of each.

    Args:
        rows: Of a model with all its output rows, at these sites or more.
        look: Where, and on what images.
        labels: `Residuals.of_annotations` of these images.
        run: Where.
    """
    shares = shares_of(rows, replace(look, sites=at_the_end(look.sites), told=labels), run)
    return float(torch.stack([value for value, _ in shares.values()]).nanmean())


def at_the_end(sites: Sequence[Site]) -> list[Site]:
    """The last features and the outputs."""
    return [site for site in sites if site.kind in SITES["features"]]


@torch.no_grad()
def rows_of(model: nn.Module, look: Look, run: Run) -> Rows:
    """What a model shows of a look's images, each passed once; it is on the run's device and in eval mode."""
    fitted, held = (_rows(model, look, part, run) for part in (look.fitted, look.held))
    return {site.name: (fitted[site.name], held[site.name]) for site in look.sites}


@torch.no_grad()
def shares_of(rows: Rows, look: Look, run: Run) -> Shares:
    """What the probes tell of a model, of which these are the rows."""
    fitted, held = (
        look.told.of_rows(torch.from_numpy(part.rows).to(run.device)) for part in (look.fitted, look.held)
    )
    shares = {}
    for site in look.sites:
        probe = fit_probe(site, rows[site.name][0], fitted[0], run.seed, known=fitted[1])
        predicted, (residual, known) = probe(rows[site.name][1]), held
        told_share, r = share(predicted, residual, known), centred(residual, known)
        influence = r * (predicted - predicted.mean(0) - told_share * r)  # 0 where the label is unknown
        variance = (r * r).sum(0).clamp(min=1e-12)
        unseen = torch.where(look.measured.to(variance.device), 0.0, torch.nan)
        error = by_identity(influence, look.held.cluster).square().sum(0).sqrt() / variance
        shares[site.name] = told_share + unseen, error + unseen
    return shares


def by_identity(influence: Tensor, cluster: NDArray[np.int64]) -> Tensor:
    """(identity, label) sums of the images' influences: images of one identity err together.

    >>> by_identity(torch.tensor([[1.0], [2.0], [4.0]]), np.array([7, 3, 7])).tolist()
    [[2.0], [5.0]]
    """
    identity = torch.from_numpy(numbered(cluster)).to(influence.device)
    sums = influence.new_zeros((int(identity.max()) + 1, influence.shape[1]))
    return sums.index_add_(0, identity, influence)


def _rows(model: nn.Module, look: Look, data: Dataset, run: Run) -> dict[str, Tensor]:
    """Each site's rows of some images; the processes share the images out."""
    sites, retain, run = look.sites, look.told.retain, replace(run, micro_batch=BATCH)
    micro_batches, blocks = run.micro_batches(len(data)), []
    for batch in batches(
        data, ((micro_batches[number], None) for number in run.shard(len(micro_batches))), run
    ):
        with reading(model, sites) as rows, run.fabric.autocast():
            logits = model(batch.image)
        rows["outputs"] = logits[:, list(retain)].float()
        blocks.append(torch.cat([rows[site.name] for site in sites], 1))
    widths = [len(retain) if site.kind == "outputs" else site.width for site in sites]
    mine = torch.cat([look.told.values.new_zeros((0, sum(widths))), *blocks])
    whole = engine.gather_micro_batches(run, mine, len(data)).split(widths, 1)
    return {site.name: rows.contiguous() for site, rows in zip(sites, whole, strict=True)}
