"""Limits of watch streams: in total, from one address, and of those that catch up at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Self

from assetwatchd.errors import TooManyStreams

if TYPE_CHECKING:
    from assetwatchd.config import ServerSettings

RETRY_AFTER_S = 10.0
TURN_S = 1.0
"""A stream that takes longer to catch up does so beside the next, so that a slow client holds up nobody for long."""
TOGETHER = 0.5
"""This share of the places is free before those in line begin: streams that begin together share their snapshot."""


class Places:
    """Who may catch up. Whoever comes when nobody waits, and there is a place, begins at once."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._together = max(1, int(count * TOGETHER))
        self._line: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait in line for a place."""
        if self._free > 0 and not self._line:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had the place already
                self.give_back()
            raise

    def give_back(self) -> None:
        """Let the next ones begin, once there are places enough."""
        self._free += 1
        if self._free >= self._together:
            while self._line and self._free > 0:
                if not (turn := self._line.popleft()).done():
                    self._free -= 1
                    turn.set_result(None)


class Admitted:
    """One open stream, as a context manager until its end; its turn to catch up is over after TURN_S in any case."""

    __slots__ = ("_by_host", "_host", "_over", "_places")

    def __init__(self, by_host: Counter[str], host: str, places: Places) -> None:
        self._by_host = by_host
        self._host = host
        self._places = places
        self._over: asyncio.TimerHandle | None = None
        by_host[host] += 1

    def __enter__(self) -> Self:
        """It counts since it was made."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """It counts no more."""
        self.end_turn()
        self._by_host[self._host] -= 1
        if not self._by_host[self._host]:
            del self._by_host[self._host]

    async def begin_turn(self) -> None:
        """Wait in line for a place."""
        await self._places.take()
        self._over = asyncio.get_running_loop().call_later(TURN_S, self.end_turn)

    def end_turn(self) -> None:
        """Give the place to the next, if this has one."""
        if self._over is not None:
            self._over.cancel()
            self._over = None
            self._places.give_back()


class Admission:
    """Counts open streams, and lets a few at a time catch up, with their snapshot or with what they missed.

    With all at once, each would have to wait for all others at each of its messages, and new ones to be accepted too.
    """

    def __init__(self, limits: ServerSettings) -> None:
        self._streams_max = limits.streams_max
        self._streams_per_peer_max = limits.streams_per_peer_max
        self._places = Places(limits.catching_up_max)
        self._by_host: Counter[str] = Counter()

    def stream(self, peer: str) -> Admitted:
        """Count one more stream. peer is gRPC's, e.g. ipv4:127.0.0.1:41234. Raises: TooManyStreams."""
        host = _host(peer)
        if self._by_host.total() >= self._streams_max:
            raise _refusal("this server", "server", self._streams_max)
        if self._by_host[host] >= self._streams_per_peer_max:
            raise _refusal("one address", f"peer:{host}", self._streams_per_peer_max)
        return Admitted(self._by_host, host, self._places)


def _host(peer: str) -> str:
    """Drop the port: every connection has its own."""
    return peer.rpartition(":")[0] if peer.startswith("ipv") else peer


def _refusal(whose: str, subject: str, limit: int) -> TooManyStreams:
    text = f"{whose} has its limit of {limit} watch streams; close some, or watch more assets in one"
    return TooManyStreams(text, subject=subject, limit=limit, retry_after_s=RETRY_AFTER_S)
