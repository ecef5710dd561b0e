"""A replica that may be behind the others waits until it is not, before it serves what a client may have seen newer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb

from support.problems import problem_of
from support.rig import Rig, running

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import pytest

WHOLE = {"sources": ["omn"]}


class Others:
    """Other processes of a store, of whose commits this one is told when `come` is set."""

    def __init__(self, rig: Rig) -> None:
        self.come = asyncio.Event()
        self.asked = 0
        rig.app.store.caught_up = self._caught_up  # type: ignore[method-assign]  # what a shared store does

    async def _caught_up(self) -> None:
        self.asked += 1
        await self.come.wait()


async def waits(rig: Rig, others: Others, call: Awaitable[object]) -> object:
    """Return what a call answers, which it does not before the others' commits came."""
    asking = asyncio.ensure_future(call)
    async with asyncio.timeout(5):
        while not others.asked:  # noqa: ASYNC110 - it is counted by the server
            await asyncio.sleep(0.01)
    await rig.list(page_size=1)  # the server has had many a turn
    assert not asking.done()
    others.come.set()
    return await asking


async def test_a_snapshot_has_all_that_was_kept_before_it_was_asked_for() -> None:
    """A client that begins anew may have seen, at another replica, what is not known here yet."""
    async with running(("omn",), count=2) as rig:
        others = Others(rig)
        first = await waits(rig, others, rig.watch(**WHOLE).next())
        assert isinstance(first, pb.WatchStatusResponse)
        assert first.started.mode == pb.WatchStarted.MODE_SNAPSHOT


async def test_an_epoch_that_is_not_known_here_yet_is_waited_for() -> None:
    """A token that another replica gave out a moment ago is not of a store that was replaced."""
    async with running(("omn",), count=2) as rig:
        token = (await rig.watch(**WHOLE).synced()).token
        others = Others(rig)
        rig.app.store.continues = lambda *_: others.come.is_set()  # type: ignore[method-assign]  # told of the epoch, too
        first = await waits(rig, others, rig.watch(**WHOLE, resume_token=token).next())
        assert isinstance(first, pb.WatchStatusResponse)
        assert first.started.mode == pb.WatchStarted.MODE_RESUMED


async def test_the_next_page_has_all_that_the_page_before_left_for_it() -> None:
    """What a page of another replica left for the next one, since it changed meanwhile, is on that."""
    async with running(("omn",), count=5) as rig:
        token = (await rig.list(page_size=2)).next_page_token
        others = Others(rig)
        page = await waits(rig, others, rig.list(page_size=2, page_token=token))
        assert isinstance(page, pb.ListAssetStatusesResponse)
        assert len(page.statuses) == 2


async def test_a_resumed_stream_and_a_first_page_wait_for_nobody() -> None:
    """What is not behind its token goes on where it was, also where nobody can tell what the others have kept."""
    async with running(("omn",), count=2) as rig:
        token = (await rig.watch(**WHOLE).synced()).token
        others = Others(rig)
        await rig.watch(**WHOLE, resume_token=token).synced()
        await rig.list(page_size=1)
        assert not others.asked


async def test_whoever_cannot_tell_sends_the_client_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE / REPLICA_BEHIND with RetryInfo, after a bounded wait."""
    monkeypatch.setattr("assetwatchd.rpc.watch.BEHIND_WAIT_S", 0.05)
    async with running(("omn",), count=2) as rig:
        Others(rig)
        told = await problem_of(rig.watch(**WHOLE).next())
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLICA_BEHIND")
        assert told.retry_after_s == 1.0
