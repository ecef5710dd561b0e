"""Requests and assets nobody should send or ask for, and what they get."""

from __future__ import annotations

import grpc
import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb

from assetwatchd import app
from assetwatchd.model.errors import ConfigError
from assetwatchd.model.values import AssetKey
from assetwatchd.settings.schema import Settings
from support.problems import problem
from support.raw_calls import one_to_many
from support.rig import ref, running, sample


@pytest.mark.parametrize("method", ["AssetStatusService/GetAssetStatus", "AssetStatusService/WatchStatus"])
async def test_bytes_that_are_no_request(method: str) -> None:
    """They are refused as any other bad input is, with the reason, and not as a failure of the server."""
    async with running(("omn",)) as rig, grpc.aio.insecure_channel(rig.address) as channel:
        call = one_to_many(channel, f"/assetwatch.v1.{method}")(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert problem(refused.value).reason == "INVALID_REQUEST"


async def test_an_asset_the_upstream_will_not_speak_about_is_an_answer() -> None:
    """UNKNOWN, with what the upstream said as the failure: asking again would change nothing; the source is healthy."""
    foreign = AssetKey("usd-search", "s3://other-bucket/a.usd")
    async with running(("usd-search",)) as rig:
        status = await rig.get(foreign)
        assert status.state == status_pb.ASSET_STATE_UNKNOWN
        assert (status.failure.kind, status.failure.code) == (status_pb.ASSET_FAILURE_KIND_PERMANENT, "rejected")
        assert "HTTP 400" in status.failure.message
        watched = await rig.watch(assets=[ref(foreign)]).synced()
        assert watched.map[foreign].state == status_pb.ASSET_STATE_UNKNOWN


async def test_a_page_token_resumes_no_watch_and_a_resume_token_no_list() -> None:
    """They look alike and are not the same."""
    async with running(("omn",)) as rig:
        page = await rig.list(sources=["omn"], page_size=1)
        stream = await rig.watch(sources=["omn"]).synced()
        with pytest.raises(grpc.aio.AioRpcError) as mismatch:
            await rig.watch(sources=["omn"], resume_token=page.next_page_token).synced()
        assert problem(mismatch.value).reason == "RESUME_FILTER_MISMATCH"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rig.list(sources=["omn"], page_token=stream.token)
        assert list(problem(refused.value).violations) == ["page_token"]


async def test_waits_count_as_streams() -> None:
    """A wait is refused where a watch would be."""
    async with running(("omn",), server={"streams_max": 1}) as rig:
        await rig.watch(sources=["omn"]).synced()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rig.wait(sample("omn"), until_settled=True)
        assert problem(refused.value).reason == "TOO_MANY_STREAMS"


def test_a_pin_that_cannot_be_an_id_is_told_at_the_start() -> None:
    """The source and the pin are named, and the form it should have."""
    sbc = {"kind": "oracle_sbc", "base_url": "http://127.0.0.1:9", "username": "u", "password": "p", "pins": ["nope"]}
    with pytest.raises(ConfigError, match=r"sources\.edge\.pins: 'nope': .*last-operation"):
        app.App(Settings.model_validate({"sources": {"edge": sbc}}))
