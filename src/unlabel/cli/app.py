"""The command line: parses, calls the command, prints. Heavy modules are imported when a command needs them.

Results go to stdout, progress to stderr, and the last line printed is the path written. Exit codes: 0 done,
2 bad input, 3 an audit failed under ``--require`` or ``--fail-on``, a model tells more than ``--fail-above``,
or a run is not as its statement says, 4 what ``--require`` or ``--fail-above`` asks is not decided, 130
stopped, 141 nobody reads stdout any more, 1 a bug.
"""

import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
)

from unlabel.cli.adopt import adopt
from unlabel.cli.audit import audit
from unlabel.cli.bench import bench
from unlabel.cli.compare import compare
from unlabel.cli.completion import install_completion
from unlabel.cli.data import data
from unlabel.cli.demo import demo
from unlabel.cli.export import export
from unlabel.cli.forget import forget_app
from unlabel.cli.inspect import inspect
from unlabel.cli.keygen import keygen
from unlabel.cli.methods import methods
from unlabel.cli.options import check_whole, refuse_fractions
from unlabel.cli.output import (
    BROKEN_PIPE,
    OutputError,
    lose,
    plain_stderr,
    plain_stdout,
    prepare_streams,
    writing,
)
from unlabel.cli.predict import predict
from unlabel.cli.probe import probe
from unlabel.cli.report import report
from unlabel.cli.reproduce import reproduce
from unlabel.cli.settings import Settings
from unlabel.cli.show import show
from unlabel.cli.sign import sign
from unlabel.cli.train import train
from unlabel.cli.try_models import try_
from unlabel.cli.verify import verify
from unlabel.core.errors import FULL, NO_MEMORY, TOO_MANY, UnlabelError, advice
from unlabel.core.files import visible
from unlabel.core.own_code import is_custom

COMMANDS = (
    *(data, train, adopt, show, inspect, methods, predict, demo),
    *(audit, probe, compare, report, sign, verify, keygen, export, reproduce, bench),
)


def build_app(asked: Collection[str] = (), settings: Settings | None = None) -> App:
    """The whole command line.

    Args:
        asked: Methods of ``unlabel forget`` whose options are wanted; no other one is imported.
        settings: Reader of the current folder's ``unlabel.toml``.
    """
    app = App(
        name="unlabel",
        help="Make a trained multi-label image classifier forget a label, and measure how far it forgot.",
        default_parameter=Parameter(show_env_var=False),
        config=[settings or Settings(), refuse_fractions],
        suppress_keyboard_interrupt=False,
    )
    for command in (*COMMANDS, forget_app(asked)):
        app.command(command)
    app.command(try_, name="try")
    app.command(install_completion, name="--install-completion")
    return app


def asked_methods(words: Sequence[str]) -> list[str]:
    """The method in the words of a command line, if they ask to forget.

    >>> asked_methods(["forget", "ssd", "runs/base"]), asked_methods(["show", "forget"])
    (['ssd'], [])
    """
    if not words or words[0] != "forget":
        return []
    return [word for word in words[1:] if not word.startswith("-")][:1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one line and exit code 2 for a user's mistake, a traceback only for a bug of ours."""
    there = prepare_streams()
    with plain_stderr():
        if not there:
            _fail("stdout is closed, so nothing can be printed; open it, or send it to a file")
        try:
            try:
                _run(arguments)
            finally:
                with writing():
                    sys.stdout.flush()  # a full disk is found out here, not when Python ends
        except (CycloptsError, UnlabelError) as error:
            instead = misplaced_source(error) or misspelt(error) or no_method(error)
            _fail(f"{instead or error}{how_to_get(error)}")
        except BrokenPipeError:
            _no_reader()
        except OutputError as error:
            lose(sys.stdout)
            _fail(f"the output: {error.strerror}; {advice(error)}")
        except OSError as error:
            if error.filename is None and error.errno not in (*FULL, *TOO_MANY, *NO_MEMORY):
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            _fail(f"{where}{error.strerror or error}; {advice(error)}")
        except KeyboardInterrupt:
            print("unlabel: stopped; nothing was half-written", file=sys.stderr)
            sys.exit(130)


def how_to_get(error: Exception) -> str:
    """How to get what a command was not given, if another command makes it; empty for other errors."""
    if not (isinstance(error, MissingArgumentError) and error.argument):
        return ""
    asked = (*(error.command_chain or ()), error.argument.name)
    return " Make a key, if you have none: unlabel keygen --out KEY" if asked == ("sign", "--key") else ""


def misplaced_source(error: Exception) -> str:
    """What to say if ``--data`` was given to a command whose first word is the source; else empty."""
    if not isinstance(error, UnknownOptionError) or error.command_chain not in (("train",), ("data",)):
        return ""
    if (error.token.keyword or error.token.value).partition("=")[0] != "--data":
        return ""
    (name,) = error.command_chain
    return f"{name} has no option --data; the source is its first word, as in: unlabel {name} folder:PATH"


def misspelt(error: Exception) -> str:
    """What to say of an option that no command has, where a needed one is close to it; else empty.

    >>> misspelt(ValueError("... Did you mean --labels instead of --label?"))
    ''
    """
    if not isinstance(error, MissingArgumentError):
        return ""
    options = re.search(r"Did you mean (--[\w-]+) instead of (--[\w-]+)\?", str(error))
    return f"no option {options[2]}; write {options[1]}" if options else ""


def no_method(error: Exception) -> str:
    """What to say if ``unlabel forget`` got a run where the method stands; else empty."""
    if not isinstance(error, UnknownCommandError) or "forget" not in (error.command_chain or ()):
        return ""
    word = str((error.unused_tokens or ["RUN"])[0])
    if not ("/" in word or Path(word).is_dir()) or is_custom(word):
        return ""
    return f"no method is named before {word}; write the method first, such as: unlabel forget auto {word}"


def _run(arguments: Sequence[str] | None) -> None:
    words, settings = sys.argv[1:] if arguments is None else list(arguments), Settings()
    app = build_app(asked_methods(words), settings)
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    if isinstance(getattr(command, "__self__", None), App):  # help and the version, with their colours
        try:
            with writing():
                command(*bound.args, **bound.kwargs)
        except SystemExit as stop:  # rich's way of telling that the reader is gone
            if isinstance(stop.__context__, BrokenPipeError):
                _no_reader()
            raise
        return
    check_whole(bound.arguments)
    if settings.said:
        print(settings.said, file=sys.stderr)
    with plain_stdout():
        command(*bound.args, **bound.kwargs)


def _no_reader() -> NoReturn:
    lose(sys.stdout)
    sys.exit(BROKEN_PIPE)


def _fail(message: str) -> NoReturn:
    print("unlabel: " + visible(" ".join(message.split())), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
