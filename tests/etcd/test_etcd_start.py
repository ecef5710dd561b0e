"""A process waits for a cluster that starts beside it, and not for one that is not fit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assetwatch_sandbox.etcd import Cluster
from assetwatchd.etcd import start
from assetwatchd.etcd.checks import Unfit
from assetwatchd.etcd.errors import OutcomeUnknown
from assetwatchd.etcd.start import connect
from assetwatchd.settings.schema import EtcdStoreSettings
from support.etcd import running


def settings(cluster: Cluster) -> EtcdStoreSettings:
    return EtcdStoreSettings(kind="etcd", endpoints=cluster.endpoints, peer_token_file=Path("/dev/null"))


async def test_a_cluster_that_starts_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once that it does not answer, and gone on when it does."""
    cluster = Cluster(tmp_path)
    waiting = asyncio.create_task(connect(settings(cluster)))
    try:
        while "does not answer yet" not in caplog.text:  # noqa: ASYNC110 - no event rings when a line is logged
            await asyncio.sleep(0.01)
        await asyncio.to_thread(cluster.start)
        client = await waiting
        assert (await client.get(b"x")).revision > 0
        await client.close()
    finally:
        cluster.end()
    assert [record.message.partition(":")[0] for record in caplog.records if record.name == start.__name__] == [
        "etcd does not answer yet",
        "etcd's history was never compacted; if that goes on its database will fill",
    ]


async def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, with what is wrong."""
    monkeypatch.setattr(start, "START_S", 0.0)
    with pytest.raises(OutcomeUnknown, match="cannot be reached"):
        await connect(settings(Cluster(tmp_path)))


async def test_one_that_is_not_fit(tmp_path: Path) -> None:
    """It is not waited for."""
    with running(tmp_path, 1, "--max-txn-ops=10") as cluster, pytest.raises(Unfit, match="--max-txn-ops"):
        await connect(settings(cluster))
