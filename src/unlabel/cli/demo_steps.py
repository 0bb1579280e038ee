"""The steps of ``unlabel demo``: train, retrain, forget, audit and report, on drawn faces."""

from pathlib import Path

from unlabel.audit.command import audit_run
from unlabel.audit.keeping import check_place
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.files import RECORD, STATEMENT
from unlabel.core.places import check_file, check_folder, check_output
from unlabel.core.recipe import Recipe
from unlabel.forget.run import forget_run
from unlabel.report import write_card, write_report
from unlabel.report.marks import written
from unlabel.report.terminal import lines
from unlabel.runs.folder import MODEL, file_sha256, read_record
from unlabel.training.run import train_run

SOURCE = "faces:train=4000,probe=3000,test=3000"
EPOCHS = 10.0
LABEL = "Male"


def run_demo(
    out: Path, run: Run, *, source: str = SOURCE, epochs: float = EPOCHS, force: bool = False
) -> Path:
    """Makes three runs and a report in a folder, and returns the path of the report.

    ``original`` is trained on all labels; ``retrained`` on all but one, with another seed: the reference;
    ``unlearned`` is made from the original in seconds, then audited against both. Finished runs of an
    earlier demo are used again.

    Args:
        out: Folder for the runs and ``report.html``.
        run: Where, and the seed of the original.
        source: Data to use.
        epochs: Passes over the training images.
        force: Replace the parts of an earlier demo.

    Raises:
        OptionError: The folder holds something else than a demo with these settings, or its unlearned run was
            audited deeper or signed since.
    """
    say = run.log.say
    original, retrained, unlearned = (out / name for name in ("original", "retrained", "unlearned"))
    page = out / "report.html"
    check_folder(out)
    check_file(page, force=force, ours=lambda: written(page) == ("page", _weights(unlearned)))
    again = (unlearned / RECORD).is_file() and (force or _is_demo(unlearned))
    check_output(unlearned, force=again)
    if again and not force:
        _check_kept(unlearned)
    recipe = Recipe(epochs=epochs)
    say(f"1/5  train `small` on {source}: drawings, no person")
    if not _finished(original, {"method": "train", "seed": run.seed, "without": []}, source, epochs, force):
        train_run(source, original, run, recipe=recipe, force=force, command=f"unlabel train {source}")
    say(f"2/5  retrain it without {LABEL}: the reference for the audit")
    other = run.with_seed(run.seed + 1)
    if not _finished(
        retrained, {"method": "train", "seed": other.seed, "without": [LABEL]}, source, epochs, force
    ):
        train_run(
            source,
            retrained,
            other,
            recipe=recipe,
            without=[LABEL],
            force=force,
            command=f"unlabel train {source} --without {LABEL} --seed {other.seed}",
        )
    say(f"3/5  forget {LABEL}")
    forget_run(
        "auto",
        original,
        [LABEL],
        unlearned,
        run,
        force=again,
        command=f"unlabel forget auto {original} --labels {LABEL} --out {unlearned}",
    )
    say("4/5  audit: measure how far the model forgot")
    result = audit_run(
        unlearned,
        original,
        [retrained],
        run,
        command=f"unlabel audit {unlearned} --before {original} --reference {retrained}",
    )
    print("\n".join(lines(result)))
    say("5/5  write the report")
    write_card(unlearned)
    return write_report(unlearned, page, force=True)


def _weights(unlearned: Path) -> str:
    """What a page of this run says that it is of."""
    return f"weights {file_sha256(unlearned / MODEL)}" if (unlearned / MODEL).is_file() else ""


def _check_kept(unlearned: Path) -> None:
    """Refuses to make a run anew that holds more than a demo made: a deeper audit, or a signature."""
    check_place(unlearned, "quick", force=False)
    if (unlearned / STATEMENT).exists():
        raise OptionError(
            f"{unlearned} was signed, and would be made anew; name another folder with --out, or replace it"
            " with --force"
        )


def _finished(path: Path, expected: dict[str, object], source: str, epochs: float, force: bool) -> bool:
    """Whether an earlier demo left this part; something else in its place is refused, not replaced."""
    if not (path / RECORD).is_file() or force:
        return False
    record = read_record(path)
    same = {key: record.raw.get(key) for key in expected} == expected
    recorded = record.blueprint and record.blueprint.recipe.epochs
    if not same or not record.data or record.data.source != source or recorded != epochs:
        raise OptionError(
            f"{path} is a run with other settings; name another folder with --out, or replace it with --force"
        )
    return True


def _is_demo(path: Path) -> bool:
    """Whether a run was made by a demo: its parent stands beside it."""
    parent = read_record(path).parent
    return Path((parent and parent.run) or "").absolute() == path.with_name("original").absolute()
