"""etcd as far as the store needs it, in memory and in virtual time, failing as it is told to.

What etcd itself does is tried against etcd itself, in tests/changefeed/store/etcd. This one is for what a real server
does once in a million calls, and for many orders of events in little time.
"""

# ruff: noqa: ARG002 - it is called as the client is

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assetwatch_etcd import etcd_pb2 as pb

from assetwatchd.etcd.client import CALL_S, PAGE_S, EtcdClient
from assetwatchd.etcd.errors import Compacted, NoSpace, OutcomeUnknown
from assetwatchd.etcd.operations import behind
from assetwatchd.etcd.values import Event, KeyValue, News, Outcome, Page
from assetwatchd.etcd.watching import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from assetwatchd.etcd.operations import Compare, Operation

LATE_S = 0.4
"""After this long something that was on its way arrives."""


class ModelEtcd:
    """One cluster: its keys, and all that ever happened."""

    def __init__(self) -> None:
        self.revision = 1
        self.cluster = 7
        self.keys: dict[bytes, KeyValue] = {}
        self.history: list[News] = []
        self.compacted = 0
        self.happened = asyncio.Event()

    def txn(self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]) -> Outcome:
        """Do a transaction."""
        held = all(self._holds(each) for each in compare)
        events: list[Event] = []
        found = [self._do(operation, events) for operation in (success if held else failure)]
        if events:
            self.revision += 1
            self.history.append(News(self.revision, events))
            self._happen()
        return Outcome(held, self.revision, self.cluster, found)

    def compact(self) -> None:
        """Forget what was superseded; end the watches that would be told of it."""
        self.compacted = self.revision
        self._happen()

    def since(self, revision: int, prefix: bytes) -> list[News]:
        """Return what a watch from that revision on is told. Raises: Compacted."""
        if revision <= self.compacted:
            raise Compacted("compacted", revision=self.compacted)
        told = []
        for news in self.history:
            events = [event for event in news.events if event.key.key.startswith(prefix)]
            if news.revision >= revision and events:
                told.append(News(news.revision, events))
        return told

    def as_of(self, revision: int) -> dict[bytes, KeyValue]:
        """Return all keys as they were. Raises: Compacted."""
        if revision < self.compacted:
            raise Compacted("compacted", revision=self.compacted)
        keys: dict[bytes, KeyValue] = {}
        for event in (event for news in self.history if news.revision <= revision for event in news.events):
            if event.deleted:
                del keys[event.key.key]
            else:
                keys[event.key.key] = event.key
        return keys

    def below(self, prefix: bytes) -> list[KeyValue]:
        """Return all keys that begin so, in order."""
        return [self.keys[key] for key in sorted(self.keys) if key.startswith(prefix)]

    def _happen(self) -> None:
        happened, self.happened = self.happened, asyncio.Event()
        happened.set()

    def _holds(self, compare: Compare) -> bool:
        key = self.keys.get(compare.key)
        if compare.target == pb.Compare.CREATE:
            return (0 if key is None else key.created) == compare.create_revision
        assert compare.target == pb.Compare.MOD
        return (0 if key is None else key.modified) == compare.mod_revision

    def _do(self, operation: Operation, events: list[Event]) -> Sequence[KeyValue]:
        at = self.revision + 1
        if operation.HasField("request_put"):
            put = operation.request_put
            old = self.keys.get(put.key)
            key = self.keys[put.key] = KeyValue(put.key, put.value, at if old is None else old.created, at, put.lease)
            assert key.key not in {event.key.key for event in events}, "etcd takes a key once in a transaction"
            events.append(Event(deleted=False, key=key))
            return ()
        if operation.HasField("request_delete_range"):
            name = operation.request_delete_range.key
            if self.keys.pop(name, None) is not None:
                events.append(Event(deleted=True, key=KeyValue(name, b"", 0, at)))
            return ()
        asked = operation.request_range
        if asked.range_end:
            keys = self.as_of(asked.revision) if asked.revision else self.keys
            return [keys[key] for key in sorted(keys) if asked.key <= key < asked.range_end]
        return [self.keys[asked.key]] if asked.key in self.keys else []


class ModelWatch(Watch):
    """A watch of it, which ends when it is told to."""

    def __init__(self, etcd: ModelEtcd, prefix: bytes, from_revision: int) -> None:
        self._etcd, self._prefix, self._from = etcd, prefix, from_revision
        self._progress = self._over = False

    async def read(self) -> News:
        """Return the next news, some transactions together as they come."""
        while True:
            if self._over:
                raise OutcomeUnknown("the watch ended")
            if told := self._etcd.since(self._from, self._prefix):
                self._from = told[-1].revision + 1
                return News(told[-1].revision, [event for news in told for event in news.events])
            if self._progress:
                self._progress = False
                return News(self._etcd.revision, [])
            await self._etcd.happened.wait()

    async def ask_progress(self) -> None:
        """Have it told."""
        self._progress = True
        self._etcd._happen()

    def end(self) -> None:
        """End it."""
        self._over = True
        self._etcd._happen()


class ModelClient(EtcdClient):
    """Calls it, each after `delay_s()`; `fate()` says what becomes of a transaction that writes.

    done, lost (it never arrives), unanswered (it is done), late (it arrives LATE_S after it was given up), full (it is
    refused), filling (it is done, and then refused). page: keys of a page.
    """

    page = 3

    def __init__(
        self, etcd: ModelEtcd, *, fate: Callable[[], str] = lambda: "done", delay_s: Callable[[], float] = lambda: 0.001
    ) -> None:
        self.etcd = etcd
        self.fate = fate
        self.delay_s = delay_s
        self.watches: list[ModelWatch] = []
        self.kind = ModelWatch
        self.reachable = True

    async def close(self) -> None:
        """Nothing is held."""

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        within_s: float = CALL_S,
    ) -> Outcome:
        """Do a transaction, or not."""
        await self._way()
        fate = self.fate() if compare else "done"
        if fate == "late":
            asyncio.get_running_loop().call_later(LATE_S, self.etcd.txn, compare, success, failure)
        if fate in ("lost", "late"):
            raise OutcomeUnknown(fate)
        if fate == "full":
            raise NoSpace(fate)
        outcome = self.etcd.txn(compare, success, failure)
        if fate == "filling":
            raise NoSpace(fate)
        if fate == "unanswered":
            raise OutcomeUnknown(fate)
        await self._way()
        return outcome

    async def get(self, key: bytes, *, revision: int = 0, within_s: float = CALL_S) -> Page:
        """Read one key."""
        await self._way()
        keys = [self.etcd.keys[key]] if key in self.etcd.keys else []
        return Page(self.etcd.revision, self.etcd.cluster, keys)

    async def pages(
        self, prefix: bytes, *, limit: int = 0, keys_only: bool = False, within_s: float = PAGE_S
    ) -> AsyncIterator[Page]:
        """Read keys as of now, in small pages."""
        limit = limit or self.page
        await self._way()
        revision, keys = self.etcd.revision, self.etcd.below(prefix)
        for begin in range(0, max(len(keys), 1), limit):
            await self._way()
            if revision < self.etcd.compacted:
                raise Compacted("compacted", revision=self.etcd.compacted)
            yield Page(revision, self.etcd.cluster, keys[begin : begin + limit], begin + limit < len(keys))

    @asynccontextmanager
    async def watch(self, prefix: bytes, *, from_revision: int, within_s: float = CALL_S) -> AsyncIterator[Watch]:
        """Watch."""
        await self._way()
        assert behind(prefix)
        watch = self.kind(self.etcd, prefix, from_revision)
        self.watches.append(watch)
        try:
            yield watch
        finally:
            self.watches.remove(watch)

    def cut(self) -> None:
        """Let nothing through any more, and end the watches."""
        self.reachable = False
        self.break_watches()

    def heal(self) -> None:
        """Let calls through again."""
        self.reachable = True

    def break_watches(self) -> None:
        """End the watches that there are."""
        for watch in self.watches:
            watch.end()

    async def _way(self) -> None:
        await asyncio.sleep(self.delay_s())
        if not self.reachable:
            raise OutcomeUnknown("cut off")
