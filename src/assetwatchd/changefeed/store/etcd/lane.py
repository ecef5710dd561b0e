"""All that is written of one source, one transaction after the other; what waits meanwhile goes into the next."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd.parts import DRAFTS_MAX, parts
from assetwatchd.changefeed.store.etcd.records import drafted
from assetwatchd.etcd.errors import TooLarge
from assetwatchd.etcd.operations import delete, put
from assetwatchd.runtime.slices import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from assetwatchd.changefeed.store.etcd.fence import Fence
    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.etcd.operations import Operation
    from assetwatchd.model.values import AssetKey, Entry

log = logging.getLogger(__name__)


class Commit:
    """Drafts that wait for the writer, and what became of those that it has taken."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.done: asyncio.Future[Sequence[Entry]] = asyncio.get_running_loop().create_future()
        self._entries: list[Entry] = []
        self._left = len(drafts)

    def kept(self, entry: Entry | None) -> None:
        """Note the end of its next draft: None when that was left out."""
        if entry is not None:
            self._entries.append(entry)
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(self._entries)

    def fail(self, error: Exception) -> None:
        """Let its caller know, unless it is over or its caller has gone."""
        if not self.done.done():
            self.done.set_exception(error)


class Lane:
    """Owns every write of a source; its revisions rise in the order of the calls."""

    def __init__(self, source: str, fence: Fence, names: Keys, mirror: Mirror, now: Callable[[], float]) -> None:
        """now: the wall clock (s since 1970) by which entries are stamped as committed."""
        self._source = source
        self._fence = fence
        self._names = names
        self._mirror = mirror
        self._now = now
        self._waiting: list[Commit] = []
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._leaving: set[AssetKey] = set()
        self._refused: dict[AssetKey, bytes] = {}

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Write the drafts; return their entries when they can be read. Raises: NotOwner; StoreError."""
        commit = Commit(drafts)
        self._waiting.append(commit)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name=f"store.{self._source}")
        return await commit.done

    async def drop(self, entries: Sequence[Entry]) -> int:
        """Drop removals, those that are the latest still; return how many. The floor is raised in the same transaction.

        entries: in the order of revisions. Raises: NotOwner; StoreError, and then some may be dropped.
        """
        count = 0
        for some in parts_of(entries, DRAFTS_MAX - 1):
            async with self._turn:
                still = [entry for entry in some if self._mirror.contents.ledger.get(entry.key) is entry]
                if still:
                    floor = put(self._names.floor(self._source), b"%d" % still[-1].revision)
                    await self._fence.write(self._source, (floor, *self._deletions(entry.key for entry in still)))
            count += len(still)
        return count

    def forget(self, key: AssetKey) -> None:
        """Have an entry that left the ledger be deleted by the next `flush`."""
        self._leaving.add(key)

    async def flush(self) -> None:
        """Delete what was forgotten, and has not come back. Raises: NotOwner; StoreError."""
        for some in parts_of(list(self._leaving), DRAFTS_MAX):
            async with self._turn:
                ledger = self._mirror.contents.ledger
                going = [key for key in some if ledger.get(key) is None]
                if going:
                    await self._fence.write(self._source, tuple(self._deletions(going)))
                self._leaving.difference_update(some)

    async def close(self) -> None:
        """Give up what is being written, which may be done or not."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                async with self._turn:
                    commits, self._waiting = self._waiting, []
                    await self._write(commits)
        finally:
            self._writer = None

    async def _write(self, commits: Sequence[Commit]) -> None:
        """Write everything that waits together; of what fails, and what is behind it, the callers are told."""
        drafts = iter([(commit, draft) for commit in commits for draft in commit.drafts])
        try:
            for part in parts(commit.drafts for commit in commits):
                await self._store([next(drafts) for _ in part])
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers are told
            for commit in commits:
                commit.fail(error)
        finally:
            for commit in commits:
                commit.done.cancel()  # of those that are not over: the writer was cancelled

    async def _store(self, part: Sequence[tuple[Commit, Draft]]) -> None:
        """Write a part in one transaction; in two if etcd takes less than usual; leave out what alone is too much."""
        at = self._now()
        operations = [
            put(self._names.entry(draft.key), drafted(draft, place=place, committed_at=at))
            for place, (_, draft) in enumerate(part)
        ]
        try:
            revision = await self._fence.write(self._source, operations)
        except TooLarge as error:
            if len(part) == 1:
                self._leave_out(*part[0], error)
                return
            await self._store(part[: len(part) // 2])
            await self._store(part[len(part) // 2 :])
            return
        for place, (commit, draft) in enumerate(part):
            commit.kept(self._entry(draft, self._mirror.contents.number(revision, place), at))

    def _entry(self, draft: Draft, revision: int, at: float) -> Entry:
        """Return the mirror's own entry, unless something newer stands there already."""
        entry = self._mirror.contents.ledger.get(draft.key)
        if entry is not None and entry.revision == revision:
            return entry
        return draft.entry(revision, committed_at=at)

    def _leave_out(self, commit: Commit, draft: Draft, error: TooLarge) -> None:
        if self._refused.get(draft.key) != draft.digest:  # once, and not at each poll
            self._refused[draft.key] = draft.digest
            log.error(
                "source %s: the status of asset %s, %d bytes, is not kept and not told: %s",
                self._source,
                draft.key.asset_id,
                len(draft.content),
                error,
            )
        commit.kept(None)

    def _deletions(self, keys: Iterable[AssetKey]) -> Iterable[Operation]:
        return (delete(self._names.entry(key)) for key in keys)
