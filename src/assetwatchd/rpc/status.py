"""Errors to gRPC status: the only file that knows both vocabularies, and the only one that aborts calls of ours."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from assetwatchd import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

    from google.protobuf.message import Message

DOMAIN = "assetwatch"
TABLE: dict[type[errors.CallError], tuple[grpc.StatusCode, str]] = {
    errors.InvalidRequest: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    errors.ResumeTokenInvalid: (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID"),
    errors.ResumeFilterMismatch: (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH"),
    errors.SourceNotFound: (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND"),
    errors.ResumeTokenExpired: (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED"),
    errors.ResumeEpochChanged: (grpc.StatusCode.OUT_OF_RANGE, "RESUME_EPOCH_CHANGED"),
    errors.ReplicaBehind: (grpc.StatusCode.UNAVAILABLE, "REPLICA_BEHIND"),
    errors.ServerDraining: (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"),
    errors.SourceUnreachable: (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE"),
    errors.TooManyStreams: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS"),
    errors.TooManyAssets: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ASSETS"),
    errors.BatchTooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, "BATCH_TOO_LARGE"),
    errors.SlowConsumer: (grpc.StatusCode.ABORTED, "SLOW_CONSUMER"),
    errors.SourceKindMismatch: (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_KIND_MISMATCH"),
    errors.AssetGone: (grpc.StatusCode.NOT_FOUND, "ASSET_GONE"),
    errors.PiecesRefused: (grpc.StatusCode.FAILED_PRECONDITION, "PIECES_REFUSED"),
    errors.ContentTooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONTENT_TOO_LARGE"),
    errors.MetadataTooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE"),
    errors.RequestTooSlow: (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_TOO_SLOW"),
}

log = logging.getLogger(__name__)


class ErrorsAsStatus:
    """As a context manager it ends the call with the status of whatever is raised inside; a cancellation passes.

    What we did not foresee becomes INTERNAL with no text of ours in it; the trace stays here.
    """

    __slots__ = ("_context",)

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    async def __aenter__(self) -> None:
        """Nothing has been raised yet."""

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End the call, if it must be."""
        match error:
            case errors.CallError():
                await self._context.abort_with_status(rpc_status.to_status(status_of(error)))
            case grpc.aio.AbortError():
                return
            case grpc.aio.InternalError():  # a write to a peer that has gone
                raise asyncio.CancelledError from None
            case Exception():
                log.error("a call failed in a way nobody foresaw", exc_info=error)
                await self._context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has the reason")


def status_of(error: errors.CallError) -> status_pb2.Status:
    """Look an error up by its class, or the nearest one above it, and pack its details."""
    code, reason = _row(error)
    status = status_pb2.Status(code=code.value[0], message=str(error))
    for detail in _details(error, reason):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def reason_of(error: errors.CallError) -> str:
    """Return the reason that its class, or the nearest one above it, has in the table."""
    return _row(error)[1]


def _row(error: errors.CallError) -> tuple[grpc.StatusCode, str]:
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def _details(error: errors.CallError, reason: str) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=error.metadata)
    if error.violations:
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
                for field, text in error.violations
            ]
        )
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(retry_after_s * 1000))
        yield error_details_pb2.RetryInfo(retry_delay=delay)
    subject: str | None = getattr(error, "subject", None)
    if subject is not None:
        violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=str(error))
        yield error_details_pb2.QuotaFailure(violations=[violation])
