"""Refusals without a reason: counted, and raised after some in a row.

Retried for ever they would never be heard of, though the call itself may be what causes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from assetwatch_client.actions import reason_of

UNEXPLAINED_MAX = 5
"""A call that is refused without a reason before its first message is made so many times again, and no more."""

WHILE_NEW = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
"""What a server or a proxy in trouble says too: counted until the call was served once, which shows that it can be."""
ALWAYS = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED})
"""What gRPC says of a message, or of an error, that is too large for it: it comes again with the same call."""


class Unexplained(grpc.aio.AioRpcError):
    """The call was refused again and again, without a reason and before its first message. times: so often."""

    def __init__(self, error: grpc.aio.AioRpcError, times: int) -> None:
        text = (
            f"refused {times} times in a row with {error.code().name} and no reason of assetwatch, before a first "
            f"message; the request or its answer may be too large for gRPC or a proxy: ask for less at a time "
            f"({error.details() or 'nothing was said'})"
        )
        super().__init__(
            error.code(), error.initial_metadata(), error.trailing_metadata(), text, error.debug_error_string()
        )
        self.times = times


@dataclass(slots=True)
class Refusals:
    """Counts those in a row. served: the call was served once, by at least one message."""

    served: bool = False
    times: int = 0

    def began(self) -> None:
        """The call is served."""
        self.served, self.times = True, 0

    def add(self, error: grpc.aio.AioRpcError) -> None:
        """Count the end of a call that was not served. Raises: Unexplained after UNEXPLAINED_MAX more."""
        if reason_of(error) is not None or error.code() not in (ALWAYS if self.served else ALWAYS | WHILE_NEW):
            self.times = 0
            return
        self.times += 1
        if self.times > UNEXPLAINED_MAX:
            raise Unexplained(error, self.times) from error
