"""A failed call in words: what is wrong, the reason's name, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2, status_pb2

from assetwatchd.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "assetwatch"
ACTIONS = {
    "SOURCE_NOT_FOUND": "see `assetwatch sources`",
    "RESUME_TOKEN_INVALID": "give a token exactly as it was printed, or none",
    "RESUME_FILTER_MISMATCH": "give the assets, sources and states the token was made for, or no token",
    "RESUME_TOKEN_EXPIRED": "watch again without the token",
    "RESUME_EPOCH_CHANGED": "watch again without the token",
    "REPLICA_BEHIND": "try again",
    "SERVER_DRAINING": "try again",
    "SOURCE_UNREACHABLE": "try again, or leave out --max-age to get what is known",
    "TOO_MANY_STREAMS": "try again later, or close other watches",
    "TOO_MANY_ASSETS": "ask for fewer assets",
    "SLOW_CONSUMER": "watch again with the last token",
}
BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: "mend the call",
    grpc.StatusCode.UNAUTHENTICATED: "give credentials the server takes",
    grpc.StatusCode.PERMISSION_DENIED: "ask for the right to do this",
    grpc.StatusCode.UNIMPLEMENTED: "is this an assetwatch server, and not older than this command?",
}
SILENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def explain(error: grpc.aio.AioRpcError, server: str) -> tuple[ExitCode, list[str]]:
    """Return how the command ends and the lines to print."""
    details = list(_details(error))
    reason = reason_of(error)
    if error.code() in SILENT and reason is None:
        return ExitCode.UNREACHABLE, [_unreachable(error, server)]
    action = ACTIONS.get(reason or "") or BY_CODE.get(error.code())
    name = f"{error.code().name} {reason}" if reason else error.code().name
    first = f"{error.details() or 'the server refuses the call'} [{name}]{f': {action}' if action else ''}"
    return ExitCode.REFUSED, [first, *_violations(details), *_delay(details)]


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return the reason this project's errors carry, or None."""
    infos = (detail for detail in _details(error) if isinstance(detail, error_details_pb2.ErrorInfo))
    return next((info.reason for info in infos if info.domain == DOMAIN), None)


def _unreachable(error: grpc.aio.AioRpcError, server: str) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{server} did not answer in time; try again"
    why = (error.details() or "").rpartition("last error: ")[2]
    return f"no server can be reached at {server} ({why}); is it running? name another with --server"


def _details(error: grpc.aio.AioRpcError) -> Iterator[Message]:
    metadata = error.trailing_metadata()
    packed = next((value for key, value in metadata or () if key == DETAILS_KEY), None)
    if not isinstance(packed, bytes):
        return
    for detail in status_pb2.Status.FromString(packed).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message: Message = kind()
            if detail.Unpack(message):
                yield message


def _violations(details: list[Message]) -> Iterator[str]:
    for detail in details:
        if isinstance(detail, error_details_pb2.BadRequest):
            for violation in detail.field_violations:
                yield f"  {violation.field or 'request'}: {violation.description}"


def _delay(details: list[Message]) -> Iterator[str]:
    for detail in details:
        if isinstance(detail, error_details_pb2.RetryInfo):
            yield f"  retry in {detail.retry_delay.ToTimedelta().total_seconds():g} s"
