"""Every reason of the table of errors, provoked through grpcurl: code, ErrorInfo, and the details that belong to it."""

from __future__ import annotations

import asyncio
import json
import math
import signal
from typing import Any

from assetwatchd.model.values import ConditionState
from support import grpcurl
from support.grpcurl import STATUS_SERVICE, Ran
from support.rig import SAMPLES, Rig, ref, running, sample

INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE, UNAVAILABLE = 3, 5, 8, 10, 11, 14
OMN = {"source": "omn", "asset_id": SAMPLES["omn"].asset_id}


async def call(rig: Rig, method: str, request: object) -> Ran:
    """Call the status service."""
    return await grpcurl.call(rig.address, f"{STATUS_SERVICE}/{method}", request)


def told(ran: Ran, code: int, reason: str) -> dict[str, str]:
    """Assert code and reason; return the metadata."""
    assert ran.error["code"] == code, ran.err
    info = ran.detail("ErrorInfo")
    assert (info["reason"], info["domain"]) == (reason, "assetwatch")
    metadata: dict[str, str] = info.get("metadata", {})
    return metadata


async def token_of(rig: Rig) -> str:
    """Return a resume token of the whole of OMN."""
    return (await rig.watch(sources=["omn"]).synced()).token


async def test_invalid_request() -> None:
    """BadRequest names the field, for a rule of the schema and for one of the source."""
    async with running(("omn",)) as rig:
        ran = await call(rig, "GetAssetStatus", {"asset": {"source": "omn"}})
        assert told(ran, INVALID_ARGUMENT, "INVALID_REQUEST") == {}
        assert [v["field"] for v in ran.detail("BadRequest")["field_violations"]] == ["asset.asset_id"]
        ran = await call(rig, "BatchGetAssetStatuses", {"assets": [OMN, {"source": "omn", "asset_id": "1"}]})
        told(ran, INVALID_ARGUMENT, "INVALID_REQUEST")
        assert [v["field"] for v in ran.detail("BadRequest")["field_violations"]] == ["assets[1].asset_id"]


async def test_source_not_found() -> None:
    """With the name asked for."""
    async with running(("omn",)) as rig:
        ran = await call(rig, "GetAssetStatus", {"asset": {"source": "nowhere", "asset_id": "1"}})
        assert told(ran, NOT_FOUND, "SOURCE_NOT_FOUND") == {"source": "nowhere"}
        ran = await call(rig, "WatchStatus", {"sources": ["nowhere"]})
        assert told(ran, NOT_FOUND, "SOURCE_NOT_FOUND") == {"source": "nowhere"}


async def test_source_unreachable() -> None:
    """With RetryInfo; by a fresh read alone."""
    async with running(("omn",)) as rig:
        await rig.get(sample("omn"))
        await rig["omn"].stop()
        ran = await call(rig, "GetAssetStatus", {"asset": OMN, "max_age": "0s"})
        assert told(ran, UNAVAILABLE, "SOURCE_UNREACHABLE") == {"source": "omn"}
        assert "retry_delay" in ran.detail("RetryInfo")
        assert (await call(rig, "GetAssetStatus", {"asset": OMN})).code == 0


async def test_our_credentials_refused_is_a_condition_and_not_the_callers_fault() -> None:
    """A fresh read is SOURCE_UNREACHABLE, never UNAUTHENTICATED; the source says REFUSED, and nobody the secret."""
    wrong = {"auth": {"kind": "bearer", "token": "hunter2"}}
    async with running(("omn",), omn=wrong) as rig:
        ran = await call(rig, "GetAssetStatus", {"asset": OMN})
        told(ran, UNAVAILABLE, "SOURCE_UNREACHABLE")
        source = await rig.source("omn")
        assert ConditionState(source.condition.state) is ConditionState.REFUSED
        assert "hunter2" not in ran.err + source.condition.message


async def test_resume_token_invalid() -> None:
    """A token nobody made."""
    async with running(("omn",)) as rig:
        ran = await call(rig, "WatchStatus", {"sources": ["omn"], "resume_token": "nonsense"})
        assert told(ran, INVALID_ARGUMENT, "RESUME_TOKEN_INVALID") == {}


async def test_resume_filter_mismatch() -> None:
    """A token of other states."""
    async with running(("omn",)) as rig:
        request = {"sources": ["omn"], "states": ["ASSET_STATE_FAILED"], "resume_token": await token_of(rig)}
        assert told(await call(rig, "WatchStatus", request), INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH") == {}


async def test_resume_epoch_changed() -> None:
    """A token of the server before."""
    async with running(("omn",)) as rig:
        token = await token_of(rig)
    async with running(("omn",)) as rig:
        ran = await call(rig, "WatchStatus", {"sources": ["omn"], "resume_token": token})
        assert told(ran, OUT_OF_RANGE, "RESUME_EPOCH_CHANGED") == {"epoch": rig.app.store.epoch}


async def test_resume_token_expired() -> None:
    """With what was asked for, the oldest that could be, and the newest."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        token = stream.token
        rig["omn"].remove(sample("omn").asset_id)
        await stream.holds(lambda held: sample("omn") not in held)
        await rig.app.store.drop_gone(before=math.inf, keep=lambda _: False)
        ran = await call(rig, "WatchStatus", {"sources": ["omn"], "resume_token": token})
        metadata = told(ran, OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
        assert int(metadata["requested"]) < int(metadata["oldest"]) <= int(metadata["current"])


async def test_replica_behind() -> None:
    """A revision that does not come in time."""
    async with running(("omn",)) as rig:
        ran = await call(rig, "GetAssetStatus", {"asset": OMN, "min_revision": "999999"})
        assert told(ran, UNAVAILABLE, "REPLICA_BEHIND")["revision"] == "999999"
        assert "retry_delay" in ran.detail("RetryInfo")


async def test_too_many_streams() -> None:
    """With the limit, QuotaFailure and RetryInfo."""
    async with running(("omn",), server={"streams_max": 1}) as rig:
        await rig.watch(sources=["omn"]).synced()
        ran = await call(rig, "WatchStatus", {"sources": ["omn"]})
        assert told(ran, RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS") == {"limit": "1"}
        assert [v["subject"] for v in ran.detail("QuotaFailure")["violations"]] == ["server"]
        assert "retry_delay" in ran.detail("RetryInfo")


async def test_too_many_names() -> None:
    """With the limit, QuotaFailure and RetryInfo."""
    async with running(("omn",), server={"names_max": 1}) as rig:
        await rig.watch(assets=[ref(sample("omn"))]).synced()
        another = {"source": "omn", "asset_id": SAMPLES["omn"].unknown}
        ran = await call(rig, "WatchStatus", {"assets": [another]})
        assert told(ran, RESOURCE_EXHAUSTED, "TOO_MANY_NAMES") == {"limit": "1"}
        assert [v["subject"] for v in ran.detail("QuotaFailure")["violations"]] == ["server"]
        assert "retry_delay" in ran.detail("RetryInfo")


async def test_too_many_assets() -> None:
    """With the source, its limit, QuotaFailure and RetryInfo; for reads and for watches."""
    async with running(("usd-search",), count=0, usd_search={"assets_max": 1}) as rig:
        more = {"source": "usd-search", "asset_id": "s3://studio-assets/one-more.usd"}
        for method, request in (("GetAssetStatus", {"asset": more}), ("WatchStatus", {"assets": [more]})):
            ran = await call(rig, method, request)
            assert told(ran, RESOURCE_EXHAUSTED, "TOO_MANY_ASSETS") == {"source": "usd-search", "limit": "1"}
            assert ran.detail("QuotaFailure")["violations"][0]["subject"] == "source:usd-search"
            assert "retry_delay" in ran.detail("RetryInfo")


async def test_server_draining() -> None:
    """A watch under way ends with it, after a last bookmark, with RetryInfo."""
    async with running(("omn",)) as rig:
        method = f"{STATUS_SERVICE}/WatchStatus"
        async with grpcurl.following(rig.address, method, {"sources": ["omn"]}) as watch:
            await watch.until(lambda documents: any("synced" in document for document in documents))
            rig.app.stop()
            ran = await watch.ended()
        assert told(ran, UNAVAILABLE, "SERVER_DRAINING") == {}
        assert "retry_delay" in ran.detail("RetryInfo")
        last: Any = ran.documents[-1]
        assert "bookmark" in last
        assert last["resume_token"]


async def test_an_unknown_field_or_word_never_reaches_the_server() -> None:
    """Grpcurl itself refuses it by what reflection told it."""
    async with running(("omn",)) as rig:
        for request in ({"assset": OMN}, {"asset": OMN, "states": ["ASSET_STATE_FINE"]}):
            ran = await call(rig, "WaitAssetStatus", request)
            assert ran.code != 0
            assert "ErrorInfo" not in ran.err, json.dumps(request)


async def test_slow_consumer() -> None:
    """A grpcurl that is stopped is given up, and told so once it goes on."""
    limits = {"slow_consumer_s": 0.4, "heartbeat_s": 0.2}
    async with running(("pieces",), server=limits) as rig:
        watch = {"sources": ["pieces"]}
        async with grpcurl.following(rig.address, f"{STATUS_SERVICE}/WatchStatus", watch) as following:
            await following.until(lambda documents: any("synced" in document for document in documents))
            following.process.send_signal(signal.SIGSTOP)
            asset_id, number = sample("pieces").asset_id, 0
            async with asyncio.timeout(30):
                while (await rig.source("pieces")).watcher_count:
                    number += 1
                    rig["pieces"].put(asset_id, {"name": f"{number} " + "x" * 20_000})
                    await asyncio.sleep(0.01)
            following.process.send_signal(signal.SIGCONT)
            told(await following.ended(), ABORTED, "SLOW_CONSUMER")
