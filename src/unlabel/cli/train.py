"""``unlabel train``: train a network on a data source."""

from pathlib import Path
from typing import Annotated, Literal

from unlabel.cli.options import (
    DEFAULT_PICTURES,
    DEFAULT_PLACE,
    Json,
    NoNegative,
    Pictures,
    Place,
    command_line,
    named,
    typed,
)
from unlabel.cli.output import print_json
from unlabel.cli.tracking import tracker
from unlabel.core.errors import OptionError
from unlabel.core.framing import CENTRE
from unlabel.core.wording import suggest


def train(
    source: str,
    *,
    out: Path,
    model: str = "small",
    epochs: float = 10.0,
    lr: float = 0.1,
    labels: str | None = None,
    without: str | None = None,
    stem: Literal["imagenet", "small"] = "imagenet",
    canaries: int | None = None,
    canary_labels: str | None = None,
    skip_bad: Annotated[bool, NoNegative] = False,
    track: str | None = None,
    json_: Json = False,
    force: Annotated[bool, NoNegative] = False,
    pictures: Pictures = DEFAULT_PICTURES,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Train a network on a data source: faces, folder:PATH, celeba:PATH, cifar10:PATH, mnist:PATH ...

    Args:
        source: Where the data comes from.
        out: Run folder to write.
        model: Network, always with random weights: small, resnet18, resnet50; timm:NAME, torchvision:NAME, or
            hf:DIR, the architecture of a folder of save_pretrained, whose weights are not read. Options of a
            network follow after commas, as in timm:NAME,img_size=64.
        epochs: Epochs over the training images.
        lr: Peak learning rate.
        labels: Labels to learn, comma-separated; all by default. Put a backslash before a comma in a name.
        without: Labels to withhold, comma-separated. The run is then a reference for audits.
        stem: First layer of the ResNets; small suits small images and needs a GPU.
        canaries: Number of images whose annotation of a label is replaced by a coin flip, for the audit's C6;
            2000 are advised.
        canary_labels: Labels of these annotations, comma-separated; by default the most balanced one.
        skip_bad: Leave out unreadable images instead of refusing.
        track: Curves of loss and learning rate for TensorBoard: tensorboard, or tensorboard:DIR.
        json_: Print the record as JSON.
        force: Replace an existing run folder.
    """
    from unlabel.core.recipe import Recipe
    from unlabel.data.canaries import CanaryPlan
    from unlabel.exchange.quality import sentence_of, val_quality
    from unlabel.models.build import BUILDERS, STEMMED
    from unlabel.models.named_options import is_named
    from unlabel.training.run import train_run

    if model not in BUILDERS and not is_named(model):
        raise OptionError(
            f"--model is '{model}'; expected {', '.join(BUILDERS)}, timm:NAME, torchvision:NAME or hf:DIR; a"
            " model of your own is trained by your code and then adopted: unlabel adopt."
            f"{suggest(model, BUILDERS)}"
        )
    if model not in STEMMED and typed("--stem"):
        raise OptionError(
            f"--stem is the first layer of {' and '.join(STEMMED)}, and --model is {model}; leave --stem out"
        )
    if canary_labels is not None and canaries is None:
        raise OptionError("--canary-labels names labels, but --canaries is not given; add --canaries 2000")
    coins, withheld = named("--canary-labels", canary_labels), named("--without", without)
    if both := sorted({*coins} & {*withheld}):
        raise OptionError(
            f"--canary-labels and --without both name {', '.join(both)}; name it in one of them only"
        )
    planted = None if canaries is None else CanaryPlan(canaries, coins, place.seed)
    record = train_run(
        source,
        out,
        place.start(tracker(track, out), nodes=True),
        network=model,
        stem=stem,
        recipe=Recipe(epochs=epochs, lr=lr),
        image_size=pictures.size(),
        framing=pictures.framing() or CENTRE,
        labels=named("--labels", labels) or None,
        without=withheld,
        canaries=planted,
        skip_bad=skip_bad,
        force=force,
        command=command_line(),
        judge=val_quality,
    )
    if json_:
        print_json({"run": str(out), **record})
        return
    rate = record["images_processed"] / max(record["seconds"]["train"], 1e-9)
    print(
        f"{record['options']['network']}, {record['total']:,} weights, {len(record['labels'])} labels"
        f"{', without ' + ', '.join(record['without']) if record['without'] else ''}:"
        f" {record['steps']:,} steps in {record['seconds']['train']:.1f} s, {rate:,.0f} images/s"
    )
    if planted:
        made = record["data"]["facts"]["canaries"]
        print(f"canaries: {made['count']:,} annotations each of {', '.join(made['labels'])}")
    if "val" in record:
        print(sentence_of(record["val"]))
    print(out)
