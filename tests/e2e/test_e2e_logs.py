"""What a server writes of its life, its calls and its clients: a process of its own, JSON lines, and nothing else."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
import yaml
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatchd.model.errors import SourceNotFound, TooManyStreams
from assetwatchd.rpc import status
from assetwatchd.runtime.logs import Seldom
from support.command_line import process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEADLINE_S = 30
WATCH = pb.WatchStatusRequest(sources=["desk"])


class Server:
    """One that serves with TLS, and what it has written once it has ended."""

    def __init__(self, address: str, authority: trustme.CA) -> None:
        self.address = address
        self.trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        self.records: list[dict[str, Any]] = []

    def message(self, beginning: str) -> dict[str, Any]:
        """Return the one record whose message begins so."""
        (found,) = [record for record in self.records if record["message"].startswith(beginning)]
        return found


@asynccontextmanager
async def server(folder: Path, **telemetry: object) -> AsyncIterator[Server]:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / "server.pem")
    made.private_key_pem.write_to_path(folder / "server.key")
    tls = {"tls_cert_file": str(folder / "server.pem"), "tls_key_file": str(folder / "server.key")}
    settings = {
        "server": {"listen": "127.0.0.1:0", **tls},
        "store": {"kind": "sqlite", "path": str(folder / "store" / "assets.db")},
        "telemetry": {"log_format": "json", **telemetry},
        "sources": {"desk": {"kind": "pieces", "base_url": "http://127.0.0.1:9"}},
    }
    (folder / "assetwatch.yaml").write_text(yaml.safe_dump(settings))
    async with process("serve", "-c", str(folder / "assetwatch.yaml"), **UNSET) as running:
        assert running.stdout is not None
        ready = (await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)).decode()
        started = Server(ready.split()[-1], authority)
        yield started
        running.terminate()
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
        assert running.returncode == 0
        started.records = [json.loads(line) for line in err.splitlines()]
        assert {record["level"] for record in started.records} <= {"debug", "info", "warning"}, err.decode()


UNSET = {"GRPC_VERBOSITY": "", "GRPC_TRACE": ""}
"""Who runs the tests may have set them."""


async def test_start_and_drain_are_a_line_each(tmp_path: Path) -> None:
    """With version, configuration, store and head; the drain when it begins and when it has ended."""
    async with server(tmp_path) as running, grpc.aio.secure_channel(running.address, running.trust) as channel:
        call = AssetStatusServiceStub(channel).WatchStatus(WATCH)
        await call.read()
    start = running.message("assetwatch ")["message"]
    assert f"starts: configuration {tmp_path / 'assetwatch.yaml'} with 1 source;" in start
    assert f"store {tmp_path / 'store' / 'assets.db'}, head 0, epoch " in start
    names = ["assetwatch ", "serving on ", "draining: ", "drained in "]
    assert [name for record in running.records for name in names if record["message"].startswith(name)] == names


async def test_streams_are_told_of_at_debug(tmp_path: Path) -> None:
    """Each has a line when it is opened and one when it ends, with its peer, its source and why."""
    async with AsyncExitStack() as clients, server(tmp_path, log_level="debug") as running:
        channel = await clients.enter_async_context(grpc.aio.secure_channel(running.address, running.trust))
        stub = AssetStatusServiceStub(channel)
        left, kept = stub.WatchStatus(WATCH), stub.WatchStatus(WATCH)
        await left.read()
        await kept.read()
        left.cancel()
        unknown = pb.WatchStatusRequest(sources=["desk"], resume_token="x")
        assert await stub.WatchStatus(unknown).code() is grpc.StatusCode.INVALID_ARGUMENT
    ended = [record for record in running.records if record["message"].startswith("watch of the sources desk of ipv4:")]
    opened = [record for record in running.records if "opened by" in record["message"]]
    assert sorted(record["reason"] for record in ended) == ["CANCELLED", "RESUME_TOKEN_INVALID", "SERVER_DRAINING"]
    assert len(opened) == 3
    assert {record["source"] for record in (*opened, *ended)} == {"desk"}
    assert all(record["peer"].startswith("ipv4:127.0.0.1:") for record in (*opened, *ended))


async def test_a_refused_call_is_a_line_and_many_are_not_many(tmp_path: Path) -> None:
    """With peer, reason and source; and none of grpc's own for a client that speaks no TLS is written as it comes."""
    async with server(tmp_path) as running:
        async with grpc.aio.secure_channel(running.address, running.trust) as channel:
            stub = AssetStatusServiceStub(channel)
            wanted = pb.GetAssetStatusRequest(asset=AssetRef(source="dam", asset_id="x"))
            for _ in range(20):
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.GetAssetStatus(wanted, timeout=DEADLINE_S)
        for _ in range(5):
            host, _, port = running.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.read()
            writer.close()
    refused = running.message("refused a call of ipv4:127.0.0.1:")
    assert (refused["reason"], refused["source"]) == ("SOURCE_NOT_FOUND", "dam")
    assert refused["peer"].startswith("ipv4:127.0.0.1:")
    of_grpc = [record for record in running.records if record["logger"] == "grpc.core"]
    assert [record["level"] for record in of_grpc] == ["info"]
    assert "Handshake failed" in of_grpc[0]["message"], of_grpc


def test_a_line_of_a_refusal_for_each_reason_and_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One in a while, which says how many there were; connections of one address are one."""
    now = 0.0
    monkeypatch.setattr(status, "_refusals", Seldom(status.REFUSALS_EVERY_S, 10, clock=lambda: now))
    caplog.set_level("INFO")
    full = TooManyStreams("full", subject="server", limit=1, retry_after_s=1)
    for port in range(5):
        status.log_refusal(full, "TOO_MANY_STREAMS", f"ipv4:192.0.2.1:{port}")
    status.log_refusal(full, "TOO_MANY_STREAMS", "ipv4:192.0.2.2:1")
    status.log_refusal(SourceNotFound("x" * 10_000, []), "SOURCE_NOT_FOUND", "ipv4:192.0.2.1:1")
    now = status.REFUSALS_EVERY_S
    status.log_refusal(full, "TOO_MANY_STREAMS", "ipv4:192.0.2.1:9")
    texts = [record.getMessage() for record in caplog.records]
    assert texts[:2] == [f"refused a call of ipv4:192.0.2.{n}: TOO_MANY_STREAMS: full" for n in ("1:0", "2:1")]
    assert len(texts[2]) < 700
    assert texts[3].endswith("full (and 4 more of its address since the last line)")
    assert len(texts) == 4
