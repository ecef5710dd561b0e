"""An asset whose name is not quite text: listed, streamed and watched, as are all others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.v1 import asset_status_pb2, asset_status_service_pb2

from support.pieces_rig import ONE, SOURCE, TWO, PiecesRig, pieces_rig, shelve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ODD = {"half a pair": ("x\ud800y", "x\ufffdy"), "the other half": ("\udc00", "\ufffd"), "a control": ("\x01", "\x01")}
NAMES = pytest.mark.parametrize(("name", "told"), ODD.values(), ids=ODD)
WRONG = pytest.mark.parametrize(
    ("members", "lost"),
    [
        ({"name": 12345}, []),
        ({"name": {"x": 1}}, ["name"]),
        ({"updated": {"value": 1772619300}}, []),
        ({"updated": {"value": "yesterday"}}, ["updated.value"]),
        ({"formats": {"iterable": [{"id": "a", "bytes": {"value": 41.5}}, {"bytes": {"value": "12 MB"}}]}},
         ["formats.iterable.1.bytes.value"]),
        ({"formats": {"iterable": [7]}}, ["formats.iterable.0"]),
        ({"creator": ["x"], "pseudo": "maybe"}, ["creator", "pseudo"]),
    ],
)  # fmt: skip


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    async with pieces_rig() as rig:
        shelve(rig.standin)
        yield rig


async def watched(rig: PiecesRig) -> dict[str, Any]:
    """Watch the source until the stream is synced; return the statuses by asset."""
    call = rig.statuses.WatchStatus(asset_status_service_pb2.WatchStatusRequest(sources=[SOURCE]))
    held: dict[str, Any] = {}
    message = None
    while message is None or not message.HasField("synced"):
        message = await call.read()
        held.update({change.status.asset.asset_id: change.status for change in message.changes})
    call.cancel()
    return held


@NAMES
async def test_an_odd_name_is_listed_and_read(rig: PiecesRig, name: str, told: str) -> None:
    """The list has the asset, and all others; the asset by itself is read too."""
    rig.standin.put(ONE, {"name": name})
    listed = (await rig.call("ListAssets")).assets
    assert {asset.id: asset.name for asset in listed.iterable} == {ONE: told, TWO: "pager"}
    assert (await rig.call("GetAsset", asset_id=ONE)).asset.name == told


@NAMES
@pytest.mark.parametrize("rpc", ["StreamAssets", "StreamAssetTransferables"])
async def test_an_odd_name_is_streamed(rig: PiecesRig, rpc: str, name: str, told: str) -> None:
    """It is in the snapshot and comes as a change, and ends no stream."""
    rig.standin.put(ONE, {"name": name})
    mirror = await rig.stream(rpc).synced()
    assert mirror.names() == {ONE: told, TWO: "pager"}
    rig.standin.put(TWO, {"name": name})
    await mirror.holds(lambda held: held[TWO].asset.name == told)
    assert len(mirror.modes) == 1
    mirror.call.cancel()


@NAMES
async def test_an_odd_name_is_watched(rig: PiecesRig, name: str, told: str) -> None:
    """WatchStatus has the status of it, and of all others."""
    rig.standin.put(ONE, {"name": name})
    held = await watched(rig)
    assert {asset_id: status.pieces.name for asset_id, status in held.items()} == {ONE: told, TWO: "pager"}


@WRONG
async def test_a_member_of_another_type_hides_no_state(
    rig: PiecesRig, members: dict[str, Any], lost: list[str]
) -> None:
    """The asset is AVAILABLE, what cannot be read is named, and the other asset is as it was."""
    document = await rig.document("GetAsset", "asset", asset_id=ONE)
    body = json.dumps(document | members)
    rig.standin.faults.add(path=f"/assets/{ONE}", body=body, content_type="application/json")
    held = await watched(rig)
    assert held[ONE].state == held[TWO].state == asset_status_pb2.ASSET_STATE_AVAILABLE
    assert list(held[ONE].pieces.unreadable) == lost
    assert list(held[TWO].pieces.unreadable) == []
