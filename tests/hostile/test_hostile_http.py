"""What is hostile about an answer before its body is read: it takes a bounded part of a turn, and it ends."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import AnswerTooLarge, BadAnswer, Unreachable
from assetwatchd.settings.schema import UsdSearchSource
from assetwatchd.upstream.http import connector, rests, transport
from assetwatchd.upstream.http.connector import INTERIM_MAX
from assetwatchd.upstream.http.rests import Rest
from assetwatchd.upstream.http.transport import FREE_BYTES, HEADER_LENGTH_MAX, LARGE_AT_ONCE, Transport
from support.hostile import OK_HEAD, PLAIN, RAW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SIZE = 500_000
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@asynccontextmanager
async def asking(write: Callable[[asyncio.StreamWriter], object], **settings: object) -> AsyncIterator[Transport]:
    """Serve by writing to each who asks; give a transport to it."""
    writers = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                write(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = Transport("usd", UsdSearchSource.model_validate({"kind": "usd_search", "base_url": base_url, **settings}))
    try:
        yield made
    finally:
        await made.close()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def sending(answer: bytes) -> Callable[[asyncio.StreamWriter], None]:
    return lambda writer: writer.write(answer)


@pytest.mark.parametrize("shape", RAW)
async def test_an_answer_that_is_hostile_as_http_ends(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an answer or an error, and no turn of the event loop has taken more than a connection may hold."""
    taken = turns_of(monkeypatch)
    async with asking(sending(RAW[shape](SIZE))) as ask:
        with suppress(Unreachable, BadAnswer):
            assert len((await ask.raw("GET", "/")).body) <= 8 * 1024 * 1024
    assert max(taken) <= 2 * connector.RECEIVE_BYTES


def turns_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes a connection is given at a time."""
    taken: list[int] = []
    receive = connector._Connection.data_received

    def noted(connection: connector._Connection, data: bytes) -> None:
        taken.append(len(data))
        receive(connection, data)

    monkeypatch.setattr(connector._Connection, "data_received", noted)
    return taken


@pytest.mark.parametrize("count", [0, 1, INTERIM_MAX])
async def test_informational_answers_are_passed_over(count: int) -> None:
    """Up to INTERIM_MAX are no hindrance, one call after the other."""
    async with asking(sending(INTERIM * count + OK_HEAD + PLAIN)) as ask:
        assert [(await ask.raw("GET", "/")).body for _ in range(2)] == [b"{}"] * 2


@pytest.mark.parametrize("count", [INTERIM_MAX + 1, 50_000])
async def test_beyond_a_limit_they_end_the_connection(count: int) -> None:
    """The upstream is unreachable then, and not for ever about to answer."""
    async with asking(sending(INTERIM * count + OK_HEAD + PLAIN)) as ask:
        with pytest.raises(Unreachable):
            await ask.raw("GET", "/")


async def test_of_the_headers_only_those_that_are_read_are_kept() -> None:
    """A few hundred characters of two of them, whatever there are."""
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 4000) for number in range(100))
    async with asking(sending(OK_HEAD + b"Retry-After: " + b"9" * 8000 + b"\r\n" + headers + PLAIN)) as ask:
        kept = (await ask.raw("GET", "/")).headers
    assert dict(kept) == {"Content-Type": "application/json", "Retry-After": "9" * HEADER_LENGTH_MAX}


async def test_few_large_bodies_are_under_way_at_a_time() -> None:
    """Beyond FREE_BYTES a body waits for its turn, at its upstream: of eight calls LARGE_AT_ONCE are taken."""
    size = 12_000_000  # more than the kernel holds
    writers: list[asyncio.StreamWriter] = []

    def begin(writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK_HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * (size - 1))

    def taken() -> list[asyncio.StreamWriter]:
        return [writer for writer in writers if not writer.transport.get_write_buffer_size()]

    async with asking(begin, rate_per_s=1000, body_bytes_max=size) as ask:
        calls = [asyncio.create_task(ask.raw("GET", "/")) for _ in range(8)]
        while len(taken()) < LARGE_AT_ONCE or len(writers) < len(calls):  # noqa: ASYNC110 - of the other end
            await asyncio.sleep(0.01)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(taken()) == LARGE_AT_ONCE
        for writer in taken():
            writer.write(b"y")
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert len(done.pop().result().body) == size
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("limit", [1024, FREE_BYTES, FREE_BYTES + 1, 5 * transport.CHUNK_BYTES])
@pytest.mark.parametrize("told", [True, False])
async def test_the_limit_of_a_body_is_exact(limit: int, over: int, told: bool) -> None:  # noqa: FBT001 - a column
    """Whether its length is told before or not."""
    head = b"Content-Length: %d\r\n\r\n" % (limit + over) if told else b"Connection: close\r\n\r\n"

    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(OK_HEAD + head + b"x" * (limit + over))
        if not told:
            writer.close()

    async with asking(answer, body_bytes_max=limit) as ask:
        if over:
            with pytest.raises(AnswerTooLarge):
                await ask.raw("GET", "/")
        else:
            assert len((await ask.raw("GET", "/")).body) == limit


async def test_what_was_costly_is_followed_by_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream's connections, and calls that are to begin, wait REST_TIMES as long as taking it in has cost."""
    cost_s = 0.05
    note, costs = Rest.spent, iter([cost_s])

    async with asking(sending(RAW["chunks of a byte"](30_000)), rate_per_s=1000) as ask:
        monkeypatch.setattr(Rest, "spent", lambda self, _: note(self, next(costs, 0.0)))
        began = asyncio.get_running_loop().time()
        first = asyncio.create_task(ask.raw("GET", "/"))
        while ask._connector is None or not ask._connector.rest.until:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        for call in (first, ask.raw("GET", "/")):
            assert len((await call).body) == 5000
            assert asyncio.get_running_loop().time() - began >= cost_s * rests.REST_TIMES


async def test_ordinary_bodies_need_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs less than COSTLY_S makes nobody wait."""
    monkeypatch.setattr(rests, "COSTLY_S", 10.0)  # a machine may be slow
    async with asking(sending(OK_HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000))) as ask:
        assert len((await ask.raw("GET", "/")).body) == 1_000_000
        assert ask._connector is not None
        assert ask._connector.rest.until == 0.0
