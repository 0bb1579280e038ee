"""The wheel: whole, without tests, and at work outside the checkout."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
NETWORKS = ("original", "retrained-1", "retrained-2", "retrained-3")
DATA = {".html", ".css", ".json", ".typed", ".js", ".svg", ".safetensors"}
SNIPPET = """
import unlabel
from unlabel.testing import tiny_world

world = tiny_world(images=256)
outcome = unlabel.forget_labels(world.model, "top", world.source.train, "head-removal")
audit = unlabel.audit_model(
    before=world.model, after=outcome.model, references=[], source=world.source, labels="top",
    probe_seeds=1, epochs=2, trees=2, permutations=2, resamples=10,
)
print(audit.headline, audit.valid, audit.claims["C2"].verdict, unlabel.__version__)
print(audit.report("page.html"), unlabel.__file__)
"""


@pytest.mark.slow
def test_the_wheel_is_whole_and_works_outside_the_checkout(tmp_path: Path) -> None:
    """About 20 seconds: builds and installs a wheel, offline, and audits a tiny network with it."""
    wheels, target, here = (tmp_path / name for name in ("wheels", "target", "here"))
    here.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-cache-dir"]
    # built from a copy: a build leaves folders behind in its source
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    files = [path for path in (source / "src").rglob("*") if path.is_file()]
    _run([*pip, "wheel", source, "--no-build-isolation", "--wheel-dir", wheels, *offline])
    (wheel,) = wheels.glob("unlabel-*.whl")
    with ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    expected = {path for path in files if path.suffix == ".py" or path.suffix in DATA}
    assert inside == {path.relative_to(source / "src").as_posix() for path in expected}
    assert expected == {*files}
    assert {"unlabel/py.typed", "unlabel/report/templates/page.html", "unlabel/__main__.py"} <= inside
    assert {f"unlabel/cli/demo_networks/{name}/model.safetensors" for name in NETWORKS} <= inside
    assert {name.split("/")[0] for name in inside} == {"unlabel"}
    assert licences
    _run([*pip, "install", wheel, "--target", target, *offline])
    libraries = sysconfig.get_paths()["purelib"]
    environment = {"PYTHONPATH": f"{target}:{libraries}", "UNLABEL_CACHE": str(here), "OMP_NUM_THREADS": "1"}
    python = [sys.executable, "-S"]  # reads no .pth file, by which an editable checkout would come first
    shown = _run([*python, "-m", "unlabel", "methods"], here, environment)
    assert "weight-filtering" in shown
    out = _run([*python, "-c", SNIPPET], here, environment).split()
    assert out[-3:-1] == ["0.1.0", "page.html"]
    assert Path(out[-1]) == target / "unlabel" / "__init__.py"
    assert (here / "page.html").stat().st_size > 10_000


def _run(words: list[object], folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
