"""A server whose watch streams are scripted, over real sockets, and the messages such a script is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef, AssetStatus
from assetwatch.v1.asset_status_service_pb2 import (
    StatusChange,
    WatchBookmark,
    WatchStarted,
    WatchStatusRequest,
    WatchStatusResponse,
    WatchSynced,
)
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT
from assetwatch.v1.source_pb2 import SourceCondition, SourceConditionState
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status

from assetwatchd.model.errors import CallError
from assetwatchd.rpc.status import status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Step: TypeAlias = WatchStatusResponse | CallError | grpc.StatusCode | float
Script: TypeAlias = Sequence[Step]
SERVICE = "assetwatch.v1.AssetStatusService"
HANG = float("inf")
PATIENCE_S = 10.0
"""What a test waits for must come within this; it mostly takes milliseconds."""


def started(
    *, resumed: bool = False, epoch: str = "e1", heartbeat_s: float = 5.0, head: int = 0
) -> WatchStatusResponse:
    """Begin a stream."""
    heartbeat = Duration()
    heartbeat.FromMilliseconds(round(heartbeat_s * 1000))
    mode = WatchStarted.MODE_RESUMED if resumed else WatchStarted.MODE_SNAPSHOT
    begin = WatchStarted(mode=mode, epoch=epoch, heartbeat_interval=heartbeat)
    return WatchStatusResponse(started=begin, head_revision=head)


def upsert(asset_id: str, revision: int, source: str = "dam") -> StatusChange:
    """Put an asset into the map."""
    status = AssetStatus(asset=AssetRef(source=source, asset_id=asset_id), revision=revision)
    return StatusChange(status=status, kind=CHANGE_KIND_UPSERT, traceparent=f"00-{revision}")


def removed(asset_id: str, revision: int, source: str = "dam") -> StatusChange:
    """Take an asset out of the map."""
    change = upsert(asset_id, revision, source)
    change.kind = CHANGE_KIND_REMOVED
    return change


def batch(*changes: StatusChange, token: str = "", head: int = 0) -> WatchStatusResponse:
    """Tell of changes."""
    return WatchStatusResponse(changes=changes, resume_token=token, head_revision=head)


def synced(token: str = "", head: int = 0, *, incomplete: Iterable[str] = ()) -> WatchStatusResponse:
    """Say that the map is complete, but for some sources."""
    signal = WatchSynced(incomplete=incomplete)
    return WatchStatusResponse(synced=signal, resume_token=token, head_revision=head)


def bookmark(token: str = "", head: int = 0, *, incomplete: Iterable[str] = ()) -> WatchStatusResponse:
    """Move the token."""
    signal = WatchBookmark(incomplete=incomplete)
    return WatchStatusResponse(bookmark=signal, resume_token=token, head_revision=head)


def conditions(**states: str) -> WatchStatusResponse:
    """Tell of sources' conditions, by the names of SourceConditionState."""
    message = WatchStatusResponse()
    for source, state in states.items():
        condition = SourceCondition(state=SourceConditionState.Value(f"SOURCE_CONDITION_STATE_{state}"))
        message.source_conditions.add(source=source, condition=condition)
    return message


class ScriptedServer:
    """Serves the scripts, one a stream, in turn, and notes what came.

    A step is a message to send, an error or a bare code to end with, or seconds of silence; at the end of its script a
    stream ends OK.
    """

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.requests: list[WatchStatusRequest] = []
        self.asked_at: list[float] = []
        self.ended_at: list[float] = []
        self.open = 0
        self.sent = 0
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def target(self) -> str:
        """HOST:PORT, the same after a restart."""
        return f"127.0.0.1:{self.port}"

    @property
    def tokens(self) -> list[str]:
        """The token of each request."""
        return [request.resume_token for request in self.requests]

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch, WatchStatusRequest.FromString, WatchStatusResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"WatchStatus": watch}),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def kill(self) -> None:
        """Break every connection and listen no more."""
        if self._server is not None:
            await self._server.stop(grace=0)
            self._server = None

    async def _watch(self, request: WatchStatusRequest, context: Any) -> None:
        self.requests.append(request)
        self.asked_at.append(asyncio.get_running_loop().time())
        script = self.scripts.pop(0)  # nothing left: the call fails with UNKNOWN, and the test with what is in the log
        with self._counted():
            for step in script:
                await self._do(step, context)

    async def _do(self, step: Step, context: Any) -> None:
        match step:
            case WatchStatusResponse():
                await context.write(step)
                self.sent += 1
            case CallError():
                await context.abort_with_status(rpc_status.to_status(status_of(step)))
            case grpc.StatusCode():
                await context.abort(step, "nobody knows why")
            case _ if step == HANG:
                await asyncio.Event().wait()
            case _:
                await asyncio.sleep(step)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            self.ended_at.append(asyncio.get_running_loop().time())


async def until(condition: Callable[[], object]) -> None:
    """Return once it holds. Raises: TimeoutError after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)
