"""The command line: parses, calls `workflow`, prints. Nothing heavy is imported before a command needs it.

Results go to stdout, progress to stderr, and the last line printed is the path written. Exit codes: 0 done,
2 bad input, 3 an audit failed under ``--fail-on`` or a run is not as its statement says, 1 a bug.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env, Toml

from unlabel.cli.adopt import adopt
from unlabel.cli.audit import audit
from unlabel.cli.compare import compare
from unlabel.cli.demo import demo
from unlabel.cli.export import export
from unlabel.cli.forget import forget_app
from unlabel.cli.keygen import keygen
from unlabel.cli.methods import methods
from unlabel.cli.predict import predict
from unlabel.cli.report import report
from unlabel.cli.reproduce import reproduce
from unlabel.cli.show import show
from unlabel.cli.sign import sign
from unlabel.cli.train import train
from unlabel.cli.verify import verify
from unlabel.core.errors import UnlabelError
from unlabel.core.files import advice, visible

COMMANDS = (
    *(train, adopt, show, methods, predict, demo),
    *(audit, compare, report, sign, verify, keygen, export, reproduce),
)


def build_app(asked: str | None = None) -> App:
    """The whole command line.

    Args:
        asked: The method of ``unlabel forget`` that is asked for, the only one that is imported.
    """
    app = App(
        name="unlabel",
        help="Make a trained multi-label image classifier forget a label, and prove how far that went.",
        default_parameter=Parameter(show_env_var=False),
        config=[Env("UNLABEL_"), Toml("unlabel.toml", search_parents=True)],
        suppress_keyboard_interrupt=False,
    )
    for command in (*COMMANDS, forget_app(asked)):
        app.command(command)
    return app


def asked_method(words: Sequence[str]) -> str | None:
    """The method in the words of a command line, if they ask to forget.

    >>> asked_method(["forget", "ssd", "runs/base"]), asked_method(["show", "forget"])
    ('ssd', None)
    """
    if not words or words[0] != "forget":
        return None
    return next((word for word in words[1:] if not word.startswith("-")), None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one line and exit code 2 for a user's mistake, a traceback only for a bug of ours."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # a file's name need not be UTF-8, nor the terminal speak it
    try:
        try:
            words = sys.argv[1:] if arguments is None else list(arguments)
            build_app(asked_method(words))(words, exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()  # a full disk is found out here, not when Python ends
    except CycloptsError as error:
        _fail(f"{'unlabel.toml: ' if 'TOMLDecodeError' in str(error) else ''}{error}")
    except UnlabelError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:  # what was printed could not be written, and shall not be tried again
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"{error.filename or 'the output'}: {error.strerror or error}; {advice(error)}")
    except KeyboardInterrupt:
        print("unlabel: stopped; nothing was half-written", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    print("unlabel: " + visible(" ".join(message.split())), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
