"""Upper sizes of requests, derived from the schema: bytes of a method's request, items and bytes of a field. Pure."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import Descriptor

    from buf.validate.validate_pb2 import FieldRules

OURS = "assetwatch."
UNKNOWN_BYTES_MAX = 4096
"""What a request may hold beyond what its schema here knows: fields of a newer client, fields written twice."""
FOREIGN_BYTES_MAX = 4096
"""Of a request of a service that is not ours (health, reflection): a name or two, and its schema has no limits."""
UTF8_BYTES_MAX = 4
"""Of one character."""
UUID_BYTES = 36
SCALAR_BYTES_MAX = 10
"""Of a number, however it is written."""
HEAD_BYTES_MAX = 15
"""Of the tag and the length before a value."""

_WIDTHS = {
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_DOUBLE: 8,
}
"""Bytes of a number that always takes as many."""
_KNOWN: dict[str, dict[int, Size]] = {}
"""The tables made so far, by the names of their messages."""


class Size(NamedTuple):
    """The limits of one field.

    items_max: None for one that is not repeated. bytes_max: of one item; infinite where nothing is said. width: bytes
    of an item of a packed list, 0 if they differ; None for what cannot be packed. inside: a message's own fields.
    """

    name: str
    items_max: float | None
    bytes_max: float
    width: int | None
    inside: Sizes | None


Sizes: TypeAlias = "Mapping[int, Size]"


@functools.cache
def request_bytes_max(request: Descriptor) -> float:
    """Return how large a request can be that keeps to its schema, as encoders write it; infinite if nothing says so."""
    if not request.full_name.startswith(OURS):
        return FOREIGN_BYTES_MAX
    return _bytes_max(sizes_of(request), ()) + UNKNOWN_BYTES_MAX


def _bytes_max(sizes: Sizes, above: tuple[int, ...]) -> float:
    """Add up the fields; those of a message within itself have no end."""
    if id(sizes) in above:
        return math.inf
    within = (*above, id(sizes))
    return sum(
        (1 if size.items_max is None else size.items_max)
        * (HEAD_BYTES_MAX + (size.bytes_max if size.inside is None else _bytes_max(size.inside, within)))
        for size in sizes.values()
    )


def sizes_of(message: Descriptor) -> Sizes:
    """Return the limits of a message's fields, by their numbers."""
    if (known := _KNOWN.get(message.full_name)) is not None:
        return known
    sizes = _KNOWN[message.full_name] = {}  # before it is filled: a message may be within itself
    for field in message.fields:
        sizes[field.number] = _size(field)
    return sizes


def _size(field: FieldDescriptor) -> Size:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = message.fields_by_name["key"], message.fields_by_name["value"]
        inside = {key.number: _item(key, rules.map.keys, None), value.number: _item(value, rules.map.values, None)}
        items_max = rules.map.max_pairs if rules.map.HasField("max_pairs") else math.inf
        return Size(field.name, items_max, math.inf, None, inside)
    if field.is_repeated:
        items_max = rules.repeated.max_items if rules.repeated.HasField("max_items") else math.inf
        return _item(field, rules.repeated.items, items_max)
    return _item(field, rules, None)


def _item(field: FieldDescriptor, rules: FieldRules, items_max: float | None) -> Size:
    """Return the limits of one item of a field."""
    if field.message_type is not None:
        return Size(field.name, items_max, math.inf, None, sizes_of(field.message_type))
    if field.type == FieldDescriptor.TYPE_STRING:
        return Size(field.name, items_max, _text_bytes_max(rules), None, None)
    if field.type == FieldDescriptor.TYPE_BYTES:
        bytes_max = rules.bytes.max_len if rules.bytes.HasField("max_len") else math.inf
        return Size(field.name, items_max, bytes_max, None, None)
    return Size(field.name, items_max, SCALAR_BYTES_MAX, _WIDTHS.get(field.type, 0), None)


def _text_bytes_max(rules: FieldRules) -> float:
    text = rules.string
    if text.HasField("max_bytes"):
        return text.max_bytes
    if text.HasField("max_len"):
        return text.max_len * UTF8_BYTES_MAX
    return UUID_BYTES if text.uuid else math.inf
