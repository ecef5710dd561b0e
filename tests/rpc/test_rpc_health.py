"""grpc.health.v1: names, what they answer, and who is told when that changes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from assetwatchd.model.errors import ServerDraining
from assetwatchd.model.values import Condition, ConditionState
from assetwatchd.rpc.health import ALIVE, Health
from assetwatchd.rpc.names import source_health
from support.problems import problem_of
from support.raw_calls import HealthCalls, answer_of, health_of
from support.rig import Rig, running, sample

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
messages: Any = health_pb2  # its published types lack those of List


def stub_of(rig: Rig) -> HealthCalls:
    """Return a health stub."""
    return health_of(rig.channel)


async def check(rig: Rig, name: str) -> int:
    """Ask for one name."""
    return int((await stub_of(rig).Check(health_pb2.HealthCheckRequest(service=name))).status)


async def test_the_process_and_its_services_serve_whatever_its_sources_do() -> None:
    """SERVING under the empty name and both services, with a source down."""
    async with running(("omn",)) as rig:
        await rig["omn"].stop()
        for name in ("", *(f"assetwatch.v1.{name}Service" for name in ("AssetStatus", "Source", "Server"))):
            assert await check(rig, name) == SERVING


async def test_a_source_has_a_name_of_its_own() -> None:
    """Its watcher is told NOT_SERVING when the source fails and SERVING when it is back."""
    async with running(("omn", "pieces")) as rig:
        await rig.get(sample("omn"))
        call = stub_of(rig).Watch(health_pb2.HealthCheckRequest(service=source_health("omn")))
        assert (await answer_of(call)).status == SERVING
        stream = await rig.watch(sources=["omn"]).synced()
        await rig["omn"].stop()
        await stream.turns("omn", ConditionState.UNREACHABLE)
        assert (await answer_of(call)).status == NOT_SERVING
        await rig["omn"].start()
        assert (await answer_of(call)).status == SERVING


async def test_who_is_cut_off_serves_nobody_new_and_is_alive() -> None:
    """All names are NOT_SERVING but the one that a liveness probe asks for, until it is back; at the end all are."""
    async with running(("omn",)) as rig:
        names = ("", "assetwatch.v1.AssetStatusService", "assetwatch.pieces.v1.PiecesAssetsService", ALIVE)
        for cut_off, wanted in ((True, [NOT_SERVING] * 3), (False, [SERVING] * 3)):
            rig.app.health.cut_off(cut_off)
            assert [await check(rig, name) for name in names] == [*wanted, SERVING]
        rig.app.health.end(lambda: ServerDraining(retry_after_s=0))
        assert [await check(rig, name) for name in names] == [NOT_SERVING] * 4


async def test_an_unknown_name_is_not_found_and_can_be_watched() -> None:
    """As the protocol says: Check NOT_FOUND, Watch SERVICE_UNKNOWN."""
    async with running(("omn",)) as rig:
        told = await problem_of(stub_of(rig).Check(health_pb2.HealthCheckRequest(service="nothing")))
        assert told.code is grpc.StatusCode.NOT_FOUND
        call = stub_of(rig).Watch(health_pb2.HealthCheckRequest(service="nothing"))
        assert (await answer_of(call)).status == SERVICE_UNKNOWN


async def test_list_names_everything() -> None:
    """The process, the services, each source."""
    async with running(("omn", "pieces")) as rig:
        method: Any = rig.channel.unary_unary(
            "/grpc.health.v1.Health/List",
            request_serializer=messages.HealthListRequest.SerializeToString,
            response_deserializer=messages.HealthListResponse.FromString,
        )
        listed = (await method(messages.HealthListRequest())).statuses
        assert {"", "assetwatch.v1.AssetStatusService", source_health("omn"), source_health("pieces")} <= set(listed)
        assert listed[""].status == SERVING


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (ConditionState.UNKNOWN, NOT_SERVING),
        (ConditionState.HEALTHY, SERVING),
        (ConditionState.DEGRADED, SERVING),
        (ConditionState.UNREACHABLE, NOT_SERVING),
        (ConditionState.REFUSED, NOT_SERVING),
    ],
)
async def test_a_source_serves_while_it_can_be_read(state: ConditionState, status: int) -> None:
    """HEALTHY and DEGRADED serve."""
    health = Health()
    health.tell("omn", Condition(state, "", 0.0))
    answer = await health.Check(health_pb2.HealthCheckRequest(service=source_health("omn")), None)  # type: ignore[arg-type]  # not used
    assert answer.status == status


async def test_nothing_serves_before_it_is_said_and_after_the_end() -> None:
    """NOT_SERVING until serving(), and for good after end(), whatever a source says then."""
    health = Health()
    request = health_pb2.HealthCheckRequest()
    context: Any = None
    assert (await health.Check(request, context)).status == NOT_SERVING
    health.serving()
    assert (await health.Check(request, context)).status == SERVING
    health.end(lambda: ServerDraining(retry_after_s=1))
    health.tell("omn", Condition(ConditionState.HEALTHY, "", 0.0))
    health.serving()
    for name in ("", source_health("omn")):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name), context)).status == NOT_SERVING


async def test_a_watcher_that_takes_nothing_holds_up_no_other() -> None:
    """One stuck in its write, another is told all the same."""
    health = Health()
    stuck, told = asyncio.Event(), asyncio.Queue[int]()

    class Context:
        """Enough of a call."""

        def __init__(self, write: Any) -> None:
            self.write = write

    async def never(_: object) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async def take(message: Any) -> None:
        await told.put(health_pb2.HealthCheckResponse.FromString(message).status)

    request = health_pb2.HealthCheckRequest()
    watches = [asyncio.create_task(health.Watch(request, Context(write))) for write in (never, take)]  # type: ignore[arg-type]  # same
    await stuck.wait()
    assert await told.get() == NOT_SERVING
    health.serving()
    assert await told.get() == SERVING
    for watch in watches:
        watch.cancel()
    await asyncio.wait(watches)
