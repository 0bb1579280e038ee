"""``unlabel export``: write a run's model as ONNX or as a state dict."""

from pathlib import Path
from typing import Annotated, Literal

from unlabel.cli.options import Json, NoNegative
from unlabel.cli.output import print_json


def export(
    run: Path,
    *,
    to: Literal["state-dict", "onnx"],
    out: Path | None = None,
    json_: Json = False,
    force: Annotated[bool, NoNegative] = False,
) -> None:
    """Write a run's model to one file for use without this tool.

    Args:
        run: A run folder.
        to: state-dict, with the parameter names of adopted weights, or onnx, with the labels inside.
        out: File to write, .pt, .pth, .safetensors or .onnx; RUN/export by default.
        json_: Print the path and the notes as JSON.
        force: Replace an existing file.
    """
    from unlabel.exchange.export import export_run

    exported = export_run(run, to, out, force=force)
    if json_:
        print_json({"file": str(exported.path), "notes": list(exported.notes)})
        return
    print("\n".join(exported.notes))
    print(exported.path)
