import json
from pathlib import Path

import pytest

from unlabel.cli.app import main


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["inspect", *words])
    return capsys.readouterr().out


def test_the_sites_of_a_run_are_shown_with_the_protections_that_read_them(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads(inspected(capsys, str(base), "--json"))
    assert facts["head"]["labels"] == ["top", "middle", "bottom"]
    by_site = {row["site"]: row for row in facts["sites"]}
    assert by_site["features"]["against"] == ["features", "weights"]
    assert by_site["outputs"]["against"] == ["outputs", "features", "weights"]
    assert by_site["stage1"]["against"] == ["weights"]
    assert by_site["features"]["features"] == facts["head"]["features"]
    text = inspected(capsys, str(base))
    assert all(name in text for name in by_site)
    assert text.splitlines()[-1] == str(base)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["inspect", str(tmp_path)])
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
