"""``unlabel inspect``: show a network's head, and where it can be read, of a run or before adopting it."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unlabel.cli.options import image_size as as_size
from unlabel.core.errors import OptionError
from unlabel.core.wording import in_shell


def inspect(
    run: str,
    *,
    labels: Path | None = None,
    weights: Path | None = None,
    image_size: str | None = None,
    logits: str | None = None,
    features: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Show the head and the sites of a network: what makes its outputs, and where a label can be read.

    Args:
        run: A run folder. With --labels, a model as for adopt: resnet18, package.module:function.
        labels: File with the name of each output, one per line, in order.
        weights: The model's weights; random ones if left out.
        image_size: Side of the input in pixels, or height,width such as 256,128; 64 by default.
        logits: Key or number of the part of a returned dict or tuple that holds the logits, if several may.
        features: Name of a module whose output counts as features, too.
        json_: Print as JSON.
    """
    from unlabel.data import READERS
    from unlabel.exchange.inspect import Asked, inspect_model
    from unlabel.forget.inspection import inspect_run, refused_table, table
    from unlabel.models.custom import is_custom
    from unlabel.models.named_options import is_named

    others = (weights, image_size, logits, features)
    if labels is not None:
        size = None if image_size is None else as_size("--image-size", image_size)
        facts = inspect_model(Asked(run, labels, weights, size, logits, features))
    elif ":" in run and run.partition(":")[0] in READERS:
        raise OptionError(
            f"{run} is a data source; inspect takes a model. For the data: unlabel data {in_shell(run)}"
        )
    elif (
        is_custom(run) or is_named(run) or any(part is not None for part in others) or not Path(run).exists()
    ):
        raise OptionError(
            f"{run} is no run folder; a model that is no run yet needs --labels: a file with the name of each"
            " output, one per line"
        )
    else:
        facts = inspect_run(Path(run))
    if json_:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    print(refused_table(facts) if facts.get("problem") else table(facts))
    print(run)
