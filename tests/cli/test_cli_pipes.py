"""What reads the output of a command may have enough of it: then the command ends, and says nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.command_line import COMMAND, environment
from support.fake_service import started, synced
from support.hostile_service import hostile

if TYPE_CHECKING:
    from pathlib import Path

    from support.fake_service import FakeService

DEADLINE_S = 60
HEAD = f"{sys.executable} -c 'import sys; sys.stdin.readline()'"
"""A reader of one line that goes then; head itself may read on for a while."""


async def piped(*arguments: str, into: str = HEAD, **extra: str) -> tuple[int, str]:
    """Run a command whose output goes into another; return how it ended, and what it said on standard error."""
    line = f"{' '.join(COMMAND)} {' '.join(arguments)} | {into}; exit ${{PIPESTATUS[0]}}"
    running = await asyncio.create_subprocess_exec(
        "bash", "-c", line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(**extra)
    )
    try:
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    finally:
        if running.returncode is None:
            running.kill()
    assert running.returncode is not None
    return running.returncode, err.decode()


@pytest.mark.parametrize(
    "command", [("demo", "--grpc", "127.0.0.1:0"), ("demo", "--no-table", "--grpc", "127.0.0.1:0"), ("sandbox",)]
)
async def test_what_runs_for_its_output_stops(command: tuple[str, ...]) -> None:
    """The demo and the sandbox stop in good order, with 0, also where they have nothing more to print."""
    assert await piped(*command, "--speed", "0") == (0, "")


@pytest.mark.parametrize("output", ["ndjson", "table"])
async def test_a_watch_ends_though_nothing_changes(fake: FakeService, output: str) -> None:
    """It does not wait for a change to find out that nobody reads it."""
    fake.streams = [[started(), synced()]]
    assert await piped("watch", "dam", "-o", output, ASSETWATCH_SERVER=fake.address) == (141, "")


async def test_a_pipe_that_this_process_could_read_is_not_taken_for_left(fake: FakeService, tmp_path: Path) -> None:
    """A shell may hold a named pipe open both ways: what is printed there is not its reader's end."""
    os.mkfifo(tmp_path / "pipe")
    both = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        fake.streams = [[started(), synced()]]
        watching = await asyncio.create_subprocess_exec(
            *COMMAND, "watch", "dam", "--server", fake.address, stdout=both, env=environment()
        )
        await asyncio.to_thread(os.read, both, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watching.wait(), 1)
        watching.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(watching.wait(), DEADLINE_S) == 130
    finally:
        os.close(both)


async def test_content_that_nobody_takes_ends_as_quietly() -> None:
    """What is written byte for byte, too."""
    with hostile() as server:
        arguments = ("pieces", "get", "--content", "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001", "--source", "desk")
        assert await piped(*arguments, into="true", ASSETWATCH_SERVER=server.address) == (141, "")


async def test_what_cannot_be_printed_is_no_success(fake: FakeService) -> None:
    """It ends with what no command ends with otherwise: neither met, nor not met."""
    assert await piped("wait", "dam", "x", into="true", ASSETWATCH_SERVER=fake.address) == (141, "")
    assert await piped("config", "schema", into="true") == (141, "")


async def test_a_server_serves_though_nobody_reads_that_it_is_ready(tmp_path: Path) -> None:
    """A server is not run for its output."""
    (tmp_path / "c.yaml").write_text("{server: {listen: '127.0.0.1:0'}, store: {kind: memory}}")
    running = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "-c", str(tmp_path / "c.yaml"), stdout=subprocess.PIPE, env=environment()
    )
    assert running.stdout is not None
    assert b"is ready" in await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)
    running.stdout._transport.close()  # type: ignore[attr-defined]  # the reader goes
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.wait(), 1)
    running.terminate()
    assert await asyncio.wait_for(running.wait(), DEADLINE_S) == 0


@pytest.mark.parametrize("command", ["config schema", "list --server unix:nothing", "--version"])
async def test_output_that_is_closed_is_no_defect(command: str, tmp_path: Path) -> None:
    """A shell may start a command without standard output (`>&-`): it does what it does, and ends as ever."""
    line = f"cd {tmp_path}; {' '.join(COMMAND)} {command}"
    closed = await run_line(f"{line} >&-")
    assert closed == await run_line(f"{line} >/dev/null")
    assert "Traceback" not in closed[1]


@pytest.mark.parametrize("command", ["config schema", "--version"])
async def test_output_that_cannot_be_written_is_one_line(command: str) -> None:
    """A full disk is no defect of ours, and no success of the command."""
    full = await run_line(f"{' '.join(COMMAND)} {command} >/dev/full")
    assert full == (1, "assetwatch: standard output cannot be written: No space left on device\n")


async def run_line(line: str) -> tuple[int, str]:
    """Run a line of bash; return how it ended, and what it said on standard error."""
    running = await asyncio.create_subprocess_exec("bash", "-c", line, stderr=subprocess.PIPE, env=environment())
    _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    return running.returncode or 0, err.decode()
