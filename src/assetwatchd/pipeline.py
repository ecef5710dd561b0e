"""Ingest: sighting -> diff -> commit -> publish."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from assetwatchd import telemetry
from assetwatchd.errors import StoreError
from assetwatchd.model import GONE, AssetKey, Freshness, State
from assetwatchd.store import Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from assetwatchd.hub import Hub
    from assetwatchd.model import Entry, Observation
    from assetwatchd.store import Store

DIGEST_BYTES = 16
ENCODING_S = 0.005
"""Encoding what was seen together lets others have a turn after so long; the largest single status takes as long."""
STORE_RETRY_S = 1.0
"""How often a store that cannot keep what it is given is tried again."""

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


class Encoder(Protocol):
    """Turns model values into bytes of the schema, so that the core stays free of protobuf."""

    def content(self, source: str, observation: Observation) -> bytes:
        """Encode what makes two statuses equal or not: everything but the moment of the read and the revision."""
        ...

    def stale(self, entry: Entry) -> bytes:
        """Encode the content of an entry again, its freshness STALE."""
        ...

    def seal(self, content: bytes, *, observed_at: float, traceparent: str) -> Callable[[int], bytes]:
        """Return a function that makes the whole change once its revision is known."""
        ...


class Pipeline:
    """The road of one process. Each source ingests from one task, so no asset is on it twice at once."""

    def __init__(
        self, store: Store, hub: Hub, encoder: Encoder, *, store_failing: Callable[[str], None] = lambda _: None
    ) -> None:
        """store_failing is told why the store cannot keep what it is given, and the empty text once it can again."""
        self._store = store
        self._hub = hub
        self._encoder = encoder
        self._store_failing = store_failing

    async def ingest(self, source: str, sightings: Sequence[Sighting]) -> int:
        """Commit what differs from what is known, the last sighting of each asset; publish; return how many did."""
        last = {sighting.observation.asset_id: sighting for sighting in sightings}
        drafts = await self._all_drafted(source, last.values())
        await self._commit(source, drafts)
        return len(drafts)

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

    async def mark_stale(self, key: AssetKey, *, at: float, observed_at: float | None = None) -> None:
        """Commit that an asset's own reads fail while its source is well; nothing if it was never read, or is gone.

        at: now; observed_at: when it was last read (s since 1970), if that is known better than by its entry.
        """
        known = self._store.get(key)
        if known is None or known.gone or known.freshness is Freshness.STALE:
            return
        content = self._encoder.stale(known)
        observed_at = known.found_at if observed_at is None else observed_at
        stale = self._draft(key, known.state, content, at, sealed_at=observed_at, freshness=Freshness.STALE)
        await self._commit(key.source, [stale])

    async def _commit(self, source: str, drafts: Sequence[Draft]) -> None:
        if drafts:
            with telemetry.commit(source, len(drafts)):
                telemetry.link_delivery(draft.traceparent for draft in drafts)
                await self._keep(drafts)
            telemetry.record_changes(source, len(drafts))
            self._hub.publish()

    async def _keep(self, drafts: Sequence[Draft]) -> None:
        """Commit, again and again while the store cannot: what was seen waits here, and readers have what was kept."""
        failing = False
        while True:
            try:
                await self._store.commit(drafts)
            except StoreError as error:
                if not failing:
                    log.warning("statuses cannot be kept, trying again every %g s: %s", STORE_RETRY_S, error)
                    self._store_failing(error.told)
                failing = True
                await asyncio.sleep(STORE_RETRY_S)
            else:
                break
        if failing:
            log.info("statuses are kept again")
            self._store_failing("")

    def _drafted(self, source: str, sighting: Sighting) -> Draft | None:
        """Diff; what cannot be encoded is logged and left out, so that one odd value does not stop a source."""
        try:
            return self._diff(source, sighting)
        except Exception:
            log.exception("source %s: an asset's status cannot be encoded", source)
            return None

    def _diff(self, source: str, sighting: Sighting) -> Draft | None:
        observation = sighting.observation
        key = sighting.key or AssetKey(source, observation.asset_id)
        known = self._store.get(key)
        if known is not None and known.state is State.DELETED and observation.state is State.MISSING:
            return None  # that it is not there is no news of what is known to be deleted
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
        return Draft(
            key=key,
            state=state,
            gone=gone,
            freshness=freshness,
            digest=hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(),
            found_at=found_at,
            traceparent=traceparent,
            seal=self._encoder.seal(
                content, observed_at=found_at if sealed_at is None else sealed_at, traceparent=traceparent
            ),
        )
