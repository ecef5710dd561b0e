"""Who answered: streams begin with the name of the replica, and every call ends with it, answered or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from assetwatchd.app import App
from assetwatchd.rpc.names import HEALTH, REPLICA_KEY, SERVICES
from assetwatchd.rpc.receiving import METADATA_BYTES_MAX
from assetwatchd.settings.schema import Settings
from support.problems import problem_of
from support.rig import running

if TYPE_CHECKING:
    from support.rig import Rig

METHODS: list[Any] = [method for service in (*SERVICES, HEALTH) for method in service.methods]


async def named_by(call: Any) -> list[str]:
    """Return what names the replica at the end of a call, however that ends."""
    with_it = [value for key, value in await call.trailing_metadata() if key == REPLICA_KEY]
    await call.code()
    return with_it


def called(rig: Rig, method: Any, request: bytes = b"", **options: Any) -> Any:
    """Call a method with a request of bytes."""
    make: Any = rig.channel.unary_stream if method.server_streaming else rig.channel.unary_unary
    return make(f"/{method.containing_service.full_name}/{method.name}")(request, timeout=10, **options)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_call_ends_with_it(method: Any) -> None:
    """Whether it is answered, or refused for what it asks, for its bytes or for its metadata."""
    async with running(("omn",)) as rig:
        calls = [called(rig, method, b"\xff"), called(rig, method, metadata=(("x", "x" * METADATA_BYTES_MAX),))]
        if not (method.server_streaming and method.containing_service.name == HEALTH.name):  # that goes on
            calls.append(called(rig, method))
        for call in calls:
            assert await named_by(call) == [rig.app.replica]


async def test_an_error_of_ours_keeps_its_details_beside_it() -> None:
    """And one that nobody foresaw has it, too."""
    async with running(("omn",)) as rig:
        assert (await problem_of(rig.source("nowhere"))).reason == "SOURCE_NOT_FOUND"
        rig.app.sources.get = None  # type: ignore[assignment,method-assign]  # it breaks whatever asks
        method = next(method for method in METHODS if method.name == "GetSource")
        call = called(rig, method, b"\x0a\x03omn")
        assert await named_by(call) == [rig.app.replica]
        assert await call.code() is grpc.StatusCode.INTERNAL
        del rig.app.sources.get


async def test_streams_begin_with_it() -> None:
    """A watch and a stream of Pieces; both are told the name that sources and the server have."""
    async with running(("pieces",)) as rig:
        name = rig.app.replica
        watch = rig.watch(sources=["pieces"])
        assert (await watch.next()).started.replica == name
        assert (await rig.info()).replica == (await rig.source("pieces")).owner == name
        service = next(service for service in SERVICES if service.name == "PiecesAssetsService")
        stream = called(rig, service.methods_by_name["StreamAssets"], b"\x0a\x06pieces")
        assert name.encode() in await stream.read()
        stream.cancel()


@pytest.mark.parametrize("given", ["", "eu-1"])
async def test_the_name_is_handed_in(given: str) -> None:
    """By whoever wires a process; else it is that of the host."""
    app = App(Settings.model_validate({}), replica=given)
    assert app.replica == (given or App(Settings.model_validate({})).replica) != ""
