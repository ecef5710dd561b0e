"""Lists of ids with items that nobody can read: the rest is told, and that it is not all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.v1 import source_pb2

from support.pieces_rig import ONE, SOURCE, TWO, PiecesRig, pieces_rig, shelve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SNAPSHOT = pb.StreamStarted.MODE_SNAPSHOT
NAMES = {"StreamAssets": "assets", "StreamAssetIdentifiers": "identifiers", "StreamAssetTransferables": "transferables"}
ANY_STREAM = pytest.mark.parametrize("rpc", NAMES)


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    async with pieces_rig() as rig:
        shelve(rig.standin)
        yield rig


@ANY_STREAM
@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("{}", "item 2 has no id"),
        ('{"id":7}', "item 2 has no id"),
        ('{"id":"x\\ud800"}', "item 2 has an id that is not text in any encoding"),
        ('{"id":"x\\u202e"}', r"'x\u202e' cannot be an id"),
    ],
)
async def test_a_list_with_an_item_that_cannot_be_read(
    rig: PiecesRig, rpc: str, item: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What can be read of it is told, and the condition and the log say that it is not all, until a list is whole."""
    listed = f'{{"iterable":[{{"id":"{ONE}"}},{{"id":"{TWO}"}},{item}]}}'
    rig.standin.faults.add(path="/assets/identifiers", times=1, body=listed, content_type="application/json")
    mirror = await rig.stream(rpc).synced()
    assert (mirror.modes, set(mirror.map)) == ([SNAPSHOT], {ONE, TWO})
    [told] = mirror.conditions
    lack = f"1 of its items cannot be read: {why}"
    assert (told.state, told.message) == (
        source_pb2.SOURCE_CONDITION_STATE_DEGRADED,
        f"cannot be listed completely: {lack}",
    )
    await rig.command("send_frame", stream=NAMES[rpc], text='{"iterable":[null]}')
    await mirror.until(lambda message: message.condition.state == source_pb2.SOURCE_CONDITION_STATE_HEALTHY)
    assert f"source {SOURCE}: the list of assets is not complete: {lack}" in caplog.text
    mirror.call.cancel()


async def test_an_id_that_only_the_stream_tells_of_readably(rig: PiecesRig) -> None:
    """Where some of the list cannot be read, an id that it lacks may be that, and is asked about."""
    listed = f'{{"iterable":[{{"id":"{ONE}"}},{{"id":null}}]}}'
    rig.standin.faults.add(path="/assets/identifiers", times=1, body=listed, content_type="application/json")
    mirror = rig.stream("StreamAssetIdentifiers")
    await mirror.holds(lambda held: set(held) == {ONE, TWO})
    mirror.call.cancel()


@pytest.mark.parametrize("rpc", ["StreamAssets", "StreamAssetTransferables"])
async def test_many_assets_that_cannot_be_read_have_a_line(
    rig: PiecesRig, rpc: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one each, and not one each again with the next connection; nor have the lists that they are in."""
    wrong = {"body": '{"deleted":[1]}', "content_type": "application/json"}
    for fault in (
        {"path": r"/assets\?", **wrong, "body": '{"iterable":[{"id": 01}]}'},
        {"path": r"/assets/[0-9a-f]{8}-", **wrong},
    ):
        rig.standin.faults.add(**fault)
    many = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(30)]
    for asset_id in many:
        rig.standin.put(asset_id, {"name": asset_id})
    rig.standin.switch({"assets_first_frame": False})
    for _ in range(2):
        mirror = await rig.stream(rpc).synced()
        assert not mirror.map
        mirror.call.cancel()
        await rig.connected(NAMES[rpc], 0)
    assert caplog.text.count("; trying again") == 1
    assert caplog.text.count("1 assets of a list cannot be read: ") == 1
