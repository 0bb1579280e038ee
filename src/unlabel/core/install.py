"""The command that installs an extra, as one that works where this copy of unlabel came from."""

import shlex
from pathlib import Path


def install_command(extra: str, package: Path | None = None) -> str:
    """What to type to get the packages of an extra, such as ``onnx``.

    A checkout is installed again with ``-e``. Anything else is asked of pip by its name.

    Args:
        extra: A name of ``project.optional-dependencies`` in pyproject.toml.
        package: Folder of the package; of this one by default.

    Example:
        >>> install_command("onnx", Path("/usr/lib/python3/site-packages/unlabel"))
        "pip install 'unlabel[onnx]'"
    """
    root = (package or Path(__file__).parents[1]).parent.parent
    if not _is_checkout(root):
        return f"pip install {shlex.quote(f'unlabel[{extra}]')}"
    here = "." if root == Path.cwd() else str(root)
    return f"pip install -e {shlex.quote(f'{here}[{extra}]')}"


def _is_checkout(root: Path) -> bool:
    """Whether a folder is unlabel's own source: its pyproject.toml says so."""
    try:
        return 'name = "unlabel"' in (root / "pyproject.toml").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
