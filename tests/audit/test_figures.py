"""The registry of figures: one entry is all that terminal, page, card and documentation need of a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit import figures
from unlabel.audit.attacks import evidence
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.transforms import TRANSFORMS as DONE
from unlabel.audit.figures import FEATURES, FIGURES, Figure, find
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.core.request import Request
from unlabel.report.card import card
from unlabel.report.page import render
from unlabel.report.terminal import lines
from unlabel.statistics.estimate import Estimate

DOCS = Path(__file__).parents[2] / "docs" / "figures.md"
DUMMY = Figure(
    "dummy.adv", "adv", "Features, dummy", "Advantage of an attack that was made up.",
    range=(-1.0, 1.0), layer="penultimate", group=FEATURES, how="a made-up attack",
    terminal="the features, made up",
)  # fmt: skip


def test_a_new_figure_is_an_attack_and_an_entry(world, quick, monkeypatch) -> None:
    def attacked(*given: Any) -> Mapping[str, Estimate]:
        found = read_features(*given)
        return {**found, DUMMY.id: found["probe.adv.lin"]}

    request = Request.make(["Male"], world.probe.labels)
    models = [world.subject("before"), world.subject("after", 0.1, absent=["Male"])]

    def shown() -> list[str]:
        found = audit_outputs(AuditInputs(*models, world.references(1), request, *world.splits), quick)
        audit = found.to_json()
        return ["\n".join(lines(found)), render(audit), card(audit), "\n".join(figures.documentation())]

    before = shown()
    monkeypatch.setattr(evidence, "read_features", attacked)
    monkeypatch.setattr(figures, "FIGURES", (*FIGURES, DUMMY))
    terminal, page, text, docs = shown()
    assert DUMMY.terminal in terminal
    assert all(part in page for part in (DUMMY.name, DUMMY.how, DUMMY.definition))
    assert DUMMY.name in text
    assert f"| `{DUMMY.id}` | {DUMMY.definition} | adv | -1 to 1 | penultimate | quick | - |" in docs
    for words in (DUMMY.terminal, DUMMY.name, DUMMY.definition):
        assert not any(words in view for view in before)


def test_an_attack_whose_figure_has_no_entry_is_refused() -> None:
    with pytest.raises(KeyError, match="no figure 'dummy"):
        figures.figure(DUMMY.id)


def test_the_table_of_the_documentation_is_current() -> None:
    assert DOCS.read_text("utf-8") == "\n".join(figures.documentation()) + "\n"


def test_every_id_stands_once_and_words_fit_their_columns() -> None:
    ids = [item.id for item in FIGURES]
    assert len(set(ids)) == len(ids)
    for item in FIGURES:
        assert len(item.terminal) <= 29, item.id
        assert len(item.short) <= 11, item.id
        assert item.definition.endswith("."), item.id
        assert item.role == "described" or item.in_words or not {"C2", "C3", "C5", "C6"} & {*item.claims}
        assert item.role == "described" or set(item.claims) <= set(figures.CLAIMS)


def test_a_figure_after_a_transform_is_the_same_figure() -> None:
    for item in (figures.OWN, figures.LINEAR_BITS):
        again = find(figures.RECOVERED.of(item.id))
        assert again is not None
        assert (again.unit, again.range, again.layer, again.name) == (
            item.unit, item.range, item.layer, item.name,
        )  # fmt: skip
        assert (again.claims, again.budget, again.kind) == (("C4",), "standard", "recover.")


def test_every_transform_is_done_and_has_words() -> None:
    assert list(DONE) == list(figures.TRANSFORMS)
    assert figures.transform("later").name == "later"
