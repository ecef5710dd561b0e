"""What was written to etcd, by a watch of the rig's own: the log that all replicas share, and who owned what when.

It speaks to etcd by itself and knows nothing of the product but how a key and a record are read. Data that were put
back begin another line: what was written after them, before, never was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, NamedTuple

import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch_etcd import etcd_pb2

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.changefeed.store.etcd.records import entry_of
from assetwatchd.etcd.values import KeyValue
from assetwatchd.rpc.convert import ProtobufEncoder
from faults.rig.etcd import channel_to
from faults.rig.evidence import Journal, Line, Logged
from faults.rig.ownership import Term
from faults.rig.waiting import until

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from assetwatch_sandbox.etcd import Member

ASK_S = 0.3
"""How often the watch is asked how far it is."""
SILENT_S = 1.2
"""A member that does not answer that is left for the next one."""
AGAIN_S = 0.05
HAS_LEADER = (("hasleader", "true"),)
REACHED_S = 30.0


Watch = grpc.aio.StreamStreamCall[etcd_pb2.WatchRequest, etcd_pb2.WatchResponse]


class Written(NamedTuple):
    """A key as it was written, or deleted: value None. t: when that was heard of, monotonic."""

    t: float
    revision: int
    name: bytes
    value: bytes | None
    created: int = 0
    lease: int = 0


class History:
    """Follows etcd for as long as `run` runs. revision: up to which everything is known."""

    def __init__(self, members: Sequence[Member], prefix: str) -> None:
        self.revision = 0
        self.lines: list[list[Written]] = [[]]
        self._put_back_at = [time.monotonic()]
        self._members = members
        self._prefix = prefix.encode()
        self._wall_s = time.time() - time.monotonic()
        self._known: dict[tuple[int, bytes], Logged] = {}
        self._seal = ProtobufEncoder().seal

    # Following -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow until cancelled, one member after the other."""
        for member in itertools.cycle(self._members):
            if member.pid:
                async with channel_to(member.endpoint) as channel:
                    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                        await self._follow(channel)
            await asyncio.sleep(AGAIN_S)

    async def reached(self, revision: int) -> None:
        """Return once everything up to there is known. Raises: TimeoutError."""
        if not await until(lambda: self.revision >= revision, REACHED_S):
            raise TimeoutError(f"the rig has read up to {self.revision}, and {revision} was written")

    def put_back(self) -> None:
        """Begin another line: the data are older ones from here on. Only while it does not run."""
        self.lines.append([])
        self._put_back_at.append(time.monotonic())
        self.revision = 0

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        stub: grpc.aio.StreamStreamMultiCallable[etcd_pb2.WatchRequest, etcd_pb2.WatchResponse] = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=etcd_pb2.WatchRequest.SerializeToString,
            response_deserializer=etcd_pb2.WatchResponse.FromString,
        )
        call: Watch = stub(metadata=HAS_LEADER)
        wanted = etcd_pb2.WatchCreateRequest(
            key=self._prefix, range_end=self._prefix[:-1] + b"0", start_revision=self.revision + 1
        )
        await call.write(etcd_pb2.WatchRequest(create_request=wanted))
        asking = asyncio.create_task(_ask(call))
        try:
            while True:
                async with asyncio.timeout(SILENT_S):
                    answer = await call.read()
                if not isinstance(answer, etcd_pb2.WatchResponse) or not self._take(answer):
                    return
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            call.cancel()

    def _take(self, answer: etcd_pb2.WatchResponse) -> bool:
        """Take in what was told; return whether the watch goes on."""
        if answer.compact_revision:
            self._skip(answer.compact_revision)
            return False
        now = time.monotonic()
        for event in answer.events:
            at = event.kv.mod_revision
            name = event.kv.key[len(self._prefix) :]
            value = None if event.type == etcd_pb2.Event.DELETE else event.kv.value
            self.lines[-1].append(Written(now, at, name, value, event.kv.create_revision, event.kv.lease))
        if answer.events:
            self.revision = max(self.revision, answer.events[-1].kv.mod_revision)
        elif not answer.created and not answer.canceled:
            self.revision = max(self.revision, answer.header.revision)
        return not answer.canceled

    def _skip(self, compacted: int) -> None:
        """Take what was compacted from the line before: data that were put back had been compacted by then."""
        assert not self.lines[-1], "etcd was compacted beyond what the rig had read of it"
        assert len(self.lines) > 1
        self.lines[-1] = [each for each in self.lines[-2] if each.revision <= compacted]
        self.revision = compacted

    # What is known ---------------------------------------------------------------------------------------------------

    def changed_since(self, t: float) -> int:
        """Count the entries that were written since a moment."""
        recent = itertools.takewhile(lambda each: each.t >= t, reversed(self.lines[-1]))
        return sum(each.value is not None and keys.is_entry(each.name) for each in recent)

    def owners(self) -> Mapping[str, str]:
        """Return which replica owns each source that one owns."""
        return {term.source: term.replica for term in self.terms() if term.ended_at is None}

    def terms(self) -> list[Term]:
        """Return who owned what, in the order in which that began."""
        found: list[Term] = []
        known: set[tuple[int, bytes]] = set()
        for line, put_back_at in zip(self.lines, self._put_back_at, strict=True):
            for term in found:
                term.ended_at = term.ended_at or put_back_at
            owned = [each for each in line if each.name.startswith(b"o/")]
            found += _terms(owned, known, put_back_at)
            known = {(each.revision, each.name) for each in owned}
        return sorted(found, key=lambda term: term.began_at)

    def journal(self) -> Journal:
        """Return the lines as they are judged by."""
        journal = Journal()
        for written in self.lines:
            line = Line()
            journal.lines.append(line)
            for _, together in itertools.groupby(written, key=lambda each: each.revision):
                self._put(journal, line, list(together))
        return journal

    def _put(self, journal: Journal, line: Line, together: Sequence[Written]) -> None:
        """Put what one transaction wrote."""
        dropped = [
            last.revision
            for each in together
            if each.value is None and keys.is_entry(each.name) and (last := _last(line, each.name)) is not None
        ]
        if any(each.name.startswith(b"f/") for each in together):
            line.drop(together[0].t, dropped)
        else:
            line.forgotten.update(dropped)
        for entry in sorted(self._entries(together)):
            line.add(entry)
        for each in together:
            if each.name == keys.EPOCHS and each.value is not None:
                journal.by_epoch.setdefault(epochs.read(each.value, each.revision, 0).current, line)

    def _entries(self, together: Sequence[Written]) -> Iterator[Logged]:
        for each in together:
            if each.value is not None and keys.is_entry(each.name):
                at = (each.revision, each.value)
                if at not in self._known:
                    self._known[at] = self._logged(each)
                yield self._known[at]

    def _logged(self, written: Written) -> Logged:
        key = KeyValue(written.name, written.value or b"", written.created, written.revision)
        entry = entry_of(written.name, key, 0, self._seal)
        status = pb.WatchStatusResponse.FromString(entry.upsert).changes[0].status
        known_at = min(entry.committed_at - self._wall_s, written.t)
        return Logged(
            known_at, entry.revision, (entry.key.source, entry.key.asset_id), int(entry.state), entry.gone, status
        )


def _terms(owned: Sequence[Written], known: Container[tuple[int, bytes]], put_back_at: float) -> Iterator[Term]:
    """Find the terms of a line; what is known from the line before counts only if it lasts, and from then on."""
    held: dict[str, Term] = {}
    for each in owned:
        source, is_new = each.name[2:].decode(), (each.revision, each.name) not in known
        term = held.get(source)
        if term is not None and (each.value is None or term.revision != each.created):
            term.ended_at = each.t
            if is_new:
                yield term
            del held[source]
        if each.value is not None and source not in held:
            began_at = each.t if is_new else put_back_at
            held[source] = Term(source, json.loads(each.value)["name"], each.created, began_at)
    yield from held.values()


def _last(line: Line, name: bytes) -> Logged | None:
    source, asset_id = keys.asset(name)
    past = line.past((source, asset_id))
    return past[-1] if past else None


async def _ask(call: Watch) -> None:
    """Ask again and again how far the watch is."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await asyncio.sleep(ASK_S)
            await call.write(etcd_pb2.WatchRequest(progress_request=etcd_pb2.WatchProgressRequest()))
