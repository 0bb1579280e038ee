"""Attacks found again: the same audit to the digit, and never with other inputs."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlabel.audit.attacks import evidence
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.request import Request
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.contrast import Contrast


@pytest.fixture
def audit(make_world, quick):
    """Audits a small world; ``change`` may alter the original, P's annotations or the options."""
    world = make_world(0, 400)
    request = Request.make(["Male"], world.test.labels)
    settings = replace(quick, rare=20, trees=5, epochs=3, permutations=2, resamples=10)

    def call(memory: Memory | None, *, before=None, probe=None, options=settings, after=0.2):
        inputs = AuditInputs(
            before or world.subject("before"),
            world.subject("after", after, network=5, absent=["Male"]),
            world.references(2),
            request,
            probe or world.probe,
            world.test,
            world.train,
        )
        found = audit_outputs(inputs, options, memory=memory).to_json()
        del found["seconds"]
        return found

    call.world, call.settings = world, settings
    return call


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is attacked, from now on."""
    seen: Counter[str] = Counter()
    honest = evidence.run_jobs

    def spy(jobs, log):
        seen.update(what for what, _, _ in jobs)
        return honest(jobs, log)

    monkeypatch.setattr(evidence, "run_jobs", spy)
    return seen


def test_an_audit_from_memory_is_the_same_audit(audit, attacks, tmp_path: Path) -> None:
    plain = audit(None)
    first = audit(Memory(tmp_path))
    attacks.clear()
    again = audit(Memory(tmp_path))
    assert first == plain == again
    assert attacks == {"features": 1, "others": 1}  # the unlearned model's
    held = Memory()
    assert audit(held) == audit(held) == plain


def test_only_what_is_shared_is_kept(audit, attacks, tmp_path: Path) -> None:
    audit(Memory(tmp_path))
    kept = 3 * 2 + 2 + 2  # three models, the floor, the permuted labels, the references once more
    assert len(list(tmp_path.iterdir())) == kept
    attacks.clear()
    other = audit(Memory(tmp_path), after=1.0)
    assert attacks == {"features": 1, "others": 1}
    assert other == audit(None, after=1.0)


def test_one_changed_number_and_nothing_of_it_is_reused(audit, attacks, tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    audit(memory)
    attacks.clear()
    features = audit.world.subject("before").test
    table = features.features[PENULTIMATE].copy()
    table[7, 3] = np.nextafter(table[7, 3], np.float32(9))
    touched = replace(audit.world.subject("before"), test=Outputs(features.logits, {PENULTIMATE: table}))
    audit(memory, before=touched)
    assert attacks == {"features": 2, "others": 2, "permuted": 1}
    attacks.clear()
    target = audit.world.probe.target.copy()
    target[0, 0] = 1 - target[0, 0]
    audit(memory, probe=replace(audit.world.probe, target=target))
    assert attacks == {"features": 4, "others": 4, "permuted": 1, "floor": 1}
    attacks.clear()
    audit(memory, options=replace(audit.settings, seed=1))
    assert attacks == {"features": 4, "others": 4, "permuted": 1, "floor": 1}


def test_what_is_kept_comes_back_whole(figure, tmp_path: Path) -> None:
    found = {"probe.adv.lin": figure(0.3), "own.adv": figure(0.1, 0.02)}
    contrasts = {"others.lin": Contrast(0.01, 0.02, 12.5)}
    Memory(tmp_path).keep("a", found)
    Memory(tmp_path).keep("b", contrasts)
    back = Memory(tmp_path).recall("a")
    assert back is not None
    assert list(back) == list(found)
    for name, item in found.items():
        assert (back[name].value, back[name].se, back[name].n) == (item.value, item.se, item.n)
        assert (back[name] - item).se == 0.0
    assert Memory(tmp_path).recall("b") == contrasts
    assert Memory(tmp_path).recall("c") is None
    (tmp_path / "a.safetensors").write_bytes(b"\0" * 40)
    assert Memory(tmp_path).recall("a") is None
