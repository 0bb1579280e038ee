"""``unlabel --install-completion``: the Tab key completes commands, methods and options."""

from pathlib import Path
from typing import Literal

from unlabel.core.errors import OptionError

Shell = Literal["bash", "zsh", "fish"]


def install_completion(*, shell: Shell | None = None, output: Path | None = None) -> None:
    """Let the Tab key complete commands, methods and options in your shell.

    Args:
        shell: bash, zsh or fish; by default the shell that runs this command.
        output: File to write. By default the place where the shell looks; bash and zsh also get a line in
            their startup file.
    """
    from cyclopts.completion.detect import ShellDetectionError

    from unlabel.cli.app import build_app
    from unlabel.forget.methods import METHODS

    try:
        written = build_app(METHODS).install_completion(
            shell=shell, output=output, add_to_startup=output is None
        )
    except ShellDetectionError as error:
        raise OptionError(
            "the shell is not known; name it: --shell bash, --shell zsh or --shell fish"
        ) from error
    print("open a new shell, and press Tab after: unlabel ")
    print(written)
