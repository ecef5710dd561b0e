"""The hub: every open stream, a cursor each over the store, told of changes in rounds. It waits for none of them.

Owns who is registered, what is published and how it all ends. It must not know upstreams, sightings, protobuf or
clients; what it tells is what came out of the store, in the order of revisions.

A worked example. The store's head is 40. Streams A and B watch the source `dam`, stream C the source `usd`; all are
parked, in step with the hub's head 40, and hold nothing but that.

*One change's way to a stream.* `Pipeline` commits `dam/x` as revision 41 and calls `publish`, which sets an event. The
round that follows (`Rounds`) moves the hub's head to 41, finds the one group of `dam` by two lookups, notes that A and
B have fallen behind 40, and completes the wakeup of each. C is not touched: parked, it is in step with any head. A runs
first, asks its group for (40, 41], and has it selected and encoded; B asks for the same range and is given the very
bytes that A was. Each notes 41 as its cursor, gives the message to its consumer, and parks again.

*A slow subscriber.* B's client takes nothing for a while. B stands in its consumer's write, so it is not parked and a
round finds nothing to wake. Meanwhile revisions 42 to 90 are committed, and `dam/x` is among them again, as 77. None of
it is kept for B: an asset that changes moves to the end of the order, so all that B lacks is one suffix of the store.
When its write returns, B is behind, asks for (41, 90], and is told each asset once, `dam/x` as of 77. What changes
while it takes that is beyond 90, and is the next range. A, and every upstream, never noticed.

*A resume.* A's connection breaks at 77; its client comes back with a token that says 77. `join` looks whether the
store's floor is above that: removals up to the floor may be forgotten, and if one after 77 may be among them the client
is refused, as it could not be told. Else the stream is registered, and only then, `catch_up`, its way back is read,
(77, head of the store], removals included; a change in between finds it registered and behind. Once that was selected
the floor is looked at again. Then Synced says up to where that was, and live() goes on from there.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

from assetwatchd.changefeed.batches import check_floor
from assetwatchd.changefeed.groups import Groups
from assetwatchd.changefeed.hub_state import HubState
from assetwatchd.changefeed.rounds import Rounds
from assetwatchd.changefeed.watcher import Watcher
from assetwatchd.runtime import failpoints

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from assetwatchd.changefeed.encoding import Framing
    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.signals import Signal
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.errors import CallError
    from assetwatchd.model.values import Condition

JITTER = 0.1

T = TypeVar("T")


class Hub:
    """Owns every watcher."""

    def __init__(
        self,
        store: Store,
        framing: Framing,
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
        self._groups = Groups(store, framing)
        self._state = HubState(store, incomplete=incomplete)
        self._leave = self._groups.leave  # bound once for all of them
        self._rounds = Rounds(self._state, self._groups, worked_s)
        self._heartbeat_s = heartbeat_s
        self._stream_age_s = stream_age_s
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._ended = asyncio.Event()
        self.conditions = self._state.conditions

    @property
    def head(self) -> int:
        """The revision up to which everybody concerned was woken."""
        return self._state.head

    def publish(self) -> None:
        """Say that the store's head moved. Awaits nobody."""
        self._rounds.publish()

    async def reached(self, revision: int) -> None:
        """Return once the head is at least that revision."""
        await self._rounds.reached(revision)

    async def run(self) -> None:
        """Run rounds and heartbeats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._rounds.run(), name="hub.rounds")
            tasks.create_task(self._heartbeats(), name="hub.heartbeats")
            tasks.create_task(self._groups.run(), name="hub.closing")

    # Streams ---------------------------------------------------------------------------------------------------------

    async def join(self, what: Filter, cursor: int | None = None) -> Watcher:
        """Register a stream: it misses nothing from now on. Its steps are its own, see `Watcher`, which has to be left.

        Raises: ResumeTokenExpired when removals after the cursor may be forgotten.
        """
        await failpoints.hit("before_subscribe_register")
        if cursor is not None:
            check_floor(self._state.store, cursor)
        group = self._groups.of(what)  # from here on nothing is awaited until the watcher is in it
        watcher = Watcher(
            group,
            self._state,
            self._leave,
            cursor=cursor,
            ends_at=asyncio.get_running_loop().time() + self._jittered(self._stream_age_s),
            heartbeat_s=self._jittered(self._heartbeat_s),
        )
        group.watchers.add(watcher)
        self._state.joining = True
        return watcher

    async def watch(self, what: Filter, cursor: int | None = None) -> AsyncGenerator[Signal]:
        """Yield all that a stream is told, its three steps in one, for who has nothing to do between them.

        Raises: as its steps do, see `Watcher`.
        """
        with await self.join(what, cursor) as watcher:
            yield watcher.start()
            signal: Signal
            for signal in await watcher.catch_up():
                yield signal
            signal = watcher.synced()  # and no batch is held, perhaps a megabyte, for as long as the stream lasts
            yield signal
            async for signal in watcher.live():
                yield signal

    def watcher_count(self, source: str | None = None) -> int:
        """How many streams are open, or concern a source."""
        return sum(len(g.watchers) for g in self._groups if source is None or source in g.filter.watched_sources)

    # News and ends ---------------------------------------------------------------------------------------------------

    def tell(self, source: str, condition: Condition) -> None:
        """Say that a source's condition changed; each watcher of it is told once, at its next message."""
        self.conditions[source] = condition
        for group in self._groups:
            if source in group.filter.watched_sources:
                for watcher in group.watchers:
                    watcher.tell(source, condition)

    def end(self, why: Callable[[], CallError]) -> None:
        """Let every stream, now and later, end with a last bookmark and an error of its own."""
        self._state.ending = why
        self._ended.set()
        for watcher in self._groups.watchers():
            watcher.end()

    def end_open(self, why: Callable[[], CallError]) -> None:
        """Let every stream that is open now end, with a last bookmark and an error of its own; later ones go on."""
        for watcher in self._groups.watchers():
            watcher.end(why)

    async def before_end(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something that may take long; when `end` is called first, give it up and raise what that was given."""
        task, ended = asyncio.create_task(doing), asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
            if self._state.ending is not None and not task.done():
                raise self._state.ending()
            return task.result()
        finally:
            task.cancel()
            ended.cancel()

    # Heartbeats ------------------------------------------------------------------------------------------------------

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(min(self._heartbeat_s, self._stream_age_s) * JITTER / 2)
            self._beat(asyncio.get_running_loop().time())

    def _beat(self, now: float) -> None:
        """Look what is due by the time. Each source is asked once how complete it is, however many are watched."""
        lacking = frozenset(self._state.incomplete(self._groups.whole_sources()))
        for group in self._groups:
            incomplete = tuple(sorted(lacking & group.filter.sources)) if lacking else ()
            for watcher in group.watchers:
                watcher.beat(now, incomplete)

    def _jittered(self, span_s: float) -> float:
        return span_s * self._rng.uniform(1 - JITTER, 1 + JITTER / 2)
