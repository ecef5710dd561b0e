"""Maps errors to gRPC statuses: the only module that knows both vocabularies, and the only one that aborts calls."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from assetwatchd.model import errors
from assetwatchd.rpc.peers import host_of
from assetwatchd.runtime.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from google.protobuf.message import Message

    from assetwatchd.rpc.signatures import Context

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
    errors.TooManyNames: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_NAMES"),
    errors.TooManyReads: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_READS"),
    errors.RetryTooSoon: (grpc.StatusCode.RESOURCE_EXHAUSTED, "RETRY_TOO_SOON"),
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

STATUS_BYTES_MAX = 3800
"""Of the trailers that tell an error. Clients take 8 KiB of headers, many less; beyond it they say RESOURCE_EXHAUSTED
or INTERNAL in its place, end the connection with all its other calls, or say nothing. 4 KB are safe, of which what else
stands in trailers has the rest."""
TEXT_BYTES_MAX = (1024, 512, 256, 128, 64)
"""Of each text in a status: the first of these with which it fits. With the last one every status does."""
CUT = "..."
PLAIN_FIRST, PLAIN_LAST, PERCENT = 0x20, 0x7E, 0x25
"""Bytes of a message between these, but for the third, travel as they are; each other one takes three."""

REFUSALS_EVERY_S = 10.0
"""One line in so long of a reason and address: who asks again and again for what it cannot have fills no disk."""
REFUSALS_KINDS_MAX = 1000
LOGGED_BYTES_MAX = 512

log = logging.getLogger(__name__)
_refusals = Seldom(REFUSALS_EVERY_S, REFUSALS_KINDS_MAX)


PLANNED = frozenset({"SERVER_DRAINING"})
"""Reasons that are no failure of the server's: it ends as it was told to."""


TOLD = "assetwatch_reason"
"""Under this name an AbortError has the reason that the client was told. gRPC takes no other error in its place."""


def told(end: BaseException | None) -> str:
    """Return the reason with which a call was ended by us; empty if it ended otherwise."""
    return str(getattr(end, TOLD, ""))


class ErrorsAsStatus:
    """As a context manager it ends the call with the status of whatever is raised inside; a cancellation passes.

    What we did not foresee becomes INTERNAL with no text of ours in it; the trace stays here.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __aenter__(self) -> None:
        """Nothing has been raised yet."""

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End the call, if it must be."""
        match error:
            case errors.CallError():
                await self._tell(error)
            case grpc.aio.AbortError():
                return
            case grpc.aio.InternalError():  # a write to a peer that has gone
                raise asyncio.CancelledError from None
            case Exception():
                peer = self._context.peer()
                log.error("a call of %s failed in a way nobody foresaw", peer, exc_info=error, extra={"peer": peer})
                await self._context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has the reason")

    async def _tell(self, error: errors.CallError) -> None:
        reason = reason_of(error)
        if reason not in PLANNED:
            log_refusal(error, reason, self._context.peer())
        # An attribute of gRPC's own error, not a subclass: for any other error gRPC logs a stack for each refused call.
        try:
            await self._context.abort_with_status(_with_trailers(status_of(error), self._context))
        except grpc.aio.AbortError as abort:
            setattr(abort, TOLD, reason)
            raise


def _with_trailers(status: status_pb2.Status, context: Context) -> grpc.Status:
    """Return a status for gRPC that has the trailers that were set before: it takes either those or its own."""
    made: Any = rpc_status.to_status(status)
    trailers = (*(context.trailing_metadata() or ()), *made.trailing_metadata)
    whole: grpc.Status = made._replace(trailing_metadata=trailers)
    return whole


def log_refusal(error: errors.CallError, reason: str, peer: str) -> None:
    """Write that a call was refused, unless there was a line a moment ago of that reason and address."""
    if (more := _refusals.more((reason, host_of(peer)))) is None:
        return
    left_out = f" (and {more} more of its address since the last line)" if more else ""
    about = {"peer": peer, "reason": reason, "source": error.metadata.get("source", "")}
    log.info("refused a call of %s: %s: %s%s", peer, reason, _cut(str(error), LOGGED_BYTES_MAX), left_out, extra=about)


def status_of(error: errors.CallError) -> status_pb2.Status:
    """Look an error up by its class, or the nearest one above it, and pack its details; texts are cut until it fits."""
    # Texts are cut, and not details left out: clients act by the reason and the delay, and read the text if they can.
    code, reason = _row(error)
    for text_max in TEXT_BYTES_MAX:
        status = status_pb2.Status(code=code.value[0], message=_cut(str(error), text_max))
        for detail in _details(error, reason, text_max):
            status.details.add().Pack(detail)
        if wire_bytes(status) <= STATUS_BYTES_MAX:
            break
    return status


def reason_of(error: errors.CallError) -> str:
    """Return the reason that its class, or the nearest one above it, has in the table."""
    return _row(error)[1]


def _row(error: errors.CallError) -> tuple[grpc.StatusCode, str]:
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def wire_bytes(status: status_pb2.Status) -> int:
    """Return how many bytes of trailers a status makes: grpc-message, percent-encoded, and all of it in base64."""
    message: bytes = status.message.encode()
    plain = sum(PLAIN_FIRST <= byte <= PLAIN_LAST and byte != PERCENT for byte in message)
    return 3 * len(message) - 2 * plain + (int(status.ByteSize()) + 2) // 3 * 4


def _cut(text: str, bytes_max: int) -> str:
    """Return a text, or its beginning, that is no longer than that as UTF-8."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - len(CUT)].decode("utf-8", "ignore") + CUT


def _details(error: errors.CallError, reason: str, text_max: int) -> Iterator[Message]:
    metadata = {name: _cut(value, text_max) for name, value in error.metadata.items()}
    yield error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    if error.violations:
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=_cut(field, text_max), description=_cut(text, text_max)
                )
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
        description = _cut(str(error), text_max)
        violation = error_details_pb2.QuotaFailure.Violation(subject=_cut(subject, text_max), description=description)
        yield error_details_pb2.QuotaFailure(violations=[violation])
