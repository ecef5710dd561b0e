"""Who watches what: the streams of each filter, found by the sources and the names that they ask for.

Owns the books: a filter's group is opened with its first stream and closed with its last. Wakes nobody and reads no
store; `rounds` asks whom an entry concerns, which costs a few lookups an entry, however many streams there are: one by
its name, one for each length of prefix that is watched of its source, of which no prefix is one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from assetwatchd.changefeed.batches import SharedChanges
from assetwatchd.runtime.slices import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from assetwatchd.changefeed.encoding import Framing
    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.changefeed.watcher import Watcher
    from assetwatchd.model.values import AssetKey, Entry

NAMES_TOGETHER = 1000
"""So many names of a filter that nobody watches any more are removed at a time: a fraction of a millisecond."""


class Group(SharedChanges):
    """All watchers of one filter, and the changes that they share."""

    def __init__(self, what: Filter, store: Store, framing: Framing) -> None:
        super().__init__(what, store, framing)
        self.watchers: set[Watcher] = set()


class Groups:
    """The groups of one hub. Iterates over them."""

    def __init__(self, store: Store, framing: Framing) -> None:
        self._store = store
        self._framing = framing
        self._by_digest: dict[bytes, Group] = {}
        self._by_prefix: dict[tuple[str, str], set[Group]] = {}
        self._lengths: dict[str, Counter[int]] = {}  # of the prefixes of each source, each with how many there are
        self._by_key: dict[AssetKey, Group | list[Group]] = {}
        self._closed: list[Group] = []
        self._closing = asyncio.Event()

    def __iter__(self) -> Iterator[Group]:
        """Each group that has a watcher."""
        return iter(self._by_digest.values())

    def watchers(self) -> Iterator[Watcher]:
        """Every watcher."""
        return (watcher for group in self for watcher in group.watchers)

    def whole_sources(self) -> frozenset[str]:
        """Return the sources that somebody watches as a whole."""
        return frozenset(self._lengths)

    def of(self, what: Filter) -> Group:
        """Return the group of a filter; it is opened if this is its first watcher."""
        return self._by_digest.get(what.digest) or self._open(what)

    def leave(self, watcher: Watcher) -> None:
        """Take a watcher off the books, and with the last of its group the group."""
        group = self._by_digest[watcher.changes.filter.digest]
        group.watchers.discard(watcher)
        if not group.watchers:
            self._close(group)

    def concerned(self, entries: Iterable[Entry]) -> set[Group]:
        """Return the groups that any of the entries is told to."""
        groups: set[Group] = set()
        for entry in entries:
            key = entry.key
            for length in self._lengths.get(key.source, ()):
                if (whole := self._by_prefix.get((key.source, key.asset_id[:length]))) is not None:
                    groups |= whole
            if (named := self._by_key.get(key)) is not None:
                groups.update(named if isinstance(named, list) else (named,))
        return groups

    async def run(self) -> None:
        """Remove the names of large filters whose last watcher has gone, NAMES_TOGETHER a turn of the loop.

        Its group is closed by then, so a stream that asks for the same meanwhile has a group, and names, of its own.
        """
        while True:
            await self._closing.wait()
            self._closing.clear()
            while self._closed:
                group = self._closed.pop()
                for part in parts_of(group.filter.keys, NAMES_TOGETHER):
                    self._unname(group, part)
                    await asyncio.sleep(0)

    def _open(self, what: Filter) -> Group:
        group = self._by_digest[what.digest] = Group(what, self._store, self._framing)
        for source in what.sources:
            self._add_whole(source, group)
        for key in what.keys:
            if (others := self._by_key.setdefault(key, group)) is not group:
                self._by_key[key] = _joined(others, group)
        return group

    def _close(self, group: Group) -> None:
        del self._by_digest[group.filter.digest]
        for source in group.filter.sources:
            self._remove_whole(source, group)
        if len(group.filter.keys) > NAMES_TOGETHER:
            self._closed.append(group)
            self._closing.set()
        else:
            self._unname(group, group.filter.keys)

    def _add_whole(self, source: str, group: Group) -> None:
        prefix = group.filter.prefix
        alike = self._by_prefix.setdefault((source, prefix), set())
        if not alike:
            self._lengths.setdefault(source, Counter())[len(prefix)] += 1
        alike.add(group)

    def _remove_whole(self, source: str, group: Group) -> None:
        prefix, lengths = group.filter.prefix, self._lengths[source]
        alike = self._by_prefix[source, prefix]
        alike.discard(group)
        if alike:
            return
        del self._by_prefix[source, prefix]
        lengths[len(prefix)] -= 1
        if not lengths[len(prefix)]:
            del lengths[len(prefix)]
        if not lengths:
            del self._lengths[source]

    def _unname(self, group: Group, keys: Iterable[AssetKey]) -> None:
        for key in keys:
            _remove(self._by_key, key, group)


def _joined(others: Group | list[Group], group: Group) -> list[Group]:
    """One more group names an asset. Mostly one does, and a list of one would cost more than all the rest of it."""
    if not isinstance(others, list):
        return [others, group]
    others.append(group)
    return others


def _remove(by_key: dict[AssetKey, Group | list[Group]], key: AssetKey, group: Group) -> None:
    match by_key[key]:
        case [one, other]:
            by_key[key] = other if one is group else one
        case list() as groups:
            groups.remove(group)
        case _:
            del by_key[key]
