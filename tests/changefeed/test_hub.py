"""One stream: what comes first, in which order, and that nothing is lost between."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.batches import BATCH_CHANGES_MAX, MESSAGE_BYTES_MAX
from assetwatchd.changefeed.signals import Batch, Bookmark, Started, Synced
from assetwatchd.model.errors import ResumeTokenExpired
from assetwatchd.model.values import AssetKey, Condition, ConditionState, State
from support.entries import FRAMING, asking, read
from support.hub_client import Client, Rig, rigged, virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.changefeed.filters import Filter

pytestmark = pytest.mark.unit

DAM = asking(sources=["dam"])
WELL = Condition(ConditionState.HEALTHY, "", since=1.0)


def seen(client: Client) -> list[tuple[str, int, bool]]:
    return [(change.key.asset_id, change.revision, change.removed) for change in client.changes()]


@virtual
async def test_the_first_signal_has_the_conditions_of_the_sources_watched() -> None:
    """Started comes first, with the conditions known of watched sources, whole or in part, and of no others."""
    async with rigged() as rig:
        for source in ("dam", "usd", "other"):
            rig.tell(source, WELL)
        client = Client(rig.hub, asking(names=["usd/a"], sources=["dam", "unheard"]))
        await rig.settle()
        assert client.taken[0].signal == Started({"dam": WELL, "usd": WELL})


@virtual
async def test_synced_comes_also_for_nothing() -> None:
    """A watch that matches nothing is synced at once, and stays open."""
    async with rigged() as rig:
        await rig.change("usd/a")
        client = Client(rig.hub, DAM)
        await rig.settle()
        assert client.kinds() == ["Started", "Synced"]
        assert client.all(Synced) == [Synced(1)]
        assert client.ended is None


@virtual
async def test_the_snapshot_is_what_there_is_in_the_order_of_revisions() -> None:
    """Before synced: each asset there once, at its newest state, oldest change first; what is gone is left out."""
    async with rigged() as rig:
        await rig.change("dam/a", "dam/b", "dam/c", "usd/d")
        await rig.change("dam/a", state=State.FAILED)
        await rig.change("dam/b", state=State.DELETED)
        client = Client(rig.hub, DAM)
        await rig.settle()
        assert seen(client) == [("c", 3, False), ("a", 5, False)]
        assert client.kinds() == ["Started", "Batch", "Synced"]
        assert client.all(Synced) == [Synced(6)]


@virtual
async def test_a_snapshot_has_what_is_committed_and_not_yet_published() -> None:
    """As of synced the map is what the store holds: also an asset whose newest state is not published."""
    async with rigged() as rig:
        await rig.change("dam/a")
        await rig.settle()
        await rig.commit("dam/a", state=State.FAILED)
        client = Client(rig.hub, DAM)
        await rig.settle()
        assert seen(client) == [("a", 2, False)]
        assert client.all(Synced) == [Synced(2)]
        rig.hub.publish()
        await rig.change("dam/b")
        await rig.settle()
        assert seen(client) == [("a", 2, False), ("b", 3, False)]


@virtual
async def test_a_resumed_stream_has_what_is_committed_and_not_yet_published() -> None:
    """As of a resumed stream's synced nothing committed is missing, and nothing comes again when it is published."""
    async with rigged() as rig:
        cursor = await rig.change("dam/a")
        await rig.change("dam/a", state=State.PENDING)
        await rig.settle()
        await rig.commit("dam/a", state=State.FAILED)
        client = Client(rig.hub, DAM, cursor)
        await rig.settle()
        rig.hub.publish()
        await rig.settle()
        assert seen(client) == [("a", 3, False)]


@virtual
async def test_a_resumed_stream_is_told_of_removals_and_of_nothing_old() -> None:
    """After its cursor: changes and removals, each asset once; at or before it: nothing."""
    async with rigged() as rig:
        await rig.change("dam/a", "dam/b")
        cursor = await rig.change("dam/c")
        await rig.change("dam/a", state=State.DELETED)
        await rig.change("dam/d")
        client = Client(rig.hub, DAM, cursor)
        await rig.settle()
        assert seen(client) == [("a", 4, True), ("d", 5, False)]
        assert client.kinds() == ["Started", "Batch", "Synced"]


@virtual
async def test_live_changes_come_in_the_order_of_revisions() -> None:
    """What changes after synced comes in order, with the revision and the head in its message."""
    async with rigged() as rig:
        client = Client(rig.hub, DAM)
        await rig.settle()
        for number in range(10):
            await rig.change(f"dam/{number % 3}", "usd/x")
            await rig.settle()
        revisions = [change.revision for change in client.changes()]
        assert revisions == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
        for batch in client.all(Batch):
            message = read(batch.message)
            assert message.revision == batch.revision == message.changes[-1].revision <= message.head
            assert message.digest == DAM.digest


@virtual
async def test_conflation_keeps_the_last_state() -> None:
    """A watcher that does not read is told each asset's last state once, whatever came before it."""
    async with rigged() as rig:
        client = Client(rig.hub, DAM, permits=2)
        await rig.settle()
        client.allow(1)
        await rig.change("dam/a")
        await rig.settle()
        for state in (State.PENDING, State.PROCESSING, State.FAILED):
            await rig.change("dam/a", "dam/b", state=state)
            await rig.settle()
        client.allow(None)
        await rig.settle()
        assert seen(client)[1:] == [("a", 6, False), ("b", 7, False)]
        assert {change.state for change in client.map.values()} == {State.FAILED}


@virtual
async def test_a_range_is_frozen_and_starves_nobody() -> None:
    """While every asset changes again and again, a slow reader gets all of them in every range, in revision order."""
    async with rigged() as rig:
        names = [f"dam/{number}" for number in range(250)]
        await rig.change(*names)
        client = Client(rig.hub, DAM, 0, permits=1)
        for _ in range(12):
            client.allow(1)
            await rig.settle()
            await rig.change(*reversed(names))
        revisions = [change.revision for change in client.changes()]
        assert revisions == sorted(set(revisions))
        ranges = [client.changes()[start : start + 250] for start in range(0, 1000, 250)]
        for told in ranges[:3]:
            assert len({change.key for change in told}) == 250


@virtual
async def test_batches_have_their_limits() -> None:
    """No message has more than 100 changes or 64 KiB, save one change that is larger by itself and travels alone."""
    async with rigged() as rig:
        await rig.change(*[f"dam/{n}" for n in range(250)])
        await rig.change(*[f"dam/large-{n}" for n in range(25)], pad_bytes=20_000)
        await rig.change("dam/huge", pad_bytes=100_000)
        await rig.change("dam/last")
        client = Client(rig.hub, DAM)
        await rig.settle()
        messages = [batch.message for batch in client.all(Batch)]
        sizes = [len(read(message).changes) for message in messages]
        assert sizes == [100, 100, 50 + 3, *[3] * 7, 1, 1, 1]
        assert max(sizes) == BATCH_CHANGES_MAX
        huge = [message for message in messages if len(message) > MESSAGE_BYTES_MAX]
        assert [len(read(message).changes) for message in huge] == [1]


@virtual
async def test_a_message_with_its_token_stays_below_64_kib() -> None:
    """The limit holds for the whole message, whatever the sizes of its changes."""
    async with rigged() as rig:
        for pad_bytes in range(600, 800, 7):
            await rig.change(*[f"dam/{pad_bytes}-{n}" for n in range(90)], pad_bytes=pad_bytes)
        client = Client(rig.hub, DAM)
        await rig.settle()
        sizes = [len(batch.message) for batch in client.all(Batch)]
        assert 63 * 1024 < max(sizes) <= 64 * 1024


@virtual
async def test_leaving_a_state_filter_is_a_removal() -> None:
    """An asset whose new state was not asked for is REMOVED with that state, and comes back as an UPSERT."""
    async with rigged() as rig:
        client = Client(rig.hub, asking(sources=["dam"], states=[State.FAILED]))
        await rig.settle()
        for state in (State.FAILED, State.AVAILABLE, State.PENDING, State.FAILED):
            await rig.change("dam/a", state=state)
            await rig.settle()
        assert [(change.state, change.removed) for change in client.changes()] == [
            (State.FAILED, False),
            (State.AVAILABLE, True),
            (State.PENDING, True),
            (State.FAILED, False),
        ]


@virtual
async def test_leaving_a_state_filter_unseen() -> None:
    """Two changes between two reads hide nothing: the map ends right though the client saw neither of them alone."""
    async with rigged() as rig:
        await rig.change("dam/a", state=State.FAILED)
        client = Client(rig.hub, asking(sources=["dam"], states=[State.FAILED]), permits=3)
        await rig.settle()
        assert AssetKey("dam", "a") in client.map
        await rig.change("dam/a", state=State.PENDING)
        await rig.change("dam/a", state=State.AVAILABLE)
        client.allow(None)
        await rig.settle()
        assert client.map == {}


@virtual
async def test_gone_assets_named_and_whole() -> None:
    """Whoever named an asset is told its last state; whoever watches its source REMOVED; both its return."""
    async with rigged() as rig:
        whole, named = Client(rig.hub, DAM), Client(rig.hub, asking(names=["dam/a"]))
        await rig.settle()
        for state in (State.AVAILABLE, State.DELETED, State.AVAILABLE):
            await rig.change("dam/a", state=state)
            await rig.settle()
        await rig.change("dam/a", state=State.AVAILABLE, gone=True)
        await rig.settle()
        assert [removed for *_, removed in seen(whole)] == [False, True, False, True]
        assert [removed for *_, removed in seen(named)] == [False, False, False, False]
        late = Client(rig.hub, asking(names=["dam/a"]))
        await rig.settle()
        assert seen(late) == [("a", 4, False)]


@virtual
async def test_a_change_at_any_step_between_snapshot_and_park_is_not_lost() -> None:
    """Wherever the stream stands when a change is committed and published, the change comes, once."""
    for steps in range(8):
        async with rigged() as rig:
            await rig.change(*[f"dam/{n}" for n in range(150)])
            await rig.settle()
            async with aclosing(rig.hub.watch(DAM)) as signals:
                taken = [await anext(signals) for _ in range(min(steps, 4))]
                waiting = asyncio.ensure_future(anext(signals)) if steps >= 4 else None
                for _ in range(steps - 4):
                    await asyncio.sleep(0)
                await rig.change("dam/new")
                if waiting is not None:
                    taken.append(await waiting)
                while not any(isinstance(signal, Batch) and signal.revision == 151 for signal in taken):
                    taken.append(await anext(signals))
            revisions = [e.revision for signal in taken if isinstance(signal, Batch) for e in signal.entries]
            assert revisions == list(range(1, 152)), steps


@virtual
async def test_a_change_in_every_gap_of_a_busy_stream_is_not_lost() -> None:
    """A reader that lets go of the loop a few times after each signal gets every change, whenever it came."""
    async with rigged() as rig:
        for pauses in range(6):
            async with aclosing(rig.hub.watch(DAM)) as signals:
                while not isinstance(await anext(signals), Synced):
                    pass
                for _ in range(20):
                    head = await rig.change("dam/a")
                    signal = await anext(signals)
                    assert isinstance(signal, Batch)
                    assert signal.revision == head
                    for _ in range(pauses):
                        await asyncio.sleep(0)


@virtual
async def test_removals_dropped_before_a_slow_reader_got_them_end_its_stream() -> None:
    """A stream never goes on past removals it can no longer tell: it ends as a token from there would be refused."""
    async with rigged() as rig:
        await rig.change("dam/a", "dam/b")
        client = Client(rig.hub, DAM, permits=3)
        named = Client(rig.hub, asking(names=["dam/b"]), permits=3)
        await rig.settle()
        client.allow(1)
        await rig.change("dam/b")
        await rig.settle()
        await rig.change("dam/a", state=State.DELETED)
        await rig.settle()
        await rig.store.drop_gone(before=math.inf, keep=lambda _: False)
        for reader in (client, named):
            reader.allow(None)
        await rig.settle()
        assert type(client.ended).__name__ == "ResumeTokenExpired"
        assert named.ended is None
        late = Client(rig.hub, DAM, 1)
        await rig.settle()
        assert type(late.ended).__name__ == "ResumeTokenExpired"


@pytest.mark.parametrize("how", ["round", "bookmark"])
@pytest.mark.parametrize("what", [DAM, asking(names=["dam/a"])], ids=["whole", "named"])
@virtual
async def test_a_removal_dropped_before_it_was_published_ends_streams(what: Filter, how: str) -> None:
    """Also those that name it: another process that dropped it, while this one heard nothing, may not know of them.

    A bookmark of the time between is no way past it.
    """
    async with rigged() as rig:
        await rig.change("dam/a", "dam/b")
        client = Client(rig.hub, what)
        other = Client(rig.hub, asking(names=["usd/c"]))
        await rig.settle()
        await rig.commit("dam/a", state=State.DELETED)
        await rig.store.drop_gone(before=math.inf, keep=lambda _: False)
        await rig.commit("dam/b")
        if how == "round":
            rig.hub.publish()
        await asyncio.sleep(6)
        for stream in (client, other):
            assert isinstance(stream.ended, ResumeTokenExpired)
        assert client.taken[-1].signal == Synced(2, ())


@pytest.mark.parametrize("what", [DAM, asking(names=["dam/a"])], ids=["whole", "named"])
@virtual
async def test_removals_dropped_before_a_resumed_stream_got_them_are_not_missed(what: Filter) -> None:
    """It is refused before Started; after it, if only then they are dropped. A snapshot needs them not."""
    async with rigged() as rig:
        cursor = await rig.change("dam/a")
        await rig.change("dam/a", state=State.DELETED)
        begun, anew = Client(rig.hub, what, cursor, permits=1), Client(rig.hub, what, permits=1)
        await rig.settle()
        await rig.store.drop_gone(before=math.inf, keep=lambda _: False)
        late = Client(rig.hub, what, cursor)
        for client in (begun, anew):
            client.allow(None)
        await rig.settle()
        assert [client.kinds() for client in (begun, anew, late)] == [["Started"], ["Started", "Synced"], []]
        assert [type(client.ended) for client in (begun, late)] == [ResumeTokenExpired] * 2


@virtual
async def test_reached() -> None:
    """reached() returns when a round has told of the revision, not before, and at once if that was long ago."""
    async with rigged() as rig:
        waiting = asyncio.create_task(rig.hub.reached(2))
        await rig.change("dam/a")
        await rig.settle()
        assert not waiting.done()
        await rig.commit("dam/b")
        await rig.settle()
        assert not waiting.done()
        rig.hub.publish()
        await rig.settle()
        assert waiting.done()
        async with asyncio.timeout(0):
            await rig.hub.reached(2)


@virtual
async def test_a_hub_starts_where_its_store_is() -> None:
    """A hub over a store with a past is at its head, and tells no old change as a live one."""
    async with rigged() as rig:
        await rig.change("dam/a")
        again = Rig(rig.store, type(rig.hub)(rig.store, FRAMING, heartbeat_s=5.0))
        assert again.hub.head == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await again.hub.reached(2)
        client = Client(again.hub, DAM, 1)
        await rig.settle()
        assert client.kinds() == ["Started", "Synced"]
        await client.cancel()


@virtual
async def test_every_bookmark_says_what_synced_said_when_nothing_changed() -> None:
    """Revisions of signals never fall, over synced, batches and bookmarks."""
    async with rigged() as rig:
        client = Client(rig.hub, DAM)
        for number in range(30):
            await rig.change(f"dam/{number}" if number % 2 else f"usd/{number}")
            await asyncio.sleep(number % 13)
        revisions = [
            taken.signal.revision for taken in client.taken if isinstance(taken.signal, Batch | Synced | Bookmark)
        ]
        assert revisions == sorted(revisions)
        assert client.all(Bookmark)


@virtual
async def test_it_is_told_of_which_sources_there_may_be_more() -> None:
    """In started and synced, of the sources watched whole alone; and none once there is no more."""
    more = {"dam", "usd", "other"}
    async with rigged(incomplete=more) as rig:
        client = Client(rig.hub, asking(names=["usd/a"], sources=["dam", "sbc"]))
        await rig.settle()
        assert client.all(Started)[0].incomplete == ("dam",)
        assert client.all(Synced) == [Synced(0, ("dam",))]
        more.clear()
        late = Client(rig.hub, DAM)
        await rig.settle()
        assert late.all(Synced) == [Synced(0, ())]


@virtual
async def test_what_comes_after_the_snapshot_does_not_make_it_complete() -> None:
    """Synced says what was so when the snapshot was taken: what was committed since is not in the map."""
    more = {"dam"}
    async with rigged(incomplete=more) as rig:
        await rig.change("dam/a")
        client = Client(rig.hub, DAM, permits=2)
        await rig.settle()
        more.clear()
        await rig.change("dam/b")
        client.allow(None)
        await rig.settle()
        assert client.all(Synced) == [Synced(1, ("dam",))]


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
@virtual
async def test_that_a_source_became_complete_is_told_within_a_heartbeat(busy: bool) -> None:  # noqa: FBT001 - a column
    """By a bookmark, also in a stream that never lacks changes; what was committed before it is in the map by then."""
    more = {"dam"}
    async with rigged(heartbeat_s=5, incomplete=more) as rig:
        client = Client(rig.hub, DAM)
        await asyncio.sleep(12)
        assert {mark.incomplete for mark in client.all(Bookmark)} == {("dam",)}
        head = await rig.change("dam/last")
        more.clear()
        for number in range(60):
            if busy:
                await rig.change(f"dam/{number}")
            await asyncio.sleep(0.1)
        told = [mark for mark in client.all(Bookmark) if not mark.incomplete]
        assert told
        assert told[0].revision >= head
        more.add("dam")
        for number in range(60, 120):
            if busy:
                await rig.change(f"dam/{number}")
            await asyncio.sleep(0.1)
        assert client.all(Bookmark)[-1].incomplete == ("dam",)


class Asked(list[str]):
    """Sources of which there is more; times: how often that was asked."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        """Count."""
        self.times += 1
        return super().__iter__()


@virtual
async def test_how_complete_a_source_is_costs_the_same_for_any_number_of_streams() -> None:
    """A hundred quiet streams, each of another filter, have it asked as often as a few do, but for bookmarks."""
    more = Asked(["dam"])
    counts = []
    for streams in (3, 100):
        async with rigged(heartbeat_s=5, incomplete=more) as rig:
            clients = [Client(rig.hub, asking(names=[f"usd/{n}"], sources=["dam"])) for n in range(streams)]
            await asyncio.sleep(12)
            before = more.times, sum(len(client.all(Bookmark)) for client in clients)
            await asyncio.sleep(60)
            asked, told = (more.times, sum(len(client.all(Bookmark)) for client in clients))
            counts.append(asked - before[0] - (told - before[1]))
            assert all(client.all(Bookmark)[-1].incomplete == ("dam",) for client in clients)
    assert counts[0] > 0
    assert counts[1] == counts[0]


@virtual
async def test_a_source_that_is_complete_now_and_then_costs_a_bookmark_a_heartbeat() -> None:
    """However often that turns, in a stream with changes all the time."""
    more = {"dam"}
    async with rigged(heartbeat_s=5, incomplete=more) as rig:
        client = Client(rig.hub, DAM)
        for number in range(600):
            await rig.change(f"dam/{number % 7}")
            if number % 3:
                more.add("dam")
            else:
                more.clear()
            await asyncio.sleep(0.1)
        assert 5 <= len(client.all(Bookmark)) <= 60 / (5 * 0.9) + 1
