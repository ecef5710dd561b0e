"""The whole service from outside, by grpcurl over reflection alone, as a person would try it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from support import grpcurl
from support.grpcurl import SOURCE_SERVICE, STATUS_SERVICE
from support.rig import SAMPLES, SOURCES, Rig, running, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


def names(source: str) -> dict[str, str]:
    """Write a sample's name as JSON."""
    return {"source": source, "asset_id": SAMPLES[source].asset_id}


async def test_both_services_are_listed(rig: Rig) -> None:
    """By name, with their methods."""
    listed = await grpcurl.describe(rig.address, "list")
    assert {STATUS_SERVICE, SOURCE_SERVICE} <= set(listed.split())
    assert "WatchStatus" in await grpcurl.describe(rig.address, "list", STATUS_SERVICE)


@pytest.mark.parametrize("source", SOURCES)
async def test_a_status_of_each_source(source: str, rig: Rig) -> None:
    """State, freshness and the kind's own detail."""
    ran = await grpcurl.call(rig.address, f"{STATUS_SERVICE}/GetAssetStatus", {"asset": names(source)})
    (answer,) = ran.documents
    assert answer["status"]["state"] == "ASSET_STATE_AVAILABLE"
    assert answer["status"]["freshness"] == "FRESHNESS_FRESH"
    assert source.replace("-", "_") in answer["status"]


async def test_a_batch_over_all_sources(rig: Rig) -> None:
    """In the order of the request."""
    request = {"assets": [names(source) for source in SOURCES]}
    ran = await grpcurl.call(rig.address, f"{STATUS_SERVICE}/BatchGetAssetStatuses", request)
    (answer,) = ran.documents
    assert [status["asset"] for status in answer["statuses"]] == request["assets"]


async def test_pages(rig: Rig) -> None:
    """Page after page until there is no token: every asset once."""
    seen: list[tuple[str, str]] = []
    token = ""
    while True:
        request = {"page_size": 10, "page_token": token}
        ran = await grpcurl.call(rig.address, f"{STATUS_SERVICE}/ListAssetStatuses", request)
        (page,) = ran.documents
        seen.extend((status["asset"]["source"], status["asset"]["asset_id"]) for status in page["statuses"])
        token = page.get("next_page_token", "")
        if not token:
            break
        assert len(page["statuses"]) == 10
    assert len(seen) == len(set(seen)) >= 25
    assert {sample(source) for source in SOURCES} <= set(seen)


async def test_sources_are_told(rig: Rig) -> None:
    """All five, healthy once they were asked."""
    for source in SOURCES:
        await rig.get(sample(source))
    (answer,) = (await grpcurl.call(rig.address, f"{SOURCE_SERVICE}/ListSources")).documents
    assert [source["name"] for source in answer["sources"]] == sorted(SOURCES)
    assert {source["condition"]["state"] for source in answer["sources"]} == {"SOURCE_CONDITION_STATE_HEALTHY"}


async def test_a_watch_prints_started_a_snapshot_synced_and_changes_of_all_five(rig: Rig) -> None:
    """In this order, with live changes from every source as its stand-in lives on."""
    request = {"sources": list(SOURCES)}
    async with grpcurl.following(rig.address, f"{STATUS_SERVICE}/WatchStatus", request) as watch:
        documents = await watch.until(lambda documents: any("synced" in document for document in documents))
        assert documents[0]["started"]["mode"] == "MODE_SNAPSHOT"
        assert [told["source"] for told in documents[0]["source_conditions"]] == sorted(SOURCES)
        synced = next(number for number, document in enumerate(documents) if "synced" in document)
        assert sources_of(documents[:synced]) == set(SOURCES)
        living = asyncio.create_task(live(rig))
        documents = await watch.until(lambda documents: sources_of(documents[synced + 1 :]) == set(SOURCES))
        living.cancel()
        await asyncio.wait([living])
    assert all("resume_token" in document for document in documents[synced:] if "changes" in document)


async def test_a_printed_token_resumes(rig: Rig) -> None:
    """What happened between two watches is what the second prints."""
    method = f"{STATUS_SERVICE}/WatchStatus"
    async with grpcurl.following(rig.address, method, {"sources": ["omn"]}) as watch:
        documents = await watch.until(lambda documents: any("synced" in document for document in documents))
    token = documents[-1]["resume_token"]
    rig.vary("omn")
    await rig.get(sample("omn"), max_age={})
    async with grpcurl.following(rig.address, method, {"sources": ["omn"], "resume_token": token}) as watch:
        documents = await watch.until(lambda documents: any("synced" in document for document in documents))
    assert documents[0]["started"]["mode"] == "MODE_RESUMED"
    changed = [change["status"]["asset"] for document in documents for change in document.get("changes", [])]
    assert changed == [names("omn")]


async def test_a_wait_ends_when_the_state_comes(rig: Rig) -> None:
    """Unary, for shells."""
    request = {"asset": names("omn"), "states": ["ASSET_STATE_PROCESSING"], "timeout": "20s"}
    waiting = asyncio.create_task(grpcurl.call(rig.address, f"{STATUS_SERVICE}/WaitAssetStatus", request))
    await rig.shows("omn", lambda source: source.watcher_count == 1)
    rig.vary("omn")
    (answer,) = (await waiting).documents
    assert answer["condition_met"]


async def live(rig: Rig) -> None:
    """Move the stand-ins on until cancelled."""
    rng = random.Random(7)  # noqa: S311 - a test must be repeatable
    while True:
        for source in SOURCES:
            rig[source].advance(rng)
        await asyncio.sleep(0.1)


def sources_of(documents: list[Any]) -> set[str]:
    """Return the sources whose changes were printed."""
    return {change["status"]["asset"]["source"] for document in documents for change in document.get("changes", [])}
