"""The steps of ``unlabel demo``: copy or train the networks, forget, audit and report, on drawn faces."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unlabel.audit.document.keeping import check_place
from unlabel.audit.inputs.options import STANDARD, AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.cli.demo_networks import (
    LABEL,
    SHIPPED,
    DemoSettings,
    Network,
    copy_network,
    is_copy,
    networks_of,
)
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.files import RECORD, STATEMENT
from unlabel.core.parallel import one_thread
from unlabel.core.places import check_file, check_folder, check_output
from unlabel.core.reading import file_sha256
from unlabel.core.wording import in_shell
from unlabel.forget.run import forget_run
from unlabel.report.card import write_card
from unlabel.report.marks import written
from unlabel.report.page import write_report
from unlabel.report.terminal import lines
from unlabel.runs.files import MODEL, read_record
from unlabel.runs.origin import Plan
from unlabel.training.run import train_run

DEMO = DemoSettings()
TRAINING = 2  # processes that train on CPUs: a batch of 64 has two micro-batches
EARLIER = "retrained"
"""The one reference of demos before there were three."""


def run_demo(
    out: Path,
    run: Run,
    settings: DemoSettings = DEMO,
    *,
    networks: Path | None = SHIPPED,
    force: bool = False,
    show: Callable[[str], object] = print,
) -> Path:
    """Makes the runs and the report in a folder, and returns the path of the report.

    ``original`` was trained on all labels; ``retrained-1`` and the next on all but one, each with another
    seed: the references. ``unlearned`` is made from the original, then audited against all of them. Finished
    runs of an earlier demo are used again.

    Args:
        out: Folder for the runs and ``report.html``.
        run: Where, with any number of processes, and the seed of the forgetting and of the audit; of networks
            that are trained here, the batch sizes and the seed of the original as well.
        settings: Data, length of the training and number of references.
        networks: Folder of finished networks with these settings, see `demo_networks`; None trains them here.
        force: Replace the parts of an earlier demo.
        show: Receives what the audit says, once, as lines for a person.

    Raises:
        OptionError: The folder holds something else than a demo with these settings, or its unlearned run was
            audited deeper or signed since.
    """
    say = run.log.say
    page, unlearned = out / "report.html", out / "unlearned"
    check_folder(out)
    _check_earlier(out, run, force)
    check_file(page, force=force, ours=lambda: written(page) == ("page", _weights(unlearned)))
    again = (unlearned / RECORD).is_file() and (force or _is_demo(unlearned))
    check_output(unlearned, force=again)
    if again and not force:
        _check_kept(unlearned)
    run, audited_on = engine.fewer(run, TRAINING if run.device.type == "cpu" else 1), run
    trained_on = run if networks is None else replace(run, seed=0, batch_size=64, micro_batch=32)
    listed = networks_of(settings, trained_on.seed)
    finished = [
        not force and _finished(out / item.name, item, settings, trained_on, networks) for item in listed
    ]
    original, *references = (out / item.name for item in listed)
    for number, (item, done) in enumerate(zip(listed, finished, strict=True)):
        if number == 0:
            say(f"1/5  original: a network trained on {settings.source}: drawings, no person")
        elif number == 1:
            say(f"2/5  retrained: the same without {LABEL}, {len(references)} times: references of the audit")
        _make(item, out / item.name, settings, trained_on, networks, done=done, force=force)
    say(f"3/5  forget {LABEL}")
    with one_thread():  # of each process: the network is too small to gain by two
        forget_run(
            "auto",
            original,
            [LABEL],
            unlearned,
            run,
            data=settings.drawings,
            force=again,
            command=(
                f"unlabel forget auto {in_shell(original)} --labels {LABEL} --out {in_shell(unlearned)}"
                f" --data {in_shell(settings.drawings)}"
            ),
        )
    say(f"4/5  audit: attack all {len(listed) + 1} networks, and measure how far the model forgot")
    named = ",".join(map(str, references))
    result = audit_run(
        unlearned,
        original,
        references,
        audited_on,
        data=settings.drawings,
        options=AuditOptions(seed=run.seed, budget=STANDARD.name),
        command=(
            f"unlabel audit {in_shell(unlearned)} --before {in_shell(original)} --reference {in_shell(named)}"
            f" --budget {STANDARD.name}"
            f" --data {in_shell(settings.drawings)}"
        ),
    )
    show("\n".join(lines(result)))
    say("5/5  write the report")
    write_card(unlearned)
    return write_report(unlearned, page, force=True)


def _make(
    network: Network,
    out: Path,
    settings: DemoSettings,
    place: Run,
    networks: Path | None,
    *,
    done: bool,
    force: bool,
) -> None:
    """Copies or trains one network, and says which, and by which command it was made."""
    if done:
        place.log.say(f"     {out} is there already")
        return
    if networks is not None:
        copy_network(network.name, networks, out, force=force)
        place.log.say(f"     {out} comes with unlabel, made by: {network.command(settings)}")
        return
    place.log.say(f"     {out}: training")
    train_run(
        settings.source,
        out,
        place.with_seed(network.seed),
        recipe=settings.recipe,
        without=network.without,
        force=force,
        command=network.command(settings, out),
    )


def _weights(unlearned: Path) -> str:
    """What a page of this run says that it is of."""
    return f"weights {file_sha256(unlearned / MODEL)}" if (unlearned / MODEL).is_file() else ""


def _check_earlier(out: Path, run: Run, force: bool) -> None:
    """Refuses the demo of an earlier version, which had one reference; with ``force`` that one is left."""
    earlier = out / EARLIER
    if not (earlier / RECORD).is_file():
        return
    if not force:
        raise OptionError(
            f"{out} holds a demo of an earlier version of unlabel, with one reference in {earlier}; name"
            " another folder with --out, or replace its other runs with --force"
        )
    run.log.say(f"{earlier} is of an earlier version of the demo: it is not used, and stays as it is")


def _check_kept(unlearned: Path) -> None:
    """Refuses to make a run anew that holds more than a demo made: a deeper audit, or a signature."""
    check_place(unlearned, STANDARD.name, force=False)
    if (unlearned / STATEMENT).exists():
        raise OptionError(
            f"{unlearned} was signed, and would be made anew; name another folder with --out, or replace it"
            " with --force"
        )


def _finished(
    path: Path, network: Network, settings: DemoSettings, place: Run, networks: Path | None
) -> bool:
    """Whether an earlier demo left this network; something else in its place is refused, not replaced."""
    if not (path / RECORD).is_file():
        return False
    record, advice = read_record(path), "name another folder with --out, or replace it with --force"
    plan = Plan("small", "imagenet", settings.recipe, place.batch_size, place.micro_batch)
    source = record.data and record.data.source
    same = (record.method, record.seed, record.without) == ("train", network.seed, network.without)
    if not same or source != settings.source or record.blueprint != plan:
        raise OptionError(f"{path} is a run with other settings; {advice}")
    if networks is None and is_copy(path, network.name, SHIPPED):
        raise OptionError(
            f"{path} is the network that comes with unlabel, and --from-scratch would not train it; {advice}"
        )
    return True


def _is_demo(path: Path) -> bool:
    """Whether a run was made by a demo: its parent stands beside it."""
    parent = read_record(path).parent
    return Path((parent and parent.run) or "").absolute() == path.with_name("original").absolute()
