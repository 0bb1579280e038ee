"""Ed25519 keys in PEM files, as every tool writes and reads them. Needs the package of ``unlabel[sign]``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabel.core.errors import MissingFiles, OptionError, ReadError, WriteError
from unlabel.core.files import make_parent
from unlabel.core.leftovers import create
from unlabel.core.reading import read_plain, reason
from unlabel.statement.packages import package

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MOST_BYTES = 65_536
MAKE = "make one with: unlabel keygen --out FILE"


def read_private(file: Path) -> "Ed25519PrivateKey":
    """Reads an Ed25519 private key: PEM, PKCS #8, not encrypted.

    Raises:
        MissingFiles: There is no such file.
        OptionError: It holds something else, or the package is missing.
    """
    serialization, ed25519 = _modules()
    content = _read(file)
    if b"ENCRYPTED" in content:
        raise OptionError(
            f"--key {file} is encrypted, and no password is asked for; expected an unencrypted private key"
            f" that only you can read, or {MAKE}"
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception as error:  # of many kinds, by the version of the package
        kind = "a public key" if b"PUBLIC KEY" in content else "no private key in PEM form"
        raise OptionError(f"--key {file} holds {kind}; expected an Ed25519 private key: {MAKE}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise OptionError(f"--key {file} is a key of another kind; expected Ed25519: {MAKE}")
    return key


def read_public(file: Path) -> "Ed25519PublicKey":
    """Reads an Ed25519 public key in PEM form.

    Raises:
        MissingFiles: There is no such file.
        OptionError: It holds something else, or the package is missing.
    """
    serialization, ed25519 = _modules()
    content = _read(file)
    if b"PRIVATE KEY" in content:
        raise OptionError(
            f"--key {file} is a private key; expected the public one, which its owner may give away"
        )
    try:
        key = serialization.load_pem_public_key(content)
    except Exception as error:
        raise OptionError(
            f"--key {file} holds no public key in PEM form; expected an Ed25519 public key"
        ) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise OptionError(f"--key {file} is a key of another kind; expected an Ed25519 public key")
    return key


def public_bytes(key: "Ed25519PublicKey") -> bytes:
    """A public key as DER, SubjectPublicKeyInfo: the bytes inside its PEM form."""
    serialization, _ = _modules()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_of(content: bytes) -> "Ed25519PublicKey | None":
    """The Ed25519 public key of `public_bytes`; None for any other bytes."""
    serialization, ed25519 = _modules()
    try:
        key = serialization.load_der_public_key(content)
    except Exception:
        return None
    return key if isinstance(key, ed25519.Ed25519PublicKey) and public_bytes(key) == content else None


def write_keys(out: Path) -> tuple[Path, Path]:
    """Makes a key pair: the private key in ``out``, which only its owner can read, the public in ``out.pub``.

    Args:
        out: File for the private key; neither file may exist. Its folder is made if it is missing.

    Returns:
        The two paths, private and public.

    Raises:
        OptionError: It is no name for a file, or a file exists already: a key is never replaced. Or the
            package is missing.
        WriteError: It cannot be written.
    """
    if out.name in ("", ".."):
        raise OptionError(f"--out {out} is no name for a file; write it like keys/ada")
    serialization, ed25519 = _modules()
    public = out.with_name(f"{out.name}.pub")
    for file in (out, public):
        if file.exists() or file.is_symlink():
            raise OptionError(f"{file} exists; a key is never replaced: name another file with --out")
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    make_parent(out)
    _create(out, private, 0o600)
    try:
        _create(public, shown, 0o644)
    except WriteError:
        out.unlink(missing_ok=True)
        raise
    return out, public


def _create(file: Path, content: bytes, mode: int) -> None:
    try:
        create(file, content, mode)
    except OSError as error:
        raise WriteError.at(file, error) from error


def _modules() -> tuple[Any, Any]:
    names = ("hazmat.primitives.serialization", "hazmat.primitives.asymmetric.ed25519")
    serialization, ed25519 = map(package, (f"cryptography.{name}" for name in names))
    return serialization, ed25519


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise MissingFiles(f"--key {file}: no such file; expected an Ed25519 key in PEM form")
    try:
        return read_plain(file.resolve(), MOST_BYTES)
    except ReadError as error:
        raise OptionError(f"--key {file} is no key: {reason(error)}") from error
