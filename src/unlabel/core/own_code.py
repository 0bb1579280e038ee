"""Code of the user's own, ``package.module:function``: where Python finds it, and how it is imported.

Nothing here decides whether it may be imported. Callers do: a network of a run folder must be trusted, see
`models.custom`; a method is imported because the user has just named it, see `forget.methods`.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unlabel.core.errors import UnlabelError
from unlabel.core.wording import suggest


@dataclass(frozen=True)
class OwnCode:
    """A kind of thing that a user may bring, for the messages.

    Args:
        kind: ``network`` or ``method``.
        expected: What the function should be.
        error: What a fault is raised as.
    """

    kind: str
    expected: str
    error: type[UnlabelError]

    def locate(self, name: str) -> Path | None:
        """The folder that a name's top package lies in: the current one first; None for a part of Python.

        Raises:
            UnlabelError: As `error`, there is no such module.
        """
        top, here = top_package(name), Path.cwd()
        if spec_in(top, str(here)) is not None:
            return here
        spec = None
        with suppress(ValueError):  # a module that was made by hand
            spec = find_spec(top)
        if spec is None:
            raise self.error(
                f"no Python module '{top}' in {here} or among the installed packages, so there is no"
                f" {self.kind} '{name}'; run the command in the folder that holds it, or install it"
            )
        if spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations))).absolute().parent
        return Path(spec.origin).absolute().parent if spec.has_location and spec.origin else None

    def function(self, name: str, folder: Path | None) -> Callable[..., Any]:
        """Imports a name's module, which runs it, and returns its function.

        Args:
            name: ``package.module:function``.
            folder: Where it was located; put it first on the path with `first_on_path`.

        Raises:
            UnlabelError: As `error`, the module raised, or has no such function.
        """
        path, _, function = name.partition(":")
        try:
            module = importlib.import_module(path)
        except (Exception, SystemExit) as error:
            if path.endswith(".py") and isinstance(error, ModuleNotFoundError):
                module = path.removesuffix(".py")
                raise self.error(
                    f"'{path}' is a file, but a module has no ending; write {module}:{function}"
                ) from error
            raise self.error(
                f"importing '{path}' from {folder or 'Python'} raised {one_line(error)}; expected a module"
                f" with the function '{function}'"
            ) from error
        make = getattr(module, function, None)
        if not callable(make):
            state = "is no function" if hasattr(module, function) else "is not there"
            raise self.error(
                f"'{function}' {state} in the module '{path}'; expected"
                f" {self.expected}.{suggest(function, vars(module))}"
            )
        return make


def is_custom(name: str) -> bool:
    """Whether a name has the form ``package.module:function``.

    >>> is_custom("nets.small:make"), is_custom("resnet18"), is_custom("a:b:c"), is_custom("os:")
    (True, False, False, False)
    """
    module, _, function = name.partition(":")
    return function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def one_line(error: BaseException) -> str:
    """Type and message of any exception, without line breaks."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__


def top_package(name: str) -> str:
    """The first part of a name's module.

    >>> top_package("nets.small:make")
    'nets'
    """
    return name.partition(":")[0].partition(".")[0]


def spec_in(top: str, folder: str) -> ModuleSpec | None:
    """What Python would import from one folder; nothing is imported."""
    importlib.invalidate_caches()
    return PathFinder.find_spec(top, [folder])


@contextmanager
def first_on_path(folder: Path | None) -> Iterator[None]:
    """Lets Python find modules of a folder: first while the block runs, last afterwards.

    A console script does not have the current folder on its path. Afterwards the folder may hide no module
    of another's any more, yet what the code imports when it runs must still be found.
    """
    if folder is None:
        yield
        return
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)
