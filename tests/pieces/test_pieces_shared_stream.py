"""The identifiers stream of a source: one upstream connection for all that follow it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.v1 import asset_status_service_pb2

from assetwatchd.adapters.pieces import Pieces
from assetwatchd.model.errors import Unreachable
from assetwatchd.pieces.client import listener
from assetwatchd.polling.scheduler import Scheduler
from assetwatchd.settings.schema import PiecesSource
from support.pieces_rig import ONE, SOURCE, TWO, PiecesRig, pieces_rig, shelve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatchd.pieces.client.frames import Frame
    from assetwatchd.pieces.client.shared_stream import SharedStream


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    async with pieces_rig() as rig:
        shelve(rig.standin)
        yield rig


@pytest.fixture
async def shared(rig: PiecesRig) -> AsyncIterator[SharedStream]:
    upstream = Pieces("desk", PiecesSource(kind="pieces", base_url=rig.standin.url, first_frame_timeout_s=0.5))  # type: ignore[arg-type]  # read as in a file
    yield upstream.server.identifiers
    await upstream.close()


def ids(frame: Frame) -> dict[str, bool]:
    return {item.asset_id: item.gone for item in frame.items}


async def test_watches_and_streams_share_one_socket(rig: PiecesRig) -> None:
    """Watches of a status, streams of ids, and a stream of assets by ids have one upstream connection together."""
    request = asset_status_service_pb2.WatchStatusRequest(sources=[SOURCE])
    watch = rig.statuses.WatchStatus(request)
    await rig.connected("identifiers", 1)
    async with asyncio.timeout(15):
        source = rig.app.sources.get(SOURCE)
        assert isinstance(source, Scheduler)
        while not source.pushing:  # noqa: ASYNC110 - there is no wakeup for it
            await asyncio.sleep(0.005)
    stream = await rig.stream("StreamAssetIdentifiers").synced()
    assert set(stream.map) == {ONE, TWO}
    while not (await watch.read()).HasField("synced"):  # what goes before is not told
        pass
    rig.standin.remove(ONE)
    await stream.holds(lambda held: ONE not in held)
    while not any(change.kind == 2 for change in (await watch.read()).changes):
        pass
    assert rig.standin.requests.count("/assets/stream/identifiers") == 1
    watch.cancel()
    rig.standin.remove(TWO)
    await stream.holds(lambda held: not held)
    assert rig.sockets("identifiers") == 1
    stream.call.cancel()


async def test_a_late_listener_begins_with_all_there_is(rig: PiecesRig, shared: SharedStream) -> None:
    """Its first frame is what the frames before it add up to; then both hear the same."""
    async with shared.listen() as early, AsyncExitStack() as stack:
        assert ids(await anext(early)) == {ONE: False, TWO: False}
        rig.standin.remove(ONE)
        assert ids(await anext(early)) == {ONE: True}
        late = await stack.enter_async_context(shared.listen())
        assert ids(await anext(late)) == {TWO: False}
        rig.standin.put(ONE, {"name": "back"})
        assert ids(await anext(early)) == ids(await anext(late)) == {ONE: False}
        assert rig.sockets("identifiers") == 1
    await rig.connected("identifiers", 0)


async def test_one_that_comes_before_the_first_frame(rig: PiecesRig, shared: SharedStream) -> None:
    """Two at once share the first frame."""
    async with shared.listen() as one, shared.listen() as other:
        assert ids(await anext(one)) == ids(await anext(other)) == {ONE: False, TWO: False}
        assert rig.sockets("identifiers") == 1


async def test_one_that_leaves_takes_nothing_from_another(rig: PiecesRig, shared: SharedStream) -> None:
    """The connection stays until the last one goes."""
    async with shared.listen() as stays:
        async with shared.listen():
            pass
        await anext(stays)
        rig.standin.remove(ONE)
        assert ids(await anext(stays)) == {ONE: True}


async def test_a_break_is_told_to_all(rig: PiecesRig, shared: SharedStream) -> None:
    """Each hears that the connection broke, and a new one begins while the others have not left yet."""
    async with shared.listen() as one, shared.listen() as other:
        await anext(one)
        await rig.command("drop_streams", stream="identifiers")
        with pytest.raises(Unreachable):
            await anext(one)
        async with shared.listen() as again:
            assert ids(await anext(again)) == {ONE: False, TWO: False}
        assert ids(await anext(other)) == {ONE: False, TWO: False}
        with pytest.raises(Unreachable):
            await anext(other)


async def test_a_first_frame_that_does_not_come(rig: PiecesRig, shared: SharedStream) -> None:
    """Nobody waits for it any longer than the setting says."""
    await rig.command("mute_streams", stream="identifiers", also_new=True)
    async with shared.listen() as one:
        with pytest.raises(Unreachable, match="first frame"):
            await anext(one)


@pytest.mark.parametrize("wanted", [set(), {ONE}])
async def test_a_first_frame_of_null(rig: PiecesRig, shared: SharedStream, wanted: set[str]) -> None:
    """A server that has nothing to tell of may say so: if no list comes after it, there is none."""
    rig.standin.faults.add(path="/assets/stream/identifiers", on="frame", times=1, body='{"iterable":null}')
    async with shared.listen() as listener:
        await rig.connected("identifiers", 1)
        if wanted:
            text = json.dumps({"iterable": [{"asset": {"id": each}} for each in wanted]})
            await rig.command("send_frame", stream="identifiers", text=text)
        assert set(ids(await anext(listener))) == wanted
        rig.standin.put(TWO, {"name": "changed"})
        assert set(ids(await anext(listener))) == {TWO}


async def test_one_that_is_too_slow(rig: PiecesRig, shared: SharedStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves waiting is bounded: it is ended, and the others are not; anew it begins with all there is."""
    monkeypatch.setattr(listener, "WAITING_BYTES_MAX", 3.5 * listener.FRAME_BYTES)
    async with shared.listen() as quick:
        async with shared.listen() as slow:
            await anext(quick)
            for number in range(5):
                item: dict[str, Any] = {"asset": {"id": f"id {number}"}}
                await rig.command("send_frame", stream="identifiers", text=json.dumps({"iterable": [item]}))
                assert ids(await anext(quick)) == {f"id {number}": False}
            assert [len(ids(await anext(slow))) for _ in range(3)] == [2, 1, 1]
            with pytest.raises(Unreachable, match="faster"):
                await anext(slow)
        async with shared.listen() as anew:
            assert len(ids(await anext(anew))) == 7
