"""What watchers with one filter are sent: encoded changes joined to messages, once for all who ask for the same."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.filters import Filter
    from assetwatchd.model import Entry
    from assetwatchd.store import Store

BATCH_CHANGES_MAX = 100
MESSAGE_BYTES_MAX = 64 * 1024
BATCH_BYTES_MAX = MESSAGE_BYTES_MAX - 128
"""What changes may take of a message: the rest is for its token and head."""
DRAINS_SHARED = 8
"""Drains a group keeps for others that ask for the same; a round needs one, stragglers a few."""
DRAIN_SHARED_CHANGES_MAX = 2000
"""A longer drain is somebody's way back from far behind, not a round."""

T = TypeVar("T")


class Batch(NamedTuple):
    """Changes up to a revision, as one encoded message for all watchers with the filter."""

    revision: int
    message: bytes
    entries: Sequence[Entry]


Frame: TypeAlias = "Callable[[Sequence[bytes], int, int, bytes], bytes]"
"""(changes, revision, head, filter digest) -> one message."""


class Shared(list[T]):
    """What several watchers are sent; a list that can be referred to weakly."""

    __slots__ = ("__weakref__",)


class Drains:
    """The drains and snapshots of one filter."""

    def __init__(self, what: Filter, store: Store, frame: Frame) -> None:
        self.filter = what
        self._store = store
        self._frame = frame
        self._drains: OrderedDict[tuple[int, int], Sequence[Batch]] = OrderedDict()
        self._snapshots: WeakValueDictionary[int, Shared[Batch]] = WeakValueDictionary()
        self._held: WeakValueDictionary[int, Shared[Entry]] = WeakValueDictionary()

    def drain(self, cursor: int, head: int) -> Iterable[Batch]:
        """Return what changed with cursor < revision <= head, removals too; shared by those who ask alike.

        A long one is not kept: it is frozen for one watcher, and encoded as that one takes it.
        """
        if (drain := self._drains.get((cursor, head))) is not None:
            return drain
        entries = self.filter.select(self._store, cursor, head)
        if len(entries) > DRAIN_SHARED_CHANGES_MAX:
            return self._batches(entries, head)
        drain = self._drains[cursor, head] = list(self._batches(entries, head))
        if len(self._drains) > DRAINS_SHARED:
            self._drains.popitem(last=False)
        return drain

    def snapshot(self, head: int) -> Iterable[Batch]:
        """Return what the client's map shall hold as of head; kept only by those who begin together.

        A long one is frozen for them once, and encoded by each as it is taken.
        """
        if (batches := self._snapshots.get(head)) is not None:
            return batches
        if (held := self._held.get(head)) is None:
            selected = self.filter.select(self._store, 0, head)
            held = self._held[head] = Shared(entry for entry in selected if self.filter.holds(entry))
        if len(held) > DRAIN_SHARED_CHANGES_MAX:
            return self._batches(held, head)
        batches = self._snapshots[head] = Shared(self._batches(held, head))
        return batches

    def _batches(self, entries: Sequence[Entry], head: int) -> Iterator[Batch]:
        start = 0
        while start < len(entries):
            part = entries[start : start + BATCH_CHANGES_MAX]
            changes = [entry.upsert if self.filter.holds(entry) else removal(entry.upsert) for entry in part]
            count = fitting(changes)
            part = part[:count]
            revision = part[-1].revision
            yield Batch(revision, self._frame(changes[:count], revision, head, self.filter.digest), part)
            start += count


def removal(upsert: bytes) -> bytes:
    """Turn an encoded UPSERT into the REMOVED of the same status: the kind is the last byte."""
    return upsert[:-1] + b"\x02"


def fitting(changes: Sequence[bytes]) -> int:
    """Return how many of the first changes go into one message: at least one, however large it is."""
    if sum(map(len, changes)) <= BATCH_BYTES_MAX:
        return len(changes)
    ends = itertools.accumulate(map(len, changes))
    return max(1, sum(end <= BATCH_BYTES_MAX for end in ends))
