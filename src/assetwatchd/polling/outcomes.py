"""How the reads of one source end: what they saw goes onto the road, and those who wait are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.pipeline import Unread
from assetwatchd.model.values import GONE, State, unreadable
from assetwatchd.polling.agenda import AT_ONCE, NEVER
from assetwatchd.polling.troubles import Troubles
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.fairness import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatchd.changefeed.pipeline import Pipeline, Sighting
    from assetwatchd.model.errors import SourceUnreachable
    from assetwatchd.model.values import Observation
    from assetwatchd.polling.agenda import Target
    from assetwatchd.polling.plan import Plan
    from assetwatchd.runtime.fairness import Caller

DOUBT_S = 1.0
"""A read that misses an asset which was there is repeated after this; only then is it believed."""
SEEN_TOGETHER = 200
"""So many sightings go onto the road together, at 30 us each; a whole source may be gone, or forgotten, at once."""


@dataclass(slots=True)
class Figures:
    """What asking the source has cost; named as in the schema's PollFigures."""

    calls: int = 0
    failed_calls: int = 0
    asset_reads: int = 0
    changes: int = 0
    notices: int = 0


class Seen(NamedTuple):
    """Something for the road: what was seen of a target, or (None) that its own reads keep failing: see its trouble.

    generation: of the target, when it was seen. Raised since then, something newer is known, or to be read.
    by_read: a read saw it, and is over once it is in the store; else it was a notice, a list or the forgetting.
    """

    target: Target
    sighting: Sighting | None
    generation: int
    by_read: bool = False


class Outcomes:
    """The inbox of the road, and the waiters. One task, `run`, empties the inbox in the order it was filled."""

    def __init__(self, name: str, plan: Plan, pipeline: Pipeline, figures: Figures, now: Callable[[], float]) -> None:
        self._name = name
        self._figures = figures
        self._plan = plan
        self._pipeline = pipeline
        self._now = now
        self._inbox: list[Seen] = []
        self._arrived = asyncio.Event()
        self._troubles = Troubles(name)
        self._awaited: dict[Target, set[asyncio.Future[None]]] = {}

    async def run(self) -> None:
        """Take sightings onto the road, those together that wait; until cancelled."""
        while True:
            await self._arrived.wait()
            inbox, self._inbox = self._inbox[:SEEN_TOGETHER], self._inbox[SEEN_TOGETHER:]
            if not self._inbox:
                self._arrived.clear()
            kept = {seen.target for seen in inbox if not self._never_there(seen)}
            sightings = [
                self._keyed(seen.target, seen.sighting)
                for seen in inbox
                if seen.sighting is not None and seen.target in kept
            ]
            committed = {entry.key for entry in await self._pipeline.ingest(self._name, sightings)}
            self._figures.changes += len(committed)
            for seen in inbox:
                if seen.sighting is None:
                    continue
                if seen.target in kept:
                    self._plan.remember(seen.target, negative_result=None)
                    self._stored(seen, seen.sighting, changed=seen.target.key in committed)
                else:
                    self._answer_absent(seen, seen.sighting)
            await self._mark_unread(seen.target for seen in inbox if seen.sighting is None)
            await asyncio.sleep(0)  # a store that keeps without waiting holds nobody up

    def _keyed(self, target: Target, sighting: Sighting) -> Sighting:
        return sighting._replace(key=target.key, unproven=self._unproven(target, sighting.observation))

    def _answer_absent(self, seen: Seen, sighting: Sighting) -> None:
        """Note that an asset never was there, which the store was not given; see anew if somebody named it since."""
        if _told_to(seen.target) and seen.target.generation == seen.generation:
            self._see(seen)
            return
        self._plan.remember(seen.target, negative_result=sighting.observation)
        self._stored(seen, sighting, changed=False)

    @property
    def waiting(self) -> int:
        """How many sightings the road has not taken yet."""
        return len(self._inbox)

    # What was seen ---------------------------------------------------------------------------------------------------

    def read(self, target: Target, sighting: Sighting, *, generation: int) -> None:
        """A read that began in that generation of the target ended well."""
        self._troubles.over(target)
        if target.generation != generation:
            self._ended(target)
        elif self._doubtful(target, sighting.observation):
            target.missing_unconfirmed = True
            self._plan.finish_read(target, retry_at=loop_time() + DOUBT_S)
        else:
            target.dirty = target.refetch
            self._see(Seen(target, sighting, generation, by_read=True))
            if sighting.observation.state not in GONE:
                target.answer = sighting.observation.answer

    def unchanged(self, target: Target, observed_at: float, *, generation: int) -> None:
        """A read that began in that generation of the target ended well, with the answer that the store has already."""
        self._troubles.over(target)
        if target.generation == generation:
            target.dirty, target.missing_unconfirmed = target.refetch, False
            target.observed_at, target.unchanged_reads = observed_at, target.unchanged_reads + 1
        self._ended(target)

    def told(self, target: Target, sighting: Sighting) -> None:
        """It is known otherwise than by a read what the target is; reads under way are older and no longer count."""
        target.generation += 1
        target.dirty = False
        self._plan.cancel(target)
        self._see(Seen(target, sighting, target.generation))

    def outdated(self, target: Target) -> None:
        """A target nobody wants was touched. Reads under way are older and no longer count."""
        target.generation += 1
        self._plan.cancel(target)
        self._plan.invalidate(target)

    def failing(self, target: Target) -> None:
        """Log, and put onto the road, that the target's own reads keep failing while the source is well."""
        self._troubles.persists(target, loop_time())
        self._see(Seen(target, None, target.generation))

    def failed(self, target: Target, error: SourceUnreachable, *, why: str, retry_at: float) -> None:
        """End a failed read of the target; why: the error without the source's name."""
        self._troubles.failed(target, why)
        self._plan.tried(target)
        self._plan.finish_read(target, retry_at=retry_at)
        self._answer(target, error)

    def all_failed(self, error: SourceUnreachable) -> None:
        """The source fails: nobody need wait for it."""
        for target in list(self._awaited):
            self._answer(target, error)

    # Waiters ---------------------------------------------------------------------------------------------------------

    def demand(self, target: Target, *, at: float = AT_ONCE, caller: Caller = NOBODY) -> asyncio.Future[None]:
        """Return a future for the read of a target that is under way, or for one that is due at that time.

        caller: who asks for it at once, and has it read when it is their turn.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        in_doubt = target.missing_unconfirmed and target.due <= loop_time() + DOUBT_S
        under_way = target.reading or (target.awaited and target.due == NEVER) or in_doubt
        if not under_way and (at == AT_ONCE or at < target.due):
            self._plan.reschedule(target, at, caller)
        self._awaited.setdefault(target, set()).add(future)
        target.awaited = True
        self._plan.note(target)
        future.add_done_callback(lambda done: self._left(target, done))
        return future

    def give_up(self, reads: Iterable[tuple[Target, asyncio.Future[None]]]) -> None:
        """Cancel the waits that are not over."""
        for target, future in reads:
            if future.cancel() or future.cancelled():
                self._left(target, future)

    def _left(self, target: Target, future: asyncio.Future[None]) -> None:
        if future in self._awaited.get(target, ()):
            self._awaited[target].discard(future)
            if not self._awaited[target]:
                self._nobody_waits(target)
                self._plan.cancel_unwanted(target)

    def _nobody_waits(self, target: Target) -> None:
        self._awaited.pop(target, None)
        target.awaited = False
        self._plan.note(target)

    def _answer(self, target: Target, error: SourceUnreachable | None) -> None:
        for future in self._awaited.get(target, ()):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        self._nobody_waits(target)

    # The road --------------------------------------------------------------------------------------------------------

    def _see(self, seen: Seen) -> None:
        seen.target.answer = b""
        self._inbox.append(seen)
        self._arrived.set()

    def _stored(self, seen: Seen, sighting: Sighting, *, changed: bool) -> None:
        """The store is as new as what was seen."""
        target = seen.target
        target.missing_unconfirmed = False
        if target.generation == seen.generation:
            target.observed_at = None if sighting.forgotten else sighting.observed_at
        target.unchanged_reads = 0 if changed else target.unchanged_reads + 1
        if seen.by_read:
            self._ended(target)
            return
        self._answer(target, None)
        if sighting.forgotten:
            self._plan.ensure_scheduled(target)
        elif target.due == NEVER and not target.reading:
            self._plan.finish_read(target)

    def _ended(self, target: Target) -> None:
        self._plan.finish_read(target)
        self._answer(target, None)

    def _doubtful(self, target: Target, observation: Observation) -> bool:
        """Whether a read that misses an asset we know must be confirmed first."""
        known = self._plan.entry(target)
        there = known is not None and not known.gone
        return observation.state is State.MISSING and there and not target.missing_unconfirmed

    def _never_there(self, seen: Seen) -> bool:
        """Whether it is said of an asset nobody ever saw that it is not there, or nothing at all: no news to anybody.

        It is kept for those who named it. Who only reads it is answered without, so that asking fills no store.
        """
        nothing = seen.sighting is None or seen.sighting.observation.proves_nothing
        return nothing and not _told_to(seen.target) and self._plan.entry(seen.target) is None

    def _unproven(self, target: Target, observation: Observation) -> bool:
        """Whether nobody is to be told but who names it: nothing but the name says that there is such an asset."""
        proven = target.listed or target.pinned or not self._plan.is_stranger(target)
        return observation.proves_nothing and not proven

    async def _mark_unread(self, targets: Iterable[Target]) -> None:
        """Say of targets why they cannot be read, to whom it concerns; those that were read meanwhile can be."""
        failing = [target for target in targets if target.failures and self._concerns_somebody(target)]
        await self._pipeline.mark_unread(self._name, map(self._unread, failing), at=self._now())
        for target in failing:
            self._plan.remember(target, negative_result=None)

    def _unread(self, target: Target) -> Unread:
        unproven = self._unproven(target, unreadable(target.asset_id, target.trouble))
        return Unread(target.key, target.trouble, target.observed_at, unproven, target.back)

    def _concerns_somebody(self, target: Target) -> bool:
        """Whether there is an entry to mark, or to make, for somebody; a read alone is answered without."""
        entry = self._plan.entry(target)
        if entry is None and not _told_to(target):
            self._plan.remember(target, negative_result=unreadable(target.asset_id, target.trouble))
            return False
        return entry is None or not entry.gone or bool(target.named or target.pinned or target.back)


def _told_to(target: Target) -> bool:
    """Whether somebody is to be told of a target, though nobody ever saw it: they named it, or a list did."""
    return bool(target.named or target.pinned or target.listed)
