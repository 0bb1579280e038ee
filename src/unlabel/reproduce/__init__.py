"""The paper's tables and figures as commands: the same code at a small and at the published size.

::

    scale.py      sizes and data sets            settings.py   methods at one budget
    plan.py       trainings and cells            measures.py   what is read of every model
    table1.py ... a page: its studies, its tables, its findings by rules
    document.py   a page as JSON, and its Markdown published.json  the paper's figures
"""
