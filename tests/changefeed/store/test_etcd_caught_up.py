"""A process that shares its store can tell when it knows all that the others had kept; it waits while it cannot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.model.values import AssetKey
from support.entries import draft, seal
from support.owning import owning

if TYPE_CHECKING:
    from assetwatch_sandbox.etcd import Cluster

ASSET = AssetKey("dam", "a")


async def test_caught_up_is_with_what_another_process_has_kept(etcd: Cluster, etcd_prefix: str) -> None:
    """It is not before the mirror moves, and then all is there that was kept before; each caller has its own look."""
    access = Access(etcd.endpoints)
    async with owning(EtcdClient(access), etcd_prefix, "dam") as writer:
        store = await EtcdStore.open(EtcdClient(access), prefix=etcd_prefix, seal=seal)
        await writer.commit([draft("dam/a")])
        waiting = [asyncio.create_task(store.caught_up()) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.2)
        assert not any(each.done() for each in waiting)  # nothing moves the mirror yet
        running = asyncio.create_task(store.run(lambda: None))
        await asyncio.gather(*waiting)
        assert store.get(ASSET) is not None
        before = store.head
        (entry,) = await writer.commit([draft("dam/b")])
        await store.caught_up()
        assert store.head >= entry.revision > before
        running.cancel()
        await asyncio.wait([running])
        await store.close()


async def test_who_waits_while_etcd_does_not_answer_is_told_when_it_does(etcd: Cluster, etcd_prefix: str) -> None:
    """A look that was not answered is followed by the next one."""
    async with owning(EtcdClient(Access(etcd.endpoints)), etcd_prefix, "dam") as store:
        (member,) = etcd.members
        member.pause()
        try:
            waiting = asyncio.create_task(store.caught_up())
            await asyncio.wait([waiting], timeout=2.0)  # longer than a call may take
            assert not waiting.done()
        finally:
            member.go_on()
        await asyncio.wait_for(waiting, 10)
