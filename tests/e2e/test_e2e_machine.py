"""The whole service over gRPC under any order of events: real sockets, real flow control, both stores.

Commit and publish are separate steps. I1 to I9 are those of support/watch_model.py; here besides: I10 each payload is
the one that was committed, I14 no watcher is left behind, I15 each end has its documented reason, I16 all catch up.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.model.values import GONE, AssetKey, Condition, ConditionState, State
from assetwatchd.rpc import convert
from support.entries import Change
from support.examples import bounded
from support.paced import Paced
from support.problems import problem
from support.watch_model import CHANGES, FILTERS, SOURCES, Reading, Token, Truth
from support.watch_service import WatchService, draft, impatient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.store.port import Store

T = TypeVar("T")

HEARTBEAT_S = 0.1
CATCH_UP_S = 5.0
LOOK_S = 0.005
PAD_BYTES = 30_000
"""Two or three of these fill the window of a client that does not read."""
NUMBERS = st.integers(0, 1000)
WINDOW = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.lookahead_bytes", 64 * 1024),
]


class Session(Paced[pb.WatchStatusResponse]):
    """A client on a connection of its own that checks whatever it takes. begun: the service has its watcher."""

    def __init__(self, truth: Truth, address: str, what: Filter, token: Token | None = None) -> None:
        self.what = what
        self.reading = Reading(truth, what, token)
        self.conditions: dict[str, int] = {}
        self.last: pb.WatchStatusResponse | None = None
        self.begun = False
        self._truth = truth
        self._address = address
        self._resumed = token is not None
        self._request = request(what, token.text if token else "")
        super().__init__(permits=0)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[pb.WatchStatusResponse]]:
        """Open the watch; messages are read as they are asked for."""
        async with grpc.aio.insecure_channel(self._address, options=WINDOW) as channel:
            call = AssetStatusServiceStub(channel).WatchStatus(self._request)
            try:
                await call.initial_metadata()
                self.begun = True
                yield _messages(call)
            finally:
                call.cancel()

    def take(self, message: pb.WatchStatusResponse) -> None:
        """Check one message, then take it in."""
        assert message.HasField("started") == (self.last is None)
        self.conditions |= {told.source: told.condition.state for told in message.source_conditions}
        assert self.conditions.keys() <= self.what.watched_sources
        if message.HasField("started"):
            mode = pb.WatchStarted.MODE_RESUMED if self._resumed else pb.WatchStarted.MODE_SNAPSHOT
            assert message.started.mode == mode
            assert message.started.epoch == self._truth.store.epoch
        if message.changes:
            self.reading.told([self._change(each) for each in message.changes], message.changes[-1].status.revision)
        if message.HasField("synced") or message.HasField("bookmark"):
            _, revision, _ = resume_token._decode(message.resume_token)
            self.reading.marked(revision, bookmark=message.HasField("bookmark"))
        if message.resume_token:
            assert message.resume_token == self.reading.tokens[-1].text
        assert message.head_revision >= (self.last.head_revision if self.last else 0)
        self.last = message

    def _change(self, told: pb.StatusChange) -> Change:
        status = told.status
        assert status == convert.status_of(self._truth.log[status.revision], self.what.view)  # I10
        key = AssetKey(status.asset.source, status.asset.asset_id)
        detailed = status.WhichOneof("detail") is not None
        return Change(told.kind == CHANGE_KIND_REMOVED, key, status.revision, State(status.state), detailed)


async def _messages(call: Any) -> AsyncIterator[pb.WatchStatusResponse]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


class GrpcMachine(RuleBasedStateMachine):
    """Clients that open, stall, read, go and resume, over changes, removals, sweeps and restarts of the service.

    What is drawn never depends on what has happened, which in real time is not the same twice: clients and tokens are
    drawn by number, and a rule that finds none does nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(debug=False)
        self.directory = Path(tempfile.mkdtemp(prefix="assetwatch-machine-"))
        self.sessions: list[Session] = []
        self.tokens: list[Token] = []
        self.conditions: dict[str, int] = {}
        self.shortened = impatient()
        self.shortened.__enter__()
        self.run(self._begin())

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Run until that is done."""
        return self.runner.run(what)

    async def opened(self, old: Store | None) -> Store:
        """Open the store, anew or again."""
        raise NotImplementedError

    @rule(what=st.lists(CHANGES, min_size=1, max_size=4), published=st.booleans(), large=st.booleans())
    def change(self, what: list[tuple[str, State, bool]], *, published: bool, large: bool) -> None:
        """Commit some changes; nobody is told before they are published."""
        at, pad_bytes = float(self.truth.store.head + 1), PAD_BYTES if large else 0
        drafts = [
            draft(
                name, state, gone=state in GONE or (forgotten and state is State.AVAILABLE), at=at, pad_bytes=pad_bytes
            )
            for name, state, forgotten in what
        ]
        self.run(self._commit(drafts, published=published))

    @rule()
    def publish(self) -> None:
        """Publish what was committed."""
        self.service.app.hub.publish()

    @rule(what=FILTERS, flowing=st.booleans())
    def open(self, what: Filter, *, flowing: bool) -> None:
        """Open a stream, which reads all there is, or nothing yet."""
        self.run(self._open(what, None, flowing=flowing))

    @rule(number=NUMBERS, flowing=st.booleans())
    def resume(self, number: int, *, flowing: bool) -> None:
        """Open a stream with any token ever issued: it is taken, or refused for the one reason there is."""
        self.service.app.hub.publish()
        for token in _one_of(self.tokens, number):
            if token.epoch not in self.epochs:
                self.run(self._refused(token.what, token.text, "OUT_OF_RANGE", "RESUME_EPOCH_CHANGED"))
            elif token.revision < max(self.truth.dropped, default=0):
                self.run(self._refused(token.what, token.text, "OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED"))
            else:
                self.run(self._open(token.what, token, flowing=flowing))  # I7: it must not end with a refusal

    @rule(number=NUMBERS, other=FILTERS, place=st.integers(0, 20))
    def resume_with_what_was_never_issued(self, number: int, other: Filter, place: int) -> None:
        """An altered token, one for another filter, one of the future: each is refused for its own reason."""
        for token in _one_of(self.tokens, number):
            altered = token.text[:place] + ("A" if token.text[place] != "A" else "B") + token.text[place + 1 :]
            self.run(self._refused(token.what, altered, "INVALID_ARGUMENT", "RESUME_TOKEN_INVALID"))
            if other != token.what:
                self.run(self._refused(other, token.text, "INVALID_ARGUMENT", "RESUME_FILTER_MISMATCH"))
        store = self.truth.store
        future = resume_token.encode(epoch=store.epoch, revision=store.head + 1000, digest=other.digest)
        self.run(self._refused(other, future, "UNAVAILABLE", "REPLICA_BEHIND"))

    @rule(number=NUMBERS, count=st.integers(1, 4))
    def read(self, number: int, count: int) -> None:
        """Let one client take some messages; it hands out the tokens it got."""
        for session in _one_of(self.sessions, number):
            before = len(session.reading.tokens)
            session.allow(count)
            self.run(asyncio.sleep(2 * LOOK_S))
            self.tokens += session.reading.tokens[before:]

    @rule(number=NUMBERS)
    def stall(self, number: int) -> None:
        """Let one client read nothing more."""
        for session in _one_of(self.sessions, number):
            session.stall()

    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """Let one client hang up; it hands out its newest token."""
        for session in _one_of(self.sessions, number):
            self.run(session.cancel())
            self._reap()
            self.tokens += session.reading.tokens[-1:]

    @rule(share=st.sampled_from([0.5, 1.0]))
    def sweep(self, share: float) -> None:
        """Drop the older removals, save those of assets that somebody names."""
        named = frozenset[AssetKey]().union(*[session.what.keys for session in self.sessions])
        self.run(self.truth.sweep(share, named))

    @rule(source=st.sampled_from(["dam", "usd"]), state=st.sampled_from(ConditionState))
    def tell(self, source: str, state: ConditionState) -> None:
        """Change how a source is doing: no change of any asset."""
        self.conditions[source] = int(state)
        self.service.app.hub.tell(source, Condition(state, "", since=1.0))

    @rule()
    def quiesce(self) -> None:
        """Let everybody read all there is: every map is the truth and what List says, and nobody is left over."""
        for session in self.sessions:
            session.allow(None)
        self.service.app.hub.publish()
        self.run(self._until(self._quiet, "not all caught up"))  # I16
        store = self.truth.store
        for session in self.sessions:
            self.truth.check(session.reading.map, session.what, store.head)  # I4
        assert self.run(self._listed()) == {
            (entry.key, entry.revision, entry.state) for entry in store.after(0, store.head) if not entry.gone
        }  # I4
        self.tokens += [session.reading.tokens[-1] for session in self.sessions]

    @rule(wiped=st.sampled_from([False, False, True]))
    def restart(self, *, wiped: bool) -> None:
        """Drain the service, let everybody read its last words, and start another over the same store, or a new one."""
        ended, self.sessions = self.sessions, []
        self.run(self._restart(ended, wiped=wiped))
        for session in ended:
            self._check_end(session)
            self.tokens += session.reading.tokens[-1:]

    @invariant()
    def nobody_saw_anything_wrong(self) -> None:
        """No client failed in a check; no stream ended but by its client, or because removals it needs are dropped."""
        self._reap()

    def teardown(self) -> None:
        """End everything."""
        for session in self.sessions:
            self.run(session.cancel())
        self.service.stop()
        self.run(self.service.ended())
        self.runner.close()
        self.shortened.__exit__(None, None, None)
        shutil.rmtree(self.directory)

    # How it is done --------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        self.truth = Truth(await self.opened(None))
        self.epochs = {self.truth.store.epoch}
        self.service = WatchService(self.truth.store, SOURCES, heartbeat_s=HEARTBEAT_S)
        await self.service.start()

    async def _restart(self, ended: list[Session], *, wiped: bool) -> None:
        for session in ended:
            session.allow(None)
        self.service.app.hub.publish()  # a snapshot waits for what is committed to be published
        self.service.stop()
        await self.service.ended()
        for session in ended:
            await session.end()
        if wiped:
            self.truth = Truth(await self.opened(None))
            self.epochs = set()
        else:
            self.truth.store = await self.opened(self.truth.store)
        self.epochs.add(self.truth.store.epoch)
        listen, conditions = self.service.address, self.service.app.hub.conditions
        self.service = WatchService(self.truth.store, SOURCES, heartbeat_s=HEARTBEAT_S, listen=listen)
        self.service.app.hub.conditions.update(conditions)
        await self.service.start()

    async def _commit(self, drafts: list[Any], *, published: bool) -> None:
        self.truth.took(await self.truth.store.commit(drafts))
        if published:
            self.service.app.hub.publish()

    async def _open(self, what: Filter, token: Token | None, *, flowing: bool) -> None:
        session = Session(self.truth, self.service.address, what, token)
        self.sessions.append(session)
        if flowing:
            session.allow(None)
        await self._until(lambda: session.begun or session.ended is not None, "the stream did not begin")

    async def _refused(self, what: Filter, text: str, code: str, reason: str) -> None:
        async with grpc.aio.insecure_channel(self.service.address, options=WINDOW) as channel:
            call = AssetStatusServiceStub(channel).WatchStatus(request(what, text))
            try:
                message = await call.read()
            except grpc.aio.AioRpcError as error:
                told = problem(error)
                assert (told.code.name, told.reason, told.domain) == (code, reason, "assetwatch")  # I15
                assert (told.retry_after_s is not None) == (reason == "REPLICA_BEHIND")
            else:
                raise AssertionError(f"taken, with {message}")

    def _quiet(self) -> bool:
        self._reap()
        head, hub = self.truth.store.head, self.service.app.hub
        told = all(
            session.reading.synced
            and session.reading.tokens[-1].revision == head
            and session.conditions == self._conditions_of(session)
            for session in self.sessions
        )
        return told and hub.watcher_count() == len(self.sessions)  # I14

    def _conditions_of(self, session: Session) -> dict[str, int]:
        return {source: self.conditions[source] for source in self.conditions.keys() & session.what.watched_sources}

    async def _until(self, met: Callable[[], bool], why: str) -> None:
        try:
            async with asyncio.timeout(CATCH_UP_S):
                while not met():  # noqa: ASYNC110 - it becomes true elsewhere
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(why) from None

    async def _listed(self) -> set[tuple[AssetKey, int, int]]:
        async with grpc.aio.insecure_channel(self.service.address, options=WINDOW) as channel:
            answer = await AssetStatusServiceStub(channel).ListAssetStatuses(pb.ListAssetStatusesRequest())
        return {
            (AssetKey(each.asset.source, each.asset.asset_id), each.revision, each.state) for each in answer.statuses
        }

    def _reap(self) -> None:
        for session in [session for session in self.sessions if session.ended is not None]:
            self.sessions.remove(session)
            self._check_end(session)

    def _check_end(self, session: Session) -> None:
        match session.ended:
            case "cancelled":
                pass
            case grpc.aio.AioRpcError() as error:
                told = problem(error)
                assert told.domain == "assetwatch", error  # I15
                if told.reason == "RESUME_TOKEN_EXPIRED":
                    reached = session.reading.tokens[-1].revision if session.reading.tokens else 0
                    assert session.what.sources or not session.reading.synced  # what it names is kept from then on
                    assert reached < max(self.truth.dropped)
                else:
                    assert told.reason == "SERVER_DRAINING", error
                    assert told.retry_after_s is not None
                    assert session.last is not None
                    assert session.last.HasField("bookmark")
            case Exception() as error:
                raise error
            case other:
                raise AssertionError(f"ended {other}")


class MemoryMachine(GrpcMachine):
    """Over the store in memory, which lasts as long as the process."""

    async def opened(self, old: Store | None) -> Store:
        """Give the old one on, or make one."""
        store = old or MemoryStore(now=lambda: store.head + 1.0)
        return store


class SqliteMachine(GrpcMachine):
    """Over a file that is opened again at each restart."""

    async def opened(self, old: Store | None) -> Store:
        """Open the file, a new one for a new store."""
        self.number = getattr(self, "number", 0) + (old is None)
        store = await SqliteStore.open(self.directory / f"{self.number}.db", now=lambda: store.head + 1.0)
        return store


def _one_of(all_of_them: Sequence[T], number: int) -> Sequence[T]:
    """Choose one by a number, or none when there is none."""
    return [all_of_them[number % len(all_of_them)]] if all_of_them else []


def request(what: Filter, token: str = "") -> pb.WatchStatusRequest:
    """Ask for what a filter asks for."""
    return pb.WatchStatusRequest(
        assets=[status_pb.AssetRef(source=key.source, asset_id=key.asset_id) for key in sorted(what.keys)],
        sources=sorted(what.sources),
        states=sorted(what.states),  # type: ignore[arg-type]  # the model's numbers are the schema's
        resume_token=token,
        asset_id_prefix=what.prefix,
        view=int(what.view),  # type: ignore[arg-type]  # same
    )


TestOverMemory = MemoryMachine.TestCase
TestOverSqlite = SqliteMachine.TestCase
TestOverMemory.settings = TestOverSqlite.settings = bounded("the service")
