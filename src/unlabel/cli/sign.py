"""``unlabel sign``: sign a run's files, weights and audit."""

from pathlib import Path
from typing import Annotated

from unlabel.cli.options import Json, NoNegative
from unlabel.cli.output import print_json


def sign(
    run: Path,
    *,
    key: Path,
    signer: str | None = None,
    json_: Json = False,
    force: Annotated[bool, NoNegative] = False,
) -> None:
    """Sign a run: its files, its weights, and what its audit says.

    Args:
        run: A run folder. The command writes statement.dsse.json into it.
        key: Your private key (Ed25519, PEM); unlabel keygen makes one.
        signer: Your name, for the statement. Nobody checks it.
        json_: Print what was signed as JSON.
        force: Replace an earlier statement.
    """
    from unlabel.statement.sign import sign_run

    out, document, key_id = sign_run(run, key, signer=signer, force=force)
    predicate = document["predicate"]
    if json_:
        facts = {"headline": predicate["headline"], "audited": predicate["audit"] is not None}
        print_json({"statement": str(out), **facts, "files": len(document["subject"]), "key_id": key_id})
        return
    print(f"{predicate['headline']}; {len(document['subject'])} files; key {key_id}")
    if predicate["audit"] is None:
        from unlabel.report.page import before_audit

        print(f"signed without an audit; {before_audit(run)}")
    print(out)
