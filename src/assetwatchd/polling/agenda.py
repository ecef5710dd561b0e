"""What a source is to be asked, and in which order: a priority queue of due reads. No clock, no I/O.

Owns the places: of the targets that are DUE, and of those that were, until these surface. Must not know why a target is
due, nor what its reads found.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, TypeAlias

from assetwatchd.polling.target import AT_ONCE, NEVER, Place
from assetwatchd.runtime.fairness import NOBODY, FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from assetwatchd.polling.target import Target
    from assetwatchd.runtime.fairness import Caller

NEW_IN_A_ROW = 3
"""So many new ones go before one that is overdue for long."""
YIELD_S = 10.0
"""One that is overdue lets all new ones go first until it is this late."""
SLACK = 1024
"""Superseded places are cleared away when they outnumber the targets that wait by this."""

Overdue: TypeAlias = tuple[float, int, Place]
"""A place that is overdue, behind what it is ordered by: its deadline and its number."""


class Agenda:
    """Four lines: asked for at once and new (both in turns of the callers), overdue (by deadline), later (by due).

    Those asked for at once and the others are served in turn. Of the others new ones go first, though one that is
    overdue for YIELD_S comes after NEW_IN_A_ROW of them. So neither a flood of fresh reads nor one of new assets nor an
    overload of polls starves the others. Superseded places stay in their line, and are skipped when they surface.
    """

    def __init__(self) -> None:
        self._asked: FairQueue[Target] = FairQueue(_is_asked)
        self._new: FairQueue[Target] = FairQueue(_is_new)
        self._overdue: list[Overdue] = []
        self._later: list[Place] = []
        self._numbers = itertools.count(1)
        self._in_turns_max = SLACK
        self._waiting = 0
        self._asked_last = False
        self._new_in_a_row = 0

    # Places ----------------------------------------------------------------------------------------------------------

    def put(
        self, target: Target, due: float, *, patience_s: float = 0.0, new: bool = False, caller: Caller = NOBODY
    ) -> None:
        """Read the target when due comes, and not much later than patience_s after; replaces what was agreed before.

        caller: who wants it at once, or wants what is new by now, so that it is read when it is their turn.
        """
        if due == AT_ONCE == target.due:
            self.join(target, caller)
            return
        if due == AT_ONCE:
            self._place(target, Place(due, 0, patience_s, new, target))
            self._asked.put(caller, target)
        elif new and caller != NOBODY:
            self._place(target, Place(due, 0, patience_s, new, target))
            self._new.put(caller, target)
        else:
            place = Place(due, next(self._numbers), patience_s, new, target)
            self._place(target, place)
            heapq.heappush(self._later, place)
        self._clear_away()

    def remove(self, target: Target) -> None:
        """Take away the place that a target has, if it has one."""
        if target.place is not None:
            target.cancel()
            self._waiting -= 1
            self._clear_away()

    def _place(self, target: Target, place: Place) -> None:
        had_none = target.place is None
        target.schedule(place)
        self._waiting += had_none and target.place is not None

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
            yield [target for target in targets if not self._stands_in_line(target)]

    # Who is next -----------------------------------------------------------------------------------------------------

    def next_due(self) -> float:
        """Return when the first target falls due; NEVER if none does."""
        if self._asked.first() or self._new.first() or self._first_overdue():
            return AT_ONCE
        later = self._first_later()
        return later.due if later else NEVER

    def first(self, upto: float) -> Target | None:
        """Return who is to be read first of those who fall due by then."""
        while (later := self._first_later()) and later.due <= upto:
            heapq.heappop(self._later)
            if later.new:
                self._place(later.target, later._replace(number=0))
                self._new.put(NOBODY, later.target)
            else:
                heapq.heappush(self._overdue, (later.deadline, later.number, later))
        asked, planned = self._asked.first(), self._planned(upto)
        return (planned or asked) if self._asked_last else (asked or planned)

    def any_other(self, wanted: Callable[[Target], bool]) -> Target | None:
        """Return one of those planned by time that is wanted, whenever it is due; looks at some of the next ones."""
        overdue = (place for _, _, place in self._overdue)
        planned = itertools.islice(itertools.chain(overdue, self._later), SLACK)
        return next((place.target for place in planned if _counts(place) and wanted(place.target)), None)

    def _planned(self, at: float) -> Target | None:
        new, overdue = self._new.first(), self._first_overdue()
        if overdue and self._new_in_a_row >= NEW_IN_A_ROW and overdue.deadline + YIELD_S <= at:
            return overdue.target
        return new or (overdue.target if overdue else None)

    def begin(self, target: Target) -> None:
        """Take off a target that a call begins to ask about: the first, or another one.

        What it leaves in the lines is cleared away when the next place is put there.
        """
        self._count_served(target)
        had_one = target.place is not None
        target.begin()
        self._waiting -= had_one and target.place is None

    def take_off(self, target: Target) -> None:
        """Take the first target off, as nobody wants it; it has had its turn all the same."""
        self._count_served(target)
        self.remove(target)

    def _count_served(self, target: Target) -> None:
        """Note which of the lines was served, so that another one is next."""
        self._asked_last = self._asked.first() is target
        if self._asked_last:
            self._asked.take()
        elif self._new.first() is target:
            self._new.take()
        if not self._asked_last:
            new = target.place is not None and target.place.new
            self._new_in_a_row = self._new_in_a_row + 1 if new else 0

    # Lines -----------------------------------------------------------------------------------------------------------

    def _first_later(self) -> Place | None:
        while self._later and not _counts(self._later[0]):
            heapq.heappop(self._later)
        return self._later[0] if self._later else None

    def _first_overdue(self) -> Place | None:
        while self._overdue and not _counts(self._overdue[0][2]):
            heapq.heappop(self._overdue)
        return self._overdue[0][2] if self._overdue else None

    def _fair_line(self, target: Target) -> FairQueue[Target] | None:
        if _is_asked(target):
            return self._asked
        return self._new if _is_new(target) else None

    def _stands_in_line(self, target: Target) -> bool:
        return (_is_asked(target) and target in self._asked) or (_is_new(target) and target in self._new)

    def _clear_away(self) -> None:
        """Remove superseded places once they may outnumber the others; for one target each caller may have one."""
        if len(self._overdue) + len(self._later) > 2 * self._waiting + SLACK:
            self._overdue[:] = [overdue for overdue in self._overdue if _counts(overdue[2])]
            self._later[:] = filter(_counts, self._later)
            heapq.heapify(self._overdue)
            heapq.heapify(self._later)
        if self._in_turns > self._in_turns_max:
            self._asked.prune()
            self._new.prune()
            self._in_turns_max = 2 * self._in_turns + SLACK

    @property
    def _in_turns(self) -> int:
        return len(self._asked) + len(self._new)


def _is_asked(target: Target) -> bool:
    return target.place is not None and target.place.due == AT_ONCE


def _is_new(target: Target) -> bool:
    """Whether a target is to be read for the first time, and by now."""
    return target.place is not None and target.place.new and not target.place.number


def _counts(place: Place) -> bool:
    return place.target.place is place
