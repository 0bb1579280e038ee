"""What a network of the user's own is made of: a digest of its source, which its weights do not tell."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from unlabel.models.custom import is_custom, permitted
from unlabel.models.named_options import packages_of

_digests: dict[str, tuple[ModuleType | None, str]] = {}  # as the module was when it was imported


def code_of(network: str) -> str:
    """Hex digest of the source of a network of the user's own; empty for a network of ours.

    Of a network of another library it is a digest of the name, whose options may change the outputs of equal
    weights, and of the library's version.

    It covers the module and what it imports from the folder that it lies in, anywhere in its text and by any
    number of steps; of an installed package, the module and the package's version. What is imported by a name
    that is made up while the program runs, and files of data, are not covered.

    Args:
        network: A name in a run's ``config.json``; the network has just been built.

    Raises:
        ModelError: The network is not trusted on this machine.
    """
    if packages := packages_of(network):
        return hashlib.sha256(repr((network, packages)).encode()).hexdigest()
    if not is_custom(network):
        return ""
    module = network.partition(":")[0]
    there = sys.modules.get(module)
    if network not in _digests or _digests[network][0] is not there:
        _digests[network] = there, _digest(permitted(network), module)
    return _digests[network][1]


def _digest(folder: Path | None, module: str) -> str:
    digest = hashlib.sha256(module.encode())
    if folder is None:  # a part of Python itself
        return digest.hexdigest()
    top = module.partition(".")[0]
    installed = str(folder) in sysconfig.get_paths().values()
    if installed:
        with suppress(PackageNotFoundError):
            digest.update(version(top).encode())
    files = _files(folder, module) if installed else _reached(folder, module)
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _reached(folder: Path, module: str) -> set[Path]:
    """The files of a module and of all that it imports from its folder."""
    files: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for file in _files(folder, name) - files:
            files.add(file)
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            waiting += _imports(file, package)
    return files


def _files(folder: Path, module: str) -> set[Path]:
    """A module's file and those of the packages around it, as far as they lie in a folder."""
    names = module.split(".")
    paths = {folder.joinpath(*names[:count], "__init__.py") for count in range(1, len(names) + 1)}
    paths.add(folder.joinpath(*names[:-1], f"{names[-1]}.py"))
    return {file for file in paths if file.is_file()}


def _imports(file: Path, package: str) -> Iterator[str]:
    """Names of modules that a file may import: of ``from a import b``, both a and a.b."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = package.split(".")
            around = names[: len(names) + 1 - node.level] if node.level else []
            base = ".".join([*around, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (f"{base}.{item.name}".lstrip(".") for item in node.names)
