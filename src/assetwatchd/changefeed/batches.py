"""What watchers with one filter are sent: encoded changes joined to messages, once for all who ask for the same."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry

BATCH_CHANGES_MAX = 100
MESSAGE_BYTES_MAX = 64 * 1024
"""Both promised by the schema, at WatchStatus."""
CHANGES_BYTES_MAX = MESSAGE_BYTES_MAX - 128
"""What changes may take of a message: the rest is for its token and head."""
DRAINS_KEPT = 8
"""Drains a group keeps for others that ask for the same; a round needs one, stragglers a few."""
DRAIN_KEPT_CHANGES_MAX = 1000
"""A longer drain is not kept beyond those who take it; they share it."""
MESSAGES_KEPT = 16
"""Messages of a long drain, or a snapshot, that are kept for those who take it a little later."""
WHOLE = -1
"""In place of a cursor: a snapshot, so without removals."""
NEWEST = -1
"""In place of a head: the newest that a beginning was made up to."""


class Batch(NamedTuple):
    """Changes up to a revision, as one encoded message for all watchers with the filter."""

    revision: int
    message: bytes
    entries: Sequence[Entry]


Frame: TypeAlias = "Callable[[Sequence[bytes], int, int, bytes], bytes]"
"""(changes, revision, head, filter digest) -> one message."""


class Suffix:
    """Entries up to a head, frozen once for all who ask for the same, and encoded as they take them."""

    __slots__ = ("__weakref__", "_cut", "_entries", "_kept", "head")

    def __init__(self, entries: Sequence[Entry], head: int, cut: Callable[[Sequence[Entry], int], Batch]) -> None:
        """Cut makes a message of the first few of the entries it is given, and the head."""
        self.head = head
        self._entries = entries
        self._cut = cut
        self._kept: dict[int, Batch] = {}

    def __iter__(self) -> Iterator[Batch]:
        """All of it, from the beginning."""
        start = 0
        while start < len(self._entries):
            batch = self._kept.get(start) or self._batch(start)
            yield batch
            start += len(batch.entries)

    def _batch(self, start: int) -> Batch:
        batch = self._kept[start] = self._cut(self._entries[start : start + BATCH_CHANGES_MAX], self.head)
        if len(self._kept) > MESSAGES_KEPT:
            del self._kept[next(iter(self._kept))]
        return batch


class Drains:
    """The drains and snapshots of one filter."""

    def __init__(self, what: Filter, store: Store, frame: Frame) -> None:
        self.filter = what
        self._store = store
        self._frame = frame
        self._drains: dict[tuple[int, int], Sequence[Batch]] = {}
        self._under_way: WeakValueDictionary[tuple[int, int], Suffix] = WeakValueDictionary()
        self._selecting = asyncio.Lock()

    def drain(self, cursor: int, head: int) -> Iterable[Batch]:
        """Return what changed with cursor < revision <= head, removals too; shared by those who ask alike."""
        drain = self._drains.get((cursor, head))
        return self._drain(cursor, head) if drain is None else drain

    def _drain(self, cursor: int, head: int) -> Iterable[Batch]:
        if (suffix := self._under_way.get((cursor, head))) is not None:
            return suffix
        entries = self.filter.select(self._store, cursor, head)
        suffix = Suffix(entries, head, self._cut)
        if len(entries) > DRAIN_KEPT_CHANGES_MAX:
            self._under_way[cursor, head] = suffix
            return suffix
        drain = self._drains[cursor, head] = list(suffix)
        if len(self._drains) > DRAINS_KEPT:
            del self._drains[next(iter(self._drains))]
        return drain

    async def beginning(self, cursor: int) -> tuple[int, Iterable[Batch]]:
        """Return a head, and what a stream begins with: all that changed after the cursor up to there.

        cursor WHOLE: what a client's map shall hold as of then. It is looked for a part a turn of the loop, shared by
        those who begin together; what changed meanwhile has moved on, and follows.
        """
        head = self._store.head
        if cursor != WHOLE and head - cursor <= DRAIN_KEPT_CHANGES_MAX:
            return head, self.drain(cursor, head)
        suffix = await self._suffix(cursor)
        while suffix.head < self._store.floor:  # removals of what it holds may be forgotten since
            suffix = await self._suffix(cursor)
        head = self._store.head
        return head, itertools.chain(suffix, self.drain(suffix.head, head) if head > suffix.head else ())

    async def _suffix(self, cursor: int) -> Suffix:
        asked_at = self._store.head
        async with self._selecting:
            suffix = self._under_way.get((cursor, NEWEST))
            if suffix is None or suffix.head < asked_at:
                suffix = self._under_way[cursor, NEWEST] = await self._select(cursor, self._store.head)
            return suffix

    async def _select(self, cursor: int, head: int) -> Suffix:
        if cursor != WHOLE:
            return Suffix(await self.filter.select_in_turns(self._store, cursor, head), head, self._cut)
        selected = await self.filter.select_in_turns(self._store, 0, head)
        return Suffix(await self.filter.held_of(selected), head, self._cut)

    def _cut(self, part: Sequence[Entry], head: int) -> Batch:
        changes = [entry.upsert if self.filter.holds(entry) else removal(entry.upsert) for entry in part]
        count = fitting(changes)
        part = part[:count]
        revision = part[-1].revision
        return Batch(revision, self._frame(changes[:count], revision, head, self.filter.digest), part)


REMOVED = b"\x02"
"""Change.Kind.KIND_REMOVED; the kind is written last."""


def removal(upsert: bytes) -> bytes:
    """Turn an encoded UPSERT into the REMOVED of the same status."""
    return upsert[:-1] + REMOVED


def fitting(changes: Sequence[bytes]) -> int:
    """Return how many of the first changes go into one message: at least one, however large it is."""
    if sum(map(len, changes)) <= CHANGES_BYTES_MAX:
        return len(changes)
    ends = itertools.accumulate(map(len, changes))
    return max(1, sum(end <= CHANGES_BYTES_MAX for end in ends))
