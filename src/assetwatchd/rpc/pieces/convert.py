"""JSON documents of Pieces OS to messages and back, losslessly; driven by the schema and the few tables here.

The rules (absent, text, extra, extra_json) are those at the head of asset.proto.
"""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard, TypeVar

from assetwatch.pieces.v1 import asset_pb2  # noqa: F401 - it registers the messages that are looked up by descriptor
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from assetwatchd.model.errors import BadAnswer, ContentTooLarge
from assetwatchd.pieces.client.body import pieces
from assetwatchd.upstream.bodies import jsonbody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from google.protobuf.descriptor import Descriptor
    from pydantic import JsonValue

    from assetwatchd.upstream.http.transport import Reply

    Read: TypeAlias = "Callable[[JsonValue, int], object]"
    """Takes a value of a document, at a level; returns what a message is made with."""
    Write: TypeAlias = "Callable[[Any], JsonValue]"
    """Takes what a field of a message holds, which the schema alone knows."""

M = TypeVar("M", bound=Message)

# 1. What the schema does not say --------------------------------------------------------------------------------------

KEYS = {
    "automatic_unload": "automaticUnload",
    "deleted_flag": "deleted",
    "from_time": "from",
    "to_time": "to",
    "AssetSearchSpace.identifiers": "identifers",
    "Format.asset_id": "asset",
}
"""Names on the wire where they are not the field's own; those of one message only with its name."""

MAY_LACK = frozenset({"FlattenedAssets"})
"""Messages whose list `iterable` may be left out; everywhere else it is required."""

EXTRA, EXTRA_JSON, LIST = "extra", "extra_json", "iterable"
ABSENT = ""
"""In extra_json: a required list was missing."""

EXACT_MAX = 2**53
"""Integers up to this are what a double, and so a Struct, holds exactly."""
INT64_MAX = 2**63 - 1
BYTE_MAX = 255
NESTING_MAX = 90
"""Levels of messages in an answer; decoders stop at 100, and an answer or a change is wrapped in a few more."""
LEVELS_A_NEST = 3
"""Levels of messages that one level of JSON costs in a Struct."""

_UNFIT = object()


class _Member(NamedTuple):
    """A field: its name on the wire, how a value is taken in (_UNFIT if it cannot be) and how it is written."""

    name: str
    key: str
    read: Read
    write: Write


class _Table(NamedTuple):
    """One message: its fields by name on the wire, those of one name in the order they are tried, and by own name."""

    by_key: Mapping[str, list[_Member]]
    by_name: Mapping[str, _Member]
    lists: bool


# 2. Document to message -----------------------------------------------------------------------------------------------


def message(into: type[M], document: Mapping[str, JsonValue]) -> M:
    """Make a message of a decoded JSON object; document(message(X, d)) == d. Raises: BadAnswer (nested too deeply)."""
    descriptor: Descriptor = into.DESCRIPTOR  # type: ignore[assignment]  # the published types know a second class
    try:
        return into(**_read(descriptor, document, 0))
    except RecursionError:
        raise BadAnswer("the JSON is nested too deeply") from None


def encoded(response: type[Message], source: str, bytes_max: int, document: Mapping[str, JsonValue]) -> bytes:
    """Make the answer of a call, whose one message is made of a document, and encode it.

    Raises: ContentTooLarge when it is more than bytes_max; BadAnswer.
    """
    field: Any = response.DESCRIPTOR.fields[0]
    made: Message = message(GetMessageClass(field.message_type), document)
    answer = response(**{field.name: made}).SerializeToString()
    if len(answer) > bytes_max:
        raise ContentTooLarge(source, setting="server.message_bytes_max", limit=bytes_max)
    return answer


def created(source: str, bytes_max: int, document: Mapping[str, JsonValue]) -> tuple[str, bytes]:
    """Make the answer about an asset that was made, and tell its id. Raises: as encoded; BadAnswer without an id."""
    answer = encoded(pb.CreateAssetResponse, source, bytes_max, document)
    asset_id = document.get("id")
    if not isinstance(asset_id, str) or not asset_id:
        raise BadAnswer("the asset that was made has no id")
    return asset_id.lower(), answer


def _read(descriptor: Descriptor, document: Mapping[str, JsonValue], level: int) -> dict[str, object]:
    table = _table(descriptor)
    taken: dict[str, object] = {}
    rest: dict[str, JsonValue] = {}
    exact: dict[str, str] = {}
    for key, value in document.items():
        for member in table.by_key.get(key, ()):
            if (fit := member.read(value, level + 1)) is not _UNFIT:
                taken[member.name] = fit
                break
        else:
            if _fits_struct(value, NESTING_MAX - level - 2):
                rest[key] = value
            else:
                exact[key] = json.dumps(value, ensure_ascii=False)
    if table.lists and LIST not in document:
        exact[LIST] = ABSENT
    if rest:
        taken[EXTRA] = struct(rest)
    if exact:
        taken[EXTRA_JSON] = exact
    return taken


def struct(members: Mapping[str, JsonValue]) -> Struct:
    """Make a Struct of a decoded JSON object."""
    return Struct(fields={key: _value(value) for key, value in members.items()})


def _value(value: JsonValue) -> Value:
    if value is None:
        return Value(null_value=0)  # type: ignore[arg-type]  # NULL_VALUE
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, dict):
        return Value(struct_value=struct(value))
    if isinstance(value, list):
        return Value(list_value=ListValue(values=[_value(item) for item in value]))
    return Value(number_value=value)


def _fits_struct(value: JsonValue, levels: int) -> bool:
    if type(value) is int:
        return abs(value) <= EXACT_MAX
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return levels >= LEVELS_A_NEST and all(_fits_struct(item, levels - LEVELS_A_NEST) for item in items)
    return True


# 3. Message to document -----------------------------------------------------------------------------------------------


def document(of: Message) -> dict[str, JsonValue]:
    """Write a message as the JSON object it stands for.

    Raises: ValueError when a client filled in what JSON cannot say: NaN, an infinity, or extra_json that is not JSON
    or holds a number or a text that cannot be sent on.
    """
    table = _table(of.DESCRIPTOR)
    written: dict[str, JsonValue] = {}
    for field, value in of.ListFields():
        if field.name == EXTRA:
            written = {**plain(value), **written}
        elif field.name == EXTRA_JSON:
            written = {**{key: _json(text) for key, text in value.items() if text != ABSENT}, **written}
        else:
            member = table.by_name[field.name]
            written[member.key] = member.write(value)
    if table.lists and LIST not in written and getattr(of, EXTRA_JSON).get(LIST) != ABSENT:
        written[LIST] = []
    return written


def body(of: Reply, kind: type[Message]) -> list[bytes]:
    """Write a message of a kind, which is there as its bytes, as the body of a request, in pieces.

    Raises: ValueError when JSON cannot say it, or it is nested too deeply.
    """
    try:
        return pieces(document(kind.FromString(of.body)))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _json(text: str) -> JsonValue:
    """Read extra_json, strictly: whoever wrote it can be told. Raises: ValueError."""
    try:
        return jsonbody.strictly(text.encode())
    except BadAnswer as error:
        raise ValueError(str(error)) from None


def plain(of: Struct) -> dict[str, JsonValue]:
    """Write a Struct as the JSON object it stands for. Raises: ValueError (NaN, an infinity)."""
    return {key: _plain_value(value) for key, value in of.fields.items()}


def _plain_value(value: Value) -> JsonValue:
    match value.WhichOneof("kind"):
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return plain(value.struct_value)
        case "list_value":
            return [_plain_value(item) for item in value.list_value.values]
        case _:
            return None


def _number(value: float) -> int | float:
    """Write a whole number without a fraction, as the vendor's models want it."""
    if not math.isfinite(value):
        raise ValueError("JSON has no such number")
    return int(value) if value.is_integer() and abs(value) <= EXACT_MAX else value


# 4. Fields ------------------------------------------------------------------------------------------------------------


@functools.cache
def _table(descriptor: Descriptor) -> _Table:
    by_key: dict[str, list[_Member]] = {}
    for field in descriptor.fields:
        if field.name not in {EXTRA, EXTRA_JSON}:
            member = _member(descriptor, field)
            by_key.setdefault(member.key, []).append(member)
    by_name = {member.name: member for members in by_key.values() for member in members}
    return _Table(by_key, by_name, lists=LIST in by_name and descriptor.name not in MAY_LACK)


def _member(descriptor: Descriptor, field: FieldDescriptor) -> _Member:
    key = KEYS.get(f"{descriptor.name}.{field.name}", KEYS.get(field.name, field.name))
    read, write = _codec(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        read, write = _read_indices, dict
    elif field.is_repeated:
        may_be_empty = field.name == LIST and descriptor.name not in MAY_LACK
        read, write = functools.partial(_read_list, read, may_be_empty), functools.partial(_write_list, write)
    return _Member(field.name, key, read, write)


def _codec(field: FieldDescriptor) -> tuple[Read, Write]:
    if field.message_type is not None:
        return functools.partial(_read_message, field.message_type), document
    codecs: dict[int, tuple[Read, Write]] = {
        FieldDescriptor.TYPE_STRING: (_read_text, _same),
        FieldDescriptor.TYPE_BOOL: (_read_bool, _same),
        FieldDescriptor.TYPE_INT64: (_read_integer, _same),
        FieldDescriptor.TYPE_DOUBLE: (_read_number, _number),
        FieldDescriptor.TYPE_BYTES: (_read_bytes, list),
    }
    return codecs[field.type]


def _same(value: JsonValue) -> JsonValue:
    return value


def _read_message(descriptor: Descriptor, value: JsonValue, level: int) -> object:
    return _read(descriptor, value, level) if isinstance(value, dict) and level < NESTING_MAX // 2 else _UNFIT


def _read_text(value: JsonValue, _: int) -> object:
    return value if isinstance(value, str) else _UNFIT


def _read_bool(value: JsonValue, _: int) -> object:
    return value if isinstance(value, bool) else _UNFIT


def _read_integer(value: JsonValue, _: int) -> object:
    return value if type(value) is int and -INT64_MAX - 1 <= value <= INT64_MAX else _UNFIT


def _read_number(value: JsonValue, _: int) -> object:
    return value if type(value) is float or (type(value) is int and abs(value) <= EXACT_MAX) else _UNFIT


def _read_bytes(value: JsonValue, _: int) -> object:
    return bytes(value) if _are_bytes(value) else _UNFIT


def _are_bytes(value: JsonValue) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= BYTE_MAX for item in value)


def _read_indices(value: JsonValue, level: int) -> object:
    """Read a map of text to integers; an empty one cannot be told from one that is absent."""
    fits = isinstance(value, dict) and value and all(_read_integer(v, level) is not _UNFIT for v in value.values())
    return value if fits else _UNFIT


def _read_list(read: Read, may_be_empty: bool, value: JsonValue, level: int) -> object:  # noqa: FBT001 - bound once, by name of the message
    if not isinstance(value, list) or not (value or may_be_empty):
        return _UNFIT
    items = [read(item, level) for item in value]
    return _UNFIT if any(item is _UNFIT for item in items) else items


def _write_list(write: Write, value: Iterable[object]) -> list[JsonValue]:
    return [write(item) for item in value]
