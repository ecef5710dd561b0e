"""Reads what upstreams sent: a small answer at once, a larger one in a process beside, so that it holds up nobody.

JSON and models keep Python's lock from the first byte to the last, so a thread would not help. A process can be held to
limits besides, and ended in the middle of an answer that was made to take for ever. The ready-made pools
(`concurrent.futures`, anyio) send an answer in one piece, which stops the event loop for 4 ms a MB, and start by
running the main program again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack
from weakref import WeakKeyDictionary

from assetwatchd import reader
from assetwatchd.errors import BadAnswer
from assetwatchd.reader import HEADER, READ_S_MAX, RESULT_BYTES_MAX

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable

    from assetwatchd.transport import Reply

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

INLINE_BYTES_MAX = 32 * 1024
"""A larger answer is read beside: the worst that was found of this length costs the event loop some 5 ms."""
READERS_MAX = 2
"""Processes that read, for all sources together; each is started when it is needed."""
IDLE_S_MAX = 60.0
"""A process that had nothing to read for so long is ended: it holds 40 MB."""
ANSWER_S_MAX = 30.0
"""A process that does not answer for so long, though it may compute for READ_S_MAX at most, is ended."""
PIECE_BYTES = 64 * 1024
"""An answer is handed over so many bytes at a time."""


class Reading:
    """How the answers of one source are read: one large one at a time, so that the others always have a process."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def read(self, reply: Reply, read: Callable[[Reply, Unpack[Ts]], T], *given: *Ts) -> T:
        """Call read with an answer and what is given: beside, if it is large, so all but the answer is pickled.

        Raises: what read raises; BadAnswer when it takes longer, or more memory, than limits allow.
        """
        if len(reply.body) <= INLINE_BYTES_MAX:
            return read(reply, *given)
        async with self._turn:
            result: T = await _readers().read(self, reply, read, given)
            return result

    async def close(self) -> None:
        """Read no more; whoever closes last ends the processes."""
        await _readers().leave(self)


class _Readers:
    """The processes of one event loop, the latest used last. users: for whom they were started, not closed yet."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(READERS_MAX)  # first come, first served
        self._idle: deque[Process] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._users: set[Reading] = set()

    async def read(self, user: Reading, reply: Reply, read: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """Have one answer read in a place of its own."""
        self._users.add(user)
        job = pickle.dumps((read, reply._replace(body=b""), given))
        async with self._places:
            process = await self._take()
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    result, is_last = await _ask(process, job, reply.body)
            except (TimeoutError, EOFError, ConnectionError):
                raise BadAnswer(_why(await _end(process))) from None
            except BaseException:
                await _end(process)
                raise
            await self._put_back(process, is_last=is_last)
        done, what = pickle.loads(result)  # noqa: S301 - written by our own process
        if done:
            return what
        raise what

    async def _put_back(self, process: Process, *, is_last: bool) -> None:
        if is_last or not self._users:
            await _end(process)
            return
        self._idle.append(process)
        if self._expiry is not None:
            self._expiry.cancel()
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(IDLE_S_MAX, lambda: loop.create_task(self._end_idle()))

    async def leave(self, user: Reading) -> None:
        """End what is idle with the last user."""
        self._users.discard(user)
        if not self._users:
            await self._end_idle()

    async def _take(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", reader.__name__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    async def _end_idle(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        while self._idle:
            await _end(self._idle.pop())


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Readers] = WeakKeyDictionary()


def _readers() -> _Readers:
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = _Readers()
    return _of_loop[loop]


async def _ask(process: Process, job: bytes, body: bytes) -> tuple[bytes, bool]:
    """Hand a job over, piece by piece; return what came of it, and whether the process does no other.

    Raises: EOFError, ConnectionError.
    """
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101 - same
    process.stdin.write(HEADER.pack(len(job), len(body)) + job)
    whole = memoryview(body)
    for begin in range(0, len(body), PIECE_BYTES):
        process.stdin.write(whole[begin : begin + PIECE_BYTES])
        await process.stdin.drain()
        await asyncio.sleep(0)  # a process that reads as fast as we write holds nobody up
    size, is_last = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
    return await process.stdout.readexactly(min(size, RESULT_BYTES_MAX)), bool(is_last)


async def _end(process: Process) -> int:
    """End a process, and return how it ended: by itself, as subprocess has it, or by us."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # Process.kill would take the exit code before asyncio has seen it
    if process.stdin is not None:
        process.stdin.close()
    if process.stdout is not None:
        with contextlib.suppress(ConnectionError):
            await process.stdout.read()
    return await process.wait()


def _why(ended: int) -> str:
    if ended == -signal.SIGXCPU:
        return f"reading the answer takes more than {READ_S_MAX} s"
    return f"the process that read the answer was ended ({signal.Signals(-ended).name if ended < 0 else ended})"
