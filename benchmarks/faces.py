"""Is there something to forget in `faces`? What one label's attacks find with and without training on it.

Trains `small` once on all labels (the original) and a few times with the label withheld (Retrain), then
reads the label from the penultimate features (linear probe), from the other labels' logits (logistic
regression, boosted trees) and from the raw pixels. Attacks are fitted on P and measured on E::

    python benchmarks/faces.py [--train 8000] [--retrains 3] [--label Male] [--threads 1]
    python benchmarks/faces.py --phi        residuals of the label statistics
    python benchmarks/faces.py --sheet docs/results/faces.png
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unlabel.core.engine import start
from unlabel.core.recipe import Recipe
from unlabel.data.dataset import Source
from unlabel.data.drawn.drawing import draw
from unlabel.data.drawn.faces import load_faces
from unlabel.data.drawn.joint import LABELS, celeba, fitted, moments, sample
from unlabel.data.options import ReadOptions
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE
from unlabel.training.fit import train

Rows = NDArray[np.floating]


def logistic() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def attack(model, on_probe: Rows, on_test: Rows, truth: tuple[Rows, Rows]) -> tuple[float, float]:
    """Bits of V-information and adv = |2 AUC - 1| of a classifier fitted on P and measured on E."""
    chance = model.fit(on_probe, truth[0]).predict_proba(on_test)[:, 1]
    base = truth[1].mean()
    entropy = -(base * np.log2(base) + (1 - base) * np.log2(1 - base))
    bits = entropy - log_loss(truth[1], chance) / np.log(2)
    return float(bits), float(abs(2 * roc_auc_score(truth[1], chance) - 1))


def small_pictures(pixels: NDArray[np.uint8]) -> Rows:
    """32 x 32 RGB, flattened."""
    n, side = pixels.shape[:2]
    block = side // 32
    return pixels.reshape(n, 32, block, 32, block, 3).mean((2, 4)).reshape(n, -1) / 255.0


def measure(source: Source, label: str, recipe: Recipe, seed: int, withheld: bool) -> dict[str, object]:
    """One network and what its features and other logits tell of the label."""
    column = source.labels.index(label)
    others = [k for k in range(len(source.labels)) if k != column]
    run = start(accelerator="cpu", seed=seed)
    begin = time.perf_counter()
    model, _ = train(source.train, recipe, run, without=[label] if withheld else [])
    seconds = time.perf_counter() - begin
    on_probe, on_test = outputs(model, source.probe, run), outputs(model, source.test, run)
    truth = (source.probe.target[:, column], source.test.target[:, column])
    bits, adv = attack(logistic(), on_probe.features[PENULTIMATE], on_test.features[PENULTIMATE], truth)
    other_outputs = on_probe.logits[:, others], on_test.logits[:, others]
    auc = [roc_auc_score(source.test.target[:, k], on_test.logits[:, k]) for k in range(len(source.labels))]
    return {
        "bits": bits,
        "adv": adv,
        "logistic": attack(logistic(), *other_outputs, truth)[1],
        "trees": attack(trees(), *other_outputs, truth)[1],
        "mean AUC": float(np.mean([auc[k] for k in others])),
        "auc": dict(zip(source.labels, auc, strict=True)),
        "seconds": seconds,
    }


def trees() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=200, random_state=0)


def line(name: str, row: dict) -> str:
    keys = ("bits", "adv", "logistic", "trees", "mean AUC")
    return f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in keys) + f" | {row['seconds']:.0f} |"


def acceptance(options: argparse.Namespace) -> None:
    """Prints the table of docs/results/faces.md."""
    torch.set_num_threads(options.threads)
    source = load_faces(f"train={options.train}", ReadOptions(workers=options.threads))
    label, recipe = options.label, Recipe(epochs=options.epochs)
    column = source.labels.index(label)
    truth = (source.probe.target[:, column], source.test.target[:, column])
    floor = [np.delete(part.target, column, axis=1) for part in (source.probe, source.test)]
    bits, adv = attack(logistic(), *floor, truth)
    print(f"floor, {label} from the other labels' truth: bits {bits:.3f}, adv {adv:.3f}", flush=True)
    pixels = [small_pictures(part.images(slice(None))) for part in (source.probe, source.test)]
    reduced = PCA(128, random_state=0).fit(pixels[0])
    bits, adv = attack(logistic(), *(reduced.transform(part) for part in pixels), truth)
    print(f"raw pixels, 128 components: bits {bits:.3f}, adv {adv:.3f}\n", flush=True)
    print("| model | probe bits | probe adv | others, logistic | others, trees | mean AUC | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    original = measure(source, label, recipe, 0, False)
    print(line("original", original), flush=True)
    rows = []
    for seed in range(1, options.retrains + 1):
        rows.append(measure(source, label, recipe, seed, True))
        print(line(f"Retrain, seed {seed}", rows[-1]), flush=True)
    keys = ("bits", "adv", "logistic", "trees", "mean AUC")
    mean = {key: np.mean([row[key] for row in rows]) for key in (*keys, "seconds")}
    print(line("Retrain, mean", mean))
    if len(rows) > 1:
        print(
            "deviation of Retrain: "
            + ", ".join(f"{k} {np.std([r[k] for r in rows], ddof=1):.3f}" for k in keys)
        )
    print("original - Retrain: " + ", ".join(f"{k} {original[k] - mean[k]:+.3f}" for k in keys))
    print("AUC in the original: " + ", ".join(f"{name} {auc:.3f}" for name, auc in original["auc"].items()))


def residuals() -> None:
    """Prints how far the drawn labels' statistics are from CelebA's: exact, without sampling noise."""
    facts, exact = celeba(LABELS[:10]), moments(fitted(10))
    error = exact.phi - facts.phi
    print("| phi - CelebA's, x 1,000 | " + " | ".join(LABELS[:10]) + " |")
    print("| --- " * 11 + "|")
    for k, name in enumerate(LABELS[:10]):
        print(
            f"| {name} | "
            + " | ".join(f"{1000 * error[k, j]:+.2f}" if j < k else "" for j in range(10))
            + " |"
        )
    print(f"\nlargest: phi {np.abs(error).max():.4f}, prevalence ", end="")
    print(f"{np.abs(exact.prevalence - facts.prevalence).max():.5f}")
    drawn, n = len(LABELS), 1_000_000
    target = sample(0, np.arange(n), drawn).astype(np.float64)
    everything = celeba(LABELS)
    error = np.abs(np.corrcoef(target.T) - everything.phi)
    worst = np.unravel_index(error.argmax(), error.shape)
    print(
        f"all {drawn} labels, {n:,} draws: phi {error.max():.4f}, {' and '.join(LABELS[k] for k in worst)}; ",
        end="",
    )
    print(f"prevalence {np.abs(target.mean(0) - everything.prevalence).max():.4f}")


def sheet(path: Path, columns: Sequence[int] = range(10), size: int = 64) -> None:
    """24 drawn faces, and below them each default label off and on in three faces."""
    index = np.arange(24)
    top = draw(0, index, sample(0, index, 10), size).reshape(2, 12, size, size, 3)
    strips = []
    for column in columns:
        target = np.zeros((6, 10), np.int8)
        target[:, [6, 9]] = 1  # young and without a beard, as most are
        target[0::2, column], target[1::2, column] = 0, 1
        strips.append(draw(0, np.repeat([0, 8, 17], 2), target, size))
    # Two labels side by side in each row.
    rows = np.array(strips).reshape(len(strips) // 2, 12, size, size, 3)
    grid = np.concatenate([top, rows])
    height = len(grid)
    picture = grid.transpose(0, 2, 1, 3, 4).reshape(height * size, 12 * size, 3)
    picture[2 * size : 2 * size + 2] = 255
    picture[2 * size :, 6 * size - 1 : 6 * size + 1] = 255
    Image.fromarray(picture).quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=int, default=8000)
    parser.add_argument("--retrains", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--label", default="Male")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--phi", action="store_true")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    if options.phi:
        residuals()
    elif options.sheet:
        sheet(options.sheet)
    else:
        acceptance(options)


if __name__ == "__main__":
    main()
