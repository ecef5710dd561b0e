"""Programs that a command runs beside itself, and that never outlive it, however it ends."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from assetwatchd.model.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

END_S = 8.0
"""A program that was told to end may take this long: what it drains, and some seconds."""
GUARD = """
import os, signal, sys
held = set()
for line in sys.stdin:
    pid = int(line)
    held.add(pid) if pid > 0 else held.discard(-pid)
for pid in held:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""
"""Holds numbers of processes, forgets those with a minus, and ends what it holds once nobody can tell it any more."""
READY = "is ready on"


class Guard:
    """A process that ends children whose parent has ended in a way in which it could not: by SIGKILL, say."""

    def __init__(self) -> None:
        # In a session of its own, so that what ends the terminal's processes is not what ends it.
        self._process = subprocess.Popen(  # noqa: S603 - this Python
            [sys.executable, "-c", GUARD], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end those that are left."""
        self._process.communicate()

    def hold(self, pid: int) -> None:
        """End this process, too."""
        self._tell(pid)

    def forget(self, pid: int) -> None:
        """Leave it alone: it has ended, and its number may become another's."""
        self._tell(-pid)

    def _tell(self, number: int) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe, as asked for
        with suppress(OSError, ValueError):  # somebody ended it, or it was let go already
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()


class Program:
    """One program, started as often as it is wanted. What it says on standard error is in log."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, guard: Guard) -> None:
        self._command, self._env, self._log, self._guard = command, env, log, guard
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start it, and wait until it says that it is ready. Raises: ConfigError when it ends instead."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._env,
                start_new_session=True,  # Ctrl-C is for the command, which ends this one in its turn
            )
        self._guard.hold(self._process.pid)
        assert self._process.stdout is not None  # noqa: S101 - a pipe, as asked for
        if READY not in (await self._process.stdout.readline()).decode(errors="replace"):
            await self.ended()
            raise ConfigError(self._last_word() or f"{self._command[0]} ended before it was ready")
        self._reading = asyncio.create_task(_drained(self._process.stdout))

    async def ended(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()
            self._guard.forget(self._process.pid)

    async def end(self) -> None:
        """End it in good order, or else."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._process.wait()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()

    def _last_word(self) -> str:
        last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        return re.sub(r"^assetwatch: (could not start: )?", "", last)


async def _drained(pipe: asyncio.StreamReader) -> None:
    """Read what nobody reads, so that whoever writes it never waits."""
    while await pipe.read(4096):
        pass
