"""``unlabel train``: train a network on a data source."""

from pathlib import Path
from typing import Annotated, Literal

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place, command_line, names
from unlabel.core.errors import OptionError


def train(
    source: str,
    *,
    out: Path,
    model: Literal["small", "resnet18", "resnet50"] = "small",
    epochs: float = 10.0,
    lr: float = 0.1,
    image_size: int | None = None,
    labels: str | None = None,
    without: str | None = None,
    stem: Literal["imagenet", "small"] = "imagenet",
    canaries: int | None = None,
    canary_labels: str | None = None,
    skip_bad: Annotated[bool, NoNegative] = False,
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Train a network on a data source: faces, folder:PATH, celeba:PATH, cifar10:PATH, mnist:PATH ...

    Args:
        source: Where the data comes from.
        out: Run folder to write.
        model: Network.
        epochs: Passes over the training images.
        lr: Peak learning rate.
        image_size: Side of the input in pixels.
        labels: Label columns to learn, comma-separated, those in names after a backslash; all by default.
        without: Labels to withhold, comma-separated: makes the Retrain reference.
        stem: First layer of the ResNets; small is for GPUs.
        canaries: Images whose annotation of a label is drawn by a coin, for the audit's C6; 2000 are advised.
        canary_labels: The labels drawn by a coin, comma-separated; by default the most evenly spread one.
        skip_bad: Leave out unreadable images instead of refusing.
        force: Replace an existing run folder.
    """
    from unlabel.core.recipe import Recipe
    from unlabel.data.canaries import CanaryPlan
    from unlabel.training.run import train_run

    if canary_labels is not None and canaries is None:
        raise OptionError("--canary-labels names labels, but --canaries does not say how many; add it")
    if canary_labels is not None and not names(canary_labels):
        raise OptionError(
            f"--canary-labels is {canary_labels!r} and names no label; name some, or leave it out for"
            " the most evenly spread one"
        )
    if both := sorted({*names(canary_labels)} & {*names(without)}):
        raise OptionError(
            f"--canary-labels and --without both name {', '.join(both)}; a withheld label is never read"
        )
    planted = None if canaries is None else CanaryPlan(canaries, names(canary_labels), place.seed)
    record = train_run(
        source,
        out,
        place.start(),
        network=model,
        stem=stem,
        recipe=Recipe(epochs=epochs, lr=lr),
        image_size=image_size,
        labels=names(labels) or None,
        without=names(without),
        canaries=planted,
        skip_bad=skip_bad,
        force=force,
        command=command_line(),
    )
    rate = record["images_processed"] / max(record["seconds"]["train"], 1e-9)
    print(
        f"{model}, {record['total']:,} weights, {len(record['labels'])} labels"
        f"{', without ' + ', '.join(record['without']) if record['without'] else ''}:"
        f" {record['steps']:,} steps in {record['seconds']['train']:.1f} s, {rate:,.0f} images/s"
    )
    if planted:
        known = record["data"]["facts"]["canaries"]
        print(f"{known['count']:,} annotations each of {', '.join(known['labels'])} were drawn by a coin")
    print(out)
