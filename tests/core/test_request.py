import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlabel.cli.options import names
from unlabel.core.errors import NothingLeft, NothingToForget, UnknownLabel
from unlabel.core.request import Request, listed

LABELS = ("Bald", "Male", "Smiling", "Young")


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any valid request: some labels forgotten earlier, some now, one or more left."""
    labels = draw(st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=8, unique=True))
    order = draw(st.permutations(labels))
    gone = draw(st.integers(1, len(labels) - 1))
    earlier = draw(st.integers(0, gone - 1))
    return Request.make(order[earlier:gone], labels, forgotten=order[:earlier])


@given(requests())
def test_masked_and_retained_part_the_columns(request: Request) -> None:
    columns = sorted(request.masked_columns + request.retained_columns)
    assert columns == list(range(len(request.labels)))


@given(requests())
def test_columns_are_those_of_the_names(request: Request) -> None:
    """Against the slow way: walk over all labels and look each one up."""
    assert [request.labels[column] for column in request.columns] == list(request.forget)
    for column, name in enumerate(request.labels):
        gone = name in request.forget or name in request.forgotten
        assert (column in request.masked_columns, column in request.retained_columns) == (gone, not gone)
        assert (name in request.masked, name in request.retained) == (gone, not gone)


def test_columns_follow_the_order_of_the_names() -> None:
    assert Request.make(["Young", "Bald"], LABELS).columns == (3, 0)


def test_masked_follows_the_order_of_the_outputs() -> None:
    assert Request.make(["Young"], LABELS, forgotten=["Male", "Bald"]).masked == ("Bald", "Male", "Young")


def test_an_earlier_request_stays_masked_but_is_not_forgotten_again() -> None:
    request = Request.make(["Young"], LABELS, forgotten=["Male"])
    assert (request.columns, request.masked_columns) == ((3,), (1, 3))


@pytest.mark.parametrize(
    ("forget", "forgotten", "error", "says"),
    [
        (["Smilling"], [], UnknownLabel, "'Smilling' among the model's 4. Close: Smiling."),
        (["smiling"], [], UnknownLabel, "Close: Smiling."),
        (["Zebra"], [], UnknownLabel, "unlabel show RUN"),
        ([], [], NothingToForget, "--labels A,B"),
        (["Male", "Male"], [], NothingToForget, "'Male' is named more than once"),
        (["Male"], ["Male"], NothingToForget, "'Male' was forgotten by an earlier request"),
        (LABELS, [], NothingLeft, "all 4 labels"),
        (["Bald", "Young"], ["Male", "Smiling"], NothingLeft, "at least one must be retained"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(forget, forgotten, error, says) -> None:
    with pytest.raises(error, match=says.replace(".", r"\.")):
        Request.make(forget, LABELS, forgotten=forgotten)


def test_one_name_stands_for_a_list_of_one() -> None:
    assert Request.make("Male", LABELS, forgotten="Bald") == Request.make(
        ["Male"], LABELS, forgotten=["Bald"]
    )
    with pytest.raises(NothingToForget):
        Request.make("", LABELS)


def test_a_name_in_another_form_of_unicode_is_the_label() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    request = Request.make([composed], ["Male", decomposed, "Hat"], forgotten=["Male"])
    assert (request.forget, request.columns) == ((decomposed,), (1,))
    both = Request.make([composed], [decomposed, composed])
    assert both.columns == (1,)
    with pytest.raises(NothingToForget, match="more than once"):
        Request.make([composed, decomposed], ["Male", decomposed])


def test_a_comma_in_a_name_is_explained_where_it_is_missing() -> None:
    labels = ("Hat, red", "Male")
    with pytest.raises(UnknownLabel, match=r"no label 'Hat'.*after a backslash: 'Hat\\, red'"):
        Request.make(["Hat", "red"], labels)
    assert Request.make(names(listed(["Hat, red"])), labels).forget == ("Hat, red",)


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool)))
def test_any_names_can_be_typed(parts: list[str]) -> None:
    assert names(listed(parts)) == tuple(parts)
