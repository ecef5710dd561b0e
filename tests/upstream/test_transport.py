"""What every call to an upstream is held to."""

from __future__ import annotations

import asyncio
import gzip
import re
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from assetwatch_sandbox.usd_search import UsdSearch
from assetwatchd.model.errors import AnswerTooLarge, BadAnswer, Throttled, Unreachable, UpstreamError
from assetwatchd.runtime.logs import Seldom
from assetwatchd.settings.schema import UsdSearchSource
from assetwatchd.upstream.http.transport import (
    LINE_EVERY_S,
    RETRY_AFTER_S_MAX,
    WHOLE_BYTES_MAX,
    Reply,
    Transport,
    raise_for_status,
    retry_after_s,
)
from support import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RATE_PER_S = 50


def paced(url: str) -> Transport:
    """Return a way to an upstream that may be asked RATE_PER_S times a second."""
    return Transport(
        "usd",
        UsdSearchSource.model_validate(
            {"kind": "usd_search", "base_url": url, "rate_per_s": RATE_PER_S, "concurrency": 8}
        ),
    )


def test_requests_start_no_faster_than_the_rate() -> None:
    """Whoever asks, and however many at once: they start one by one, rate_per_s a second."""

    async def starts() -> list[float]:
        transport, loop = paced("http://127.0.0.1:1"), asyncio.get_running_loop()

        async def start() -> float:
            await transport._start()
            return loop.time()

        began = loop.time()
        return [moment - began for moment in await asyncio.gather(*[start() for _ in range(8)])]

    assert virtual_time.run(starts()) == pytest.approx([number / RATE_PER_S for number in range(8)])


async def test_every_request_takes_its_place_at_the_rate() -> None:
    """The next may start once all that were made have had theirs, however late the machine lets them begin."""
    standin = UsdSearch()
    await standin.start()
    transport = paced(standin.url)
    began = asyncio.get_running_loop().time()
    try:
        await asyncio.gather(*[transport.raw("GET", "/info/plugins") for _ in range(8)])
    finally:
        await transport.close()
        await standin.stop()
    assert len(standin.requests.all()) == 8
    assert transport._pacer.free_at - began >= 8 / RATE_PER_S - 1e-6


@pytest.mark.parametrize(("body", "compressed"), [(b"x" * 4097, False), (b"x" * 4097, True), (b"x" * 100_000, True)])
async def test_a_body_beyond_the_limit_is_not_taken(body: bytes, compressed: bool) -> None:  # noqa: FBT001 - a column
    """The limit holds for what is read, however little was sent."""
    with pytest.raises(AnswerTooLarge):
        await body_of(body, compressed=compressed)


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_at_the_limit_is_taken(compressed: bool) -> None:  # noqa: FBT001 - a column
    """Up to the limit every body is read whole."""
    assert await body_of(b"x" * 4096, compressed=compressed) == b"x" * 4096
    assert await body_of(b"", compressed=compressed) == b""


async def body_of(body: bytes, *, compressed: bool) -> bytes:
    """Serve a body and return what a transport that takes 4,096 bytes reads."""
    headers = {"Content-Encoding": "gzip"} if compressed else {}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(body) if compressed else body, headers=headers)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = UsdSearchSource.model_validate({"kind": "usd_search", "base_url": base_url, "body_bytes_max": 4096})
    transport = Transport("usd", settings)
    try:
        return (await transport.raw("GET", "/")).body
    finally:
        await transport.close()
        await runner.cleanup()


class Dying:
    """A server whose connections serve one request each, and die in silence when the next comes on one.

    requests: what came, method and body. never: it never answers but the first request.
    """

    def __init__(self, *, never: bool = False) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self._never = never

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request of a connection, and abort at the second."""
        with suppress(asyncio.IncompleteReadError):
            await self._request(reader)
            if self._never and len(self.requests) > 1:
                writer.transport.abort()
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await self._request(reader)
        writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        body = await reader.readexactly(int(length[1])) if length else b""
        self.requests.append((head.split()[0].decode(), body))


@asynccontextmanager
async def transport_to(server: Dying) -> AsyncIterator[Transport]:
    """Let it listen."""
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        settings = UsdSearchSource.model_validate({"kind": "usd_search", "base_url": base_url, "rate_per_s": 10_000})
        transport = Transport("usd", settings)
        try:
            yield transport
        finally:
            await transport.close()


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * (WHOLE_BYTES_MAX + 1)])
async def test_an_idempotent_post_is_sent_once_more(body: bytes) -> None:
    """A kept-alive connection that died meanwhile costs a POST that changes nothing no more than it costs a GET."""
    server = Dying()
    async with transport_to(server) as transport:
        for method in ("GET", "GET", "POST", "POST"):
            sent = body if method == "POST" else None
            assert (await transport.raw(method, "/", body=sent, idempotent=method == "POST")).status == 200
    assert [method for method, _ in server.requests] == ["GET", "GET", "GET", "POST", "POST", "POST", "POST"]
    assert {received for method, received in server.requests if method == "POST"} == {body}


async def test_another_post_is_never_sent_twice() -> None:
    """One that may have been carried out is Unreachable, and whoever made it decides."""
    server = Dying()
    async with transport_to(server) as transport:
        await transport.raw("POST", "/", body=b"1")
        with pytest.raises(Unreachable):
            await transport.raw("POST", "/", body=b"2")
    assert server.requests == [("POST", b"1"), ("POST", b"2")]


async def test_it_is_sent_no_oftener() -> None:
    """A server that takes requests and dies of each gets two of a POST, as of a GET."""
    server = Dying(never=True)
    async with transport_to(server) as transport:
        await transport.raw("POST", "/", body=b"1", idempotent=True)
        with pytest.raises(Unreachable):
            await transport.raw("POST", "/", body=b"2", idempotent=True)
    assert [body for _, body in server.requests] == [b"1", b"2", b"2"]


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        ("7", None, 7.0),
        (" 7 ", "nonsense", 7.0),
        ("1.5", None, 1.5),
        ("99999", None, RETRY_AFTER_S_MAX),
        ("Sun, 06 Nov 1994 08:50:17 GMT", DATE, 40.0),
        ("Sun, 06 Nov 1994 09:50:17 +0100", DATE, 40.0),
        ("Sun, 06 Nov 1994 08:50:17 -0000", DATE, 40.0),
        ("Sunday, 06-Nov-94 08:50:17 GMT", DATE, 40.0),
        ("Sun Nov  6 08:50:17 1994", DATE, 40.0),
        ("Sun Nov  6 08:50:17 1994", "Sun Nov  6 08:49:37 1994", 40.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", DATE, 0.0),
        ("Sun, 06 Nov 1995 08:49:37 GMT", DATE, RETRY_AFTER_S_MAX),
        (DATE, None, 0.0),
        ("120, 120", None, 120.0),
        ("20s", None, 20.0),
        ("20 seconds", DATE, 20.0),
        ("1 second", None, 1.0),
        ("20000ms", None, 20.0),
        ("1500.5 ms", None, 1.5005),
        ("9" * 11 + "ms", None, RETRY_AFTER_S_MAX),
        ("9" * 11, None, RETRY_AFTER_S_MAX),
        ("784111817", None, RETRY_AFTER_S_MAX),
        ("1100000040", "Tue, 09 Nov 2004 11:33:20 GMT", 40.0),
        ("1994-11-06T08:50:17Z", DATE, 40.0),
        ("1994-11-06T09:50:17+01:00", DATE, 40.0),
        ("-7", None, None),
        ("20 minutes", None, None),
        ("soon", DATE, None),
        ("", DATE, None),
        ("9" * 200, None, None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", DATE, None),
    ],
)
def test_retry_after(retry_after: str, date: str | None, seconds: float | None) -> None:
    """Seconds, or a date in any form that HTTP has ever had, by the clock of who answers and not by ours."""
    headers = {"Retry-After": retry_after} | ({"Date": date} if date else {})
    assert retry_after_s(Reply(503, headers, b"")) == seconds


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (304, BadAnswer, "HTTP 304 without an answer"),
        (408, Unreachable, "HTTP 408"),
        (420, Throttled, "too many calls"),
        (425, Unreachable, "HTTP 425"),
        (429, Throttled, "too many calls"),
        (503, Unreachable, "HTTP 503"),
        (511, Unreachable, "wants a login first"),
    ],
)
def test_statuses_of_any_kind(status: int, error: type[UpstreamError], text: str) -> None:
    """What they mean is said, and a pause that is asked for counts with each that may be over after it."""
    with pytest.raises(error, match=text) as caught:
        raise_for_status(Reply(status, {"Retry-After": "40"}, b""))
    assert caught.value.retry_after_s == (None if error is BadAnswer else 40.0)


@given(st.integers(0, 4_102_444_800), st.integers(0, 3600))
def test_a_date_is_as_good_as_seconds(now_s: int, wait_s: int) -> None:
    """Whatever the clock of the server says, the wait is the one that it meant."""
    headers = {"Date": formatdate(now_s, usegmt=True), "Retry-After": formatdate(now_s + wait_s, usegmt=True)}
    assert retry_after_s(Reply(429, headers, b"")) == wait_s


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 302, 404, 200])
async def test_retry_after_of_a_websocket_handshake(status: int) -> None:
    """An upgrade that is refused, in whatever way, tells how long to wait, by the server's own clock."""

    async def answer(_: web.Request) -> web.Response:
        dates = {"Date": DATE, "Retry-After": "Sun, 06 Nov 1994 08:50:17 GMT"}
        return web.Response(status=status, headers=dates)

    app = web.Application()
    app.router.add_get("/stream", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = UsdSearchSource.model_validate(
        {"kind": "usd_search", "base_url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    )
    transport = Transport("usd", settings)
    try:
        with pytest.raises(UpstreamError) as caught:
            await transport.websocket("/stream", heartbeat_s=10).__aenter__()
        assert caught.value.retry_after_s == 40.0
    finally:
        await transport.close()
        await runner.cleanup()


def test_a_digest_tells_answers_apart_that_are_read_differently() -> None:
    """The charset in a header decides what bytes are as text, so it is part of what an answer is known by."""
    body = b'{"a":"caf\xe9"}'
    types = ["application/json", "application/json; charset=latin1", "application/json; charset=cp949", "text/html"]
    digests = {Reply(200, {"Content-Type": content_type}, body).digest for content_type in types}
    assert len(digests) == len(types)
    assert Reply(200, {"Content-Type": types[0]}, body).digest in digests
    assert Reply(404, {"Content-Type": types[0]}, body).digest not in digests


TOKEN = "a-bearer-token-0123456789"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("soon", "'soon'"),
        ("-5", "'-5'"),
        ("", "''"),
        (f"after {TOKEN}", "'after ***'"),
        ("x" * 65 + TOKEN, f"'{'x' * 65}***\\u2026'"),
    ],
)
async def test_a_retry_after_that_cannot_be_read_is_told_once(
    said: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of calls, of long ones and of handshakes: it is named, without our secrets, and others like it are counted."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": said})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    auth = {"kind": "bearer", "token": TOKEN}
    transports = [
        Transport("usd", UsdSearchSource.model_validate({"kind": "usd_search", "base_url": base_url, "auth": auth}))
        for _ in range(3)
    ]
    try:
        for _ in range(2):
            assert (await transports[0].raw("GET", "/")).status == 503
            async with transports[1].parts("GET", "/") as (reply, _parts):
                assert reply.status == 503
            with pytest.raises(Unreachable):
                await transports[2].websocket("/", heartbeat_s=10).__aenter__()
    finally:
        for transport in transports:
            await transport.close()
        await runner.cleanup()
    told = f"source usd: its Retry-After {shown}, with HTTP 503, is neither seconds nor a date: pauses are as without"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [told] * 3


async def test_others_that_cannot_be_read_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """With the next line, which is written after a while; of another status there is one at once."""
    transport, at_s = paced("http://127.0.0.1:1"), [0.0]
    transport._seldom = Seldom(LINE_EVERY_S, 20, lambda: at_s[0])
    for status in (503, 503, 429):
        transport._say_unread(Reply(status, {"Retry-After": "soon"}, b""))
    at_s[0] = LINE_EVERY_S
    transport._say_unread(Reply(503, {"Retry-After": "later"}, b""))
    assert [record.getMessage().partition("as without")[2] for record in caplog.records] == [
        "",
        "",
        "; 1 other left out since the last line",
    ]


async def test_a_retry_after_that_can_be_read_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """Nor is one beside an answer that is well, of which nothing depends."""
    transport = paced("http://127.0.0.1:1")
    transport._say_unread(Reply(503, {"Retry-After": "7"}, b""))
    transport._say_unread(Reply(503, {}, b""))
    transport._say_unread(Reply(200, {"Retry-After": "soon"}, b""))
    assert caplog.messages == []
