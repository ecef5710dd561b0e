"""Faults: each scripted effect is what a client really meets on the wire."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from assetwatch_sandbox.standin import JSON, Standin, Switches, SwitchValueError, UnknownSwitchError

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Iterable, Mapping

ANSWER = {"answer": "x" * 1000}


@dataclasses.dataclass(frozen=True)
class EchoSwitches(Switches):
    """One switch."""

    loud: bool = False


class Echo(Standin[EchoSwitches]):
    """The smallest kind there can be."""

    kind = "echo"
    switch_type = EchoSwitches

    def routes(self) -> Iterable[web.RouteDef]:
        """Serve one thing and one stream."""
        return [web.get("/thing", _thing), web.get("/stream", self._stream)]

    def put(self, asset_id: str, native: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Echo holds no assets."""
        raise ValueError(asset_id, native)

    def remove(self, asset_id: str) -> None:
        """Echo holds no assets."""
        raise KeyError(asset_id)

    def get(self, asset_id: str) -> Mapping[str, JSON] | None:
        """Echo holds no assets."""

    def asset_ids(self) -> list[str]:
        """Echo holds no assets."""
        return []

    def seed(self, rng: random.Random, count: int) -> None:
        """Echo holds no assets."""

    def advance(self, rng: random.Random) -> None:
        """Echo holds no assets."""

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await self.faults.send_text(request, socket, message.data)
        return socket


async def _thing(request: web.Request) -> web.Response:
    return web.json_response(ANSWER)


async def _arrival(standin: Echo) -> None:
    async with asyncio.timeout(5):
        while not standin.requests.count():  # noqa: ASYNC110 - the log has no event to wait for
            await asyncio.sleep(0)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    standin = Echo()
    await standin.start()
    yield standin
    await standin.stop()


@pytest.fixture
async def http(echo: Echo) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(echo.url) as session:
        yield session


async def test_times_is_how_often_a_fault_strikes(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A fault of two times strikes twice, then the real answer is back."""
    echo.faults.add(status=500, body="broken", content_type="text/plain", times=2, headers={"Retry-After": "7"})
    seen = []
    for _ in range(3):
        async with http.get("/thing") as answer:
            seen.append((answer.status, answer.headers.get("Retry-After")))
    assert seen == [(500, "7"), (500, "7"), (200, None)]
    assert echo.faults.active == []


async def test_a_fault_is_bound_to_its_path_and_method(echo: Echo, http: aiohttp.ClientSession) -> None:
    """Requests that do not match are left alone, the query being part of what is matched."""
    echo.faults.add(path=r"\?x=1$", method="GET", status=503)
    async with http.get("/thing") as plain, http.get("/thing?x=1") as matched, http.post("/thing?x=1") as other:
        assert (plain.status, matched.status, other.status) == (200, 503, 405)


async def test_disconnect_aborts_the_connection(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A disconnected client gets no answer at all, and the request is logged without a status."""
    echo.faults.add(disconnect=True)
    with pytest.raises(aiohttp.ClientError):
        await http.get("/thing")
    assert [logged.status for logged in echo.requests.all()] == [None] * echo.requests.count()
    assert echo.requests.count("^/thing$") >= 1


async def test_truncate_cuts_under_the_full_length(echo: Echo, http: aiohttp.ClientSession) -> None:
    """The headers promise the whole body, only so many bytes arrive."""
    echo.faults.add(truncate_bytes=10)
    async with http.get("/thing") as answer:
        assert int(answer.headers["Content-Length"]) > 1000
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        assert answer.content.total_bytes == 10


async def test_huge_body_is_streamed_whole(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A huge body keeps the real content type and has exactly the asked size."""
    echo.faults.add(huge_bytes=1_000_001)
    async with http.get("/thing") as answer:
        assert answer.content_type == "application/json"
        assert len(await answer.read()) == 1_000_001


async def test_drip_is_slow(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A dripping body is whole in the end, and takes the time its rate says."""
    echo.faults.add(drip_bytes_per_s=10_000)
    begun = asyncio.get_running_loop().time()
    async with http.get("/thing") as answer:
        assert await answer.json() == ANSWER
    assert asyncio.get_running_loop().time() - begun >= 0.09


async def test_charset_garbage_is_not_utf8(echo: Echo, http: aiohttp.ClientSession) -> None:
    """The body cannot be decoded as the UTF-8 it claims to be."""
    echo.faults.add(charset_garbage=True)
    async with http.get("/thing") as answer:
        with pytest.raises(UnicodeDecodeError):
            (await answer.read()).decode()


async def test_a_wrong_content_type_leaves_the_body(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A content type alone is put on the real answer; headers are added to it."""
    echo.faults.add(content_type="text/html; charset=latin1", headers={"X-Extra": "1"})
    async with http.get("/thing") as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=latin1"
        assert answer.headers["X-Extra"] == "1"
        assert await answer.json(content_type=None) == ANSWER


async def test_effects_combine(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A scripted answer can itself be cut short."""
    echo.faults.add(status=502, body="a long story", content_type="text/html", truncate_bytes=6)
    async with http.get("/thing") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (502, "12")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_redirect_points_elsewhere(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A redirect fault sends its Location."""
    echo.faults.add(redirect_to="http://evil.example/")
    async with http.get("/thing", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "http://evil.example/")


async def test_a_hung_request_is_let_go_by_clear(echo: Echo, http: aiohttp.ClientSession) -> None:
    """What hangs stays unanswered until the faults are cleared, then gets the real answer."""
    echo.faults.add(hang=True)
    asked = asyncio.create_task(http.get("/thing"))
    await _arrival(echo)
    assert not asked.done()
    echo.faults.clear()
    async with await asked as answer:
        assert answer.status == 200


async def test_stop_ends_hung_requests_and_start_reuses_the_port(echo: Echo, http: aiohttp.ClientSession) -> None:
    """Stopping cuts what is open, at once; starting again serves under the same address."""
    echo.faults.add(hang=True, times=1)
    before = echo.url
    asked = asyncio.create_task(http.get("/thing"))
    await _arrival(echo)
    async with asyncio.timeout(2):
        await echo.stop()
        with pytest.raises(aiohttp.ClientError):
            await asked
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get("/thing")
    await echo.start()
    assert echo.url == before
    async with http.get("/thing") as answer:
        assert answer.status == 200


async def test_frame_faults_strike_frames_not_the_upgrade(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A frame fault replaces or cuts frames; the socket opens as always."""
    echo.faults.add(on="frame", truncate_bytes=2, times=1)
    echo.faults.add(on="frame", body="instead", times=1)
    async with http.ws_connect("/stream") as socket:
        received = []
        for text in ("first", "second", "third"):
            await socket.send_str(text)
            received.append(await socket.receive_str())
        assert received == ["fi", "instead", "third"]
        echo.faults.add(on="frame", charset_garbage=True)
        await socket.send_str("fourth")
        assert (await socket.receive()).type in {aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE}


async def test_frame_disconnect_drops_the_socket(echo: Echo, http: aiohttp.ClientSession) -> None:
    """A disconnect in place of a frame ends the socket without a close frame."""
    echo.faults.add(on="frame", disconnect=True)
    async with http.ws_connect("/stream") as socket:
        await socket.send_str("hello")
        await socket.receive()
        assert socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


def test_unknown_fault_fields_are_refused() -> None:
    """A misspelt field is an error, not a fault that does nothing."""
    standin = Echo()
    with pytest.raises(ValidationError, match="delay_ms"):
        standin.faults.add(delay_ms=5)
    with pytest.raises(ValidationError, match="regular expression"):
        standin.faults.add(path="(")


def test_unknown_switches_are_refused_with_the_known_names() -> None:
    """A switch has a known name and a value of its type."""
    standin = Echo(switches={"loud": True})
    assert standin.switches.loud
    with pytest.raises(UnknownSwitchError, match="loud"):
        standin.switch({"lout": True})
    with pytest.raises(SwitchValueError, match="loud"):
        standin.switch({"loud": "perhaps"})
