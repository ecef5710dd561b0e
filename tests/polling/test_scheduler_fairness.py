"""One caller does not starve the others: whose read is next, what leaves the line, what each may have in it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.model.errors import AssetRejected, SourceUnreachable, TooManyAssets, TooManyReads, Unreachable
from assetwatchd.model.values import State
from assetwatchd.polling.target import NEVER
from support.core_rig import SOURCE, Rig, now, running, until, virtual
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from assetwatchd.runtime.fairness import Caller

BATCH = 1000
ONE: Caller = ("host", "one", "1")
OTHER: Caller = ("host", "other", "2")
FAR: Caller = ("elsewhere", "third", "3")


def batch(number: int, count: int = BATCH) -> list[str]:
    """Name some assets."""
    return [f"batch{number} asset{index}" for index in range(count)]


def asked(rig: Rig, batches: int, count: int = BATCH) -> list[asyncio.Task[None]]:
    """Have one connection ask for fresh reads, a call each batch."""
    return [
        asyncio.create_task(rig.scheduler.read(batch(n, count), max_age_s=0, caller=("host", "one", str(n))))
        for n in range(batches)
    ]


async def cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel them."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def order(upstream: FakeUpstream) -> list[str]:
    """What was read, in order."""
    return [asset_id for _, asset_ids in upstream.reads for asset_id in asset_ids]


@pytest.mark.parametrize("caller", [OTHER, FAR, ("host", "one", "another call")], ids=["connection", "host", "call"])
@virtual
async def test_another_caller_is_served_next(caller: Caller) -> None:
    """Behind five batches of 1,000 fresh reads, a single one of another caller is the next or the second next."""
    upstream = FakeUpstream("single")
    async with running(upstream, rate_per_s=10) as rig:
        batches = asked(rig, 5)
        await asyncio.sleep(5)
        before = len(upstream.reads)
        await rig.scheduler.read(["single"], max_age_s=0, caller=caller)
        turns = 2 if caller != ("host", "one", "another call") else 6  # the five calls take turns with it
        assert "single" in order(upstream)[before : before + turns]
        await cancelled(batches)


@virtual
async def test_a_batch_is_filled_in_turns() -> None:
    """Where a call can ask for many, callers share its places."""
    upstream = FakeUpstream(batch_max=10)
    async with running(upstream, rate_per_s=1) as rig:
        big = asyncio.create_task(rig.scheduler.read(batch(0), max_age_s=0, caller=ONE))
        small = asyncio.create_task(rig.scheduler.read(batch(1, 5), max_age_s=0, caller=OTHER))
        await small
        assert len(upstream.reads) <= 2
        await cancelled([big])


@virtual
async def test_what_nobody_waits_for_is_not_read() -> None:
    """Once the calls are cancelled nothing of theirs is read, nor waits, nor is known."""
    upstream = FakeUpstream()
    async with running(upstream, rate_per_s=10) as rig:
        await asyncio.sleep(1)
        batches = asked(rig, 5)
        await asyncio.sleep(2)
        await cancelled(batches)
        assert len(rig.scheduler._plan._agenda._asked) == 0
        before = len(upstream.reads)
        await rig.scheduler.read(["single"], max_age_s=0, caller=OTHER)
        assert order(upstream)[before:] == ["single"]
        await asyncio.sleep(1000)
        assert [name for name in order(upstream)[before:] if name != "single"] == []
        await rig.scheduler.tidy(forget_after_s=1e6)
        assert [target.asset_id for target in rig.scheduler._plan.targets] == []


@virtual
async def test_one_of_several_who_leaves_takes_nothing_from_the_others() -> None:
    """What another call, a watch or a push wants too is read all the same, once."""
    upstream = FakeUpstream("shared", "watched", "pushed", "other", pushes=True)
    async with running(upstream, rate_per_s=1, concurrency=1) as rig:
        with rig.scheduler.interest(["pushed"]):
            await until(lambda: rig.scheduler.pushing and rig.knows("pushed"))
            blocking = asyncio.create_task(rig.scheduler.read(batch(0, 5), max_age_s=0, caller=FAR))
            leaving = asyncio.create_task(
                rig.scheduler.read(["shared", "watched", "pushed", "other"], max_age_s=0, caller=ONE)
            )
            staying = asyncio.create_task(rig.scheduler.read(["shared"], max_age_s=0, caller=OTHER))
            await asyncio.sleep(0.01)
            began = now()
            with rig.scheduler.interest(["watched"], caller=FAR):
                await rig.scheduler.push_touched(["pushed"])
                await cancelled([leaving])
                await asyncio.gather(staying, blocking)
                await asyncio.sleep(20)
                for name in ("shared", "watched", "pushed"):
                    assert len(upstream.reads_of(name, since=began)) == 1, name
                assert upstream.reads_of("other", since=began) == []


@virtual
async def test_a_batch_that_fails_leaves_the_line() -> None:
    """One that failed for one of its assets waits for none of the others."""
    upstream = FakeUpstream()
    upstream.poison["batch0 asset0"] = Unreachable("HTTP 500")
    async with running(upstream, rate_per_s=10) as rig:
        await rig.scheduler.read(["before"], max_age_s=0)
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(batch(0), max_age_s=0, caller=ONE)
        await asyncio.sleep(100)
    assert {name for name in order(upstream) if name.startswith("batch0")} <= set(batch(0, 3))


@virtual
async def test_first_reads_of_watches_take_turns_too() -> None:
    """Behind 5,000 new names of one watch, those of another have every second read."""
    upstream = FakeUpstream(*batch(0, 5000), *batch(1, 10))
    async with running(upstream, rate_per_s=10) as rig, asyncio.timeout(10):
        with rig.scheduler.interest(batch(0, 5000), caller=ONE):
            await asyncio.sleep(3)
            before = len(upstream.reads)
            with rig.scheduler.interest(batch(1, 10), caller=OTHER):
                await rig.scheduler.first_reads(batch(1, 10))
                assert set(batch(1, 10)) <= set(order(upstream)[before : before + 21])


@virtual
async def test_what_several_want_is_read_in_the_turn_that_comes_first() -> None:
    """The last of 1,000 names of one, fresh or new, is read at once when another wants it alone."""
    upstream = FakeUpstream(*batch(0), *batch(1))
    async with running(upstream, rate_per_s=10) as rig:
        fresh = asyncio.create_task(rig.scheduler.read(batch(0), max_age_s=0, caller=ONE))
        with rig.scheduler.interest(batch(1), caller=ONE):
            await asyncio.sleep(3)
            before = len(upstream.reads)
            await rig.scheduler.read(batch(0)[-1:], max_age_s=0, caller=OTHER)
            with rig.scheduler.interest(batch(1)[-1:], caller=OTHER):
                await rig.scheduler.first_reads(batch(1)[-1:])
            assert len(upstream.reads) - before <= 12
            await cancelled([fresh])


@virtual
async def test_the_unread_names_of_a_watch_that_ended_are_not_read() -> None:
    """They leave the line with it, and make room again."""
    upstream = FakeUpstream()
    async with running(upstream, rate_per_s=10, assets_max=8000) as rig:
        with rig.scheduler.interest(batch(0, 2000), caller=ONE):
            await asyncio.sleep(5)
        list(rig.scheduler.leave(ONE))
        before = len(upstream.reads)
        with rig.scheduler.interest(batch(1, 8000)):
            pass
        assert all(target.due == NEVER for target in rig.scheduler._plan.targets)
        await asyncio.sleep(100)
        assert order(upstream)[before:] == []


@virtual
async def test_a_target_of_several_watches_is_read_once() -> None:
    """In the turn that comes first; that the first watch ends changes nothing for the second."""
    upstream = FakeUpstream(*batch(0, 100))
    seldom: dict[str, Any] = {"settled_interval_s": 1000, "busy_interval_s": 1000}
    async with running(upstream, rate_per_s=10, **seldom) as rig, AsyncExitStack() as stack:
        first = rig.scheduler.interest(batch(0, 100), caller=ONE)
        stack.enter_context(rig.scheduler.interest(batch(0, 100), caller=OTHER))
        await asyncio.sleep(2)
        first.end()
        list(rig.scheduler.leave(ONE))
        await asyncio.sleep(20)
    assert sorted(order(upstream)) == sorted(batch(0, 100))


@virtual
async def test_reads_in_line_are_bounded() -> None:
    """Of a connection and of a host; a small call still has room beside large ones; another host has its own."""
    upstream = FakeUpstream("x")
    async with running(upstream, rate_per_s=1, reads_per_peer_max=4000) as rig:
        batches = asked(rig, 1)
        await asyncio.sleep(0.01)
        with pytest.raises(TooManyReads) as refused:
            await rig.scheduler.read(batch(7), max_age_s=0, caller=ONE)
        assert refused.value.subject == "caller:host"
        assert refused.value.metadata == {"source": SOURCE, "limit": "4000"}
        for caller in (ONE, OTHER, FAR):
            await rig.scheduler.read(["x"], max_age_s=0, caller=caller)
        assert rig.scheduler._reads._taken["host",] == BATCH
        await cancelled(batches)
        assert not rig.scheduler._reads._taken
        assert not rig.scheduler._plan.targets._strangers.quota._taken


@virtual
async def test_what_is_known_needs_no_room_in_line() -> None:
    """A call that asks no upstream is not counted."""
    upstream = FakeUpstream(*batch(0))
    async with running(upstream, rate_per_s=10_000, reads_per_peer_max=20) as rig:
        await rig.scheduler.read(batch(0), max_age_s=None)
        await rig.scheduler.read(batch(0), max_age_s=None, caller=ONE)


@virtual
async def test_invented_names_take_no_room_from_others() -> None:
    """Watches of ids that never were are refused before they fill a source; who comes then finds room."""
    upstream = FakeUpstream("real")
    async with running(upstream, rate_per_s=10_000, assets_max=1000) as rig, AsyncExitStack() as stack:
        for number in range(2):
            stack.enter_context(rig.scheduler.interest(batch(number, 100), caller=ONE))
        for number in range(2, 9):
            with pytest.raises(TooManyAssets) as refused:
                rig.scheduler.interest(batch(number, 100), caller=ONE)
            assert refused.value.subject == "caller:host"
        await asyncio.sleep(10)
        assert rig.state("batch0 asset0") is State.MISSING
        with pytest.raises(TooManyAssets):
            await rig.scheduler.read(batch(7, 100), max_age_s=0, caller=ONE)
        for caller in (OTHER, FAR):
            stack.enter_context(rig.scheduler.interest(batch(8, 100), caller=caller))
            await rig.scheduler.read(["real", *batch(9, 100)], max_age_s=0, caller=caller)


@virtual
async def test_what_the_upstream_will_not_speak_about_takes_no_room_from_others() -> None:
    """That it rejects a name is no sign of an asset: who asks is answered, who watches is told, and nothing stays."""
    upstream = FakeUpstream("real")
    upstream.poison = dict.fromkeys(batch(0) + batch(1), AssetRejected("HTTP 400"))
    async with running(upstream, rate_per_s=10_000, assets_max=100, linger_s=1) as rig:
        with rig.scheduler.interest([], whole=True):
            for name in batch(0, 300):
                await rig.scheduler.read([name], max_age_s=0, caller=ONE)
            found = rig.scheduler.unseen("batch0 asset299")
            assert found is not None
            assert (found.state, list(rig.store.keys(SOURCE))) == (State.UNKNOWN, [])
            for first in range(0, 300, 20):
                with rig.scheduler.interest(batch(1)[first : first + 20], caller=OTHER):
                    await asyncio.sleep(10)
                    assert rig.state(batch(1)[first]) is State.UNKNOWN
                    with pytest.raises(TooManyAssets) as refused:
                        rig.scheduler.interest(batch(2, 20), caller=OTHER)
                    assert refused.value.subject == "caller:host"
                    await rig.scheduler.read(["real"], max_age_s=0, caller=FAR)
            await asyncio.sleep(2)
            await rig.scheduler.tidy(forget_after_s=1e6)
            assert [key.asset_id for key in rig.store.keys(SOURCE)] == ["real"]


@virtual
async def test_what_the_upstream_will_not_speak_about_is_told_to_all_once_a_list_has_it() -> None:
    """A list proves that it is there, and who watches the whole source sees it from then on, as UNKNOWN."""
    upstream = FakeUpstream("odd", enumerates=True)
    upstream.poison["odd"] = AssetRejected("HTTP 400")
    async with running(upstream, settled_interval_s=1, busy_interval_s=1) as rig:
        with rig.scheduler.interest(["odd"], caller=ONE):
            await until(lambda: rig.knows("odd"))
            assert rig.entry("odd").gone
            with rig.scheduler.interest([], whole=True):
                await until(lambda: not rig.entry("odd").gone)
        await rig.scheduler.tidy(forget_after_s=1e6)
        assert rig.state("odd") is State.UNKNOWN


@virtual
async def test_names_that_never_were_are_not_polled_for_who_watches_the_whole() -> None:
    """Once nobody names them they are nobody's; else all that was ever invented would be read in place of what is."""
    upstream = FakeUpstream("real")
    async with running(upstream, rate_per_s=10_000, assets_max=2000) as rig:
        with rig.scheduler.interest(["real"], whole=True):
            for number in range(5):
                with rig.scheduler.interest(batch(number, 90), caller=ONE):
                    await asyncio.sleep(2)
                    assert rig.entry(batch(number)[0]).gone
            assert await rig.scheduler.polled_assets() == 1
            await rig.scheduler.tidy(forget_after_s=1e6)
            assert [target.asset_id for target in rig.scheduler._plan.targets] == ["real"]


@virtual
async def test_long_invented_names_weigh_more() -> None:
    """A name of 2,000 characters counts for as many as it takes room of."""
    async with running(FakeUpstream(), rate_per_s=10_000, assets_max=1000) as rig:
        rig.scheduler.interest([f"{number:02000}" for number in range(31)], caller=ONE)
        with pytest.raises(TooManyAssets):
            rig.scheduler.interest(["x" * 2000], caller=ONE)
        rig.scheduler.interest(["x", "y"], caller=ONE)


@virtual
async def test_invented_names_go_with_their_watch() -> None:
    """What was kept of them for a watch is not kept after it: it gives way at once, and is gone when tidied."""
    upstream = FakeUpstream("real")
    async with running(upstream, rate_per_s=10_000, assets_max=200) as rig:
        for number in range(10):
            with rig.scheduler.interest(batch(number, 50), caller=ONE):
                await asyncio.sleep(10)
                assert all(rig.entry(name).gone for name in batch(number, 50))
            assert len(list(rig.store.keys(SOURCE))) <= 200
        with rig.scheduler.interest(["real"]):
            await asyncio.sleep(10)
            floor = rig.store.floor
            await rig.scheduler.tidy(forget_after_s=1e6)
            assert [key.asset_id for key in rig.store.keys(SOURCE)] == ["real"]
            assert rig.store.floor == floor


@virtual
async def test_what_is_seen_counts_against_nobody() -> None:
    """Names whose assets were found are no strangers; so one may watch as many as there are, by and by."""
    upstream = FakeUpstream(*[name for number in range(8) for name in batch(number, 100)])
    async with running(upstream, rate_per_s=10_000, assets_max=1000) as rig, AsyncExitStack() as stack:
        for number in range(8):
            stack.enter_context(rig.scheduler.interest(batch(number, 100), caller=ONE))
            await asyncio.sleep(1)
        assert rig.store.count(SOURCE) == 800
        assert not rig.scheduler._plan.targets._strangers.quota._taken


@virtual
async def test_an_asset_that_was_there_is_kept_as_a_removal() -> None:
    """Unlike one that never was: those who saw it are to be told that it is gone, also when they come back."""
    upstream = FakeUpstream("a")
    async with running(upstream, busy_interval_s=1, settled_interval_s=1) as rig:
        with rig.scheduler.interest(["a"], caller=ONE):
            await until(lambda: rig.knows("a"))
            del upstream.states["a"]
            await until(lambda: rig.entry("a").gone)
        await rig.scheduler.tidy(forget_after_s=1e6)
        assert rig.scheduler.observed_at("a") is None
        assert rig.entry("a").gone


@virtual
async def test_a_stranger_that_appears_is_one_no_more() -> None:
    """A name that was invented, and then came to be, is kept when its watch ends."""
    upstream = FakeUpstream()
    async with running(upstream, busy_interval_s=1, settled_interval_s=1) as rig:
        with rig.scheduler.interest(["a"], caller=ONE):
            await until(lambda: rig.knows("a"))
            upstream.states["a"] = State.AVAILABLE
            await until(lambda: not rig.entry("a").gone)
            assert not rig.scheduler._plan.targets._strangers.quota._taken
        await rig.scheduler.tidy(forget_after_s=1e6)
        assert rig.state("a") is State.AVAILABLE


@virtual
async def test_room_is_made_without_a_search() -> None:
    """A thousand new names, each in place of one that is idle, beside thousands that are not: no walk over those."""
    upstream = FakeUpstream()
    async with running(upstream, rate_per_s=10_000, assets_max=2000) as rig:
        with rig.scheduler.interest(batch(0)):
            await rig.scheduler.read(batch(1), max_age_s=0)
            looked = 0
            idle = rig.scheduler._plan.targets._strangers._idle

            class Counting(type(idle)):  # type: ignore[misc]  # a dict that counts how far it is walked over
                def __iter__(self) -> object:
                    nonlocal looked
                    for item in super().__iter__():
                        looked += 1
                        yield item

            rig.scheduler._plan.targets._strangers._idle = Counting(idle)
            for name in batch(2):
                await rig.scheduler.read([name], max_age_s=0)
            assert looked == BATCH


MOVES = st.lists(
    st.tuples(st.sampled_from(["read", "watch", "cancel", "wait"]), st.integers(0, 3), st.integers(0, 11)), max_size=30
)


@given(MOVES)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_nothing_stays(moves: list[tuple[str, int, int]]) -> None:
    """Whatever callers ask for, name and give up: what is waited for is read, and in the end nothing is in line."""

    @virtual
    async def play() -> None:
        upstream = FakeUpstream("a1", "a2", "a3")
        async with running(upstream, rate_per_s=5, linger_s=1) as rig:
            held: list[tuple[Caller, asyncio.Task[None] | None, ExitStack]] = []
            for number, (move, who, what) in enumerate(moves):
                caller = ("host", str(who), str(number))
                names = [f"a{what}", f"a{(what + who) % 12}", f"a{number}"]
                stack = ExitStack()
                if move == "read":
                    reading = rig.scheduler.read(names, max_age_s=0, caller=caller)
                    held.append((caller, asyncio.create_task(reading), stack))
                elif move == "watch":
                    stack.enter_context(rig.scheduler.interest(names, caller=caller))
                    held.append((caller, None, stack))
                elif move == "cancel" and held:
                    await end(rig, held.pop(what % len(held)))
                else:
                    await asyncio.sleep(what / 10)
                await asyncio.sleep(0)
            async with asyncio.timeout(100):
                await asyncio.gather(*[task for _, task, _ in held if task is not None])
            await asyncio.sleep(60)
            for target in rig.scheduler._plan.targets:
                assert not target.demand.named or target.knowledge.current_at is not None
            for one in held:
                await end(rig, one)
            await asyncio.sleep(60)
            reads = len(upstream.reads)
            await asyncio.sleep(60)
            plan = rig.scheduler._plan
            assert len(upstream.reads) == reads
            assert not any(target.due < now() for target in plan.targets)
            assert not plan.targets._strangers.quota._taken
            assert not rig.scheduler._reads._taken
            await rig.scheduler.tidy(forget_after_s=1e6)
            assert {target.asset_id for target in plan.targets} <= {"a1", "a2", "a3"}

    async def end(rig: Rig, one: tuple[Caller, asyncio.Task[None] | None, ExitStack]) -> None:
        caller, task, stack = one
        if task is not None:
            await cancelled([task])
        stack.close()
        list(rig.scheduler.leave(caller))

    play()
