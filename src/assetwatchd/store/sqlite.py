"""The default store: entries in memory to be read, and in a SQLite file to be kept.

One thread writes. Whatever was committed while it wrote goes into the next transaction together, so the number of syncs
depends on the disk and not on the load. An entry can be read once the transaction that holds it is on the disk.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from assetwatchd import points
from assetwatchd.errors import StoreError
from assetwatchd.store.ledger import Ledger
from assetwatchd.store.ledger_store import LedgerStore
from assetwatchd.store.sqlite_file import Contents, StoreFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from assetwatchd.model import Entry
    from assetwatchd.store import Draft

T = TypeVar("T")


class Waiting(NamedTuple):
    """One commit that waits for the writer."""

    drafts: Sequence[Draft]
    done: asyncio.Future[Sequence[Entry]]


class SqliteStore(LedgerStore):
    """Implements Store. Use `open`."""

    def __init__(self, thread: ThreadPoolExecutor, file: StoreFile, contents: Contents, ledger: Ledger) -> None:
        super().__init__(ledger, epoch=contents.epoch, head=contents.head, floor=contents.floor)
        self._past = contents.past
        self._thread = thread
        self._file = file
        self._waiting: list[Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open or create the file, and hold it until `close`: no other process can open it meanwhile.

        Raises: StoreError when it is in use, not ours, damaged, or cannot be written; the text says what to do.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            file, contents, ledger = await asyncio.get_running_loop().run_in_executor(thread, _opened, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(thread, file, contents, ledger)

    def continues(self, epoch: str, revision: int) -> bool:
        """What this run counts, and what earlier runs on this file counted, as far as it is in the file."""
        return epoch == self.epoch or revision <= self._past.get(epoch, -1)

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Queue the drafts for the next transaction; return when that is on the disk.

        A caller that is cancelled meanwhile does not know whether it was. Raises: StoreError.
        """
        if self._closed:
            raise StoreError("the store is closed")
        done: asyncio.Future[Sequence[Entry]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(drafts, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="store.writer")
        return await done

    async def close(self) -> None:
        """Write what was committed, then release the file."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer])
        try:
            await self._in_thread(self._file.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _forget(self, revisions: Sequence[int], *, floor: int) -> None:
        await points.hit("before_floor_write")
        await self._in_thread(lambda: self._file.drop(revisions, floor=floor))
        await points.hit("after_floor_before_purge")

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._write(group)
        finally:
            self._writer = None

    async def _write(self, group: Sequence[Waiting]) -> None:
        """Commit everything that waits together; if that fails, everybody is told and nothing has happened."""
        drafts = [draft for waiting in group for draft in waiting.drafts]
        try:
            entries = await self._in_thread(lambda: self._written(drafts))
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers are told
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
            return
        for entry in entries:
            self._ledger.put(entry)
        self.head += len(entries)
        start = 0
        for waiting in group:
            end = start + len(waiting.drafts)
            if not waiting.done.done():
                waiting.done.set_result(entries[start:end])
            start = end

    def _written(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Number and write, in the store's thread.

        Head and ledger move on only between two calls, save that removals leave the ledger once they left the file.
        """
        entries = [draft.entry(revision) for revision, draft in enumerate(drafts, self.head + 1)]
        latest = {entry.key: entry for entry in entries}
        superseded = [old.revision for key in latest if (old := self._ledger.get(key)) is not None]
        if latest:
            self._file.put(latest.values(), superseded=superseded)
        return entries

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _opened(path: Path) -> tuple[StoreFile, Contents, Ledger]:
    file = StoreFile(path)
    try:
        contents = file.load()
    except StoreError:
        file.close()
        raise
    ledger = Ledger()
    for entry in contents.entries:
        ledger.put(entry)
    return file, contents, ledger
