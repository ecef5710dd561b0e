"""A failed call in words: what is wrong, the reason's name, and what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2

from assetwatch_client import details_of, reason_of, retry_delay_s
from assetwatchd.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

WHAT_TO_DO = {
    "SOURCE_NOT_FOUND": "see `assetwatch sources`",
    "RESUME_TOKEN_INVALID": "give a token exactly as it was printed, or none",
    "RESUME_FILTER_MISMATCH": "give the assets, sources and states the token was made for, or no token",
    "RESUME_TOKEN_EXPIRED": "watch again without the token",
    "RESUME_EPOCH_CHANGED": "watch again without the token",
    "REPLICA_BEHIND": "try again",
    "SERVER_DRAINING": "try again",
    "SOURCE_UNREACHABLE": "try again; `assetwatch sources` tells how it is, `assetwatch list` what is known of it",
    "SOURCE_KIND_MISMATCH": "see `assetwatch sources`",
    "TOO_MANY_STREAMS": "try again later, or close other watches",
    "TOO_MANY_NAMES": "name fewer assets, watch whole sources, or close other watches",
    "TOO_MANY_READS": "try again, or ask for fewer assets at a time",
    "RETRY_TOO_SOON": "wait; it is tried by itself too, see NEXT TRY of `assetwatch sources`",
    "TOO_MANY_ASSETS": "ask for fewer assets",
    "SLOW_CONSUMER": "watch again with the last token",
    "ASSET_GONE": "see `assetwatch pieces ls`",
    "PIECES_REFUSED": "mend the call",
    "BATCH_TOO_LARGE": "ask for fewer assets at a time",
    "CONTENT_TOO_LARGE": "raise that setting of the server, or leave out the content",
}
TOO_LARGE = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
"""What gRPC says of a request beyond the server's limit, before the server itself sees it."""
BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: "mend the call",
    grpc.StatusCode.UNAUTHENTICATED: "give credentials the server takes",
    grpc.StatusCode.PERMISSION_DENIED: "ask for the right to do this",
    grpc.StatusCode.UNIMPLEMENTED: "is this an assetwatch server, and not older than this command?",
}
SILENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def explain(error: grpc.aio.AioRpcError | TimeoutError, server: str) -> tuple[ExitCode, list[str]]:
    """Return how the command ends and the lines to print."""
    if isinstance(error, TimeoutError):
        return ExitCode.UNREACHABLE, [_late(server)]
    reason = reason_of(error)
    # Without a reason of ours it is gRPC that says so: no server was reached, so nothing was refused by one.
    if error.code() in SILENT and reason is None:
        return ExitCode.UNREACHABLE, [_unreachable(error, server)]
    action = WHAT_TO_DO.get(reason or "") or BY_CODE.get(error.code())
    if reason == "SOURCE_UNREACHABLE" and _metadata_of(error, "asset_id"):
        action = "try again; its source answers, so look there what is wrong with this asset"
    if reason is None and (sizes := TOO_LARGE.search(error.details() or "")):
        return ExitCode.REFUSED, [f"{too_large(int(sizes[1]), int(sizes[2]))} [{error.code().name}]"]
    name = f"{error.code().name} {reason}" if reason else error.code().name
    first = f"{error.details() or 'the server refuses the call'} [{name}]{f': {action}' if action else ''}"
    return ExitCode.REFUSED, [first, *_particulars(error), *_delay(error)]


def too_large(size: int, limit: int) -> str:
    """Say that a request is larger than the server takes; both in bytes."""
    return (
        f"the request is {size} bytes, and the server takes {limit}: send less, or raise server.message_bytes_max there"
    )


def _unreachable(error: grpc.aio.AioRpcError, server: str) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _late(server)
    why = (error.details() or "").rpartition("last error: ")[2]
    return (
        f"no server can be reached at {server.replace(',', ' or ')} ({why}); is it running? name another with --server"
    )


def _late(server: str) -> str:
    return f"{server} did not answer in time; try again"


def _particulars(error: grpc.aio.AioRpcError) -> Iterator[str]:
    """Yield a line a field that is wrong, unless the error's text has it, and what the upstream said."""
    for wrong in details_of(error, error_details_pb2.BadRequest):
        for each in wrong.field_violations:
            line = f"{each.field}: {each.description}" if each.field else each.description
            if line not in (error.details() or ""):
                yield f"  {line}"
    if text := _metadata_of(error, "text"):
        yield f"  the upstream says: {text}"


def _metadata_of(error: grpc.aio.AioRpcError, name: str) -> str:
    """Return a changing part of an error's text; empty when it has none of that name."""
    infos = details_of(error, error_details_pb2.ErrorInfo)
    return next((info.metadata[name] for info in infos if name in info.metadata), "")


def _delay(error: grpc.aio.AioRpcError) -> Iterator[str]:
    delay_s = retry_delay_s(error)
    if delay_s is not None:
        yield f"  retry in {delay_s:g} s"
