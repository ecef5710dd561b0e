"""A store that lasts as long as its process."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from assetwatchd.store.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.model import AssetKey, Entry
    from assetwatchd.store import Draft


class MemoryStore:
    """Implements Store; each one is an epoch of its own."""

    def __init__(self) -> None:
        self.epoch = uuid.uuid4().hex[:16]
        self.head = 0
        self.floor = 0
        self._ledger = Ledger()
        self.get = self._ledger.get
        self.after = self._ledger.after
        self.keys = self._ledger.keys
        self.count = self._ledger.count

    def continues(self, epoch: str, revision: int) -> bool:  # noqa: ARG002 - its one epoch has counted all there is
        """Only what it counted itself."""
        return epoch == self.epoch

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Number the drafts and put them in the ledger."""
        entries = [draft.entry(revision) for revision, draft in enumerate(drafts, self.head + 1)]
        for entry in entries:
            self._ledger.put(entry)
        self.head += len(entries)
        return entries

    async def drop_gone(self, *, before: float, keep: Callable[[AssetKey], bool]) -> int:
        """Raise the floor to the newest removal that goes, then drop."""
        going = [entry for entry in self._ledger.gone(before=before) if not keep(entry.key)]
        if going:
            self.floor = max(self.floor, going[-1].revision)
            self._ledger.drop(entry.key for entry in going)
        return len(going)

    async def close(self) -> None:
        """Nothing is held."""
