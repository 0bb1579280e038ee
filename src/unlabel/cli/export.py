"""``unlabel export``: write a run's model as ONNX, as a state dict, or as a folder of Hugging Face's."""

from pathlib import Path
from typing import Annotated, Literal

from unlabel.cli.options import Json, NoNegative
from unlabel.cli.output import print_json


def export(
    run: Path,
    *,
    to: Literal["state-dict", "onnx", "hf"],
    out: Path | None = None,
    drop_output: Annotated[bool, NoNegative] = False,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    fold_eraser: Annotated[bool, NoNegative] = False,
    json_: Json = False,
    force: Annotated[bool, NoNegative] = False,
) -> None:
    """Write a run's model to one file or folder for use without this tool.

    Args:
        run: A run folder.
        to: state-dict, with the parameter names of adopted weights; onnx, with the labels inside; or hf, a
            folder that from_pretrained of transformers reads, for networks named hf:...
        out: File to write, .pt, .pth, .safetensors or .onnx, or folder; RUN/export by default.
        drop_output: Leave the forgotten outputs out. Otherwise each is a constant, which a pipeline prints as
            a probability.
        dtype: Number format of the weights.
        fold_eraser: Write a network without the layer that erases a label from the features. The outputs are
            the same, but the features before the head hold the label again.
        json_: Print the path and the notes as JSON.
        force: Replace an existing file; a folder is never replaced.
    """
    from unlabel.exchange.export import export_run
    from unlabel.exchange.reshaping import Changes

    exported = export_run(run, to, out, changes=Changes(drop_output, fold_eraser, dtype), force=force)
    if json_:
        print_json({"file": str(exported.path), "notes": list(exported.notes)})
        return
    print("\n".join(exported.notes))
    print(exported.path)
