"""Nothing goes unseen: an asset that cannot be read, and a source that was never listed, over real sockets."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb

from assetwatchd.model.values import AssetKey, ConditionState
from support.problems import problem_of
from support.reader import PATIENCE_S
from support.rig import SAMPLES, SOURCES, Rig, key_of, ref, running, sample

if TYPE_CHECKING:
    from assetwatch.v1.asset_status_pb2 import AssetStatus

    from support.rig import Stream

GARBAGE: list[dict[str, Any]] = [
    {"status": 500, "body": "no"},
    {"status": 200, "body": "<html>not what was asked for</html>", "content_type": "text/html"},
    {"status": 200, "body": '{"a": [1, 2', "content_type": "application/json"},
    {"disconnect": True},
]
FAULTY = [(source, number) for source in SOURCES for number in range(len(GARBAGE))]


def break_reads(rig: Rig, source: str, number: int) -> None:
    """Have every read of the source's sample answered with garbage, and nothing else."""
    if source == "pieces":
        path = f"/assets?/{re.escape(sample(source).asset_id)}"
    elif source == "media-intelligence":
        path = re.escape(sample(source).asset_id.rpartition("/")[2]) + ".*"
    else:
        path = SAMPLES[source].observe
    rig[source].faults.add(path=path, **GARBAGE[number])


@pytest.mark.parametrize(("source", "number"), FAULTY)
async def test_who_asks_for_what_cannot_be_read_learns_why(source: str, number: int) -> None:
    """By a watch of its name, by a wait, and by a read: the entry, or the condition of its source, has the reason."""
    pins: dict[str, Any] = {source.replace("-", "_"): {"pins": []}}
    async with running((source,), count=0, **pins) as rig:
        await rig.shows(source, lambda told: ConditionState(told.condition.state) is ConditionState.HEALTHY)
        break_reads(rig, source, number)
        stream = rig.watch(assets=[ref(sample(source))])
        await says_why(stream, source)
        if sample(source) in stream.map:
            assert stream.map[sample(source)].state == status_pb.ASSET_STATE_UNKNOWN
            assert stream.map[sample(source)].failure.code == "unreadable"
        answer = await rig.wait(sample(source), until_settled=True, timeout={"seconds": 1})
        assert not answer.condition_met
        assert answer.reason
        assert (await problem_of(rig.get(sample(source), max_age={}))).reason == "SOURCE_UNREACHABLE"
        rig[source].faults.clear()
        await stream.holds(lambda held: sample(source) in held and is_well(held[sample(source)]))


@pytest.mark.parametrize(("source", "number"), FAULTY)
async def test_what_was_known_stays_and_says_why_it_is_stale(source: str, number: int) -> None:
    """Its state is kept; a read of what is known has the reason, and a wait is not met by what cannot be confirmed."""
    async with running((source,), count=0) as rig:
        stream = rig.watch(assets=[ref(sample(source))])
        await stream.holds(lambda held: sample(source) in held)
        break_reads(rig, source, number)
        rig.vary(source)  # what pushes tells so, and has it read
        await says_why(stream, source)
        known = await rig.get(sample(source))
        assert (known.state, known.freshness_reason != "") == (status_pb.ASSET_STATE_AVAILABLE, True)
        answer = await rig.wait(sample(source), until_settled=True, timeout={"seconds": 1})
        assert not answer.condition_met
        assert answer.reason == answer.status.freshness_reason != ""
        rig[source].faults.clear()
        await stream.holds(lambda held: held[sample(source)].state == SAMPLES[source].state)
        await stream.holds(lambda held: held[sample(source)].freshness == status_pb.FRESHNESS_FRESH)
        assert stream.map[sample(source)].freshness_reason == ""


def is_well(status: AssetStatus) -> bool:
    """Whether a status is as the sample is, and as it was just read."""
    return status.state == status_pb.ASSET_STATE_AVAILABLE and status.freshness == status_pb.FRESHNESS_FRESH


async def says_why(stream: Stream, source: str) -> None:
    """Take messages in until the stream says why the sample is not known: of the asset, or of its source."""
    async with asyncio.timeout(PATIENCE_S):
        while not (amiss(stream, source) or unread(stream.map.get(sample(source)))):
            await stream.next()


def amiss(stream: Stream, source: str) -> bool:
    """Whether the last that a stream was told of a source is that something is amiss."""
    well = [[], [ConditionState.UNKNOWN], [ConditionState.HEALTHY]]
    return stream.conditions(source)[-1:] not in well


def unread(status: AssetStatus | None) -> bool:
    """Whether a status says that its asset cannot be read, and why."""
    return status is not None and status.freshness == status_pb.FRESHNESS_STALE and status.freshness_reason != ""


async def test_who_watches_the_whole_is_told_of_what_a_list_has_and_nobody_can_read() -> None:
    """As an entry in its map; the source is well, and complete, since of each asset something is told."""
    source = "media-intelligence"
    async with running((source,), count=5) as rig:
        break_reads(rig, source, 0)
        stream = await rig.watch(sources=[source]).synced()
        await stream.holds(lambda held: unread(held.get(sample(source))))
        assert stream.map[sample(source)].failure.message == stream.map[sample(source)].freshness_reason
        await stream.until(lambda message: message.HasField("bookmark") and not message.bookmark.incomplete)
        assert stream.conditions(source)[-1:] in ([], [ConditionState.HEALTHY])
        assert {key.asset_id for key in stream.map} == set(rig[source].asset_ids())
        page = await rig.list(states=[status_pb.ASSET_STATE_UNKNOWN])
        assert [key_of(status) for status in page.statuses] == [sample(source)]
        assert unread(page.statuses[0])
        assert list(page.incomplete) == []


async def test_a_source_that_was_lost_before_it_was_listed_is_not_complete() -> None:
    """Three answers 500, down, up: list and watch name it until it was listed, and then its assets are there."""
    async with running(("omn", "usd-search"), omn={"backoff_first_s": 2, "backoff_max_s": 4}) as rig:
        rig["omn"].faults.add(status=500, times=3)
        await rig["omn"].stop()
        page = await rig.list(sources=["omn"])
        assert (list(page.incomplete), list(page.statuses)) == (["omn"], [])
        stream = await rig.watch(sources=["omn", "usd-search"]).synced()
        assert list(stream.messages[0].started.incomplete)[:1] == ["omn"]
        assert list(stream.messages[-1].synced.incomplete) == ["omn"]
        assert list((await rig.list()).incomplete) == ["omn"]
        await rig["omn"].start()
        bookmark = await stream.until(lambda message: message.HasField("bookmark") and not message.bookmark.incomplete)
        assert bookmark.resume_token
        there = {AssetKey("omn", asset_id) for asset_id in rig["omn"].asset_ids()}
        assert there == {key for key in stream.map if key.source == "omn"}
        page = await rig.list(sources=["omn"])
        assert list(page.incomplete) == []
        assert {key_of(status) for status in page.statuses} == there


async def test_synced_waits_for_the_first_list() -> None:
    """As long as first_read_wait_s, when the source is only slow; else it says that the source is missing."""
    for wait_s, there in ((20, True), (0.2, False)):
        async with running(("omn",), server={"first_read_wait_s": wait_s}) as rig:
            rig["omn"].faults.add(path="query", delay_s=1.5, times=1)
            stream = await rig.watch(sources=["omn"]).synced()
            assert bool(stream.map) == there
            assert list(stream.messages[-1].synced.incomplete) == ([] if there else ["omn"])
            await stream.until(lambda message: message.HasField("bookmark") and not message.bookmark.incomplete)
            assert sample("omn") in stream.map


async def test_a_lost_source_is_named_in_bookmarks_until_it_is_listed_again() -> None:
    """And in no other stream than those that watch it whole."""
    async with running(("omn", "usd-search")) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        named = await rig.watch(assets=[ref(sample("omn"))], sources=["usd-search"]).synced()
        assert list(stream.messages[-1].synced.incomplete) == []
        await rig["omn"].stop()
        await stream.until(lambda message: list(message.bookmark.incomplete) == ["omn"])
        held = dict(stream.map)
        await rig["omn"].start()
        await stream.until(lambda message: message.HasField("bookmark") and not message.bookmark.incomplete)
        assert stream.map.keys() == held.keys()
        await named.until(lambda message: message.HasField("bookmark"))
        assert not any(message.bookmark.incomplete for message in named.messages)
