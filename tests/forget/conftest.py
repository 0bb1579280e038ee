"""The methods see every image of these small worlds; `test_retained` is about those that are held back."""

import pytest

from unlabel.forget import retained


@pytest.fixture(autouse=True)
def none_held_back(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.name != "test_retained.py":
        monkeypatch.setattr(retained, "HELD_BACK", 0)
