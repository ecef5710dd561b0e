"""One open stream: where it is in the order of changes, and the three steps by which it takes them.

Owns the cursor of the stream, when it is due a bookmark, and what it was told last. It reads the store through
`SharedChanges` alone, and knows neither the other streams nor who wakes it. Its consumer (`rpc`) calls the steps in
their order, and may do whatever it likes between two of them:

    start()       Started. Nothing is read yet: the consumer may wait until the snapshot is worth taking.
    catch_up()    The snapshot, or what was missed, up to the store's head in that moment; then synced().
    live()        Whatever comes after that, for as long as the stream lasts.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, NoReturn, Self

from assetwatchd.changefeed.batches import check_floor
from assetwatchd.changefeed.pace import JOINING_S
from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, LiveSignal, Started, Synced
from assetwatchd.runtime import failpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.changefeed.batches import SharedChanges, SharedRange
    from assetwatchd.changefeed.hub_state import HubState
    from assetwatchd.model.errors import CallError
    from assetwatchd.model.values import Condition


class Watcher:
    """One open stream; a context manager, which ends it.

    wakeup: there while it is parked; whoever completes it wakes the stream. A parked stream is in step: it has been
    told everything up to the hub's head, or beyond, so its cursor is only set when it falls behind or is woken, and a
    round that does not concern it costs it nothing.
    """

    __slots__ = (
        "__weakref__",
        "_bookmark",
        "_bookmark_due",
        "_cursor",
        "_ends_at",
        "_from",
        "_handed_out",
        "_heartbeat_s",
        "_hub",
        "_in_step",
        "_incomplete",
        "_last",
        "_leave",
        "_loop",
        "_marked_at",
        "_news",
        "_over",
        "_owed",
        "_range",
        "_told_at",
        "_why",
        "changes",
        "wakeup",
    )

    def __init__(
        self,
        changes: SharedChanges,
        hub: HubState,
        leave: Callable[[Watcher], None],
        *,
        cursor: int | None,
        ends_at: float,
        heartbeat_s: float,
    ) -> None:
        """Make one that resumes after the cursor, if there is one, and is left by calling leave.

        Its heartbeat and its end are its own, jittered; ends_at: the loop's time.
        """
        self.changes = changes
        self.wakeup: asyncio.Future[None] | None = None
        self._hub = hub
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._from = cursor
        self._cursor = cursor or 0
        self._in_step = False
        self._news: dict[str, Condition] = {}  # conditions it has not been told of
        # bookmarks: when its last token was sent, and when it was last told how complete its map is, and what that was;
        # owed: it is otherwise now, which a bookmark is to say even if there are changes all the time
        self._heartbeat_s = heartbeat_s
        self._told_at = self._loop.time()
        self._marked_at = math.inf
        self._incomplete: tuple[str, ...] = ()
        self._bookmark_due = False
        self._owed = False
        # its end: at its age, or with its hub
        self._ends_at = ends_at
        self._over = hub.ending is not None
        self._why: Callable[[], CallError] | None = None
        # what live() is at: the rest of a range, the bookmark after it, whether that is the last, what was given last
        self._range: Iterator[Batch] = iter(())
        self._bookmark: Bookmark | None = None
        self._last = False
        self._handed_out: LiveSignal | None = None

    def __enter__(self) -> Self:
        """It is registered already."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nobody wakes it any more."""
        self._leave(self)

    # The steps -------------------------------------------------------------------------------------------------------

    def start(self) -> Started:
        """Step 1: return what it begins with; conditions that change from now on are told by live()."""
        self._news.clear()
        what = self.changes.filter
        return Started(self._hub.conditions_of(what.watched_sources), self._hub.incomplete(what.sources))

    async def catch_up(self) -> Iterable[Batch]:
        """Step 2: return the snapshot, or all that changed after the cursor, up to a head fixed here.

        That is the store's head, not the hub's: what the client holds when synced is what the store has by then. A
        later state may stand for an earlier one; at synced, and at each bookmark, the client's map is exact.
        Raises: ResumeTokenExpired when removals were dropped that it has not been told of.
        """
        head, batches = await self.changes.beginning(self._from)
        self._incomplete = self._hub.incomplete(self.changes.filter.sources)  # what comes to be known later is not in
        self._cursor = max(self._cursor, head)
        await failpoints.hit("after_log_read")
        return self._joining(batches)

    def synced(self) -> Synced:
        """Return the end of step 2, to be told after all of its batches."""
        return Synced(self._cursor, self._incomplete)

    def live(self) -> Self:
        """Step 3: iterate over whatever there is to tell as of now; Synced has been handed over.

        Ends by itself only when the stream reaches its age, after a last bookmark; raises what the hub was ended with,
        after one. That the next signal is asked for says that the one before was handed over.
        """
        self._note_handed_over(self.synced())
        return self

    def __aiter__(self) -> Self:
        """It is one stream, whoever iterates."""
        return self

    async def __anext__(self) -> LiveSignal:
        """Return the next signal; wait until there is one. Raises: ResumeTokenExpired; what the hub was ended with."""
        if (given := self._handed_out) is not None:
            self._handed_out = None  # it is held by nobody here while the stream is parked
            self._note_handed_over(given)
        while (signal := self._rest()) is None:
            if self._last:
                self._end()
            if self._caught_up():
                await self.park()
            self._look()
        self._handed_out = signal
        return signal

    # What the hub does to it -----------------------------------------------------------------------------------------

    def park(self) -> asyncio.Future[None]:
        """Return the future that the hub completes when there is something to tell; until then it is in step."""
        self._in_step = True
        self.wakeup = self._loop.create_future()
        return self.wakeup

    def fall_behind(self, cursor: int) -> bool:
        """Note that there is something after cursor for it; return whether it is parked and must be woken.

        Noted for all who are concerned before any is woken: one that something else wakes in between, a bookmark or
        news, must find that it is behind, or it would park again past the change.
        """
        if not self._in_step:
            return False
        self._in_step = False
        self._cursor = max(self._cursor, cursor)
        return True

    def wake(self) -> None:
        """Complete its wakeup, if it is parked."""
        wakeup, self.wakeup = self.wakeup, None
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)

    def interrupt(self) -> None:
        """Wake it for something that is no change; if it is in step, it has been told everything up to the head."""
        self.fall_behind(self._hub.head)
        self.wake()

    def tell(self, source: str, condition: Condition) -> None:
        """Have it told, once, that a source's condition changed; the latest, if there are several before that."""
        self._news[source] = condition
        self.interrupt()

    def beat(self, now: float, incomplete: tuple[str, ...]) -> None:
        """Look what is due by the time. incomplete: of which of its sources there may be more, as of now."""
        self._bookmark_due = self._bookmark_due or now >= self._told_at + self._heartbeat_s
        self._owed = incomplete != self._incomplete and now >= self._marked_at + self._heartbeat_s
        self._over = self._over or now >= self._ends_at
        if self._bookmark_due or self._owed or self._over:
            self.interrupt()

    def end(self, why: Callable[[], CallError] | None = None) -> None:
        """Have it end, after a last bookmark, with an error; that of its hub, if none is given."""
        self._over, self._why = True, why
        self.interrupt()

    # What is due -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Decide what is told next: all changes up to a head fixed here, and a bookmark if one is due, or the last.

        A bookmark is for all that is committed, published or not: what the store has replaced already, the hub's head
        does not show any more. A message with changes has a token too, and is as good as a bookmark that is merely due.
        """
        hub = self._hub
        batches: Sequence[Batch] | SharedRange = ()
        self._last = self._over
        must = self._last or self._owed
        marking = must or self._bookmark_due
        head = hub.store.head if marking else hub.head
        incomplete = hub.incomplete(self.changes.filter.sources) if marking else ()
        if self._cursor < head:
            if hub.may_lack_removals(self._cursor):
                check_floor(hub.store, self._cursor)
            batches = self.changes.changes_between(self._cursor, head)
            self._range, self._cursor = iter(batches), head
        if must or (marking and not batches):
            self._bookmark = Bookmark(self._cursor, incomplete)

    def _rest(self) -> LiveSignal | None:
        """Return what is left of what was decided, and then news, which are of no moment and wait for nothing."""
        for batch in self._range:
            return batch
        if (bookmark := self._bookmark) is not None:
            self._bookmark = None
            return bookmark
        if self._news and not self._last:
            news, self._news = self._news, {}
            return Conditions(news, self._cursor)
        return None

    def _caught_up(self) -> bool:
        """Whether there is nothing to tell it now."""
        return not (self._news or self._cursor < self._hub.head or self._over)

    def _end(self) -> NoReturn:
        if (why := self._hub.ending or self._why) is not None:
            raise why()
        raise StopAsyncIteration

    def _joining(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Have rounds leave time to a stream that begins, as long as it takes in quickly what it is told first."""
        until = self._loop.time() + JOINING_S
        for batch in batches:
            self._hub.joining = self._hub.joining or self._loop.time() < until
            yield batch

    # What it was told ------------------------------------------------------------------------------------------------

    def _note_handed_over(self, given: Synced | LiveSignal) -> None:
        """Count from now, when its consumer is back, and not from when that was given the signal: it may be slow.

        A message with a token puts off the next bookmark by a heartbeat. One that says how complete the map is puts off
        the next time that this is said.
        """
        if isinstance(given, Conditions):
            return
        self._bookmark_due = False
        self._told_at = self._loop.time()
        if not isinstance(given, Batch):
            self._incomplete, self._owed, self._marked_at = given.incomplete, False, self._told_at
