"""The session with etcd: whatever becomes of its calls, it counts as alive only while etcd has its lease."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.etcd.errors import LeaseGone, OutcomeUnknown
from assetwatchd.etcd.values import Lease
from assetwatchd.replicas.session import AGAIN_S, KEEPALIVES, MARGIN, Session
from assetwatchd.runtime.clock import loop_time
from support import virtual_time
from support.core_rig import until

pytestmark = pytest.mark.unit

TTL_S = 5
STEP_S = 0.05


class Cluster:
    """What etcd does with leases, by the loop's time; calls take their time on the way there and back, or are lost.

    slow_s: how long each way may take. lossy: how many of ten calls have no answer; of these half were done.
    """

    def __init__(self, seed: int, *, slow_s: float = 0.0, lossy: int = 0) -> None:
        self.ends: dict[int, float] = {}
        self.kept_alive: list[float] = []
        self._rng = random.Random(seed)  # noqa: S311 - a run can be repeated
        self._slow_s, self._lossy = slow_s, lossy

    def has(self, lease: int) -> bool:
        """Whether a lease is there now."""
        return self.ends.get(lease, 0.0) > loop_time()

    async def grant(self, ttl_s: int, *, within_s: float = 1.5) -> Lease:
        """Begin one."""
        await self._way(within_s)
        lease = Lease(len(self.ends) + 1, ttl_s)
        self.ends[lease.id] = loop_time() + ttl_s
        await self._way(within_s)
        return lease

    async def keep_alive(self, lease: int, *, within_s: float = 1.5) -> int:
        """Let one begin anew."""
        self.kept_alive.append(loop_time())
        await self._way(within_s)
        if not self.has(lease):
            raise LeaseGone("gone")
        self.ends[lease] = loop_time() + TTL_S
        await self._way(within_s)
        return TTL_S

    async def revoke(self, lease: int, *, within_s: float = 1.5) -> None:
        """End one."""
        await self._way(within_s)
        self.ends[lease] = 0.0

    async def _way(self, within_s: float) -> None:
        lost = self._rng.random() < self._lossy / 20  # on either way
        takes_s = within_s if lost else self._rng.uniform(0, self._slow_s)
        await asyncio.sleep(min(takes_s, within_s))
        if takes_s >= within_s:
            raise OutcomeUnknown("no answer")


def session_of(cluster: Cluster) -> Session:
    """A session by the clock of the test."""
    return Session(cluster, TTL_S, clock=loop_time)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0, 3), st.integers(0, 10))
def test_alive_only_while_etcd_has_the_lease(seed: int, slow_s: float, lossy: int) -> None:
    """However slow and lossy the way is; and who listens is told of every beginning and end."""

    async def lives() -> None:
        cluster = Cluster(seed, slow_s=slow_s, lossy=lossy)
        session, told = session_of(cluster), list[int]()
        session.listen(lambda: told.append(session.lease))
        running = asyncio.create_task(session.run())
        for _ in range(1200):
            await asyncio.sleep(STEP_S)
            assert not session.alive or cluster.has(session.lease)
            assert (told[-1] if told else 0) == session.lease
        assert all((before == 0) != (after == 0) for before, after in itertools.pairwise(told))
        running.cancel()

    virtual_time.run(lives())


def test_a_good_way_keeps_one_session() -> None:
    """It is never lost, and asks KEEPALIVES times in the time that a lease has."""

    async def lives() -> None:
        cluster = Cluster(1)
        session = session_of(cluster)
        running = asyncio.create_task(session.run())
        await asyncio.sleep(600)
        assert session.alive
        assert list(cluster.ends) == [session.lease]
        assert len(cluster.kept_alive) == pytest.approx(600 / TTL_S * KEEPALIVES, rel=0.02)
        running.cancel()

    virtual_time.run(lives())


def test_silence_ends_it_before_etcd_does() -> None:
    """Without any answer it is over by its own clock, sooner than by etcd's; then there is another one."""

    async def lives() -> None:
        cluster = Cluster(1)
        session = session_of(cluster)
        running = asyncio.create_task(session.run())
        await asyncio.sleep(20)
        first, began = session.lease, loop_time()
        cluster._lossy = 20
        await until(lambda: not session.alive)
        assert loop_time() - began <= TTL_S * (1 - MARGIN) + STEP_S
        assert cluster.ends[first] > loop_time()
        cluster._lossy = 0
        await asyncio.sleep(2 + AGAIN_S)
        alive, lease = session.alive, session.lease
        assert alive
        assert lease != first
        assert not cluster.has(first)  # what hung on it is not waited for
        running.cancel()

    virtual_time.run(lives())


def test_an_end_is_an_end() -> None:
    """What hangs on it is gone at once, and no other session is begun."""

    async def lives() -> None:
        cluster = Cluster(1)
        session = session_of(cluster)
        running = asyncio.create_task(session.run())
        await asyncio.sleep(10)
        await session.end()
        assert not session.alive
        assert not any(map(cluster.has, cluster.ends))
        await asyncio.sleep(60)
        assert running.done()
        assert len(cluster.ends) == 1

    virtual_time.run(lives())
