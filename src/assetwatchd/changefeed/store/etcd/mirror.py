"""The mirror: all that etcd has below the prefix, in memory, as of one revision; moved on by what the watch tells.

It is fed by one task, in the order of revisions, and awaits nobody. What one transaction wrote is seen as a whole. Keys
that are no entries (who owns what, conditions, interest) are told, in that same order, to whoever subscribed to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from assetwatchd.changefeed.store.etcd import keys
from assetwatchd.model.errors import HistoryBroken

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.etcd.contents import Contents
    from assetwatchd.etcd.values import KeyValue, News

Listener: TypeAlias = Callable[[bytes, "KeyValue | None"], None]
"""Told the name of a key, and the key as it is now: None once it is deleted."""


class Mirror:
    """Contents, and up to which revision of etcd they are all there is.

    moved: called whenever the revision moved, once everybody else was told.
    """

    def __init__(self, contents: Contents, revision: int) -> None:
        self.contents = contents
        self.revision = revision
        self.moved: Callable[[], None] = _nobody
        self._listeners: list[tuple[bytes, Listener]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def head(self) -> int:
        """The revision of entries that none up to here is above, and every later one is."""
        return self.contents.number(self.revision, keys.PLACES - 1)

    def chain(self, source: str) -> int:
        """The revision of etcd at which a source was committed to last; 0, never."""
        key = self.contents.others.get(keys.chain(source))
        return 0 if key is None else key.modified

    def get(self, name: bytes) -> KeyValue | None:
        """Return a key that is no entry, by its name."""
        return self.contents.others.get(name)

    def subscribe(self, prefix: bytes, listener: Listener) -> None:
        """Have a listener told of every key whose name begins so, those that are there at once; not of entries.

        It is called when `revision` and all contents are as of the news, and has to be quick. Of a key that was deleted
        and written again while nothing could be read, it is told the latter alone; what was deleted then, it is told.
        """
        self._listeners.append((prefix, listener))
        for name, key in list(self.contents.others.items()):
            if name.startswith(prefix):
                listener(name, key)

    async def reached(self, revision: int) -> None:
        """Return once all up to that revision of etcd is here."""
        if self.revision >= revision:
            return
        done = asyncio.get_running_loop().create_future()
        waiting = (revision, done)
        self._waiting.append(waiting)
        try:
            await done
        finally:
            self._waiting.remove(waiting)

    def apply(self, news: News) -> None:
        """Take what a watch told. Raises: HistoryBroken."""
        contents = self.contents
        told = [name for event in news.events if (name := contents.take(event)) is not None]
        if keys.BASE in told:
            raise HistoryBroken("another store was copied into it")
        if keys.EPOCHS in told and keys.EPOCHS not in contents.others:
            raise HistoryBroken("its keys were deleted")  # with entries, perhaps, of whose removal nobody was told
        self._advance(news.revision)
        for name in told:
            self._tell(name)
        self._end()

    def replace(self, contents: Contents, revision: int) -> None:
        """Take what was read anew, as of a revision that is not before this one; tell how it differs."""
        before, self.contents = self.contents.others, contents
        self._advance(revision)
        for name in before.keys() - contents.others.keys():
            self._tell(name)
        for name, key in list(contents.others.items()):
            if before.get(name) != key:
                self._tell(name)
        self._end()

    def _advance(self, revision: int) -> None:
        self.revision = max(self.revision, revision)

    def _tell(self, name: bytes) -> None:
        """Tell of a key as it is now, so that one that changed twice in the same news is told twice alike."""
        key = self.contents.others.get(name)
        for prefix, listener in self._listeners:
            if name.startswith(prefix):
                listener(name, key)

    def _end(self) -> None:
        """Wake who waited for this revision, and say that it moved."""
        for revision, done in self._waiting:
            if revision <= self.revision and not done.done():
                done.set_result(None)
        self.moved()


def _nobody() -> None:
    """Nobody is told."""
