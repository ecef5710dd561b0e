"""Nothing follows a redirect: whatever kind of call is answered with one, whichever of the calls that it takes."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter
from yarl import URL

import assetwatchd
from assetwatchd.adapters.pieces import Pieces
from assetwatchd.model.errors import CallError, UpstreamError
from assetwatchd.pieces.client.api import PiecesApi
from assetwatchd.pieces.client.discovery import Probing
from assetwatchd.pieces.client.server import PiecesServer
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.settings.schema import AnySource, PiecesSource
from support.harness import KINDS, Harness, harness_of
from support.redirects import LANDED, STATUSES, Redirecting, trap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[Harness], Awaitable[None]]

FOUND = {"connect_timeout_s": 10, "health_timeout_s": 10}


async def probe(harness: Harness) -> None:
    await harness.upstream().probe()


async def observe(harness: Harness) -> None:
    await harness.upstream().observe([harness.known])


async def enumerate_(harness: Harness) -> None:
    await harness.upstream().enumerate()


async def notices(harness: Harness) -> None:
    async with aclosing(harness.upstream(application_id="ours").notices()) as told:
        await anext(told)


async def traded(harness: Harness) -> None:
    """OMN with an offline token: discovery, the trade, the call, and all again when the token is refused."""
    harness.standin.switch({"release": "6.0"})
    discovery = f"{harness.standin.url}/auth/realms/OMN/.well-known/openid-configuration"
    token = harness.standin.credentials["offline_token"]
    auth = {"kind": "refresh_token", "refresh_token": token, "discovery_url": discovery}
    await harness.upstream(auth=auth).observe([harness.known])


async def discovered(harness: Harness) -> None:
    """Pieces OS is looked for at the ports there are, with nobody at the configured address."""
    settings = PiecesSource(kind="pieces", base_url="http://127.0.0.1:9", discover=True)  # type: ignore[arg-type]  # read as in a file
    probing = Probing(ports=[URL(harness.standin.url).port or 0], **FOUND)  # type: ignore[arg-type]  # floats
    server = PiecesServer("pieces", settings, probing)
    try:
        await Pieces("pieces", settings, server).enumerate()
    finally:
        await server.close()


def piece(ask: Callable[[PiecesApi], Awaitable[object]]) -> Call:
    """Make one call of the assets API."""

    async def called(harness: Harness) -> None:
        told = {"kind": "pieces", "base_url": harness.standin.url, "application_id": "ours", "rate_per_s": 10_000}
        settings = TypeAdapter[Any](AnySource).validate_python(told)
        server = PiecesServer("pieces", settings)
        try:
            await ask(PiecesApi(server))
        finally:
            await server.close()

    return called


async def streamed(api: PiecesApi, stream: Stream) -> None:
    async with api.server.connect(stream) as documents:
        await anext(documents)


async def listed(api: PiecesApi) -> None:
    async with aclosing(api.listed(transferables=False, pseudo=False)) as parts:
        async for _ in parts:
            pass


KNOWN = harness_of("pieces").known
OF_PIECES: dict[str, Callable[[PiecesApi], Awaitable[object]]] = {
    "create": lambda api: api.create(BytesIO(b"{}")),
    "delete": lambda api: api.delete(KNOWN),
    "draft": lambda api: api.draft(BytesIO(b"{}")),
    "recommended": lambda api: api.recommended(BytesIO(b"{}")),
    "related": lambda api: api.related(BytesIO(b"{}")),
    "identifiers": lambda api: api.identifiers(),
    "pseudo": lambda api: api.pseudo(),
    "search": lambda api: api.search(query="x"),
    "search_with_filters": lambda api: api.search_with_filters(BytesIO(b"{}")),
    "snapshot": lambda api: api.snapshot(),
    "formats": lambda api: api.formats(KNOWN),
    "get": lambda api: api.get(KNOWN),
    "listed": listed,
    "stream_assets": lambda api: streamed(api, Stream.ASSETS),
    "stream_transferables": lambda api: streamed(api, Stream.TRANSFERABLES),
}
CASES: dict[str, tuple[str, Call]] = {
    **{f"{kind}.{call.__name__}": (kind, call) for kind in KINDS for call in (probe, observe)},
    **{f"{kind}.enumerate": (kind, enumerate_) for kind in KINDS if harness_of(kind).enumerates},
    "pieces.notices": ("pieces", notices),
    "pieces.discovered": ("pieces", discovered),
    "omn.traded": ("omn", traded),
    **{f"pieces.api.{name}": ("pieces", piece(ask)) for name, ask in OF_PIECES.items()},
}


async def redirected(case: str, *, passing: int, status: int, where: int) -> int:
    """Have a call's request after `passing` others answered with a redirect; return how many requests there were."""
    kind, call = CASES[case]
    harness = harness_of(kind)()
    await harness.start()
    try:
        async with trap() as elsewhere:
            location = elsewhere.locations[where % len(elsewhere.locations)]
            redirecting = Redirecting(harness.standin, passing=passing, status=status, headers={"Location": location})
            async with asyncio.timeout(20):
                with pytest.raises((UpstreamError, CallError)):
                    await call(harness)
        assert elsewhere.visitors == []
        assert not harness.standin.requests.count(LANDED)
        return redirecting.count
    finally:
        await harness.stop()


@pytest.mark.parametrize("case", CASES)
async def test_the_first_request_of_a_call(case: str) -> None:
    """Every kind of redirect, to another host, to the same one, or to a scheme that is not HTTP: the call fails."""
    for where, status in enumerate(STATUSES):
        assert await redirected(case, passing=0, status=status, where=where) >= 1


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("pieces.") and case != "pieces.probe"])
async def test_the_call_itself_after_its_checks(case: str) -> None:
    """Health and version of Pieces OS are as they should be, and the call, or the upgrade to a WebSocket, is not."""
    for where, status in enumerate(STATUSES):
        assert await redirected(case, passing=2, status=status, where=where) == 3


@pytest.mark.parametrize(("case", "passing"), [("omn.traded", 1), ("omn.traded", 2), ("oracle_sbc.observe", 1)])
async def test_a_later_request_of_a_call(case: str, passing: int) -> None:
    """Nor is one followed that comes with a token, or after one was had."""
    for where, status in enumerate(STATUSES):
        assert await redirected(case, passing=passing, status=status, where=where) > passing


@pytest.mark.parametrize("status", STATUSES)
async def test_a_websocket_that_was_told_nowhere_to_go(status: int) -> None:
    """A redirect without a Location is the same refusal, not a WebSocket."""
    harness = harness_of("pieces")()
    await harness.start()
    try:
        Redirecting(harness.standin, passing=2, status=status, headers={})
        with pytest.raises(UpstreamError, match="redirect"):
            await notices(harness)
    finally:
        await harness.stop()


def test_sessions_are_made_in_one_place() -> None:
    """Whoever makes a session of its own has none of its guards."""
    package = Path(assetwatchd.__file__).parent
    made = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        for _ in re.findall(r"ClientSession\(|aiohttp\.request\(", path.read_text())
    ]
    assert made == ["upstream/http/transport.py"]
