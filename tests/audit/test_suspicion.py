"""Attacks that only condemn, and the conditions under which a model can be audited at all."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.audit.attacks.evasion import gather_evasion, halves, least_squares, read_evasion, too_few, views
from unlabel.audit.attacks.head_consistency import changed_outputs, tampered
from unlabel.audit.attacks.input_stability import oddities
from unlabel.audit.figures import OWN_PERTURBED, TRAIN
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.perturbed_images import IMAGES, Perturbed, chosen, perturb, perturbed
from unlabel.audit.inputs.question import Context, ask
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.request import Request
from unlabel.models.features import Outputs
from unlabel.testing.stage import honest, stage

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
    assert clean.claims["C2"].notes["suspicion"] == "PASS"
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


def test_features_in_bfloat16_are_given_its_rounding():
    subject = stage().references[0]

    def rounded(outputs):
        features = torch.from_numpy(outputs.features["penultimate"]).bfloat16()
        weight, bias = (torch.from_numpy(part).bfloat16() for part in subject.head)
        logits = nn.functional.linear(features, weight, bias).float().numpy()
        return replace(outputs, logits=logits, features={"penultimate": features.float().numpy()})

    parts = {name: rounded(getattr(subject, name)) for name in ("probe", "test", "train")}
    coarse = replace(subject, **parts)
    assert changed_outputs(coarse) == ()
    coarse.test.logits[3, 2] += 1.0
    assert changed_outputs(coarse) == (2,)


class Odd(nn.Module):
    """A network with something before its head."""

    def __init__(self, model, change):
        super().__init__()
        self.body, self.head, self.change = model[:-1], model[-1], change

    def forward(self, image):
        return self.head(self.change(self.body(image), image))


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
    found = oddities(Odd(model, change), place.source.test, place.run)
    assert len(found) == (said is not None)
    assert all(said in sentence for sentence in found)


def test_features_after_a_mean_that_the_batch_makes_are_found():
    """As of BatchNorm that was left in training."""
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    found = oddities(
        Odd(model, lambda features, _: features - features.mean(0)), place.source.test, place.run
    )
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

    assert bool(oddities(Odd(model, change), test, place.run)) == found


def test_where_images_hardly_differ_one_shade_is_not_asked_about():
    place = stage()
    model = copy.deepcopy(place.forget(honest(seed=3)))
    noise = Odd(model, lambda features, image: features + 9 * torch.sin(1e7 * image.sum((1, 2, 3)))[:, None])
    test = place.source.test
    pale = replace(test, pixels=(120 + test.pixels.astype(float) / 64).astype(np.uint8))
    assert oddities(noise, test, place.run)
    assert oddities(noise, pale, place.run) == ()
