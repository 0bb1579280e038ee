"""Each model reads each set of images once: its outputs are kept on disk, keyed by weights and pixels."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.files import write_bytes
from unlabel.data.dataset import Dataset
from unlabel.data.images.cache import cache_folder, unusable
from unlabel.models.features import PENULTIMATE, Outputs, outputs


def cached_outputs(
    model: nn.Module | Callable[[], nn.Module | None], data: Dataset, run: Run, key: str, name: str
) -> Outputs:
    """Outputs of a model on a set of images, computed at most once on this machine.

    Args:
        model: In eval mode; or what makes it, called only where its outputs are not kept yet.
        data: Images.
        run: Where.
        key: Identifies the weights and the data source's content.
        name: The model's, for the progress display.

    Raises:
        DataError: They cannot be kept.
    """

    def read() -> Mapping[str, np.ndarray]:
        made = model if isinstance(model, nn.Module) else model()
        assert made is not None, "only what is there is read"
        result = outputs(engine.place(made, run), data, run, stage=f"read {name}")
        return {"logits": result.logits, PENULTIMATE: result.features[PENULTIMATE]}

    def fits(tables: Mapping[str, np.ndarray]) -> bool:
        return len(tables["logits"]) == len(tables[PENULTIMATE]) == len(data)

    tables = kept_tables(read, fits, data, run, key)
    return Outputs(tables["logits"], {PENULTIMATE: tables[PENULTIMATE]})


def kept_tables(
    make: Callable[[], Mapping[str, np.ndarray]],
    fits: Callable[[Mapping[str, np.ndarray]], bool],
    data: Dataset,
    run: Run,
    key: str,
) -> Mapping[str, np.ndarray]:
    """Tables made at most once on this machine for these images, device, precision and version of torch.

    Args:
        make: Makes them; called only where they are not kept yet.
        fits: Whether tables that were kept have the expected shape; others are made anew.
        data: Images that they depend on.
        run: Where.
        key: Identifies all else that they depend on.

    Raises:
        DataError: They cannot be kept.
    """
    digest = hashlib.sha256()
    for part in (key, run.device.type, str(run.fabric.strategy.precision.precision), version("torch")):
        digest.update(part.encode() + b"\0")
    digest.update(repr((data.image_size, data.mean, data.std)).encode())
    digest.update("\n".join(data.ids.tolist()).encode())
    folder = cache_folder() / "outputs"
    file = folder / f"{digest.hexdigest()}.safetensors"
    with suppress(SafetensorError, OSError, KeyError):
        tables = load_file(file)
        if fits(tables):
            return tables
    found = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(file, save(dict(found)))
    except OSError as error:
        raise unusable(folder, error, "models' outputs") from error
    return found
