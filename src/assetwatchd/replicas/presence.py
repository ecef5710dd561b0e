"""Which processes there are, where others call them, and how many watch there: told by each, read by all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from assetwatchd.etcd.errors import EtcdError
from assetwatchd.etcd.operations import delete, put
from assetwatchd.replicas.rank import Candidate
from assetwatchd.replicas.records import Presence, read_presence, write_presence
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.values import KeyValue
    from assetwatchd.replicas.session import Session

TOLD_EVERY_S = 5.0
"""How many watch is told when it changed, and no oftener: it is for people to look at."""
BEGUN_S = 0.05
"""How soon a process says that it is there, once it can."""


class Present:
    """All processes that are there, by id. They are told of this one for as long as `run` runs."""

    def __init__(
        self, keys: Keys, client: EtcdClient, session: Session, me: Presence, watchers: Callable[[], Mapping[str, int]]
    ) -> None:
        """Make one for this process, me; watchers: streams that are open here, by source."""
        self.me = Candidate(me.name, me.id)
        self._keys = keys
        self._client = client
        self._session = session
        self._mine = me
        self._watchers = watchers
        self._present: dict[str, Presence] = {}
        self._since: dict[str, float] = {}
        self._told: tuple[int, bytes] = (0, b"")
        self._leaving = False
        self._wake = asyncio.Event()
        session.listen(self._wake.set)

    def called_at(self, at: str) -> None:
        """Say where this process is called, before anybody is told of it."""
        self._mine = self._mine._replace(at=at)

    # Who is there ----------------------------------------------------------------------------------------------------

    def take(self, name: bytes, key: KeyValue | None) -> None:
        """Take in that r/REPLICA is so."""
        replica = name.partition(b"/")[2].decode(errors="replace")
        if key is None:
            self._present.pop(replica, None)
            self._since.pop(replica, None)
            if replica == self.me.id:
                self._told = 0, b""  # with the session, or by hand
                self._wake.set()
        else:
            self._present[replica] = read_presence(key)._replace(id=replica)
            self._since.setdefault(replica, loop_time())

    def candidates(self) -> list[Candidate]:
        """Return all who could ask a source."""
        return [Candidate(each.name, each.id) for each in self._present.values()]

    def since(self) -> dict[Candidate, float]:
        """Return since when each is there, by the loop's time, as far as this process has been there to see."""
        return {Candidate(each.name, each.id): self._since[each.id] for each in self._present.values()}

    @property
    def others(self) -> Iterator[Presence]:
        """All but this process."""
        return (each for each in list(self._present.values()) if each.id != self.me.id)

    def __contains__(self, replica: object) -> bool:
        """Whether a process is there, by its id."""
        return replica in self._present

    def watchers_elsewhere(self, source: str) -> int:
        """How many streams of other processes concern a source."""
        return sum(each.watchers.get(source, 0) for each in self.others)

    # That this one is ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell of this process, anew in each session; until cancelled."""
        while True:
            pause_s = TOLD_EVERY_S if await self._tell() else BEGUN_S * 4
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s if self._session.alive else None):
                    await self._wake.wait()

    async def _tell(self) -> bool:
        """Write what is so, if it is not written; return whether it is."""
        lease = self._session.lease
        value = write_presence(self._mine._replace(watchers=self._watchers()))
        if not lease or self._leaving or self._told == (lease, value):
            return True
        try:
            await self._client.txn(success=[put(self._key, value, lease=lease)])
        except EtcdError:
            return False
        self._told = lease, value
        return True

    async def leave(self) -> None:
        """Be there no more, so that nobody expects anything of this process."""
        self._leaving = True
        with suppress(EtcdError):
            await self._client.txn(success=[delete(self._key)])

    @property
    def _key(self) -> bytes:
        return self._keys.named(b"r/" + self.me.id.encode())
