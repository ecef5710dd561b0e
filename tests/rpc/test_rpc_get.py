"""GetAssetStatus and BatchGetAssetStatuses: what the schema promises of single and batched reads."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as service_pb

from assetwatchd.model.errors import BatchTooLarge
from assetwatchd.model.values import AssetKey, ConditionState
from assetwatchd.rpc import service
from support.problems import problem_of
from support.rig import SAMPLES, SOURCES, ref, running, sample

NOW = {"seconds": 0}
SLOW = {"busy_interval_s": 30, "settled_interval_s": 60, "enumerate_interval_s": 60, "probe_interval_s": 60}
"""Nothing is read unless a call asks for it."""


@pytest.mark.parametrize("source", SOURCES)
async def test_get_tells_what_the_upstream_says(source: str) -> None:
    """A first get asks the upstream: the status has state, detail, revision, etag, observe time, and is fresh."""
    async with running((source,)) as rig:
        status = await rig.get(sample(source))
        assert (status.asset.source, status.asset.asset_id) == sample(source)
        assert status.state == status_pb.ASSET_STATE_AVAILABLE
        assert status.freshness == status_pb.FRESHNESS_FRESH
        assert status.WhichOneof("detail") == source.replace("-", "_")
        assert status.etag == f'"{status.revision}"'
        assert status.revision > 0
        assert status.HasField("observe_time")


@pytest.mark.parametrize("source", [name for name in SOURCES if SAMPLES[name].unknown])
async def test_an_asset_the_upstream_does_not_know_is_an_answer(source: str) -> None:
    """State MISSING, not an error."""
    async with running((source,)) as rig:
        status = await rig.get(AssetKey(source, SAMPLES[source].unknown))
        assert status.state == status_pb.ASSET_STATE_MISSING
        assert status.asset.asset_id == SAMPLES[source].unknown


async def test_asking_for_what_never_was_is_nobody_elses_business() -> None:
    """It has no revision, no entry and no place in any list; a watch of the whole source is told nothing."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        key, head = AssetKey("omn", SAMPLES["omn"].unknown), rig.app.store.head
        status = await rig.get(key)
        assert (status.revision, status.etag) == (0, "")
        assert status.freshness == status_pb.FRESHNESS_FRESH
        assert status.HasField("observe_time")
        assert (await rig.batch([key, key]))[1] == status
        assert rig.app.store.head == head
        assert not (await rig.list(states=[status_pb.ASSET_STATE_MISSING])).statuses
        await stream.until(lambda message: message.HasField("bookmark"))
        assert key not in stream.removed


async def test_who_names_what_was_only_read_is_told_that_it_is_missing() -> None:
    """A read kept nothing of it, yet a watch by name has its entry by synced, and can go on from there."""
    async with running(("omn",), every=SLOW) as rig:
        key = AssetKey("omn", SAMPLES["omn"].unknown)
        await rig.get(key)
        stream = await rig.watch(assets=[ref(key)]).synced()
        assert stream.map[key].state == status_pb.ASSET_STATE_MISSING
        assert stream.map[key].revision > 0
        stream.call.cancel()
        rig["omn"].put(key.asset_id, SAMPLES["omn"].native)
        await rig.get(key, max_age=NOW)
        again = await rig.watch(assets=[ref(key)], resume_token=stream.token).synced()
        assert again.map[key].state == status_pb.ASSET_STATE_AVAILABLE


async def test_without_max_age_the_upstream_is_asked_only_if_nothing_is_known() -> None:
    """The first get costs one call, the second none, though the asset changed meanwhile."""
    async with running(("omn",), every=SLOW) as rig:
        before = await rig.get(sample("omn"))
        asked = rig["omn"].requests.count(SAMPLES["omn"].observe)
        rig.vary("omn")
        assert (await rig.get(sample("omn"))).revision == before.revision
        assert rig["omn"].requests.count(SAMPLES["omn"].observe) == asked


async def test_max_age_zero_asks_the_upstream_now() -> None:
    """A get with max_age 0 tells the change of a moment ago."""
    async with running(("omn",), every=SLOW) as rig:
        before = await rig.get(sample("omn"))
        key = rig.vary("omn")
        after = await rig.get(key, max_age=NOW)
        assert after.state == SAMPLES["omn"].state
        assert after.revision > before.revision
        assert after.observe_time.ToNanoseconds() > before.observe_time.ToNanoseconds()


async def test_max_age_between_asks_only_when_the_copy_is_older() -> None:
    """An hour is young enough for a copy of a moment ago; a nanosecond is not."""
    async with running(("omn",), every=SLOW) as rig:
        await rig.get(sample("omn"))
        key = rig.vary("omn")
        assert (await rig.get(key, max_age={"seconds": 3600})).state == status_pb.ASSET_STATE_AVAILABLE
        assert (await rig.get(key, max_age={"nanos": 1})).state == SAMPLES["omn"].state


async def test_a_read_that_finds_the_same_moves_the_observe_time_alone() -> None:
    """Revision and etag stay, observe_time moves."""
    async with running(("omn",), every=SLOW) as rig:
        before = await rig.get(sample("omn"))
        after = await rig.get(sample("omn"), max_age=NOW)
        assert (after.revision, after.etag) == (before.revision, before.etag)
        assert after.observe_time.ToNanoseconds() > before.observe_time.ToNanoseconds()


async def test_fresh_reads_of_one_asset_at_one_time_share_one_call() -> None:
    """Twenty gets with max_age 0 cost at most two upstream calls."""
    async with running(("usd-search",), every=SLOW) as rig:
        await rig.get(sample("usd-search"))
        rig["usd-search"].faults.add(path=SAMPLES["usd-search"].observe, delay_s=0.1)
        rig["usd-search"].requests.clear()
        await asyncio.gather(*[rig.get(sample("usd-search"), max_age=NOW) for _ in range(20)])
        assert 1 <= rig["usd-search"].requests.count(SAMPLES["usd-search"].observe) <= 2


async def test_many_first_gets_at_once_all_succeed() -> None:
    """Whoever comes between a first read and its commit is answered like all others."""
    async with running(("usd-search",), every=SLOW) as rig:

        async def ask(delay_s: float) -> int:
            await asyncio.sleep(delay_s)
            return (await rig.get(sample("usd-search"))).revision

        assert len(set(await asyncio.gather(*[ask(number / 2000) for number in range(100)]))) == 1


async def test_min_revision_waits_for_what_another_call_returned() -> None:
    """A get with the revision another get returned does not fail, and is at least as new."""
    async with running(("omn",), every=SLOW) as rig:
        await rig.get(sample("omn"))
        newest = await rig.get(rig.vary("omn"), max_age=NOW)
        assert (await rig.get(sample("omn"), min_revision=newest.revision)).revision >= newest.revision


async def test_a_revision_that_does_not_come_is_replica_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE / REPLICA_BEHIND with RetryInfo, naming both revisions."""
    monkeypatch.setattr("assetwatchd.rpc.watch.BEHIND_WAIT_S", 0.05)
    async with running(("omn",)) as rig:
        told = await problem_of(rig.get(sample("omn"), min_revision=1_000_000))
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLICA_BEHIND")
        assert told.metadata["revision"] == "1000000"
        assert int(told.metadata["current"]) < 1_000_000
        assert told.retry_after_s is not None


async def test_an_unreachable_upstream_fails_only_reads_that_need_it() -> None:
    """max_age 0 is UNAVAILABLE / SOURCE_UNREACHABLE with RetryInfo; without max_age the last state is told."""
    async with running(("omn",)) as rig:
        known = await rig.get(sample("omn"))
        await rig["omn"].stop()
        told = await problem_of(rig.get(sample("omn"), max_age=NOW))
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE")
        assert told.metadata == {"source": "omn"}
        assert told.retry_after_s is not None
        assert (await rig.get(sample("omn"))).revision == known.revision


async def test_the_last_state_of_a_source_in_trouble_is_marked_so() -> None:
    """Freshness UNREACHABLE, same state and revision, once the source's condition says so."""
    async with running(("omn",)) as rig:
        known = await rig.get(sample("omn"))
        stream = await rig.watch(sources=["omn"]).synced()
        await rig["omn"].stop()
        await stream.turns("omn", ConditionState.UNREACHABLE)
        status = await rig.get(sample("omn"))
        assert status.freshness == status_pb.FRESHNESS_UNREACHABLE
        assert (status.state, status.revision) == (known.state, known.revision)


async def test_a_source_that_is_not_configured_is_not_found() -> None:
    """NOT_FOUND / SOURCE_NOT_FOUND names those there are."""
    async with running(("omn",)) as rig:
        told = await problem_of(rig.get(AssetKey("nowhere", "x")))
        assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
        assert told.metadata == {"source": "nowhere"}
        assert "omn" in told.message


async def test_too_many_assets_is_resource_exhausted() -> None:
    """The asset beyond assets_max is refused with its limit, QuotaFailure and RetryInfo; known ones still answer."""
    async with running(("usd-search",), count=1, usd_search={"assets_max": 2, "pins": []}) as rig:
        await rig.get(sample("usd-search"))
        await rig.watch(assets=[ref(AssetKey("usd-search", "s3://studio-assets/a.usd"))]).synced()
        told = await problem_of(rig.get(AssetKey("usd-search", "s3://studio-assets/b.usd")))
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ASSETS")
        assert told.metadata == {"source": "usd-search", "limit": "2"}
        assert told.quotas == ["source:usd-search"]
        assert told.retry_after_s is not None
        await rig.get(sample("usd-search"))


async def test_a_batch_answers_in_the_order_of_the_request() -> None:
    """Across sources, an asset asked for twice is answered twice."""
    async with running() as rig:
        keys = [sample(name) for name in ("usd-search", "omn", "pieces", "omn", "oracle-sbc", "media-intelligence")]
        statuses = await rig.batch(keys)
        assert [(status.asset.source, status.asset.asset_id) for status in statuses] == keys
        assert statuses[1] == statuses[3]


async def test_a_batch_larger_than_a_message_says_how_many_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """BATCH_TOO_LARGE tells a number of assets that is answered, and one more is not; one alone always is."""
    async with running(("omn",), count=4) as rig:
        keys = [sample("omn")] * 4
        size = (await rig.batch(keys[:1]))[0].ByteSize()
        monkeypatch.setattr(service, "GET_BYTES_MAX", 3 * size + 30)
        told = await problem_of(rig.batch(keys))
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BATCH_TOO_LARGE")
        assert told.metadata == {"limit": str(3 * size + 30), "fit": "3"}
        assert len(await rig.batch(keys[:3])) == 3
        monkeypatch.setattr(service, "GET_BYTES_MAX", 10)
        assert (await problem_of(rig.batch(keys))).metadata["fit"] == "1"
        assert len(await rig.batch(keys[:1])) == 1


async def test_a_batch_that_is_answered_is_one_that_clients_take() -> None:
    """What passes for a batch is no larger than gRPC's own limit of a message, to the byte."""
    status = status_pb.AssetStatus(etag="x" * 4000)
    fit = service.GET_BYTES_MAX // (status.ByteSize() + 1)
    with pytest.raises(BatchTooLarge) as caught:
        service._check_size([status] * fit)
    allowed = int(caught.value.metadata["fit"])
    service._check_size([status] * allowed)
    message = service_pb.BatchGetAssetStatusesResponse(statuses=[status] * allowed)
    assert fit - 10 < allowed
    assert message.ByteSize() <= 4 * 1024 * 1024


async def test_a_batch_of_one_source_shares_upstream_calls() -> None:
    """Forty OMN assets cost a handful of calls, since one call can ask for many."""
    async with running(("omn",), count=40, every=SLOW) as rig:
        keys = [AssetKey("omn", asset_id) for asset_id in rig["omn"].asset_ids()]
        assert len(await rig.batch(keys)) == len(keys)
        assert rig["omn"].requests.count(SAMPLES["omn"].observe) <= 4


async def test_a_batch_is_all_or_nothing() -> None:
    """One unreachable source fails the batch; so does an unknown one, and an id that cannot be, by its path."""
    async with running(("omn", "usd-search"), every=SLOW) as rig:
        await rig["usd-search"].stop()
        told = await problem_of(rig.batch([sample("omn"), sample("usd-search")]))
        assert (told.reason, told.metadata) == ("SOURCE_UNREACHABLE", {"source": "usd-search"})
        assert (await problem_of(rig.batch([sample("omn"), AssetKey("nowhere", "x")]))).reason == "SOURCE_NOT_FOUND"
        told = await problem_of(rig.batch([sample("omn"), AssetKey("omn", "7C1E5A40")]))
        assert list(told.violations) == ["assets[1].asset_id"]


async def test_a_batch_obeys_max_age() -> None:
    """max_age 0 reads each asset anew."""
    async with running(("omn", "usd-search"), every=SLOW) as rig:
        keys = [sample("omn"), sample("usd-search")]
        await rig.batch(keys)
        for source in ("omn", "usd-search"):
            rig.vary(source)
        assert [s.state for s in await rig.batch(keys)] == [status_pb.ASSET_STATE_AVAILABLE] * 2
        assert [s.state for s in await rig.batch(keys, max_age=NOW)] == [SAMPLES[k.source].state for k in keys]
