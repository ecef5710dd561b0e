"""A store that lasts as long as its process."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.changefeed.store.ledger_store import LedgerStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import Entry


class MemoryStore(LedgerStore):
    """Implements Store; each one is an epoch of its own."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__(Ledger(), epoch=uuid.uuid4().hex[:16], now=now)

    def continues(self, epoch: str, revision: int) -> bool:  # noqa: ARG002 - its one epoch has counted all there is
        """Only what it counted itself."""
        return epoch == self.epoch

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Number the drafts and put them in the ledger."""
        at = self._now()
        entries = [draft.entry(revision, committed_at=at) for revision, draft in enumerate(drafts, self.head + 1)]
        for entry in entries:
            self._ledger.put(entry)
        self.head += len(entries)
        return entries

    async def close(self) -> None:
        """Nothing is held."""
