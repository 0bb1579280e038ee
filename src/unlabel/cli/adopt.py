"""``unlabel adopt``: a model that was trained elsewhere becomes a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from unlabel.cli.options import (
    DEFAULT_PICTURES,
    DEFAULT_PLACE,
    NoNegative,
    Pictures,
    Place,
    command_line,
    named,
)
from unlabel.core.wording import listing, padded, quoted


def adopt(
    model: str,
    *,
    weights: Path | None = None,
    labels: Path | None = None,
    data: str,
    out: Path,
    mean: str | None = None,
    std: str | None = None,
    without: str | None = None,
    logits: str | None = None,
    features: str | None = None,
    start: str = "unknown",
    skip_bad: Annotated[bool, NoNegative] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    force: Annotated[bool, NoNegative] = False,
    pictures: Pictures = DEFAULT_PICTURES,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Make a run of a model that was trained elsewhere, if it predicts its labels better than chance.

    Args:
        model: small, resnet18, resnet50; timm:NAME, torchvision:NAME, or hf:DIR, a folder of save_pretrained;
            or package.module:function, which is imported and called. Options of a network follow after
            commas, as in timm:NAME,img_size=64.
        weights: Safetensors, or a state dict of torch.save; no code in it is run. Those in DIR for hf:DIR.
        labels: File with the name of each output, one per line, in order. Those in DIR for hf:DIR. With
            --without, all labels of the original.
        data: Data with those label columns: faces, folder:PATH.
        out: Run folder to write.
        mean: Means of red, green and blue, from 0 to 1, comma-separated. If left out, they are read from DIR
            or from timm's configuration of NAME; for other networks the loss decides.
        std: Standard deviations of red, green and blue; give it together with --mean.
        without: Labels that the model never saw, comma-separated. The run is then a reference for audits. If
            the model has no outputs for them, constants are put in. Put a backslash before a comma in a name.
        logits: Key or number of the part of a returned dict or tuple that holds the logits, if several may.
        features: Name of a module whose output counts as features, too: methods edit it, audits attack it.
        start: From which weights its training began, in a word or two: random, if it was trained from
            scratch. If it is not known, C2 of an audit stays provisional.
        skip_bad: Leave out unreadable images instead of refusing.
        json_: Print the record as JSON.
        force: Replace an existing run folder.
    """
    from unlabel.exchange.adopt import ForeignModel, adopt_run

    record = adopt_run(
        ForeignModel(model, weights, labels, mean, std, named("--without", without), logits, features, start),
        data,
        out,
        place.start(),
        image_size=pictures.size(),
        framing=pictures.framing(),
        skip_bad=skip_bad,
        force=force,
        command=command_line(),
    )
    if json_:
        print(json.dumps(record, ensure_ascii=False))
        return
    print("\n".join(lines(record)))
    print(out)


def lines(record: Mapping[str, Any], most: int = 5) -> list[str]:
    """What a person reads after adopting: normalisation, AUC by label, faults, and how exact the copy is.

    Args:
        record: Of `adopt_run`.
        most: Labels to print, the worst first.
    """
    from unlabel.exchange.check import swap_advice

    options, measured, fidelity = record["options"], record["auc"], record["fidelity"]
    colours = " ".join(f"--{name} " + ",".join(f"{v:g}" for v in options[name]) for name in ("mean", "std"))
    macro, labels = measured["macro"], measured["labels"]
    aucs = sorted((row["value"], name) for name, row in labels.items() if row)
    text = [
        f"{options['network']}, {record['total']:,} weights, {len(labels)} labels, from"
        f" {record['adopted']['weights']}",
        *record["adopted"]["notes"],
        f"normalisation  {colours}{' (chosen: it has the lowest loss)' if record['normalisation'] else ''}",
        *_framing_line(record),
        f"mean AUC       {macro['value']:.3f}  {macro['low']:.3f} to {macro['high']:.3f},"
        f" on {macro['n']:,} images",
    ]
    for value, name in aucs[:most]:
        row = labels[name]
        text.append(
            f"  {padded(name, 24)} {value:.3f}  {row['low']:.3f} to {row['high']:.3f}  n {row['n']:,}"
        )
    if len(aucs) > most:
        higher = len(aucs) - most
        text.append(f"  and {higher} label{'s' * (higher > 1)} with a higher AUC (--json prints all)")
    never, constant = record["without"], record["adopted"].get("constant", [])
    for group, fault in (
        (never, "withheld: the output is a constant"),
        (
            constant,
            "the output is a constant, as of a label that was removed earlier: it stays forgotten; if the"
            " model never saw it, name it in --without",
        ),
        (
            [name for name, row in labels.items() if row is None and name not in (*never, *constant)],
            "not measured: the test split has only images with it, or only without",
        ),
        (measured["at_chance"], "not better than chance"),
        (measured["inverted"], "inverted: the order of the labels is probably wrong"),
    ):
        if group:
            text.append(f"{listing(quoted(group))}: {fault}")
    if measured.get("swapped"):
        text.append(f"warning: {swap_advice(measured['swapped'])}, and adopt it again")
    largest = fidelity["largest_difference"]
    text.append(
        f"fidelity       outputs of the run and of the file itself:"
        f" {'the same bits' if largest == 0 else f'up to {largest:.1e} apart'} on {fidelity['n']:,} images"
    )
    return text


def _framing_line(record: Mapping[str, Any]) -> list[str]:
    """How photos come to the size, where that was tried."""
    fit = record.get("framing")
    if not fit:
        return []
    losses = "; ".join(f"{way} {loss:.4f}" for way, loss in fit["losses"].items())
    return [f"photos         --resize {fit['chosen']} (loss on {fit['n']:,} photos: {losses})"]
