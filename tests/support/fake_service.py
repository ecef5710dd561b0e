"""The services over real sockets, with scripted answers: what the command line talks to in its own tests."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import (
    asset_status_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    source_service_pb2,
    source_service_pb2_grpc,
)
from assetwatch.v1.asset_status_pb2 import (
    AssetFacet,
    AssetFailure,
    AssetFailureKind,
    AssetRef,
    AssetState,
    AssetStatus,
    Freshness,
)
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT
from assetwatch.v1.server_service_pb2 import ServerInfo, ServerLimits
from assetwatch.v1.source_pb2 import PollStats, Source, SourceCondition, SourceConditionState, SourceKind
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from google.protobuf.message import Message


class Refusal(Exception):
    """An error as the schema promises it: code, reason, and field violations or a delay."""

    def __init__(
        self,
        code: grpc.StatusCode,
        text: str,
        reason: str = "",
        *,
        violations: dict[str, str] | None = None,
        retry_s: int | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(text)
        info = error_details_pb2.ErrorInfo(reason=reason, domain="assetwatch", metadata=metadata)
        details: list[Message] = [info] if reason else []
        if violations:
            fields = [
                error_details_pb2.BadRequest.FieldViolation(field=field, description=what)
                for field, what in violations.items()
            ]
            details.append(error_details_pb2.BadRequest(field_violations=fields))
        if retry_s is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromSeconds(retry_s)
            details.append(retry)
        self.status = rpc_status.to_status(
            status_pb2.Status(code=code.value[0], message=text, details=[_packed(detail) for detail in details])
        )


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def status(
    source: str,
    asset_id: str,
    state: str = "AVAILABLE",
    *,
    revision: int = 1,
    message: str = "",
    facet: str = "",
    unread: str = "",
) -> AssetStatus:
    """Return a status; message makes it a failure, facet is a native value, unread the reason why it is STALE."""
    made = AssetStatus(
        asset=AssetRef(source=source, asset_id=asset_id),
        state=AssetState.Value(f"ASSET_STATE_{state}"),
        freshness=Freshness.FRESHNESS_FRESH,
        revision=revision,
    )
    made.observe_time.GetCurrentTime()
    if message:
        made.failure.CopyFrom(
            AssetFailure(kind=AssetFailureKind.ASSET_FAILURE_KIND_PERMANENT, code="BROKEN", message=message)
        )
    if facet:
        made.facets.append(AssetFacet(name="import", state=made.state, native=facet))
    if unread:
        made.freshness, made.freshness_reason = Freshness.FRESHNESS_STALE, unread
    return made


def changes(*statuses: AssetStatus, removed: bool = False, token: str = "") -> pb.WatchStatusResponse:
    """Return a message of a watch with these changes."""
    kind = CHANGE_KIND_REMOVED if removed else CHANGE_KIND_UPSERT
    return pb.WatchStatusResponse(
        changes=[pb.StatusChange(status=told, kind=kind) for told in statuses], resume_token=token, head_revision=9
    )


def started(*, resumed: bool = False) -> pb.WatchStatusResponse:
    """Return the first message of a watch, with the condition of one source."""
    mode = pb.WatchStarted.MODE_RESUMED if resumed else pb.WatchStarted.MODE_SNAPSHOT
    healthy = SourceCondition(state=SourceConditionState.SOURCE_CONDITION_STATE_HEALTHY)
    return pb.WatchStatusResponse(
        started=pb.WatchStarted(mode=mode, epoch="e1"),
        source_conditions=[pb.SourceConditionChange(source="dam", condition=healthy)],
    )


def synced(token: str = "t1", *, incomplete: Iterable[str] = ()) -> pb.WatchStatusResponse:
    """Return the message that ends a snapshot."""
    return pb.WatchStatusResponse(synced=pb.WatchSynced(incomplete=incomplete), resume_token=token)


def bookmark(token: str = "t1", *, incomplete: Iterable[str] = ()) -> pb.WatchStatusResponse:
    """Return a message that moves the token."""
    return pb.WatchStatusResponse(bookmark=pb.WatchBookmark(incomplete=incomplete), resume_token=token)


class FakeService:
    """Scripted answers and the requests that came.

    streams: one script a watch, in turn: messages, and at its end a Refusal, or nothing: then it ends OK. The last
    stream stays open. retried: the condition of a source that was tried by hand, if not as before.
    """

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Any] = []
        self.deadlines_s: list[float] = []
        self.sources = [_source("dam"), _source("sbc")]
        self.statuses = [status("dam", f"tid:{number}", revision=number) for number in range(1, 6)]
        self.refusal: Refusal | None = None
        self.incomplete = ["sbc"]
        self.condition_met = True
        self.reason = ""
        self.settled_otherwise = False
        self.streams: list[list[pb.WatchStatusResponse | Refusal]] = []
        self.health = health.aio.HealthServicer()
        self.retried: SourceCondition | None = None
        self.info = ServerInfo(
            version="1.2.3", replica="one", epoch="e1", limits=ServerLimits(message_bytes_max=65_536)
        )

    async def checked(self, request: Any, context: Any) -> None:
        """Note a request; refuse it when that is scripted."""
        self.requests.append(request)
        self.deadlines_s.append(context.time_remaining() or math.inf)
        if self.refusal is not None:
            await context.abort_with_status(self.refusal.status)


class _Statuses(asset_status_service_pb2_grpc.AssetStatusServiceServicer):
    def __init__(self, fake: FakeService) -> None:
        self._fake = fake

    async def GetAssetStatus(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return pb.GetAssetStatusResponse(status=self._fake.statuses[0])

    async def BatchGetAssetStatuses(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return pb.BatchGetAssetStatusesResponse(statuses=self._fake.statuses)

    async def ListAssetStatuses(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        received = pb.ListAssetStatusesRequest()
        received.CopyFrom(request)
        await self._fake.checked(received, context)
        first = int(request.page_token or 0)
        last = first + request.page_size
        token = str(last) if last < len(self._fake.statuses) else ""
        page = self._fake.statuses[first:last]
        return pb.ListAssetStatusesResponse(statuses=page, next_page_token=token, incomplete=self._fake.incomplete)

    async def WaitAssetStatus(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return pb.WaitAssetStatusResponse(
            status=self._fake.statuses[0] if self._fake.statuses else None,
            condition_met=self._fake.condition_met,
            settled_otherwise=self._fake.settled_otherwise,
            reason=self._fake.reason,
        )

    async def WatchStatus(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        script = self._fake.streams.pop(0)
        for step in script:
            if isinstance(step, Refusal):
                await context.abort_with_status(step.status)
            yield step
        if not self._fake.streams:
            await asyncio.Event().wait()


class _Sources(source_service_pb2_grpc.SourceServiceServicer):
    def __init__(self, fake: FakeService) -> None:
        self._fake = fake

    async def ListSources(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return source_service_pb2.ListSourcesResponse(sources=self._fake.sources)

    async def GetSource(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return source_service_pb2.GetSourceResponse(source=_source(request.source))

    async def RetrySource(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return source_service_pb2.RetrySourceResponse(source=_source(request.source, self._fake.retried))


class _Server(server_service_pb2_grpc.ServerServiceServicer):
    def __init__(self, fake: FakeService) -> None:
        self._fake = fake

    async def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - the schema's name
        await self._fake.checked(request, context)
        return server_service_pb2.GetServerInfoResponse(server=self._fake.info)


def _source(name: str, condition: SourceCondition | None = None) -> Source:
    down = SourceCondition(state=SourceConditionState.SOURCE_CONDITION_STATE_UNREACHABLE, message="connection refused")
    return Source(
        name=name,
        kind=SourceKind.SOURCE_KIND_OMN,
        condition=condition or down,
        asset_count=7,
        poll_stats=PollStats(calls=3, failed_calls=1),
    )


@asynccontextmanager
async def serving(
    listen: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[FakeService]:
    """Serve there, on a free port of loopback; credentials: over TLS."""
    fake = FakeService()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    asset_status_service_pb2_grpc.add_AssetStatusServiceServicer_to_server(_Statuses(fake), server)
    source_service_pb2_grpc.add_SourceServiceServicer_to_server(_Sources(fake), server)
    server_service_pb2_grpc.add_ServerServiceServicer_to_server(_Server(fake), server)
    health_pb2_grpc.add_HealthServicer_to_server(fake.health, server)
    await fake.health.set("", health_pb2.HealthCheckResponse.SERVING)
    await fake.health.set("assetwatch.v1.AssetStatusService/sbc", health_pb2.HealthCheckResponse.NOT_SERVING)
    port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    fake.address = listen if listen.startswith("unix:") else f"127.0.0.1:{port}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(grace=0)
