"""Several servers over one store as one: the channel to one of them, and to the next where that one fails.

A resume token of one is good at each of them, so whoever moves on goes on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from assetwatch_client.channel import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

HEAD_START_S = 0.25
"""A server that is not there by then is waited for beside the next: one that stands still never says that it does."""
LEFT_ALONE_MS = 10_000
"""The connection to a server that was left is closed after this: a server counts, and pings, each that it has."""


class Servers:
    """Channels to servers over one store, of which one is in use: begin with the first, and go on with the next.

    turn: the number of the one in use, from 0.
    """

    def __init__(self, *channels: grpc.aio.Channel) -> None:
        """Take the channels in the order in which they are tried. Raises: ValueError without any."""
        if not channels:
            raise ValueError("give at least one server")
        self._channels = channels
        self.turn = 0
        self._failed: set[int] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels:
            await channel.close()

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel in use; another one after `ready`, and after `leave`."""
        return self._channels[self.turn]

    async def ready(self) -> None:
        """Wait until a server can be called, from the one in use on: the first that can, each with a head start."""
        order = [(self.turn + step) % len(self._channels) for step in range(len(self._channels))]
        waiting: dict[asyncio.Task[None], int] = {}
        try:
            for number in order:
                waiting[asyncio.ensure_future(self._channels[number].channel_ready())] = number
                last = number == order[-1]
                await asyncio.wait(waiting, timeout=None if last else HEAD_START_S, return_when=asyncio.FIRST_COMPLETED)
                if done := [task for task in waiting if task.done()]:
                    done[0].result()
                    self.turn = waiting[done[0]]
                    return
        finally:
            for task in waiting:
                task.cancel()

    def leave(self) -> bool:
        """Use the next one, after one that failed; say whether that is one that never failed."""
        self._failed.add(self.turn)
        self.turn = (self.turn + 1) % len(self._channels)
        return self.turn not in self._failed


def connect_any(
    targets: Iterable[str],
    credentials: grpc.ChannelCredentials | None = None,
    *,
    options: Iterable[tuple[str, int | str]] = (),
) -> Servers:
    """Open channels to servers over one store, each as `connect` does. Raises: ValueError without a target.

    They are tried in this order: give clients different ones, and they spread over the servers.
    """
    given = [("grpc.client_idle_timeout_ms", LEFT_ALONE_MS), *options]
    return Servers(*(connect(target, credentials, options=given) for target in targets))


def servers_of(channel: grpc.aio.Channel | Servers) -> Servers:
    """Return the servers themselves, or the one that the channel leads to."""
    return channel if isinstance(channel, Servers) else Servers(channel)
