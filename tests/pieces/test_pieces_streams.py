"""The three streams: one upstream connection for any number of subscribers, and everything that goes wrong with one."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.v1 import source_pb2
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED

from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import ServerDraining
from assetwatchd.pieces.client import frames, shared_stream
from assetwatchd.pieces.client.documents import Documents
from assetwatchd.pieces.client.listener import Listener
from assetwatchd.pieces.feeds import feed
from assetwatchd.pieces.feeds.reads import Reads
from assetwatchd.pieces.feeds.session import Session
from assetwatchd.rpc.pieces import convert
from support.pieces_rig import NOTE, ONE, OTHER_KIND, SOURCE, TWO, Mirror, PiecesRig, pieces_rig, shelve
from support.problems import problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
SNAPSHOT, RESYNC = pb.StreamStarted.MODE_SNAPSHOT, pb.StreamStarted.MODE_RESYNC
NAMES = {"StreamAssets": "assets", "StreamAssetIdentifiers": "identifiers", "StreamAssetTransferables": "transferables"}
ANY_STREAM = pytest.mark.parametrize("rpc", list(NAMES))
WHOLE_ASSETS = pytest.mark.parametrize("rpc", ["StreamAssets", "StreamAssetTransferables"])


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    async with pieces_rig() as rig:
        shelve(rig.standin)
        yield rig


async def send(rig: PiecesRig, rpc: str, *elements: Any) -> None:
    """Let the upstream send one frame."""
    await rig.command("send_frame", stream=NAMES[rpc], text=json.dumps({"iterable": elements}))


# What a stream brings ------------------------------------------------------------------------------------------------


@ANY_STREAM
async def test_a_snapshot_then_changes(rig: PiecesRig, rpc: str) -> None:
    """First everything, then what is made, changed and deleted."""
    mirror = await rig.stream(rpc).synced()
    assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT], {ONE, TWO})
    rig.standin.put(NOTE, {"pseudo": False, "name": "note"})
    await mirror.holds(lambda held: NOTE in held)
    rig.standin.put(NOTE, {"name": "renamed"})
    if rpc != "StreamAssetIdentifiers":
        await mirror.holds(lambda held: held[NOTE].asset.name == "renamed")
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    assert (mirror.removed, set(mirror.map)) == ([ONE], {TWO, NOTE})
    mirror.call.cancel()


@pytest.mark.parametrize(("rpc", "transferables"), [("StreamAssets", False), ("StreamAssetTransferables", True)])
async def test_assets_are_whole(rig: PiecesRig, rpc: str, transferables: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """Snapshot and changes alike hold the asset as the upstream has it, with or without its content."""
    mirror = await rig.stream(rpc).synced()
    before = mirror.map[ONE].asset
    assert convert.document(before) == await rig.document(
        "GetAsset", "asset", asset_id=ONE, transferables=transferables
    )
    rig.standin.put(ONE, {"content": "pass"})
    await mirror.holds(lambda held: held[ONE].asset != before)
    assert convert.document(mirror.map[ONE].asset) == await rig.document(
        "GetAsset", "asset", asset_id=ONE, transferables=transferables
    )
    mirror.call.cancel()


async def test_identifiers_are_as_they_came(rig: PiecesRig) -> None:
    """An item of the identifiers stream comes back member by member."""
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    item = {"asset": {"id": ONE, "reference": None}, "updated": {"value": "2025-06-01T00:00:00Z"}, "tag": {"id": "x"}}
    await send(rig, "StreamAssetIdentifiers", item)
    await mirror.holds(lambda held: held[ONE].identifier.HasField("updated"))
    assert convert.document(mirror.map[ONE].identifier) == item
    mirror.call.cancel()


@ANY_STREAM
async def test_an_empty_account(rpc: str) -> None:
    """Nothing at all is a snapshot too."""
    async with pieces_rig() as rig:
        mirror = await rig.stream(rpc).synced()
        assert (mirror.modes, mirror.map) == ([SNAPSHOT], {})
        mirror.call.cancel()


@ANY_STREAM
async def test_a_quiet_stream_has_bookmarks(rig: PiecesRig, rpc: str) -> None:
    """A stream on which nothing happens says that it lives, as often as it said it would."""
    mirror = await rig.stream(rpc).synced()
    await mirror.until(lambda message: message.HasField("bookmark"))
    assert mirror.messages[0].started.heartbeat_interval.ToMilliseconds() == 300
    mirror.call.cancel()


# One upstream connection ---------------------------------------------------------------------------------------------


@ANY_STREAM
async def test_a_hundred_subscribers_share_one_socket(rig: PiecesRig, rpc: str) -> None:
    """100 subscribers, one upstream connection; all see the same; a late one begins with a snapshot as of now."""
    mirrors = [rig.stream(rpc) for _ in range(100)]
    await asyncio.gather(*[mirror.synced() for mirror in mirrors])
    assert rig.sockets(NAMES[rpc]) == 1
    rig.standin.remove(ONE)
    await asyncio.gather(*[mirror.holds(lambda held: ONE not in held) for mirror in mirrors])
    late = await rig.stream(rpc).synced()
    assert (late.modes, set(late.map), late.removed) == ([SNAPSHOT], {TWO}, [])
    assert rig.standin.requests.count(f"/assets/stream({'/' + NAMES[rpc] if rpc != 'StreamAssets' else ''})$") == 1
    for mirror in [*mirrors, late]:
        mirror.call.cancel()
    await rig.connected(NAMES[rpc], 0)


@ANY_STREAM
async def test_the_socket_comes_and_goes_with_the_subscribers(rig: PiecesRig, rpc: str) -> None:
    """Nobody subscribes: no connection. The last one leaves: it is closed. Another comes: there is a new one."""
    assert rig.sockets(NAMES[rpc]) == 0
    for _ in range(2):
        first, second = await rig.stream(rpc).synced(), await rig.stream(rpc).synced()
        assert rig.sockets(NAMES[rpc]) == 1
        first.call.cancel()
        rig.standin.remove(rig.standin.asset_ids()[0])
        await second.until(lambda message: message.changes)
        assert rig.sockets(NAMES[rpc]) == 1
        second.call.cancel()
        await rig.connected(NAMES[rpc], 0)


async def test_streams_do_not_share_with_each_other(rig: PiecesRig) -> None:
    """Each of the three streams has a connection of its own."""
    mirrors = [await rig.stream(rpc).synced() for rpc in NAMES]
    assert [rig.sockets(name) for name in NAMES.values()] == [1, 1, 1]
    for mirror in mirrors:
        mirror.call.cancel()


async def test_streams_take_no_connection_from_calls() -> None:
    """With one call at a time allowed, calls still get through beside all three streams."""
    async with pieces_rig(source={"concurrency": 1}) as rig:
        shelve(rig.standin)
        mirrors = [await rig.stream(rpc).synced() for rpc in NAMES]
        assert len((await rig.call("ListAssets")).assets.iterable) == 2
        for mirror in mirrors:
            mirror.call.cancel()


async def test_a_subscriber_that_reads_nothing_holds_up_nobody() -> None:
    """Beside one that takes no message, another gets all; when the first reads again, it gets the last state."""
    async with pieces_rig(source={"body_bytes_max": 64 * MIB}) as rig:
        shelve(rig.standin)
        slow, quick = rig.stream("StreamAssetTransferables"), rig.stream("StreamAssetTransferables")
        await slow.synced()
        await quick.synced()
        for turn in range(60):
            rig.standin.put(ONE, {"name": f"turn {turn}", "content": str(turn) * (MIB // 4)})
            await quick.holds(lambda held, turn=turn: held[ONE].asset.name == f"turn {turn}")  # type: ignore[misc]  # bound at once
        await slow.holds(lambda held: held[ONE].asset.name == "turn 59")
        assert len(slow.messages) < len(quick.messages)
        slow.call.cancel()
        quick.call.cancel()


async def test_a_subscriber_that_takes_nothing_is_ended() -> None:
    """After the limit without one message taken the stream ends with ABORTED, and only that one."""
    limits = {"slow_consumer_s": 1.0, "message_bytes_max": 32 * MIB}
    async with pieces_rig(source={"body_bytes_max": 64 * MIB}, server=limits) as rig:
        rig.standin.put(ONE, {"content": "x" * MIB})
        stuck, quick = rig.stream("StreamAssetTransferables"), rig.stream("StreamAssetTransferables")
        await quick.synced()
        for turn in range(20):
            rig.standin.put(ONE, {"name": f"turn {turn}"})
            await quick.holds(lambda held, turn=turn: held[ONE].asset.name == f"turn {turn}")  # type: ignore[misc]  # bound at once
        for _ in range(3):  # the other's bookmarks tell the time
            await quick.until(lambda message: message.HasField("bookmark"))
        told = problem(await stuck.end())
        assert (told.code, told.reason) == (grpc.StatusCode.ABORTED, "SLOW_CONSUMER")
        await quick.until(lambda message: message.HasField("bookmark"))
        quick.call.cancel()


async def test_too_many_streams() -> None:
    """Streams count against the same limits as watches."""
    async with pieces_rig(server={"streams_max": 2}) as rig:
        mirrors = [await rig.stream(rpc).synced() for rpc in ("StreamAssets", "StreamAssetIdentifiers")]
        told = problem(await rig.stream("StreamAssetTransferables").end())
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        for mirror in mirrors:
            mirror.call.cancel()


async def test_a_stream_ends_with_its_age() -> None:
    """At the age limit the stream ends OK; the caller calls again."""
    async with pieces_rig(server={"stream_age_s": 0.5}) as rig:
        shelve(rig.standin)
        mirror = await rig.stream("StreamAssets").synced()
        assert await mirror.end() is None


@ANY_STREAM
async def test_a_server_that_stops(rig: PiecesRig, rpc: str) -> None:
    """Every stream is told that the server stops, and when to come back."""
    mirror = await rig.stream(rpc).synced()
    rig.app.stop()
    told = problem(await mirror.end())
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    assert told.retry_after_s is not None


async def test_a_stream_that_begins_while_the_server_stops(rig: PiecesRig) -> None:
    """Whether its connection is there already or not, it is told at once."""
    mirror = await rig.stream("StreamAssets").synced()
    rig.app._feeds.end(lambda: ServerDraining(retry_after_s=1.5))
    for one in (mirror, rig.stream("StreamAssets"), rig.stream("StreamAssetIdentifiers")):
        told = problem(await one.end())
        assert (told.reason, told.retry_after_s) == ("SERVER_DRAINING", 1.5)


# Broken connections --------------------------------------------------------------------------------------------------


@ANY_STREAM
@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_dropped_socket_is_followed_by_a_fresh_snapshot(rig: PiecesRig, rpc: str, how: str) -> None:
    """The stream stays open, says that the connection broke, and begins anew, marked so; what was deleted is gone."""
    mirrors = [await rig.stream(rpc).synced() for _ in range(3)]
    rig.standin.faults.add(path="/assets/stream", times=2, status=503)
    await rig.command("drop_streams", stream=NAMES[rpc], how=how)
    rig.standin.remove(ONE)
    rig.standin.put(NOTE, {"pseudo": False})
    for mirror in mirrors:
        await mirror.until(lambda message: message.HasField("started"))
        await mirror.synced()
        assert (mirror.modes, set(mirror.map), mirror.removed) == ([SNAPSHOT, RESYNC], {TWO, NOTE}, [])
        states = [condition.state for condition in mirror.conditions]
        assert states[0] == states[-1] == source_pb2.SOURCE_CONDITION_STATE_HEALTHY
        assert source_pb2.SOURCE_CONDITION_STATE_UNREACHABLE in states
    assert rig.sockets(NAMES[rpc]) == 1
    for mirror in mirrors:
        mirror.call.cancel()


@ANY_STREAM
async def test_a_connection_that_never_lasts_is_tried_ever_less(rpc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that breaks right after its snapshot is a failure as any other; one that has lasted begins anew."""
    counted: list[int] = []

    def pause(failures: int, *_: object) -> float:
        counted.append(failures)
        return 0.0

    monkeypatch.setattr(feed, "backoff", SimpleNamespace(backoff_s=pause))
    async with pieces_rig(source={"backoff_max_s": 600}) as rig:
        mirror = await rig.stream(rpc).synced()
        for _ in range(3):
            await rig.command("drop_streams", stream=NAMES[rpc])
            await mirror.until(lambda message: message.HasField("started"))
            await mirror.synced()
        assert counted == [1, 2, 3]
        mirror.call.cancel()
    counted.clear()
    async with pieces_rig(source={"backoff_first_s": 0.001, "backoff_max_s": 0.001}) as rig:
        mirror = await rig.stream(rpc).synced()
        for _ in range(3):
            await rig.command("drop_streams", stream=NAMES[rpc])
            await mirror.until(lambda message: message.HasField("started"))
            await mirror.synced()
        assert counted == [1, 1, 1]
        mirror.call.cancel()


@ANY_STREAM
async def test_what_a_connection_told_ends_with_the_next(rpc: str, rig: PiecesRig) -> None:
    """Two connections' worth is held at most, however many there were; nobody need look for garbage for that."""
    mirror = await rig.stream(rpc).synced()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await rig.command("drop_streams", stream=NAMES[rpc])
            await mirror.until(lambda message: message.HasField("started"))
            await mirror.synced()
        held = [each for each in gc.get_objects() if isinstance(each, Session | MemoryStore)]
    finally:
        gc.enable()
    for kind in (Session, MemoryStore):
        assert sum(isinstance(each, kind) for each in held) <= 2
    mirror.call.cancel()


@ANY_STREAM
async def test_what_a_feed_held_ends_with_its_last_subscriber(rpc: str, rig: PiecesRig) -> None:
    """However many come and go, and whether or not anybody looks for garbage."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(4):
            mirror = await rig.stream(rpc).synced()
            mirror.call.cancel()
            await rig.connected(NAMES[rpc], 0)
        await asyncio.sleep(0.01)
        held = [type(each) for each in gc.get_objects() if isinstance(each, Session | feed.Feed)]
    finally:
        gc.enable()
    assert held.count(Session) <= 1
    assert held.count(feed.Feed) <= 1


@ANY_STREAM
async def test_what_an_attempt_held_ends_with_it(rpc: str, rig: PiecesRig) -> None:
    """Nor do connections stay, with the frames that waited, for which there never was a list: garbage or not."""
    mirror = await rig.stream(rpc).synced()
    gc.collect()
    gc.disable()
    try:
        rig.standin.faults.add(path="/assets/identifiers", times=5, status=500)
        await rig.command("drop_streams", stream=NAMES[rpc])
        await mirror.until(lambda message: message.HasField("started"))
        await mirror.synced()
        held = [
            type(each)
            for each in gc.get_objects()
            if isinstance(each, Documents | Listener | shared_stream._Connection)
        ]
    finally:
        gc.enable()
    for kind in (Documents, Listener, shared_stream._Connection):
        assert held.count(kind) <= 2
    mirror.call.cancel()


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_reads_that_are_given_up_are_gone(all_of_them: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """No task of a read stays until garbage is looked for: there may be ten thousand of them."""

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    api: Any = SimpleNamespace(get=hang, settings=SimpleNamespace(concurrency=2), source=SOURCE)
    rng = random.Random(1)  # noqa: S311 - a scenario that repeats, not a secret
    reads = Reads(api, transferables=False, answered=hang, rng=rng)
    for asset_id in (ONE, TWO, NOTE):
        reads.want(frames.identifier(asset_id))
    await asyncio.sleep(0)
    tasks = [weakref.ref(task) for task in asyncio.all_tasks() if ".read." in task.get_name()]
    assert len(tasks) == 3
    gc.disable()
    try:
        if not all_of_them:
            for asset_id in (ONE, TWO, NOTE):
                reads.forget(asset_id)
            await asyncio.sleep(0.01)
        await reads.end()
        assert [task() for task in tasks] == [None] * 3
    finally:
        gc.enable()


@ANY_STREAM
async def test_a_half_open_socket_is_noticed(rpc: str) -> None:
    """A connection that brings nothing and answers no ping is given up, and a new one tells what was missed."""
    async with pieces_rig(source={"ping_interval_s": 0.4}) as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        await rig.command("mute_streams", stream=NAMES[rpc])
        rig.standin.remove(ONE)
        await mirror.until(lambda message: message.HasField("started"))
        await mirror.synced()
        assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT, RESYNC], {TWO})
        mirror.call.cancel()


async def test_a_socket_that_is_mute_from_the_start() -> None:
    """Identifiers without a first frame are no snapshot; the reason is told until there is one."""
    async with pieces_rig(source={"first_frame_timeout_s": 0.2}) as rig:
        shelve(rig.standin)
        await rig.command("mute_streams", stream="identifiers", also_new=True)
        mirror = rig.stream("StreamAssetIdentifiers")
        message = await mirror.until(lambda message: message.HasField("condition"))
        assert message.condition.state == source_pb2.SOURCE_CONDITION_STATE_UNREACHABLE
        assert "first frame" in message.condition.message
        assert mirror.modes == []
        await rig.command("unmute_streams", stream="identifiers")
        await mirror.synced()
        assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT], {ONE, TWO})
        mirror.call.cancel()


@ANY_STREAM
async def test_an_upstream_that_is_not_there_yet(rig: PiecesRig, rpc: str) -> None:
    """A stream over a dead server waits, says why, lives, and begins when the server does; a late one is told too."""
    await rig.standin.stop()
    mirror, late = rig.stream(rpc), rig.stream(rpc)
    for waiting in (mirror, late):
        message = await waiting.until(lambda message: message.HasField("condition"))
        assert message.condition.state == source_pb2.SOURCE_CONDITION_STATE_UNREACHABLE
        await waiting.until(lambda message: message.HasField("bookmark"))
    await rig.standin.start()
    for waiting in (mirror, late):
        await waiting.synced()
        assert (waiting.modes, set(waiting.map)) == ([SNAPSHOT], {ONE, TWO})
        waiting.call.cancel()


@ANY_STREAM
async def test_a_subscriber_who_comes_while_the_connection_is_broken(rig: PiecesRig, rpc: str) -> None:
    """It gets the last known state at once, with the condition, and the fresh one when it is there."""
    first = await rig.stream(rpc).synced()
    await rig.standin.stop()
    await first.until(lambda message: message.condition.state == source_pb2.SOURCE_CONDITION_STATE_UNREACHABLE)
    late = await rig.stream(rpc).synced()
    assert (late.modes, set(late.map)) == ([SNAPSHOT], {ONE, TWO})
    assert late.conditions[0].state == source_pb2.SOURCE_CONDITION_STATE_UNREACHABLE
    rig.standin.remove(ONE)
    await rig.standin.start()
    await late.until(lambda message: message.HasField("started"))
    await late.synced()
    assert (late.modes, set(late.map)) == ([SNAPSHOT, RESYNC], {TWO})
    for mirror in (first, late):
        mirror.call.cancel()


@ANY_STREAM
@pytest.mark.parametrize("text", ["{", '{"iter', '{"iterable":{}}', '{"iterable":[}'])
async def test_frames_that_cannot_be_read(rig: PiecesRig, rpc: str, text: str) -> None:
    """A frame nobody can read ends the connection, not the stream: a fresh snapshot makes up for it."""
    mirror = await rig.stream(rpc).synced()
    await rig.command("send_frame", stream=NAMES[rpc], text=text)
    await mirror.until(lambda message: message.HasField("started"))
    await mirror.synced()
    assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT, RESYNC], {ONE, TWO})
    assert source_pb2.SOURCE_CONDITION_STATE_DEGRADED in [condition.state for condition in mirror.conditions]
    mirror.call.cancel()


@ANY_STREAM
@pytest.mark.parametrize(
    "text", ["", "  ", "ping", "not JSON", "[]", "{}", "null", "7", '"x"', '{"type":"keepalive"}', '{"iterable":null}']
)
async def test_texts_that_are_no_frames_are_passed_over(rig: PiecesRig, rpc: str, text: str) -> None:
    """An empty text, a sign of life, or what a later release may send: the stream goes on, and says what comes next."""
    mirror = await rig.stream(rpc).synced()
    for _ in range(3):
        await rig.command("send_frame", stream=NAMES[rpc], text=text)
    rig.standin.put(ONE, {"name": "after it"})
    await mirror.until(lambda message: ONE in {change.asset_id for change in message.changes})
    assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT], {ONE, TWO})
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_a_list_that_is_refused(rig: PiecesRig, rpc: str) -> None:
    """The list that goes with an Assets stream may be refused: the condition says so, in the upstream's words."""
    rig.standin.faults.add(
        path="/assets/identifiers", times=2, status=500, body="database locked", content_type="text/plain"
    )
    mirror = await rig.stream(rpc).synced()
    assert "database locked" in mirror.conditions[0].message
    assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT], {ONE, TWO})
    mirror.call.cancel()


# Frames no one expected ----------------------------------------------------------------------------------------------


@ANY_STREAM
@pytest.mark.parametrize("copies", [1, 20])
async def test_duplicates_tell_nothing_new(rig: PiecesRig, rpc: str, copies: int) -> None:
    """The same news many times over, at once or later, is one change, as long as the upstream dates it."""
    rig.standin.switch({"frame_copies": copies})
    mirror = await rig.stream(rpc).synced()
    rig.standin.put(ONE, {"name": "twice"})
    await mirror.until(lambda message: message.changes)
    change = mirror.map[ONE]
    again = convert.document(change.identifier if rpc == "StreamAssetIdentifiers" else change.asset)
    for _ in range(3):
        await send(rig, rpc, again)
        await passed(rig, mirror)
    told = [change.asset_id for message in mirror.messages for change in message.changes]
    assert (told.count(ONE), told.count(TWO)) == (2, 4)
    mirror.call.cancel()


async def passed(rig: PiecesRig, mirror: Mirror) -> None:
    """Let everything sent so far arrive: a change of another asset comes after it."""
    rig.standin.put(TWO, {"name": f"pass {len(mirror.messages)}"})
    await mirror.until(lambda message: TWO in {change.asset_id for change in message.changes})


async def test_undated_items_are_each_a_change(rig: PiecesRig) -> None:
    """Items without a date look alike whatever they tell of, so none of them is taken for a repetition."""
    rig.standin.switch({"frame_updated": "never"})
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    for _ in range(3):
        rig.standin.put(ONE, {"name": "again"})
        await mirror.until(lambda message: [change.asset_id for change in message.changes] == [ONE])
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_overtaken_frames_do_not_undo_newer_ones(rig: PiecesRig, rpc: str) -> None:
    """What arrives late, of an older date, changes nothing; a deletion is not undone by it either."""
    mirror = await rig.stream(rpc).synced()
    old = await rig.document("GetAsset", "asset", asset_id=ONE)
    rig.standin.put(ONE, {"name": "newer"})
    await mirror.holds(lambda held: held[ONE].asset.name == "newer")
    await send(rig, rpc, old)
    await passed(rig, mirror)
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    await send(rig, rpc, old)
    await passed(rig, mirror)
    told = [change.asset.name for message in mirror.messages for change in message.changes if change.asset_id == ONE]
    assert told == ["retry loop", "newer", "newer"]
    assert ONE not in mirror.map
    mirror.call.cancel()


@WHOLE_ASSETS
@pytest.mark.parametrize("date", ["2999-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
async def test_a_date_that_has_not_come_makes_nothing_late(rig: PiecesRig, rpc: str, date: str) -> None:
    """What comes after it is news still; what is gone is brought back only by an answer."""
    mirror = await rig.stream(rpc).synced()
    asset = await rig.document("GetAsset", "asset", asset_id=ONE)
    ahead = {**asset, "name": "ahead", "updated": {"value": date}}
    await send(rig, rpc, ahead)
    await mirror.holds(lambda held: held[ONE].asset.name == "ahead")
    rig.standin.put(ONE, {"name": "newer"})
    await mirror.holds(lambda held: held[ONE].asset.name == "newer")
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    await send(rig, rpc, ahead)
    await passed(rig, mirror)
    assert set(mirror.map) == {TWO}
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_an_overtaken_frame_does_not_take_an_asset_out(rig: PiecesRig, rpc: str) -> None:
    """That the user had not saved an asset yet, said late, is older than that he has."""
    mirror = await rig.stream(rpc).synced()
    saved = await rig.document("GetAsset", "asset", asset_id=ONE)
    await send(rig, rpc, {**saved, "updated": {"value": "2020-01-01T00:00:00Z"}, "pseudo": True})
    await passed(rig, mirror)
    assert (set(mirror.map), mirror.removed) == ({ONE, TWO}, [])
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_an_overtaken_frame_does_not_bring_an_asset_in(rig: PiecesRig, rpc: str) -> None:
    """That an asset nobody was told of was saved once, said late, is older than that it is so no more."""
    mirror = await rig.stream(rpc).synced()
    asset = {**await rig.document("GetAsset", "asset", asset_id=ONE), "id": NOTE}
    await send(rig, rpc, {**asset, "updated": {"value": "2025-06-02T00:00:00Z"}, "pseudo": True})
    await send(rig, rpc, {**asset, "updated": {"value": "2025-06-01T00:00:00Z"}})
    await passed(rig, mirror)
    assert set(mirror.map) == {ONE, TWO}
    await send(rig, rpc, {**asset, "updated": {"value": "2025-06-03T00:00:00Z"}})
    await mirror.holds(lambda held: NOTE in held)
    mirror.call.cancel()


async def test_an_identifier_that_comes_after_its_deletion(rig: PiecesRig) -> None:
    """An item about an asset just deleted is checked with the upstream: late news is dropped, a real return is told."""
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    await send(rig, "StreamAssetIdentifiers", {"asset": {"id": ONE}, "updated": {"value": "2025-06-01T00:00:00Z"}})
    await passed(rig, mirror)
    assert ONE not in mirror.map
    rig.standin.put(ONE, {"name": "back"})
    await mirror.holds(lambda held: ONE in held)
    mirror.call.cancel()


@pytest.mark.parametrize("back", [True, False])
async def test_a_return_is_told_only_when_it_is_confirmed(rig: PiecesRig, back: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """As long as the upstream does not answer, the tombstone stays; it is asked until it does, and that counts."""
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    rig.standin.requests.clear()
    rig.standin.faults.add(path=f"/assets/{ONE}", status=503)
    if back:
        rig.standin.put(ONE, {"name": "back"})
    else:
        await send(rig, "StreamAssetIdentifiers", {"asset": {"id": ONE}})
    await asked(rig, ONE, 4)
    await passed(rig, mirror)
    assert ONE not in mirror.map
    rig.standin.faults.clear()
    if back:
        await mirror.holds(lambda held: ONE in held)
    else:
        await asked(rig, ONE, 1 + rig.standin.requests.count(ONE))
        await passed(rig, mirror)
        assert ONE not in mirror.map
    mirror.call.cancel()


async def asked(rig: PiecesRig, asset_id: str, times: int) -> None:
    """Wait until the upstream was asked for an asset that often."""
    async with asyncio.timeout(15):
        while rig.standin.requests.count(asset_id) < times:  # noqa: ASYNC110 - it is the stand-in that is asked
            await asyncio.sleep(0.005)


@ANY_STREAM
async def test_a_check_holds_up_nothing_else(rig: PiecesRig, rpc: str) -> None:
    """While the upstream does not answer whether one asset is back, the deletion of another arrives."""
    mirror = await rig.stream(rpc).synced()
    old = await rig.document("GetAsset", "asset", asset_id=ONE)
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    rig.standin.requests.clear()
    rig.standin.faults.add(path=f"/assets/{ONE}", hang=True)
    del old["updated"]  # else it is known to be late, and nothing is asked
    await send(rig, rpc, {"asset": {"id": ONE}} if rpc == "StreamAssetIdentifiers" else old)
    await asked(rig, ONE, 1)
    rig.standin.remove(TWO)
    await mirror.holds(lambda held: TWO not in held)
    assert (mirror.removed, mirror.modes) == ([ONE, TWO], [SNAPSHOT])
    mirror.call.cancel()


@WHOLE_ASSETS
@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("answer", [{"status": 410, "body": "gone", "content_type": "text/plain"}, {}])
async def test_news_while_a_check_is_in_flight(
    rig: PiecesRig,
    rpc: str,
    pseudo: bool,  # noqa: FBT001 - a parameter of the case
    answer: dict[str, Any],
) -> None:
    """What the stream says of an asset that is being asked about wins over the answer, which may be older."""
    mirror = await rig.stream(rpc).synced()
    old = await rig.document("GetAsset", "asset", asset_id=ONE)
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    rig.standin.requests.clear()
    stale = {"body": json.dumps(old), "content_type": "application/json", **answer}
    rig.standin.faults.add(path=f"/assets/{ONE}", times=1, hang=True, **stale)
    await send(rig, rpc, {key: value for key, value in old.items() if key != "updated"})
    await asked(rig, ONE, 1)
    newer = {**old, "updated": {"value": "2025-06-01T00:00:00Z"}, "name": "newer", "pseudo": pseudo}
    await send(rig, rpc, newer)
    await passed(rig, mirror)
    rig.standin.faults.clear()
    await rig.call("GetAsset", asset_id=TWO)
    await passed(rig, mirror)
    assert mirror.names().get(ONE) == (None if pseudo else "newer")
    mirror.call.cancel()


async def test_a_deletion_while_the_check_is_in_flight(rig: PiecesRig) -> None:
    """A tombstone that comes while an older question is still open wins over its answer."""
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    alive = json.dumps({"id": ONE})
    rig.standin.requests.clear()
    rig.standin.faults.add(path=f"/assets/{ONE}", times=1, hang=True, body=alive, content_type="application/json")
    await send(rig, "StreamAssetIdentifiers", {"asset": {"id": ONE}})
    await asked(rig, ONE, 1)
    await send(rig, "StreamAssetIdentifiers", {"asset": {"id": ONE}, "deleted": True})
    rig.standin.put(TWO, {"name": "end"})
    rig.standin.faults.clear()
    await mirror.until(lambda message: TWO in {change.asset_id for change in message.changes})
    assert ONE not in mirror.map
    mirror.call.cancel()


@pytest.mark.parametrize("newest_first", [False, True])
async def test_many_changes_in_any_order(newest_first: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """Bursts in reverse order, several copies, many ids a frame: every stream ends with what is true."""
    switches = {"frames_newest_first": newest_first, "frame_copies": 3, "frame_ids_max": 7}
    async with pieces_rig() as rig:
        rig.standin.switch(switches)
        rng = random.Random(5)  # noqa: S311 - a scenario that repeats, not a secret
        rig.standin.seed(rng, 30)
        mirrors = {rpc: await rig.stream(rpc).synced() for rpc in NAMES}
        for _ in range(300):
            rig.standin.advance(rng)
        true = {
            asset_id: rig.held(asset_id)["updated"]
            for asset_id in rig.standin.asset_ids()
            if not rig.held(asset_id)["pseudo"]
        }
        for rpc in ("StreamAssets", "StreamAssetTransferables"):
            mirror = mirrors[rpc]
            await mirror.holds(
                lambda held: true == {k: v.asset.updated.value for k, v in held.items() if not v.asset.pseudo}
            )
        await mirrors["StreamAssetIdentifiers"].holds(lambda held: set(true) == set(held))
        for mirror in mirrors.values():
            mirror.call.cancel()


@pytest.mark.parametrize(
    "tombstone", [{"deleted": True}, {"deleted": {"value": "2025-06-01T00:00:00Z"}}, {"deleted": 1748736000}]
)
async def test_tombstones_of_identifiers(rig: PiecesRig, tombstone: dict[str, Any]) -> None:
    """A deletion is told by a flag or by a time, and wins over the rest of its frame wherever it stands."""
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    dead = {"asset": {"id": ONE}, **tombstone}
    await send(rig, "StreamAssetIdentifiers", dead, {"asset": {"id": ONE}}, {"asset": {"id": TWO}, "deleted": False})
    await mirror.until(lambda message: ONE in {change.asset_id for change in message.changes})
    assert (mirror.removed, set(mirror.map)) == ([ONE], {TWO})
    last = [change for message in mirror.messages for change in message.changes if change.asset_id == ONE][-1]
    assert convert.document(last.identifier) == dead
    mirror.call.cancel()


@WHOLE_ASSETS
@pytest.mark.parametrize("form", ["timestamp", "mechanism"])
async def test_tombstones_of_assets(rig: PiecesRig, rpc: str, form: str) -> None:
    """A deletion is told by a time or by the mechanism; the last word on the asset comes along."""
    rig.standin.switch({"assets_tombstone": form})
    mirror = await rig.stream(rpc).synced()
    rig.standin.remove(ONE)
    message = await mirror.until(lambda message: message.changes)
    [change] = message.changes
    assert (change.kind, change.asset_id, change.asset.name) == (CHANGE_KIND_REMOVED, ONE, "retry loop")
    assert change.asset.HasField("deleted") is (form == "timestamp")
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_assets_streams_that_begin_with_nothing(rig: PiecesRig, rpc: str) -> None:
    """Whether an Assets stream begins with everything is not documented: the snapshot does not depend on it."""
    rig.standin.switch({"assets_first_frame": False})
    mirror = await rig.stream(rpc).synced()
    assert set(mirror.map) == {ONE, TWO}
    rig.standin.put(ONE, {"name": "changed"})
    await mirror.holds(lambda held: held[ONE].asset.name == "changed")
    assert set(mirror.map) == {ONE, TWO}
    mirror.call.cancel()


async def test_items_about_other_things(rig: PiecesRig) -> None:
    """Items that name no asset, and things that are no items, are left out; the rest of their frame counts."""
    mirror = await rig.stream("StreamAssetIdentifiers").synced()
    other: list[Any] = [
        {"conversation": {"id": TWO}, "deleted": True},
        None,
        7,
        {"asset": {}},
        {"asset": {"id": 5}},
        {},
    ]
    await send(rig, "StreamAssetIdentifiers", *other, {"asset": {"id": ONE}, "range": {"id": "r"}})
    await mirror.holds(lambda held: "range" in held[ONE].identifier.extra)
    assert set(mirror.map) == {ONE, TWO}
    assert mirror.modes == [SNAPSHOT]
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_assets_no_one_expected(rig: PiecesRig, rpc: str) -> None:
    """Unknown members and enum values, missing members and wrong types pass through; what has no id is left out."""
    mirror = await rig.stream(rpc).synced()
    strange = {"id": NOTE, "mechanism": "TELEPATHIC", "updated": "soon", "formats": [], "serial": 2**60 + 1, "x": {}}
    await send(rig, rpc, {"name": "nobody"}, strange)
    await mirror.holds(lambda held: NOTE in held)
    assert convert.document(mirror.map[NOTE].asset) == strange
    assert set(mirror.map) == {ONE, TWO, NOTE}
    mirror.call.cancel()


# Sizes ---------------------------------------------------------------------------------------------------------------


@ANY_STREAM
async def test_ten_thousand_assets_in_the_first_frame(rpc: str) -> None:
    """All of them arrive, in messages of bounded size, over one connection."""
    async with pieces_rig(source={"timeout_s": 60, "first_frame_timeout_s": 60}) as rig:
        rig.standin.seed(random.Random(3), 10_000)  # noqa: S311 - a scenario that repeats, not a secret
        there = {i for i in rig.standin.asset_ids() if not rig.held(i)["pseudo"]}
        mirror = await asyncio.wait_for(patient(rig.stream(rpc)), 90)
        assert set(mirror.map) == there
        assert all(len(message.changes) <= 100 for message in mirror.messages)
        assert max(message.ByteSize() for message in mirror.messages) <= 64 * 1024
        assert rig.sockets(NAMES[rpc]) == 1
        mirror.call.cancel()


async def patient(mirror: Mirror) -> Mirror:
    """Take everything in up to synced, however long it takes."""
    while True:
        message = await mirror.call.read()
        mirror.take(message)
        if message.HasField("synced"):
            return mirror


async def test_five_megabytes_of_content() -> None:
    """5 MB in one asset come whole when the limits allow it, in the snapshot and in a change."""
    async with pieces_rig(source={"body_bytes_max": 64 * MIB}, server={"message_bytes_max": 32 * MIB}) as rig:
        rig.standin.put(ONE, {"content": "a" * (5 * MIB)})
        mirror = await rig.stream("StreamAssetTransferables").synced()
        assert mirror.map[ONE].asset.formats.iterable[0].fragment.string.raw == "a" * (5 * MIB)
        rig.standin.put(ONE, {"content": "b" * (5 * MIB)})
        await mirror.holds(lambda held: held[ONE].asset.formats.iterable[0].fragment.string.raw[0] == "b")
        mirror.call.cancel()


async def test_content_beyond_the_limit_of_a_message() -> None:
    """An asset too large for a message is told without its content, and with its size; all others are whole."""
    async with pieces_rig(source={"body_bytes_max": 64 * MIB}) as rig:
        shelve(rig.standin)
        rig.standin.put(ONE, {"content": "a" * (5 * MIB)})
        mirror = await rig.stream("StreamAssetTransferables").synced()
        assert not mirror.map[ONE].HasField("asset")
        assert mirror.map[ONE].omitted_bytes > 10 * MIB
        assert mirror.map[TWO].omitted_bytes == 0
        assert mirror.map[TWO].asset.name == "pager"
        rig.standin.put(ONE, {"content": "small"})
        await mirror.holds(lambda held: held[ONE].HasField("asset"))
        mirror.call.cancel()


@ANY_STREAM
async def test_a_frame_beyond_the_limit_of_an_answer(rpc: str) -> None:
    """A frame larger than body_bytes_max is not read: the condition names the setting."""
    async with pieces_rig(source={"body_bytes_max": 64 * 1024}) as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        await rig.command("send_frame", stream=NAMES[rpc], text=json.dumps({"iterable": ["x" * 100_000]}))
        message = await mirror.until(lambda message: message.condition.message)
        assert "body_bytes_max" in message.condition.message
        mirror.call.cancel()


async def test_streams_of_two_sources_are_apart(rig: PiecesRig) -> None:
    """A source of another kind has no streams of this service."""
    told = problem(await rig.stream("StreamAssets", source=OTHER_KIND).end())
    assert told.reason == "SOURCE_KIND_MISMATCH"
    assert (await rig.stream("StreamAssets", source=SOURCE).synced()).map
