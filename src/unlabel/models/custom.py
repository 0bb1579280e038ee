"""Networks of the user's own, ``package.module:function``: imported only when the user has named them.

A run folder may come from anywhere, and its ``config.json`` names the network. Importing whatever it names
would run whatever it wants. So a name is imported only when the user of this machine has named it: by
`adopt`, which writes it with its folder into the file ``trusted-networks`` in the user's configuration folder
(``UNLABEL_CONFIG``, else ``XDG_CONFIG_HOME/unlabel``, else ``~/.config/unlabel``), or in ``UNLABEL_TRUST``.
"""

import copy
import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import write_text
from unlabel.core.own_code import OwnCode, first_on_path, one_line, spec_in, top_package
from unlabel.core.own_code import is_custom as is_code
from unlabel.models.named_options import is_named

TRUSTED = "trusted-networks"
COUNTS = ("num_classes", "outputs", "num_outputs", "n_classes", "num_labels")

NETWORK = OwnCode(
    "network", "a function that takes the number of labels and returns a torch.nn.Module", ModelError
)

_granted: dict[str, Path | None] = {}  # what this process's user has named, with the folder it was found in


def is_custom(name: str) -> bool:
    """Whether a network's name is of the user's own code, ``package.module:function``.

    >>> is_custom("nets.small:make"), is_custom("resnet18"), is_custom("timm:test_vit")
    (True, False, False)
    """
    return is_code(name) and not is_named(name)


def build_custom(name: str, outputs: int) -> nn.Module:
    """Imports and calls the user's function; the model is a float32 copy on the CPU.

    A parameter named ``num_classes``, ``outputs``, ``num_outputs``, ``n_classes`` or ``num_labels`` gets the
    number of labels; else the one required parameter; else ``num_classes`` where any keyword is taken; a
    function without parameters is just called. A class is a function too.

    Args:
        name: ``package.module:function``.
        outputs: Number of labels, >= 1.

    Raises:
        ModelError: The name is not trusted, cannot be imported or called, or makes no ``nn.Module``.
    """
    folder = permitted(name)
    with first_on_path(folder):
        make = NETWORK.function(name, folder)
        positional, keywords = _arguments(name, make, outputs)
        try:
            model = make(*positional, **keywords)
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"the network '{name}' raised {one_line(error)}; expected a function that returns a"
                f" torch.nn.Module with {outputs} outputs"
            ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"the network '{name}' returned {type(model).__name__}; expected a torch.nn.Module")
    # a copy: a function may return the same object twice, and a run must not share its weights
    model = copied(model, f"the network '{name}'").float()
    keep_plain(model)
    return model


def copied(model: object, called: str) -> nn.Module:
    """A copy of a network that somebody passed, on the CPU.

    Args:
        model: What was passed.
        called: How messages call it.

    Raises:
        ModelError: It is no network, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{called} is a {type(model).__name__}; expected a torch.nn.Module, such as"
            " unlabel.open_run(RUN).model"
        )
    try:
        return copy.deepcopy(model).cpu()
    except Exception as error:
        raise ModelError(
            f"{called} cannot be copied ({one_line(error)}); expected a torch.nn.Module that copy.deepcopy"
            " copies"
        ) from error


def needs_plain(error: BaseException) -> bool:
    """Whether a network failed because of the engine's memory layout, which its own code did not expect."""
    return "view size is not compatible" in f"{error} {error.__cause__}"


def keep_plain(model: nn.Module) -> None:
    """From now on, the network gets PyTorch's own memory layout at each forward pass, in place."""
    model.register_forward_pre_hook(_plain_memory)


def freed(model: nn.Module) -> nn.Module:
    """The same network in PyTorch's own memory layout, without what `keep_plain` added."""
    for key in [key for key, hook in model._forward_pre_hooks.items() if hook is _plain_memory]:
        del model._forward_pre_hooks[key]
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def grant(name: str) -> Path | None:
    """Allows a network in this process, because the user has just named it; nothing is imported yet.

    Returns:
        The folder that its module was found in, the current one first; None for a part of Python itself.

    Raises:
        OptionError: The name has not the form ``package.module:function``.
        ModelError: There is no such module.
    """
    if not is_custom(name):
        raise OptionError(f"'{name}' is no network; expected package.module:function")
    _granted[name] = NETWORK.locate(name)
    return _granted[name]


def remember(name: str) -> str | None:
    """Writes a granted network into the user's file of trusted ones, so that later commands may build it.

    Returns:
        A sentence when the file could not be written; None when it was.
    """
    folder = _granted[name]
    file = config_folder() / TRUSTED
    entry = {"network": name, "folder": None if folder is None else str(folder)}
    try:
        other_lines = [line for line, old in _lines(file) if old.get("network") != name]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "\n".join([*other_lines, json.dumps(entry, ensure_ascii=False)]) + "\n")
    except OSError as error:
        return (
            f"{file} cannot be written ({error.strerror or error}): let later commands build the network"
            f" with UNLABEL_TRUST={name} in the environment, in the folder of its module"
        )
    return None


def config_folder() -> Path:
    """The user's configuration folder; it may not exist yet."""
    if folder := os.environ.get("UNLABEL_CONFIG"):
        return Path(folder).expanduser().absolute()
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser().absolute() / "unlabel"


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of the file of trusted networks, and the object it holds; damaged lines trust nothing."""
    text = ""
    with suppress(FileNotFoundError, NotADirectoryError):
        text = file.read_bytes().decode("utf-8", "replace")
    for line in text.splitlines():
        value = None
        with suppress(ValueError):
            value = json.loads(line)
        if line.strip():
            yield line, value if isinstance(value, dict) else {}


def permitted(name: str) -> Path | None:
    """The folder to import a network from; raises unless the user has named it."""
    if name in _granted:
        return _granted[name]
    entries = []
    with suppress(OSError):
        entries = [old for _, old in _lines(config_folder() / TRUSTED) if old.get("network") == name]
    folder = entries[-1].get("folder") if entries else None
    has_spec = isinstance(folder, str) and spec_in(top_package(name), folder) is not None
    if entries and (has_spec or folder is None):
        return Path(folder) if folder else None
    if name in [part.strip() for part in os.environ.get("UNLABEL_TRUST", "").split(",")]:
        return NETWORK.locate(name)
    if entries:
        raise ModelError(
            f"the network '{name}' was adopted from the folder {folder}, which no longer has its module"
            f" '{top_package(name)}'; put it back, or adopt the model again"
        )
    module, _, function = name.partition(":")
    raise ModelError(
        f"the run's network is '{name}': building it would import the Python module '{module}' and call"
        f" '{function}', which nobody has allowed on this machine; if you trust it, put UNLABEL_TRUST={name}"
        " before the command, or adopt the model yourself"
    )


def _arguments(name: str, make: Callable[..., Any], outputs: int) -> tuple[list[int], dict[str, int]]:
    """How to tell a function the number of labels; see `build_custom`."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the network '{name}' has no readable signature; write a Python function around it that takes"
            " the number of labels"
        ) from error
    kind = inspect.Parameter
    named = [p for p in parameters.values() if p.kind in (kind.POSITIONAL_OR_KEYWORD, kind.KEYWORD_ONLY)]
    count = next((word for word in COUNTS if word in [p.name for p in named]), None)
    required = [
        p
        for p in parameters.values()
        if p.default is kind.empty and p.kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD)
    ]
    if count is not None and {p.name for p in required} <= {count}:
        return [], {count: outputs}
    if count is None and len(required) == 1 and required[0].kind is not kind.KEYWORD_ONLY:
        return [outputs], {}
    if count is None and not required:
        takes_any = any(p.kind is kind.VAR_KEYWORD for p in parameters.values())
        return [], {"num_classes": outputs} if takes_any else {}
    raise ModelError(
        f"the network '{name}' needs {', '.join(p.name for p in required)}, but only the number of labels is"
        " known; write a function that needs nothing else, such as: def make(num_classes): ..."
    )


def _plain_memory(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Gives a user's network the memory layout that it was written for.

    The engine lays images and weights out channels-last, which is faster. But ``x.view(len(x), -1)`` after a
    convolution, in many networks, only works in PyTorch's default layout.
    """
    with torch.inference_mode(False), torch.no_grad():
        for parameter in module.parameters():
            if not parameter.is_contiguous():
                parameter.data = parameter.data.contiguous()
    return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in inputs)
