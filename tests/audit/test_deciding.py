"""The number of images, or of retrained models, that would decide: against the power that it promises."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, t

from unlabel.audit.claims.judging import Cell
from unlabel.audit.claims.sample_size import (
    Need,
    images_for,
    need_of,
    needs,
    references_for,
    too_rare,
    worded,
    words_of,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.statistics.contrast import Contrast, combined

OPTIONS = AuditOptions()


def open_cell(value, se, fixed=0.0, margin=0.1, label="Male"):
    return Cell(label, "own.adv", Contrast(value, se, 1e6, fixed), margin, "INCONCLUSIVE")


@pytest.mark.parametrize("value", [0.0, 0.06, 0.15])
def test_so_many_images_decide_four_times_in_five(value):
    contrast = Contrast(value, 0.05, 1e6, 0.0001)
    n = images_for(contrast, 0.1, 1000, 0.95)
    se = np.sqrt((0.05**2 - 0.0001) * 1000 / n + 0.0001)
    seen = value + se * np.random.default_rng(0).normal(size=40_000)
    bound = norm.ppf(0.95) * se
    decided = seen + bound < 0.1 if value < 0.1 else seen - bound > 0.1
    assert decided.mean() == pytest.approx(0.8, abs=0.01)


def test_no_number_of_images_outweighs_the_spread_of_few_seeds():
    assert images_for(Contrast(0.06, 0.05, 1e6, 0.0004), 0.1, 1000, 0.95) is None
    assert images_for(Contrast(0.1, 0.05, 1e6), 0.1, 1000, 0.95) is None


def test_so_many_retrained_models_decide():
    value, margin, images, spread = 0.05, 0.1, 0.0001, 0.035
    contrast = combined(value, [(images, 1999), (spread**2 / 3, 2)])
    wanted = references_for(contrast, margin, 3, 0.95)
    rng = np.random.default_rng(0)

    def passes(count):
        drawn = rng.normal(0, spread, (20_000, count))
        seen = value + rng.normal(0, images**0.5, 20_000) + drawn.mean(1)
        part = drawn.var(1, ddof=1) / count
        df = (images + part) ** 2 / (part**2 / (count - 1))
        return (seen + t.ppf(0.95, df) * np.sqrt(images + part) < margin).mean()

    assert wanted is not None
    assert passes(wanted) >= 0.78
    assert passes(wanted - 2) < 0.8
    assert references_for(contrast, value + 0.001, 3, 0.95) is None


def test_all_tests_must_pass_or_one_must_fail():
    near, far = open_cell(0.05, 0.04), open_cell(0.0, 0.04)
    done = replace(open_cell(0.0, 0.9), verdict="PASS")
    both = need_of([near, far, done], 500, 3, OPTIONS)
    assert both == need_of([near, done], 500, 3, OPTIONS)
    assert both.images > need_of([far], 500, 3, OPTIONS).images
    beyond = open_cell(0.2, 0.08)
    assert need_of([beyond, near], 500, 3, OPTIONS).images == images_for(beyond.contrast, 0.1, 500, 0.975)


def test_where_images_do_not_help_retrained_models_may():
    cells = [open_cell(0.05, 0.025, 0.0005)]
    need = need_of(cells, 500, 3, OPTIONS)
    assert need.images is None
    assert need.references > 3
    assert need.words() == f"; about {need.references} retrained models would decide"
    assert need_of(cells, 500, 1, OPTIONS) == Need(None, None)


def test_no_number_of_images_is_advised_that_is_there_already():
    few_seeds = combined(0.0074, [(3e-7, 689), (6e-6, 2)])  # by the normal distribution 690 images would do
    cell = Cell(None, "util.auc.macro", few_seeds, 0.014, "INCONCLUSIVE")
    assert few_seeds.upper(0.95) > cell.margin
    need = need_of([cell], 690, 3, OPTIONS)
    assert (need.images, need.references) == (None, 5)
    for value in np.linspace(0, 0.0135, 28):
        for fixed in (0.0, 1e-6, 6e-6):
            item = combined(float(value), [(4e-6, 689), (fixed, 2)])
            found = images_for(item, 0.014, 690, 0.95)
            assert found is None or found > 690 or item.upper(0.95) < 0.014


def test_a_number_of_images_that_nobody_has_is_not_advised():
    need = need_of([open_cell(0.0999, 0.02)], 690, 0, OPTIONS)
    assert need.images > 100 * 690
    assert need.words() == "; no affordable number of test images would decide"


def test_the_number_is_of_the_test_that_the_sentence_names():
    near, far = open_cell(0.08, 0.04), open_cell(0.0, 0.07)
    whole, named = need_of([near, far], 500, 0, OPTIONS), need_of([near, far], 500, 0, OPTIONS, far)
    assert named.images == images_for(far.contrast, 0.1, 500, 0.95) < whole.images
    assert words_of(named, whole) == f"; about {named.images:,} test images would decide that alone"


def test_a_rare_label_needs_as_many_as_make_it_common(world):
    question = replace(ask("Male", *world.splits), test=np.where(np.arange(1500) < 150, 1, 0).astype(np.int8))
    found = needs([open_cell(0.0, 0.01)], {"Male": question}, 3, OPTIONS)
    assert found == {"Male": Need(2000)}
    assert too_rare(frozenset(["Male"]), found, OPTIONS).endswith("about 2,000 test images would decide.")
    assert worded("Open.", found) == "Open; about 2,000 test images would decide."
    assert worded("Open.", {}) == "Open."
