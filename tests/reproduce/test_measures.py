"""Oracles of the pages' own figures, and of the sentences that rules make from them."""

from dataclasses import replace
from math import log2
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from unlabel.data.dataset import Dataset
from unlabel.models.outputs import Outputs
from unlabel.reproduce.measure import BINS, accuracies, answer_of, entropy_counts, own_accuracy
from unlabel.reproduce.pages import correlation, figure2, table4, table5
from unlabel.reproduce.pages.privacy import beside_the_paper, printed_rows
from unlabel.reproduce.scale import SMALL
from unlabel.reproduce.settings import Setting
from unlabel.reproduce.study import Made, Study


def test_what_the_papers_success_rates_are_worth() -> None:
    rows = {row[0]: row for row in printed_rows()}
    entropy = -0.65 * log2(0.65) - 0.35 * log2(0.35)
    assert rows["65.0"][3]["value"] == pytest.approx(1 - entropy, abs=1e-12)
    assert rows["65.0"][3]["value"] == pytest.approx(0.0659, abs=1e-4)
    assert rows["46.0"][3]["value"] == pytest.approx(0.0046, abs=1e-4)
    assert rows["46.0"][2]["value"] == pytest.approx(0.08)


def test_entropy_is_counted_per_image_over_the_retained_labels() -> None:
    logits = np.array([[0.0, 0.0, 99.0], [800.0, -800.0, 0.0]], np.float32)
    counts = entropy_counts(Outputs(logits, {}), (0, 1))
    assert (counts[-1], counts[0], sum(counts)) == (1, 1, 2)


def test_accuracy_is_over_known_targets_and_classes_answer_among_the_retained() -> None:
    target = np.array([[1, 0, -1], [0, 1, 1]], np.int8)
    logits = np.array([[5.0, 5.0, 5.0], [-5.0, 5.0, -5.0]], np.float32)
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    data = Dataset(pixels, np.arange(2), target, np.arange(2), np.array(["a", "b"]), ("x", "y", "z"))
    found = accuracies(Outputs(logits, {}), data, (0, 1, 2))
    assert found["value"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["labels"] == {"x": 1.0, "y": 0.5, "z": 0.0}
    assert found["constant"] == {"x": 0.5, "y": 0.5, "z": 1.0}
    one = np.array([[1, 0, 0], [0, 0, 1]], np.int8)
    classes = Dataset(**{**data.__dict__, "target": one, "exclusive": True})
    said = accuracies(Outputs(np.array([[1.0, 9.0, 2.0], [1.0, 9.0, 2.0]], np.float32), {}), classes, (0, 2))
    assert (said["value"], said["distance"], said["n"]) == (0.5, 1.0, 2)


def test_a_removed_class_is_read_by_its_constant_and_a_living_one_by_its_log_odds() -> None:
    logits = np.array([[1.0, -1e4, 2.0], [3.0, -1e4, 0.0]])
    assert np.ptp(answer_of(logits, 1, exclusive=True)) == 0.0
    np.testing.assert_allclose(answer_of(logits[:, [0, 2]], 0, exclusive=True), [-1.0, 3.0])


def test_the_distance_is_kolmogorovs_and_the_band_holds() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, BINS, 500), draw.integers(0, BINS // 2, 700)
    counted = [np.bincount(values, minlength=BINS).astype(float) for values in (first, second)]
    assert figure2.distance(*counted) == pytest.approx(ks_2samp(first, second).statistic)
    # both samples from one distribution: the distance stays inside the band in at least 95 %
    apart = [ks_2samp(draw.integers(0, BINS, 300), draw.integers(0, BINS, 300)).statistic for _ in range(100)]
    assert np.mean(np.array(apart) <= figure2.band(300, 300)) >= 0.95


def test_the_interval_says_that_images_of_one_person_are_alike() -> None:
    made = Made(Study("celeba", "a", ()), "faces", {"identities": False}, Path("original"), {}, (), {})
    assert (
        figure2._bound(made, 0.1)
        == "at most ± 0.100, whatever the distribution, if the images are independent"
    )
    assert "too narrow" in figure2._bound(replace(made, facts={"identities": True}), 0.1)


def record(accuracy: float, put_back: float, probe: float) -> dict[str, Any]:
    """As much of a cell as table 4's sentences read."""
    own = {"accuracy": accuracy, "inverted": 1 - accuracy, "constant": 0.6, "advantage": 0.9}
    back = {"accuracy": put_back, "inverted": 1 - put_back, "advantage": 0.9}
    return {
        "figures": [{"id": "probe.adv.lin", "label": "a", "value": probe}],
        "also": {"labels": {"a": {"own": own, "put_back": back}}},
    }


@pytest.mark.parametrize(
    ("back", "said"),
    [(0.9, "No model here comes near 0.34 %"), (0.001, "The lowest accuracy here is 0.10 %")],
)
def test_a_sentence_follows_its_numbers(back: float, said: str) -> None:
    class Cell:
        done, record = True, record(0.6, back, 0.8)

    study = Study("celeba", "a", (Setting("WF as printed", "weight-filtering"),))
    made = Made(
        study, "faces", {}, Path("original"), record(0.95, 0.95, 0.9), (record(0.6, 0.6, 0.5),),
        {"WF as printed": (Cell(),)},  # type: ignore[dict-item]
    )  # fmt: skip
    sentences = " ".join(table4.findings([made]))
    assert said in sentences
    assert "original 0.900, Retrain 0.500, WF as printed 0.800" in sentences
    assert "the original inverted has 5.0 %" in sentences


FACES = "faces:train=8"


def half_failed(task: str, source: str, failed: str) -> Made:
    """Two methods of one data set, of which one came to no end."""
    figures = [
        {"id": name, "label": "Male", "value": 0.5} for name in ("others.adv.lin", "probe.adv.lin", "own.adv")
    ]
    claims = {name: {"verdict": "PASS"} for name in ("C2", "C5")}
    found = {
        "figures": figures,
        "claims": claims,
        "utility": {"E": {"macro": {"value": 0.9}}},
        "also": {"accuracy": {"E": {"value": 0.9}}},
    }
    done = SimpleNamespace(done=True, record=found)
    bad = SimpleNamespace(done=False, record={"error": {"message": "it diverged"}})
    settings = tuple(Setting(name, "salun", {}, name) for name in ("WP as printed", "SalUn"))
    cells: Any = {setting.name: (bad if setting.name == failed else done,) for setting in settings}
    study = Study(task, "Male", settings)
    return Made(study, source, {}, Path("original"), found, (found,), cells, floor=0.5)


def test_a_method_that_failed_in_one_data_set_has_a_dash_there() -> None:
    pair = half_failed("celeba", FACES, "SalUn"), half_failed("decorrelated", FACES, "WP as printed")
    page = correlation.content(pair, SMALL)
    rows = {str(row[0]): row[1:] for row in page.tables[0].rows}
    assert list(rows) == ["true other labels", "original", "Retrain", "WP as printed", "SalUn"]
    for name, dashes in (("WP as printed", (1, 3, 5, 7, 9, 11)), ("SalUn", (0, 2, 4, 6, 8, 10))):
        assert tuple(at for at, field in enumerate(rows[name]) if field == "-") == dashes, name
    assert "Labels apart: WP as printed failed in 1 of 1 seeds: it diverged." in page.findings

    made = [half_failed("cifar10", "a", "WP as printed"), half_failed("mnist", "b", "SalUn")]
    table = table5._beside(made, {"cifar10": "CIFAR-10", "mnist": "MNIST"})
    assert [row[0] for row in table.rows] == ["original", "Retrain", "WP as printed", "SalUn"]
    assert [[field == "-" for field in row[1::2]] for row in table.rows[2:]] == [[True, False], [False, True]]


def test_a_page_tells_no_path_and_claims_nothing_of_data_it_did_not_draw() -> None:
    drawn = correlation.content(
        [half_failed("celeba", FACES, ""), half_failed("decorrelated", f"{FACES},independent=1", "")], SMALL
    )
    assert "by construction" in " ".join(drawn.about)
    other = [
        half_failed("celeba", FACES, ""),
        half_failed("decorrelated", "folder:/home/ann/photos", ""),
    ]
    said = " ".join(correlation.content(other, SMALL).about)
    assert "by construction" not in said
    assert "Cues of a drawing" not in said
    assert "`folder:PATH`" in said


def test_accuracy_near_zero_is_an_inverted_label() -> None:
    logit = np.array([-1.0, -1.0, 1.0, 1.0])
    found = own_accuracy(logit, np.array([1, 1, 0, 0], np.int8))
    assert (found["accuracy"], found["inverted"]) == (0.0, 1.0)


def test_a_method_that_failed_in_every_seed_does_not_break_the_page() -> None:
    said = beside_the_paper({"WP as printed": 0.6, "WF": 0.6}, 0.62)
    assert said.endswith(
        "here WP as printed leaves 60.0 % and Retrain 62.0 %, since the retained labels give the forgotten"
        " one away in both."
    )
    for at, aim in ((0.5, 0.62), (0.6, 0.5)):  # a coin gives nothing away
        assert "in both" not in beside_the_paper({"WP as printed": at}, aim)
    without = beside_the_paper({"WF": 0.6}, 0.62)
    assert without.endswith("here WP as printed failed in every seed, and Retrain leaves 62.0 %.")
