"""``unlabel audit``: measure how far a run forgot, or plan that audit."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unlabel.audit.gate import FAILED, judge, required
from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place, command_line, names
from unlabel.core.errors import OptionError


def audit(
    run: Path,
    *,
    before: Path | None = None,
    reference: str | None = None,
    make_references: int | None = None,
    epochs: float | None = None,
    lr: float | None = None,
    data: str | None = None,
    budget: Literal["quick", "standard", "full"] = "quick",
    plan: Annotated[bool, NoNegative] = False,
    labels: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    fail_on: Literal["never", "fail"] = "never",
    require: str | None = None,
    force: Annotated[bool, NoNegative] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Measure how far a run forgot. Hiding the output does not pass these attacks.

    Args:
        run: The unlearned run. The command writes audit.json into it.
        before: The run it was made from.
        reference: Runs retrained without the label, comma-separated. With fewer than three, verdicts are
            provisional.
        make_references: Number of references to train first, by BEFORE's recipe and beside it. Finished ones
            are used again.
        epochs: Epochs for --make-references; only needed if BEFORE does not record how it was trained.
        lr: Peak learning rate for --make-references; only needed if BEFORE does not record it.
        data: Data source to use instead of the recorded one.
        budget: quick takes about a minute; standard adds durability and more attacks; full adds fine-tuning
            on few images.
        plan: Only print how many images, references and seconds each claim needs, and how many there are.
        labels: With --plan and without --before: labels that RUN, an original, could forget, comma-separated.
            Put a backslash before a comma in a name.
        json_: Print the audit, or the plan, as JSON.
        fail_on: If it is fail, exit with 3 if any claim FAILs or the audit is invalid; see --require.
        require: Claims that must PASS, such as C1,C2,C5, by number or name (disabled, retrain-equivalent,
            erased, durable, useful, unmemorised), or unlearned: C1,C2,C4,C5. Exit with 3 if one FAILs or the
            audit is invalid, with 4 if one is not decided. A provisional PASS is not decided.
        force: Replace the audit of a larger budget, or a file that is no audit of RUN.
    """
    wanted = () if require is None else required(names(require))
    if plan and wanted:
        raise OptionError("--require judges an audit, and --plan makes none; leave one of them out")
    if plan:
        _plan(run, before, names(reference), names(labels), data, place, json_=json_)
        return
    if before is None:
        raise OptionError("an audit needs the run that RUN was made from; name it with --before BEFORE")
    if labels is not None:
        raise OptionError("--labels is for --plan alone; an audit reads the labels from RUN")
    from unlabel.audit.command import audit_run
    from unlabel.audit.inputs import AuditOptions
    from unlabel.audit.keeping import check_place
    from unlabel.report.terminal import lines

    check_place(run, budget, force=force)  # before references are trained
    where, references, made = place.start(), [Path(name) for name in names(reference)], []
    if make_references is not None:
        from unlabel.audit.references import make_references as make
        from unlabel.audit.setup import open_case

        case = open_case(run, before, references, where, data)
        made = make(case, make_references, where, epochs=epochs, lr=lr, command=command_line())
    elif epochs is not None or lr is not None:
        raise OptionError("--epochs and --lr are for training references; add --make-references 3")
    result = audit_run(
        run,
        before,
        [*references, *made],
        where,
        data=data,
        options=AuditOptions(budget=budget, seed=where.seed),
        force=force,
        command=command_line(),
    )
    if json_:
        print(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        print("\n".join([*(f"reference {path}" for path in made), *lines(result)]))
        print(run / "audit.json")
    failed = not result.valid or any(claim.verdict == "FAIL" for claim in result.claims.values())
    code = FAILED if fail_on == "fail" and failed else 0
    if wanted:
        met, why = judge(result, wanted)
        print(f"--require {require}: {why}", file=sys.stderr)
        code = code or met
    if code:
        sys.exit(code)


def _plan(
    run: Path,
    before: Path | None,
    references: tuple[str, ...],
    labels: tuple[str, ...],
    data: str | None,
    place: Place,
    *,
    json_: bool,
) -> None:
    """Prints the plan of an audit: of a run that forgot, or of labels that an original could forget."""
    if (before is None) == (not labels):
        raise OptionError(
            "a plan needs either --before BEFORE, or the labels that RUN could forget: --labels A,B"
        )
    from unlabel.audit.inputs import AuditOptions
    from unlabel.audit.plan import lines, plan_audit
    from unlabel.audit.setup import open_case, open_request

    where, given = place.start(), [Path(name) for name in references]
    if before is None:
        case = open_request(labels, run, given, where, data)
    else:
        case = open_case(run, before, given, where, data)
    plan = plan_audit(case, AuditOptions(), where.seed)
    print(json.dumps(plan, ensure_ascii=False) if json_ else "\n".join(lines(plan)))
