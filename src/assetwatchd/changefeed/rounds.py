"""Rounds: the head moves to what is committed, and the streams that this concerns are woken, paced.

Owns the hub's head and the order of a round. How long to wait and how many to wake it asks `pace`; what a stream does
once it is woken is its own business, and never waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.changefeed import pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.changefeed.groups import Groups
    from assetwatchd.changefeed.hub_state import HubState
    from assetwatchd.changefeed.watcher import Watcher


class Rounds:
    """Runs a round when something was published, and leaves a share of the time to everything else."""

    def __init__(self, hub: HubState, groups: Groups, worked_s: Callable[[], float]) -> None:
        """worked_s: the processor time of this thread."""
        self._hub = hub
        self._groups = groups
        self._worked_s = worked_s
        self._published = asyncio.Event()
        self._moved = asyncio.Event()

    def publish(self) -> None:
        """Say that the store's head moved. Awaits nobody."""
        self._published.set()

    async def reached(self, revision: int) -> None:
        """Return once the head is at least that revision."""
        while self._hub.head < revision:
            await self._moved.wait()

    async def run(self) -> None:
        """Run rounds until cancelled."""
        while True:
            await self._published.wait()
            self._published.clear()  # before the head is read: what is published from here on has its own round
            began_s, worked_s = asyncio.get_running_loop().time(), self._worked_s()
            self._hub.joining = False
            await self._wake(self._advance())
            await self._pause(began_s, worked_s)

    async def _pause(self, began_s: float, worked_s: float) -> None:
        """Wait until the next round may begin; what this one costs is known better each time that seems to be so."""
        loop = asyncio.get_running_loop()
        pause_s = pace.ROUND_PAUSE_S
        while pause_s > 0:
            await asyncio.sleep(pause_s)
            span_s = pace.round_s(self._worked_s() - worked_s, joining=self._hub.joining)
            pause_s = began_s + span_s - loop.time()

    def _advance(self) -> Sequence[Watcher]:
        """Move the head; return the parked watchers that are behind now.

        All of it without letting anybody else run: who joins finds either the old head and is behind, or the new one.
        """
        hub = self._hub
        before, hub.head = hub.head, hub.store.head
        self._moved.set()
        self._moved = asyncio.Event()
        if before < hub.store.floor:  # removals may be gone already; each range that is told sees whether its own are
            hub.skipped = hub.store.floor
            concerned = set(self._groups)
        else:
            concerned = self._groups.concerned(hub.store.after(before, hub.head))
        return [watcher for group in concerned for watcher in group.watchers if watcher.fall_behind(before)]

    async def _wake(self, watchers: Sequence[Watcher]) -> None:
        """Wake some, then let everybody else run: gRPC takes one new call each time around the loop."""
        start = 0
        while start < len(watchers):
            end = start + pace.woken_together(joining=self._hub.joining)
            for watcher in watchers[start:end]:
                watcher.wake()
            await asyncio.sleep(0)
            start = end
