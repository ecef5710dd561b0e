"""When an upstream fails: one asset of it, some calls, or all of it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from assetwatchd.model.errors import (
    AssetRejected,
    BadAnswer,
    Refused,
    SourceUnreachable,
    Throttled,
    Unreachable,
    UpstreamError,
)
from assetwatchd.model.values import ConditionState, Freshness, State
from assetwatchd.rpc import convert
from support.core_rig import Rig, now, running, until, virtual
from support.fake_upstream import FakeUpstream, most_in_a_second


def told(rig: Rig) -> list[ConditionState]:
    """The states that were told, in order."""
    return [condition.state for condition in rig.told]


@pytest.mark.parametrize("failures", [1, 2])
@virtual
async def test_few_failures_are_no_news(failures: int) -> None:
    """One or two calls that fail change no condition."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(10)])
    async with running(upstream, pins=tuple(upstream.states)) as rig:
        await asyncio.sleep(10)
        before = len(upstream.calls)
        upstream.fault = Unreachable("HTTP 502")
        await until(lambda: len(upstream.calls) >= before + failures)
        upstream.fault = None
        await asyncio.sleep(30)
        assert told(rig) == [ConditionState.HEALTHY]
        assert rig.scheduler.figures.failed_calls == failures


@virtual
async def test_three_failures_in_a_row() -> None:
    """The third call in a row that fails turns the condition, which is told once; states are kept."""
    upstream = FakeUpstream("a", "b", "c")
    async with running(upstream, pins=("a", "b", "c")) as rig:
        await asyncio.sleep(1)
        head = rig.store.head
        upstream.fault = Unreachable("connection refused")
        await asyncio.sleep(300)
        assert told(rig) == [ConditionState.HEALTHY, ConditionState.UNREACHABLE]
        assert rig.scheduler.condition.message == "connection refused"
        assert rig.store.head == head
        assert rig.state("a") is State.AVAILABLE
        assert rig.scheduler.freshness(rig.entry("a")) is Freshness.UNREACHABLE


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Unreachable("x"), ConditionState.UNREACHABLE),
        (Refused("x"), ConditionState.REFUSED),
        (Throttled("x"), ConditionState.DEGRADED),
        (BadAnswer("x"), ConditionState.DEGRADED),
        (ZeroDivisionError("x"), ConditionState.DEGRADED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
@virtual
async def test_each_kind_of_failure(fault: Exception, state: ConditionState) -> None:
    """Each way to fail has its condition, none ends the source, and each mends by itself."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(60)
            upstream.fault = fault
            await asyncio.sleep(120)
            assert rig.source_state() is state
            upstream.fault = None
            await asyncio.sleep(60)
            assert told(rig) == [ConditionState.HEALTHY, state, ConditionState.HEALTHY]


@virtual
async def test_the_first_call_decides() -> None:
    """A source that was never reached is told unreachable at its first failure."""
    upstream = FakeUpstream()
    upstream.fault = Unreachable("connection refused")
    async with running(upstream) as rig:
        await asyncio.sleep(0.1)
        assert told(rig) == [ConditionState.UNREACHABLE]


@pytest.mark.parametrize("fault", [Refused("HTTP 401"), Throttled("HTTP 429")], ids=["refused", "throttled"])
@virtual
async def test_some_failures_turn_at_once(fault: UpstreamError) -> None:
    """Refused credentials and throttling turn the condition at the first call."""
    upstream = FakeUpstream("a")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(10)
        upstream.fault = fault
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(["a"], max_age_s=0)
        assert len(told(rig)) == 2


@virtual
async def test_backoff() -> None:
    """While a source fails, single calls are tried with pauses that are bounded, jittered, and grow."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(50)])
    async with running(upstream, pins=tuple(upstream.states), backoff_first_s=1, backoff_max_s=30) as rig:
        await asyncio.sleep(10)
        upstream.fault = Unreachable("connection refused")
        await asyncio.sleep(60)
        upstream.latency_s, upstream.most_running = 0.1, 0
        failing = now()
        await asyncio.sleep(2000)
        assert upstream.most_running == 1
        pauses = [later - earlier for earlier, later in itertools.pairwise(c for c in upstream.calls if c > failing)]
        assert 20 < max(pauses) <= 30.2
        assert len({round(pause, 3) for pause in pauses}) > 50
        assert 10 < sum(pauses) / len(pauses) < 20
        assert rig.source_state() is ConditionState.UNREACHABLE


@virtual
async def test_backoff_begins_small() -> None:
    """Calls that were under way when a source turned do not make its first pause longer."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(50)])
    async with running(upstream, pins=tuple(upstream.states), concurrency=16, rate_per_s=1000) as rig:
        upstream.latency_s = 0.5
        await asyncio.sleep(10)
        upstream.fault = Unreachable("connection refused")
        await until(lambda: rig.source_state() is not ConditionState.HEALTHY)
        turned = now()
        await asyncio.sleep(1.6)
        assert [at for at in upstream.calls if at >= turned]


@virtual
async def test_retry_after_is_honoured_once() -> None:
    """No call is made before the time the upstream asked for; afterwards the pauses are our own again."""
    upstream = FakeUpstream("a")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(10)
        upstream.fault = Throttled("HTTP 429", retry_after_s=120)
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(["a"], max_age_s=0)
        throttled, calls = now(), len(upstream.calls)
        upstream.fault = Throttled("HTTP 429")
        await asyncio.sleep(119.9)
        assert len(upstream.calls) == calls
        await asyncio.sleep(5)
        assert upstream.calls[calls] == pytest.approx(throttled + 120)
        assert len(upstream.calls) > calls + 1


@pytest.mark.parametrize("silence_s", [7.0, 60.0, 600.0, 3600.0])
@virtual
async def test_an_outage_with_a_silence_is_told_at_once(silence_s: float) -> None:
    """An upstream that is not to be called for long is told to be away then, not after three such silences."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream, pins=("a", "b")) as rig:
        await asyncio.sleep(30)
        upstream.fault, before = Unreachable("HTTP 503", retry_after_s=silence_s), len(upstream.calls)
        await until(lambda: len(upstream.calls) > before)
        await asyncio.sleep(0.1)
        assert rig.source_state() is ConditionState.UNREACHABLE
        assert len(upstream.calls) == before + 1


@pytest.mark.parametrize("fault", [Throttled("HTTP 429"), Unreachable("HTTP 503")], ids=["throttled", "away"])
@virtual
async def test_a_silence_that_a_sign_of_life_was_asked_for_is_told(fault: UpstreamError) -> None:
    """No read is made meanwhile, so none could show that the source is well."""
    upstream = FakeUpstream("a")
    async with running(upstream, pins=("a",), settled_interval_s=3600) as rig:
        await asyncio.sleep(30)
        fault.retry_after_s = 600.0
        upstream.probe_fault = fault
        await asyncio.sleep(400)
        assert rig.source_state().is_amiss


@virtual
async def test_a_short_silence_is_no_news() -> None:
    """A single answer that asks for seconds is as good as one lost packet."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream, pins=("a", "b")) as rig:
        await asyncio.sleep(30)
        upstream.fault, before = Unreachable("HTTP 503", retry_after_s=2), len(upstream.calls)
        await until(lambda: len(upstream.calls) > before)
        upstream.fault = None
        await asyncio.sleep(60)
        assert told(rig) == [ConditionState.HEALTHY]


@pytest.mark.parametrize("fault", [Throttled("HTTP 429"), Unreachable("HTTP 503")], ids=["throttled", "away"])
@pytest.mark.parametrize("silence_s", [3.0, 6.0, 60.0, 600.0])
@virtual
async def test_a_list_that_asks_for_silence_leaves_reads_their_turn(fault: UpstreamError, silence_s: float) -> None:
    """It is told to be what fails, and what is known is read on between its tries."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, pins=("a",)) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(60)
            fault.retry_after_s = silence_s
            upstream.list_fault, begin = fault, now()
            await asyncio.sleep(40 + 4 * silence_s)
            assert rig.scheduler.condition.message == f"cannot be listed: {fault}"
            await asyncio.sleep(40 + 20 * silence_s)
            assert len(upstream.reads_of("a", since=begin)) >= 3


@virtual
async def test_recovery() -> None:
    """A source that is back is found without anybody's doing, and everything overdue is read, within the rate."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(200)])
    async with running(upstream, rate_per_s=50, backoff_max_s=10) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(120)
            upstream.fault = Unreachable("connection refused")
            await asyncio.sleep(300)
            upstream.fault = None
            upstream.states.update(dict.fromkeys(upstream.states, State.FAILED))
            await asyncio.sleep(10 + 4 + 1)
            assert rig.source_state() is ConditionState.HEALTHY
            assert {rig.state(asset_id) for asset_id in upstream.states} == {State.FAILED}
            assert {rig.scheduler.freshness(rig.entry(asset_id)) for asset_id in upstream.states} == {Freshness.FRESH}
    assert most_in_a_second(upstream.calls) <= 50


@pytest.mark.parametrize("fault", [AssetRejected("HTTP 400"), Unreachable("HTTP 500"), BadAnswer("not XML")])
@pytest.mark.parametrize("good", [0, 1, 20])
@virtual
async def test_one_poison_asset(fault: UpstreamError, good: int) -> None:
    """An asset whose reads fail does not make its source fail: after three failures it alone is stale, an UPSERT."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(good)], "poison")
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(20)
            read_at = rig.scheduler.observed_at("poison")
            upstream.poison["poison"] = fault
            await asyncio.sleep(180)
            assert told(rig) == [ConditionState.HEALTHY]
            entry = rig.entry("poison")
            assert entry.freshness is Freshness.STALE
            assert entry.state is State.AVAILABLE
            assert entry.revision == rig.store.head == good + 2
            assert convert.status_of(entry).observe_time.seconds == int(read_at or 0)
            upstream.poison.clear()
            await asyncio.sleep(60)
            assert rig.entry("poison").freshness is Freshness.FRESH
            assert rig.entry("poison").revision == rig.store.head == good + 3


@virtual
async def test_two_own_failures_are_not_stale() -> None:
    """An asset that failed twice and then was read is no change."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a", "b"]):
            await asyncio.sleep(20)
            upstream.poison["a"] = AssetRejected("HTTP 400")
            await until(lambda: rig.scheduler.figures.failed_calls >= 2)
            upstream.poison.clear()
            await asyncio.sleep(100)
            assert rig.store.head == 2


@virtual
async def test_an_outage_is_not_the_assets_fault() -> None:
    """After an outage an asset needs three failures of its own again to be stale."""
    upstream = FakeUpstream("a", "b", "c")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a", "b", "c"]):
            await asyncio.sleep(20)
            upstream.fault = Unreachable("connection refused")
            await asyncio.sleep(300)
            upstream.fault, upstream.poison["a"] = None, AssetRejected("HTTP 400")
            await until(lambda: rig.source_state() is ConditionState.HEALTHY)
            failed = rig.scheduler.figures.failed_calls
            await until(lambda: rig.scheduler.figures.failed_calls > failed)
            await asyncio.sleep(0.1)
            assert rig.store.head == 3


@pytest.mark.parametrize("assets", [4, 200])
@virtual
async def test_reads_fail_while_signs_of_life_succeed(assets: int) -> None:
    """A source whose reads all fail is not well because its health page is: no asset is made stale by it."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(assets)])
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(60)
            upstream.poison.update({asset_id: Unreachable("HTTP 500") for asset_id in upstream.states})
            await asyncio.sleep(600)
            assert told(rig) == [ConditionState.HEALTHY, ConditionState.UNREACHABLE]
            assert rig.store.head == assets


@virtual
async def test_a_first_asset_that_fails_does_not_hide_its_source() -> None:
    """A source whose only asset of interest fails from the start is found well by a sign of life; it says why."""
    upstream = FakeUpstream()
    upstream.poison["poison"] = Unreachable("HTTP 500")
    async with running(upstream, pins=("poison",)) as rig:
        await asyncio.sleep(60)
        assert rig.source_state() is ConditionState.HEALTHY
        assert rig.state("poison") is State.UNKNOWN


@virtual
async def test_an_asset_left_out() -> None:
    """An asset that the answer leaves out has failed, by itself; a read of it says so."""
    upstream = FakeUpstream("a", "b", batch_max=10)
    upstream.left_out.add("b")
    async with running(upstream) as rig:
        with pytest.raises(SourceUnreachable, match="leaves the asset out"):
            await rig.scheduler.read(["a", "b"], max_age_s=0)
        assert rig.source_state() is ConditionState.HEALTHY
        assert rig.knows("a")


@virtual
async def test_an_asset_that_cannot_be_read_in_a_batch() -> None:
    """It has failed by itself, a read of it says why, and the others of the batch are read."""
    upstream = FakeUpstream("a", "b", batch_max=10)
    upstream.unreadable.add("b")
    async with running(upstream) as rig:
        with pytest.raises(SourceUnreachable, match="it is no text"):
            await rig.scheduler.read(["a", "b"], max_age_s=0)
        assert rig.source_state() is ConditionState.HEALTHY
        assert rig.state("a") is State.AVAILABLE


@virtual
async def test_one_asset_that_spoils_its_batch() -> None:
    """When one asset makes whole batches fail, it is found: the others are read on, and it alone is stale."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(50)], batch_max=100)
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(20)
            upstream.poison["a7"] = BadAnswer("not XML")
            upstream.states.update(dict.fromkeys(upstream.states, State.FAILED))
            await asyncio.sleep(120)
            states = {asset_id: rig.state(asset_id) for asset_id in upstream.states if asset_id != "a7"}
            assert set(states.values()) == {State.FAILED}
            assert rig.entry("a7").freshness is Freshness.STALE
            assert {rig.entry(asset_id).freshness for asset_id in states} == {Freshness.FRESH}
            assert told(rig) == [ConditionState.HEALTHY]


@virtual
async def test_a_value_that_cannot_be_encoded(caplog: pytest.LogCaptureFixture) -> None:
    """An adapter's value that the schema cannot hold costs a log line, not the service."""
    upstream = FakeUpstream("a", "\ud800")
    async with running(upstream, pins=("a", "\ud800")) as rig:
        await asyncio.sleep(60)
        assert rig.knows("a")
        assert not rig.knows("\ud800")
    assert "cannot be encoded" in caplog.text


@virtual
async def test_an_adapters_defect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is logged with its trace, and the other assets are read on."""
    upstream = FakeUpstream("a", "b")
    upstream.poison["b"] = KeyError("defect")
    async with running(upstream, pins=("a", "b")) as rig:
        await asyncio.sleep(60)
        assert rig.state("a") is State.AVAILABLE
    stacks = [record for record in caplog.records if record.exc_info]
    lines = [record.getMessage() for record in caplog.records if "failed again" in record.getMessage()]
    assert [record.getMessage() for record in stacks] == ["source src: the adapter failed"]
    assert "KeyError" in caplog.text
    assert len(lines) > 1
    assert "KeyError at fake_upstream.py:" in lines[0]


@virtual
async def test_while_the_store_fails_nobody_waits_for_a_read() -> None:
    """Those who wait are told why, those who come too, until it can keep statuses again; what is known still does."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        upstream.open.clear()
        waiting = asyncio.create_task(rig.scheduler.read(["a"], max_age_s=0))
        await asyncio.sleep(0.1)
        rig.scheduler.store_failing("no space is left")
        for refused in (waiting, rig.scheduler.read(["a"], max_age_s=0), rig.scheduler.read(["b"], max_age_s=None)):
            with pytest.raises(SourceUnreachable, match="statuses cannot be kept: no space is left") as error:
                await refused
            assert error.value.retry_after_s > 0
        await rig.scheduler.read(["a"], max_age_s=None)
        rig.scheduler.store_failing("")
        upstream.open.set()
        await rig.scheduler.read(["a", "b"], max_age_s=0)
        assert rig.source_state() is ConditionState.HEALTHY
