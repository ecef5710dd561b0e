"""Every rule of the schema, broken once: INVALID_ARGUMENT with a field violation under the path of the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable
import asyncio
import math
from typing import Any

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1.asset_status_pb2 import AssetRef, AssetState
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.model.errors import InvalidRequest
from assetwatchd.model.values import AssetKey
from assetwatchd.rpc.requests import Requests
from support.problems import problem_of
from support.rig import SAMPLES, SOURCES, ref, running, sample

ASSET = AssetRef(source="omn", asset_id="tid:1")
NO_ID = AssetRef(source="omn")
LESS_THAN_NOTHING = Duration(seconds=-1)


def states(*numbers: int) -> list[AssetState.ValueType]:
    """Name states by their numbers, those too that there are not."""
    return [AssetState.ValueType(number) for number in numbers]


BROKEN: list[tuple[Any, list[str]]] = [
    (pb.GetAssetStatusRequest(), ["asset"]),
    (pb.GetAssetStatusRequest(asset=AssetRef()), ["asset.source", "asset.asset_id"]),
    (pb.GetAssetStatusRequest(asset=AssetRef(source="s" * 64, asset_id="tid:1")), ["asset.source"]),
    (pb.GetAssetStatusRequest(asset=AssetRef(source="omn", asset_id="ü" * 1025)), ["asset.asset_id"]),
    (pb.GetAssetStatusRequest(asset=ASSET, max_age=LESS_THAN_NOTHING), ["max_age"]),
    (pb.GetAssetStatusRequest(asset=ASSET, min_revision=-1), ["min_revision"]),
    (pb.BatchGetAssetStatusesRequest(), ["assets"]),
    (pb.BatchGetAssetStatusesRequest(assets=[ASSET] * 1001), ["assets"]),
    (pb.BatchGetAssetStatusesRequest(assets=[ASSET, NO_ID]), ["assets[1].asset_id"]),
    (pb.BatchGetAssetStatusesRequest(assets=[ASSET], max_age=LESS_THAN_NOTHING), ["max_age"]),
    (pb.ListAssetStatusesRequest(sources=[f"s{n}" for n in range(101)]), ["sources"]),
    (pb.ListAssetStatusesRequest(sources=["omn", "omn"]), ["sources"]),
    (pb.ListAssetStatusesRequest(sources=["omn", ""]), ["sources[1]"]),
    (pb.ListAssetStatusesRequest(states=states(1, 1)), ["states"]),
    (pb.ListAssetStatusesRequest(states=states(1, 99)), ["states[1]"]),
    (pb.ListAssetStatusesRequest(states=states(0)), ["states[0]"]),
    (pb.ListAssetStatusesRequest(page_size=-1), ["page_size"]),
    (pb.ListAssetStatusesRequest(page_token="t" * 257), ["page_token"]),
    (pb.WaitAssetStatusRequest(until_settled=True), ["asset"]),
    (pb.WaitAssetStatusRequest(asset=ASSET), [""]),
    (pb.WaitAssetStatusRequest(asset=ASSET, states=states(3), until_settled=True), [""]),
    (pb.WaitAssetStatusRequest(asset=ASSET, states=states(3, 3)), ["states"]),
    (pb.WaitAssetStatusRequest(asset=ASSET, states=states(0)), ["states[0]"]),
    (pb.WaitAssetStatusRequest(asset=ASSET, states=states(77)), ["states[0]"]),
    (pb.WaitAssetStatusRequest(asset=ASSET, until_settled=True, timeout=LESS_THAN_NOTHING), ["timeout"]),
    (pb.WaitAssetStatusRequest(asset=ASSET, until_settled=True, timeout=Duration(seconds=3601)), ["timeout"]),
    (pb.WatchStatusRequest(), [""]),
    (pb.WatchStatusRequest(assets=[ASSET] * 10_001), ["assets"]),
    (pb.WatchStatusRequest(assets=[NO_ID]), ["assets[0].asset_id"]),
    (pb.WatchStatusRequest(sources=["omn"] * 2), ["sources"]),
    (pb.WatchStatusRequest(sources=[""]), ["sources[0]"]),
    (pb.WatchStatusRequest(sources=["omn"], states=states(0)), ["states[0]"]),
    (pb.WatchStatusRequest(sources=["omn"], states=states(2, 2)), ["states"]),
    (pb.WatchStatusRequest(sources=["omn"], resume_token="t" * 257), ["resume_token"]),
    (source_pb.GetSourceRequest(), ["source"]),
    (source_pb.GetSourceRequest(source="s" * 64), ["source"]),
]

ALLOWED: list[Any] = [
    pb.GetAssetStatusRequest(asset=AssetRef(source="s" * 63, asset_id="ü" * 1024), max_age=Duration(), min_revision=0),
    pb.BatchGetAssetStatusesRequest(assets=[ASSET] * 1000),
    pb.ListAssetStatusesRequest(),
    pb.ListAssetStatusesRequest(page_size=2**31 - 1, states=states(*range(1, 11))),
    pb.WaitAssetStatusRequest(asset=ASSET, states=states(3), timeout=Duration(seconds=3600)),
    pb.WatchStatusRequest(assets=[ASSET] * 10_000),
    source_pb.ListSourcesRequest(),
]


def method_of(request: object) -> str:
    """Name the RPC that takes a request."""
    return type(request).__name__.removesuffix("Request")


@pytest.mark.parametrize(("request_", "fields"), BROKEN, ids=lambda value: method_of(value)[:24])
async def test_every_rule_is_a_violation_under_its_path(request_: Any, fields: list[str]) -> None:
    """All the rules that are broken are named, each with a text; a rule of the whole message has no path."""
    with pytest.raises(InvalidRequest) as caught:
        await Requests().read(request_.SerializeToString(), type(request_))
    assert [field for field, _ in caught.value.violations] == fields
    assert all(text for _, text in caught.value.violations)


@pytest.mark.parametrize("request_", ALLOWED, ids=method_of)
async def test_the_limits_themselves_are_allowed(request_: Any) -> None:
    """The largest and the smallest that the schema lets through."""
    assert await Requests().read(request_.SerializeToString(), type(request_)) == request_


INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2) | st.sampled_from([315_576_000_000, 315_576_000_001])
INT32 = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 2) | st.sampled_from([999_999_999, 10**9, -(10**9)])


@settings(deadline=None)
@given(INT64, INT32)
async def test_a_span_that_is_none_is_refused(seconds: int, nanos: int) -> None:
    """By the definition of google.protobuf.Duration; the schema's own rules compare what is none as if it were one."""
    span = Duration(seconds=seconds, nanos=nanos)
    is_one = abs(seconds) <= 315_576_000_000 and abs(nanos) < 10**9 and seconds * nanos >= 0
    for request, field in (
        (pb.GetAssetStatusRequest(asset=ASSET, max_age=span), "max_age"),
        (pb.BatchGetAssetStatusesRequest(assets=[ASSET], max_age=span), "max_age"),
        (pb.WaitAssetStatusRequest(asset=ASSET, until_settled=True, timeout=span), "timeout"),
    ):
        longest = 3600 * 10**9 if field == "timeout" else math.inf
        try:
            await Requests().read(request.SerializeToString(), type(request))
        except InvalidRequest as refused:
            assert {path for path, _ in refused.violations} == {field}  # noqa: PT017 - that it is refused is below
            assert not (is_one and 0 <= seconds * 10**9 + nanos <= longest)
        else:
            assert is_one
            assert 0 <= seconds * 10**9 + nanos <= longest


async def test_every_method_validates_its_request() -> None:
    """Each answers a broken request with INVALID_ARGUMENT / INVALID_REQUEST, and BadRequest says where."""
    async with running(("omn",)) as rig:
        for request, fields in BROKEN:
            stub = rig.sources if isinstance(request, source_pb.GetSourceRequest) else rig.statuses
            call = getattr(stub, method_of(request))(request)
            told = await problem_of(call.read() if isinstance(request, pb.WatchStatusRequest) else call)
            assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), request
            assert list(told.violations) == list(dict.fromkeys(fields))
            assert told.domain == "assetwatch"


@pytest.mark.parametrize("source", SOURCES)
async def test_an_id_that_cannot_be_one_of_its_source_is_refused(source: str) -> None:
    """Get, batch, wait and watch refuse it by the path of the id, say what form it has, and ask no upstream."""
    async with running((source,), every={"probe_interval_s": 60}, pieces={"pins": []}) as rig:
        wrong = AssetKey(source, SAMPLES[source].wrong)
        calls: dict[str, list[Awaitable[object]]] = {
            "asset.asset_id": [rig.get(wrong), rig.wait(wrong, until_settled=True)],
            "assets[1].asset_id": [
                rig.batch([sample(source), wrong]),
                rig.watch(assets=[ref(sample(source)), ref(wrong)]).next(),
            ],
        }
        for path, attempts in calls.items():
            for attempt in attempts:
                told = await problem_of(attempt)
                assert told.code is grpc.StatusCode.INVALID_ARGUMENT
                assert list(told.violations) == [path]
                assert "should be" in told.violations[path] or "is not" in told.violations[path]


async def test_every_wrong_id_of_a_request_is_named() -> None:
    """Not only the first."""
    async with running(("omn", "pieces")) as rig:
        told = await problem_of(rig.batch([AssetKey("omn", "x"), sample("omn"), AssetKey("pieces", "y")]))
        assert list(told.violations) == ["assets[0].asset_id", "assets[2].asset_id"]


async def test_unknown_sources_are_not_found_wherever_they_are_named() -> None:
    """Get, batch, list, wait, watch (by asset and by source) and GetSource."""
    async with running(("omn",)) as rig:
        lost = AssetKey("nowhere", "x")
        attempts = [
            rig.get(lost),
            rig.batch([sample("omn"), lost]),
            rig.list(sources=["omn", "nowhere"]),
            rig.wait(lost, until_settled=True),
            rig.watch(assets=[ref(lost)]).next(),
            rig.watch(sources=["nowhere"]).next(),
            rig.source("nowhere"),
        ]
        for attempt in attempts:
            told = await problem_of(attempt)
            assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
            assert told.metadata == {"source": "nowhere"}


@given(st.integers(1, 950), st.lists(st.integers(0, 949), max_size=20, unique=True))
@settings(max_examples=50, deadline=None)
def test_what_is_wrong_in_a_long_list_is_found_wherever_it_stands(count: int, wrong: list[int]) -> None:
    """Items are checked together, and by themselves only where one is wrong: with the same result."""
    request = pb.BatchGetAssetStatusesRequest(assets=[NO_ID if index in wrong else ASSET for index in range(count)])
    each = [f"assets[{index}].asset_id" for index in sorted(wrong) if index < count]
    try:
        asyncio.run(Requests().read(request.SerializeToString(), pb.BatchGetAssetStatusesRequest))
        found = []
    except InvalidRequest as refused:
        found = [path for path, _ in refused.violations if path]
    assert found == each[: len(found)]
    assert len(found) >= min(len(each), 10)
