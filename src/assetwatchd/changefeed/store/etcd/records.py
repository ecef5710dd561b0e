"""Entries as etcd keeps them. A record lacks its own revision, which etcd gives it, so whoever reads it seals it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from assetwatch.internal.v1 import record_pb2 as pb
from google.protobuf.message import DecodeError

from assetwatchd.changefeed.store.etcd.keys import PLACES, asset, number
from assetwatchd.model.values import Entry, Freshness, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.etcd.values import KeyValue

LATEST = 253_402_300_799.0
"""The last moment that a timestamp can tell: the end of the year 9999."""
_STATES = {int(state): state for state in State}
_FRESHNESSES = {int(freshness): freshness for freshness in Freshness}


class Seal(Protocol):
    """`Encoder.seal`."""

    def __call__(self, content: bytes, *, observed_at: float, traceparent: str) -> Callable[[int], bytes]:
        """Return a function that makes the whole change once its revision is known."""
        ...


def drafted(draft: Draft, *, place: int, committed_at: float) -> bytes:
    """Write the record of a draft that has that place in its transaction."""
    return pb.Record(
        place=place,
        state=draft.state,
        gone=draft.gone,
        freshness=draft.freshness,
        found_at=draft.found_at,
        committed_at=committed_at,
        sealed_at=draft.sealed_at,
        digest=draft.digest,
        traceparent=draft.traceparent,
        content=draft.content,
    ).SerializeToString()


def copied(entry: Entry) -> bytes:
    """Write the record of an entry of another store, which keeps its revision."""
    return pb.Record(
        state=entry.state,
        gone=entry.gone,
        freshness=entry.freshness,
        found_at=entry.found_at,
        committed_at=entry.committed_at,
        digest=entry.digest,
        traceparent=entry.traceparent,
        revision=entry.revision,
        sealed=entry.upsert,
    ).SerializeToString()


def entry_of(name: bytes, key: KeyValue, base: int, seal: Seal) -> Entry:
    """Read the entry of that name. Raises: ValueError for what no process wrote."""
    record = _record(key.value, base)
    traceparent = record.traceparent
    if revision := record.revision:
        upsert = record.sealed
    else:
        revision = number(base, key.modified, record.place)
        upsert = seal(record.content, observed_at=record.sealed_at, traceparent=traceparent)(revision)
    return Entry(
        asset(name),
        revision,
        _STATES.get(record.state, State.UNKNOWN),  # a newer version may know more
        record.gone,
        _FRESHNESSES.get(record.freshness, Freshness.STALE),
        record.digest,
        upsert,
        record.found_at,
        record.committed_at,
        traceparent,
    )


def _record(value: bytes, base: int) -> pb.Record:
    try:
        record = pb.Record.FromString(value)
    except DecodeError as error:
        raise ValueError("it is no record") from error
    if record.place >= PLACES or record.revision > base:
        raise ValueError("it has a revision that nothing written here has")
    if not all(0 <= at <= LATEST for at in (record.found_at, record.committed_at, record.sealed_at)):
        raise ValueError("it has a time that is none")
    return record
