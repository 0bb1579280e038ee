"""Photos that are no squares, through every command; and models that read them otherwise than we would."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.references.full import make_references
from unlabel.audit.run.folders import audit_run
from unlabel.audit.setup import open_case
from unlabel.core import engine
from unlabel.core.errors import MissingFiles, ModelError
from unlabel.core.framing import Frame, Framing
from unlabel.core.recipe import Recipe
from unlabel.data.images.decoding import decode
from unlabel.exchange.predict import images_in, predict_files
from unlabel.forget.run import forget_run
from unlabel.models.channels import input_channels
from unlabel.models.sites import find_sites, pooled, positions
from unlabel.report.examples import write_gallery
from unlabel.report.page import write_report
from unlabel.runs.config import Config
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of
from unlabel.statement.again import measure_again
from unlabel.training.run import train_run

IMAGES = 320
LABELS = ("edge", "top", "red")
SMALL = AuditOptions(probe_seeds=1, epochs=5, trees=10, permutations=5, resamples=50)


def write_photos(folder: Path, *, grey: bool = False) -> Path:
    """Noise of 64 x 32 pixels (width x height); ``edge`` lights the outer quarters, which a crop loses."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = [["image_id", *LABELS]]
    for number in range(IMAGES):
        shown = number % 2, number // 2 % 2, number // 4 % 2
        pixels = rng.normal(100, 20, (32, 64, 3))
        pixels[:, :14] += 80 * shown[0]
        pixels[:8] += 80 * shown[1]
        pixels[..., 0] += 40 * shown[2]
        name = f"{number:03}.png"
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        (image.convert("L") if grey else image).save(folder / "images" / name)
        rows.append([name, *map(str, shown)])
    with (folder / "attributes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("wide") / "photos")


@pytest.fixture(scope="module")
def runs(wide: Path) -> Path:
    """``base`` on rectangles, padded; ``less``, audited against a reference that the audit made. 10 s."""
    folder, run = wide.parent, engine.start(accelerator="cpu", batch_size=16, seed=1)
    options: dict[str, Any] = {"recipe": Recipe(epochs=4, lr=0.05), "image_size": (24, 32)}
    train_run(f"folder:{wide}", folder / "base", run, framing=Framing("pad"), **options)
    forget_run("head-removal", folder / "base", ["edge"], folder / "less", run)
    made = make_references(open_case(folder / "less", folder / "base", [], run, None), 1, run)
    audit_run(folder / "less", folder / "base", made, run, options=SMALL)
    return folder


def test_a_rectangle_goes_through_every_command(runs: Path, wide: Path) -> None:
    base, less = load_run(runs / "base"), load_run(runs / "less")
    (reference,) = runs.glob("base-without-edge*")
    for path in (runs / "base", runs / "less", reference):
        config = json.loads((path / "config.json").read_text())
        assert (config["image_size"], config["resize"]) == ([24, 32], "pad")
    run = engine.start(accelerator="cpu")
    source = source_of(less.config, less.record, None, skip_bad=False, run=run)
    name = str(source.test.ids[0])
    frame = Frame(24, 32, Framing("pad"))
    pixels = decode((wide / "images" / name).read_bytes(), frame)
    assert np.array_equal(source.test.images(slice(0, 1))[0], pixels)
    (row,) = predict_files(runs / "base", [wide / "images" / name])
    image = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = base.model(image).double().sigmoid()[0].tolist()
    assert list(row["labels"].values()) == pytest.approx(expected, abs=1e-6)


def test_the_page_and_the_figures_of_a_rectangle_are_made_again(runs: Path, wide: Path) -> None:
    write_report(runs / "less")
    page = write_gallery(runs / "less", engine.start(accelerator="cpu")).read_text("utf-8")
    assert "data:image/jpeg;base64," in page
    audit = json.loads((runs / "less" / "audit.json").read_text())
    found = measure_again(runs / "less", audit, f"folder:{wide}")
    assert not found["outside"]


def test_a_run_of_before_is_a_crop_and_a_square() -> None:
    config = Config(
        network="small", stem="imagenet", labels=("a",), forgotten=(), image_size=64,
        mean=(0.5,) * 3, std=(0.25,) * 3, thresholds=(0.5,),
    )  # fmt: skip
    assert config.framing == Framing("crop", 1.0, "bicubic")
    assert config.input_shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"image_size": [64, 64]}, "expected one number for a square"),
        ({"image_size": [64, 8]}, "image_size 64,8; expected 16 to 512"),
        ({"image_size": [64, 64, 64]}, "image_size"),
        ({"image_size": []}, "image_size"),
        ({"resize": "stretch"}, "resize"),
        ({"crop_pct": 0}, "crop_pct is 0"),
        ({"crop_pct": 1e308}, "crop_pct is 1e"),
        ({"crop_pct": "1"}, "crop_pct"),
        ({"interpolation": None}, "interpolation"),
        ({"resize": "squash", "crop_pct": 0.5}, "cuts nothing off"),
        ({"mean": [0.5, 0.5]}, "a mean of 2"),
        ({"mean": [0.5]}, "a mean of 1 and a std of 3"),
        ({"mean": [], "std": []}, "a mean of 0"),
    ],
)
def test_a_config_that_no_run_has_is_refused(
    changed: dict[str, Any], says: str, base: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "unlabel.json", "model.safetensors"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(ModelError, match=says):
        load_run(tmp_path)


# -- sites


class Last(nn.Module):
    """As a Swin transformer: its outputs have their channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 16, 4, 4)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.cut(images).permute(0, 2, 3, 1)).mean((1, 2)) ** 2)


def test_a_channel_is_not_taken_for_a_side() -> None:
    """Of 64 x 32 pixels: 16 x 8 positions and 16 channels, where a rule for squares is wrong twice."""
    sites = find_sites(Last().eval(), 2, torch.randn(2, 3, 64, 32))
    assert {site.size for site in sites if site.kind == "stage"} == {(16, 8)}
    assert {site.width for site in sites if site.kind == "stage"} == {16}
    picture = torch.randn(2, 16, 16, 8)  # channels first, as many as rows
    assert positions(picture, (64, 32)) == (16, 8)
    last = picture.permute(0, 2, 3, 1)
    assert positions(last, (64, 32)) == (16, 8)
    assert torch.equal(pooled(last, "stage", (16, 8)), picture.mean((2, 3)))
    assert positions(torch.zeros(2, 5, 3, 96), (72, 40)) == (5, 3)  # 4.5 x 2.5, rounded up


# -- adopting


@pytest.fixture
def adopted(command, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Adopts the weights of a run, with other ways to bring photos to a size."""
    monkeypatch.setenv("UNLABEL_CONFIG", str(tmp_path / "settings"))

    def call(of: Path, *flags: object, out: str = "run") -> tuple[Any, dict[str, Any], dict[str, Any]]:
        (tmp_path / "labels.txt").write_text("\n".join(LABELS))
        ran = command(
            "adopt", "small", "--weights", of / "model.safetensors", "--labels", "labels.txt",
            "--data", f"folder:{runs / 'photos'}", "--out", out, *flags,
        )  # fmt: skip
        record, config = ({}, {})
        if ran.code == 0:
            record, config = (
                json.loads((tmp_path / out / name).read_text()) for name in ("unlabel.json", "config.json")
            )
        return ran, record, config

    return call


@pytest.fixture(scope="module")
def squashed(runs: Path) -> Path:
    """A run that was trained on squashed photos. 5 s."""
    run = engine.start(accelerator="cpu", batch_size=16, seed=1)
    options: dict[str, Any] = {"recipe": Recipe(epochs=6, lr=0.05), "image_size": 24}
    train_run(f"folder:{runs / 'photos'}", runs / "squashed", run, framing=Framing("squash"), **options)
    return runs / "squashed"


def test_adopting_finds_how_photos_came_to_the_size(adopted, squashed: Path) -> None:
    ran, record, config = adopted(squashed, "--image-size", 24)
    assert ran.code == 0
    fit = record["framing"]
    assert (fit["best"], fit["chosen"]) == ("squash", "squash")
    assert fit["n"] == fit["other_shape"] == record["data"]["facts"]["counts"]["probe"]
    assert min(fit["losses"], key=fit["losses"].get) == "squash"
    assert fit["gain"]["value"] == pytest.approx(fit["losses"]["crop"] - fit["losses"]["squash"])
    assert 0 < fit["gain"]["low"] < fit["gain"]["value"] < fit["gain"]["high"]
    assert config["resize"] == "squash"
    assert record["data"]["facts"]["framing"]["resize"] == "squash"
    assert "squash is better than crop by" in ran.err
    assert "photos have another shape than the input" in ran.err
    assert f"--resize squash (loss on {fit['n']} photos" in ran.out


def test_a_given_way_is_not_questioned(adopted, squashed: Path) -> None:
    ran, record, config = adopted(squashed, "--image-size", 24, "--resize", "crop")
    assert (ran.code, config["resize"]) == (0, "crop")
    assert "framing" not in record
    assert "another shape" not in ran.err
    edge = record["auc"]["labels"]["edge"]
    assert edge["low"] < 0.5 < edge["high"]  # what a crop cuts off


def test_photos_of_the_shape_of_the_input_are_not_tried(adopted, runs: Path) -> None:
    _, record, config = adopted(runs / "base", "--image-size", "24,48")
    assert config["image_size"] == [24, 48]
    assert "framing" not in record
    assert config["resize"] == "crop"


GREY = """
from torch import nn

def make(labels):
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=4), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 48, 16), nn.ReLU(), nn.Linear(16, labels),
    )
"""


def test_a_grey_model_is_adopted_forgets_and_predicts(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLABEL_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "grey_net.py").write_text(GREY)
    photos = write_photos(tmp_path / "photos", grey=True)
    (tmp_path / "labels.txt").write_text("edge\ntop\nred")
    names = sorted((photos / "images").iterdir())
    images = torch.from_numpy(np.stack([np.asarray(Image.open(name).resize((32, 24))) for name in names]))
    images = (images[:, None].float() / 255 - 0.5) / 0.25
    target = torch.tensor([[n % 2, n // 2 % 2, n // 4 % 2] for n in range(IMAGES)]).float()
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    exec(GREY, space)
    model = space["make"](3)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(images), target).backward()
        optimiser.step()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    ran = command(
        "adopt", "grey_net:make", "--weights", "weights.pt", "--labels", "labels.txt", "--data",
        f"folder:{photos}", "--image-size", "24,32", "--resize", "squash", "--out", "own", "--quiet",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert (config["mean"], config["std"]) == ([0.5], [0.25])
    assert command("forget", "head-removal", "own", "--labels", "edge", "--out", "less", "--quiet").code == 0
    ran = command("predict", "less", names[0], "--json")
    (row,) = json.loads(ran.out)
    with torch.inference_mode():
        expected = model(images[:1]).sigmoid()[0]
    assert row["labels"]["edge"] is None
    assert [row["labels"][name] for name in ("top", "red")] == pytest.approx(expected[1:].tolist(), abs=0.05)
    run = engine.start(accelerator="cpu")
    audit = audit_run(Path("less"), Path("own"), [], run, options=SMALL, write=False)
    assert audit.claims["C1"].verdict == "PASS"
    assert command("export", "less", "--to", "onnx", "--out", "less.onnx").code == 0


def test_channels_are_those_of_the_first_convolution() -> None:
    assert input_channels(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3))) == 1
    assert input_channels(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(1, 8, 3))) == 3
    assert input_channels(nn.Linear(4, 2)) == 3


# -- predicting folders


@pytest.fixture
def folder(wide: Path, tmp_path: Path) -> Path:
    """Three photos, one of them in a folder below; a text, a hidden file and a damaged photo."""
    inside = tmp_path / "mine"
    (inside / "below").mkdir(parents=True)
    for number, name in enumerate(("b.PNG", "a.png", "below/c.png")):
        (inside / name).write_bytes((wide / "images" / f"{number:03}.png").read_bytes())
    (inside / "notes.txt").write_text("notes")
    (inside / "._a.png").write_bytes(b"of a Mac")
    return inside


def test_a_folder_becomes_a_table(command, runs: Path, folder: Path, tmp_path: Path) -> None:
    ran = command("predict", runs / "less", "mine", "--csv", "out.csv", "--quiet")
    assert (ran.code, ran.out) == (0, "out.csv\n")
    assert "2 files in the folders are no images by their names" in ran.err
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert rows[0] == ["image", *LABELS]
    assert [row[0] for row in rows[1:]] == ["mine/a.png", "mine/b.PNG", "mine/below/c.png"]
    expected = predict_files(runs / "less", [folder / "a.png", folder / "b.PNG", folder / "below" / "c.png"])
    for row, of in zip(rows[1:], expected, strict=True):
        assert row[1] == ""
        assert [float(value) for value in row[2:]] == pytest.approx(list(of["labels"].values())[1:], abs=6e-7)
    before = (tmp_path / "out.csv").read_bytes()
    assert command("predict", runs / "less", "mine", "--csv", "out.csv").code == 2
    assert command("predict", runs / "less", "mine/a.png", "--csv", "out.csv", "--force").code == 0
    assert (tmp_path / "out.csv").read_bytes() != before


def test_unreadable_images_are_named_and_left_out_only_if_asked(
    command, runs: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "a1.jpg").write_bytes(b"no image")
    ran = command("predict", runs / "less", "mine", "--csv", "out.csv", "--quiet")
    assert (ran.code, ran.out, (tmp_path / "out.csv").exists()) == (2, "", False)
    assert "mine/a1.jpg cannot be used: not an image" in ran.err
    assert "--skip-bad" in ran.err
    ran = command("predict", runs / "less", "mine", "--json", "--skip-bad", "--quiet")
    assert [row["image"] for row in json.loads(ran.out)] == ["mine/a.png", "mine/b.PNG", "mine/below/c.png"]
    assert "1 image cannot be read: left out (mine/a1.jpg: not an image)" in ran.err


def test_what_is_no_image_file_is_left_out_as_well_if_asked(command, runs: Path, folder: Path) -> None:
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    with (folder / "vast.png").open("wb") as file:
        file.truncate(1 << 40)
    ran = command("predict", runs / "less", "mine", "--json", "--skip-bad", "--quiet")
    assert ran.code == 0, ran.err
    assert [row["image"] for row in json.loads(ran.out)] == ["mine/a.png", "mine/b.PNG", "mine/below/c.png"]
    for name, why in (("gone", "No such file or directory"), ("pipe", "it is a pipe"), ("vast", "more than")):
        assert f"mine/{name}.png: " in ran.err
        assert why in ran.err


def test_many_images_are_predicted_as_each_alone(runs: Path, wide: Path) -> None:
    """More than one batch; batches may round otherwise."""
    files, others = images_in([wide / "images"])
    assert (len(files), others) == (IMAGES, 0)
    together = predict_files(runs / "less", files)
    for at in (0, 63, 64, IMAGES - 1):
        (alone,) = predict_files(runs / "less", [files[at]])
        assert together[at]["image"] == alone["image"]
        for label in LABELS[1:]:
            assert together[at]["labels"][label] == pytest.approx(alone["labels"][label], abs=1e-5)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(MissingFiles, match="no image in"):
        images_in([tmp_path])
