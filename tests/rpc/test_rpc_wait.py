"""WaitAssetStatus: until a state, until settled, or until the time is over."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import source_pb2

from assetwatchd.model.values import AssetKey, View
from assetwatchd.rpc.service import AssetStatusService
from support.problems import problem_of
from support.raw_calls import one_to_many
from support.rig import SAMPLES, SOURCES, ref, running, sample

VARYING = [name for name in SOURCES if name != "pieces"]
"""A piece has no state on its way to another."""


@pytest.mark.parametrize("source", VARYING)
async def test_a_wait_ends_when_the_state_comes(source: str) -> None:
    """It is met with the status that has the state, soon after the upstream says so."""
    async with running((source,)) as rig:
        wait = asyncio.create_task(rig.wait(sample(source), states=[SAMPLES[source].state]))
        await rig.get(sample(source))
        assert not wait.done()
        rig.vary(source)
        answer = await wait
        assert answer.condition_met
        assert answer.status.state == SAMPLES[source].state


@pytest.mark.parametrize("source", SOURCES)
async def test_a_settled_asset_is_not_waited_for(source: str) -> None:
    """until_settled is met at once by AVAILABLE, though nothing was known before."""
    async with running((source,)) as rig:
        answer = await rig.wait(sample(source), until_settled=True)
        assert answer.condition_met
        assert answer.status.state == status_pb.ASSET_STATE_AVAILABLE


async def test_a_missing_asset_is_settled_and_can_be_waited_for() -> None:
    """until_settled is met by MISSING; a wait for AVAILABLE is met when it appears."""
    async with running(("omn",)) as rig:
        key = AssetKey("omn", SAMPLES["omn"].unknown)
        assert (await rig.wait(key, until_settled=True)).status.state == status_pb.ASSET_STATE_MISSING
        wait = asyncio.create_task(rig.wait(key, states=[status_pb.ASSET_STATE_AVAILABLE]))
        rig["omn"].put(key.asset_id, SAMPLES["omn"].native)
        assert (await wait).condition_met


@pytest.mark.parametrize("state", ["AVAILABLE", "FAILED", "PROCESSING"])
@pytest.mark.parametrize("wanted", ["AVAILABLE", "FAILED", "PROCESSING"])
@pytest.mark.parametrize("stops", [True, False])
async def test_a_wait_for_a_state_stops_when_another_is_settled(*, state: str, wanted: str, stops: bool) -> None:
    """With stop_when_settled, and only then, an asset settled in a state not asked for ends the wait, unmet."""
    natives = {
        "AVAILABLE": SAMPLES["omn"].native,
        "FAILED": {"ImportState": "incomplete"},
        "PROCESSING": {"ImportState": "running"},
    }
    otherwise = stops and state not in {wanted, "PROCESSING"}
    timeout = {"seconds": 30} if otherwise or state == wanted else {"nanos": 300_000_000}
    async with running(("omn",)) as rig:
        rig["omn"].put(SAMPLES["omn"].asset_id, natives[state])
        answer = await rig.wait(
            sample("omn"),
            states=[status_pb.AssetState.Value(f"ASSET_STATE_{wanted}")],
            stop_when_settled=stops,
            timeout=timeout,
        )
    assert answer.status.state == status_pb.AssetState.Value(f"ASSET_STATE_{state}")
    assert (answer.condition_met, answer.settled_otherwise) == (state == wanted, otherwise)


async def test_a_wait_that_stops_when_settled_is_not_met_by_what_is_not_there() -> None:
    """MISSING ends it at once, unmet, and it keeps nothing; until_settled is met by it, whatever else is sent."""
    async with running(("omn",)) as rig:
        key = AssetKey("omn", SAMPLES["omn"].unknown)
        answer = await rig.wait(key, states=[status_pb.ASSET_STATE_AVAILABLE], stop_when_settled=True)
        assert answer.status.state == status_pb.ASSET_STATE_MISSING
        assert (answer.condition_met, answer.settled_otherwise) == (False, True)
        assert rig.app.store.get(key) is None
        answer = await rig.wait(key, until_settled=True, stop_when_settled=True)
        assert (answer.condition_met, answer.settled_otherwise) == (True, False)


async def test_the_answer_of_a_wait_is_what_ended_it() -> None:
    """A state that comes and goes at once meets it all the same: the answer is not what the asset is by then."""
    async with running(("omn",)) as rig:
        wait = asyncio.create_task(rig.wait(sample("omn"), states=[SAMPLES["omn"].state]))
        await rig.shows("omn", lambda source: source.watcher_count == 1)
        known, seen = AssetStatusService._known, []

        def passing(self: AssetStatusService, key: AssetKey, view: View) -> status_pb.AssetStatus | None:
            status = known(self, key, view)
            if status is not None and status.state == SAMPLES["omn"].state:
                seen.append(status)
                if len(seen) > 1:
                    status.state = status_pb.ASSET_STATE_AVAILABLE
            return status

        with patch.object(AssetStatusService, "_known", passing):
            rig.vary("omn")
            answer = await wait
    assert (answer.status.state, answer.condition_met) == (SAMPLES["omn"].state, True)


async def test_a_wait_for_what_never_was_keeps_nothing() -> None:
    """One that is met by MISSING leaves no entry behind; one that goes on has named the asset, and finds one."""
    async with running(("omn",)) as rig:
        key = AssetKey("omn", SAMPLES["omn"].unknown)
        await rig.wait(key, until_settled=True)
        assert rig.app.store.get(key) is None
        answer = await rig.wait(key, states=[status_pb.ASSET_STATE_AVAILABLE], timeout={"nanos": 500_000_000})
        assert (answer.status.state, answer.condition_met) == (status_pb.ASSET_STATE_MISSING, False)
        assert rig.app.store.get(key) is not None


async def test_what_is_known_from_long_ago_is_read_anew() -> None:
    """A wait is not met by a state that the upstream has left since."""
    never = {"busy_interval_s": 0.01, "settled_interval_s": 900, "linger_s": 0.001, "enumerate_interval_s": 900}
    async with running(("usd-search",), usd_search={"pins": [], **never}) as rig:
        await rig.get(sample("usd-search"))
        await asyncio.sleep(0.05)
        rig.vary("usd-search")
        answer = await rig.wait(sample("usd-search"), until_settled=True, timeout={"nanos": 300_000_000})
        assert not answer.condition_met


async def test_time_over_is_an_answer() -> None:
    """OK, condition_met false, and the last known status."""
    async with running(("omn",)) as rig:
        answer = await rig.wait(sample("omn"), states=[status_pb.ASSET_STATE_FAILED], timeout={"nanos": 200_000_000})
        assert not answer.condition_met
        assert answer.status.state == status_pb.ASSET_STATE_AVAILABLE


async def test_timeout_zero_looks_once() -> None:
    """Met or not by what is known now; without any knowledge there is no status."""
    async with running(("usd-search",), usd_search={"pins": []}) as rig:
        nothing = await rig.wait(sample("usd-search"), until_settled=True, timeout={})
        assert not nothing.condition_met
        assert not nothing.HasField("status")
        await rig.get(sample("usd-search"))
        assert (await rig.wait(sample("usd-search"), until_settled=True, timeout={})).condition_met
        assert not (
            await rig.wait(sample("usd-search"), states=[status_pb.ASSET_STATE_FAILED], timeout={})
        ).condition_met


async def test_an_upstream_that_cannot_be_read_is_waited_for() -> None:
    """The wait goes on while the source is down and is met when it is back."""
    async with running(("omn",)) as rig:
        await rig["omn"].stop()
        wait = asyncio.create_task(rig.wait(sample("omn"), until_settled=True))
        await rig.watch(sources=["omn"]).until(lambda message: message.source_conditions)
        assert not wait.done()
        await rig["omn"].start()
        assert (await wait).condition_met


async def test_what_was_last_known_of_a_source_that_is_down_meets_nothing() -> None:
    """A known AVAILABLE does not end a wait while its source cannot be read; it does once the source is back."""
    async with running(("omn",)) as rig:
        await rig.get(sample("omn"))
        await rig["omn"].stop()
        await rig.shows("omn", lambda source: source.condition.state == source_pb2.SOURCE_CONDITION_STATE_UNREACHABLE)
        wait = asyncio.create_task(rig.wait(sample("omn"), until_settled=True))
        assert not (await rig.wait(sample("omn"), until_settled=True, timeout={"nanos": 50_000_000})).condition_met
        assert not wait.done()
        await rig["omn"].start()
        assert (await wait).condition_met


async def test_a_wait_outlives_the_age_of_watches() -> None:
    """It ends by its own timeout or by the state, never by stream_age_s."""
    async with running(("omn",), server={"stream_age_s": 0.1, "heartbeat_s": 0.05}) as rig:
        wait = asyncio.create_task(rig.wait(sample("omn"), states=[SAMPLES["omn"].state]))
        await asyncio.sleep(0.5)
        assert not wait.done()
        rig.vary("omn")
        assert (await wait).condition_met


async def test_a_wait_is_refused_for_the_same_reasons_as_a_get() -> None:
    """SOURCE_NOT_FOUND, INVALID_REQUEST by the source's rules, TOO_MANY_ASSETS."""
    async with running(("usd-search",), count=1, usd_search={"assets_max": 2, "pins": []}) as rig:
        assert (await problem_of(rig.wait(AssetKey("x", "y"), until_settled=True))).reason == "SOURCE_NOT_FOUND"
        told = await problem_of(rig.wait(AssetKey("usd-search", "crate.usd"), until_settled=True))
        assert list(told.violations) == ["asset.asset_id"]
        named = [AssetKey("usd-search", f"s3://studio-assets/{name}.usd") for name in ("a", "b")]
        await rig.watch(assets=[ref(key) for key in named]).synced()
        told = await problem_of(rig.wait(sample("usd-search"), until_settled=True))
        assert told.reason == "TOO_MANY_ASSETS"


@pytest.mark.parametrize("trouble", [{"status": 503}, {"hang": True}], ids=["down", "hangs"])
async def test_a_wait_is_told_that_the_server_stops_while_its_source_is_in_trouble(trouble: dict[str, Any]) -> None:
    """UNAVAILABLE / SERVER_DRAINING with RetryInfo, at once: it does not hold up the end."""
    async with running(("omn",), server={"drain_s": 60}) as rig:
        rig["omn"].faults.add(**trouble)
        wait = asyncio.create_task(rig.wait(sample("omn"), until_settled=True))
        await rig.shows("omn", lambda source: source.poll_stats.polled_assets)
        rig.app.stop()
        async with asyncio.timeout(2):
            told = await problem_of(wait)
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        assert told.retry_after_s is not None


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Its watcher is gone when the call is."""
    async with running(("omn",)) as rig:
        await rig.get(sample("omn"))
        wait = asyncio.create_task(rig.wait(sample("omn"), states=[status_pb.ASSET_STATE_FAILED]))
        await rig.shows("omn", lambda source: source.watcher_count == 1)
        wait.cancel()
        await asyncio.wait([wait])
        await rig.shows("omn", lambda source: source.watcher_count == 0)


async def test_a_wait_is_answered_at_once_that_it_was_heard() -> None:
    """Its initial metadata comes while the asset is not as wanted, so that no proxy takes it for dead."""
    async with running(("omn",)) as rig:
        wanted = pb.WaitAssetStatusRequest(asset=ref(sample("omn")), states=[status_pb.ASSET_STATE_FAILED])
        method = "/assetwatch.v1.AssetStatusService/WaitAssetStatus"
        call = one_to_many(rig.channel, method)(wanted.SerializeToString(), timeout=60)  # a stub would show all in one
        async with asyncio.timeout(10):
            await call.initial_metadata()
        assert not call.done()
        call.cancel()
