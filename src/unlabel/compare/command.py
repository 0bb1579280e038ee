"""``unlabel compare``: plans, runs the cells, writes the table and the page."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from unlabel.audit.references import train_references
from unlabel.audit.setup import open_request
from unlabel.compare.cells import run_cells
from unlabel.compare.jobs import Job
from unlabel.compare.page import render
from unlabel.compare.plan import chosen, spend
from unlabel.compare.search import check_search, search
from unlabel.compare.table import table
from unlabel.compare.text_table import csv_text
from unlabel.core.engine import Run
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import write_bytes, write_json, write_text
from unlabel.core.places import check_file, check_folder
from unlabel.core.reading import read_json
from unlabel.core.request import as_names
from unlabel.core.wording import listing
from unlabel.forget.bill import DEFAULT_IMAGES, Budget
from unlabel.report.marks import marked, written
from unlabel.runs.folder import MODEL, file_sha256

MOST_SEEDS = 100
JSON, CSV, PAGE = "compare.json", "compare.csv", "compare.html"

WRONG = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, StopIteration),
    *(TypeError, ValueError, TemplateError),
)
"""What views of a comparison raise where a value in it is of another kind than a comparison's."""


def compare_run(
    original: Path,
    labels: Sequence[str],
    methods: Sequence[str],
    out: Path,
    where: Run,
    *,
    seeds: int = 3,
    budget_steps: int = 188,
    references: Sequence[Path] = (),
    make_references: int | None = None,
    images: int = DEFAULT_IMAGES,
    settings: int = 0,
    data: str | None = None,
    force: bool = False,
    keep_models: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Compares methods under one budget and writes ``compare.json``, ``compare.csv`` and ``compare.html``.

    Args:
        original: The run to forget from.
        labels: Names to forget.
        methods: Names of the catalogue, or ``all``.
        out: Folder of the comparison; finished cells in it are used again.
        where: One process; its seed is the audit's and the first of the forgetting's.
        seeds: Forgetting seeds of each method, 1 to 100.
        budget_steps: Optimiser steps that each method may take, >= 1; images follow, see `Budget`.
        references: Runs retrained without the labels.
        make_references: Train so many first, beside the original, 1 to 20.
        images: Calibration images, 16 or more.
        settings: Settings of each method to try on P first; 0: its defaults.
        data: Another data source than the one the original remembers.
        force: Compute finished cells again, and replace another comparison in the folder.
        keep_models: Keep the unlearned models in ``out/runs``.
        command: The command line, for the record.

    Returns:
        The content of ``compare.json``.

    Raises:
        UnlabelError: Something in the request does not fit; before anything is computed.
    """
    labels, names = as_names(labels), chosen(as_names(methods))
    for what, value, most in (("--seeds", seeds, MOST_SEEDS), ("--budget-steps", budget_steps, 10**9)):
        if not 1 <= value <= most:
            raise OptionError(f"{what} is {value}; expected 1 to {most:,}")
    check_search(settings)
    check_comparison(out, original, labels, force=force)
    if where.processes != 1:
        raise OptionError(f"--devices is {where.processes}; a comparison runs in one process: leave it out")
    case = open_request(labels, original, references, where, data)
    budget = Budget(
        budget_steps,
        where.batch_size,
        min(images, len(case.source.train)),
        len(case.request.forget),
        bool(case.request.forgotten),
    )
    plain_jobs = [spend(Job(name, {}, where.seed, images), budget) for name in names]
    if make_references is not None:
        made = train_references(case, make_references, where, command=command)
        references = [*references, *made]
    if not references:
        raise OptionError(
            "a comparison needs models retrained without the labels: name them with --reference A,B,C, or"
            " train them with --make-references 3"
        )
    found = None
    if settings:
        found, plain_jobs = search(
            original, labels, plain_jobs, references, where, out, budget, settings, data=data, force=force
        )
    jobs = [
        Job(job.method, job.options, where.seed + k, job.images) for job in plain_jobs for k in range(seeds)
    ]
    cells = run_cells(
        original,
        labels,
        jobs,
        references,
        where,
        out,
        data=data,
        force=force,
        keep_models=out / "runs" if keep_models else None,
    )
    result = table(cells, budget, search=found, command=command, original=str(original))
    check_comparison(out, original, labels, force=force)  # another command may have written there meanwhile
    write_json(out / JSON, result)
    write_text(out / CSV, csv_text(result))
    write_bytes(out / PAGE, marked(render(result), "page", _subject(result), out / JSON))
    return result


def check_comparison(out: Path, original: Path, labels: Sequence[str], *, force: bool) -> None:
    """Refuses, before any work, a folder whose files are not of a comparison of this run and these labels.

    Args:
        out, original, labels, force: See `compare_run`.

    Raises:
        OptionError: It is no folder to write to, or holds another comparison or other files of its names.
    """
    check_folder(out)
    files = [out / name for name in (JSON, CSV, PAGE) if (out / name).exists() or (out / name).is_symlink()]
    for file in files:
        check_file(file, force=True)
    if not files or force or not (original / MODEL).is_file():
        return
    try:
        same = _subject(read_json(out / JSON)) == _about(file_sha256(original / MODEL), labels)
    except (OSError, *WRONG):
        same = False
    if not same:
        raise OptionError(
            f"{files[0]} exists and is of no comparison of {original} without {listing(labels)}; name another"
            " folder, or replace it with --force"
        )


def _subject(found: Mapping[str, Any]) -> str:
    """What a comparison is of: its original's weights and its labels."""
    return _about(str(found["original"]["sha256"]), [str(label) for label in found["labels"]])


def _about(sha256: str, labels: Sequence[str]) -> str:
    return "comparison " + hashlib.sha256(json.dumps([sha256, sorted(labels)]).encode()).hexdigest()


def write_page(folder: Path, out: Path | None = None, *, force: bool = False) -> Path:
    """Writes the page of a comparison again, from its ``compare.json``, and returns its path.

    Args:
        folder: Of the comparison.
        out: File to write; FOLDER/compare.html where it is None.
        force: Replace a file that is no page of this comparison.

    Raises:
        ModelError: The file is damaged.
        OptionError: `out` is a folder, a link, a part of a run, or, without `force`, no page of this
            comparison.
    """
    path = folder / PAGE if out is None else out
    if path.is_dir():
        raise OptionError(f"{path} is a folder; name the HTML file to write, such as {path / PAGE}")
    try:
        found = read_json(folder / JSON)
        of, text = _subject(found), render(found)
    except (OSError, *WRONG) as error:
        fault = f"{type(error).__name__}: {str(error)[:200]}"
        raise ModelError(
            f"{folder / JSON} is not a comparison of this version ({fault}); run again: unlabel compare"
        ) from error
    check_file(path, force=force, ours=lambda: written(path) == ("page", of))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, marked(text, "page", of, folder / JSON))
    return path
