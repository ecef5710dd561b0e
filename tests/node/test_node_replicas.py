"""The Node example over replicas: grpc-js takes several addresses, and the example its token."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from support.node_example import DEADLINE_S, INSTALL_S, installed, started
from support.replicated_demo import demo

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(INSTALL_S + 3 * DEADLINE_S)


async def lines(running: asyncio.subprocess.Process, until: str) -> list[str]:
    """Return what it prints up to the first line that begins so."""
    assert running.stdout is not None
    found = [""]
    async with asyncio.timeout(DEADLINE_S):
        while not found[-1].startswith(until):
            found.append((await running.stdout.readline()).decode())
            assert found[-1], f"it ended before {until!r}"
    return found


async def test_a_watch_of_node_goes_on_at_another_replica(tmp_path: Path) -> None:
    """The replica that it called is killed: it calls the next with its token, and gets what changed, not all of it."""
    example = installed(tmp_path)
    async with demo() as running:
        watching = await started(example, "watch.mjs", "ipv4:" + ",".join(running.addresses), "omn", "pieces")
        try:
            first = await lines(watching, "= synced")
            await lines(watching, "+ ")
            os.kill(running.pids["replica-1"], signal.SIGKILL)
            await lines(watching, "! stream ended: UNAVAILABLE")
            resumed = await lines(watching, "= synced")
            await lines(watching, "+ ")
        finally:
            watching.kill()
            await watching.communicate()
    assert count(first) > 30
    assert count(resumed) < count(first)


def count(printed: list[str]) -> int:
    """Count the assets that were told."""
    return sum(line.startswith("+ ") for line in printed)
