"""Changes that an upstream pushes."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import BadAnswer, Refused, SourceUnreachable, Throttled, Unanswered, Unreachable
from assetwatchd.model.values import ConditionState, Freshness, State
from assetwatchd.polling import push
from assetwatchd.runtime.slices import SLICE
from support import virtual_time
from support.core_rig import now, running, until, virtual
from support.fake_upstream import FakeUpstream, most_in_a_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import Entry


class SlowStore(MemoryStore):
    """Takes delay_s for a commit."""

    delay_s = 0.0

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Commit, in the end."""
        await asyncio.sleep(self.delay_s)
        return await super().commit(drafts)


@virtual
async def test_connected_only_while_somebody_is_interested() -> None:
    """The push connection opens at once with the first interest and closes soon after the last."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        await asyncio.sleep(100)
        assert upstream.connects == []
        with rig.scheduler.interest(["a"]):
            asked = now()
            await until(lambda: upstream.connected)
            assert now() - asked <= 0.1
            await asyncio.sleep(100)
            assert len(upstream.connects) == 1
        await asyncio.sleep(2)
        assert not upstream.connected
        assert rig.source_state() is ConditionState.HEALTHY


@virtual
async def test_the_first_frame_is_read_whole() -> None:
    """What the first frame lists is all read at once, and then no more than reconciliation asks for."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(50)], pushes=True, enumerates=True)
    upstream.states["a0"] = State.PROCESSING
    async with running(upstream, rate_per_s=100, reconcile_interval_s=600) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(2)
            assert rig.store.count("src") == 50
            began = now()
            await asyncio.sleep(600)
            for asset_id in upstream.states:
                assert 1 <= len(upstream.reads_of(asset_id, since=began)) <= 2
            assert upstream.lists == []
            assert rig.scheduler.freshness(rig.entry("a1")) is Freshness.FRESH


@virtual
async def test_reconciliation_is_no_burst() -> None:
    """Assets that were read together when the connection began are spread over time when they are reconciled."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(200)], pushes=True, enumerates=True)
    async with running(upstream, rate_per_s=100, reconcile_interval_s=600) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            began = now()
            await asyncio.sleep(600)
            reads = [at for at, _ in upstream.reads if at >= began]
            assert len(reads) >= 200
            assert most_in_a_second(reads) <= 8


@virtual
async def test_touched_is_read_at_once() -> None:
    """A pushed change is known without waiting for any interval, also of an asset never heard of."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(100)
            upstream.states.update(a=State.FAILED, b=State.PENDING)
            upstream.push_touched("a", "b")
            await asyncio.sleep(0.2)
            assert rig.state("a") is State.FAILED
            assert rig.state("b") is State.PENDING
            assert rig.scheduler.figures.notices == 2


@virtual
async def test_ids_that_nobody_could_ask_for(caplog: pytest.LogCaptureFixture) -> None:
    """What is pushed or listed under an id that its kind refuses is left out, which is said of a list."""
    upstream = FakeUpstream("a", "not-an-id", pushes=True, enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            upstream.push_touched("not-an-id", "b")
            await asyncio.sleep(10)
            assert sorted(key.asset_id for key in rig.store.keys("src")) == ["a", "b"]
            assert upstream.reads_of("not-an-id") == []
    assert "cannot be listed completely: 1 ids that cannot be one, e.g. 'not-an-id'" in caplog.text


@virtual
async def test_pushed_beyond_what_there_is_room_for(caplog: pytest.LogCaptureFixture) -> None:
    """New assets beyond assets_max are left out, which is said once a connection; those that are known are read."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(10)], pushes=True)
    async with running(upstream, assets_max=10) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            upstream.states["a0"] = State.FAILED
            for round_ in range(3):
                upstream.push_touched(*[f"b{round_}.{n}" for n in range(2 * SLICE)], "a0")
            await asyncio.sleep(10)
            assert rig.state("a0") is State.FAILED
            assert rig.store.count("src") == 10
            turns = len(rig.told)
            assert rig.source_state() is ConditionState.DEGRADED
            assert rig.scheduler.condition.message == "cannot be listed completely: assets beyond assets_max = 10"
            await asyncio.sleep(600)
            assert len(rig.told) == turns
        await asyncio.sleep(600)
        assert rig.source_state() is ConditionState.HEALTHY, "nobody wants all there is"
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(5)
            assert rig.scheduler.complete is (rig.source_state() is ConditionState.HEALTHY)
    assert caplog.text.count("tells of assets beyond assets_max = 10; those are left out") == 1


@virtual
async def test_assets_beyond_the_limit_are_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    """Not once a connection, since one that flaps finds that anew each time."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream, assets_max=1) as rig:
        with rig.scheduler.interest([], whole=True):
            began = now()
            for _ in range(20):
                await until(lambda: upstream.connected)
                await asyncio.sleep(1)
                upstream.push_touched("b", "c")
                upstream.drop_push()
                await until(lambda: not upstream.connected)
            assert len(upstream.connects) >= 20
            assert now() - began < push.LINE_EVERY_S
            assert caplog.text.count("tells of assets beyond assets_max = 1") == 1
            await asyncio.sleep(push.LINE_EVERY_S)
            upstream.push_touched("b", "c")
            await asyncio.sleep(1)
    assert caplog.text.count("tells of assets beyond assets_max = 1") == 2


@pytest.mark.parametrize("lasted_s", [0.15, 1.5, 5.0, 15.0, 25.0, 29.9, 30.0, 31.0, 45.0, 90.0])
def test_a_connection_that_answers_no_ping_is_told_once(lasted_s: float) -> None:
    """However long it takes to show that: the source does not turn with each connection, and is tried ever less."""

    async def cut(upstream: FakeUpstream) -> None:
        while True:
            await until(lambda: upstream.connected)
            await asyncio.sleep(lasted_s)
            upstream.drop_push(Unanswered("no pong", shows_after_s=lasted_s))
            await until(lambda: not upstream.connected)

    async def check() -> None:
        upstream = FakeUpstream("a", "b", pushes=True, enumerates=True)
        async with running(upstream) as rig:
            with rig.scheduler.interest([], whole=True):
                cutting = asyncio.create_task(cut(upstream))
                await asyncio.sleep(20 * (lasted_s + 30))
                cutting.cancel()
                states = [condition.state for condition in rig.told]
                well, amiss = ConditionState.HEALTHY, ConditionState.DEGRADED
                assert states == [well, amiss, well, amiss]
                assert len(upstream.connects) < 20 * (lasted_s + 30) / (lasted_s + 7)
                await until(lambda: upstream.connected)
                await asyncio.sleep(2 * lasted_s + 60)
                assert rig.source_state() is well, "a connection that lasts ends it"

    virtual_time.run(check())


@virtual
async def test_others_have_a_turn_while_much_is_pushed() -> None:
    """A notice of many assets is taken in by slices."""
    upstream = FakeUpstream("a", pushes=True)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with running(upstream, assets_max=1) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            task = asyncio.create_task(other())
            upstream.push_touched(*[f"b{n}" for n in range(20 * SLICE)], "a")
            while not upstream.reads_of("a", since=now()):  # noqa: ASYNC110 - it is the upstream that is asked
                await asyncio.sleep(0)
            task.cancel()
    assert turns >= 20


@virtual
async def test_a_store_that_is_slow_holds_back_removals() -> None:
    """While it has more to keep than WAITING_MAX, no more is taken in of what is pushed; nothing of it is lost."""
    count = 3 * push.WAITING_MAX
    upstream = FakeUpstream(*[f"a{n}" for n in range(count)], pushes=True)
    store = SlowStore()
    async with running(upstream, store=store, assets_max=2 * count, rate_per_s=100_000, concurrency=100) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.store.count("src") == count)
            store.delay_s = 0.5
            for n in range(count):
                upstream.push_removed(f"a{n}")
            await asyncio.sleep(2)
            assert rig.scheduler._outcomes.waiting <= push.WAITING_MAX + 1
            await until(lambda: rig.store.count("src") == 0)


@virtual
async def test_touched_while_being_read() -> None:
    """A change pushed while the asset is being read is read once more, since the answer may be older."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            upstream.latency_s = 1
            upstream.most_running = 0
            began = now()
            upstream.push_touched("a")
            await asyncio.sleep(0.5)
            upstream.states["a"] = State.FAILED
            upstream.push_touched("a")
            upstream.push_touched("a")
            await asyncio.sleep(5)
            assert rig.state("a") is State.FAILED
            assert len(upstream.reads_of("a", since=began)) == 2
            assert upstream.most_running == 1


@virtual
async def test_touched_unwanted() -> None:
    """A change of an asset nobody wants is not read now, but what was known of it is not told as known any more."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["b"], max_age_s=None)
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(100)
            upstream.states["b"] = State.FAILED
            touched = now()
            upstream.push_touched("b")
            await asyncio.sleep(100)
            assert upstream.reads_of("b", since=touched) == []
            await rig.scheduler.read(["b"], max_age_s=None)
            assert rig.state("b") is State.FAILED


@virtual
async def test_touched_between_the_end_of_a_read_and_its_answer() -> None:
    """Nobody waits any more, and nobody has the asset linger yet: it is of interest all the same, and read anew."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        await asyncio.sleep(1)
        reading = asyncio.create_task(rig.scheduler.read(["a"], max_age_s=None))
        while rig.scheduler.observed_at("a") is None:  # noqa: ASYNC110 - the very turn of the loop is meant
            await asyncio.sleep(0)
        assert not reading.done()
        upstream.states["a"] = State.FAILED
        await rig.scheduler.push_touched(["a"])
        await reading
        await asyncio.sleep(1)
        assert rig.state("a") is State.FAILED


@virtual
async def test_touched_unwanted_while_being_read() -> None:
    """A read that a touch made worthless, since nobody wanted the asset just then, is made again for who wants it."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, linger_s=1) as rig:
        with rig.scheduler.interest(["a"]):
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(10)
                upstream.latency_s = 1
                upstream.push_touched("b")
                await asyncio.sleep(0.5)
            upstream.states["b"] = State.FAILED
            upstream.push_touched("b")
            await asyncio.sleep(0.1)
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(5)
                assert rig.state("b") is State.FAILED


@virtual
async def test_touched_unwanted_while_being_kept() -> None:
    """What a read saw is no longer known when it is in the store at last, if the asset was touched meanwhile."""
    upstream, store = FakeUpstream("a", "b", pushes=True), SlowStore()
    async with running(upstream, store, linger_s=1) as rig:
        with rig.scheduler.interest(["a"]):
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(10)
                store.delay_s = 1
                upstream.states["b"] = State.PENDING
                upstream.push_touched("b")
                await asyncio.sleep(0.1)
            upstream.states["b"] = State.FAILED
            upstream.push_touched("b")
            await asyncio.sleep(0.1)
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(5)
                assert rig.state("b") is State.FAILED


@virtual
async def test_touched_while_failing_and_then_unwanted() -> None:
    """A change that could not be read while somebody wanted the asset is read for who asks next, before the answer."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, linger_s=1) as rig:
        with rig.scheduler.interest(["a"]):
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(10)
                upstream.fault = Unreachable("x")
                upstream.states["b"] = State.FAILED
                upstream.push_touched("b")
                await asyncio.sleep(30)
            upstream.fault = None
            await asyncio.sleep(100)
            assert rig.state("b") is State.AVAILABLE
            await rig.scheduler.read(["b"], max_age_s=None)
            assert rig.state("b") is State.FAILED


@virtual
async def test_touched_unwanted_and_then_out_of_reach() -> None:
    """What was known before an unread change is the answer for who takes any age, when the source cannot be asked."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["b"], max_age_s=None)
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(100)
            upstream.push_touched("b")
            await asyncio.sleep(1)
            upstream.fault = Refused("x")
            await rig.scheduler.read(["b"], max_age_s=None)
            await asyncio.sleep(1)  # it is read whether others are refused, too
            assert rig.source_state() is ConditionState.REFUSED
            await rig.scheduler.read(["b"], max_age_s=None)
            with pytest.raises(SourceUnreachable):
                await rig.scheduler.read(["b"], max_age_s=0)
            with pytest.raises(SourceUnreachable):
                await rig.scheduler.read(["b", "c"], max_age_s=None)


@virtual
async def test_a_list_from_before_the_connection_is_of_no_use() -> None:
    """A list that was under way when the push connection came is older than what that began with."""
    upstream = FakeUpstream("a", "b", enumerates=True, pushes=True)
    upstream.push_fault = Unreachable("refused")
    async with running(upstream, linger_s=1, backoff_first_s=1) as rig:
        with rig.scheduler.interest((), whole=True):
            upstream.latency_s, upstream.listed = 20, frozenset("ab")
            await until(lambda: bool(upstream.lists))
            del upstream.states["b"]
            upstream.push_fault = None
            await until(lambda: upstream.connected)
            upstream.latency_s = 0
            await asyncio.sleep(30)
            assert not rig.knows("b")


@virtual
async def test_not_fresh_until_read_after_a_break() -> None:
    """What was read before the push connection broke is not trusted for being pushed again, but once it was read."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        await asyncio.sleep(1000)
        assert not rig.scheduler.pushing
        upstream.latency_s = 5
        with rig.scheduler.interest(["a"]):
            await until(lambda: rig.scheduler.pushing)
            assert rig.scheduler.freshness(rig.entry("a")) is Freshness.STALE
            await asyncio.sleep(10)
            assert rig.scheduler.freshness(rig.entry("a")) is Freshness.FRESH


@virtual
async def test_touched_unwanted_then_watched() -> None:
    """A change that nobody wanted when it was pushed is read when somebody begins to watch, not at reconciliation."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, linger_s=20) as rig:
        with rig.scheduler.interest(["a"]):
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(10)
            upstream.states["b"] = State.FAILED
            upstream.push_touched("b")
            await asyncio.sleep(1)
            with rig.scheduler.interest(["b"]):
                await asyncio.sleep(1)
                assert rig.state("b") is State.FAILED


@virtual
async def test_removed_wins_over_a_read_under_way() -> None:
    """A pushed deletion is told at once; the answer of a read that began before it is thrown away."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            upstream.latency_s = 5
            upstream.push_touched("a")
            await asyncio.sleep(1)
            reader = asyncio.create_task(rig.scheduler.read(["a"], max_age_s=0))
            await asyncio.sleep(1)
            upstream.push_removed("a")
            await asyncio.sleep(0.1)
            assert rig.state("a") is State.DELETED
            assert reader.done()
            head, observed_at = rig.store.head, rig.scheduler.observed_at("a")
            await asyncio.sleep(5)
            assert rig.state("a") is State.DELETED
            assert rig.store.head == head
            assert rig.scheduler.observed_at("a") == observed_at
            assert upstream.most_running <= 1


@virtual
async def test_removed_needs_no_read() -> None:
    """What is pushed as deleted is not read for a change that was pushed before."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, reconcile_interval_s=10_000) as rig:
        with rig.scheduler.interest(["a", "b"]):
            await asyncio.sleep(10)
            began = now()
            upstream.push_touched("a")
            upstream.push_removed("a")
            await asyncio.sleep(100)
            assert rig.state("a") is State.DELETED
            assert upstream.reads_of("a", since=began) == []


@virtual
async def test_a_deletion_does_not_double_a_read() -> None:
    """However notices and reads interleave, an asset is read by one call at a time."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            upstream.latency_s = 1
            upstream.most_running = 0
            for _ in range(20):
                upstream.push_touched("a")
                await asyncio.sleep(0.3)
                upstream.push_removed("a")
                upstream.states["a"] = State.AVAILABLE
                upstream.push_touched("a")
                await asyncio.sleep(0.3)
            await asyncio.sleep(10)
            assert upstream.most_running == 1
            assert rig.state("a") is State.AVAILABLE


@virtual
async def test_removed_unknown() -> None:
    """The deletion of an asset nobody has heard of makes no entry."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            upstream.push_removed("never seen")
            await asyncio.sleep(10)
            assert not rig.knows("never seen")


@virtual
async def test_deleted_while_disconnected() -> None:
    """What was deleted while the connection was down is found by the first frame of the next."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            del upstream.states["b"]
            upstream.drop_push(Unreachable("reset"))
            await asyncio.sleep(40)
            assert len(upstream.connects) == 2
            assert rig.entry("b").gone


@virtual
async def test_polling_instead() -> None:
    """Without its push connection a source is polled and listed like any other, and says so; then it recovers."""
    upstream = FakeUpstream("a", pushes=True, enumerates=True)
    async with running(upstream, enumerate_interval_s=30) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            upstream.push_fault = Unreachable("connection refused")
            upstream.drop_push(Unreachable("reset by peer"))
            await asyncio.sleep(1)
            assert rig.source_state() is ConditionState.DEGRADED
            assert "polling instead: reset by peer" in rig.scheduler.condition.message
            upstream.states.update(a=State.FAILED, b=State.PENDING)
            await asyncio.sleep(65)
            assert rig.state("a") is State.FAILED
            assert rig.state("b") is State.PENDING
            assert rig.scheduler.condition.readable
            upstream.push_fault = None
            await until(lambda: upstream.connected)
            await asyncio.sleep(1)
            assert rig.scheduler.pushing
            assert [told.state for told in rig.told][-1] is ConditionState.HEALTHY
            lists = len(upstream.lists)
            await asyncio.sleep(200)
            assert len(upstream.lists) == lists


@virtual
async def test_a_list_while_changes_are_pushed() -> None:
    """While changes are pushed the list is current: nobody waits for another, and none is made."""
    upstream = FakeUpstream("a", pushes=True, enumerates=True)
    async with running(upstream, enumerate_interval_s=30) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(300)
            began = now()
            await rig.scheduler.listed(5)
            assert now() == began
    assert upstream.lists == []


@virtual
async def test_pushes_that_nobody_wants_are_not_missed() -> None:
    """A source whose pushes were lost is healthy once nobody is interested in them any more."""
    upstream = FakeUpstream("a", pushes=True)
    upstream.push_fault = Unreachable("connection refused")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            assert rig.source_state() is ConditionState.DEGRADED
        await asyncio.sleep(40)
        assert rig.source_state() is ConditionState.HEALTHY
        connects = len(upstream.connects)
        await asyncio.sleep(100)
        assert len(upstream.connects) == connects


@virtual
async def test_both_down() -> None:
    """A source that neither pushes nor answers is unreachable, and healthy once both are back."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            upstream.fault = upstream.push_fault = Unreachable("connection refused")
            upstream.drop_push(Unreachable("reset"))
            await asyncio.sleep(100)
            assert rig.source_state() is ConditionState.UNREACHABLE
            upstream.fault = upstream.push_fault = None
            await asyncio.sleep(65)
            assert rig.source_state() is ConditionState.HEALTHY
            assert rig.scheduler.condition.message == ""


@pytest.mark.parametrize("error", [Unreachable("reset"), BadAnswer("not a frame"), None])
@virtual
async def test_a_dropped_connection_is_made_again(error: Unreachable | BadAnswer | None) -> None:
    """However a connection ends, it is made again after a second or so."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(100)
            upstream.drop_push(error)
            await asyncio.sleep(2)
            assert rig.scheduler.pushing
            assert len(upstream.connects) == 2


@virtual
async def test_reconnecting_backs_off() -> None:
    """Connections that fail are tried again after 1 s to 30 s, the pauses growing, and not in step."""
    upstream = FakeUpstream("a", pushes=True)
    upstream.push_fault = Unreachable("connection refused")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(1500)
    pauses = [later - earlier for earlier, later in itertools.pairwise(upstream.connects)]
    assert min(pauses) >= 1
    assert 20 < max(pauses) <= 31
    assert sum(pauses[:4]) < sum(pauses[-4:])
    assert len(pauses) > 40


@virtual
async def test_a_connection_that_does_not_last_backs_off() -> None:
    """An upstream that takes a connection only to drop it again is not connected to, and read whole, every second."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            for _ in range(600):
                await asyncio.sleep(1)
                if upstream.connected:
                    upstream.drop_push(Unreachable("reset"))
    assert len(upstream.connects) < 100


@virtual
async def test_an_adapters_defect_in_its_notices(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception in a push connection costs a log line and the pushes for a while, not the source."""
    upstream = FakeUpstream("a", pushes=True)
    upstream.push_fault = KeyError("defect")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            assert rig.state("a") is State.AVAILABLE
            assert rig.source_state() is ConditionState.DEGRADED
            upstream.push_fault = None
            await asyncio.sleep(60)
            assert rig.source_state() is ConditionState.HEALTHY
    assert "the adapter failed" in caplog.text


@virtual
async def test_no_room() -> None:
    """What is pushed beyond assets_max is left out, and nothing breaks."""
    upstream = FakeUpstream("a", "b", pushes=True)
    async with running(upstream, assets_max=3) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            upstream.push_touched("c", "d", "e")
            upstream.push_removed("e")
            await asyncio.sleep(10)
            assert await rig.scheduler.polled_assets() == 3
            assert rig.scheduler.pushing


@virtual
async def test_what_is_pushed_is_not_tidied_away() -> None:
    """While changes are pushed no list is made: what nobody wanted yet is there for whoever watches the whole later."""
    upstream = FakeUpstream("a", "b", "c", pushes=True, enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await until(lambda: upstream.connected)
            upstream.push_removed("c")
            await asyncio.sleep(1)
            await rig.scheduler.tidy(forget_after_s=1e6)
            with rig.scheduler.interest([], whole=True):
                await asyncio.sleep(1)
                assert rig.knows("b")
                assert rig.entry("c").gone
            assert upstream.lists == []


@virtual
async def test_made_again_while_nobody_wanted_it() -> None:
    """An asset that was gone and is pushed as touched is there for the next watcher of the whole, tidied or not."""
    upstream = FakeUpstream("a", "b", pushes=True, enumerates=True)
    async with running(upstream, linger_s=1) as rig:
        with rig.scheduler.interest(["a"]):
            with rig.scheduler.interest([], whole=True):
                await asyncio.sleep(1)
                upstream.push_removed("b")
                await until(lambda: rig.entry("b").gone)
            await asyncio.sleep(5)
            upstream.states["b"] = State.PENDING
            upstream.push_touched("b")
            await asyncio.sleep(1)
            await rig.scheduler.tidy(forget_after_s=1e6)
            with rig.scheduler.interest([], whole=True):
                await asyncio.sleep(1)
                assert rig.state("b") is State.PENDING


@virtual
async def test_forgotten_while_it_is_pushed() -> None:
    """What was forgotten, since nobody wanted it for long, is read again for the next watcher of the whole."""
    upstream = FakeUpstream("a", "b", pushes=True, enumerates=True)
    async with running(upstream, linger_s=1) as rig:
        with rig.scheduler.interest(["a"]):
            with rig.scheduler.interest([], whole=True):
                await until(lambda: rig.knows("b"))
            await asyncio.sleep(1000)
            await rig.scheduler.tidy(forget_after_s=900)
            await until(lambda: rig.entry("b").gone)
            await rig.scheduler.tidy(forget_after_s=900)
            with rig.scheduler.interest([], whole=True):
                await asyncio.sleep(1)
                assert not rig.entry("b").gone


@virtual
async def test_retry_after_of_a_connection() -> None:
    """An upstream that refuses the connection, and says for how long, is left alone until then, however it refuses."""
    upstream = FakeUpstream("a", pushes=True)
    async with running(upstream, backoff_first_s=1, backoff_max_s=5) as rig:
        with rig.scheduler.interest([], whole=True):
            for error in (Throttled, Unreachable, BadAnswer):
                upstream.push_fault = error("not now", retry_after_s=40)
                upstream.connects.clear()
                await asyncio.sleep(200)
                pauses = [later - earlier for earlier, later in itertools.pairwise(upstream.connects)]
                assert 4 <= len(upstream.connects) <= 5
                assert all(pause >= 40 for pause in pauses[1:])
            upstream.push_fault = None
            await asyncio.sleep(41)
            assert upstream.connected
