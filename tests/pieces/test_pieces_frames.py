"""What a frame says of each asset."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import BadAnswer
from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.frames import AHEAD_S_MAX
from assetwatchd.pieces.client.paths import query
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.upstream.http.transport import Reply

if TYPE_CHECKING:
    from pydantic import JsonValue

pytestmark = pytest.mark.unit


def at(second: int) -> JsonValue:
    return {"value": f"2025-03-04T10:15:{second:02}.000Z"}


def read(*elements: JsonValue, stream: Stream = Stream.ASSETS) -> dict[str, bool]:
    """Return which assets a frame speaks of, in its order, and whether they are gone."""
    return {item.asset_id: item.gone for item in frames.items({"iterable": list(elements)}, stream)}


def test_each_asset_once() -> None:
    """Of several items for one asset the newest counts, of undated ones the last."""
    newest: JsonValue = {"id": "a", "updated": at(2), "name": "newest"}
    [item] = frames.items(
        {"iterable": [{"id": "a", "updated": at(1)}, newest, {"id": "a", "updated": at(0)}]}, Stream.ASSETS
    )
    assert item.document is newest
    last: JsonValue = {"id": "a", "name": "last"}
    [item] = frames.items({"iterable": [{"id": "a"}, last]}, Stream.ASSETS)
    assert item.document is last


def test_a_tombstone_wins() -> None:
    """Wherever it stands in the frame."""
    dead = {"id": "a", "deleted": at(1)}
    assert read(dead, {"id": "a", "updated": at(9)}) == read({"id": "a", "updated": at(9)}, dead) == {"a": True}


@pytest.mark.parametrize(
    ("element", "gone"),
    [
        ({"deleted": True}, True),
        ({"deleted": False}, False),
        ({"deleted": None}, False),
        ({"deleted": {}}, False),
        ({"deleted": {"value": None}}, False),
        ({"deleted": {"readable": "never"}}, False),
        ({"deleted": {"value": False}}, False),
        ({"deleted": {"value": 0}}, False),
        ({"deleted": {"value": True}}, True),
        ({"deleted": at(1)}, True),
        ({"deleted": {"value": 1741083300}}, True),
        ({"deleted": "2026-03-04T10:15:00Z"}, True),
        ({"deleted": 1741083300}, True),
        ({"deleted": "true"}, True),
        ({"deleted": "false"}, False),
        ({"deleted": 0}, False),
        ({"mechanism": "DELETED"}, True),
        ({"mechanism": "MANUAL"}, False),
        ({}, False),
    ],
)
def test_forms_of_a_tombstone(element: dict[str, JsonValue], gone: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """A flag, a time and the mechanism say that an asset is gone."""
    assert read({"id": "a", **element}) == {"a": gone}


@pytest.mark.parametrize(
    "deleted",
    [
        *("", "no", [], [True], "yesterday", {"value": ""}, {"value": "yesterday"}, {"value": {}}, {"value": [1]}),
        *(-1, 2, "-1", {"value": -1}, {"value": "1970-01-01T00:00:00Z"}, {"value": "0001-01-01T00:00:00Z"}),
    ],
)
@pytest.mark.parametrize("stream", Stream)
def test_what_may_be_a_tombstone_is_none(deleted: JsonValue, stream: Stream) -> None:
    """Nobody is told that an asset is gone, nor that it is there: the item is one that cannot be read."""
    item: JsonValue = {"id": "a", "asset": {"id": "a"}, "deleted": deleted}
    frame = frames.read({"iterable": [item, {"id": "b", "asset": {"id": "b"}}]}, stream)
    assert ([each.asset_id for each in frame.items], frame.unreadable) == (["b"], 1)


SAID = "2025-03-04T10:15:01.000Z"
TIMES: list[JsonValue] = [at(1), {"value": 1741083301}, {"value": "1741083301000"}, SAID, 1741083301, "1741083301"]


@pytest.mark.parametrize("deleted", [*TIMES, True, 1, {}, None])
@pytest.mark.parametrize("stream", Stream)
def test_when_it_was_deleted(deleted: JsonValue, stream: Stream) -> None:
    """The time of a tombstone is told in whatever form it came; a flag has none."""
    item: JsonValue = {"id": "a", "asset": {"id": "a"}, "deleted": deleted}
    [found] = frames.read({"iterable": [item]}, stream).items
    assert found.deleted_at == (datetime(2025, 3, 4, 10, 15, 1, tzinfo=UTC) if deleted in TIMES else None)


@pytest.mark.parametrize("asset_id", ["a\u202e", "\x9b2J", "a\u2028b", "a" * 2049])
def test_ids_that_nobody_could_ask_for(asset_id: str) -> None:
    """They are left out and counted, in a frame as in a list; they are no deletion that may have been missed."""
    frame = frames.read({"iterable": [{"id": asset_id, "deleted": True}, {"id": "b"}]}, Stream.ASSETS)
    assert ([item.asset_id for item in frame.items], frame.unreadable, frame.unfit) == (["b"], 0, 1)
    listed = frames.listed({"iterable": [{"id": asset_id}, {"id": "b"}]}, 10)
    assert (set(listed.asset_ids), listed.unreadable) == ({"b"}, 1)
    assert asset_id not in listed.why


around = st.text("ab", max_size=3)
half = st.characters(categories=["Cs"]) | st.just("\ufffd")


@pytest.mark.parametrize("stream", Stream)
@given(asset_id=st.builds("".join, st.tuples(around, half, around)))
def test_ids_that_are_no_text(stream: Stream, asset_id: str) -> None:
    """With half a character in it, or what stands for one, an id may be another's: the item is one nobody can read."""
    items = [{"id": each, "asset": {"id": each}, "deleted": each != "b"} for each in (asset_id, "b")]
    frame = frames.parse(Reply(200, {}, json.dumps({"iterable": items}).encode()), stream, 10)
    assert frame is not None
    assert ([item.asset_id for item in frame.items], frame.unreadable, frame.unfit) == (["b"], 1, 0)


@pytest.mark.parametrize("element", [None, 1, "a", [], {}, {"id": None}, {"id": ""}, {"id": 7}, {"asset": {"id": "a"}}])
def test_what_names_no_asset(element: JsonValue) -> None:
    """It is left out, and takes nothing else with it."""
    assert read(element, {"id": "b"}) == {"b": False}


@pytest.mark.parametrize("element", [{"id": "a"}, {"asset": None}, {"asset": "a"}, {"asset": {}}, {"tag": {"id": "a"}}])
def test_identifiers_of_other_things(element: JsonValue) -> None:
    """In the identifiers stream only `asset` names one."""
    assert read(element, {"asset": {"id": "b"}}, stream=Stream.IDENTIFIERS) == {"b": False}


@pytest.mark.parametrize("document", [{}, {"iterable": None}, {"iterable": {}}, {"iterable": "a"}])
def test_no_frame_at_all(document: dict[str, JsonValue]) -> None:
    """Without a list of items it is no frame."""
    with pytest.raises(BadAnswer, match="iterable should be a list"):
        frames.items(document, Stream.ASSETS)


def dated(text: str) -> JsonValue:
    """An asset that was updated then."""
    return {"id": "a", "updated": {"value": text}}


@given(st.integers(0, 10**10))
def test_dates_that_have_not_come(ahead_s: int) -> None:
    """They order nothing; those of a clock that is a little ahead of ours still do."""
    now, little_s = datetime.now(UTC), ahead_s % int(AHEAD_S_MAX - 60)
    past, soon, ahead = [
        dated((now + timedelta(seconds=seconds)).isoformat()) for seconds in (-1, little_s, AHEAD_S_MAX + 60 + ahead_s)
    ]
    for first, last, newest in ((past, soon, soon), (soon, past, soon), (ahead, past, past), (ahead, soon, soon)):
        [item] = frames.items({"iterable": [first, last]}, Stream.ASSETS)
        assert (item.document, item.updated is not None) == (newest, True)
    [item] = frames.items({"iterable": [ahead]}, Stream.ASSETS)
    assert item.updated is None


@pytest.mark.parametrize("updated", [None, {}, "soon", {"value": "soon"}, {"value": 5}, {"value": None}])
def test_dates_that_cannot_be_read(updated: JsonValue) -> None:
    """They are as good as none."""
    [item] = frames.items({"iterable": [{"id": "a", "updated": updated}]}, Stream.ASSETS)
    assert item.updated is None


def test_an_item_nested_too_deeply_costs_no_other() -> None:
    """The others of its frame are told; of a list of texts too, which says why it is left out."""
    deep = '{"id":"a","x":' + "[" * 200 + "]" * 200 + "}"
    frame = frames.parse(Reply(200, {}, f'{{"iterable":[{deep},{{"id":"b"}}]}}'.encode()), Stream.ASSETS, 10)
    assert frame is not None
    assert ([item.asset_id for item in frame.items], frame.unreadable) == (["b"], 1)
    texts = [deep.encode(), b'{"id":"b"}']
    told = frames.of_texts(Reply(200, {}, b"".join(texts)), [len(text) for text in texts])
    assert [str(problem) for problem in told.rest] == ["the JSON is nested too deeply: more than 64 levels"]
    assert len(told.parts) == 1


def test_dates_in_any_zone() -> None:
    """Dates are compared as moments; without a zone they are UTC."""
    elements: list[JsonValue] = [
        {"id": "a", "updated": {"value": "2025-03-04T12:00:00+02:00"}},
        {"id": "b", "updated": {"value": "2025-03-04T10:00:01"}},
    ]
    one, other = frames.items({"iterable": elements}, Stream.ASSETS)
    assert frames.overtaken(one.updated, other.updated)
    assert not frames.overtaken(other.updated, one.updated)
    assert not frames.overtaken(one.updated, one.updated)


def test_queries() -> None:
    """What is None is left out; an empty text is not."""
    assert query({"a": None, "b": False, "c": "", "d": "é &"}) == "?b=false&c=&d=%C3%A9%20%26"
    assert query({"a": None}) == query({}) == ""
