"""The paper's tables and figures as commands: the same code at a small and at the published size.

::

    scale.py      sizes and data sets            settings.py   methods at one budget
    study.py      trainings and cells            measure.py    what is read of every model
    trained.py    runs that are there already    relearning.py what comes back when it is trained again
    pages/        a page: its studies, its tables, its findings by rules
    charts.py     curves and bars                plane.py      the picture of the frontier
    document.py   a page as JSON, and its Markdown published.json  the paper's figures
"""
