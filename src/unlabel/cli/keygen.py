"""``unlabel keygen``: a key pair for signing."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def keygen(*, out: Path) -> None:
    """Make a key pair for signing: FILE, which only you may read, and FILE.pub, which you share.

    Args:
        out: File for the private key. The public key is FILE.pub beside it. An existing file is never
            replaced.
    """
    from unlabel.statement.keys import write_keys

    private, public = write_keys(out)
    print(f"{private}: the private key; keep it to yourself, outside the runs")
    print(public)
