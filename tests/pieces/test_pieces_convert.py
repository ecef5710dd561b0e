"""Documents to messages and back: nothing that came in is lost on the way out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from assetwatch.pieces.v1 import asset_pb2, search_pb2, seed_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatch_sandbox.pieces import wire
from assetwatch_sandbox.pieces.piece import new_piece
from assetwatchd.model.errors import BadAnswer
from assetwatchd.rpc.pieces import convert
from assetwatchd.upstream.bodies import jsonbody
from assetwatchd.upstream.http.transport import Reply
from support.pieces_rig import ONE, seed_document

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from pydantic import JsonValue

FILES = (asset_pb2, seed_pb2, search_pb2)
MESSAGES = {
    descriptor.name: GetMessageClass(descriptor)
    for file in FILES
    for descriptor in file.DESCRIPTOR.message_types_by_name.values()
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INTEGERS = st.integers() | st.integers(2**53 - 2, 2**53 + 2) | st.integers(-(2**63) - 1, -(2**63) + 1)
SCALARS = st.none() | st.booleans() | TEXT | INTEGERS | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, though 1.0 is."""
    return canonical(one) == canonical(other)


def canonical(value: Any) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps(plain(value), sort_keys=True)


def documents(name: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of the message's own members, mostly of the right type, and of members nobody knows."""
    table = convert._table(MESSAGES[name].DESCRIPTOR)
    fields = {member.key: MESSAGES[name].DESCRIPTOR.fields_by_name[member.name] for member in table.by_name.values()}
    known: dict[str, st.SearchStrategy[Any]] = {key: values(field, depth) | JSON for key, field in fields.items()}
    strange = st.dictionaries(TEXT | st.sampled_from(["extra", "extra_json", "deleted"]), JSON, max_size=2)
    return st.tuples(st.fixed_dictionaries({}, optional=known), strange).map(lambda parts: {**parts[1], **parts[0]})


def values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    """Values that fit a field."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(TEXT, INTEGERS, max_size=3)
    if field.message_type is not None:
        one: st.SearchStrategy[Any] = documents(field.message_type.name, depth - 1) if depth else st.just({})
    else:
        one = {
            FieldDescriptor.TYPE_STRING: TEXT,
            FieldDescriptor.TYPE_BOOL: st.booleans(),
            FieldDescriptor.TYPE_INT64: INTEGERS,
            FieldDescriptor.TYPE_DOUBLE: INTEGERS | st.floats(allow_nan=False, allow_infinity=False),
            FieldDescriptor.TYPE_BYTES: st.binary(max_size=4).map(list) | st.lists(INTEGERS, max_size=3),
        }[field.type]
    return st.lists(one, max_size=3) if field.is_repeated else one


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_any_document_comes_back(name: str) -> None:
    """Whatever came, of any shape, comes back whole, also after a trip over the wire."""

    @settings(max_examples=25, deadline=None)
    @given(documents(name, 1))
    def holds(document: dict[str, Any]) -> None:
        message = convert.message(MESSAGES[name], document)
        assert same(convert.document(message), document)
        assert same(convert.document(MESSAGES[name].FromString(message.SerializeToString())), document)

    holds()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_a_stranger_comes_back(document: dict[str, Any]) -> None:
    """An object of nothing but unknown members comes back whole."""
    assert same(convert.document(convert.message(asset_pb2.Asset, document)), document)


def test_every_message_of_the_schema_keeps_what_it_does_not_know() -> None:
    """No message lacks extra and extra_json: one that did would lose members."""
    for name, cls in MESSAGES.items():
        assert {convert.EXTRA, convert.EXTRA_JSON} <= set(cls.DESCRIPTOR.fields_by_name), name


@pytest.mark.parametrize("transferables", [True, False])
@pytest.mark.parametrize("carrier", ["string", "bytes"])
def test_an_asset_is_typed(transferables: bool, carrier: str) -> None:  # noqa: FBT001 - a parameter of the case
    """A whole asset fills the fields; only its collections are left to extra."""
    native = {"name": "loop", "content": "ab", "ext": "py", "carrier": carrier, "tags": ["x"], "pseudo": True}
    made = wire.asset(new_piece(ONE, native, now=datetime.now(UTC)), transferables=transferables)
    document = cast("dict[str, JsonValue]", made)
    asset = convert.message(asset_pb2.Asset, document)
    assert convert.document(asset) == document
    assert set(asset.extra.fields) == {"tags"}
    assert not asset.extra_json
    [held] = asset.formats.iterable
    assert (held.bytes.value, held.classification.generic, held.asset.id) == (2, "CODE", ONE)
    assert not held.extra.fields
    assert asset.original.reference.asset_id == ONE
    carried = held.fragment.string.raw if carrier == "string" else held.fragment.bytes.raw.decode()
    assert carried == ("ab" if transferables else "")
    assert held.fragment.HasField(carrier) is transferables  # type: ignore[arg-type]  # a field's name


def test_absent_stays_absent() -> None:
    """A false flag, an empty text and a zero are there; what was not sent is not."""
    asset = convert.message(asset_pb2.Asset, {"id": ONE, "pseudo": False, "name": "", "schema": {"migration": 0}})
    assert (asset.HasField("pseudo"), asset.HasField("name"), asset.HasField("demo")) == (True, True, False)
    assert asset.schema.HasField("migration")
    assert convert.document(asset) == {"id": ONE, "pseudo": False, "name": "", "schema": {"migration": 0}}


@pytest.mark.parametrize(
    ("document", "flag", "time"),
    [
        ({"deleted": True}, True, ""),
        ({"deleted": {"value": "2026-03-04T10:15:00.000Z"}}, False, "2026-03-04T10:15:00.000Z"),
        ({"deleted": {}}, False, ""),
    ],
)
@pytest.mark.parametrize("name", ["Asset", "FlattenedAsset", "Format", "StreamedIdentifier"])
def test_deleted_is_a_flag_or_a_time(name: str, document: dict[str, Any], flag: bool, time: str) -> None:  # noqa: FBT001 - same
    """Both forms of the tombstone are typed, in every message that has one."""
    message: Any = convert.message(MESSAGES[name], document)
    assert (message.deleted_flag, message.deleted.value) == (flag, time)
    assert message.HasField("deleted") is isinstance(document["deleted"], dict)
    assert convert.document(message) == document


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63, 10**299])
def test_integers_no_double_holds(number: int) -> None:
    """An integer beyond 2^53 is kept to the last digit, wherever it is."""
    document: dict[str, JsonValue] = {"id": ONE, "serial": number, "nest": {"deep": [number]}, "small": 2**53}
    asset = convert.message(asset_pb2.Asset, document)
    assert asset.extra_json == {"serial": str(number), "nest": json.dumps({"deep": [number]})}
    assert convert.document(asset) == document


def test_what_is_nested_too_deeply_is_text() -> None:
    """Any depth that JSON can be decoded from can be decoded again as a message by anybody."""
    typed: Any = {"type": "AND", "iterable": []}
    strange: Any = []
    for _ in range(100):
        typed, strange = {"iterable": [{"operations": typed}]}, {"a": [strange]}
    for cls, document in ((search_pb2.AssetFilters, typed), (asset_pb2.Asset, {"x": strange})):
        message: Message = convert.message(cls, document)
        assert convert.document(cls.FromString(message.SerializeToString())) == document


def test_what_cannot_be_written_again() -> None:
    """What is nested beyond all reason is an answer that cannot be read, not a crash."""
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(BadAnswer, match="nested"):
        convert.message(asset_pb2.Asset, {"x": nested})


@pytest.mark.parametrize(
    ("name", "document", "kept"),
    [
        ("Assets", {"iterable": []}, {}),
        ("Assets", {}, {"iterable": ""}),
        ("FlattenedAssets", {}, {}),
        ("FlattenedAssets", {"iterable": [], "indices": {}}, {}),
        ("Assets", {"iterable": None, "indices": {"a": 2**60}}, {}),
    ],
)
def test_lists_that_are_empty_or_missing(name: str, document: dict[str, Any], kept: dict[str, str]) -> None:
    """An empty list and a missing one are told apart, whether the list is required or not."""
    message: Any = convert.message(MESSAGES[name], document)
    assert dict(message.extra_json) == kept
    assert convert.document(message) == document


def test_a_required_list_is_written() -> None:
    """A message that a client makes has its required list, also when it is empty, and no other."""
    assert convert.document(asset_pb2.Assets()) == {"iterable": []}
    assert convert.document(asset_pb2.FlattenedAssets()) == {}
    assert convert.document(search_pb2.AssetFilter()) == {}


def test_names_on_the_wire() -> None:
    """Fields that are named otherwise than on the wire go under the upstream's name, misspelt or not."""
    wanted: dict[str, JsonValue] = {
        "space": {"identifers": {"iterable": [{"id": ONE}]}},
        "filters": {"iterable": [{"created": {"from": {"value": "2026"}, "to": {"value": "2027"}}}]},
    }
    message = convert.message(search_pb2.AssetsSearchWithFiltersInput, wanted)
    assert message.space.identifiers.iterable[0].id == ONE
    assert message.filters.iterable[0].created.from_time.value == "2026"
    assert convert.document(message) == wanted
    application = {"automaticUnload": True}
    assert convert.message(asset_pb2.Application, application).automatic_unload
    assert convert.document(convert.message(asset_pb2.Application, application)) == application


def test_a_seed_is_typed() -> None:
    """A seed fills the fields, nothing is left to extra."""
    document = seed_document(pseudo=True, enrichment={"tags": 3})
    seed = convert.message(seed_pb2.Seed, document)
    assert seed.asset.format.fragment.string.raw == "print('hi')"
    assert (seed.asset.metadata.name, seed.asset.pseudo, seed.asset.enrichment.tags) == ("hello", True, 3)
    assert not seed.asset.extra.fields
    assert convert.document(seed) == document


@pytest.mark.parametrize(
    "seed",
    [
        seed_pb2.Seed(extra_json={"x": "{"}),
        seed_pb2.Seed(extra=convert.struct({"x": float("nan")})),
        seed_pb2.Seed(extra=convert.struct({"x": [float("inf")]})),
    ],
)
def test_what_json_cannot_say(seed: seed_pb2.Seed) -> None:
    """A message that JSON cannot say is an error, never a document that is no JSON."""
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        convert.document(seed)


def test_whole_numbers_are_written_without_a_fraction() -> None:
    """The vendor's models take no 3.0 for an integer."""
    seed = seed_pb2.Seed(extra=convert.struct({"count": 3.0, "share": 0.5}))
    assert json.dumps(convert.document(seed)["count"]) == "3"


def test_typed_wins_over_extra() -> None:
    """A member that a client gave twice is written as the field says."""
    asset = asset_pb2.Asset(name="field", extra=convert.struct({"name": "extra", "other": 1}))
    assert convert.document(asset) == {"name": "field", "other": 1}


def test_what_a_reply_can_hold() -> None:
    """Texts and numbers of a real body survive: escapes, signs, exponents."""
    body = rb'{"id":"\u0000\u20ac","a":-0.5,"b":1e300,"c":[{},[],"",null,true],"score":{"manual":9007199254740993}}'
    document = jsonbody.object_in(Reply(200, {}, body))
    assert same(convert.document(convert.message(asset_pb2.Asset, document)), document)
