"""Judge a stream's news: what is believed as it comes, what the server is asked about first, and what is none.

The module owns these rules and the reads that follow from them. It knows neither connections nor subscribers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.pieces.feeds.reads import Reads
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from assetwatchd.pieces.client.api import PiecesApi
    from assetwatchd.pieces.client.frames import Item
    from assetwatchd.pieces.feeds.session import Session


class Intake:
    """Take the news of one connection into its session; what must be asked about holds up nothing else.

    by_ids: the news of a stream of assets are only ids, so each asset is read.
    lacking: what of the list of all ids cannot be read; empty when all of it can.
    """

    def __init__(
        self, session: Session, api: PiecesApi, stream: Stream, *, by_ids: bool = False, rng: random.Random
    ) -> None:
        self.session = session
        self.lacking = ""
        self.reads = Reads(api, transferables=stream is Stream.TRANSFERABLES, answered=self._answered, rng=rng)
        self._stream = stream
        self._by_ids = by_ids
        self._pseudo = api.settings.pseudo
        self._asks_about_all = by_ids or (stream is Stream.IDENTIFIERS and not self._pseudo)
        # Held from judging to committing, which waits: what is taken in between would be judged by what was held.
        self._taking = asyncio.Lock()

    def covers(self, item: Item) -> bool:
        """Return whether the stream is about that asset: one the user did not save only if so configured."""
        return self._pseudo or not item.pseudo

    async def take(self, items: Iterable[Item]) -> None:
        """Take in a frame, others going on between its parts. Raises: BadAnswer when it is too much."""
        for some in slices(items):
            async with self._taking:
                judged = [self._buried(item) if item.gone else self._believed(item) for item in some]
                await self.session.commit([item for item in judged if item is not None])
            await asyncio.sleep(0)

    def _buried(self, item: Item) -> Item | None:
        """Believe a tombstone at once; any question about its asset is answered with it.

        That of an asset nobody was told of is kept for the news it overtook, unless these are asked about anyway.
        """
        self.reads.forget(item.asset_id)
        if self.session.get(item.asset_id) is None and (self._asks_about_all or not self.covers(item)):
            return None
        return frames.dead_asset(item) if self._by_ids else item

    def _believed(self, item: Item) -> Item | None:
        """Return what an item is news of, None when it is none or must be asked about.

        What brings back an asset that is gone may only have come late; of an id alone nobody can say whether the user
        saved the asset. What is believed leaves nothing to ask: an answer to come may be older.
        """
        entry = self.session.get(item.asset_id)
        there = entry is not None and not entry.gone
        if not self._by_ids and frames.overtaken(item.updated, self.session.known.get(item.asset_id)):
            return None
        if self._by_ids or (self.covers(item) and not there and not self._newcomer(item)):
            self.reads.want(item)
            return None
        self.reads.forget(item.asset_id)
        if self.covers(item):
            return item
        self.session.heard([item])
        return replace(item, gone=True) if there else None

    def _newcomer(self, item: Item) -> bool:
        """Return whether an asset that is not there can be believed to be so now."""
        if self._stream is Stream.IDENTIFIERS:
            return self._pseudo and self.session.get(item.asset_id) is None
        known = self.session.known.get(item.asset_id)
        return self.session.get(item.asset_id) is None or frames.overtaken(known, item.updated)

    async def _answered(self, why: Item, answer: Item) -> None:
        """Take in an asset that was read: as it was read, or as the item of the identifiers stream said."""
        async with self._taking:
            entry = self.session.get(answer.asset_id)
            if not answer.gone and self.covers(answer):
                await self.session.commit([why if self._stream is Stream.IDENTIFIERS else answer])
            elif entry is not None and not entry.gone:
                await self.session.commit([replace(answer, gone=True)])
