"""This process's session in etcd: a lease that it keeps alive, and on which hangs all that must go with it.

It counts as alive until a deadline of its own, which comes before that of etcd: from when the last keepalive was sent,
whenever that was answered. So whatever is done for as long as the session is alive is over before others are told that
it ended, but for what a process does that was paused in the middle of it; what that writes, the store refuses.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from assetwatchd.etcd.errors import EtcdError, LeaseGone
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import lasting_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.etcd.values import Lease

KEEPALIVES = 4
"""So many are sent in the time that a lease has."""
MARGIN = 0.1
"""This share of its time it is given up sooner than etcd may end it: clocks drift, and what is under way has to end."""
AGAIN_S = 0.1
"""After a keepalive that was not answered the next one is sent, and after a session the next one is begun."""

log = logging.getLogger(__name__)


class Leases(Protocol):
    """What a session needs of the client of etcd."""

    async def grant(self, ttl_s: int, *, within_s: float = ...) -> Lease:
        """Begin a lease."""
        ...

    async def keep_alive(self, lease: int, *, within_s: float = ...) -> int:
        """Let a lease begin anew, and return how many seconds it has."""
        ...

    async def revoke(self, lease: int, *, within_s: float = ...) -> None:
        """End a lease."""
        ...


class Session:
    """One session after the other, for as long as it runs. lease: of the current one; 0 when there is none."""

    def __init__(self, client: Leases, ttl_s: int, *, clock: Callable[[], float] = lasting_time) -> None:
        self.lease = 0
        self._client = client
        self._ttl_s = ttl_s
        self._clock = clock
        self._until = 0.0
        self._ended = False
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Have somebody told, at once, that a session began or ended."""
        self._listeners.append(listener)

    @property
    def alive(self) -> bool:
        """Whether what hangs on the lease is certainly there still."""
        return self.lease != 0 and self._clock() < self._until

    async def run(self) -> None:
        """Keep a session; begin another one when it was lost; until it is ended, or cancelled."""
        while not self._ended:
            try:
                await self._begin()
            except EtcdError as error:
                log.debug("no session with etcd: %s", error)
                await asyncio.sleep(AGAIN_S)
                continue
            await self._keep()
            await self._lost()

    async def end(self) -> None:
        """End the session, and delete what hangs on it; when etcd cannot be asked it goes by itself."""
        self._ended = True
        lease, self.lease = self.lease, 0
        if lease:
            self._tell()
            with suppress(EtcdError):
                await self._client.revoke(lease)

    async def _begin(self) -> None:
        sent = self._clock()
        lease = await self._client.grant(self._ttl_s)
        self.lease = lease.id
        self._extend(sent, lease.ttl_s)
        self._tell()

    async def _keep(self) -> None:
        """Return when the session is lost, or its deadline came."""
        every_s = self._ttl_s / KEEPALIVES
        pause_s = every_s
        while self.alive:
            await asyncio.sleep(min(pause_s, self._left_s()))
            sent, left_s = self._clock(), self._left_s()
            if left_s <= 0:
                return
            try:
                ttl_s = await self._client.keep_alive(self.lease, within_s=min(every_s, left_s))
            except LeaseGone:
                return
            except EtcdError:
                pause_s = AGAIN_S
            else:
                self._extend(sent, ttl_s)
                pause_s = every_s

    def _extend(self, sent: float, ttl_s: float) -> None:
        self._until = max(self._until, sent + ttl_s * (1 - MARGIN))

    def _left_s(self) -> float:
        return self._until - self._clock()

    async def _lost(self) -> None:
        """Tell so, then see that nothing hangs on the old lease any longer than it has to."""
        lease, self.lease, self._until = self.lease, 0, 0.0
        if not lease:
            return  # it was ended
        log.warning("the session with etcd is lost: this replica asks no source until it has another")
        telemetry.record_session_lost()
        self._tell()
        with suppress(EtcdError):
            await self._client.revoke(lease)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
