"""A server whose every answer has, in every text of every message, what acts on a terminal; also its errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from assetwatch.pieces.v1 import pieces_assets_service_pb2
from assetwatch.v1 import asset_status_service_pb2, server_service_pb2, source_service_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor, MethodDescriptor
    from google.protobuf.message import Message

HOSTILE = (
    "a\x1b[2J\x9b31m\x07\x00\x7f\x85\r\n\t\u202e\u2066\u200f\u061c\u2028\u2029\ufeff\U000e0041 \u202f\u3000é\U0001f600z"
)
DEPTH_MAX = 7
FILES = (asset_status_service_pb2, source_service_pb2, server_service_pb2, pieces_assets_service_pb2)


def filled(descriptor: Descriptor, depth: int = 0) -> Message:
    """Make a message with a hostile text wherever one fits; of a oneof, the last member wins."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if depth < DEPTH_MAX or field.message_type is None:
            _fill(message, field, depth)
    return message


def _fill(message: Any, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(getattr(message, field.name), field.message_type, depth)
    elif field.is_repeated:
        place = getattr(message, field.name)
        values = [_value(field, depth), _value(field, depth)]
        place.extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_value(field, depth))
    else:
        setattr(message, field.name, _value(field, depth))


def _fill_map(place: Any, entry: Descriptor, depth: int) -> None:
    value = entry.fields_by_name["value"]
    if value.message_type is not None:
        place[HOSTILE].CopyFrom(_value(value, depth))
    else:
        place[HOSTILE] = _value(value, depth)


def _value(field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        return _known(field.message_type) or filled(field.message_type, depth + 1)
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return max(field.enum_type.values_by_number)
    scalars = {
        FieldDescriptor.TYPE_STRING: HOSTILE,
        FieldDescriptor.TYPE_BYTES: HOSTILE.encode(),
        FieldDescriptor.TYPE_BOOL: True,
    }
    return scalars.get(field.type, 1)


def _known(descriptor: Descriptor) -> Message | None:
    """Make one of protobuf's own messages, where not every value is one."""
    if descriptor.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        return GetMessageClass(descriptor)(seconds=1)
    if descriptor.full_name == "google.protobuf.Value":
        return GetMessageClass(descriptor)(string_value=HOSTILE)
    return None


def refusal() -> Any:
    """An error with hostile texts in its message and in everything that goes with it."""
    details: list[Message] = [
        filled(error_details_pb2.ErrorInfo.DESCRIPTOR),
        filled(error_details_pb2.BadRequest.DESCRIPTOR),
        error_details_pb2.ErrorInfo(reason="PIECES_REFUSED", domain="assetwatch", metadata={"text": HOSTILE}),
    ]
    packed = []
    for detail in details:
        one = AnyMessage()
        one.Pack(detail)
        packed.append(one)
    return rpc_status.to_status(status_pb2.Status(code=3, message=HOSTILE, details=packed))


class Hostile:
    """What the server answers. refusing: nothing but errors. answers: what was sent last, by method."""

    def __init__(self) -> None:
        self.address = ""
        self.refusing = False
        self.answers: dict[str, Message] = {}

    def handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Message, Message]:
        """Answer a method, whatever it is asked."""
        request = GetMessageClass(method.input_type).FromString
        made = filled(method.output_type)
        if method.output_type.fields_by_name.get("next_page_token") is not None:
            made.ClearField("next_page_token")
        self.answers[method.name] = made

        def one(_: Any, context: grpc.ServicerContext) -> Any:
            if self.refusing:
                context.abort_with_status(refusal())
            return made

        def many(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            if not self.refusing:
                yield made
            context.abort_with_status(refusal())

        write = GetMessageClass(method.output_type).SerializeToString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(many, request, write)
        return grpc.unary_unary_rpc_method_handler(one, request, write)


@contextmanager
def hostile() -> Iterator[Hostile]:
    """Serve on a free port of loopback, in threads."""
    service = Hostile()
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    for file in FILES:
        for described in file.DESCRIPTOR.services_by_name.values():
            handlers = {method.name: service.handler(method) for method in described.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(described.full_name, handlers),))
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield service
    finally:
        server.stop(0).wait()
