"""Server reflection under both of its names: v1alpha, which the library serves, and v1, which newer tools want."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from assetwatchd.rpc.handlers import checked_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

    from assetwatchd.rpc.requests import Requests
    from assetwatchd.rpc.signatures import Handler

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
FILE = "grpc/reflection/v1/reflection.proto"


class Descriptors:
    """The descriptors that can be looked up: those of this process, and that of v1, which the library does not have.

    That stands in a pool of its own: in the one of the process it would be in the way of a program's that brings it.
    """

    def __init__(self) -> None:
        self._default = descriptor_pool.Default()
        self._v1 = descriptor_pool.DescriptorPool()
        self._v1.AddSerializedFile(v1().SerializeToString())

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802 - as pools name it
        """Return a file. Raises: KeyError."""
        return (self._v1 if name == FILE else self._default).FindFileByName(name)

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:  # noqa: N802 - same
        """Return the file that declares a service, a method, a message or other symbol. Raises: KeyError."""
        for find in (self._v1.FindFileContainingSymbol, self._default.FindFileContainingSymbol):
            with suppress(KeyError):
                return find(name)
        return self._service_of(name).file  # the pools know methods by their service alone

    def _service_of(self, method: str) -> ServiceDescriptor:
        """Return the service that a method is of. Raises: KeyError."""
        service, _, own = method.rpartition(".")
        for pool in (self._v1, self._default):
            with suppress(KeyError):
                found = pool.FindServiceByName(service)
                if own in found.methods_by_name:
                    return found
        raise KeyError(method)

    def __getattr__(self, name: str) -> object:
        """Look up anything else, as extensions, of which v1 has none, in the pool of the process."""
        return getattr(self._default, name)


def v1() -> descriptor_pb2.FileDescriptorProto:
    """Return the schema of v1: that of v1alpha, under its own name."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    renamed = text_format.MessageToString(file).replace("grpc.reflection.v1alpha", "grpc.reflection.v1")
    file = text_format.Parse(renamed, descriptor_pb2.FileDescriptorProto())
    file.name = FILE
    return file


def add(server: grpc.aio.Server, services: Iterable[str], requests: Requests) -> None:
    """Serve the descriptors of the named services. The two versions have the same messages, so one servicer does."""
    names = [*services, V1, V1ALPHA]
    servicer: Any = ReflectionServicer(names, pool=Descriptors())  # its published types take the method for a coroutine
    handler: Handler = grpc.stream_stream_rpc_method_handler(
        checked_stream(servicer.ServerReflectionInfo, reflection_pb2.ServerReflectionRequest, requests),
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name in (V1, V1ALPHA)])
