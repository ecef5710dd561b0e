"""Run every feed that has subscribers: begun for the first of them, ended after the last."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetwatchd.pieces.feeds.feed import Feed, letting_go

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from assetwatchd.model.errors import CallError
    from assetwatchd.pieces.client.api import PiecesApi
    from assetwatchd.pieces.client.streams import Stream
    from assetwatchd.pieces.feeds.feed import Signal
    from assetwatchd.pieces.feeds.session import Parts


@dataclass
class _Running:
    """A feed, its task, and how many subscribe to it."""

    feed: Feed
    task: asyncio.Task[None]
    subscribers: int = 0


class Feeds:
    """Run one feed per source and stream."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._running: dict[tuple[str, Stream], _Running] = {}
        self._ending: Callable[[], CallError] | None = None

    async def watch(self, api: PiecesApi, stream: Stream) -> AsyncGenerator[Signal]:
        """Subscribe; yields and ends as Feed.watch does."""
        async with (
            self._subscribed(api, stream) as feed,
            aclosing(feed.watch()) as signals,
        ):
            async for signal in signals:
                yield signal

    def end(self, why: Callable[[], CallError]) -> None:
        """Let every subscriber, now and later, end with an error of its own."""
        self._ending = why
        for running in self._running.values():
            running.feed.end(why)

    @asynccontextmanager
    async def _subscribed(self, api: PiecesApi, stream: Stream) -> AsyncIterator[Feed]:
        key = (api.source, stream)
        running = self._running.get(key) or self._begin(api, stream)
        running.subscribers += 1
        try:
            yield running.feed
        finally:
            running.subscribers -= 1
            if not running.subscribers:
                del self._running[key]
                running.task.cancel()
                await asyncio.wait([running.task])

    def _begin(self, api: PiecesApi, stream: Stream) -> _Running:
        feed = Feed(api, stream, self._parts)
        if self._ending is not None:
            feed.end(self._ending)
        task = asyncio.create_task(letting_go(feed.run), name=f"{api.source}.{stream.name.lower()}")
        running = self._running[api.source, stream] = _Running(feed, task)
        return running
