"""The methods of a service as gRPC calls them: takes bytes, and has `Requests` make the request of them.

So no method is served a request that was not measured and checked. Knows no method by name: the schema has them.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message_factory import GetMessageClass

from assetwatchd.rpc.peers import host_of
from assetwatchd.rpc.status import ErrorsAsStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

    from assetwatchd.rpc.requests import Requests
    from assetwatchd.rpc.signatures import Behaviour, Context, Handler, StreamBehaviour


def handlers(service: ServiceDescriptor, servicer: object, requests: Requests) -> grpc.GenericRpcHandler:
    """Register every method of a service. A streaming one writes messages as bytes; others may return them so."""
    made = {method.name: _handler(method, getattr(servicer, method.name), requests) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, made)


def _handler(method: MethodDescriptor, behaviour: Behaviour, requests: Requests) -> Handler:
    served = checked(behaviour, GetMessageClass(method.input_type), requests)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(served)
    encode = _encoder(GetMessageClass(method.output_type))
    return grpc.unary_unary_rpc_method_handler(served, response_serializer=encode)


def _encoder(response: type[Message]) -> Callable[[Message | bytes], bytes]:
    """Return an encoder that takes a response that is encoded already as it is."""

    def encode(given: Message | bytes) -> bytes:
        return given if isinstance(given, bytes) else response.SerializeToString(given)

    return encode


def checked(behaviour: Behaviour, request: type[Message], requests: Requests) -> Behaviour:
    """Return what serves a method from the bytes on: what is no request of it ends the call with its status."""
    requests.prepare(request)

    async def serve(given: bytes, context: Context) -> object:
        try:
            async with ErrorsAsStatus(context):
                message = await requests.read(given, request, host_of(context.peer()))
            answer = behaviour(message, context)
            del given, message  # a stream goes on for long, and may want nothing of them any more
            return await answer
        except grpc.aio.AbortError as abort:
            given = b""  # noqa: F841 - the error will have this frame, and it the request
            raise _stripped(abort) from None

    return serve


def _stripped(abort: grpc.aio.AbortError) -> grpc.aio.AbortError:
    """Strip the end of a call of tracebacks and causes: they hold the request, which may be megabytes.

    gRPC keeps it in a reference cycle, as libraries do with their errors, until Python looks for garbage.
    """
    link: BaseException | None = abort
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    abort.__context__ = None
    return abort


def checked_stream(
    behaviour: StreamBehaviour, request: type[Message], requests: Requests
) -> Callable[[AsyncGenerator[bytes], Context], AsyncIterator[object]]:
    """Return the same for a method that is sent any number of requests."""
    requests.prepare(request)

    async def serve(given: AsyncGenerator[bytes], context: Context) -> AsyncIterator[object]:
        async def read() -> AsyncIterator[Message]:
            async for each in given:
                yield await requests.read(each, request, host_of(context.peer()))

        # Also of a stream: its error kept frames with requests of up to 4 MiB until old garbage was looked for.
        try:
            async with ErrorsAsStatus(context), aclosing(given):  # it has the request that came last
                async for answer in behaviour(read(), context):
                    yield answer
        except grpc.aio.AbortError as abort:
            raise _stripped(abort) from None

    return serve
