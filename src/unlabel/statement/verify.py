"""Whether a run is as its statement says: the signature, every file, the tensors, the audit, what is claimed.

::

    envelope -> signature -> payload -> each file -> schema of the audit, tensors, claims -> [data again]

A check that cannot be made is a failed one. Nothing that the statement says is used as a path.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unlabel.core.errors import MissingFiles, UnlabelError
from unlabel.core.files import RECORD
from unlabel.core.places import restore
from unlabel.core.progress import SILENT, Log
from unlabel.core.reading import parse_json, read_plain, reason
from unlabel.core.wording import in_shell
from unlabel.runs.files import CONFIG, MODEL
from unlabel.statement.canonical import canonical
from unlabel.statement.contents import MOST_FILES, STATEMENT, Contents, contents
from unlabel.statement.envelope import MOST_BYTES, Opened, key_id, open_envelope
from unlabel.statement.keys import read_public
from unlabel.statement.predicate import AUDIT, PREDICATE, SCHEMA, SIGNERS_WORD, TYPE, borne_out, read_audit
from unlabel.statement.tensors import file_tensors_sha256
from unlabel.statement.verdicts import changed_margins, headline_fault, unborne


@dataclass(frozen=True)
class Problem:
    """One thing that is not as the statement says.

    Args:
        kind: ``statement``, ``signature``, ``signer``, ``file``, ``audit``, ``claims`` or ``data``.
        where: The file, or the part of the statement.
        what: What is wrong with it.
    """

    kind: str
    where: str
    what: str


@dataclass(frozen=True)
class Verified:
    """What was checked and found.

    Args:
        statement: The statement's file.
        problems: All that is wrong; empty where the run is as stated.
        signature: Whether the signature is valid for the key beside it; None: it could not be read.
        signer: ``checked`` against a key that was named, or ``not checked``.
        key_id: Of the key beside the signature.
        files: How many files the statement lists.
        predicate: What the statement says, as far as it could be read.
        data: What measuring again found; None where that was not asked for.
        ignored: Files that a killed command was writing in the run: never read, and covered by no signature.
        margins: Of the audit, as far as they are not the published ones; see `verdicts.changed_margins`.
    """

    statement: Path
    problems: tuple[Problem, ...]
    signature: bool | None = None
    signer: str = "not checked"
    key_id: str | None = None
    files: int = 0
    predicate: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] | None = None
    ignored: tuple[str, ...] = ()
    margins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is as stated."""
        return not self.problems


def verify_run(run: Path, key: Path | None = None, log: Log = SILENT) -> Verified:
    """Checks a signed run; changes nothing.

    Args:
        run: A run folder with a statement.
        key: The public key of the signer, from a source that you trust; without it, anybody may have signed.
        log: Receives progress.

    Raises:
        MissingFiles: There is no run, or no statement in it.
        OptionError: The key cannot be used, or a package is missing.
        ModelError: The folder holds more files than any run.
    """
    restore(run)
    file = run / STATEMENT
    if not run.is_dir() or not (file.exists() or file.is_symlink()):
        raise MissingFiles(
            f"no {STATEMENT} in {run}; expected a run that was signed: unlabel sign {in_shell(run)} --key KEY"
        )
    public = read_public(key) if key is not None else None
    try:
        opened = open_envelope(read_plain(file, MOST_BYTES, follow=False))
    except (ValueError, OSError) as error:
        return Verified(file, (Problem("statement", STATEMENT, f"cannot be used: {reason(error)}"),))
    problems = []
    if not opened.valid:
        problems.append(Problem("signature", STATEMENT, "the signature is not that of this statement"))
    signer = "not checked"
    if public is not None:
        signer = "checked"
        if key_id(public) != opened.key_id:
            what = f"signed by the key {opened.key_id}, not by the one that was named, {key_id(public)}"
            problems.append(Problem("signer", STATEMENT, what))
    document, faults = _read(opened)
    problems += faults
    there = contents(run, log)
    if document is None:
        return Verified(file, tuple(problems), opened.valid, signer, opened.key_id, ignored=there.leftovers)
    listed = {item["name"]: item["digest"]["sha256"] for item in document["subject"]}
    changed = [_same_tensors(run, problem, document) for problem in _compare(listed, there)]
    problems += changed
    wrong = {problem.where for problem in changed}
    problems += _claims(run, there, document["predicate"], wrong)
    audit = None if AUDIT in wrong else _audit(run, there)
    fault = headline_fault(audit) if audit else None
    problems += [Problem("audit", "headline", fault)] if fault else []
    problems += [Problem("audit", where, what) for where, what in (unborne(audit) if audit else ())]
    return Verified(
        file,
        tuple(problems),
        opened.valid,
        signer,
        opened.key_id,
        len(listed),
        document["predicate"],
        ignored=there.leftovers,
        margins=changed_margins(audit["options"]) if audit else {},
    )


def _read(opened: Opened) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The statement inside an envelope, if its form is right."""
    try:
        document = parse_json(opened.payload)
        if len(document["subject"]) > MOST_FILES:
            raise ValueError(f"it lists more than {MOST_FILES:,} files")
        if canonical(document) != opened.payload:
            raise ValueError("it is not written as canonical JSON")
        _check_form(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = str(error)[:200] if isinstance(error, ValueError) else "a part is missing or of another kind"
        return None, [Problem("statement", "the payload", f"is no statement that unlabel writes: {fault}")]
    return document, []


def _check_form(said: dict[str, Any]) -> None:
    if (said["_type"], said["predicateType"], said["predicate"]["schema"]) != (TYPE, PREDICATE, SCHEMA):
        raise ValueError("of another type or version")
    if set(said) != {"_type", "subject", "predicateType", "predicate"}:
        raise ValueError("it holds more than a statement does")
    names = [item["name"] for item in said["subject"]]
    if names != sorted({*names}) or not all(isinstance(name, str) for name in names):
        raise ValueError("its files are not in order, or one stands twice")
    for item in said["subject"]:
        if set(item) != {"name", "digest"} or set(item["digest"]) != {"sha256"}:
            raise ValueError("a file is described otherwise")
        if not re.fullmatch("[0-9a-f]{64}", item["digest"]["sha256"]):
            raise ValueError("a file's sha256 is none")
    predicate = said["predicate"]
    tool = predicate["tool"]
    if set(tool) != {"name", "version"} or tool["name"] != "unlabel" or not isinstance(tool["version"], str):
        raise ValueError("the tool is described otherwise")
    if not isinstance(predicate["signer"], str | None):
        raise ValueError("the signer is no text")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", predicate["issued_at"]):
        raise ValueError("the time is none")


def _compare(listed: Mapping[str, str], there: Contents) -> list[Problem]:
    """Files that are missing, added, changed, or no files."""
    problems = []
    for name in sorted({*listed, *there.files, *there.refused}):
        if name in there.refused:
            problems.append(Problem("file", name, there.refused[name]))
        elif name not in there.files:
            problems.append(Problem("file", name, "is missing"))
        elif name not in listed:
            problems.append(Problem("file", name, "was added after the signing"))
        elif listed[name] != there.files[name]:
            problems.append(Problem("file", name, "was changed"))
    return problems


def _same_tensors(run: Path, problem: Problem, said: Mapping[str, Any]) -> Problem:
    """The problem of a weight file that was only written anew says so."""
    if (problem.where, problem.what) != (MODEL, "was changed"):
        return problem
    try:
        stated = said["predicate"]["models"]["run"]["tensors_sha256"]
        same = stated == file_tensors_sha256(run / MODEL)
    except (UnlabelError, KeyError, TypeError):
        return problem
    return replace(problem, what="was changed, but holds the same tensors") if same else problem


def _audit(run: Path, there: Contents) -> dict[str, Any] | None:
    """The run's audit; None where it has none, or one whose fault `_claims` names."""
    try:
        return read_audit(run, there.files)
    except UnlabelError:
        return None


def _claims(run: Path, there: Contents, predicate: Mapping[str, Any], changed: set[str]) -> list[Problem]:
    """Whether the files bear out what the statement claims of them; not asked of files that were changed."""
    try:
        if not changed & {RECORD, CONFIG, MODEL}:
            borne = borne_out(run, there.files)
        elif AUDIT in changed:
            read_audit(run, there.files)
            return []
        else:
            return []
    except UnlabelError as error:
        return [Problem("audit" if AUDIT in str(error) else "claims", "the files", str(error))]
    if AUDIT in changed:
        return []
    stated = {name: value for name, value in predicate.items() if name not in (*SIGNERS_WORD, "schema")}
    if borne["audit"] is None and stated.get("request") == {**borne["request"], "forgotten_earlier": []}:
        borne["request"] = stated["request"]  # what earlier versions said of a run without an audit
    # as they are written: to Python, 0 is False and a name with nothing is like no name
    wrong = [name for name in {**stated, **borne} if _written(stated, name) != _written(borne, name)]
    return [Problem("claims", name, "is stated otherwise than the files say") for name in wrong]


def _written(values: Mapping[str, Any], name: str) -> bytes | None:
    return canonical(values[name]) if name in values else None
