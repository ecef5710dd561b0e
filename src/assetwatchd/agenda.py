"""What a source is to be asked, and in which order: targets and a heap of when they fall due. No clock, no I/O."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

NEVER = math.inf
AT_ONCE = -math.inf


@dataclass(eq=False, slots=True)
class Target:
    """One asset as its source's scheduler knows it. Times are of the event loop, but observed_at is seconds since 1970.

    named: watchers and waiters that asked for it by name.
    listed: it was in an enumeration; absences counts the complete ones since without it.
    due: when it is to be read; NEVER while it is being read or nobody wants it.
    calm: reads in a row that found nothing new. failures: reads in a row that failed.
    doubted: a read said that it is missing, though it was there; one more must say so.
    turn: raised by a notice that is newer than any read under way.
    again: it was touched while being read.
    waiting: fresh reads to be told the outcome.
    """

    asset_id: str
    pinned: bool = False
    named: int = 0
    linger_until: float = AT_ONCE
    listed: bool = False
    absences: int = 0
    due: float = NEVER
    calm: int = 0
    failures: int = 0
    doubted: bool = False
    reading: bool = False
    turn: int = 0
    again: bool = False
    observed_at: float | None = None
    waiting: list[asyncio.Future[None]] | None = None


@dataclass(slots=True)
class Agenda:
    """A heap by due time, first come first served among equals. Superseded places are skipped when they surface."""

    _heap: list[tuple[float, int, Target]] = field(default_factory=list)
    _serial: itertools.count[int] = field(default_factory=itertools.count)

    def put(self, target: Target, due: float) -> None:
        """Read the target when due comes; replaces what was agreed before."""
        target.due = due
        if due != NEVER:
            heapq.heappush(self._heap, (due, next(self._serial), target))

    def next_due(self) -> float:
        """Return when the first target falls due; NEVER if none does."""
        heap = self._heap
        while heap and heap[0][0] != heap[0][2].due:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def take(self, upto: float, limit: int) -> list[Target]:
        """Return up to limit targets that fall due by then, the most overdue first, and take them off."""
        taken: list[Target] = []
        while len(taken) < limit and self.next_due() <= upto:
            target = heapq.heappop(self._heap)[2]
            target.due = NEVER
            taken.append(target)
        return taken
