"""Methods side by side: the same budget, the same seeds, the same attacks, against the same references.

::

    plan.py     which jobs: methods x seeds under one budget     search.py   settings chosen on P alone
    jobs.py     a job and its key                                work.py     forget, audit
    cells.py    finished jobs, one small file each               models.py   the original and the references
    table.py    cells -> rows of plain data, the JSON            sheet.py    CSV, terminal
    page.py     the same as one HTML page                        planes.py   where its marks stand
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabel.compare.cells import CellResult, Cells, Job, run_cells

__all__ = ["CellResult", "Cells", "Job", "run_cells"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("unlabel.compare.cells"), name)
