"""A run's word, signed: `sign_run` writes a statement of all its files, `verify_run` checks it.

::

    canonical (RFC 8785)  contents (files)  tensors  schema (of audit.json)   what is said, exactly
    predicate (in-toto Statement v1)  envelope (DSSE)  keys (Ed25519)         who says it
    sign, verify, again (measuring anew)                                      the two commands
"""

from unlabel.statement.sign import sign_run
from unlabel.statement.tensors import tensors_sha256
from unlabel.statement.verify import Problem, Verified, verify_run

__all__ = ["Problem", "Verified", "sign_run", "tensors_sha256", "verify_run"]
