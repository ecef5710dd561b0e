"""Store, hub and tokens under any order of events, against a model that keeps every commit for ever.

Commit and publish are separate steps. The invariants, by name:
I1 per asset revisions rise. I2 per stream revisions rise. I3 across resumes no (asset, revision) comes twice. I4 when
all is quiet every map is the truth. I5 a bookmark is ahead of nothing, and the map is the truth as of it. I6 nothing
older than seen. I7 a resume gives what came after its token and nothing before; a token just issued is accepted. I8 as
of synced the map is the truth, also when it is empty. I9 only what was asked for comes; what leaves it is REMOVED.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from assetwatchd import resume
from assetwatchd.errors import ResumeEpochChanged, ResumeTokenExpired, ServerDraining
from assetwatchd.hub import Batch, Bookmark, Conditions, Hub, Signal, Started, Synced
from assetwatchd.model import GONE, AssetKey, Condition, ConditionState, State
from assetwatchd.store.memory import MemoryStore
from support.entries import Change, asking, draft, frame, read
from support.hub_client import Client
from support.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from assetwatchd.filters import Filter
    from assetwatchd.model import Entry

T = TypeVar("T")

NAMES = ("dam/a", "dam/b", "dam/c", "usd/b")
STATES = (State.AVAILABLE, State.PENDING, State.DELETED, State.MISSING)
FILTERS = (
    asking(sources=["dam"]),
    asking(sources=["dam", "usd"]),
    asking(names=["dam/a"]),
    asking(names=["dam/a", "usd/b", "usd/never"]),
    asking(sources=["usd"], names=["dam/b"]),
    asking(sources=["dam"], states=[State.AVAILABLE, State.DELETED]),
    asking(names=["dam/a", "dam/b"], states=[State.DELETED, State.PENDING]),
    asking(sources=["none"]),
)
CHANGES = st.tuples(st.sampled_from(NAMES), st.sampled_from(STATES), st.booleans())
HEARTBEAT_S, STREAM_AGE_S = 5.0, 60.0


class Token(NamedTuple):
    """A token with what its holder knew: its map, and the newest revision seen of each asset."""

    text: str
    epoch: str
    revision: int
    what: Filter
    map: dict[AssetKey, Change]
    newest: dict[AssetKey, int]


class Truth:
    """Every commit to one store, and which removals it was told to drop."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.log: dict[int, Entry] = {}
        self.dropped: set[int] = set()

    def held(self, what: Filter, entry: Entry) -> bool:
        """Whether the entry belongs into the map of a client with that filter."""
        if what.states and entry.state not in what.states:
            return False
        return not entry.gone or entry.key in what.keys or (bool(what.states) and entry.state in GONE)

    def check(self, known: dict[AssetKey, Change], what: Filter, upto: int) -> None:
        """Require a map to be the fold of the log up to a revision; removals dropped may still be known or not."""
        fold = {entry.key: entry for revision, entry in self.log.items() if revision <= upto}
        assert known.keys() <= fold.keys()
        for key, entry in fold.items():
            found = known.get(key)
            wanted = (entry.revision, entry.state) if what.concerns(key) and self.held(what, entry) else None
            if found is not None or entry.revision not in self.dropped:
                assert (found and (found.revision, found.state)) == wanted, (key, upto)


class Session(Client):
    """A client that checks whatever it takes, and notes every token with what it knew."""

    def __init__(self, truth: Truth, hub: Hub, what: Filter, token: Token | None = None) -> None:
        super().__init__(hub, what, token and token.revision, permits=0)
        self.tokens: list[Token] = []
        self.conditions: dict[str, Condition] = {}
        self._truth = truth
        self._resumed = token is not None
        self._last = token.revision if token else 0
        self._newest = dict(token.newest) if token else {}
        self.map = dict(token.map) if token else {}

    @property
    def synced(self) -> bool:
        """Whether the first drain is over."""
        return bool(self.all(Synced))

    def take(self, signal: Signal) -> None:
        """Check one signal, then take it in."""
        assert isinstance(signal, Started) == (not self.taken)
        match signal:
            case Started(conditions) | Conditions(conditions):
                assert conditions.keys() <= self.what.watched_sources
                self.conditions.update(conditions)
                super().take(signal)
            case Batch(revision, message, _):
                changes = read(message).changes
                assert changes
                assert changes[-1].revision == revision
                for change in changes:
                    self._check(change)
                super().take(signal)
                self._note(revision)
            case Synced(revision) | Bookmark(revision):
                assert self.synced == isinstance(signal, Bookmark)
                assert revision >= self._last  # I5
                self._last = revision
                self._truth.check(self.map, self.what, revision)  # I5, I8
                super().take(signal)
                self._note(revision)

    def _check(self, change: Change) -> None:
        entry = self._truth.log[change.revision]
        assert (entry.key, entry.state) == (change.key, change.state)
        assert self.what.concerns(change.key)  # I9
        assert change.removed != self._truth.held(self.what, entry)  # I9
        assert self.synced or self._resumed or not change.removed
        assert change.revision > self._last  # I2, I7
        assert change.revision > self._newest.get(change.key, 0)  # I1, I3, I6
        self._last = self._newest[change.key] = change.revision

    def _note(self, revision: int) -> None:
        epoch = self._truth.store.epoch
        text = resume.encode(epoch=epoch, revision=revision, digest=self.what.digest)
        self.tokens.append(Token(text, epoch, revision, self.what, dict(self.map), dict(self._newest)))


class CoreMachine(RuleBasedStateMachine):
    """Clients that open, stall, read, go and resume, over changes, removals, sweeps and restarts."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        asyncio.set_event_loop(self.loop)
        self.truth = Truth()
        self.sessions: list[Session] = []
        self.conditions: dict[str, Condition] = {}
        self.run(self._start_hub())

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Run until that is done."""
        return self.loop.run_until_complete(what)

    @rule(what=st.lists(CHANGES, min_size=1, max_size=4), published=st.booleans())
    def change(self, what: list[tuple[str, State, bool]], *, published: bool) -> None:
        """Commit some changes; nobody is told before they are published."""
        store = self.truth.store
        at = float(store.head + 1)
        drafts = [
            draft(name, state, gone=state in GONE or (forgotten and state is State.AVAILABLE), at=at)
            for name, state, forgotten in what
        ]
        for entry in self.run(store.commit(drafts)):
            self.truth.log[entry.revision] = entry
        if published:
            self.hub.publish()

    @rule()
    def publish(self) -> None:
        """Publish what was committed."""
        self.hub.publish()

    @rule(what=st.sampled_from(FILTERS), flowing=st.booleans())
    def open(self, what: Filter, *, flowing: bool) -> None:
        """Open a stream, which reads all there is, or nothing yet."""
        self._open(what, flowing=flowing)

    @rule(token=tokens, flowing=st.booleans())
    def resume(self, token: Token, *, flowing: bool) -> None:
        """Open a stream with any token ever issued: it is taken, or refused for the one reason there is."""
        try:
            cursor = resume.check(token.text, digest=token.what.digest, store=self.truth.store)
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

    @rule(share=st.sampled_from([0.5, 1.0]))
    def sweep(self, share: float) -> None:
        """Drop the older removals, save those of assets that somebody names."""
        named = frozenset[AssetKey]().union(*[session.what.keys for session in self.sessions])
        store, known = self.truth.store, self.truth.store.after(0, self.truth.store.head)
        self.run(store.drop_gone(before=share * (store.head + 1), keep=named.__contains__))
        self.truth.dropped |= {entry.revision for entry in known if store.get(entry.key) is None}

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
            self.truth.check(session.map, session.what, self.truth.store.head)  # I4
            newest = session.tokens[-1]
            assert newest.revision == self.truth.store.head
            assert (
                resume.check(newest.text, digest=session.what.digest, store=self.truth.store) == newest.revision
            )  # I7
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
        self.run(self._stop_hub())
        self.truth = Truth()
        self.run(self._start_hub())

    @invariant()
    def nobody_saw_anything_wrong(self) -> None:
        """No client failed in a check; streams end at their age, or because removals they need are dropped."""
        self._reap()

    @invariant()
    def streams_are_counted(self) -> None:
        """The hub has the streams that are open and no other."""
        begun = [session for session in self.sessions if session.taken]
        assert len(begun) <= self.hub.watcher_count() <= len(self.sessions)

    def teardown(self) -> None:
        """End every task."""
        for session in self.sessions:
            self.run(session.cancel())
        self.run(self._stop_hub())
        self.loop.close()
        asyncio.set_event_loop(None)

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
                assert session.what.sources
                assert reached < max(self.truth.dropped)
            case Exception() as error:
                raise error

    async def _start_hub(self) -> None:
        rng = random.Random(7)  # noqa: S311 - jitter, the same in every run
        self.hub = Hub(
            self.truth.store,
            frame,
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


CoreMachine.TestCase.settings = settings(
    max_examples=240,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestCore = CoreMachine.TestCase
