"""The servicers under grpcio-testing, by a bridge: it knows no asyncio, and would take a coroutine for an answer."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import grpc_testing
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1.asset_status_pb2 import AssetRef

from assetwatchd.app import App
from assetwatchd.rpc.admission import Admission
from assetwatchd.rpc.handlers import checked
from assetwatchd.rpc.names import ASSET_STATUS, SOURCE
from assetwatchd.rpc.requests import Requests
from assetwatchd.rpc.service import AssetStatusService, SourceService
from assetwatchd.rpc.watch import Watching
from assetwatchd.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10
LOST = AssetRef(source="nowhere", asset_id="1")


class Context:
    """The asynchronous face of grpcio-testing's synchronous context."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.written: list[bytes] = []

    async def abort_with_status(self, status: grpc.Status) -> None:
        """End the call."""
        self._context.set_code(status.code)
        self._context.set_details(status.details)
        raise grpc.aio.AbortError

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the call."""
        self._context.set_code(code)
        self._context.set_details(details)
        raise grpc.aio.AbortError

    async def write(self, message: bytes) -> None:
        """Keep a message."""
        self.written.append(message)

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """None were set."""
        return ()

    def peer(self) -> str:
        """Name an address."""
        return "ipv4:127.0.0.1:1"


class Bridge:
    """Runs the methods of an asynchronous servicer on a loop in another thread."""

    def __init__(self, servicer: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._servicer = servicer
        self._loop = loop

    def __getattr__(self, method: str) -> Any:
        behaviour = getattr(self._servicer, method)

        def unary(request: Any, context: Any) -> Any:
            serve: Any = checked(behaviour, type(request), Requests())
            return self._run(serve(request.SerializeToString(), Context(context)))

        def stream(request: Any, context: Any) -> Iterator[Any]:
            bridged = Context(context)
            serve: Any = checked(behaviour, type(request), Requests())
            self._run(serve(request.SerializeToString(), bridged))
            yield from map(pb.WatchStatusResponse.FromString, bridged.written)

        return stream if method == "WatchStatus" else unary

    def _run(self, work: Any) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)
        except grpc.aio.AbortError:
            return None


@pytest.fixture
def server() -> Iterator[Any]:
    """A testing server over the servicers of a process without sources; its hub runs in the other thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> tuple[App, asyncio.Task[None]]:
        app = App(Settings.model_validate({"server": {"heartbeat_s": 0.1, "stream_age_s": 0.2}}))
        return app, asyncio.create_task(app.hub.run())

    async def end() -> None:
        running.cancel()
        await asyncio.wait([running])

    app, running = asyncio.run_coroutine_threadsafe(begin(), loop).result(PATIENCE_S)
    limits = app.settings.server
    watching = Watching(app.store, app.hub, app.sources, Admission(limits), limits, "here")
    servicers = {
        ASSET_STATUS: Bridge(AssetStatusService(app.store, app.hub, app.sources, watching), loop),
        SOURCE: Bridge(SourceService(app.store, app.hub, app.sources, "here"), loop),
    }
    yield grpc_testing.server_from_dictionary(servicers, grpc_testing.strict_real_time())
    asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetAssetStatus", pb.GetAssetStatusRequest(asset=LOST)),
        ("BatchGetAssetStatuses", pb.BatchGetAssetStatusesRequest(assets=[LOST])),
        ("ListAssetStatuses", pb.ListAssetStatusesRequest(sources=["nowhere"])),
        (
            "WaitAssetStatus",
            pb.WaitAssetStatusRequest(asset=LOST, until_settled=True),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unary_methods_end_with_their_status(server: Any, method: str, request_: Any) -> None:
    """NOT_FOUND from each, through the servicer itself."""
    call = server.invoke_unary_unary(ASSET_STATUS.methods_by_name[method], (), request_, PATIENCE_S)
    _, _, code, details = call.termination()
    assert code is grpc.StatusCode.NOT_FOUND
    assert "nowhere" in details


def test_unary_methods_answer_with_messages(server: Any) -> None:
    """Not with coroutines."""
    call = server.invoke_unary_unary(
        ASSET_STATUS.methods_by_name["ListAssetStatuses"], (), pb.ListAssetStatusesRequest(), PATIENCE_S
    )
    answer, _, code, _ = call.termination()
    assert (answer, code) == (pb.ListAssetStatusesResponse(), grpc.StatusCode.OK)
    call = server.invoke_unary_unary(
        SOURCE.methods_by_name["ListSources"], (), source_pb.ListSourcesRequest(), PATIENCE_S
    )
    assert call.termination()[0] == source_pb.ListSourcesResponse()


def test_a_refused_stream_ends_with_its_status(server: Any) -> None:
    """INVALID_ARGUMENT, and no message before it."""
    method = ASSET_STATUS.methods_by_name["WatchStatus"]
    call = server.invoke_unary_stream(method, (), pb.WatchStatusRequest(), PATIENCE_S)
    _, code, details = call.termination()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "name at least one asset or one source" in details
