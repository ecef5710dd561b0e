"""Server reflection under both of its names: v1alpha, which the library serves, and v1, which newer tools want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Iterable

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


def add(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Serve the descriptors of the named services. The two versions have the same messages, so one servicer does."""
    servicer: Any = ReflectionServicer([*services, V1, V1ALPHA])
    add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated, untyped
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": handler}),))
