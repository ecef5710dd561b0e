"""Writes made through us are taken onto the road at once: watchers see them before the call that made them returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.model.errors import SourceUnreachable, TooManyAssets
from assetwatchd.model.values import AssetKey

if TYPE_CHECKING:
    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Observation
    from assetwatchd.polling.port import Source

COMMIT_WAIT_S = 3.0
"""A removal we were told of is committed by then, or its revision is not waited for any longer."""


async def created(source: Source, store: Store, asset_id: str) -> int:
    """Read an asset that was just made; return its revision, 0 when it could not be read."""
    try:
        await source.push_touched([asset_id])
        await source.read([asset_id], max_age_s=0)
    except (SourceUnreachable, TooManyAssets):
        return 0
    entry = store.get(AssetKey(source.name, asset_id))
    return 0 if entry is None else entry.revision


async def found_gone(source: Source, store: Store, hub: Hub, tombstone: Observation, traceparent: str) -> None:
    """Tell that an asset turned out to be gone, if it is known here as one that is there."""
    entry = store.get(AssetKey(source.name, tombstone.asset_id))
    if entry is not None and not entry.gone:
        await deleted(source, store, hub, tombstone, traceparent)


async def deleted(source: Source, store: Store, hub: Hub, tombstone: Observation, traceparent: str) -> int:
    """Tell that an asset was just deleted; return its revision, 0 when that is not committed in time."""
    key = AssetKey(source.name, tombstone.asset_id)
    try:
        with source.interest([tombstone.asset_id]):  # so that it is known, if it was not
            await source.push_removed(tombstone, traceparent)
            async with asyncio.timeout(COMMIT_WAIT_S):
                while (entry := store.get(key)) is None or not entry.gone:
                    await hub.reached(hub.head + 1)
                return entry.revision
    except (TimeoutError, TooManyAssets):
        return 0
