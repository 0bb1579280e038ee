"""Classes of a softmax: read as log-odds, judged among the retained ones, end to end without another flag."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unlabel.audit.attacks.outputs import OwnOutput, log_odds, restored
from unlabel.audit.attacks.utility import answerable, measurable, read_utility
from unlabel.audit.claims.c1_disabled import disabled
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core import engine
from unlabel.core.loss import log_odds as log_odds_of_loss
from unlabel.core.recipe import Recipe
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.run import forget_run
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.report.page import write_report
from unlabel.report.terminal import lines
from unlabel.runs.files import read_config, read_record
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of
from unlabel.testing import write_folder
from unlabel.training.run import train_run

CLASSES = ("cat", "dog", "frog", "ship")
FEATURES = 12
N = 900
REMOVED = -1e4


def split(part: int, n: int = N) -> Dataset:
    """One split of images without pixels, each of one class."""
    rng = np.random.default_rng((7, part))
    target = np.eye(4, dtype=np.int8)[rng.integers(0, 4, n)]
    rows = np.arange(n) + part * n
    pixels = np.zeros((1, 1, 1, 3), np.uint8)
    return Dataset(pixels, rows, target, rows // 2, rows.astype(str), CLASSES, exclusive=True)


SPLITS = split(0), split(1), split(2)


def subject(role, know=2.0, *, network=0, absent=(), shift=0.0) -> Subject:
    """A softmax classifier that knows class 0 to a degree; `shift` adds one number an image to all logits."""
    directions = np.linalg.qr(np.random.default_rng(network).normal(size=(FEATURES, FEATURES)))[0][:4]
    head = 2 * directions, np.array([0.1, 0.2, 0.3, 0.4])
    made = []
    for data in SPLITS:
        noise = np.random.default_rng((network, int(data.rows[0])))
        signal = data.target * np.array([know, 2.0, 2.0, 2.0])
        features = signal @ directions + noise.normal(size=(len(data), FEATURES)) * 0.8
        logits = features @ head[0].T + head[1] + shift * noise.normal(size=(len(data), 1))
        for name in absent:
            logits[:, CLASSES.index(name)] = REMOVED
        made.append(Outputs(logits.astype(np.float32), {PENULTIMATE: features.astype(np.float32)}))
    return Subject(f"{role}-{network}", role, *made, frozenset(absent), head)


@pytest.fixture(scope="module")
def question():
    return ask("cat", *SPLITS)


def test_log_odds_are_the_softmax_probability_even_where_it_saturates():
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 3
    for column in range(4):
        found = log_odds(logits, column)
        assert 1 / (1 + np.exp(-found)) == pytest.approx(torch.tensor(logits).softmax(1)[:, column].numpy())
        assert found == pytest.approx(log_odds_of_loss(torch.tensor(logits))[:, column].numpy())
    gone = logits.copy()
    gone[:, 3] = REMOVED
    assert np.array_equal(log_odds(gone, 0), log_odds(gone[:, :3], 0))
    assert log_odds(np.array([[900.0, 0.0, -900.0]]), 0) == pytest.approx([900.0])


def test_a_number_added_to_all_logits_of_an_image_changes_no_figure(question, quick):
    """A softmax does not see it, so neither may the audit; the raw logit's ranking would drown in it."""
    plain, moved = subject("before"), subject("before", shift=30.0)
    for exclusive, tolerance in ((True, 1e-4), (False, None)):
        values = [
            OwnOutput.of(item, question, exclusive=exclusive).signed(question).value
            for item in (plain, moved)
        ]
        if tolerance:
            assert values[0] == pytest.approx(values[1], abs=tolerance)  # float32 logits
            assert values[0] > 0.8
        else:
            assert values[1] < 0.5
    test = answerable(SPLITS[1], [1, 2, 3])
    first, second = (read_utility(item, test, CLASSES[1:], quick, [1, 2, 3]) for item in (plain, moved))
    for figure in ("util.auc", "util.bacc", "util.brier", "util.ece"):
        assert first.macro(figure).value == pytest.approx(second.macro(figure).value, abs=1e-4)


def test_a_removed_class_is_absent_though_its_log_odds_vary(question, quick):
    own = OwnOutput.of(subject("after", absent=["cat"]), question, exclusive=True)
    assert own.absent
    assert (own.signed(question).value, disabled(own, question, quick)) == (0.0, "PASS")


def test_a_constant_logit_that_still_wins_is_an_answer(question, quick):
    """Head removal with a bias of 0: the class is the answer wherever the other classes are in doubt."""
    given = subject("after", absent=["cat"])
    for part in (given.probe, given.test, given.train):
        part.logits[:, 0] = 0.0
    assert OwnOutput.of(given, question).absent
    own = OwnOutput.of(given, question, exclusive=True)
    assert not own.absent
    assert disabled(own, question, quick) == "FAIL"


@pytest.mark.parametrize("offset", [0.0, -60.0, -130.0])
def test_a_class_that_only_hides_its_answer_fails(question, quick, offset):
    own = OwnOutput.of(subject("before"), question, exclusive=True)
    assert disabled(own.shifted(offset), question, quick) == "FAIL"
    assert disabled(own.inverted(), question, quick) == "FAIL"


def test_the_whole_head_is_put_back(question):
    before, removed = subject("before"), subject("after", absent=["cat"])
    back = restored(removed, before, question, exclusive=True)
    own = OwnOutput.of(before, question, exclusive=True).signed(question)
    assert back is not None
    assert back.value == pytest.approx(own.value, abs=1e-4)  # float32 logits


def test_retained_classes_are_judged_among_themselves(quick):
    test = answerable(SPLITS[1], [1, 2, 3])
    cats = SPLITS[1].target[:, 0] == 1
    assert (test.target[cats] == -1).all()
    assert np.array_equal(test.target[~cats], SPLITS[1].target[~cats])
    assert measurable(test, CLASSES[1:]) == CLASSES[1:]
    before, removed = subject("before"), subject("after", absent=["cat"])
    one, two = (read_utility(item, test, CLASSES[1:], quick, [1, 2, 3]) for item in (before, removed))
    for name in CLASSES[1:]:
        for figure, item in one.labels[name].items():
            assert item.value == two.labels[name][figure].value  # a forgotten class's column plays no part
            assert item.n == int((~cats).sum())
    # the decision is the most likely retained class, unless a threshold is named
    answer = before.test.logits[:, 1:].argmax(1)[~cats] == 0
    truth = SPLITS[1].target[~cats, 1] == 1
    expected = (answer[truth].mean() + (~answer[~truth]).mean()) / 2
    assert one.labels["dog"]["util.bacc"].value == pytest.approx(expected)
    never = read_utility(before, test, ("dog",), replace(quick, thresholds={"dog": 99.0}), [1, 2, 3])
    assert never.labels["dog"]["util.bacc"].value == 0.5


SMALL = {"probe_seeds": 1, "folds": 2, "epochs": 6, "trees": 15, "permutations": 10, "resamples": 30}


@pytest.fixture(scope="module")
def settings():
    return AuditOptions(**SMALL, raw_image=False)


@pytest.fixture(scope="module")
def references():
    return [subject("reference", 0.3, network=10 + k, absent=["cat"]) for k in range(3)]


@pytest.fixture(scope="module")
def removed(references, settings):
    """The original without its output for the class, against three references."""
    return audit(subject("after", absent=["cat"]), references, settings)


def audit(after, references, settings):
    request = Request.make(["cat"], CLASSES)
    return audit_outputs(AuditInputs(subject("before"), after, references, request, *SPLITS), settings)


def test_a_class_forgotten_like_retrained_is_told_from_one_that_is_hidden(references, removed, settings):
    found = audit(subject("after", 0.3, network=5, absent=["cat"]), references, settings)
    assert found.valid, found.invalid_because
    assert {name: found.claims[name].verdict for name in ("C1", "C2", "C5")} == dict.fromkeys(
        ("C1", "C2", "C5"), "PASS"
    )
    assert found.data["exclusive"] is True
    assert removed.headline == "DISABLED ONLY"


def test_the_floor_of_classes_is_no_measure(removed, settings):
    floor = next(row for row in removed.metrics if row.id == "floor.adv")
    assert (floor.value, floor.ci, floor.n) == (0.0, (0.0, 0.0), N)
    assert "not_applicable" in removed.controls["floor"]["cat"]
    assert any("no floor" in line for line in removed.limitations)
    assert removed.claims["C3"].notes["attainable"] is False  # retrained models alone tell
    alone = audit(subject("after", absent=["cat"]), [], settings)
    assert alone.headline == "DISABLED, NO REFERENCE"
    assert alone.claims["C3"].notes["attainable"] is None
    text = "\n".join(lines(alone))
    assert "retrained  " not in text
    assert "the truth" not in text


def pictures(n: int = 320) -> Source:
    """Photos of 16 x 16 pixels whose lightest quarter is their class; two of each person."""
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 4, n)
    pixels = rng.normal(90, 25, (n, 16, 16, 3))
    for row, quarter in enumerate(kind):
        pixels[row, 4 * quarter : 4 * quarter + 4] += 60
    index = np.arange(n)
    whole = Dataset(
        pixels.clip(0, 255).astype(np.uint8),
        index,
        np.eye(4, dtype=np.int8)[kind],
        index // 2,
        np.array([f"{at:05}.png" for at in index]),
        CLASSES,
        exclusive=True,
    )
    cuts = index[: n // 2], index[n // 2 : n // 4 * 3], index[n // 4 * 3 :]
    return Source("classes", *(whole.take(part) for part in cuts))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("classes") / "photos", pictures())


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs, `base` and, without frog, `again`; only to be read."""
    folder, run = tmp_path_factory.mktemp("trained"), engine.start(accelerator="cpu")
    shared = {"recipe": Recipe(epochs=3), "image_size": 16}
    train_run(f"folder:{photos}", folder / "base", run, **shared)
    train_run(f"folder:{photos}", folder / "again", run.with_seed(1), without=["frog"], **shared)
    return folder


@pytest.fixture
def small_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's audits with fewer seeds, folds, epochs and trees."""
    made = AuditOptions.__init__
    given = zip(fields(AuditOptions), made.__defaults__, strict=True)  # every option has a default
    monkeypatch.setattr(made, "__defaults__", tuple(SMALL.get(item.name, value) for item, value in given))


@pytest.mark.usefixtures("small_audits")
@pytest.mark.parametrize("method", ["head-removal", "confusion"])
def test_classes_go_from_training_to_the_page_without_another_flag(
    method, trained, tmp_path, command
) -> None:
    run = engine.start(accelerator="cpu")
    options = {"steps": 6} if method == "confusion" else {}
    forget_run(method, trained / "base", ["frog"], tmp_path / "less", run, **options)
    assert load_run(tmp_path / "less").config.activation == "softmax"
    ran = command("audit", "less", "--before", trained / "base", "--reference", trained / "again", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "C1 PASS" in ran.out
    found = json.loads((tmp_path / "less" / "audit.json").read_text("utf-8"))
    assert found["data"]["exclusive"] is True
    value = {row["id"]: row["value"] for row in found["metrics"] if row["model"] == "before"}
    assert value["own.adv"] > 0.9
    assert value["util.auc.macro"] > 0.9
    assert found["valid"], found["invalid_because"]
    page = write_report(tmp_path / "less").read_text("utf-8")
    assert "no measure here: classes exclude each other" in page
    assert "the true other labels alone" not in page


def test_a_softmax_is_not_audited_on_images_with_several_labels(photos, tmp_path, command) -> None:
    run = engine.start(accelerator="cpu")
    train_run(f"folder:{photos}", tmp_path / "base", run, recipe=Recipe(epochs=0.1), image_size=16)
    forget_run("head-removal", tmp_path / "base", ["frog"], tmp_path / "less", run)
    mixed = pictures()
    mixed.train.target[0] = 1
    other = write_folder(tmp_path / "mixed", mixed)
    ran = command("audit", "less", "--before", "base", "--data", f"folder:{other}", "--quiet")
    assert ran.code == 2
    assert "answers by a softmax over classes" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_model_forgets_as_it_answers_whatever_the_data_are(photos, tmp_path, command) -> None:
    """A softmax is not trained on images of several labels, and sigmoids are not taken for classes."""
    run = engine.start(accelerator="cpu")
    mixed = pictures()
    mixed.train.target[0] = 1
    other = write_folder(tmp_path / "mixed", mixed)
    recipe = Recipe(epochs=0.1)
    train_run(f"folder:{photos}", tmp_path / "softmax", run, recipe=recipe, image_size=16)
    train_run(f"folder:{other}", tmp_path / "sigmoid", run, recipe=recipe, image_size=16)
    ran = command(
        "forget", "retrain", "softmax", "--labels", "frog", "--data", f"folder:{other}", "--out", "a"
    )
    assert ran.code == 2
    assert "answers by a softmax over classes" in ran.err
    assert not (tmp_path / "a").exists()
    record, config = read_record(tmp_path / "sigmoid"), read_config(tmp_path / "sigmoid")
    source = source_of(config, record, f"folder:{photos}", skip_bad=False, run=run)
    assert config.activation == "sigmoid"
    assert not source.train.exclusive


@pytest.mark.usefixtures("small_audits")
def test_data_that_changed_since_the_training_are_told_by_forget_and_audit(photos, tmp_path, command) -> None:
    folder = shutil.copytree(photos, tmp_path / "copied")
    run = engine.start(accelerator="cpu")
    train_run(f"folder:{folder}", tmp_path / "base", run, recipe=Recipe(epochs=0.1), image_size=16)
    meta = folder / "meta.csv"
    swapped = {"train": "test", "test": "train"}
    rows = [line.split(",") for line in meta.read_text("utf-8").splitlines()]
    at = rows[0].index("split")
    meta.write_text(
        "".join(",".join([*r[:at], swapped.get(r[at], r[at]), *r[at + 1 :]]) + "\n" for r in rows)
    )
    forgot = command("forget", "head-removal", "base", "--labels", "frog", "--out", "less")
    assert forgot.code == 0
    assert "have changed since the run was trained" in forgot.err
    audited = command("audit", "less", "--before", "base", "--quiet")
    assert audited.code == 0
    found = json.loads((tmp_path / "less" / "audit.json").read_text("utf-8"))
    assert found["data"]["same_as_training"] is False
    assert any("images of the training may be in the test split" in text for text in found["limitations"])
    other = shutil.copytree(folder, tmp_path / "other")  # data of another name are no change
    another = command("audit", "less", "--before", "base", "--data", f"folder:{other}", "--quiet", "--force")
    assert another.code == 0
    found = json.loads((tmp_path / "less" / "audit.json").read_text("utf-8"))
    assert found["data"]["same_as_training"] is False
    assert not any("have changed since" in text for text in found["limitations"])
