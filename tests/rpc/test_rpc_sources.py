"""SourceService: what it tells of each source, without asking any."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from assetwatch.v1 import source_pb2
from assetwatch.v1.source_service_pb2 import RetrySourceRequest
from google.protobuf.duration_pb2 import Duration

from assetwatch_client import reason_of, retry_delay_s
from assetwatchd.model.values import ConditionState
from assetwatchd.rpc import service
from support.rig import SAMPLES, SOURCES, running, sample

CAPABILITIES = {
    "media-intelligence": (False, True),
    "omn": (False, True),
    "oracle-sbc": (False, False),
    "pieces": (True, True),
    "usd-search": (False, False),
}


async def test_all_sources_in_the_order_of_their_names() -> None:
    """Name, kind and capabilities of each."""
    async with running() as rig:
        told = await rig.all_sources()
        assert [source.name for source in told] == sorted(SOURCES)
        for source in told:
            assert source_pb2.SourceKind.Name(source.kind) == f"SOURCE_KIND_{source.name.replace('-', '_').upper()}"
            can = source.capabilities
            assert (can.push, can.enumerate) == CAPABILITIES[source.name]
            assert can.batch_size >= 1


async def test_one_source_is_told_as_in_the_list() -> None:
    """GetSource and ListSources agree."""
    async with running(("omn",), every={"probe_interval_s": 60}) as rig:
        await rig.get(sample("omn"))
        assert [await rig.source("omn")] == list(await rig.all_sources())


async def test_figures_count_what_the_upstream_was_asked() -> None:
    """Calls, asset reads and changes rise with reads; assets and watchers are counted."""
    async with running(("omn",), count=4) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        source = await rig.source("omn")
        assert (source.asset_count, source.watcher_count, source.poll_stats.polled_assets) == (5, 1, 5)
        assert source.poll_stats.asset_reads >= 5
        assert source.poll_stats.changes == 5
        assert 0 < source.poll_stats.calls <= rig["omn"].requests.count()
        rig.vary("omn")
        await stream.until(lambda message: message.changes)
        assert (await rig.source("omn")).poll_stats.changes == 6


async def test_a_condition_is_told_with_its_times() -> None:
    """UNKNOWN before the first call; HEALTHY with last success; UNREACHABLE with its reason, failures counted."""
    async with running(("omn",)) as rig:
        before = time.time()
        await rig.get(sample("omn"))
        healthy = (await rig.source("omn")).condition
        assert ConditionState(healthy.state) is ConditionState.HEALTHY
        assert healthy.message == ""
        assert healthy.last_success_time.ToMilliseconds() >= int(before * 1000) - 1
        await rig["omn"].stop()
        down = await rig.shows(
            "omn", lambda source: ConditionState(source.condition.state) is ConditionState.UNREACHABLE
        )
        assert down.condition.message
        assert down.poll_stats.failed_calls >= 3
        assert down.condition.transition_time.ToMilliseconds() >= healthy.transition_time.ToMilliseconds()
        assert down.condition.last_success_time.ToMilliseconds() >= healthy.last_success_time.ToMilliseconds()


async def test_asking_about_sources_asks_no_upstream() -> None:
    """Not one request, however often."""
    async with running(("usd-search",), every={"probe_interval_s": 60}, usd_search={"pins": []}) as rig:
        await rig.get(sample("usd-search"))
        rig["usd-search"].requests.clear()
        asked = rig["usd-search"].requests.count("status")
        for _ in range(20):
            await rig.all_sources()
        assert rig["usd-search"].requests.count("storage") == 0
        assert rig["usd-search"].requests.count("status") <= asked + 3


async def test_a_list_that_fails_beside_reads_that_do_not() -> None:
    """It is told with since when, the last success and the next try, for it alone; the reads go on."""
    pins = {"pins": [sample("omn").asset_id]}
    async with running(("omn",), omn=pins, server={"first_read_wait_s": 0.2}) as rig:
        rig["omn"].faults.add(path="/dam/assets/query", status=500)
        stream = await rig.watch(sources=["omn"]).synced()
        await stream.turns("omn", ConditionState.DEGRADED)
        source = await rig.shows("omn", lambda source: source.condition.next_try_time.seconds)
        assert source.condition.message.startswith("cannot be listed: HTTP 500")
        told = {each.kind: each for each in source.condition.concerns}
        listing, reads = told[source_pb2.SOURCE_CONCERN_KIND_LIST], told[source_pb2.SOURCE_CONCERN_KIND_READS]
        assert (int(listing.state), int(reads.state)) == (ConditionState.DEGRADED, ConditionState.HEALTHY)
        assert listing.transition_time.seconds
        assert listing.next_try_time == source.condition.next_try_time
        assert not listing.HasField("last_success_time")
        assert reads.HasField("last_success_time")
        rig.vary("omn")
        await stream.holds(lambda now: now[sample("omn")].state == SAMPLES["omn"].state)
        assert stream.conditions("omn")[-1] == ConditionState.DEGRADED
        rig["omn"].faults.clear()
        await stream.turns("omn", ConditionState.HEALTHY)


async def test_a_retry_by_hand() -> None:
    """A source that refuses us is left alone, whoever asks, but for a try by hand now and then; that is answered."""
    patient = {"backoff_max_s": 3000, "refused_backoff_max_s": 3000}
    async with running(("oracle-sbc",), every=patient) as rig:
        rig["oracle-sbc"].faults.add(path="/rest/v1", status=401)
        await rig.shows("oracle-sbc", lambda source: ConditionState(source.condition.state) is ConditionState.REFUSED)
        tries = rig["oracle-sbc"].requests.count()
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError, match="could not be read"):
                await rig.get(sample("oracle-sbc"), max_age=Duration())
        assert rig["oracle-sbc"].requests.count() == tries
        wanted = RetrySourceRequest(source="oracle-sbc")
        answer = await rig.sources.RetrySource(wanted, timeout=60)
        assert ConditionState(answer.source.condition.state) is ConditionState.REFUSED
        assert answer.source.condition.next_try_time.seconds > time.time() + 1000
        retried = rig["oracle-sbc"].requests.count()
        assert tries < retried <= tries + 4
        rig["oracle-sbc"].faults.clear()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rig.sources.RetrySource(wanted, timeout=60)
        assert (refused.value.code(), reason_of(refused.value)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RETRY_TOO_SOON",
        )
        assert 1000 < (retry_delay_s(refused.value) or 0) <= 3000
        assert rig["oracle-sbc"].requests.count() == retried


async def test_a_retry_by_hand_of_what_was_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says that it is healthy, and who waits for an asset has it; a source nobody has is NOT_FOUND."""
    monkeypatch.setattr(service, "WAIT_AGAIN_S", 0.05)
    patient = {"backoff_max_s": 3000, "refused_backoff_max_s": 3000}
    async with running(("oracle-sbc",), every=patient) as rig:
        rig["oracle-sbc"].faults.add(path="/rest/v1", status=401)
        await rig.shows("oracle-sbc", lambda source: ConditionState(source.condition.state) is ConditionState.REFUSED)
        waiting = asyncio.create_task(rig.wait(sample("oracle-sbc"), states=[SAMPLES["oracle-sbc"].state]))
        await rig.source("oracle-sbc")  # on the same connection, so the wait has begun
        rig["oracle-sbc"].faults.clear()
        rig.vary("oracle-sbc")
        answer = await rig.sources.RetrySource(RetrySourceRequest(source="oracle-sbc"), timeout=60)
        assert ConditionState(answer.source.condition.state) is ConditionState.HEALTHY
        assert (await waiting).condition_met
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await rig.sources.RetrySource(RetrySourceRequest(source="nobody"), timeout=60)
        assert (unknown.value.code(), reason_of(unknown.value)) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
