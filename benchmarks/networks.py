"""Every method on other people's networks: what do the retained labels lose, and is it told?

python benchmarks/networks.py --out DIR [--networks vit,convnext]        docs/results/networks.md

Six architectures of timm, in tiny sizes and with random weights, are trained on drawings of faces; then every
method of the catalogue but `retrain` forgets Male with its defaults. Figures are on new drawings, E; the
warning is what `unlabel forget` prints, from training images held back. One JSON file a network and method is
kept in DIR: a run that was ended goes on where it was.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.loss import label_loss
from unlabel.data import load
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import METHODS
from unlabel.forget.retained import warning
from unlabel.forget.run import MAX_LOSS
from unlabel.models.features import outputs
from unlabel.statistics.estimate import auc, mean

SOURCE = "faces:train=4000,probe=1000,test=2000"
SIDE = 64
LABEL = "Male"
EPOCHS = 8
BATCH = 64
RATE = 2e-3


def networks() -> dict[str, Callable[[int], nn.Module]]:
    """Builders by name; each takes the number of labels.

    Raises:
        SystemExit: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise SystemExit(f"{error}; install timm: pip install 'unlabel[timm]'") from error

    def made(name: str, **options: Any) -> Callable[[int], nn.Module]:
        return lambda outputs: timm.create_model(name, pretrained=False, num_classes=outputs, **options)

    return {
        "vit": made("vit_tiny_patch16_224", img_size=SIDE, patch_size=8, embed_dim=64, depth=3, num_heads=2),
        "convnext": made("convnext_atto", depths=(1, 1, 2, 1), dims=(24, 48, 96, 192)),
        "swin": made(
            "swin_tiny_patch4_window7_224",
            img_size=SIDE,
            patch_size=8,
            window_size=4,
            embed_dim=48,
            depths=(2, 2),
            num_heads=(2, 4),
        ),
        "efficientnet": made("efficientnet_lite0"),
        "mobilenetv3": made("mobilenetv3_small_050"),
        "resnet18": made("resnet18"),
    }


def read(model: nn.Module, source: Source, run: Run) -> dict[str, Any]:
    """Mean AUC of the retained labels, and what a linear probe of the features makes of the label, on E."""
    probe, test = (outputs(model, part, run) for part in (source.probe, source.test))
    column = source.labels.index(LABEL)
    columns = [at for at in range(len(source.labels)) if at != column]
    cluster = source.test.cluster
    areas = [auc(test.logits[:, at], source.test.target[:, at], cluster) for at in columns]
    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    features = [part.features["penultimate"].astype(np.float64) for part in (probe, test)]
    reader.fit(features[0], source.probe.target[:, column])
    probe_area = auc(reader.decision_function(features[1]), source.test.target[:, column], cluster)
    return {"retained": mean(areas).value, "se": mean(areas).se, "probe": probe_area.value}


def trained(name: str, source: Source, out: Path, run: Run) -> nn.Module:
    """The network, from DIR if it was trained there."""
    torch.manual_seed(0)
    model = networks()[name](len(source.labels))
    file = out / f"{name}.pt"
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    started = time.perf_counter()
    learn(model.train(), source.train, run)
    print(f"{name}: trained in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    torch.save(model.state_dict(), file)
    return model.eval()


def learn(
    model: nn.Module,
    data: Dataset,
    run: Run,
    *,
    columns: Sequence[int] | None = None,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> None:
    """AdamW with one cycle, mirrored at random: transformers learn little in so few steps of plain SGD.

    Args:
        model: Trained in place.
        data: Images and annotations.
        run: Where.
        columns: The labels to learn; all by default.
        epochs: Passes over the images.
        seed: Of the order and the mirroring.
    """
    columns = range(len(data.labels)) if columns is None else columns
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.02)
    steps = epochs * (len(data) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(data))
        for start in range(0, len(data) - BATCH + 1, BATCH):
            batch = batch_of(data, order[start : start + BATCH], run.device)
            image = batch.image.flip(3) if rng.random() < 0.5 else batch.image
            loss = label_loss(model(image), batch.target, columns).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            cycle.step()


def measure(name: str, method: str, model: nn.Module, source: Source, run: Run) -> dict[str, Any]:
    """One row: a method on a network, or ``original``."""
    started = time.perf_counter()
    if method == "original":
        return read(model, source, run)
    try:
        outcome = forget_labels(model, [LABEL], source.train, method=method, run=run)
    except UnlabelError as error:
        return {"refused": str(error)}
    seconds = time.perf_counter() - started
    retained = outcome.retained.to_json()
    told = "refused" if outcome.retained.past(MAX_LOSS) else "warned" if warning(retained) else ""
    return {**read(outcome.model, source, run), "told": told, "held_back": retained, "seconds": seconds}


def show(rows: dict[tuple[str, str], dict[str, Any]], names: list[str]) -> None:
    """A Markdown table a network."""
    for name in names:
        before = rows.get((name, "original"))
        if before is None:
            continue
        print(f"\n## {name}\n")
        print(
            "| method | retained mean AUC, E | change | held back: before, after | told |"
            " Male, linear probe |"
        )
        print("| --- | --- | --- | --- | --- | --- |")
        print(f"| original | {before['retained']:.4f} | | | | {before['probe']:.3f} |")
        for (network, method), row in rows.items():
            if network != name or method == "original":
                continue
            if "refused" in row:
                print(f"| {method} | not run: {row['refused']} | | | | |")
                continue
            held = [row["held_back"][side] for side in ("before", "after")]
            values = ", ".join(f"{side['value']:.3f}" for side in held if side)
            change = row["retained"] - before["retained"]
            print(
                f"| {method} | {row['retained']:.4f} | {change:+.4f} | {values} | {row['told']} |"
                f" {row['probe']:.3f} |"
            )


def main() -> None:
    """Measures what is missing in DIR, then prints everything that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default="vit,convnext,swin,efficientnet,mobilenetv3,resnet18")
    parser.add_argument("--methods", default="", help="all but aliases by default")
    parser.add_argument("--table", action="store_true", help="measure nothing, print what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.networks.split(",")
    catalogue = [name for name, method in METHODS.items() if not method.alias_of and method.data != "train"]
    methods = given.methods.split(",") if given.methods else catalogue
    given.out.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    run, source = engine.start(accelerator="cpu"), load(SOURCE, image_size=SIDE)
    for name in names:
        model = None
        for method in ["original", *methods]:
            file = given.out / f"{name}-{method}.json"
            if not file.is_file() and not given.table:
                model = trained(name, source, given.out, run) if model is None else model
                row = measure(name, method, model, source, run)
                file.write_text(json.dumps(row))
                print(name, method, row, file=sys.stderr, flush=True)
            if file.is_file():
                rows[name, method] = json.loads(file.read_text())
    show(rows, names)


if __name__ == "__main__":
    main()
