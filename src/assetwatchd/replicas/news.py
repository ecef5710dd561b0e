"""Tells the other processes, once a second, of the sources asked here: what changes nothing is written nowhere.

An owner that reads that an asset is as it was keeps nothing, so without this the others would take it for old.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.replicas.peers import PeerLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.replicas.owned import Owned
    from assetwatchd.replicas.peers import Peers
    from assetwatchd.replicas.presence import Present
    from assetwatchd.replicas.records import Presence

EVERY_S = 1.0
ASSETS_MAX = 5000
"""A message tells of so many assets, half a megabyte or less; the rest comes in the next one, at once."""
MESSAGES_MAX = 20
"""To one process in one round: what is left is told in the next."""


class News:
    """owned: what is asked here now."""

    def __init__(self, present: Present, peers: Peers, owned: Callable[[], Sequence[Owned]]) -> None:
        self._present = present
        self._peers = peers
        self._owned = owned

    async def run(self) -> None:
        """Tell all others; until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell all others once; one that does not answer holds up none of them."""
        others = list(self._present.others)
        await self._peers.keep({other.at for other in others})
        owned = self._owned()
        polled = {each.scheduler.name: await each.scheduler.polled_assets() for each in owned}
        for each in owned:
            await each.note_observed([other.id for other in others])
        await asyncio.gather(*[self._tell(other, owned, polled) for other in others])

    async def _tell(self, other: Presence, owned: Sequence[Owned], polled: dict[str, int]) -> None:
        for _ in range(MESSAGES_MAX):
            request = pb.TellRequest()
            room = ASSETS_MAX
            for each in owned:
                news = each.news(other.id, room, polled[each.scheduler.name])
                request.news.append(news)
                room -= len(news.observed)
            if not request.news:
                return
            try:
                answer = await self._peers.tell(other.at, request, within_s=EVERY_S)
            except PeerLost:
                return
            for each, news in zip(owned, request.news, strict=True):
                if news.source not in answer.not_taken:
                    each.told(other.id, news)
            if room > 0 or answer.not_taken:
                return
