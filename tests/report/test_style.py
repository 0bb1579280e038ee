"""The style sheet's colours: every text on every ground that it stands on, light and dark."""

import re
from pathlib import Path

import pytest

import unlabel.report

STYLE = (Path(unlabel.report.__file__).parent / "templates" / "style.css").read_text("utf-8")
BLOCKS = re.findall(r":root\{([^}]*--paper[^}]*--ink[^}]*)\}", STYLE)
LEAST = 4.5  # WCAG 2.2, 1.4.3, text of ordinary size
MARKS = 3.0  # 1.4.11, what a picture needs to be understood
TEXTS = {
    "paper": ["ink", "soft", "pass", "fail", "open", "none", "mark"],
    "card": ["ink", "soft", "pass", "fail", "open", "none", "mark"],
    **{f"{kind}-wash": [kind, "ink"] for kind in ("pass", "fail", "open", "none")},
}


def colours(scheme: int) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"--([a-z-]+):#([0-9a-f]{3,6})", BLOCKS[scheme])
    full = {name: text if len(text) == 6 else "".join(c * 2 for c in text) for name, text in found}
    return {name: tuple(int(text[at : at + 2], 16) for at in (0, 2, 4)) for name, text in full.items()}


def contrast(one: tuple[int, ...], two: tuple[int, ...]) -> float:
    def light(colour: tuple[int, ...]) -> float:
        parts = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05

    return max(light(one), light(two)) / min(light(one), light(two))


def test_contrast_is_the_known_one():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(scheme: int):
    known = colours(scheme)
    faint = {
        (ground, text): round(contrast(known[ground], known[text]), 2)
        for ground, texts in TEXTS.items()
        for text in texts
        if contrast(known[ground], known[text]) < LEAST
    }
    assert not faint


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_mark_stands_out_from_its_ground(scheme: int):
    known = colours(scheme)
    for mark in ("mark", "kept", "target"):
        for ground in ("card", "pass-wash"):
            assert contrast(known[mark], known[ground]) >= MARKS, (mark, ground)
