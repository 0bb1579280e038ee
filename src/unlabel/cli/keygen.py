"""``unlabel keygen``: a key pair for signing."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def keygen(*, out: Path) -> None:
    """Make a key pair for signing: FILE, which only you may read, and FILE.pub, to give away.

    Args:
        out: File for the private key; FILE.pub beside it gets the public one. Neither is ever replaced.
    """
    from unlabel.statement.keys import write_keys

    private, public = write_keys(out)
    print(f"{private}: the private key; keep it to yourself, outside the runs")
    print(public)
