"""A terminal of one's own: a program runs in it, and what is on its screen can be seen."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pyte

from support.command_line import environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE_S = 60
STILL_S = 1.0


class Terminal:
    """What a person has before him. width and height in characters."""

    def __init__(self, primary: int, running: asyncio.subprocess.Process, width: int, height: int) -> None:
        self._primary = primary
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.running = running
        self.told = b""

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without blanks at the ends of lines."""
        return [line.rstrip() for line in self._screen.display]

    async def shows(self, wanted: Callable[[list[str]], object]) -> list[str]:
        """Wait until the screen is as wanted; return it."""
        async with asyncio.timeout(DEADLINE_S):
            while not wanted(lines := self.lines):
                self._changed.clear()
                await self._changed.wait()
        return lines

    async def was_told(self, wanted: Callable[[bytes], object]) -> None:
        """Wait until all that the program has written is as wanted."""
        await self.shows(lambda _: wanted(self.told))

    async def is_still(self) -> None:
        """Wait until nothing is written for as long as a few pictures take."""
        told = -1
        while told != len(self.told):
            told = len(self.told)
            await asyncio.sleep(STILL_S)

    def resize(self, width: int, height: int) -> None:
        """Drag the corner of the window."""
        self._screen.resize(height, width)
        size(self._primary, width, height)
        self.running.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        """Type; the character of code 3 is Ctrl-C."""
        os.write(self._primary, keys.encode())

    async def ended(self) -> int:
        """Wait until the program has ended; return its exit code."""
        return await asyncio.wait_for(self.running.wait(), DEADLINE_S)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how a closed terminal is told
            while part := os.read(self._primary, 65536):
                self._loop.call_soon_threadsafe(self._take, part)

    def _take(self, part: bytes) -> None:
        self.told += part
        self._stream.feed(part)
        self._changed.set()


def size(terminal: int, width: int, height: int) -> None:
    """Say how large a terminal is."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


@asynccontextmanager
async def opened(
    *command: str, width: int = 80, height: int = 24, cwd: str | None = None, **extra: str
) -> AsyncIterator[Terminal]:
    """Run a program in a terminal, as the leader of its session and in its foreground, as long as the context lasts."""
    primary, secondary = pty.openpty()
    size(primary, width, height)
    inherited = {name: told for name, told in environment(**extra).items() if name not in {"COLUMNS", "LINES", "TERM"}}
    running = await asyncio.create_subprocess_exec(
        *command,
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        env={"TERM": "xterm-256color", **inherited, **extra},
        cwd=cwd,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(secondary)
    terminal = Terminal(primary, running, width, height)
    try:
        yield terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        await running.wait()
        await asyncio.wait([terminal._reading], timeout=5)
        os.close(primary)
