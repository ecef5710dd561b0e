"""One source as the others see it: interest in its assets, reads on demand, how it is doing, what it pushes.

The work is done by its parts: plan.py knows who is interested in what and when it is read next, calls.py makes the
upstream calls, outcomes.py takes what they saw onto the road, push.py follows a source that pushes.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import nullcontext, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.pipeline import Sighting
from assetwatchd.model.errors import SourceUnreachable, TooManyReads
from assetwatchd.model.values import Freshness, Observation
from assetwatchd.polling.calls import Calls
from assetwatchd.polling.outcomes import Outcomes
from assetwatchd.polling.plan import Plan
from assetwatchd.polling.push import Push
from assetwatchd.polling.report import Report
from assetwatchd.polling.stats import Figures
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.fairness import NOBODY, Quota
from assetwatchd.runtime.slices import finish, in_turns, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from assetwatchd.changefeed.pipeline import Pipeline
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import AssetKey, Condition, Entry, SourceKind
    from assetwatchd.polling.interest import Interest
    from assetwatchd.polling.target import Target
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities, Upstream


class Found(NamedTuple):
    """What was known of a source by whoever asked it before, beside what the store has.

    condition: as it was told last. observed: when the asset was read last, by id (s since 1970).
    in_turns: what the store has is found by `restore`, before anything else is asked of the scheduler.
    """

    condition: Condition | None = None
    observed: Mapping[str, float] = MappingProxyType({})
    in_turns: bool = False


NOTHING_FOUND = Found()
ENDED = "it is not asked here any more"


class Asked(NamedTuple):
    """Reads that one call waits for together, and the end of them all."""

    over: asyncio.Future[list[None]]
    reads: Sequence[tuple[Target, asyncio.Future[None]]]


class Scheduler:
    """Polls one source for those who are interested, follows its pushes, and tells how it is doing.

    Implements Source. It may be made and ended at any time: what is found of an earlier one is no news.
    """

    def __init__(
        self,
        name: str,
        kind: SourceKind,
        upstream: Upstream,
        settings: SourceSettings,
        *,
        store: Store,
        pipeline: Pipeline,
        tell: Callable[[str, Condition], None],
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        found: Found = NOTHING_FOUND,
    ) -> None:
        self.name = name
        self.kind = kind
        self.upstream = upstream
        self.settings = settings
        self.figures = Figures()
        self._pipeline = pipeline
        self._now = now
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._plan = Plan(name, settings, upstream.capabilities, store)
        self._outcomes = Outcomes(name, self._plan, pipeline, self.figures, now)
        self._report = Report(name, settings, tell=tell, now=now, rng=self._rng)
        self._calls = Calls(
            name,
            upstream,
            settings,
            report=self._report,
            plan=self._plan,
            outcomes=self._outcomes,
            figures=self.figures,
            rng=self._rng,
        )
        self._push = self._bridge()
        self._reads = Quota(settings.reads_per_peer_max)
        self._restoring = self._plan.restore(found.observed)
        if not found.in_turns:
            for _ in self._restoring:
                pass
        if found.condition is not None:
            self._report.begin_with(found.condition)

    async def restore(self) -> None:
        """Know again what the store knows, of 100,000 assets in most of a second; others have turns meanwhile."""
        await finish(self._restoring)

    def _bridge(self) -> Push:
        return Push(
            self.name,
            self.upstream,
            self.settings,
            plan=self._plan,
            report=self._report,
            calls=self._calls,
            outcomes=self._outcomes,
            figures=self.figures,
            now=self._now,
            rng=self._rng,
        )

    async def run(self) -> None:
        """Run the source's loops until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._plan.run(), name=f"{self.name}.plan")
            tasks.create_task(self._outcomes.run(), name=f"{self.name}.outcomes")
            if self.upstream.capabilities.pushes:
                tasks.create_task(self._push.follow(), name=f"{self.name}.push")
            tasks.create_task(self._calls.follow_secret(), name=f"{self.name}.secret")
            await self._calls.run()

    def end(self) -> None:
        """Let nobody wait any longer: it does not run any more, and never will."""
        self._outcomes.all_failed(self._report.end(ENDED))

    async def close(self) -> None:
        """Give back the connections of its adapter."""
        await self.upstream.close()

    @property
    def capabilities(self) -> Capabilities:
        """What the upstream can be asked."""
        return self.upstream.capabilities

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of the upstream; None when it can be one."""
        return self.upstream.check(asset_id)

    # How it is doing -------------------------------------------------------------------------------------------------

    @property
    def condition(self) -> Condition:
        """How the source is doing."""
        return self._report.health.condition

    @property
    def readable(self) -> bool:
        """Whether what the source says now can be had."""
        return self._report.health.state.is_readable

    async def retry(self) -> None:
        """Have all that fails of the source tried at once, by hand; return once that is over. Raises: RetryTooSoon."""
        await self._calls.retry()

    @property
    def complete(self) -> bool:
        """Whether what is known of it is all there is: since it could not be read last, it was listed and read.

        Of a source that cannot list, all there is are the pins, and what was found by name.
        """
        listed = self._calls.lists.complete or not self.upstream.capabilities.enumerates
        return self.readable and listed and not self._plan.targets.untold

    @property
    def pushing(self) -> bool:
        """Whether its changes are pushed now."""
        return self._plan.pushing

    async def polled_assets(self) -> int:
        """How many assets somebody is interested in now, or (of many) was a moment ago."""
        return await self._plan.interests.count()

    @property
    def owner(self) -> str | None:
        """Nobody else asks the upstream."""
        return None

    @property
    def watchers_elsewhere(self) -> int:
        """None: whoever watches does so here."""
        return 0

    @property
    def interested(self) -> bool:
        """Whether anybody is interested in anything here."""
        return self._plan.interests.any

    def wanted(self, asset_id: str) -> bool:
        """Whether anybody is interested in an asset now."""
        target = self._plan.targets.get(asset_id)
        return target is not None and self._plan.interests.wanted(target)

    def names(self, asset_ids: Iterable[str]) -> list[AssetKey]:
        """Return the keys of those assets that are of interest, for each the one object that all share."""
        return [target.key for asset_id in asset_ids if (target := self._plan.targets.get(asset_id)) is not None]

    def observed_at(self, asset_id: str) -> float | None:
        """When the read began that found what is known of the asset (s since 1970); None if there was none."""
        target = self._plan.targets.get(asset_id)
        return None if target is None else target.knowledge.current_at

    def newly_observed(self) -> dict[str, float]:
        """Return which assets were read since this was called last, and when; the first time, none."""
        asset_ids, self._outcomes.observed = self._outcomes.observed or (), set()
        return self._observed(asset_ids)

    async def all_observed(self) -> dict[str, float]:
        """Return when each asset was read last; others have turns meanwhile."""
        observed: dict[str, float] = {}
        async for targets in in_turns(self._plan.targets.slices()):
            observed.update(self._observed(target.asset_id for target in targets))
        return observed

    def _observed(self, asset_ids: Iterable[str]) -> dict[str, float]:
        return {asset_id: at for asset_id in asset_ids if (at := self.observed_at(asset_id)) is not None}

    @property
    def in_step(self) -> bool:
        """Whether its changes are pushed, and all that came before was taken in."""
        return self.pushing and not self._push.taking_in

    def unseen(self, asset_id: str) -> Observation | None:
        """What the last read said of an asset that is not there and never was; the store has nothing of it."""
        target = self._plan.targets.get(asset_id)
        return None if target is None else target.knowledge.negative_result

    def trouble(self, asset_id: str) -> str:
        """Why what the source says now of an asset cannot be had; empty when nothing is known to be in the way."""
        if not self.readable:
            return self.condition.message
        target = self._plan.targets.get(asset_id)
        return "" if target is None else target.knowledge.why_unread

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry of this source can be trusted now."""
        if entry.freshness is Freshness.STALE and self.readable:
            return Freshness.STALE
        return self._freshness(entry.key.asset_id, entry.found_at)

    def freshness_unseen(self, asset_id: str) -> Freshness:
        """How far it can be trusted now that an asset never was."""
        return self._freshness(asset_id, 0.0)

    def _freshness(self, asset_id: str, found_at: float) -> Freshness:
        if not self.readable:
            return Freshness.UNREACHABLE
        target = self._plan.targets.get(asset_id)
        if target is not None and target.knowledge.why_unread and self._report.health.failing:
            return Freshness.STALE  # its last read failed, and so would the next
        observed_at = None if target is None else target.knowledge.current_at
        age_max_s = 2 * max(self.settings.settled_interval_s, self.settings.busy_interval_s)
        told = self.in_step and target is not None and observed_at is not None and not target.dirty
        fresh = told or self._now() - (observed_at or found_at) <= age_max_s
        return Freshness.FRESH if fresh else Freshness.STALE

    # Interest and reads ----------------------------------------------------------------------------------------------

    def interest(self, asset_ids: Iterable[str], *, whole: bool = False, caller: Caller = NOBODY) -> Interest:
        """Keep assets by name, or the whole source, up to date from now on; caller: in whose turns they are read first.

        Raises: TooManyAssets, having taken nothing.
        """
        interest = self._plan.interest(asset_ids, whole=whole, caller=caller)
        self._push.interest_begun.set()
        if whole:
            self._calls.lists.want()
        return interest

    def join(self, asset_ids: Iterable[str], caller: Caller) -> None:
        """Have assets, all of interest already, read in the turns of this caller too if they were never read."""
        self._plan.join(asset_ids, caller)

    def leave(self, caller: Caller) -> Iterator[None]:
        """Withdraw a caller's requests for assets that were never read; in steps, as `Plan.leave`."""
        return self._plan.leave(caller)

    async def read(self, asset_ids: Iterable[str], *, max_age_s: float | None, caller: Caller = NOBODY) -> None:
        """Return once each asset was read at most max_age_s ago (None: ever); reads under way are shared.

        Callers take turns. A read that is not waited for any more is not made, unless others want it.
        A read may fail where any age will do and something is known, though it was said since that it changed.
        Raises: TooManyAssets, TooManyReads; SourceUnreachable when a read was needed and failed.
        """
        targets: list[Target] = []
        self._plan.interests.attend()
        self._push.interest_begun.set()
        try:
            await self._read(list(dict.fromkeys(asset_ids)), max_age_s, caller, targets)
        except SourceUnreachable:
            await self._linger(targets)
            raise
        await self._linger(targets)

    async def _read(self, names: Sequence[str], max_age_s: float | None, caller: Caller, targets: list[Target]) -> None:
        """Put the assets' targets into the list, and have those read that must be; SLICE a turn of the loop."""
        refusal = self._report.refusal()
        count = 0 if refusal else sum(not self._fresh_enough(self._plan.targets.get(name), max_age_s) for name in names)
        with self._place(caller, count):
            asked: list[Asked] = []
            try:
                for part in slices(names):
                    if targets:
                        await asyncio.sleep(0)
                    claimed = self._plan.targets.claim(part, caller)
                    targets += claimed
                    needed = [target for target in claimed if not self._fresh_enough(target, max_age_s)]
                    helpful = {target for target in needed if max_age_s is None and self._plan.targets.known(target)}
                    if refusal is not None and len(helpful) < len(needed):
                        raise refusal
                    if refusal is None and needed:
                        asked.append(self._ask(needed, helpful, caller))
                if asked:
                    await _all(asked)
            finally:
                if asked:
                    await finish(self._give_up(asked, caller))

    def _place(self, caller: Caller, count: int) -> AbstractContextManager[None]:
        """Count so many reads as the caller's while the context lasts. Most ask for what is known, and have none."""
        if not count:
            return nullcontext()
        return self._reads.held(caller, count, refusal=TooManyReads(self.name, caller[0], self._reads.limit))

    def _ask(self, needed: Iterable[Target], helpful: Container[Target], caller: Caller) -> Asked:
        reads = [(target, self._outcomes.waiters.demand(target, caller=caller)) for target in needed]
        over = asyncio.gather(*[_at_best(read) if target in helpful else read for target, read in reads])
        over.add_done_callback(_heard)
        return Asked(over, reads)

    def _give_up(self, asked: Sequence[Asked], caller: Caller) -> Iterator[None]:
        left = self._plan.leave(caller)
        for over, reads in asked:
            over.cancel()
            self._outcomes.waiters.give_up(reads)
            yield
        yield from left

    async def _linger(self, targets: Sequence[Target]) -> None:
        for number, part in enumerate(slices(targets)):
            if number:
                await asyncio.sleep(0)
            self._plan.linger(part)

    async def first_reads(self, asset_ids: Iterable[str]) -> None:
        """Wait until each of many assets, all of interest already, was read once, as far as that can be had."""
        for part in slices(asset_ids):
            targets = (self._plan.targets.get(asset_id) for asset_id in part)
            await self._first_reads(target for target in targets if target is not None and self._plan.unread(target))
            await asyncio.sleep(0)

    async def listed(self, timeout_s: float) -> None:
        """Have the whole source in view for a while; return once it was listed and read, or after timeout_s.

        A source that cannot list has every asset read that is known here.
        """
        self._plan.view_whole()
        self._calls.lists.want()
        self._push.interest_begun.set()
        if self._report.health.failing:
            return
        try:
            async with asyncio.timeout(timeout_s):
                if self.upstream.capabilities.enumerates:
                    await self._calls.lists.made.wait()
                for targets in self._plan.targets.slices():
                    await self._first_reads(target for target in targets if self._plan.unread(target))
                    await asyncio.sleep(0)
        except TimeoutError:
            return

    async def _first_reads(self, unread: Iterable[Target]) -> None:
        """Wait until all were read once; they are read in line.

        One is waited for at a time: it is read when its turn comes all the same, and most are by then that follow it.
        """
        for target in unread:
            if self._report.refusal() is not None:
                return
            await _at_best(self._outcomes.waiters.demand(target, at=loop_time()))

    async def tidy(self, *, forget_after_s: float) -> None:
        """Forget assets nobody has wanted for that long, and targets whose asset is gone."""
        before = self._now() - forget_after_s
        for targets in self._plan.targets.slices():
            for target in targets:
                if not (self._plan.interests.wanted(target) or target.under_way):
                    self._tidy(target, before=before)
            await asyncio.sleep(0)

    def _tidy(self, target: Target, *, before: float) -> None:
        entry = self._plan.targets.entry(target)
        if target.presence.listed and not self._is_there(target):
            self._plan.targets.unlist(target)
        if entry is None or entry.gone:
            if not target.presence.listed:
                self._plan.targets.drop(target)
        elif max(target.knowledge.current_at or 0.0, entry.found_at) < before:
            last = Observation(target.asset_id, entry.state)
            self._outcomes.told(target, Sighting(last, self._now(), forgotten=True))

    def _is_there(self, target: Target) -> bool:
        """Whether a target is there as far as is pushed: no list will say so again to who wants the whole one day."""
        return self.pushing and target.presence.absences == 0

    def _fresh_enough(self, target: Target | None, max_age_s: float | None) -> bool:
        observed_at = None if target is None else target.knowledge.current_at
        if observed_at is None:
            return False
        return max_age_s is None or (max_age_s > 0 and self._now() - observed_at <= max_age_s)

    def store_failing(self, why: str) -> None:
        """Our store cannot keep what the source says, so fresh reads are refused; empty: it can again."""
        self._report.note(self._report.health.store_lost(why, self._now()))
        if why:
            self._outcomes.all_failed(self._report.unreachable(self._report.health.store.message))

    # What is known of a change before it is pushed -------------------------------------------------------------------

    async def push_touched(self, asset_ids: Iterable[str]) -> None:
        """Have assets that changed upstream read at once, and once more if they are being read."""
        self._push.touched(asset_ids)

    async def push_removed(self, observation: Observation, traceparent: str) -> None:
        """Take in that an asset was deleted; reads under way are older and no longer count."""
        self._push.removed(observation, traceparent)


def _heard(over: asyncio.Future[list[None]]) -> None:
    """Have nothing logged of an end that nobody waits for any more."""
    if not over.cancelled():
        over.exception()


async def _all(asked: Sequence[Asked]) -> None:
    """Wait until all is read, or a read that was needed has failed."""
    done, _ = await asyncio.wait([each.over for each in asked], return_when=asyncio.FIRST_EXCEPTION)
    failures = [failure for over in done if (failure := over.exception()) is not None]
    if failures:
        raise failures[0]


async def _at_best(read: asyncio.Future[None]) -> None:
    """Wait for a read that may fail."""
    with suppress(SourceUnreachable):
        await read
