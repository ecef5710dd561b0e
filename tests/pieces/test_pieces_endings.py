"""How a stream of Pieces OS ends is said as it was; texts on it that are no frames end nothing."""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import BadAnswer, Refused, Throttled, Unanswered, Unreachable, UpstreamError
from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.documents import closed, opened
from assetwatchd.pieces.client.frames import Frames
from assetwatchd.pieces.client.location import (
    APPLICATION_HEADER,
    LINE_EVERY_S,
    LINES_KINDS_MAX,
    PiecesTransport,
    ServerLocator,
)
from assetwatchd.pieces.client.statuses import OK
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.runtime.logs import Seldom
from assetwatchd.settings.schema import PiecesSource
from assetwatchd.upstream.bodies.jsonbody import bounded
from assetwatchd.upstream.http.transport import Reply
from support.pieces_rig import ONE, TWO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Serve = Callable[[web.WebSocketResponse, web.Request], Awaitable[object]]

FIRST = f'{{"iterable":[{{"asset":{{"id":"{ONE}"}}}}]}}'
SECOND = f'{{"iterable":[{{"asset":{{"id":"{TWO}"}}}}]}}'
PATIENCE_S = 10
PASSED_OVER = "source desk: the stream /assets/stream/identifiers sent a text that is no frame; passed over"


@asynccontextmanager
async def streaming(serve: Serve, **settings: Any) -> AsyncIterator[Frames]:
    """Follow the stream of a server that does as it is told with each WebSocket, and is Pieces OS otherwise."""

    async def upgraded(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await serve(socket, request)
        return socket

    async with (
        serving(upgraded, **settings) as (transport, of_source),
        asyncio.timeout(PATIENCE_S),
        opened(transport, Stream.IDENTIFIERS.value, of_source) as documents,
    ):
        yield Frames(documents, Stream.IDENTIFIERS)


@asynccontextmanager
async def serving(
    stream: Callable[[web.Request], Awaitable[web.StreamResponse]], **settings: Any
) -> AsyncIterator[tuple[PiecesTransport, PiecesSource]]:
    """Be Pieces OS, but for its streams, and reach it."""

    async def told(request: web.Request) -> web.Response:
        return web.Response(text="ok:1" if request.path.endswith("health") else "12.0.0")

    app = web.Application()
    app.router.add_get("/assets/stream{which:.*}", stream)
    app.router.add_get("/.well-known/{what}", told)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    of_source = PiecesSource.model_validate({"kind": "pieces", "base_url": base_url, **settings})
    transport = PiecesTransport("desk", of_source, ServerLocator(of_source))
    try:
        yield transport, of_source
    finally:
        await transport.close()
        await runner.cleanup()


async def end_of(serve: Serve) -> str:
    """Return what is said of the end of such a stream."""
    return str(await end(serve))


async def end(serve: Serve, **settings: Any) -> Unreachable:
    """Return how such a stream ends, after its first frame."""
    async with streaming(serve, **settings) as read:
        assert [item.asset_id for item in (await anext(read)).items] == [ONE]
        with pytest.raises(Unreachable) as caught:
            await anext(read)
    return caught.value


async def test_a_stream_names_the_application() -> None:
    """When it is opened, as each call does; nothing is named when none is configured."""
    named: list[str | None] = []

    async def greets(socket: web.WebSocketResponse, request: web.Request) -> None:
        named.append(request.headers.get(APPLICATION_HEADER))
        await socket.send_str(FIRST)

    await end(greets, application_id="ours")
    await end(greets)
    assert named == ["ours", None]


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (1000, "", "the stream was closed with code 1000 (ok)"),
        (1001, "server restarting", "the stream was closed with code 1001 (going away): server restarting"),
        (1008, "log in again", "the stream was closed with code 1008 (policy violation): log in again"),
        (1011, "", "the stream was closed with code 1011 (internal error)"),
        (1012, "", "the stream was closed with code 1012 (service restart)"),
        (1013, "", "the stream was closed with code 1013 (try again later)"),
        (3000, "", "the stream was closed with code 3000"),
        (4401, "token\x1b[31m expired", "the stream was closed with code 4401: token [31m expired"),
    ],
)
async def test_a_close_is_said_with_its_code_and_reason(code: int, reason: str, said: str) -> None:
    """As they came, with the name that the code has, and nothing in it that acts on a terminal."""

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str(FIRST)
        await socket.send_frame(struct.pack("!H", code) + reason.encode(), WSMsgType.CLOSE)

    assert await end_of(serve) == said


async def test_a_close_without_a_code() -> None:
    """A close frame may be empty."""

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str(FIRST)
        await socket.send_frame(b"", WSMsgType.CLOSE)

    assert await end_of(serve) == "the stream was closed without a code"


async def test_a_connection_that_breaks_off() -> None:
    """There was no close at all, which is said, too."""

    async def serve(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(FIRST)
        assert request.transport is not None
        request.transport.abort()

    assert await end_of(serve) == "the stream broke off without a close"


async def test_a_missing_pong() -> None:
    """A server that answers no ping is said to be one, with how long it was waited for."""

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str(FIRST)
        await asyncio.sleep(PATIENCE_S)

    error = await end(serve, ping_interval_s=0.1)
    assert str(error) == "the stream was given up: no pong within 0.05 s of a ping"
    assert isinstance(error, Unanswered)
    assert error.shows_after_s == pytest.approx(0.15)


@given(st.integers(0, 65535), st.text(max_size=123))
def test_any_code_and_reason(code: int, reason: str) -> None:
    """Whatever a server makes up: the text is one line of bounded length."""
    text = str(closed(code, reason))
    assert text.startswith("the stream was closed")
    assert text == bounded(text, 400)
    assert code == 0 or str(code) in text


@pytest.mark.parametrize(("status", "error"), [(429, Throttled), (503, Unreachable), (404, BadAnswer), (403, Refused)])
async def test_a_refused_stream_is_asked_for_by_nobody(status: int, error: type[UpstreamError]) -> None:
    """Whoever wants a stream before the server's Retry-After is over is told what it said, and for how long still."""
    upgrades: list[str] = []

    async def refused(request: web.Request) -> web.Response:
        upgrades.append(request.path)
        return web.Response(status=status, headers={"Retry-After": "40"})

    async with serving(refused) as (transport, settings):
        for path in (Stream.IDENTIFIERS.value, Stream.ASSETS.value):
            with pytest.raises(error) as caught:
                await opened(transport, path, settings).__aenter__()
            assert 39 < (caught.value.retry_after_s or 0) <= 40
    assert upgrades == [Stream.IDENTIFIERS.value]


NO_FRAMES = ["", " ", "\n", "ping", "not JSON", "[]", "{}", "null", "0", '"x"', '{"type":"keepalive"}', "[1,2]", "]}"]
NO_FRAMES += ['{"iterable":null}', ' {"schema":{},"iterable": null } ']


@pytest.mark.parametrize("text", NO_FRAMES)
async def test_texts_that_are_no_frames(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are passed over before the first frame and after it; the log has the first of them."""

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        for frame in (text, FIRST, *[text] * 10, SECOND):
            await socket.send_str(frame)
        await asyncio.sleep(PATIENCE_S)

    with caplog.at_level(logging.WARNING):
        async with streaming(serve) as read:
            assert [[item.asset_id for item in (await anext(read)).items] for _ in range(2)] == [[ONE], [TWO]]
    assert [line for _, _, line in caplog.record_tuples if "passed over" in line] == [PASSED_OVER]


async def test_what_each_connection_begins_with_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """A stream that flaps has one line in a while, however many connections; that has the number of those left out."""

    async def upgraded(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for text in ("ping", FIRST):
            await socket.send_str(text)
        await socket.close()
        return socket

    clock = [0.0]
    async with serving(upgraded) as (transport, settings), asyncio.timeout(PATIENCE_S):
        transport.seldom = Seldom(LINE_EVERY_S, LINES_KINDS_MAX, lambda: clock[0])
        for clock[0] in (0.0, 1.0, LINE_EVERY_S - 1, LINE_EVERY_S, LINE_EVERY_S + 1):
            async with opened(transport, Stream.IDENTIFIERS.value, settings) as documents:
                await anext(Frames(documents, Stream.IDENTIFIERS))
    lines = [line for _, _, line in caplog.record_tuples if "passed over" in line]
    assert lines == [PASSED_OVER, f"{PASSED_OVER} (and 2 more such since the last line)"]


@pytest.mark.parametrize("sent", [SECOND, f"\n {SECOND}"])
async def test_a_frame_sent_as_binary_is_read(sent: str) -> None:
    """What is JSON text can be nothing else."""

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str(FIRST)
        await socket.send_bytes(sent.encode())
        await asyncio.sleep(PATIENCE_S)

    async with streaming(serve) as stream:
        assert [[item.asset_id for item in (await anext(stream)).items] for _ in range(2)] == [[ONE], [TWO]]


async def test_a_binary_frame_ends_the_stream_and_is_said() -> None:
    """It may have been a deletion."""

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str(FIRST)
        await socket.send_bytes(b"\x1f\x8b{")
        await asyncio.sleep(PATIENCE_S)

    async with streaming(serve) as read:
        await anext(read)
        with pytest.raises(BadAnswer, match="a binary frame, where all are text"):
            await anext(read)


async def test_a_large_text_that_is_no_frame() -> None:
    """One that is read in a process beside is passed over as well."""
    text = '{"type":"keepalive","padding":"' + "x" * 20_000 + '"}'

    async def serve(socket: web.WebSocketResponse, _: web.Request) -> None:
        for frame in (text, FIRST):
            await socket.send_str(frame)
        await asyncio.sleep(PATIENCE_S)

    async with streaming(serve) as read:
        assert [item.asset_id for item in (await anext(read)).items] == [ONE]


@given(st.integers(1, len(FIRST) - 1))
def test_a_frame_that_was_cut_is_no_frame_passed_over(length: int) -> None:
    """What is left of a frame may have held a deletion: it ends the stream, and a new one tells all."""
    with pytest.raises(BadAnswer):
        frames.parse(Reply(OK, {}, FIRST[:length].encode()), Stream.IDENTIFIERS, 10)
