"""Keep one upstream stream connected for any number of subscribers, each connection a session of its own.

A session is a store with the latest item of each asset and a hub over it, as for WatchStatus. When the connection
breaks, its session stays to be read from; when it is back, a new session begins and every subscriber moves over to it.
The module owns the tries and the condition. It knows no messages: bytes are made by what `Parts` has.

An example, one frame's way to a subscriber. The stream is that of assets, and the user renames the asset a:

    Documents    takes the text off the WebSocket, at a pace       b'{"iterable": [{"id": "a", "name": "new", ...}]}'
    Frames       reads it, in a process beside if it is large      Frame([Item("a", gone=False, updated=12:00:01, ...)])
    Listener     holds it until the feed comes for it
    Doubted      passes it on (of one that nobody can read, it has all asked for)
    Intake.take  judges it: it is not older than what is known, the user saved the asset, and it is there: believed
    Session      has it encoded, sees by its digest that it is news, commits it: revision 7 of this session
    Hub          wakes the subscribers concerned in a round; all of them have the same bytes
    Feed.watch   yields Batch(revision 7), as the session is still the latest
    Streaming    (rpc/pieces) hands the bytes to gRPC

Were a gone so far, Intake would believe the item only if it is dated later than what is known. Else it may have come
late, and a is read (`Reads`): the answer takes the same way from Session on.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, Started, Synced
from assetwatchd.model.errors import (
    AnswerTooLarge,
    BadAnswer,
    CallError,
    Refused,
    ResumeEpochChanged,
    Unreachable,
    UpstreamError,
)
from assetwatchd.model.values import Condition, ConditionState
from assetwatchd.pieces.client.doubts import Doubted
from assetwatchd.pieces.client.frames import Frame
from assetwatchd.pieces.client.listener import read_ahead
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.pieces.feeds import snapshot
from assetwatchd.pieces.feeds.intake import Intake
from assetwatchd.pieces.feeds.reads import reading
from assetwatchd.pieces.feeds.session import Session
from assetwatchd.upstream import backoff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.pieces.client.api import PiecesApi
    from assetwatchd.pieces.feeds.session import Parts

NOT_CONNECTED = "not connected yet"
LACKING = "cannot be listed completely: {}"
FIRST_FRAME_WAIT_S = 2.0
"""An Assets stream that says nothing for so long does not begin with all assets."""

log = logging.getLogger(__name__)


class Begun(NamedTuple):
    """Tell that a snapshot begins, to replace what a subscriber holds. resync: the connection broke and is back."""

    resync: bool
    condition: Condition


Signal: TypeAlias = Begun | Batch | Synced | Bookmark | Conditions


class Feed:
    """One stream of one source. session: the latest whose snapshot was complete; before the first, an empty one."""

    def __init__(self, api: PiecesApi, stream: Stream, parts: Parts) -> None:
        self.session = Session(api.source, stream, parts, api.settings)
        self._complete = False
        self._api = api
        self._stream = stream
        self._parts = parts
        self._what = Filter(frozenset(), frozenset({api.source}), frozenset())
        self._condition = Condition(ConditionState.UNKNOWN, NOT_CONNECTED, parts.now())
        self._ending: Callable[[], CallError] | None = None
        self._by_ids = stream is Stream.IDENTIFIERS
        self._begins_with_all = True

    async def watch(self) -> AsyncGenerator[Signal]:
        """Yield a snapshot (Begun, Batch..., Synced) and what changes after it, again and again after each gap.

        Until there is a first one, only conditions and bookmarks. Ends as Hub.watch does.
        """
        resync = False
        while True:
            session, complete = self.session, self._complete
            try:
                async with aclosing(session.hub.watch(self._what)) as signals:
                    async for signal in signals:
                        if isinstance(signal, Started) and complete:
                            yield Begun(resync, self._condition)
                            resync = True
                        elif isinstance(signal, Started):
                            if self._condition.state is not ConditionState.UNKNOWN:
                                yield Conditions({self._api.source: self._condition}, session.hub.head)
                        # What an ended session has under way is not told: of the next one the subscriber begins anew.
                        elif session is self.session and (complete or not isinstance(signal, Synced)):
                            yield signal
            except ResumeEpochChanged:
                continue
            return

    def end(self, why: Callable[[], CallError]) -> None:
        """Let every subscriber, now and later, end with an error of its own."""
        self._ending = why
        self.session.hub.end(why)

    async def run(self) -> None:
        """Keep the stream connected until cancelled, with growing pauses between tries.

        They grow until a connection has lasted for backoff_max_s: each try costs the server a list of everything.
        """
        settings, loop = self._api.settings, asyncio.get_running_loop()
        failures = 0
        async with asyncio.TaskGroup() as tasks:
            rounds = Rounds(tasks, self.session.hub)
            while True:
                began = loop.time()
                error = (await self._broken(rounds)).with_traceback(None)  # it would keep the session that ended
                failures = 1 if loop.time() - began >= settings.backoff_max_s else failures + 1
                self._set_condition(_state(error), str(error))
                pause_s = backoff.backoff_s(failures, settings, self._parts.rng)
                await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))

    async def _broken(self, rounds: Rounds) -> UpstreamError:
        """Connect, and take in what comes; return why it ended."""
        try:
            await self._follow(rounds)
        except AnswerTooLarge as error:
            if not self._by_ids:
                log.warning(
                    "source %s: stream %s: %s; its assets are read", self._api.source, self._stream.value, error
                )
            self._by_ids = True
            return error
        except UpstreamError as error:
            return error
        except CallError as error:  # the list that goes with the stream was refused
            return BadAnswer(f"{error}: {error.metadata.get('text', '')}")
        except Exception:  # a defect here must not end the stream for good
            log.exception("source %s: stream %s failed", self._api.source, self._stream.value)
            return BadAnswer("the stream failed; see the log")
        return Unreachable("the stream was closed")

    async def _follow(self, rounds: Rounds) -> None:
        session = Session(self._api.source, self._stream, self._parts, self._api.settings)
        by_ids = self._by_ids and self._stream is not Stream.IDENTIFIERS
        intake = Intake(session, self._api, self._stream, by_ids=by_ids, rng=self._parts.rng)
        async with self._opened() as news, reading(intake.reads):
            await self._fill(intake, news)
            self._begin(session, rounds, intake.lacking)
            async for frame in Doubted(news):
                if frame is None:
                    await snapshot.anew(self._api, self._stream, intake)
                    self._connected(intake.lacking)
                else:
                    await intake.take(frame.items)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[AsyncIterator[Frame]]:
        """Connect to the stream, or, when its frames are too large for us, to that of the ids."""
        if self._by_ids:
            async with self._api.server.identifiers.listen() as listener:
                yield listener
        else:
            async with read_ahead(self._api.server.connect(self._stream), self._stream) as listener:
                yield listener

    async def _fill(self, intake: Intake, news: AsyncIterator[Frame]) -> None:
        """Take in what there is now, with the stream open, so that nothing is missed in between."""
        if self._stream is Stream.IDENTIFIERS:
            await snapshot.of_identifiers(self._api, intake, await anext(news))
            return
        if self._by_ids:
            await anext(news)  # from here on every change is heard of
        asset_ids = await snapshot.listed(self._api, intake)
        wait = asset_ids and self._begins_with_all and not self._by_ids
        first = await self._first(news) if wait else Frame([])
        await snapshot.of_assets(self._api, self._stream, intake, asset_ids, first)

    async def _first(self, news: AsyncIterator[Frame]) -> Frame:
        """Return the first frame of an Assets stream; an empty one when it does not begin with any."""
        try:
            async with asyncio.timeout(min(FIRST_FRAME_WAIT_S, self._api.settings.first_frame_timeout_s)):
                return await anext(news)
        except TimeoutError:
            self._begins_with_all = False
            return Frame([])

    def _begin(self, session: Session, rounds: Rounds, lacking: str) -> None:
        """Begin a session, and move every subscriber over to it.

        In this order: who is woken by the end of the session before looks for the next, which must be there and run.
        """
        before, self.session, self._complete = self.session, session, True
        self._connected(lacking)
        rounds.move_to(session.hub)
        before.hub.end(lambda: ResumeEpochChanged("the upstream connection is a new one"))
        if self._ending is not None:
            session.hub.end(self._ending)

    def _connected(self, lacking: str) -> None:
        """Tell that there is a connection, and what its list lacks."""
        if lacking:
            self._set_condition(ConditionState.DEGRADED, LACKING.format(lacking))
        else:
            self._set_condition(ConditionState.HEALTHY, "")

    def _set_condition(self, state: ConditionState, message: str) -> None:
        """Tell the subscribers how the connection is doing, if that is news."""
        before = self._condition
        if (state, message) == (before.state, before.message):
            return
        now = self._parts.now()
        since = before.since if before.state is state else now
        success_at = now if state is ConditionState.HEALTHY else before.last_success_at
        self._condition = Condition(state, message, since, success_at)
        self.session.hub.tell(self._api.source, self._condition)


class Rounds:
    """Run the hub of the session there is, in a task of its own."""

    def __init__(self, tasks: asyncio.TaskGroup, hub: Hub) -> None:
        self._tasks = tasks
        self._task = tasks.create_task(letting_go(hub.run))

    def move_to(self, hub: Hub) -> None:
        """Run this hub from now on."""
        self._task.cancel()
        self._task = self._tasks.create_task(letting_go(hub.run))


async def letting_go(run: Callable[[], Awaitable[None]]) -> None:
    """Run until cancelled, and let go of it all then: a task group's frame holds the error that holds that frame."""
    try:
        await run()
    except asyncio.CancelledError as ended:
        ended.__traceback__ = None
        raise


def _state(error: UpstreamError) -> ConditionState:
    if isinstance(error, Refused):
        return ConditionState.REFUSED
    return ConditionState.UNREACHABLE if isinstance(error, Unreachable) else ConditionState.DEGRADED
