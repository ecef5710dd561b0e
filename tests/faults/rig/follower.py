"""A client that watches by the library, as a program of a user's would, and writes down what it was told."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from assetwatch_client import Backoff, Event, Removed, Synced, Upsert, Watch, connect
from faults.rig.load import number_of
from faults.rig.recorder import End, end_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.rig.load import Key
    from faults.rig.recorder import Wanted

PAUSE_S_MAX = 1.0
"""Of the library's own pauses: runs are short. What a server asks for comes on top."""
ALONE = [("grpc.use_local_subchannel_pool", 1)]
"""A connection of its own."""


class Told(NamedTuple):
    """An event, when it came, and in which epoch."""

    t: float
    epoch: str
    event: Event


class Follower:
    """One watch of the library. story: its events and the ends of its streams, in order.

    map: what the events alone amount to; statuses: the map that the library keeps. synced: once the map was complete;
    with heartbeats of 100 ms the library gives up a stream after 300 ms, and may be between two at any moment.
    """

    def __init__(self, name: str, address: Callable[[], str], wanted: Wanted) -> None:
        self.name = name
        self.wanted = wanted
        self.story: list[Told | End] = []
        self.map: dict[Key, Any] = {}
        self.statuses: dict[Key, Any] = {}
        self.numbers: dict[Key, int] = {}
        self.synced = False
        self.failed = ""
        self._address = address

    async def run(self) -> None:
        """Follow until cancelled, or until the library gives up."""
        async with connect(self._address(), options=ALONE) as channel:
            watch = Watch(
                channel,
                assets=sorted(self.wanted.keys),
                sources=sorted(self.wanted.sources),
                states=sorted(self.wanted.states),
                backoff=Backoff(max_s=PAUSE_S_MAX),
                on_break=self._broke,
            )
            self.statuses = watch._view.statuses  # type: ignore[assignment]  # the library's key is such a pair
            try:
                async with aclosing(watch.events()) as events:
                    async for event in events:
                        self._take(Told(time.monotonic(), watch._view.epoch, event))
            except grpc.aio.AioRpcError as error:
                self.failed = str(end_of(error))

    def _take(self, told: Told) -> None:
        self.story.append(told)
        match told.event:
            case Upsert(key, status):
                self.map[key] = status
                self.numbers[key] = number_of(status)
            case Removed(key):
                self.map.pop(key, None)
                self.numbers.pop(key, None)
            case Synced():
                self.synced = True

    def _broke(self, error: grpc.aio.AioRpcError | TimeoutError | None) -> None:
        match error:
            case None:
                self.story.append(End(time.monotonic(), "OK"))
            case TimeoutError():
                self.story.append(End(time.monotonic(), "CANCELLED", "silent", local=True))
            case _:
                self.story.append(end_of(error))
