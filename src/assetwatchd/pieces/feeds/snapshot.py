"""Take in everything there is when a connection begins: the list of ids, each asset once, from where it costs least.

An Assets stream may begin with all assets in its first frame (not documented). What that frame lacks is read: a few
assets one by one, more by one call for all, whose answer is taken apart while it comes and so may be of any length.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.frames import Frame, Item
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    from assetwatchd.pieces.client.api import PiecesApi
    from assetwatchd.pieces.feeds.intake import Intake

READS_MAX = 20
"""More assets than these are read by one call for all."""


async def listed(api: PiecesApi, intake: Intake) -> frozenset[str]:
    """Return the ids there are, as far as the list of them can be read; what it lacks is kept, and logged."""
    found = await api.ids(frames.ids)
    intake.lacking = found.lack
    if found.lack:
        api.warn("list", f"the list of assets is not complete: {found.lack}")
    return found.asset_ids


async def of_identifiers(api: PiecesApi, intake: Intake, first: Frame) -> None:
    """Take in every id. The list says which there are, and the first frame what else the stream says of them.

    The list is the later of the two: an id in the frame alone was deleted since, or the user did not save its asset;
    where some of the list cannot be read, it may be that, and is asked about.
    """
    asset_ids = await listed(api, intake)
    told: set[str] = set()
    for some in slices(first.items):
        living = frames.living(some)
        told.update(item.asset_id for item in living)
        await intake.session.commit([item for item in living if item.asset_id in asset_ids])
        for item in living:
            if intake.lacking and item.asset_id not in asset_ids:
                intake.reads.want(item)
    for unsaid in slices(asset_ids - told):
        await intake.session.commit([frames.identifier(asset_id) for asset_id in unsaid])


async def of_assets(api: PiecesApi, stream: Stream, intake: Intake, asset_ids: frozenset[str], first: Frame) -> None:
    """Take in every asset of that list, and what the first frame tells besides.

    An asset that cannot be read holds up nothing: it is tried again, and comes as a change.
    """
    await _assets(api, stream, intake, asset_ids, first)
    await intake.reads.tried()


async def _assets(api: PiecesApi, stream: Stream, intake: Intake, asset_ids: frozenset[str], first: Frame) -> None:
    told: set[str] = set()
    for items in slices(first.items):
        wanted = [item for item in frames.living(items) if intake.covers(item)]
        await intake.session.commit(wanted)
        told.update(item.asset_id for item in wanted)
    missing = set(asset_ids) - told
    if len(missing) > READS_MAX:
        missing -= await _all(api, stream, intake, missing)
    for some in slices(missing):
        for asset_id in some:
            intake.reads.want(frames.identifier(asset_id))
        await asyncio.sleep(0)


async def anew(api: PiecesApi, stream: Stream, intake: Intake) -> None:
    """Take in what there is by now, since there was news that nobody can read, of any asset.

    What is held and not in the list is asked about. News that came meanwhile wait, and are taken in after it.
    """
    asset_ids, there = await listed(api, intake), intake.session.there()
    for gone in slices(there - asset_ids):
        for asset_id in gone:
            intake.reads.want(frames.identifier(asset_id))
        await asyncio.sleep(0)
    if stream is not Stream.IDENTIFIERS:
        await _assets(api, stream, intake, asset_ids, Frame([]))
        return
    for some in slices(asset_ids - there):
        await intake.session.commit([frames.identifier(asset_id) for asset_id in some])


async def _all(api: PiecesApi, stream: Stream, intake: Intake, missing: set[str]) -> set[str]:
    """Take in what is missing from the answer of one call; return what of it was there."""
    found: set[str] = set()
    answer = api.listed(transferables=stream is Stream.TRANSFERABLES, pseudo=api.settings.pseudo)
    async with aclosing(answer) as parts:
        async for texts in parts:
            read = await api.read_assets(texts, frames.of_texts)
            if read.rest:
                text = f"{len(read.rest)} assets of a list cannot be read: {read.rest[0]}; asked for alone"
                api.warn("assets of a list", text)
            async for some in read.members():
                wanted = [item for item in (Item(*fields) for fields in some) if item.asset_id in missing]
                await intake.session.commit(wanted)
                found.update(item.asset_id for item in wanted)
    return found
