"""Clients that hop between replicas with their tokens, while sources change hands, and etcd loses calls and history.

What each is told is held against all that ever happened in etcd, by the same reading as for one process: no change is
lost, none comes twice or late, every bookmark is the truth as of it, and every token is good everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.signals import Batch, Bookmark, Signal, Synced
from assetwatchd.changefeed.store.etcd import keys
from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.records import entry_of
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.model.errors import NotOwner, ResumeTokenExpired, StoreError
from assetwatchd.model.values import State
from support.entries import FRAMING, asking, draft, read, seal
from support.hub_client import Client
from support.model_etcd import ModelClient, ModelEtcd
from support.owning import Owning
from support.resuming import resumed_from
from support.virtual_time import run
from support.watch_model import NAMES, STATES, Reading, Token, Truth

if TYPE_CHECKING:
    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.model.values import AssetKey, Entry

pytestmark = pytest.mark.unit

PREFIX = "/aw/"
REPLICAS, CLIENTS = 3, 5
RUN_S = 25.0
FILTERS = (
    asking(sources=["dam"]),
    asking(sources=["dam", "usd"]),
    asking(names=["dam/a"]),
    asking(names=["dam/a", "usd/b", "usd/never"]),
    asking(sources=["usd"], names=["dam/b"]),
    asking(sources=["dam"], states=[State.AVAILABLE, State.DELETED]),
    asking(names=["dam/a", "dam/b"], states=[State.DELETED, State.PENDING]),
)
BEHIND_WAIT_S = 3.0
FATES = ("done",) * 14 + ("lost", "unanswered", "late", "filling")


class History:
    """All entries that were ever written, and which of them were dropped, as far as etcd has come."""

    def __init__(self, etcd: ModelEtcd) -> None:
        self.log: dict[int, Entry] = {}
        self.dropped: set[int] = set()
        self._etcd = etcd
        self._names = Keys(PREFIX)
        self._read = 0
        self._last: dict[AssetKey, int] = {}

    def catch_up(self) -> None:
        """Read what is new in it."""
        for news in self._etcd.history[self._read :]:
            for event in news.events:
                name = self._names.name(event.key.key)
                if keys.is_entry(name) and event.deleted:
                    self.dropped.add(self._last[keys.asset(name)])
                elif keys.is_entry(name):
                    entry = entry_of(name, event.key, 0, seal)
                    self.log[entry.revision] = entry
                    self._last[entry.key] = entry.revision
        self._read = len(self._etcd.history)


class Replica(NamedTuple):
    """One of them: its store, its hub, and what runs both."""

    store: EtcdStore
    hub: Hub
    client: ModelClient
    terms: Owning
    tasks: list[asyncio.Task[None]]


class Session(Client):
    """A stream at one replica that checks whatever it is told."""

    def __init__(self, history: History, replica: Replica, what: Filter, token: Token | None) -> None:
        super().__init__(replica.hub, what, token and token.revision)
        truth = Truth(replica.store)
        truth.log, truth.dropped = history.log, history.dropped
        self.reading = Reading(truth, what, token)
        self._history = history
        self._client = replica.client

    @property
    def heard(self) -> bool:
        """Whether others know what it names."""
        return self._client.reachable

    def take(self, signal: Signal) -> None:
        """Check one signal."""
        self._history.catch_up()
        match signal:
            case Batch(revision, message, _):
                self.reading.told(read(message).changes, revision)
            case Synced(revision) | Bookmark(revision):
                self.reading.marked(revision, bookmark=isinstance(signal, Bookmark))
        super().take(signal)


async def replica(etcd: ModelEtcd, rng: random.Random) -> Replica:
    """Start one."""
    client = ModelClient(etcd, delay_s=lambda: rng.choice((0.001, 0.005, 0.1)))
    store = await EtcdStore.open(client, prefix=PREFIX, seal=seal)
    client.fate = lambda: rng.choice(FATES)
    hub = Hub(store, FRAMING, heartbeat_s=1.0, rng=rng, worked_s=float)
    tasks = [asyncio.create_task(store.run(hub.publish)), asyncio.create_task(hub.run())]
    return Replica(store, hub, client, Owning(store, client, PREFIX), tasks)


async def write(replica: Replica, sessions: set[Session], rng: random.Random, counts: Counter[str]) -> None:
    """Write the sources that are the replica's, drop removals, and take a source now and then.

    What open streams name is kept; but not what is named at a replica that is cut off, as after its session.
    """

    def named(key: AssetKey) -> bool:
        return any(session.heard and key in session.what.keys for session in sessions)

    while True:
        source = rng.choice(("dam", "usd"))
        with contextlib.suppress(NotOwner, StoreError):
            if replica.terms.term(source) is None:
                await asyncio.sleep(rng.uniform(0, 6))
                counts["taken"] += await replica.terms.snatch(source)
            elif rng.random() < 0.15:
                counts["dropped"] += await replica.store.drop_gone(before=1e12, keep=named)
            else:
                names = [name for name in NAMES if name.startswith(source)]
                some = rng.sample(names, rng.randint(1, len(names)))
                counts["kept"] += len(
                    await replica.store.commit([draft(name, rng.choice(STATES), pad_bytes=1) for name in some])
                )
                replica.hub.publish()
        await asyncio.sleep(rng.uniform(0, 0.2))


async def hop(
    replicas: list[Replica], sessions: set[Session], history: History, rng: random.Random, counts: Counter[str]
) -> None:
    """Watch at one replica after another, with any token that was ever given."""
    tokens: list[Token] = []
    while True:
        at = rng.choice(replicas)
        token = rng.choice(tokens[-20:]) if tokens and rng.random() < 0.9 else None
        what = token.what if token else rng.choice(FILTERS)
        if token is not None and not await resumable(at, token, counts):
            tokens.remove(token)
            continue
        session = Session(history, at, what, token)
        sessions.add(session)
        await asyncio.sleep(rng.choice((0.05, 0.5, 3.0)))
        await session.cancel()
        sessions.discard(session)
        if isinstance(session.ended, ResumeTokenExpired):
            counts["expired"] += 1
        elif session.ended != "cancelled":
            raise AssertionError(f"a stream ended: {session.ended!r}")
        counts["streams"] += 1
        tokens += session.reading.tokens


async def resumable(at: Replica, token: Token, counts: Counter[str]) -> bool:
    """Whether a replica takes a token: it may not when removals after it were dropped, nor as long as it is behind."""
    try:
        if not at.store.continues(token.epoch, token.revision):  # it may be of an epoch that began just now, elsewhere
            await asyncio.wait_for(at.store.caught_up(), BEHIND_WAIT_S)
        assert resumed_from(token.text, digest=token.what.digest, store=at.store) == token.revision
        await asyncio.wait_for(at.hub.reached(token.revision), BEHIND_WAIT_S)
    except ResumeTokenExpired:
        assert token.revision < at.store.floor
        counts["expired"] += 1
        return False
    except TimeoutError:
        counts["behind"] += 1
        return False
    return True


async def trouble(etcd: ModelEtcd, replicas: list[Replica], rng: random.Random) -> None:
    """Break watches, compact, cut replicas off, start one anew."""
    while True:
        await asyncio.sleep(rng.uniform(0, 1.5))
        some = rng.choice(replicas)
        match rng.choice(("watches", "compact", "cut", "begin")):
            case "watches":
                some.client.break_watches()
            case "compact":
                etcd.compact()
            case "cut":
                some.client.cut()
                asyncio.get_running_loop().call_later(rng.uniform(0, 4), some.client.heal)
            case "begin":
                await (await EtcdStore.open(ModelClient(etcd), prefix=PREFIX, seal=seal)).close()


async def watched(seed: int) -> Counter[str]:
    """Let it all go on for RUN_S, then let all become quiet; return what happened."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    etcd, counts = ModelEtcd(), Counter[str]()
    history, sessions = History(etcd), set[Session]()
    replicas = [await replica(etcd, rng) for _ in range(REPLICAS)]
    going = [asyncio.create_task(write(each, sessions, rng, counts)) for each in replicas]
    going += [asyncio.create_task(hop(replicas, sessions, history, rng, counts)) for _ in range(CLIENTS)]
    going.append(asyncio.create_task(trouble(etcd, replicas, rng)))
    done, _ = await asyncio.wait(going, timeout=RUN_S, return_when=asyncio.FIRST_COMPLETED)
    for task in going:
        task.cancel()
    await asyncio.wait(going)
    for task in done:
        task.result()
    await asyncio.sleep(15)
    last = [Session(history, each, what, None) for each in replicas for what in FILTERS]
    await asyncio.sleep(5)
    for session in last:
        await session.cancel()
        assert session.ended == "cancelled"
        assert session.reading.synced
        counts["quiet"] += 1
    for each in replicas:
        for task in each.tasks:
            assert not task.done(), task
            task.cancel()
        await asyncio.wait(each.tasks)
        await each.store.close()
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_what_clients_are_told_is_what_happened(seed: int) -> None:
    """At whichever replica, whenever, with whichever token."""
    counts = run(watched(seed))
    assert min(counts["kept"], counts["streams"]) >= 20
    assert counts["taken"] >= 2
