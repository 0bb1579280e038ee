"""What `unlabel inspect` shows: a network's head and sites, found by one forward pass on noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlabel.core.errors import ModelError
from unlabel.core.framing import plain_size, size_in_words
from unlabel.core.layout import Layout
from unlabel.core.wording import listing
from unlabel.forget.self_check import SITES
from unlabel.models.custom import one_line
from unlabel.models.head import find_head
from unlabel.models.sites import find_sites
from unlabel.runs.folder import load_run

READ = {
    "stage": "mean over positions",
    "grid": "mean over quarters, with random filters",
    "features": "what the head reads",
    "outputs": "logits of the retained labels",
}
JOINED = "joined head"
MOST = 8
"""Lines of layers."""


def noise(shape: tuple[int, int, int]) -> Tensor:
    """Two pictures of random numbers, of a shape (channel, height, width)."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def inspect_run(run: Path) -> dict[str, Any]:
    """The head and the sites of a run's network, and the protections that read each site.

    Raises:
        MissingFiles: The folder is no run.
        ModelError: The network raises on a picture of the recorded size.
    """
    loaded = load_run(run)
    config, model = loaded.config, loaded.model.eval()
    size = size_in_words(config.image_size)
    try:
        facts = facts_of(model, config.labels, noise(config.input_shape), config.head)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the model of {run} raised {one_line(error)} on two pictures of {size}, the"
            " recorded size; is the run's code still the code that it was made with?"
        ) from error
    return {"run": str(run), "network": config.network, "image_size": plain_size(config.image_size), **facts}


def facts_of(
    model: nn.Module, labels: Sequence[str], images: Tensor, layout: Layout | None
) -> dict[str, Any]:
    """The head and the sites of a network with one linear head, as `inspect_run` and ``--json`` give them."""
    name, head = find_head(model, len(labels))
    sites = find_sites(model, len(labels), images)

    def own(module: str) -> str:
        """A module's name in the user's own network."""
        if layout is None:
            return module
        return JOINED if module == name else module.removeprefix("network.")

    return {
        "head": {
            "module": own(name),
            "features": head.in_features,
            "labels": list(labels),
            **_layers(layout, labels),
        },
        "sites": [
            {
                "site": site.name,
                "module": own(site.module),
                "positions": list(site.size),
                "features": site.width,
                "read": READ[site.kind],
                "against": [against for against, kinds in SITES.items() if site.kind in kinds],
            }
            for site in sites
        ],
    }


def _layers(layout: Layout | None, labels: Sequence[str]) -> dict[str, Any]:
    """The final layers that the head joins, with the labels that each makes."""
    if layout is None:
        return {}
    makes: dict[str, list[str]] = {layer.module: [] for layer in layout.layers}
    for label, rows in zip(labels, layout.rows, strict=True):
        for module in {layout.owner(row)[0].module for row in rows}:
            makes[module].append(label)
    layers = [
        {
            "module": layer.module,
            "kind": "1x1 convolution" if layer.convolution else "linear",
            "features": layer.features,
            "outputs": layer.outputs,
            "input": layer.reads,
            "bias": layer.bias,
            "labels": makes[layer.module],
        }
        for layer in layout.layers
    ]
    return {"layers": layers, "two_logits": layout.pairs, "also_features": layout.features}


def table(facts: dict[str, Any]) -> str:
    """The same as lines for a terminal."""
    head = facts["head"]
    lines = [
        f"network  {facts['network']}, {size_in_words(facts['image_size'])}",
        *(f"returns  {part}" for part in facts.get("returns", [])),
        f"head     {head['module']}: {head['features']:,} features -> {len(head['labels'])} labels",
        *(f"note     {note}" for note in facts.get("notes", [])),
        *_layer_lines(head),
        "",
        f"{'site':<10}{'module':<34}{'positions':<12}{'features':>8}  {'read as':<42}--against",
    ]
    for row in facts["sites"]:
        size = " x ".join(map(str, row["positions"])) or "-"
        lines.append(
            f"{row['site']:<10}{row['module']:<34}{size:<12}{row['features']:>8,}  {row['read']:<42}"
            f"{', '.join(row['against'])}"
        )
    return "\n".join(lines)


def _layer_lines(head: dict[str, Any]) -> list[str]:
    """A picture of a head that joins several layers: what each reads and makes."""
    if "layers" not in head:
        return []
    lines = ["", f"{'reads':<28}{'layer':<34}{'outputs':>8}  makes"]
    for row in head["layers"][:MOST]:
        read = f"input {row['input'] + 1}, {row['features']:,} features"
        kind = "" if row["kind"] == "linear" else f", {row['kind']}"
        plain = "" if row["bias"] else ", no bias"
        two = "two logits each of " if head["two_logits"] else ""
        lines.append(
            f"{read:<28}{row['module']:<34}{row['outputs']:>8,}  {two}{listing(row['labels'])}{kind}{plain}"
        )
    if len(head["layers"]) > MOST:
        lines.append(f"and {len(head['layers']) - MOST} more layers (--json prints all)")
    if head["also_features"] is not None:
        lines.append(f"features, too: what '{head['also_features']}' makes")
    return lines


def refused_table(facts: dict[str, Any]) -> str:
    """What was found of a network that cannot be adopted as it is, and what to write."""
    lines = [
        f"network  {facts['network']}, {size_in_words(facts['image_size'])}",
        *(f"returns  {part}" for part in facts["returns"]),
        f"problem  {facts['problem']}",
    ]
    if facts["candidates"]:
        lines += ["", f"{'layer, in the order of use':<44}{'kind':<18}{'features':>8}{'outputs':>9}  used"]
        for row in facts["candidates"][-MOST:]:
            times = "once" if row["times"] == 1 else f"{row['times']} times"
            last = ", a last one before the outputs" if row["final"] else ""
            lines.append(
                f"{row['module']:<44}{row['kind']:<18}{row['features']:>8,}{row['outputs']:>9,}"
                f"  {times}{last}"
            )
    if facts["write"]:
        lines += ["", f"What to write, in a file beside {facts['network'].partition(':')[0]}:", ""]
        lines += [f"    {line}".rstrip() for line in facts["write"]]
    return "\n".join(lines)
