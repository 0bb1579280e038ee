"""``unlabel keygen``: a key pair for signing."""

from pathlib import Path

from unlabel.cli.options import Json
from unlabel.cli.output import print_json


def keygen(*, out: Path, json_: Json = False) -> None:
    """Make a key pair for signing: FILE, which only you may read, and FILE.pub, which you share.

    Args:
        out: File for the private key. The public key is FILE.pub beside it. An existing file is never
            replaced.
        json_: Print the two paths as JSON.
    """
    from unlabel.statement.keys import write_keys

    private, public = write_keys(out)
    if json_:
        print_json({"private": str(private), "public": str(public)})
        return
    print(f"{private}: the private key; keep it to yourself, outside the runs")
    print(public)
