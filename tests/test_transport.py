"""What every call to an upstream is held to."""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest
from aiohttp import web

from assetwatchd.config import UsdSearchSource
from assetwatchd.errors import AnswerTooLarge
from assetwatchd.sandbox.usd_search import UsdSearch
from assetwatchd.transport import Transport

RATE_PER_S = 50


async def test_requests_start_no_faster_than_the_rate() -> None:
    """Whoever asks, and however many at once: the upstream sees them one by one, rate_per_s a second."""
    standin = UsdSearch()
    await standin.start()
    settings = UsdSearchSource.model_validate(
        {"kind": "usd_search", "base_url": standin.url, "rate_per_s": RATE_PER_S, "concurrency": 8}
    )
    transport = Transport("usd", settings)
    began = time.monotonic()
    try:
        await asyncio.gather(*[transport.raw("GET", "/info/plugins") for _ in range(8)])
    finally:
        await transport.close()
        await standin.stop()
    moments = sorted(request.time for request in standin.requests.all())
    assert len(moments) == 8
    assert all(moment - began >= number / RATE_PER_S for number, moment in enumerate(moments))


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
