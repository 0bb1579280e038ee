"""``--track tensorboard[:DIR]``: the loss and the learning rate of each step, for TensorBoard.

The same rows are in the run's ``log.jsonl``. Files are written in DIR, and nothing is sent anywhere.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlabel.core.errors import OptionError
from unlabel.core.install import install_command

DEFAULT = "tensorboard"


class TensorBoard:
    """Writes rows into a folder that ``tensorboard --logdir`` shows.

    Args:
        folder: Of this run's curves; made when the first row comes.
        writer: PyTorch's ``SummaryWriter``.
    """

    def __init__(self, folder: Path, writer: Any) -> None:
        self._folder, self._make, self._writer = folder, writer, None
        self._steps: Counter[str] = Counter()

    def __call__(self, stage: str, row: Mapping[str, float]) -> None:
        """Adds one step of a stage; steps of stages with one name are counted on."""
        if self._writer is None:  # in the process that trains
            self._writer = self._make(log_dir=str(self._folder))
        self._steps[stage] += 1
        for name in ("loss", "lr"):
            self._writer.add_scalar(f"{stage}/{name}", row[name], self._steps[stage])
        self._writer.flush()  # a forked process ends without closing files


def tracker(asked: str | None, out: Path) -> TensorBoard | None:
    """What ``--track`` asks for; None where nothing is asked.

    Args:
        asked: ``tensorboard`` or ``tensorboard:DIR``.
        out: The run folder; its name is that of the curves in DIR.

    Raises:
        OptionError: Another word, or the package is not installed.
    """
    if asked is None:
        return None
    kind, colon, folder = asked.partition(":")
    if kind != "tensorboard" or (colon and not folder):
        raise OptionError(f"--track is '{asked}'; expected tensorboard, or tensorboard:DIR")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise OptionError(
            "--track tensorboard needs the package tensorboard; install it with:"
            f" {install_command('tensorboard')}"
        ) from error
    logdir = Path(folder or DEFAULT)
    print(f"curves: tensorboard --logdir {logdir}", file=sys.stderr)
    return TensorBoard(logdir / out.name, SummaryWriter)
