"""Compacts the history of an etcd that does not do so itself: one replica does it, and all know when it was done.

Each replica wakes every INTERVAL_S and tries to write the mark, on the condition that nobody has since it looked last.
Who succeeds compacts up to the revision that it saw then. So what is kept is never less than the last INTERVAL_S, it is
done once in that time by whoever wakes first, and by another when that one is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from assetwatchd.etcd.errors import Compacted, EtcdError
from assetwatchd.etcd.operations import get, modified, put

if TYPE_CHECKING:
    from assetwatchd.etcd.client import EtcdClient

INTERVAL_S = 300.0
"""As Kubernetes does it: whoever is away for longer reads everything anew, which takes seconds."""
log = logging.getLogger(__name__)


class Compaction:
    """One replica's part in it. prefix: that of the deployment; the mark is a key below it."""

    def __init__(self, client: EtcdClient, prefix: bytes) -> None:
        self._client = client
        self._mark = prefix + b"u/compaction"
        self._marked = 0
        self._seen = 0

    async def run(self) -> None:
        """Take part for ever."""
        while True:
            try:
                await self.turn()
            except EtcdError as error:
                log.warning("etcd's history is not compacted for now: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def turn(self) -> int:
        """Compact, if it is our turn; return up to which revision, 0 for none. Raises: EtcdError."""
        outcome = await self._client.txn(
            [modified(self._mark, self._marked)], [put(self._mark, b"%d" % self._seen)], [get(self._mark)]
        )
        upto, self._seen = self._seen, outcome.revision
        if not outcome.succeeded:
            found = outcome.one(0)
            self._marked = found.modified if found else 0
            return 0
        self._marked = outcome.revision
        return await self._compact(upto) if upto else 0

    async def _compact(self, upto: int) -> int:
        try:
            await self._client.compact(upto)
        except Compacted:  # by somebody else, and further
            return 0
        log.info("compacted etcd's history up to revision %d", upto)
        return upto
