"""How many annotated images attackers get: all that are wanted if there are enough, else fewer, and said."""

import numpy as np
import pytest

from unlabel.audit.attacks.annotated import HELD, LEAST, few_sizes, fitting, tune_sizes
from unlabel.audit.attacks.few_shot import balanced, few_shot
from unlabel.audit.attacks.fine_tuning import trainings
from unlabel.audit.attacks.lessons import draw_images
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.core.randomness import uniform
from unlabel.statistics.estimate import rarer

FULL = AuditOptions(budget="full", few=(16, 64), draws=3, probe_seeds=1)


def split(present, absent, unknown=0):
    """Annotations of a probe split, in a fixed order that is not sorted by kind."""
    target = np.repeat([1, 0, -1], [present, absent, unknown]).astype(np.int8)
    return target[np.random.default_rng(0).permutation(len(target))]


@pytest.mark.parametrize("kind", [543, 544, 700])
def test_what_fits_is_tried_as_it_is_wanted(kind):
    many = split(kind, 5000)
    assert few_sizes(many, FULL) == (16, 64, 1024)
    assert tune_sizes(many, FULL) == ((256, 1024) if kind >= 512 + LEAST else (256, 1022))


def test_the_largest_possible_number_takes_the_place_of_larger_ones():
    assert fitting((8, 64, 256), 100, 64) == (8, 64, 100)
    assert fitting((8, 64, 256), 62, 64) == (8,)
    assert fitting((17,), 16, 64) == (17,)  # an odd number is rounded down to pairs, as ever
    assert tune_sizes(split(63, 900), FULL) == ()
    assert tune_sizes(split(64, 900), FULL) == tune_sizes(split(900, 64), FULL) == (64,)


@pytest.mark.parametrize(("present", "absent"), [(138, 1160), (150, 19_000), (64, 3000)])
def test_there_are_images_to_choose_by_at_every_number_that_is_tried(present, absent):
    target = split(present, absent, unknown=40)
    for n in tune_sizes(target, FULL):
        draws = draw_images(target, 0, n, FULL)
        assert len(draws) == FULL.tune_draws
        for rows, held in draws:
            assert not np.intersect1d(rows, held).size
            assert len(rows) == n
            assert np.sum(target[rows] == 1) == n // 2
            assert rarer(target[held]) >= LEAST
            assert len(held) <= HELD
            assert np.all(target[held] >= 0)


def test_a_common_label_is_chosen_by_a_plain_sample_of_what_is_left():
    """The first rule, written out: it must stay, to the bit, wherever it found enough."""
    target = split(900, 2100)
    for draw, (rows, held) in enumerate(draw_images(target, 3, 256, FULL)):
        assert rows.tolist() == balanced(target, 3, 256, FULL.tune_draws, "tune/256", 0)[draw].tolist()
        rank = uniform(0, "audit/held/256", 3, draw, np.arange(len(target)))
        rank[rows] = 2.0
        assert held.tolist() == sorted(np.argsort(rank, kind="stable")[:HELD])


def test_every_attacker_gets_what_the_probe_split_allows():
    options = AuditOptions(budget="full", attackers=("lora", "curve"))
    few = split(138, 1160)
    assert [(attacker.name, n) for attacker, n in trainings(options, few)] == [
        ("adam-100", 212), ("lora", 212), ("adam-100", 16), ("adam-100", 64), ("adam-100", 184)
    ]  # fmt: skip
    assert trainings(options, split(30, 1000)) == []


def test_a_probe_on_all_images_of_a_small_split_is_measured(make_world):
    """Every draw is then the same, and the draws add nothing to the error."""
    world = make_world(n=200)
    question, subject = ask("Male", *world.splits), world.subject("after", 1.0)
    most = 2 * rarer(question.probe)
    found = few_shot(subject.probe, subject.test, question, FULL)
    assert list(found) == [16, 64, most]
    assert found[most].mean.value > 0.6
    assert np.ptp(found[most].draws) < 0.05
