"""What watchers with one filter are sent: encoded changes joined to messages, once for all who ask for the same.

Owns the size of a message, which ranges are shared, and the one look at the floor: whether a range of changes can still
be told whole. Knows neither watchers nor when they are woken, and of the bytes only their lengths.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from assetwatchd.changefeed.encoding import FORMED_BYTES_TOGETHER, form_of, weight, weight_to_form
from assetwatchd.model.errors import ResumeTokenExpired
from assetwatchd.runtime.slices import parts_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.changefeed.encoding import Framing
    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry

BATCH_CHANGES_MAX = 100
MESSAGE_BYTES_MAX = 64 * 1024
"""Both promised by the schema, at WatchStatus."""
CHANGES_BYTES_MAX = MESSAGE_BYTES_MAX - 128
"""What changes may take of a message: the rest is for its token and head."""
RANGES_KEPT = 8
"""Ranges that are kept for others that ask for the same; a round needs one, stragglers a few."""
RANGE_KEPT_CHANGES_MAX = 1000
"""A longer range is not kept beyond those who take it; they share it."""
RANGE_KEPT_BYTES_MAX = 4 * 1024 * 1024
"""Nor is one of more bytes: it is all encoded in one turn, and RANGES_KEPT of them are kept for each filter."""
MESSAGES_KEPT = 16
"""Messages of a long range, or a snapshot, that are kept for those who take it a little later."""
NEWEST = -1
"""In place of a head: the newest that a beginning was made up to."""


class Batch(NamedTuple):
    """Changes up to a revision, as one encoded message for all watchers with the filter."""

    revision: int
    message: bytes
    entries: Sequence[Entry]


class SharedRange:
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


class SharedChanges:
    """The changes and snapshots of one filter."""

    def __init__(self, what: Filter, store: Store, framing: Framing) -> None:
        self.filter = what
        self._store = store
        self._framing = framing
        self._form = form_of(what.view, framing.basic)
        self._weigh = weight_to_form(what.view)
        self._recent: dict[tuple[int, int], Sequence[Batch]] = {}
        # weak: a long range is as large as the store, and goes with the last stream that takes it
        self._under_way: WeakValueDictionary[tuple[int | None, int], SharedRange] = WeakValueDictionary()
        # the one lock of the changefeed's reading side. Nothing else is locked, and no client awaited, while it is held
        self._selecting = asyncio.Lock()

    def changes_between(self, cursor: int, head: int) -> Sequence[Batch] | SharedRange:
        """Return what changed with cursor < revision <= head, removals too, for a stream that has been open since.

        What an open stream names is kept; removals that a whole source's watcher needs may be gone.
        Returns: the messages, shared by those who ask alike; a range that is not empty where there are many.
        Raises: ResumeTokenExpired.
        """
        if self.filter.sources:
            check_floor(self._store, cursor)
        recent = self._recent.get((cursor, head))  # of all watchers of a round, all but the first find it here
        return self._between(cursor, head) if recent is None else recent

    def _between(self, cursor: int, head: int) -> Sequence[Batch] | SharedRange:
        if (recent := self._recent.get((cursor, head))) is not None:
            return recent
        if (under_way := self._under_way.get((cursor, head))) is not None:
            return under_way
        entries = self.filter.select(self._store, cursor, head)
        whole = SharedRange(entries, head, self._cut)
        if len(entries) > RANGE_KEPT_CHANGES_MAX or sum(map(weight, entries)) > RANGE_KEPT_BYTES_MAX:
            self._under_way[cursor, head] = whole
            return whole
        batches = self._recent[cursor, head] = list(whole)
        if len(self._recent) > RANGES_KEPT:
            del self._recent[next(iter(self._recent))]
        return batches

    async def beginning(self, cursor: int | None) -> tuple[int, Iterable[Batch]]:
        """Return a head, and what a stream begins with: all that changed after the cursor up to there.

        Without a cursor: what a client's map shall hold as of then, so no removals. It is looked for a part a turn of
        the loop, shared by those who begin together; what changed meanwhile has moved on, and follows.
        Raises: ResumeTokenExpired.
        """
        head = self._store.head
        if cursor is None:
            return await self._long_beginning(None)
        if head - cursor <= RANGE_KEPT_CHANGES_MAX:
            beginning: tuple[int, Iterable[Batch]] = head, self._between(cursor, head)
        else:
            beginning = await self._long_beginning(cursor)
        # Here for names too: a sweep that began before the stream may have chosen what it names. And only now, since
        # the floor is raised in the moment removals are chosen: none after the cursor was dropped while others selected
        check_floor(self._store, cursor)
        return beginning

    async def _long_beginning(self, cursor: int | None) -> tuple[int, Iterable[Batch]]:
        found = await self._selected(cursor)
        while found.head < self._store.floor:  # removals of what it holds may be forgotten since
            found = await self._selected(cursor)
        head = self._store.head
        return head, itertools.chain(found, self._between(found.head, head) if head > found.head else ())

    async def _selected(self, cursor: int | None) -> SharedRange:
        """Return a range from the cursor on that is no older than this call, made by whoever was first to ask.

        Those who come while one is made wait for it, and make one more for all of them, if they need a newer one.
        """
        asked_at = self._store.head
        async with self._selecting:
            found = self._under_way.get((cursor, NEWEST))
            if found is None or found.head < asked_at:
                found = self._under_way[cursor, NEWEST] = await self._select(cursor, self._store.head)
            return found

    async def _select(self, cursor: int | None, head: int) -> SharedRange:
        entries = await self.filter.select_in_parts(self._store, cursor or 0, head)
        if cursor is None:
            entries = await self.filter.held_of(entries)
        return SharedRange(entries, head, self._cut)

    def _cut(self, part: Sequence[Entry], head: int) -> Batch:
        form, removal, holds = self._form, self._framing.removal, self.filter.holds
        part = next(parts_within(part, BATCH_CHANGES_MAX, self._weigh, FORMED_BYTES_TOGETHER))
        changes = [form(entry) if holds(entry) else removal(form(entry)) for entry in part]
        count = fitting(changes)
        part = part[:count]
        revision = part[-1].revision
        message = self._framing.message(changes[:count], revision=revision, head=head, digest=self.filter.digest)
        return Batch(revision, message, part)


def check_floor(store: Store, cursor: int) -> None:
    """Refuse to go on from a cursor below the floor: removals after it may be forgotten. Raises: ResumeTokenExpired.

    Whoever resumes is refused by it before anything else (`Hub.join`), again once the way back was selected, and a
    stream that is behind before each range that it takes; nothing else compares a cursor with the floor.
    """
    if cursor < store.floor:
        raise ResumeTokenExpired(requested=cursor, oldest=store.floor, current=store.head)


def fitting(changes: Sequence[bytes]) -> int:
    """Return how many of the first changes go into one message: at least one, however large it is."""
    if sum(map(len, changes)) <= CHANGES_BYTES_MAX:
        return len(changes)
    ends = itertools.accumulate(map(len, changes))
    return max(1, sum(end <= CHANGES_BYTES_MAX for end in ends))
