"""Model to protobuf: nothing of an observation is lost, equal content is equal bytes, joined bytes are a message."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT
from google.protobuf.json_format import MessageToDict

from assetwatchd.changefeed import resume_token
from assetwatchd.model import details
from assetwatchd.model.values import AssetKey, Entry, Facet, Failure, FailureKind, Freshness, Observation, State, View
from assetwatchd.rpc import convert

if TYPE_CHECKING:
    from google.protobuf.message import Message

pytestmark = pytest.mark.unit

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EPOCH = "0123456789abcdef"
ENCODER = convert.ProtobufEncoder()

DETAILS: dict[str, Any] = {
    "usd_search": details.UsdSearchDetail(
        "ok",
        "aGFzaA==",
        (
            details.UsdSearchPlugin(
                "thumbnail_generation",
                "out_of_sync",
                "b2xk",
                (
                    details.UsdSearchAttempt("ok", "b2xk", "2026-11-21T12:00:00", "no"),
                    details.UsdSearchAttempt("queued"),
                ),
            ),
            details.UsdSearchPlugin("rendering", "in_sync"),
        ),
        MappingProxyType({"size": 12.0, "etag": None, "nested": {"list": [1.0, "two", True]}}),
    ),
    "omn": details.OmnDetail("tid", "70418", "available", "locked", {"b": "2", "a": "1"}),
    "pieces": details.PiecesDetail(
        "name",
        "user",
        "MANUAL",
        pseudo=True,
        create_time=NOON,
        update_time=NOON,
        sync_time=None,
        delete_time=NOON,
        formats=(details.PiecesFormat("id", "BOTH", "CODE", "py", 2**40),),
    ),
    "media_intelligence": details.MediaIntelligenceDetail(
        "ws", "1234", 5678, "COMPLETED", "Uploaded", details.MediaIntelligenceMedia("1920x1080", 2**40, 2**41, "mp4")
    ),
    "oracle_sbc": details.OracleSbcDetail("activate", "success", "text", "<a>1</a>"),
}


def observation(**changes: Any) -> Observation:
    """Make an observation that has everything."""
    whole = Observation(
        asset_id="tid:1",
        state=State.FAILED,
        facets=(
            Facet("import", State.PROCESSING, "running", "so far", NOON),
            Facet("object", State.AVAILABLE, "available"),
        ),
        failure=Failure(FailureKind.DEGRADED, "code", "sentence"),
        locked=True,
        change_time=NOON,
        detail=DETAILS["omn"],
    )
    return dataclasses.replace(whole, **changes)


def entry(seen: Observation, revision: int = 7, traceparent: str = TRACEPARENT) -> Entry:
    """Commit an observation."""
    sealed = ENCODER.seal(ENCODER.content("dam", seen), observed_at=1_700_000_000.5, traceparent=traceparent)
    return Entry(
        key=AssetKey("dam", seen.asset_id),
        revision=revision,
        state=seen.state,
        gone=False,
        freshness=Freshness.FRESH,
        digest=b"",
        upsert=sealed(revision),
        found_at=1_700_000_000.5,
        committed_at=1_700_000_001.0,
        traceparent=traceparent,
    )


def test_there_is_a_message_for_every_detail() -> None:
    """Each detail of the model has a sample here, and so a field of the schema."""
    assert {type(sample) for sample in DETAILS.values()} == set(get_args(details.Detail))
    assert set(DETAILS) == {f.name for f in status_pb.AssetStatus.DESCRIPTOR.oneofs_by_name["detail"].fields}


@pytest.mark.parametrize("kind", [*DETAILS, None])
@pytest.mark.parametrize("traceparent", [TRACEPARENT, ""])
def test_basic_is_all_but_the_detail(kind: str | None, traceparent: str) -> None:
    """What is left is what would be there had the upstream said no detail; it is removed as the whole is."""
    made = entry(observation(detail=kind and DETAILS[kind]), traceparent=traceparent)
    without = entry(observation(detail=None), traceparent=traceparent)
    basic = convert.basic(made.upsert)
    assert pb.WatchStatusResponse.FromString(basic) == pb.WatchStatusResponse.FromString(without.upsert)
    removed = pb.WatchStatusResponse.FromString(convert.WatchFraming(lambda: EPOCH).removal(basic)).changes[0]
    assert (removed.kind, removed.status) == (CHANGE_KIND_REMOVED, convert.status_of(without))
    assert convert.status_of(made, View.BASIC) == convert.status_of(without)
    assert convert.status_of(made).WhichOneof("detail") == kind


def test_basic_is_made_once_an_entry_and_takes_no_room_where_there_is_no_less() -> None:
    """Whoever asks first has it made; what has no detail is the very bytes that there are."""
    made, plain = entry(observation()), entry(observation(detail=None))
    basic = convert.FORMS[View.BASIC](made)
    assert convert.FORMS[View.BASIC](made) is basic is made.basic
    assert convert.FORMS[View.BASIC](plain) is plain.upsert
    assert convert.FORMS[View.FULL](made) is made.upsert


@pytest.mark.parametrize("kind", DETAILS)
def test_a_detail_loses_nothing(kind: str) -> None:
    """Every member of every part comes back as it was; absent times and media stay absent."""
    status = convert.status_of(entry(observation(detail=DETAILS[kind])))
    assert status.WhichOneof("detail") == kind
    _same(getattr(status, kind), DETAILS[kind])


@pytest.mark.parametrize(
    ("milliseconds", "told"),
    [(0, None), (1, 1), (-1, -1), (61_250, 61_250), (2**63 - 1, 315_576_000_000_000), (-(2**63), -315_576_000_000_000)],
)
def test_a_span_is_a_duration_whatever_came(milliseconds: int, told: int | None) -> None:
    """0 tells of none; what no Duration can hold is the longest there is."""
    detail = details.MediaIntelligenceDetail("ws", "1", media=details.MediaIntelligenceMedia("1x1", milliseconds))
    media = convert.status_of(entry(observation(detail=detail))).media_intelligence.media
    assert (media.duration.ToMilliseconds() if media.HasField("duration") else None) == told


def _same(message: Message, value: Any) -> None:
    for member in dataclasses.fields(value):
        given, told = getattr(value, member.name), getattr(message, member.name.removesuffix("_ms"))
        if member.name.endswith("_ms"):
            assert told.ToMilliseconds() == given
        elif given is None:
            assert not message.HasField(member.name)
        elif isinstance(given, tuple):
            assert len(given) == len(told)
            for part, of in zip(told, given, strict=True):
                _same(part, of)
        elif dataclasses.is_dataclass(given):
            _same(told, given)
        elif isinstance(given, datetime):
            assert told.ToDatetime(UTC) == given
        elif member.name == "metadata":
            assert MessageToDict(told) == dict(given)
        elif member.name == "meta":
            assert dict(told) == given
        else:
            assert told == given


def test_a_status_has_all_of_its_observation() -> None:
    """Asset, state, facets, failure, lock, times, revision, etag."""
    status = convert.status_of(entry(observation()))
    assert (status.asset.source, status.asset.asset_id) == ("dam", "tid:1")
    assert status.state == status_pb.ASSET_STATE_FAILED
    facets = [(f.name, f.state, f.native, f.message, f.HasField("change_time")) for f in status.facets]
    assert facets == [("import", 2, "running", "so far", True), ("object", 3, "available", "", False)]
    failure = status.failure
    assert (failure.kind, failure.code, failure.message) == (status_pb.ASSET_FAILURE_KIND_DEGRADED, "code", "sentence")
    assert status.locked
    assert status.change_time.ToDatetime(UTC) == NOON
    assert status.observe_time.ToMilliseconds() == 1_700_000_000_500
    assert (status.revision, status.etag) == (7, '"7"')
    assert status.freshness == status_pb.FRESHNESS_FRESH


def test_what_an_observation_lacks_is_absent() -> None:
    """No failure, no change time, no detail."""
    status = convert.status_of(entry(Observation("tid:1", State.MISSING)))
    assert not status.HasField("failure")
    assert not status.HasField("change_time")
    assert status.WhichOneof("detail") is None


@pytest.mark.parametrize("numbers", [State, Freshness, FailureKind])
def test_the_model_and_the_schema_number_alike(numbers: Any) -> None:
    """Every word of the model is the word of that number in the schema."""
    enum = {State: status_pb.AssetState, Freshness: status_pb.Freshness, FailureKind: status_pb.AssetFailureKind}[
        numbers
    ]
    prefix = enum.keys()[0].removesuffix("UNSPECIFIED")
    names = {number: name.removeprefix(prefix) for name, number in enum.items() if number}
    assert {int(word): word.name for word in numbers} == names


@pytest.mark.parametrize("revision", [1, 127, 128, 300, 2**31, 2**62])
@pytest.mark.parametrize("traceparent", ["", TRACEPARENT])
def test_the_other_form_of_a_change(revision: int, traceparent: str) -> None:
    """The REMOVED of an UPSERT has the same status, whatever came before."""
    upsert = entry(observation(), revision, traceparent).upsert
    (put,) = pb.WatchStatusResponse.FromString(upsert).changes
    (removed,) = pb.WatchStatusResponse.FromString(convert.WatchFraming(lambda: EPOCH).removal(upsert)).changes
    assert (put.kind, removed.kind) == (CHANGE_KIND_UPSERT, CHANGE_KIND_REMOVED)
    assert put.status == removed.status
    assert put.status.revision == revision
    assert put.traceparent == removed.traceparent == traceparent


def test_equal_content_is_equal_bytes() -> None:
    """Whatever order its maps were filled in; another content is other bytes."""
    backwards = dataclasses.replace(DETAILS["omn"], meta={"a": "1", "b": "2"})
    content = ENCODER.content("dam", observation())
    assert ENCODER.content("dam", observation(detail=backwards)) == content
    assert ENCODER.content("dam", observation(locked=False)) != content
    assert ENCODER.content("other", observation()) != content


def test_stale_content_differs_in_freshness_and_its_reason_alone() -> None:
    """So a recovery is a change, and the rest is kept."""
    known = entry(observation())
    stale = status_pb.AssetStatus.FromString(ENCODER.again(known, stale="not XML"))
    assert (stale.freshness, stale.freshness_reason) == (status_pb.FRESHNESS_STALE, "not XML")
    assert ENCODER.again(known, stale="") == ENCODER.content("dam", observation())
    stale.freshness = status_pb.FRESHNESS_FRESH
    stale.ClearField("freshness_reason")
    assert stale.SerializeToString(deterministic=True) == ENCODER.content("dam", observation())


def test_joined_bytes_are_one_message() -> None:
    """Changes in their order, then token and head."""
    framing = convert.WatchFraming(lambda: EPOCH)
    entries = [entry(observation(asset_id=f"tid:{n}"), n) for n in range(1, 100)]
    message = pb.WatchStatusResponse.FromString(
        framing.message([e.upsert for e in entries], revision=99, head=123, digest=b"8 bytes!")
    )
    assert [change.status.revision for change in message.changes] == list(range(1, 100))
    assert message.head_revision == 123
    assert message.resume_token == resume_token.encode(epoch=EPOCH, revision=99, digest=b"8 bytes!")
    assert message.WhichOneof("signal") is None


def test_text_of_any_script_and_size_travels() -> None:
    """Long ids make long lengths."""
    asset_id = "s3://" + "ü漢🙂" * 500
    assert convert.status_of(entry(observation(asset_id=asset_id))).asset.asset_id == asset_id
