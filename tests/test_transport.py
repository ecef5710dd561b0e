"""What every call to an upstream is held to."""

from __future__ import annotations

import asyncio

from assetwatchd.config import UsdSearchSource
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
    try:
        await asyncio.gather(*[transport.raw("GET", "/info/plugins") for _ in range(8)])
    finally:
        await transport.close()
        await standin.stop()
    moments = sorted(request.time for request in standin.requests.all())
    assert len(moments) == 8
    assert moments[-1] - moments[0] >= 6 / RATE_PER_S  # seven pauses, less what the first connection took
