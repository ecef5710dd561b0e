"""The steps of a stream, one by one, with things that happen between them."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, Started, Synced
from assetwatchd.model.errors import ResumeTokenExpired, ServerDraining
from assetwatchd.model.values import Condition, ConditionState, State
from support.entries import asking, read
from support.hub_client import rigged, virtual

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.unit

DAM = asking(sources=["dam"])
WELL = Condition(ConditionState.HEALTHY, "", since=1.0)
DOWN = Condition(ConditionState.UNREACHABLE, "no answer", since=2.0)


def told(batches: Iterable[Batch]) -> list[int]:
    """Return the revisions in batches."""
    return [change.revision for batch in batches for change in read(batch.message).changes]


@virtual
async def test_what_happens_while_a_stream_waits_to_catch_up_is_in_its_snapshot() -> None:
    """However long that is: nothing is read before it is asked for, and conditions of meanwhile are told when live."""
    async with rigged() as rig:
        await rig.change("dam/a")
        rig.tell("dam", WELL)
        with await rig.hub.join(DAM) as watcher:
            assert watcher.start() == Started({"dam": WELL})
            await rig.change("dam/a", "dam/b")
            rig.tell("dam", DOWN)
            await asyncio.sleep(1000)
            assert told(await watcher.catch_up()) == [2, 3]
            assert watcher.synced() == Synced(3)
            live = watcher.live()
            assert await anext(live) == Conditions({"dam": DOWN}, 3)
            await rig.change("dam/b")
            batch = await anext(live)
            assert isinstance(batch, Batch)
            assert told([batch]) == [4]


@virtual
async def test_what_is_committed_while_a_snapshot_is_taken_in_follows_when_live() -> None:
    """Synced says what was so when it was read, however late its last batch is asked for."""
    async with rigged() as rig:
        await rig.change(*[f"dam/{number}" for number in range(150)])
        with await rig.hub.join(DAM) as watcher:
            watcher.start()
            batches = iter(await watcher.catch_up())
            first = next(batches)
            await rig.change("dam/149")
            assert told([first, *batches]) == list(range(1, 151))
            assert watcher.synced() == Synced(150)
            batch = await anext(watcher.live())
            assert isinstance(batch, Batch)
            assert told([batch]) == [151]


@pytest.mark.parametrize("steps", range(4))
@virtual
async def test_a_stream_that_is_left_after_any_step_is_off_the_books(steps: int) -> None:
    """And nobody wakes it any more."""
    async with rigged() as rig:
        with await rig.hub.join(DAM) as watcher:
            if steps > 0:
                watcher.start()
            if steps > 1:
                list(await watcher.catch_up())
            if steps > 2:
                parked = asyncio.ensure_future(anext(watcher.live()))
                await rig.settle()
                parked.cancel()
            assert rig.hub.watcher_count() == 1
        assert rig.hub.watcher_count() == 0
        assert not list(rig.hub._groups)
        await rig.change("dam/a")
        await rig.settle()


@virtual
async def test_who_is_refused_is_never_on_the_books() -> None:
    """Below the floor a stream does not begin, whatever it asks for; at it, it does."""
    async with rigged() as rig:
        await rig.change("dam/a", "dam/b")
        await rig.change("dam/a", state=State.DELETED)
        await rig.store.drop_gone(before=math.inf, keep=lambda _: False)
        for what in (DAM, asking(names=["dam/b"])):
            with pytest.raises(ResumeTokenExpired) as error:
                await rig.hub.join(what, 2)
            assert error.value.metadata == {"requested": "2", "oldest": "3", "current": "3"}
            assert not list(rig.hub._groups)
            with await rig.hub.join(what, 3) as watcher:
                assert told(await watcher.catch_up()) == []


@virtual
async def test_a_stream_that_joins_a_hub_that_has_ended_has_all_and_then_its_error() -> None:
    """Once, and again whenever it asks; the last bookmark comes first."""
    async with rigged() as rig:
        await rig.change("dam/a")
        rig.hub.end(lambda: ServerDraining(retry_after_s=1.0))
        with await rig.hub.join(DAM) as watcher:
            watcher.start()
            assert told(await watcher.catch_up()) == [1]
            live = watcher.live()
            assert await anext(live) == Bookmark(1)
            for _ in range(2):
                with pytest.raises(ServerDraining):
                    await anext(live)


@virtual
async def test_a_message_counts_as_told_once_the_next_is_asked_for() -> None:
    """The heartbeat of a client that takes a message for long begins when it has taken it, not when it was given it."""
    async with rigged(heartbeat_s=10.0) as rig:
        with await rig.hub.join(DAM) as watcher:
            watcher.start()
            list(await watcher.catch_up())
            live, loop = watcher.live(), asyncio.get_running_loop()
            await rig.change("dam/a")
            assert isinstance(await anext(live), Batch)
            await asyncio.sleep(100)
            taken_at = loop.time()
            assert await anext(live) == Bookmark(1)
            assert 9.0 <= loop.time() - taken_at <= 11.0
