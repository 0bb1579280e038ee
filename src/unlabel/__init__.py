"""Make a trained multi-label image classifier forget a label, and measure how far that went.

::

    source = unlabel.load("folder:photos")
    original = unlabel.open_run("runs/original").model
    outcome = unlabel.forget_labels(original, "Male", source.train)
    audit = unlabel.audit_model(original, outcome.model, [retrained], source, "Male")

The rooms of the package are ``data -> training -> forget -> audit -> report``. Everything named here is
imported on first use, so that ``import unlabel`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabel.audit.document.results import Audit
    from unlabel.audit.inputs.options import AuditOptions
    from unlabel.audit.inputs.subject import Subject
    from unlabel.audit.probe.one_model import probe_model
    from unlabel.audit.protocol import audit_outputs
    from unlabel.audit.run.networks import audit_model
    from unlabel.cli.progress import progress
    from unlabel.core import errors
    from unlabel.core.engine import Run, start
    from unlabel.core.recipe import Recipe
    from unlabel.core.request import Request
    from unlabel.data import load
    from unlabel.data.dataset import Dataset, Source
    from unlabel.forget.driver import forget_labels
    from unlabel.forget.methods import METHODS, Method, methods
    from unlabel.forget.pipeline import Outcome
    from unlabel.runs.folder import Loaded
    from unlabel.runs.folder import load_run as open_run
    from unlabel.training.fit import fit, train

    __version__: str

__all__ = [
    "METHODS",
    "Audit",
    "AuditOptions",
    "Dataset",
    "Loaded",
    "Method",
    "Outcome",
    "Recipe",
    "Request",
    "Run",
    "Source",
    "Subject",
    "__version__",
    "audit_model",
    "audit_outputs",
    "errors",
    "fit",
    "forget_labels",
    "load",
    "methods",
    "open_run",
    "probe_model",
    "progress",
    "start",
    "train",
]

_HOME = {
    "METHODS": "unlabel.forget.methods:METHODS",
    "Audit": "unlabel.audit.document.results:Audit",
    "AuditOptions": "unlabel.audit.inputs.options:AuditOptions",
    "Dataset": "unlabel.data.dataset:Dataset",
    "Loaded": "unlabel.runs.folder:Loaded",
    "Method": "unlabel.forget.methods:Method",
    "Outcome": "unlabel.forget.pipeline:Outcome",
    "Recipe": "unlabel.core.recipe:Recipe",
    "Request": "unlabel.core.request:Request",
    "Run": "unlabel.core.engine:Run",
    "Source": "unlabel.data.dataset:Source",
    "Subject": "unlabel.audit.inputs.subject:Subject",
    "audit_model": "unlabel.audit.run.networks:audit_model",
    "audit_outputs": "unlabel.audit.protocol:audit_outputs",
    "fit": "unlabel.training.fit:fit",
    "forget_labels": "unlabel.forget.driver:forget_labels",
    "load": "unlabel.data:load",
    "methods": "unlabel.forget.methods:methods",
    "open_run": "unlabel.runs.folder:load_run",
    "probe_model": "unlabel.audit.probe.one_model:probe_model",
    "progress": "unlabel.cli.progress:progress",
    "start": "unlabel.core.engine:start",
    "train": "unlabel.training.fit:train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("unlabel")
    if name == "errors":
        return import_module("unlabel.core.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'unlabel' has no attribute {name!r}")
    module, attribute = _HOME[name].split(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
