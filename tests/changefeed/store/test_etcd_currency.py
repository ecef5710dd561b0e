"""When a replica knows that it is cut off, and what it does about a watch that tells nothing; in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from assetwatchd.changefeed.store.etcd import reading
from assetwatchd.changefeed.store.etcd.currency import BEHIND_S, PROBE_S
from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.etcd.operations import put
from assetwatchd.model.errors import NotOwner
from assetwatchd.runtime import failpoints
from support.core_rig import virtual
from support.entries import draft, seal
from support.model_etcd import ModelClient, ModelEtcd, ModelWatch
from support.owning import Owning, owning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatchd.etcd.values import News

pytestmark = pytest.mark.unit

PREFIX = "/aw/"
CUT_OFF_S = 3.0
SLACK_S = 0.1


class Said(NamedTuple):
    """What was told, when, and how long ago the mirror was certainly as new as etcd."""

    at: float
    cut_off: bool
    lag_s: float


@asynccontextmanager
async def following(client: ModelClient) -> AsyncIterator[tuple[EtcdStore, list[Said]]]:
    """Run a store that may write nothing; list when it was told to be cut off, and not."""
    store = await EtcdStore.open(client, prefix=PREFIX, seal=seal, cut_off_s=CUT_OFF_S)
    loop, said = asyncio.get_running_loop(), list[Said]()
    store.currency.subscribe(lambda cut_off: said.append(Said(loop.time(), cut_off, store.currency.lag_s)))
    running = asyncio.create_task(store.run(lambda: None))
    try:
        yield store, said
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()


@virtual
async def test_it_is_cut_off_when_nothing_was_heard_for_so_long() -> None:
    """Not before cut_off_s after it was last as new as etcd, nor more than a look later; and not any more at once."""
    client = ModelClient(ModelEtcd())
    loop = asyncio.get_running_loop()
    async with following(client) as (store, said):
        await asyncio.sleep(10)
        assert not said
        assert store.currency.lag_s <= PROBE_S + SLACK_S
        since = loop.time()
        client.cut()
        await asyncio.sleep(60)
        [cut] = said
        assert cut.cut_off
        assert cut.lag_s == pytest.approx(CUT_OFF_S)
        assert CUT_OFF_S - PROBE_S - SLACK_S <= cut.at - since <= CUT_OFF_S
        assert store.currency.lag_s >= 60
        back = loop.time()
        client.heal()
        await asyncio.sleep(60)
        assert [each.cut_off for each in said] == [True, False]
        assert said[1].at - back <= PROBE_S + BEHIND_S + SLACK_S
        assert not store.currency.cut_off


@virtual
async def test_it_goes_on_from_where_it_was() -> None:
    """What was committed meanwhile comes when it is back, and nothing is read anew for that."""
    etcd = ModelEtcd()
    client = ModelClient(etcd)
    async with following(client) as (store, _), owning(ModelClient(etcd), PREFIX, "dam") as other:
        client.cut()
        await asyncio.sleep(10)
        [entry] = await other.commit([draft("dam/a")])
        assert store.get(entry.key) is None
        client.heal()
        await asyncio.sleep(5)
        assert store.get(entry.key) == entry
        assert store.rereads == 0


class Mute(ModelWatch):
    """A watch that tells nothing, and does not end."""

    async def read(self) -> News:
        """Wait for ever."""
        if self._over:
            return await super().read()
        await self._etcd.happened.wait()
        return await self.read()


@virtual
async def test_a_watch_that_tells_nothing_is_given_up_for_another() -> None:
    """Though calls are answered: as behind a member that hears nothing itself."""
    etcd = ModelEtcd()
    client = ModelClient(etcd)
    client.kind = Mute
    async with following(client) as (store, _), owning(ModelClient(etcd), PREFIX, "dam") as other:
        await asyncio.sleep(PROBE_S + SLACK_S)
        [entry] = await other.commit([draft("dam/a")])
        client.kind = ModelWatch
        await asyncio.sleep(PROBE_S + BEHIND_S + 1)
        assert store.get(entry.key) == entry
        assert not store.currency.cut_off


@virtual
async def test_progress_is_asked_for_when_others_use_the_same_etcd() -> None:
    """Revisions of other keys come to no watch of ours, and nobody is behind for that."""
    etcd = ModelEtcd()
    async with following(ModelClient(etcd)) as (store, said):
        for n in range(20):
            etcd.txn((), (put(b"/other", b"%d" % n),), ())
            await asyncio.sleep(0.5)
        assert not said
        await asyncio.sleep(PROBE_S + SLACK_S)
        assert store.mirror.revision == etcd.revision


@virtual
async def test_who_was_paused_before_a_write_has_not_written() -> None:
    """Another one owns the source by then, and both have what that one wrote, and nothing else."""
    etcd = ModelEtcd()
    paused, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        failpoints.disarm()
        paused.set()
        await go_on.wait()

    async with owning(ModelClient(etcd), PREFIX, "dam") as store, owning(ModelClient(etcd), PREFIX) as other:
        failpoints.arm("before_txn", pause)
        committing = asyncio.create_task(store.commit([draft("dam/late")]))
        await paused.wait()
        await Owning(other, other._client, PREFIX).snatch("dam")
        [entry] = await other.commit([draft("dam/a")])
        go_on.set()
        with pytest.raises(NotOwner):
            await committing
        await store.mirror.reached(etcd.revision)
        assert store.after(0, store.head) == other.after(0, other.head) == [entry]


class LargePages(ModelClient):
    """A client whose pages hold all there is."""

    page = 10_000


@virtual
async def test_a_start_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have a turn after every so many keys, while they are read and when they are put in order."""
    monkeypatch.setattr(reading, "READ_TOGETHER", 10)
    etcd, turns = ModelEtcd(), 0
    async with owning(ModelClient(etcd), PREFIX, "dam") as store:
        await store.commit([draft(f"dam/{n}") for n in range(500)])

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(others())
    client = LargePages(etcd, delay_s=lambda: 0)
    read = await reading.read_all(client, Keys(PREFIX), seal, Ledger())
    counting.cancel()
    assert len(read.contents.ledger) == 500
    assert turns >= 2 * 500 / 10
