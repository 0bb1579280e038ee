"""A comparison: plans the jobs, runs the cells, writes the table and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlabel.audit.references.full import make_references
from unlabel.audit.setup import open_request
from unlabel.compare.cells import run_cells
from unlabel.compare.files import CSV, JSON, PAGE, check_comparison, subject_of
from unlabel.compare.jobs import Job
from unlabel.compare.page import render
from unlabel.compare.plan import asked, chosen, spend
from unlabel.compare.search import check_search, search
from unlabel.compare.table import table
from unlabel.compare.text_table import csv_text
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.files import write_bytes, write_json, write_text
from unlabel.core.request import as_names
from unlabel.forget.bill import DEFAULT_IMAGES, Budget
from unlabel.report.marks import marked

MOST_SEEDS = 100


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Size and data of a comparison, and what is stored.

    Args:
        seeds: Forgetting seeds of each method, 1 to 100.
        budget_steps: Optimiser steps that each method may take, >= 1; images follow, see `Budget`.
        make_references: Number of references to train first, beside the original, 1 to 20.
        images: Calibration images, 16 or more.
        settings: Settings of each method to try on the probe split first; 0 takes the defaults.
        data: Data source to use instead of the recorded one.
        force: Compute finished cells again, and replace another comparison in the folder.
        keep_models: Store the unlearned models in ``out/runs``.
    """

    seeds: int = 3
    budget_steps: int = 188
    make_references: int | None = None
    images: int = DEFAULT_IMAGES
    settings: int = 0
    data: str | None = None
    force: bool = False
    keep_models: bool = False

    def __post_init__(self) -> None:
        """Refuses a number out of range.

        Raises:
            OptionError: With the flag's name.
        """
        for flag, value, most in (
            ("--seeds", self.seeds, MOST_SEEDS),
            ("--budget-steps", self.budget_steps, 10**9),
        ):
            if not 1 <= value <= most:
                raise OptionError(f"{flag} is {value}; expected 1 to {most:,}")
        check_search(self.settings)


def compare_run(
    original: Path,
    labels: Sequence[str],
    methods: Sequence[str],
    references: Sequence[Path],
    out: Path,
    where: Run,
    options: CompareOptions | None = None,
    *,
    command: str = "",
) -> dict[str, Any]:
    """Compares methods under one budget and writes ``compare.json``, ``compare.csv`` and ``compare.html``.

    Args:
        original: The run to forget from.
        labels: Names to forget.
        methods: Names of the catalogue, or ``all``.
        references: Runs retrained without the labels; may be none if the options make some.
        out: Folder of the comparison; finished cells in it are used again.
        where: Its processes share the work out; its seed is the audit's and the first of the forgetting's.
        options: Size and data of the comparison.
        command: The command line, for the record.

    Returns:
        The content of ``compare.json``.

    Raises:
        UnlabelError: Something in the request does not fit; before anything is computed.
    """
    options = options or CompareOptions()
    data, force = options.data, options.force
    labels, names = as_names(labels), chosen(as_names(methods))
    aliases = asked(as_names(methods))
    check_comparison(out, original, labels, force=force)
    case = open_request(labels, original, references, where, data)
    budget = Budget(
        options.budget_steps,
        where.batch_size,
        min(options.images, len(case.source.train)),
        len(case.request.forget),
        bool(case.request.forgotten),
    )
    plain_jobs = [spend(Job(name, {}, where.seed, options.images), budget) for name in names]
    if options.make_references is not None:
        made = make_references(case, options.make_references, engine.alone(where), command=command)
        references = [*references, *made]
    if not references:
        raise OptionError(
            "a comparison needs models retrained without the labels: name them with --reference A,B,C, or"
            " train them with --make-references 3"
        )
    tries = None
    if options.settings:
        case = open_request(labels, original, references, where, data)
        tries, plain_jobs = search(
            case, plain_jobs, where, out, budget, options.settings, data=data, force=force
        )
    jobs = [
        Job(job.method, job.options, where.seed + number, job.images)
        for job in plain_jobs
        for number in range(options.seeds)
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
        keep_models=out / "runs" if options.keep_models else None,
    )
    result = table(cells, budget, search=tries, command=command, original=str(original), asked=aliases)
    check_comparison(
        out, original, labels, force=force
    )  # another command may have written there in the meantime
    write_json(out / JSON, result)
    write_text(out / CSV, csv_text(result))
    write_bytes(out / PAGE, marked(render(result), "page", subject_of(result), out / JSON))
    return result
