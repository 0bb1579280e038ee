"""``unlabel verify``: check that a run is as its statement says."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unlabel.cli.options import NoNegative, named
from unlabel.core.errors import OptionError
from unlabel.core.files import visible
from unlabel.core.wording import listing

if TYPE_CHECKING:
    from unlabel.statement.verify import Verified


MOST_LINES = 50  # of problems, and of figures outside, for a person; --json gives all


def verify(
    run: Path,
    *,
    key: Path | None = None,
    data: str | None = None,
    before: Path | None = None,
    reference: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    quiet: Annotated[bool, NoNegative] = False,
) -> None:
    """Check that a run is as its statement says. Exit with 3 if it is not.

    Args:
        run: A signed run folder.
        key: The signer's public key, from a source that you trust. Without it, the signer is not checked.
        data: Repeat the quick audit on this data source, and compare with the recorded figures.
        before: With --data: the original, if it is neither at its recorded place nor beside RUN.
        reference: With --data: retrained models, comma-separated, if they are not found either.
        json_: Print as JSON.
        quiet: Print warnings and errors alone.
    """
    from unlabel.cli.progress import terminal_log
    from unlabel.statement.verify import Problem, verify_run

    if data is None and (before or reference is not None):
        raise OptionError("--before and --reference are for repeating the audit; add --data SOURCE")
    verified = verify_run(run, key, terminal_log(quiet=quiet or json_))
    if data is not None and verified.ok:
        again = _measured(run, verified, data, before, reference, quiet=quiet or json_)
        wrong = [Problem("data", where, what) for where, what in _not_borne_out(again)]
        verified = replace(verified, data=again, problems=tuple(wrong))
    if json_:
        print(json.dumps(_plain(run, verified)))  # in ASCII: what a stranger wrote must not steer a terminal
    else:
        for line in lines(verified):
            print(visible(line))
        if data is not None and verified.data is None:
            print("data             not measured again: the files are not as stated")
        print(verified.statement)
    if not verified.ok:
        sys.exit(3)


def _measured(
    run: Path, found: "Verified", data: str, before: Path | None, reference: str | None, *, quiet: bool
) -> dict[str, Any]:
    from unlabel.cli.progress import terminal_log
    from unlabel.core.reading import read_json
    from unlabel.statement.again import measure_again
    from unlabel.statement.predicate import AUDIT, tool_version

    if found.predicate["audit"] is None:
        raise OptionError(f"{run} has no audit, so there is no figure to measure again; leave out --data")
    others = {
        "before": before,
        "references": [Path(name) for name in named("--reference", reference, "model")],
        "same_version": found.predicate["tool"]["version"] == tool_version(),
    }
    again = measure_again(run, read_json(run / AUDIT), data, log=terminal_log(quiet=quiet), **others)
    return again | {
        "outside": [asdict(figure) for figure in again["outside"]],
        "version": tool_version(),
    }


def _not_borne_out(again: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Parts of the audit that the repeated one does not bear out, and what is wrong with each."""
    for item in again["contradicted"]:
        yield item["where"], f"{item['where']}: {item['what']}"
    for figure in again["outside"]:
        yield figure["id"], _outside(figure)
    for what in again["lacking"]:
        yield what, f"{what} (after) was measured now and is not recorded"
    if not again["compared"]:
        yield "metrics", "no figure was compared: the audit records none that the quick budget measures"


def _outside(figure: dict[str, Any]) -> str:
    """One figure that does not agree, in words."""
    what = figure["id"] + (f" after {figure['transform']}" if figure["transform"] is not None else "")
    what += (f" of {figure['label']}" if figure["label"] is not None else "") + f" ({figure['model']})"
    if figure["again"] is None:
        return f"{what} was not measured this time"
    low, high = figure["interval"] or (figure["recorded"], figure["recorded"])
    return f"{what} is {figure['again']:.4g} now; recorded {figure['recorded']:.4g}, {low:.4g} to {high:.4g}"


def lines(found: "Verified") -> Iterator[str]:
    """What a person reads: the result of each check, then every problem."""
    predicate = found.predicate
    wrong = {problem.kind for problem in found.problems}
    words = {None: "not read", True: "valid", False: "NOT VALID"}
    checked = "signer not checked: name the signer's public key with --key"
    if found.signer == "checked":
        checked = "NOT by the key that was named" if "signer" in wrong else "by the key that was named"
    yield f"signature        {words[found.signature]}{', ' + checked if found.signature else ''}"
    if found.key_id:
        yield f"key              {found.key_id}"
    if predicate:
        signer = predicate["signer"] or "nobody is named"
        yield f"signer           {signer}, {predicate['issued_at']} (their own words)"
        state = "NOT as they were" if "file" in wrong else "all as they were"
        yield f"files            {found.files} listed, {state}"
        yield f"headline         {str(predicate.get('headline'))[:100]}"
    for name, value in found.margins.items():
        yield f"margin           {name} {str(value['signed'])[:100]}; published: {value['published']:g}"
    for name in found.ignored[:MOST_LINES]:
        yield f"ignored          {name}: left by a command that was killed, not signed; delete it"
    if found.data is not None:
        images = "the same images" if found.data["same_images"] else "other images than the audit's"
        yield (
            f"data             {found.data['compared']} figures measured again on {images},"
            f" {len(found.data['outside'])} outside their interval"
        )
        yield f"headline now     {found.data['headline']}, by the quick budget{_lower(found)}"
        if (version := predicate["tool"]["version"]) != found.data["version"]:
            yield (
                f"version          {version[:100]} signed, {found.data['version']} measured again: if they"
                " differ, repeat with the first"
            )
        if found.data["not_repeated"]:
            yield f"not repeated     {listing(found.data['not_repeated'])}: not in the quick budget"
        if found.data["not_judged"]:
            yield f"not judged       {listing(found.data['not_judged'])}: on the signer's word"
    for problem in found.problems[:MOST_LINES]:
        where = "" if problem.kind == "data" else f"{problem.where}: "
        yield f"{problem.kind:16s} {where}{problem.what}"
    if len(found.problems) > MOST_LINES:
        yield f"and {len(found.problems) - MOST_LINES} more (--json prints all)"
    yield "as stated" if found.ok else "NOT as stated"


def _lower(found: "Verified") -> str:
    """Why the repeated audit's headline is another one than the signed one, though it contradicts nothing."""
    assert found.data is not None
    left = found.data["not_judged"]
    if not left or found.data["contradicted"] or found.data["headline"] == found.predicate.get("headline"):
        return ""
    return f"; it does not judge {listing(left)}, so its headline may say less than the signed one"


def _plain(run: Path, found: "Verified") -> dict[str, Any]:
    return {
        "run": str(run),
        "verified": found.ok,
        "signature": {None: "not read", True: "valid", False: "not valid"}[found.signature],
        "signer": found.signer,
        "key_id": found.key_id,
        "files": found.files,
        "problems": [asdict(problem) for problem in found.problems],
        "ignored": list(found.ignored),
        "statement": dict(found.predicate),
        "margins": dict(found.margins),
        "data": found.data,
    }
