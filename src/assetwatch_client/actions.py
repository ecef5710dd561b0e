"""The reaction to each error: one table from (code, reason) to an action. Pure: makes no call."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf import any_pb2

DOMAIN = "assetwatch"
Detail = TypeVar("Detail", bound=Message)


class Action(enum.Enum):
    """The reaction to the end of a call."""

    RESUME = "watch again with the last token, after a pause"
    SNAPSHOT = "watch again without a token"
    FAIL = "tell the caller: the same call fails again"


BY_REASON = {
    "RESUME_TOKEN_EXPIRED": Action.SNAPSHOT,
    "RESUME_EPOCH_CHANGED": Action.SNAPSHOT,
    "REPLICA_BEHIND": Action.RESUME,
    "SERVER_DRAINING": Action.RESUME,
    "SOURCE_UNREACHABLE": Action.RESUME,
    "SLOW_CONSUMER": Action.RESUME,
    "TOO_MANY_STREAMS": Action.RESUME,
    "TOO_MANY_NAMES": Action.RESUME,
    "TOO_MANY_READS": Action.RESUME,
    "RETRY_TOO_SOON": Action.RESUME,
    "TOO_MANY_ASSETS": Action.FAIL,
    "RESUME_TOKEN_INVALID": Action.FAIL,
    "RESUME_FILTER_MISMATCH": Action.FAIL,
    "SOURCE_NOT_FOUND": Action.FAIL,
    "INVALID_REQUEST": Action.FAIL,
    "SOURCE_KIND_MISMATCH": Action.FAIL,
    "ASSET_GONE": Action.FAIL,
    "PIECES_REFUSED": Action.FAIL,
    "BATCH_TOO_LARGE": Action.FAIL,
    "CONTENT_TOO_LARGE": Action.FAIL,
    "METADATA_TOO_LARGE": Action.FAIL,
    "REQUEST_TOO_SLOW": Action.RESUME,
}
"""Every reason the server gives, in all its services."""

BY_CODE = {
    grpc.StatusCode.UNAVAILABLE: Action.RESUME,
    grpc.StatusCode.ABORTED: Action.RESUME,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Action.RESUME,
    grpc.StatusCode.INTERNAL: Action.RESUME,
    grpc.StatusCode.UNKNOWN: Action.RESUME,
    grpc.StatusCode.DEADLINE_EXCEEDED: Action.RESUME,
    grpc.StatusCode.CANCELLED: Action.RESUME,
    grpc.StatusCode.OUT_OF_RANGE: Action.SNAPSHOT,  # a proxy dropped the reason; both that have this code mean it
}
"""What the transport or a proxy gives, without a reason; every other code is FAIL."""


def action_for(error: grpc.aio.AioRpcError) -> Action:
    """Say what to do about the end of a stream."""
    return BY_REASON.get(reason_of(error) or "") or BY_CODE.get(error.code(), Action.FAIL)


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return the reason in the error's ErrorInfo, or None when it was not made by assetwatch."""
    infos = details_of(error, error_details_pb2.ErrorInfo)
    return next((info.reason for info in infos if info.domain == DOMAIN), None)


def retry_delay_s(error: grpc.aio.AioRpcError) -> float | None:
    """Return how long the server asks to wait, in seconds; None when it does not."""
    delays = details_of(error, error_details_pb2.RetryInfo)
    return next((info.retry_delay.ToMilliseconds() / 1000 for info in delays), None)


def details_of(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Iterator[Detail]:
    """Yield the error's details of one kind, e.g. google.rpc.BadRequest; none where there are none."""
    for packed in packed_details(error):
        detail = kind()
        if packed.Unpack(detail):
            yield detail


def packed_details(error: grpc.aio.AioRpcError) -> Sequence[any_pb2.Any]:
    """Return every detail of an error, of whatever kind, still packed; empty where it has none that can be read."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three members that are read
    except (ValueError, DecodeError):  # code and details contradict each other, or cannot be read: a proxy's doing
        return ()
    return () if status is None else tuple(status.details)
