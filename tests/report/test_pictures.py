"""Example images on the page: which, how small, and what the page says of them."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unlabel.report.page import render
from unlabel.report.pictures import LONGEST, SIDE, STRIPS, Example, Gallery, Picture, address, pick, room


def decoded(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("side", [16, 28, 64, 96, 512])
def test_every_image_is_small_whatever_it_shows(side: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    uri = address(noise)
    assert len(uri) <= LONGEST
    assert decoded(uri).shape == (min(side, SIDE),) * 2 + (3,)
    assert address(noise) == uri


def test_an_image_looks_like_itself() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90)], 2)
    pixels = pixels.astype(np.uint8)
    # JPEG at quality 85 is off by a few of 255 levels on a smooth picture
    assert np.abs(decoded(address(pixels)).astype(int) - pixels).mean() < 4


def test_strips_hold_the_extremes_of_both_kinds() -> None:
    rng = np.random.default_rng(0)
    before, after, present = rng.random(200), rng.random(200), rng.random(200) < 0.3
    found = pick(before, after, present, np.arange(200), 3, seed=0)
    assert list(found) == list(STRIPS)
    for strip, chosen in found.items():
        assert present[chosen].tolist() == [True] * 3 + [False] * 3, strip
    for kind in (True, False):
        of_kind = np.flatnonzero(present == kind)
        lost = [at for at in found["lost"] if present[at] == kind]
        assert set(lost) == set(of_kind[np.argsort((after - before)[of_kind])[:3]])
        kept = [at for at in found["kept"] if present[at] == kind]
        assert set(kept) == set(of_kind[np.argsort(after[of_kind])[-3:]])
    other = pick(1 - before, rng.random(200), present, np.arange(200), 3, seed=0)
    assert other["lot"] == found["lot"]
    assert pick(before, after, present, np.arange(200), 3, seed=1)["lot"] != found["lot"]


def test_a_person_is_in_a_strip_once_and_few_people_make_a_short_strip() -> None:
    before, after = np.full(12, 0.9), np.linspace(0.1, 0.8, 12)
    cluster = np.repeat([1, 2, 3], 4)
    found = pick(before, after, np.arange(12) % 2 == 0, cluster, 3, seed=0)
    for chosen in found.values():
        assert len(chosen) == len(set(cluster[chosen].tolist())) == 3


def test_the_page_says_that_it_holds_photographs(make_audit, make_gallery) -> None:
    text = render(make_audit(), gallery=make_gallery())
    assert "This page holds 18 photographs, which may show people." in text
    assert "perceived labels" in text
    assert "holds no photograph" not in text
    assert text.count("<img ") == make_gallery().count == 18
    assert "0.98 → 0.51" in text
    assert "0.42 sure where it is present, 0.58 where it is absent" in text
    assert text == render(make_audit(), gallery=make_gallery())


def test_terms_of_the_data_are_told_where_they_are_known(make_audit, make_gallery) -> None:
    audit = make_audit()
    audit["data"]["terms"] = "research <only>"
    assert "its terms (research &lt;only&gt;)," in render(audit, gallery=make_gallery())


def test_names_of_images_are_escaped(make_audit, make_gallery) -> None:
    text = render(make_audit(), gallery=make_gallery(name='"><script>alert(1)</script>.jpg'))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg, annotated with Male" in text


def test_images_come_from_the_page_itself(make_audit, make_gallery) -> None:
    text = render(make_audit(), gallery=make_gallery())
    assert set(re.findall(r'src="([^"]{23})', text)) == {"data:image/jpeg;base64,"}
    assert not re.search(r"url\(|srcset|https?://", text)


def test_drawings_are_not_called_photographs(make_audit, make_gallery) -> None:
    text = render(make_audit(), gallery=replace(make_gallery(drawn=True), left_out=["Bald"]))
    assert "photographs" not in text
    assert "no photograph, only drawn or handwritten examples" in text
    assert "Without examples, to keep the page small: Bald." in text


@pytest.mark.parametrize("forgotten", [1, 3, 7])
def test_a_page_with_images_stays_small(make_standard, forgotten: int) -> None:
    """Up to seven labels of ten under the standard budget, and every image as long as it may be."""
    labels = make_standard()["models"]["after"]["labels"]
    most, each = room(forgotten)
    long = Picture("train_000004.jpg", True, 0.5, 0.5, "data:image/jpeg;base64," + "A" * (LONGEST - 23))
    examples = [
        Example(label, dict.fromkeys(STRIPS, [long] * 2 * each), 5000, 0.5) for label in labels[:most]
    ]
    shown = Gallery("folder:/p", False, examples, labels[most:forgotten])
    text = render(make_standard(forget=labels[:forgotten]), gallery=shown)
    assert text.count("<img ") == 2 * each * most * len(STRIPS)
    assert len(text.encode()) < 480_000
