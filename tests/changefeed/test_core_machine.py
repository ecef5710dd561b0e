"""Store, hub and tokens under any order of events, in virtual time, against a model that keeps every commit for ever.

Commit and publish are separate steps. The invariants I1 to I9 are those of support/watch_model.py.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, Signal, Started, Synced
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import ResumeEpochChanged, ResumeTokenExpired, ServerDraining
from assetwatchd.model.values import GONE, AssetKey, Condition, ConditionState, State
from support.entries import FRAMING, draft, read
from support.examples import bounded
from support.hub_client import Client
from support.resuming import resumed_from
from support.virtual_time import VirtualTimeLoop
from support.watch_model import CHANGES, FILTERS, Reading, Token, Truth

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from assetwatchd.changefeed.filters import Filter

pytestmark = pytest.mark.unit

T = TypeVar("T")

HEARTBEAT_S, STREAM_AGE_S = 5.0, 60.0


class HaltingStore(MemoryStore):
    """One whose disk takes as long as it is told to, between choosing removals and dropping them."""

    def __init__(self) -> None:
        super().__init__(now=lambda: float(self.head + 1))  # as Truth.sweep counts age
        self.written = asyncio.Event()
        self.written.set()

    async def _forget(self, revisions: Sequence[int], *, floor: int) -> None:
        await self.written.wait()
        await super()._forget(revisions, floor=floor)


class Session(Client):
    """A client of the hub that checks whatever it takes."""

    def __init__(self, truth: Truth, hub: Hub, what: Filter, token: Token | None = None) -> None:
        super().__init__(hub, what, token and token.revision, permits=0)
        self.reading = Reading(truth, what, token)
        self.conditions: dict[str, Condition] = {}

    @property
    def tokens(self) -> list[Token]:
        """Every token it was given."""
        return self.reading.tokens

    def take(self, signal: Signal) -> None:
        """Check one signal, then take it in."""
        assert isinstance(signal, Started) == (not self.taken)
        match signal:
            case Started(conditions) | Conditions(conditions):
                assert conditions.keys() <= self.what.watched_sources
                self.conditions.update(conditions)
            case Batch(revision, message, _):
                self.reading.told(read(message).changes, revision)
            case Synced(revision) | Bookmark(revision):
                self.reading.marked(revision, bookmark=isinstance(signal, Bookmark))
        super().take(signal)


class CoreMachine(RuleBasedStateMachine):
    """Clients that open, stall, read, go and resume, over changes, removals, sweeps and restarts."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        asyncio.set_event_loop(self.loop)
        self.sweeping: asyncio.Task[None] | None = None
        self._open_store()
        self.sessions: list[Session] = []
        self.conditions: dict[str, Condition] = {}
        self.run(self._start_hub())

    def run(self, what: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
        """Run until that is done."""
        return self.loop.run_until_complete(what)

    @rule(what=st.lists(CHANGES, min_size=1, max_size=4), published=st.booleans())
    def change(self, what: list[tuple[str, State, bool]], *, published: bool) -> None:
        """Commit some changes; nobody is told before they are published."""
        store = self.truth.store
        at = float(store.head + 1)
        drafts = [
            draft(name, state, gone=state in GONE or (forgotten and state is State.AVAILABLE), at=at, pad_bytes=1)
            for name, state, forgotten in what
        ]
        self.truth.took(self.run(store.commit(drafts)))
        if published:
            self.hub.publish()

    @rule()
    def publish(self) -> None:
        """Publish what was committed."""
        self.hub.publish()

    @rule(what=FILTERS, flowing=st.booleans())
    def open(self, what: Filter, *, flowing: bool) -> None:
        """Open a stream, which reads all there is, or nothing yet."""
        self._open(what, flowing=flowing)

    @rule(token=tokens, flowing=st.booleans())
    def resume(self, token: Token, *, flowing: bool) -> None:
        """Open a stream with any token ever issued: it is taken, or refused for the one reason there is."""
        try:
            cursor = resumed_from(token.text, digest=token.what.digest, store=self.truth.store)
        except ResumeEpochChanged:
            assert token.epoch != self.truth.store.epoch
        except ResumeTokenExpired:
            assert token.revision < max(self.truth.dropped)
        else:
            assert token.epoch == self.truth.store.epoch
            assert cursor == token.revision >= max(self.truth.dropped, default=0)  # I7
            if cursor > self.hub.head:
                self.hub.publish()
                self.run(self.hub.reached(cursor))
            self._open(token.what, token, flowing=flowing)

    @precondition(lambda self: self.sessions)
    @rule(target=tokens, data=st.data(), count=st.integers(1, 4))
    def read(self, data: st.DataObject, count: int) -> Any:
        """Let one client take some signals; it hands out the tokens it got."""
        session = data.draw(st.sampled_from(self.sessions))
        before = len(session.tokens)
        session.allow(count)
        self.run(asyncio.sleep(0.01))
        return multiple(*session.tokens[before:])

    @precondition(lambda self: self.sessions)
    @rule(target=tokens, data=st.data(), what=st.sampled_from(["stall", "cancel"]))
    def stall_or_cancel(self, data: st.DataObject, what: str) -> Any:
        """Let one client read nothing more, or hang up; it hands out its newest token."""
        session = data.draw(st.sampled_from(self.sessions))
        if what == "stall":
            session.stall()
        else:
            self.run(session.cancel())
            self._reap()
        return multiple(*session.tokens[-1:])

    @precondition(lambda self: self.sweeping is None)
    @rule(share=st.sampled_from([0.5, 1.0]), halting=st.booleans())
    def sweep(self, share: float, *, halting: bool) -> None:
        """Drop the older removals, save those of assets that somebody names; or choose them, and drop them later."""
        named = frozenset[AssetKey]().union(*[session.what.keys for session in self.sessions])
        self.store.written.clear()
        self.sweeping = self.loop.create_task(self.truth.sweep(share, named))
        self.run(asyncio.sleep(0))
        if not halting:
            self.drop()

    @precondition(lambda self: self.sweeping is not None)
    @rule()
    def drop(self) -> None:
        """Drop what was chosen."""
        if self.sweeping is not None:
            self.store.written.set()
            self.run(self.sweeping)
            self.sweeping = None

    @rule(span_s=st.sampled_from([0.0, 0.01, 6.0]))
    def tick(self, span_s: float) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(span_s))

    @rule(source=st.sampled_from(["dam", "usd"]), state=st.sampled_from(ConditionState))
    def tell(self, source: str, state: ConditionState) -> None:
        """Change how a source is doing: no change of any asset."""
        self.conditions[source] = Condition(state, "", since=self.loop.time())
        self.hub.tell(source, self.conditions[source])

    @rule(target=tokens)
    def quiesce(self) -> Any:
        """Let everybody read all there is: every map is the truth, and everybody's newest token is accepted."""
        for session in self.sessions:
            session.allow(None)
        self.hub.publish()
        self.run(asyncio.sleep(1.2 * HEARTBEAT_S))
        self._reap()
        assert self.hub.head == self.truth.store.head
        for session in self.sessions:
            self.truth.check(session.reading.map, session.what, self.truth.store.head)  # I4
            newest = session.tokens[-1]
            assert newest.revision == self.truth.store.head
            again = resumed_from(newest.text, digest=session.what.digest, store=self.truth.store)
            assert again == newest.revision  # I7
            told = {source: self.conditions[source] for source in self.conditions.keys() & session.what.watched_sources}
            assert session.conditions == told
        return multiple(*[session.tokens[-1] for session in self.sessions])

    @precondition(lambda self: len(self.sessions) > 1)
    @rule(target=tokens)
    def restart(self) -> Any:
        """End the hub, let everybody read its last words, and start another over the same store."""
        self.hub.end(lambda: ServerDraining(retry_after_s=1.0))
        ended, self.sessions = self.sessions, []
        for session in ended:
            session.allow(None)
            self.run(session.end())
            self._check_end(session)
        self.run(self._stop_hub())
        self.run(self._start_hub())
        return multiple(*[session.tokens[-1] for session in ended if session.tokens])

    @precondition(lambda self: self.truth.store.head > 10)
    @rule()
    def wipe(self) -> None:
        """Start anew with an empty store."""
        for session in self.sessions:
            self.run(session.cancel())
        self.sessions = []
        self.drop()
        self.run(self._stop_hub())
        self._open_store()
        self.run(self._start_hub())

    @invariant()
    def nobody_saw_anything_wrong(self) -> None:
        """No client failed in a check; streams end at their age, or because removals they need are dropped."""
        self._reap()

    @invariant()
    def nobody_resumes_from_below_what_goes(self) -> None:
        """As soon as removals are chosen to be dropped, the floor is above them (I7)."""
        assert self.store.floor >= max(self.truth.dropped, default=0)

    @invariant()
    def streams_are_counted(self) -> None:
        """The hub has the streams that are open and no other."""
        begun = [session for session in self.sessions if session.taken]
        assert len(begun) <= self.hub.watcher_count() <= len(self.sessions)

    def teardown(self) -> None:
        """End every task."""
        for session in self.sessions:
            self.run(session.cancel())
        self.drop()
        self.run(self._stop_hub())
        self.loop.close()
        asyncio.set_event_loop(None)

    def _open_store(self) -> None:
        self.store = HaltingStore()
        self.truth = Truth(self.store)
        self.sweeping = None

    def _open(self, what: Filter, token: Token | None = None, *, flowing: bool) -> None:
        async def opening() -> Session:
            return Session(self.truth, self.hub, what, token)

        session = self.run(opening())
        self.sessions.append(session)
        if flowing:
            session.allow(None)
            self.run(asyncio.sleep(0.01))

    def _reap(self) -> None:
        for session in [session for session in self.sessions if session.ended is not None]:
            self.sessions.remove(session)
            self._check_end(session)

    def _check_end(self, session: Session) -> None:
        match session.ended:
            case "OK" | ServerDraining():
                assert isinstance(session.taken[-1].signal, Bookmark)
            case "cancelled":
                pass
            case ResumeTokenExpired():
                reached = session.tokens[-1].revision if session.tokens else 0
                assert session.what.sources or not session.reading.synced  # what it names is kept from then on
                assert reached < max(self.truth.dropped)
            case Exception() as error:
                raise error

    async def _start_hub(self) -> None:
        rng = random.Random(7)  # noqa: S311 - jitter, the same in every run
        self.hub = Hub(
            self.truth.store,
            FRAMING,
            heartbeat_s=HEARTBEAT_S,
            stream_age_s=STREAM_AGE_S,
            rng=rng,
            worked_s=float,
        )
        self.hub.conditions.update(self.conditions)
        self._running = asyncio.create_task(self.hub.run())

    async def _stop_hub(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])


CoreMachine.TestCase.settings = bounded("the core")
TestCore = CoreMachine.TestCase
