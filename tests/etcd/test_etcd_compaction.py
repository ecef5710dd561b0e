"""Replicas that compact an etcd: one does it in its turn, another when that one is gone, and a horizon is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assetwatchd.etcd.compaction import Compaction
from assetwatchd.etcd.errors import Compacted
from assetwatchd.etcd.operations import put
from support.etcd import client_of, ended_with, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.client import EtcdClient


async def write(client: EtcdClient) -> int:
    return (await client.txn((), [put(b"/x", b"")])).revision


@pytest.fixture
def prefix(etcd_prefix: str) -> bytes:
    return etcd_prefix.encode()


async def test_one_replica_compacts(client: EtcdClient, prefix: bytes) -> None:
    """Nothing at its start; then in each turn what was there at the turn before, and what came since is kept."""
    one = Compaction(client, prefix)
    first = await write(client)
    assert await one.turn() == 0
    second = await write(client)
    assert first < await one.turn() < second
    assert (await client.get(b"/x", revision=second)).first is not None
    assert isinstance(await ended_with(client.get(b"/x", revision=first)), Compacted)
    assert await one.turn() > second


async def test_the_next_takes_over(client: EtcdClient, prefix: bytes) -> None:
    """While one does it the others only look; when it is gone, another does it after one turn of looking."""
    one, another = Compaction(client, prefix), Compaction(client, prefix)
    await one.turn()
    assert await another.turn() == 0
    for _ in range(3):
        await write(client)
        assert (await one.turn() > 0, await another.turn()) == (True, 0)
    await write(client)
    assert await another.turn() > 0
    assert await one.turn() == 0


async def test_somebody_else_compacts_too(client: EtcdClient, prefix: bytes) -> None:
    """Whoever finds it done further has nothing to do."""
    one = Compaction(client, prefix)
    await one.turn()
    await client.compact(await write(client))
    assert await one.turn() == 0


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd that nobody else compacts."""
    with running(tmp_path_factory.mktemp("apart")) as cluster:
        yield cluster


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.lists(st.sampled_from(range(3)), min_size=1, max_size=6, unique=True), max_size=8))
async def test_nobody_is_cut_off_sooner_than_an_interval(apart: Cluster, turns: list[list[int]], prefix: bytes) -> None:
    """Whoever wakes in whatever order in each interval: at most one compacts, and nothing of the last interval."""
    async with client_of(*apart.endpoints) as client:
        replicas = [Compaction(client, prefix) for _ in range(3)]
        ended = await write(client)
        for awake in turns:
            done = [upto for number in awake if (upto := await replicas[number].turn())]
            assert len(done) <= 1
            await client.get(b"/x", revision=ended)  # which is refused once it is compacted
            ended = await write(client)
