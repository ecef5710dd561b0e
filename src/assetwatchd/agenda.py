"""What a source is to be asked, and in which order: targets in four lines. No clock, no I/O."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from assetwatchd.model import Observation, State

NEVER = math.inf
AT_ONCE = -math.inf
NEW_IN_A_ROW = 3
"""So many new ones go before one that is overdue for long."""
YIELD_S = 10.0
"""One that is overdue lets all new ones go first until it is this late."""
SLACK = 1024
"""Superseded places are cleared away when they outnumber the targets that wait by this."""


@dataclass(eq=False, slots=True)
class Target:
    """One asset as its source's scheduler knows it. Times are of the event loop, but observed_at is seconds since 1970.

    named: watchers and waiters that asked for it by name.
    listed: it was in an enumeration; absences counts the complete ones since without it.
    due: when it is to be read; NEVER while it is being read or nobody wants it.
    deadline: how late it may get before others have to stand back; place: which of its places in the lines counts.
    new: nothing is known of it yet, so it goes before those that are only to be read again.
    calm: reads in a row that found nothing new. failures: reads in a row that failed though the source is well.
    doubted: a read said that it is missing, though it was there; one more must say so.
    turn: raised by a notice that is newer than any read under way.
    again: it was touched while being read. touched: no read that began since it was touched has ended well.
    observed_at: when the read began that found what the store has; None when that is not known, or no longer true.
    unseen: what the last read said of an asset that is not there and never was: told to who asks, and not kept.
    answer: digest of the answer that the store's entry is made of; empty while something else may be on its way there.
    state, gone: of the store's entry, so that planning need not look there; None and False without one.
    awaited: somebody waits to be told how its next read ends.
    """

    asset_id: str
    pinned: bool = False
    named: int = 0
    linger_until: float = AT_ONCE
    listed: bool = False
    absences: int = 0
    due: float = NEVER
    deadline: float = NEVER
    place: int = 0
    new: bool = False
    calm: int = 0
    failures: int = 0
    doubted: bool = False
    reading: bool = False
    turn: int = 0
    again: bool = False
    touched: bool = False
    observed_at: float | None = None
    unseen: Observation | None = None
    answer: bytes = b""
    state: State | None = None
    gone: bool = False
    awaited: bool = False


Line: TypeAlias = list[tuple[float, int, Target]]


class Agenda:
    """Four lines: asked for at once and new (both first come, first served), overdue (by deadline), later (by due).

    Those asked for at once and the others are served in turn. Of the others new ones go first, though one that is
    overdue for YIELD_S comes after NEW_IN_A_ROW of them. So neither a flood of fresh reads nor one of new assets nor an
    overload of polls starves the others. Superseded places stay in their line, and are skipped when they surface.
    """

    def __init__(self) -> None:
        self._asked: Line = []
        self._new: Line = []
        self._overdue: Line = []
        self._later: Line = []
        self._places = itertools.count(1)
        self._waiting = 0
        self._asked_last = False
        self._new_in_a_row = 0

    def put(self, target: Target, due: float, *, patience_s: float = 0.0, new: bool = False) -> None:
        """Read the target when due comes, and not much later than patience_s after; replaces what was agreed before."""
        if due == target.due == AT_ONCE:
            return
        self._waiting += (target.due == NEVER) - (due == NEVER)
        target.due, target.deadline, target.place, target.new = due, due + patience_s, next(self._places), new
        if due == AT_ONCE:
            heapq.heappush(self._asked, (target.place, target.place, target))
        elif due != NEVER:
            heapq.heappush(self._later, (due, target.place, target))
        self._clear_away()

    def next_due(self) -> float:
        """Return when the first target falls due; NEVER if none does."""
        if _first(self._asked) or _first(self._new) or _first(self._overdue):
            return AT_ONCE
        later = _first(self._later)
        return later.due if later else NEVER

    def first(self, upto: float) -> Target | None:
        """Return who is to be read first of those who fall due by then."""
        while (later := _first(self._later)) and later.due <= upto:
            heapq.heappop(self._later)
            if later.new:
                heapq.heappush(self._new, (later.place, later.place, later))
            else:
                heapq.heappush(self._overdue, (later.deadline, later.place, later))
        asked, planned = _first(self._asked), self._planned(upto)
        return (planned or asked) if self._asked_last else (asked or planned)

    def _planned(self, at: float) -> Target | None:
        new, overdue = _first(self._new), _first(self._overdue)
        if overdue and self._new_in_a_row >= NEW_IN_A_ROW and overdue.deadline + YIELD_S <= at:
            return overdue
        return new or overdue

    def take_off(self, target: Target) -> None:
        """Take a target off that is being read now, or that nobody wants."""
        self._asked_last = target.due == AT_ONCE
        if not self._asked_last:
            self._new_in_a_row = self._new_in_a_row + 1 if target.new else 0
        self.put(target, NEVER)

    def _clear_away(self) -> None:
        places = len(self._asked) + len(self._new) + len(self._overdue) + len(self._later)
        if places > 2 * self._waiting + SLACK:
            for line in (self._asked, self._new, self._overdue, self._later):
                line[:] = [at for at in line if at[1] == at[2].place and at[2].due != NEVER]  # _counts, for all at once
                heapq.heapify(line)


def _counts(place: tuple[float, int, Target]) -> bool:
    return place[1] == place[2].place and place[2].due != NEVER


def _first(line: Line) -> Target | None:
    while line and not _counts(line[0]):
        heapq.heappop(line)
    return line[0][2] if line else None
