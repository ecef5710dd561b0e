"""Calls without the stubs of a schema: bytes there and back, and the stubs of gRPC's own services with their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

if TYPE_CHECKING:
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

Request = TypeVar("Request")
Answer = TypeVar("Answer")


def one_to_one(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return a method that takes one message and answers with one."""
    return channel.unary_unary(method)


def one_to_many(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
    """Return a method that takes one message and answers with any number."""
    return channel.unary_stream(method)


def many_to_many(channel: grpc.aio.Channel, method: str) -> grpc.aio.StreamStreamMultiCallable[bytes, bytes]:
    """Return a method that takes and answers any number of messages."""
    return channel.stream_stream(method)


async def answer_of(call: grpc.aio.UnaryStreamCall[Request, Answer]) -> Answer:
    """Read one message; there must be one."""
    message: Any = await call.read()
    assert message is not grpc.aio.EOF
    answer: Answer = message
    return answer


class HealthCalls(Protocol):
    """The methods of gRPC's health service; its published types leave them out."""

    Check: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]
    Watch: grpc.aio.UnaryStreamMultiCallable[HealthCheckRequest, HealthCheckResponse]


def health_of(channel: grpc.aio.Channel) -> HealthCalls:
    """Return the stub of the health service."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    calls: HealthCalls = stub
    return calls
