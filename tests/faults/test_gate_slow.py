"""Slow and dead clients: stalled readers cost little and delay nobody; stopped peers are reaped; pings are taken."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from faults.rig import limits
from faults.rig.evidence import holds, read_journal
from faults.rig.process import ROOT
from faults.rig.recorder import OPTIONS, Recorder, Stalled, Wanted, end_of
from faults.rig.upstreams import OMN
from faults.rig.world import Plan, world
from faults.runs import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from faults.rig.evidence import Line
    from faults.rig.recorder import End
    from faults.rig.world import World

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

STALL_S = float(os.environ.get("FAULTS_STALL_S", "20"))
PER_S = 1000
ASSETS = 2000
MEGABYTE = 2**20
GROWN_S = 5
"""A window that grows has grown by then."""
STALE_MESSAGES_MAX = 1000
"""With a window that stays small, so few are under way to a client that does not read."""
PINGED_S = 35.0
"""Three pings of a client that pings every 10 s."""


def test_stalled_watchers_cost_little_and_delay_nobody() -> None:
    """T31: at 1,000 changes/s a stalled watcher costs < 1 MB, misses no last state; p99 of others <= 2x + 50 ms."""

    async def scenario() -> tuple[float, float, float]:
        plan = Plan(7, recorders=0, churners=0, stalled=0, server={"slow_consumer_s": 3600})
        async with world(plan) as running:
            wanted = Wanted(frozenset({OMN}))
            healthy = [Recorder(f"healthy-{number}", running.address, wanted) for number in range(8)]
            for recorder in healthy:
                running.add(recorder)
            assert await running.settles(20), running.unsettled()
            running.recorders.clear()  # the load below is not of the stand-ins
            running.server.tell(ingest={"source": OMN, "assets": ASSETS, "per_s": PER_S})
            await asyncio.sleep(5)  # every asset was there once, every buffer grown
            alone, memory_alone = await _measured(running, healthy)
            stalled = [Stalled(f"stalled-{number}", running.address, wanted) for number in range(4)]
            following = [asyncio.create_task(each.run()) for each in stalled]
            await asyncio.sleep(3)
            beside, memory_beside = await _measured(running, healthy)
            running.server.tell(ingest={"per_s": 0})
            for each in stalled:
                each.released.set()
            await _all_have_the_last(running, [*healthy, *stalled])
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            return alone, beside, (memory_beside - memory_alone) / len(stalled)

    alone, beside, cost_bytes = run(scenario())
    words = f"p99 {alone * 1000:.0f} ms alone, {beside * 1000:.0f} ms beside; {cost_bytes / MEGABYTE:.2f} MB each"
    print(words)  # noqa: T201 - figures for whoever asks with -s
    assert list(limits.i13(alone, beside)) == []
    assert cost_bytes < MEGABYTE


async def _measured(running: World, healthy: Sequence[Recorder]) -> tuple[float, int]:
    """Return the 99th percentile of delivery over STALL_S, seconds, and how much memory the server gained meanwhile."""
    began, before = time.monotonic(), running.server.rss_bytes()
    await asyncio.sleep(STALL_S)
    gained = running.server.rss_bytes() - before
    line = read_journal(running.server.journal).last
    waits = [
        t - entry.t
        for recorder in healthy
        for stream in recorder.streams
        for t, message in stream.messages
        if t >= began
        for change in message.changes
        if (entry := line.at(change.status.revision)) is not None
    ]
    assert len(waits) > len(healthy) * STALL_S * PER_S / 10
    return statistics.quantiles(waits, n=100)[98], gained


async def _all_have_the_last(running: World, recorders: Sequence[Recorder]) -> None:
    await asyncio.sleep(1)
    expected = _folded(read_journal(running.server.journal).last, recorders[0].wanted)
    async with asyncio.timeout(10):
        while any(_revisions(each) != expected for each in recorders):  # noqa: ASYNC110 - maps change unheard
            await asyncio.sleep(0.1)


def _folded(line: Line, wanted: Wanted) -> dict[tuple[str, str], int]:
    latest = {entry.key: entry for entry in line.entries}
    return {key: entry.revision for key, entry in latest.items() if holds(wanted, entry)}


def _revisions(recorder: Recorder) -> dict[tuple[str, str], int]:
    return {key: status.revision for key, status in recorder.map.items()}


@pytest.mark.parametrize("probing", [True, False], ids=["gRPC's default", "bdp_probe=0"])
def test_what_waits_in_the_transport(probing: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """T33: what a client that stops reading must take that is long past; `head_revision` shows by how much."""

    async def scenario() -> tuple[int, int]:
        async with world(Plan(13, recorders=0, churners=0, stalled=0)) as running:
            address = f"127.0.0.1:{running.server.port}"
            options = [option for option in OPTIONS if not (probing and option[0] == "grpc.http2.bdp_probe")]
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                call = AssetStatusServiceStub(channel).WatchStatus(pb.WatchStatusRequest(sources=[OMN]))
                running.server.tell(ingest={"source": OMN, "assets": ASSETS, "per_s": PER_S})
                until = time.monotonic() + GROWN_S
                while time.monotonic() < until:
                    await call.read()
                await asyncio.sleep(STALL_S / 2)
                running.server.tell(ingest={"per_s": 0})
                return await _taken(call)

    messages, behind = run(scenario())
    print(f"{messages} messages, the first {behind} revisions behind")  # noqa: T201 - figures for whoever asks with -s
    assert behind > 0
    assert probing or messages < STALE_MESSAGES_MAX


async def _taken(call: grpc.aio.UnaryStreamCall[pb.WatchStatusRequest, pb.WatchStatusResponse]) -> tuple[int, int]:
    """Read on until there is nothing to tell: how many messages came, and how far the first was behind."""
    taken: list[pb.WatchStatusResponse] = []
    while not (taken and taken[-1].HasField("bookmark")):
        message = await call.read()
        assert isinstance(message, pb.WatchStatusResponse)
        taken.append(message)
    changed = [message for message in taken if message.changes]
    return len(changed), taken[-1].head_revision - changed[0].changes[-1].status.revision


def test_a_stopped_client_is_reaped() -> None:
    """T51: a client that is stopped (SIGSTOP) is gone within keepalive 20 s + ping timeout 10 s + 1 s."""

    async def scenario() -> None:
        async with world(Plan(8, recorders=0, churners=0, stalled=0, server={"heartbeat_s": 5})) as running:
            address = f"127.0.0.1:{running.server.port}"
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, address, cwd=ROOT)
            try:
                assert await _watchers(running, 1, within_s=10)
                client.send_signal(signal.SIGSTOP)
                assert await _watchers(running, 0, within_s=31 + 1)
            finally:
                client.kill()
                await client.wait()

    run(scenario())


CLIENT = """
import sys
sys.path[:0] = ["src", "generated"]
import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
with grpc.insecure_channel(sys.argv[1]) as channel:
    for _ in AssetStatusServiceStub(channel).WatchStatus(pb.WatchStatusRequest(sources=["omn"])):
        pass
"""


async def _watchers(running: World, count: int, *, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        census = (await running.server.ask(census=True))["census"]
        if census["watchers"] == count:
            return True
        await asyncio.sleep(0.5)
    return False


@pytest.mark.parametrize(("ping_s", "cut"), [(10, False), (1, True)])
def test_pings_on_a_stream(ping_s: int, cut: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """T50: a client with a stream may ping every 10 s for ever; one that pings every second is cut, and told why."""

    async def scenario() -> None:
        async with _pinging(ping_s) as (_, channel):
            call = AssetStatusServiceStub(channel).WatchStatus(pb.WatchStatusRequest(sources=[OMN]))
            end = await _ended(call, within_s=PINGED_S)
            assert (end is not None) == cut
            if end is not None:
                assert end.code == "UNAVAILABLE"
                assert "too many pings" in end.text.lower().replace("_", " ")
            call.cancel()

    run(scenario())


@pytest.mark.parametrize(("ping_s", "cut"), [(10, False), (1, True)])
def test_pings_without_a_stream(ping_s: int, cut: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """T50: nor does a connection without any call need to be quiet: every 10 s is allowed, every second is not."""

    async def scenario() -> None:
        async with _pinging(ping_s) as (running, channel):
            await channel.channel_ready()
            assert running.front.counts.connections == 1
            left = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
            done, _ = await asyncio.wait([left], timeout=PINGED_S)
            left.cancel()
            assert bool(done) == cut
            assert running.front.counts.closes == running.front.counts.resets == 0  # it was the server, if anybody

    run(scenario())


@asynccontextmanager
async def _pinging(ping_s: int) -> AsyncIterator[tuple[World, grpc.aio.Channel]]:
    """Run a world that says little, and a channel that pings."""
    options = [
        *OPTIONS,
        ("grpc.keepalive_time_ms", ping_s * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    plan = Plan(9, recorders=0, churners=0, stalled=0, server={"heartbeat_s": 120})
    async with world(plan) as running, grpc.aio.insecure_channel(running.address(), options=options) as channel:
        yield running, channel


async def _ended(
    call: grpc.aio.UnaryStreamCall[pb.WatchStatusRequest, pb.WatchStatusResponse], *, within_s: float
) -> End | None:
    try:
        async with asyncio.timeout(within_s):
            while await call.read() is not grpc.aio.EOF:
                pass
    except TimeoutError:
        return None
    except grpc.aio.AioRpcError as error:
        return end_of(error)
    raise AssertionError("it ended OK")
