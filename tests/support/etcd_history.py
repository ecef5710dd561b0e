"""All that ever happened below a prefix, as each member of a cluster tells it."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import TYPE_CHECKING

from assetwatchd.etcd.values import News
from support.etcd import client_of, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.values import Event

READ_S = 30.0


async def histories(cluster: Cluster, prefix: str) -> list[Sequence[News]]:
    """Read it from each member, up to the same revision; nothing of it may be compacted."""
    async with client_of(*cluster.endpoints) as client:
        upto = (await eventually(lambda: client.get(b"none"))).revision
    return await asyncio.gather(*(_history(endpoint, prefix, upto) for endpoint in cluster.endpoints))


async def _history(endpoint: str, prefix: str, upto: int) -> Sequence[News]:
    found: list[Event] = []
    revision = 0
    async with client_of(endpoint) as client, asyncio.timeout(READ_S):
        await eventually(lambda: client.get(b"none"))
        async with client.watch(prefix.encode(), from_revision=1) as watch:
            while revision < upto:
                await watch.ask_progress()
                news = await watch.read()
                found += news.events
                revision = max(revision, news.revision)
    return [News(at, list(events)) for at, events in groupby(found, lambda event: event.key.modified)]
