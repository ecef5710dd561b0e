"""Several replicas that write one source and take it from each other, and a judge of all that etcd has of it.

The judge knows what each writer was told of each of its commits, and the whole history. What was told as kept is there
once and as a whole; what was told as refused is not there; what nobody knows is there once as a whole, or not at all.
Nothing was written by one who was no longer the owner, and every mirror ends as the history does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from assetwatch.internal.v1 import record_pb2 as pb

from assetwatchd.changefeed.store.etcd import keys
from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.parts import DRAFTS_MAX
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.etcd.errors import EtcdError
from assetwatchd.model.errors import NotOwner, StoreError
from assetwatchd.model.values import AssetKey, State
from support.entries import draft, seal
from support.etcd_history import histories
from support.owning import Owning

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Iterable, Sequence

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.values import News
    from assetwatchd.model.values import Entry

WRITERS = 3
ASSETS = 20
SETTLED_S = 30.0
"""Mirrors have all that there is within this time after the last fault."""
SIZES = (1, 1, 2, 5, 20, 150)


class Told(NamedTuple):
    """What a writer was told of a commit: kept with these revisions, refused, or nothing that is certain."""

    name: str
    size: int
    end: str
    revisions: Sequence[int] = ()


class Writer:
    """One replica. It commits drafts that say whose they are, and now and then takes the source from whoever has it."""

    def __init__(self, name: str, store: EtcdStore, client: EtcdClient, prefix: str, rng: random.Random) -> None:
        self.store = store
        self.told: list[Told] = []
        self.counts: Counter[str] = Counter()
        self._name = name
        self._terms = Owning(store, client, prefix)
        self._rng = rng
        self._count = 0
        self.watched = Watched(store)

    async def run(self, *, pause_s: float, thinks_s: float) -> None:
        """Write until cancelled; pause_s: at most so long between two commits, thinks_s: before it takes over."""
        while True:
            if self._terms.term("dam") is None:
                await asyncio.sleep(self._rng.uniform(0, thinks_s))
                try:
                    self.counts["terms"] += await self._terms.snatch("dam")
                except EtcdError:
                    self.counts["term unknown"] += 1
            else:
                await self._commit()
            await asyncio.sleep(self._rng.uniform(0, pause_s))

    async def _commit(self) -> None:
        self._count += 1
        name, size = f"{self._name}.{self._count}", self._rng.choice(SIZES)
        assets = self._rng.sample(range(max(size, ASSETS)), size)
        drafts = [draft(f"dam/{asset}", State.PENDING, traceparent=name) for asset in assets]
        self.told.append(Told(name, size, "unknown"))  # as long as nothing is known, and for ever if it is cancelled
        try:
            entries = await self.store.commit(drafts)
        except NotOwner:
            self.counts["not owner"] += 1
        except StoreError:
            self.told[-1] = Told(name, size, "refused")
        else:
            self.told[-1] = Told(name, size, "kept", [entry.revision for entry in entries])
            self.counts["kept"] += 1


async def contend(
    cluster: Cluster, prefix: str, rng: random.Random, *, trouble: Coroutine[object, object, Counter[str]]
) -> tuple[list[str], Counter[str]]:
    """Have three replicas contend while there is trouble; return what was wrong, and what happened."""
    writers, stores, writing = list[Writer](), list[asyncio.Task[None]](), list[asyncio.Task[None]]()
    for number in range(WRITERS):
        endpoints = rng.sample(cluster.endpoints, len(cluster.endpoints))
        client = EtcdClient(Access(tuple(endpoints)))
        store = await EtcdStore.open(client, prefix=prefix, seal=seal)
        writers.append(writer := Writer(f"w{number}", store, client, prefix, rng))
        stores.append(asyncio.create_task(store.run(writer.watched.moved)))
        writing.append(asyncio.create_task(writer.run(pause_s=0.02, thinks_s=2.0)))
    counts = await trouble
    await _cancelled(writing)
    found = await histories(cluster, prefix)
    for writer in writers:
        await asyncio.wait_for(writer.store.mirror.reached(found[0][-1].revision), SETTLED_S)
    wrong = judged(found[0], writers, prefix)
    wrong += [f"members 0 and {place} tell different histories" for place, each in enumerate(found) if each != found[0]]
    wrong += [repr(end) for end in await _cancelled(stores) if not isinstance(end, asyncio.CancelledError)]
    for writer in writers:
        await writer.store.close()
    return wrong, sum((writer.counts for writer in writers), counts)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> Sequence[object]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


class Watched:
    """What a client of the store has seen, that asks after its cursor whenever the head moved."""

    def __init__(self, store: EtcdStore) -> None:
        self.map: dict[AssetKey, Entry] = {}
        self.faults: list[str] = []
        self._store = store
        self._cursor = 0

    def moved(self) -> None:
        """Take what is new."""
        head = self._store.head
        for entry in self._store.after(self._cursor, head):
            old = self.map.get(entry.key)
            if entry.revision <= self._cursor or (old is not None and old.revision >= entry.revision):
                self.faults.append(f"{entry.revision} came after {self._cursor}")
            self.map[entry.key] = entry
        if head < self._cursor:
            self.faults.append(f"the head went back from {self._cursor} to {head}")
        self._cursor = head


class Written(NamedTuple):
    """A draft as it stands in the history."""

    commit: str
    revision: int
    key: bytes


def judged(history: Iterable[News], writers: Sequence[Writer], prefix: str) -> list[str]:
    """Return what was wrong."""
    names = Keys(prefix)
    wrong = [fault for writer in writers for fault in writer.watched.faults]
    written, last = dict[str, list[Written]](), dict[AssetKey, int]()
    owned, terms = False, dict[int, set[str]]()
    term = 0
    for news in history:
        for event in news.events:
            name = names.name(event.key.key)
            if name == b"o/dam":
                owned, term = not event.deleted, event.key.modified if not event.deleted else 0
            elif keys.is_entry(name) and not event.deleted:
                record = pb.Record.FromString(event.key.value)
                if not owned:
                    wrong.append(f"{record.traceparent} was written while nobody owned the source")
                terms.setdefault(term, set()).add(record.traceparent.partition(".")[0])
                revision = keys.number(0, event.key.modified, record.place)
                written.setdefault(record.traceparent, []).append(Written(record.traceparent, revision, name))
                last[keys.asset(name)] = revision
    wrong += [f"{sorted(who)} wrote in the one term {term}" for term, who in terms.items() if len(who) > 1]
    for writer in writers:
        for told in writer.told:
            wrong += _judge(told, [each.revision for each in written.pop(told.name, [])])
        mirror = {entry.key: entry.revision for entry in writer.store.after(0, writer.store.head)}
        if mirror != last:
            wrong.append(f"a mirror has {len(mirror)} assets, and {len(last)} there are, or other ones")
        if {key: entry.revision for key, entry in writer.watched.map.items()} != last:
            wrong.append("a client has seen something else than there is")
    return wrong + [f"{name} was written by nobody" for name in written]


def _judge(told: Told, revisions: Sequence[int]) -> Iterable[str]:
    if told.end == "kept" and list(told.revisions) != list(revisions):
        yield f"{told} is in the history as {revisions}"
    whole = told.size <= DRAFTS_MAX  # of more, the first may be kept by themselves
    if told.end == "refused" and len(revisions) >= (1 if whole else told.size):
        yield f"{told} is in the history"
    if len(revisions) > told.size or (whole and len(set(revisions)) not in (0, told.size)):
        yield f"{told} is there in part, or twice: {revisions}"
