"""How an asset that is not there any more is told from one that was not seen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.model.values import ConditionState, Observation, State
from assetwatchd.polling.endings import LISTED_BUT_MISSING
from support.core_rig import now, running, until, virtual
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import Entry

MISSED_BY_READS = 10_000
"""Intervals between reads so long that only lists matter."""


@virtual
async def test_an_unknown_asset_is_missing_at_once() -> None:
    """An asset that was never seen is told missing after its first read."""
    upstream = FakeUpstream()
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await rig.scheduler.read(["a"], max_age_s=None)
            assert rig.state("a") is State.MISSING
            assert rig.entry("a").gone
    assert len(upstream.reads) == 1


@virtual
async def test_what_never_was_is_kept_for_those_who_named_it() -> None:
    """A read alone commits nothing; naming it has it read anew and committed; that it appears is committed anyway."""
    upstream = FakeUpstream()
    async with running(upstream, busy_interval_s=50, linger_s=300) as rig:
        await rig.scheduler.read(["a", "b"], max_age_s=None)
        assert rig.scheduler.unseen("a") == Observation("a", State.MISSING)
        assert rig.store.head == 0
        with rig.scheduler.interest(["a"]):
            await rig.scheduler.read(["a"], max_age_s=None)
            assert rig.entry("a").gone
            assert rig.store.head == 1
        upstream.states["b"] = State.PENDING
        await asyncio.sleep(120)
        assert rig.state("b") is State.PENDING
        assert rig.scheduler.unseen("b") is None


@virtual
async def test_named_while_it_is_read() -> None:
    """Whoever names an asset while a read finds that it never was has it committed by that read."""
    upstream = FakeUpstream()
    upstream.latency_s = 2
    async with running(upstream) as rig:
        reading = asyncio.create_task(rig.scheduler.read(["a"], max_age_s=None))
        await asyncio.sleep(1)
        with rig.scheduler.interest(["a"]):
            await reading
            assert rig.entry("a").gone
    assert len(upstream.reads) == 1


@virtual
async def test_named_while_the_store_is_busy() -> None:
    """Nor is one forgotten that is named after the read, while the store still works on others read with it."""
    upstream = FakeUpstream("there", batch_max=2)
    async with running(upstream) as rig:
        commit, busy = rig.store.commit, asyncio.Event()

        async def slowly(drafts: Sequence[Draft]) -> Sequence[Entry]:
            busy.set()
            await asyncio.sleep(5)
            return await commit(drafts)

        rig.store.commit = slowly  # type: ignore[method-assign]  # a disk that takes its time
        reading = asyncio.create_task(rig.scheduler.read(["there", "never"], max_age_s=None))
        await busy.wait()
        with rig.scheduler.interest(["never"]):
            await rig.scheduler.read(["never"], max_age_s=None)
            await reading
            assert rig.entry("never").gone
    assert len(upstream.reads_of("never")) == 1


@virtual
async def test_missing_must_be_confirmed() -> None:
    """One read that misses a known asset changes nothing when the next one finds it."""
    upstream = FakeUpstream("a")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(10)
        upstream.extra["a"] = Observation("a", State.MISSING)
        reads = len(upstream.reads)
        await until(lambda: len(upstream.reads) > reads)
        upstream.extra.clear()
        await asyncio.sleep(100)
        assert rig.state("a") is State.AVAILABLE
        assert rig.store.head == 1


@virtual
async def test_missing_twice_is_believed() -> None:
    """Two reads in a row that miss a known asset make it missing, the second soon after the first."""
    upstream = FakeUpstream("a")
    async with running(upstream, busy_interval_s=30) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        await asyncio.sleep(5)
        del upstream.states["a"]
        asked = now()
        await rig.scheduler.read(["a"], max_age_s=0)
        assert rig.state("a") is State.MISSING
        assert len(upstream.reads_of("a", since=asked)) == 2
        assert now() - asked == pytest.approx(1, abs=0.1)


@virtual
async def test_a_doubt_does_not_last() -> None:
    """Reads that miss an asset count only in a row."""
    upstream = FakeUpstream()
    upstream.states["a"] = State.PROCESSING
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(1)
        for _ in range(5):
            reads = len(upstream.reads)
            upstream.extra["a"] = Observation("a", State.MISSING)
            await until(lambda reads=reads: len(upstream.reads) > reads)  # type: ignore[misc]  # bound at once
            upstream.extra.clear()
            await until(lambda reads=reads: len(upstream.reads) > reads + 1)  # type: ignore[misc]  # same
        assert rig.store.head == 1


@virtual
async def test_deleted_is_believed_at_once() -> None:
    """An upstream that says deleted is believed after one read."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        upstream.states["a"] = State.DELETED
        reads = len(upstream.reads)
        await rig.scheduler.read(["a"], max_age_s=0)
        assert rig.state("a") is State.DELETED
        assert len(upstream.reads) == reads + 1


@virtual
async def test_deleted_stays_deleted() -> None:
    """That a deleted asset is not found is no change; that it is there again is one."""
    upstream = FakeUpstream()
    upstream.states["a"] = State.DELETED
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(10)
        del upstream.states["a"]
        await asyncio.sleep(200)
        assert rig.state("a") is State.DELETED
        assert rig.store.head == 1
        upstream.states["a"] = State.AVAILABLE
        await asyncio.sleep(70)
        assert rig.state("a") is State.AVAILABLE


@virtual
async def test_absence_needs_two_lists() -> None:
    """An asset is gone when two complete lists in a row lack it, not before."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            del upstream.states["b"]
            await until(lambda: len(upstream.lists) >= 2)
            await asyncio.sleep(1)
            assert not rig.entry("b").gone
            await until(lambda: len(upstream.lists) >= 3)
            await asyncio.sleep(1)
            assert rig.entry("b").gone
            assert rig.state("b") is State.MISSING
            assert rig.store.head == 3


@pytest.mark.parametrize("fault", [BadAnswer("the list ends in the middle"), BadAnswer("no list")])
@virtual
async def test_a_failed_list_counts_for_nothing(fault: UpstreamError) -> None:
    """A list that failed between two others neither counts as an absence nor clears one."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            del upstream.states["b"]
            await until(lambda: len(upstream.lists) >= 2)
            await asyncio.sleep(1)
            upstream.list_fault = fault
            await until(lambda: len(upstream.lists) >= 4)
            await asyncio.sleep(1)
            assert not rig.entry("b").gone
            upstream.list_fault, lists = None, len(upstream.lists)
            await until(lambda: len(upstream.lists) > lists)
            await asyncio.sleep(1)
            assert rig.entry("b").gone


@virtual
async def test_a_list_with_an_unreadable_item_tells_who_is_there_alone() -> None:
    """What it has is taken in; what it lacks may be what cannot be read in it, so nothing is gone by it."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            del upstream.states["b"]
            upstream.states["c"] = State.PENDING
            upstream.unlisted = 1
            await until(lambda: len(upstream.lists) == 6)
            await asyncio.sleep(1)
            assert rig.state("c") is State.PENDING
            assert not rig.entry("b").gone
            upstream.unlisted = 0
            await until(lambda: len(upstream.lists) == 8)
            await asyncio.sleep(1)
            assert rig.entry("b").gone


@virtual
async def test_what_a_list_lacks_is_found_by_its_own_reads() -> None:
    """An asset that is gone is told so by its reads, however long its list cannot be read whole."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    upstream.unlisted = 1
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            del upstream.states["b"]
            await asyncio.sleep(120)
            assert rig.state("b") is State.MISSING


@virtual
async def test_an_unreadable_list_item_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line says what cannot be read, and no more while that changes: the condition says how it is now."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.unlisted = 1
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: len(upstream.lists) == 5)
            assert caplog.text.count("1 of its items cannot be read") == 1
            upstream.unlisted = 2
            await until(lambda: len(upstream.lists) == 8)
            assert caplog.text.count("of its items cannot be read") == 1
            assert "2 of its items cannot be read" in rig.scheduler.condition.message
            assert not rig.scheduler.complete


@virtual
async def test_reappearance_clears_an_absence() -> None:
    """Absences that are not in a row are none."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            for lists in range(2, 12):
                if lists % 2:
                    upstream.states["b"] = State.AVAILABLE
                else:
                    del upstream.states["b"]
                await until(lambda lists=lists: len(upstream.lists) == lists)  # type: ignore[misc]  # bound at once
                await asyncio.sleep(1)
            assert rig.store.head == 2


@virtual
async def test_an_empty_list_once_deletes_nothing() -> None:
    """One empty answer to a list removes nothing."""
    upstream = FakeUpstream("a", "b", "c", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            kept = dict(upstream.states)
            upstream.states.clear()
            await until(lambda: len(upstream.lists) >= 2)
            upstream.states.update(kept)
            await asyncio.sleep(300)
            assert rig.store.count("src") == 3
            assert rig.store.head == 3


@pytest.mark.parametrize("listed", [(), ("other",)], ids=["empty", "another"])
@virtual
async def test_that_all_is_gone_is_not_believed_while_it_can_be_read(listed: tuple[str, ...]) -> None:
    """Lists without anything that was there remove nothing, however many, and cost one read each."""
    upstream = FakeUpstream("a", "b", "c", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            upstream.listed = frozenset(listed)
            wrong = now()
            await until(lambda: len(upstream.lists) >= 4)
            await asyncio.sleep(1)
            assert (
                len([names for at, names in upstream.reads if at >= wrong and names != listed])
                == len(upstream.lists) - 2
            )
            await until(lambda: len(upstream.lists) >= 7)
            assert rig.store.count("src") == 3
            upstream.listed = None
            del upstream.states["b"]
            await until(lambda: len(upstream.lists) >= 10)
            assert rig.entry("b").gone
            assert rig.store.count("src") == 2


@virtual
async def test_that_all_is_gone_is_believed_after_one_read() -> None:
    """When the last assets go, two lists and one read remove them all; a read that fails removes none."""
    upstream = FakeUpstream("a", "b", "c", enumerates=True)
    async with running(upstream, busy_interval_s=MISSED_BY_READS) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            upstream.states.clear()
            upstream.poison = dict.fromkeys("abc", Unreachable("no"))
            gone = now()
            await until(lambda: len(upstream.lists) >= 3)
            await asyncio.sleep(1)
            assert rig.store.count("src") == 3
            failed = len([at for at, _ in upstream.reads if at >= gone])
            upstream.poison.clear()
            lists = len(upstream.lists)
            await until(lambda: len(upstream.lists) > lists)
            await asyncio.sleep(1)
            assert rig.store.count("src") == 0
            assert len([at for at, _ in upstream.reads if at >= gone]) == failed + 1


@virtual
async def test_back_in_the_list() -> None:
    """An asset that was gone and is listed again is read and told again."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            del upstream.states["b"]
            await asyncio.sleep(100)
            assert rig.entry("b").gone
            upstream.states["b"] = State.PROCESSING
            await asyncio.sleep(35)
            assert rig.state("b") is State.PROCESSING


@pytest.mark.parametrize("before", [None, State.AVAILABLE])
@virtual
async def test_listed_and_missing_at_once(before: State | None) -> None:
    """What lists have and reads miss, again and again, is UNKNOWN and says so; what both miss is gone."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.listed = frozenset("ab")
    if before is not None:
        upstream.states["b"] = before
    async with running(upstream, enumerate_interval_s=30) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(20)
            upstream.states.pop("b", None)
            await asyncio.sleep(120)
            status = rig.entry("b")
            assert (status.state, status.gone) == (State.UNKNOWN, False)
            assert LISTED_BUT_MISSING in rig.scheduler.trouble("b")
            changes = status.revision
            await asyncio.sleep(600)
            assert rig.entry("b").revision == changes
            assert rig.source_state() is ConditionState.HEALTHY
            upstream.listed = frozenset("a")
            await asyncio.sleep(180)
            assert rig.entry("b").gone


@virtual
async def test_what_appears_in_a_list_is_read() -> None:
    """A new asset in a source watched whole is known within one interval between lists."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, enumerate_interval_s=30) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            upstream.states["new"] = State.PENDING
            await asyncio.sleep(31)
            assert rig.state("new") is State.PENDING
