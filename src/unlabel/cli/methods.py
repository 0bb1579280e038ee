"""``unlabel methods``: list the methods that forget."""

import inspect
import json
from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import Parameter

from unlabel.forget.methods import Method, find_method
from unlabel.forget.methods import methods as all_methods


def described(rows: Iterable[Method]) -> list[dict[str, Any]]:
    """Methods as plain data: name, summary, paper, and the options with type and default."""
    return [
        {
            "name": method.name,
            "summary": method.summary,
            "paper": method.paper,
            "alias_of": method.alias_of,
            "data": method.data,
            "options": [
                {
                    "name": name.replace("_", "-"),
                    "type": _kind(parameter),
                    "default": parameter.default,
                }
                for name, parameter in method.options().items()
                if parameter.default is not inspect.Parameter.empty
            ],
        }
        for method in rows
    ]


def _kind(option: inspect.Parameter) -> str:
    """The type of an option; that of its default where it has no annotation."""
    kind = type(option.default) if option.annotation is option.empty else option.annotation
    return getattr(kind, "__name__", str(kind))


def methods(*names: str, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """List the methods that forget, with their papers.

    Args:
        names: Methods to list; all by default. Your own is module:function, in the current folder or
            installed.
        json_: Print as JSON, with the type and default of every option.
    """
    rows = described([find_method(name) for name in names] if names else all_methods().values())
    if json_:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row['name']:18s} {row['summary']}")
        print(f"{'':18s} {row['paper']}")
