"""The floor of a source is never below a removal that etcd no longer has, whenever a process ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.model.values import AssetKey, State
from assetwatchd.runtime import failpoints
from support.entries import draft, seal
from support.owning import owning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatch_sandbox.etcd import Cluster

ASSET = AssetKey("dam", "a")
POINTS = ("before_txn", "after_txn_before_ack")


class EndedError(Exception):
    """The process ended here."""


async def end() -> None:
    """End here."""
    raise EndedError


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.mark.parametrize("point", POINTS)
async def test_the_floor_comes_with_the_deletions(etcd: Cluster, etcd_prefix: str, point: str) -> None:
    """T24: whoever ends before, or right after, the first transaction of a sweep leaves both or neither."""
    access = Access(etcd.endpoints)
    async with owning(EtcdClient(access), etcd_prefix, "dam") as writer:
        (removal,) = await writer.commit([draft("dam/a", State.DELETED)])
        failpoints.arm(point, end)
        with pytest.raises(EndedError):
            await writer.drop_gone(before=math.inf, keep=lambda _: False)
        failpoints.disarm()
        left = await EtcdStore.open(EtcdClient(access), prefix=etcd_prefix, seal=seal)
        assert (left.get(ASSET) is None) == (left.floor >= removal.revision) == (point != "before_txn")
        await left.close()
