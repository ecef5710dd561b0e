"""A server that comes later, moves, is updated or is of a version nobody knows: what the service makes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.pieces.v1 import asset_pb2
from assetwatch.v1 import asset_status_pb2, asset_status_service_pb2
from yarl import URL

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatchd.adapters.pieces import Pieces
from assetwatchd.model.values import ConditionState
from assetwatchd.pieces.client.api import PiecesApi
from assetwatchd.pieces.client.discovery import Probing
from assetwatchd.pieces.client.server import PiecesServer
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.runtime import descriptors
from assetwatchd.settings.schema import PiecesSource
from assetwatchd.upstream.rate import Pacer
from support import virtual_time
from support.pieces_rig import ONE, SOURCE, TWO, PiecesRig, pieces_rig, shelve
from support.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from assetwatchd.pieces.client.location import PiecesTransport

NOWHERE = "http://127.0.0.1:9"
PATIENCE_S = 20


@asynccontextmanager
async def found_by_ports(*standins: PiecesStandin, **source: Any) -> AsyncIterator[PiecesRig]:
    """A server with nobody at the configured address, that looks for Pieces OS at the ports of these."""
    for standin in standins:
        if not standin.running:
            await standin.start()
            await standin.stop()
    ports = [URL(standin.url).port or 0 for standin in standins]
    probing = Probing(ports=ports, connect_timeout_s=10, health_timeout_s=10)
    told = {"base_url": NOWHERE, "discover": True, **source}
    try:
        async with pieces_rig(source=told, probing=probing) as rig:
            yield rig
    finally:
        for standin in standins:
            await standin.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - it is a condition that is waited for
            await asyncio.sleep(0.01)


async def turned(rig: PiecesRig, state: ConditionState) -> str:
    """Wait until the source's condition is that; return what it says."""
    scheduler = rig.app.sources.get(SOURCE)
    await until(lambda: scheduler.condition.state is state)
    return scheduler.condition.message


async def told(call: Any, asset_id: str) -> Any:
    """Read a watch on to the next change of an asset."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for one in (await call.read()).changes:
                if one.status.asset.asset_id == asset_id:
                    return one.status


def watch(rig: PiecesRig) -> Any:
    return rig.statuses.WatchStatus(asset_status_service_pb2.WatchStatusRequest(sources=[SOURCE]))


def now(asset_id: str) -> asset_status_service_pb2.GetAssetStatusRequest:
    """A status that is to be asked for."""
    ref = asset_status_pb2.AssetRef(source=SOURCE, asset_id=asset_id)
    return asset_status_service_pb2.GetAssetStatusRequest(asset=ref, max_age={"seconds": 0})  # type: ignore[arg-type]  # a message as a dict


async def test_a_server_that_starts_later_is_found() -> None:
    """Nobody at any port is a condition that says where was looked; once there is one, everything goes on with it."""
    late = PiecesStandin()
    async with found_by_ports(late) as rig:
        message = await turned(rig, ConditionState.UNREACHABLE)
        assert message == "Pieces OS is neither at http://127.0.0.1:9 nor at any of 1 known ports; start it"
        call, stream = watch(rig), rig.stream("StreamAssets")
        await late.start()
        shelve(late)
        assert (await told(call, ONE)).pieces.name == "retry loop"
        await turned(rig, ConditionState.HEALTHY)
        assert (await rig.call("GetAsset", asset_id=TWO)).asset.name == "pager"
        await stream.holds(lambda held: ONE in held)
        call.cancel()


async def test_a_server_that_moves_to_another_port_is_found_again() -> None:
    """The server stops, and goes on at another of the known ports: open watches and streams follow it there."""
    before, after = PiecesStandin(), PiecesStandin()
    await before.start()
    shelve(before)
    async with found_by_ports(before, after) as rig:
        call, stream = watch(rig), rig.stream("StreamAssetIdentifiers")
        assert (await told(call, ONE)).pieces.name == "retry loop"
        await stream.holds(lambda held: ONE in held)
        await before.stop()
        await after.start()
        after.put(ONE, {"name": "moved"})
        assert (await told(call, ONE)).pieces.name == "moved"
        await stream.holds(lambda held: set(held) == {ONE})
        assert (await rig.call("GetAsset", asset_id=ONE)).asset.name == "moved"
        call.cancel()


async def test_a_version_that_is_not_supported_is_a_condition() -> None:
    """REFUSED says what to update, to calls too; the server is left alone, and taken once its version is right."""
    old = PiecesStandin(switches={"version": "10.9.9"})
    await old.start()
    async with pieces_rig(standin=old, source={"backoff_first_s": 0.05, "backoff_max_s": 0.5}) as rig:
        shelve(old)
        text = f"Pieces OS at {old.url} is 10.9.9; at least 11.0.0 is needed: update Pieces OS"
        assert await turned(rig, ConditionState.REFUSED) == text
        old.requests.clear()
        problem = await problem_of(rig.call("GetAsset", asset_id=ONE))
        assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE")
        assert (problem.retry_after_s, text in problem.message) == (30, True)
        status = await problem_of(rig.statuses.GetAssetStatus(now(ONE), timeout=PATIENCE_S))
        assert status.reason == "SOURCE_UNREACHABLE"
        assert (status.retry_after_s or 0) > 20, "it is not even asked, and will not be for long"
        assert old.requests.count("/assets") == 0
        assert old.requests.count("/.well-known/version") == 1, "of the call of the assets API alone"
        call = watch(rig)
        old.switch({"version": "12.0.0"})
        assert (await told(call, ONE)).pieces.name == "retry loop"
        await turned(rig, ConditionState.HEALTHY)
        call.cancel()


async def test_a_server_updated_beyond_what_is_supported() -> None:
    """A version too new is seen when the server comes back with it, and by a probe where nothing broke."""
    for restarted in (True, False):
        async with pieces_rig(source={"probe_interval_s": 600 if restarted else 0.05}) as rig:
            shelve(rig.standin)
            call = watch(rig)
            await told(call, ONE)
            rig.standin.switch({"version": "13.0.0"})
            if restarted:
                await rig.standin.stop()
                await rig.standin.start()
            message = await turned(rig, ConditionState.REFUSED)
            assert message.endswith("is 13.0.0; versions before 13.0.0 are supported: update assetwatch")
            call.cancel()


async def test_an_unhealthy_server_is_not_called() -> None:
    """A server that says it is not healthy gets no call of ours when it is met."""
    sick = PiecesStandin()
    await sick.start()
    sick.faults.add(path="/.well-known/health", status=200, body="starting", content_type="text/plain")
    async with pieces_rig(standin=sick) as rig:
        problem = await problem_of(rig.call("ListRelatedAssets", assets=asset_pb2.Assets()))
        assert "/.well-known/health did not answer as Pieces OS does" in problem.message
        assert sick.requests.count("/assets") == 0
        sick.faults.clear()
        await rig.call("ListAssets")


async def test_a_server_that_was_found_is_not_forgotten_by_a_lost_call() -> None:
    """Calls that get no answer one after the other, sooner than it is looked again: the next goes where it was."""
    standin = PiecesStandin()
    await standin.start()
    shelve(standin)
    async with found_by_ports(standin, backoff_first_s=600, backoff_max_s=600) as rig:
        await rig.call("GetAsset", asset_id=ONE)
        for _ in range(2):
            standin.faults.add(path=f"/assets/{ONE}", times=1, disconnect=True, method="POST")
            assert (await problem_of(rig.call("DeleteAsset", asset_id=ONE))).reason == "SOURCE_UNREACHABLE"
            assert (await rig.call("GetAsset", asset_id=ONE)).asset.name == "retry loop"


async def test_many_callers_look_for_a_server_once() -> None:
    """While nobody is there, ports are tried once a first pause, however many calls there are."""
    knocks = 0

    async def knock(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.close()

    door = await asyncio.start_server(knock, "127.0.0.1", 0)
    probing = Probing(ports=[door.sockets[0].getsockname()[1]], connect_timeout_s=10, health_timeout_s=10)
    pauses = {"backoff_first_s": 600, "backoff_max_s": 600}
    async with pieces_rig(source={"base_url": NOWHERE, "discover": True, **pauses}, probing=probing) as rig:
        problems = await asyncio.gather(*[problem_of(rig.call("ListAssets")) for _ in range(20)])
    assert {problem.reason for problem in problems} == {"SOURCE_UNREACHABLE"}
    assert 0 < knocks <= 3, "one to see whether anybody is there, one to ask for health, and that once more"
    door.close()
    await door.wait_closed()


def test_all_who_call_share_one_budget() -> None:
    """Reads, calls of the assets API and streams of one source start one by one, rate_per_s a second."""

    async def starts() -> list[float]:
        settings = PiecesSource.model_validate({"kind": "pieces", "base_url": NOWHERE, "rate_per_s": 2})
        server, loop = PiecesServer(SOURCE, settings), asyncio.get_running_loop()
        transports = [server.polls, server.calls, server.polls]

        async def start(transport: PiecesTransport) -> float:
            await transport._start()
            return loop.time()

        began = loop.time()
        return [at - began for at in await asyncio.gather(*[start(each) for each in (*transports, *transports)])]

    assert virtual_time.run(starts()) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])


def test_a_source_has_files_for_its_connections() -> None:
    """Those for states and those for calls are together as many as are reckoned with for a source."""
    settings = PiecesSource.model_validate({"kind": "pieces", "base_url": NOWHERE, "concurrency": 5})
    server = PiecesServer(SOURCE, settings)
    connections = server.polls._connections_max + server.calls._connections_max
    assert connections == descriptors.TRANSPORTS * (settings.concurrency + descriptors.BESIDE)


async def test_every_request_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes of ports, checks, reads, lists, calls, and opening streams: as many turns as the server saw requests."""
    turns = 0
    slot = Pacer.slot

    async def counted(self: Pacer) -> None:
        nonlocal turns
        turns += 1
        await slot(self)

    monkeypatch.setattr(Pacer, "slot", counted)
    standin = PiecesStandin()
    await standin.start()
    shelve(standin)
    port = URL(standin.url).port or 0
    settings = PiecesSource.model_validate({"kind": "pieces", "base_url": NOWHERE, "discover": True})
    server = PiecesServer(SOURCE, settings, Probing(ports=[port], connect_timeout_s=10, health_timeout_s=10))
    upstream, api = Pieces(SOURCE, settings, server), PiecesApi(server)
    try:
        await upstream.observe([ONE, TWO])
        await upstream.enumerate()
        await upstream.probe()
        await api.get(ONE)
        async with (
            server.identifiers.listen() as ids,
            server.connect(Stream.ASSETS),
            server.connect(Stream.TRANSFERABLES),
        ):
            await anext(ids)
        seen = [(logged.method, logged.path_qs.partition("?")[0]) for logged in standin.requests.all()]
        asked = ["/.well-known/version", f"/assets/{ONE}", "/assets/identifiers", *[stream.value for stream in Stream]]
        assert {("HEAD", "/.well-known/health"), *[("GET", path) for path in asked]} <= set(seen)
        assert turns == len(seen)
    finally:
        await server.close()
        await standin.stop()
