"""What a statement says of a run: an in-toto Statement v1, put together from the run's folder alone.

::

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": path below the run, "digest": {"sha256": ...}}, ...],   all files but the statement
     "predicateType": "urn:unlabel:audit/1",
     "predicate": {headline, claims, request, models, audit, tool, not_tested, limitations, ...}}

`unlabel sign` writes it; `unlabel verify` puts it together again and compares.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unlabel.core.errors import ModelError
from unlabel.core.files import RECORD
from unlabel.core.reading import read_json
from unlabel.core.wording import in_shell
from unlabel.runs.files import CONFIG, MODEL, read_config, read_record
from unlabel.runs.origin import MADE
from unlabel.statement.schema import audit_faults
from unlabel.statement.tensors import file_tensors_sha256

Json = Mapping[str, Any]

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:unlabel:audit/1"
SCHEMA = "unlabel.statement/1"
AUDIT = "audit.json"
NO_AUDIT = "no audit"
SIGNERS_WORD = ("signer", "issued_at", "tool")
"""What a signer says without a file that bears it out."""


def statement(
    folder: Path, files: Mapping[str, str], *, signer: str | None, issued_at: str
) -> dict[str, Any]:
    """The statement of a run as it lies there.

    Args:
        folder: The run.
        files: Path below it -> sha256, of all its files; see `contents.contents`.
        signer: Who signs, in their own words.
        issued_at: When, by the signer's clock.

    Raises:
        ModelError: It is no whole run, or its audit is damaged or of another model.
    """
    return {
        "_type": TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "schema": SCHEMA,
            "tool": {"name": "unlabel", "version": tool_version()},
            "signer": signer,
            "issued_at": issued_at,
            **borne_out(folder, files),
        },
    }


def tool_version() -> str:
    """This program's version."""
    try:
        return version("unlabel")
    except PackageNotFoundError:  # run from a folder, not installed
        return "unknown"


def borne_out(folder: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """The part of the predicate that the run's files bear out.

    Raises:
        ModelError: As `statement` raises.
    """
    for name in (RECORD, CONFIG, MODEL):
        if name not in files:
            raise ModelError(f"{folder} is no whole run: it has no {name}; name a folder that unlabel wrote")
    config, record = read_config(folder), read_record(folder)
    audit = read_audit(folder, files)
    labels = list(record.labels or ()) if record.method not in MADE else []
    request: Json = {
        "labels": labels,
        "forgotten_earlier": [
            name for name in config.forgotten if name not in labels and record.method != "train"
        ],  # a model that was trained without a label has never known it
        "retained": [name for name in config.labels if name not in config.forgotten],
    }
    models = (audit or {}).get("models", {})
    before, parent = models.get("before") or {}, record.parent
    return {
        "headline": audit["headline"] if audit else NO_AUDIT,
        "valid": audit["valid"] if audit else None,
        "claims": {name: _claim(claim) for name, claim in audit["claims"].items()} if audit else {},
        "request": dict(audit["request"] if audit else request),
        "method": record.method,
        "models": {
            "run": {
                "file": MODEL,
                "sha256": files[MODEL],
                "tensors_sha256": file_tensors_sha256(folder / MODEL),
            },
            "parent": {"sha256": parent.sha256} if parent and parent.sha256 is not None else None,
            "before": {"sha256": before["sha256"]} if before else None,
            "references": [{"sha256": item["sha256"]} for item in models.get("references") or ()],
        },
        "audit": {"file": AUDIT, "schema": audit["schema"], "sha256": files[AUDIT]} if audit else None,
        "not_tested": list(audit["not_tested"])
        if audit
        else ["Anything: no audit was made, so nothing is known about how far the labels are forgotten."],
        "limitations": list(audit["limitations"]) if audit else [],
    }


def _claim(claim: Json) -> dict[str, Any]:
    return {name: claim[name] for name in ("verdict", "provisional", "sentence", "budget", "per_label")}


def read_audit(folder: Path, files: Mapping[str, str]) -> dict[str, Any] | None:
    """A run's audit; None where it has none.

    Raises:
        ModelError: It does not fit the schema, or is an audit of other weights than the run's.
    """
    if AUDIT not in files:
        return None
    path, again = folder / AUDIT, f"run again: unlabel audit {in_shell(folder)} --before BEFORE"
    try:
        audit = read_json(path)
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); {again}") from error
    if faults := audit_faults(audit, most=3):
        raise ModelError(f"{path} does not fit the schema of an audit: {'; '.join(faults)}; {again}")
    if audit["models"]["after"]["sha256"] != files.get(MODEL):
        raise ModelError(f"{path} is the audit of other weights than {folder / MODEL}; {again}")
    return audit
