"""Targets whose asset was never seen: who brought each, how many a caller may bring, which are dropped for others."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from assetwatchd.runtime.fairness import Quota

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.polling.target import Target
    from assetwatchd.runtime.fairness import Caller

LONG = 256
"""A name weighs one, and one more for each so many characters: an id may have 2,048 bytes."""


class Strangers:
    """The targets of one source whose asset was never there as far as is known, or is one the upstream is silent about.

    Those count too that are kept in the store for who names them.

    One that somebody names or waits for counts against the caller who brought it. An idle one counts against nobody,
    and is dropped when a new one needs its room, the longest idle first.
    """

    def __init__(self, limit: int) -> None:
        self.quota = Quota(limit)
        self._brought_by: dict[Target, Caller] = {}
        self._idle: OrderedDict[Target, None] = OrderedDict()

    def __contains__(self, target: Target) -> bool:
        """Whether a target is one."""
        return target in self._brought_by

    def add(self, target: Target, caller: Caller) -> None:
        """Add a target that a caller brought; it is idle until `note` finds that it is not."""
        self._brought_by[target] = caller
        self._idle[target] = None

    def remove(self, target: Target) -> None:
        """Remove a target whose asset was seen, or which is dropped."""
        if (caller := self._brought_by.pop(target, None)) is None:
            return
        if target in self._idle:
            del self._idle[target]
        else:
            self.quota.add(caller, -weight(target.asset_id))

    def note(self, target: Target) -> None:
        """Find whether a target is idle now, and count it accordingly."""
        if (caller := self._brought_by.get(target)) is None or _idle(target) == (target in self._idle):
            return
        if target in self._idle:
            del self._idle[target]
        else:
            self._idle[target] = None
        self.quota.add(caller, weight(target.asset_id) * (-1 if target in self._idle else 1))

    def claimed(self, targets: Iterable[Target], caller: Caller) -> list[Target]:
        """Give the idle ones among targets to this caller, as the last to be dropped; return them."""
        idle = [target for target in targets if target in self._idle]
        for target in idle:
            self._brought_by[target] = caller
            self._idle.move_to_end(target)
        return idle

    def idle_count(self) -> int:
        """How many can be dropped."""
        return len(self._idle)

    def longest_idle(self) -> Target:
        """Return the next to be dropped; there must be one."""
        return next(iter(self._idle))


def weight(asset_id: str) -> int:
    """Return what a name nobody has seen an asset of counts for."""
    return 1 + len(asset_id) // LONG


def _idle(target: Target) -> bool:
    """Whether nobody would miss a target of which nothing is known."""
    demand = target.demand
    asked_for = demand.pinned or demand.named or demand.awaited or target.presence.listed
    return not (asked_for or target.under_way)
