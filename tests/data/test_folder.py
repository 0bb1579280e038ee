import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles
from unlabel.core.progress import Silent
from unlabel.data import load
from unlabel.data.dataset import Dataset, Source
from unlabel.data.options import ReadOptions
from unlabel.data.readers.folder import load_folder

IDS = [f"{n:02}.png" for n in range(40)]
FAIRFACE = Path(__file__).parents[3] / "shared" / "data" / "fairface.zip"


class Saying(Silent):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def read(root: Path, **options) -> Source:
    return load_folder(str(root), ReadOptions(image_size=16, workers=0, **options))


def splits(source: Source) -> dict[str, Dataset]:
    return {"train": source.train, "probe": source.probe, "test": source.test}


def table(values: list[list[str]], header: list[str] | None = None) -> list[list[str]]:
    """A small attributes table over the first ids."""
    header = header or ["image_id", "Male"]
    return [header, *([name, *row] for name, row in zip(IDS, values, strict=False))]


def meta_of(*columns: str, **values: str) -> list[list[str]]:
    return [
        ["image_id", *columns],
        *([name] + [values.get(column, "") for column in columns] for name in IDS),
    ]


# -- what is read


def test_targets_follow_the_table(make_folder) -> None:
    values = [["1", "0", "-1"], ["0", "", "1"], ["1", "0", "0"], ["0", "", "1"]] * 10
    source = read(make_folder(attributes=table(values, ["image_id", "Male", "Young", "Hat"])))
    assert source.labels == ("Male", "Young", "Hat")
    for part in splits(source).values():
        assert part.target.dtype == np.int8
        for image_id, row in zip(part.ids, part.target, strict=True):
            hat = -1 if int(image_id[:2]) % 4 == 0 else 0
            assert row.tolist() == ([0, -1, 1] if int(image_id[:2]) % 2 else [1, 0, hat])


def test_pixels_belong_to_their_ids(make_folder) -> None:
    source = read(make_folder())
    for part in splits(source).values():
        for at, image_id in enumerate(part.ids):
            colour = np.random.default_rng(int(image_id[:2])).integers(0, 256, 3, np.uint8)
            assert part.images(np.array([at]))[0, 8, 8].tolist() == colour.tolist()


def test_splits_share_the_pixels_and_no_image(make_folder) -> None:
    source = read(make_folder())
    rows = np.concatenate([part.rows for part in splits(source).values()])
    assert sorted(rows.tolist()) == list(range(40))
    assert all(part.pixels is source.train.pixels for part in splits(source).values())
    assert source.facts["counts"] == {name: len(part) for name, part in splits(source).items()}


def test_row_order_and_place_change_nothing(make_folder) -> None:
    ids = [f"{n:03}.png" for n in range(120)]
    attributes = [[name, str(n % 2), str(n // 2 % 2)] for n, name in enumerate(ids)]
    meta = [[name, f"person {n // 2}"] for n, name in enumerate(ids)]
    found = [
        read(
            make_folder(
                ids=ids,
                name=name,
                attributes=[["image_id", "Smiling", "Male"], *attributes[::step]],
                meta=[["image_id", "identity"], *meta[::step]],
            )
        )
        for name, step in (("here", 1), ("elsewhere", -1))
    ]
    assert found[0].facts == found[1].facts
    for one, two in zip(splits(found[0]).values(), splits(found[1]).values(), strict=True):
        assert one.ids.tolist() == two.ids.tolist()
        assert one.cluster.tolist() == two.cluster.tolist()
        assert (one.target == two.target).all()


def test_facts_are_plain_json(make_folder) -> None:
    facts = read(make_folder()).facts
    assert json.loads(json.dumps(facts)) == facts


def test_the_digest_tells_contents_apart(make_folder) -> None:
    digests = {read(make_folder()).facts["digest"]}
    changed = [[str((n % 3 == 0 and 1) or 0), "1"] for n in range(40)]
    header = ["image_id", "Smiling", "Male"]
    digests.add(read(make_folder(name="b", attributes=table(changed, header))).facts["digest"])
    digests.add(read(make_folder(name="c", ids=IDS[:39])).facts["digest"])
    split = [[name, ("train", "val", "test")[n % 3]] for n, name in enumerate(IDS)]
    digests.add(read(make_folder(name="d", meta=[["image_id", "split"], *split])).facts["digest"])
    assert len(digests) == 4
    assert read(make_folder(name="e")).facts["digest"] in digests


def test_only_the_wanted_columns_are_read(make_folder) -> None:
    values = [[str(n % 2), "34 years", str(n % 3 // 2)] for n in range(40)]
    root = make_folder(attributes=table(values, ["image_id", "Male", "age", "Hat"]))
    source = read(root, labels=["Hat", "Male"])
    assert source.labels == ("Hat", "Male")
    with pytest.raises(DataError, match="column 'age': found '34 years'"):
        read(root)


def test_odd_names_pass_through(make_folder) -> None:
    ids = ["Łódź/a b.png", "<b>&'\".png", "日本/写真.png", "a,b.png", "{x} %s.png", "it's.png", *IDS]
    header = ["image_id", "<script>", "Größe, cm", "笑顔"]
    rows = [[name, "1", str(n % 2), "0"] for n, name in enumerate(ids)]
    source = read(make_folder(ids=ids, attributes=[header, *rows]))
    assert source.labels == ("<script>", "Größe, cm", "笑顔")
    assert sorted(name for part in splits(source).values() for name in part.ids) == sorted(ids)


def test_a_byte_order_mark_blank_lines_and_spaces_are_harmless(make_folder) -> None:
    root = make_folder()
    lines = ["image_id, Male", *(f"{name}, {n % 2}" for n, name in enumerate(IDS)), "", ""]
    (root / "attributes.csv").write_text("\r\n".join(lines), "utf-8-sig", newline="")
    assert read(root).labels == ("Male",)


def test_an_image_folder_may_be_a_link(make_folder, tmp_path: Path) -> None:
    root = make_folder()
    digest = read(root).facts["digest"]
    (root / "images").rename(tmp_path / "disk")
    (root / "images").symlink_to(tmp_path / "disk")
    assert read(root).facts["digest"] == digest


def test_files_without_a_row_are_counted_and_ignored(make_folder) -> None:
    log = Saying()
    source = read(make_folder(extra={"Thumbs.db": b"x", "spare.jpg": b"y"}), log=log)
    assert source.facts["ignored_files"] == 2
    assert source.facts["images"] == 40
    assert log.lines == ["warning: 2 files in images/ have no row in attributes.csv: ignored"]


# -- splits and identities


def test_without_meta_every_image_is_its_own_cluster(make_folder) -> None:
    source = read(make_folder())
    facts = source.facts
    assert facts["identities"] is False
    assert facts["clusters"] == 40
    assert "No identities are known" in facts["identity_note"]
    assert facts["split_rule"].startswith("no split column: 65 % train")


def test_given_splits_are_used_and_other_columns_ignored(make_folder) -> None:
    given = [("train", "val", "test")[n % 3] for n in range(40)]
    meta = [
        ["split", "age", "image_id"],
        *([split, "old", name] for split, name in zip(given, IDS, strict=True)),
    ]
    source = read(make_folder(meta=meta))
    for name, part in zip(("train", "val", "test"), splits(source).values(), strict=True):
        assert {given[int(image_id[:2])] for image_id in part.ids} == {name}


def test_identities_cluster_and_stay_together(make_folder) -> None:
    ids = [f"{n:03}.png" for n in range(120)]
    meta = [["image_id", "identity"], *([name, f"person {n // 2}"] for n, name in enumerate(ids))]
    source = read(make_folder(ids=ids, meta=meta))
    assert source.facts["clusters"] == 60
    assert source.facts["identity_overlap"] == 0
    assert source.facts["identity_note"] == "No identity is in two splits."
    clusters = [set(part.cluster.tolist()) for part in splits(source).values()]
    assert sum(map(len, clusters)) == len(set.union(*clusters)) == 60


def test_an_identity_in_two_given_splits_is_told(make_folder) -> None:
    meta = [["image_id", "split", "identity"]]
    meta += [[name, ("train", "val", "test")[n % 3], f"p{n}"] for n, name in enumerate(IDS)]
    meta[1][2] = meta[2][2] = "both"
    log = Saying()
    facts = read(make_folder(meta=meta), log=log).facts
    assert facts["identity_overlap"] == 1
    assert (
        "1 identity has images in more than one split: an audit of these data is INVALID"
        in (facts["identity_note"])
    )
    assert log.lines == [f"warning: {facts['identity_note']}"]


def test_images_of_unknown_identity_are_their_own_cluster(make_folder) -> None:
    meta = [
        ["image_id", "identity"],
        *([name, "" if n < 10 else f"p{n // 2}"] for n, name in enumerate(IDS[:38])),
    ]
    facts = read(make_folder(meta=meta)).facts
    assert facts["clusters"] == 10 + 14 + 2
    assert facts["identity_note"] == "12 images have no identity: each counts as one of its own."


def test_meta_rows_without_an_image_are_counted_and_ignored(make_folder) -> None:
    meta = [*meta_of("identity", identity=""), ["gone.jpg", "ann"]]
    assert read(make_folder(meta=meta)).facts["ignored_meta_rows"] == 1


def test_too_few_images_for_three_splits_are_refused(make_folder) -> None:
    with pytest.raises(DataError, match=r"split has [01] of 4 images, by no split column.*at least 2"):
        read(make_folder(ids=IDS[:4]))


# -- bad images


def test_bad_images_are_named_counted_and_refused(make_folder) -> None:
    root = make_folder()
    (root / "images" / "03.png").write_bytes(b"hello")
    (root / "images" / "07.png").write_bytes(b"")
    said = "2 of 40 images cannot be read ('03.png': not an image, '07.png': empty file); mend them, or"
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(root)
    assert "--skip-bad" in str(caught.value)


def test_skipping_bad_images_equals_deleting_them(make_folder) -> None:
    root = make_folder()
    for name in ("03.png", "07.png"):
        (root / "images" / name).write_bytes(b"hello")
    log = Saying()
    skipped = read(root, skip_bad=True, log=log)
    assert skipped.facts["skipped_bad"] == ["03.png", "07.png"]
    assert log.lines == ["warning: 2 images cannot be read: left out ('03.png', '07.png')"]
    rows = [
        [name, str(n % 2), str(n // 2 % 2)] for n, name in enumerate(IDS) if name not in ("03.png", "07.png")
    ]
    without = make_folder(name="without", attributes=[["image_id", "Smiling", "Male"], *rows])
    assert skipped.facts["digest"] == read(without).facts["digest"]
    assert not set(skipped.train.ids) & {"03.png", "07.png"}


def test_names_of_many_bad_images_are_capped(make_folder) -> None:
    ids = [f"{n:03}.png" for n in range(120)]
    root = make_folder(ids=ids)
    for name in ids[:30]:
        (root / "images" / name).write_bytes(b"hello")
    facts = read(root, skip_bad=True).facts
    assert facts["skipped_bad_count"] == 30
    assert facts["skipped_bad"] == ids[:20]
    with pytest.raises(DataError, match=r"30 of 120 images cannot be read .* and 27 more"):
        read(root)


# -- folders and files that are missing


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match=re.escape(f"{tmp_path / 'nowhere'} does not exist")):
        read(tmp_path / "nowhere")


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(MissingFiles, match=re.escape("photos.zip is not a folder; unpack it first")):
        read(tmp_path / "photos.zip")


def test_a_missing_table_is_named(make_folder) -> None:
    root = make_folder()
    (root / "attributes.csv").unlink()
    with pytest.raises(MissingFiles, match=re.escape(f"no attributes.csv in {root}")):
        read(root)


def test_a_folder_one_level_up_is_pointed_down(make_folder) -> None:
    root = make_folder()
    with pytest.raises(MissingFiles, match=re.escape(f"one level down: folder:{root}")):
        read(root.parent)


def test_missing_images_folder_is_named(make_folder) -> None:
    root = make_folder()
    shutil.rmtree(root / "images")
    with pytest.raises(MissingFiles, match=re.escape(f"no images in {root}")):
        read(root)


def test_rows_without_a_file_are_named_and_counted(make_folder) -> None:
    root = make_folder()
    for name in IDS[:5]:
        (root / "images" / name).unlink()
    said = r"5 of 40 rows of attributes.csv have no file in .*: '00.png', '01.png', '02.png' and 2 more"
    with pytest.raises(MissingFiles, match=said):
        read(root)


def test_a_name_of_other_letter_case_is_found_if_one_file_fits(make_folder) -> None:
    rows = [[name.upper(), str(n % 2)] for n, name in enumerate(IDS)]
    root = make_folder(attributes=[["image_id", "Male"], *rows])
    assert sorted(name for part in splits(read(root)).values() for name in part.ids) == IDS
    (root / "images" / "00.Png").write_bytes((root / "images" / "00.png").read_bytes())
    with pytest.raises(DataError, match=r"'00.PNG' fits '00.Png' and '00.png'; write the whole name"):
        read(root)


def test_a_name_without_its_ending_is_completed(make_folder) -> None:
    rows = [[name[:2], str(n % 2)] for n, name in enumerate(IDS)]
    root = make_folder(attributes=[["image_id", "Male"], *rows])
    source = read(root)
    assert sorted(name for part in splits(source).values() for name in part.ids) == IDS
    (root / "images" / "00.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"'00' fits '00.jpg' and '00.png'; write the whole name"):
        read(root)


@pytest.mark.parametrize("bare", ["attributes", "meta"])
def test_splits_and_people_are_found_though_one_table_leaves_the_endings_out(make_folder, bare) -> None:
    given = [("train", "val", "test")[n % 3] for n in range(40)]
    short = [name.removesuffix(".png") for name in IDS]
    here, there = (short, IDS) if bare == "attributes" else (IDS, short)
    rows = [[name, str(n // 3 % 2)] for n, name in enumerate(here)]
    meta = [[name, split, f"p{n}"] for n, (name, split) in enumerate(zip(there, given, strict=True))]
    root = make_folder(
        attributes=[["image_id", "Male"], *rows], meta=[["image_id", "split", "identity"], *meta]
    )
    source = read(root)
    assert source.facts["ignored_meta_rows"] == 0
    for name, part in zip(("train", "val", "test"), splits(source).values(), strict=True):
        assert {given[int(image_id[:2])] for image_id in part.ids} == {name}


def test_a_meta_row_that_may_be_two_images_is_refused(make_folder) -> None:
    ids = [*IDS, "00.jpg"]
    meta = [["image_id", "identity"], *([name.removesuffix(".png"), "ann"] for name in IDS)]
    with pytest.raises(DataError, match=r"names '00', which may be '00.png' or '00.jpg'; write the whole"):
        read(make_folder(ids=ids, meta=meta))


def test_two_meta_rows_that_may_be_one_image_are_refused(make_folder) -> None:
    ids = [name.removesuffix(".png") for name in IDS]
    rows = [[name, str(n % 2)] for n, name in enumerate(ids)]
    meta = [["image_id", "identity"], *([name, "ann"] for name in [*IDS, "00.jpg"])]
    root = make_folder(attributes=[["image_id", "Male"], *rows], meta=meta)
    with pytest.raises(DataError, match=r"has several rows that may be '00.*keep one"):
        read(root)


def test_a_meta_table_of_a_header_alone_says_nothing(make_folder) -> None:
    facts = read(make_folder(meta=[["image_id", "split", "identity"]])).facts
    assert not facts["identities"]
    assert facts["ignored_meta_rows"] == 0


def test_a_meta_table_with_neither_split_nor_identity_is_told(make_folder) -> None:
    log = Saying()
    meta = [["image_id", "age", "person"], *([name, "30", f"p{n}"] for n, name in enumerate(IDS))]
    facts = read(make_folder(meta=meta), log=log).facts
    assert facts["ignored_meta_columns"] == ["age", "person"]
    (line,) = [line for line in log.lines if "meta.csv" in line]
    said = "has neither 'split' nor 'identity': ignored (its columns are 'age', 'person')"
    assert line.endswith(f"{said}; if 'person' says whose each image is, name it 'identity'")


@pytest.mark.parametrize("name", ["person", "Subject", "person_id", "identity_id"])
def test_identities_under_another_name_are_told(make_folder, name: str) -> None:
    given = [("train", "val", "test")[n % 3] for n in range(40)]
    meta = [
        ["image_id", "split", "age", name],
        *([n, split, "30", "p"] for n, split in zip(IDS, given, strict=True)),
    ]
    log = Saying()
    facts = read(make_folder(meta=meta), log=log).facts
    assert facts["ignored_meta_columns"] == ["age", name]
    advice = f"if {name!r} says whose each image is, name it 'identity'"
    said = f"warning: meta.csv: not read: 'age', {name!r}; {advice}"
    assert said in log.lines


def test_other_columns_of_a_meta_table_are_told_without_advice(make_folder) -> None:
    log = Saying()
    read(make_folder(meta=meta_of("identity", "camera", "person", identity="")), log=log)
    assert "warning: meta.csv: not read: 'camera', 'person'" in log.lines


def test_meta_reads_splits_and_names_of_columns_as_attributes_does(make_folder) -> None:
    words = ["Train", "validation", "TEST", "train", "valid", "Test", "TRAIN", "dev", "test"]
    rows = [[name, words[n % 9], f"p{n // 3}"] for n, name in enumerate(IDS)]
    told = read(make_folder(meta=[["image_id", "Split", "IDENTITY"], *rows])).facts
    plain = [[name, ("train", "val", "test")[n % 3], f"p{n // 3}"] for n, name in enumerate(IDS)]
    assert told == read(make_folder(name="b", meta=[["image_id", "split", "identity"], *plain])).facts


def test_splits_under_another_name_are_refused(make_folder) -> None:
    meta = [
        ["image_id", "partition"],
        *([name, ("train", "Val", "test")[n % 3]] for n, name in enumerate(IDS)),
    ]
    with pytest.raises(DataError, match=r"no column 'split', but a column 'partition' with 'test'; name it"):
        read(make_folder(meta=meta))


def test_a_meta_table_of_other_images_is_refused(make_folder) -> None:
    meta = [["image_id", "identity"], *([f"other{n}.png", "ann"] for n in range(40))]
    with pytest.raises(DataError, match=r"names none of the images: found 'other0.png', expected names such"):
        read(make_folder(meta=meta))


def test_a_name_with_another_ending_is_pointed_to_its_file(make_folder) -> None:
    rows = [[name.replace(".png", ".jpg"), "1"] for name in IDS]
    with pytest.raises(MissingFiles, match=r"there is '00.png': write the whole name"):
        read(make_folder(attributes=[["image_id", "Male"], *rows]))


def test_names_that_lost_their_zeros_in_a_spreadsheet_are_pointed_to_their_files(make_folder) -> None:
    rows = [[str(int(name.removesuffix(".png"))), "1"] for name in IDS]
    with pytest.raises(
        MissingFiles, match=r"'0', '1', '2' and .* \(there is '00.png': write the whole name\)"
    ):
        read(make_folder(attributes=[["image_id", "Male"], *rows]))


def test_a_folder_in_place_of_an_image_is_no_file(make_folder) -> None:
    root = make_folder()
    (root / "images" / "00.png").unlink()
    (root / "images" / "00.png").mkdir()
    with pytest.raises(MissingFiles, match=r"'00\.png'"):
        read(root)


def test_a_link_out_of_the_folder_is_refused(make_folder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "images" / "05.png").rename(tmp_path / "private.png")
    (root / "images" / "05.png").symlink_to(tmp_path / "private.png")
    with pytest.raises(DataError, match=r"name links that lead out of .* \('05.png'\)"):
        read(root)


def test_a_link_inside_the_folder_is_followed(make_folder) -> None:
    root = make_folder()
    (root / "images" / "05.png").unlink()
    (root / "images" / "05.png").symlink_to("04.png")
    assert read(root).facts["images"] == 40


def test_a_linked_folder_is_not_entered(make_folder) -> None:
    root = make_folder()
    (root / "images" / "loop").symlink_to(root / "images")
    assert read(root).facts["images"] == 40


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../b.png", "./a.png", "a//b.png", "", "."]
)
def test_an_image_id_that_leads_elsewhere_is_refused(make_folder, name: str) -> None:
    root = make_folder(attributes=[["image_id", "Male"], [IDS[0], "1"], [name, "0"]])
    said = f"attributes.csv, line 3: image_id {name!r} is not a plain path inside images/"
    with pytest.raises(DataError, match=re.escape(said)):
        read(root)


@pytest.mark.parametrize("missing", ["nan", "NaN", "NA", "<NA>", "None", "null"])
def test_a_missing_value_is_unknown_as_an_empty_cell_is(make_folder, missing: str) -> None:
    values = [[str(n % 2), missing if n % 5 == 0 else ("yes", "no")[n % 2]] for n in range(40)]
    empty = [[male, "" if hat == missing else hat] for male, hat in values]
    header = ["image_id", "Male", "Hat"]
    digests = {
        read(make_folder(name=name, attributes=table(rows, header))).facts["digest"]
        for name, rows in (("a", values), ("b", empty))
    }
    assert len(digests) == 1


@pytest.mark.parametrize("where", ["meta", "attributes"])
def test_a_split_column_of_train_alone_says_what_to_do(make_folder, where: str) -> None:
    if where == "meta":
        root = make_folder(meta=[["image_id", "split"], *([name, "train"] for name in IDS)])
    else:
        rows = table([[str(n % 2), "Train"] for n in range(40)], ["image_id", "Male", "split"])
        root = make_folder(attributes=rows)
    said = "found train alone as the split of all 40 images, by the split column.*call some of them test"
    with pytest.raises(DataError, match=said):
        read(root)


@pytest.mark.parametrize(("marks", "told"), [(("0", "1"), True), (("yes", "no"), True), (("1", "7"), False)])
def test_a_column_of_identities_that_may_be_a_label_is_told(make_folder, marks, told: bool) -> None:
    rows = table([[str(n // 2 % 2), marks[n % 2]] for n in range(40)], ["image_id", "Male", "identity"])
    given = [("train", "val", "test")[n % 3] for n in range(40)]
    meta = [["image_id", "split"], *map(list, zip(IDS, given, strict=True))]
    root, log = make_folder(attributes=rows, meta=meta), Saying()
    read(root, log=log)
    assert any("column 'identity' of attributes.csv holds marks alone" in line for line in log.lines) == told
    if told:
        assert read(root, labels=["Male", "identity"]).labels == ("Male", "identity")


def test_other_people_are_another_digest_of_identities_and_the_same_data(make_folder) -> None:
    def facts(name: str, whose) -> dict:
        given = [("train", "val", "test")[n % 3] for n in range(40)]
        rows = [[image, split, whose(n)] for n, (image, split) in enumerate(zip(IDS, given, strict=True))]
        return read(make_folder(name=name, meta=[["image_id", "split", "identity"], *rows])).facts

    one, other = facts("a", lambda n: f"p{n}"), facts("b", lambda n: f"p{n // 3}")
    renamed, nobody = facts("c", lambda n: f"q{40 - n}"), facts("d", lambda n: "")
    assert len({each["digest"] for each in (one, other, renamed, nobody)}) == 1
    assert one["identity_digest"] == renamed["identity_digest"] != other["identity_digest"]
    assert "identity_digest" not in nobody


# -- tables that are wrong


@pytest.mark.parametrize("value", ["2", "yes", "0.5", "nil", "True", "<b>", "1\n0"])
def test_a_value_that_is_no_target_is_named(make_folder, value: str) -> None:
    root = make_folder(attributes=table([["1"], ["0"], [value]]))
    said = f"column 'Male': found {value!r}; expected 1 (present), 0 (absent), -1 or nothing (unknown)"
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(root)
    assert "attributes.csv, line " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "attributes.csv is empty; expected a header"),
        ("image_id,Male\n", "has a header and no rows"),
        ("image_id\n00.png\n", "has no label column"),
        ("name,Male\n00.png,1\n", "has no column 'image_id', found 'name', 'Male'"),
        ("file;Male\n00.png;1\n", "has no column 'image_id', found 'file', 'Male'"),
        ("image_id,Male,Male\n00.png,1,0\n", "has 2 columns 'Male'; name each column once"),
        ("image_id,Male,\n00.png,1,0\n", "column 3 has the name ''; give every column a name"),
        ('image_id,"Ma\nle"\n00.png,1\n', r"column 2 has the name 'Ma\nle'"),
        ("image_id,Male\n00.png,1\n01.png\n", "line 3: found 1 values, expected 2, one a column"),
        ("image_id,Male\n00.png,1,0\n", "line 2: found 3 values, expected 2, one a column"),
        ("image_id,Male\n00.png,1\n00.png,0\n", "line 3: image_id '00.png' is there already, on line 2"),
        ('image_id,Male\n"00.png,1\n', "line 2: unexpected end of data; expected plain CSV"),
    ],
)
def test_a_malformed_table_is_named(make_folder, text: str, said: str) -> None:
    root = make_folder()
    (root / "attributes.csv").write_text(text, "utf-8")
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(root)
    assert str(root / "attributes.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding_is_named(make_folder) -> None:
    root = make_folder()
    (root / "attributes.csv").write_bytes("image_id,Größe\n00.png,1\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=r"attributes.csv is not UTF-8 text; save it as UTF-8 \(in Excel: CSV"
    ):
        read(root)


def test_an_unknown_label_is_refused_with_close_ones(make_folder) -> None:
    with pytest.raises(LabelMismatch, match=r"no label column 'Smilling' among its 2\. Close: Smiling\."):
        read(make_folder(), labels=["Male", "Smilling"])


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ([["image_id", "split"], ["00.png", "train"]], "39 of 40 images have no split in"),
        ([["image_id", "split"], ["00.png", "later"]], "line 2, column 'split': found 'later'"),
        ([["image_id", "Split", "split"], ["00.png", "train", ""]], "columns 'Split' and 'split'; keep one"),
        ([["image_id", "identity"], ["00.png", "a"], ["00.png", "b"]], "line 3: image_id '00.png' is there"),
        ([["file", "split"], ["00.png", "train"]], "has no column 'image_id', found 'file', 'split'"),
        ([["image_id", "split"], ["00.png"]], "line 2: found 1 values, expected 2"),
    ],
)
def test_a_malformed_meta_table_is_named(make_folder, meta: list[list[str]], said: str) -> None:
    root = make_folder(meta=meta)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(root)
    assert str(root / "meta.csv") in str(caught.value)


def test_the_image_without_a_split_is_named(make_folder) -> None:
    meta = [["image_id", "split"], *([name, "train"] for name in IDS if name != "17.png")]
    with pytest.raises(DataError, match=r"1 of 40 images have no split .*\('17.png'\)"):
        read(make_folder(meta=meta))


# -- real photos


@pytest.mark.skipif(not FAIRFACE.exists(), reason="FairFace is not on this machine")
def test_fairface_unpacked_works_at_once(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(FAIRFACE) as archive:
        for table_name in ("attributes.csv", "meta.csv"):
            archive.extract(f"fairface/{table_name}", tmp_path)
        root = tmp_path / "fairface"
        lines = (root / "attributes.csv").read_text().splitlines()[:1] + [
            line
            for n, line in enumerate((root / "attributes.csv").read_text().splitlines()[1:])
            if n % 100 == 0
        ]
        (root / "attributes.csv").write_text("\n".join(lines) + "\n")
        for line in lines[1:]:
            archive.extract(f"fairface/images/{line.split(',')[0]}", tmp_path)
    source = load(f"folder:{root}")
    assert len(source.labels) == 14
    assert source.facts["images"] == len(lines) - 1
    assert source.facts["split_rule"].startswith("the split column without test: val is E")
    assert source.facts["ignored_meta_rows"] == 19_991 - (len(lines) - 1)
    assert {os.path.basename(name)[:5] for name in source.test.ids} == {"val_0"}


# -- names that differ in what programs change of them

COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"
ACCENTED = [f"{COMPOSED}{n:02}.png" for n in range(80)]
OF_A_MAC = [f"{DECOMPOSED}{n:02}.png" for n in range(80)]


def people_in_two_splits(source: Source) -> int:
    """Of people with two neighbouring images each, by the numbers in the names."""
    found = [{int(re.findall(r"\d+", name)[0]) // 2 for name in part.ids} for part in splits(source).values()]
    return sum(map(len, found)) - len(set.union(*found))


@pytest.mark.parametrize(
    "changed",
    [
        str.upper,
        lambda name: f"{name} ",
        lambda name: name.replace(COMPOSED, DECOMPOSED),
        lambda name: name.replace("/", "\\"),
        lambda name: f" {name.upper()}".removesuffix(".PNG"),
    ],
    ids=["case", "space", "form", "backslash", "several"],
)
def test_a_row_of_meta_that_differs_by_what_programs_change_is_of_its_image(make_folder, changed) -> None:
    ids = [f"ann/{COMPOSED}{n:02}.png" for n in range(40)]
    meta = [[changed(name) if n % 2 else name, f"p{n // 2}"] for n, name in enumerate(ids)]
    source = read(make_folder(ids=ids, meta=[["image_id", "identity"], *meta]))
    assert (source.facts["ignored_meta_rows"], source.facts["clusters"]) == (0, 20)
    assert people_in_two_splits(source) == 0


def test_rows_of_meta_that_may_be_one_image_are_refused_with_both(make_folder) -> None:
    meta = [[name.upper() if name == "00.png" else name, "ann"] for name in IDS]
    root = make_folder(meta=[["image_id", "identity"], *meta, ["00.png ", "bob"]])
    with pytest.raises(DataError, match=r"may be '00\.png': '00\.PNG' and '00\.png '; keep one"):
        read(root)


def test_a_row_of_meta_that_may_be_two_images_by_case_is_refused_with_both(make_folder) -> None:
    ids = [*IDS, "Ann.png", "ann.png"]
    root = make_folder(
        ids=ids, meta=[["image_id", "identity"], *([name, "p"] for name in IDS), ["ANN.png", "p"]]
    )
    with pytest.raises(DataError, match=r"names 'ANN\.png', which may be 'Ann\.png' or 'ann\.png'"):
        read(root)


@pytest.mark.parametrize(("on_disk", "written"), [(OF_A_MAC, ACCENTED), (ACCENTED, OF_A_MAC)])
@pytest.mark.parametrize("bare", [False, True])
def test_a_name_in_another_form_of_unicode_finds_its_file(make_folder, on_disk, written, bare) -> None:
    rows = [[name.removesuffix(".png" if bare else ""), str(n % 2)] for n, name in enumerate(written)]
    source = read(make_folder(ids=on_disk, attributes=[["image_id", "Male"], *rows]))
    assert sorted(name for part in splits(source).values() for name in part.ids) == sorted(on_disk)
    beside = load(f"table:{source.folder}/../attributes.csv", image_size=16, workers=0)
    assert beside.facts["digest"] == source.facts["digest"]


def test_a_table_finds_images_in_a_folder_in_another_form_of_unicode(make_folder) -> None:
    rows = [[f"{COMPOSED}/{name}", str(n % 2)] for n, name in enumerate(IDS)]
    ids = [f"{DECOMPOSED}/{name}" for name in IDS]
    root = make_folder(ids=ids, attributes=[["image_id", "Male"], *rows])
    assert load(f"table:{root}/attributes.csv", image_size=16, workers=0).facts["images"] == 40


def test_a_name_that_fits_two_forms_of_unicode_is_refused(make_folder) -> None:
    ids = [*IDS, f"{COMPOSED}.png", f"{DECOMPOSED}.png"]
    rows = [[name, str(n % 2)] for n, name in enumerate([*IDS, f"{COMPOSED}.png "])]
    read(make_folder(ids=ids, attributes=[["image_id", "Male"], *rows]))  # the very name but for the space
    rows[-1][0] = DECOMPOSED
    with pytest.raises(DataError, match=r"fits '.*\.png' and '.*\.png'; write the whole name"):
        read(make_folder(ids=ids, attributes=[["image_id", "Male"], *rows]))


def test_a_label_may_be_typed_in_another_form_of_unicode(make_folder) -> None:
    values = [[str(n % 2), str(n // 2 % 2)] for n in range(40)]
    root = make_folder(attributes=table(values, ["image_id", f"caf{DECOMPOSED}", "Hat"]))
    source = read(root, labels=[f"caf{COMPOSED}"])
    assert source.labels == (f"caf{COMPOSED}",)
    assert read(root).train.with_labels([f"caf{COMPOSED}"]).target.tolist() == source.train.target.tolist()


def test_spaces_around_names_of_images_are_no_part_of_them(make_folder) -> None:
    rows = [[f" {name} ", str(n % 2)] for n, name in enumerate(IDS)]
    source = read(make_folder(attributes=[["image_id", "Male"], *rows]))
    assert sorted(name for part in splits(source).values() for name in part.ids) == IDS


def test_an_image_whose_name_has_spaces_around_it_is_found_by_that_name(make_folder) -> None:
    ids = [f" {name}" for name in IDS]
    assert read(make_folder(ids=ids)).facts["images"] == 40


def test_a_name_without_its_folder_is_told_the_whole(make_folder) -> None:
    rows = [[name, str(n % 2)] for n, name in enumerate(IDS)]
    ids = [f"ann/{name}" for name in IDS]
    with pytest.raises(MissingFiles, match=r"there is 'ann/00\.png': write the whole name"):
        read(make_folder(ids=ids, attributes=[["image_id", "Male"], *rows]))
    twice = [*ids, *(f"bob/{name}" for name in IDS)]
    with pytest.raises(MissingFiles, match=r"and 37 more; add the files"):
        read(make_folder(name="b", ids=twice, attributes=[["image_id", "Male"], *rows]))


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_name_longer_than_any_file_is_named(make_folder, kind: str) -> None:
    rows = [[name, str(n % 2)] for n, name in enumerate(["y" * 260 + ".png", *IDS])]
    root = make_folder(attributes=[["image_id", "Male"], *rows])
    source = f"folder:{root}" if kind == "folder" else f"table:{root}/attributes.csv"
    with pytest.raises(MissingFiles, match=r"rows of attributes.csv ha(s|ve) no file .*'yyyyy"):
        load(source, image_size=16, workers=0)


@pytest.mark.parametrize("quoted", [False, True])
def test_a_space_before_a_quoted_cell_is_no_part_of_it(make_folder, quoted: bool) -> None:
    root = make_folder()
    mark = '"' if quoted else ""
    lines = [f"{mark}{name}{mark}, {mark}{n % 2}{mark}, {n // 2 % 2}" for n, name in enumerate(IDS)]
    (root / "attributes.csv").write_text("\n".join(['image_id, "Smiling", "Male"', *lines]) + "\n")
    found = read(root)
    assert found.labels == ("Smiling", "Male")
    assert found.facts["digest"] == read(make_folder(name="b")).facts["digest"]
