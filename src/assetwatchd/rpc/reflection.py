"""Server reflection under both of its names: v1alpha, which the library serves, and v1, which newer tools want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from assetwatchd.rpc.handlers import checked_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.rpc.requests import Requests

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


def add(server: grpc.aio.Server, services: Iterable[str], requests: Requests) -> None:
    """Serve the descriptors of the named services. The two versions have the same messages, so one servicer does."""
    servicer: Any = ReflectionServicer([*services, V1, V1ALPHA])
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        checked_stream(servicer.ServerReflectionInfo, reflection_pb2.ServerReflectionRequest, requests),
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name in (V1, V1ALPHA)])
