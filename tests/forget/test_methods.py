import inspect
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.recipe import Blueprint, Recipe
from unlabel.forget import methods
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import METHODS, find_method
from unlabel.forget.methods.baselines import fine_tune
from unlabel.forget.methods.confusion import confusion
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_world
from unlabel.training.fit import train


@pytest.mark.parametrize("name", METHODS)
def test_a_catalogue_entry_loads_and_its_options_are_keyword_only(name: str) -> None:
    entry = METHODS[name]
    assert entry.name == name
    options = entry.options()
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options.values())
    required = [key for key, option in options.items() if option.default is inspect.Parameter.empty]
    assert required == (["blueprint"] if name == "retrain" else [])
    documented = inspect.getdoc(entry.load()) or ""
    assert all(f"{key}:" in documented for key in options)


def test_a_comparison_takes_the_strongest_method_for_auto() -> None:
    assert METHODS["auto"].alias_of == "deep-probes"
    assert METHODS["auto"].images == METHODS["deep-probes"].images > METHODS["erasure"].images


@pytest.mark.parametrize(
    ("name", "close"), [("confusoin", "confusion"), ("Retrain", "retrain"), ("finetune", "fine-tune")]
)
def test_an_unknown_method_is_refused_with_a_suggestion(name: str, close: str) -> None:
    with pytest.raises(OptionError, match=f"no method '{name}'; .*Close: {close}"):
        find_method(name)


def plug_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    point = EntryPoint(name, "unlabel.forget.methods.baselines:head_removal", "unlabel.methods")
    monkeypatch.setattr(methods, "_installed", lambda path: (point,))


def test_an_installed_plug_in_joins_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "mine")
    world = tiny_world()
    outcome = forget_labels(world.model, ["top"], world.data, method="mine")
    assert (outcome.method, outcome.changed) == ("mine", 17)
    with pytest.raises(OptionError, match="Close: mine"):
        find_method("mime")


def test_a_plug_in_that_is_installed_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert "later" not in methods.plugin_names()
    package = tmp_path / "later-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[unlabel.methods]\nlater = later:METHOD\n")
    assert methods.plugin_names()["later"] == "plug-in later:METHOD"


def test_a_plug_in_with_a_name_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "confusion")
    with pytest.raises(OptionError, match="names its method 'confusion'"):
        find_method("head-removal")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: confusion(strength=0.0), "--strength is 0.0"),
        (lambda: confusion(strength=float("nan")), "--strength is nan"),
        (lambda: confusion(steps=0), "--steps is 0"),
        (lambda: fine_tune(steps=-1), "--steps is -1"),
    ],
)
def test_an_option_out_of_range_is_refused(make, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make()


def test_fine_tuning_leaves_the_forgotten_rows_to_the_driver() -> None:
    """The rows must neither train nor decay: with the rows kept they are the original's, bit for bit."""
    world = tiny_world()
    outcome = forget_labels(world.model, ["top"], world.data, method="fine-tune", steps=5, keep_row=True)
    before, after = find_head(world.model, 3)[1], find_head(outcome.model, 3)[1]
    assert (before.weight[0] == after.weight[0]).all()
    assert (before.weight[1] != after.weight[1]).any()
    assert "0.weight" in differing(world.model, outcome.model)


def test_retraining_is_training_without_the_label_bit_for_bit() -> None:
    world = tiny_world()
    run = engine.start(accelerator="cpu", seed=5)
    recipe = Recipe(epochs=0.5)
    expected, _ = train(world.data, recipe, run, without=["middle"])
    other, _ = train(world.data, recipe, run)
    options = {"blueprint": Blueprint("small", "imagenet", recipe)}
    outcome = forget_labels(other, ["middle"], world.data, method="retrain", run=run, **options)
    assert differing(outcome.model, expected) == []
    assert "0.0.weight" in differing(outcome.model, other)
    assert outcome.images_used == len(world.data)
    assert outcome.images_processed == 128
