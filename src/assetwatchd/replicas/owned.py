"""A source while this process asks it: its scheduler, the interest of other processes in it, and what they ask for."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.model.errors import SourceUnreachable, TooManyAssets
from assetwatchd.model.values import AssetKey
from assetwatchd.replicas import messages
from assetwatchd.replicas.named import WHOLE, decode
from assetwatchd.runtime.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.polling.interest import Interest
    from assetwatchd.polling.scheduler import Scheduler
    from assetwatchd.replicas.interests import Bucket

REMOVED_S = 3.0
"""A removal we were told of is kept by then, or is not waited for any longer."""
REFUSED_EVERY_S = 60.0

OLDER = "the replica that asks it is of an older version, and cannot do that"
RETRY_S = 5.0

log = logging.getLogger(__name__)


class Owned:
    """One source in one term. untold: by process, what it was not told yet of when assets were read."""

    def __init__(self, scheduler: Scheduler, term: int, store: Store, mirror: Mirror, hub: Hub) -> None:
        self.scheduler = scheduler
        self.term = term
        self.untold: dict[str, dict[str, float]] = {}
        self._store = store
        self._mirror = mirror
        self._hub = hub
        self._held: dict[Bucket, Interest] = {}
        self._seldom = Seldom(REFUSED_EVERY_S, 1)

    # Interest of others ----------------------------------------------------------------------------------------------

    async def hold_all(self, told: Mapping[Bucket, bytes]) -> None:
        """Hold all that others watch and that is not held; a bucket that changed meanwhile is as it is then."""
        for bucket, body in list(told.items()):
            if bucket not in self._held and told.get(bucket) == body:
                self.hold(bucket, body)
                await asyncio.sleep(0)

    def hold(self, bucket: Bucket, body: bytes) -> None:
        """Keep of interest what a bucket has now, and then no more what it had before."""
        before = self._held.pop(bucket, None)
        if body:
            whole = bucket[1] == WHOLE
            try:
                names = [] if whole else [name for name in decode(body) if self.scheduler.check(name) is None]
                self._held[bucket] = self.scheduler.interest(names, whole=whole)
            except (TooManyAssets, ValueError) as error:
                if self._seldom.more("refused") is not None:
                    log.warning("not all that clients of other replicas watch is asked for: %s", error)
        if before is not None:
            before.end()

    # What others ask for ---------------------------------------------------------------------------------------------

    async def answer(self, request: pb.AskRequest) -> pb.AskResponse:
        """Do what is asked."""
        answer = pb.AskResponse()
        asset_ids: Sequence[str] = ()
        try:
            asset_ids = await self._do(request)
        except messages.REFUSED as error:
            answer.refusal.CopyFrom(messages.write_refusal(error))
        answer.revision = self._mirror.revision
        answer.observed.extend(messages.observed(self._observed(asset_ids)))
        answer.unseen.extend(
            messages.write_observation(unseen)
            for asset_id in asset_ids
            if (unseen := self.scheduler.unseen(asset_id)) is not None
        )
        return answer

    async def _do(self, request: pb.AskRequest) -> Sequence[str]:
        """Do it, and return about which assets something is to be answered."""
        scheduler = self.scheduler
        match request.WhichOneof("what"):
            case "read":
                read, caller = request.read, tuple(request.caller)
                max_age_s = read.max_age_s if read.HasField("max_age_s") else None
                await scheduler.read(read.asset_ids, max_age_s=max_age_s, caller=caller)
                return read.asset_ids
            case "first_reads":
                with scheduler.interest(request.first_reads.asset_ids):
                    await scheduler.first_reads(request.first_reads.asset_ids)
            case "list":
                await scheduler.listed(request.list.within_s)
            case "retry":
                await scheduler.retry()
            case "touch":
                await scheduler.push_touched(request.touch.asset_ids)
            case "remove":
                await self._remove(request.remove)
            case _:
                raise SourceUnreachable(scheduler.name, OLDER, retry_after_s=RETRY_S)
        return ()

    async def _remove(self, remove: pb.AskRequest.Remove) -> None:
        """Take in a removal; wait until it is kept, so that whoever waits for our revision has it."""
        observation = messages.read_observation(remove.observation)
        key = AssetKey(self.scheduler.name, observation.asset_id)
        with self.scheduler.interest([key.asset_id]), suppress(TimeoutError):
            await self.scheduler.push_removed(observation, remove.traceparent)
            async with asyncio.timeout(REMOVED_S):
                while (entry := self._store.get(key)) is None or not entry.gone:
                    await self._hub.reached(self._hub.head + 1)

    def _observed(self, asset_ids: Sequence[str]) -> dict[str, float]:
        return {each: at for each in asset_ids if (at := self.scheduler.observed_at(each)) is not None}

    # What others are told --------------------------------------------------------------------------------------------

    async def note_observed(self, others: Sequence[str]) -> None:
        """Collect, for each of the others, what was read since; for one that is new, all that was."""
        newly = self.scheduler.newly_observed()
        for gone in self.untold.keys() - set(others):
            del self.untold[gone]
        for other in others:
            if other not in self.untold:
                self.untold[other] = await self.scheduler.all_observed()
            self.untold[other].update(newly)

    def news(self, other: str, count: int, polled_assets: int) -> pb.SourceNews:
        """Return what to tell one of the others, with at most so many assets."""
        figures = self.scheduler.figures
        untold = self.untold.get(other, {})
        return pb.SourceNews(
            source=self.scheduler.name,
            term=self.term,
            observed=messages.observed(dict(islice(untold.items(), count))),
            pushing=self.scheduler.in_step,
            complete=self.scheduler.complete,
            polled_assets=polled_assets,
            calls=figures.calls,
            failed_calls=figures.failed_calls,
            asset_reads=figures.asset_reads,
            changes=figures.changes,
            notices=figures.notices,
        )

    def told(self, other: str, news: pb.SourceNews) -> None:
        """Note that one of the others took that in."""
        untold = self.untold.get(other, {})
        for each in news.observed:
            if untold.get(each.asset_id) == each.at:
                del untold[each.asset_id]
