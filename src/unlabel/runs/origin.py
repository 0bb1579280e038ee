"""How a run was made, as its ``unlabel.json`` holds it; entries that no run can have are refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from unlabel.core.errors import ModelError
from unlabel.core.layout import Layout
from unlabel.core.reading import typed
from unlabel.core.recipe import Recipe

MOST_IMAGES = 2**20  # in one step
MADE = ("train", "adopt")  # methods that forget nothing


@dataclass(frozen=True)
class Plan:
    """How a run's first ancestor was trained: network, recipe, images a step and images at a time."""

    network: str
    stem: str
    recipe: Recipe
    batch_size: int
    micro_batch: int
    head: Layout | None = None

    def __post_init__(self) -> None:
        if not all(1 <= size <= MOST_IMAGES for size in (self.batch_size, self.micro_batch)):
            raise ModelError(f"a batch is not of 1 to {MOST_IMAGES:,} images")


@dataclass(frozen=True)
class Parent:
    """The run that a run was made from: its folder, and the hash of its weights."""

    run: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Ancestor:
    """A run before: its folder, the hash of its weights, how it was made; None for what is not known."""

    run: str
    sha256: str
    method: str | None = None
    labels: tuple[str, ...] | None = None
    annotations: int | None = None
    date: str | None = None


@dataclass(frozen=True)
class DataRecord:
    """The data of a run: where it is, a digest of its content, and what was found on reading it."""

    source: str | None = None
    digest: str | None = None
    facts: dict[str, Any] | None = None

    @property
    def skipped_bad(self) -> bool:
        """Whether images that could not be read were left out."""
        return bool((self.facts or {}).get("skipped_bad"))


@dataclass(frozen=True)
class Adopted:
    """The file that an adopted model came in, and the labels whose outputs were constants there."""

    weights: str | None = None
    container: str | None = None
    prefix: str | None = None
    filled: tuple[str, ...] | None = None
    constant: tuple[str, ...] | None = None
    notes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Rows:
    """The single annotations that a run forgot, where it forgot no whole label."""

    count: int | None = None


@dataclass(frozen=True)
class Record:
    """How a run was made; None for what is not recorded.

    Args:
        method: ``train``, ``adopt``, or the method that forgot labels.
        labels: What it forgot; of a trained or adopted run, all its labels.
        without: Labels that a trained or adopted run was never shown.
        rows: The single annotations that it forgot.
        blueprint: How its first ancestor was trained.
        short: Share of another run's epochs that it was trained for, to predict a reference from; above 0 and
            below 1.
        start: From which weights that training began; ``unknown`` where that is not recorded.
        parent, ancestors: The runs that it came from, the parent first.
        data, adopted: Its data; the file that its first ancestor was adopted from.
        seed, device, precision, processes, versions, command, date: Where, when and by what it was made.
        nodes, micro_batch, compiled: On how many machines, how many images at a time, whether ``--compile``
            was given.
        options, requested_method, retained: Of the method.
        seconds: Wall clock, by stage.
        steps, images_used, images_processed, changed, total: The bill: optimiser steps, different images,
            images with repeats, weights changed, weights in all.
        raw: The whole record as the file holds it, with entries that this version does not know.

    Raises:
        ModelError: It forgot something, but not which labels.
    """

    method: str | None = None
    labels: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None
    rows: Rows | None = None
    blueprint: Plan | None = None
    short: float | None = None
    start: str | None = None
    parent: Parent | None = None
    ancestors: tuple[Ancestor, ...] | None = None
    data: DataRecord | None = None
    adopted: Adopted | None = None
    seed: int | None = None
    device: str | None = None
    precision: str | None = None
    processes: int | None = None
    nodes: int | None = None
    micro_batch: int | None = None
    compiled: bool | None = None
    versions: dict[str, Any] | None = None
    command: str | None = None
    date: str | None = None
    options: dict[str, Any] | None = None
    requested_method: str | None = None
    retained: dict[str, Any] | None = None
    seconds: dict[str, float] | None = None
    steps: int | None = None
    images_used: int | None = None
    images_processed: int | None = None
    changed: int | None = None
    total: int | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.short is not None and not 0 < self.short < 1:
            raise ModelError(f"trained for a share of {self.short:g}, but shares are above 0 and below 1")
        if self.forgets and self.labels is None:
            raise ModelError(f"the method {str(self.method)[:40]!r}, but no labels that it forgot")

    @property
    def forgets(self) -> bool:
        """Whether a method made it that forgets labels."""
        return self.method is not None and self.method not in MADE

    @property
    def digest(self) -> str | None:
        """Of the content of its data."""
        return self.data.digest if self.data else None


def record_of(raw: Mapping[str, Any]) -> Record:
    """A record of its JSON value.

    Raises:
        ValueError: An entry is of another type; see `core.reading.typed`.
        UnlabelError: A value is out of range.
    """
    record = replace(typed({**raw, "raw": {}}, Record), raw=dict(raw))
    if record.blueprint:  # an entry that is not known here would train another model
        odd = raw["blueprint"]["recipe"].keys() - {item.name for item in fields(Recipe)}
        if odd:
            raise ModelError(f"blueprint.recipe: {sorted(odd)[0][:40]!r} is not known")
    return record
