"""A signed run: nothing in it changes unnoticed, an untouched copy passes, no file can fool or break it."""

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from unlabel.core import engine
from unlabel.core.errors import MissingFiles, ModelError, OptionError
from unlabel.core.files import write_json
from unlabel.core.install import install_command
from unlabel.core.reading import file_sha256
from unlabel.forget.run import forget_run
from unlabel.report.card import write_card
from unlabel.report.page import write_report
from unlabel.statement import sign_run, tensors_sha256, verify_run
from unlabel.statement.canonical import canonical
from unlabel.statement.contents import MOST_FILES, STATEMENT
from unlabel.statement.envelope import seal
from unlabel.statement.keys import read_private, read_public

TIME = "2026-11-24T18:00:00Z"
Resign = Callable[[Path], None]


def payload(run: Path) -> dict[str, Any]:
    """The statement in a run's envelope."""
    return json.loads(base64.b64decode(json.loads((run / STATEMENT).read_bytes())["payload"]))


def wrong(run: Path, key: Path | None = None) -> dict[str, str]:
    """What verifying finds wrong: place -> fault."""
    return {problem.where: problem.what for problem in verify_run(run, key).problems}


def forge(run: Path, change: Callable[[dict[str, Any]], object], key: Path) -> None:
    """A statement that says something else, properly signed by someone."""
    said = payload(run)
    change(said)
    (run / STATEMENT).write_bytes(seal(canonical(said), read_private(key)))


def test_a_statement_names_every_file_and_what_the_audit_says(signed: Path) -> None:
    said, audit = payload(signed), json.loads((signed / "audit.json").read_text("utf-8"))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "urn:unlabel:audit/1"
    there = {path.name: file_sha256(path) for path in signed.iterdir() if path.name != STATEMENT}
    assert {item["name"]: item["digest"]["sha256"] for item in said["subject"]} == there
    assert {"README.md", "report.html", "audit.json", "model.safetensors"} < set(there)
    predicate = said["predicate"]
    assert predicate["headline"] == audit["headline"]
    assert {name: claim["verdict"] for name, claim in predicate["claims"].items()} == {
        name: claim["verdict"] for name, claim in audit["claims"].items()
    }
    assert predicate["not_tested"] == audit["not_tested"]
    assert predicate["limitations"] == audit["limitations"]
    assert predicate["request"]["labels"] == ["top"]
    assert predicate["tool"]["name"] == "unlabel"
    models = predicate["models"]
    assert models["run"]["tensors_sha256"] == tensors_sha256(load_file(signed / "model.safetensors"))
    assert models["before"]["sha256"] == file_sha256(signed.parent / "base" / "model.safetensors")
    assert [item["sha256"] for item in models["references"]] == [
        file_sha256(signed.parent / "again" / "model.safetensors")
    ]


def test_the_same_run_key_and_time_give_the_same_bytes(signed: Path) -> None:
    first = (signed / STATEMENT).read_bytes()
    sign_run(signed, signed.parent / "ada", signer="Ada", issued_at=TIME, force=True)
    assert (signed / STATEMENT).read_bytes() == first


def test_the_signature_is_that_of_dsse(signed: Path) -> None:
    """The bytes that are signed, put together here by the words of the specification."""
    envelope = json.loads((signed / STATEMENT).read_bytes())
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    assert kind == "application/vnd.in-toto+json"
    covered = f"DSSEv1 {len(kind)} {kind} {len(body)} ".encode() + body
    key = read_public(signed.parent / "ada.pub")
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), covered)  # raises where it is not


def test_an_untouched_copy_elsewhere_passes(signed: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(signed, tmp_path / "elsewhere" / "under another name"))
    shutil.rmtree(signed.parent / "base")
    for key in (None, signed.parent / "ada.pub"):
        found = verify_run(copy, key)
        assert (found.problems, found.signature) == ((), True)
        assert found.signer == ("not checked" if key is None else "checked")


def test_one_flipped_bit_in_any_file_is_found_and_named(signed: Path) -> None:
    draw = random.Random(0)
    (signed / "deep" / "er").mkdir(parents=True)
    (signed / "deep" / "er" / "note").write_bytes(b"x")
    sign_run(signed, signed.parent / "ada", issued_at=TIME, force=True)
    files = [path for path in signed.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) == 8
    for file in files:
        content = file.read_bytes()
        name = file.relative_to(signed).as_posix()
        for at in {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(6))}:
            flipped = bytearray(content)
            flipped[at] ^= 1 << draw.randrange(8)
            file.write_bytes(flipped)
            found = wrong(signed)
            assert name in found or (name == STATEMENT and found), (name, at)
            file.write_bytes(content)
    assert wrong(signed) == {}


def test_no_bit_of_the_envelope_is_free(signed: Path) -> None:
    """Every byte of the statement's file, one bit each: also unused bits of base64, names and line breaks."""
    file, draw = signed / STATEMENT, random.Random(1)
    content = file.read_bytes()
    start = content.index(b'"payloadType"')
    places = [*range(30), *draw.sample(range(30, start), 20), *range(start - 10, len(content))]
    for at in places:
        flipped = bytearray(content)
        flipped[at] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        assert wrong(signed), at
    file.write_bytes(content)
    assert wrong(signed) == {}


def test_missing_added_and_changed_files_are_named(signed: Path) -> None:
    (signed / "log.jsonl").unlink()
    (signed / "sub").mkdir()
    (signed / "sub" / "new").write_text("")
    (signed / "report.html").write_text("")
    assert wrong(signed) == {
        "log.jsonl": "is missing",
        "sub/new": "was added after the signing",
        "report.html": "was changed",
    }


@pytest.mark.parametrize("audit", ["as it was", "changed"])
def test_a_run_without_its_model_is_named_and_breaks_nothing(audit: str, signed: Path) -> None:
    (signed / "model.safetensors").unlink()
    if audit == "changed":
        (signed / "audit.json").write_text((signed / "audit.json").read_text("utf-8") + " ", "utf-8")
    assert wrong(signed)["model.safetensors"] == "is missing"


def test_the_same_tensors_in_another_file_are_a_changed_file_with_the_same_tensors(signed: Path) -> None:
    model = signed / "model.safetensors"
    save_file(load_file(model), model, metadata={"made by": "someone else"})
    assert wrong(signed) == {"model.safetensors": "was changed, but holds the same tensors"}


def test_a_folder_full_of_links_and_devices_is_refused_not_followed(signed: Path) -> None:
    secret = signed.parent / "secret"
    secret.write_text("a")
    (signed / "link").symlink_to(secret)
    (signed / "folder").symlink_to(signed.parent)
    (signed / "loop").symlink_to("loop")
    os.mkfifo(signed / "pipe")
    found = wrong(signed)
    assert {name: found[name] for name in ("link", "folder", "loop")} == dict.fromkeys(
        ("link", "folder", "loop"), "is a link; expected a file"
    )
    assert found["pipe"] == "cannot be read (it is a pipe)"
    with pytest.raises(ModelError, match=r"cannot be signed: folder is a link.* and 1 more"):
        sign_run(signed, signed.parent / "ada", force=True)


def test_a_listed_file_that_becomes_a_link_to_its_twin_fails(signed: Path) -> None:
    shutil.move(signed / "audit.json", signed.parent / "audit.json")
    (signed / "audit.json").symlink_to(signed.parent / "audit.json")
    assert wrong(signed)["audit.json"] == "is a link; expected a file"


def test_a_statement_that_is_a_link_is_not_read(signed: Path) -> None:
    shutil.move(signed / STATEMENT, signed.parent / STATEMENT)
    (signed / STATEMENT).symlink_to(signed.parent / STATEMENT)
    assert "cannot be used" in wrong(signed)[STATEMENT]
    with pytest.raises(OptionError, match="is a link or a folder"):
        sign_run(signed, signed.parent / "ada", force=True)


def test_the_wrong_key_fails_and_the_right_one_says_so(signed: Path, command) -> None:
    found = verify_run(signed, signed.parent / "eve.pub")
    assert [problem.kind for problem in found.problems] == ["signer"]
    assert found.signature is True
    ran = command("verify", signed, "--key", signed.parent / "eve.pub")
    assert ran.code == 3
    assert "NOT by the key that was named" in ran.out
    assert command("verify", signed, "--key", signed.parent / "ada.pub").code == 0


def test_someone_else_who_signs_anew_is_found_only_with_the_key(signed: Path) -> None:
    """What the public key beside a signature is worth, and why the page says `signer not checked`."""
    (signed / "log.jsonl").write_text("forged")
    sign_run(signed, signed.parent / "eve", signer="Ada", issued_at=TIME, force=True)
    assert wrong(signed) == {}
    assert "signed by the key" in wrong(signed, signed.parent / "ada.pub")[STATEMENT]


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "headline": lambda said: said["predicate"].update(headline="UNLEARNED"),
    "valid": lambda said: said["predicate"].update(valid=False),
    "claims": lambda said: said["predicate"]["claims"]["C3"].update(verdict="PASS"),
    "limitations": lambda said: said["predicate"].update(limitations=[]),
    "not_tested": lambda said: said["predicate"]["not_tested"].pop(),
    "request": lambda said: said["predicate"]["request"].update(labels=["top", "middle"]),
    "models": lambda said: said["predicate"]["models"]["run"].update(tensors_sha256="0" * 64),
    "audit": lambda said: said["predicate"].update(audit=None),
    "method": lambda said: said["predicate"].pop("method"),
    "nothing": lambda said: said["predicate"].update(nothing=None),
    "certificate": lambda said: said["predicate"].update(certificate="compliant"),
}


def test_false_written_as_zero_is_another_statement(signed: Path) -> None:
    assert payload(signed)["predicate"]["claims"]["C1"]["provisional"] is False
    forge(signed, lambda said: said["predicate"]["claims"]["C1"].update(provisional=0), signed.parent / "ada")
    assert list(wrong(signed)) == ["claims"]


@pytest.mark.parametrize("what", LIES)
def test_a_signer_who_claims_more_than_the_files_bear_out_fails(what: str, signed: Path) -> None:
    forge(signed, LIES[what], signed.parent / "ada")
    assert wrong(signed, signed.parent / "ada.pub") == {what: "is stated otherwise than the files say"}


def test_labels_forgotten_earlier_are_stated_without_an_audit_too(here: Path) -> None:
    run = here / "lesser"
    forget_run("head-removal", here / "less", ["middle"], run, engine.start(accelerator="cpu", batch_size=32))
    sign_run(run, here / "ada", issued_at=TIME)
    said = {"labels": ["middle"], "forgotten_earlier": ["top"], "retained": ["bottom"]}
    assert payload(run)["predicate"]["request"] == said
    assert wrong(run) == {}
    assert payload(run)["predicate"]["audit"] is None

    def state(**request: Any) -> dict[str, str]:
        forge(run, lambda said: said["predicate"]["request"].update(request), here / "ada")
        return wrong(run)

    assert state(forgotten_earlier=[]) == {}  # as earlier versions signed it
    assert list(state(forgotten_earlier=["bottom"])) == ["request"]
    assert list(state(forgotten_earlier=[], retained=["bottom", "top"])) == ["request"]


def subject(*names: Any) -> Callable[[dict[str, Any]], object]:
    return lambda said: said.update(
        subject=[{"name": name, "digest": {"sha256": "0" * 64}} for name in names]
    )


def outer(**parts: Any) -> Callable[[dict[str, Any]], object]:
    return lambda said: said.update(parts)


def inner(**parts: Any) -> Callable[[dict[str, Any]], object]:
    return lambda said: said["predicate"].update(parts)


NESTED: Any = []
for _ in range(60):
    NESTED = [NESTED]
HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path out of the run": subject("../../secret"),
    "an absolute path": subject("/etc/passwd"),
    "a path with a null": subject("a\0b"),
    "a name that steers a terminal": subject("\x1b[2J\x1b]0;evil\x07"),
    "a name that is a number": subject(3),
    "a name that is a list": subject(["a"]),
    "a name twice": subject("a", "a"),
    "names not in order": subject("b", "a"),
    "20,000 names": subject(*(f"{at:06d}" for at in range(20_000))),
    "subject text": outer(subject="all"),
    "subject null": outer(subject=None),
    "subject of numbers": outer(subject=[1, 2]),
    "a digest of another kind": outer(subject=[{"name": "a", "digest": {"md5": "0"}}]),
    "a digest that is no hash": outer(subject=[{"name": "a", "digest": {"sha256": "zz"}}]),
    "a digest that is a number": outer(subject=[{"name": "a", "digest": {"sha256": 7}}]),
    "another type": outer(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": outer(predicateType="urn:unlabel:audit/2"),
    "a predicate that is a list": outer(predicate=[1]),
    "no predicate": lambda said: said.pop("predicate"),
    "a part more": outer(extra=1),
    "a deep predicate": inner(headline=NESTED),
    "a headline that is an object": inner(headline={"a": 1}),
    "a headline that steers a terminal": inner(headline="\x9b2J\u202e"),
    "a signer that is a number": inner(signer=5),
    "a signer that steers a terminal": inner(signer="\x1b[31mAda\nas stated"),
    "a time that is none": inner(issued_at="yesterday"),
    "a time that is a number": inner(issued_at=5),
    "a tool that is text": inner(tool="unlabel"),
    "another tool": inner(tool={"name": "a notary", "version": "1"}),
    "claims that are text": inner(claims="PASS"),
    "models that are a number": inner(models=1),
    "an audit elsewhere": inner(audit={"file": "../audit.json", "schema": "x", "sha256": "0" * 64}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_statement_fails_without_a_traceback(what: str, signed: Path, command, monkeypatch) -> None:
    key = signed.parent / "eve"
    forge(signed, HOSTILE[what], key)
    opened: list[str] = []
    real = os.open

    def spy(path: Any, *rest: Any, **more: Any) -> int:
        opened.append(os.fsdecode(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", spy)
    ran = command("verify", signed, "--key", key.with_suffix(".pub"))
    monkeypatch.setattr(os, "open", real)
    signer_only = what == "a signer that steers a terminal"  # their own word: shown, escaped, and not judged
    assert ran.code == (0 if signer_only else 3)
    text = ran.out + ran.err
    assert len(text) < 20_000
    assert not any((ord(letter) < 32 and letter != "\n") or 0x7F <= ord(letter) < 0xA0 for letter in text)
    assert "\u202e" not in text
    assert text.count("\nas stated\n") == (1 if signer_only else 0)
    inside = [path for path in opened if path.startswith(str(signed))]
    allowed = (str(signed), str(key.parent / "eve.pub"))
    assert inside
    assert not [path for path in opened if not path.startswith(allowed)]
    as_json = command("verify", signed, "--json")
    assert as_json.code == ran.code
    assert as_json.out.isascii()
    assert json.loads(as_json.out)["verified"] is signer_only


ENVELOPES: dict[str, bytes] = {
    "empty": b"",
    "null": b"null\n",
    "a list": b"[]\n",
    "text": b"statement",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "a number of 10,000 digits": b'{"payload":' + b"9" * 10_000 + b"}\n",
    "no signature": b'{"payload":"","payloadType":"a","signatures":[]}\n',
    "signatures that are text": b'{"payload":"","payloadType":"a","signatures":"a"}\n',
    "base64 that is none": b'{"payload":"!!","payloadType":"a","signatures":[{"publicKey":"a","sig":"b"}]}\n',
    "too large": b" " * 16_000_001,
}


@pytest.mark.parametrize("what", ENVELOPES)
def test_a_file_that_is_no_envelope_fails_in_one_line(what: str, signed: Path, command) -> None:
    (signed / STATEMENT).write_bytes(ENVELOPES[what])
    ran = command("verify", signed)
    assert ran.code == 3
    assert "cannot be used" in ran.out
    assert "not read" in ran.out


def test_a_payload_signed_as_another_type_fails(signed: Path) -> None:
    envelope = json.loads((signed / STATEMENT).read_bytes())
    envelope["payloadType"] = "text/plain"
    (signed / STATEMENT).write_bytes(canonical(envelope) + b"\n")
    assert "another type" in wrong(signed)[STATEMENT]


def test_a_signature_of_another_statement_fails(signed: Path) -> None:
    envelope = json.loads((signed / STATEMENT).read_bytes())
    said = payload(signed)
    said["predicate"]["signer"] = "Eve"
    envelope["payload"] = base64.b64encode(canonical(said)).decode()
    (signed / STATEMENT).write_bytes(canonical(envelope) + b"\n")
    found = verify_run(signed)
    assert found.signature is False
    assert [problem.kind for problem in found.problems] == ["signature"]


def test_an_audit_of_other_weights_is_not_signed(here: Path) -> None:
    shutil.copy(here / "base" / "model.safetensors", here / "less" / "model.safetensors")
    with pytest.raises(ModelError, match="is the audit of other weights"):
        sign_run(here / "less", here / "ada")


def test_an_audit_that_does_not_fit_its_schema_is_not_signed_and_not_verified(signed: Path) -> None:
    audit = json.loads((signed / "audit.json").read_text("utf-8"))
    write_json(signed / "audit.json", audit | {"headline": "CERTIFIED"})
    with pytest.raises(ModelError, match=r"does not fit the schema.*headline: 'CERTIFIED' does not match"):
        sign_run(signed, signed.parent / "ada", force=True)
    found = {problem.kind: problem.what for problem in verify_run(signed).problems}
    assert "does not fit the schema" in found["audit"]


def test_a_report_of_an_earlier_audit_is_not_signed(here: Path) -> None:
    run, audit = here / "less", json.loads((here / "less" / "audit.json").read_text("utf-8"))
    write_json(run / "audit.json", audit | {"seconds": {"attacks": 1.0, "verdicts": 2.0}})
    with pytest.raises(ModelError, match=r"report.html, README.md in .* is not of this audit.json"):
        sign_run(run, here / "ada")
    write_report(run)
    write_card(run)
    sign_run(run, here / "ada")


def test_a_run_without_an_audit_is_signed_as_such(here: Path, command) -> None:
    ran = command("sign", here / "base", "--key", here / "ada")
    assert ran.code == 0
    assert ran.last == str(here / "base" / STATEMENT)
    assert "no audit; " in ran.out
    assert "signed without an audit; it has forgotten no label, so there is nothing to audit" in ran.out
    said = payload(here / "base")["predicate"]
    assert said["headline"] == "no audit"
    assert said["not_tested"][0].startswith("Anything")
    assert (said["claims"], said["audit"]) == ({}, None)
    assert wrong(here / "base") == {}
    shutil.copy(here / "less" / "audit.json", here / "base")
    assert "audit.json" in wrong(here / "base")


def test_an_earlier_statement_is_replaced_only_when_asked(signed: Path, monkeypatch) -> None:
    before = (signed / STATEMENT).read_bytes()
    with pytest.raises(OptionError, match="--force"):
        sign_run(signed, signed.parent / "ada")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="nothing was half-written"):
            sign_run(signed, signed.parent / "eve", force=True)
    assert (signed / STATEMENT).read_bytes() == before
    assert wrong(signed) == {}
    (signed / f".{STATEMENT}.{2**31 - 5}.tmp").write_bytes(b"of a killed command")
    sign_run(signed, signed.parent / "eve", force=True)
    assert wrong(signed, signed.parent / "eve.pub") == {}


def test_what_cannot_be_signed_is_refused_in_one_line(here: Path, command, tmp_path: Path) -> None:
    run, key = here / "less", here / "ada"
    inside = shutil.copy(key, run / "key")
    outside = {"no run": (tmp_path, key), "a key in the run": (run, inside), "no key": (run, here / "nobody")}
    for what, (folder, used) in outside.items():
        ran = command("sign", folder, "--key", used)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), what
    (run / "key").unlink()
    for signer in ("", "a" * 201, "Ada\x1b[31m"):
        assert command("sign", run, "--key", key, "--signer", signer).code == 2
    assert command("verify", run).code == 2  # not signed
    assert command("verify", tmp_path / "nowhere").code == 2


def test_more_files_than_a_run_has_are_refused(here: Path, monkeypatch) -> None:
    monkeypatch.setattr("unlabel.statement.contents.MOST_FILES", 5)
    assert MOST_FILES == 10_000
    with pytest.raises(ModelError, match="more than 5 files"):
        sign_run(here / "less", here / "ada")
    deep = here / "base" / "/".join("a" * 40)
    monkeypatch.undo()
    deep.mkdir(parents=True)
    with pytest.raises(ModelError, match="32 deep"):
        sign_run(here / "base", here / "ada")


def test_a_name_that_is_not_utf_8_is_not_signed(here: Path) -> None:
    Path(os.fsdecode(os.fsencode(here / "base") + b"/caf\xe9")).write_bytes(b"")
    with pytest.raises(ModelError, match=r"caf.*has a name that is not UTF-8"):
        sign_run(here / "base", here / "ada")


# --- keys


def test_a_key_pair_is_made_for_its_owner_only_and_never_replaced(command, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    ran = command("keygen", "--out", out)
    assert (ran.code, ran.last) == (0, f"{out}.pub")
    assert out.stat().st_mode & 0o777 == 0o600
    content = out.read_bytes()
    assert command("keygen", "--out", out).code == 2
    out.unlink()
    assert command("keygen", "--out", out).code == 2  # the public one is there
    assert not out.exists()
    assert content.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert command("keygen", "--out", tmp_path / "new" / "key").code == 0
    assert (tmp_path / "new" / "key").stat().st_mode & 0o777 == 0o600
    assert command("keygen", "--out", f"{out}.pub/key").code == 2  # in a file


def pem(kind: str) -> bytes:
    """A private key of another kind than is wanted."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    plain = form.NoEncryption()
    if kind == "another curve":
        return ec.generate_private_key(ec.SECP256R1()).private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, plain
        )
    key = ed25519.Ed25519PrivateKey.generate()
    if kind == "public":
        return key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    locked = form.BestAvailableEncryption(b"word") if kind == "encrypted" else plain
    style = form.PrivateFormat.OpenSSH if kind == "of OpenSSH" else form.PrivateFormat.PKCS8
    return key.private_bytes(form.Encoding.PEM, style, locked)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("encrypted", "is encrypted, and no password is asked for"),
        ("another curve", "is a key of another kind; expected Ed25519"),
        ("of OpenSSH", "holds no private key in PEM form"),
        ("public", "holds a public key; expected an Ed25519 private key"),
    ],
)
def test_other_keys_are_refused_with_what_to_do(kind: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(pem(kind))
    with pytest.raises(OptionError, match=fault):
        read_private(tmp_path / "key")
    if kind != "public":
        with pytest.raises(OptionError, match="is a private key; expected the public one"):
            read_public(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"a" * 70_000])
def test_files_that_are_no_keys_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    for read in (read_private, read_public):
        with pytest.raises(OptionError, match="key"):
            read(tmp_path / "key")
    with pytest.raises(MissingFiles, match="no such file"):
        read_private(tmp_path)


def test_a_key_of_openssl_signs(here: Path, tmp_path: Path) -> None:
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run([tool, "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run([tool, "pkey", "-in", key, "-pubout", "-out", public], check=True)
    sign_run(here / "base", key)
    found = verify_run(here / "base", public)
    assert found.ok
    done = subprocess.run(
        [tool, "pkey", "-pubin", "-in", public, "-outform", "DER"], check=True, capture_output=True
    )
    assert hashlib.sha256(done.stdout).hexdigest() == found.key_id


def test_without_the_extra_package_the_message_says_how_to_install_it(
    here, signed, command, monkeypatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    for arguments in (
        ("sign", here / "base", "--key", here / "ada"),
        ("verify", signed),
        ("verify", signed, "--key", here / "ada.pub"),
        ("keygen", "--out", here / "new"),
    ):
        ran = command(*arguments)
        assert ran.code == 2
        assert install_command("sign") in ran.err
    assert not (here / "new").exists()


def test_the_commands_read_and_sign_in_one_walk(here: Path, command) -> None:
    run = here / "less"
    assert command("keygen", "--out", "me").code == 0
    signed = command("sign", run, "--key", "me", "--signer", "Ada Lovelace, privacy office")
    assert signed.last == str(run / STATEMENT)
    ran = command("verify", run)
    assert (ran.code, ran.last) == (0, str(run / STATEMENT))
    assert "valid, signer not checked" in ran.out
    assert "Ada Lovelace, privacy office" in ran.out
    facts = json.loads(command("verify", run, "--key", "me.pub", "--json").out)
    assert (facts["verified"], facts["signature"], facts["signer"]) == (True, "valid", "checked")
    assert facts["statement"]["headline"] == payload(run)["predicate"]["headline"]
    assert (facts["problems"], facts["data"]) == ([], None)
