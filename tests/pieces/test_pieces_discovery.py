"""Where Pieces OS is found, and which versions are taken."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from pieces_os_client.wrapper.version_compatibility import VersionChecker
from pydantic import AnyHttpUrl
from yarl import URL

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatchd.model.errors import BadAnswer, Unreachable, VersionUnsupported
from assetwatchd.pieces.client.discovery import PARALLEL, PORTS, SUPPORTED, Probing, parse_version
from assetwatchd.pieces.client.location import PiecesTransport, ServerLocator
from assetwatchd.settings.schema import PiecesSource
from assetwatchd.upstream.http.connector import INTERIM_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOWHERE = "http://127.0.0.1:9"
HEALTH = "/.well-known/health"


@pytest.fixture
async def standins() -> AsyncIterator[list[PiecesStandin]]:
    """Three servers, all of them healthy."""
    standins = [PiecesStandin() for _ in range(3)]
    for standin in standins:
        await standin.start()
    yield standins
    for standin in standins:
        standin.faults.clear()
        await standin.stop()


async def found(base_url: str, *standins: PiecesStandin, before: int = 0, health_timeout_s: float = 10) -> str:
    """Look among the ports of these servers, with dead ports before them; return the URL that was taken."""
    ports = [*[9] * before, *(URL(standin.url).port or 0 for standin in standins)]
    probing = Probing(ports=ports, connect_timeout_s=10, health_timeout_s=health_timeout_s)
    settings = PiecesSource(kind="pieces", base_url=AnyHttpUrl(base_url), discover=True)
    locator = ServerLocator(settings, probing)
    transport = PiecesTransport("desk", settings, locator)
    try:
        await transport.request("GET", "/assets/identifiers")
    finally:
        await transport.close()
    return str(locator.url).rstrip("/")


async def test_the_configured_address_wins(standins: list[PiecesStandin]) -> None:
    """A server at the configured address is taken, whatever listens elsewhere."""
    first, second, third = standins
    assert await found(third.url, first, second) == third.url


async def test_the_order_of_the_ports_decides(standins: list[PiecesStandin]) -> None:
    """Nobody at the configured address: the first of the ports wins, not the fastest."""
    first, second, third = standins
    second.faults.add(path=HEALTH, delay_s=0.2)
    assert await found(NOWHERE, second, first, third) == second.url


async def test_ports_beyond_the_first_twenty(standins: list[PiecesStandin]) -> None:
    """Ports are tried in parallel, twenty at a time, until one answers; those after it are left alone."""
    first, second, _ = standins
    assert await found(NOWHERE, first, second, before=PARALLEL - 2) == first.url
    assert second.requests.count(HEALTH) == 0


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 302}, {"disconnect": True}, {"hang": True}])
async def test_who_is_not_healthy_is_passed_over(standins: list[PiecesStandin], fault: dict[str, object]) -> None:
    """Anything but a timely 200 is not Pieces OS."""
    first, second, _ = standins
    first.faults.add(path=HEALTH, **fault)
    assert await found(first.url, first, second, health_timeout_s=1.0) == second.url


async def test_a_port_that_says_nothing(standins: list[PiecesStandin]) -> None:
    """A program that takes connections and never speaks is passed over after the limit."""
    hushed = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hushed.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await found(f"http://127.0.0.1:{port}", standins[0], health_timeout_s=1.0) == standins[0].url
    hushed.set()
    server.close()
    await server.wait_closed()


async def test_informational_answers_without_an_end(standins: list[PiecesStandin]) -> None:
    """More of them than a connection takes, whatever comes after: passed over, as nothing would ever end them."""

    async def informs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM_MAX + 1) + b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(informs, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert await found(url, standins[0]) == standins[0].url
    server.close()
    await server.wait_closed()


async def test_nobody_there() -> None:
    """No server anywhere is told with the configured address."""
    with pytest.raises(Unreachable, match=r"neither at http://127\.0\.0\.1:9/? nor at any of 3 known ports"):
        await found(NOWHERE, before=3)


@pytest.mark.parametrize("version", ["11.0.0", "12.3.5", "12.99.99-beta.1", "13.0.0-rc1"])
async def test_versions_that_are_taken(standins: list[PiecesStandin], version: str) -> None:
    """From the minimum up to, and not including, the maximum; a label comes before its release."""
    standins[0].switch({"version": version})
    assert await found(standins[0].url) == standins[0].url
    least, limit = map(str, SUPPORTED)
    assert VersionChecker(least, limit, version).version_check().compatible


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("10.9.9", "is 10.9.9; at least 11.0.0 is needed: update Pieces OS"),
        ("11.0.0-rc1", "at least 11.0.0"),
        ("13.0.0", "before 13.0.0 are supported: update assetwatch"),
        ("99.1.0", "update assetwatch"),
    ],
)
async def test_versions_that_are_refused(standins: list[PiecesStandin], version: str, text: str) -> None:
    """A version out of range is refused, saying what to update, and no other server is taken in its place."""
    standins[0].switch({"version": version})
    with pytest.raises(VersionUnsupported, match=text.replace(".", r"\.")):
        await found(standins[0].url, standins[1])
    least, limit = map(str, SUPPORTED)
    assert not VersionChecker(least, limit, version).version_check().compatible


@pytest.mark.parametrize("version", ["", "12", "twelve", "<html>12.0.0</html>"])
async def test_what_is_no_version(standins: list[PiecesStandin], version: str) -> None:
    """A healthy server that tells no version is not Pieces OS."""
    standins[0].switch({"version": version})
    with pytest.raises(BadAnswer, match="did not answer as Pieces OS does"):
        await found(standins[0].url)


async def test_a_server_that_goes_before_it_tells_its_version(standins: list[PiecesStandin]) -> None:
    """A server that is healthy and then breaks off is unreachable."""
    standins[0].faults.add(path="version", disconnect=True)
    with pytest.raises(Unreachable, match="closed the connection"):
        await found(standins[0].url)


def test_the_known_ports() -> None:
    """The 34 ports of current releases, then those of older ones."""
    assert PORTS[:34] == tuple(range(39300, 39334))
    assert PORTS[34:] == (1000, 5323)


def test_versions_in_order() -> None:
    """Numbers are compared as numbers, and a label comes before its release."""
    texts = ["9.10.0", "10.2.0", "10.10.0-alpha", "10.10.0-beta", "10.10.0"]
    versions = [parse_version(text) for text in texts]
    assert versions == sorted(versions)
    assert [str(version) for version in versions] == texts
