"""Who is interested in one source: in all there is, in assets by name, or lately. Time is the event loop's; no I/O.

Owns `Target.demand`. Must not know what follows from it for the next reads (plan.py).
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Self

from assetwatchd.polling import demand
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.slices import SLICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.polling.registry import Registry
    from assetwatchd.polling.target import Target
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities

COUNTED_FOR_S = 1.0
"""Counting those of interest takes 25 ms of a source with 100,000 assets, and anybody may ask for it at any time."""
LONG_AGO = -math.inf


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


class Interests:
    """The interest in one source and its targets. whole_begun: set each time all there is comes to be of interest."""

    def __init__(self, settings: SourceSettings, can: Capabilities, targets: Registry) -> None:
        self.whole_begun = asyncio.Event()
        self._settings = settings
        self._can = can
        self._targets = targets
        self._named = 0
        self._whole = 0
        self._whole_until = LONG_AGO
        self._lingers_until = LONG_AGO
        self._counting = asyncio.Lock()
        self._counted_until = LONG_AGO
        self._wanted_count = 0

    # Whether there is any --------------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether anybody is interested in anything here."""
        lingers = self._lingers_until > loop_time()
        return self.whole or self._named > 0 or bool(self._settings.pins) or lingers

    @property
    def whole(self) -> bool:
        """Whether anybody is interested in all there is."""
        return self._whole > 0 or self._whole_until > loop_time()

    def wanted(self, target: Target) -> bool:
        """Whether anybody is interested in an asset now.

        The whole has none that never was, and leaves one that is gone to the lists.
        """
        now = loop_time()
        return self._wanted(target, now, whole=self._whole > 0 or self._whole_until > now)

    def _wanted(self, target: Target, now: float, *, whole: bool) -> bool:
        pinned, named, awaited, linger_until = target.demand
        if pinned or named or awaited or linger_until > now:
            return True
        if not whole or target.presence.listed:
            return whole
        known = target.knowledge
        gone = known.negative_result or (known.gone and self._can.enumerates)
        return not (gone or self._targets.is_stranger(target))

    async def count(self) -> int:
        """How many assets anybody is interested in now; of many, as counted within the last COUNTED_FOR_S."""
        async with self._counting:
            if loop_time() >= self._counted_until:
                self._wanted_count = await self._count()
                self._counted_until = loop_time() + COUNTED_FOR_S * (len(self._targets) > SLICE)
            return self._wanted_count

    async def _count(self) -> int:
        count = 0
        for targets in self._targets.slices():
            now, whole = loop_time(), self.whole
            count += sum(self._wanted(target, now, whole=whole) for target in targets)
            await asyncio.sleep(0)
        return count

    # By name ---------------------------------------------------------------------------------------------------------

    def pin(self, target: Target) -> None:
        """Note that the configuration names an asset."""
        target.demand = demand.pinned(target.demand)
        self._targets.note(target)

    def begin_named(self, target: Target) -> None:
        """Note that one more asks for an asset by name."""
        self._named += 1
        target.demand = demand.named(target.demand, 1)
        self._targets.note(target)

    def end_named(self, target: Target) -> None:
        """Note that one of those does not any more."""
        self._named -= 1
        target.demand = demand.named(target.demand, -1)
        self._targets.note(target)

    def wait(self, target: Target, *, awaited: bool) -> None:
        """Note whether anybody waits for the next read of an asset."""
        target.demand = demand.awaited(target.demand) if awaited else demand.not_awaited(target.demand)
        self._targets.note(target)

    # For a while -----------------------------------------------------------------------------------------------------

    def attend(self) -> float:
        """Be interested in the source for a while, though not in any asset of it; return until when."""
        self._lingers_until = self._in_a_while()
        return self._lingers_until

    def linger(self, target: Target, until: float | None = None) -> None:
        """Keep an asset of interest until then, or for a while, that was read, or tried."""
        target.demand = demand.lingering(target.demand, self._in_a_while() if until is None else until)

    def _in_a_while(self) -> float:
        return loop_time() + self._settings.linger_s

    # The whole -------------------------------------------------------------------------------------------------------

    def begin_whole(self) -> None:
        """Keep all there is of interest until `end_whole`."""
        self.view_whole()
        self._whole += 1

    def end_whole(self) -> None:
        """Let it be of interest for a while yet."""
        self.view_whole()
        self._whole -= 1

    def view_whole(self) -> None:
        """Keep all there is of interest for a while."""
        begins = not self.whole
        self._whole_until = max(self._whole_until, self._in_a_while())
        if begins:
            self.whole_begun.set()
