"""What processes tell before they end: whole messages alone, and the cause before its consequences."""

from pathlib import Path

import pytest

from unlabel.core.engine import raise_told
from unlabel.core.errors import DataError, ProcessLost
from unlabel.core.files import write_text
from unlabel.core.leftovers import beside


def test_a_message_that_was_being_written_when_its_process_ended_tells_nothing(tmp_path: Path) -> None:
    with beside(tmp_path / "1", "tmp") as unfinished:
        unfinished.write_text("")
        raise_told(tmp_path)
    write_text(tmp_path / "0", "ProcessLost\nanother process of this command has ended")
    with pytest.raises(ProcessLost, match="another process"):
        raise_told(tmp_path)


def test_the_cause_is_raised_before_what_it_led_to(tmp_path: Path) -> None:
    write_text(tmp_path / "0", "ProcessLost\nanother process of this command has ended")
    write_text(tmp_path / "1", "DataError\nimage 7 cannot be read")
    with pytest.raises(DataError, match="image 7"):
        raise_told(tmp_path)
