"""``unlabel export``: write a run's model as ONNX or as a state dict."""

from pathlib import Path
from typing import Annotated, Literal

from unlabel.cli.options import NoNegative


def export(
    run: Path,
    *,
    to: Literal["state-dict", "onnx"],
    out: Path | None = None,
    force: Annotated[bool, NoNegative] = False,
) -> None:
    """Write a run's model to one file for use without this tool.

    Args:
        run: A run folder.
        to: state-dict, with the parameter names of adopted weights, or onnx, with the labels inside.
        out: File to write, .pt, .pth, .safetensors or .onnx; RUN/export by default.
        force: Replace an existing file.
    """
    from unlabel.exchange.export import export_run

    exported = export_run(run, to, out, force=force)
    print("\n".join(exported.notes))
    print(exported.path)
