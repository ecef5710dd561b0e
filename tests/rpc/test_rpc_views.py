"""The views of a status: BASIC is all but detail, in every call; FULL is what is told unless another is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import grpc
import pytest
from assetwatch.v1.asset_status_pb2 import (
    ASSET_STATE_AVAILABLE,
    ASSET_STATUS_VIEW_BASIC,
    ASSET_STATUS_VIEW_FULL,
    AssetStatus,
)
from assetwatch.v1.asset_status_service_pb2 import WatchStarted

from assetwatchd.model.values import AssetKey
from assetwatchd.rpc import service
from support.problems import problem_of
from support.rig import SAMPLES, SOURCES, key_of, ref, running, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.rig import Rig

BASIC, FULL = {"view": ASSET_STATUS_VIEW_BASIC}, {"view": ASSET_STATUS_VIEW_FULL}


async def got(rig: Rig, key: AssetKey, **view: Any) -> AssetStatus:
    return await rig.get(key, **view)


async def batched(rig: Rig, key: AssetKey, **view: Any) -> AssetStatus:
    [status] = await rig.batch([key], **view)
    return status


async def listed(rig: Rig, key: AssetKey, **view: Any) -> AssetStatus:
    page = await rig.list(sources=[key.source], **view)
    return next(status for status in page.statuses if key_of(status) == key)


async def waited(rig: Rig, key: AssetKey, **view: Any) -> AssetStatus:
    return (await rig.wait(key, states=[ASSET_STATE_AVAILABLE], **view)).status


async def watched(rig: Rig, key: AssetKey, **view: Any) -> AssetStatus:
    stream = await rig.watch(assets=[ref(key)], **view).synced()
    stream.call.cancel()
    return stream.map[key]


CALLS = [got, batched, listed, waited, watched]


def without_detail(status: AssetStatus) -> AssetStatus:
    """Return the rest of a status, without the moments that move by themselves."""
    rest = AssetStatus()
    rest.CopyFrom(status)
    rest.ClearField("detail")
    rest.ClearField("observe_time")
    return rest


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_basic_is_all_but_the_detail(call: Callable[..., Any]) -> None:
    """Of every kind, by every call; no view and FULL are alike."""
    async with running(SOURCES, count=1, every={"settled_interval_s": 60, "busy_interval_s": 60}) as rig:
        for source in SOURCES:
            key = sample(source)
            await rig.get(key)
            whole, basic, plain = [await call(rig, key, **view) for view in (FULL, BASIC, {})]
            assert (whole.WhichOneof("detail"), basic.WhichOneof("detail")) == (source.replace("-", "_"), None)
            assert plain.WhichOneof("detail") == whole.WhichOneof("detail")
            rest = without_detail(basic)
            assert rest.revision > 0
            assert rest == without_detail(whole) == without_detail(plain)


async def test_what_never_was_has_no_detail_in_basic() -> None:
    """Of a kind that tells details of what it does not have, too."""
    async with running(("usd-search",)) as rig:
        key = AssetKey("usd-search", SAMPLES["usd-search"].unknown)
        whole, basic = await rig.get(key), await rig.get(key, **BASIC)
        assert (whole.WhichOneof("detail"), basic.WhichOneof("detail")) == ("usd_search", None)
        assert basic.revision == 0


async def test_a_basic_watch_is_told_every_change() -> None:
    """A change of detail alone, which is another revision and nothing else, and removals; never any detail."""
    async with running(("omn",), count=3) as rig:
        key = sample("omn")
        stream = await rig.watch(sources=["omn"], **BASIC).synced()
        before = stream.map[key]
        rig["omn"].put(key.asset_id, {"meta": {"caption": "another"}})
        await stream.holds(lambda held: held[key].revision > before.revision)
        after = without_detail(stream.map[key])
        assert "another" in (await rig.get(key)).omn.meta.values()
        after.revision, after.etag = before.revision, before.etag
        assert after == without_detail(before)
        rig["omn"].remove(key.asset_id)
        await stream.until(lambda _: key in stream.removed)
        changes = [change for message in stream.messages for change in message.changes]
        assert not any(change.status.WhichOneof("detail") for change in changes)


async def test_a_token_is_of_one_view() -> None:
    """With another one it is refused as that of another filter; no view is FULL, in tokens too."""
    async with running(("omn",)) as rig:
        tokens = {}
        for name, view in (("full", FULL), ("none", {}), ("basic", BASIC)):
            stream = await rig.watch(sources=["omn"], **view).synced()
            tokens[name] = stream.token
        for name, view in (("full", {}), ("none", FULL), ("basic", BASIC)):
            again = rig.watch(sources=["omn"], resume_token=tokens[name], **view)
            assert (await again.next()).started.mode == WatchStarted.MODE_RESUMED
        for name, view in (("full", BASIC), ("none", BASIC), ("basic", FULL), ("basic", {})):
            told = await problem_of(rig.watch(sources=["omn"], resume_token=tokens[name], **view).next())
            assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH")
            assert "view" in told.message


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_a_view_that_is_not_known_is_refused(call: Callable[..., Any]) -> None:
    """INVALID_ARGUMENT, naming the field: a client of a newer schema learns that it is told no such view."""
    async with running(("omn",)) as rig:
        told = await problem_of(call(rig, sample("omn"), view=7))
        assert (told.code, list(told.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["view"])


async def test_more_fit_into_a_page_in_basic() -> None:
    """A page ends by the bytes of what is told, not of what is kept."""
    async with running(("omn",), count=6) as rig:
        await rig.watch(sources=["omn"]).synced()
        sizes = [status.ByteSize() for status in (await rig.list(**BASIC)).statuses]
        with patch.object(service, "PAGE_BYTES_MAX", sum(sizes) + 16 * len(sizes)):
            basic, whole = await rig.list(**BASIC), await rig.list()
        assert (len(basic.statuses), basic.next_page_token) == (len(sizes), "")
        assert len(whole.statuses) < len(sizes)
        assert whole.next_page_token
