"""Ingest: sighting -> diff -> commit -> publish."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.store.port import Draft
from assetwatchd.model.errors import StoreError
from assetwatchd.model.values import GONE, AssetKey, Freshness, State, unreadable
from assetwatchd.runtime import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.changefeed.encoding import Encoder
    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry, Observation

DIGEST_BYTES = 16
ENCODING_S = 0.005
"""Encoding what was seen together lets others have a turn after so long; the largest single status takes as long."""
STORE_RETRY_S = 1.0
"""How often a store that cannot keep what it is given is tried again."""
NOT_ENCODED = "it was read, but what it says cannot be told; see the log"
"""Why an asset has no new status, though it was read."""

log = logging.getLogger(__name__)


class Sighting(NamedTuple):
    """An observation with its moment (s since 1970, when the reading began) and the trace that led to it.

    forgotten: the asset goes from here, though not from its source, since nobody has asked for it for long.
    key: the asset's name as it is known already, so that it is kept once.
    unproven: nothing shows that there is such an asset, so that it is kept for who names it, and told to nobody else.
    """

    observation: Observation
    observed_at: float
    traceparent: str = ""
    forgotten: bool = False
    key: AssetKey | None = None
    unproven: bool = False


class Unread(NamedTuple):
    """An asset whose reads fail though its source is well, and why.

    observed_at: when it was last read (s since 1970), if that is known better than by its entry.
    unproven: as of a Sighting. back: it was gone, and a list has it since.
    """

    key: AssetKey
    why: str
    observed_at: float | None = None
    unproven: bool = False
    back: bool = False


class Pipeline:
    """Diffs, commits and publishes; one task per source, so no asset is on its way twice at once and there is no lock.

    It publishes only what is committed, and awaits nobody who is told of it.
    """

    def __init__(
        self, store: Store, hub: Hub, encoder: Encoder, *, store_failing: Callable[[str], None] = lambda _: None
    ) -> None:
        """store_failing is told why the store cannot keep what it is given, and the empty text once it can again."""
        self._store = store
        self._hub = hub
        self._encoder = encoder
        self._store_failing = store_failing
        self._waiting = 0

    async def ingest(self, source: str, sightings: Sequence[Sighting]) -> Sequence[Entry]:
        """Commit what differs from what is known, the last sighting of each asset, and publish it.

        Returns: the entries that were committed. An asset that is not among them is as it was.
        """
        last = {sighting.observation.asset_id: sighting for sighting in sightings}
        return await self._commit(source, await self._all_drafted(source, last.values()))

    async def _all_drafted(self, source: str, sightings: Iterable[Sighting]) -> list[Draft]:
        """Diff them one after the other; everybody else has a turn each time it has taken ENCODING_S."""
        drafts: list[Draft] = []
        began = time.perf_counter()
        for sighting in sightings:
            if (draft := self._drafted(source, sighting)) is not None:
                drafts.append(draft)
            if time.perf_counter() - began >= ENCODING_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return drafts

    async def mark_unread(self, source: str, unread: Iterable[Unread], *, at: float) -> Sequence[Entry]:
        """Commit why reads fail of assets whose source is well: UNKNOWN if they were never read, else STALE.

        Once: as long as no read ends well, another reason is no change. at: now (s since 1970).
        Returns: the entries that were committed.
        """
        marks = {asset.key: asset for asset in unread}
        drafts = [draft for asset in marks.values() if (draft := self._marked(asset, at)) is not None]
        return await self._commit(source, drafts)

    def _marked(self, asset: Unread, at: float) -> Draft | None:
        """Draft that reads of an asset fail; None if that is said already."""
        known = self._store.get(asset.key)
        if known is None or (asset.back and known.state in GONE):
            return self._never_read(asset, at)
        gone = known.gone and not asset.back
        if known.freshness is Freshness.STALE and known.gone == gone:
            return None
        return self._draft(
            asset.key,
            known.state,
            self._encoder.again(known, stale=asset.why),
            at,
            sealed_at=known.found_at if asset.observed_at is None else asset.observed_at,
            gone=gone,
            freshness=Freshness.STALE,
        )

    def _never_read(self, asset: Unread, at: float) -> Draft:
        observation = unreadable(asset.key.asset_id, asset.why)
        content = self._encoder.unread(asset.key.source, observation, asset.why)
        return self._draft(asset.key, observation.state, content, at, gone=asset.unproven, freshness=Freshness.STALE)

    async def _commit(self, source: str, drafts: Sequence[Draft]) -> Sequence[Entry]:
        if not drafts:
            return ()
        with telemetry.commit(source, len(drafts)):
            telemetry.link_delivery(draft.traceparent for draft in drafts)
            entries = await self._keep(drafts)
        telemetry.record_changes(source, len(entries))
        self._hub.publish()  # not before: whoever is woken by it reads the store
        return entries

    async def _keep(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Commit, again and again while the store cannot: what was seen waits here, and readers have what was kept.

        Raises: NotOwner, at once.
        """
        try:
            return await self._store.commit(drafts)
        except StoreError as error:
            log.warning("statuses cannot be kept, trying again every %g s: %s", STORE_RETRY_S, error)
            with self._failing(error.told):
                entries = await self._kept_at_last(drafts)
        log.info("statuses are kept again")
        return entries

    async def _kept_at_last(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Try again what is not kept yet, until all is: a store may keep the first of many, and not the others."""
        while True:
            await asyncio.sleep(STORE_RETRY_S)
            with contextlib.suppress(StoreError):
                await self._store.commit([draft for draft in drafts if self._kept(draft) is None])
                return [entry for draft in drafts if (entry := self._kept(draft)) is not None]

    def _kept(self, draft: Draft) -> Entry | None:
        """Return the entry that this very draft became, if it is in the store."""
        entry = self._store.get(draft.key)
        if entry is None or (entry.found_at, entry.digest, entry.gone) != (draft.found_at, draft.digest, draft.gone):
            return None
        return entry

    @contextlib.contextmanager
    def _failing(self, why: str) -> Iterator[None]:
        """Have it told that the store fails for as long as any source waits for it, and tries."""
        if not self._waiting:
            self._store_failing(why)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._store_failing("")

    def _drafted(self, source: str, sighting: Sighting) -> Draft | None:
        """Diff. What cannot be encoded is logged once, and its asset marked, so that one odd value stops no source."""
        try:
            return self._diff(source, sighting)
        except Exception:
            key = sighting.key or AssetKey(source, sighting.observation.asset_id)
            draft = self._in_place(key, sighting)
            if draft is not None or self._store.get(key) is None:
                log.exception("source %s: an asset's status cannot be encoded", source)
            return draft

    def _in_place(self, key: AssetKey, sighting: Sighting) -> Draft | None:
        """Draft that what was read of an asset cannot be told; None if that is said, or its id cannot be told."""
        try:
            return self._marked(Unread(key, NOT_ENCODED, unproven=sighting.unproven), sighting.observed_at)
        except ValueError:
            return None

    def _diff(self, source: str, sighting: Sighting) -> Draft | None:
        observation = sighting.observation
        key = sighting.key or AssetKey(source, observation.asset_id)
        known = self._store.get(key)
        if known is not None and known.state is State.DELETED and observation.state is State.MISSING:
            return self._confirmed(known, sighting)
        draft = self._draft(
            key,
            observation.state,
            self._encoder.content(source, observation),
            sighting.observed_at,
            gone=sighting.forgotten or sighting.unproven or observation.state in GONE,
            traceparent=sighting.traceparent,
        )
        same = known is not None and known.digest == draft.digest and known.gone == draft.gone
        return None if same else draft

    def _confirmed(self, known: Entry, sighting: Sighting) -> Draft | None:
        """Draft that a DELETED asset, read as MISSING, is FRESH again; None if it was: that it is gone is no news."""
        if known.freshness is Freshness.FRESH:
            return None
        content = self._encoder.again(known, stale="")
        return self._draft(known.key, known.state, content, sighting.observed_at, gone=known.gone)

    def _draft(
        self,
        key: AssetKey,
        state: State,
        content: bytes,
        found_at: float,
        *,
        sealed_at: float | None = None,
        gone: bool = False,
        freshness: Freshness = Freshness.FRESH,
        traceparent: str = "",
    ) -> Draft:
        observed_at = found_at if sealed_at is None else sealed_at
        return Draft(
            key=key,
            state=state,
            gone=gone,
            freshness=freshness,
            digest=hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(),
            found_at=found_at,
            traceparent=traceparent,
            seal=self._encoder.seal(content, observed_at=observed_at, traceparent=traceparent),
            content=content,
            sealed_at=observed_at,
        )
