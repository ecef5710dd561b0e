"""A watch of one source at a scripted server, and what became of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from assetwatch_client import Backoff, Removed, Upsert, Watch, connect
from support.scripted_watch import PATIENCE_S, Script, ScriptedServer, batch, started, synced, upsert

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatch_client import Event, Servers

Break = grpc.aio.AioRpcError | TimeoutError | None
HEARTBEAT_S = 0.03
FIRST: Script = (started(), batch(upsert("a", 1), token="t1"), synced("t1"))
"""A stream's beginning: one asset, in sync."""
AGAIN: Script = (started(resumed=True), synced("t1"))
FOUND = "Upsert a@1"


class Pauses(Backoff):
    """A quick backoff that notes its pauses."""

    def __init__(self) -> None:
        super().__init__(first_s=0.01, max_s=0.02)
        self.noted: list[float] = []

    def pause_s(self, asked_s: float = 0.0, *, failed: bool = True) -> float:
        """Return and note it."""
        self.noted.append(super().pause_s(asked_s, failed=failed))
        return self.noted[-1]


class Client:
    """A watch of the source dam, and what became of it."""

    def __init__(self, channel: grpc.aio.Channel | Servers, *, patient: bool = True, resume_token: str = "") -> None:
        self.backoff = Pauses()
        self.breaks: list[Break] = []
        self.told: list[str] = []
        self.watch = Watch(
            channel,
            sources=["dam"],
            resume_token=resume_token,
            patient=patient,
            backoff=self.backoff,
            on_break=self.breaks.append,
        )

    async def follow(self) -> None:
        """Take events in for ever."""
        async with aclosing(self.watch.events()) as events:
            async for event in events:
                self.told.append(brief(event))

    async def until_told(self, *expected: str) -> None:
        """Take events in until these were told, and no others."""
        async with asyncio.timeout(PATIENCE_S), aclosing(self.watch.events()) as events:
            async for event in events:
                self.told.append(brief(event))
                if len(self.told) >= len(expected):
                    break
        assert self.told == list(expected)


def brief(event: Event) -> str:
    """Write an event in a few characters."""
    if isinstance(event, Upsert | Removed):
        return f"{type(event).__name__} {event.key.asset_id}@{event.status.revision}"
    return type(event).__name__


@asynccontextmanager
async def calling(*scripts: Script, **options: bool | str) -> AsyncIterator[tuple[ScriptedServer, Client]]:
    """Run a scripted server and a client of it."""
    async with ScriptedServer(*scripts) as server, connect(server.target) as channel:
        yield server, Client(channel, **options)  # type: ignore[arg-type]  # patient and resume_token


@asynccontextmanager
async def following(client: Client) -> AsyncIterator[asyncio.Task[None]]:
    """Let the client take events in meanwhile."""
    task = asyncio.create_task(client.follow())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
