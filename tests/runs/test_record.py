"""What a run's record tells of data that are not as they were."""

from dataclasses import replace
from typing import Any

import pytest

from unlabel.data.dataset import Source
from unlabel.runs.origin import DataRecord, Record
from unlabel.runs.record import changed_since
from unlabel.testing import tiny_world

KNOWN = {"identities": True, "identity_digest": "a"}


def source_with(**facts: Any) -> Source:
    source = tiny_world().source
    return replace(source, facts={**source.facts, **facts})


def record_with(**facts: Any) -> Record:
    source = source_with()
    return Record(total=1, data=DataRecord(source.name, source.facts["digest"], facts))


@pytest.mark.parametrize(
    ("was", "now"), [(KNOWN, {**KNOWN, "identity_digest": "b"}), ({"identities": False}, KNOWN)]
)
def test_other_identities_are_told(was: dict[str, Any], now: dict[str, Any]) -> None:
    told = changed_since(source_with(**now), record_with(**was))
    assert told is not None
    assert told.startswith("The identities in the data, tiny:")


@pytest.mark.parametrize("was", [KNOWN, {"identities": True}, {}], ids=["equal", "older", "oldest"])
def test_equal_identities_and_older_records_are_not_told(was: dict[str, Any]) -> None:
    assert changed_since(source_with(**KNOWN), record_with(**was)) is None


def test_other_data_are_told_whatever_the_identities() -> None:
    told = changed_since(source_with(**KNOWN, digest="another"), record_with(**KNOWN))
    assert told is not None
    assert told.startswith("The data, ")
