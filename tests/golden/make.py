"""Makes every golden file anew: ``python tests/golden/make.py``. Takes about half a minute.

The files pin what users rely on: how runs, audits, pages, cards, statements and help texts look. A change of
one of them is a decision: make them anew, read the difference, and commit it by itself with the reason. With
``help`` or ``page`` as an argument, only the help texts, or only the pages and cards of the audits that are
there (and the signature, by a new key), are made. ``audit`` adds new keys and metrics to the audits that are
there.
"""

import contextlib
import csv
import gzip
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import making
from making import GOLDEN, HELP, RUNS, STANDARD, TABLES


def pack(path: Path, text: str) -> None:
    """Writes a text that is too long for the repository as it is."""
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def make_help() -> None:
    """One file a command and a method."""
    shutil.rmtree(HELP, ignore_errors=True)
    HELP.mkdir()
    for name, text in making.helps().items():
        (HELP / f"{name.replace(' ', '-')}.txt").write_text(text, "utf-8")


def make_pages() -> None:
    """Pages and cards of the audits that are there, and a signature over the run."""
    from unlabel.report.card import card, write_card
    from unlabel.report.page import render, write_report
    from unlabel.statement.keys import write_keys
    from unlabel.statement.sign import sign_run

    with tempfile.TemporaryDirectory() as keys, contextlib.chdir(GOLDEN):
        less = RUNS / "less"
        for name in ("report.html", "README.md", "statement.dsse.json"):
            (less / name).unlink(missing_ok=True)
        write_report(Path("runs/less"))
        write_card(Path("runs/less"))
        audit = json.loads(making.read_text(STANDARD / "audit.json.gz"))
        pack(STANDARD / "report.html.gz", render(audit))
        (STANDARD / "README.md").write_text(card(audit), "utf-8")
        write_keys(Path(keys) / "ada")
        sign_run(less, Path(keys) / "ada", signer="Ada", issued_at=making.SIGNED_AT, force=True)
        shutil.copy(Path(keys) / "ada.pub", GOLDEN / "ada.pub")


def make_audits() -> None:
    """Adds the keys and rows that audits have gained to those that are there; what was there stays."""
    for path in (RUNS / "less" / "audit.json", STANDARD / "audit.json.gz"):
        then = json.loads(making.read_text(path))
        text = json.dumps(grown(making.again(then), then), indent=1 if path.suffix == ".gz" else 2)
        if path.suffix == ".gz":
            pack(path, text)
        else:
            path.write_text(text + "\n", "utf-8")


def grown(now: Any, then: Any) -> Any:
    """What was there, with the keys and rows of `now` that it lacks, in the order of `now`."""
    if isinstance(now, list) and now and isinstance(now[0], dict) and {"id", "label"} <= now[0].keys():
        rows = {place(row): row for row in then}
        return [rows.get(place(row), row) for row in now]
    if not (isinstance(now, dict) and isinstance(then, dict)):
        return then
    kept = {key: grown(now[key], then[key]) if key in then else now[key] for key in now}
    return kept | {key: value for key, value in then.items() if key not in now}


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a metric or a comparison is of."""
    return tuple(row.get(key) for key in ("id", "label", "model", "run", "layer", "transform", "against"))


def make_runs() -> None:
    """The runs, their audits by both budgets, and all tables that these were computed from."""
    from unlabel.audit.inputs.options import AuditOptions
    from unlabel.audit.run import folders as command
    from unlabel.core import engine
    from unlabel.core.recipe import Recipe
    from unlabel.data.canaries import CanaryPlan
    from unlabel.forget.run import forget_run
    from unlabel.testing import tiny_world, write_folder
    from unlabel.training.run import train_run

    for folder in (RUNS, STANDARD):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    given: list[Any] = []

    def caught(inputs: Any, *rest: Any) -> Any:
        given.append(inputs)
        return compute(inputs, *rest)

    compute = command.audit_outputs
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        write_folder(Path("photos"), tiny_world("correlated", images=making.IMAGES).source)
        run = engine.start(accelerator="cpu", batch_size=16, seed=4)
        little = {"recipe": Recipe(epochs=6, lr=0.1), "image_size": 16, "network": making.NETWORK}
        coins = CanaryPlan(making.CANARIES, ("top",), 4)
        train_run("folder:photos", Path("base"), run, canaries=coins, **little)
        train_run("folder:photos", Path("again"), run.with_seed(5), without=["top"], **little)
        forget_run("head-removal", Path("base"), ["top"], Path("less"), run)
        relatives = (Path("less"), Path("base"), [Path("again")], run)
        with mock.patch.object(command, "audit_outputs", caught):
            options = AuditOptions(**making.SIZES, seed=run.seed)
            command.audit_run(*relatives, options=options, command="unlabel audit less --before base")
            longer = AuditOptions(**making.SIZES, seed=run.seed, budget="standard")
            found = command.audit_run(*relatives, options=longer, write=False)
        pack(STANDARD / "audit.json.gz", json.dumps(found.to_json(), indent=1))
        np.savez_compressed(TABLES, **making.packed(given[-1]))
        for name in ("base", "again", "less"):
            shutil.copytree(name, RUNS / name)
        make_predictions(Path("photos"))


def make_predictions(source: Path) -> None:
    """A few of the images, and what the unlearned run predicts for them."""
    from unlabel.exchange.predict import predict_files

    photos = GOLDEN / "photos"
    shutil.rmtree(photos, ignore_errors=True)
    photos.mkdir()
    for path in sorted((source / "images").iterdir())[: making.SHOWN]:
        shutil.copy(path, photos)
    rows = predict_files(RUNS / "less", sorted(photos.iterdir()))
    with (GOLDEN / "predicted.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", *rows[0]["labels"]])
        writer.writerows([Path(row["image"]).name, *row["labels"].values()] for row in rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or ["runs", "page", "help"]
    makers = {"runs": make_runs, "audit": make_audits, "page": make_pages, "help": make_help}
    with tempfile.TemporaryDirectory() as cache, making.trusted():
        os.environ["UNLABEL_CACHE"] = cache
        for name, do in makers.items():
            if name in wanted:
                do()
