"""``unlabel probe``: how much one model tells of a label."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import DEFAULT_PLACE, NoNegative, Place, named
from unlabel.core.errors import OptionError


def probe(
    model: str,
    *,
    label: str,
    data: str | None = None,
    reference: str | None = None,
    skip_bad: Annotated[bool, NoNegative] = False,
    fail_above: float | None = None,
    labels_file: Path | None = None,
    mean: str | None = None,
    std: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    place: Place = DEFAULT_PLACE,
) -> None:
    """Measure how much one model tells of a label, also of one that it has no output for.

    Args:
        model: A run folder, onnx:FILE?features=TENSOR, or a file of outputs, FILE.npz.
        label: The label: a column of the data, which the model need not have.
        data: Data source with that column. By default the one that a run remembers.
        reference: Models to compare with, comma-separated, such as some that never saw the label.
        skip_bad: Leave out unreadable images instead of refusing.
        fail_above: Largest AUC that is allowed, 0.5 to 1. Exit with 3 if the 95 % interval of an attack lies
            above it, or a control failed, with 4 if an interval only reaches above it.
        labels_file: Names of the outputs of an ONNX file, one per line, if its metadata do not tell them.
        mean: Means of red, green and blue for an ONNX file, from 0 to 1, comma-separated.
        std: Standard deviations of red, green and blue for an ONNX file.
        json_: Print as JSON.
    """
    from unlabel.audit.probe.findings import check_limit, gate, lines
    from unlabel.audit.probe.one_model import probe_model
    from unlabel.exchange.onnx_file import OnnxSettings, colours, is_onnx

    if fail_above is not None:
        check_limit(fail_above)
    references = named("--reference", reference, "model")
    if not any(map(is_onnx, (model, *references))) and (labels_file, mean, std) != (None,) * 3:
        raise OptionError(
            "--labels-file, --mean and --std are for ONNX files; a run and a file of outputs have their own"
        )
    probed = probe_model(
        model,
        label,
        place.start(),
        data=data,
        references=references,
        skip_bad=skip_bad,
        onnx=OnnxSettings(labels_file, colours("--mean", mean), colours("--std", std)),
    )
    print(json.dumps(probed.to_json(), ensure_ascii=False) if json_ else "\n".join(lines(probed)))
    if fail_above is None:
        return
    code, why = gate(probed, fail_above)
    print(f"--fail-above {fail_above:g}: {why}", file=sys.stderr)
    if code:
        sys.exit(code)
