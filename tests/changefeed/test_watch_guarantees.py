"""What a watch promises where it is easiest to break: at its beginning, at the edge of a filter, when it is behind."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.changefeed import batches, filters
from assetwatchd.changefeed.signals import Batch, Synced
from assetwatchd.model.errors import ReplicaBehind
from assetwatchd.model.values import State
from assetwatchd.rpc.watch import reach
from assetwatchd.runtime import failpoints
from support import virtual_time
from support.entries import asking, read
from support.examples import bounded
from support.hub_client import Client, rigged, virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.signals import Signal
    from assetwatchd.changefeed.store.port import Store
    from support.hub_client import Rig

pytestmark = pytest.mark.unit

DAM = asking(sources=["dam"])
AVAILABLE = asking(sources=["dam"], states=[State.AVAILABLE])
MANY = 150
BATCHES_A_RANGE = 2
TRIES_OF_SNAPSHOTS = 20
TRIES_OF_BEGINNINGS = 500


@contextmanager
def armed(name: str, act: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Do something whenever a place is passed."""
    failpoints.arm(name, act)
    try:
        yield
    finally:
        failpoints.disarm()


def truth(store: Store) -> dict[str, int]:
    """Return the revision of every asset that is there."""
    return {entry.key.asset_id: entry.revision for entry in store.after(0, store.head) if not entry.gone}


def held(client: Client) -> dict[str, int]:
    """Return the revisions in a client's map."""
    return {key.asset_id: change.revision for key, change in client.map.items()}


async def changed_at_random(rig: Rig, names: Sequence[str], rng: random.Random) -> None:
    """Change, remove, or bring back a few."""
    for name in rng.sample(names, min(len(names), rng.randint(0, 3))):
        await rig.commit(name, state=rng.choice((State.AVAILABLE, State.PENDING, State.DELETED)))


@pytest.mark.parametrize("count", [0, 1, 101, 5000])
@virtual
async def test_synced_says_what_there_is_whatever_is_written_meanwhile(count: int) -> None:
    """T02: for any number of assets, as of synced the map is the store's; what is written meanwhile follows."""
    rng = random.Random(count)  # noqa: S311 - a test must be repeatable
    names = [f"dam/{number}" for number in range(count)]
    async with rigged() as rig:
        await rig.change(*names)

        async def write() -> None:
            await changed_at_random(rig, names, rng)
            rig.hub.publish()

        with armed("after_log_read", write):
            for _ in range(TRIES_OF_SNAPSHOTS):
                client = Client(rig.hub, DAM, permits=2)
                await rig.settle()  # started, and the first message of the snapshot
                await write()
                client.allow(None)
                await rig.settle()
                (synced,) = client.all(Synced)
                snapshot = [change for change in client.changes() if change.revision <= synced.revision]
                assert not any(change.removed for change in snapshot)
                assert held(client) == truth(rig.store)
                await client.cancel()


@pytest.mark.parametrize("what", [DAM, AVAILABLE, asking(names=[f"dam/{number}" for number in range(MANY)])])
@pytest.mark.parametrize("resumed", [False, True], ids=["snapshot", "resumed"])
@virtual
async def test_what_is_written_between_two_parts_of_a_beginning(
    what: Filter,
    resumed: bool,  # noqa: FBT001 - a parameter of the case
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a stream begins with is looked for in parts; as of synced the map is what there was by then, even so."""
    monkeypatch.setattr(filters, "AT_A_TIME", 10)
    monkeypatch.setattr(batches, "RANGE_KEPT_CHANGES_MAX", 0)
    rng = random.Random(9)  # noqa: S311 - a test must be repeatable
    names = [f"dam/{number}" for number in range(MANY)]
    async with rigged() as rig:
        await rig.change(*names)
        truths = {rig.store.head: there(rig, what)}
        clients = [Client(rig.hub, what, 0 if resumed else None) for _ in range(3)]
        for _ in range(60):
            await asyncio.sleep(0)
            await rig.commit(rng.choice(names), state=rng.choice((State.AVAILABLE, State.PENDING, State.DELETED)))
            truths[rig.store.head] = there(rig, what)
        await rig.settle()
        for client in clients:
            (synced,) = client.all(Synced)
            assert synced.revision > MANY
            assert map_at(client, synced) == truths[synced.revision]
            rig.hub.publish()
        await rig.settle()
        assert all(held(client) == there(rig, what) for client in clients)


def there(rig: Rig, what: Filter) -> dict[str, int]:
    """Return the revisions of the assets that a filter holds."""
    return {entry.key.asset_id: entry.revision for entry in rig.store.after(0, rig.store.head) if what.holds(entry)}


def map_at(client: Client, end: Signal) -> dict[str, int]:
    """Return the revisions in a client's map as of a signal."""
    known: dict[str, int] = {}
    for signal in itertools.takewhile(lambda signal: signal is not end, (taken.signal for taken in client.taken)):
        for change in read(signal.message).changes if isinstance(signal, Batch) else ():
            known.pop(change.key.asset_id, None)
            if not change.removed:
                known[change.key.asset_id] = change.revision
    return known


@pytest.mark.parametrize("resumed", [False, True], ids=["snapshot", "resumed"])
@virtual
async def test_a_write_while_a_stream_begins_is_not_lost(resumed: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """T03: committed and published before, while or after a stream is registered: told once, and never lost."""
    rng = random.Random(3)  # noqa: S311 - a test must be repeatable
    names = [f"dam/{number}" for number in range(3)]

    async def wait() -> None:
        await asyncio.sleep(rng.choice((0.0, 0.001, 0.01)))

    async with rigged() as rig:
        await rig.change(*names)
        with armed("before_subscribe_register", wait):
            for _ in range(TRIES_OF_BEGINNINGS):
                cursor = rig.store.head if resumed else None
                before = truth(rig.store)
                client = Client(rig.hub, DAM, cursor)
                await wait()
                await rig.commit(rng.choice(names))
                await wait()
                rig.hub.publish()
                await asyncio.sleep(0.05)
                assert (before if resumed else {}) | held(client) == truth(rig.store)
                revisions = [change.revision for change in client.changes()]
                assert revisions == sorted(set(revisions))
                assert not resumed or min(revisions) > (cursor or 0)
                await client.cancel()


@virtual
async def test_fifty_assets_leave_and_enter_a_filter_unseen() -> None:
    """T05: left, entered, removed and made again between two reads, many times: the map is right after each."""
    rng = random.Random(5)  # noqa: S311 - a test must be repeatable
    names = [f"dam/{number}" for number in range(50)]
    states = (State.AVAILABLE, State.AVAILABLE, State.PENDING, State.DELETED, State.MISSING)
    async with rigged() as rig:
        await rig.change(*names)
        client = Client(rig.hub, AVAILABLE)
        await rig.settle()
        for _ in range(40):
            client.stall()
            for name in rng.choices(names, k=120):
                await rig.change(name, state=rng.choice(states))
            client.allow(None)
            await rig.settle()
            latest = rig.store.after(0, rig.store.head)
            assert held(client) == {e.key.asset_id: e.revision for e in latest if e.state is State.AVAILABLE}
        revisions = [change.revision for change in client.changes()]
        assert revisions == sorted(set(revisions))


@virtual
async def test_a_revision_to_come_is_waited_for_three_seconds() -> None:
    """T21: a token of a moment ahead is waited for as long as it may take, 3 s, and then refused, no later."""
    async with rigged() as rig:
        loop = asyncio.get_running_loop()
        await rig.change("dam/a")
        began, coming = loop.time(), asyncio.create_task(reach(rig.hub, rig.store.head + 1))
        await asyncio.sleep(2.9)
        await rig.change("dam/a")
        await coming
        assert loop.time() - began < 3
        began = loop.time()
        with pytest.raises(ReplicaBehind):
            await reach(rig.hub, rig.store.head + 1)
        assert loop.time() - began == pytest.approx(3)


@given(steps=st.lists(st.tuples(st.lists(st.integers(0, MANY - 1), max_size=40), st.integers(0, 3)), min_size=6))
@bounded("ranges")
def test_no_range_starves_anybody(steps: list[tuple[list[int], int]]) -> None:
    """T32: however assets change and a reader dawdles: in order, its tokens true, all told within two ranges."""

    async def scenario() -> None:
        async with rigged() as rig:
            await rig.change(*[f"dam/{number}" for number in range(MANY)])
            client = Client(rig.hub, DAM, permits=0)
            owed: list[tuple[int, dict[str, int]]] = []
            for changing, count in steps:
                if changing:
                    await rig.change(*[f"dam/{number}" for number in changing])
                owed.append((len(client.all(Batch)), truth(rig.store)))
                for _ in range(count):
                    client.allow(1)
                await rig.settle()
                _check(client, rig.store, owed)

    virtual_time.run(scenario())


def _check(client: Client, store: Store, owed: Sequence[tuple[int, dict[str, int]]]) -> None:
    """Require order, a map that is complete as of its token, and nothing owed for longer than two ranges."""
    batches = client.all(Batch)
    revisions = [change.revision for change in client.changes()]
    assert revisions == sorted(set(revisions))
    if client.all(Synced):
        reached = max(revisions)
        told = held(client)
        assert all(told.get(name) == revision for name, revision in truth(store).items() if revision <= reached)
    for since, then in owed:
        if len(batches) >= since + 2 * BATCHES_A_RANGE:
            assert all(held(client).get(name, 0) >= revision for name, revision in then.items())
