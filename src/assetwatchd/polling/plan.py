"""When each asset of one source is read next, and about which the next call asks. No I/O; time is the event loop's.

Owns these decisions. What they rest on is with `targets` (what there is), `interests` (who wants it) and intervals.py
(how long an asset is left alone). Must not know how calls are made, nor what becomes of their answers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from assetwatchd.model.values import State
from assetwatchd.polling import intervals
from assetwatchd.polling.agenda import Agenda
from assetwatchd.polling.interest import Interest, Interests
from assetwatchd.polling.registry import Registry
from assetwatchd.polling.target import AT_ONCE, Phase
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.fairness import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.polling.target import Target
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities

LOOK_AHEAD = 0.1
"""A batch with room takes what falls due within this share of the busy interval."""
FAILURES_TO_PART = 2
"""An asset whose reads failed this often is read alone, so that one that spoils its batch is found."""


class Plan:
    """The reads of one source. changed is set when something may have to be read sooner than was planned.

    pushing: changes are told by the upstream, so reads are for reconciliation only.
    """

    def __init__(self, name: str, settings: SourceSettings, can: Capabilities, store: Store) -> None:
        self.changed = asyncio.Event()
        self.pushing = False
        self._settings = settings
        self._can = can
        self._agenda = Agenda()
        self.targets = Registry(name, settings, store, self._agenda)
        self.interests = Interests(settings, can, self.targets)

    def restore(self, observed: Mapping[str, float]) -> Iterator[None]:
        """Know again what the store knows; in steps, before anything else is asked of this. See Registry.restore."""
        yield from self.targets.restore(observed)
        for target in self._pins():
            self.interests.pin(target)

    async def run(self) -> None:
        """Schedule the first reads of the pins, then, each time the whole comes to be of interest, of all there is.

        Whatever else makes a target one of interest agrees on its read at once; until cancelled.
        """
        for target in self._pins():
            self.ensure_scheduled(target)
        while True:
            await self.interests.whole_begun.wait()
            self.interests.whole_begun.clear()
            for targets in self.targets.slices():
                for target in targets:
                    self.ensure_scheduled(target)
                await asyncio.sleep(0)

    def _pins(self) -> Iterator[Target]:
        return filter(None, map(self.targets.get, self._settings.pins))

    # Interest that begins and ends -----------------------------------------------------------------------------------

    @property
    def whole_wanted(self) -> bool:
        """Whether anybody is interested in all there is."""
        return self.interests.whole

    def unread(self, target: Target) -> bool:
        """Whether a target of interest was not read yet, as far as its reads do not fail."""
        return target.knowledge.is_unread and target.phase is not Phase.DROPPED and self.interests.wanted(target)

    def interest(self, asset_ids: Iterable[str], *, whole: bool, caller: Caller = NOBODY) -> Interest:
        """Keep assets by name, or all there is, of interest; what is new is read when it is the caller's turn.

        Raises: TooManyAssets, having taken nothing.
        """
        targets = self.targets.claim(asset_ids, caller)
        for target in targets:
            self._begin_named(target, caller)
        if whole:
            self.interests.begin_whole()
            self.changed.set()
        return Interest(partial(self._end, targets, whole=whole))

    def _begin_named(self, target: Target, caller: Caller) -> None:
        """Have an asset read for one more who names it.

        One that never was is read anew, since who names it is told that, and so is kept. While it is being read that is
        left to `Outcomes`, which finds it named by then.
        """
        self.interests.begin_named(target)
        if target.knowledge.negative_result is not None and not target.under_way:
            target.knowledge.outdate()
            if target.place is not None and target.due > AT_ONCE and not target.place.new:
                self._agenda.remove(target)
        self.ensure_scheduled(target, caller)

    def _end(self, targets: Sequence[Target], *, whole: bool) -> None:
        for target in targets:
            self.interests.end_named(target)
            self.cancel_unwanted(target)
        if whole:
            self.interests.end_whole()
            self.changed.set()

    def view_whole(self) -> None:
        """Keep all there is of interest for a while."""
        self.interests.view_whole()
        self.changed.set()

    def linger(self, targets: Iterable[Target]) -> None:
        """Keep targets that were read, or tried, of interest for a while, also those that were touched since."""
        until = self.interests.attend()
        for target in targets:
            if not target.knowledge.is_unread or self.targets.known(target):
                self.interests.linger(target, until)
                self.ensure_scheduled(target)

    def join(self, asset_ids: Iterable[str], caller: Caller) -> None:
        """Have those that were never read be read when it is this caller's turn, if that comes first."""
        for asset_id in asset_ids:
            if (target := self.targets.get(asset_id)) is not None and target.place is not None and target.place.new:
                self._agenda.join(target, caller)

    def leave(self, caller: Caller) -> Iterator[None]:
        """Withdraw a caller's requests: what only they asked for is read when others want it, or not at all.

        They are out of line when this returns; what becomes of their targets is for the steps of what it returns.
        """
        return self._replan(self._agenda.leave(caller) if caller != NOBODY else iter(()))

    def _replan(self, parts: Iterator[list[Target]]) -> Iterator[None]:
        for targets in parts:
            for target in targets:
                self._agenda.remove(target)
                if target.dirty:
                    self._agree(target, AT_ONCE)
                else:
                    self.ensure_scheduled(target)
            yield

    def cancel_unwanted(self, target: Target) -> None:
        """Do not read a target that nobody wants any more."""
        if target.phase is Phase.DUE and not self.interests.wanted(target):
            self._agenda.remove(target)
            _invalidate_if_dirty(target)

    # When ------------------------------------------------------------------------------------------------------------

    def ensure_scheduled(self, target: Target, caller: Caller = NOBODY) -> None:
        """Agree on the next read of a target that has none: at once if never read, else somewhere in its interval.

        caller: who wants it; one that was never read is read when it is the turn of any of them.
        """
        match target.phase:
            case Phase.DUE:
                if target.place is not None and target.place.new:
                    self._agenda.join(target, caller)
            case Phase.IDLE:
                if self.interests.wanted(target):
                    self._agree(target, loop_time() + self._first_wait_s(target), caller)

    def _first_wait_s(self, target: Target) -> float:
        known = target.knowledge
        if known.current_at is None:
            return 0.0
        return intervals.phase(target.asset_id) * intervals.interval_s(known.state, 1, self._settings)

    def reschedule(self, target: Target, due: float, caller: Caller = NOBODY) -> None:
        """Read a target that is not being read when due comes, whatever was agreed before; one that was dropped is not.

        caller: who wants it at once, and has it when it is their turn.
        """
        if target.phase is not Phase.DROPPED:
            self._agree(target, due, caller)

    def _agree(self, target: Target, due: float, caller: Caller = NOBODY, *, interval_s: float | None = None) -> None:
        sooner = not self.changed.is_set() and due < self._agenda.next_due()
        patience_s = self._interval_s(target) if interval_s is None else interval_s
        self._agenda.put(target, due, patience_s=patience_s, new=target.knowledge.is_unread, caller=caller)
        if sooner:
            self.changed.set()

    def touch(self, target: Target, *, at: float) -> None:
        """Read a target that has changed when that time comes, or once more if it is being read."""
        target.touch()
        if not target.under_way:
            self._agree(target, min(at, target.due))

    def overtake(self, target: Target) -> None:
        """Do not read a target for what has been agreed so far, and discard what reads under way will say of it."""
        self._agenda.remove(target)
        target.overtake()

    def schedule_next(self, target: Target, *, retry_at: float | None = None) -> None:
        """Agree on the next read of an idle target, as one is over, or a notice in its place; retry_at: it is then."""
        self.targets.note(target)
        if target.refetch:
            self._agree(target, AT_ONCE)
        elif retry_at is not None:
            self.reschedule(target, retry_at)
        elif self.interests.wanted(target):
            interval_s = self._interval_s(target)
            self._agree(target, self._next_read(target, interval_s), interval_s=interval_s)

    def _next_read(self, target: Target, interval_s: float) -> float:
        known = target.knowledge
        if known.current_at is None:  # the read that is over was older than what was pushed meanwhile
            return loop_time()
        if self.pushing and known.state is not State.UNKNOWN:  # of what was not understood, no news may come
            return loop_time() + self._settings.reconcile_interval_s * (1 + intervals.phase(target.asset_id)) / 2
        at = loop_time() + interval_s
        return intervals.aligned(at, interval_s) if self._can.batch_max > 1 else at

    async def poll_again(self) -> None:
        """What is pushed no more is read within its interval, and not when it was to be reconciled."""
        for targets in self.targets.slices():
            latest = loop_time()
            for target in targets:
                if target.place is not None and target.due > latest + self._interval_s(target):
                    self._agenda.remove(target)
                    self.ensure_scheduled(target)
            await asyncio.sleep(0)

    def _interval_s(self, target: Target) -> float:
        return intervals.interval_s(target.knowledge.state, target.knowledge.unchanged_reads, self._settings)

    # What the next call asks about -----------------------------------------------------------------------------------

    def next_due(self) -> float:
        """Return when the next target falls due; NEVER if none does."""
        return self._agenda.next_due()

    def take(self, *, even_if_early: bool = False) -> list[Target]:
        """Take the targets that are due, as many as one call can ask for; they are being read from now on.

        even_if_early: take one at least, whose last read did not fail if there is such a one, else one alone: it is the
        source that is tried, and not what may be at fault itself.
        """
        batch_max = self._can.batch_max
        upto = loop_time() + LOOK_AHEAD * self._settings.busy_interval_s * (batch_max > 1)
        if even_if_early:
            upto = max(upto, self._agenda.next_due())
            first = self._agenda.first(upto)
            if (other := self._in_place_of(first)) is not None:
                return [self._begin(other)]
            if first is not None and first.knowledge.why_unread:
                batch_max = 1
        return self._taken(upto, batch_max)

    def _taken(self, upto: float, batch_max: int) -> list[Target]:
        taken: list[Target] = []
        while len(taken) < batch_max and (target := self._agenda.first(upto)) is not None:
            alone = target.knowledge.failures >= FAILURES_TO_PART
            if alone and taken:
                break
            if self.interests.wanted(target):
                taken.append(self._begin(target))
                if alone:
                    break
            else:
                self._agenda.take_off(target)
                _invalidate_if_dirty(target)
        return taken

    def _in_place_of(self, first: Target | None) -> Target | None:
        """Return one whose last read did not fail, if that of the first to be read did."""
        if first is None or not first.knowledge.why_unread:
            return None
        return self._untroubled()

    def has_untroubled(self) -> bool:
        """Whether there is one to read whose last read did not fail."""
        return self._untroubled() is not None

    def take_untroubled(self) -> list[Target]:
        """Take one such, whenever it is due; it changes nothing of when others are."""
        other = self._untroubled()
        return [] if other is None else [self._begin(other)]

    def _untroubled(self) -> Target | None:
        return self._agenda.any_other(lambda target: _is_untroubled(target) and self.interests.wanted(target))

    def _begin(self, target: Target) -> Target:
        self._agenda.begin(target)
        self.targets.note(target)
        return target


def _invalidate_if_dirty(target: Target) -> None:
    """Rely no more on what is known of a target that was touched, as the read for that is not made."""
    if target.dirty:
        target.invalidate()


def _is_untroubled(target: Target) -> bool:
    """Whether its last read did not fail, as far as is known; one that its upstream rejects may be UNKNOWN."""
    return not target.knowledge.why_unread and target.knowledge.state is not State.UNKNOWN
