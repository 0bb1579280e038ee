"""Example images from runs and data: only on request, never in a run's folder, and of the audited images."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.core.errors import DataError, MissingFiles, ModelError, OptionError, UnlabelError
from unlabel.data import load
from unlabel.forget.run import forget_run
from unlabel.report.examples import gallery, write_gallery
from unlabel.report.page import write_report
from unlabel.report.pictures import STRIPS, address

SMALL = AuditOptions(probe_seeds=1, epochs=5, trees=10, permutations=5, resamples=50)

SEAL = re.compile(r", text [0-9a-f]{64} -->")  # what the page says of its own bytes


@pytest.fixture(scope="session")
def less(base: Path) -> Path:
    """`base` after it forgot top, audited; beside it, and only to be read."""
    out, run = base.parent / "less-with-audit", engine.start(accelerator="cpu")
    forget_run("head-removal", base, ["top"], out, run)
    audit_run(out, base, [], run, options=SMALL)
    return out


@pytest.fixture
def here(base: Path, less: Path, tmp_path: Path) -> Path:
    """A copy of the audited run that a test may change, its original beside it."""
    shutil.copytree(base, tmp_path / "base")
    return Path(shutil.copytree(less, tmp_path / "less"))


@pytest.fixture
def where() -> engine.Run:
    """This process."""
    return engine.start(accelerator="cpu")


def test_no_byte_of_a_photo_is_on_the_page_without_the_flag(here: Path, photos: Path, where) -> None:
    test = load(f"folder:{photos}", image_size=16).test
    every = {str(name): address(test.images(slice(at, at + 1))[0]) for at, name in enumerate(test.ids)}
    plain = write_report(here).read_text("utf-8")
    assert set(re.findall(r'="(data:[^"]*)"', plain)) == {"data:,"}  # the icon: nothing
    assert "<img" not in plain
    assert not [name for name, uri in every.items() if uri in plain or name in plain]
    asked = write_gallery(here, where).read_text("utf-8")
    assert len([name for name, uri in every.items() if uri in asked and name in asked]) >= 6


def test_examples_are_of_test_images_and_come_out_alike(here: Path, photos: Path, where) -> None:
    found = gallery(here, where)
    test = load(f"folder:{photos}", image_size=16).test
    place = {str(name): at for at, name in enumerate(test.ids)}
    [example] = found.examples
    assert example.label == "top"
    assert list(example.strips) == list(STRIPS)
    assert example.n == len(test)
    for picture in (item for strip in example.strips.values() for item in strip):
        at = place[picture.name]
        assert picture.present == (test.target[at, 0] == 1)
        assert picture.uri == address(test.images(slice(at, at + 1))[0])
        assert 0 <= picture.before <= 1
    assert gallery(here, where) == found


def test_an_attacker_is_sure_of_what_the_features_show(here: Path, where) -> None:
    """Head removal leaves the features alone: what the attacker could tell before, it tells after."""
    [example] = gallery(here, where).examples
    for picture in (item for strip in example.strips.values() for item in strip):
        assert picture.before == pytest.approx(picture.after, abs=1e-6)
    assert np.mean([item.after for item in example.strips["kept"]]) > 0.5


def test_the_page_lies_beside_the_run_and_replaces_nothing_unasked(command, here: Path) -> None:
    beside = here.with_name("less-with-images.html")
    write_report(here)
    before = sorted(path.name for path in here.iterdir())
    ran = command("report", here, "--with-images")
    assert (ran.code, ran.last) == (0, str(beside))
    assert f"unlabel report {here} --with-images" in beside.read_text("utf-8")
    assert sorted(path.name for path in here.iterdir()) == before
    again = command("report", here, "--with-images")
    assert again.code == 2
    assert "--force" in again.err
    first = beside.read_text("utf-8")
    assert command("report", here, "--with-images", "--force").code == 0
    forced = beside.read_text("utf-8").replace(" --with-images --force\n", " --with-images\n")
    assert SEAL.sub("", forced) == SEAL.sub("", first)


@pytest.mark.parametrize("place", ["report.html", "deep/page.html"])
def test_photographs_never_go_into_the_run(here: Path, where, place: str) -> None:
    with pytest.raises(OptionError, match="signed and given away"):
        write_gallery(here, where, here / place, force=True)


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--data", "faces"], "--with-images"),
        (["--with-images", "--license", "mit"], "--license"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(command, here: Path, flags: list[str], what: str) -> None:
    ran = command("report", here, *flags)
    assert ran.code == 2
    assert what in ran.err
    assert not list(here.glob("*.html"))


def test_an_original_that_is_gone_or_changed_is_named(here: Path, where) -> None:
    audit = json.loads((here / "audit.json").read_text("utf-8"))
    audit["models"]["before"]["run"] = "elsewhere/gone"
    (here / "audit.json").write_text(json.dumps(audit), "utf-8")
    with pytest.raises(
        ModelError, match=r"elsewhere/gone, which the audit compared with, is not there; put it"
    ):
        gallery(here, where)
    audit["models"]["before"] |= {"run": str(here.with_name("base")), "sha256": "0" * 64}
    (here / "audit.json").write_text(json.dumps(audit), "utf-8")
    with pytest.raises(ModelError, match="has other weights now"):
        gallery(here, where)


def test_a_run_that_has_changed_since_its_audit_is_refused(here: Path, where) -> None:
    audit = json.loads((here / "audit.json").read_text("utf-8"))
    audit["models"]["after"]["sha256"] = "0" * 64
    (here / "audit.json").write_text(json.dumps(audit), "utf-8")
    with pytest.raises(ModelError, match="other weights than were audited; run again: unlabel audit"):
        gallery(here, where)


@pytest.mark.parametrize(
    "value", [None, 0, -1, 10**30, [], {}, [1], "", "<script>", "\ud800", True, {"run": 1}]
)
@pytest.mark.parametrize(
    "spot",
    [
        *("models", "models.before", "models.before.run", "models.before.sha256", "models.after.sha256"),
        *("data", "data.source", "data.digest", "options", "options.seed"),
    ],
)
def test_an_audit_from_anyone_is_refused_in_one_line(here: Path, where, spot: str, value: Any) -> None:
    audit = json.loads((here / "audit.json").read_text("utf-8"))
    *outer, last = spot.split(".")
    inner = audit
    for name in outer:
        inner = inner[name]
    inner[last] = value
    (here / "audit.json").write_text(json.dumps(audit), "utf-8")
    if (spot, value) in (("options.seed", 0), ("data.source", "")):  # an audit may hold these
        assert gallery(here, where).count > 0
        return
    with pytest.raises(UnlabelError) as caught:
        gallery(here, where)
    assert "\n" not in str(caught.value)


def test_data_that_is_gone_is_named_with_the_flag_that_helps(here: Path, photos: Path, where) -> None:
    audit = json.loads((here / "audit.json").read_text("utf-8"))
    audit["data"]["source"] = "folder:nowhere"
    (here / "audit.json").write_text(json.dumps(audit), "utf-8")
    with pytest.raises(MissingFiles, match=r"nowhere.*--data"):
        gallery(here, where)
    assert gallery(here, where, data=f"folder:{photos}").count > 0


def test_other_images_than_the_audits_are_refused(here: Path, photos: Path, tmp_path: Path, where) -> None:
    other = Path(shutil.copytree(photos, tmp_path / "other"))
    table = other / "attributes.csv"
    rows = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([rows[0], rows[1][:-1] + "-1", *rows[2:]]) + "\n", "utf-8")
    with pytest.raises(DataError, match="other images or annotations than the audit read"):
        gallery(here, where, data=f"folder:{other}")
