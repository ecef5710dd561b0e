"""Sessions, ownership and interest of several processes over a model of etcd, in any order of events that comes up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.errors import LeaseGone
from assetwatchd.etcd.values import KeyValue, Lease
from assetwatchd.replicas import interests
from assetwatchd.replicas.interests import Interests
from assetwatchd.replicas.named import Named, decode
from assetwatchd.replicas.ownership import Ownership
from assetwatchd.replicas.presence import Present
from assetwatchd.replicas.records import Me, Presence, write_owner
from assetwatchd.replicas.session import Session
from assetwatchd.rpc.convert import ProtobufEncoder
from assetwatchd.runtime.clock import loop_time
from support import virtual_time
from support.model_etcd import ModelClient, ModelEtcd

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from assetwatchd.etcd.operations import Compare, Operation
    from assetwatchd.etcd.values import Outcome

pytestmark = pytest.mark.unit

PREFIX = "/t/"
SOURCES = ("one", "two", "three")
NAMES = ("a", "b", "c")
TTL_S = 5
STEP_S = 0.1
GRACE_S = 3.0
"""Instead of half a minute."""
FATES = ("done",) * 6 + ("lost", "late", "unanswered")


class LeasingEtcd(ModelEtcd):
    """With leases, by the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[int, float] = {}

    def txn(self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]) -> Outcome:
        """Do a transaction, unless it hangs something on a lease that is over."""
        self.expire()
        for operation in success:
            if (lease := operation.request_put.lease) and lease not in self.ends:
                raise LeaseGone("gone")
        return super().txn(compare, success, failure)

    def expire(self) -> None:
        """Delete what hangs on leases that are over."""
        for lease in [lease for lease, end in self.ends.items() if end <= loop_time()]:
            self.revoke(lease)

    def revoke(self, lease: int) -> None:
        """End one."""
        del self.ends[lease]
        hanging = [key.key for key in self.keys.values() if key.lease == lease]
        if hanging:
            super().txn([], [_delete(key) for key in hanging], [])


def _delete(key: bytes) -> Operation:
    from assetwatchd.etcd.operations import delete  # noqa: PLC0415 - the one use of it

    return delete(key)


class LeasingClient(ModelClient):
    """Calls it."""

    etcd: LeasingEtcd

    async def grant(self, ttl_s: int, *, within_s: float = 1.5) -> Lease:  # noqa: ARG002 - as the client has it
        """Begin one."""
        await self._way()
        lease = Lease(len(self.etcd.history) * 1000 + len(self.etcd.ends) + 1 + random.getrandbits(40), ttl_s)
        self.etcd.ends[lease.id] = loop_time() + ttl_s
        await self._way()
        return lease

    async def keep_alive(self, lease: int, *, within_s: float = 1.5) -> int:  # noqa: ARG002 - same
        """Let one begin anew."""
        await self._way()
        self.etcd.expire()
        if lease not in self.etcd.ends:
            raise LeaseGone("gone")
        self.etcd.ends[lease] = loop_time() + TTL_S
        await self._way()
        return TTL_S

    async def revoke(self, lease: int, *, within_s: float = 1.5) -> None:  # noqa: ARG002 - same
        """End one."""
        await self._way()
        if lease in self.etcd.ends:
            self.etcd.revoke(lease)


class Process:
    """One process, as far as it is about who asks what."""

    def __init__(self, number: int, name: str, client: LeasingClient, store: EtcdStore) -> None:
        keys = Keys(PREFIX)
        self.me = Me(f"{name}.{number}", name, "nowhere:1")
        self.client = client
        self.store = store
        self.session = Session(client, TTL_S, clock=loop_time)
        presence = Presence(self.me.id, name, self.me.at, "0")
        self.present = Present(keys, client, self.session, presence, dict)
        self.ownership = Ownership(
            SOURCES, keys, client, session=self.session, present=self.present, me=self.me, cut_off=self._cut_off
        )
        self.interests = Interests(keys, client, self.session, self.me.id)
        self.named = {source: Named(source, assets_max=1000) for source in SOURCES}
        for source, named in self.named.items():
            self.interests.add(source, named, lambda *_: None)
        for prefix, take in (
            (b"r/", self.present.take),
            (b"o/", self.ownership.take),
            (b"i/", self.interests.take),
            (b"r/", lambda *_: self.ownership.changed()),
        ):
            store.mirror.subscribe(prefix, take)
        self.tasks = [asyncio.create_task(each) for each in self._loops()]

    def _cut_off(self) -> bool:
        return self.store.currency.cut_off

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        asking = [self._ask(source) for source in SOURCES]
        return [
            self.store.run(lambda: None),
            self.session.run(),
            self.present.run(),
            self.interests.run(),
            *asking,
        ]

    async def _ask(self, source: str) -> None:
        """Take a source and lose it again, as SharedSource does."""
        while True:
            term = await self.ownership.won(source)
            await self.ownership.lost(source, term)
            await self.ownership.release(source, term)

    async def stop(self) -> None:
        """End in good order."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(self.present.leave(), self.ownership.leave())
        await self.session.end()
        await self.kill()

    async def kill(self) -> None:
        """End as a crash does."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class World:
    """All of them."""

    def __init__(self, rng: random.Random) -> None:
        self.etcd = LeasingEtcd()
        self.rng = rng
        self.fates: Sequence[str] = FATES
        self.processes: dict[str, Process] = {}
        self._count = 0

    async def start(self, name: str) -> None:
        """Start a process."""
        self._count += 1
        client = LeasingClient(self.etcd, fate=self._fate, delay_s=lambda: self.rng.uniform(0, 0.02))
        client.page = 100
        store = await EtcdStore.open(client, prefix=PREFIX, seal=ProtobufEncoder().seal)
        process = self.processes[name] = Process(self._count, name, client, store)
        for source in SOURCES:
            process.named[source].begin([f"{name}{n}" for n in range(3)])

    def _fate(self) -> str:
        return self.rng.choice(self.fates)

    def owners(self, source: str) -> list[str]:
        """Return who asks a source by what each knows of itself."""
        return [name for name, each in self.processes.items() if each.ownership.term(source) is not None]

    async def watched(self, span_s: float) -> None:
        """Let time pass; at no moment two own a source."""
        until = loop_time() + span_s
        while loop_time() < until:
            self.etcd.expire()
            for source in SOURCES:
                assert len(self.owners(source)) <= 1, (source, self.owners(source))
            for each in self.processes.values():
                assert not each.session.alive or each.session.lease in self.etcd.ends
            await asyncio.sleep(STEP_S)

    async def strike(self) -> None:
        """Let something happen to one of them."""
        name = self.rng.choice(sorted(self.processes))
        process = self.processes[name]
        match self.rng.choice(["cut", "watch", "kill", "stop", "balance"]):
            case "cut":
                process.client.cut()
                await self.watched(self.rng.uniform(0, 2 * TTL_S))
                process.client.heal()
            case "watch":
                process.client.break_watches()
            case "kill":
                del self.processes[name]
                await process.kill()
                await self.watched(self.rng.uniform(0, TTL_S))
                await self.start(name)
            case "stop":
                await process.stop()
                del self.processes[name]
                await self.start(name)
            case "balance":
                for source in process.ownership.owned:
                    process.ownership.hand_over(source)

    async def settled(self) -> None:
        """Let nothing happen any more; soon each source has one owner whom all know, and all know what is watched."""
        self.fates = ("done",)
        for process in self.processes.values():
            process.client.heal()
        await self.watched(2 * TTL_S + GRACE_S)
        for source in SOURCES:
            (owner,) = self.owners(source)
            for each in self.processes.values():
                known = each.ownership.owner(source)
                assert known is not None
                assert known.id == self.processes[owner].me.id
                told = {name for body in each.interests.elsewhere(source).values() for name in decode(body)}
                others = {name for name in self.processes if name != each.me.name}
                assert told == {f"{name}{n}" for name in others for n in range(3)}


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with patch.object(interests, "GRACE_S", GRACE_S):
        yield


@settings(max_examples=12)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_never_two_and_in_the_end_one(seed: int, faults: int) -> None:
    """Whatever happens to whom, no two own a source at a time; and once it is quiet each has one, known to all."""

    async def lives() -> None:
        world = World(random.Random(seed))  # noqa: S311 - a run can be repeated
        for name in NAMES:
            await world.start(name)
        for _ in range(faults):
            await world.watched(world.rng.uniform(0, 3))
            await world.strike()
        await world.settled()
        for process in world.processes.values():
            await process.kill()

    virtual_time.run(lives())


def test_what_a_dead_one_watched_stays_for_a_while() -> None:
    """Its buckets go with its lease, and count for GRACE_S more, at every process."""

    async def lives() -> None:
        world = World(random.Random(1))  # noqa: S311 - same
        world.fates = ("done",)
        for name in NAMES:
            await world.start(name)
        await world.watched(5)
        dead = world.processes.pop("a")
        await dead.kill()
        left: Callable[[], list[int]] = lambda: [  # noqa: E731 - looked at three times
            sum(replica == dead.me.id for replica, _ in each.interests.elsewhere("one"))
            for each in world.processes.values()
        ]
        await world.watched(TTL_S + 1)
        assert not any(key.lease == dead.session.lease for key in world.etcd.keys.values())
        assert min(left()) > 0
        await world.watched(GRACE_S)
        assert left() == [0, 0]
        for process in world.processes.values():
            await process.kill()

    virtual_time.run(lives())


def test_a_source_that_comes_back_is_asked_although_it_was_once_given_away() -> None:
    """Also when nobody saw it free in between: what a hand-over ends is one term, and not all to come."""

    async def lives() -> None:
        world = World(random.Random(1))  # noqa: S311 - a run can be repeated
        world.fates = ("done",)
        await world.start("a")
        await world.watched(1)
        (process,) = world.processes.values()
        before = process.ownership.owner("one")
        assert before is not None
        process.ownership.hand_over("one")
        given = KeyValue(b"", write_owner(Me("b.1", "b", "nowhere:2")), before.term + 5, before.term + 5, 1)
        process.ownership.take(b"o/one", given)  # freed, and taken by another, in the same news
        assert process.ownership.term("one") is None
        again = KeyValue(b"", write_owner(process.me), before.term + 9, before.term + 9, process.session.lease)
        process.ownership.take(b"o/one", again)
        assert process.ownership.term("one") == before.term + 9
        await process.kill()

    virtual_time.run(lives())
