"""Requests made up from descriptors: of the shape that a method takes, with what is known and what is hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from assetwatchd.rpc import sizes
from support.described import descriptor_of

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

DEPTH_MAX = 6
"""Levels of messages; one in a hundred goes to DEPTH_RARE."""
DEPTH_RARE = 60
KNOWN_SHARE = 0.97
MANY = 40
"""Items of a list, unless its limit is tried."""
TEXTS = (
    "",
    " ",
    "\x00",
    "a" * 64,
    "a" * 300,
    "\u202e\u0085\u2028\u009b31m",
    "\U0001f600" * 63,
    "%00%s{}${x}",
    "../../etc/passwd",
    "http://127.0.0.1:1/x",
    "s3://" + "x" * 2043,
    "s3://a\u202fb\u3000c.usd",
    "tid:",
    "id:99999999999999999999",
    "a/b/c",
    "NaN",
    "1e999",
    '"\\ud800"',
    "[" * 2000,
    "b,c",
    "AQ==",
)
NUMBERS = (0, 1, -1, 2, 100, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63))
FINITE = (0.0, -0.0, 1.5, 1e308, 2.0**53)
FLOATS = (float("nan"), float("inf"), float("-inf"))


class Filler:
    """Fills messages. known: texts for fields of these names, and whole messages for those of these types.

    Mostly one of them is taken; else, where it matters, hardly a request would get further than its validation.
    """

    def __init__(self, rng: random.Random, known: Mapping[str, Sequence[Any]]) -> None:
        self._rng = rng
        self._known = known
        self._left = 0

    def fill(self, message: Message, *, fields_max: int = 400) -> Message:
        """Fill a message, and those within, with at most so many values."""
        self._left = fields_max
        self._fill(message, DEPTH_RARE if self._rng.random() < 0.01 else DEPTH_MAX)
        return message

    def _fill(self, message: Message, depth: int) -> None:
        if self._whole(message):
            return
        sure = depth >= DEPTH_MAX - 1  # what a request needs stands high up
        for field in descriptor_of(message).fields:
            if self._left > 0 and self._rng.random() < (0.85 if sure else 0.35):
                self._set(message, field, depth)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        self._left -= 1
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._pairs(value, field, depth)
        elif field.is_repeated:
            self._items(value, field, depth)
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field))
        elif depth:
            value.SetInParent()
            self._fill(value, depth - 1)

    def _whole(self, message: Message) -> bool:
        """Make a message one of the known, if there are any of its type."""
        known = self._known.get(message.DESCRIPTOR.full_name)
        if not known or self._rng.random() > KNOWN_SHARE:
            return False
        message.CopyFrom(self._rng.choice(known))
        return True

    def _items(self, value: Any, field: FieldDescriptor, depth: int) -> None:
        count = self._count(field)
        if field.message_type is None:
            value.extend(self._scalar(field) for _ in range(count))
        elif depth:
            for _ in range(min(count, max(1, self._left))):
                self._fill(value.add(), depth - 1)
            if count > MANY:
                value.extend([value[-1]] * (count - len(value)))

    def _pairs(self, value: Any, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        of = field.message_type.fields_by_name["value"]
        for _ in range(self._count(field)):
            key = self._text("") + str(self._rng.randrange(1000))
            if of.message_type is None:
                value[key] = self._scalar(of)
            elif depth and self._left > 0:
                self._left -= 1
                self._fill(value[key], depth - 1)

    def _count(self, field: FieldDescriptor) -> int:
        """Return a number of items: few mostly, sometimes around the limit."""
        assert field.containing_type is not None
        size = sizes.sizes_of(field.containing_type).get(field.number)
        limit = size.items_max if size is not None else None
        if limit is not None and limit <= 10_000 and self._rng.random() < 0.02:
            return int(limit) + self._rng.choice((-1, 0, 1))
        return self._rng.choice((0, 1, 1, 2, 3, self._rng.randrange(MANY)))

    def _scalar(self, field: FieldDescriptor) -> Any:
        rng = self._rng
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                text = self._text(field.name)
                return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
            case FieldDescriptor.CPPTYPE_ENUM:
                assert field.enum_type is not None
                numbers = [value.number for value in field.enum_type.values]
                return rng.choice(numbers) if rng.random() < 0.9 else rng.choice((99, -1, 2**31 - 1))
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return rng.choice(FLOATS if rng.random() < 1 - KNOWN_SHARE else FINITE)
            case FieldDescriptor.CPPTYPE_INT64:
                return rng.choice(NUMBERS)
            case FieldDescriptor.CPPTYPE_INT32:
                return rng.choice([number for number in NUMBERS if -(2**31) <= number < 2**31])
            case _:
                return rng.choice((0, 1))

    def _text(self, name: str) -> str:
        known = self._known.get(name)
        if known and self._rng.random() < KNOWN_SHARE:
            return str(self._rng.choice(known))
        return self._rng.choice(TEXTS)
