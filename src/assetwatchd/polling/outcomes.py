"""How the reads of one source end: what they saw goes to the store, and those who wait are told.

Tells each target what became of its read, in the order that its phases allow. Must not know when it is read next, nor
what a call is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.pipeline import Unread
from assetwatchd.model.values import GONE, State, unreadable
from assetwatchd.polling import waiters
from assetwatchd.polling.target import Phase
from assetwatchd.polling.troubles import Troubles
from assetwatchd.polling.waiters import Waiters
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatchd.changefeed.pipeline import Pipeline, Sighting
    from assetwatchd.model.errors import SourceUnreachable
    from assetwatchd.model.values import Observation
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.stats import Figures
    from assetwatchd.polling.target import Target

SEEN_TOGETHER = 200
"""So many sightings go onto the road together, at 30 us each; a whole source may be gone, or forgotten, at once."""


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
    """Applies read results, commits them, completes waiters. One task, `run`, empties the inbox in the order it came.

    waiters: who waits for reads to end. observed: assets that were read since somebody looked; None: nobody does.
    """

    def __init__(self, name: str, plan: Plan, pipeline: Pipeline, figures: Figures, now: Callable[[], float]) -> None:
        self._name = name
        self._figures = figures
        self._plan = plan
        self.waiters = Waiters(plan)
        self._pipeline = pipeline
        self._now = now
        self._inbox: list[Seen] = []
        self._arrived = asyncio.Event()
        self._troubles = Troubles(name)
        self.observed: set[str] | None = None

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
            entries = await self._pipeline.ingest(self._name, sightings)
            self._figures.changes += len(entries)
            committed = {entry.key for entry in entries}
            for seen in inbox:
                if seen.sighting is None:
                    continue
                if seen.target in kept:
                    self._plan.targets.remember(seen.target, negative_result=None)
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
        self._plan.targets.remember(seen.target, negative_result=sighting.observation)
        self._stored(seen, sighting, changed=False)

    @property
    def waiting(self) -> int:
        """How many sightings the road has not taken yet."""
        return len(self._inbox)

    # What was seen ---------------------------------------------------------------------------------------------------

    def read(self, target: Target, sighting: Sighting, *, generation: int) -> None:
        """A read that began in that generation of the target ended well."""
        self._troubles.over(target)
        if target.generation != generation:  # first of all: an overtaken read neither counts nor raises a doubt
            target.end()
            self._over(target)
        elif self._doubtful(target, sighting.observation):
            target.end()
            self._plan.targets.doubt(target)
            # Its waiters are not told: they wait for the read that is to confirm it.
            self._plan.schedule_next(target, retry_at=loop_time() + waiters.DOUBT_S)
        else:
            target.answer()
            self._see(Seen(target, sighting, generation, by_read=True))
            if sighting.observation.state not in GONE:
                target.knowledge.send(sighting.observation.answer)

    def unchanged(self, target: Target, observed_at: float, *, generation: int) -> None:
        """A read that began in that generation of the target ended well, with the answer that the store has already."""
        self._troubles.over(target)
        if target.generation == generation:
            target.unchanged()
            if target.presence.missing_unconfirmed:
                self._plan.targets.settle(target)
            target.knowledge.confirm(observed_at)
            self._note_observed(target)
        else:
            target.end()
        self._over(target)

    def told(self, target: Target, sighting: Sighting) -> None:
        """It is known otherwise than by a read what the target is; reads under way are older and no longer count."""
        self._plan.overtake(target)
        self._see(Seen(target, sighting, target.generation))

    def outdated(self, target: Target) -> None:
        """A target nobody wants was touched. Reads under way are older and no longer count."""
        self._plan.overtake(target)
        target.invalidate()

    def failing(self, target: Target) -> None:
        """Log, and put onto the road, that the target's own reads keep failing while the source is well."""
        self._troubles.persists(target, loop_time())
        self._see(Seen(target, None, target.generation))

    def failed(self, target: Target, error: SourceUnreachable, *, why: str, retry_at: float) -> None:
        """End a failed read of the target; why: the error without the source's name."""
        self._troubles.failed(target, why)
        if target.demand.awaited:  # who asked is told of the failure, and may well ask again
            self._plan.interests.linger(target)
        target.end()
        self._plan.schedule_next(target, retry_at=retry_at)
        self.waiters.answer(target, error)

    def all_failed(self, error: SourceUnreachable) -> None:
        """The source fails: nobody need wait for it."""
        self.waiters.all_failed(error)

    # The road --------------------------------------------------------------------------------------------------------

    def _see(self, seen: Seen) -> None:
        seen.target.knowledge.send()
        self._inbox.append(seen)
        self._arrived.set()

    def _stored(self, seen: Seen, sighting: Sighting, *, changed: bool) -> None:
        """The store is as new as what was seen."""
        target = seen.target
        if target.presence.missing_unconfirmed:
            self._plan.targets.settle(target)
        if target.generation == seen.generation:  # else something newer is behind this in the inbox, or is to be read
            if sighting.forgotten:
                target.knowledge.forget()
            else:
                target.knowledge.observe(sighting.observed_at)
                self._note_observed(target)
        target.knowledge.count_read(changed=changed)
        if seen.by_read:
            target.commit()
            self._over(target)
            return
        self.waiters.answer(target)
        if sighting.forgotten:
            self._plan.ensure_scheduled(target)
        elif target.phase is Phase.IDLE:
            self._plan.schedule_next(target)

    def _note_observed(self, target: Target) -> None:
        if self.observed is not None:
            self.observed.add(target.asset_id)

    def _over(self, target: Target) -> None:
        """Plan the next read before those who waited are told: they go, and with them their interest may."""
        self._plan.schedule_next(target)
        self.waiters.answer(target)

    def _doubtful(self, target: Target, observation: Observation) -> bool:
        """Whether a read that misses an asset we know must be confirmed first."""
        known = self._plan.targets.entry(target)
        there = known is not None and not known.gone
        return observation.state is State.MISSING and there and not target.presence.missing_unconfirmed

    def _never_there(self, seen: Seen) -> bool:
        """Whether it is said of an asset nobody ever saw that it is not there, or nothing at all: no news to anybody.

        It is kept for those who named it. Who only reads it is answered without, so that asking fills no store.
        """
        nothing = seen.sighting is None or seen.sighting.observation.proves_nothing
        return nothing and not _told_to(seen.target) and self._plan.targets.entry(seen.target) is None

    def _unproven(self, target: Target, observation: Observation) -> bool:
        """Whether nobody is to be told but who names it: nothing but the name says that there is such an asset."""
        proven = target.presence.listed or target.demand.pinned or not self._plan.targets.is_stranger(target)
        return observation.proves_nothing and not proven

    async def _mark_unread(self, targets: Iterable[Target]) -> None:
        """Say of targets why they cannot be read, to whom it concerns; those that were read meanwhile can be."""
        failing = [target for target in targets if target.knowledge.failures and self._concerns_somebody(target)]
        await self._pipeline.mark_unread(self._name, map(self._unread, failing), at=self._now())
        for target in failing:
            self._plan.targets.remember(target, negative_result=None)

    def _unread(self, target: Target) -> Unread:
        known = target.knowledge
        unproven = self._unproven(target, unreadable(target.asset_id, known.why_unread))
        return Unread(target.key, known.why_unread, known.current_at, unproven, target.presence.back)

    def _concerns_somebody(self, target: Target) -> bool:
        """Whether there is an entry to mark, or to make, for somebody; a read alone is answered without."""
        entry = self._plan.targets.entry(target)
        if entry is None and not _told_to(target):
            why = target.knowledge.why_unread
            self._plan.targets.remember(target, negative_result=unreadable(target.asset_id, why))
            return False
        demand = target.demand
        return entry is None or not entry.gone or bool(demand.named or demand.pinned or target.presence.back)


def _told_to(target: Target) -> bool:
    """Whether somebody is to be told of a target, though nobody ever saw it: they named it, or a list did."""
    return bool(target.demand.named or target.demand.pinned or target.presence.listed)
