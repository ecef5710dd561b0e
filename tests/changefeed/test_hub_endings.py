"""Bookmarks, news of sources, and the planned ends of a stream."""

from __future__ import annotations

import asyncio
import itertools
import math
from asyncio import sleep
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, Started, Synced
from assetwatchd.model.errors import ResumeTokenExpired, ServerDraining
from assetwatchd.model.values import Condition, ConditionState, State
from support.entries import asking
from support.hub_client import Client, rigged, virtual
from support.virtual_time import run

if TYPE_CHECKING:
    from support.hub_client import Rig

pytestmark = pytest.mark.unit

DAM = asking(sources=["dam"])
WELL = Condition(ConditionState.HEALTHY, "", since=1.0)
DOWN = Condition(ConditionState.UNREACHABLE, "no answer", since=2.0)


def gaps(client: Client) -> list[float]:
    """Return the seconds between a bookmark and the message before it."""
    pairs = itertools.pairwise(client.taken)
    return [later.at - earlier.at for earlier, later in pairs if isinstance(later.signal, Bookmark)]


@virtual
async def test_bookmarks_come_every_heartbeat() -> None:
    """A stream that never had a change gets a bookmark every 5 s, 10 % more or less, and not always the same."""
    async with rigged(heartbeat_s=5.0) as rig:
        clients = [Client(rig.hub, DAM) for _ in range(20)]
        await sleep(600)
        for client in clients:
            assert client.kinds()[:2] == ["Started", "Synced"]
            assert set(client.kinds()[2:]) == {"Bookmark"}
            assert len(gaps(client)) >= 600 / 5.5 - 1
            assert all(4.5 <= gap <= 5.5 for gap in gaps(client)), gaps(client)
        assert len({round(gap, 2) for client in clients for gap in gaps(client)}) >= 3


@virtual
async def test_a_bookmark_waits_for_quiet() -> None:
    """The heartbeat is counted from the last message with a token: a busy stream gets none."""
    async with rigged(heartbeat_s=5.0) as rig:
        client = Client(rig.hub, DAM)
        for number in range(40):
            await rig.change(f"dam/{number}")
            if number % 10 == 0:
                rig.tell("dam", DOWN)
            await sleep(4)
        assert client.all(Bookmark) == []
        await sleep(6)
        assert client.all(Bookmark) == [Bookmark(40)]


@virtual
async def test_conditions_put_off_no_bookmark() -> None:
    """A source in and out of trouble more often than the heartbeat has bookmarks as often as a quiet one, as new."""
    async with rigged(heartbeat_s=5.0) as rig:
        client = Client(rig.hub, DAM)
        for number in range(100):
            await rig.change("usd/a")
            rig.tell("dam", DOWN if number % 2 else WELL)
            await sleep(4)
        assert len(client.all(Conditions)) == 99  # the first came with Started
        told = [taken for taken in client.taken if isinstance(taken.signal, Bookmark)]
        assert all(4.5 <= later.at - earlier.at <= 5.5 for earlier, later in itertools.pairwise(told))
        assert client.all(Bookmark)[-1].revision >= 99


@virtual
async def test_bookmarks_follow_the_changes_of_others() -> None:
    """A quiet stream's bookmark is as new as the store, so that its token stays good while others change."""
    async with rigged(heartbeat_s=5.0) as rig:
        client = Client(rig.hub, DAM)
        for number in range(100):
            await rig.change(f"usd/{number}")
            await sleep(0.31)
        assert client.all(Batch) == []
        revisions = [bookmark.revision for bookmark in client.all(Bookmark)]
        assert len(revisions) >= 5
        for bookmark, taken in zip(revisions, [t for t in client.taken if isinstance(t.signal, Bookmark)], strict=True):
            assert bookmark == int((taken.at - client.taken[0].at) / 0.31) + 1


@virtual
async def test_a_bookmark_never_overtakes_a_change() -> None:
    """Whatever is committed when a bookmark is due comes before it, also when it was not published yet."""
    async with rigged(heartbeat_s=1.0) as rig:
        client = Client(rig.hub, DAM)
        last = 0
        for number in range(300):
            await rig.commit(f"dam/{number % 5}")
            if number % 50 == 49:
                rig.hub.publish()
            await sleep(0.07 if number % 40 else 2.5)
        for taken in client.taken:
            if isinstance(taken.signal, Batch):
                assert all(entry.revision > last for entry in taken.signal.entries)
            if isinstance(taken.signal, Bookmark):
                assert taken.signal.revision >= last
                last = taken.signal.revision
        assert len(client.all(Bookmark)) >= 5


@virtual
async def test_a_stalled_stream_gets_no_pile_of_bookmarks() -> None:
    """However long a reader takes none, at most the one under way and one more come when it reads again."""
    async with rigged(heartbeat_s=1.0) as rig:
        client = Client(rig.hub, DAM, permits=2)
        await sleep(100)
        client.allow(None)
        await sleep(0.5)
        assert client.kinds() == ["Started", "Synced"]
        await sleep(1)
        assert client.kinds() == ["Started", "Synced", "Bookmark"]


@virtual
async def test_conditions_are_told_once() -> None:
    """One message a change of condition to each watcher of the source, none to others, none twice."""
    async with rigged() as rig:
        rig.tell("dam", WELL)
        clients = [Client(rig.hub, what) for what in (DAM, asking(names=["dam/a"]), asking(sources=["usd"]))]
        await rig.settle()
        rig.tell("dam", DOWN)
        await rig.settle()
        await rig.change("dam/a", "usd/a")
        await rig.settle()
        told = [client.all(Conditions) for client in clients]
        assert told == [[Conditions({"dam": DOWN}, 0)], [Conditions({"dam": DOWN}, 0)], []]


@virtual
async def test_a_slow_reader_is_told_the_last_condition() -> None:
    """What came and went while it did not read is not told; the latest condition of each source is, in one message."""
    async with rigged() as rig:
        client = Client(rig.hub, asking(sources=["dam", "usd"]), permits=1)
        await rig.settle()
        assert client.all(Started) == [Started({})]
        for condition in (WELL, DOWN, WELL, DOWN):
            rig.tell("dam", condition)
        rig.tell("usd", WELL)
        client.allow(None)
        await rig.settle()
        assert client.kinds() == ["Started", "Synced", "Conditions"]
        assert client.all(Conditions) == [Conditions({"dam": DOWN, "usd": WELL}, 0)]


@virtual
async def test_conditions_reach_a_reader_that_never_catches_up() -> None:
    """A reader always behind is told of conditions between two ranges, not when it has caught up at last."""
    async with rigged() as rig:
        client = Client(rig.hub, DAM, permits=2)
        await rig.settle()
        await load_faster_than_it_reads(rig, client, rounds=3)
        rig.tell("dam", DOWN)
        await load_faster_than_it_reads(rig, client, rounds=8)
        assert [told.by_source for told in client.all(Conditions)] == [{"dam": DOWN}]


@pytest.mark.parametrize("heartbeat_s", [60.0, 3600.0, 36000.0])
@virtual
async def test_a_stream_ends_well_at_its_age(heartbeat_s: float) -> None:
    """At its age, 10 % more or less, a stream ends without an error, a bookmark last; not all at one moment."""
    async with rigged(stream_age_s=1800.0, heartbeat_s=heartbeat_s) as rig:
        began = asyncio.get_running_loop().time()
        clients = [Client(rig.hub, DAM) for _ in range(50)]
        for client in clients:
            await client.end()
            assert client.ended == "OK"
            assert isinstance(client.taken[-1].signal, Bookmark)
        ages = [client.taken[-1].at - began for client in clients]
        assert min(ages) >= 1620
        assert max(ages) <= 1980
        assert max(ages) - min(ages) > 100
        assert rig.hub.watcher_count() == 0


@virtual
async def test_a_stream_that_never_catches_up_ends_at_its_age() -> None:
    """Being behind keeps no stream open: it ends with all there is and a bookmark, as others do."""
    async with rigged(stream_age_s=10.0) as rig:
        client = Client(rig.hub, DAM, permits=2)
        await load_faster_than_it_reads(rig, client, rounds=14)
        client.allow(20)
        await rig.settle()
        assert client.ended == "OK"
        assert isinstance(client.taken[-1].signal, Bookmark)
        last = client.all(Bookmark)[-1].revision
        assert {change.revision for change in client.map.values()} == set(range(last - 149, last + 1))


@virtual
async def test_end_raises_for_everybody() -> None:
    """Parked, behind, or opened afterwards: each stream gets what it lacks, a last bookmark, an error of its own."""
    async with rigged() as rig:
        await rig.change("dam/a")
        parked, slow = Client(rig.hub, DAM), Client(rig.hub, DAM, permits=3)
        await rig.settle()
        await rig.change("dam/b")
        await rig.settle()
        await rig.commit("dam/c")
        errors = [ServerDraining(retry_after_s=n) for n in range(3)]
        given = iter(errors)
        rig.hub.end(lambda: next(given))
        slow.allow(None)
        late = Client(rig.hub, DAM)
        for client in (parked, slow, late):
            await client.end()
            assert client.kinds()[:3] == ["Started", "Batch", "Synced"]
            assert client.taken[-1].signal == Bookmark(3)
            assert len(client.map) == 3
        assert {parked.ended, slow.ended, late.ended} == set(errors)
        assert rig.hub.watcher_count() == 0


@pytest.mark.parametrize("steps", range(6))
def test_end_at_any_moment_of_a_busy_stream(steps: int) -> None:
    """Whatever a stream is doing when the end is called, it ends, and its bookmark is ahead of nothing it lacks."""

    async def ending() -> None:
        async with rigged() as rig:
            client = Client(rig.hub, DAM)
            await rig.change("dam/a")
            for _ in range(steps):
                await sleep(0)
            await rig.commit("dam/b")
            rig.hub.end(lambda: ServerDraining(retry_after_s=1.0))
            await client.end()
            assert isinstance(client.ended, ServerDraining)
            assert client.all(Bookmark) == [Bookmark(2)]
            assert client.all(Synced)
            assert len(client.map) == 2

    run(ending())


async def load_faster_than_it_reads(rig: Rig, client: Client, *, rounds: int) -> None:
    """Change 150 assets a second, two messages, and let the client take one."""
    for _ in range(rounds):
        await rig.change(*[f"dam/{number}" for number in range(150)])
        client.allow(1)
        await sleep(1)


@virtual
async def test_a_bookmark_hides_no_change_that_was_replaced_unpublished() -> None:
    """A published change whose successor is committed and not published is not skipped by a bookmark past it."""
    async with rigged(heartbeat_s=5.0) as rig:
        client = Client(rig.hub, DAM, permits=2)
        await rig.change("dam/a")
        await rig.settle()
        client.stall()
        await rig.change("dam/b")
        await rig.settle()
        await rig.commit("dam/b")
        client.allow(None)
        await sleep(6)
        assert client.kinds()[-1] in {"Batch", "Bookmark"}
        assert {change.revision for change in client.map.values()} == {1, 3}


@virtual
async def test_what_happens_while_the_last_message_is_written_is_not_put_off() -> None:
    """News and an end that come while a stream writes its last message follow at once, not at the next heartbeat."""
    async with rigged(heartbeat_s=60.0) as rig:
        clients = [Client(rig.hub, what, permits=3) for what in (DAM, asking(sources=["usd"]))]
        await rig.settle()
        await rig.change("dam/a", "usd/a")
        await rig.settle()
        rig.tell("dam", DOWN)
        clients[0].allow(None)
        await rig.settle()
        assert clients[0].all(Conditions) == [Conditions({"dam": DOWN}, 2)]
        rig.hub.end(lambda: ServerDraining(retry_after_s=1.0))
        clients[1].allow(None)
        await rig.settle()
        assert [type(client.ended) for client in clients] == [ServerDraining, ServerDraining]


@virtual
async def test_a_removal_that_is_dropped_before_its_round_ends_the_stream() -> None:
    """Whoever had nothing to do is not left with an asset that is gone: the token has expired, as for who resumes."""
    async with rigged() as rig:
        await rig.change("dam/a", "dam/b")
        client = Client(rig.hub, DAM)
        await rig.settle()
        await rig.commit("dam/b", state=State.DELETED)
        assert await rig.store.drop_gone(before=math.inf, keep=lambda _: False) == 1
        rig.hub.publish()
        await rig.settle()
        assert isinstance(client.ended, ResumeTokenExpired)
