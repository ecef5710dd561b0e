"""A process that was away is told at once of all that happened meanwhile, and holds up nobody as it takes that in."""

from __future__ import annotations

import asyncio

import pytest

from assetwatchd.changefeed.store.etcd.reading import READ_TOGETHER
from assetwatchd.etcd.operations import put
from support import virtual_time
from support.model_etcd import ModelClient, ModelEtcd
from support.owning import owning

pytestmark = pytest.mark.unit

PREFIX = "/aw/"
PARTS = 10


def test_others_have_turns_while_much_is_taken_in() -> None:
    """A loop that stands still for as long as a hundred thousand entries take may lose its session, and all it owns."""

    async def lives() -> None:
        etcd = ModelEtcd()
        client = ModelClient(etcd)
        async with owning(client, PREFIX) as store:
            await asyncio.sleep(1)
            client.cut()
            for number in range(PARTS * READ_TOGETHER):
                etcd.txn([], [put(f"{PREFIX}x/{number}".encode(), b"")], [])
            turn, seen = 0, set()

            def told(*_: object) -> None:
                seen.add(turn)
                asyncio.get_running_loop().call_soon(over, turn)

            def over(which: int) -> None:
                nonlocal turn
                turn = which + 1

            store.mirror.subscribe(b"x/", told)
            client.heal()
            await store.mirror.reached(etcd.revision)
            assert len(seen) >= PARTS

    virtual_time.run(lives())
