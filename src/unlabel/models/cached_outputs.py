"""Each model reads each set of images once: its outputs are kept on disk, keyed by weights and pixels."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.files import write_bytes
from unlabel.core.reading import read_plain, sealed, unsealed
from unlabel.data.dataset import Dataset
from unlabel.data.images.cache_folder import cache_folder, unusable
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE, Outputs

MOST_BYTES = 16_000_000_000


def cached_outputs(
    model: nn.Module | Callable[[], nn.Module | None], data: Dataset, run: Run, key: str | None, name: str
) -> Outputs:
    """Outputs of a model on a set of images, computed at most once on this machine.

    Args:
        model: In eval mode; or what makes it, called only where its outputs are not kept yet.
        data: Images.
        run: Where.
        key: Identifies the weights and the data source's content, see `runs.folder.key_of`.
        name: The model's, for the progress display.

    Raises:
        DataError: They cannot be kept.
    """

    def read() -> Mapping[str, np.ndarray]:
        made = model if isinstance(model, nn.Module) else model()
        assert made is not None, "only what is there is read"
        result = outputs(engine.place(made, run), data, run, stage=f"read {name}")
        return {"logits": result.logits, PENULTIMATE: result.features[PENULTIMATE]}

    width = find_head(model, len(data.labels))[1].in_features if isinstance(model, nn.Module) else None
    tables = kept_tables(read, partial(_fits, data, width), data, run, key)
    return Outputs(tables["logits"], {PENULTIMATE: tables[PENULTIMATE]})


def _fits(data: Dataset, width: int | None, tables: Mapping[str, np.ndarray]) -> bool:
    """Whether tables are a model's outputs on these images: one row an image, one logit a label.

    Args:
        data: The images.
        width: Features that the head reads; None: not known.
        tables: Logits and features.
    """
    logits, features = tables["logits"], tables[PENULTIMATE]
    expected = (len(data), *(features.shape[1:] if width is None else (width,)))
    return logits.shape == (len(data), len(data.labels)) and features.shape == expected


def kept_tables(
    make: Callable[[], Mapping[str, np.ndarray]],
    fits: Callable[[Mapping[str, np.ndarray]], bool],
    data: Dataset,
    run: Run,
    key: str | None,
) -> Mapping[str, np.ndarray]:
    """Tables made at most once on this machine for these images, device, precision and version of torch.

    Args:
        make: Makes them; called only where they are not kept yet.
        fits: Whether tables that were kept have the expected shape; others are made anew.
        data: Images that they depend on.
        run: Where.
        key: Identifies all else that they depend on; None: they are made anew and not kept.

    Raises:
        DataError: They cannot be kept.
    """
    if key is None:
        return make()
    digest = hashlib.sha256()
    for part in (
        "sealed",
        key,
        run.device.type,
        str(run.fabric.strategy.precision.precision),
        version("torch"),
    ):
        digest.update(part.encode() + b"\0")
    digest.update(repr((data.image_size, data.mean, data.std)).encode())
    digest.update("\n".join(data.ids.tolist()).encode())
    folder = cache_folder() / "outputs"
    file = folder / f"{digest.hexdigest()}.safetensors"
    if (tables := _kept(file, run)) is not None and fits(tables):
        return tables
    made = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(file, sealed(save(dict(made))))
    except OSError as error:
        raise unusable(folder, error, "models' outputs") from error
    return made


def _kept(file: Path, run: Run) -> Mapping[str, np.ndarray] | None:
    """Tables that were kept; None where there are none, or a bit of them has changed, which is told."""
    if not file.exists():
        return None
    try:
        if (content := unsealed(read_plain(file, MOST_BYTES))) is not None:
            return load(content)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        pass
    run.log.say(f"{file} is damaged; its content is computed again")
    return None
