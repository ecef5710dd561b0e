"""Who is interested in which assets of one source, and when each is read next. No I/O; time is the event loop's."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.model.values import GONE, SETTLED, AssetKey, Freshness, State
from assetwatchd.polling import intervals
from assetwatchd.polling.agenda import AT_ONCE, NEVER, Agenda, Target
from assetwatchd.polling.strangers import Strangers, weight
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.fairness import NOBODY
from assetwatchd.runtime.slices import SLICE, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry, Observation
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities

LOOK_AHEAD = 0.1
"""A batch with room takes what falls due within this share of the busy interval."""
UNPROVEN = frozenset({State.MISSING, State.UNKNOWN})
"""States of an entry that is gone and of an asset nobody ever saw: it is not there, or nothing was said about it."""
COUNTED_FOR_S = 1.0
"""Counting those of interest takes 25 ms of a source with 100,000 assets, and anybody may ask for it at any time."""
FAILURES_TO_PART = 2
"""An asset whose reads failed this often is read alone, so that one that spoils its batch is found."""


class Interest:
    """Keeps something of interest until it ends, as a context manager or by `end`; small, as each stream has some."""

    __slots__ = ("_ends",)

    def __init__(self, *ends: Callable[[], None]) -> None:
        self._ends = ends

    def __enter__(self) -> Self:
        """It began when it was made."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End it."""
        self.end()

    def end(self) -> None:
        """Keep it of interest no more; once."""
        for end in self._ends:
            end()


class Plan:
    """The targets of one source. changed is set when something may have to be read sooner than was planned.

    pushing: changes are told by the upstream, so reads are for reconciliation only.
    """

    def __init__(self, name: str, settings: SourceSettings, can: Capabilities, store: Store) -> None:
        self.changed = asyncio.Event()
        self.pushing = False
        self._name = name
        self._settings = settings
        self._can = can
        self._store = store
        self._agenda = Agenda()
        self._targets: dict[str, Target] = {}
        self._untold: set[Target] = set()
        self._strangers = Strangers(int(settings.assets_max * settings.unknown_share_per_peer))
        self._named = 0
        self._whole = 0
        self._whole_until = AT_ONCE
        self._lingers_until = AT_ONCE
        self._whole_begun = asyncio.Event()
        self._counting = asyncio.Lock()
        self._counted_until = AT_ONCE
        self._wanted_count = 0
        self._restore()

    def _restore(self) -> None:
        """Know again what the store knows, and the pins."""
        for key in self._store.keys(self._name):
            entry = self._store.get(key)
            target = self._add(key)
            if entry is not None and entry.freshness is Freshness.FRESH and not forgotten(entry):
                target.observed_at = entry.found_at
                target.unchanged_reads = int(entry.state in SETTLED)
        for asset_id in self._settings.pins:
            target = self._targets.get(asset_id) or self._add(self._key(asset_id))
            target.pinned = True
            if target.state is None:
                self._untold.add(target)
            self.note(target)

    async def run(self) -> None:
        """Schedule the first reads of the pins, then, each time the whole comes to be of interest, of all there is.

        Whatever else makes a target one of interest agrees on its read at once; until cancelled.
        """
        for asset_id in self._settings.pins:
            self.ensure_scheduled(self._targets[asset_id])
        while True:
            await self._whole_begun.wait()
            self._whole_begun.clear()
            for targets in self.slices():
                for target in targets:
                    self.ensure_scheduled(target)
                await asyncio.sleep(0)

    # Targets ---------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._targets.values()))

    def slices(self) -> Iterator[list[Target]]:
        """Every target there is now, SLICE at a time, for walks that await in between; not those dropped meanwhile."""
        for targets in slices(self):
            yield [target for target in targets if self._has(target)]

    def unread(self, target: Target) -> bool:
        """Whether a target of interest was not read yet, as far as its reads do not fail."""
        unread = target.observed_at is None and not target.failures
        return unread and self._has(target) and self.wanted(target)

    def _has(self, target: Target) -> bool:
        return self._targets.get(target.asset_id) is target

    def get(self, asset_id: str) -> Target | None:
        """Return the target of an asset, if it has one."""
        return self._targets.get(asset_id)

    def entry(self, target: Target) -> Entry | None:
        """Return what the store has of a target."""
        return self._store.get(target.key)

    def known(self, target: Target) -> bool:
        """Whether anything can be told of a target without a read, however old, or why it cannot be read."""
        entry = self.entry(target)
        if entry is None:
            return target.negative_result is not None
        return not forgotten(entry) or entry.state is State.UNKNOWN

    def claim(self, asset_ids: Iterable[str], caller: Caller = NOBODY) -> list[Target]:
        """Return the targets, new ones made if there is room for all of them. Raises: TooManyAssets."""
        names = list(dict.fromkeys(asset_ids))
        unknown = [name for name in names if name not in self._targets]
        idle = self._strangers.claimed((self._targets[name] for name in names if name in self._targets), caller)
        brought = sum(map(weight, unknown)) + sum(weight(target.asset_id) for target in idle)
        if not self._strangers.quota.has_room(caller, brought):
            raise TooManyAssets(self._name, self._strangers.quota.limit, peer=caller[0])
        if self._make_room(len(unknown), keep=len(idle)) < len(unknown):
            raise TooManyAssets(self._name, self._settings.assets_max)
        return [self._targets.get(name) or self._add(self._key(name), caller) for name in names]

    def admit(self, asset_id: str) -> Target | None:
        """Return the target of an asset that the upstream told of; None when there is no room."""
        return self._targets.get(asset_id) or (self._add(self._key(asset_id)) if self._make_room(1) else None)

    def drop(self, target: Target) -> None:
        """Forget a target; if its asset was never seen, its entry too: only those who named it were told of that."""
        self._agenda.put(target, NEVER)
        self._untold.discard(target)
        del self._targets[target.asset_id]
        if target in self._strangers:
            self._strangers.remove(target)
            self._store.forget(target.key)

    def remember(self, target: Target, *, negative_result: Observation | None) -> None:
        """Record that a target was read: the store has what was found; negative_result: its asset never was there."""
        target.negative_result, target.back = negative_result, False
        self._untold.discard(target)
        self._look_up(target)
        if target.state is not None and not (target.gone and target.state in UNPROVEN):
            self._strangers.remove(target)

    @property
    def untold(self) -> int:
        """How many assets were listed, or are pinned, of which neither a state is known nor why they cannot be read."""
        return len(self._untold)

    def is_stranger(self, target: Target) -> bool:
        """Whether nobody has ever seen its asset, as far as is known."""
        return target in self._strangers

    def note(self, target: Target) -> None:
        """Look again whether a target can be dropped: somebody began or ceased to want it."""
        if not (target.listed or target.pinned):
            self._untold.discard(target)
        self._strangers.note(target)

    def _key(self, asset_id: str) -> AssetKey:
        return AssetKey(self._name, asset_id)

    def _add(self, key: AssetKey, caller: Caller = NOBODY) -> Target:
        target = self._targets[key.asset_id] = Target(key.asset_id, key)
        if self._look_up(target) is None:
            self._strangers.add(target, caller)
        return target

    def _look_up(self, target: Target) -> Entry | None:
        """Note what the store has of a target."""
        entry = self.entry(target)
        target.state, target.gone = (None, False) if entry is None else (entry.state, entry.gone)
        return entry

    def _make_room(self, count: int, *, keep: int = 0, some: bool = False) -> int:
        """Make room for count more targets by dropping idle strangers, the longest idle first; return for how many.

        keep: so many of them, the latest, stay. some: room for fewer than count will do; without, where there is not
        enough for all, nothing is dropped and 0 returned.
        """
        lacking = len(self._targets) + count - self._settings.assets_max
        if lacking <= 0:
            return count
        going = min(lacking, self._strangers.idle_count() - keep)
        if going < lacking and not some:
            return 0
        for _ in range(going):
            self.drop(self._strangers.longest_idle())
        return max(0, count - lacking + going)

    # Interest --------------------------------------------------------------------------------------------------------

    @property
    def interested(self) -> bool:
        """Whether anybody is interested in anything here."""
        lingers = self._lingers_until > loop_time()
        return self.whole_wanted or self._named > 0 or bool(self._settings.pins) or lingers

    @property
    def whole_wanted(self) -> bool:
        """Whether anybody is interested in all there is."""
        return self._whole > 0 or self._whole_until > loop_time()

    def wanted(self, target: Target) -> bool:
        """Whether anybody is interested in an asset now.

        The whole has none that never was, and leaves one that is gone to the lists.
        """
        now = loop_time()
        return self._wanted(target, now, whole=self._whole > 0 or self._whole_until > now)

    async def wanted_count(self) -> int:
        """How many assets anybody is interested in now; of many, as counted within the last COUNTED_FOR_S."""
        async with self._counting:
            if loop_time() >= self._counted_until:
                self._wanted_count = await self._count_wanted()
                self._counted_until = loop_time() + COUNTED_FOR_S * (len(self._targets) > SLICE)
            return self._wanted_count

    async def _count_wanted(self) -> int:
        count = 0
        for targets in self.slices():
            now, whole = loop_time(), self.whole_wanted
            count += sum(self._wanted(target, now, whole=whole) for target in targets)
            await asyncio.sleep(0)
        return count

    def _wanted(self, target: Target, now: float, *, whole: bool) -> bool:
        if target.named or target.pinned or target.awaited or target.linger_until > now:
            return True
        if not whole or target.listed:
            return whole
        return not (target.negative_result or target in self._strangers or (target.gone and self._can.enumerates))

    def interest(self, asset_ids: Iterable[str], *, whole: bool, caller: Caller = NOBODY) -> Interest:
        """Keep assets by name, or all there is, of interest; what is new is read when it is the caller's turn.

        Raises: TooManyAssets, having taken nothing.
        """
        targets = self.claim(asset_ids, caller)
        for target in targets:
            self._be_named(target, caller)
        self._named += len(targets)
        if whole:
            self._want_whole(1)
        return Interest(partial(self._lose, targets, whole=whole))

    def _lose(self, targets: Sequence[Target], *, whole: bool) -> None:
        for target in targets:
            target.named -= 1
            self.note(target)
            self.cancel_unwanted(target)
        self._named -= len(targets)
        if whole:
            self.view_whole()
            self._whole -= 1

    def attend(self) -> None:
        """Be interested in the source for a while, though not in any asset of it."""
        self._lingers_until = loop_time() + self._settings.linger_s

    def linger(self, targets: Iterable[Target]) -> None:
        """Keep targets that were read, or tried, of interest for a while, also those that were touched since."""
        self.attend()
        for target in targets:
            if target.observed_at is not None or target.failures or self.known(target):
                target.linger_until = self._lingers_until
                self.ensure_scheduled(target)

    def tried(self, target: Target) -> None:
        """Keep a target of interest for a while whose read has failed, if somebody waits for it."""
        if target.awaited:
            target.linger_until = loop_time() + self._settings.linger_s

    def join(self, asset_ids: Iterable[str], caller: Caller) -> None:
        """Have those that were never read be read when it is this caller's turn, if that comes first."""
        for asset_id in asset_ids:
            if (target := self._targets.get(asset_id)) is not None and target.new:
                self._agenda.join(target, caller)

    def leave(self, caller: Caller) -> Iterator[None]:
        """Withdraw a caller's requests: what only they asked for is read when others want it, or not at all.

        They are out of line when this returns; what becomes of their targets is for the steps of what it returns.
        """
        return self._replan(self._agenda.leave(caller) if caller != NOBODY else iter(()))

    def _replan(self, parts: Iterator[list[Target]]) -> Iterator[None]:
        for targets in parts:
            for target in targets:
                self._agenda.put(target, NEVER)
                if target.dirty:
                    self.reschedule(target, AT_ONCE)
                else:
                    self.ensure_scheduled(target)
            yield

    def cancel_unwanted(self, target: Target) -> None:
        """Do not read a target that nobody wants any more."""
        if target.due != NEVER and not self.wanted(target):
            self._agenda.put(target, NEVER)
            if target.dirty:
                self.invalidate(target)

    def view_whole(self) -> None:
        """Keep all there is of interest for a while."""
        self._want_whole(0)

    def _be_named(self, target: Target, caller: Caller) -> None:
        """Count who names it; one that never was is read anew, since who names it is told that, and so is kept."""
        target.named += 1
        self.note(target)
        if target.negative_result is not None and not target.reading:
            target.observed_at = None
            if AT_ONCE < target.due < NEVER and not target.new:
                self._agenda.put(target, NEVER)
        self.ensure_scheduled(target, caller)

    def _want_whole(self, by: int) -> None:
        begins = not self.whole_wanted
        self._whole += by
        self._whole_until = max(self._whole_until, loop_time() + self._settings.linger_s)
        if begins:
            self._whole_begun.set()
        self.changed.set()

    # When ------------------------------------------------------------------------------------------------------------

    def ensure_scheduled(self, target: Target, caller: Caller = NOBODY) -> None:
        """Agree on the next read of a target that has none: at once if never read, else somewhere in its interval.

        caller: who wants it; one that was never read is read when it is the turn of any of them.
        """
        if target.due != NEVER:
            if target.new:
                self._agenda.join(target, caller)
        elif not target.reading and self.wanted(target):
            due = loop_time() + self._first_wait_s(target)
            self._agree(target, due, patience_s=self._interval_s(target), caller=caller)

    def _first_wait_s(self, target: Target) -> float:
        if target.observed_at is None:
            return 0.0
        return intervals.phase(target.asset_id) * intervals.interval_s(target.state, 1, self._settings)

    def reschedule(self, target: Target, due: float, caller: Caller = NOBODY) -> None:
        """Read a target when due comes, or once more if it is being read; one that was dropped is not read.

        caller: who wants it at once, and has it when it is their turn.
        """
        if target.reading:
            target.refetch = True
        else:
            self._agree(target, due, patience_s=self._interval_s(target), caller=caller)

    def _agree(self, target: Target, due: float, *, patience_s: float, caller: Caller = NOBODY) -> None:
        if not self._has(target):
            return
        sooner = not self.changed.is_set() and due < self._agenda.next_due()
        new = target.observed_at is None and not target.failures
        self._agenda.put(target, due, patience_s=patience_s, new=new, caller=caller)
        if sooner:
            self.changed.set()

    def cancel(self, target: Target) -> None:
        """Do not read a target for what has been agreed so far."""
        target.refetch = False
        self._agenda.put(target, NEVER)

    def invalidate(self, target: Target) -> None:
        """What is known of a target nobody wants is not so any more: whoever wants it next has it read at once."""
        target.observed_at, target.dirty = None, False

    async def poll_again(self) -> None:
        """What is pushed no more is read within its interval, and not when it was to be reconciled."""
        for targets in self.slices():
            latest = loop_time()
            for target in targets:
                if latest + self._interval_s(target) < target.due < NEVER:
                    self._agenda.put(target, NEVER)
                    self.ensure_scheduled(target)
            await asyncio.sleep(0)

    def finish_read(self, target: Target, *, retry_at: float | None = None) -> None:
        """A read of the target is over: agree on the next one."""
        target.reading = False
        self.note(target)
        if target.refetch:
            target.refetch = False
            self.reschedule(target, AT_ONCE)
        elif retry_at is not None:
            self.reschedule(target, retry_at)
        elif self.wanted(target):
            interval_s = self._interval_s(target)
            self._agree(target, self._next_read(target, interval_s), patience_s=interval_s)

    def next_due(self) -> float:
        """Return when the next target falls due; NEVER if none does."""
        return self._agenda.next_due()

    def take(self, *, even_if_early: bool = False) -> list[Target]:
        """Take the targets that are due, as many as one call can ask for; they are being read until `finish_read`.

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
            if first is not None and first.trouble:
                batch_max = 1
        taken: list[Target] = []
        while len(taken) < batch_max and (target := self._agenda.first(upto)) is not None:
            alone = target.failures >= FAILURES_TO_PART
            if alone and taken:
                break
            if self.wanted(target):
                taken.append(self._begin(target))
                if alone:
                    break
                continue
            self._agenda.take_off(target)
            if target.dirty:
                self.invalidate(target)
        return taken

    def _in_place_of(self, first: Target | None) -> Target | None:
        """Return one whose last read did not fail, if that of the first to be read did."""
        if first is None or not first.trouble:
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
        return self._agenda.any_other(lambda target: _is_untroubled(target) and self.wanted(target))

    def _begin(self, target: Target) -> Target:
        self._agenda.take_off(target)
        target.reading, target.refetch = True, False
        self.note(target)
        return target

    def _next_read(self, target: Target, interval_s: float) -> float:
        if target.observed_at is None:  # the read that is over was older than what was pushed meanwhile
            return loop_time()
        if self.pushing and target.state is not State.UNKNOWN:  # of what was not understood, no news may come
            return loop_time() + self._settings.reconcile_interval_s * (1 + intervals.phase(target.asset_id)) / 2
        at = loop_time() + interval_s
        return intervals.aligned(at, interval_s) if self._can.batch_max > 1 else at

    # Lists -----------------------------------------------------------------------------------------------------------

    def take_in(self, part: Iterable[str]) -> int:
        """Take in a part of a complete list; return for how many of that part there was no room."""
        unknown: list[str] = []
        for asset_id in part:
            if (target := self._targets.get(asset_id)) is None:
                unknown.append(asset_id)
            else:
                self._list(target)
        room = self._make_room(len(unknown), some=True)
        for asset_id in unknown[:room]:
            self._list(self._add(self._key(asset_id)))
        return len(unknown) - room

    def _list(self, target: Target) -> None:
        target.listed, target.absences, target.back = True, 0, target.gone
        if target.state is None:
            self._untold.add(target)
        self.note(target)
        self.ensure_scheduled(target)

    # Small things ----------------------------------------------------------------------------------------------------

    def _interval_s(self, target: Target) -> float:
        return intervals.interval_s(target.state, target.unchanged_reads, self._settings)


def forgotten(entry: Entry) -> bool:
    """Whether an entry is gone only because nobody asked for it for long."""
    return entry.gone and entry.state not in GONE


def _is_untroubled(target: Target) -> bool:
    """Whether its last read did not fail, as far as is known; one that its upstream rejects may be UNKNOWN."""
    return not target.trouble and target.state is not State.UNKNOWN
