"""Measuring how far a model has forgotten, and whether the measurement itself can be trusted.

::

    command.py -> setup.py -> inputs.py -> protocol.py    run folders, tables of outputs, an audit's steps
    attacks/    what is tried: estimates, no verdict      claims/    what is concluded: C1 to C6, the headline
    figures.py  every figure, transform and claim by id   results.py what audit.json holds
"""
