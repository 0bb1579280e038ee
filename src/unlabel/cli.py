"""The command line: parses, calls `workflow`, prints. Nothing heavy is imported before a command needs it.

Results go to stdout, progress to stderr, and the last line printed is the path written. Exit codes: 0 done,
2 bad input, 3 an audit failed under ``--fail-on`` or a run is not as its statement says, 1 a bug.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env, Toml

from unlabel.attest import keygen, sign, verify
from unlabel.auditing import audit
from unlabel.comparison import compare, report
from unlabel.errors import OptionError, UnlabelError
from unlabel.exchange import adopt, export
from unlabel.experiments import reproduce
from unlabel.files import advice, visible
from unlabel.forget.methods import METHODS
from unlabel.options import DEFAULT_PLACE, NoNegative, Place, command_line, names

app = App(
    name="unlabel",
    help="Make a trained multi-label image classifier forget a label, and prove how far that went.",
    default_parameter=Parameter(show_env_var=False),
    config=[Env("UNLABEL_"), Toml("unlabel.toml", search_parents=True)],
    suppress_keyboard_interrupt=False,
)
forget_app = App(name="forget", help="Make a run forget labels, by a method of the catalogue.")
for _command in (forget_app, adopt, export, audit, compare, report, sign, verify, keygen, reproduce):
    app.command(_command)
for _name, _method in METHODS.items():
    forget_app.command(f"unlabel.commands:forget_{_name.replace('-', '_')}", name=_name, help=_method.summary)


@app.command
def train(
    source: str,
    *,
    out: Path,
    model: Literal["small", "resnet18", "resnet50"] = "small",
    epochs: float = 10.0,
    lr: float = 0.1,
    image_size: int | None = None,
    labels: str | None = None,
    without: str | None = None,
    stem: Literal["imagenet", "small"] = "imagenet",
    canaries: int | None = None,
    canary_labels: str | None = None,
    skip_bad: Annotated[bool, NoNegative] = False,
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Train a network on a data source: faces, folder:PATH, celeba:PATH, cifar10:PATH, mnist:PATH ...

    Args:
        source: Where the data comes from.
        out: Run folder to write.
        model: Network.
        epochs: Passes over the training images.
        lr: Peak learning rate.
        image_size: Side of the input in pixels.
        labels: Label columns to learn, comma-separated; all by default.
        without: Labels to withhold, comma-separated: makes the Retrain reference.
        stem: First layer of the ResNets; small is for GPUs.
        canaries: Images whose annotation of a label is drawn by a coin, for the audit's C6; 2000 are advised.
        canary_labels: The labels drawn by a coin, comma-separated; by default the most evenly spread one.
        skip_bad: Leave out unreadable images instead of refusing.
        force: Replace an existing run folder.
    """
    from unlabel.data.canaries import CanaryPlan
    from unlabel.recipe import Recipe
    from unlabel.workflow import train_run

    if canary_labels is not None and canaries is None:
        raise OptionError("--canary-labels names labels, but --canaries does not say how many; add it")
    if canary_labels is not None and not names(canary_labels):
        raise OptionError(
            f"--canary-labels is {canary_labels!r} and names no label; name some, or leave it out for"
            " the most evenly spread one"
        )
    if both := sorted({*names(canary_labels)} & {*names(without)}):
        raise OptionError(
            f"--canary-labels and --without both name {', '.join(both)}; a withheld label is never read"
        )
    planted = None if canaries is None else CanaryPlan(canaries, names(canary_labels), place.seed)
    record = train_run(
        source,
        out,
        place.start(),
        network=model,
        stem=stem,
        recipe=Recipe(epochs=epochs, lr=lr),
        image_size=image_size,
        labels=names(labels) or None,
        without=names(without),
        canaries=planted,
        skip_bad=skip_bad,
        force=force,
        command=command_line(),
    )
    rate = record["images_processed"] / max(record["seconds"]["train"], 1e-9)
    print(
        f"{model}, {record['total']:,} weights, {len(record['labels'])} labels"
        f"{', without ' + ', '.join(record['without']) if record['without'] else ''}:"
        f" {record['steps']:,} steps in {record['seconds']['train']:.1f} s, {rate:,.0f} images/s"
    )
    if planted:
        known = record["data"]["facts"]["canaries"]
        print(f"{known['count']:,} annotations each of {', '.join(known['labels'])} were drawn by a coin")
    print(out)


@app.command
def show(
    run: Path,
    *,
    history: Annotated[bool, NoNegative] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show what a run is: labels, how it was made, sizes, ancestors.

    Args:
        run: A run folder.
        history: Show the chain of runs that it came from instead, back to the original.
        json_: Print as JSON.
    """
    from unlabel.show import chain, chain_table, describe, table

    facts = chain(run) if history else describe(run)
    if json_:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    print(chain_table(facts) if history else table(facts))
    print(run)


@app.command
def methods(*, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """List the ways to forget.

    Args:
        json_: Print as JSON, with every option's type and default.
    """
    from unlabel.show import catalogue

    rows = catalogue()
    if json_:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row['name']:18s} {row['summary']}")
        print(f"{'':18s} {row['paper']}")


@app.command
def predict(
    run: Path,
    *images: Path,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Print the probability of each label for some images; null for a forgotten label.

    Args:
        run: A run folder.
        images: Image files.
        json_: Print one JSON list.
    """
    from unlabel.predict import predict_files

    if not images:
        raise OptionError("no image was named; expected one or more files: unlabel predict RUN IMAGE...")
    rows = predict_files(run, images)
    if json_:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        print(row["image"])
        for label, probability in row["labels"].items():
            print(f"  {label:24s} {'forgotten' if probability is None else f'{probability:.3f}'}")


@app.command
def demo(
    *,
    out: Path = Path("demo"),
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Train on procedural faces, forget Male, retrain beside it, audit, and write the page. No data needed.

    Args:
        out: Folder for the four runs and the report.
        force: Replace the runs of an earlier demo.
    """
    from unlabel.demo import run_demo

    print(run_demo(out, place.start(), force=force))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one line and exit code 2 for a user's mistake, a traceback only for a bug of ours."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # a file's name need not be UTF-8, nor the terminal speak it
    try:
        try:
            app(arguments, exit_on_error=False, print_error=False)
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
