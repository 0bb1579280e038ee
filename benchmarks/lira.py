"""Shadow models against planted annotations: LiRA beside the attacks of C6. docs/results/lira.md.

python benchmarks/lira.py --out DIR [--networks 16] [--epochs 4] [--augment] [--methods erasure,fine-tune]

Trains networks on the same images, each with coins of its own in the same canaries; makes each forget the
label by each method; attacks each in turn, the others being its shadows. Prints a Markdown table. One file a
network and model is kept in DIR: what was ended goes on where it was, and more networks or methods can be
asked for later. Every network is drawn by a key, so that 16 of 32 are the same 16.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from scipy.stats import binom
from torch import nn

from unlabel.audit.attacks.canaries import calibrated, kept_for_test, privacy_lost, which_told_right
from unlabel.audit.attacks.lira import Told, each_in_turn, standardised, told
from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.files import write_bytes, write_text
from unlabel.core.randomness import uniform
from unlabel.core.recipe import Recipe
from unlabel.data import load
from unlabel.data.canaries import CanaryPlan, Planted, plant
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.driver import forget_labels
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.contrast import holm
from unlabel.statistics.estimate import Estimate, Floats, auc, average
from unlabel.training.fit import train

OPTIONS = AuditOptions()
FINE_TUNE_STEPS = 31  # one pass over 2,000 images
NETWORK = "small"
SCORES = ("own", "probe")
WAYS = {"LiRA": False, "LiRA, shrunk": True}
GROUPS = (4, 8, 16, 32)  # networks
CALIBRATED = "C6, less retrained"
REDRAWS = 40
FEWEST = 4
REFERENCES = 3
FIRST_REFERENCE = 1000  # seed


@dataclass(frozen=True)
class World:
    """What all networks have in common.

    Args:
        data: The data source; with a test split, on which the label's AUC is measured.
        label: The forgotten label.
        epochs, augment: Of the training.
        canaries: Images whose annotation is a coin.
    """

    data: str
    label: str
    epochs: float
    augment: bool
    canaries: int

    @property
    def recipe(self) -> Recipe:
        """Of every network."""
        return Recipe(epochs=self.epochs, augment=self.augment)


def coins_of(network: int, images: Dataset) -> np.ndarray:
    """The coins of one network, independent of all others; int8 (canary,)."""
    return (uniform(network, "lira/coin", images.rows) < 0.5).astype(np.int8)


def with_coins(source: Source, canaries: Planted, column: int, coins: np.ndarray) -> Dataset:
    """The training images, with these coins in the canaries."""
    target = source.train.target.copy()
    target[canaries.positions, column] = coins
    return replace(source.train, target=target)


def read(
    model: nn.Module, row: Floats, data: Dataset, canaries: Planted, column: int, run: Run
) -> dict[str, Floats]:
    """Both scores of the canaries: of the original's output row, and of a probe of the other annotations.

    The bias of the row, which shifts all scores alike, is left out.
    """
    features = outputs(model, data, run).features[PENULTIMATE].astype(np.float64)
    honest = np.delete(np.arange(len(data)), canaries.positions)
    honest = honest[data.target[honest, column] >= 0]
    standard = Standard.of(features[honest])
    probe = fit_logistic(standard(features[honest]), data.target[honest, column] == 1)
    mine = features[canaries.positions]
    return {"own": mine @ row, "probe": probe.decision_function(standard(mine))}


def settings(method: str, world: World, images: int) -> Mapping[str, Any]:
    """Options of a method: a short fine-tuning, and what the command tells auto of the original."""
    if method == "fine-tune":
        return {"steps": FINE_TUNE_STEPS}
    return {"images_trained": int(world.epochs * images)} if method == "auto" else {}


def keep(file: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file whole or not at all, so that what was ended can go on."""
    buffer = BytesIO()
    write(buffer)
    write_bytes(file, buffer.getvalue())


def make(world: World, out: Path, networks: int, methods: Sequence[str]) -> None:
    """Every network and unlearned network whose scores are not kept yet."""
    source, planting = plant(load(world.data), CanaryPlan(world.canaries, (world.label,)))
    canaries, column = planting[world.label], source.labels.index(world.label)
    images = source.train.take(canaries.positions)
    for network in range(networks):
        run, coins = engine.start(seed=network, accelerator="cpu"), coins_of(network, images)
        data = with_coins(source, canaries, column, coins)
        missing = [name for name in ("original", *methods) if not (out / f"{network:02}.{name}.npz").exists()]
        if not missing:
            continue
        begun, weights = time.process_time(), out / f"{network:02}.pt"
        if weights.exists():
            original = build(NETWORK, len(data.labels))
            original.load_state_dict(torch.load(weights, weights_only=True))
        else:
            original, _ = train(data, world.recipe, run, network=NETWORK)
            keep(weights, lambda file, made=original: torch.save(made.state_dict(), file))
        _, head = find_head(original, len(data.labels))
        row = head.weight[column].detach().double().numpy()
        for name in missing:
            model = original
            if name != "original":
                given = settings(name, world, len(data))
                model = forget_labels(original, world.label, data, name, run=run, **given).model
            kept: dict[str, Any] = read(model, row, data, canaries, column, run)
            if name == "original":
                kept["test"] = outputs(model, source.test, run).logits[:, column]
            kept |= {"coins": coins, "true": canaries.true}
            keep(out / f"{network:02}.{name}.npz", lambda file, made=kept: np.savez(file, **made))
            spent, begun = time.process_time() - begun, time.process_time()
            print(f"network {network + 1} of {networks}: {name}, {spent:.1f} s of processor", flush=True)
    retrain(world, out, source, canaries)
    test = source.test.target[:, column], source.test.cluster
    keep(
        out / "test.npz",
        lambda file: np.savez(file, target=test[0], cluster=test[1], column=column),
    )


def retrain(world: World, out: Path, source: Source, canaries: Planted) -> None:
    """The probe's score of the canaries in networks that never saw the label, as an audit's references."""
    column = source.labels.index(world.label)
    for number in range(REFERENCES):
        file = out / f"retrained-{number}.npz"
        if file.exists():
            continue
        run = engine.start(seed=FIRST_REFERENCE + number, accelerator="cpu")
        model, _ = train(source.train, world.recipe, run, network=NETWORK, without=world.label)
        _, head = find_head(model, len(source.labels))
        row = head.weight[column].detach().double().numpy()
        scores = read(model, row, source.train, canaries, column, run)
        keep(file, lambda opened, made=scores["probe"]: np.savez(opened, probe=made))
        print(f"retrained {number + 1} of {REFERENCES}", flush=True)


# The tables


@dataclass(frozen=True)
class Kept:
    """Scores (network, canary) of one kind of model, the coins, and what the images show.

    `plain` is the mean score of the images (canary,) in networks that never saw the label.
    """

    scores: Mapping[str, Floats]
    coins: np.ndarray
    true: np.ndarray
    plain: Floats


def kept(out: Path, networks: int, name: str) -> Kept:
    """What `make` kept of one kind of model."""
    files = [dict(np.load(out / f"{network:02}.{name}.npz")) for network in range(networks)]
    scores = {score: np.stack([file[score] for file in files]) for score in SCORES}
    retrained = np.stack([np.load(file)["probe"] for file in sorted(out.glob("retrained-*.npz"))])
    coins = np.stack([file["coins"] for file in files])
    return Kept(scores, coins, files[0]["true"], standardised(retrained).mean(0))


def by_c6(item: Kept, scores: Floats, column: int) -> np.ndarray:
    """Which canaries of the test half C6's attack tells right, of every network: bool (network, canary)."""
    test = kept_for_test(item.true, column, OPTIONS.seed)
    return np.stack(
        [
            which_told_right(mine, coins, item.true, test)[test]
            for mine, coins in zip(scores, item.coins, strict=True)
        ]
    )


def less_retrained(item: Kept, score: str) -> Floats:
    """Scores less what retrained networks' scores of the same images predict of them, as C6 has it."""
    return np.stack([calibrated(mine, [item.plain]) for mine in item.scores[score]])


def hits(right: np.ndarray) -> Estimate:
    """Share told right of (network, canary), clustered by canary."""
    cluster = np.broadcast_to(np.arange(right.shape[1]), right.shape).ravel()
    return average(right.ravel().astype(np.float64), np.ones(right.size, np.bool_), cluster)


def within_kinds(item: Kept, scores: Floats) -> Floats:
    """Scores centred among canaries that show the same, as C6 takes them apart."""
    centred = standardised(scores)
    for kind in np.unique(item.true):
        centred[:, item.true == kind] -= centred[:, item.true == kind].mean(1, keepdims=True)
    return centred


def by_lira(item: Kept, score: str, coins: np.ndarray, *, shrink: bool, group: int | None = None) -> Floats:
    """Ratios (network, canary), each network attacked by the others of its group, by default all."""
    scores, size = standardised(item.scores[score]), group or len(coins)
    parts = [slice(start, start + size) for start in range(0, len(coins) - size + 1, size)]
    return np.concatenate([each_in_turn(scores[part], coins[part], shrink=shrink) for part in parts])


def failing(rights: Sequence[np.ndarray]) -> int:
    """Networks that C6 would FAIL by these attacks, corrected for their number as C6 does."""
    tails = [binom.sf(each.sum(1) - 1, each.shape[1], OPTIONS.d_canary) for each in rights]
    return sum(min(holm([float(p) for p in each])) < OPTIONS.alpha for each in zip(*tails, strict=True))


def interval(estimate: Estimate) -> str:
    low, high = estimate.interval(0.95, -1.0, 1.0)
    return f"{estimate.value:.3f} ({low:.3f} to {high:.3f})"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def figures(accuracy: Estimate, found: Told) -> list[str]:
    """Cells of one attack."""
    caught = [
        f"{each.share:.3f} ({each.interval[0]:.3f} to {each.interval[1]:.3f})"
        for each in found.caught.values()
    ]
    return [interval(accuracy), interval(found.auc), *caught, f"{privacy_lost(accuracy.lower()):.2f}"]


def attacks(name: str, item: Kept, column: int) -> Iterator[str]:
    """Every attack on one kind of model."""
    for score in SCORES:
        for attack, scores in (("C6", item.scores[score]), (CALIBRATED, less_retrained(item, score))):
            alone = told(within_kinds(item, scores), item.coins)
            yield line(name, score, attack, *figures(hits(by_c6(item, scores, column)), alone))
        for attack, shrink in WAYS.items():
            found = told(by_lira(item, score, item.coins, shrink=shrink), item.coins)
            yield line(name, score, attack, *figures(found.accuracy, found))


def guesses(item: Kept, score: str, column: int) -> dict[str, np.ndarray]:
    """Which canaries each attack tells right (network, canary); C6 of its test half alone."""
    less, one = less_retrained(item, score), item.coins == 1
    return {
        "C6": by_c6(item, item.scores[score], column),
        CALIBRATED: by_c6(item, less, column),
        "at the mean": (within_kinds(item, item.scores[score]) > 0) == one,
        "at the mean, less retrained": (within_kinds(item, less) > 0) == one,
        **{way: (by_lira(item, score, item.coins, shrink=shrink) > 0) == one for way, shrink in WAYS.items()},
    }


def more_than_c6(name: str, item: Kept, column: int) -> Iterator[str]:
    """What C6 tells right, and what the other attacks tell beyond it, on its test half."""
    test = kept_for_test(item.true, column, OPTIONS.seed)
    for score in SCORES:
        first, *others = (on_half(right, test) for right in guesses(item, score, column).values())
        yield line(
            name, score, f"{first.mean():.3f}", *(interval(hits(each * 1.0 - first)) for each in others)
        )


def on_half(right: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The columns of C6's test half."""
    return right[:, test] if right.shape[1] == len(test) else right


def verdicts(name: str, item: Kept, column: int) -> Iterator[str]:
    """How many networks C6 would fail by each attack on both scores: by its test half, and by all."""
    test = kept_for_test(item.true, column, OPTIONS.seed)
    found = [guesses(item, score, column) for score in SCORES]
    for part in ("half", "all"):
        cells = []
        for attack in found[0]:
            rights = [each[attack] for each in found]
            whole = rights[0].shape[1] == len(test)
            judged = rights if part == "all" else [on_half(right, test) for right in rights]
            cells.append(f"{failing(judged)} of {len(item.coins)}" if whole or part == "half" else "-")
        yield line(name, part, *cells)


def by_chance(name: str, item: Kept, score: str) -> str:
    """The negative control: shares told right of coins that no network was trained with, drawn often."""
    cells, (networks, canaries) = [], (np.arange(size) for size in item.coins.shape)
    for shrink in WAYS.values():
        values, missed = [], 0
        for draw in range(REDRAWS):
            drawn = uniform(draw, "lira/redrawn", networks[:, None], canaries) < 0.5
            ratios = by_lira(item, score, drawn.astype(np.int8), shrink=shrink)
            estimate = hits((ratios > 0) == drawn)
            low, high = estimate.interval(0.95)
            values.append(estimate.value)
            missed += not low <= 0.5 <= high
        cells += [f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})", f"{missed} of {REDRAWS}"]
    return line(name, score, *cells)


def by_shadows(name: str, item: Kept, score: str, sizes: Sequence[int]) -> str:
    """Shares told right with fewer shadows: networks in groups, each attacked by the rest of its group."""
    cells = []
    for shrink in WAYS.values():
        for size in sizes:
            ratios = by_lira(item, score, item.coins, shrink=shrink, group=size)
            cells.append(interval(hits((ratios > 0) == (item.coins == 1)[: len(ratios)])))
    return line(name, score, *cells)


def header(*names: str) -> Iterator[str]:
    yield from ("", line(*names), line(*["---"] * len(names)))


def tables(out: Path, networks: int, names: Sequence[str]) -> Iterator[str]:
    """All tables, and what they rest on."""
    test = np.load(out / "test.npz")
    column, models = int(test["column"]), {name: kept(out, networks, name) for name in names}
    yield from header("model", "score", "attack", "told right", "AUC", "at .1 %", "at 1 %", "nats")
    for name, item in models.items():
        yield from attacks(name, item, column)
    attacks_made = list(guesses(models[names[0]], SCORES[0], column))
    yield from header("model", "score", "C6 tells", *(f"{attack}, beyond it" for attack in attacks_made[1:]))
    for name, item in models.items():
        yield from more_than_c6(name, item, column)
    yield from header("model", "canaries", *attacks_made)
    for name, item in models.items():
        yield from verdicts(name, item, column)
    yield from header(
        "model", "score", *(f"{way}: {cell}" for way in WAYS for cell in ("told right", "missed"))
    )
    yield from (by_chance(name, item, score) for name, item in models.items() for score in SCORES)
    sizes = [size for size in GROUPS if size <= networks]
    yield from header("model", "score", *(f"{way}, {size - 1} shadows" for way in WAYS for size in sizes))
    yield from (by_shadows(name, item, score, sizes) for name, item in models.items() for score in SCORES)
    original = models[names[0]]
    caught = told(original.scores["own"], original.coins).caught
    allowed = ", ".join(f"{each.allowed} at {rate:.1%}" for rate, each in caught.items())
    yield f"\nn = {original.coins.size:,}; coins 0: {caught[0.001].zeros:,}; false alarms allowed: {allowed}"
    scores = [np.load(out / f"{network:02}.original.npz")["test"] for network in range(networks)]
    areas = [auc(score, test["target"], test["cluster"]).value for score in scores]
    yield f"AUC of the label on the test split: {np.mean(areas):.3f} (sd {np.std(areas, ddof=1):.3f})"


def main() -> None:
    """Reads the arguments, makes what is missing, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--methods", default="erasure,fine-tune")
    parser.add_argument("--data", default="faces:train=2000,probe=500,test=1000,size=16")
    parser.add_argument("--label", default="Male")
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--canaries", type=int, default=200)
    given = parser.parse_args()
    if given.networks < FEWEST:
        parser.error(
            f"--networks is {given.networks}; expected {FEWEST} or more: one attacked, the others its shadows"
        )
    torch.set_num_threads(1)
    world = World(given.data, given.label, given.epochs, given.augment, given.canaries)
    given.out.mkdir(parents=True, exist_ok=True)
    file, wanted = given.out / "world.json", json.dumps(asdict(world), indent=1) + "\n"
    if file.exists() and file.read_text("utf-8") != wanted:
        parser.error(f"{given.out} holds networks of another world, see {file}; name another folder")
    write_text(file, wanted)
    methods = [name for name in given.methods.split(",") if name]
    try:
        make(world, given.out, given.networks, methods)
    except UnlabelError as error:
        parser.error(str(error))
    print("\n".join(tables(given.out, given.networks, ["original", *methods])))


if __name__ == "__main__":
    main()
