"""What the stores have in common: a ledger to be read, and the order in which removals leave it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.model.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.changefeed.store.ledger import Ledger
    from assetwatchd.model.values import AssetKey, Entry

DROPPED_TOGETHER = 1000
"""So many entries are looked at, and so many removals leave the ledger, before everybody else has a turn: a millisecond
or two.
"""


class LedgerStore:
    """The reading half of Store, and drop_gone; what there is to do on a disk for that is `_forget`."""

    def __init__(self, ledger: Ledger, *, epoch: str, now: Callable[[], float], head: int = 0, floor: int = 0) -> None:
        """now: the wall clock (s since 1970) by which entries are stamped as committed."""
        self.epoch = epoch
        self.head = head
        self.floor = floor
        self.get = ledger.get
        self.after = ledger.after
        self.keys = ledger.keys
        self.count = ledger.count
        self._ledger = ledger
        self._now = now
        # Of two sweeps at once, one that fails would lower the floor that the other raised. Held while the disk is
        # written, but by sweeps alone: commits and reads never take it, so nobody waits for a sweep.
        self._dropping = asyncio.Lock()

    async def run(self, moved: Callable[[], None]) -> None:
        """Nothing comes from elsewhere: whoever commits says so."""

    async def caught_up(self) -> None:
        """Nobody else commits."""

    async def drop_gone(self, *, before: float, keep: Callable[[AssetKey], bool]) -> int:
        """Choose and raise the floor, forget, drop; one call after the other.

        Nothing is awaited between choosing some and raising the floor: whoever resumes from then on is refused, though
        what goes is still there. If it cannot be forgotten, it is not dropped, and the floor is where it was.
        """
        async with self._dropping:
            floor = self.floor
            going = await self._chosen(lambda entry: entry.gone and entry.committed_at < before and not keep(entry.key))
            if not going:
                return 0
            try:
                await self._forget([entry.revision for entry in going], floor=self.floor)
            except StoreError:
                self.floor = floor
                raise
            return await self._drop(going)

    async def _chosen(self, goes: Callable[[Entry], bool]) -> Sequence[Entry]:
        """Raise the floor over all entries that go, and return those; others have a turn now and then."""
        going: list[Entry] = []
        cursor, head = 0, self.head
        while some := self._ledger.after(cursor, head, DROPPED_TOGETHER):
            cursor = some[-1].revision
            if chosen := [entry for entry in some if goes(entry)]:
                self.floor = max(self.floor, chosen[-1].revision)
                going += chosen
            await asyncio.sleep(0)
        return going

    async def _drop(self, going: Sequence[Entry]) -> int:
        """Drop those of the ledger that are the latest still, others having a turn now and then; return how many."""
        count = 0
        for begin in range(0, len(going), DROPPED_TOGETHER):
            some = going[begin : begin + DROPPED_TOGETHER]
            dropped = [entry.key for entry in some if self._ledger.get(entry.key) is entry]
            self._ledger.drop(dropped)
            count += len(dropped)
            await asyncio.sleep(0)
        return count

    def forget(self, key: AssetKey) -> None:
        """Drop an entry from the ledger, if it is gone."""
        entry = self._ledger.get(key)
        if entry is not None and entry.gone:
            self._forgotten(entry)
            self._ledger.drop([key])

    def _forgotten(self, entry: Entry) -> None:
        """See that it is not found again, where entries outlast the ledger."""

    async def _forget(self, revisions: Sequence[int], *, floor: int) -> None:
        """Make the floor last, and that these entries are no more. Raises: StoreError; then nothing was changed."""
