"""What `unlabel bench` compares and counts; no figure here depends on how fast this machine is."""

import json

import pytest

from unlabel.bench import command, forgetting
from unlabel.bench.command import PARTS, SCALES, bench, table
from unlabel.bench.forgetting import World, audit_lines
from unlabel.bench.pairs import by_turns
from unlabel.bench.pictures import input_lines
from unlabel.cli.app import main
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.recipe import Recipe
from unlabel.data.images.cache_folder import cache_folder
from unlabel.training.run import train_run


def test_two_jobs_are_timed_by_turns_and_the_ratio_is_of_each_round():
    now, called = [0.0], []

    def job(name, takes):
        def work():
            called.append(name)
            now[0] += takes.pop(0)

        return work

    ours, other = job("ours", [9, 1, 2, 4]), job("other", [9, 3, 2, 20])
    line = by_turns("a job", ours, other, 3, clock=lambda: now[0], images=7)
    assert called[2:] == ["ours", "other", "other", "ours", "ours", "other"]
    assert (line.ours, line.other, line.ratio, line.low, line.high) == (2, 3, 3, 1, 5)
    assert line.to_json()["counts"] == {"images": 7}


def test_the_parts_that_train_count_what_they_did():
    run = engine.start(accelerator="cpu")
    found = bench(run, scale="tiny", parts=["loop", "input", "methods"], methods=["leace-head", "cf-k"])
    lines = {line["what"].split(",")[0]: line for line in found["lines"]}
    assert {line["what"].split(",")[2] for line in found["lines"] if "later" in line["what"]} == {
        " cache disk",
        " cache none",
    }
    assert set(lines) == {
        "training loop",
        "first reading",
        "a later epoch",
        "forgetting by leace-head",
        "forgetting by cf-k",
    }
    loops = [line["what"].rsplit("batches ")[-1] for line in found["lines"] if "loop" in line["what"]]
    assert loops == ["in one pass", "of 32"]
    assert lines["training loop"]["counts"] == {"images": 128, "steps": 2}
    assert lines["first reading"]["counts"] == {"images": 40}
    assert lines["forgetting by cf-k"]["counts"] == {
        "retrain_steps": 5,
        "retrain_images": 320,
        "steps": 64,
        "images": 4096,
    }
    assert all(line["ratio"] == pytest.approx(line["other"] / line["ours"]) for line in found["lines"])
    text = table(found)
    assert "forgetting by cf-k" in text
    assert "steps 64, images 4,096" in text


def test_every_timed_audit_begins_without_outputs_and_attacks(monkeypatch, tmp_path):
    run, seen = engine.start(accelerator="cpu"), []

    def audit(*_, options, **__):
        there = sorted(entry.name for entry in cache_folder().iterdir())
        seen.append((options.budget, cache_folder(), there))
        (cache_folder() / "outputs").mkdir()

    monkeypatch.setattr(forgetting, "audit_run", audit)
    before = cache_folder()
    world = World("faces:train=64,probe=40,test=40", 16, "small", Recipe(epochs=1))
    train_run(world.source, tmp_path / "original", run, recipe=world.recipe, image_size=16)
    lines = audit_lines(world, ("quick", "standard"), tmp_path, run)
    assert [line.what.split(",")[1] for line in lines] == [" budget quick", " budget standard"]
    assert [budget for budget, _, _ in seen] == ["quick", "standard"]
    assert len({before, *(folder for _, folder, _ in seen)}) == 3
    assert not any({"outputs", "attacks"} & set(there) for _, _, there in seen)
    assert cache_folder() == before


def test_readers_that_give_other_pixels_are_not_compared(monkeypatch):
    monkeypatch.setattr("unlabel.bench.pictures.PHOTO", (900, 700))  # the decoder shrinks these on the way
    with pytest.raises(RuntimeError, match="different pixels"):
        input_lines(40, 64, 0, engine.start(accelerator="cpu"), 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scale": "tinny"}, "no scale 'tinny'.*tiny"),
        ({"parts": ["loops"]}, "no part 'loops'.*loop"),
        ({"methods": ["sddd"]}, "no method 'sddd'"),
        ({"methods": ["auto", "retrain"]}, "--methods names retrain, which the others are compared with"),
        ({"methods": ["ssd"], "parts": ["start", "loop"]}, "--methods is for the parts methods and audit"),
    ],
)
def test_a_wrong_word_is_refused_with_what_there_is(given, said):
    with pytest.raises(OptionError, match=said):
        bench(engine.start(accelerator="cpu"), **given)


def test_the_command_writes_the_figures_once(tmp_path, monkeypatch, capsys):
    line = by_turns("nothing", lambda: None, lambda: None, 1)
    monkeypatch.setattr(command, "start_lines", lambda rounds: iter([line]))
    out = tmp_path / "bench.json"
    words = ["bench", "--scale", "tiny", "--parts", "start", "--out", str(out), "--quiet"]
    main(words)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(out)
    found = json.loads(out.read_text())
    assert [item["what"] for item in found["lines"]] == ["nothing"]
    assert found["machine"]["torch"]
    with pytest.raises(SystemExit):
        main(words)
    assert "exists" in capsys.readouterr().err


def test_every_scale_has_every_part():
    assert set(SCALES) == {"tiny", "default", "full"}
    jobs = command._jobs(SCALES["default"], ("erasure",), None, engine.start(accelerator="cpu"))
    assert tuple(jobs) == PARTS
