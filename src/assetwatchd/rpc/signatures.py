"""Types of what gRPC calls and hands over. Only the schema knows what a method takes and answers: here it is Any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
BytesContext: TypeAlias = "grpc.aio.ServicerContext[Any, bytes]"
"""Of a stream that writes its messages encoded."""
Trailers: TypeAlias = "tuple[tuple[str, str], ...]"
"""Metadata that come after the last message of a call, or with its error."""
Behaviour: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
StreamBehaviour: TypeAlias = "Callable[[AsyncIterator[Any], Context], AsyncIterator[Any]]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
