"""What the page says of groups and identities: the worst group, its bounds, and no name."""

from collections.abc import Callable
from typing import Any

from unlabel.audit.document.typed import document_of
from unlabel.report.page import render
from unlabel.report.sections.hits import MOST_DRAWN, MOST_SHOWN, hits

Make = Callable[..., dict[str, Any]]


def said(audit: dict[str, Any]) -> dict[str, str]:
    found = hits(document_of(audit))
    assert found is not None
    return dict(found.said)


def test_the_worst_group_is_one_of_those_that_are_worse_beyond_doubt(make_standard: Make):
    audit = make_standard()
    losses = audit["claims"]["C5"]["notes"]["groups"]["losses"]
    first = losses["groups"][0]
    assert first["lower"] > 0
    losses["groups"].insert(0, {**first, "label": "Bald", "excess": 0.5, "lower": -0.07, "upper": 0.9})
    told = said(audit)["Where the retained labels work worse"]
    assert told.startswith("In 3 of 20 groups")
    assert "Bald" not in told
    assert f"{first['excess']:.3f} mean AUC, at least {first['lower']:.3f}" in told


def test_the_worst_group_is_named_with_its_bounds(make_standard: Make):
    sentences = said(make_standard())
    assert sentences["Where Male can be recovered"] == (
        "In 3 of 18 groups more of Male can be recovered than in retrained models. The largest excess is"
        " among images with Young: 0.060 advantage, at least 0.010 and at most 0.110."
    )
    assert sentences["Where the retained labels work worse"].startswith("In 3 of 20 groups the retained")
    assert (
        "changed by 0.020 on average, up or down; in retrained models by 0.010 to 0.012."
        in (sentences["Errors moved"])
    )
    assert (
        "60.0 % is on images with Male; 50 % would be even. In retrained models it is 45.0 % to 55.0 %."
        in (sentences["Where errors went, by Male"])
    )
    assert sentences["Identities"] == (
        "Of 1,200 identities with two images or more, 8.0 % (6.0 % to 10.0 %) have a loss on the retained"
        " labels that rose by more than 0.210 nats. From one retrained model to another, that of one identity"
        " in twenty rises so."
    )


def test_the_bound_of_all_groups_and_what_was_left_out_are_said(make_standard: Make):
    found = hits(document_of(make_standard()))
    assert found is not None
    leak, loss = found.parts
    assert "No group has an excess above 0.110. All bounds hold together" in leak.beside
    assert "No group has a loss above 0.110." in loss.beside
    assert "one exceeds the others by 0.020 in some group." in leak.beside
    assert (
        "1 group is too small and left out; a group needs 100 images with Male and 100 without."
        in leak.beside
    )


def test_a_model_that_harms_no_group_is_not_accused(make_standard: Make):
    audit = make_standard()
    for table in (audit["claims"]["C5"]["notes"]["groups"]["losses"],):
        table["beyond"] = 0
        for group in table["groups"]:
            group |= {"excess": -0.01, "lower": -0.05, "upper": 0.03}
    text = said(audit)["Where the retained labels work worse"]
    assert text == (
        "In none of 20 groups do the data show that the retained labels work worse than in retrained models."
    )


def test_what_was_not_measured_is_said(make_standard: Make):
    audit = make_standard()
    note = audit["claims"]["C5"]["notes"]["groups"]
    note |= {"persons": None, "moved": None, "leaks": {}, "losses": {"tested": 0, "left_out": 20}}
    sentences = said(audit)
    assert sentences["Identities"].startswith(
        "Nothing is said of single identities. That needs at least 100 identities"
    )
    assert sentences["Where the retained labels work worse"].startswith(
        "No group is large enough: it needs 100"
    )
    assert "Errors moved" not in sentences
    assert render(audit)


def test_an_audit_without_the_note_has_no_such_part(make_audit: Make, make_standard: Make):
    assert hits(document_of(make_audit())) is None
    audit = make_standard()
    del audit["claims"]["C5"]["notes"]["groups"]
    assert "Where the retained labels work worse" not in render(audit)


def test_many_groups_stay_in_the_file_and_the_page_says_so(make_standard: Make):
    labels = [f"Label_{at}" for at in range(40)]
    audit = make_standard(labels=labels, forget=labels[:1])
    found = hits(document_of(audit))
    assert found is not None
    for part, groups in zip(found.parts, (78, 80), strict=True):
        assert (len(part.lines), part.hidden, len(part.marks)) == (
            MOST_SHOWN,
            groups - MOST_SHOWN,
            MOST_DRAWN,
        )
    assert "48 groups more are in audit.json." in render(audit)
