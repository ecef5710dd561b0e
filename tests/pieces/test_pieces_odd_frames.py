"""Frames with items that nobody can read: what they may have told is asked for, and they end nothing for anybody."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assetwatchd.cli.options import Format
from assetwatchd.cli.output import document
from assetwatchd.cli.pieces.stream import text_lines
from support.pieces_rig import NOTE, ONE, TWO, pieces_rig, shelve

if TYPE_CHECKING:
    from support.pieces_rig import Mirror, PiecesRig

LATER = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab0ff"
NAMES = {"StreamAssets": "assets", "StreamAssetIdentifiers": "identifiers", "StreamAssetTransferables": "transferables"}
ANY_STREAM = pytest.mark.parametrize("rpc", NAMES)
UNREADABLE = {
    "null": None,
    "a number": 7,
    "an id that is a number": {"id": 7, "asset": {"id": 7}},
    "nobody knows whether it is deleted": {"id": ONE, "asset": {"id": ONE}, "deleted": [1]},
}

odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([2**63, -(2**64), 10**30, "\ud800", "2027-01-01T00:00:00Z", {"value": 1e999}, {"value": 0}])
members = st.dictionaries(
    st.sampled_from(["name", "deleted", "mechanism", "created", "updated", "formats", "pseudo", "tags", "\udc00"]), odd
)


@st.composite
def items(draw: st.DrawFn) -> Any:
    """Make an item that has an id that is known, another, or none, and members of any kind."""
    item = draw(members)
    asset_id = draw(st.sampled_from([ONE, TWO, NOTE, "x"]) | odd)
    return draw(st.sampled_from([{**item, "id": asset_id}, {**item, "asset": {"id": asset_id}}, item]) | odd)


async def send(rig: PiecesRig, rpc: str, text: str) -> None:
    await rig.command("send_frame", stream=NAMES[rpc], text=text)


async def unheard(rig: PiecesRig) -> dict[str, str]:
    """Delete an asset, change one and make one while the streams hear nothing; return the names of what there is."""
    await rig.command("mute_streams")
    rig.standin.remove(ONE)
    rig.standin.put(TWO, {"name": "changed"})
    rig.standin.put(NOTE, {"name": "new", "pseudo": False})
    await rig.command("unmute_streams")
    return {TWO: "changed", NOTE: "new"}


def held(mirror: Mirror, rpc: str) -> Any:
    """What a mirror holds: the names of assets, or their ids."""
    return set(mirror.map) if rpc == "StreamAssetIdentifiers" else mirror.names()


@ANY_STREAM
@pytest.mark.parametrize("item", UNREADABLE.values(), ids=UNREADABLE)
async def test_news_that_nobody_can_read_is_asked_for(rpc: str, item: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It may have been a deletion, a change, a new asset: all of them come, the stream goes on, and the log says so."""
    async with pieces_rig() as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        wanted = await unheard(rig)
        with caplog.at_level(logging.WARNING):
            await send(rig, rpc, json.dumps({"iterable": [item]}))
            await mirror.holds(lambda _: held(mirror, rpc) in (wanted, set(wanted)))
        assert len(mirror.modes) == 1
        mirror.call.cancel()
    assert "sent items that name no asset which could be read" in caplog.text


@ANY_STREAM
async def test_many_news_that_nobody_can_read(rpc: str) -> None:
    """They cost a list in a while, not one a frame, and hold up nothing else."""
    async with pieces_rig() as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        rig.standin.requests.clear()
        for _ in range(50):
            await send(rig, rpc, '{"iterable":[null]}')
        await send(rig, rpc, json.dumps({"iterable": [{"id": ONE, "asset": {"id": ONE}, "deleted": True}]}))
        await mirror.until(lambda _: ONE in mirror.removed)
        assert 1 <= rig.standin.requests.count("/assets/identifiers") <= 5
        mirror.call.cancel()


@ANY_STREAM
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(items(), max_size=4), min_size=1, max_size=3))
async def test_any_frames(rpc: str, sent: list[list[Any]]) -> None:
    """Whatever items come: the stream is no other one, each message can be printed, and in the end what is, is told."""
    async with pieces_rig() as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        wanted = await unheard(rig)
        for frame in sent:
            await send(rig, rpc, json.dumps({"iterable": frame}))
        await send(rig, rpc, json.dumps({"iterable": [None]}))
        rig.standin.put(LATER, {"name": "later"})
        wanted[LATER] = "later"
        await mirror.holds(lambda _: held(mirror, rpc) in (wanted, set(wanted)))
        assert len(mirror.modes) == 1
        for message in mirror.messages:
            assert document(message, Format.NDJSON)
            "".join(text_lines(message)).encode()
        mirror.call.cancel()


@ANY_STREAM
@pytest.mark.parametrize("text", ['{"iterable":[]}', " ", '{"type":"later"}'])
async def test_a_frame_of_nothing_ends_nothing(rpc: str, text: str) -> None:
    """Nothing was told, and the next frame comes on the same connection."""
    async with pieces_rig() as rig:
        shelve(rig.standin)
        mirror = await rig.stream(rpc).synced()
        await send(rig, rpc, text)
        rig.standin.put(LATER, {"name": "later"})
        await mirror.holds(lambda held: LATER in held)
        assert len(mirror.modes) == 1
        mirror.call.cancel()
