"""A run's word, signed: `sign_run` writes a statement of all its files, `verify_run` checks it.

::

    canonical (RFC 8785)  contents (files)  tensors  schema (of audit.json)   what is said, exactly
    predicate (in-toto Statement v1)  envelope (DSSE)  keys (Ed25519)         who says it
    sign, verify, again (measuring anew)                                      the two commands

What is named here is imported on first use: a key is made without what a statement needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabel.statement.sign import sign_run
    from unlabel.statement.tensors import tensors_sha256
    from unlabel.statement.verify import Problem, Verified, verify_run

__all__ = ["Problem", "Verified", "sign_run", "tensors_sha256", "verify_run"]

_HOME = {
    "Problem": "verify",
    "Verified": "verify",
    "sign_run": "sign",
    "tensors_sha256": "tensors",
    "verify_run": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'unlabel.statement' has no attribute {name!r}")
    return getattr(import_module(f"unlabel.statement.{_HOME[name]}"), name)
