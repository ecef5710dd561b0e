"""What fails by itself while the rest of its source is well: it is told, once, with since when and the next try."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetwatchd.model.errors import AssetRejected, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model.values import Concern, ConditionState, State
from assetwatchd.polling.conditions import NONE_READ_MAX
from assetwatchd.polling.verdicts import GONE_DOUBTS_MAX
from support.core_rig import Rig, now, running, until, virtual, wall
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from assetwatchd.model.values import ConcernCondition

LIST_FAULTS = (BadAnswer("an item without an id"), Unreachable("HTTP 500"), Throttled("HTTP 429"), KeyError("defect"))


def told(rig: Rig) -> list[ConditionState]:
    """The states that were told, in order."""
    return [condition.state for condition in rig.told]


def concern(rig: Rig, which: Concern) -> ConcernCondition:
    """How one thing is doing that a source is to do."""
    return next(each for each in rig.scheduler.condition.concerns if each.concern is which)


@pytest.mark.parametrize("fault", LIST_FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("pins", [0, 1, 3])
@virtual
async def test_a_list_that_never_succeeds(fault: Exception, pins: int, caplog: pytest.LogCaptureFixture) -> None:
    """Reads and signs of life that succeed do not hide that the source cannot be listed: one turn, one line."""
    names = tuple(f"a{n}" for n in range(pins))
    upstream = FakeUpstream(*names, enumerates=True)
    upstream.list_fault = fault
    async with running(upstream, pins=names) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(30)
            assert rig.source_state() is ConditionState.DEGRADED
            condition = rig.scheduler.condition
            assert condition.message.startswith("cannot be listed: ")
            since, turns = condition.since, len(rig.told)
            await asyncio.sleep(600)
            assert len(rig.told) == turns <= 2
            listing = concern(rig, Concern.LIST)
            assert (listing.since, listing.last_success_at) == (since, None)
            assert concern(rig, Concern.READS).state is ConditionState.HEALTHY
            assert all(rig.knows(name) for name in names)
    assert sum("cannot be listed" in line for line in caplog.messages) == 1


@virtual
async def test_a_list_under_way_is_not_made_twice() -> None:
    """Whoever has all that fails tried by hand waits for the list that is being made, as long as that takes."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.list_fault = BadAnswer("no id")
    async with running(upstream, timeout_s=60) as rig:
        with rig.scheduler.interest((), whole=True):
            await until(lambda: rig.source_state().is_amiss)
            upstream.latency_s, lists = 20, len(upstream.lists)
            await until(lambda: len(upstream.lists) > lists)
            await rig.scheduler.retry()
            assert len(upstream.lists) == lists + 1


@virtual
async def test_a_list_that_begins_to_fail(caplog: pytest.LogCaptureFixture) -> None:
    """It is told within seconds, with the next try, and tried on with bounded pauses; one that succeeds mends it."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(100)
            upstream.list_fault = BadAnswer("no id")
            failing = now()
            await until(lambda: rig.source_state() is ConditionState.DEGRADED)
            assert now() - failing <= rig.scheduler.settings.enumerate_interval_s + 10
            await asyncio.sleep(300)
            next_try_at = rig.scheduler.condition.next_try_at
            assert next_try_at is not None
            assert 0 <= next_try_at - wall() <= rig.scheduler.settings.backoff_max_s
            pauses = [later - at for at, later in itertools.pairwise(at for at in upstream.lists if at > failing)]
            assert max(pauses) <= rig.scheduler.settings.backoff_max_s
            upstream.list_fault = None
            await asyncio.sleep(31)
            assert told(rig) == [ConditionState.HEALTHY, ConditionState.DEGRADED, ConditionState.HEALTHY]
    lines = [
        line for line in caplog.messages if line.startswith("source src is degraded: cannot be listed: no id; next")
    ]
    assert len(lines) == 1


@virtual
async def test_a_list_that_fails_now_and_then() -> None:
    """Every second list that fails is no news at all, and no condition is told each few seconds."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, enumerate_interval_s=2) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(1)
            for n in range(200):
                upstream.list_fault = Unreachable("HTTP 500") if n % 2 else None
                lists = len(upstream.lists)
                await until(lambda: len(upstream.lists) > lists)  # noqa: B023 - awaited before it changes
            assert told(rig) == [ConditionState.HEALTHY]


@virtual
async def test_reads_that_fail_while_the_list_does_not() -> None:
    """A list that succeeds does not hide that nothing can be read."""
    upstream = FakeUpstream("a", "b", "c", "d", enumerates=True)
    async with running(upstream, enumerate_interval_s=1) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(60)
            upstream.poison.update({asset_id: Unreachable("HTTP 500") for asset_id in upstream.states})
            await asyncio.sleep(300)
            assert told(rig) == [ConditionState.HEALTHY, ConditionState.UNREACHABLE]


@pytest.mark.parametrize("fault", [Unreachable("no"), Refused("no"), Throttled("no")], ids=lambda e: type(e).__name__)
@virtual
async def test_a_sign_of_life_that_fails_while_reads_do_not(fault: UpstreamError) -> None:
    """A source that can be read is not called gone, nor on and off, because its health page and its list are."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(100)
            upstream.probe_fault = upstream.list_fault = fault
            await asyncio.sleep(3600)
            assert told(rig) == [ConditionState.HEALTHY, ConditionState.DEGRADED]
            assert rig.scheduler.condition.message == "cannot be listed: no"


@virtual
async def test_pushes_gone_while_lists_fail() -> None:
    """Both are said, since a source that does not push is listed; the list that a new connection brings mends both."""
    upstream = FakeUpstream("a", pushes=True, enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(10)
            upstream.list_fault, upstream.push_fault = BadAnswer("no id"), Unreachable("connection refused")
            upstream.drop_push(Unreachable("reset"))
            await asyncio.sleep(120)
            message = "cannot be listed: no id; changes are not pushed, polling instead: connection refused"
            assert rig.scheduler.condition.message == message
            assert concern(rig, Concern.PUSH).next_try_at is not None
            upstream.push_fault = None
            await asyncio.sleep(60)
            assert rig.source_state() is ConditionState.HEALTHY
            assert told(rig) == [ConditionState.HEALTHY, *[ConditionState.DEGRADED] * 3, ConditionState.HEALTHY]


@virtual
async def test_a_store_that_fails_beside_a_list() -> None:
    """What our store cannot do, and what the source cannot, are both said, and taken back by themselves."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.list_fault = BadAnswer("no id")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(10)
            rig.scheduler.store_failing("no space is left")
            await asyncio.sleep(100)
            message = "cannot be listed: no id; statuses cannot be kept: no space is left"
            assert rig.scheduler.condition.message == message
            rig.scheduler.store_failing("")
            assert rig.scheduler.condition.message == "cannot be listed: no id"


@virtual
async def test_a_list_that_nobody_wants_any_more() -> None:
    """Once nobody wants a list, none is made, and the source is not said to be unlistable for ever."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.list_fault = BadAnswer("no id")
    async with running(upstream, linger_s=30) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(60)
            assert rig.source_state() is ConditionState.DEGRADED
        await asyncio.sleep(60)
        lists = len(upstream.lists)
        await asyncio.sleep(60)
        assert len(upstream.lists) == lists
        assert rig.source_state() is ConditionState.HEALTHY


@pytest.mark.parametrize("fault", [Unreachable("connection refused"), BadAnswer("no JSON")])
@virtual
async def test_an_unwatched_source_that_is_down(fault: UpstreamError) -> None:
    """It is told within the interval between signs of life, 15 s unless set, and two more tries."""
    upstream = FakeUpstream()
    async with running(upstream) as rig:
        assert rig.scheduler.settings.probe_interval_s == 15
        for later_s in range(15):
            await asyncio.sleep(100 + later_s)
            upstream.fault = fault
            down = now()
            await until(lambda: rig.source_state().is_amiss)
            assert now() - down <= 15 + 3
            upstream.fault = None
            await until(lambda: rig.source_state() is ConditionState.HEALTHY)


@pytest.mark.parametrize("bad", ["a", "abc"])
@virtual
async def test_bad_assets_do_not_keep_their_source_on_and_off(bad: str) -> None:
    """A source that was down a few times is well again after a while, though some of its assets never can be read."""
    upstream = FakeUpstream(*"abcdef")
    upstream.poison.update({asset_id: Unreachable("HTTP 500") for asset_id in bad})
    async with running(upstream, pins=tuple("abcdef")) as rig:
        await asyncio.sleep(120)
        for _ in range(3):
            upstream.fault = Unreachable("no")
            await until(lambda: rig.source_state().is_amiss)
            upstream.fault = None
            await asyncio.sleep(8)
        await asyncio.sleep(120)
        assert rig.source_state() is ConditionState.HEALTHY
        turns = len(rig.told)
        await asyncio.sleep(3600)
        assert len(rig.told) == turns


REJECTED = AssetRejected("HTTP 400: Invalid token")


@pytest.mark.parametrize("fault", [REJECTED, AssetRejected("HTTP 422")], ids=str)
@virtual
async def test_what_is_so_of_all_assets_is_so_of_their_source(fault: UpstreamError) -> None:
    """A source that rejects each asset says so once, whatever signs of life say, and is well when one can be read."""
    upstream = FakeUpstream("a", "b", "c")
    upstream.poison.update(dict.fromkeys(upstream.states, fault))
    async with running(upstream, pins=("a", "b", "c")) as rig:
        await asyncio.sleep(180)
        assert told(rig)[-1] is ConditionState.DEGRADED
        assert rig.scheduler.condition.message == f"no asset can be read: {fault}"
        turns = len(rig.told)
        await asyncio.sleep(900)
        assert len(rig.told) == turns
        upstream.poison.clear()
        await asyncio.sleep(900)
        assert rig.source_state() is ConditionState.HEALTHY


OUTAGE, NO_JSON = Unreachable("HTTP 500"), BadAnswer("no JSON")


@pytest.mark.parametrize("faults", [[OUTAGE, NO_JSON, OUTAGE], [REJECTED, AssetRejected("HTTP 422"), REJECTED]])
@pytest.mark.parametrize("batch_max", [1, 4])
def test_whatever_all_assets_fail_of_is_told_once(faults: list[UpstreamError], batch_max: int) -> None:
    """Assets that all fail, each in its way, are their source's trouble: it says so and does not flap."""

    @virtual
    async def fail() -> None:
        upstream = FakeUpstream(*(f"a{n}" for n in range(len(faults))), batch_max=batch_max)
        upstream.poison.update({f"a{n}": fault for n, fault in enumerate(faults)})
        async with running(upstream, pins=tuple(upstream.states)) as rig:
            await asyncio.sleep(200)
            assert rig.source_state().is_amiss
            assert rig.scheduler.condition.message
            turns = len(rig.told)
            await asyncio.sleep(400)
            assert len(rig.told) - turns <= 2
            assert rig.source_state().is_amiss

    fail()


FAULTS: tuple[UpstreamError | None, ...] = (OUTAGE, NO_JSON, REJECTED, None)
"""How reads of single assets fail; None: the answer leaves the asset out."""


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(FAULTS), min_size=3, max_size=6), st.sampled_from([1, 4]))
@example([NO_JSON, OUTAGE, OUTAGE, REJECTED, REJECTED, NO_JSON], 1)
@example([REJECTED, OUTAGE, OUTAGE, NO_JSON, OUTAGE], 1)
@example([None, OUTAGE, OUTAGE, OUTAGE, OUTAGE, OUTAGE], 1)
def test_no_mixture_of_failures_flaps(faults: list[UpstreamError | None], batch_max: int) -> None:
    """Assets that all fail, in whatever ways: it is told, and turns between those ways a few times at most."""

    @virtual
    async def fail() -> None:
        upstream = FakeUpstream(*(f"a{n}" for n in range(len(faults))), batch_max=batch_max)
        upstream.poison.update({f"a{n}": fault for n, fault in enumerate(faults) if fault is not None})
        upstream.left_out |= {f"a{n}" for n, fault in enumerate(faults) if fault is None}
        async with running(upstream, pins=tuple(upstream.states)) as rig:
            await asyncio.sleep(200)
            turns = len(rig.told)
            await asyncio.sleep(1800)
            assert len(rig.told) - turns <= 2 * GONE_DOUBTS_MAX
            assert all(condition.state.is_amiss for condition in rig.told[turns - 1 :])

    fail()


@virtual
async def test_another_asset_is_asked_though_more_fail_meanwhile() -> None:
    """What tells whether all assets fail is asked even if further reads fail before it can be."""
    upstream = FakeUpstream("a", "b", "c", "d", "e")
    async with running(upstream, pins=tuple(upstream.states), settled_interval_s=600) as rig:
        await asyncio.sleep(3000)
        upstream.poison.update(dict.fromkeys(upstream.states, REJECTED))
        began = now()
        reads = (rig.scheduler.read([each], max_age_s=0.0) for each in "abcd")
        await asyncio.gather(*reads, return_exceptions=True)
        await asyncio.sleep(1)
        assert upstream.reads_of("e", since=began)


@virtual
async def test_many_that_were_never_read_are_enough() -> None:
    """With NONE_READ_MAX of them that cannot be read nobody waits for the others' first reads."""
    upstream = FakeUpstream(*[f"a{n:04}" for n in range(2000)])
    upstream.poison.update(dict.fromkeys(upstream.states, REJECTED))
    async with running(upstream, pins=tuple(upstream.states), rate_per_s=1) as rig:
        await until(lambda: rig.source_state().is_amiss)
        assert NONE_READ_MAX <= len(upstream.reads) <= NONE_READ_MAX + 5


@pytest.mark.parametrize("error", [Throttled, Unreachable], ids=["HTTP 429", "HTTP 503"])
@virtual
async def test_one_asset_that_is_throttled(error: type[UpstreamError]) -> None:
    """Asked to wait for it, we wait with all the first time, and from then on with it alone, as others can be read."""
    upstream = FakeUpstream("a", "b", "c")
    upstream.poison["a"] = error("HTTP 429", retry_after_s=20)
    async with running(upstream, pins=("a", "b", "c"), busy_interval_s=2, settled_interval_s=2) as rig:
        await asyncio.sleep(400)
        turns, began = len(rig.told), now()
        await asyncio.sleep(1000)
        assert len(rig.told) == turns
        assert rig.source_state() is ConditionState.HEALTHY
        assert len(upstream.reads_of("b", since=began)) > 400
        assert 20 < len(upstream.reads_of("a", since=began)) <= 50
        assert rig.entry("a").state is State.UNKNOWN
        assert "HTTP 429" in rig.scheduler.trouble("a")
        upstream.fault = Throttled("HTTP 429", retry_after_s=20)
        await until(lambda: rig.source_state() is ConditionState.DEGRADED)
        assert len(upstream.calls) - len(upstream.reads_of("a")) < 2000, "all are asked to wait: nobody is asked"


@pytest.mark.parametrize("well", [1, 3])
@virtual
async def test_what_is_so_of_many_is_not_of_all(well: int) -> None:
    """One asset that can be read keeps those that cannot from being taken for their source."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(30 + well)])
    upstream.poison.update({f"a{n}": REJECTED for n in range(30)})
    async with running(upstream, pins=tuple(reversed(upstream.states))) as rig:
        await asyncio.sleep(900)
        assert [each.state for each in rig.told] == [ConditionState.HEALTHY]


@virtual
async def test_the_next_try_of_a_list_that_lacks_something() -> None:
    """It is that of the next list, whatever the list was like before."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.list_fault = BadAnswer("no id")
    async with running(upstream) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(100)
            upstream.list_fault, upstream.unlisted = None, 1
            await until(lambda: "completely" in rig.scheduler.condition.message)
            for _ in range(10):
                next_try_at, lists = rig.scheduler.condition.next_try_at, len(upstream.lists)
                assert next_try_at is not None
                await asyncio.sleep(next_try_at - wall() + 1)
                assert len(upstream.lists) == lists + 1
