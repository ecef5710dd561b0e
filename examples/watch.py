"""Follow whole sources through every restart of the server: python examples/watch.py 127.0.0.1:50051 SOURCE..."""
# ruff: noqa: INP001, T201 - a script, and it prints

import asyncio
import sys
from contextlib import aclosing, suppress

from assetwatch.v1.asset_status_pb2 import AssetState

from assetwatch_client import Removed, Synced, Upsert, Watch, connect


async def main(server: str, *sources: str) -> None:
    """Print what is, then what changes."""
    async with connect(server) as channel:
        watch = Watch(channel, sources=sources, on_break=lambda error: print(f"resuming after: {error!r}"))
        async with aclosing(watch.events()) as events:
            async for event in events:
                match event:
                    case Upsert(key, status):
                        print(*key, AssetState.Name(status.state))
                    case Removed(key):
                        print(*key, "is gone")
                    case Synced():
                        print(f"in sync: {len(watch.statuses)} assets", flush=True)


with suppress(KeyboardInterrupt):
    asyncio.run(main(*sys.argv[1:]))
