"""A server has loaded all it needs when it says that it serves: later there may be no file left to open."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from google.protobuf.duration_pb2 import Duration

from assetwatch_sandbox import Sandbox
from assetwatchd.rpc.names import HEALTH, SERVICES
from support import grpcurl
from support.command_line import modules_in, process
from support.raw_calls import answer_of, one_to_many
from support.rig import QUICK, SAMPLES, SOURCES, of_standin, ref, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVING = "serving on "
PATIENCE_S = 60


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    sandbox.seed(1, 3)
    for name, standin in sandbox.standins.items():
        standin.put(SAMPLES[name].asset_id, SAMPLES[name].native)
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


def configured(sandbox: Sandbox, path: Path) -> Path:
    """Write the settings of a server of all kinds of sources, in all their ways to authenticate."""
    sources: dict[str, Any] = {name: {**of_standin(standin), **QUICK} for name, standin in sandbox.standins.items()}
    jwt = {"kind": "signed_jwt", "secret": "s" * 64, "key_id": "k", "mandator": "m", "subject": "s"}
    sources["omn-signed"] = {**sources["omn"], "auth": jwt}
    store = {"kind": "sqlite", "path": str(path.with_suffix(".sqlite"))}
    told = {"server": {"listen": "127.0.0.1:0"}, "store": store, "sources": sources}
    path.write_text(yaml.safe_dump(told))
    return path


async def call_everything(address: str) -> None:
    """Read an asset of each source anew, watch all, call each method with a request of nothing, and look around."""
    async with grpc.aio.insecure_channel(address) as channel:
        statuses = AssetStatusServiceStub(channel)
        for name in SOURCES:
            wanted = pb.GetAssetStatusRequest(asset=ref(sample(name)), max_age=Duration())
            await statuses.GetAssetStatus(wanted, timeout=PATIENCE_S)
        watch = statuses.WatchStatus(pb.WatchStatusRequest(sources=SOURCES))
        while not (await answer_of(watch)).HasField("synced"):
            pass
        for service in (*SERVICES, HEALTH):
            for method in service.methods:
                await _first_answer(channel, f"/{service.full_name}/{method.name}")
        await _first_answer(channel, "/not/there")
    await grpcurl.describe(address, "list")


async def _first_answer(channel: grpc.aio.Channel, method: str) -> None:
    call = one_to_many(channel, method)(b"", timeout=PATIENCE_S)
    with suppress(grpc.aio.AioRpcError):
        await call.read()
    assert not call.done() or await call.code() is not grpc.StatusCode.INTERNAL
    call.cancel()


async def test_nothing_is_imported_once_it_serves(sandbox: Sandbox, tmp_path: Path) -> None:
    """Not by any method, nor for any kind of source, with whatever answers and errors."""
    path = configured(sandbox, tmp_path / "all.yaml")
    async with process("serve", "-c", str(path), PYTHONPROFILEIMPORTTIME="1") as server:
        assert server.stdout is not None
        said = await asyncio.wait_for(server.stdout.readline(), PATIENCE_S)
        await call_everything(said.split()[-1].decode())
        server.kill()
        _, err = await server.communicate()
    before, after = err.decode().split(SERVING, 1)
    assert "assetwatchd.app" in modules_in(before)
    assert sorted(modules_in(after)) == []
