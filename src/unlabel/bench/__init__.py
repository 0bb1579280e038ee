"""How fast the program is, as ratios in one run on one machine: `unlabel bench`.

::

    pairs.py       two things timed by turns, and their ratio with its spread
    loop.py        training against a bare PyTorch loop; two processes against one
    pictures.py    reading photos against torchvision's ImageFolder and DataLoader
    index.py       opening a data set of millions of rows: seconds and memory
    forgetting.py  every method against retraining; the default at several sizes; audits against one pass
    command.py     the lines of one scale, the table, the JSON
"""
