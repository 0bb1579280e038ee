"""``unlabel audit``: measure how far a run forgot, or plan that audit."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from unlabel.audit.claims.gate import FAILED, judge, required
from unlabel.cli.options import DEFAULT_PLACES, NoNegative, Places, command_line, named, names, typed
from unlabel.core.errors import OptionError
from unlabel.core.wording import in_shell

if TYPE_CHECKING:
    from unlabel.audit.document.results import Audit
    from unlabel.audit.inputs.short_pair import ShortPair
    from unlabel.core.engine import Run


def is_onnx(model: object) -> bool:
    """Whether a model is named as ``onnx:FILE``; without importing what reads one."""
    return str(model).startswith("onnx:")


def audit(
    run: Path | None = None,
    *,
    before: Path | None = None,
    reference: str | None = None,
    make_references: int | None = None,
    reference_budget: float | None = None,
    epochs: float | None = None,
    lr: float | None = None,
    data: str | None = None,
    budget: Literal["quick", "standard", "full"] = "quick",
    attackers: str | None = None,
    plan: Annotated[bool, NoNegative] = False,
    labels: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    fail_on: Literal["never", "fail"] = "never",
    require: str | None = None,
    outputs: str | None = None,
    out: Path | None = None,
    labels_file: Path | None = None,
    mean: str | None = None,
    std: str | None = None,
    force: Annotated[bool, NoNegative] = False,
    place: Places = DEFAULT_PLACES,
) -> None:
    """Measure how far a run forgot. Hiding the output does not pass these attacks.

    Without a run, it audits outputs in files, by --outputs, or deployed models, by onnx:FILE?features=TENSOR
    in place of a run.

    Args:
        run: The unlearned run. The command writes audit.json into it.
        before: The run it was made from.
        reference: Runs retrained without the label, comma-separated. With fewer than three, verdicts are
            provisional.
        make_references: Number of references to train first, by BEFORE's recipe and beside it. Finished ones
            are used again. With --plan, they are counted as given, and nothing is trained.
        reference_budget: Instead of references: a share of one training, such as 0.3, for two pairs of short
            trainings beside BEFORE, which unlabel train must have made. From these the audit predicts what
            references would leak. C2, and C4 under the standard budget, are then called predicted. Finished
            trainings are used again. --plan prints the least budget that this data allows.
        epochs: Epochs for --make-references; only needed if BEFORE does not record how it was trained.
        lr: Peak learning rate for --make-references; only needed if BEFORE does not record it.
        data: Data source to use instead of the recorded one.
        budget: quick takes about a minute; standard adds durability and more attacks; full also trains
            the whole model on few annotated images and reads earlier stages.
        attackers: Beside C4, report attackers who train the weights in other ways, comma-separated, or all:
            adam-rates, adam-plain, adam-1000, sgd-momentum, lora, norm-only, upper-half, joint, distilled;
            curve, by number of images and steps; positions, probes that see where in the image; stitched, the
            original going on from each stage; tangent, what training is predicted to find; prototypes, what
            2, 10 and 20 images tell. They decide nothing. The last four train nothing; --plan says how long
            each takes, and that of adam-100, by whom C4 is judged and who is always among them.
        plan: Only print how many images and references each claim needs, how many there are, and how many
            seconds each budget takes; with --attackers, also how many trainings and seconds each takes.
        labels: With --plan and without --before: labels that RUN, an original, could forget, comma-separated.
            With --outputs or an ONNX file: the labels that were to be forgotten. Put a backslash before a
            comma in a name.
        json_: Print the audit, or the plan, as JSON.
        fail_on: If it is fail, exit with 3 if any claim FAILs or the audit is invalid; see --require.
        require: Claims that must PASS, such as C1,C2,C5, by number or name (disabled, retrain-equivalent,
            erased, durable, useful, unmemorised), or unlearned: C1,C2,C4,C5. Exit with 3 if one FAILs or the
            audit is invalid, with 4 if one is not decided. A provisional PASS is not decided.
        outputs: Files of numpy.savez with logits, targets, labels and features: of the original, the
            unlearned model and retrained ones, comma-separated.
        out: With --outputs or an ONNX file: folder to write audit.json into. By default AFTER-audit, beside
            the unlearned model's file.
        labels_file: Names of the outputs of an ONNX file, one per line, if its metadata do not tell them.
        mean: Means of red, green and blue for an ONNX file, from 0 to 1, comma-separated.
        std: Standard deviations of red, green and blue for an ONNX file.
        force: Replace the audit of a larger budget, or a file that is no audit of RUN. Discard an unfinished
            training of references that was begun with other options.
    """
    wanted = () if require is None else required(names(require))
    compared = named("--reference", reference, "model")
    attacking = named("--attackers", attackers, "attacker")
    if plan:
        _check_plan(judged=(wanted, fail_on), rates=(epochs, lr), force=force)
    given = Given(out, named("--labels", labels), labels_file, mean, std)
    if outputs is not None or any(map(is_onnx, (run, before, *compared))):
        if plan or (make_references, reference_budget, epochs, lr, attackers) != (None,) * 5:
            raise OptionError(
                "--plan, --make-references, --reference-budget, --epochs, --lr and --attackers need a run;"
                " outputs in files and ONNX files have no weights to train: leave them out"
            )
        files = None if outputs is None else named("--outputs", outputs, "file")
        what = Asked(files, run, before, compared, data)
        _finish(
            *_audit_outputs(what, given, budget, place, force=force), require, wanted, fail_on, json_=json_
        )
        return
    if given != Given(labels=given.labels):
        raise OptionError(
            "--out is for --outputs and for ONNX files, and --labels-file, --mean and --std are for ONNX"
            " files; a run has its own: leave them out"
        )
    if reference_budget is not None:
        _check_budget(reference_budget, reference, make_references, plan=plan)
    if run is None:
        raise OptionError(
            "an audit needs the unlearned RUN and --before BEFORE, or files: --outputs before.npz,after.npz"
        )
    what = Asked(None, run, before, compared, data)
    if plan:
        _plan(what, given.labels, attacking, make_references, place, json_=json_)
        return
    if before is None:
        raise OptionError(
            f"an audit needs the run that RUN was made from; name it with {_before(run) or '--before BEFORE'}"
        )
    if labels is not None:
        raise OptionError("--labels is for --plan alone; an audit reads the labels from RUN")
    lacking = Lacking(make_references, reference_budget, epochs, lr)
    result, shown = _audit_run(what, lacking, budget, attacking, place, force=force)
    _finish(result, shown, run, require, wanted, fail_on, json_=json_)


def _before(run: Path) -> str | None:
    """The option that names the run which a run records as its parent; None if that is not there."""
    from unlabel.core.files import RECORD
    from unlabel.runs.files import read_record

    parent = read_record(run).parent
    if parent is None or not parent.run or not (Path(parent.run) / RECORD).is_file():
        return None
    return f"--before {in_shell(parent.run)}"


def _check_plan(
    *, judged: tuple[tuple[str, ...], str], rates: tuple[float | None, float | None], force: bool
) -> None:
    """Refuses options of training, judging, writing and the budget: a plan would be the same without them."""
    wanted, fail_on = judged
    if wanted or fail_on != "never":
        flag = "--require" if wanted else "--fail-on"
        raise OptionError(f"{flag} judges an audit, and --plan makes none; leave one of them out")
    if rates != (None, None):
        raise OptionError(
            "--epochs and --lr are for training references, and --plan only tells what is needed; leave them"
            " out"
        )
    if force:
        raise OptionError("--force replaces an audit, and --plan writes none; leave one of them out")
    if flag := typed("--budget", "--batch-size", "--micro-batch", "--precision", "--compile"):
        why = "shows every budget" if flag == "--budget" else "computes no output and trains nothing"
        raise OptionError(f"{flag} changes nothing in a plan: --plan {why}; leave one of them out")


def _check_budget(budget: float, reference: str | None, make_references: int | None, *, plan: bool) -> None:
    """Refuses a budget for short trainings out of range, or beside what it is there to replace."""
    from unlabel.audit.references.short import shares_of

    shares_of(budget)
    if plan:
        raise OptionError(
            "--reference-budget trains, and --plan only tells what is needed: it prints the least budget by"
            " itself; leave --reference-budget out"
        )
    if reference is not None or make_references is not None:
        raise OptionError(
            "--reference-budget predicts what references would leak; with references, from --reference or"
            " --make-references, there is nothing to predict: leave one of them out"
        )


@dataclass(frozen=True)
class Given:
    """Options that are for outputs in files and for ONNX files alone, as they were typed."""

    out: Path | None = None
    labels: tuple[str, ...] = ()
    labels_file: Path | None = None
    mean: str | None = None
    std: str | None = None


@dataclass(frozen=True)
class Asked:
    """What is to be audited: files of outputs, or models and data."""

    files: tuple[str, ...] | None
    after: Path | None
    before: Path | None
    references: tuple[str, ...]
    data: str | None


@dataclass(frozen=True)
class Lacking:
    """Reference models that are to be trained first: how many in full, or for which share of one training."""

    full: int | None
    budget: float | None
    epochs: float | None
    lr: float | None


def _audit_run(
    what: Asked,
    lacking: Lacking,
    budget: Literal["quick", "standard", "full"],
    attackers: tuple[str, ...],
    place: Places,
    *,
    force: bool,
) -> tuple["Audit", list[str]]:
    """The audit of a run, written into it after references were trained; and its lines."""
    from unlabel.audit.document.keeping import check_place
    from unlabel.audit.inputs.options import AuditOptions
    from unlabel.audit.run.folders import audit_run
    from unlabel.report.terminal import lines

    assert what.after is not None
    assert what.before is not None
    options = AuditOptions(budget=budget, seed=place.seed, attackers=attackers)
    if lacking.full is None and (lacking.epochs, lacking.lr) != (None, None):
        raise OptionError("--epochs and --lr are for training references; add --make-references 3")
    check_place(what.after, budget, force=force)  # before references are trained
    where = place.start()
    made, shorts = _train(what, lacking, where, place, force=force)
    result = audit_run(
        what.after,
        what.before,
        [*map(Path, what.references), *made],
        where,
        shorts=shorts,
        data=what.data,
        options=options,
        force=force,
        command=command_line(),
    )
    trained = [f"short training {path}" for pair in shorts for path in pair.both]
    return result, [*trained, *(f"reference {path}" for path in made), *lines(result)]


def _train(
    what: Asked, lacking: Lacking, where: "Run", place: Places, *, force: bool
) -> tuple[list[Path], list["ShortPair[Path]"]]:
    """The folders of the references that were trained, and those of the short trainings."""
    if lacking.full is None and lacking.budget is None:
        return [], []
    from unlabel.audit.references.full import make_references
    from unlabel.audit.references.short import make_shorts
    from unlabel.audit.setup import open_case
    from unlabel.core import engine

    assert what.after is not None
    assert what.before is not None
    case = open_case(what.after, what.before, [Path(name) for name in what.references], where, what.data)
    training, command = where if place.devices else engine.alone(where), command_line()
    if lacking.budget is not None:
        return [], make_shorts(case, lacking.budget, training, command=command, force=force)
    assert lacking.full is not None
    recipe = {"epochs": lacking.epochs, "lr": lacking.lr}
    return make_references(case, lacking.full, training, **recipe, command=command, force=force), []


def _audit_outputs(
    what: Asked, given: Given, budget: str, place: Places, *, force: bool
) -> tuple["Audit", list[str], Path]:
    """The audit of outputs in files or of deployed models, its lines, and the folder it was written into."""
    from unlabel.audit.inputs.options import AuditOptions
    from unlabel.audit.read_only.outputs_audit import Named, audit_deployed, audit_files, check_out, write
    from unlabel.exchange.onnx_file import PREFIX, OnnxSettings, colours
    from unlabel.report.terminal import lines

    after = what.files[1] if what.files and len(what.files) > 1 else str(what.after)
    file = Path(after.removeprefix(PREFIX).partition("?")[0])
    out = given.out or file.with_name(f"{file.stem}-audit")
    check_out(out, force=force)
    settings = AuditOptions(budget=budget, seed=place.seed)
    if what.files is not None:
        if (given.labels_file, given.mean, given.std) != (None,) * 3:
            raise OptionError(
                "--labels-file, --mean and --std are for ONNX files; files of outputs name their labels"
                " themselves: leave them out"
            )
        if what != Asked(what.files, None, None, (), None):
            raise OptionError(
                "--outputs names all models, the original first; leave out RUN, --before, --reference and"
                " --data"
            )
        result = audit_files(
            [Path(name) for name in what.files],
            given.labels,
            place.start(),
            settings,
            command=command_line(),
        )
    else:
        if what.after is None or what.before is None or what.data is None:
            raise OptionError(
                "an audit of ONNX files needs the unlearned model, the original and images: unlabel audit"
                " onnx:AFTER.onnx --before onnx:BEFORE.onnx --data SOURCE"
            )
        onnx = OnnxSettings(given.labels_file, colours("--mean", given.mean), colours("--std", given.std))
        result = audit_deployed(
            Named(str(what.after), str(what.before), what.references, onnx),
            what.data,
            given.labels,
            place.start(),
            settings,
            command=command_line(),
        )
    write(result, out, force=force)
    return result, lines(result), out


def _finish(
    result: "Audit",
    shown: Sequence[str],
    folder: Path,
    require: str | None,
    wanted: tuple[str, ...],
    fail_on: str,
    *,
    json_: bool,
) -> None:
    """Prints an audit, and ends with the exit code that it asks for."""
    if json_:
        print(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        print("\n".join(shown))
        print(folder / "audit.json")
    failed = not result.valid or any(claim.verdict == "FAIL" for claim in result.claims.values())
    code = FAILED if fail_on == "fail" and failed else 0
    if wanted:
        met, why = judge(result, wanted)
        print(f"--require {require}: {why}", file=sys.stderr)
        code = code or met
    if code:
        sys.exit(code)


def _plan(
    what: Asked,
    labels: tuple[str, ...],
    attackers: tuple[str, ...],
    made: int | None,
    place: Places,
    *,
    json_: bool,
) -> None:
    """Prints the plan of an audit: of a run that forgot, or of labels that an original could forget."""
    run, before = what.after, what.before
    if (before is None) == (not labels):
        raise OptionError(
            "a plan needs either --before BEFORE, or the labels that RUN could forget: --labels A,B"
        )
    from unlabel.audit.inputs.options import AuditOptions
    from unlabel.audit.plan.whole import lines, plan_audit
    from unlabel.audit.references.full import check_count
    from unlabel.audit.setup import open_case, open_request

    options = AuditOptions(budget="standard", attackers=attackers)  # the least that they can stand beside
    if made is not None:
        check_count(made)
    where, given = place.start(), [Path(name) for name in what.references]
    assert run is not None
    if before is None:
        case = open_request(labels, run, given, where, what.data)
    else:
        case = open_case(run, before, given, where, what.data)
    plan = plan_audit(case, options, where.seed, made=made or 0)
    print(json.dumps(plan, ensure_ascii=False) if json_ else "\n".join(lines(plan)))
