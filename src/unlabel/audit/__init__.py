"""Measuring how far a model has forgotten, and whether the measurement itself can be trusted.

``audit_outputs`` and its types are loaded on first use, so that the command line starts quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabel.audit.protocol import audit_outputs
    from unlabel.audit.subject import AuditOptions, Subject

__all__ = ["AuditOptions", "Subject", "audit_outputs"]

_HOMES = {"AuditOptions": "subject", "Subject": "subject", "audit_outputs": "protocol"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
