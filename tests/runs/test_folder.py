import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unlabel.core.errors import CheckpointMismatch, MissingFiles, ModelError, OptionError, UnlabelError
from unlabel.core.files import RECORD, write_json, write_text
from unlabel.core.places import check_output, staged
from unlabel.core.reading import file_sha256
from unlabel.runs.files import CONFIG, MODEL, versions
from unlabel.runs.folder import load_run


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    """A run folder that a test may damage."""
    return Path(shutil.copytree(base, tmp_path / "run"))


def with_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        state = load_file(run / MODEL)
        change(state)
        save_file(state, run / MODEL)

    return damage


def with_json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        value = json.loads((run / name).read_text("utf-8"))
        change(value)
        (run / name).write_text(json.dumps(value), "utf-8")

    return damage


def truncate(run: Path) -> None:
    (run / MODEL).write_bytes((run / MODEL).read_bytes()[:-1000])


DAMAGE = {
    "truncated weights": (truncate, CheckpointMismatch, "damaged or truncated"),
    "weights cut to nothing": (lambda run: (run / MODEL).write_bytes(b""), CheckpointMismatch, "truncated"),
    "weights that are text": (
        lambda run: (run / MODEL).write_text("hello"),
        CheckpointMismatch,
        "cannot be read",
    ),
    "missing weights": (lambda run: (run / MODEL).unlink(), MissingFiles, "model.safetensors is missing"),
    "NaN": (
        with_weights(lambda state: state["8.weight"].fill_(float("nan"))),
        CheckpointMismatch,
        "NaN or infinity in '8.weight'",
    ),
    "infinite running variance": (
        with_weights(lambda state: state["0.1.running_var"].fill_(float("inf"))),
        CheckpointMismatch,
        "NaN or infinity in '0.1.running_var'",
    ),
    "a missing tensor": (
        with_weights(lambda state: state.pop("8.bias")),
        CheckpointMismatch,
        "such as '8.bias'",
    ),
    "a tensor too many": (
        with_weights(lambda state: state.update(extra=torch.ones(1))),
        CheckpointMismatch,
        "1 tensors differ, such as 'extra'",
    ),
    "another shape": (
        with_weights(lambda state: state.update({"8.bias": torch.zeros(4)})),
        CheckpointMismatch,
        "does not fit the network 'small' with 3 labels",
    ),
    "another number of labels": (
        with_json(CONFIG, lambda value: value["labels"].append("more")),
        UnlabelError,
        "label",
    ),
    "a threshold too few": (
        with_json(CONFIG, lambda value: value["thresholds"].pop()),
        ModelError,
        "is damaged",
    ),
    "an unknown forgotten label": (
        with_json(CONFIG, lambda value: value.update(forgotten=["ghost"])),
        ModelError,
        "is damaged",
    ),
    "an unknown network": (
        with_json(CONFIG, lambda value: value.update(network="smal")),
        OptionError,
        "no network 'smal'",
    ),
    "a key missing in the config": (
        with_json(CONFIG, lambda value: value.pop("labels")),
        ModelError,
        "is damaged",
    ),
    "a word for a number": (
        with_json(CONFIG, lambda value: value.update(image_size="big")),
        ModelError,
        "is damaged",
    ),
    "a mean of two colours": (
        with_json(CONFIG, lambda value: value.update(mean=[0, 1])),
        ModelError,
        "is damaged",
    ),
    "no config": (lambda run: (run / CONFIG).unlink(), MissingFiles, "it has no config.json"),
    "no record": (lambda run: (run / RECORD).unlink(), MissingFiles, "it has no unlabel.json"),
    "half a config": (lambda run: (run / CONFIG).write_text('{"labels": ['), ModelError, "is not JSON"),
    "a record that is a list": (
        lambda run: (run / RECORD).write_text("[]"),
        ModelError,
        "holds no JSON object",
    ),
    "a record in another encoding": (
        lambda run: (run / RECORD).write_bytes(b'{"a": "\xff"}'),
        ModelError,
        "is not JSON",
    ),
    "no folder": (shutil.rmtree, MissingFiles, "no run folder"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_run_is_refused_in_one_line(what: str, run: Path) -> None:
    load_run(run)
    damage, error, says = DAMAGE[what]
    damage(run)
    with pytest.raises(error) as found:
        load_run(run)
    assert says in str(found.value)
    assert str(run) in str(found.value) or isinstance(found.value, OptionError)
    assert "\n" not in str(found.value)


def test_a_run_loads_in_eval_mode_with_its_hash(run: Path) -> None:
    loaded = load_run(str(run))
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.sha256 == file_sha256(run / MODEL)
    assert loaded.config.labels == ("top", "middle", "bottom")


# -- writing


def fail(error: type[BaseException]) -> None:
    raise error


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_staged_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    with staged(out, force=False) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
    assert tree(tmp_path) == {"deep/run/a": b"1"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_old_run_and_nothing_else(error, run: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    with pytest.raises(error), staged(run, force=True) as folder:
        (folder / MODEL).write_text("half") and fail(error)
    assert tree(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_error_while_taking_the_place_leaves_the_old_run(run: Path, tmp_path: Path, monkeypatch) -> None:
    import os

    before, rename = tree(tmp_path), os.rename

    def refuse(source, target) -> None:
        if str(source).endswith(".new"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space"), staged(run, force=True) as folder:
        (folder / RECORD).write_text("{}")
    assert tree(tmp_path) == before


def test_a_new_run_replaces_the_old_one_whole(run: Path, tmp_path: Path) -> None:
    with staged(run, force=True) as folder:
        (folder / RECORD).write_text("{}")
    assert tree(tmp_path) == {"run/unlabel.json": b"{}"}


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_is_filled(force: bool, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out", force=force) as folder:
        (folder / "a").write_text("1")
    assert tree(tmp_path) == {"out/a": b"1"}


def test_an_existing_run_is_refused_without_force(run: Path) -> None:
    with pytest.raises(OptionError, match="exists; name a new folder, or replace the run with --force"):
        check_output(run, force=False)
    check_output(run, force=True)


@pytest.mark.parametrize("make", ["folder", "file", "link"])
def test_force_does_not_replace_what_is_no_run(make: str, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    if make == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years")
    elif make == "file":
        out.write_text("years")
    else:
        out.symlink_to(tmp_path / "nowhere")
    for force in (False, True):
        with pytest.raises(OptionError, match="exists"), staged(out, force=force):
            raise AssertionError("the work must not begin")
    assert out.is_symlink() or "years" in tree(tmp_path)[next(iter(tree(tmp_path)))].decode()


def test_a_run_is_not_made_inside_another_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    for out in (run / "sub", run / "a" / "b", tmp_path / "link" / "sub", run / "a" / ".." / "sub"):
        for force in (False, True):
            with pytest.raises(
                OptionError, match=r"lies inside the run .*; name a folder outside of it"
            ) as told:
                check_output(out, force=force)
            assert str(told.value).endswith(str(run.resolve().parent / out.name))
    with staged(run / "export", force=False) as folder:  # as an export does
        (folder / "config.json").write_text("{}")
    check_output(run.parent / "beside", force=False)


def test_a_run_that_holds_another_one_is_not_replaced(run: Path, tmp_path: Path) -> None:
    """A user may have moved the original there: it would be gone."""
    shutil.copytree(run, run / "older" / "original")
    with pytest.raises(OptionError, match=r"holds another run, .*original, which --force would delete"):
        check_output(run, force=True)
    assert (run / "older" / "original" / RECORD).is_file()


def test_a_place_that_is_no_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is not a folder one can write to"):
        check_output(tmp_path / "file" / "run", force=False)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_without_a_name_is_refused(force: bool, tmp_path: Path, monkeypatch) -> None:
    """The work goes on in a folder beside it."""
    monkeypatch.chdir(tmp_path)
    for out in (Path("."), Path("/"), Path("..")):
        with pytest.raises(OptionError, match="no name for a new folder"):
            check_output(out, force=force)


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": "é"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "half \ud800")
    assert tree(tmp_path) == {"a.json": '{\n  "a": "é"\n}\n'.encode()}


def test_versions_name_what_a_result_may_depend_on() -> None:
    assert versions()["torch"] == torch.__version__
    assert {"python", "unlabel", "torchvision", "numpy"} <= set(versions())
