"""The packages of ``unlabel[sign]``, imported when they are needed."""

from importlib import import_module
from typing import Any


def package(name: str) -> Any:
    """A module of ``cryptography``, ``rfc8785`` or ``jsonschema``.

    Raises:
        OptionError: It is not installed.
    """
    from unlabel.core.errors import OptionError
    from unlabel.core.install import install_command

    try:
        return import_module(name)
    except ImportError as error:
        raise OptionError(
            f"statements need the package {name.partition('.')[0]}; install it with:"
            f" {install_command('sign')}"
        ) from error
