"""Watchers: cursors over the store, woken in paced rounds. It waits for none of them.

A round fixes its head: every watcher in step drains exactly (head before, head], so all with one filter send the same
bytes. A watcher that was busy meanwhile drains its own suffix up to the newest head, later. Nothing is queued.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.batches import WHOLE, Batch, Drains, Frame
from assetwatchd.runtime import failpoints
from assetwatchd.runtime.slices import parts_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.errors import CallError
    from assetwatchd.model.values import AssetKey, Condition, Entry

__all__ = ["Batch", "Bookmark", "Conditions", "Frame", "Hub", "Signal", "Started", "Synced", "Watcher"]

WOKEN_TOGETHER = 64
"""Watchers woken at one go, some milliseconds: all that they write is on its way before any of it is booked."""
WOKEN_JOINING = 8
"""The same while streams begin: each of the many steps of a new one waits for those woken before it."""
ROUND_PAUSE_S = 0.002
"""The least time between two rounds, so that changes of one moment travel together."""
ROUND_SPREAD = 1.25
"""From round to round it takes this many times what the last one cost: a fifth is left for everything else."""
ROUND_S_MAX = 0.15
"""The longest from round to round while there is something to tell."""
ROUND_JOINING_SPREAD = 2.0
ROUND_JOINING_S_MAX = 1.0
"""The same while streams begin: rounds that fill the whole time would let gRPC take hardly a new one."""
JOINING_S = 1.0
"""So long a stream is taken to begin while it catches up: a slow client is nothing that rounds need wait for."""
NAMES_TOGETHER = 1000
"""So many names of a filter that nobody watches any more are removed at a time: a fraction of a millisecond."""
JITTER = 0.1


class Started(NamedTuple):
    """The stream is open: from here on every change of these conditions is told.

    incomplete: the sources asked for as a whole of which there may be more than is known.
    """

    conditions: Mapping[str, Condition]
    incomplete: tuple[str, ...] = ()


class Synced(NamedTuple):
    """The client's map is complete as of this revision, but for these sources, of which there may be more."""

    revision: int
    incomplete: tuple[str, ...] = ()


class Bookmark(NamedTuple):
    """Nothing to tell up to this revision; incomplete as of Synced."""

    revision: int
    incomplete: tuple[str, ...] = ()


class Conditions(NamedTuple):
    """Sources whose condition changed; told once there was nothing else to tell up to this revision."""

    by_source: Mapping[str, Condition]
    revision: int


Signal: TypeAlias = Started | Batch | Synced | Bookmark | Conditions


T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Watcher:
    """One open stream.

    bell hangs while it is parked. A parked watcher is in step: it has been told everything up to the hub's head, or
    beyond, so its cursor is only set when it falls behind or is woken, and a round that does not concern it costs it
    nothing. heartbeat_s is its own, jittered; told_at: when its last token was sent, loop time; aged: it has lasted
    until ends_at; news: conditions it has not been told of. incomplete: as it was last told, at marked_at; owed: it is
    not so any more, which a bookmark is to say even if there are changes all the time.
    """

    group: Group
    ends_at: float
    heartbeat_s: float
    told_at: float
    cursor: int = 0
    bell: asyncio.Future[None] | None = None
    in_step: bool = False
    bookmark_due: bool = False
    aged: bool = False
    news: dict[str, Condition] = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    marked_at: float = math.inf
    owed: bool = False

    def park(self) -> asyncio.Future[None]:
        """Hang up the bell, being in step."""
        self.in_step = True
        self.bell = asyncio.get_running_loop().create_future()
        return self.bell

    def fall_behind(self, cursor: int) -> bool:
        """Note that there is something after cursor for it; return whether it is parked and must be woken."""
        if not self.in_step:
            return False
        self.in_step = False
        self.cursor = max(self.cursor, cursor)
        return True

    def wake(self) -> None:
        """Ring its bell and take it down, if it is parked."""
        bell, self.bell = self.bell, None
        if bell is not None and not bell.done():
            bell.set_result(None)

    def ring(self, cursor: int) -> None:
        """Wake it; if it is in step, it has been told everything up to cursor, at least."""
        self.fall_behind(cursor)
        self.wake()


class Group(Drains):
    """All watchers of one filter, and the drains they share."""

    def __init__(self, what: Filter, store: Store, frame: Frame) -> None:
        super().__init__(what, store, frame)
        self.watchers: set[Watcher] = set()


class Hub:
    """Owns every watcher. Only its own task moves its head."""

    def __init__(
        self,
        store: Store,
        frame: Frame,
        *,
        heartbeat_s: float,
        stream_age_s: float = 1800.0,
        rng: random.Random | None = None,
        incomplete: Callable[[frozenset[str]], tuple[str, ...]] = lambda _: (),
        worked_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """Incomplete tells of which of some sources there may be more than is in the store.

        worked_s tells how long this thread has worked, to pace the rounds by; a test in virtual time has its own.
        """
        self.head = store.head
        self.conditions: dict[str, Condition] = {}
        self._store = store
        self._frame = frame
        self._heartbeat_s = heartbeat_s
        self._stream_age_s = stream_age_s
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._incomplete = incomplete
        self._worked_s = worked_s
        self._groups: dict[bytes, Group] = {}
        self._by_source: dict[str, set[Group]] = {}
        self._by_key: dict[AssetKey, Group | list[Group]] = {}
        self._closed: list[Group] = []
        self._closing = asyncio.Event()
        self._published = asyncio.Event()
        self._moved = asyncio.Event()
        self._newcomers = False
        self._ending: Callable[[], CallError] | None = None
        self._ended = asyncio.Event()

    def publish(self) -> None:
        """Say that the store's head moved. Awaits nobody."""
        self._published.set()

    def tell(self, source: str, condition: Condition) -> None:
        """Say that a source's condition changed; each watcher of it is told once, at its next message."""
        self.conditions[source] = condition
        for group in self._groups.values():
            if source in group.filter.watched_sources:
                for watcher in group.watchers:
                    watcher.news[source] = condition
                    watcher.ring(self.head)

    def end(self, why: Callable[[], CallError]) -> None:
        """Let every stream, now and later, end with a last bookmark and an error of its own."""
        self._ending = why
        self._ended.set()
        for watcher in self._watchers():
            watcher.ring(self.head)

    def watcher_count(self, source: str | None = None) -> int:
        """How many streams are open, or concern a source."""
        groups = self._groups.values()
        return sum(len(g.watchers) for g in groups if source is None or source in g.filter.watched_sources)

    async def run(self) -> None:
        """Run rounds and heartbeats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._rounds(), name="hub.rounds")
            tasks.create_task(self._heartbeats(), name="hub.heartbeats")
            tasks.create_task(self._unname_closed(), name="hub.closing")

    async def watch(self, what: Filter, cursor: int | None = None) -> AsyncGenerator[Signal]:
        """Yield Started, the snapshot (without a cursor) or all that changed after it, Synced, then what changes.

        The snapshot is taken when Started has been taken in. Ends by itself only when the stream reaches its age,
        with a last bookmark; raises what `end` was given, after one. Before Synced, and between two bookmarks, a later
        state may stand for an earlier one; as of a Synced or a Bookmark the client's map is exact.
        Raises: ResumeTokenExpired when removals were dropped that it has not been told of.
        """
        await failpoints.hit("before_subscribe_register")
        watcher = self._join(what)  # registered first, read second: no gap between
        try:
            if cursor is not None:
                resume_token.check_floor(cursor, self._store)
            signal: Signal = Started(self._conditions(what), self._incomplete(what.sources))
            yield signal
            # up to the store's head, not the hub's: what the client holds when synced is what the store has by then
            head, batches = await self._beginning(watcher.group, cursor)
            incomplete = self._incomplete(what.sources)  # as of head: what came to be known after it is not in the map
            await failpoints.hit("after_log_read")
            for signal in self._joining(batches):
                yield signal
            del batches  # a megabyte, perhaps, and the stream lasts long
            watcher.cursor = head if cursor is None else max(cursor, head)
            signal = Synced(watcher.cursor, incomplete)
            yield signal
            self._marked(watcher, incomplete)
            over = False
            while not over:
                over = self._over(watcher)
                for signal in self._due(watcher, over=over):
                    yield signal
                if self._told(watcher):
                    await watcher.park()
        finally:
            self._leave(watcher)
        if self._ending is not None:
            raise self._ending()

    async def reached(self, revision: int) -> None:
        """Return once the head is at least that revision."""
        while self.head < revision:
            await self._moved.wait()

    async def before_end(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something that may take long; when `end` is called first, give it up and raise what that was given."""
        task, ended = asyncio.create_task(doing), asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
            if self._ending is not None and not task.done():
                raise self._ending()
            return task.result()
        finally:
            task.cancel()
            ended.cancel()

    def _conditions(self, what: Filter) -> dict[str, Condition]:
        return {source: self.conditions[source] for source in what.watched_sources & self.conditions.keys()}

    def _joining(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Have rounds leave time to a stream that begins, as long as it takes in quickly what it is told first."""
        until = asyncio.get_running_loop().time() + JOINING_S
        for batch in batches:
            self._newcomers = self._newcomers or asyncio.get_running_loop().time() < until
            yield batch

    def _due(self, watcher: Watcher, *, over: bool) -> Iterator[Signal]:
        """What the watcher has not been told yet: one drain, a bookmark if it is time for one or the last, news.

        A bookmark is for all that is committed, published or not: what the store has replaced already, the hub's head
        does not show any more. Removals that a whole source's watcher needs may be gone, those of named assets are kept
        while it is open. Raises: ResumeTokenExpired.
        """
        owed = watcher.owed
        marking = over or owed or watcher.bookmark_due
        head = self._store.head if marking else self.head
        incomplete = self._incomplete(watcher.group.filter.sources) if marking else ()
        if watcher.cursor < head:
            if watcher.group.filter.sources:
                resume_token.check_floor(watcher.cursor, self._store)
            for batch in watcher.group.drain(watcher.cursor, head):
                yield batch
                self._hush(watcher)
            watcher.cursor = head
        if over or owed or watcher.bookmark_due:
            yield Bookmark(watcher.cursor, incomplete)
            self._marked(watcher, incomplete)
        if watcher.news and not over:
            news, watcher.news = watcher.news, {}
            yield Conditions(news, watcher.cursor)

    async def _beginning(self, group: Group, cursor: int | None) -> tuple[int, Iterable[Batch]]:
        """The snapshot, or what was missed: a sweep that began before the stream may have dropped named assets too."""
        if cursor is None:
            return await group.beginning(WHOLE)
        beginning = await group.beginning(cursor)
        resume_token.check_floor(cursor, self._store)
        return beginning

    def _told(self, watcher: Watcher) -> bool:
        """Whether there is nothing to tell it now."""
        return not (watcher.news or watcher.cursor < self.head or self._over(watcher))

    def _hush(self, watcher: Watcher) -> None:
        """A message with a token went out: the next bookmark is a heartbeat away."""
        watcher.bookmark_due = False
        watcher.told_at = asyncio.get_running_loop().time()

    def _marked(self, watcher: Watcher, incomplete: tuple[str, ...]) -> None:
        """It was told how complete its map is: the next time is a heartbeat away at the earliest."""
        self._hush(watcher)
        watcher.incomplete, watcher.owed, watcher.marked_at = incomplete, False, watcher.told_at

    def _over(self, watcher: Watcher) -> bool:
        return watcher.aged or self._ending is not None

    def _jittered(self, span_s: float) -> float:
        return span_s * self._rng.uniform(1 - JITTER, 1 + JITTER / 2)

    def _join(self, what: Filter) -> Watcher:
        group = self._groups.get(what.digest) or self._open(what)
        now = asyncio.get_running_loop().time()
        ends_at = now + self._jittered(self._stream_age_s)
        watcher = Watcher(group, ends_at, heartbeat_s=self._jittered(self._heartbeat_s), told_at=now)
        group.watchers.add(watcher)
        self._newcomers = True
        return watcher

    def _leave(self, watcher: Watcher) -> None:
        group = watcher.group
        group.watchers.discard(watcher)
        if not group.watchers:
            self._close(group)

    def _open(self, what: Filter) -> Group:
        group = self._groups[what.digest] = Group(what, self._store, self._frame)
        for source in what.sources:
            self._by_source.setdefault(source, set()).add(group)
        for key in what.keys:
            if (others := self._by_key.setdefault(key, group)) is not group:
                self._by_key[key] = _joined(others, group)
        return group

    def _close(self, group: Group) -> None:
        del self._groups[group.filter.digest]
        for source in group.filter.sources:
            self._by_source[source].discard(group)
            if not self._by_source[source]:
                del self._by_source[source]
        if len(group.filter.keys) > NAMES_TOGETHER:
            self._closed.append(group)
            self._closing.set()
        else:
            self._unname(group, group.filter.keys)

    def _unname(self, group: Group, keys: Iterable[AssetKey]) -> None:
        for key in keys:
            _remove(self._by_key, key, group)

    async def _unname_closed(self) -> None:
        """Remove the names of large filters whose last watcher has gone, NAMES_TOGETHER a turn of the loop."""
        while True:
            await self._closing.wait()
            self._closing.clear()
            while self._closed:
                await self._unname_in_parts(self._closed.pop())

    async def _unname_in_parts(self, group: Group) -> None:
        for part in parts_of(group.filter.keys, NAMES_TOGETHER):
            self._unname(group, part)
            await asyncio.sleep(0)

    def _watchers(self) -> Iterator[Watcher]:
        return (watcher for group in self._groups.values() for watcher in group.watchers)

    async def _rounds(self) -> None:
        """Run a round when something was published, and leave a share of the time to everything else.

        What a round costs shows only while its watchers write, so the thread's own time is read until it is no more
        than its share of the time that passed, or the next round is due whatever it costs.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._published.wait()
            self._published.clear()
            began, worked_s, self._newcomers = loop.time(), self._worked_s(), False
            await self._wake(self._round())
            pause_s = ROUND_PAUSE_S
            while pause_s > 0:
                await asyncio.sleep(pause_s)
                spread, longest_s = ROUND_SPREAD, ROUND_S_MAX
                if self._newcomers:
                    spread, longest_s = ROUND_JOINING_SPREAD, ROUND_JOINING_S_MAX
                pause_s = began + min(spread * (self._worked_s() - worked_s), longest_s) - loop.time()

    def _round(self) -> list[Watcher]:
        """Move the head; return the parked watchers that are behind now."""
        before, self.head = self.head, self._store.head
        self._moved.set()
        self._moved = asyncio.Event()
        if before < self._store.floor:  # removals may be gone already; each drain sees whether its own are
            concerned = set(self._groups.values())
        else:
            concerned = self._concerned(self._store.after(before, self.head))
        return [watcher for group in concerned for watcher in group.watchers if watcher.fall_behind(before)]

    async def _wake(self, watchers: Sequence[Watcher]) -> None:
        """Wake some, then let everybody else run: gRPC takes one new call each time around the loop."""
        start = 0
        while start < len(watchers):
            end = start + (WOKEN_JOINING if self._newcomers else WOKEN_TOGETHER)
            for watcher in watchers[start:end]:
                watcher.wake()
            await asyncio.sleep(0)
            start = end

    def _concerned(self, entries: Iterable[Entry]) -> set[Group]:
        groups: set[Group] = set()
        for entry in entries:
            key = entry.key
            if (whole := self._by_source.get(key.source)) is not None:
                groups |= whole
            if (named := self._by_key.get(key)) is not None:
                groups.update(named if isinstance(named, list) else (named,))
        return groups

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(min(self._heartbeat_s, self._stream_age_s) * JITTER / 2)
            self._beat(asyncio.get_running_loop().time())

    def _beat(self, now: float) -> None:
        """Look what is due by the time. Each source is asked once how complete it is, however many are watched."""
        lacking = frozenset(self._incomplete(frozenset(self._by_source)))
        for group in self._groups.values():
            incomplete = tuple(sorted(lacking & group.filter.sources)) if lacking else ()
            for watcher in group.watchers:
                watcher.bookmark_due = watcher.bookmark_due or now >= watcher.told_at + watcher.heartbeat_s
                watcher.owed = incomplete != watcher.incomplete and now >= watcher.marked_at + watcher.heartbeat_s
                watcher.aged = now >= watcher.ends_at
                if watcher.bookmark_due or watcher.owed or watcher.aged:
                    watcher.ring(self.head)


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
