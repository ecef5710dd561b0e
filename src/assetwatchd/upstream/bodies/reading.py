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
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple, Unpack
from weakref import WeakKeyDictionary

from assetwatchd.model.errors import BadAnswer, UpstreamError
from assetwatchd.upstream import logins
from assetwatchd.upstream.bodies.reader import HEADER, READ_S_MAX, main
from assetwatchd.upstream.http.rests import Rest
from assetwatchd.upstream.redaction import NOTHING_SECRET, Secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.upstream.bodies.reader import Result
    from assetwatchd.upstream.http.transport import Reply
    from assetwatchd.upstream.redaction import Cleaner

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

INLINE_BYTES_MAX = 16 * 1024
"""A larger answer is read beside: the worst that was found of this length costs the event loop 10 ms."""
READERS_MAX = 2
"""Processes that read, for all sources together; each is started when it is needed."""
IDLE_S_MAX = 60.0
"""A process that had nothing to read for so long is ended: it holds 40 MB."""
ANSWER_S_MAX = 30.0
"""A process that does not answer for so long, though it may compute for READ_S_MAX at most, is ended."""
PROGRAM = f"from {main.__module__} import main; main()"
SUCCESS = range(200, 300)
PIECE_BYTES = 64 * 1024
"""An answer is handed over so many bytes at a time."""


class Reading:
    """Reads the answers of one source: one large one at a time, so that other sources always find a process.

    After small ones that were costly there is a rest, so that many of them leave most of the event loop to others.
    secrets: what comes of an answer is freed of.
    """

    def __init__(self, secrets: Secrets = NOTHING_SECRET) -> None:
        self._secrets = secrets
        self._one_large = asyncio.Lock()
        self._one_small = asyncio.Lock()
        self._rest = Rest()

    async def read(
        self,
        reply: Reply,
        read: Callable[[Reply, Unpack[Ts]], T],
        *given: *Ts,
        inline_bytes_max: int = INLINE_BYTES_MAX,
    ) -> T:
        """Call read with an answer and what is given: beside, if it is large, so all but the answer is pickled.

        What it returns or raises is freed of secrets. Raises: what read raises, unless that is explained by a page in
        place of an answer; BadAnswer when it takes longer, or more memory, than limits allow.
        """
        return await self._do(
            reply, read_cleanly, self._secrets.cleaner, read, *given, inline_bytes_max=inline_bytes_max
        )

    async def credential(self, reply: Reply, read: Callable[[Reply], T]) -> T:
        """Read an answer that is to bring a secret, which is left in what is returned; an error is freed as others."""
        with self._secrets.redacting_errors():
            return await self._do(reply, read_credential, read)

    async def _do(
        self,
        reply: Reply,
        read: Callable[[Reply, Unpack[Ts]], T],
        *given: *Ts,
        inline_bytes_max: int = INLINE_BYTES_MAX,
    ) -> T:
        if len(reply.body) <= inline_bytes_max:
            async with self._one_small:  # or all that wait for the rest to be over would go on together
                await self._rest.over()
                with self._rest.counted():
                    return read(reply, *given)
        async with self._one_large:
            return await _readers().read(self, reply, read, given)

    async def close(self) -> None:
        """Read no more; whoever closes last ends the processes."""
        await _readers().leave(self)


class _Process:
    """A process that reads, and the pipes to it.

    It is started by subprocess, which needs no fork of a process that has gRPC's threads; asyncio's own way may.
    """

    def __init__(self, popen: Popen[bytes], jobs: asyncio.StreamWriter, results: asyncio.StreamReader) -> None:
        self._popen = popen
        self._jobs = jobs
        self._results = results

    @classmethod
    async def start(cls) -> Self:
        """Start one; it is ready once it has imported what its first job needs. Raises: OSError."""
        # -P and our own sys.path: the process must find what pickles name, and nothing of the folder where it starts.
        popen = Popen(  # noqa: ASYNC220, S603 - it takes a millisecond; a program of ours
            (sys.executable, "-P", "-c", PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            return cls(popen, *await _pipes(popen))
        except BaseException:
            popen.kill()
            popen.wait()
            raise

    @property
    def runs(self) -> bool:
        """Tell whether it has not ended by itself."""
        return self._popen.poll() is None

    async def ask(self, job: bytes, body: bytes) -> tuple[Result, list[bytes], bool]:
        """Hand a job over, piece by piece; return what came of it, its parts, and whether the process does no other.

        Raises: EOFError, ConnectionError.
        """
        self._jobs.write(HEADER.pack(len(job), len(body)) + job)
        whole = memoryview(body)
        for begin in range(0, len(body), PIECE_BYTES):
            self._jobs.write(whole[begin : begin + PIECE_BYTES])
            await self._jobs.drain()
            await asyncio.sleep(0)  # a process that reads as fast as we write holds nobody up
        size, is_last = HEADER.unpack(await self._results.readexactly(HEADER.size))
        result: Result = pickle.loads(await self._results.readexactly(size))  # noqa: S301 - written by our own process
        parts = []
        for length in result.lengths:
            parts.append(await self._results.readexactly(length))
            await asyncio.sleep(0)  # parts that are there already would be taken in one go
        return result, parts, bool(is_last)

    async def end(self) -> int:
        """End it; return how it ended, by itself or by us, as subprocess has it."""
        self._popen.kill()
        self._jobs.close()
        with contextlib.suppress(ConnectionError):
            await self._results.read()
        return await asyncio.to_thread(self._popen.wait)


async def _pipes(popen: Popen[bytes]) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    loop, results = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(results), popen.stdout)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), popen.stdin
    )
    return asyncio.StreamWriter(transport, protocol, None, loop), results


class _Readers:
    """The processes of one event loop, the latest used last. users: for whom they were started, not closed yet."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(READERS_MAX)  # first come, first served
        self._idle: deque[_Process] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._users: set[Reading] = set()

    async def read(self, user: Reading, reply: Reply, read: Callable[[Reply, Unpack[Ts]], T], given: tuple[*Ts]) -> T:
        """Have one answer read in a place of its own."""
        self._users.add(user)
        job = pickle.dumps((read, reply._replace(body=b""), given))
        async with self._places:
            try:
                process = await self._take()
            except OSError as why:
                raise BadAnswer(f"no process can be started to read a large answer: {why.strerror}") from None
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    result, parts, is_last = await process.ask(job, reply.body)
            except (TimeoutError, EOFError, ConnectionError):
                raise BadAnswer(_why(await process.end())) from None
            except BaseException:
                # Cancelled in the middle of a job: the pipe holds the rest of a result, which the next job would get.
                await process.end()
                raise
            await self._put_back(process, is_last=is_last)
        # Unpacked after the place was given back: it takes the event loop's time and not the process's.
        unpacked = _unpacked(result, parts)
        del result  # as there
        made: T = await unpacked
        return made

    async def _put_back(self, process: _Process, *, is_last: bool) -> None:
        if is_last or not self._users:
            await process.end()
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

    async def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.runs:
                return process
        return await _Process.start()

    async def _end_idle(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        while self._idle:
            await self._idle.pop().end()


# By loop, as pipes and futures belong to one; weakly, so that the loops of tests are not kept.
_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Readers] = WeakKeyDictionary()


def _readers() -> _Readers:
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = _Readers()
    return _of_loop[loop]


async def _unpacked(result: Result, parts: list[bytes]) -> Any:  # noqa: ANN401 - it comes out of a pickle
    """Return, or raise, what came of a job; what has many parts is taken in one after the other, others between."""
    if (error := result.error) is not None:
        try:
            raise error
        finally:
            del error, result  # an error that its own traceback holds would keep the answer until garbage is looked for
    if result.kind is None:
        return pickle.loads(parts[0])  # noqa: S301 - written by our own process
    items: list[Any] = []
    for part in parts:
        items += pickle.loads(part)  # noqa: S301 - same
        await asyncio.sleep(0)
    return result.kind(items)


def _why(ended: int) -> str:
    if ended == -signal.SIGXCPU:
        return f"reading the answer takes more than {READ_S_MAX} s"
    return f"the process that read the answer was ended ({signal.Signals(-ended).name if ended < 0 else ended})"


def read_cleanly(reply: Reply, cleaner: Cleaner, read: Callable[[Reply, Unpack[Ts]], T], *given: *Ts) -> T:
    """Read an answer, and free what comes of it of secrets; a page in place of the answer is told as what it is."""
    try:
        return cleaner.value(read(reply, *given))
    except UpstreamError as error:
        raise cleaner.error(_as_page(reply, error)) from None
    except Exception as defect:
        if cleaner.text(str(defect)) == str(defect):
            raise
        raise BadAnswer(f"reading the answer failed: {type(defect).__name__}") from None  # its text would be logged


def read_credential(reply: Reply, read: Callable[[Reply], T]) -> T:
    """Read an answer that is to bring a secret; its errors tell a page as what it is, too."""
    try:
        return read(reply)
    except UpstreamError as error:
        raise _as_page(reply, error) from None


def _as_page(reply: Reply, error: UpstreamError) -> UpstreamError:
    """Return the error for a page in place of an answer, which explains why that could not be read; else the given."""
    if type(error) is not BadAnswer or reply.status not in SUCCESS:
        return error
    page = logins.page(reply.status, reply.body, called=reply.content_type in logins.HTML_TYPES)
    if page is None:
        return error
    page.args = (f"{page}{reply.way}",)
    return page
