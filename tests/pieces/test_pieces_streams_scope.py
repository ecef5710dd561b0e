"""Which assets the streams are about, by one setting for all; and what a connection costs the upstream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.pieces_rig import NOTE, ONE, TWO, Mirror, PiecesRig, pieces_rig, shelve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = {"StreamAssets": "assets", "StreamAssetIdentifiers": "identifiers", "StreamAssetTransferables": "transferables"}
ANY_STREAM = pytest.mark.parametrize("rpc", list(NAMES))
WHOLE_ASSETS = pytest.mark.parametrize("rpc", ["StreamAssets", "StreamAssetTransferables"])
STREAMED = pytest.mark.parametrize("streamed", [False, True])
BY_IDS = pytest.mark.parametrize("by_ids", [False, True])
SINGLE = r"/assets/[0-9a-f-]{36}"


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    async with pieces_rig() as rig:
        shelve(rig.standin)
        yield rig


async def too_large(rig: PiecesRig, mirror: Mirror, rpc: str) -> None:
    """Let the upstream send a frame that is too large, so that the stream goes on by ids."""
    text = json.dumps({"iterable": ["x" * 300_000]})
    await rig.command("send_frame", stream=NAMES[rpc], text=text)
    await mirror.until(lambda message: message.HasField("started"))
    await mirror.synced()


async def passed(rig: PiecesRig, mirror: Mirror) -> None:
    """Let everything sent so far arrive: a change of another asset comes after it."""
    rig.standin.put(TWO, {"name": f"pass {len(mirror.messages)}"})
    await mirror.until(lambda message: TWO in {change.asset_id for change in message.changes})


def told(mirror: Mirror) -> set[str]:
    """Every asset that any message spoke of."""
    return {change.asset_id for message in mirror.messages for change in message.changes}


@ANY_STREAM
@STREAMED
@BY_IDS
async def test_without_pseudo_assets(rpc: str, streamed: bool, by_ids: bool) -> None:  # noqa: FBT001 - parameters of the case
    """They are in no snapshot and no change, whatever the upstream streams; one that is saved comes."""
    async with pieces_rig(source={"body_bytes_max": 200_000}) as rig:
        shelve(rig.standin)
        rig.standin.switch({"pseudo_in_streams": streamed})
        mirror = await rig.stream(rpc).synced()
        if by_ids and rpc != "StreamAssetIdentifiers":
            await too_large(rig, mirror, rpc)
        other = "00000000-0000-4000-8000-00000000000a"
        rig.standin.put(NOTE, {"name": "still not saved"})
        rig.standin.put(other, {"pseudo": True})
        rig.standin.remove(other)
        await passed(rig, mirror)
        assert (set(mirror.map), told(mirror)) == ({ONE, TWO}, {ONE, TWO})
        rig.standin.put(NOTE, {"pseudo": False})
        await mirror.holds(lambda held: NOTE in held)
        mirror.call.cancel()


@ANY_STREAM
@STREAMED
@BY_IDS
async def test_with_pseudo_assets(rpc: str, streamed: bool, by_ids: bool) -> None:  # noqa: FBT001 - parameters of the case
    """They are in each snapshot, whatever the upstream streams, and in the changes as far as it streams them."""
    async with pieces_rig(source={"body_bytes_max": 200_000, "pseudo": True}) as rig:
        shelve(rig.standin)
        rig.standin.switch({"pseudo_in_streams": streamed})
        mirror = await rig.stream(rpc).synced()
        if by_ids and rpc != "StreamAssetIdentifiers":
            await too_large(rig, mirror, rpc)
        assert set(mirror.map) == {ONE, TWO, NOTE}
        rig.standin.remove(NOTE)
        await passed(rig, mirror)
        assert (NOTE in mirror.map) is not streamed
        await rig.command("drop_streams")
        await mirror.until(lambda message: message.HasField("started"))
        await mirror.synced()
        assert set(mirror.map) == {ONE, TWO}
        mirror.call.cancel()


@WHOLE_ASSETS
@BY_IDS
async def test_an_asset_that_becomes_pseudo(rpc: str, by_ids: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """Where they are left out it is gone."""
    async with pieces_rig(source={"body_bytes_max": 200_000}) as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        if by_ids:
            await too_large(rig, mirror, rpc)
        rig.standin.put(ONE, {"pseudo": True})
        await mirror.holds(lambda held: ONE not in held)
        mirror.call.cancel()


# What a connection costs ---------------------------------------------------------------------------------------------


@ANY_STREAM
async def test_everything_is_read_once(rig: PiecesRig, rpc: str) -> None:
    """A connection that begins with everything is asked for the ids, and for nothing else; after a break again."""
    rig.standin.switch({"pseudo_in_streams": True})
    mirror = await rig.stream(rpc).synced()
    for turn in (1, 2):
        assert rig.standin.requests.count("/assets/identifiers") == turn
        assert not rig.standin.requests.count(r"/assets\?")
        assert not rig.standin.requests.count(SINGLE)
        await rig.command("drop_streams", stream=NAMES[rpc])
        await mirror.until(lambda message: message.HasField("started"))
        await mirror.synced()
    mirror.call.cancel()


@WHOLE_ASSETS
async def test_what_the_first_frame_lacks_is_read_once(rig: PiecesRig, rpc: str) -> None:
    """A few assets one by one, more of them with one call; and a server without a first frame is waited for once."""
    rig.standin.switch({"assets_first_frame": False})
    mirror = await rig.stream(rpc).synced()
    assert (rig.standin.requests.count(SINGLE), rig.standin.requests.count(r"/assets\?")) == (2, 0)
    for number in range(30):
        rig.standin.put(f"00000000-0000-4000-8000-{number:012}", {"name": str(number)})
    await mirror.holds(lambda held: len(held) == 32)
    rig.standin.requests.clear()
    await rig.command("drop_streams", stream=NAMES[rpc])
    await mirror.until(lambda message: message.HasField("started"))
    await mirror.synced()
    assert len(mirror.map) == 32
    assert (rig.standin.requests.count(SINGLE), rig.standin.requests.count(r"/assets\?")) == (0, 1)
    mirror.call.cancel()
