"""With few files to open, clients are turned away before sources are, and nobody is told that an upstream refuses."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1.source_service_pb2_grpc import SourceServiceStub as Sources

from assetwatch_sandbox import Sandbox
from assetwatchd.model.errors import OutOfDescriptors
from assetwatchd.runtime import descriptors
from assetwatchd.settings.schema import BearerAuth, Settings
from assetwatchd.upstream.credentials import bearer_token
from assetwatchd.upstream.http.transport import Transport
from support.command_line import environment
from support.http2 import LIST_SOURCES, connected
from support.rig import QUICK, SAMPLES, of_standin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

PATIENCE_S = 60
FEW = 64
CLIENTS = 80


@asynccontextmanager
async def limited(settings: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `serve` as a process that may open FEW files, and no more if it asks."""
    shell = f'ulimit -n {FEW}; exec "$@"'
    command = ("sh", "-c", shell, "sh", sys.executable, "-m", "assetwatchd", "serve", "-c", str(settings))
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment())
    try:
        assert server.stdout is not None
        said = await asyncio.wait_for(server.stdout.readline(), PATIENCE_S)
        yield server, said.split()[-1].decode()
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()


async def test_eighty_clients_of_a_server_that_may_open_64_files(tmp_path: Path) -> None:
    """Those that fit are answered, never with INTERNAL; no source is refused; all is well when they have gone."""
    sandbox = Sandbox(("omn",))
    sandbox.standins["omn"].put(SAMPLES["omn"].asset_id, SAMPLES["omn"].native)
    await sandbox.start()
    try:
        token = tmp_path / "token"
        token.write_text(sandbox.standins["omn"].credentials["token"])
        auth = {"kind": "bearer", "token_file": str(token)}
        source = {**of_standin(sandbox.standins["omn"]), **QUICK, "auth": auth, "pins": [SAMPLES["omn"].asset_id]}
        told = {"server": {"listen": "127.0.0.1:0"}, "store": {"kind": "memory"}, "sources": {"omn": source}}
        (tmp_path / "few.yaml").write_text(yaml.safe_dump(told))
        async with limited(tmp_path / "few.yaml") as (server, address):
            answered = await all_at_once(address)
            assert FEW // 4 <= sum(answered) <= FEW // 2
            condition = await condition_of(address)
            assert condition.state == 2, condition
            server.terminate()
            _, err = await server.communicate()
        assert "server.streams_max = 5000; let it open" in err.decode()
        assert "refused" not in err.decode()
        assert "Traceback" not in err.decode()
    finally:
        await sandbox.stop()


async def all_at_once(address: str) -> list[bool]:
    """Have all clients connected at once; return who was answered, each of them well."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(address)) for _ in range(CLIENTS)]
        answered = await asyncio.gather(*(client.answers(LIST_SOURCES) for client in clients))
        statuses = {ended.status for client in clients for ended in client.ended.values()}
        assert statuses == {0}
    return answered


async def condition_of(address: str) -> Any:
    """Ask for the condition of the source until there is room for one who asks."""
    async with asyncio.timeout(PATIENCE_S), grpc.aio.insecure_channel(address) as channel:
        stub: Any = Sources(channel)
        got = await stub.GetSource(source_pb.GetSourceRequest(source="omn"), wait_for_ready=True)
        return got.source.condition


@pytest.fixture
def _none_left() -> Iterator[None]:
    """Let this process open nothing more for as long as a test lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    holes = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 8, hard))
    with suppress(OSError):
        while True:
            holes.append(os.open(os.devnull, os.O_RDONLY))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for hole in holes:
        os.close(hole)


@pytest.mark.usefixtures("_none_left")
def test_a_token_file_that_cannot_be_opened_for_that_is_not_refused(tmp_path: Path) -> None:
    """It may well hold a token."""
    auth = BearerAuth(kind="bearer", token_file=tmp_path / "token")
    with pytest.raises(OutOfDescriptors, match="ulimit -n"):
        bearer_token(auth)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "nowhere.invalid"])
async def test_a_call_that_cannot_be_made_for_that_is_not_the_upstreams_fault(
    host: str, request: pytest.FixtureRequest
) -> None:
    """Whether it was a socket that was missing or the look-up of a name."""
    source = {"kind": "pieces", "base_url": f"http://{host}:9"}
    transport = Transport("desk", Settings.model_validate({"sources": {"desk": source}}).sources["desk"])
    transport._client()  # aiohttp reads files of its own when it is made
    await asyncio.to_thread(lambda: None)
    request.getfixturevalue("_none_left")
    with pytest.raises(OutOfDescriptors):
        await transport.request("GET", "/")
    await transport.close()


@pytest.mark.usefixtures("_none_left")
def test_a_look_up_that_fails_while_nothing_can_be_opened_is_taken_for_that() -> None:
    """It says that there is no such name, or that it should be tried again."""
    with pytest.raises(OutOfDescriptors), descriptors.missed():
        raise socket.gaierror(socket.EAI_AGAIN, "try again")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no"), socket.gaierror(-2, "no"), ConnectionRefusedError()])
def test_other_failures_are_what_they_were(error: OSError) -> None:
    """As long as files can be opened, a look-up that fails is one of a name."""
    with pytest.raises(type(error)), descriptors.missed():
        raise error


SOURCE = {"kind": "pieces", "base_url": "http://127.0.0.1:9", "concurrency": 16}


@pytest.mark.parametrize(
    ("files", "sources", "fit"),
    [(64, {}, 32), (64, {"desk": SOURCE}, 32), (1000, {"desk": SOURCE}, 1000 - 32 - 38), (10_000, {}, 9968)],
)
def test_connections_get_what_is_left_and_half_at_the_least(
    files: int, sources: Mapping[str, object], fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources come first, as long as there is something for clients."""
    monkeypatch.setattr(descriptors, "limit", lambda: files)
    assert descriptors.for_connections(Settings.model_validate({"sources": sources})) == fit


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to what is sane, and never lowered."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    for limits in ((1024, 4096), (1024, resource.RLIM_INFINITY), (4096, 4096), (1024, 10**9), (2 * 10**6, 10**9)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        descriptors.raise_limit()
    most = descriptors.LIMIT_MAX
    assert given == [(4096, 4096), (most, resource.RLIM_INFINITY), (most, 10**9)]


def test_a_limit_that_may_not_be_raised_is_made_do_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox may forbid it."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 20))
    descriptors.raise_limit()
    assert descriptors.limit() == 10
