"""Limits of what a request holds: each field has one, and nothing beyond it is decoded, checked or waited for."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pieces_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1.asset_status_pb2 import AssetRef, AssetState
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetwatchd.model.errors import VIOLATIONS_MAX, InvalidRequest
from assetwatchd.model.values import AssetKey
from assetwatchd.rpc import names, sizes, validate, wire
from assetwatchd.rpc.requests import Requests
from assetwatchd.rpc.service import CHECKED_TOGETHER
from buf.validate import validate_pb2
from fuzz.messages import Filler
from fuzz.mutations import mutate
from support.described import described, descriptor_of
from support.problems import problem_of
from support.raw_calls import one_to_one
from support.rig import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

REQUESTS = [described(method.input_type) for service in names.SERVICES for method in service.methods]
FREE = {"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"}
"""Whatever JSON there is: bounded with its request, by FIELDS_MAX and its bytes."""
ONE = AssetRef(source="omn", asset_id="tid:1")
EMPTY_REF = b"\x0a\x00"
"""One of WatchStatusRequest.assets, in two bytes."""
UPPER = {"max_items", "max_pairs", "max_bytes", "items", "keys", "values", "string", "bytes", "repeated", "map"}
"""Rules that `wire` holds requests to, and what leads there."""


def unlimited(message: Descriptor, seen: set[str]) -> Iterator[str]:
    """Yield every field, of this message and those within, that nothing bounds."""
    if message.full_name in seen | FREE:
        return
    seen.add(message.full_name)
    table = sizes.sizes_of(message)
    for field in message.fields:
        size = table[field.number]
        parts = [size] if size.inside is None or not _is_map(field) else [size, *size.inside.values()]
        texts = [part for part in parts if part.width is None and part.inside is None]
        if size.items_max == math.inf or any(part.bytes_max == math.inf for part in texts):
            yield field.full_name
        if field.message_type is not None and not _is_map(field):
            yield from unlimited(field.message_type, seen)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.name)
def test_every_list_map_and_text_has_a_limit(request_: Descriptor) -> None:
    """Of each request of all services, however deep."""
    assert list(unlimited(request_, set())) == []


def test_a_field_without_a_limit_is_found() -> None:
    """An answer has no limits: what the test above would say of one."""
    found = set(unlimited(pb.WatchStatusResponse.DESCRIPTOR, set()))
    assert {"assetwatch.v1.WatchStatusResponse.changes", "assetwatch.v1.WatchStarted.epoch"} <= found


def deeper(message: Descriptor, level: int, seen: set[tuple[str, int]]) -> Iterator[tuple[FieldDescriptor, int]]:
    """Yield every field with its level: 0 for those of a request; below a list counts as the deepest."""
    level = min(level, validate.OUTLINE_LEVELS + 1)
    if (message.full_name, level) in seen or message.full_name in FREE:
        return
    seen.add((message.full_name, level))
    for field in message.fields:
        yield field, level
        if field.message_type is not None:
            below = validate.OUTLINE_LEVELS + 1 if field.is_repeated and level else level + 1
            yield from deeper(field.message_type, below, seen)


def rules_within(rules: Any) -> Iterator[str]:
    """Yield the name of each rule that is set."""
    for field, value in rules.ListFields():
        yield field.name
        if field.message_type is not None and not field.is_repeated:
            yield from rules_within(value)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.name)
def test_what_is_not_checked_by_rule_has_upper_limits_alone(request_: Descriptor) -> None:
    """Beyond the outline of a request no rule stands that `wire` does not know, and there are no durations."""
    for field, level in deeper(request_, 0, set()):
        if level > validate.OUTLINE_LEVELS:
            rules = field.GetOptions().Extensions[validate_pb2.field]
            known = UPPER | {"max_len"} if field.type == FieldDescriptor.TYPE_BYTES else UPPER
            assert known.issuperset(rules_within(rules)), field.full_name
            assert field.containing_type is not None
            assert not field.containing_type.GetOptions().HasExtension(validate_pb2.message), field.full_name
        if field.message_type is not None and level:
            assert field.message_type.full_name != Duration.DESCRIPTOR.full_name, field.full_name


@pytest.mark.parametrize(
    ("method", "at_most"),
    [
        ("GetAssetStatus", 8192),
        ("WaitAssetStatus", 8192),
        ("ListAssetStatuses", 65_536),
        ("BatchGetAssetStatuses", 2_400_000),
    ],
)
def test_a_method_takes_what_its_schema_can_mean(method: str, at_most: int) -> None:
    """Not the 4 MiB of any message; and the largest request that keeps to the schema fits."""
    request = names.ASSET_STATUS.methods_by_name[method].input_type
    assert sizes.request_bytes_max(request) <= at_most


def test_the_largest_requests_fit() -> None:
    """Every field as long as it may be, in characters of four bytes."""
    asset = AssetRef(source="\U0001f600" * 63, asset_id="\U0001f600" * 512)
    sources = ["\U0001f600" * 62 + chr(0x1F300 + n) for n in range(100)]
    token = "\U0001f600" * 256
    states = map(AssetState.ValueType, range(1, 11))
    longest = Duration(seconds=315_576_000_000, nanos=999_999_999)
    for request in (
        pb.GetAssetStatusRequest(asset=asset, max_age=longest, min_revision=2**63 - 1),
        pb.BatchGetAssetStatusesRequest(assets=[asset] * 1000, max_age=longest),
        pb.ListAssetStatusesRequest(sources=sources, page_token=token, states=states, page_size=2**31 - 1),
        source_pb.GetSourceRequest(source=asset.source),
        pieces_pb.DeleteAssetRequest(source=asset.source, asset_id="6B1F0C6E-4F1A-4A53-9A0B-3C7D52A1E001"),
    ):
        assert request.ByteSize() + sizes.UNKNOWN_BYTES_MAX / 2 < sizes.request_bytes_max(descriptor_of(request))


# Bytes ---------------------------------------------------------------------------------------------------------------


def measured(given: bytes, request: type[Message]) -> wire._Steps:
    """Step through bytes to the end, or to the refusal; return where that is."""
    steps = wire._Steps(given, sizes.sizes_of(descriptor_of(request)))
    with pytest.raises(InvalidRequest):
        all(steps.slice() for _ in given)
    return steps


@pytest.mark.parametrize(
    ("request_", "given", "seen"),
    [
        (pb.WatchStatusRequest, EMPTY_REF * 400_000, 10_001),
        (pb.WatchStatusRequest, b"\x12\x00" * 300_000, 101),
        (pb.WatchStatusRequest, b"\x18\x01" * 300_000, 33),
        (pb.WatchStatusRequest, b"\xf8\x01\x00" * 300_000, wire.FIELDS_MAX + wire.SLICE),
        (pb.WatchStatusRequest, b"\x0b" * 300_000, wire.FIELDS_MAX + wire.SLICE),
        (pb.BatchGetAssetStatusesRequest, EMPTY_REF * 400_000, 1001),
        (pieces_pb.SearchAssetsRequest, b"\x1a\x00" * 300_000, 101),
        (pieces_pb.CreateAssetRequest, b"\x12\x80\x80\x7a" + b"\xa2\x06\x00" * 400_000, wire.FIELDS_MAX + wire.SLICE),
    ],
    ids=["assets", "sources", "states", "unknown", "groups", "batch", "tags", "struct"],
)
def test_no_step_is_taken_beyond_the_first_too_many(request_: type[Message], given: bytes, seen: int) -> None:
    """However many follow; and nothing was decoded by then."""
    assert measured(given, request_)._seen <= seen


@pytest.mark.parametrize(("width", "item"), [(0, b"\x01"), (0, b"\x80\x01"), (8, bytes(8))])
def test_items_of_packed_lists_count_among_all_there_are(width: int, item: bytes) -> None:
    """A list that has no limit of its own has that of the request, whatever its items are."""
    known = {1: sizes.Size("numbers", math.inf, sizes.SCALAR_BYTES_MAX, width, None)}
    for count, refused in ((wire.FIELDS_MAX - 1, False), (wire.FIELDS_MAX, True)):
        written = _within(1, item * count)
        with pytest.raises(InvalidRequest, match="fields and items") if refused else nullcontext():
            list(wire.measure(written, known))


def test_items_of_a_packed_list_are_counted_without_reading_them() -> None:
    """A million of them in one step, by their last bytes; wide ones too."""
    packed = pb.ListAssetStatusesRequest(states=map(AssetState.ValueType, range(100, 300_100))).SerializeToString()
    steps = measured(packed, pb.ListAssetStatusesRequest)
    assert steps._level.counts == {"states": 300_000}


@settings(deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40), st.lists(st.text(max_size=5), max_size=110))
def test_lists_are_refused_where_they_are_too_long_and_nowhere_else(states: list[int], sources: list[str]) -> None:
    """Counting on the wire says what counting the message would, packed or not."""
    encoded = pb.ListAssetStatusesRequest(sources=sources, states=map(AssetState.ValueType, states)).SerializeToString()
    unpacked = b"".join(b"\x10" + _varint(state) for state in states)
    table = sizes.sizes_of(pb.ListAssetStatusesRequest.DESCRIPTOR)
    for given_ in (encoded, unpacked):
        message = pb.ListAssetStatusesRequest.FromString(given_)
        fits = len(message.states) <= 32 and len(message.sources) <= 100
        try:
            list(wire.measure(given_, table))
        except InvalidRequest:
            assert not fits
        else:
            assert fits


def _varint(value: int) -> bytes:
    value %= 2**64
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(REQUESTS))
def test_any_bytes_are_a_request_or_refused(given_: bytes, request_: Descriptor) -> None:
    """Nothing else is raised; and what decodes and holds little is not refused for what it holds."""
    cls = GetMessageClass(request_)
    try:
        list(wire.measure(given_, sizes.sizes_of(request_)))
    except InvalidRequest as refused:
        assert refused.violations[0][0]  # noqa: PT017 - that it is refused is not what is asserted
        return
    try:
        cls.FromString(given_)
    except DecodeError:
        return


def beyond(message: Message) -> Iterator[str]:
    """Yield every field of a decoded message, and of those within, that holds more than its limit."""
    table = sizes.sizes_of(descriptor_of(message))
    for field, value in message.ListFields():
        size = table[field.number]
        if size.items_max is not None and len(value) > size.items_max:
            yield field.full_name
        items = value if field.is_repeated and not _is_map(field) else [value]
        if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
            texts = [item if isinstance(item, bytes) else item.encode() for item in items]
            yield from (field.full_name for text in texts if len(text) > size.bytes_max)
        elif field.message_type is not None and not _is_map(field):
            for item in items:
                yield from beyond(item)


@settings(deadline=None)
@example(6_803_509_335_579, pieces_pb.SearchAssetsRequest.DESCRIPTOR)
@given(st.integers(0, 2**63), st.sampled_from(REQUESTS))
def test_nothing_is_decoded_that_is_beyond_a_limit(seed: int, request_: Descriptor) -> None:
    """Whatever the bytes are, and however oddly they are written: what passed and decodes keeps to every limit."""
    rng = random.Random(seed)  # noqa: S311 - made again from its seed
    cls = GetMessageClass(request_)
    for _ in range(5):
        given_ = mutate(Filler(rng, {}).fill(cls()).SerializeToString(), rng)
        try:
            list(wire.measure(given_, sizes.sizes_of(request_)))
            message = cls.FromString(given_)
        except (InvalidRequest, DecodeError):
            continue
        assert list(beyond(message)) == []


@pytest.mark.parametrize("deep", [True, False])
def test_what_no_decoder_takes_is_left_to_it(deep: bool) -> None:  # noqa: FBT001 - a row of the table
    """A thousand levels of lists, a number of a million bytes: the stepping ends there, and decoding fails."""
    given_ = b"" if deep else b"\x80" * 1_000_000
    for _ in range(1000 * deep):
        given_ = _within(1, _within(6, given_))  # ListValue.values, Value.list_value
    sizes_ = sizes.sizes_of(ListValue.DESCRIPTOR)
    steps = sum(1 for _ in wire.measure(given_, sizes_))
    assert steps <= 1
    with pytest.raises(DecodeError):
        ListValue.FromString(given_)


def _within(field: int, given_: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(given_)) + given_


# Turns ---------------------------------------------------------------------------------------------------------------


class Turns:
    """Counts what is checked, and how much of it at most between two turns of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checked = 0
        self.most = 0
        self._is_sound = validate._is_sound
        self._violations = validate._violations
        monkeypatch.setattr(validate, "_is_sound", self._part)
        monkeypatch.setattr(validate, "_violations", self._each)

    def _part(self, request: Message, name: str, part: Sequence[Message]) -> bool:
        self.checked += len(part)
        return self._is_sound(request, name, part)

    def _each(self, message: Message, within: str = "") -> Iterator[tuple[str, str]]:
        self.checked += 1
        return self._violations(message, within)

    async def watch(self) -> None:
        """Look every turn, for ever."""
        while True:
            before = self.checked
            await asyncio.sleep(0)
            self.most = max(self.most, self.checked - before)


@pytest.mark.parametrize("valid", [True, False])
async def test_others_get_their_turn_while_large_requests_are_checked(
    monkeypatch: pytest.MonkeyPatch,
    valid: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """Five of 10,000 names at once: between two turns a slice of one of them is checked, by itself if it must be."""
    turns = Turns(monkeypatch)
    asset = ONE if valid else AssetRef(source="omn")
    given_ = pb.WatchStatusRequest(assets=[asset] * 10_000).SerializeToString()
    reader, watching = Requests(), asyncio.create_task(turns.watch())
    ended = await asyncio.gather(
        *[reader.read(given_, pb.WatchStatusRequest) for _ in range(5)], return_exceptions=True
    )
    watching.cancel()
    assert [isinstance(each, InvalidRequest) for each in ended] == [not valid] * 5
    assert 0 < turns.most <= (1 if valid else 2) * validate.SLICE + 1
    assert turns.checked == 5 * (10_000 if valid else 2 * validate.SLICE + 1)


async def test_who_gives_up_leaves_the_line() -> None:
    """A call that is cancelled while another's request is read holds up nobody."""
    given_ = pb.WatchStatusRequest(assets=[ONE] * 5000).SerializeToString()
    reader = Requests()
    first, second, third = (asyncio.create_task(reader.read(given_, pb.WatchStatusRequest)) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    assert len((await third).assets) == 5000


async def test_who_asks_for_much_waits_for_himself() -> None:
    """Twenty large requests of one address and then one of another: that is read after one or two of them."""
    given_ = pb.WatchStatusRequest(assets=[ONE] * 1500).SerializeToString()
    reader, done = Requests(), list[str]()

    async def read(caller: str) -> None:
        await reader.read(given_, pb.WatchStatusRequest, caller)
        done.append(caller)

    many = [asyncio.create_task(read("many")) for _ in range(20)]
    await asyncio.sleep(0)
    few = [asyncio.create_task(read(caller)) for caller in ("one", "another", "one")]
    await asyncio.sleep(0)
    many[5].cancel()
    await asyncio.wait([*many, *few])
    assert done[:6] == ["many", "many", "one", "another", "many", "one"]
    assert done[6:] == ["many"] * 16


async def test_small_requests_do_not_wait_for_large_ones() -> None:
    """They are read in the turn in which they come."""
    reader = Requests()
    large = pb.WatchStatusRequest(assets=[ONE] * 5000).SerializeToString()
    reading = asyncio.create_task(reader.read(large, pb.WatchStatusRequest))
    await asyncio.sleep(0)
    request = pb.GetAssetStatusRequest(asset=ONE)
    small = reader.read(request.SerializeToString(), pb.GetAssetStatusRequest)
    with pytest.raises(StopIteration):
        small.send(None)
    assert not reading.done()
    await reading


async def test_a_few_violations_are_told_and_how_many_more() -> None:
    """Ten and the number; of a large request that number is at least what was looked at."""
    at_least = f"and at least {validate.SLICE + 1 - VIOLATIONS_MAX} more"
    for count, more in ((10, None), (11, "and 1 more"), (90, "and 80 more"), (5000, at_least)):
        given_ = pb.WatchStatusRequest(assets=[AssetRef(source="omn")] * count).SerializeToString()
        with pytest.raises(InvalidRequest) as refused:
            await Requests().read(given_, pb.WatchStatusRequest)
        told = refused.value.violations
        assert [field for field, _ in told[:10]] == [f"assets[{n}].asset_id" for n in range(10)]
        assert told[10:] == (() if more is None else (("", more),))
        assert len(told) <= VIOLATIONS_MAX + 1


async def test_no_id_is_looked_at_once_enough_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 1,000 wrong ids over gRPC: the first of them are held against the rule of their source."""
    async with running(("omn",)) as rig:
        source, asked = rig.app.sources.get("omn"), Counter[str]()
        check = source.check
        monkeypatch.setattr(source, "check", lambda asset_id: asked.update([asset_id]) or check(asset_id))
        told = await problem_of(rig.batch([AssetKey("omn", "x")] * 1000))
    assert asked["x"] == CHECKED_TOGETHER
    assert told.violations[""] == f"and at least {CHECKED_TOGETHER - VIOLATIONS_MAX} more"


@pytest.mark.parametrize("mib", [3, 16])
async def test_a_compressed_request_is_held_to_what_it_unpacks_to(mib: int) -> None:
    """A few kilobytes on the wire: beyond a message's limit gRPC says so, within it the method's own limit does."""
    async with running(()) as rig, grpc.aio.insecure_channel(rig.address, compression=grpc.Compression.Gzip) as channel:
        call = one_to_one(channel, "/assetwatch.v1.AssetStatusService/GetAssetStatus")
        told = await problem_of(call(bytes(mib * 2**20)))
    if mib * 2**20 > rig.app.settings.server.message_bytes_max:
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        assert "larger than max" in told.message
    else:
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "bytes; this method takes no more than" in told.message
