"""``unlabel forget METHOD``: one command a method, with the method's own options as flags.

The functions are made from the methods' signatures when the command line asks for them, so that a
method's options are written, typed and defaulted in one place.
"""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place, command_line, names
from unlabel.forget.methods import METHODS, Method

OWN = Group("The method's own options")


def __getattr__(name: str) -> Callable[..., None]:
    method = METHODS.get(name.removeprefix("forget_").replace("_", "-"))
    if not name.startswith("forget_") or method is None:
        raise AttributeError(name)
    return forget_command(method)


def _shared(
    run: Path,
    *,
    labels: str,
    out: Path,
    data: str | None = None,
    images: int = 2048,
    keep_row: Annotated[bool, NoNegative] = False,
    rows: Path | None = None,
    max_loss: float = 0.1,
    skip_bad: Annotated[bool, NoNegative] = False,
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """The arguments that all methods share.

    Args:
        run: The run to start from; it is only read.
        labels: Labels to forget, comma-separated; a comma in a name stands after a backslash.
        out: Run folder to write.
        data: Another data source than the one the run remembers.
        images: Calibration images.
        keep_row: Leave the forgotten outputs as the method left them.
        rows: Table with a column image_id: forget the labels' annotations of these images, keep the labels.
        max_loss: Most that the retained labels' mean AUC may fall on training images held back from the
            method; past it nothing is written.
        skip_bad: Leave out unreadable images instead of refusing.
        force: Replace an existing run folder, and write whatever the retained labels lost.
    """


def forget_command(method: Method) -> Callable[..., None]:
    """The command of one method: the shared arguments, then the method's keyword-only options."""
    own = {
        name: parameter
        for name, parameter in method.options().items()
        if parameter.default is not inspect.Parameter.empty
    }

    def command(run: Path, **given: Any) -> None:
        from unlabel.forget.retained import told, warning
        from unlabel.forget.run import forget_run

        out: Path = given.pop("out")
        labels = names(given.pop("labels"))
        place: Place = given.pop("place", DEFAULT_PLACE)
        record = forget_run(method.name, run, labels, out, place.start(), command=command_line(), **given)
        what = f"{record['rows']['count']:,} annotations of " if "rows" in record else ""
        print(
            f"{record['method']}: forgot {what}{', '.join(record['labels'])};"
            f" {record['changed']:,} of {record['total']:,} weights changed,"
            f" {record['steps']} steps on {record['images_used']:,} images,"
            f" {record['seconds']['total']:.1f} s"
        )
        print(told(record["retained"]))
        if line := warning(record["retained"]):
            print(f"warning: {line}", file=sys.stderr)
        if "rows" not in record:
            print(f"how far? unlabel audit {out} --before {run} --reference RETRAINED")
        print(out)

    shared = inspect.signature(_shared)
    options = [
        parameter.replace(
            annotation=Annotated[
                parameter.annotation,
                Parameter(group=OWN, negative=() if parameter.default is False else None),
            ]
        )
        for parameter in own.values()
    ]
    signature = shared.replace(parameters=[*shared.parameters.values(), *options])
    summary = (inspect.getdoc(method.load()) or method.summary).split("\n\nArgs:")[0]
    arguments = (inspect.getdoc(_shared) or "").split("Args:\n")[1]
    described = (inspect.getdoc(method.load()) or "").partition("Args:\n")[2].partition("\n\n")[0]
    command.__doc__ = f"{summary}\n\nArgs:\n{arguments.rstrip()}\n{described}"
    command.__name__ = f"forget_{method.name.replace('-', '_')}"
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    return command
