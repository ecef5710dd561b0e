"""Read single assets beside a stream: one task each, so that none waits for another, tried until it is answered.

The module owns these tasks. It does not know what follows from an answer: that is Intake's.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from assetwatchd.model.errors import AnswerTooLarge, AssetGone, BadAnswer, CallError, UpstreamError
from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.frames import Item, Omitted
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.upstream import backoff

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pydantic import JsonValue

    from assetwatchd.pieces.client.api import PiecesApi

WAITING_MAX = 10_000
"""So many assets may have to be asked about at the same time, a task of 4 kB each; the server needs a minute for them.
A stream that has news of more begins anew, with a list that tells of all."""

log = logging.getLogger(__name__)


@dataclass
class _Pending:
    """A read that is not answered yet. item: the latest reason for it. refetch: another came since the call began."""

    item: Item
    refetch: bool = False
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def cancel(self) -> list[asyncio.Task[None]]:
        """Cancel its task, and let go of it: how it ended has a frame that has us. Return it, if there is one."""
        task, self.task = self.task, None
        if task is None:
            return []
        task.cancel()
        return [task]


class Reads:
    """Make at most one read an asset, and half of the source's concurrency altogether: the rest is for calls.

    answered is given why an asset was read, and the asset as an item of an Assets stream: there, gone, or too large.
    """

    def __init__(
        self,
        api: PiecesApi,
        *,
        transferables: bool,
        answered: Callable[[Item, Item], Awaitable[None]],
        rng: random.Random,
    ) -> None:
        self._api = api
        self._transferables = transferables
        self._answered = answered
        self._rng = rng
        self._slots = asyncio.Semaphore(max(1, api.settings.concurrency // 2))
        self._pending: dict[str, _Pending] = {}

    def want(self, item: Item) -> None:
        """Have an asset read; once more if it is being read, for that answer may be older.

        Raises: BadAnswer when too many others wait to be read.
        """
        if (pending := self._pending.get(item.asset_id)) is not None:
            pending.item, pending.refetch = item, True
            return
        if len(self._pending) >= WAITING_MAX:
            raise BadAnswer(f"the stream has news of more than {WAITING_MAX} assets that must be asked about")
        pending = self._pending[item.asset_id] = _Pending(item)
        pending.task = asyncio.create_task(self._run(pending), name=f"{self._api.source}.read.{item.asset_id}")

    def forget(self, asset_id: str) -> None:
        """Give up reading an asset: the stream has said what became of it."""
        pending = self._pending.pop(asset_id, None)
        if pending is not None and pending.cancel():
            pending.tried.set()

    async def tried(self) -> None:
        """Return once everything wanted so far was answered, or failed for the first time."""
        for pending in list(self._pending.values()):
            await pending.tried.wait()

    async def end(self) -> None:
        """Give up all of them, and whom they were for: it has us, and would stay until garbage is looked for."""
        self._answered = _to_nobody
        tasks = [task for pending in self._pending.values() for task in pending.cancel()]
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, pending: _Pending) -> None:
        try:
            await self._read(pending)
        except Exception:  # a defect here must end neither the stream nor its snapshot
            log.exception("source %s: reading asset %s failed", self._api.source, pending.item.asset_id)
        finally:
            pending.tried.set()
            if self._pending.get(pending.item.asset_id) is pending:
                del self._pending[pending.item.asset_id]

    async def _read(self, pending: _Pending) -> None:
        while True:
            answer = await self._answer(pending)
            # An asset that is gone may be back by the news that came meanwhile: only the next answer can tell.
            if not (answer.gone and pending.refetch):
                await self._answered(pending.item, answer)
            if not pending.refetch:
                return

    async def _answer(self, pending: _Pending) -> Item:
        """Ask until there is an answer, with growing pauses."""
        failures = 0
        while True:
            pending.refetch = False
            try:
                async with self._slots:
                    return await self._ask(pending.item.asset_id)
            except (UpstreamError, CallError) as error:
                failures += 1
                if failures == 1:
                    self._api.warn("read", f"asset {pending.item.asset_id}: {error}; trying again")
                pending.tried.set()
                pause_s = backoff.backoff_s(failures, self._api.settings, self._rng)
                await asyncio.sleep(max(pause_s, getattr(error, "retry_after_s", None) or 0.0))

    async def _ask(self, asset_id: str) -> Item:
        try:
            document = await self._api.get(asset_id, transferables=self._transferables)
        except AssetGone:
            return Item(asset_id, gone=True, updated=None, document={"id": asset_id})
        except AnswerTooLarge as error:
            self._api.warn("too large", f"asset {asset_id}: {error}; it is told without content")
            setting = f"sources.{self._api.source}.body_bytes_max"
            return Item(asset_id, gone=False, updated=None, document={}, omitted=Omitted(setting, error.limit + 1))
        return _item(asset_id, document)


@asynccontextmanager
async def reading(reads: Reads) -> AsyncIterator[Reads]:
    """Let them run, and end them in the end."""
    try:
        yield reads
    finally:
        await reads.end()


async def _to_nobody(_why: Item, _answer: Item) -> None:
    pass


def _item(asset_id: str, document: dict[str, JsonValue]) -> Item:
    """Make an item of an answer; whatever it calls itself, it is about the asset asked for. Raises: BadAnswer."""
    found = frames.items({"iterable": [{**document, "id": asset_id}]}, Stream.ASSETS)
    if not found:
        raise BadAnswer("nobody can tell whether it was deleted")
    return replace(next(iter(found)), document=document)
