"""Limits of streams, and streams that are not read."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.filters import Filter
from assetwatchd.model.errors import TooManyNames, TooManyStreams
from assetwatchd.model.values import AssetKey
from assetwatchd.rpc.admission import CATCHING_UP_S, Admission
from assetwatchd.settings.schema import ServerSettings
from support import virtual_time
from support.problems import problem, problem_of
from support.rig import SAMPLES, Rig, Stream, key_of, ref, running, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STUBBORN = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
"""A client whose window does not grow, on a connection of its own."""
SLOW = {"slow_consumer_s": 0.4, "heartbeat_s": 0.2}


@asynccontextmanager
async def deaf(rig: Rig) -> AsyncIterator[Stream]:
    """Open a watch of Pieces, synced, on a connection of its own."""
    async with grpc.aio.insecure_channel(rig.address, options=STUBBORN) as channel:
        call = AssetStatusServiceStub(channel).WatchStatus(pb.WatchStatusRequest(sources=["pieces"]))
        yield await Stream(call).synced()


async def overfill(rig: Rig) -> None:
    """Change a piece, each time by 20 kB, until the only watcher is given up."""
    async with asyncio.timeout(20):
        number = 0
        while (await rig.source("pieces")).watcher_count:
            number += 1
            rig["pieces"].put(sample("pieces").asset_id, {"name": f"{number} " + "x" * 20_000})
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("limits", "subject"),
    [({"streams_max": 3}, "server"), ({"streams_per_peer_max": 3}, "caller:ipv4:127.0.0.1")],
    ids=["of the server", "of one caller"],
)
async def test_the_stream_beyond_a_limit_is_refused(limits: dict[str, object], subject: str) -> None:
    """RESOURCE_EXHAUSTED / TOO_MANY_STREAMS with QuotaFailure and RetryInfo; a place that falls free is taken again."""
    async with running(("omn",), server=limits) as rig:
        streams = [await rig.watch(sources=["omn"]).synced() for _ in range(3)]
        told = await problem_of(rig.watch(sources=["omn"]).next())
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert told.metadata == {"limit": "3"}
        assert told.quotas == [subject]
        assert told.retry_after_s is not None
        assert told.retry_after_s > 0
        streams[0].call.cancel()
        await rig.shows("omn", lambda source: source.watcher_count == 2)
        await rig.watch(sources=["omn"]).synced()


async def test_a_stream_that_waits_for_its_revision_counts() -> None:
    """Of streams with tokens from the future, only as many wait as may; the others are refused at once."""
    async with running(("omn",), server={"streams_max": 2}) as rig:
        digest = Filter(frozenset(), frozenset(["omn"]), frozenset()).digest
        token = resume_token.encode(epoch=rig.app.store.epoch, revision=rig.app.store.head + 1000, digest=digest)
        streams = [rig.watch(sources=["omn"], resume_token=token) for _ in range(4)]
        reasons = [(await problem_of(stream.next())).reason for stream in streams]
        assert sorted(reasons) == ["REPLICA_BEHIND"] * 2 + ["TOO_MANY_STREAMS"] * 2


async def test_a_refused_stream_costs_the_others_nothing() -> None:
    """Reads go on, streams go on."""
    async with running(("omn",), server={"streams_max": 1}) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        for _ in range(5):
            await problem_of(rig.watch(sources=["omn"]).next())
        rig.vary("omn")
        await stream.until(lambda message: message.changes)
        await rig.get(sample("omn"))


def test_streams_of_one_host_are_counted_together_whatever_the_port() -> None:
    """IPv4, IPv6 and unix peers; a refusal counts nothing."""
    admission = Admission(ServerSettings(streams_max=3, streams_per_peer_max=1))
    with ExitStack() as open_streams:
        for peer in ("ipv4:10.0.0.1:1000", "ipv6:[::1]:1000", "unix:"):
            open_streams.enter_context(admission.stream(peer))
        with pytest.raises(TooManyStreams, match="this server"):
            open_streams.enter_context(admission.stream("ipv4:10.0.0.2:1000"))
    with admission.stream("ipv4:10.0.0.1:1000"):
        with pytest.raises(TooManyStreams, match="one caller"), admission.stream("ipv4:10.0.0.1:2000"):
            pass
        with admission.stream("ipv4:10.0.0.2:1000"):
            pass


def named(*names: str) -> Filter:
    """A filter of some assets."""
    return Filter(frozenset(AssetKey("dam", name) for name in names), frozenset(), frozenset())


def test_streams_are_admitted_by_what_they_name() -> None:
    """Of all, of an address, of a connection; equal ones count once, whole sources nothing, and a refusal nothing."""
    admission = Admission(ServerSettings(names_max=10, names_per_peer_max=8))
    whole = Filter(frozenset(), frozenset(["dam"]), frozenset())
    here, beside, there = "ipv4:10.0.0.1:1", "ipv4:10.0.0.1:2", "ipv4:10.0.0.2:1"
    with ExitStack() as streams:
        for what in (named(*"abcd"), named(*"abcd"), named(*"dcba"), whole):
            streams.enter_context(admission.stream(here, what))
        for peer, what, told in (
            (here, named("e"), "one connection"),
            (beside, named(*"efghi"), "one caller"),
            (there, named(*"efghijk"), "this server"),
        ):
            with pytest.raises(TooManyNames, match=told):
                streams.enter_context(admission.stream(peer, what))
        streams.enter_context(admission.stream(beside, named(*"efgh")))
        with pytest.raises(TooManyNames, match="one caller") as refused:
            streams.enter_context(admission.stream("ipv4:10.0.0.1:3", named("i")))
        assert refused.value.subject == "caller:ipv4:10.0.0.1"
        streams.enter_context(admission.stream(there, named(*"abcd")))
        with pytest.raises(TooManyNames, match="this server") as refused:
            streams.enter_context(admission.stream(there, named(*"ijk")))
        assert refused.value.subject == "server"
    assert not admission._names._counts
    assert not admission._names._streams


async def test_a_watch_beyond_what_may_be_named_is_refused() -> None:
    """RESOURCE_EXHAUSTED / TOO_MANY_NAMES with QuotaFailure and RetryInfo; duplicates and equal watches count once."""
    async with running(("omn",), server={"names_max": 2}) as rig:
        two = [ref(sample("omn")), ref(sample("omn")), ref(AssetKey("omn", SAMPLES["omn"].unknown))]
        stream = await rig.watch(assets=two).synced()
        await rig.watch(assets=two[1:]).synced()
        told = await problem_of(rig.watch(assets=two[:1]).next())
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_NAMES")
        assert (told.metadata, told.quotas) == ({"limit": "2"}, ["server"])
        assert told.retry_after_s is not None
        await rig.watch(sources=["omn"]).synced()
        stream.call.cancel()


async def in_turn(admission: Admission, order: list[str], name: str, *, takes_s: float) -> None:
    """Catch up for so long."""
    with admission.stream("unix:") as admitted:
        await admitted.begin_catching_up()
        order.append(f"{name} begins at {asyncio.get_running_loop().time() - 1000:g}")
        await asyncio.sleep(takes_s)
        admitted.end_catching_up()


def test_no_more_streams_catch_up_at_once_than_may() -> None:
    """First come, first served; one that takes longer lets the next begin; nobody's place is lost."""

    async def order() -> list[str]:
        admission, told = Admission(ServerSettings(catching_up_max=2)), list[str]()
        slow, quick = 10 * CATCHING_UP_S, CATCHING_UP_S / 4
        async with asyncio.TaskGroup() as streams:
            for name, takes_s in {"a": slow, "b": quick, "c": slow, "d": quick, "e": quick}.items():
                streams.create_task(in_turn(admission, told, name, takes_s=takes_s))
        async with asyncio.TaskGroup() as streams:
            for name in "fg":
                streams.create_task(in_turn(admission, told, name, takes_s=quick))
        return told

    assert virtual_time.run(order()) == [
        "a begins at 0",
        "b begins at 0",
        "c begins at 0.25",
        "d begins at 1",
        "e begins at 1.25",
        "f begins at 10.25",
        "g begins at 10.25",
    ]


def test_streams_in_line_begin_together() -> None:
    """Half of the places at a time, so that they share what they are sent; who finds nobody in line begins at once."""

    async def order() -> list[str]:
        admission, told = Admission(ServerSettings(catching_up_max=4)), list[str]()
        async with asyncio.TaskGroup() as streams:
            for name, takes_s in {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.9, "e": 0.5, "f": 0.5, "g": 0.5}.items():
                streams.create_task(in_turn(admission, told, name, takes_s=takes_s))
        await in_turn(admission, told, "h", takes_s=0)
        return told

    assert virtual_time.run(order()) == [
        *[f"{name} begins at 0" for name in "abcd"],
        *[f"{name} begins at 0.2" for name in "ef"],
        "g begins at 0.7",
        "h begins at 1.2",
    ]


def test_a_stream_that_ends_before_its_turn_takes_no_place() -> None:
    """Neither while it waits in line, nor at the moment when its turn has come."""

    async def others() -> list[str]:
        admission, told = Admission(ServerSettings(catching_up_max=1)), list[str]()
        with admission.stream("unix:") as admitted:
            await admitted.begin_catching_up()
            waiting = [asyncio.create_task(in_turn(admission, told, "gone", takes_s=1)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            admitted.end_catching_up()
            waiting[1].cancel()
            await asyncio.wait(waiting)
        await in_turn(admission, told, "next", takes_s=0)
        return told

    assert virtual_time.run(others()) == ["next begins at 0"]


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_slow_client_that_catches_up_holds_up_the_next_for_a_moment_only(resumed: bool) -> None:  # noqa: FBT001 - a case
    """With one place, the second stream shows meanwhile that it lives, and is in sync while the first still is not."""
    async with running(("pieces",), server={"catching_up_max": 1, "heartbeat_s": 0.2}) as rig:
        token = (await rig.watch(sources=["pieces"]).synced()).token if resumed else ""
        keys = {AssetKey("pieces", str(uuid.UUID(int=number))) for number in range(100)}
        for key in keys:
            rig["pieces"].put(key.asset_id, {"name": "x" * 20_000})
        quick = rig.watch(sources=["pieces"])
        await quick.until(lambda _: keys <= quick.map.keys())
        async with grpc.aio.insecure_channel(rig.address, options=STUBBORN) as channel:
            request = pb.WatchStatusRequest(sources=["pieces"], resume_token=token)
            slow = Stream(AssetStatusServiceStub(channel).WatchStatus(request))
            await slow.next()
            second = await rig.watch(sources=["pieces"], resume_token=token).synced()
            signs_of_life = [
                each for each in second.messages if each == pb.WatchStatusResponse(head_revision=each.head_revision)
            ]
            assert len(signs_of_life) >= 2
            assert len(second.map) > 100 - resumed
            await slow.synced()
            assert slow.map == second.map


async def test_a_client_that_reads_nothing_is_told_slow_consumer() -> None:
    """ABORTED / SLOW_CONSUMER once it reads again; what it had not read before comes first."""
    async with running(("pieces",), server=SLOW) as rig, deaf(rig) as stream:
        await overfill(rig)
        told = problem(await stream.end())
        assert (told.code, told.reason) == (grpc.StatusCode.ABORTED, "SLOW_CONSUMER")
        again = await rig.watch(sources=["pieces"], resume_token=stream.token).synced()
        assert again.messages[0].started.mode == pb.WatchStarted.MODE_RESUMED
        assert again.map[sample("pieces")].revision > stream.map[sample("pieces")].revision


async def test_a_client_that_never_reads_again_holds_its_place_until_it_goes() -> None:
    """No watcher and no interest is left, but its stream counts against the limits until its connection is closed."""
    async with running(("pieces",), server={**SLOW, "streams_max": 1}) as rig:
        async with deaf(rig):
            await overfill(rig)
            assert (await problem_of(rig.watch(sources=["pieces"]).next())).reason == "TOO_MANY_STREAMS"
        async with asyncio.timeout(10):
            while True:
                try:
                    await rig.watch(sources=["pieces"]).synced()
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
                else:
                    break


async def test_a_slow_client_skips_states_and_gets_the_last() -> None:
    """It is not cut off while it takes a message now and then; nothing is queued for it."""
    async with running(("pieces",), server={**SLOW, "slow_consumer_s": 20}) as rig, deaf(rig) as stream:
        for number in range(150):
            rig["pieces"].put(sample("pieces").asset_id, {"name": f"{number} " + "x" * 20_000})
            await rig.get(sample("pieces"), max_age={})
        told = 0
        async with asyncio.timeout(20):
            while not stream.map[sample("pieces")].pieces.name.startswith("149 "):
                message = await stream.next()
                told += sum(key_of(change.status) == sample("pieces") for change in message.changes)
        assert told < 100


async def test_one_that_does_not_read_holds_up_nobody() -> None:
    """A stream beside it gets every change at once."""
    async with running(("omn", "pieces"), server={**SLOW, "slow_consumer_s": 20}) as rig, deaf(rig):
        for number in range(40):
            rig["pieces"].put(sample("pieces").asset_id, {"name": f"{number} " + "x" * 20_000})
            await rig.get(sample("pieces"), max_age={})
        stream = await rig.watch(sources=["omn"]).synced()
        rig.vary("omn")
        async with asyncio.timeout(2):
            await stream.until(lambda message: message.changes)
