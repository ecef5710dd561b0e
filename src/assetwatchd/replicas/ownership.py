"""Who asks which source: taken when nobody does, lost with the session, given back when the process ends.

A source is this process's when the mirror says so, and the session that it hangs on is alive. Nothing else counts, and
least of all how the transaction ended that asked for it. As the mirror has everything in one order, whoever is owner by
it has read all that the owners before have written; what one of those would write later, the store refuses by its term.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from assetwatchd.etcd.errors import EtcdError
from assetwatchd.etcd.operations import created, delete, put
from assetwatchd.replicas import rank
from assetwatchd.replicas.records import read_owner, write_owner
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.values import KeyValue
    from assetwatchd.replicas.presence import Present
    from assetwatchd.replicas.records import Me, Owner
    from assetwatchd.replicas.session import Session

BALANCED_EVERY_S = 1.0
"""How often it is looked whether a source is to be handed over: often beside the 30 s between two of them."""
CLAIM_AGAIN_S = 0.3
"""After a try to take a source, so long is waited for the mirror to say whose it is; then it is tried again."""

log = logging.getLogger(__name__)


class Ownership:
    """Of all sources. cut_off tells whether the mirror is behind."""

    def __init__(
        self,
        sources: Iterable[str],
        keys: Keys,
        client: EtcdClient,
        *,
        session: Session,
        present: Present,
        me: Me,
        cut_off: Callable[[], bool],
    ) -> None:
        self._keys = keys
        self._client = client
        self._session = session
        self._present = present
        self._me = me
        self._cut_off = cut_off
        self._owners: dict[str, Owner] = {}
        self._free_since: dict[str, float] = dict.fromkeys(sources, loop_time())
        self._over: dict[str, int] = {}
        self._leaving = False
        self._changed = asyncio.Event()
        self._handed_over_at = loop_time()
        session.listen(self.changed)

    def called_at(self, me: Me) -> None:
        """Say where this process is called, before it takes anything."""
        self._me = me

    # What is so ------------------------------------------------------------------------------------------------------

    def take(self, name: bytes, key: KeyValue | None) -> None:
        """Take in that o/SOURCE is so."""
        source = name.partition(b"/")[2].decode(errors="replace")
        if key is None:
            self._owners.pop(source, None)
            self._free_since[source] = loop_time()
        else:
            self._owners[source] = read_owner(key)
        self.changed()

    def changed(self) -> None:
        """Have everybody look again who waits for a source to be, or not to be, this process's."""
        self._changed.set()
        self._changed = asyncio.Event()

    def owner(self, source: str) -> Owner | None:
        """Return who asks a source by what is known here; None when nobody does."""
        return self._owners.get(source)

    def term(self, source: str) -> int | None:
        """Return since which revision of etcd a source is this process's; None when it is not."""
        owner = self._owners.get(source)
        if owner is None or not self._is_mine(owner) or self._leaving:
            return None
        return None if self._over.get(source) == owner.term else owner.term

    def _is_mine(self, owner: Owner) -> bool:
        return owner.id == self._me.id and self._session.alive and owner.lease == self._session.lease

    def is_me(self, owner: Owner) -> bool:
        """Whether an owner is this process, in this or an earlier session."""
        return owner.id == self._me.id

    @property
    def owned(self) -> list[str]:
        """All sources that are this process's."""
        return [source for source in self._owners if self.term(source) is not None]

    # Taking and losing -----------------------------------------------------------------------------------------------

    async def won(self, source: str) -> int:
        """Return the term of a source once it is this process's, having tried for it when it was free."""
        tried_at = 0.0
        while True:
            changed = self._changed
            if (term := self.term(source)) is not None:
                return term
            at = self._claim_at(source, tried_at)
            if at is not None and at <= loop_time():
                await self._claim(source)
                tried_at = loop_time()
                continue
            await _until(changed, at)

    async def lost(self, source: str, term: int) -> None:
        """Return once a source is not this process's any more by that term."""
        while self.term(source) == term:
            await self._changed.wait()

    async def replaced(self, source: str, term: int) -> None:
        """Return once a source's owner is not that of a term any more."""
        while (owner := self._owners.get(source)) is not None and owner.term == term:
            await self._changed.wait()

    async def news(self, within_s: float) -> None:
        """Return once something changed, or after so long."""
        await _until(self._changed, loop_time() + within_s)

    def refuse(self, source: str, term: int) -> None:
        """Note that the store says of a term that it is over, of which the mirror does not know yet."""
        self._over[source] = term
        self.changed()

    def _claim_at(self, source: str, tried_at: float) -> float | None:
        """Return when a source may be tried for; None: not before something changes."""
        able = self._session.alive and not self._leaving and self._me.id in self._present
        if source in self._owners or not able:
            return None
        if self._cut_off():
            return loop_time() + CLAIM_AGAIN_S
        free_since = self._free_since.setdefault(source, loop_time())
        at = rank.claim_at(source, self._present.me, self._present.candidates(), free_since=free_since)
        return max(at, tried_at + CLAIM_AGAIN_S if tried_at else 0.0)

    async def _claim(self, source: str) -> None:
        """Ask for a source, if nobody has it; whether that went well, the mirror tells."""
        key = self._keys.owner(source)
        with suppress(EtcdError):
            await self._client.txn([created(key, 0)], [put(key, write_owner(self._me), lease=self._session.lease)])

    # Giving ----------------------------------------------------------------------------------------------------------

    async def release(self, source: str, term: int) -> None:
        """Let others have a source that is not asked here any more; without etcd they have it when the session ends."""
        key = self._keys.owner(source)
        while (owner := self._owners.get(source)) is not None and owner.term == term and self._is_mine(owner):
            changed = self._changed
            with suppress(EtcdError):
                await self._client.txn([created(key, term)], [delete(key)])
            await _until(changed, loop_time() + CLAIM_AGAIN_S)

    def hand_over(self, source: str) -> None:
        """Have a source given to whoever comes first: its term is over, and no other one, should it come back."""
        if (term := self.term(source)) is not None:
            self._over[source] = term
            self.changed()

    async def balance(self) -> None:
        """Now and then hand over a source to another that comes first for it; until cancelled."""
        while True:
            await asyncio.sleep(BALANCED_EVERY_S)
            if loop_time() - self._handed_over_at < rank.HAND_OVER_EVERY_S:
                continue
            source = rank.to_hand_over(self.owned, self._present.me, self._present.since(), loop_time())
            if source is not None:
                log.info("source %s is handed over to a replica that comes first for it", source)
                self._handed_over_at = loop_time()
                self.hand_over(source)

    async def leave(self) -> None:
        """Give all sources back, and take none any more; return once that is so."""
        self._leaving = True
        self.changed()
        while any(self._is_mine(owner) for owner in self._owners.values()):
            await self._changed.wait()

    def record(self) -> None:
        """Tell telemetry which sources are this process's."""
        for source in self._free_since:
            telemetry.record_owner(source, owned=self.term(source) is not None)


async def _until(changed: asyncio.Event, at: float | None) -> None:
    """Wait until something changes, at most until then."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(at):
            await changed.wait()
