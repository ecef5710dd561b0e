"""Keep what one upstream connection has told: a store with the latest item of each asset and a hub over it.

The module owns what is held, in assets and bytes. It does not know whether an item is to be believed: that is Intake's.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.store.port import Draft
from assetwatchd.model.errors import BadAnswer
from assetwatchd.model.values import AssetKey, Freshness, State
from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from assetwatchd.changefeed.encoding import Framing
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry
    from assetwatchd.pieces.client.frames import Item
    from assetwatchd.settings.schema import PiecesSource, ServerSettings

    Encode: TypeAlias = Callable[[Stream, Item], bytes]

DIGEST_BYTES = 16
INLINE_ITEMS_MAX = 8
"""More items at once, or any with content, are encoded in a thread, so that they do not hold up everybody else."""
TIDY_INTERVAL_S = 60.0
HELD_TIMES = 16
"""All entries together may take so many times body_bytes_max, encoded: the content of a library of snippets."""


class Parts(NamedTuple):
    """The parts that every feed is made with.

    encode: one item as bytes of the schema, an UPSERT. framing: its other form, and changes to one message.
    """

    make_store: Callable[[], Store]
    encode: Encode
    framing: Framing
    limits: ServerSettings
    rng: random.Random
    now: Callable[[], float]


class Session:
    """Hold what one connection of one stream of one source has told. known: the newest date told, by asset id."""

    def __init__(self, source: str, stream: Stream, parts: Parts, settings: PiecesSource) -> None:
        limits = parts.limits
        self._assets_max = settings.assets_max
        self._held_bytes_max = HELD_TIMES * settings.body_bytes_max
        self._held = 0
        self._held_bytes = 0
        self.known: dict[str, datetime] = {}
        self._store = parts.make_store()
        self.hub = Hub(self._store, parts.framing, heartbeat_s=limits.heartbeat_s, stream_age_s=limits.stream_age_s)
        self._source = source
        self._stream = stream
        self._parts = parts
        self._tidied_at = parts.now()

    def get(self, asset_id: str) -> Entry | None:
        """Return what is held of an asset, also of one that is gone."""
        return self._store.get(self._key(asset_id))

    def there(self) -> set[str]:
        """Return the ids of the assets that are there."""
        return {entry.key.asset_id for entry in self._store.after(0, self._store.head) if not entry.gone}

    async def commit(self, items: Sequence[Item]) -> None:
        """Keep what is not merely repeated, and let the subscribers have it; others have a turn between its parts.

        Raises: BadAnswer when there is more, what is gone included, than can be kept.
        """
        for some in slices(items):
            await self._commit(some)
            await asyncio.sleep(0)

    async def _commit(self, items: Sequence[Item]) -> None:
        drafts = await self._drafts(items)
        news = [draft for item, draft in zip(items, drafts, strict=True) if not self._repeated(item, draft)]
        before = [self._store.get(draft.key) for draft in news]
        await self._store.commit(news)
        self._count(before, [self._store.get(draft.key) for draft in news])
        self.heard(items)
        self.hub.publish()
        await self._tidy()

    def heard(self, items: Sequence[Item]) -> None:
        """Know what was said last, so that what is older is known to be late. Raises: BadAnswer, as commit."""
        self.known.update({item.asset_id: item.updated for item in items if item.updated is not None})
        frames.check_count(len(self.known), self._assets_max)

    def _count(self, before: Sequence[Entry | None], after: Sequence[Entry | None]) -> None:
        """Count entries that replaced others. Raises: BadAnswer, as commit."""
        self._held += before.count(None)
        self._held_bytes += _bytes(after) - _bytes(before)
        frames.check_count(self._held, self._assets_max)
        if self._held_bytes > self._held_bytes_max:
            limit = f"{HELD_TIMES} x body_bytes_max = {self._held_bytes_max} bytes"
            raise BadAnswer(f"the assets of the stream take more than {limit}; raise it")

    def _repeated(self, item: Item, draft: Draft) -> bool:
        """Return whether a draft repeats the entry; an undated item may tell of a new change in the same words."""
        entry = self._store.get(draft.key)
        same = entry is not None and (entry.digest, entry.gone) == (draft.digest, draft.gone)
        return same and (item.gone or item.updated is not None or self._stream is not Stream.IDENTIFIERS)

    async def _drafts(self, items: Sequence[Item]) -> list[Draft]:
        if len(items) <= INLINE_ITEMS_MAX and self._stream is not Stream.TRANSFERABLES:
            return [self._draft(item) for item in items]
        return await asyncio.to_thread(lambda: [self._draft(item) for item in items])

    def _draft(self, item: Item) -> Draft:
        upsert = self._parts.encode(self._stream, item)
        now = self._parts.now()
        return Draft(
            key=self._key(item.asset_id),
            state=State.DELETED if item.gone else State.AVAILABLE,
            gone=item.gone,
            freshness=Freshness.FRESH,
            digest=hashlib.blake2b(upsert, digest_size=DIGEST_BYTES).digest(),
            found_at=now,
            traceparent="",
            seal=lambda _: upsert,
            content=upsert,
            sealed_at=now,
        )

    async def _tidy(self) -> None:
        """Forget tombstones that no subscriber can still be waiting for: no stream is that old.

        Others have a turn between its parts: there may be as many as a stream may tell of.
        """
        now = self._parts.now()
        if now - self._tidied_at < TIDY_INTERVAL_S:
            return
        self._tidied_at = now
        before = self._store.after(0, self._store.head)
        await self._store.drop_gone(before=now - 2 * self._parts.limits.stream_age_s, keep=lambda _: False)
        for entries in slices(before):
            dropped = [entry for entry in entries if self._store.get(entry.key) is None]
            self._held, self._held_bytes = self._held - len(dropped), self._held_bytes - _bytes(dropped)
            await asyncio.sleep(0)
        for some in slices(list(self.known)):
            for asset_id in some:
                if self.get(asset_id) is None:
                    self.known.pop(asset_id, None)
            await asyncio.sleep(0)

    def _key(self, asset_id: str) -> AssetKey:
        return AssetKey(self._source, asset_id)


def _bytes(entries: Iterable[Entry | None]) -> int:
    return sum(len(entry.upsert) for entry in entries if entry is not None)
