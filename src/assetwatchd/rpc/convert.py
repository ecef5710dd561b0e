"""Model to protobuf and back: the encodings of entries and of watch messages, and the views of unary answers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as service_pb
from assetwatch.v1 import source_pb2
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.encoding import form_of
from assetwatchd.model import details
from assetwatchd.model.values import UNREADABLE, Freshness, View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import ConcernCondition, Condition, Entry, Facet, Observation
    from assetwatchd.polling.port import Source

MICROSECONDS = 1_000_000
UPSERT = bytes([service_pb.StatusChange.KIND_FIELD_NUMBER << 3, CHANGE_KIND_UPSERT])
"""The kind of a change, written last: the other form differs in nothing but its last byte."""
REMOVED = bytes([service_pb.StatusChange.KIND_FIELD_NUMBER << 3, CHANGE_KIND_REMOVED])
MILLISECONDS = "_ms"
SPAN_MS_MAX = 315_576_000_000 * 1000
"""10,000 years: the longest that a google.protobuf.Duration may be."""
_DETAIL_FIELDS: dict[type[details.Detail], str] = {
    details.UsdSearchDetail: "usd_search",
    details.OmnDetail: "omn",
    details.PiecesDetail: "pieces",
    details.MediaIntelligenceDetail: "media_intelligence",
    details.OracleSbcDetail: "oracle_sbc",
}


class ProtobufEncoder:
    """Implements Encoder: makes the bytes that the core keeps, changes of WatchStatusResponse."""

    def content(self, source: str, observation: Observation) -> bytes:
        """Encode a status without revision and observe time, the same bytes for the same content."""
        status = status_pb.AssetStatus()
        status.asset.source, status.asset.asset_id = source, observation.asset_id
        status.state = observation.state  # type: ignore[assignment]  # the model's numbers are the schema's
        status.locked = observation.locked
        status.cut = observation.cut
        status.freshness = status_pb.FRESHNESS_FRESH
        for facet in observation.facets:
            _fill_facet(status.facets.add(), facet)
        if observation.failure is not None:
            failure = observation.failure
            status.failure.kind = failure.kind  # type: ignore[assignment]  # same
            status.failure.code = failure.code
            status.failure.message = failure.message
        if observation.change_time is not None:
            status.change_time.FromDatetime(observation.change_time)
        if observation.detail is not None:
            _fill(getattr(status, _DETAIL_FIELDS[type(observation.detail)]), observation.detail)
        return status.SerializeToString(deterministic=True)

    def again(self, entry: Entry, *, stale: str) -> bytes:
        """Encode the content of an entry again: STALE, and why; FRESH if that is empty."""
        status = status_of(entry)
        for stamped in ("revision", "etag", "observe_time"):
            status.ClearField(stamped)
        return _marked(status, stale)

    def unread(self, source: str, observation: Observation, why: str) -> bytes:
        """Encode the content of an asset that was never read, its freshness STALE, and why."""
        return _marked(status_pb.AssetStatus.FromString(self.content(source, observation)), why)

    def seal(self, content: bytes, *, observed_at: float, traceparent: str) -> Callable[[int], bytes]:
        """Return the function that adds the revision; joining encoded messages merges them."""
        return functools.partial(_sealed, content, observed_at, traceparent)


def _marked(status: status_pb.AssetStatus, why: str) -> bytes:
    status.freshness = status_pb.FRESHNESS_STALE if why else status_pb.FRESHNESS_FRESH
    status.freshness_reason = why
    return status.SerializeToString(deterministic=True)


def _sealed(content: bytes, observed_at: float, traceparent: str, revision: int) -> bytes:
    stamp = status_pb.AssetStatus(revision=revision, etag=f'"{revision}"')
    stamp.observe_time.FromMicroseconds(round(observed_at * MICROSECONDS))
    return _upsert(content + stamp.SerializeToString(), traceparent)


def _upsert(status: bytes, traceparent: str) -> bytes:
    """Encode a change, its kind last."""
    traced = field(service_pb.StatusChange.TRACEPARENT_FIELD_NUMBER, traceparent.encode()) if traceparent else b""
    change = field(service_pb.StatusChange.STATUS_FIELD_NUMBER, status) + traced + UPSERT
    return field(service_pb.WatchStatusResponse.CHANGES_FIELD_NUMBER, change)


def basic(upsert: bytes) -> bytes:
    """Return a change in the view BASIC: without what its kind alone says."""
    change = service_pb.WatchStatusResponse.FromString(upsert).changes[0]
    if change.status.WhichOneof("detail") is None:
        return upsert
    change.status.ClearField("detail")
    return _upsert(change.status.SerializeToString(deterministic=True), change.traceparent)


FORMS = {view: form_of(view, basic) for view in View}
"""What gives an entry's change in each view."""


class WatchFraming:
    """Implements Framing: makes the bytes that the core sends, each a WatchStatusResponse with token and head."""

    def __init__(self, epoch: Callable[[], str]) -> None:
        """epoch: that of the store at the moment; every token says so."""
        self._epoch = epoch

    basic = staticmethod(basic)

    def removal(self, upsert: bytes) -> bytes:
        """Return the REMOVED of the same status."""
        return upsert[: -len(UPSERT)] + REMOVED

    def message(self, changes: Sequence[bytes], *, revision: int, head: int, digest: bytes) -> bytes:
        """Join encoded changes; messages that are joined are merged, and each change is one of its list."""
        token = resume_token.encode(epoch=self._epoch(), revision=revision, digest=digest)
        tail = service_pb.WatchStatusResponse(resume_token=token, head_revision=head)
        return b"".join(changes) + tail.SerializeToString()


def field(number: int, payload: bytes) -> bytes:
    """Encode one length-delimited field; number is below 16."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fill_facet(message: status_pb.AssetFacet, facet: Facet) -> None:
    message.name = facet.name
    message.state = facet.state  # type: ignore[assignment]  # the model's numbers are the schema's
    message.native = facet.native
    message.message = facet.message
    if facet.change_time is not None:
        message.change_time.FromDatetime(facet.change_time)


def _fill(message: Message, value: object) -> None:
    """Copy a dataclass into the message of the same member names; what is in milliseconds there is a Duration here."""
    for name in _members(type(value)):  # type: ignore[arg-type]  # a class can be hashed, whatever its instances
        content = getattr(value, name)
        if name.endswith(MILLISECONDS):
            _put_span(getattr(message, name.removesuffix(MILLISECONDS)), content)
        elif isinstance(content, (str, int, float)):
            setattr(message, name, content)
        elif content is not None:
            _put(message, name, content)


def _put_span(span: Duration, milliseconds: int) -> None:
    """Write a span of time; one beyond what a Duration holds as the longest, and 0, which tells of none, not at all."""
    if milliseconds:
        span.FromMilliseconds(max(-SPAN_MS_MAX, min(milliseconds, SPAN_MS_MAX)))


@functools.cache
def _members(kind: type[Any]) -> tuple[str, ...]:
    return tuple(member.name for member in dataclasses.fields(kind))


def _put(message: Message, name: str, content: object) -> None:
    if isinstance(content, tuple):
        for item in content:
            if isinstance(item, str):
                getattr(message, name).append(item)
            else:
                _fill(getattr(message, name).add(), item)
    elif isinstance(content, datetime):
        getattr(message, name).FromDatetime(content)
    elif dataclasses.is_dataclass(content):
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), content)
    elif isinstance(content, Mapping):
        getattr(message, name).update(content)
    else:
        setattr(message, name, content)


def timestamp(at: float) -> Timestamp:
    """Seconds since 1970 as a Timestamp of whole microseconds."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(at * MICROSECONDS))
    return stamp


def status_of(entry: Entry, view: View = View.FULL) -> status_pb.AssetStatus:
    """Decode an entry's status, as it was committed."""
    return service_pb.WatchStatusResponse.FromString(FORMS[view](entry)).changes[0].status


def status_view(entry: Entry, origin: Source, view: View = View.FULL) -> status_pb.AssetStatus:
    """Decode an entry's status with freshness and observe time as of now."""
    return _as_of_now(status_of(entry, view), origin.freshness(entry), origin)


def unseen_view(observation: Observation, origin: Source, view: View = View.FULL) -> status_pb.AssetStatus:
    """The status of an asset that is not there and never was: without a revision, since nothing was committed."""
    if view is View.BASIC:
        observation = dataclasses.replace(observation, detail=None)
    status = status_pb.AssetStatus.FromString(ProtobufEncoder().content(origin.name, observation))
    return _as_of_now(status, origin.freshness_unseen(observation.asset_id), origin)


def _as_of_now(status: status_pb.AssetStatus, freshness: Freshness, origin: Source) -> status_pb.AssetStatus:
    status.freshness = int(freshness)  # type: ignore[assignment]  # the model's numbers are the schema's
    if freshness is Freshness.FRESH:
        if status.freshness_reason:
            status.ClearField("freshness_reason")
    elif reason := origin.trouble(status.asset.asset_id):
        status.freshness_reason = reason  # else as committed
    observed_at = origin.observed_at(status.asset.asset_id)
    if observed_at is not None:
        status.observe_time.CopyFrom(timestamp(observed_at))
    elif status.failure.code == UNREADABLE:
        status.ClearField("observe_time")  # it was never read
    return status


def condition(value: Condition) -> source_pb2.SourceCondition:
    """A condition as the schema has it."""
    message = source_pb2.SourceCondition(
        state=int(value.state),  # type: ignore[arg-type]  # the model's numbers are the schema's
        message=value.message,
        transition_time=timestamp(value.since),
    )
    message.concerns.extend(map(_concern, value.concerns))
    _stamp(message, value)
    return message


def _concern(value: ConcernCondition) -> source_pb2.SourceConcern:
    message = source_pb2.SourceConcern(
        kind=int(value.concern),  # type: ignore[arg-type]  # the model's numbers are the schema's
        state=int(value.state),  # type: ignore[arg-type]  # same
        message=value.message,
        transition_time=timestamp(value.since),
    )
    _stamp(message, value)
    return message


def _stamp(message: source_pb2.SourceCondition | source_pb2.SourceConcern, value: Condition | ConcernCondition) -> None:
    if value.last_success_at is not None:
        message.last_success_time.CopyFrom(timestamp(value.last_success_at))
    if value.next_try_at is not None:
        message.next_try_time.CopyFrom(timestamp(value.next_try_at))


def condition_changes(by_source: Mapping[str, Condition]) -> list[service_pb.SourceConditionChange]:
    """Conditions as a watch tells them, in the order of names."""
    return [
        service_pb.SourceConditionChange(source=source, condition=condition(by_source[source]))
        for source in sorted(by_source)
    ]


def source(origin: Source, store: Store, *, watchers: int, polled: int, replica: str) -> source_pb2.Source:
    """A source as SourceService tells it; replica: the name of this one."""
    can = origin.capabilities
    return source_pb2.Source(
        name=origin.name,
        kind=int(origin.kind),  # type: ignore[arg-type]  # the model's numbers are the schema's
        capabilities=source_pb2.SourceCapabilities(push=can.pushes, batch_size=can.batch_max, enumerate=can.enumerates),
        condition=condition(origin.condition),
        asset_count=store.count(origin.name),
        watcher_count=watchers,
        poll_stats=source_pb2.PollStats(**dataclasses.asdict(origin.figures), polled_assets=polled),
        owner=replica if origin.owner is None else origin.owner,
    )


def duration(span_s: float) -> Duration:
    """Write a span of time, in seconds, to the millisecond."""
    written = Duration()
    written.FromMilliseconds(round(span_s * 1000))
    return written
