"""A cluster that is not fit to be the store is refused with every reason; what will be one is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from assetwatchd.etcd import checks
from assetwatchd.etcd.checks import NEVER_COMPACTED, Unfit, check, history_of
from assetwatchd.etcd.errors import NoSpace, OutcomeUnknown
from assetwatchd.etcd.operations import put
from support.etcd import client_of, ended_with, post, running

if TYPE_CHECKING:
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.client import EtcdClient

PREFIX = b"/assetwatch/"


async def write(client: EtcdClient, count: int, size: int = 0) -> int:
    """Write a key so often; return the last revision."""
    return [(await client.txn((), [put(PREFIX + b"key", bytes(size))])).revision for _ in range(count)][-1]


async def test_a_cluster_that_is_fit(client: EtcdClient, etcd_prefix: str) -> None:
    """Nothing is written by it; once its history was compacted there is nothing to say."""
    await client.compact(await write(client, 3))
    before = (await client.get(PREFIX)).revision
    assert await check(client, etcd_prefix.encode(), compacting=False) == []
    assert (await client.get(PREFIX)).revision == before


async def test_a_young_cluster(tmp_path: Path) -> None:
    """Whether its history will be compacted cannot be known yet, which is said unless we do it."""
    with running(tmp_path) as cluster:
        async with client_of(*cluster.endpoints) as client:
            assert await check(client, PREFIX, compacting=False) == [NEVER_COMPACTED]
            assert await check(client, PREFIX, compacting=True) == []
            last = await write(client, 5)
            assert await history_of(client, PREFIX) == (last, 0)
            await client.compact(last - 2)
            assert await history_of(client, PREFIX) == (last, last - 2)


async def test_a_history_that_nothing_compacts(client: EtcdClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused when it is long and the database fills, unless we compact it."""
    monkeypatch.setattr(checks, "HISTORY_MAX", 3)
    monkeypatch.setattr(checks, "FULL", 0.0)
    last = await write(client, 5)
    await client.compact(last - 4)
    with pytest.raises(Unfit, match=r"history of 4 revisions.*nothing compacts it.*store\.compact"):
        await check(client, PREFIX, compacting=False)
    await check(client, PREFIX, compacting=True)
    await client.compact(last - 3)
    await check(client, PREFIX, compacting=False)


async def test_small_transactions(tmp_path: Path) -> None:
    """Limits below etcd's defaults are refused, each with its flag."""
    with running(tmp_path, 1, "--max-txn-ops=127", "--max-request-bytes=1400000") as cluster:
        async with client_of(*cluster.endpoints) as client:
            with pytest.raises(Unfit) as caught:
                await check(client, PREFIX, compacting=True)
    assert "--max-txn-ops" in str(caught.value)
    assert "--max-request-bytes" in str(caught.value)


async def test_an_old_member(client: EtcdClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that it has and the one that is needed are told."""
    monkeypatch.setattr(checks, "VERSION_LEAST", (99, 1))
    with pytest.raises(Unfit, match=r"is of version 3\.\d+\.\d+; 99.1 or newer is needed"):
        await check(client, PREFIX, compacting=True)


async def test_a_database_that_fills(client: EtcdClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before it is full."""
    monkeypatch.setattr(checks, "NEARLY_FULL", 0.0)
    [warning] = await check(client, PREFIX, compacting=True)
    assert re.search(r"is at \d+% of its quota", warning)
    assert "--quota-backend-bytes" in warning


async def test_a_full_database(tmp_path: Path) -> None:
    """It is refused, the check itself does not fill it, and what the alarm and the error say ends it."""
    with running(tmp_path, 1, f"--quota-backend-bytes={2 << 20}") as cluster:
        async with client_of(*cluster.endpoints) as client:
            await check(client, PREFIX, compacting=True)
            assert await client.alarms() == []
            end = None
            while end is None:
                end = await ended_with(write(client, 1, 100_000))
            assert isinstance(end, NoSpace)
            last = (await client.get(PREFIX)).revision
            with pytest.raises(Unfit, match="has the alarm NOSPACE"):
                await check(client, PREFIX, compacting=True)
            assert [alarm.kind for alarm in await client.alarms()] == ["NOSPACE"]
            await client.compact(last, physical=True)
            post(cluster.members[0], "/v3/maintenance/defragment", {})
            assert isinstance(await ended_with(write(client, 1)), NoSpace)
            [status] = [each for each in (await client.statuses()).values() if not isinstance(each, Exception)]
            post(
                cluster.members[0],
                "/v3/maintenance/alarm",
                {"action": "DEACTIVATE", "memberID": str(status.member), "alarm": "NOSPACE"},
            )
            assert await write(client, 1) == last + 1
            assert await check(client, PREFIX, compacting=True) == []


async def test_a_lease_that_is_longer(client: EtcdClient, etcd_prefix: str) -> None:
    """It is said, as sources are taken over so much later; nothing is left of having asked."""
    [warning] = await check(client, etcd_prefix.encode(), compacting=True, lease_s=1)
    assert warning.startswith("etcd gives no lease shorter than 2 s, where store.lease_s is 1")
    assert await check(client, etcd_prefix.encode(), compacting=True, lease_s=5) == []


async def test_members_that_do_not_answer(etcd: Cluster) -> None:
    """One that does is enough, and the others are named; without any nobody knows."""
    async with client_of(*etcd.endpoints, "http://127.0.0.1:1") as client:
        warnings = await check(client, PREFIX, compacting=True)
        assert warnings == ["etcd does not answer at http://127.0.0.1:1: etcd cannot be reached"]
    async with client_of("http://127.0.0.1:1") as client:
        assert type(await ended_with(check(client, PREFIX, compacting=True))) is OutcomeUnknown
