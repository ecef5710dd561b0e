"""A demo with replicas as people run it: its processes by name, which a test kills."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support.command_line import DEADLINE_S, process
from support.scripted_watch import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ARGUMENTS = ("demo", "--replicas", "3", "--grpc", "127.0.0.1:0", "--speed", "20")
OF_THE_SHELL = {"ASSETWATCH__STORE__PREFIX": "none", "ASSETWATCH_CONFIG": "/nowhere"}
"""Variables by which the user's own server goes: they are nothing to those of a demo."""
LINE = re.compile(r"kill -9 (\d+) +(replica-\d|etcd) +(\S+)")


class Demo(NamedTuple):
    """A demo that runs: its process, the addresses of its replicas, and the processes of all its parts by name."""

    running: asyncio.subprocess.Process
    addresses: list[str]
    pids: dict[str, int]

    async def said(self, wanted: str) -> str:
        """Wait for a line that has this."""
        assert self.running.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while wanted not in (line := (await self.running.stdout.readline()).decode()):
                assert line, f"it ended before it said {wanted!r}"
        return line

    async def leaves_nothing(self) -> None:
        """Wait until every process is gone. Raises: TimeoutError."""
        await until(lambda: not any(map(lives, self.pids.values())))


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynccontextmanager
async def demo(*more: str) -> AsyncIterator[Demo]:
    """Run one without a table, and wait until it is ready."""
    async with process(*ARGUMENTS, "--no-table", *more, **OF_THE_SHELL) as running:
        assert running.stdout is not None
        first, *parts = [(await asyncio.wait_for(running.stdout.readline(), 60)).decode() for _ in range(5)]
        found = [LINE.search(part) for part in parts]
        assert all(found), (first, parts, (await running.stderr.read()) if running.stderr else b"")
        yield Demo(running, first.split()[-1].split(","), {match[2]: int(match[1]) for match in found if match})
