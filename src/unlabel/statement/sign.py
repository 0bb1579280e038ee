"""Signing a run: one file beside the others that says what they are and who says so."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import visible, write_bytes
from unlabel.core.leftovers import sweep_inside
from unlabel.core.places import held
from unlabel.core.wording import in_shell, listing
from unlabel.report.marks import stale
from unlabel.runs.files import read_record
from unlabel.statement.canonical import canonical
from unlabel.statement.contents import STATEMENT, contents
from unlabel.statement.envelope import MOST_BYTES, key_id, seal
from unlabel.statement.keys import read_private
from unlabel.statement.predicate import AUDIT, statement

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LONGEST_SIGNER = 200


def sign_run(
    run: Path, key: Path, *, signer: str | None = None, force: bool = False, issued_at: str | None = None
) -> tuple[Path, dict[str, Any], str]:
    """Writes ``statement.dsse.json`` into a run: a signed list of all its other files and of what they say.

    Args:
        run: A run folder, audited or not; a run without an audit gets a statement that says so.
        key: An Ed25519 private key: PEM, not encrypted, outside the run.
        signer: Who signs, in your own words, up to 200 letters; part of the statement, checked by nobody.
        force: Replace an earlier statement.
        issued_at: The time to state; now by this machine's clock when None.

    Returns:
        The file, the statement, and the id of the public key.

    Raises:
        ModelError: The run is damaged, holds a link, or its audit or report belongs to other files.
        OptionError: A statement exists, the key does not fit or lies in the run, a package is missing, or the
            run is being audited.
        WriteError: The disk is full, or something else of the kind.
    """
    read_record(run)  # also puts back a run that a killed command had moved away
    out = run / STATEMENT
    if out.exists() and not force:
        raise OptionError(f"{out} exists; replace the statement with --force")
    if out.is_symlink() or out.is_dir():
        raise OptionError(f"{out} is a link or a folder; remove it first")
    if signer is not None and not (0 < len(signer) <= LONGEST_SIGNER and visible(signer) == signer):
        raise OptionError(
            f"--signer is not a name of 1 to {LONGEST_SIGNER} letters without control characters"
        )
    if run.resolve() in key.resolve().parents:
        raise OptionError(f"--key {key} lies in the run, and would be given away with it; keep it elsewhere")
    private = read_private(key)
    with held(run, alone=True) as free:
        if not free:
            raise OptionError(f"{run} is being audited or signed; sign it when that has ended")
        return _sign(run, out, private, signer, issued_at)


def _sign(
    run: Path, out: Path, private: "Ed25519PrivateKey", signer: str | None, issued_at: str | None
) -> tuple[Path, dict[str, Any], str]:
    sweep_inside(run)
    there = contents(run)
    if there.refused:
        faults = [f"{visible(name)} {fault}" for name, fault in there.refused.items()]
        raise ModelError(
            f"{run} cannot be signed: {listing(faults, 3)}; remove it, or put a file in its place"
        )
    issued_at = issued_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = statement(run, there.files, signer=signer, issued_at=issued_at)
    if old := stale(run) if AUDIT in there.files else []:
        raise ModelError(
            f"{listing(old)} in {run} is not of this audit.json; write it again: unlabel"
            f" report {in_shell(run)}"
        )
    try:
        content = seal(canonical(document), private)
    except ValueError as error:
        raise ModelError(f"{run} cannot be signed: {error}") from error
    if len(content) > MOST_BYTES:
        raise ModelError(
            f"the statement of {run} would be larger than {MOST_BYTES:,} bytes; remove files from it"
        )
    write_bytes(out, content)
    return out, document, key_id(private.public_key())
