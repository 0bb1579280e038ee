"""The envelope of a statement: DSSE v1 with one Ed25519 signature and the key that made it.

::

    {"payload": base64, "payloadType": "application/vnd.in-toto+json",
     "signatures": [{"keyid": sha256 of the public key, "publicKey": base64, "sig": base64}]}

The signature covers the payload and its type. The public key beside it is not covered: it lets anyone see
that the statement is as it was signed, and says nothing about who signed. The file is canonical JSON, and one
that is written in any other way is refused: no byte of it can change unnoticed.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlabel.core.reading import parse_json
from unlabel.statement.canonical import canonical
from unlabel.statement.keys import public_bytes, public_of
from unlabel.statement.packages import package

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MOST_BYTES = 16_000_000


@dataclass(frozen=True)
class Opened:
    """An envelope whose form is right.

    Args:
        payload: What was signed.
        key: The public key beside the signature.
        key_id: Its hex sha256, as of the DER form.
        valid: Whether the signature is that key's.
    """

    payload: bytes
    key: "Ed25519PublicKey"
    key_id: str
    valid: bool


def encoded(payload: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """The bytes that a DSSE signature covers.

    Example:
        >>> encoded(b"hello world", "http://example.com/HelloWorld")
        b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    title = kind.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(title), title, len(payload), payload)


def key_id(key: "Ed25519PublicKey") -> str:
    """Hex sha256 of a public key: ``openssl pkey -pubin -in KEY -outform DER | sha256sum``."""
    return hashlib.sha256(public_bytes(key)).hexdigest()


def seal(payload: bytes, key: "Ed25519PrivateKey") -> bytes:
    """The signed envelope, as the bytes of its file."""
    public = key.public_key()
    signature = {
        "keyid": key_id(public),
        "publicKey": _base64(public_bytes(public)),
        "sig": _base64(key.sign(encoded(payload))),
    }
    whole = {"payload": _base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return canonical(whole) + b"\n"


def open_envelope(content: bytes) -> Opened:
    """Reads an envelope and checks its signature against the key beside it.

    Raises:
        ValueError: It is no envelope as `seal` writes it, with the fault.
        OptionError: The package is missing.
    """
    try:
        whole: Any = parse_json(content)
        (signature,) = whole["signatures"]
        payload, public, sig = (
            base64.b64decode(text, validate=True)
            for text in (whole["payload"], signature["publicKey"], signature["sig"])
        )
        again = {
            "payload": _base64(payload),
            "payloadType": whole["payloadType"],
            "signatures": [
                {"keyid": signature["keyid"], "publicKey": _base64(public), "sig": _base64(sig)},
            ],
        }
        written = canonical(again) + b"\n"
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError("it is no DSSE envelope with one signature and its key") from error
    if written != content:
        raise ValueError("it is not written as canonical JSON, or holds more than an envelope does")
    if whole["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"its payload is of another type than {PAYLOAD_TYPE}")
    key = public_of(public)
    if key is None:
        raise ValueError("the key in it is no Ed25519 public key")
    if signature["keyid"] != key_id(key):
        raise ValueError("its key id is not that of the key in it")
    return Opened(payload, key, key_id(key), _signed(key, sig, payload))


def _signed(key: "Ed25519PublicKey", signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, encoded(payload))
    except package("cryptography.exceptions").InvalidSignature:
        return False
    return True


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
