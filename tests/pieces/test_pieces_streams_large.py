"""Streams whose frames, lists or assets are larger than what we take at once: nothing breaks, little is left out."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb

from assetwatchd.pieces.client import listener
from assetwatchd.rpc.pieces import convert
from support.pieces_rig import NOTE, ONE, SOURCE, TWO, Mirror, PiecesRig, pieces_rig, shelve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KIB = 1024
LIMIT = 64 * KIB
WHOLE_ASSETS = pytest.mark.parametrize("rpc", ["StreamAssets", "StreamAssetTransferables"])
TRANSFERABLES = {"StreamAssets": False, "StreamAssetTransferables": True}
NAMES = {"StreamAssets": "assets", "StreamAssetIdentifiers": "identifiers", "StreamAssetTransferables": "transferables"}


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    """A hundred assets, which do not fit into one answer, though each does."""
    async with pieces_rig(source={"body_bytes_max": LIMIT}) as rig:
        rig.standin.seed(random.Random(3), 100)  # noqa: S311 - a scenario that repeats, not a secret
        shelve(rig.standin)
        yield rig


def saved(rig: PiecesRig) -> set[str]:
    """Every asset there is but those the user did not save."""
    return {asset_id for asset_id in rig.standin.asset_ids() if not rig.held(asset_id)["pseudo"]}


async def patient(mirror: Mirror) -> Mirror:
    """Take everything in up to synced, however long it takes."""
    while True:
        message = await mirror.call.read()
        mirror.take(message)
        if message.HasField("synced"):
            return mirror


@pytest.mark.parametrize("rpc", list(NAMES))
async def test_ten_thousand_assets_beyond_the_limit_of_an_answer(rpc: str) -> None:
    """All of them arrive at default pace, though a third would fill an answer: with one call, and changes follow."""
    pace = {"backoff_first_s": 1, "backoff_max_s": 30, "rate_per_s": 200, "body_bytes_max": 8 * KIB * KIB}
    async with pieces_rig(source=pace) as rig:
        rig.standin.seed(random.Random(3), 10_000)  # noqa: S311 - a scenario that repeats, not a secret
        mirror = await asyncio.wait_for(patient(rig.stream(rpc)), 90)
        assert set(mirror.map) == saved(rig)
        assert max(message.ByteSize() for message in mirror.messages) <= 64 * KIB
        assert not rig.standin.requests.count(r"/assets/[0-9a-f-]{36}")
        assert rig.standin.requests.count(r"/assets\?") == (rpc != "StreamAssetIdentifiers")
        rig.standin.put(ONE, {"name": "one more"})
        await mirror.holds(lambda held: ONE in held)
        mirror.call.cancel()


@WHOLE_ASSETS
async def test_frames_that_are_too_large_are_done_without(rig: PiecesRig, rpc: str) -> None:
    """The snapshot is whole, then changes follow as they happen, each asset as the upstream has it."""
    mirror = await rig.stream(rpc).synced()
    assert set(mirror.map) == saved(rig)
    rig.standin.put(ONE, {"name": "renamed"})
    await mirror.holds(lambda held: held[ONE].asset.name == "renamed")
    assert convert.document(mirror.map[ONE].asset) == await rig.document(
        "GetAsset", "asset", asset_id=ONE, transferables=TRANSFERABLES[rpc]
    )
    rig.standin.put(NOTE, {"pseudo": False, "name": "note"})
    await mirror.holds(lambda held: NOTE in held)
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    last = [change for message in mirror.messages for change in message.changes if change.asset_id == ONE][-1]
    assert convert.document(last.asset) == {"id": ONE, "deleted": True}
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_each_asset_is_read_once(rig: PiecesRig, rpc: str) -> None:
    """One call for all assets makes the snapshot, whatever its length; no asset is read again."""
    mirror = await rig.stream(rpc).synced()
    assert rig.standin.requests.count(r"/assets\?") == 1
    assert not rig.standin.requests.count(r"/assets/[0-9a-f-]{36}")
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_after_a_break_frames_are_done_without_from_the_start(rig: PiecesRig, rpc: str) -> None:
    """What was too large once is not tried again: a break of the connection costs one more call for all."""
    mirror = await rig.stream(rpc).synced()
    await rig.command("drop_streams", stream="identifiers")
    rig.standin.remove(ONE)
    await mirror.until(lambda message: message.HasField("started"))
    await mirror.synced()
    assert set(mirror.map) == saved(rig)
    assert rig.standin.requests.count(f"/assets/stream({'/' + NAMES[rpc] if rpc != 'StreamAssets' else ''})$") == 1
    mirror.call.cancel()


@WHOLE_ASSETS
@pytest.mark.parametrize("room", [True, False])
async def test_much_news_while_the_snapshot_is_made(
    rpc: str,
    room: bool,  # noqa: FBT001 - a parameter of the case
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long it takes, the connection is read and stays; what it brought comes next, though little may wait."""
    if not room:
        monkeypatch.setattr(listener, "WAITING_BYTES_MAX", 64 * KIB)
    async with pieces_rig(source={"ping_interval_s": 4 if room else 60}) as rig:
        shelve(rig.standin)
        rig.standin.faults.add(path="/assets/identifiers", hang=True)
        mirror = rig.stream(rpc)
        await rig.connected(NAMES[rpc], 1)
        news: list[dict[str, Any]] = [
            {"id": ONE, "updated": {"value": f"2025-06-{day:02}T00:00:00Z"}, "x": 60_000 * "x"} for day in range(1, 21)
        ]
        for item in news:
            await rig.command("send_frame", stream=NAMES[rpc], text=json.dumps({"iterable": [item]}))
        for _ in range(15 if room else 3):  # longer than a connection that is not read would live
            await mirror.until(lambda message: message.HasField("bookmark"))
        rig.standin.faults.clear()
        await mirror.holds(lambda held: ONE in held and held[ONE].asset.updated.value == news[-1]["updated"]["value"])
        assert mirror.modes == [pb.StreamStarted.MODE_SNAPSHOT]
        assert rig.standin.requests.count(f"/assets/stream({'/' + NAMES[rpc] if rpc != 'StreamAssets' else ''})$") == 1
        mirror.call.cancel()


async def test_an_asset_that_is_too_large_by_itself(rig: PiecesRig) -> None:
    """It is told without its content, with the limit's name; all others are whole, and it comes when it is smaller."""
    rig.standin.put(ONE, {"content": "x" * 2 * LIMIT})
    mirror = await rig.stream("StreamAssetTransferables").synced()
    change = mirror.map[ONE]
    assert not change.HasField("asset")
    assert (change.omitted_setting, change.omitted_bytes) == (f"sources.{SOURCE}.body_bytes_max", LIMIT + 1)
    assert all(held.HasField("asset") for asset_id, held in mirror.map.items() if asset_id != ONE)
    assert set(mirror.map) == saved(rig)
    rig.standin.put(TWO, {"content": "x" * 2 * LIMIT})
    await mirror.holds(lambda held: not held[TWO].HasField("asset"))
    rig.standin.put(ONE, {"content": "small"})
    await mirror.holds(lambda held: held[ONE].HasField("asset"))
    assert len(mirror.modes) == 1
    mirror.call.cancel()


async def test_the_limit_of_a_message_is_named_too() -> None:
    """Which setting an asset is too large for is said in either case."""
    async with pieces_rig(server={"message_bytes_max": 2 * 1024 * KIB}) as rig:
        rig.standin.put(ONE, {"content": "x" * 2 * 1024 * KIB})
        mirror = await rig.stream("StreamAssetTransferables").synced()
        assert mirror.map[ONE].omitted_setting == "server.message_bytes_max"
        mirror.call.cancel()


async def test_a_change_that_is_too_large(rig: PiecesRig) -> None:
    """A stream that was followed by its frames goes on by ids, after one too large; all others are whole again."""
    for asset_id in rig.standin.asset_ids():
        if asset_id not in (ONE, TWO, NOTE):
            rig.standin.remove(asset_id)
    mirror = await rig.stream("StreamAssetTransferables").synced()
    assert rig.sockets("transferables") == 1
    rig.standin.put(ONE, {"content": "x" * 2 * LIMIT})
    await mirror.until(lambda message: "body_bytes_max" in message.condition.message)
    await mirror.synced()
    assert mirror.modes == [pb.StreamStarted.MODE_SNAPSHOT, pb.StreamStarted.MODE_RESYNC]
    assert (mirror.map[ONE].HasField("asset"), mirror.map[TWO].asset.name) == (False, "pager")
    assert (rig.sockets("transferables"), rig.sockets("identifiers")) == (0, 1)
    mirror.call.cancel()


@WHOLE_ASSETS
@pytest.mark.parametrize("fault", [{"status": 500, "body": "locked", "content_type": "text/plain"}, {"body": "{"}])
async def test_an_asset_that_cannot_be_read(rig: PiecesRig, rpc: str, fault: dict[str, Any]) -> None:
    """It holds up neither the snapshot nor the changes of others, and comes when it can be read."""
    mirror = await rig.stream(rpc).synced()
    rig.standin.faults.add(path=f"/assets/{ONE}", **fault)
    rig.standin.put(ONE, {"name": "unreadable"})
    rig.standin.put(TWO, {"name": "changed"})
    await mirror.holds(lambda held: held[TWO].asset.name == "changed")
    assert mirror.map[ONE].asset.name == "retry loop"
    rig.standin.faults.clear()
    await mirror.holds(lambda held: held[ONE].asset.name == "unreadable")
    assert len(mirror.modes) == 1
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_an_asset_of_the_list_that_cannot_be_read(rig: PiecesRig, rpc: str) -> None:
    """One asset that is no JSON spoils none of the others; it is read by itself."""
    assets = [await rig.document("GetAsset", "asset", asset_id=i, transferables=False) for i in sorted(saved(rig))]
    texts = ['{"id": 01}' if asset["id"] == ONE else json.dumps(asset) for asset in assets]
    body = f'{{"iterable": [{", ".join(texts)}]}}'
    rig.standin.faults.add(path=r"/assets\?", times=1, body=body, content_type="application/json")
    mirror = await rig.stream(rpc).synced()
    assert set(mirror.map) == saved(rig)
    assert rig.standin.requests.count(rf"/assets/{ONE}\?") == 2
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_a_list_that_is_cut_short(rig: PiecesRig, rpc: str) -> None:
    """It is no snapshot: the condition says so, and the next try is one."""
    rig.standin.faults.add(path=r"/assets\?", times=1, truncate_bytes=5000)
    mirror = await rig.stream(rpc).synced()
    assert set(mirror.map) == saved(rig)
    assert rig.standin.requests.count(r"/assets\?") == 2
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_a_deletion_while_its_read_is_in_flight(rig: PiecesRig, rpc: str) -> None:
    """A tombstone that comes while the asset is read wins over that answer."""
    mirror = await rig.stream(rpc).synced()
    alive = json.dumps(await rig.document("GetAsset", "asset", asset_id=ONE))
    rig.standin.requests.clear()
    rig.standin.faults.add(path=f"/assets/{ONE}", times=1, hang=True, body=alive, content_type="application/json")
    rig.standin.put(ONE, {"name": "doomed"})
    async with asyncio.timeout(15):
        while not rig.standin.requests.count(ONE):  # noqa: ASYNC110 - it is the stand-in that is asked
            await asyncio.sleep(0.005)
    rig.standin.remove(ONE)
    await mirror.holds(lambda held: ONE not in held)
    rig.standin.faults.clear()
    rig.standin.put(TWO, {"name": "end"})
    await mirror.holds(lambda held: held[TWO].asset.name == "end")
    assert ONE not in mirror.map
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_many_changes_by_ids(rig: PiecesRig, rpc: str) -> None:
    """Bursts in reverse order, several copies, many ids a frame: in the end every asset is as the upstream has it."""
    rig.standin.switch({"frames_newest_first": True, "frame_copies": 3, "frame_ids_max": 7})
    rng = random.Random(5)  # noqa: S311 - a scenario that repeats, not a secret
    mirror = await rig.stream(rpc).synced()
    for _ in range(100):
        rig.standin.advance(rng)
    true = {asset_id: rig.held(asset_id)["updated"] for asset_id in saved(rig)}
    await mirror.holds(lambda held: true == {key: change.asset.updated.value for key, change in held.items()})
    mirror.call.cancel()
