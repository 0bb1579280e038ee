"""The lines of one scale, as a table and as JSON."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch

from unlabel.bench.forgetting import World, audit_lines, method_lines, size_lines
from unlabel.bench.index import index_lines
from unlabel.bench.loop import loop_lines, process_lines
from unlabel.bench.pairs import Line, by_turns
from unlabel.bench.pictures import input_lines
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.parallel import cores
from unlabel.core.recipe import Recipe
from unlabel.core.wording import suggest
from unlabel.forget.methods import METHODS

PARTS = ("start", "loop", "input", "index", "processes", "methods", "sizes", "audit")
SLOW = ("retrain",)  # what the others are compared with


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        loops: (network, side in pixels, images) of the training loop.
        photos: Images of the input, and their side.
        rows: Of the index.
        world: What is trained and forgotten on.
        sizes: Training images of the default.
        budgets: Of an audit.
        rounds: Of what is timed by turns.
    """

    loops: tuple[tuple[str, int, int], ...]
    photos: tuple[int, int]
    rows: int
    world: World
    sizes: tuple[int, ...]
    budgets: tuple[str, ...]
    rounds: int


def _drawings(train: int, epochs: float, network: str = "small", side: int = 64) -> World:
    source = f"faces:train={train},probe=1000,test=2000"
    return World(source, side, network, Recipe(epochs=epochs))


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "tiny": Scale(
            (("small", 16, 128),),
            (40, 64),
            2000,
            World("faces:train=300,probe=200,test=200", 16, "small", Recipe(epochs=1)),
            (200, 300),
            ("quick",),
            1,
        ),
        "default": Scale(
            (("small", 64, 2048), ("resnet18", 64, 512), ("resnet18", 224, 64)),
            (1000, 64),
            100_000,
            _drawings(4000, 10),
            (4000, 12_000, 40_000),
            ("quick", "standard"),
            3,
        ),
        "full": Scale(
            (("small", 64, 8192), ("resnet18", 224, 2048), ("resnet50", 224, 2048)),
            (5000, 224),
            3_300_000,
            _drawings(162_770, 3, "resnet50", 224),
            (4000, 12_000, 40_000, 162_770),
            ("quick", "standard", "full"),
            3,
        ),
    }
)


def bench(
    run: Run, *, scale: str = "default", parts: Sequence[str] = PARTS, methods: Sequence[str] = ()
) -> dict[str, Any]:
    """Measures ratios in one run on this machine.

    Args:
        run: Where.
        scale: A name of `SCALES`. ``full`` is for a machine with a GPU.
        parts: Some of `PARTS`.
        methods: To time; all but those of `SLOW` by default.

    Returns:
        JSON-plain: ``machine``, ``scale``, and ``lines``, each a `Line`.

    Raises:
        OptionError: No such scale, part or method; or methods that would not be timed.
    """
    for kind, names, catalogue in (
        ("scale", [scale], SCALES),
        ("part", parts, PARTS),
        ("method", methods, METHODS),
    ):
        for name in names:
            if name not in catalogue:
                raise OptionError(
                    f"no {kind} '{name}'; expected one of {', '.join(catalogue)}.{suggest(name, catalogue)}"
                )
    _check_methods(methods, parts)
    lines: list[Line] = []
    with TemporaryDirectory(prefix="unlabel-bench-") as folder:
        timed = tuple(methods) or tuple(name for name in METHODS if name not in SLOW)
        jobs = _jobs(SCALES[scale], timed, Path(folder), run)
        needed = {*parts, *(["methods"] if "audit" in parts else [])}  # whose original the audit reads
        for part in PARTS:
            if part in needed:
                run.log.say(f"bench: {part}")
                lines += jobs[part]()
    return {"scale": scale, "machine": machine(run), "lines": [line.to_json() for line in lines]}


def _check_methods(methods: Sequence[str], parts: Sequence[str]) -> None:
    """Refuses methods that were named and that nothing would time."""
    if slow := [name for name in methods if name in SLOW]:
        raise OptionError(f"--methods names {slow[0]}, which the others are compared with; leave it out")
    if methods and not {"methods", "audit"} & {*parts}:
        raise OptionError(
            f"--methods is for the parts methods and audit, and --parts names {', '.join(parts)}; leave"
            " --methods out, or add the part methods"
        )


def _jobs(
    scale: Scale, timed: Sequence[str], folder: Path, run: Run
) -> Mapping[str, Callable[[], Sequence[Line]]]:
    workers = cores() if run.workers is None else run.workers
    images, side = scale.photos
    return {
        "start": lambda: list(start_lines(scale.rounds)),
        "loop": lambda: [
            line
            for network, pixels, count in scale.loops
            for line in loop_lines(network, pixels, count, run, scale.rounds)
        ],
        "input": lambda: input_lines(images, side, workers, run, scale.rounds),
        "index": lambda: list(index_lines(scale.rows, _new(folder / "index"))),
        "processes": lambda: process_lines(scale.loops[0][2], run),
        "methods": lambda: method_lines(scale.world, timed, folder, run),
        "sizes": lambda: size_lines(scale.world, scale.sizes, "deep-probes", run),
        "audit": lambda: audit_lines(scale.world, scale.budgets, folder, run),
    }


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def start_lines(rounds: int) -> Iterator[Line]:
    """``--help`` and ``import unlabel`` against the start of Python alone."""
    bare = [sys.executable, "-c", "pass"]
    for what, words in (
        ("unlabel --help", [sys.executable, "-m", "unlabel.cli.app", "--help"]),
        ("import unlabel", [sys.executable, "-c", "import unlabel"]),
    ):
        yield by_turns(f"{what}, against the start of Python", _call(words), _call(bare), rounds)


def _call(words: Sequence[str]) -> Callable[[], object]:
    return lambda: subprocess.run(words, check=True, capture_output=True)  # noqa: S603 - our own words


def machine(run: Run) -> dict[str, Any]:
    """What the figures hold for."""
    device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else platform.machine()
    return {
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy", "unlabel")},
    }


def table(found: Mapping[str, Any]) -> str:
    """The lines for a terminal: seconds of both, the ratio, and its spread over the rounds."""
    where = found["machine"]
    rows = [
        f"{where['device']}, {where['threads']} threads, torch {where['torch']}, scale {found['scale']}",
        f"{'seconds':>9}{'other':>10}{'ratio':>9}  {'spread':<17}what",
    ]
    for line in found["lines"]:
        if "refused" in line["counts"]:
            rows.append(f"{'-':>9}{line['other']:>10.3f}{'-':>9}  {'-':<17}{line['what']}: refused")
            continue
        spread = f"{line['low']:.3g} to {line['high']:.3g}" if line["rounds"] > 1 else "one round"
        counts = ", ".join(f"{name} {value:,}" for name, value in line["counts"].items())
        rows.append(
            f"{line['ours']:>9.3f}{line['other']:>10.3f}{line['ratio']:>9.3g}  {spread:<17}{line['what']}"
            f"{f' ({counts})' if counts else ''}"
        )
    return "\n".join(rows)
