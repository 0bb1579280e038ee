"""The page on the paper's theorems: every number on it is computed anew."""

import doctest
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "theorems.md"


def test_every_number_of_the_page_is_what_is_computed() -> None:
    """About two seconds: a million draws, and 200 selections."""
    text = PAGE.read_text("utf-8")
    # a fence ends an example as a blank line does
    parsed = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    found = doctest.DocTestRunner().run(parsed, out=said.append)
    assert found.failed == 0, "".join(said)
    assert found.attempted > 40


def test_every_theorem_and_corollary_has_its_section() -> None:
    text = PAGE.read_text("utf-8")
    for number in range(1, 7):
        assert re.search(rf"^## Theorem {number}\b", text, re.MULTILINE)
    assert re.search(r"^### Corollaries 1 and 2$", text, re.MULTILINE)
    assert "Corollary 3" in text
    assert text.count("*Claim: ") == 7
    assert text.count("*Measured instead*") == 7


def test_every_block_of_the_page_is_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) > 15
    assert all(block.startswith(">>> ") and block.endswith("\n\n") for block in blocks)
