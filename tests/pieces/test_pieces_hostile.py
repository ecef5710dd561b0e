"""Streams of an upstream that is not to be trusted: whatever comes is bounded, in turns, and ends as its own fault."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.pieces.client import frames, pace, packed, shared_stream
from assetwatchd.pieces.client.pace import CREDIT_S, FRAMES_PER_S, IDS_PER_S, Pace
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.pieces.feeds import reads
from assetwatchd.pieces.feeds.session import Parts, Session
from assetwatchd.rpc.pieces.streams import StreamFraming
from assetwatchd.settings.schema import PiecesSource, ServerSettings
from assetwatchd.upstream.bodies.reading import INLINE_BYTES_MAX
from assetwatchd.upstream.port import Listed, Removed, Touched
from support.core_rig import now, virtual
from support.pieces_rig import ONE, SOURCE, pieces_rig, shelve
from support.raw_stream import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, named, raw_stream, told
from support.turns import counted

if TYPE_CHECKING:
    from assetwatchd.adapters.pieces import Pieces
    from assetwatchd.upstream.port import Notice
    from support.raw_stream import Script

PATIENCE_S = 60
STEPS_MAX = 60_000
"""Calls a turn: a slice takes some 10,000; 20,000 ids in one go take 300,000."""


def sends(*parts: bytes, then_wait: bool = True) -> Script:
    """Send these, and then nothing."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then_wait:
            await asyncio.Event().wait()
        writer.close()

    return script


def floods(first: bytes, part: bytes) -> Script:
    """Send something, then the same for ever."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()

    return script


async def notices(upstream: Pieces, count: int) -> list[Notice]:
    """Return the first of them."""
    found: list[Notice] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(upstream.notices()) as coming:
        async for notice in coming:
            found.append(notice)
            if len(found) == count:
                break
    return found


async def ended(script: Script, **given: Any) -> UpstreamError:
    """Follow a stream to its end; return why it did."""
    async with raw_stream(script, **given) as (_, upstream):
        with pytest.raises(UpstreamError) as why:
            await notices(upstream, -1)
    return why.value


# Pace -----------------------------------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    ("brought", "a_second"),
    [({"frames": 1}, FRAMES_PER_S), ({"ids": 1}, IDS_PER_S), ({"size_bytes": 1024}, pace.BYTES_PER_S / 1024)],
)
async def test_a_stream_brings_no_more_a_second(brought: dict[str, int], a_second: float) -> None:
    """After what may come at once, everything comes at its rate, however it is cut; each time others have a turn."""
    bound = Pace()
    began = now()
    count = int(a_second * (CREDIT_S + 10))
    for number in range(count):
        bound.note(**brought)
        if number % 100 == 0:
            await bound.wait()
    await bound.wait()
    assert now() - began == pytest.approx(10, abs=0.2)
    await asyncio.sleep(CREDIT_S)
    began = now()
    bound.note(**brought)
    await bound.wait()
    assert now() == began


async def test_all_that_a_stream_brings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames, their text, and what they speak of: read here or beside, and whether it can be an asset or not."""
    noted, note = Counter[str](), Pace.note

    def noting(self: Pace, **brought: int) -> None:
        noted.update(brought)
        note(self, **brought)

    monkeypatch.setattr(Pace, "note", noting)
    large, small = told(named(0, 1000)), told([*named(0, 3), "\x9b"])
    assert len(large) > INLINE_BYTES_MAX > len(small)
    assert isinstance(await ended(sends(told([]), large, small, then_wait=False)), Unreachable)
    assert noted["ids"] == 1000 + 4
    assert noted["frames"] >= 3
    assert len(large) <= noted["size_bytes"] <= len(large) + len(small) + len(told([]))


# What is large --------------------------------------------------------------------------------------------------------


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(st.lists(DOCUMENTS, max_size=50), st.integers(1, 2000))
def test_what_is_packed_is_handed_back(members: list[Any], part_bytes: int) -> None:
    """All of it, in order, in parts that are no larger than a part and one member."""
    before, packed.PART_BYTES = packed.PART_BYTES, part_bytes
    try:
        made = packed.pack("rest", members, packed.weight_of)
    finally:
        packed.PART_BYTES = before

    async def parts() -> list[list[Any]]:
        return [part async for part in made.members()]

    found = asyncio.run(parts())
    assert [member for part in found for member in part] == members
    assert all(sum(map(packed.weight_of, part[:-1])) < part_bytes for part in found)


def test_depth_is_bounded() -> None:
    """A member nested more deeply than can be sent on is refused, however it is nested."""
    for deeper in (lambda value: [value], lambda value: {"a": value}):
        value: Any = 1
        for _ in range(packed.DEPTH_MAX):
            value = deeper(value)
        assert packed.weight_of(value) > 0
        with pytest.raises(BadAnswer, match="nested too deeply"):
            packed.weight_of(deeper(value))


async def test_frames_of_many_new_ids_are_taken_in_by_turns() -> None:
    """Frames of 20,000 ids, read beside: nothing that is done with one takes longer than a slice, and all is told."""
    count, each = 4, 20_000
    script = sends(told([]), *(told(named(number * each, each)) for number in range(count)))
    async with raw_stream(script, assets_max=count * each) as (_, upstream):
        found: set[str] = set()
        with counted() as turns:
            async with asyncio.timeout(PATIENCE_S), aclosing(upstream.notices()) as coming:
                async for notice in coming:
                    assert isinstance(notice, Listed | Touched)
                    assert isinstance(notice, Listed) or len(notice.asset_ids) <= 500
                    found.update(notice.asset_ids)
                    await asyncio.sleep(0)
                    if len(found) == count * each:
                        break
    assert turns.most < STEPS_MAX


async def test_frames_of_many_removals_are_taken_in_by_turns() -> None:
    """Nor does a frame hold up anybody that tells of 20,000 removals, of assets that need not even have been there."""
    count = 20_000
    async with raw_stream(sends(told([]), told(named(0, count), deleted=True)), assets_max=count) as (_, upstream):
        removed = 0
        with counted() as turns:
            async with asyncio.timeout(PATIENCE_S), aclosing(upstream.notices()) as coming:
                async for notice in coming:
                    removed += isinstance(notice, Removed)
                    if removed == count:
                        break
    assert turns.most < STEPS_MAX


@pytest.mark.parametrize("late", [False, True])
async def test_a_first_frame_of_many_ids_is_taken_in_by_turns(late: bool) -> None:  # noqa: FBT001 - of the case
    """Nor does all there is, in the first frame of a stream, or for one that comes to it late."""
    count = 40_000
    async with raw_stream(sends(told(named(0, count))), assets_max=count) as (_, upstream), AsyncExitStack() as before:
        if late:
            listener = await before.enter_async_context(upstream.server.identifiers.listen())
            assert len((await anext(listener)).items) == count
        with counted() as steps:
            [listed] = await notices(upstream, 1)
    assert isinstance(listed, Listed)
    assert len(listed.asset_ids) == count
    assert steps.most < STEPS_MAX


async def test_a_large_frame_says_the_same_as_a_small_one() -> None:
    """What is read beside and handed over in parts is what would have been read here: order, tombstones, duplicates."""
    ids = named(0, 1000)
    assert len(told(ids)) > INLINE_BYTES_MAX > len(told(ids[:100]))
    script = sends(told([*ids, *ids]), told(ids[:600], deleted=True), told(ids[:100]))
    async with raw_stream(script) as (_, upstream):
        first, *rest = await notices(upstream, 602)
    assert first == Listed(frozenset(ids))
    assert [notice.observation.asset_id for notice in rest[:600]] == ids[:600]  # type: ignore[union-attr]  # removals
    assert rest[600] == Touched(tuple(ids[:100]))


# Limits ---------------------------------------------------------------------------------------------------------------


async def test_a_frame_of_the_same_asset_over_and_over() -> None:
    """What is counted is what has to be read, however little it comes to."""
    why = await ended(sends(told([]), told(named(0, 1) * 21)), assets_max=10)
    assert "more than 2 x assets_max = 20 assets; raise it" in str(why)


@pytest.mark.parametrize("at_once", [True, False])
async def test_more_assets_than_anybody_could_have(at_once: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """In one frame, or frame by frame: the connection ends with the setting's name; what is within is kept."""
    within = sends(told(named(0, 20)), then_wait=False)
    assert isinstance(await ended(within, assets_max=10), Unreachable)
    frames = [named(0, 21)] if at_once else [named(0, 20), named(20, 1)]
    why = await ended(sends(*map(told, frames)), assets_max=10)
    assert "more than 2 x assets_max = 20 assets; raise it" in str(why)


async def test_those_that_are_gone_make_room() -> None:
    """What counts is what there is, not what there was."""
    steps = [part for n in range(10) for part in (told(named(10 * n, 10)), told(named(10 * n, 10), deleted=True))]
    assert isinstance(await ended(sends(*steps, then_wait=False), assets_max=10), Unreachable)


async def test_tombstones_are_forgotten_by_turns() -> None:
    """All that a stream told of an hour ago, dates and tombstones, goes in slices; what is there still stays."""
    count, clock = 20_000, [0.0]

    def now() -> float:
        return clock[0]

    desk = PiecesSource.model_validate({"kind": "pieces", "base_url": "http://localhost", "assets_max": count})
    limits = ServerSettings()
    rng = random.Random(1)  # noqa: S311 - no secret
    parts = Parts(lambda: MemoryStore(now), lambda *_: b"x", StreamFraming(), limits, rng, now)
    session = Session("desk", Stream.IDENTIFIERS, parts, desk)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    told_of = [frames.Item(f"a{number}", gone=number > 0, updated=moment, document={}) for number in range(count)]
    await session.commit(told_of)
    session.heard([frames.Item("heard", gone=False, updated=moment, document={})])
    clock[0] = 3 * limits.stream_age_s
    with counted() as steps:
        await session.commit([])
        await session.commit(told_of[:1])
    assert steps.most < 2 * count
    assert set(session.known) == {"a0"}
    assert [session.get(item.asset_id) is None for item in told_of[:2]] == [False, True]
    assert (session._held, session._held_bytes) == (1, 1)


async def test_what_all_ids_together_take() -> None:
    """Items that carry more than ids are bounded by what they take in memory, with the setting's name."""
    fat = {"x": ["y"] * 200}
    frames = [told(named(10 * n, 10), **fat) for n in range(200)]
    why = await ended(sends(*frames), body_bytes_max=64 * 1024)
    assert (
        f"more than {shared_stream.HELD_TIMES} x body_bytes_max = {shared_stream.HELD_TIMES * 65536} bytes; raise it"
        in str(why)
    )


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("stream", ["StreamAssets", "StreamAssetTransferables"])
async def test_a_stream_of_assets_without_end(stream: str, dated: bool) -> None:  # noqa: FBT001 - of the case
    """Assets and tombstones of assets that nobody has are counted, and the condition names the limit."""
    async with pieces_rig(source={"assets_max": 20}) as rig:
        shelve(rig.standin)
        mirror = await rig.stream(stream).synced()
        name = {"StreamAssets": "assets", "StreamAssetTransferables": "transferables"}[stream]
        for number in range(6):
            more = {"updated": {"value": "2025-06-01T00:00:00Z"}} if dated else {}
            items: list[dict[str, Any]] = [{"id": each, **more} for each in named(10 * number, 10)]
            items[0]["deleted"] = True
            await rig.command("send_frame", stream=name, text=json.dumps({"iterable": items}))
        async with asyncio.timeout(PATIENCE_S):
            await mirror.until(lambda message: "2 x assets_max = 40 assets" in message.condition.message)
        assert rig.app.sources.get(SOURCE).condition.state.name != "REFUSED"
        mirror.call.cancel()


async def test_news_that_must_all_be_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that wait are bounded: the stream is given up, and begins anew with a list of all."""
    monkeypatch.setattr(reads, "WAITING_MAX", 50)
    async with pieces_rig() as rig:
        shelve(rig.standin)
        mirror = await rig.stream("StreamAssetIdentifiers").synced()
        rig.standin.faults.add(path="/assets/[0-9a-f]{8}-", hang=True)
        items = [{"asset": {"id": each}} for each in named(0, 60)]
        await rig.command("send_frame", stream="identifiers", text=json.dumps({"iterable": items}))
        async with asyncio.timeout(PATIENCE_S):
            await mirror.until(lambda message: "more than 50 assets that must be asked" in message.condition.message)
        rig.standin.faults.clear()
        await mirror.holds(lambda held: ONE in held)
        mirror.call.cancel()


# Frames that are none -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_flood_of_control_frames(opcode: int) -> None:
    """Each costs a turn of its own, so that others go on; the stream can be left in the middle of it."""
    async with raw_stream(floods(told(named(0, 1)), frame(b"", opcode) * 1000)) as (raw, upstream):
        async with asyncio.timeout(PATIENCE_S), aclosing(upstream.notices()) as coming:
            await anext(coming)
            with counted() as turns:
                for _ in range(2000):
                    await asyncio.sleep(0)
        assert turns.most < STEPS_MAX
    assert raw.received <= 6 * FRAMES_PER_S * (CREDIT_S + PATIENCE_S) + 1000


async def test_pings_are_answered() -> None:
    """With what they carry (RFC 6455, 5.5.3)."""
    async with raw_stream(sends(told([]), frame(b"abc", PING), told(named(0, 1)))) as (raw, upstream):
        assert len(await notices(upstream, 2)) == 2
        async with asyncio.timeout(PATIENCE_S):
            while raw.received < 9:  # noqa: ASYNC110 - it is the server that is asked
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("end", [frame(b"", CLOSE), frame(b"\x03\xe8", CLOSE)])
async def test_an_end_with_a_flood_behind_it(end: bytes) -> None:
    """The end is the end: nobody waits for what comes after it to stop."""
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance(await ended(floods(told([]) + end, frame(b"", PING) * 1000)), Unreachable)


async def test_compression_is_not_offered() -> None:
    """So nothing can come to more than was sent, and a frame that claims to be compressed is refused."""
    async with raw_stream(sends(told([]), frame(b"\x00", bits=0x40))) as (raw, upstream):
        with pytest.raises(BadAnswer, match="WebSocket protocol"):
            await notices(upstream, -1)
        assert "Sec-WebSocket-Extensions" not in raw.headers[0]


async def test_a_frame_beyond_the_limit_is_refused_by_its_header() -> None:
    """One that says it is larger than body_bytes_max is not taken in, nor many fragments that come to more."""
    begun = bytes([0x81, 127]) + (1 << 40).to_bytes(8)
    assert "larger" in str(await ended(sends(told([]), begun), body_bytes_max=65536))
    fragments = frame(b"x" * 60_000, fin=False) + frame(b"x" * 60_000, CONTINUATION, fin=False)
    assert "larger" in str(await ended(sends(told([]), fragments), body_bytes_max=65536))


IDS = st.sampled_from([*named(0, 3), "A" * 3000, "\x9b", "\u202e", ""]) | st.text(max_size=8)
ELEMENTS = (
    st.fixed_dictionaries(
        {},
        optional={
            "asset": st.fixed_dictionaries({}, optional={"id": IDS | st.none() | st.integers()}) | DOCUMENTS,
            "deleted": st.booleans() | st.none() | DOCUMENTS,
            "updated": st.fixed_dictionaries(
                {"value": st.sampled_from(["2025-06-01", "0001-01-01T00:00:00+14:00", "x"])}
            ),
            "junk": DOCUMENTS,
        },
    )
    | DOCUMENTS
)
TEXTS = (
    st.builds(lambda elements: {"iterable": elements}, st.lists(ELEMENTS, max_size=6)).map(json.dumps).map(str.encode)
    | DOCUMENTS.map(json.dumps).map(str.encode)
    | st.binary(max_size=40)
    | st.integers(1, 90_000).map(lambda depth: b'{"iterable":' + b"[" * depth)
    | st.integers(1, 3000).map(lambda count: b'{"iterable":[' + b"[]," * (20 * count) + b"{}]}")
)
FRAMES = st.one_of(
    TEXTS.map(frame),
    TEXTS.flatmap(
        lambda text: st.integers(0, len(text)).map(
            lambda at: frame(text[:at], fin=False) + frame(b"", PING) + frame(text[at:], CONTINUATION)
        )
    ),
    st.builds(
        frame,
        st.binary(max_size=130),
        st.sampled_from([TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION, 3, 15]),
        fin=st.booleans(),
        bits=st.sampled_from([0, 0, 0x40, 0x20]),
    ),
    st.binary(max_size=20),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FRAMES, max_size=6))
def test_whatever_comes_is_news_or_the_end(parts: list[bytes]) -> None:
    """Any bytes at all: what is told is of the kinds there are, the end is an UpstreamError, and no turn is long."""

    async def follow() -> None:
        script = sends(told(named(0, 2)), *parts, then_wait=False)
        async with raw_stream(script, body_bytes_max=256 * 1024, assets_max=10) as (_, upstream):
            with counted() as turns, pytest.raises(UpstreamError):
                await notices(upstream, -1)
        assert turns.most < 2 * STEPS_MAX

    asyncio.run(follow())
