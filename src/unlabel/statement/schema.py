"""Whether a parsed audit fits the published schema of ``audit.json`` (JSON Schema, draft 2020-12)."""

import json
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

from unlabel.core.files import visible
from unlabel.statement.packages import package

LONGEST = 200  # characters of a fault: a validator's message holds the value that it is about


@cache
def audit_schema() -> dict[str, Any]:
    """The schema of ``audit.json``, parsed."""
    return json.loads(files("unlabel.statement").joinpath("audit.schema.json").read_text("utf-8"))


@cache
def _validator() -> Any:
    return package("jsonschema").Draft202012Validator(audit_schema())


def audit_faults(audit: Any, most: int = 10) -> list[str]:
    """In what a parsed audit does not fit its schema; empty if it does.

    Args:
        audit: Parsed JSON from anywhere.
        most: Faults to give at most.

    Raises:
        OptionError: The package ``jsonschema`` is not installed.

    Example:
        >>> audit_faults({"schema": "unlabel.audit/1"}, most=1)
        ["the whole: 'headline' is a required property"]
    """
    return [
        f"{'.'.join(map(str, fault.absolute_path)) or 'the whole'}: {_short(fault.message)}"
        for fault in islice(_validator().iter_errors(audit), most)
    ]


def _short(message: str) -> str:
    """A message on one line: its beginning and its end, which says what was expected."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    return visible(message)
