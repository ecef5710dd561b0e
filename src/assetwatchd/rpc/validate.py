"""Requests against the rules written in the schema; each broken rule is a field violation, some of them are told.

Upper limits of sizes are not looked at here: `wire` has, for the whole of a request. No other rule stands deeper than
the outline of a request reaches, or within a list other than those of the request itself; a test reads the schema for
that. So what is checked here is small, or done a slice at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import protovalidate
from google.protobuf.duration_pb2 import Duration

from assetwatchd.model.errors import VIOLATIONS_MAX, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message
    from protovalidate import Violation

OUTLINE_LEVELS = 2
"""Rules reach from a request into its messages, and into theirs: a seed needs an asset."""
SLICE = 100
"""So many items of a list are checked at a time: a tenth of a millisecond, or two milliseconds where each is wrong."""


_VALIDATOR = protovalidate.Validator()


def prepare(request: type[Message]) -> None:
    """Make of a request's rules what checks them, so that no first call has to wait for it."""
    _VALIDATOR.collect_violations(request())


def validate(request: Message) -> Iterator[None]:
    """Check a request, a slice each time it is asked on, and no further than the slice in which enough is found.

    Raises: InvalidRequest, with the first violations and how many more there are.
    """
    found = [*_violations(outline(request, OUTLINE_LEVELS)), *_durations(request)]
    checked = True
    for name, items in _lists(request):
        for begin in range(1, len(items), SLICE):  # the first is in the outline
            if not (checked := len(found) <= VIOLATIONS_MAX):
                break
            yield
            part = items[begin : begin + SLICE]
            if _is_sound(request, name, part):
                continue
            for index, item in enumerate(part, begin):
                found += _violations(item, f"{name}[{index}].")
    if found:
        raise InvalidRequest(*found, complete=checked)


def _is_sound(request: Message, name: str, part: Sequence[Message]) -> bool:
    """Return whether nothing is wrong with a part of a list, at a fifth of the cost of checking each item by itself."""
    alone = type(request)()
    getattr(alone, name).extend(part)
    return not _VALIDATOR.collect_violations(alone, fail_fast=True)


def outline(request: Message, levels: int) -> Message:
    """Copy a request without what stands deeper: a message down there is left empty, and a list has its first item."""
    copy = type(request)()
    for field, value in request.ListFields():
        if field.message_type is None:
            _put(copy, field.name, value, repeated=field.is_repeated)
        elif field.message_type.GetOptions().map_entry:
            continue
        elif field.is_repeated:
            getattr(copy, field.name).append(_below(value[0], levels))
        else:
            getattr(copy, field.name).CopyFrom(_below(value, levels))
    return copy


def _below(message: Message, levels: int) -> Message:
    return outline(message, levels - 1) if levels else type(message)()


def _put(message: Message, name: str, value: object, *, repeated: bool) -> None:
    if repeated:
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def _lists(request: Message) -> Iterator[tuple[str, Sequence[Message]]]:
    """Yield the lists of messages that the request itself holds."""
    for field, value in request.ListFields():
        if field.is_repeated and field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield field.name, value


def _durations(request: Message) -> Iterator[tuple[str, str]]:
    """Yield durations that are not valid: the rules of the schema compare them, and do not look at that."""
    for field, value in request.ListFields():
        if isinstance(value, Duration):
            try:
                value.ToJsonString()
            except ValueError as error:
                yield field.name, str(error)


def _violations(message: Message, within: str = "") -> Iterator[tuple[str, str]]:
    for violation in _VALIDATOR.collect_violations(message):
        yield within + _path(violation), violation.proto.message


def _path(violation: Violation) -> str:
    """Write the field's path as BadRequest wants it: assets[3].source; empty for a rule of the whole message."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path.removeprefix(".")
