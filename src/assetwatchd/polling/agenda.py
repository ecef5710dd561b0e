"""What a source is to be asked, and in which order: a priority queue of due reads. No clock, no I/O."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from assetwatchd.model.values import AssetKey
from assetwatchd.runtime.fairness import NOBODY, FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from assetwatchd.model.values import Observation, State
    from assetwatchd.runtime.fairness import Caller

NEVER = math.inf
AT_ONCE = -math.inf
NEW_IN_A_ROW = 3
"""So many new ones go before one that is overdue for long."""
YIELD_S = 10.0
"""One that is overdue lets all new ones go first until it is this late."""
UNNAMED = AssetKey("", "")
SLACK = 1024
"""Superseded places are cleared away when they outnumber the targets that wait by this."""


@dataclass(eq=False, slots=True)
class Target:
    """One asset as its source's scheduler knows it. Times are of the event loop, but observed_at is seconds since 1970.

    key: names it everywhere; one object for its entry and all filters that name it.
    named: watchers and waiters that asked for it by name.
    listed: it was in an enumeration; absences counts the complete ones since without it. back: it was in one after it
    was gone, and was not read since.
    due: when it is to be read; NEVER while it is being read or nobody wants it.
    deadline: how late it may get before others have to stand back.
    place: number of its place in the lines by time (those of other numbers are superseded); 0 while it stands in its
    callers' lanes.
    new: nothing is known of it yet, so it goes before those that are only to be read again.
    unchanged_reads: reads in a row that found nothing new. failures: those that failed though the source is well.
    trouble: why the last read failed; empty once one ended well. complained: the log has a line about that.
    missing_unconfirmed: a read said that it is missing, though it was there; one more must say so.
    generation: raised by a notice that is newer than any read under way; reads of an older one are discarded.
    refetch: it was touched while being read. dirty: no read that began since it was touched has ended well.
    observed_at: when the read began that found what the store has; None when that is not known, or no longer true.
    negative_result: what the last read said of an asset that is not there and never was: told to who asks, not kept.
    answer: digest of the answer that the store's entry is made of; empty while something else may be on its way there.
    state, gone: of the store's entry, so that planning need not look there; None and False without one.
    awaited: somebody waits to be told how its next read ends.
    """

    asset_id: str
    key: AssetKey = UNNAMED
    pinned: bool = False
    named: int = 0
    linger_until: float = AT_ONCE
    listed: bool = False
    back: bool = False
    absences: int = 0
    due: float = NEVER
    deadline: float = NEVER
    place: int = 0
    new: bool = False
    unchanged_reads: int = 0
    failures: int = 0
    trouble: str = ""
    complained: bool = False
    missing_unconfirmed: bool = False
    reading: bool = False
    generation: int = 0
    refetch: bool = False
    dirty: bool = False
    observed_at: float | None = None
    negative_result: Observation | None = None
    answer: bytes = b""
    state: State | None = None
    gone: bool = False
    awaited: bool = False


Line: TypeAlias = list[tuple[float, int, Target]]


class Agenda:
    """Four lines: asked for at once and new (both in turns of the callers), overdue (by deadline), later (by due).

    Those asked for at once and the others are served in turn. Of the others new ones go first, though one that is
    overdue for YIELD_S comes after NEW_IN_A_ROW of them. So neither a flood of fresh reads nor one of new assets nor an
    overload of polls starves the others. Superseded places stay in their line, and are skipped when they surface.
    """

    def __init__(self) -> None:
        self._asked: FairQueue[Target] = FairQueue(_is_asked)
        self._new: FairQueue[Target] = FairQueue(_is_new)
        self._overdue: Line = []
        self._later: Line = []
        self._places = itertools.count(1)
        self._in_turns_max = SLACK
        self._waiting = 0
        self._asked_last = False
        self._new_in_a_row = 0

    def put(
        self, target: Target, due: float, *, patience_s: float = 0.0, new: bool = False, caller: Caller = NOBODY
    ) -> None:
        """Read the target when due comes, and not much later than patience_s after; replaces what was agreed before.

        caller: who wants it at once, or wants what is new by now, so that it is read when it is their turn.
        """
        if due == target.due == AT_ONCE:
            self.join(target, caller)
            return
        self._waiting += (target.due == NEVER) - (due == NEVER)
        target.due, target.deadline, target.place, target.new = due, due + patience_s, 0, new
        if due == AT_ONCE:
            self._asked.put(caller, target)
        elif new and caller != NOBODY:
            self._new.put(caller, target)
        elif due != NEVER:
            target.place = next(self._places)
            heapq.heappush(self._later, (due, target.place, target))
        self._clear_away()

    def join(self, target: Target, caller: Caller) -> None:
        """Read a target that is asked for, or new, when it is this caller's turn, if that comes first."""
        if caller != NOBODY and (line := self._fair_line(target)) is not None:
            line.put(caller, target)

    def leave(self, caller: Caller) -> Iterator[list[Target]]:
        """Take a caller out of the lines; yield, some a step, the targets still to be read that have no place left."""
        lines = self._asked.leave(caller), self._new.leave(caller)
        return self._left_over(itertools.chain(*lines))

    def _left_over(self, left: Iterator[list[Target]]) -> Iterator[list[Target]]:
        for targets in left:
            self._in_turns_max = min(self._in_turns_max, 2 * self._in_turns + SLACK)
            yield [target for target in targets if not self._has_place(target)]

    def next_due(self) -> float:
        """Return when the first target falls due; NEVER if none does."""
        if self._asked.first() or self._new.first() or _first(self._overdue):
            return AT_ONCE
        later = _first(self._later)
        return later.due if later else NEVER

    def first(self, upto: float) -> Target | None:
        """Return who is to be read first of those who fall due by then."""
        while (later := _first(self._later)) and later.due <= upto:
            heapq.heappop(self._later)
            if later.new:
                later.place = 0
                self._new.put(NOBODY, later)
            else:
                heapq.heappush(self._overdue, (later.deadline, later.place, later))
        asked, planned = self._asked.first(), self._planned(upto)
        return (planned or asked) if self._asked_last else (asked or planned)

    def any_other(self, wanted: Callable[[Target], bool]) -> Target | None:
        """Return one of those planned by time that is wanted, whenever it is due; looks at some of the next ones."""
        planned = itertools.islice(itertools.chain(self._overdue, self._later), SLACK)
        return next((place[2] for place in planned if _counts(place) and wanted(place[2])), None)

    def _planned(self, at: float) -> Target | None:
        new, overdue = self._new.first(), _first(self._overdue)
        if overdue and self._new_in_a_row >= NEW_IN_A_ROW and overdue.deadline + YIELD_S <= at:
            return overdue
        return new or overdue

    def take_off(self, target: Target) -> None:
        """Take the first target off: it is being read now, or nobody wants it."""
        self._asked_last = self._asked.first() is target
        if self._asked_last:
            self._asked.take()
        elif self._new.first() is target:
            self._new.take()
        if not self._asked_last:
            self._new_in_a_row = self._new_in_a_row + 1 if target.new else 0
        self.put(target, NEVER)

    def _fair_line(self, target: Target) -> FairQueue[Target] | None:
        if target.due == AT_ONCE:
            return self._asked
        return self._new if _is_new(target) else None

    def _has_place(self, target: Target) -> bool:
        return (_is_asked(target) and target in self._asked) or (_is_new(target) and target in self._new)

    def _clear_away(self) -> None:
        """Remove superseded places once they may outnumber the others; for one target each caller may have one."""
        if len(self._overdue) + len(self._later) > 2 * self._waiting + SLACK:
            for line in (self._overdue, self._later):
                line[:] = [at for at in line if at[1] == at[2].place and at[2].due != NEVER]  # _counts, for all at once
                heapq.heapify(line)
        if self._in_turns > self._in_turns_max:
            self._asked.prune()
            self._new.prune()
            self._in_turns_max = 2 * self._in_turns + SLACK

    @property
    def _in_turns(self) -> int:
        return len(self._asked) + len(self._new)


def _is_asked(target: Target) -> bool:
    return target.due == AT_ONCE


def _is_new(target: Target) -> bool:
    """Whether a target is to be read for the first time, and by now."""
    return target.new and target.place == 0 and target.due != NEVER


def _counts(place: tuple[float, int, Target]) -> bool:
    return place[1] == place[2].place and place[2].due != NEVER


def _first(line: Line) -> Target | None:
    while line and not _counts(line[0]):
        heapq.heappop(line)
    return line[0][2] if line else None
