"""Methods side by side: the same budget, the same seeds, the same attacks, against the same references.

::

    plan.py     which jobs: methods x seeds under one budget     search.py      settings of each
    jobs.py     a job and its key                                run_cell.py    forget, audit
    cells.py    finished jobs, one small file each               models.py      original and references
    table.py    cells -> rows of plain data, the JSON            text_table.py  CSV, terminal
    page.py     the same as one HTML page                        charts.py      where its marks stand
"""
