"""Attacks that only condemn, and the conditions under which a model can be audited at all."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.audit.attacks.evasion import (
    gather_evasion,
    halves,
    least_squares,
    read_evasion,
    too_few,
    views,
    whatever_scale,
)
from unlabel.audit.attacks.head_consistency import changed_outputs, tampered
from unlabel.audit.attacks.input_stability import oddities, within_rounding
from unlabel.audit.attacks.logistic import ranks
from unlabel.audit.figures import FINE, OWN_PERTURBED, RANKED, TRAIN
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.perturbed_images import IMAGES, Perturbed, chosen, perturb, perturbed
from unlabel.audit.inputs.question import Context, ask
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core import engine
from unlabel.core.request import Request
from unlabel.models import features
from unlabel.models.features import outputs
from unlabel.models.outputs import Outputs
from unlabel.testing.stage import honest, read, stage

LABEL = "Male"
REQUEST = Request.make([LABEL], ("Male", "Bald", "Young", "Smiling", "Hat"))


def seen_perturbed(world, subject, know):
    """The subject, whose outputs on perturbed images are those of a model that knows the label so well."""
    rows = [chosen(part, 0) for part in (world.probe, world.test)]
    strengths = [know, 1.5, 1.5, 1.5, 1.5]
    parts = [
        world.outputs(data.take(index), strengths, 5)
        for data, index in zip((world.probe, world.test), rows, strict=True)
    ]
    for part in parts:
        part.logits[:, 0] = -20.0
    return replace(subject, perturbed=Perturbed(*parts, *rows))


def audited(world, options, know, references):
    after = seen_perturbed(world, world.subject("after", 0.1, network=5, absent=[LABEL]), know)
    models = [seen_perturbed(world, item, 0.1) for item in references]
    inputs = AuditInputs(world.subject("before", 1.5), after, models, REQUEST, *world.splits)
    return audit_outputs(inputs, options)


def test_perturbed_images_are_mirrored_moved_by_one_pixel_and_relit():
    pixels = np.random.default_rng(0).integers(10, 240, (5, 8, 8, 3), np.uint8)
    index = np.array([3, 9, 4, 12, 5])
    found = perturb(pixels, index, 7)
    assert np.array_equal(found, perturb(pixels, index, 7))
    assert np.array_equal(perturb(pixels[2:3], index[2:3], 7), found[2:3])  # keyed by image, not by place
    moves = set()
    for before, after in zip(pixels.astype(int), found.astype(int), strict=True):
        fits = [
            (x, y, light)
            for x in (-1, 1)
            for y in (-1, 1)
            for light in (-3, -2, -1, 1, 2, 3)
            if np.array_equal(after[1:-1, 1:-1], np.roll(before[:, ::-1], (y, x), (0, 1))[1:-1, 1:-1] + light)
        ]
        assert len(fits) == 1
        moves |= set(fits)
    assert len(moves) > 2
    assert perturb(np.full((1, 8, 8, 3), 255, np.uint8), np.array([1]), 0).max() >= 252


def test_of_a_large_split_some_images_are_perturbed(world):
    place = stage()
    part = perturbed(place.source.test, 0)
    assert len(part) == len(chosen(place.source.test, 0)) == 1000
    assert np.array_equal(part.ids, place.source.test.ids)
    assert not np.array_equal(part.images(slice(None)), place.source.test.images(slice(None)))
    many = replace(
        world.test,
        rows=np.arange(9000),
        **{k: np.resize(getattr(world.test, k), 9000) for k in ("cluster", "ids")},
    )
    rows = chosen(many, 3)
    assert len(rows) == IMAGES
    assert len(set(rows)) == IMAGES
    assert np.all(np.diff(rows) > 0)


def test_halves_of_the_training_images_share_no_person(world):
    question = ask(LABEL, *world.splits)
    fit, judged = halves(question, 0)
    assert not set(question.train_cluster[fit]) & set(question.train_cluster[judged])
    assert len(fit) + len(judged) == len(world.train)
    assert min(len(fit), len(judged)) > len(world.train) / 2.3


def test_of_many_sorted_training_images_every_class_is_attacked(world):
    """Ten classes, sorted as folders are read: the first images of each half would lack the last ones."""
    kinds = np.repeat(np.arange(10), 500)
    apart = np.arange(len(kinds))
    subject = world.subject("after")
    many = replace(
        subject,
        train=Outputs(np.zeros((5000, 5), np.float32), {"penultimate": np.zeros((5000, 16), np.float32)}),
    )
    question = ask(LABEL, *world.splits)
    for kind in range(10):
        asked = replace(question, train=(kinds == kind).astype(np.int8), train_cluster=apart)
        fit, judged = halves(asked, 0)
        assert len(fit) == len(judged) == IMAGES
        assert np.all(np.diff(fit) > 0)
        assert np.all(np.diff(judged) > 0)
        assert not set(fit) & set(judged)
        assert min(asked.train[fit].sum(), asked.train[judged].sum()) > 150
        assert set(views(many, asked, 0)) == {TRAIN}


def test_a_label_that_is_only_in_perturbed_images_fails_c2_and_no_other_figure_shows_it(world, quick):
    references = world.references(3)
    found = audited(world, quick, 1.5, references)
    assert found.claims["C2"].verdict == "FAIL"
    assert found.claims["C2"].binding.endswith("@nudged")
    assert "mirrored and moved by one pixel" in found.claims["C2"].sentence
    assert found.claims["C2"].per_label == {LABEL: "FAIL"}
    assert {row.id.rpartition("@")[2] for row in found.comparisons if row.verdict == "FAIL"} == {"nudged"}
    clean = audited(world, quick, 0.1, references)
    assert clean.claims["C2"].verdict == "PASS"
    assert clean.claims["C2"].notes["suspicion"] != "FAIL"  # no PASS rests on these attacks
    margins = {"margin_curve", "smallest_margin"}  # of the other attacks, which say nothing of this FAIL
    assert margins <= {*clean.claims["C2"].notes}
    assert not margins & {*found.claims["C2"].notes}


def test_an_output_that_answers_on_perturbed_images_alone_fails_c1(world, quick):
    after = seen_perturbed(world, world.subject("after", 0.1, network=5, absent=[LABEL]), 0.1)
    near = after.perturbed
    answers = [part.logits.copy() for part in (near.probe, near.test)]
    answers[1][:, 0] = world.test.target[near.test_rows, 0]
    parts = [
        replace(part, logits=table) for part, table in zip((near.probe, near.test), answers, strict=True)
    ]
    after = replace(after, perturbed=replace(near, probe=parts[0], test=parts[1]))
    inputs = AuditInputs(world.subject("before", 1.5), after, [], REQUEST, *world.splits)
    found = audit_outputs(inputs, quick)
    assert (found.claims["C1"].verdict, found.claims["C1"].binding) == ("FAIL", OWN_PERTURBED.id)
    assert found.headline == "NOT UNLEARNED"
    assert found.claims["C2"].verdict == "NOT_EVALUATED"


def test_perturbed_images_count_where_all_models_have_them(world, quick):
    after = seen_perturbed(world, world.subject("after", 0.1, network=5), 1.5)
    context = Context({LABEL: ask(LABEL, *world.splits)}, REQUEST, *world.splits, quick)

    def names(*models):
        found = gather_evasion(models, context)
        return {tuple(sorted(rows[LABEL])) for rows in found}

    (whole,) = names(after, *(seen_perturbed(world, item, 0.1) for item in world.references(1)))
    (part,) = names(after, *world.references(1))
    assert set(whole) - set(part) == {name for name in whole if name.endswith("@nudged")} != set()


def test_what_was_found_on_references_is_found_again(world, quick, monkeypatch):
    questions = {LABEL: ask(LABEL, *world.splits)}
    context = Context(questions, REQUEST, *world.splits, quick, memory=Memory())
    models = [world.subject("after", 0.1, network=5), *world.references(2)]
    first = gather_evasion(models, context)
    calls = []

    def counted(subject, *rest, **more):
        calls.append(subject.run)
        return read_evasion(subject, *rest, **more)

    monkeypatch.setattr("unlabel.audit.attacks.evasion.read_evasion", counted)
    again = gather_evasion(models, context)
    assert calls == ["after-5"]
    assert [row[LABEL][n].value for row in first for n in row[LABEL]] == [
        row[LABEL][n].value for row in again for n in row[LABEL]
    ]


def test_too_few_training_images_of_a_kind_are_not_attacked(world):
    train = world.train.target[:, 0]
    few = np.sort(np.concatenate([np.flatnonzero(train == 1)[:12], np.flatnonzero(train == 0)]))
    question = ask(LABEL, world.probe, world.test, world.train.take(few))
    assert views(world.subject("after"), question, 0) == {}


def test_images_of_few_people_condemn_nothing(world, quick):
    """By where the attacks are judged: the test split, its perturbed images, half of the training images."""
    question = ask(LABEL, *world.splits)
    subject = seen_perturbed(world, world.subject("after"), 0.1)

    def few(asked):
        return {ending for ending, names in too_few(subject, {LABEL: asked}, quick).items() if names}

    def of_people(data, cluster, count):
        return np.where(data == 1, cluster % count, count + cluster)

    on_test = of_people(question.test, question.test_cluster, 8)
    on_train = of_people(question.train, question.train_cluster, 24)  # about 12 in each half
    crossed = replace(question, crossed=True)
    assert few(question) == few(crossed) == set()
    assert few(replace(crossed, test_cluster=on_test)) == {"", "@nudged"}
    assert few(replace(question, train_cluster=on_train)) == {"@train"}
    assert few(replace(question, test_cluster=on_test)) == {"", "@nudged", "@train"}  # a rare label


def test_an_audit_says_where_training_images_were_too_few_to_attack(world, quick):
    target = world.train.target[:, 0]
    few = np.sort(np.concatenate([np.flatnonzero(target == 1)[:12], np.flatnonzero(target == 0)]))

    def untested(rows):
        train = world.train.take(rows)
        subjects = [world.subject("before", 1.5), world.subject("after", 0.1, network=5, absent=[LABEL])]
        before, after = (
            replace(
                item,
                train=Outputs(
                    item.train.logits[rows], {name: t[rows] for name, t in item.train.features.items()}
                ),
            )
            for item in subjects
        )
        found = audit_outputs(AuditInputs(before, after, [], REQUEST, world.probe, world.test, train), quick)
        return [line for line in found.not_tested if "on training images" in line]

    (line,) = untested(few)
    assert f"lack, {LABEL}." in line
    assert untested(np.arange(len(target))) == []


def test_least_squares_finds_a_small_difference_of_large_features(world):
    rng, question = np.random.default_rng(0), ask(LABEL, *world.splits)
    subject = world.subject("after", 0.0, network=5)
    before = least_squares(subject, question).value

    def hidden(outputs, target):
        noise, said = 1e4 * rng.normal(size=len(target)), 2.0 * target - 1
        table = np.column_stack([outputs.features["penultimate"], said + noise, said - noise])
        return replace(outputs, features={"penultimate": table.astype(np.float32)})

    parts = {"probe": hidden(subject.probe, question.probe), "test": hidden(subject.test, question.test)}
    assert before < 0.7
    assert least_squares(replace(subject, **parts), question).value > 0.95


def beside(subject, question, hide):
    """The subject with one more feature, made of the annotations of each set."""
    parts = {}
    for name in ("probe", "test", "train"):
        outputs, target = getattr(subject, name), getattr(question, name)
        table = np.column_stack([outputs.features["penultimate"], hide(target)])
        parts[name] = replace(outputs, features={"penultimate": table.astype(np.float32)})
    return replace(subject, **parts)


def in_last_bit(target):
    return np.where(target == 1, np.nextafter(np.float32(1), np.float32(2)), np.float32(1))


def under_huge_numbers(target):
    """The label, and on 3 % of the images a huge number."""
    return target + 1e4 * (np.random.default_rng(0).random(len(target)) < 0.03)


def test_a_label_in_one_bit_of_a_constant_feature_is_found(world, quick):
    question = ask(LABEL, *world.splits)
    subject = world.subject("after", 0.0, network=5)
    assert FINE.id not in whatever_scale(subject, question, quick)
    constant = beside(subject, question, lambda target: np.full(len(target), 1.0))
    assert FINE.id not in whatever_scale(constant, question, quick)
    assert least_squares(beside(subject, question, in_last_bit), question).value < 0.7
    found = whatever_scale(beside(subject, question, in_last_bit), question, quick)
    assert min(found[FINE.id].value, found[RANKED.id].value) > 0.95


def test_a_label_under_a_few_huge_numbers_is_found(world, quick):
    question = ask(LABEL, *world.splits)
    hidden = beside(world.subject("after", 0.0, network=5), question, under_huge_numbers)
    assert least_squares(hidden, question).value < 0.7
    assert whatever_scale(hidden, question, quick)[RANKED.id].value > 0.9


def test_ranks_are_among_the_fitted_numbers_whatever_their_size():
    rng = np.random.default_rng(0)
    fitted, table = rng.normal(size=(50, 3)), rng.normal(size=(20, 3))
    expected = [
        [np.mean(column < value) for value, column in zip(row, fitted.T, strict=True)] for row in table
    ]
    assert np.allclose(ranks(fitted, table), expected)
    assert np.array_equal(ranks(np.exp(9 * fitted), np.exp(9 * table)), ranks(fitted, table))


def test_a_model_without_what_another_hides_in_counts_as_zero(world, quick):
    question = ask(LABEL, *world.splits)
    context = Context({LABEL: question}, REQUEST, *world.splits, quick)
    after, *references = (
        beside(item, question, in_last_bit if index == 0 else lambda target: np.ones(len(target)))
        for index, item in enumerate([world.subject("after", 0.0, network=5), *world.references(1)])
    )
    found = [rows[LABEL] for rows in gather_evasion([after, *references], context)]
    for figure in (FINE.id, FINE.id + TRAIN):
        assert found[0][figure].value > 0.9
        assert found[1][figure].value == found[1][figure].se == 0.0
    assert not any(name.startswith(FINE.id) for name in gather_evasion(references, context)[0][LABEL])


@pytest.mark.parametrize("move", [0.0, 1e-9, 1e-3])
def test_answers_that_are_not_the_heads_are_named(move):
    place = stage()
    subject = place.references[0]
    logits = subject.test.logits.astype(np.float64)
    logits[7, 1] += move
    moved = replace(subject, test=replace(subject.test, logits=logits))
    assert changed_outputs(moved) == ((1,) if move == 1e-3 else ())
    assert bool(tampered(moved, place.request.labels)) == (move == 1e-3)
    assert changed_outputs(replace(moved, head=None)) == ()


def test_a_run_in_bfloat16_is_given_its_rounding():
    subject = stage().references[0]

    def rounded(outputs):
        features = torch.from_numpy(outputs.features["penultimate"]).bfloat16()
        weight, bias = (torch.from_numpy(part).bfloat16() for part in subject.head)
        logits = nn.functional.linear(features, weight, bias).float().numpy()
        return replace(outputs, logits=logits, features={"penultimate": features.float().numpy()})

    parts = {name: rounded(getattr(subject, name)) for name in ("probe", "test", "train")}
    coarse = replace(subject, **parts, precision="bf16")
    assert changed_outputs(coarse) == ()
    assert changed_outputs(replace(coarse, precision="32"))
    coarse.test.logits[3, 2] += 1.0
    assert changed_outputs(coarse) == (2,)


def test_features_that_a_model_rounds_itself_are_not_given_that_rounding():
    """As of a model that rounds its features, so that its outputs may hold a label in their last digits."""
    subject = stage().references[0]
    weight, bias = (part.astype(np.float64) for part in subject.head)

    def rounded(outputs, move):
        features = torch.from_numpy(outputs.features["penultimate"]).bfloat16().float().numpy()
        logits = features @ weight.T + bias + move
        return replace(outputs, logits=logits.astype(np.float32), features={"penultimate": features})

    for move, found in ((0.0, ()), (0.004, (1, 2))):
        parts = {name: rounded(getattr(subject, name), move) for name in ("probe", "test", "train")}
        assert changed_outputs(replace(subject, **parts)) == found


def test_a_subject_says_how_it_was_run():
    place = stage()
    assert place.before.precision == "32"
    coarse = read(place.original, "before", place.source, engine.start(accelerator="cpu", precision="bf16"))
    assert coarse.precision == "bf16"
    assert changed_outputs(coarse) == ()
    assert changed_outputs(replace(coarse, precision="32"))


class Odd(nn.Module):
    """A network with something before its head."""

    def __init__(self, model, change):
        super().__init__()
        self.body, self.head, self.change = model[:-1], model[-1], change

    def forward(self, image):
        return self.head(self.change(self.body(image), image))


def judged(model, test):
    """What is odd in a model, beside its table on the test split."""
    return oddities(model, test, outputs(model.eval(), test, stage().run), stage().run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda features, image: features, None),
        (lambda features, image: features + (len(image) == 1), "read alone"),
        (lambda features, image: features + (len(image) == 7), "read alone"),
        (
            lambda features, image: features + 9 * torch.sin(1e7 * image.sum((1, 2, 3)))[:, None],
            "one grey level",
        ),
        (lambda features, image: torch.zeros_like(features), None),
    ],
)
def test_a_model_answers_for_an_image_and_for_nothing_else(change, said):
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    found = judged(Odd(model, change), place.source.test)
    assert len(found) == (said is not None)
    assert all(said in sentence for sentence in found)


@pytest.mark.parametrize("far", [0.0, 2e4, -1e5, 1e6])
@pytest.mark.parametrize("huge", [0.0, 1e4])
def test_noise_is_found_wherever_its_feature_lies(far, huge):
    """Far from zero, or with huge numbers on a few images, which would be most of its variance."""
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    scale = float(place.references[0].test.features["penultimate"].std())

    def change(features, image):
        noise = torch.sin(1e7 * image.sum((1, 2, 3))).float()
        rare = (image.mean((2, 3))[:, 0] > 0.5).float()
        return torch.cat([features[:, :-1], (scale * (noise + far + huge * rare))[:, None]], 1)

    said = outputs(Odd(model, change), place.source.test, place.run)
    found = oddities(Odd(model, change), place.source.test, said, place.run)
    assert ["one grey level" in sentence for sentence in found] == ([True] if abs(far) < 1e6 else [])
    assert within_rounding(said, place.run) == (abs(far) >= 1e6)  # what cannot be judged is told


def test_of_numbers_that_vary_within_rounding_their_count_is_told():
    place, rng = stage(), np.random.default_rng(0)
    said = place.references[0].test
    assert within_rounding(said, place.run) == 0
    far = 1 + np.array([1e-6, 1e-3]) * rng.normal(size=(len(said.logits), 2))
    table = np.column_stack([said.features["penultimate"], far, np.ones(len(far))]).astype(np.float32)
    assert within_rounding(replace(said, features={"penultimate": table}), place.run) == 1


def test_an_audit_says_how_many_numbers_vary_within_rounding(world, quick):
    after = replace(world.subject("after", 0.1, network=5), unchecked=3)
    inputs = AuditInputs(world.subject("before", 1.5), after, [], REQUEST, *world.splits)
    assert any("no more than rounding: 3" in line for line in audit_outputs(inputs, quick).limitations)


@pytest.mark.parametrize("size", [64, 256])
def test_small_batches_are_compared_with_the_table_that_attacks_read(size, monkeypatch):
    """On a GPU the table is made in batches of 256: a model may be clean in these alone."""
    monkeypatch.setattr(features, "ON_CPU", size)
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    leaks = Odd(model, lambda features, image: features + (len(image) <= 64))
    (found,) = judged(leaks, place.source.test) or ("",)
    assert bool(found) == (size == 256)


def test_features_after_a_mean_that_the_batch_makes_are_found():
    """As of BatchNorm that was left in training."""
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    found = judged(Odd(model, lambda features, _: features - features.mean(0)), place.source.test)
    assert any("read alone" in sentence for sentence in found)


@pytest.mark.parametrize(("share", "found"), [(0.01, False), (0.3, True)])
def test_one_shade_may_switch_a_unit_that_is_on_for_hardly_any_image(share, found):
    """Of honest networks too; noise on three images of ten is still noise."""
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    test = place.source.test
    shown = test.images(slice(None))[:512].astype(float)
    rare = torch.tensor(np.quantile(shown.mean((1, 2, 3)), 1 - share) / 255)

    def change(features, image):
        bright = image.mean((1, 2, 3)) * test.std[0] + test.mean[0] > rare
        noise = bright * torch.sin(1e7 * image.sum((1, 2, 3)))
        return torch.cat([features[:, :-1], noise[:, None].float()], 1)

    assert bool(judged(Odd(model, change), test)) == found


def test_where_images_hardly_differ_one_shade_is_not_asked_about():
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    noise = Odd(model, lambda features, image: features + 9 * torch.sin(1e7 * image.sum((1, 2, 3)))[:, None])
    test = place.source.test
    pale = replace(test, pixels=(120 + test.pixels.astype(float) / 64).astype(np.uint8))
    assert judged(noise, test)
    assert judged(noise, pale) == ()
