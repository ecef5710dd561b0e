"""The client library against the real server over the sandbox."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.v1.asset_status_pb2 import AssetState

from assetwatch_client import Backoff, Key, Watch, connect
from assetwatch_sandbox import Sandbox
from assetwatchd import app
from support.problems import problem
from support.rig import QUICK, SAMPLES, impatient, of_standin, running, serving
from support.scripted_watch import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatch_sandbox.standin import Standin

EXAMPLE = Path(__file__).parents[2] / "examples" / "watch.py"
SAMPLE = Key("omn", SAMPLES["omn"].asset_id)


@asynccontextmanager
async def standing_in() -> AsyncIterator[Standin[Any]]:
    """Run one stand-in with a few assets."""
    sandbox = Sandbox(("omn",))
    sandbox.seed(1, 5)
    standin = sandbox.standins["omn"]
    standin.put(SAMPLE.asset_id, SAMPLES["omn"].native)
    await sandbox.start()
    try:
        yield standin
    finally:
        await sandbox.stop()


async def test_watch_outlives_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server drains and another takes its place, with a store of its own: the map ends as upstream is."""
    monkeypatch.setattr(app, "DRAIN_RETRY_S", 0.05)
    breaks: list[grpc.aio.AioRpcError | TimeoutError | None] = []
    async with standing_in() as standin, asyncio.TaskGroup() as tasks:
        sources = {"omn": {**of_standin(standin), **QUICK}}
        with impatient():
            async with serving(sources) as (_, address):
                channel = connect(address)
                watch = Watch(channel, sources=["omn"], backoff=Backoff(max_s=0.05), on_break=breaks.append)
                following = tasks.create_task(follow(watch))
                await until(lambda: ids(watch) == set(standin.asset_ids()))
            gone = next(asset_id for asset_id in standin.asset_ids() if asset_id != SAMPLE.asset_id)
            standin.remove(gone)
            standin.put(SAMPLE.asset_id, SAMPLES["omn"].another)
            async with serving(sources, {"listen": address}) as (second, _):
                await until(lambda: ids(watch) == set(standin.asset_ids()))
                await until(lambda: watch.statuses[SAMPLE].state == AssetState.ASSET_STATE_PROCESSING)
                following.cancel()
                await until(lambda: not second.hub.watcher_count())
            await channel.close()
    told = [error.details() for error in breaks if isinstance(error, grpc.aio.AioRpcError)]
    assert any("stopping" in (text or "") for text in told)
    assert any("another store" in (text or "") for text in told)


async def follow(watch: Watch) -> None:
    """Take events in for ever."""
    async for _ in watch.events():
        pass


def ids(watch: Watch) -> set[str]:
    """Return the ids in the map."""
    return {key.asset_id for key in watch.statuses}


async def test_example_follows_a_source() -> None:
    """The example prints what is, that it is in sync, and what changes."""
    async with running(("omn",)) as rig:
        example = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLE),
            rig.address,
            "omn",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"},
        )
        try:
            before = await printed(example, "in sync: ")
            rig.vary("omn")
            after = await printed(example, f"omn {SAMPLE.asset_id} ASSET_STATE_PROCESSING")
        finally:
            example.kill()
            await example.communicate()
    assert f"omn {SAMPLE.asset_id} ASSET_STATE_AVAILABLE" in before
    assert before[-1] == f"in sync: {len(rig['omn'].asset_ids())} assets"
    assert f"omn {SAMPLE.asset_id} ASSET_STATE_PROCESSING" in after


async def printed(process: asyncio.subprocess.Process, start: str) -> list[str]:
    """Return what it prints up to the first line that begins so."""
    assert process.stdout is not None
    lines = [""]
    async with asyncio.timeout(PATIENCE_S):
        while not lines[-1].startswith(start):
            line = await process.stdout.readline()
            assert line, "it ended"
            lines.append(line.decode().rstrip())
    return lines


async def test_a_watch_of_ids_that_cannot_be_is_told_so_at_once() -> None:
    """A hundred of them: the error gets to the caller, with the first of what is wrong, and is not retried."""
    breaks: list[object] = []
    wrong = [("omn", f"{number}-is-no-id-{'x' * 500}") for number in range(100)]
    async with running(("omn",)) as rig, connect(rig.address) as channel:
        watch = Watch(channel, assets=wrong, on_break=breaks.append)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await anext(watch.events())
    told = problem(raised.value)
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(told.violations) == [*(f"assets[{number}].asset_id" for number in range(10)), ""]
    assert told.violations[""] == "and 90 more"
    assert breaks == []
