from __future__ import annotations

import pytest
from assetwatch.v1.asset_status_pb2 import AssetRef, AssetStatus
from assetwatch.v1.asset_status_service_pb2 import StatusChange, WatchStatusResponse
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_UPSERT

from assetwatch_client import ConditionChanged, Event, Key, Removed, Synced, Upsert, View
from support.scripted_watch import batch, bookmark, conditions, removed, started, synced, upsert

pytestmark = pytest.mark.unit


def take(view: View, *messages: WatchStatusResponse) -> list[Event]:
    """Take messages in, whole; return what they brought."""
    return [event for message in messages for event in view.take(message)]


def brief(events: list[Event]) -> list[tuple[str, str, int]]:
    """Shorten events of assets to kind, asset and revision."""
    told = [event for event in events if isinstance(event, Upsert | Removed)]
    return [(type(event).__name__, event.key.asset_id, event.status.revision) for event in told]


def held(view: View) -> dict[str, int]:
    """Return the revision of each asset in the map."""
    return {key.asset_id: status.revision for key, status in view.statuses.items()}


def view_of(*messages: WatchStatusResponse) -> View:
    """Return a view that has taken these in."""
    view = View()
    take(view, *messages)
    return view


def test_first_snapshot_fills_the_map() -> None:
    """A snapshot's changes are told as they come, then that the map is complete; token and head are the last sent."""
    view = View()
    events = take(
        view, started(head=3), batch(upsert("a", 1), upsert("b", 3), token="t3", head=3), synced("t4", head=4)
    )
    assert brief(events) == [("Upsert", "a", 1), ("Upsert", "b", 3)]
    assert events[-1] == Synced(head=4, replaced=True)
    assert (view.token, view.head, view.epoch, view.heartbeat_s) == ("t4", 4, "e1", 5.0)
    assert (view.synced, view.replacing) == (True, False)


def test_event_says_who_and_how_it_was_found() -> None:
    """An event carries the asset's name in two parts, the whole status, and the trace of the call that showed it."""
    view = view_of(started(), synced())
    change = upsert("a", 7, source="mam")
    assert take(view, batch(change)) == [Upsert(Key("mam", "a"), change.status, "00-7")]
    gone = removed("a", 8, source="mam")
    assert take(view, batch(gone)) == [Removed(Key("mam", "a"), gone.status, "00-8")]


def test_snapshot_replaces_the_map() -> None:
    """What a later snapshot leaves out is Removed, with its last status, before Synced, and not earlier."""
    view = view_of(started(), batch(upsert("a", 1), upsert("b", 2), token="t2"), synced("t2"))
    assert take(view, started(), batch(upsert("b", 2), upsert("c", 9), token="t9"))[0].status.revision == 9  # type: ignore[union-attr]  # the only event, and an Upsert
    assert held(view) == {"a": 1, "b": 2, "c": 9}
    events = take(view, synced("t9"))
    assert brief(events) == [("Removed", "a", 1)]
    assert isinstance(events[-1], Synced)
    assert held(view) == {"b": 2, "c": 9}


def test_empty_snapshot_empties_the_map() -> None:
    """A snapshot of nothing is one too."""
    view = view_of(started(), batch(upsert("a", 1)), synced("t1"))
    assert brief(take(view, started(), synced("t5"))) == [("Removed", "a", 1)]
    assert not view.statuses


def test_resumed_stream_keeps_the_map() -> None:
    """After RESUMED nothing is gone but what was said to be."""
    view = view_of(started(), batch(upsert("a", 1), upsert("b", 2)), synced("t2"))
    assert take(view, started(resumed=True)) == []
    assert not view.synced
    events = take(view, batch(removed("b", 3), token="t3"), synced("t3"))
    assert brief(events) == [("Removed", "b", 3)]
    assert events[-1] == Synced(head=0, replaced=False)
    assert held(view) == {"a": 1}


def test_snapshot_goes_on_in_a_resumed_stream() -> None:
    """A snapshot that broke is continued by the resumed stream, and replaces the map at that one's synced."""
    view = view_of(started(), batch(upsert("a", 1), upsert("b", 2), upsert("c", 3)), synced("t3"))
    take(view, started(), batch(upsert("b", 2), token="t2"))  # and the stream breaks
    assert view.token == "t2"
    events = take(view, started(resumed=True), batch(upsert("c", 5), token="t5"), synced("t5"))
    assert brief(events) == [("Upsert", "c", 5), ("Removed", "a", 1)]
    assert events[-1] == Synced(head=0, replaced=True)


def test_removal_while_a_snapshot_goes_on() -> None:
    """What a snapshot sent and a resumed stream takes back is gone; told once."""
    view = view_of(started(), batch(upsert("a", 1), token="t1"))
    events = take(view, started(resumed=True), batch(removed("a", 2), token="t2"), synced("t2"))
    assert brief(events) == [("Removed", "a", 2)]


def test_snapshot_begun_again_forgets_the_one_before() -> None:
    """A snapshot that broke before its first token begins anew: what only the first try sent is not taken as sent."""
    view = view_of(started(), batch(upsert("a", 1), upsert("b", 2)), synced("t2"))
    take(view, started(), batch(upsert("a", 1)))
    assert view.token == ""
    assert brief(take(view, started(), batch(upsert("b", 2)), synced("t9"))) == [("Removed", "a", 1)]


def test_snapshot_drops_the_token_from_before_it() -> None:
    """A token from before a snapshot does not lead into it: without a new one the next stream is a snapshot again."""
    view = view_of(started(), synced("t5"), started())
    assert view.token == ""


def test_nothing_is_told_twice() -> None:
    """A change that comes again after a resume, or an older one, is no event and changes nothing."""
    view = view_of(started(), batch(upsert("a", 5), upsert("b", 6), removed("b", 7)), synced("t4"))
    again = batch(upsert("a", 5), upsert("a", 4), removed("a", 5), removed("a", 3), removed("b", 7), token="t7")
    assert take(view, started(resumed=True), again) == []
    assert held(view) == {"a": 5}


def test_removal_of_an_unknown_asset_is_ignored() -> None:
    """A REMOVED for what is not held is no event."""
    assert take(view_of(started(), synced()), batch(removed("a", 3))) == []


def test_another_epoch_counts_anew() -> None:
    """In a new epoch any revision is newer than those of the old one, each is told once, and the head falls back."""
    view = view_of(started(head=900), batch(upsert("a", 900), upsert("b", 800), upsert("c", 700)), synced("t900"))
    before = view.statuses[Key("dam", "a")]
    view.forget_token()
    events = take(view, started(epoch="e2", head=3), batch(upsert("a", 1), upsert("b", 2), token="u2", head=3))
    assert brief(events) == [("Upsert", "a", 1), ("Upsert", "b", 2)]
    assert view.head == 3
    events = take(view, started(resumed=True, epoch="e2"), batch(upsert("b", 2), removed("c", 3)), synced("u3"))
    assert brief(events) == [("Removed", "c", 3)]
    assert before.revision == 900  # what the caller was given is the caller's


def test_another_epoch_that_goes_on_counting() -> None:
    """What a new epoch has as it was told before, status and revision, is no event; what differs is told once."""
    view = view_of(started(), batch(upsert("a", 1), upsert("b", 2), upsert("c", 3)), synced("t3"))
    view.forget_token()
    other = upsert("b", 2)
    other.status.locked = True
    events = take(view, started(epoch="e2"), batch(upsert("a", 1), other, upsert("c", 4), token="u4"), synced("u4"))
    assert brief(events) == [("Upsert", "b", 2), ("Upsert", "c", 4)]
    assert view.statuses[Key("dam", "b")].locked
    assert take(view, started(resumed=True, epoch="e2"), batch(upsert("a", 1), other, upsert("c", 4))) == []


def test_another_epoch_whose_snapshot_breaks() -> None:
    """A new epoch's snapshot that has to begin again still takes the old epoch's revisions for old."""
    view = view_of(started(), batch(upsert("a", 900), upsert("b", 900)), synced("t900"))
    take(view, started(epoch="e2"), batch(upsert("a", 1)))
    events = take(view, started(epoch="e2"), batch(upsert("a", 1), upsert("b", 2)), synced("u2"))
    assert brief(events) == [("Upsert", "b", 2)]


def test_token_moves_when_the_message_was_taken_in() -> None:
    """While a message's changes are being told the token is still the one before it; the map is as the event says."""
    view = view_of(started(), synced("t0"))
    events = view.take(batch(upsert("a", 1), upsert("b", 2), token="t2"))
    next(events)
    assert (view.token, held(view)) == ("t0", {"a": 1})
    next(events)
    assert view.token == "t0"
    assert list(events) == []
    assert view.token == "t2"


def test_message_left_half_told_is_told_to_its_end_later() -> None:
    """Who stops in the middle of a message gets the rest, and only that, when the stream is resumed."""
    view = view_of(started(), synced("t0"))
    message = batch(upsert("a", 1), upsert("b", 2), token="t2")
    events = view.take(message)
    next(events)
    events.close()  # type: ignore[attr-defined]  # it is a generator
    assert brief(take(view, started(resumed=True), message)) == [("Upsert", "b", 2)]


def test_synced_comes_with_its_token() -> None:
    """When Synced is told, the token is that of the complete map."""
    view = view_of(started())
    assert [(type(event), view.token) for event in view.take(synced("t1"))] == [(Synced, "t1")]


def test_bookmark_moves_the_token_alone() -> None:
    """A bookmark is no event; a message without a token leaves the token as it was."""
    view = view_of(started(), synced("t1"))
    assert take(view, bookmark("t2", head=8)) == []
    assert (view.token, view.head) == ("t2", 8)
    take(view, conditions(dam="HEALTHY"))
    assert view.token == "t2"


def test_conditions_are_told_when_they_differ() -> None:
    """A source's condition is an event when it is new or has changed; the map of conditions holds the last."""
    view = view_of(started(), synced())
    first = take(view, conditions(dam="HEALTHY", sbc="UNREACHABLE"))
    assert [event.source for event in first if isinstance(event, ConditionChanged)] == ["dam", "sbc"]
    assert take(view, conditions(dam="HEALTHY")) == []
    message = conditions(dam="DEGRADED")
    assert take(view, message) == [ConditionChanged("dam", message.source_conditions[0].condition)]
    assert view.conditions["dam"] == message.source_conditions[0].condition


def test_last_to_change_is_last_in_the_map() -> None:
    """The map is in the order of change."""
    view = view_of(started(), batch(upsert("a", 1), upsert("b", 2), upsert("a", 3)), synced())
    assert list(held(view)) == ["b", "a"]


def test_same_id_in_two_sources_is_two_assets() -> None:
    """An asset is named by source and id together."""
    view = view_of(started(), batch(upsert("a", 1, "dam"), upsert("a", 2, "mam")), synced())
    assert set(view.statuses) == {("dam", "a"), ("mam", "a")}


def test_status_is_kept_whole() -> None:
    """The map holds the status as it was sent."""
    status = AssetStatus(asset=AssetRef(source="dam", asset_id="a"), revision=1, etag='"1"', locked=True)
    view = view_of(started(), batch(StatusChange(status=status, kind=CHANGE_KIND_UPSERT)))
    assert view.statuses[Key("dam", "a")] == status


def test_what_is_not_complete_is_told_with_synced_and_whenever_it_is_another() -> None:
    """Named in Synced and by the view; a bookmark that says otherwise is one Synced more, one that does not is none."""
    view = View()
    begin = started()
    begin.started.incomplete.append("dam")
    assert take(view, begin) == []
    assert view.incomplete == {"dam"}
    events = take(view, batch(upsert("a", 1), token="t1"), synced("t1", head=1, incomplete=["dam", "usd"]))
    assert events[-1] == Synced(head=1, replaced=True, incomplete=frozenset(["dam", "usd"]))
    assert take(view, bookmark("t1", head=1, incomplete=["usd", "dam"])) == []
    assert take(view, batch(upsert("b", 2), token="t2", head=2), bookmark("t2", head=2))[-1:] == [
        Synced(head=2, replaced=False)
    ]
    assert view.incomplete == frozenset()
    assert held(view) == {"a": 1, "b": 2}
    assert take(view, bookmark("t2", head=2)) == []


def test_a_stream_that_resumes_says_anew_what_is_not_complete() -> None:
    """What an earlier stream said of it does not count any more."""
    view = view_of(started(), synced("t1", incomplete=["dam"]), started(resumed=True))
    assert view.incomplete == frozenset()
    assert take(view, synced("t1")) == [Synced(head=0, replaced=False)]
