"""What `connector` uses of aiohttp that is not its published interface; run, it fails for what is gone."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

OF_CONNECTOR = ("_factory", "_loop", "_start_tls_connection")
OF_REQUEST = ("is_ssl", "proxy")
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
    loop = asyncio.get_running_loop()
    request = aiohttp.ClientRequest("GET", URL("http://a"), loop=loop)
    inside = ((connector, OF_CONNECTOR), (request, OF_REQUEST), (ResponseHandler(loop), OF_PROTOCOL))
    gone = [f"{type(of).__name__}.{name}" for of, names in inside for name in names if not hasattr(of, name)]
    await connector.close()
    return gone


if __name__ == "__main__":
    if found := asyncio.run(missing()):
        raise SystemExit(f"aiohttp {aiohttp.__version__} has no {', '.join(found)}")
