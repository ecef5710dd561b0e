"""What `connector` uses of aiohttp that is not its published interface; run, it fails for what is gone."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.client_proto import ResponseHandler

OF_CONNECTOR = ("_factory", "_loop")
OF_PROTOCOL = (
    "_buffer_paused",
    "_loop",
    "_pause_transport_reading",
    "_reading_paused",
    "_resume_transport_reading",
    "data_received",
    "feed_data",
    "resume_reading",
    "set_exception",
    "transport",
)


async def missing() -> list[str]:
    """Return what this version does not have."""
    connector = aiohttp.TCPConnector()
    inside = ((connector, OF_CONNECTOR), (ResponseHandler(asyncio.get_running_loop()), OF_PROTOCOL))
    gone = [f"{type(of).__name__}.{name}" for of, names in inside for name in names if not hasattr(of, name)]
    await connector.close()
    return gone


if __name__ == "__main__":
    if found := asyncio.run(missing()):
        raise SystemExit(f"aiohttp {aiohttp.__version__} has no {', '.join(found)}")
