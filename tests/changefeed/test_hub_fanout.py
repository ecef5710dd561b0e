"""Many streams: what they share, that none waits for another, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from assetwatchd.changefeed import groups
from assetwatchd.changefeed.batches import RANGE_KEPT_BYTES_MAX, RANGE_KEPT_CHANGES_MAX, RANGES_KEPT
from assetwatchd.changefeed.encoding import FORMED_BYTES_TOGETHER
from assetwatchd.changefeed.pace import WOKEN_JOINING, WOKEN_TOGETHER
from assetwatchd.changefeed.signals import Batch, Conditions
from assetwatchd.changefeed.watcher import Watcher
from assetwatchd.model.errors import ServerDraining
from assetwatchd.model.values import AssetKey, Condition, ConditionState, Entry, State, View
from support.entries import Framing, asking, read
from support.hub_client import Client, rigged, virtual

if TYPE_CHECKING:
    from support.hub_client import Rig

pytestmark = pytest.mark.unit

DAM = asking(sources=["dam"])
LONG = RANGE_KEPT_CHANGES_MAX + 1
PAD_BYTES = 20_000


@virtual
async def test_equal_filters_share_the_very_bytes() -> None:
    """Streams in step with equal filters, built apart and in another order, are sent one and the same object."""
    async with rigged() as rig:
        names = ["dam/a", "usd/b", "dam/c"]
        clients = [Client(rig.hub, asking(names=order)) for order in (names, names[::-1], names[1:] + names[:1])]
        await rig.settle()
        for _ in range(3):
            await rig.change("dam/a", "usd/b")
            await rig.settle()
        for batches in zip(*[client.all(Batch) for client in clients], strict=True):
            assert batches[0].message is batches[1].message is batches[2].message
        assert len(clients[0].all(Batch)) == 3


@virtual
async def test_different_filters_share_nothing_they_should_not() -> None:
    """Streams that differ in assets or states alone get each their own, with their own digest."""
    async with rigged() as rig:
        filters = [
            DAM,
            asking(sources=["dam"], states=[State.FAILED]),
            asking(names=["dam/a"]),
            asking(sources=["usd"]),
        ]
        clients = [Client(rig.hub, what) for what in filters]
        await rig.settle()
        await rig.change("dam/a", "dam/b", "usd/c")
        await rig.settle()
        told = [[(c.key.asset_id, c.removed) for c in client.changes()] for client in clients]
        assert told == [[("a", False), ("b", False)], [("a", True), ("b", True)], [("a", False)], [("c", False)]]
        for client in clients:
            assert {read(batch.message).digest for batch in client.all(Batch)} == {client.what.digest}


@virtual
async def test_the_basic_form_is_made_once_an_entry_and_for_nobody_else() -> None:
    """However many streams, of whatever filters, take it as a snapshot, live, or on resuming; full ones make none."""
    with patch.object(Framing, "basic", autospec=True, side_effect=Framing.basic) as made:
        async with rigged() as rig:
            whole = [Client(rig.hub, DAM) for _ in range(3)]
            await rig.change("dam/a", "dam/b")
            await rig.settle()
            assert made.call_count == 0
            others = [asking(sources=["dam"], view=View.BASIC), asking(names=["dam/a", "dam/c"], view=View.BASIC)]
            clients = [Client(rig.hub, what) for what in others * 3]
            await rig.settle()
            await rig.change("dam/b", "dam/c")
            await rig.settle()
            clients += [Client(rig.hub, others[0], cursor=2)]
            await rig.settle()
            assert made.call_count == 2 + 2
        for client in clients:
            assert {read(batch.message).digest for batch in client.all(Batch)} == {client.what.digest}
        assert whole[0].map.keys() == clients[0].map.keys() == {AssetKey("dam", name) for name in "abc"}


@virtual
async def test_publishing_waits_for_no_watcher() -> None:
    """With every fifth of 50 streams never reading, the others get each change as soon as if they were alone."""
    async with rigged() as rig:
        clients = [Client(rig.hub, DAM, permits=2 if n % 5 == 0 else None) for n in range(50)]
        await rig.settle()
        began = asyncio.get_running_loop().time()
        for number in range(100):
            await rig.change(f"dam/{number}")
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 1.1
        for number, client in enumerate(clients):
            if number % 5 == 0:
                assert client.kinds() == ["Started", "Synced"]
            else:
                assert len(client.changes()) == 100
                late = [taken.at - began - 0.01 * n for n, taken in enumerate(client.taken[2:])]
                assert max(late) < 0.01
        for client in clients[::5]:
            client.allow(None)
        await rig.settle()
        assert all(len(client.map) == 100 for client in clients)


@virtual
async def test_a_stalled_watcher_costs_no_more_the_longer_it_stalls() -> None:
    """While nobody else watches, nothing is encoded or kept for a stream that does not read."""
    async with rigged() as rig:
        client = Client(rig.hub, DAM, permits=3)
        await rig.settle()
        await rig.change("dam/0")
        await rig.settle()
        [group] = rig.hub._groups
        for number in range(500):
            await rig.change(f"dam/{number % 7}")
            await asyncio.sleep(0.01)
        assert len(group._recent) <= 1
        client.allow(None)
        await rig.settle()
        assert len(client.changes()) == 1 + 7


@virtual
async def test_a_long_snapshot_is_frozen_once_for_all_who_begin_together() -> None:
    """Streams that stall in it share one list of its entries, and it goes when the last of them is in sync."""
    async with rigged() as rig:
        await rig.change(*[f"dam/{number}" for number in range(LONG)])
        lists = lists_of_entries()
        clients = [Client(rig.hub, DAM, permits=3) for _ in range(5)]
        await rig.settle()
        assert lists_of_entries() == lists + 1
        for client in clients:
            client.allow(None)
        await rig.settle()
        assert all(len(client.map) == LONG for client in clients)
        assert lists_of_entries() == lists


@virtual
async def test_a_long_range_is_frozen_and_encoded_once_for_all_who_ask_alike() -> None:
    """Streams with the same way to go share its entries and its messages, and both go when the last of them is done."""
    async with rigged() as rig:
        await rig.change("usd/a")  # so that the store's own list is longer
        clients = [Client(rig.hub, DAM, permits=3) for _ in range(5)]
        await rig.settle()
        lists = lists_of_entries()
        await rig.change(*[f"dam/{number}" for number in range(LONG)])
        await rig.settle()
        assert lists_of_entries() == lists + 1
        assert len({id(client.all(Batch)[0]) for client in clients}) == 1
        for client in clients:
            client.allow(None)
        await rig.settle()
        assert all(len(client.map) == LONG for client in clients)
        assert lists_of_entries() == lists


@virtual
async def test_a_stream_in_sync_keeps_nothing_of_its_snapshot() -> None:
    """Streams begun one after the other, each at a head of its own, do not hold on to what they were sent."""
    async with rigged() as rig:
        for number in range(5):
            await rig.change(f"dam/{number}")
            Client(rig.hub, DAM)
            await rig.settle()
        [group] = rig.hub._groups
        assert len(group.watchers) == 5
        assert not group._under_way


@pytest.mark.parametrize("view", View)
@virtual
async def test_a_range_of_many_bytes_is_taken_a_message_at_a_time(view: View) -> None:
    """Not made as a whole for whoever may ask for it; of a view, so few are made at a time as may be gone through."""
    async with rigged() as rig:
        client = Client(rig.hub, asking(sources=["dam"], view=view), permits=2)
        await rig.settle()
        count = 2 * RANGE_KEPT_BYTES_MAX // PAD_BYTES
        head = await rig.change(*[f"dam/{number}" for number in range(count)], pad_bytes=PAD_BYTES)
        await rig.settle()
        client.allow(1)
        await rig.settle()
        [group] = rig.hub._groups
        assert not group._recent
        formed = sum(bool(entry.basic) for entry in rig.store.after(0, head))
        assert formed <= (view is View.BASIC) * 3 * FORMED_BYTES_TOGETHER // PAD_BYTES
        client.allow(None)
        await rig.settle()
        assert len(client.map) == count


@virtual
async def test_a_change_wakes_the_streams_whose_prefix_it_has() -> None:
    """And those of no prefix, and those that name it, and nobody else; at the end no prefix is on the books."""
    async with rigged() as rig:
        prefixes = ["", "a", "a", "ab", "abc", "b", "\U0001f600"]
        clients = [Client(rig.hub, asking(sources=["dam"], prefix=prefix)) for prefix in prefixes]
        clients.append(Client(rig.hub, asking(sources=["dam", "usd"], names=["dam/a"], prefix="x")))
        await rig.settle()
        head = await rig.change("dam/ab", "dam/\U0001f600", "usd/a", "usd/xy", "dam/a")
        groups = rig.hub._groups
        entries = rig.store.after(0, head)
        woken = [sorted({group.filter.prefix for group in groups.concerned([entry])}) for entry in entries]
        assert woken == [["", "a", "ab"], ["", "\U0001f600"], [], ["x"], ["", "a", "x"]]
        await rig.settle()
        told = [[key.asset_id for key in client.map] for client in clients]
        ab, grin = "ab", "\U0001f600"
        assert told == [[ab, grin, "a"], [ab, "a"], [ab, "a"], [ab], [], [], [grin], ["xy", "a"]]
        for client in clients:
            await client.cancel()
        assert not any(books(rig))


@virtual
async def test_prefixes_cost_a_lookup_for_each_length() -> None:
    """Streams of a thousand prefixes of one length cost a change no more than one does."""
    async with rigged() as rig:
        clients = [Client(rig.hub, asking(sources=["dam"], prefix=f"{n:03}/")) for n in range(1000)]
        await rig.settle()
        [entry] = rig.store.after(0, await rig.change("dam/007/x"))
        groups = rig.hub._groups
        assert list(groups._lengths["dam"]) == [4]
        assert [group.filter.prefix for group in groups.concerned([entry])] == ["007/"]
        await rig.settle()
        assert [bool(client.map) for client in clients].count(True) == 1


def books(rig: Rig) -> tuple[object, ...]:
    """Return all that the hub knows its streams by."""
    groups = rig.hub._groups
    return groups._by_digest, groups._by_prefix, groups._lengths, groups._by_key


def lists_of_entries() -> int:
    """Count the lists that hold all entries of a long snapshot, or range."""
    gc.collect()
    lists = (thing for thing in gc.get_objects() if isinstance(thing, list) and len(thing) == LONG)
    return sum(isinstance(each[0], Entry) for each in lists)


@virtual
async def test_shared_ranges_are_few() -> None:
    """A group keeps its last few ranges, however many rounds there were."""
    async with rigged() as rig:
        Client(rig.hub, DAM)
        await rig.settle()
        for number in range(100):
            await rig.change(f"dam/{number}")
            await asyncio.sleep(0.01)
        [group] = rig.hub._groups
        assert len(group._recent) <= RANGES_KEPT


@virtual
async def test_changes_of_one_moment_travel_together() -> None:
    """Changes published at once are one message to each stream, not one a change."""
    async with rigged() as rig:
        client = Client(rig.hub, DAM)
        await rig.settle()
        for number in range(50):
            await rig.change(f"dam/{number}")
        await rig.settle()
        assert [len(batch.entries) for batch in client.all(Batch)] == [50]


@virtual
async def test_watcher_count_is_by_source() -> None:
    """Streams are counted in all, and for each source they concern, whole or in part."""
    async with rigged() as rig:
        filters = [DAM, DAM, asking(names=["dam/a", "dam/b"]), asking(sources=["usd"], names=["dam/a"]), asking()]
        clients = [Client(rig.hub, what) for what in filters]
        await rig.settle()
        counts = [rig.hub.watcher_count(source) for source in (None, "dam", "usd", "other")]
        assert counts == [5, 4, 1, 0]
        for client in clients:
            await client.cancel()
        assert [rig.hub.watcher_count(source) for source in (None, "dam", "usd")] == [0, 0, 0]


@virtual
async def test_cancelled_watchers_leave_nothing_behind() -> None:
    """Wherever a stream is cancelled, parked, stalled, or before its first signal, hub and loop keep nothing of it."""
    async with rigged() as rig:
        await rig.change(*[f"dam/{n}" for n in range(300)])
        await rig.settle()
        tasks = len(asyncio.all_tasks())
        for permits in (None, 0, 1, 2, 3, 4, 5, 6):
            what = asking(names=[f"dam/{n}" for n in range(300)], sources=["usd", "only-this-test", f"{permits}"])
            client = Client(rig.hub, what, permits=permits)
            await rig.settle()
            rig.tell("usd", Condition(ConditionState.HEALTHY, "", since=1.0))
            await rig.change("dam/7")
            await client.cancel()
            del client
        await rig.settle()
        assert rig.hub.watcher_count() == 0
        assert books(rig) == ({}, {}, {}, {})
        assert len(asyncio.all_tasks()) == tasks
        gc.collect()
        watchers = [thing for thing in gc.get_objects() if type(thing) is Watcher]
        assert not [watcher for watcher in watchers if "only-this-test" in watcher.changes.filter.sources]


@virtual
async def test_a_large_filter_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names are left a few a turn of the loop; those who have them too, or join meanwhile, miss nothing."""
    monkeypatch.setattr(groups, "NAMES_TOGETHER", 10)
    async with rigged() as rig:
        names = [f"dam/{n}" for n in range(100)]
        others = Client(rig.hub, asking(names=[*names[:50], "usd/b"]))
        large = Client(rig.hub, asking(names=names))
        await rig.settle()
        await large.cancel()
        left = len(rig.hub._groups._by_key)
        for _ in names:
            assert left - len(rig.hub._groups._by_key) <= 10
            left = len(rig.hub._groups._by_key)
            await asyncio.sleep(0)
        assert left == 51
        again = Client(rig.hub, asking(names=names))
        await rig.settle()
        await rig.change("dam/7", "dam/70")
        await rig.settle()
        assert [len(client.changes()) for client in (others, again)] == [1, 2]
        for client in (others, again):
            await client.cancel()
        await rig.settle()
        assert books(rig) == ({}, {}, {}, {})


@virtual
async def test_one_of_a_group_leaves() -> None:
    """When one of several streams with a filter goes, the others go on; so does one that joins again after the last."""
    async with rigged() as rig:
        first, second = Client(rig.hub, DAM), Client(rig.hub, DAM)
        await rig.settle()
        await first.cancel()
        await rig.change("dam/a")
        await rig.settle()
        assert len(second.changes()) == 1
        await second.cancel()
        third = Client(rig.hub, DAM)
        await rig.settle()
        await rig.change("dam/b")
        await rig.settle()
        assert len(third.changes()) == 2


@virtual
async def test_a_stream_opened_in_the_middle_of_rounds_gets_everything_once() -> None:
    """Opened at any moment of constant change, a stream has each revision it saw once and ends with the truth."""
    async with rigged() as rig:
        clients = []
        for number in range(200):
            await rig.commit(f"dam/{number % 20}")
            if number % 3 == 0:
                rig.hub.publish()
            clients.append(Client(rig.hub, DAM))
            await asyncio.sleep(0.0007)
        rig.hub.publish()
        await rig.settle()
        truth = {entry.key: entry.revision for entry in rig.store.after(0, rig.store.head)}
        for client in clients:
            revisions = [change.revision for change in client.changes()]
            assert revisions == sorted(set(revisions))
            assert {key: change.revision for key, change in client.map.items()} == truth


@virtual
async def test_a_round_leaves_the_loop_to_others_in_between() -> None:
    """No more than some streams are woken each time around the loop, and only a few of them when one has just begun."""
    async with rigged() as rig:
        clients = [Client(rig.hub, DAM) for _ in range(10 * WOKEN_TOGETHER)]
        await rig.settle()
        await rig.change("dam/a")
        await rig.settle()
        await rig.change("dam/b")
        assert await most_woken_together(clients) == WOKEN_TOGETHER
        await rig.settle()
        await rig.change("dam/c")
        while not told(clients, 3):  # noqa: ASYNC110 - step by step, to stop in the middle of the round
            await asyncio.sleep(0)
        newcomer = Client(rig.hub, DAM)
        while not newcomer.taken:  # noqa: ASYNC110 - step by step, to stop in the middle of the round
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # those woken before it came
        assert told(clients, 3) < len(clients) / 2
        assert await most_woken_together(clients, 3) <= WOKEN_JOINING


async def most_woken_together(clients: list[Client], changes: int = 2) -> int:
    """Return how many at most had so many changes from one time around the loop to the next."""
    counts = [told(clients, changes)]
    while counts[-1] < len(clients):
        await asyncio.sleep(0)
        counts.append(told(clients, changes))
    return max(after - before for before, after in itertools.pairwise(counts))


@virtual
async def test_whatever_wakes_a_stream_in_the_middle_of_a_round_hides_no_change() -> None:
    """News, bookmarks, and the end reach streams that the round has not come to yet, and the change comes first."""
    for what in (tell_of_trouble, beat, end):
        async with rigged(heartbeat_s=1000.0) as rig:
            clients = [Client(rig.hub, DAM) for _ in range(5 * WOKEN_TOGETHER)]
            await rig.settle()
            await rig.change("dam/a")
            while not told(clients):  # noqa: ASYNC110 - step by step, to stop in the middle of the round
                await asyncio.sleep(0)
            assert told(clients) < len(clients)
            what(rig)
            await rig.settle()
            for client in clients:
                assert len(client.changes()) == 1
                assert next(kind for kind in client.kinds() if kind in {"Batch", "Bookmark"}) == "Batch"
                assert what is not tell_of_trouble or len(client.all(Conditions)) == 1


def told(clients: list[Client], changes: int = 1) -> int:
    """Return how many have had so many changes."""
    return sum(len(client.all(Batch)) >= changes for client in clients)


def tell_of_trouble(rig: Rig) -> None:
    """A condition changes."""
    rig.tell("dam", Condition(ConditionState.UNREACHABLE, "no answer", since=1.0))


def beat(rig: Rig) -> None:
    """A bookmark is due to everybody."""
    rig.hub._beat(asyncio.get_running_loop().time() + 2000.0)


def end(rig: Rig) -> None:
    """The server drains."""
    rig.hub.end(lambda: ServerDraining(retry_after_s=1.0))
