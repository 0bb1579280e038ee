"""Messages name a command that works for a checkout, and for an installed package."""

from pathlib import Path

import pytest

from unlabel.core.install import install_command

ROOT = Path(__file__).parents[2]


def test_a_checkout_is_installed_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert install_command("onnx") == "pip install -e '.[onnx]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("onnx") == f"pip install -e '{ROOT}[onnx]'"


def test_anything_else_is_asked_of_pip(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "src" / "unlabel"
    package.mkdir(parents=True)
    assert install_command("sign", package) == "pip install 'unlabel[sign]'"
    (tmp_path / "lib" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert install_command("sign", package) == "pip install 'unlabel[sign]'"


def test_every_message_asks_here() -> None:
    """No source file spells an extra's command by itself."""
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "src").rglob("*.py")
        if "pip install" in path.read_text("utf-8") and path.name != "install.py"
    ]
    assert found == []
