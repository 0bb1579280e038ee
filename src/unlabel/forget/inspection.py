"""What `unlabel inspect` shows: a network's head and sites, found by one forward pass on noise."""

from pathlib import Path
from typing import Any

import torch

from unlabel.core.errors import ModelError
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


def inspect_run(run: Path) -> dict[str, Any]:
    """The head and the sites of a run's network, and the protections that read each site.

    Raises:
        MissingFiles: The folder is no run.
        ModelError: The network raises on a picture of the recorded size.
    """
    loaded = load_run(run)
    config, model = loaded.config, loaded.model.eval()
    side = config.image_size
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    name, head = find_head(model, len(config.labels))
    try:
        sites = find_sites(model, len(config.labels), images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the model of {run} raised {one_line(error)} on two pictures of {side} x {side} pixels, the"
            " recorded size; is the run's code still the code that it was made with?"
        ) from error
    return {
        "run": str(run),
        "network": config.network,
        "image_size": side,
        "head": {"module": name, "features": head.in_features, "labels": list(config.labels)},
        "sites": [
            {
                "site": site.name,
                "module": site.module,
                "positions": list(site.size),
                "features": site.width,
                "read": READ[site.kind],
                "against": [against for against, kinds in SITES.items() if site.kind in kinds],
            }
            for site in sites
        ],
    }


def table(facts: dict[str, Any]) -> str:
    """The same as lines for a terminal."""
    head = facts["head"]
    lines = [
        f"network  {facts['network']}, {facts['image_size']} x {facts['image_size']} pixels",
        f"head     {head['module']}: {head['features']:,} features -> {len(head['labels'])} labels",
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
