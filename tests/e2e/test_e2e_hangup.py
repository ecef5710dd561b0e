"""A terminal that is closed, and SIGHUP from somebody else, to a server of a process of its own."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2

from assetwatch_client import reason_of
from support.command_line import COMMAND, environment
from support.raw_calls import answer_of, health_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEADLINE_S = 30
BEGIN = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[3], sys.argv[3:])"
"""The first terminal that a session's leader opens is its controlling terminal."""
NOHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); " + BEGIN
IN_NONE = "import os, sys; os.execv(sys.argv[3], sys.argv[3:])"


SANDBOX = ("sandbox", "--assets", "1", "--speed", "0")


class Server:
    """One that serves, the other end of its terminal, and its address."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int, address: str) -> None:
        self.process = process
        self.terminal = terminal
        self.address = address

    async def ended(self) -> tuple[int | None, str]:
        """Return its exit code and what it logged."""
        _, err = await asyncio.wait_for(self.process.communicate(), DEADLINE_S)
        return self.process.returncode, err.decode()

    async def serves(self) -> bool:
        """Ask whether it serves."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            answer = await health_of(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def logged(self, text: str) -> None:
        """Wait until it has logged that."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            while text not in (line := await self.process.stderr.readline()).decode():
                assert line, "it ended"


async def session(*words: str) -> asyncio.subprocess.Process:
    """Start a command as the leader of a session of its own, with what it writes in pipes."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=environment(),
        start_new_session=True,
    )


@asynccontextmanager
async def server(begin: str, folder: Path) -> AsyncIterator[Server]:
    primary, secondary = pty.openpty()
    path = folder / "assetwatch.yaml"
    path.write_text("{server: {listen: '127.0.0.1:0'}, store: {kind: memory}}")
    words = (sys.executable, "-c", begin, os.ttyname(secondary), "--", *COMMAND, "serve", "-c", str(path))
    process = await session(*words)
    os.close(secondary)
    terminal = os.fdopen(primary, "rb", buffering=0)
    try:
        assert process.stdout is not None
        ready = (await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)).decode()
        yield Server(process, primary, ready.split()[-1])
    finally:
        terminal.close()
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_a_closed_terminal_drains(tmp_path: Path) -> None:
    """A watch is told SERVER_DRAINING, and the process ends with 0."""
    async with server(BEGIN, tmp_path) as running, grpc.aio.insecure_channel(running.address) as channel:
        call = health_of(channel).Watch(health_pb2.HealthCheckRequest())
        await call.read()
        hang_up(running)
        assert (await answer_of(call)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert reason_of(ended.value) == "SERVER_DRAINING"
        assert (await running.ended())[0] == 0


def hang_up(running: Server) -> None:
    """Close the terminal, in a way that its descriptor can be closed once more."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, running.terminal)
    os.close(null)


@pytest.mark.parametrize("begin", [IN_NONE, NOHUP], ids=["none", "nohup"])
async def test_without_a_terminal_it_is_logged_and_ignored(begin: str, tmp_path: Path) -> None:
    """As a service, and behind nohup: the server goes on, says so, and stops at SIGTERM as ever."""
    async with server(begin, tmp_path) as running:
        if begin is NOHUP:
            hang_up(running)
        else:
            running.process.send_signal(signal.SIGHUP)
        await running.logged("SIGHUP is ignored")
        assert await running.serves()
        running.process.send_signal(signal.SIGTERM)
        assert (await running.ended())[0] == 0


@pytest.mark.parametrize(("begin", "ends"), [(BEGIN, True), (IN_NONE, False)], ids=["terminal", "none"])
async def test_the_sandbox_ends_with_its_terminal_too(begin: str, ends: bool) -> None:  # noqa: FBT001 - a parameter
    """As at Ctrl-C; without a terminal it goes on."""
    primary, secondary = pty.openpty()
    words = (sys.executable, "-c", begin, os.ttyname(secondary), "--", *COMMAND, *SANDBOX)
    process = await session(*words)
    os.close(secondary)
    try:
        assert process.stdout is not None
        assert b"control" in await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
        process.send_signal(signal.SIGHUP)
        if not ends:
            process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    finally:
        os.close(primary)
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert (process.returncode, err) == (0, b"")
