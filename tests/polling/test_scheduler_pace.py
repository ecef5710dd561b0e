"""How often, how many at a time, and in which order an upstream is asked."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Any, TypeVarTuple

import pytest

from assetwatchd.model.errors import SourceUnreachable
from assetwatchd.model.values import State
from assetwatchd.upstream.bodies.reading import ANSWER_S_MAX
from support import virtual_time
from support.core_rig import now, running, virtual
from support.fake_upstream import FakeUpstream, most_in_a_second

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context


def gaps(times: list[float]) -> list[float]:
    """The time between each two."""
    return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]


@virtual
async def test_interval_while_in_progress() -> None:
    """An asset in progress is read every busy interval."""
    upstream = FakeUpstream()
    upstream.states["a"] = State.PROCESSING
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(40)
    assert set(gaps(upstream.reads_of("a"))) == {2.0}


@virtual
async def test_interval_once_settled() -> None:
    """A settled asset is read half as often after each unchanged read, down to the settled interval."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(400)
    assert gaps(upstream.reads_of("a"))[:8] == [2, 4, 8, 16, 32, 60, 60, 60]


@virtual
async def test_a_change_makes_it_fast_again() -> None:
    """A settled asset that changes is read at the busy interval again."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(400)
            upstream.states["a"] = State.PROCESSING
            changed = now()
            await asyncio.sleep(100)
            assert rig.state("a") is State.PROCESSING
    assert set(gaps(upstream.reads_of("a", since=changed))[:20]) == {2.0}


@virtual
async def test_stuck_jobs_slow_down() -> None:
    """An asset that stays in progress without end does not cost its fast interval for ever."""
    upstream = FakeUpstream()
    upstream.states["a"] = State.PENDING
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(1000)
    assert gaps(upstream.reads_of("a"))[:30] == [2.0] * 30
    assert gaps(upstream.reads_of("a"))[-3:] == [60.0] * 3


@virtual
async def test_a_thousand_assets_are_no_burst() -> None:
    """1,000 assets that appear at once never exceed the rate in any second, at first and later."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(1000)])
    async with running(upstream, rate_per_s=50) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(40)
            assert rig.store.count("src") == 1000
    assert most_in_a_second(upstream.calls) <= 50


@virtual
async def test_known_assets_are_spread_by_name() -> None:
    """Interest in known assets is spread over their interval, each at its own place."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(100)])
    async with running(upstream, rate_per_s=1000, linger_s=1, settled_interval_s=60) as rig:
        await rig.scheduler.read(upstream.states, max_age_s=None)
        await asyncio.sleep(60)
        began = now()
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(4)
        times = [at - began for at in upstream.calls if at > began]
        assert len(set(times)) == 100
        for quarter in range(4):
            assert 10 <= sum(quarter <= at < quarter + 1 for at in times) <= 40


@pytest.mark.parametrize(("assets", "calls"), [(1, 1), (99, 1), (100, 1), (101, 2), (250, 3)])
@virtual
async def test_batches_are_filled(assets: int, calls: int) -> None:
    """A source with batches of 100 gets ceil(n / 100) calls a round."""
    upstream = FakeUpstream(batch_max=100)
    upstream.states.update(dict.fromkeys([f"a{n}" for n in range(assets)], State.PROCESSING))
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(21)
    assert len(upstream.reads) == 11 * calls
    assert {len(upstream.reads_of(asset_id)) for asset_id in upstream.states} == {11}


@virtual
async def test_interests_of_different_moments_share_batches() -> None:
    """Assets that were asked for one after the other end up in the same calls."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(100)], batch_max=100)
    upstream.latency_s = 0.13
    async with running(upstream) as rig:
        for asset_id in list(upstream.states):
            await rig.scheduler.read([asset_id], max_age_s=None)
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(200)
            calm = now()
            await asyncio.sleep(120)
    assert [len(names) for at, names in upstream.reads if at >= calm] == [100, 100]


@virtual
async def test_a_batch_takes_what_falls_due_soon() -> None:
    """Known assets, whose first reads fall due one after the other, share calls with those due a little later."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(300)], batch_max=100)
    async with running(upstream, linger_s=1, rate_per_s=1000) as rig:
        await rig.scheduler.read(upstream.states, max_age_s=None)
        await asyncio.sleep(100)
        upstream.reads.clear()
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(4)
    assert {name for _, names in upstream.reads for name in names} == set(upstream.states)
    assert len(upstream.reads) <= 30


@virtual
async def test_concurrency() -> None:
    """No more calls than allowed are under way at once, and that many are when there is need."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(100)])
    upstream.latency_s = 3.0
    async with running(upstream, concurrency=5, rate_per_s=1000) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(60)
    assert upstream.most_running == 5


@virtual
async def test_nobody_starves() -> None:
    """With a budget far below the demand every asset is still read, in turn."""
    upstream = FakeUpstream()
    upstream.states.update(dict.fromkeys([f"a{n}" for n in range(100)], State.PROCESSING))
    async with running(upstream, rate_per_s=10) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(101)
    counts = [len(upstream.reads_of(asset_id)) for asset_id in upstream.states]
    assert min(counts) >= max(counts) - 1 >= 9
    assert most_in_a_second(upstream.calls) <= 10


@virtual
async def test_in_progress_before_settled() -> None:
    """When there is not budget for all, assets in progress go first, and settled ones still get their turn."""
    upstream = FakeUpstream(*[f"settled{n}" for n in range(200)])
    upstream.states.update(dict.fromkeys([f"busy{n}" for n in range(6)], State.PROCESSING))
    async with running(upstream, rate_per_s=5) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(200)
            warm = now()
            for turn in range(20):
                upstream.states.update(dict.fromkeys([f"busy{n}" for n in range(6)], State(1 + turn % 2)))
                await asyncio.sleep(15)
    busy = [len(upstream.reads_of(f"busy{n}", since=warm)) for n in range(6)]
    settled = [len(upstream.reads_of(f"settled{n}", since=warm)) for n in range(200)]
    assert min(settled) >= 2
    assert min(busy) > 5 * max(settled)


@virtual
async def test_never_read_before_read_again() -> None:
    """With a budget far below the demand, what was never read goes before what was, which still has its turn."""
    upstream = FakeUpstream()
    upstream.states.update(dict.fromkeys([f"a{n}" for n in range(400)], State.PROCESSING))
    old, new = [f"a{n}" for n in range(200)], [f"a{n}" for n in range(200, 400)]
    async with running(upstream, rate_per_s=5) as rig:
        with rig.scheduler.interest(old):
            await asyncio.sleep(100)
            came = now()
            with rig.scheduler.interest(new):
                await asyncio.sleep(200 / 5 * 4 / 3 + 1)
    assert all(upstream.reads_of(asset_id, since=came) for asset_id in new)
    assert sum(len(upstream.reads_of(asset_id, since=came)) for asset_id in old) > 60


@virtual
async def test_a_get_does_not_wait_behind_the_first_reads_of_a_watch() -> None:
    """A read of one new asset is answered at once though thousands are new, and so is one of those thousands."""
    upstream = FakeUpstream()
    async with running(upstream, rate_per_s=10) as rig:
        names = [f"a{n}" for n in range(3000)]
        with rig.scheduler.interest(names):
            first = asyncio.create_task(rig.scheduler.first_reads(names))
            await asyncio.sleep(10)
            for asset_id in ("one", "a2999"):
                asked = now()
                await rig.scheduler.read([asset_id], max_age_s=None)
                assert now() - asked <= 0.3
            first.cancel()


@virtual
async def test_a_flood_of_fresh_reads_does_not_stop_the_polls() -> None:
    """While more fresh reads are asked for than the budget allows, what is watched has its turn with what they left."""
    upstream = FakeUpstream()
    upstream.states["watched"] = State.PROCESSING
    async with running(upstream, rate_per_s=5) as rig:
        with rig.scheduler.interest(["watched"]):
            await asyncio.sleep(10)
            began = now()
            asked = [asyncio.create_task(rig.scheduler.read([f"a{n}"], max_age_s=0)) for n in range(1000)]
            await asyncio.sleep(100)
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
    assert len(upstream.reads_of("watched", since=began)) >= 5
    assert sum(task.done() and not task.cancelled() for task in asked) > 200


@virtual
async def test_a_fresh_read_does_not_wait_behind_the_polls() -> None:
    """A fresh read is answered at once even when the polls are far behind."""
    upstream = FakeUpstream()
    upstream.states.update(dict.fromkeys([f"a{n}" for n in range(300)], State.PROCESSING))
    async with running(upstream, rate_per_s=10) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(100)
            asked = now()
            await rig.scheduler.read(["a7"], max_age_s=0)
            assert now() - asked <= 0.3


@virtual
async def test_what_is_read_anew_after_a_break_holds_up_nobody() -> None:
    """While all that is pushed is read again, since the connection was lost, a fresh read and a change go first."""
    names = [f"a{number}" for number in range(1000)]
    upstream = FakeUpstream(*names, pushes=True)
    async with running(upstream, rate_per_s=20) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(100)
            upstream.drop_push()
            await asyncio.sleep(5)
            assert rig.scheduler.pushing
            for asset_id in (names[-1], "unheard-of"):
                asked = now()
                await rig.scheduler.read([asset_id], max_age_s=0)
                assert now() - asked <= 1
            upstream.states[names[-2]] = State.FAILED
            upstream.push_touched(names[-2])
            await asyncio.sleep(1)
            assert rig.state(names[-2]) is State.FAILED
            began = upstream.connects[-1]
            await asyncio.sleep(60)
            assert all(upstream.reads_of(name, since=began) for name in names)


@virtual
async def test_a_hanging_call_gives_its_place_back() -> None:
    """An adapter that never answers costs a failure, not the source."""
    upstream = FakeUpstream("a")
    upstream.open.clear()
    async with running(upstream, timeout_s=5, concurrency=1) as rig:
        with pytest.raises(SourceUnreachable, match=f"no answer within {4 * 5 + ANSWER_S_MAX:g} s"):
            await rig.scheduler.read(["a"], max_age_s=0)
        upstream.open.set()
        await asyncio.sleep(60)
        assert rig.state("a") is State.AVAILABLE


@virtual
async def test_lists_do_not_overlap() -> None:
    """A list that takes longer than its interval is waited for before the next one begins."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.latency_s = 50
    async with running(upstream, enumerate_interval_s=30) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(500)
    assert min(gaps(upstream.lists)) >= 80


@virtual
async def test_signs_of_life_are_not_needed_beside_reads() -> None:
    """A source that is read often enough is not probed as well."""
    upstream = FakeUpstream()
    upstream.states["a"] = State.PROCESSING
    async with running(upstream, probe_interval_s=30) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(60)
    assert len(upstream.probes) <= 1


Ts = TypeVarTuple("Ts")


class CoarseLoop(virtual_time.VirtualTimeLoop):
    """Its clock and timers count milliseconds, as those of uvloop do. timers: how many it was asked for."""

    timers = 0

    def time(self) -> float:
        """Milliseconds that have begun."""
        return math.floor(super().time() * 1000 + 1e-6) / 1000

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Round as uvloop does; one that is asked for ever more goes round in circles."""
        self.timers += 1
        assert self.timers < 50_000
        return super().call_at(round(when, 3), callback, *args, context=context)


@pytest.mark.parametrize("rate", [30, 5000])
def test_a_coarse_clock(rate: int) -> None:
    """The rate is kept on a clock that counts milliseconds, also beyond one call a millisecond, and without circles."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(1000)])

    async def polled() -> int:
        fast: dict[str, Any] = {
            "busy_interval_s": 0.01,
            "settled_interval_s": 0.01,
            "concurrency": 16,
            "rate_per_s": rate,
        }
        async with running(upstream, pins=tuple(upstream.states), **fast):
            await asyncio.sleep(1)
        return len(upstream.reads)

    with asyncio.Runner(loop_factory=CoarseLoop) as runner:
        loop = runner.get_loop()
        assert rate * 0.95 <= runner.run(polled()) <= rate + 6
        assert isinstance(loop, CoarseLoop)
        assert loop.timers < 4 * rate + 20
