"""Measuring how far a model has forgotten, and whether the measurement itself can be trusted.

::

    run/ -> setup, reading/ -> inputs/ -> protocol -> document/    runs, tables, steps, what is said
    attacks/    what is tried: estimates, no verdict      claims/    what is concluded: C1 to C6
    figures     every figure, transform and claim by id   references/, plan/    retrained models, the cost
    read_only/  outputs in files, deployed models         probe/     one model, and one label

Imports go one way: see the layers in ``pyproject.toml``.
"""
