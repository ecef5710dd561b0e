"""The default store: entries in memory to be read, and in a SQLite file to be kept.

One thread writes. Whatever was committed while it wrote goes into the next transaction together, so the number of syncs
depends on the disk and not on the load. An entry can be read once the transaction that holds it is on the disk.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from assetwatchd.changefeed.store import sqlite_place
from assetwatchd.changefeed.store.copying import Content
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.changefeed.store.ledger_store import LedgerStore
from assetwatchd.changefeed.store.sqlite_file import MIGRATIONS, Contents, StoreFile
from assetwatchd.model.errors import StoreError
from assetwatchd.runtime import failpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import AssetKey, Entry

T = TypeVar("T")
Outcome: TypeAlias = "Sequence[Entry] | Exception"
"""How a commit ended."""


class Waiting(NamedTuple):
    """One commit that waits for the writer."""

    drafts: Sequence[Draft]
    done: asyncio.Future[Sequence[Entry]]

    def sealed(self, *, after: int, at: float) -> Outcome:
        """Number its drafts from the next revision on, as of a time; return what went wrong if one cannot be sealed."""
        try:
            return [draft.entry(number, committed_at=at) for number, draft in enumerate(self.drafts, after + 1)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this caller's and nobody else's
            return error

    def tell(self, outcome: Outcome) -> None:
        """Let its caller go on, unless that has gone."""
        if self.done.done():
            return
        if isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class SqliteStore(LedgerStore):
    """Implements Store. Use `open`."""

    def __init__(
        self, thread: ThreadPoolExecutor, file: StoreFile, contents: Contents, ledger: Ledger, now: Callable[[], float]
    ) -> None:
        super().__init__(ledger, epoch=contents.epoch, now=now, head=contents.head, floor=contents.floor)
        self._past = contents.past
        self._thread = thread
        self._file = file
        self._waiting: list[Waiting] = []
        self._leaving: dict[AssetKey, int] = {}
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, now: Callable[[], float] = time.time) -> SqliteStore:
        """Open or create the file, and hold it until `close`: no other process can open it meanwhile.

        Raises: StoreError when it is in use, not ours, damaged, or cannot be written; the text says what to do.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            file, contents, ledger = await asyncio.get_running_loop().run_in_executor(thread, _opened, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(thread, file, contents, ledger, now)

    def content(self) -> Content:
        """Return all that it holds."""
        return Content(self.after(0, self.head), self.head, self.floor, {**self._past, self.epoch: self.head})

    @staticmethod
    async def fill(path: Path, content: Content) -> None:
        """Make a file of what another store held. Raises: StoreError, also when the file has something in it."""
        await asyncio.to_thread(_fill, path, content)

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
        await failpoints.hit("before_floor_write")
        await self._in_thread(lambda: self._file.drop(revisions, floor=floor))
        await failpoints.hit("after_floor_before_purge")

    def _forgotten(self, entry: Entry) -> None:
        """Have its row deleted by the next transaction, which has a newer one, so that the head lasts."""
        self._leaving[entry.key] = entry.revision

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._write(group)
        finally:
            self._writer = None

    async def _write(self, group: Sequence[Waiting]) -> None:
        """Commit everything that waits together; if that fails, everybody is told and nothing has happened."""
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._in_thread(lambda: self._written(group))
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers are told
            outcomes = [error] * len(group)
        for waiting, outcome in zip(group, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                for entry in outcome:
                    self._ledger.put(entry)
                self.head += len(outcome)
            waiting.tell(outcome)

    def _written(self, group: Sequence[Waiting]) -> Sequence[Outcome]:
        """Number and write, in the store's thread; a commit that cannot be sealed fails alone, and takes no number.

        Head and ledger move on only between two calls, save that removals leave the ledger once they left the file.
        """
        outcomes: list[Outcome] = []
        latest: dict[AssetKey, Entry] = {}
        head, at = self.head, self._now()
        for waiting in group:
            outcomes.append(outcome := waiting.sealed(after=head, at=at))
            if not isinstance(outcome, Exception):
                head += len(outcome)
                latest |= {entry.key: entry for entry in outcome}
        if latest:
            superseded = [old.revision for key in latest if (old := self._ledger.get(key)) is not None]
            leaving = dict(self._leaving)
            self._file.put(latest.values(), superseded=[*superseded, *leaving.values()])
            for key in leaving:
                del self._leaving[key]
        return outcomes

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def problems(path: Path) -> Iterator[str]:
    """Yield what keeps a store from being opened there, as far as that shows while another process has it."""
    return sqlite_place.problems(path, newest=len(MIGRATIONS))


def _fill(path: Path, content: Content) -> None:
    file = StoreFile(path)
    try:
        file.load()
        file.fill(content)
    finally:
        file.close()


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
