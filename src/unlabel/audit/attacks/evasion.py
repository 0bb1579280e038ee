"""Attacks that detect models built to cheat the audit. They can fail a model; passing them proves nothing.

Whoever makes a model may know the probe and test splits, and hide the label on exactly those images. So the
unlearned model and the retrained ones are also read on perturbed images (`perturbed_images`). The training
images, which every audit reads anyway, are attacked as the probe and test splits are: half of the people are
fitted on, the other half is judged.

The usual probes scale features, so numbers can hide a label from them. The penalty that keeps a linear probe
from noise also keeps it from a small difference of two large features: least squares has none. A few huge
numbers make all others small, and rounding is left out: a probe on ranks and trees do not mind the scale.
Trees also find a label that stands at both ends of a feature.

If one of them recovers the label, and the attacks on the probe and test splits do not, C1 or C2 FAILs. No
PASS depends on them, so they need fewer images. They judge the test split alone, even if a rare label is
judged on the probe split as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.logistic import Standard, ranks
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.outputs import OwnOutput, guess_linear, guess_trees
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    FINE,
    LEAST_SQUARES,
    OTHERS_TREES,
    OWN_PERTURBED,
    PERTURBED,
    RANKED,
    TRAIN,
    TREES_PROBE,
    Readings,
    unit_of,
)
from unlabel.audit.inputs.memory import digest, key_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.perturbed_images import IMAGES
from unlabel.audit.inputs.question import Context, Question
from unlabel.audit.inputs.subject import Subject, has_features
from unlabel.core.parallel import Job, run_jobs
from unlabel.core.randomness import uniform
from unlabel.data.splits import LEAST_OF_A_KIND, PEOPLE
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate, advantage

TRIED = 16  # features that trees are fitted on
TREES = 30  # of them: what stands in one feature is found by few
SMALLEST = 1e-12  # of the largest singular value: below it, a direction is rounding even in float64


def read_evasion(subject: Subject, question: Question, context: Context) -> dict[str, Estimate]:
    """What a model leaks on images for which a cheating model may not have been prepared.

    Returns:
        ``probe.adv.lsq``, ``.rank``, ``.gbt`` and ``.fine`` on the probe and test splits;
        ``own.adv@nudged``; and, with the endings ``@nudged`` and ``@train``, ``others.adv.gbt``,
        ``probe.adv.lin``, ``probe.adv.mlp`` and the last three again. What cannot be measured is not there.
    """
    featured = has_features(subject)
    readings: dict[str, Estimate] = {}
    if featured:
        readings = {LEAST_SQUARES.id: least_squares(subject, question)}
        readings |= whatever_scale(subject, question, context.options)
    options, once = context.options, replace(context.options, probe_seeds=1)
    shown = [column for column in range(len(context.request.labels)) if column not in context.hidden]
    for ending, (there, asked) in views(subject, question, options.seed).items():
        if ending == PERTURBED:
            readings[OWN_PERTURBED.id] = (
                OwnOutput.of(there, asked, exclusive=context.exclusive).signed(asked).absolute()
            )
        annotated = asked.known
        x, y = there.probe.logits[annotated][:, shown], asked.probe[annotated] == 1
        trees = guess_trees(x, y, there.test.logits[:, shown], options)
        readings[OTHERS_TREES.id + ending] = advantage(trees, asked.test, asked.test_cluster)
        if not featured:
            continue
        probes = read_features(there.probe, there.test, asked, once) | whatever_scale(there, asked, options)
        readings |= {f"{name}{ending}": item for name, item in probes.items() if unit_of(name) == "adv"}
    return readings


def least_squares(subject: Subject, question: Question) -> Estimate:
    """Test advantage of the linear function of the features that fits the label best on the probe split."""
    annotated = question.known
    features = subject.probe.features[PENULTIMATE][annotated]
    standard = Standard.of(features)
    tables = (standard(table) for table in (features, subject.test.features[PENULTIMATE]))
    x, x_test = (np.column_stack([table, np.ones(len(table))]) for table in tables)
    weights = np.linalg.lstsq(x, 2.0 * (question.probe[annotated] == 1) - 1, rcond=SMALLEST)[0]
    return advantage(x_test @ weights, question.test, question.test_cluster)


def whatever_scale(subject: Subject, question: Question, options: AuditOptions) -> dict[str, Estimate]:
    """Test advantage of attacks on the features that no scale of a feature can mislead.

    Returns:
        ``probe.adv.rank`` and ``probe.adv.gbt``; and ``probe.adv.fine``, if some features vary and `Standard`
        drops them.
    """
    annotated = question.known
    features, shown = subject.probe.features[PENULTIMATE][annotated], subject.test.features[PENULTIMATE]
    y, judged = question.probe[annotated] == 1, (question.test, question.test_cluster)
    ranked = ranks(features, features)
    score = guess_linear(ranked, y, ranks(features, shown))
    best = telling(ranked, y)
    few = replace(options, trees=min(options.trees, TREES))
    trees = guess_trees(features[:, best], y, shown[:, best], few)
    readings = {RANKED.id: advantage(score, *judged), TREES_PROBE.id: advantage(trees, *judged)}
    keep = Standard.of(features).keep
    fine, fine_shown = (np.delete(table, keep, axis=1) for table in (features, shown))
    if (np.ptp(fine, axis=0) > 0).any():
        readings[FINE.id] = advantage(guess_trees(fine, y, fine_shown, options), *judged)
    return readings


def telling(ranked: NDArray[np.floating], y: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The `TRIED` features whose tenths differ most in how many of their images have the label.

    Trees on all of 2,048 features would take a minute a model.

    Args:
        ranked: (image, feature) `ranks` among these images, 0 to 1.
        y: (image,) truth.

    >>> rank = np.linspace(0, 1, 100)
    >>> both_ends = (rank < 0.2) | (rank > 0.8)
    >>> int(telling(np.column_stack([np.roll(rank, 37), rank]), both_ends)[0])
    1
    """
    tenth = np.minimum(ranked * 10, 9).astype(np.int8)
    differs = np.zeros(ranked.shape[1])
    for number in range(10):
        inside = tenth == number
        images = inside.sum(0)
        differs += (y @ inside - y.mean() * images) ** 2 / np.maximum(images, 1)
    return np.argsort(-differs, kind="stable")[:TRIED]


def views(subject: Subject, question: Question, seed: int) -> dict[str, tuple[Subject, Question]]:
    """Other images to fit and judge attacks on, by the figures' ending; where there are enough of a kind."""
    by_ending: dict[str, tuple[Subject, Question]] = {}
    if (near := subject.perturbed) is not None:
        by_ending[PERTURBED] = (
            replace(subject, probe=near.probe, test=near.test),
            replace(
                question,
                probe=question.probe[near.probe_rows],
                test=question.test[near.test_rows],
                probe_cluster=question.probe_cluster[near.probe_rows],
                test_cluster=question.test_cluster[near.test_rows],
            ),
        )
    fit, judged = halves(question, seed)
    by_ending[TRAIN] = (
        replace(subject, probe=_rows(subject.train, fit), test=_rows(subject.train, judged)),
        replace(
            question,
            probe=question.train[fit],
            test=question.train[judged],
            probe_cluster=question.train_cluster[fit],
            test_cluster=question.train_cluster[judged],
        ),
    )
    return {ending: view for ending, view in by_ending.items() if _enough(view[1])}


def too_few(
    subject: Subject, questions: Mapping[str, Question], options: AuditOptions
) -> dict[str, frozenset[str]]:
    """Labels that these attacks cannot decide, by the ending of the figures; empty: of the test split itself.

    They are rare, or too few people of a kind are among the images that are judged.
    """
    few: dict[str, set[str]] = {"": set(), PERTURBED: set(), TRAIN: set()}
    for name, question in questions.items():
        other = {ending: asked for ending, (_, asked) in views(subject, question, options.seed).items()}
        for ending, asked in {"": question, **other}.items():
            if question.rare(options) or asked.thin(options):
                few[ending].add(name)
    return {ending: frozenset(names) for ending, names in few.items()}


def halves(question: Question, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training images to fit on and to judge, no person in both, at most `IMAGES` of each, drawn by a key."""
    names, code = np.unique(question.train_cluster, return_inverse=True)
    first = (uniform(seed, "audit/halves", np.arange(len(names))) < 0.5)[code]
    rank = uniform(seed, "audit/halves/images", np.arange(len(code)))

    def drawn(half: NDArray[np.bool_]) -> NDArray[np.int64]:
        rows = np.flatnonzero(half)
        return np.sort(rows[np.argsort(rank[rows], kind="stable")[:IMAGES]])

    return drawn(first), drawn(~first)


def _rows(outputs: Outputs, index: NDArray[np.int64]) -> Outputs:
    return Outputs(outputs.logits[index], {name: table[index] for name, table in outputs.features.items()})


def _enough(question: Question) -> bool:
    """Whether both sets have the images and people of each kind that an audit needs."""
    pairs = ((question.probe, question.probe_cluster), (question.test, question.test_cluster))
    kinds = [(target == kind, people) for target, people in pairs for kind in (0, 1)]
    return all(
        int(rows.sum()) >= LEAST_OF_A_KIND and len(np.unique(people[rows])) >= PEOPLE
        for rows, people in kinds
    )


def gather_evasion(subjects: Sequence[Subject], context: Context) -> list[dict[str, Readings]]:
    """`read_evasion` of every model, by label.

    Args:
        subjects: The unlearned model, then the retrained ones; perturbed images count where all have them.
        context: The labels, the data and the sizes.
    """
    questions = {name: replace(question, crossed=False) for name, question in context.questions.items()}
    if any(subject.perturbed is None for subject in subjects):
        subjects = [replace(subject, perturbed=None) for subject in subjects]
    memory = context.memory
    jobs: dict[tuple[str, int], Job] = {}
    keys: dict[tuple[str, int], str] = {}
    readings: dict[tuple[str, int], Readings] = {}
    for index, subject in enumerate(subjects):
        for name, question in questions.items():
            pair = name, index
            if memory is not None and index:
                keys[pair] = _key(subject, question, context)
                if (recalled := memory.recall(keys[pair])) is not None:
                    readings[pair] = cast("Readings", recalled)
                    continue
            jobs[pair] = lambda s=subject, q=question: read_evasion(s, q, context)
    for pair, item in run_jobs(jobs, context.log).items():
        readings[pair] = item
        if memory is not None and pair in keys:
            memory.keep(keys[pair], item)
    return [
        {name: _as_asked(readings[name, index], readings[name, 0]) for name in questions}
        for index in range(len(subjects))
    ]


def _as_asked(readings: Readings, unlearned: Readings) -> dict[str, Estimate]:
    """The figures that the unlearned model has: 0 where there was nothing to attack in another model."""
    return {figure: readings.get(figure, item.affine(0.0, 0.0)) for figure, item in unlearned.items()}


def _key(subject: Subject, question: Question, context: Context) -> str:
    """Hash of all that the figures of one model and label depend on."""
    near = subject.perturbed
    outputs = [subject.probe, subject.test, subject.train, *((near.probe, near.test) if near else ())]
    tables = [table for part in outputs for table in part.ends]
    asked = [question.probe, question.test, question.train]
    people = [question.probe_cluster, question.test_cluster, question.train_cluster]
    return key_of(
        "suspicion",
        digest(*tables, *asked, *people),
        (context.options.to_json(), context.hidden, question.column, context.exclusive),
    )


def evasion_rows(subjects: Sequence[Subject], readings: Sequence[Mapping[str, Readings]]) -> list[Metric]:
    """Every figure as a row of ``metrics[]``."""
    return [
        row(figure, name, subject, item)
        for subject, labels in zip(subjects, readings, strict=True)
        for name, found in labels.items()
        for figure, item in found.items()
    ]
