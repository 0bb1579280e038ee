"""Labels that a training withholds are found however they are typed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabel.core import engine
from unlabel.core.recipe import Recipe
from unlabel.runs.files import read_config
from unlabel.training.run import train_run

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_label_in_another_form_of_unicode_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Mac's table may hold the letter and its accent where a keyboard types one sign."""
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [f"image_id,{DECOMPOSED},Hat,split"]
    for n in range(48):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "images" / f"{n:02}.png")
        rows.append(f"{n:02}.png,{n % 2},{n // 2 % 2},{('train', 'val', 'test')[n % 3]}")
    (tmp_path / "photos" / "attributes.csv").write_text("\n".join(rows) + "\n", "utf-8")
    out, run = tmp_path / "run", engine.start(accelerator="cpu", batch_size=16)
    source = f"folder:{tmp_path / 'photos'}"
    train_run(source, out, run, without=[COMPOSED], recipe=Recipe(epochs=1), image_size=16)
    assert read_config(out).forgotten == (DECOMPOSED,)
