"""The store of several processes. Each reads its mirror of etcd; a source is written by the one whose term it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import beginning
from assetwatchd.changefeed.store.etcd.currency import Currency
from assetwatchd.changefeed.store.etcd.fence import Fence
from assetwatchd.changefeed.store.etcd.following import Following
from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.lane import Lane
from assetwatchd.changefeed.store.etcd.mirror import Mirror
from assetwatchd.changefeed.store.ledger_store import DROPPED_TOGETHER
from assetwatchd.model.errors import HistoryBroken, NotOwner, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from assetwatchd.changefeed.store.etcd.fence import Terms
    from assetwatchd.changefeed.store.etcd.reading import Reading
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.model.values import AssetKey, Entry

FORGET_S = 1.0
"""What was forgotten is deleted this much later, with what else was."""
CUT_OFF_S = 3.0

log = logging.getLogger(__name__)


class NoTerms:
    """Nothing is this process's to write."""

    def term(self, source: str) -> int | None:  # noqa: ARG002 - whatever it is
        """None is."""
        return None


class EtcdStore:
    """Implements Store. Use `open`; nothing is committed, and the head does not move, but while `run` runs.

    mirror: all that is in etcd, for whoever keeps other keys beside entries there. currency: whether it is up to date.
    """

    def __init__(
        self,
        client: EtcdClient,
        names: Keys,
        seal: Seal,
        reading: Reading,
        *,
        cut_off_s: float,
        now: Callable[[], float],
    ) -> None:
        self.mirror = Mirror(reading.contents, reading.revision)
        self._client = client
        self._names = names
        self._now = now
        self._following = Following(client, names, seal, self.mirror, reading.cluster)
        self.currency = Currency(client, names, self.mirror, self._following, cut_off_s=cut_off_s)
        self._fence = Fence(client, names, self.mirror, NoTerms())
        self._lanes: dict[str, Lane] = {}
        self._raised = 0
        self._dropping = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        client: EtcdClient,
        *,
        prefix: str,
        seal: Seal,
        cut_off_s: float = CUT_OFF_S,
        now: Callable[[], float] = time.time,
    ) -> EtcdStore:
        """Begin an epoch and read all that there is. The client is the store's from now on.

        prefix: what all keys of this deployment begin with. seal: `Encoder.seal`.
        Raises: StoreError.
        """
        names = Keys(prefix)
        try:
            reading = await beginning.begin(client, names, seal)
        except BaseException:
            await client.close()
            raise
        return cls(client, names, seal, reading, cut_off_s=cut_off_s, now=now)

    @property
    def terms(self) -> Terms:
        """Tells which sources are this process's to write: until somebody who knows is put here, none."""
        return self._fence.terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        self._fence.terms = terms

    @property
    def unknown(self) -> int:
        """How many transactions had no answer, so that what became of them had to be found out."""
        return self._fence.unknown

    @property
    def rereads(self) -> int:
        """How often all was read anew, as etcd no longer had what had changed meanwhile."""
        return self._following.rereads

    # Reading ---------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        """That in which all processes count at the moment."""
        return self.mirror.contents.epochs.current

    @property
    def head(self) -> int:
        """The last revision that the mirror's has room for."""
        return self.mirror.head

    @property
    def floor(self) -> int:
        """That which etcd has, or which was raised here just now."""
        return max(self.mirror.contents.floor, self._raised)

    def continues(self, epoch: str, revision: int) -> bool:
        """What is counted now, and what was counted in earlier epochs, as far as etcd has it."""
        return self.mirror.contents.epochs.continues(epoch, revision)

    async def caught_up(self) -> None:
        """As a read that a majority agrees on tells how far etcd is."""
        await self.currency.caught_up()

    def get(self, key: AssetKey) -> Entry | None:
        """Of the mirror."""
        return self.mirror.contents.ledger.get(key)

    def after(self, cursor: int, upto: int, limit: int | None = None) -> Sequence[Entry]:
        """Of the mirror."""
        return self.mirror.contents.ledger.after(cursor, upto, limit)

    def keys(self, source: str) -> Iterable[AssetKey]:
        """Of the mirror."""
        return self.mirror.contents.ledger.keys(source)

    def count(self, source: str) -> int:
        """Of the mirror."""
        return self.mirror.contents.ledger.count(source)

    # Writing ---------------------------------------------------------------------------------------------------------

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Write the drafts, all of one source; return when the mirror has them.

        A caller that is cancelled meanwhile does not know whether they were written. Of more than fit into one
        transaction, the first may be kept when this raises StoreError.
        """
        return await self._lane(drafts[0].key.source).commit(drafts) if drafts else ()

    async def drop_gone(self, *, before: float, keep: Callable[[AssetKey], bool]) -> int:
        """Choose those of sources that are ours and raise the floor; then delete, with the floor, source by source."""
        async with self._dropping:
            count = 0
            try:
                for source, entries in (await self._chosen(before, keep)).items():
                    with contextlib.suppress(NotOwner):  # whoever owns the source now drops them
                        count += await self._lane(source).drop(entries)
            finally:
                self._raised = 0
            return count

    async def _chosen(self, before: float, keep: Callable[[AssetKey], bool]) -> dict[str, list[Entry]]:
        """Raise the floor over all that go, and return those by source; others have a turn now and then."""
        going: dict[str, list[Entry]] = defaultdict(list)
        cursor, head = 0, self.head
        while some := self.after(cursor, head, DROPPED_TOGETHER):
            cursor = some[-1].revision
            for entry in some:
                source = entry.key.source
                if entry.gone and entry.committed_at < before and self.terms.term(source) and not keep(entry.key):
                    self._raised = max(self._raised, entry.revision)
                    going[source].append(entry)
            await asyncio.sleep(0)
        return going

    def forget(self, key: AssetKey) -> None:
        """Drop an entry from the mirror, if it is gone, and soon from etcd, and so from other mirrors."""
        entry = self.get(key)
        if entry is not None and entry.gone:
            self.mirror.contents.ledger.drop([key])
            self._lane(key.source).forget(key)

    # As long as it lasts ---------------------------------------------------------------------------------------------

    async def run(self, moved: Callable[[], None]) -> None:
        """Follow etcd until cancelled; what comes from other processes moves the head. Raises: HistoryBroken."""
        self.mirror.moved = moved
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._following.run(), name="store.following")
                tasks.create_task(self.currency.run(), name="store.currency")
                tasks.create_task(self._flush(), name="store.forgetting")
        except* HistoryBroken as broken:
            why = broken.exceptions[0]
        else:
            return
        raise why

    async def close(self) -> None:
        """Give up what is being written, and the client."""
        for lane in self._lanes.values():
            await lane.close()
        await self._client.close()

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FORGET_S)
            for lane in list(self._lanes.values()):
                with contextlib.suppress(StoreError, NotOwner):  # as long as it lasts, they are told of by commits
                    await lane.flush()

    def _lane(self, source: str) -> Lane:
        if (lane := self._lanes.get(source)) is None:
            lane = self._lanes[source] = Lane(source, self._fence, self._names, self.mirror, self._now)
        return lane
