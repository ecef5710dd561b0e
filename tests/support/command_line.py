"""The command line as people run it: a process of its own, against real sockets."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, TypeAlias

COMMAND = (sys.executable, "-m", "assetwatchd")
PATHS = os.pathsep.join(path for path in sys.path if path)
DEADLINE_S = 30
LINE_BYTES_MAX = 1024 * 1024
"""A message of 64 KiB is longer as JSON."""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


Run: TypeAlias = Callable[..., Awaitable[Done]]
Spawn: TypeAlias = Callable[..., AbstractAsyncContextManager[asyncio.subprocess.Process]]


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a command: none of the caller's settings for assetwatch, and extra ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSETWATCH")}
    return {**inherited, "PYTHONPATH": PATHS, "COLUMNS": "200", **extra}


@asynccontextmanager
async def process(*arguments: str, **extra: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command for as long as the context lasts."""
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        limit=LINE_BYTES_MAX,
        env=environment(**extra),
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def run(*arguments: str, **extra: str) -> Done:
    """Run a command to its end."""
    async with process(*arguments, **extra) as running:
        out, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
        assert running.returncode is not None
        return Done(running.returncode, out.decode(), err.decode())


def modules_in(err: str) -> set[str]:
    """Return what a command imported that ran with PYTHONPROFILEIMPORTTIME, by what it wrote on standard error."""
    return {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}
