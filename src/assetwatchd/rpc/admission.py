"""Limits of watch streams: in number, in the assets they name, and in how many catch up at the same time.

Knows peers and filters, and nothing of what a stream sends.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

from assetwatchd.model.errors import TooManyNames, TooManyStreams, caller_subject
from assetwatchd.rpc.peers import host_of
from assetwatchd.runtime.fairness import CONNECTION_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import ServerSettings

WHOSE = ("this server", "one caller", "one connection")
RETRY_AFTER_S = 10.0
CATCHING_UP_S = 1.0
"""A stream that takes longer to catch up does so beside the next, so that a slow client holds up nobody for long."""
TOGETHER = 0.5
"""This share of the places is free before those in line begin: streams that begin together share their snapshot."""


class Places:
    """The places of streams that catch up. A stream begins at once if there is one free and nobody waits."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._together = max(1, int(count * TOGETHER))
        self._line: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait in line for a place."""
        if self._free > 0 and not self._line:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            # It may have been given the place in the same iteration of the loop: then nobody else would give it back.
            if not place.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Let the next ones begin, once there are places enough."""
        self._free += 1
        if self._free >= self._together:
            while self._line and self._free > 0:
                if not (place := self._line.popleft()).done():
                    self._free -= 1
                    place.set_result(None)


class Named(NamedTuple):
    """The assets that a stream names: the digest of its filter, and how many."""

    digest: bytes
    names: int


class Names:
    """Counts the assets that open streams name: of all, of a host, of a connection. Equal filters of one count once."""

    def __init__(self, limits: ServerSettings) -> None:
        of_peer = limits.names_per_peer_max
        self._limits = (limits.names_max, of_peer, max(1, int(of_peer * CONNECTION_SHARE)))
        self._counts: Counter[Caller] = Counter()
        self._streams: Counter[tuple[Caller, bytes]] = Counter()

    def check(self, caller: Caller, named: Named) -> None:
        """Raise TooManyNames if there is no room for what a stream names."""
        for level, limit in enumerate(self._limits):
            of = caller[:level]
            if (of, named.digest) not in self._streams and self._counts[of] + named.names > limit:
                raise TooManyNames(WHOSE[level], subject=_subject(of), limit=limit, retry_after_s=RETRY_AFTER_S)

    def add(self, caller: Caller, named: Named) -> None:
        """Count what one more stream names."""
        for of in (caller[:0], caller[:1], caller[:2]):
            # Equal filters share what they cost (one group in the hub), so the second costs its address nothing.
            self._streams[of, named.digest] += 1
            if self._streams[of, named.digest] == 1:
                self._counts[of] += named.names

    def remove(self, caller: Caller, named: Named) -> None:
        """Count it no more."""
        for of in (caller[:0], caller[:1], caller[:2]):
            self._streams[of, named.digest] -= 1
            if not self._streams[of, named.digest]:
                del self._streams[of, named.digest]
                self._counts[of] -= named.names
                if not self._counts[of]:
                    del self._counts[of]


class Admitted:
    """One open stream, as a context manager until its end; it gives its place back after CATCHING_UP_S in any case."""

    __slots__ = ("_over", "_places", "_uncount")

    def __init__(self, places: Places, uncount: Callable[[], None]) -> None:
        self._places = places
        self._uncount = uncount
        self._over: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Do nothing: it counts since it was made."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Give the place back, and count the stream no more."""
        self.end_catching_up()
        self._uncount()

    async def begin_catching_up(self) -> None:
        """Wait in line for a place."""
        await self._places.take()
        self._over = asyncio.get_running_loop().call_later(CATCHING_UP_S, self.end_catching_up)

    def end_catching_up(self) -> None:
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
        self._names = Names(limits)
        self._by_host: Counter[str] = Counter()

    def stream(self, peer: str, what: Filter | None = None) -> Admitted:
        """Count one more stream, and what it names. peer is gRPC's, e.g. ipv4:127.0.0.1:41234.

        Raises: TooManyStreams, TooManyNames.
        """
        host = host_of(peer)
        named = Named(what.digest, len(what.keys)) if what else Named(b"", 0)
        if self._by_host.total() >= self._streams_max:
            raise _refusal(WHOSE[0], "server", self._streams_max)
        if self._by_host[host] >= self._streams_per_peer_max:
            raise _refusal(WHOSE[1], caller_subject(host), self._streams_per_peer_max)
        # All is checked before anything is counted: a refused stream leaves no count behind, as it has no end.
        self._names.check((host, peer), named)
        self._by_host[host] += 1
        self._names.add((host, peer), named)
        return Admitted(self._places, partial(self._uncount, host, peer, named))

    @property
    def count(self) -> int:
        """Return the number of open streams."""
        return self._by_host.total()

    def _uncount(self, host: str, peer: str, named: Named) -> None:
        self._names.remove((host, peer), named)
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]


_calls = itertools.count()


def caller(peer: str) -> Caller:
    """Name one call, as fairness.py wants it: its host, its connection, and a number of its own. peer is gRPC's."""
    return host_of(peer), peer, str(next(_calls))


def _subject(of: Caller) -> str:
    """Return whose a limit is, of all, of a caller or of one of its connections."""
    match of:
        case (host,):
            return caller_subject(host)
        case (_, connection):
            return f"connection:{connection}"
        case _:
            return "server"


def _refusal(whose: str, subject: str, limit: int) -> TooManyStreams:
    text = f"{whose} has its limit of {limit} watch streams; close some, or watch more assets in one"
    return TooManyStreams(text, subject=subject, limit=limit, retry_after_s=RETRY_AFTER_S)
