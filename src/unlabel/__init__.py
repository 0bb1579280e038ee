"""Make a trained multi-label image classifier forget a label, and prove how far that went.

    data -> training -> forget -> audit -> report

The rooms of the package are the words of that sentence. Everything named here is imported on first use,
so that ``import unlabel`` costs nothing; `unlabel.workflow` holds what the commands do, with paths.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabel.audit import AuditOptions, Subject, audit_outputs
    from unlabel.data import load
    from unlabel.data.dataset import Dataset, Source
    from unlabel.engine import Run, start
    from unlabel.forget.driver import forget_labels
    from unlabel.forget.methods import METHODS
    from unlabel.recipe import Recipe
    from unlabel.request import Request
    from unlabel.training import fit, train

_WHERE = {
    "AuditOptions": "unlabel.audit",
    "Subject": "unlabel.audit",
    "audit_outputs": "unlabel.audit",
    "load": "unlabel.data",
    "Dataset": "unlabel.data.dataset",
    "Source": "unlabel.data.dataset",
    "Run": "unlabel.engine",
    "start": "unlabel.engine",
    "forget_labels": "unlabel.forget.driver",
    "METHODS": "unlabel.forget.methods",
    "Recipe": "unlabel.recipe",
    "Request": "unlabel.request",
    "fit": "unlabel.training",
    "train": "unlabel.training",
}

__all__ = [
    "METHODS",
    "AuditOptions",
    "Dataset",
    "Recipe",
    "Request",
    "Run",
    "Source",
    "Subject",
    "audit_outputs",
    "fit",
    "forget_labels",
    "load",
    "start",
    "train",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'unlabel' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
