"""Messages as plain values, in protobuf's JSON form and with the schema's own names: what is printed as JSON and YAML.

That form leaves out what is zero or empty. A count of nothing is told all the same, and so is a list asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assetwatch.v1.server_service_pb2 import ServerInfo
from assetwatch.v1.source_pb2 import PollStats, Source
from assetwatch.v1.source_service_pb2 import ListSourcesResponse
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.message import Message

ZEROS: dict[int, object] = {
    FieldDescriptor.CPPTYPE_INT32: 0,
    FieldDescriptor.CPPTYPE_UINT32: 0,
    FieldDescriptor.CPPTYPE_INT64: "0",  # a number of 64 bits is a text in JSON
    FieldDescriptor.CPPTYPE_UINT64: "0",
}


def as_dict(message: Message, *, is_list: bool = False) -> dict[str, object]:
    """Return the message as plain values; is_list: what it lists is told when it is nothing, too."""
    data: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    _count(message, data)
    if is_list:
        data = {field.name: [] for field in message.DESCRIPTOR.fields if _lists(field)} | data
    return data


def _lists(field: Any) -> bool:  # noqa: ANN401 - the published types of descriptors are two
    return field.is_repeated and field.message_type is not None and not field.message_type.GetOptions().map_entry


def _count(message: Message, data: dict[str, Any]) -> None:
    """Tell the counts of sources and servers that are 0; elsewhere a number that is 0 was mostly not said."""
    match message:
        case ListSourcesResponse():
            for source, plain in zip(message.sources, data.get("sources", ()), strict=True):
                _count(source, plain)
        case Source():
            _fill(message, data)
            _fill(message.poll_stats, data.setdefault("poll_stats", {}))
        case ServerInfo():
            _fill(message, data)


def _fill(message: Source | PollStats | ServerInfo, data: dict[str, object]) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.cpp_type in ZEROS:
            data.setdefault(field.name, ZEROS[field.cpp_type])
