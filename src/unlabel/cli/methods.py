"""``unlabel methods``: list the methods that forget."""

import inspect
import json
from typing import Annotated, Any

from cyclopts import Parameter

from unlabel.forget.methods import methods as all_methods


def described() -> list[dict[str, Any]]:
    """Every method: name, summary, paper, and its options with type and default."""
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
                    "type": getattr(parameter.annotation, "__name__", str(parameter.annotation)),
                    "default": parameter.default,
                }
                for name, parameter in method.options().items()
                if parameter.default is not inspect.Parameter.empty
            ],
        }
        for method in all_methods().values()
    ]


def methods(*, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """List the methods that forget, with their papers.

    Args:
        json_: Print as JSON, with the type and default of every option.
    """
    rows = described()
    if json_:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row['name']:18s} {row['summary']}")
        print(f"{'':18s} {row['paper']}")
