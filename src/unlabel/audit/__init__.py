"""Measuring how far a model has forgotten, and whether the measurement itself can be trusted.

::

    command.py -> setup.py, reading.py -> inputs.py -> protocol.py    runs, tables of outputs, steps
    attacks/    what is tried: estimates, no verdict      claims/    what is concluded: C1 to C6, the headline
    figures.py  every figure, transform and claim by id   results.py what audit.json holds
"""
