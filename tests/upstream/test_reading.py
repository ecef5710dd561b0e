"""Large answers are read in a process beside, within limits; whatever becomes of it is told as the answer's fault."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import traceback
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.model.errors import AnswerTooLarge, AssetRejected, BadAnswer, Throttled, UpstreamError
from assetwatchd.upstream.bodies import jsonbody, reader, reading
from assetwatchd.upstream.bodies.reading import INLINE_BYTES_MAX, Reading
from assetwatchd.upstream.http import rests
from assetwatchd.upstream.http.transport import Reply
from assetwatchd.upstream.port import Listed
from assetwatchd.upstream.redaction import Secrets
from support.jobs import (
    Given,
    announce,
    end,
    fail,
    hoard,
    keep,
    length,
    listed,
    make,
    names,
    pid,
    quote,
    refuse,
    status,
    unload,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

LARGE = Reply(200, {}, b"x" * (INLINE_BYTES_MAX + 1))
SMALL = Reply(200, {}, b"x" * INLINE_BYTES_MAX)
LIMITED = """
import resource
from assetwatchd.upstream.bodies import reader
reader._limit(1000)
print(resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_DATA)[0])
"""
KILLED = """
import asyncio, os, signal
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.http.transport import Reply
from support.jobs import pid
async def main():
    print(await Reading().read(Reply(200, {}, bytes(100_000)), pid), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@asynccontextmanager
async def a_reading() -> AsyncIterator[Reading]:
    opened = Reading()
    try:
        yield opened
    finally:
        await opened.close()


async def test_a_small_answer_is_read_here_and_a_large_one_beside() -> None:
    """Up to INLINE_BYTES_MAX nothing is handed over; beyond, the same process reads one answer after the other."""
    async with a_reading() as source:
        assert await source.read(SMALL, pid) == os.getpid()
        others = [await source.read(LARGE, pid) for _ in range(3)]
        assert len(set(others)) == 1
        assert os.getpid() not in others


@pytest.mark.parametrize("size", [INLINE_BYTES_MAX + 1, reading.PIECE_BYTES * 3, 5_000_000])
async def test_an_answer_comes_whole(size: int) -> None:
    """Whatever its length, body, status and all that is given arrive as they were."""
    async with a_reading() as source:
        reply = Reply(207, {"Content-Type": "a/b"}, b"y" * size)
        assert await source.read(reply, length) == size
        assert await source.read(reply, status, 1, 2) == (207, 1, 2)


async def test_what_is_raised_beside_is_raised_here() -> None:
    """Errors keep class, text and what they carry; a defect keeps its traceback, as a note."""
    async with a_reading() as source:
        with pytest.raises(Throttled, match=r"^slower$") as refused:
            await source.read(LARGE, refuse)
        assert refused.value.retry_after_s == 7.0
        with pytest.raises(ZeroDivisionError) as failed:
            await source.read(LARGE, fail)
        assert "in fail" in "".join(failed.value.__notes__)


@pytest.mark.parametrize("read", [refuse, fail])
@pytest.mark.parametrize("reply", [SMALL, LARGE], ids=["small", "large"])
async def test_an_error_keeps_no_answer(read: Callable[..., Any], reply: Reply) -> None:
    """Once it is handled, what was read goes at once: garbage is looked for too seldom for answers of megabytes."""
    async with a_reading() as source:
        gc.collect()
        gc.disable()
        try:
            given = Given()
            gone = weakref.ref(given)
            with suppress(Throttled, ZeroDivisionError):
                await source.read(reply, read, given)
            del given
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("error", [AnswerTooLarge(5), AssetRejected("no"), BadAnswer("odd", retry_after_s=1.0)])
def test_an_error_survives_the_way(error: BadAnswer) -> None:
    """What adapters raise of an answer can be pickled, and is the same afterwards."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("read", "given", "why"),
    [
        (hoard, (), "too much memory"),
        (end, (signal.SIGKILL,), "SIGKILL"),
        (end, (signal.SIGSEGV,), "SIGSEGV"),
        (end, (signal.SIGXCPU,), "more than 5 s"),
    ],
)
async def test_what_ends_a_process_is_a_bad_answer(read: object, given: tuple[int, ...], why: str) -> None:
    """Too long, too large, or the end of a process: BadAnswer says which, and the next answer is read all the same."""
    async with a_reading() as source:
        with pytest.raises(BadAnswer, match=why):
            await source.read(LARGE, read, *given)  # type: ignore[arg-type]  # functions of several forms
        assert await source.read(LARGE, length) == len(LARGE.body)


async def test_a_result_is_within_its_limit() -> None:
    """What an answer comes to is refused when taking it in would hold up the event loop."""
    async with a_reading() as source:
        body = bytes(8_000_000)
        with pytest.raises(BadAnswer, match="comes to more than"):
            await source.read(Reply(200, {}, body), make, reader.RESULT_BYTES_MAX)
        assert len(await source.read(Reply(200, {}, body), make, reader.RESULT_BYTES_MAX // 2)) > 0


@pytest.mark.parametrize("count", [0, 1, 3 * reader.PART_ITEMS + 1])
async def test_many_items_are_taken_in_part_by_part(count: int) -> None:
    """Lists and sets come whole, and others have a turn after PART_ITEMS of them."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with a_reading() as source:
        assert await source.read(LARGE, names, count) == frozenset(map(str, range(count)))
        told = Listed(frozenset(map(str, range(count))), 2, "item 7 has no id")
        assert await source.read(LARGE, listed, count) == told
        assert len(reader._returned(told)[1]) == -(-count // reader.PART_ITEMS)
        await source.read(LARGE, length)
        task = asyncio.create_task(others())
        parts = [pickle.dumps([each]) for each in range(count)]
        result = reader.Result(None, list, [len(part) for part in parts])
        assert await reading._unpacked(result, parts) == list(range(count))
        task.cancel()
        assert turns >= count


def test_the_kernel_ends_an_endless_computation() -> None:
    """A job may compute for READ_S_MAX, counted from where it begins and not from where the process did."""
    told = subprocess.run([sys.executable, "-c", LIMITED], check=True, capture_output=True, text=True).stdout.split()
    assert reader.READ_S_MAX < int(told[0]) <= reader.READ_S_MAX + 3
    assert int(told[1]) == reader.MEMORY_BYTES + 1000 * reader.MEMORY_TIMES


async def test_json_of_nothing_but_brackets_ends_at_the_memory_for_its_length() -> None:
    """A body of 4 MB that would be a hundred times that as lists of lists is refused, and the next is read."""
    async with a_reading() as source:
        body = b"[" + b"[[[[[]]]]]," * 400_000 + b"[]]"
        with pytest.raises(BadAnswer, match="too much memory"):
            await source.read(Reply(200, {}, body), jsonbody.decode)
        assert await source.read(LARGE, length) == len(LARGE.body)


async def test_a_process_that_holds_much_memory_is_not_kept() -> None:
    """One that has more than MEMORY_BYTES after an answer is ended, and another reads the next."""
    async with a_reading() as source:
        child = await source.read(LARGE, pid)
        await source.read(Reply(200, {}, bytes(8_000_000)), keep, reader.MEMORY_BYTES)
        assert not _lives(child)
        assert await source.read(LARGE, pid) != child


async def test_a_process_that_nobody_needs_any_more_is_ended_when_it_has_read(tmp_path: Path) -> None:
    """The last user has closed while an answer was read: nothing is left behind."""
    source, began = Reading(), tmp_path / "pid"
    task = asyncio.create_task(source.read(LARGE, wait, str(began)))
    child = int(await _text(began))
    await source.close()
    began.unlink()
    await task
    assert not _lives(child)


async def test_who_gives_up_ends_the_process(tmp_path: Path) -> None:
    """A read that is cancelled leaves nothing that computes on."""
    async with a_reading() as source:
        began = tmp_path / "pid"
        task = asyncio.create_task(source.read(LARGE, announce, str(began)))
        child = int(await _text(began))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not _lives(child)
        assert await source.read(LARGE, length) == len(LARGE.body)


async def test_one_source_never_has_all_processes(tmp_path: Path) -> None:
    """While one source's answers take for ever, one at a time, another's are read."""
    async with a_reading() as hostile, a_reading() as other:
        tasks = [asyncio.create_task(hostile.read(LARGE, announce, str(tmp_path / "pid"))) for _ in range(5)]
        await _text(tmp_path / "pid")
        assert [await other.read(LARGE, length) for _ in range(3)] == [len(LARGE.body)] * 3
        assert not any(task.done() for task in tasks[1:])  # else the other had to wait until these were ended
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors or memory for one the answer is bad, and says why; later ones are read again."""
    async with a_reading() as source:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(BadAnswer, match="No such file"):
                await source.read(LARGE, length)
        assert await source.read(LARGE, length) == len(LARGE.body)


async def test_the_last_who_closes_ends_the_processes() -> None:
    """As long as anybody reads they stay, and then nothing is left."""
    first, second = Reading(), Reading()
    child = await first.read(LARGE, pid)
    assert await second.read(LARGE, pid) == child
    await first.close()
    assert _lives(child)
    await second.close()
    assert not _lives(child)


async def test_an_idle_process_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds memory only as long as large answers come."""
    monkeypatch.setattr(reading, "IDLE_S_MAX", 0.0)
    async with a_reading() as source:
        child = await source.read(LARGE, pid)
        while _lives(child):  # noqa: ASYNC110 - a process that ends sets no event
            await asyncio.sleep(0.01)
        assert await source.read(LARGE, pid) != child


def test_a_process_ends_with_its_parent() -> None:
    """Killed without a chance to tidy up, the parent leaves nothing behind."""
    ran = subprocess.run(
        [sys.executable, "-c", KILLED],
        check=False,
        capture_output=True,  # which waits for all who hold the pipes, the child too
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert int(ran.stdout)


async def _text(path: Path) -> str:
    while not (text := _written(path)):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    return text


def _lives(child: int) -> bool:
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return False
    return True


def _written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_small_answers_that_are_costly_are_followed_by_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are to be read at once, each waits REST_TIMES as long as the one before has cost."""
    monkeypatch.setattr(rests, "COSTLY_S", 0.0)  # all of them are
    began: list[float] = []
    until: list[float] = []
    async with a_reading() as source:

        def note(_: Reply) -> None:
            until.append(source._rest.until)
            began.append(asyncio.get_running_loop().time())

        async with asyncio.timeout(30):
            await asyncio.gather(*[source.read(SMALL, note) for _ in range(20)])
    assert len(began) == 20
    assert all(at >= rested for at, rested in zip(began, until, strict=True))
    assert until == sorted(set(until))


async def test_ordinary_small_answers_need_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs less than COSTLY_S makes nobody wait: they are read in the turn in which they came."""
    monkeypatch.setattr(rests, "COSTLY_S", 10.0)  # a machine may be slow
    async with a_reading() as source:
        reads = [source.read(SMALL, pid) for _ in range(20)]
        for read in reads:
            with pytest.raises(StopIteration):
                read.send(None)


async def test_what_a_library_says_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """An upstream could fill the log by it: an error at each attribute, when there is no memory left for them."""
    async with a_reading() as source:
        attributes = b"".join(b' a%d=""' % number for number in range(600_000))
        with pytest.raises(BadAnswer, match="takes"):
            await source.read(Reply(200, {}, b"<a" + attributes + b"/>"), unload)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("inline_bytes_max", [0, 1000], ids=["beside", "at once"])
async def test_a_defect_that_quotes_a_secret(inline_bytes_max: int) -> None:
    """A defect is logged with its text, so one that quotes what is secret is told by its class alone, and no other."""
    secret = "of ours" * 3
    secretive = Reading(Secrets([secret]))
    try:
        with pytest.raises(BadAnswer, match="reading the answer failed: KeyError") as caught:
            await secretive.read(Reply(200, {}, secret.encode()), quote, inline_bytes_max=inline_bytes_max)
        assert secret not in "".join(traceback.format_exception(caught.value))
        with pytest.raises(KeyError, match="anything else"):
            await secretive.read(Reply(200, {}, b"anything else"), quote, inline_bytes_max=inline_bytes_max)
    finally:
        await secretive.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_what_a_terminal_sends_to_all_of_its_processes_ends_no_reading(number: signal.Signals) -> None:
    """Ctrl-C, and its end, are meant for the server, which may want an answer while it drains."""
    source = Reading()
    child = await source.read(LARGE, pid)
    os.kill(child, number)
    assert await source.read(LARGE, pid) == child
    await source.close()


async def test_a_page_is_told_with_the_proxy_that_may_have_sent_it() -> None:
    """As every other answer is that may not be the upstream's."""
    way = " (through the proxy 127.0.0.1:3128, which may have answered by itself)"
    page = Reply(200, {"Content-Type": "text/html"}, b"<html>Sign in", way)
    with pytest.raises(UpstreamError) as caught:
        await Reading().read(page, jsonbody.decode)
    assert str(caught.value).endswith(f"or we have none{way}")
