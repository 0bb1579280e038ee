import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlabel.core.errors import DataError
from unlabel.data.splits import (
    PROBE,
    TEST,
    TRAIN,
    assign_splits,
    check_sizes,
    cluster_codes,
    hash_fraction,
    straddling,
)

people = st.lists(st.sampled_from(["", "ann", "bob", "cy", "dé <b>", "ei", "fay"]), min_size=1, max_size=40)


def names(n: int) -> list[str]:
    return [f"{i}.jpg" for i in range(n)]


def shares(codes: np.ndarray) -> list[float]:
    return [float(np.mean(codes == code)) for code in (TRAIN, PROBE, TEST)]


def test_hash_fraction_is_sha256_of_the_text() -> None:
    # sha256("abc") begins ba7816bf 8f01cfea (FIPS 180-2, example B.1).
    assert hash_fraction("abc") == pytest.approx(0xBA7816BF8F01CFEA / 2**64, abs=2.0**-53)


@given(st.text())
def test_hash_fraction_is_below_one(text: str) -> None:
    assert 0.0 <= hash_fraction(text) < 1.0


@given(people)
def test_an_identity_never_straddles_a_drawn_split(identity: list[str]) -> None:
    codes, _ = assign_splits(names(len(identity)), identity, [""] * len(identity))
    assert straddling(codes, cluster_codes(identity)) == 0


@given(people, st.randoms())
def test_order_of_images_changes_no_split(identity: list[str], random) -> None:
    ids, order = names(len(identity)), list(range(len(identity)))
    random.shuffle(order)
    codes, rule = assign_splits(ids, identity, [""] * len(ids))
    shuffled, same_rule = assign_splits(
        [ids[i] for i in order], [identity[i] for i in order], [""] * len(ids)
    )
    assert shuffled.tolist() == codes[order].tolist()
    assert same_rule == rule


def test_shares_are_near_65_10_25() -> None:
    codes, rule = assign_splits(names(20_000), [""] * 20_000, [""] * 20_000)
    # Four standard deviations of a share of one half over 20,000 images: 0.014.
    assert shares(codes) == pytest.approx([0.65, 0.10, 0.25], abs=0.014)
    assert rule == "no split column: 65 % train, 10 % P and 25 % E by hash of image_id"


def test_shares_hold_over_identities() -> None:
    identity = [f"person {n // 3}" for n in range(30_000)]
    codes, rule = assign_splits(names(30_000), identity, [""] * 30_000)
    assert shares(codes) == pytest.approx([0.65, 0.10, 0.25], abs=0.02)  # 10,000 people: four deviations
    assert rule.endswith("by hash of identity")


@settings(max_examples=25)
@given(st.integers(0, 30))
def test_adding_images_moves_none(added: int) -> None:
    few, _ = assign_splits(names(20), [""] * 20, [""] * 20)
    more, _ = assign_splits(names(20 + added), [""] * (20 + added), [""] * (20 + added))
    assert more[:20].tolist() == few.tolist()


def test_given_splits_are_kept() -> None:
    codes, rule = assign_splits(names(4), [""] * 4, ["val", "test", "train", "test"])
    assert codes.tolist() == [PROBE, TEST, TRAIN, TEST]
    assert rule == "the split column: test is E, val is P"


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_probe_is_a_fifth_of_train_where_no_split_is_left_for_it(held_out: str) -> None:
    given_splits = ["train"] * 8000 + [held_out] * 2000
    codes, rule = assign_splits(names(10_000), [""] * 10_000, given_splits)
    assert set(codes[8000:].tolist()) == {TEST}
    assert np.mean(codes[:8000] == PROBE) == pytest.approx(0.20, abs=0.018)  # four standard deviations
    assert TEST not in codes[:8000]
    assert f"{held_out} is E, and 20 % of train" in rule


@given(people)
def test_probe_drawn_from_train_takes_whole_identities(identity: list[str]) -> None:
    held_out = ["zoe"]
    codes, _ = assign_splits(
        names(len(identity) + 1), identity + held_out, ["train"] * len(identity) + ["val"]
    )
    assert straddling(codes, cluster_codes(identity + held_out)) == 0


def test_partly_unknown_identities_are_said_in_the_rule() -> None:
    _, rule = assign_splits(names(2), ["ann", ""], ["", ""])
    assert rule.endswith("by hash of identity, or image_id where that is unknown")


def test_a_split_for_some_images_only_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"1 of 2 images have no split \('1.jpg'\)"):
        assign_splits(names(2), ["", ""], ["train", ""])


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="found split 'valid'; expected train, val or test"):
        assign_splits(names(2), ["", ""], ["train", "valid"])


@given(people)
def test_clusters_join_what_shares_an_identity_and_nothing_else(identity: list[str]) -> None:
    cluster = cluster_codes(identity)
    assert cluster.dtype == np.int64
    for i, who in enumerate(identity):
        for j, other in enumerate(identity):
            assert (cluster[i] == cluster[j]) == (i == j or (who == other != ""))


def test_a_person_in_two_given_splits_is_counted_once() -> None:
    codes = np.array([TRAIN, PROBE, TEST, TRAIN, TEST], np.int8)
    assert straddling(codes, cluster_codes(["ann", "ann", "ann", "bob", "cy"])) == 1


@pytest.mark.parametrize(
    ("codes", "name"),
    [([0, 1, 1, 2, 2], "train"), ([0, 0, 1, 2, 2], r"P \(probe\)"), ([0, 0, 1, 1], r"E \(test\)")],
)
def test_a_tiny_split_is_refused_by_name(codes: list[int], name: str) -> None:
    with pytest.raises(DataError, match=f"the {name} split has [01] of"):
        check_sizes(np.array(codes, np.int8), "the rule")
