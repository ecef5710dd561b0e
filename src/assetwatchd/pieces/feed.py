"""One upstream stream, for any number of subscribers: kept connected, each connection an epoch of its own.

An epoch is a store with the latest item of each asset and a hub over it, as for WatchStatus. When the connection
breaks, its epoch stays to be read from; when it is back, a new epoch begins and every subscriber moves over to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from assetwatchd import schedule
from assetwatchd.errors import AssetGone, BadAnswer, CallError, Refused, ResumeEpochChanged, Unreachable, UpstreamError
from assetwatchd.filters import Filter
from assetwatchd.hub import Batch, Bookmark, Conditions, Hub, Started, Synced
from assetwatchd.model import AssetKey, Condition, ConditionState, Freshness, State
from assetwatchd.pieces import frames
from assetwatchd.pieces.api import Stream
from assetwatchd.store import Draft

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from datetime import datetime

    from assetwatchd.config import ServerSettings
    from assetwatchd.hub import Frame
    from assetwatchd.pieces.api import PiecesApi
    from assetwatchd.pieces.frames import Item
    from assetwatchd.store import Store

    Encode: TypeAlias = Callable[[Stream, Item], bytes]

DIGEST_BYTES = 16
INLINE_ITEMS_MAX = 8
"""More items at once, or any with content, are encoded in a thread, so that they do not hold up everybody else."""
TIDY_INTERVAL_S = 60.0
NOT_CONNECTED = "not connected yet"

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What every feed is made with.

    encode: one item as bytes of the schema, its kind (UPSERT) in the last byte. frame: changes to one message.
    """

    make_store: Callable[[], Store]
    encode: Encode
    frame: Frame
    limits: ServerSettings
    rng: random.Random
    now: Callable[[], float]


class Begun(NamedTuple):
    """A snapshot begins; what the subscriber holds is replaced by it. resync: the connection broke and is back."""

    resync: bool
    condition: Condition


Signal: TypeAlias = Begun | Batch | Synced | Bookmark | Conditions


@dataclass
class Epoch:
    """What one connection has told. known: the newest date of each asset. complete: its snapshot is in the store."""

    store: Store
    hub: Hub
    complete: bool
    known: dict[str, datetime] = field(default_factory=dict)
    tidied_at: float = 0.0


class Feed:
    """One stream of one source. Its task alone writes here."""

    def __init__(self, api: PiecesApi, stream: Stream, parts: Parts) -> None:
        store = parts.make_store()
        self.epoch = Epoch(store, _hub(store, parts), complete=False)
        self._api = api
        self._stream = stream
        self._parts = parts
        self._what = Filter(frozenset(), frozenset({api.source}), frozenset())
        self._condition = Condition(ConditionState.UNKNOWN, NOT_CONNECTED, parts.now())
        self._ending: Callable[[], CallError] | None = None

    async def watch(self) -> AsyncGenerator[Signal]:
        """Yield a snapshot (Begun, Batch..., Synced) and what changes after it, again and again after each gap.

        Until there is a first one, only conditions and bookmarks. Ends as Hub.watch does.
        """
        resync = False
        while True:
            epoch = self.epoch
            try:
                async with aclosing(epoch.hub.watch(self._what)) as signals:
                    async for signal in signals:
                        if isinstance(signal, Started) and epoch.complete:
                            yield Begun(resync, self._condition)
                            resync = True
                        elif isinstance(signal, Started):
                            if self._condition.state is not ConditionState.UNKNOWN:
                                yield Conditions({self._api.source: self._condition})
                        elif epoch is self.epoch and (epoch.complete or not isinstance(signal, Synced)):
                            yield signal
            except ResumeEpochChanged:
                continue
            return

    def end(self, why: Callable[[], CallError]) -> None:
        """Let every subscriber, now and later, end with an error of its own."""
        self._ending = why
        self.epoch.hub.end(why)

    async def run(self) -> None:
        """Keep the stream connected until cancelled, with growing pauses between tries."""
        failures = 0
        async with asyncio.TaskGroup() as tasks:
            rounds = Rounds(tasks, self.epoch.hub)
            while True:
                before = self.epoch
                error = await self._broken(rounds)
                failures = 1 if self.epoch is not before else failures + 1
                self._turn(_state(error), str(error))
                pause_s = schedule.backoff_s(failures, self._api.settings, self._parts.rng)
                await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))

    # Connecting ------------------------------------------------------------------------------------------------------

    async def _broken(self, rounds: Rounds) -> UpstreamError:
        """Connect, and take in what comes; return why it ended."""
        try:
            async with self._api.connect(self._stream) as documents:
                await self._begin(await self._everything(documents), rounds)
                async for document in documents:
                    await self._take(frames.items(document, self._stream))
        except UpstreamError as error:
            return error
        except CallError as error:  # the list that goes with the stream was refused
            return BadAnswer(f"{error}: {error.metadata.get('text', '')}")
        except Exception:  # a defect here must not end the stream for good
            log.exception("source %s: stream %s failed", self._api.source, self._stream.value)
            return BadAnswer("the stream failed; see the log")
        return Unreachable("the stream was closed")

    async def _everything(self, documents: AsyncIterator[dict[str, Any]]) -> list[Item]:
        """Return what there is now: the first frame of the identifiers stream, which is known to list every id.

        Whether the others begin with everything is not documented: there, with the stream open, the list is asked for.
        """
        if self._stream is Stream.IDENTIFIERS:
            document = await self._first(documents)
        else:
            document = await self._api.snapshot(transferables=self._stream is Stream.TRANSFERABLES)
        return frames.living(frames.items(document, self._stream))

    async def _first(self, documents: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
        timeout_s = self._api.settings.first_frame_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(documents)
        except TimeoutError:
            raise Unreachable(f"no first frame within {timeout_s:g} s") from None

    async def _begin(self, items: list[Item], rounds: Rounds) -> None:
        """Begin an epoch with everything there is, and move every subscriber over to it."""
        store = self._parts.make_store()
        known = {item.asset_id: item.updated for item in items if item.updated is not None}
        await store.commit(await self._drafts(items))
        before, hub = self.epoch.hub, _hub(store, self._parts)
        self.epoch = Epoch(store, hub, complete=True, known=known, tidied_at=self._parts.now())
        self._turn(ConditionState.HEALTHY, "")
        rounds.turn(hub)
        before.end(lambda: ResumeEpochChanged("the upstream connection is a new one"))
        if self._ending is not None:
            hub.end(self._ending)

    # Taking in -------------------------------------------------------------------------------------------------------

    async def _take(self, items: Sequence[Item]) -> None:
        """Commit what is news, and publish."""
        epoch = self.epoch
        news = [item for item in items if await self._believed(item)]
        drafts = await self._drafts(news)
        await epoch.store.commit(
            [draft for item, draft in zip(news, drafts, strict=True) if not self._repeated(item, draft)]
        )
        epoch.known.update({item.asset_id: item.updated for item in news if item.updated is not None})
        epoch.hub.publish()
        await self._tidy(epoch)

    async def _believed(self, item: Item) -> bool:
        """Whether an item is news: a tombstone always is; what is older than what we know is not.

        What brings back an asset that is gone may only have come late: then the server is asked.
        """
        known = self.epoch.known.get(item.asset_id)
        if item.gone:
            return True
        if frames.overtaken(item.updated, known):
            return False
        entry = self.epoch.store.get(self._key(item))
        if entry is None or not entry.gone or frames.overtaken(known, item.updated):
            return True
        return await self._there(item.asset_id)

    async def _there(self, asset_id: str) -> bool:
        """Ask the server for an asset; when it does not answer, take it to be there, as the stream says."""
        try:
            document = await self._api.get(asset_id, transferables=False)
            return bool(frames.living(frames.items({"iterable": [document]}, Stream.ASSETS)))
        except AssetGone:
            return False
        except (UpstreamError, CallError):
            return True

    def _repeated(self, item: Item, draft: Draft) -> bool:
        """Whether a draft says what the entry says; an undated item may tell of a new change in the same words."""
        entry = self.epoch.store.get(draft.key)
        same = entry is not None and (entry.digest, entry.gone) == (draft.digest, draft.gone)
        return same and (item.gone or item.updated is not None or self._stream is not Stream.IDENTIFIERS)

    async def _drafts(self, items: Sequence[Item]) -> list[Draft]:
        if len(items) <= INLINE_ITEMS_MAX and self._stream is not Stream.TRANSFERABLES:
            return [self._draft(item) for item in items]
        return await asyncio.to_thread(lambda: [self._draft(item) for item in items])

    def _draft(self, item: Item) -> Draft:
        upsert = self._parts.encode(self._stream, item)
        return Draft(
            key=self._key(item),
            state=State.DELETED if item.gone else State.AVAILABLE,
            gone=item.gone,
            freshness=Freshness.FRESH,
            digest=hashlib.blake2b(upsert, digest_size=DIGEST_BYTES).digest(),
            committed_at=self._parts.now(),
            traceparent="",
            seal=lambda _: upsert,
        )

    async def _tidy(self, epoch: Epoch) -> None:
        """Forget tombstones that no subscriber can still be waiting for: no stream is that old."""
        now = self._parts.now()
        if now - epoch.tidied_at < TIDY_INTERVAL_S:
            return
        epoch.tidied_at = now
        await epoch.store.drop_gone(before=now - 2 * self._parts.limits.stream_age_s, keep=lambda _: False)
        held = {key.asset_id for key in epoch.store.keys(self._api.source)}
        epoch.known = {asset_id: at for asset_id, at in epoch.known.items() if asset_id in held}

    def _key(self, item: Item) -> AssetKey:
        return AssetKey(self._api.source, item.asset_id)

    def _turn(self, state: ConditionState, message: str) -> None:
        """Tell the subscribers how the connection is doing, if that is news."""
        before = self._condition
        if (state, message) == (before.state, before.message):
            return
        now = self._parts.now()
        since = before.since if before.state is state else now
        success_at = now if state is ConditionState.HEALTHY else before.last_success_at
        self._condition = Condition(state, message, since, success_at)
        self.epoch.hub.tell(self._api.source, self._condition)


class Rounds:
    """The task that runs the hub of the epoch there is."""

    def __init__(self, tasks: asyncio.TaskGroup, hub: Hub) -> None:
        self._tasks = tasks
        self._task = tasks.create_task(hub.run())

    def turn(self, hub: Hub) -> None:
        """Run this hub from now on."""
        self._task.cancel()
        self._task = self._tasks.create_task(hub.run())


def _hub(store: Store, parts: Parts) -> Hub:
    return Hub(store, parts.frame, heartbeat_s=parts.limits.heartbeat_s, stream_age_s=parts.limits.stream_age_s)


def _state(error: UpstreamError) -> ConditionState:
    if isinstance(error, Refused):
        return ConditionState.REFUSED
    return ConditionState.UNREACHABLE if isinstance(error, Unreachable) else ConditionState.DEGRADED
