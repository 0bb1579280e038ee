"""``unlabel forget METHOD``: one command a method, with the method's own options as flags.

The method's own options come from the signature of its function, their help from its docstring. So names,
types, defaults and help stand in one place.
"""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter
from docstring_parser import parse

from unlabel.cli.options import DEFAULT_PLACE, Json, NoNegative, Place, command_line, names, typed
from unlabel.cli.output import print_json
from unlabel.cli.tracking import tracker
from unlabel.core.errors import OptionError
from unlabel.core.own_code import is_custom
from unlabel.core.wording import in_shell, quoted
from unlabel.forget.bill import Budget
from unlabel.forget.methods import METHODS, Method, find_method, plugin_names

OWN = Group("The method's own options")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ForgetOptions:
    """Options that all methods share.

    Args:
        labels: Labels to forget, comma-separated. Put a backslash before a comma in a name.
        out: Run folder to write.
        data: Data source to use instead of the recorded one.
        images: Number of training images that the method reads at most. Default: 2,048; 32,768 for auto and
            deep-probes.
        keep_row: Do not remove the forgotten labels' output rows.
        rows: Table with a column image_id. The run then forgets these images' annotations and retains the
            labels.
        max_loss: Largest tolerated fall of the retained labels' mean AUC, on training images that the method
            does not see. If it falls further, nothing is written.
        skip_bad: Leave out unreadable images instead of refusing.
        track: Curves of loss and learning rate for TensorBoard: tensorboard, or tensorboard:DIR.
        json_: Print the record as JSON.
        force: Replace an existing run folder, and write the run even if the retained labels lost too much.
    """

    labels: str
    out: Path
    data: str | None = None
    images: int | None = None
    keep_row: Annotated[bool, NoNegative] = False
    rows: Path | None = None
    max_loss: float = 0.1
    skip_bad: Annotated[bool, NoNegative] = False
    track: str | None = None
    json_: Json = False
    force: Annotated[bool, NoNegative] = False


def forget_app(asked: Collection[str]) -> App:
    """The commands of all methods. Only those in `asked` are imported; the others are listed by name.

    A ``module:function`` in `asked` is a command, too.
    """
    app = App(
        name="forget",
        help="Make a run forget labels. Each method is a command: unlabel forget METHOD --help. Your own is"
        " module:function, in the current folder or installed.",
    )
    summaries = {name: method.summary for name, method in METHODS.items()}
    for name, summary in {**summaries, **plugin_names()}.items():
        if name in asked:
            method = find_method(name)
            app.command(method_command(method), name=name, help=method.summary)
        else:
            app.command(App(name=name, help=summary))
    for name in filter(is_custom, asked):
        custom = find_method(name)
        app.command(method_command(custom), name=name, help=custom.summary)
    return app


def method_command(method: Method) -> Callable[..., None]:
    """The command of one method: the shared options, then its own."""
    own_type = own_options(method)
    default = own_type()

    def command(
        run: Path, *, shared: ForgetOptions, own: Any = default, place: Place = DEFAULT_PLACE
    ) -> None:
        """Make a run forget labels.

        Args:
            run: The run to start from. The command only reads it.
        """
        forget(method, run, shared, vars(own), place)

    none = Annotated[own_type, Parameter(parse=False)]  # a method without options has no such argument
    command.__annotations__["own"] = own_type if vars(default) else none
    return command


def own_options(method: Method) -> type:
    """The method's keyword-only options as a frozen dataclass, one field a flag."""
    function = method.load()
    texts = {item.arg_name: item.description for item in parse(inspect.getdoc(function) or "").params}
    fields = [
        (
            name,
            Annotated[
                parameter.annotation,
                Parameter(
                    group=OWN,
                    help=" ".join((texts.get(name) or "").split()),
                    negative=() if parameter.default is False else None,
                ),
            ],
            field(default=parameter.default),
        )
        for name, parameter in method.options().items()
        if parameter.default is not inspect.Parameter.empty
    ]
    made = make_dataclass("Own", fields, frozen=True, kw_only=True, namespace={"__module__": __name__})
    return Parameter(name="*")(made)


def forget(method: Method, run: Path, shared: ForgetOptions, own: Mapping[str, Any], place: Place) -> None:
    """Runs a method and prints what it did."""
    from unlabel.forget.retained import warning
    from unlabel.forget.run import forget_run
    from unlabel.forget.self_check import instead_of

    if typed("--compile") and _trains_nothing(method, own):
        raise OptionError(
            f"--compile is for training, and {method.name} computes its change without; leave it out"
        )
    ours = ("labels", "out", "track", "json_")
    given = {name: value for name, value in vars(shared).items() if name not in ours}
    record = forget_run(
        method.name, run, names(shared.labels), shared.out,
        place.start(tracker(shared.track, shared.out), nodes=True),
        command=command_line(), **given, **own,
    )  # fmt: skip
    if shared.json_:
        print_json({"run": str(shared.out), **record})
    else:
        _print_outcome(record, run, shared)
    if line := warning(record["retained"], instead_of(record.get("self_check"))):
        print(f"warning: {line}", file=sys.stderr)
    if not shared.json_:
        print(shared.out)


def _trains_nothing(method: Method, own: Mapping[str, Any]) -> bool:
    """Whether a method of the catalogue takes no optimiser step with these options; others may not say."""
    in_catalogue = method.name in METHODS and method.alias_of is None and not method.reference
    return in_catalogue and method.costs(own, Budget(steps=1, batch_size=1)).steps == 0


def _print_outcome(record: Mapping[str, Any], run: Path, shared: ForgetOptions) -> None:
    """What a person reads of a finished forgetting."""
    from unlabel.forget.retained import sentence_of
    from unlabel.forget.self_check import sentence_of as of_check

    what = f"{record['rows']['count']:,} annotations of " if "rows" in record else ""
    print(
        f"{record['method']}: forgot {what}{', '.join(quoted(record['labels']))};"
        f" {record['changed']:,} of {record['total']:,} weights changed,"
        f" {record['steps']} steps on {record['images_used']:,} images,"
        f" {record['seconds']['total']:.1f} s"
    )
    print(sentence_of(record["retained"]))
    if "self_check" in record:
        print(of_check(record["self_check"]))
    if line := retraining_line(record, run, shared):
        print(line)
    if "too_few_to_audit" in record:
        print(f"these data are not enough to measure how far: {record['too_few_to_audit']}")
    elif "rows" not in record:
        command = f"unlabel audit {in_shell(shared.out)} --before {in_shell(run)} --reference RETRAINED"
        recipe = "" if record.get("adopted") is None else " --epochs EPOCHS --lr LR"
        print(f"to measure how far: {command}")
        print(f"or, to train retrained models first: --make-references 3{recipe} in place of --reference")


def retraining_line(record: Mapping[str, Any], run: Path, shared: ForgetOptions) -> str | None:
    """How to retrain instead, if the recorded recipe passes no more images than a method that trains did."""
    images, processed = record.get("retraining", {}).get("images"), record["images_processed"]
    if not images or processed < images or not record["steps"]:
        return None
    command = f"unlabel forget retrain {in_shell(run)} --labels {in_shell(shared.labels)}"
    command += f" --out {in_shell(f'{shared.out}-retrained')}"
    for option, value in (("--data", shared.data), ("--rows", shared.rows)):
        command += f" {option} {in_shell(value)}" if value else ""
    return (
        f"retraining by the recorded recipe passes no more images: {images:,}, and this method passed"
        f" {processed:,}; to retrain: {command}"
    )
