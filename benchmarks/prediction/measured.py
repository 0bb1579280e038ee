"""What the audit's own attacks read from every model of a world, kept in a scratch folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from prediction.worlds import SHARES, World
from unlabel.audit.attacks.cross_fit import both, crossed
from unlabel.audit.attacks.explained import Explained, explained
from unlabel.audit.attacks.outputs import OwnOutput, read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.figures import OWN, Readings
from unlabel.audit.inputs.memory import Memory, key_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Context, Question, ask
from unlabel.audit.inputs.sets import Sets, sets_of
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.reading.outputs import read_part
from unlabel.core.engine import Run
from unlabel.core.files import write_json
from unlabel.core.randomness import uniform
from unlabel.core.reading import file_sha256
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import Outputs
from unlabel.runs.files import MODEL
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of

OPTIONS = AuditOptions(probe_seeds=1)
MOST = (3000, 4000)  # images of the probe and of the test split


@dataclass(frozen=True)
class Read:
    """What was read of one world.

    Args:
        world: Which.
        models: Readings of every model, by folder.
        known: What the retained annotations explain of the label.
        rare: Whether the label is rare in the images that are judged.
    """

    world: World
    models: Mapping[Path, Readings]
    known: Explained
    rare: bool

    @property
    def whole(self) -> Readings:
        """Of the original."""
        return self.models[self.world.original]

    @property
    def shorts(self) -> list[ShortPair[Readings]]:
        """Of the short pairs."""
        return [
            ShortPair(share, self.models[original], self.models[retrained])
            for share, (original, retrained) in zip(SHARES, self.world.shorts, strict=True)
        ]

    @property
    def retrained(self) -> list[Readings]:
        """Of the full Retrains."""
        return [self.models[path] for path in self.world.retrained]


def measured(world: World, where: Run, scratch: Path) -> Read:
    """Reads every model of a world, and what its annotations explain; once, into the scratch folder."""
    memory = Memory(scratch / "readings")
    models = {path: _recalled(path, world, where, memory) for path in world.models}
    file = scratch / "explained" / f"{key_of(world.name, file_sha256(world.original / MODEL), MOST)}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        question = asked(world.original, world.label, where)
        known = known_of(world, question, where)
        write_json(file, {**asdict(known), "rare": question.rarer < OPTIONS.rare})
    fields = json.loads(file.read_text("utf-8"))
    rare = fields.pop("rare")
    return Read(world, models, Explained(**fields), rare)


def known_of(world: World, question: Question, where: Run) -> Explained:
    """What the retained annotations explain of a world's label."""
    sets, subject = _sets(world.original, where), read(world.original, world.original, where)
    request = Request.make([world.label], sets.probe.labels)
    questions = {world.label: question}
    context = Context(questions, request, sets.probe, sets.test, sets.train, OPTIONS)
    return explained(subject, question, context)


def _recalled(path: Path, world: World, where: Run, memory: Memory) -> Readings:
    key = key_of("short-pairs", file_sha256(path / MODEL), world.label, OPTIONS.to_json(), MOST)
    if (known := memory.recall(key)) is not None:
        return known  # pyright: ignore[reportReturnType]  (only estimates are kept here)
    where.log.say(f"{world.name}: {path.name}")
    found = attacked(path, world, where)
    memory.keep(key, found)
    return found


def attacked(path: Path, world: World, where: Run) -> Readings:
    """Every attack on outputs and features that C2 judges by, on one model."""
    question = asked(world.original, world.label, where)
    return readings_of(read(path, world.original, where), question)


@lru_cache(maxsize=16)
def read(path: Path, original: Path, where: Run) -> Subject:
    loaded, sets = load_run(path), _sets(original, where)
    probe, test = (read_part(loaded, part, sets, where) for part in ("probe", "test"))
    return Subject(str(path), "before", probe, test, Outputs(probe.logits[:0], {}))


def readings_of(subject: Subject, question: Question) -> Readings:
    """The attacks of C2 on one model, the probes with one seed."""
    hidden = (question.column,)
    return {
        OWN.id: OwnOutput.of(subject, question).signed(question).absolute(),
        **both(lambda s, q: read_others(s, hidden, q, OPTIONS), subject, question),
        **both(lambda s, q: read_features(s.probe, s.test, q, OPTIONS), subject, question),
    }


@lru_cache(maxsize=2)
def _sets(original: Path, where: Run) -> Sets:
    loaded = load_run(original)
    source = source_of(loaded.config, loaded.record, None, skip_bad=False, run=where)
    sets = sets_of(source, OPTIONS.seed)
    few = {"probe": _first(sets.probe, MOST[0]), "test": _first(sets.test, MOST[1])}
    return replace(sets, train=sets.train.take(np.arange(0)), **few)


def _first(data: Dataset, most: int) -> Dataset:
    """At most so many images, drawn by a key."""
    rank = uniform(OPTIONS.seed, "predicted", data.rows)
    return data.take(np.sort(np.argsort(rank, kind="stable")[:most]))


def asked(original: Path, label: str, where: Run) -> Question:
    sets = _sets(original, where)
    question = ask(label, sets.probe, sets.test, sets.train)
    return crossed({label: question}, OPTIONS)[label]
