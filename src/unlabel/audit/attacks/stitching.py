r"""What the original's upper layers read of a label from another model's lower layers: activation patching.

At the end of each stage the original computes on from what another model computed there, and its own output
for the label is read. The channels of two networks mean different things, so an affine map of the channels
comes between, the *stitch*. It is fitted by ridge regression on probe images and knows no annotation:

.. math:: \min_{A, b} \sum_{i, p} \|A u_{ip} + b - o_{ip}\|^2 + \rho \|A\|^2

with u and o what the model and the original compute of image i at position p. What comes out is the label as
the original would read it if its lower layers had been those of the model. So a stage that still says what
the original's said gives it back, and one whose content was erased does not, whatever stands above it.

After the Unlearning Depth Score (Lee, Kim and Jo, arXiv 2605.24614), which patches language models that share
one basis and so needs no stitch; Bansal, Nakkiran and Barak (NeurIPS 2021) stitch networks. Here the figure
is an advantage, and stands beside that of retrained models.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.audit.attacks.early_layers import with_tables
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Subject
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.data.feed import in_order
from unlabel.models.cached_outputs import kept_tables
from unlabel.models.features import BATCH
from unlabel.models.sites import Site, find_stages, has_channels_last
from unlabel.runs.folder import Loaded, key_of
from unlabel.statistics.estimate import Estimate, advantage

FITTED = 1024  # probe images, at most, that a stitch is fitted on
RIDGE = 1e-3  # of the mean variance of a channel
PREFIX = "stitched"  # of the names of tables: ``stitched1`` ...

Tables = dict[str, NDArray[np.float32]]  # by stage, (image, label)


@dataclass(frozen=True)
class Stitch:
    """An affine map from the channels of one network to those of another, at the end of a stage.

    Args:
        weight: (channel, channel of the other).
        bias: (channel of the other,).
    """

    weight: Float[Tensor, "channel other"]
    bias: Float[Tensor, " other"]

    def __call__(self, rows: Float[Tensor, "row channel"]) -> Float[Tensor, "row other"]:
        return rows @ self.weight + self.bias

    def to(self, device: torch.device) -> "Stitch":
        """The same on a device."""
        return Stitch(self.weight.to(device), self.bias.to(device))


def fit_stitch(pairs: Iterator[tuple[Tensor, Tensor]]) -> Stitch:
    """The stitch of all batches of (row, channel) of both networks, by float64 normal equations.

    >>> u = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> there = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]])
    >>> stitch = fit_stitch(iter([(u, u @ there + 5.0)]))
    >>> torch.allclose(stitch(u), u @ there + 5.0, atol=0.02)
    True
    """
    count, width, sums, products = 0, 0, torch.zeros(()), torch.zeros(())
    for one, other in pairs:
        width, both = one.shape[1], torch.cat([one, other], 1).double()
        count, sums, products = count + len(both), sums + both.sum(0), products + both.T @ both
    mean = sums / count
    spread = products / count - torch.outer(mean, mean)
    gram = spread[:width, :width]
    gram = gram + torch.eye(width, dtype=gram.dtype) * (RIDGE * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, spread[:width, width:])
    return Stitch(weight.float(), (mean[width:] - mean[:width] @ weight).float())


def shared_stages(
    model: nn.Module, original: nn.Module, labels: int, look: Tensor
) -> list[tuple[Site, Site]]:
    """The ends of stages that two networks have at one size, each as (of the model, of the original).

    Of several stages of one size, as a vision transformer has, the first goes with the first. If the two
    networks do not have the same number of them, none of that size is taken.

    Only where the original can be cut: what it says then depends on the stage alone, and not on the image by
    another way, such as a connection that skips the stage's module or a module that is used twice.
    """
    ours, theirs = (_by_size(find_stages(network, labels, look)) for network in (model, original))
    alike = [size for size in theirs if len(ours.get(size, ())) == len(theirs[size])]
    pairs = [pair for size in alike for pair in zip(ours[size], theirs[size], strict=True)]
    return [(here, there) for here, there in pairs if can_cut(original, there, look)]


def _by_size(stages: Sequence[Site]) -> dict[tuple[int, ...], list[Site]]:
    """Stages of one size together, in the order of use; without those of one position."""
    groups: dict[tuple[int, ...], list[Site]] = {}
    for site in stages:
        if max(site.size) > 1:
            groups.setdefault(site.size, []).append(site)
    return groups


@torch.inference_mode()
def can_cut(network: nn.Module, site: Site, look: Tensor) -> bool:
    """Whether a network's outputs depend on the images by the end of a stage alone."""
    module = network.get_submodule(site.module)
    with kept_output(module) as kept:
        said = network(look)
    try:
        with replaced_output(module, [kept[0]]):
            return torch.equal(said, network(look.flip(0)))
    except RuntimeError:  # the module is used at another size, too
        return False


def rows_of(output: Tensor, site: Site) -> Float[Tensor, "row channel"]:
    """A module's output as one row a position: (batch, channel, height, width), channels last, or tokens."""
    if output.ndim == 4 and not has_channels_last(output, site.size, site.channels_last):
        output = output.permute(0, 2, 3, 1)
    return output.reshape(-1, output.shape[-1]).float()


def shaped_like(rows: Tensor, like: Tensor, site: Site, images: int) -> Tensor:
    """The reverse of `rows_of` for so many images, in the layout and type of another output."""
    first = like.ndim == 4 and not has_channels_last(like, site.size, site.channels_last)
    shape = (images, *like.shape[2:], like.shape[1]) if first else (images, *like.shape[1:])
    output = rows.reshape(shape).to(like.dtype)
    return output.permute(0, 3, 1, 2).contiguous() if first else output


@contextmanager
def kept_output(module: nn.Module) -> Iterator[list[Tensor]]:
    """While open, a forward pass leaves the module's output, or the first of several, in the list."""
    kept: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept[:] = [output[0] if isinstance(output, tuple | list) else output]

    handle = module.register_forward_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def replaced_output(module: nn.Module, made: Sequence[Tensor]) -> Iterator[None]:
    """While open, a forward pass goes on from the one tensor of the list instead of the module's output."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return (made[0], *output[1:]) if isinstance(output, tuple | list) else made[0]

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Cut:
    """Where two networks are joined: below it the model computes, above it the original.

    Args:
        model: The model.
        original: The original; it may be the same network.
        here: The end of a stage of the model.
        there: The same of the original.
    """

    model: nn.Module
    original: nn.Module
    here: Site
    there: Site

    def lower(self, image: Tensor) -> Float[Tensor, "row channel"]:
        """What the model computes up to the cut, a row a position."""
        with kept_output(self.model.get_submodule(self.here.module)) as kept:
            self.model(image)
        return rows_of(kept[0], self.here)

    def whole(self, image: Tensor) -> Tensor:
        """What the original computes up to the cut, as its module returns it."""
        with kept_output(self.original.get_submodule(self.there.module)) as kept:
            self.original(image)
        return kept[0]

    def upper(self, image: Tensor, output: Tensor) -> Float[Tensor, "batch label"]:
        """What the original says if its module had returned this output."""
        with replaced_output(self.original.get_submodule(self.there.module), [output]):
            return self.original(image).float()


@torch.inference_mode()
def stitched_outputs(
    models: tuple[nn.Module, nn.Module],
    fitted: tuple[Dataset, Dataset],
    data: tuple[Dataset, Dataset],
    run: Run,
    *,
    stage: str = "stitch",
) -> Tables:
    """The original's outputs if its lower layers had been those of a model, cut at the end of each stage.

    Args:
        models: The model and the original, on the run's device, in eval mode; they may be one.
        fitted: Images that the stitches are fitted on, normalised for each of the two.
        data: Images to read, likewise.
        run: Where; one process.
        stage: Name in the progress display.

    Returns:
        ``stitched1`` ... by stage of the original, float32 (image, label); empty if no stage is in both.
    """
    look = batch_of(data[0], np.arange(min(2, len(data[0]))), run.device).image
    stages = shared_stages(*models, len(data[0].labels), look)
    tables: Tables = {}
    with run.log.track(stage, len(stages) * (len(fitted[0]) + len(data[0])), "images") as advance:
        for here, there in stages:
            cut = Cut(*models, here, there)
            with run.fabric.autocast():
                like = cut.whole(look)
                stitch = fit_stitch(
                    (cut.lower(image).cpu(), rows_of(cut.whole(image_too), there).cpu())
                    for image, image_too in _batches(fitted, run, advance)
                ).to(run.device)
                said = [
                    cut.upper(image_too, shaped_like(stitch(cut.lower(image)), like, there, len(image)))
                    for image, image_too in _batches(data, run, advance)
                ]
            tables[there.name.replace("stage", PREFIX)] = torch.cat(said).cpu().numpy()
    return tables


def _batches(
    data: tuple[Dataset, Dataset], run: Run, advance: Callable[[int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same images, normalised for each of two networks."""
    for one, other in zip(in_order(data[0], run, BATCH), in_order(data[1], run, BATCH), strict=True):
        yield one.image, other.image
        advance(len(one.rows))


def stitched_tables(item: Loaded, original: Loaded, sets: Sets, where: Run) -> Tables:
    """What the original says of the test split from a run's lower layers, from the cache or for it.

    Args:
        item: The run.
        original: The original.
        sets: The probe split, on part of which the stitches are fitted, and the test split.
        where: One process.
    """
    rank = uniform(where.seed, "audit/stitch", sets.probe.rows)
    few = sets.probe.take(np.sort(np.argsort(rank, kind="stable")[:FITTED]))

    def normalised(part: Dataset) -> tuple[Dataset, Dataset]:
        one, other = (replace(part, mean=each.config.mean, std=each.config.std) for each in (item, original))
        return one, other

    def make() -> Tables:
        models = engine.place(item.model, where).eval(), engine.place(original.model, where).eval()
        title = f"read {item.path.name} (stitched)"
        return stitched_outputs(models, normalised(few), normalised(sets.test), where, stage=title)

    seen = str((original.config.mean, original.config.std, FITTED, RIDGE, where.seed))
    key = key_of(item, sets.digest, "stitched by order", original.key, seen)
    tables = kept_tables(
        make,
        lambda tables: all(len(table) == len(sets.test) for table in tables.values()),
        normalised(sets.test)[0],
        where,
        None if original.in_memory else key,
    )
    return dict(sorted(tables.items()))


def with_stitched(
    loaded: Sequence[Loaded], subjects: Sequence[Subject], sets: Sets, where: Run
) -> list[Subject]:
    """The same models with what the original says from their lower layers among their test features.

    Args:
        loaded: The models, the original first.
        subjects: The same, as they were read.
        sets: The probe and test splits.
        where: One process.
    """
    read = partial(stitched_tables, original=loaded[0], sets=sets, where=where)
    tables = [read(item) for item in loaded]
    names = [name for name in tables[0] if all(name in other for other in tables)]
    return [
        replace(subject, test=with_tables(subject.test, found, names))
        for subject, found in zip(subjects, tables, strict=True)
    ]


def stitched_readings(subject: Subject, question: Question) -> dict[str, Estimate]:
    """By stage, the advantage of the original's own output for the label, from this model's lower layers.

    A stage that says nothing finite says nothing.

    Args:
        subject: See `with_stitched`.
        question: The label.
    """
    return {
        name.replace(PREFIX, "stage"): advantage(
            np.nan_to_num(table[:, question.column], posinf=0.0, neginf=0.0),
            question.test,
            question.test_cluster,
        )
        for name, table in subject.test.features.items()
        if name.startswith(PREFIX)
    }
