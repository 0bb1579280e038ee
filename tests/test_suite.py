"""What the test suite promises of itself."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_examples_may_take_as_long_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that is ten seconds later whenever it is read, hypothesis finds no fault."""
    ticks = itertools.count(0.0, 10.0)
    seen = []
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    given(st.text())(lambda text: seen.append(text))()
    assert len(seen) == 100
    assert next(ticks) > 1000.0  # the clock was read
