"""Which member is asked when one fails: the next after two calls without an answer, and nobody waits for a dead one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.etcd.connection import OPTIONS
from assetwatchd.etcd.endpoints import FAILURES_MAX
from assetwatchd.etcd.errors import EtcdRefused, OutcomeUnknown
from assetwatchd.etcd.operations import put
from faults.rig.proxy import Proxy
from support.etcd import client_of, ended_with, eventually, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.client import EtcdClient

NOBODY = "http://127.0.0.1:1"
SOON_S = 0.3
"""Longer than an answer takes, here."""


@pytest.fixture
async def proxy(etcd: Cluster) -> AsyncIterator[Proxy]:
    """A way to the etcd of all tests that can be cut."""
    proxy = Proxy("127.0.0.1", int(etcd.endpoints[0].rpartition(":")[2]))
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three members."""
    with running(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


async def unanswered(client: EtcdClient, calls: int = FAILURES_MAX) -> None:
    """Make calls that nobody answers, one after the other."""
    for _ in range(calls):
        assert isinstance(await ended_with(client.get(b"x", within_s=SOON_S)), OutcomeUnknown)


async def test_the_next_endpoint_is_asked_after_two_calls(etcd: Cluster) -> None:
    """One call may fail for many reasons; after the last endpoint comes the first."""
    async with client_of(NOBODY, *etcd.endpoints, NOBODY) as client:
        await unanswered(client, 1)
        assert client.endpoint == NOBODY
        await unanswered(client, 1)
        assert client.endpoint == etcd.endpoints[0]
        assert (await client.get(b"x")).revision > 0
        assert client.endpoint == etcd.endpoints[0]


async def test_failures_with_an_answer_between_do_not_add_up(etcd: Cluster, proxy: Proxy) -> None:
    """A member that answers is kept, and a refusal is an answer."""
    async with client_of(f"http://{proxy.address}", NOBODY) as client:
        for answer in (client.get(b"x"), ended_with(client.compact(10**12))):
            proxy.heal()
            await answer
            proxy.blackhole()
            await unanswered(client, 1)
        assert client.endpoint == f"http://{proxy.address}"


async def test_calls_that_fail_together_change_the_endpoint_once(etcd: Cluster, proxy: Proxy) -> None:
    """What was asked of the member before says nothing about the next one, which would be skipped else."""
    async with client_of(f"http://{proxy.address}", *etcd.endpoints, NOBODY) as client:
        await client.get(b"x")
        proxy.blackhole()
        ends = await asyncio.gather(*(ended_with(client.get(b"x", within_s=SOON_S)) for _ in range(7)))
        assert {type(end) for end in ends} == {OutcomeUnknown}
        assert client.endpoint == etcd.endpoints[0]


async def test_a_connection_that_swallows_everything_is_given_up(proxy: Proxy) -> None:
    """Also where there is one endpoint: it is connected to anew, and watches of before end."""
    async with client_of(f"http://{proxy.address}") as client:
        now = (await client.get(b"x")).revision
        async with client.watch(b"/x/", from_revision=now + 1) as watch:
            reading = asyncio.create_task(ended_with(watch.read()))
            await asyncio.sleep(0)
            proxy.blackhole()
            await unanswered(client)
            end = await asyncio.wait_for(reading, 5)
        assert isinstance(end, OutcomeUnknown)
        assert "given up" in end.told
        connections = proxy.counts.connections
        proxy.heal()
        assert (await eventually(lambda: client.get(b"x"))).revision >= now
        assert proxy.counts.connections > connections


async def test_a_watch_that_does_not_begin(proxy: Proxy) -> None:
    """It ends in its time, as a call does, and counts as one."""
    async with client_of(f"http://{proxy.address}", NOBODY) as client:
        now = (await client.get(b"x")).revision
        proxy.blackhole()
        for _ in range(FAILURES_MAX):
            with pytest.raises(OutcomeUnknown, match="in time"):
                async with client.watch(b"/x/", from_revision=now, within_s=SOON_S):
                    pass
        assert client.endpoint == NOBODY


async def test_a_cancelled_call_is_cancelled(proxy: Proxy) -> None:
    """Who is cancelled is; nothing is counted for it, and what comes after goes on."""
    async with client_of(f"http://{proxy.address}") as client:
        await client.get(b"x")
        proxy.blackhole()
        for _ in range(2 * FAILURES_MAX):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(b"x"), 0.05)
        connections = proxy.counts.connections
        proxy.heal()
        await client.get(b"x")
        assert proxy.counts.connections == connections


async def test_closing_ends_what_goes_on(proxy: Proxy) -> None:
    """Calls and watches end as an unknown outcome, no task is cancelled by it."""
    async with client_of(f"http://{proxy.address}") as client:
        now = (await client.get(b"x")).revision
        async with client.watch(b"/x/", from_revision=now + 1) as watch:
            proxy.blackhole()
            pending = [asyncio.create_task(ended_with(ask)) for ask in (watch.read(), client.get(b"x", within_s=60))]
            await asyncio.sleep(0.05)
            await client.close()
            assert [type(end) for end in await asyncio.gather(*pending)] == [OutcomeUnknown, OutcomeUnknown]


async def test_a_paused_member_costs_two_calls(three: Cluster) -> None:
    """The others answer for it, whoever led, once they have a leader."""
    first = three.members[0]
    async with client_of(*three.endpoints) as client:
        await client.txn((), [put(b"x", b"1")])
        first.pause()
        try:
            await unanswered(client)
            await eventually(lambda: client.txn((), [put(b"x", b"2")]))
            assert client.endpoint != first.endpoint
        finally:
            first.go_on()
            first.wait()


async def test_a_member_without_the_others_says_so(three: Cluster) -> None:
    """Calls are refused at once and watches end, where both would be silent: nothing is known of what goes on."""
    alone, *others = three.members
    async with client_of(alone.endpoint) as client:
        now = (await eventually(lambda: client.get(b"x"))).revision
        try:
            async with client.watch(b"/x/", from_revision=now + 1) as watch:
                for member in others:
                    member.kill()
                end = await asyncio.wait_for(ended_with(watch.read()), 20)
            assert "no leader" in str(end)
            assert "no leader" in str(await ended_with(client.get(b"x", within_s=60)))
        finally:
            for member in others:
                member.start()
                member.wait()
        assert (await eventually(lambda: client.get(b"x"))).revision == now


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A call is refused with its name, and tried again when it is there."""
    async with client_of("https://127.0.0.1:1", ca_file=tmp_path / "ca.pem") as client:
        end = await ended_with(client.get(b"x"))
        assert isinstance(end, EtcdRefused)
        assert "ca.pem: No such file" in str(end)
        assert "ca.pem" not in end.told
        (tmp_path / "ca.pem").write_text("")
        assert isinstance(await ended_with(client.get(b"x")), OutcomeUnknown)


@pytest.mark.unit
def test_pings_that_etcd_takes() -> None:
    """It ends connections that ping more often than every 5 s, or while nothing goes on."""
    options = dict(OPTIONS)
    assert options["grpc.keepalive_time_ms"] > 5000
    assert not options.get("grpc.keepalive_permit_without_calls")
