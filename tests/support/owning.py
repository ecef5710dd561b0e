"""Who may write a source, by hand: the key that the owner's session would hold, without a session."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.operations import created, delete, put
from support import entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.values import KeyValue


@asynccontextmanager
async def owning(
    client: EtcdClient, prefix: str, *sources: str, now: Callable[[], float] = time.time, seal: Seal = entries.seal
) -> AsyncIterator[EtcdStore]:
    """Open a store that runs, and may write some sources that nobody has."""
    store = await EtcdStore.open(client, prefix=prefix, seal=seal, now=now)
    running = asyncio.create_task(store.run(lambda: None))
    try:
        terms = Owning(store, client, prefix)
        for source in sources:
            assert await terms.take(source)
        yield store
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()


class Owning:
    """Implements Terms for a store. It learns from the mirror that somebody else took a source, so perhaps late."""

    def __init__(self, store: EtcdStore, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._names = Keys(prefix)
        self._mirror = store.mirror
        self._terms: dict[str, int] = {}
        store.terms = self
        store.mirror.subscribe(b"o/", self._heard)

    def term(self, source: str) -> int | None:
        """Return it, as far as is known."""
        return self._terms.get(source)

    async def take(self, source: str) -> bool:
        """Take a source if it is free; return whether it was."""
        owner = self._names.owner(source)
        outcome = await self._client.txn((created(owner, 0),), (put(owner, b"somebody"),))
        if outcome.succeeded:
            self._terms[source] = outcome.revision
        return outcome.succeeded

    async def snatch(self, source: str) -> bool:
        """Take a source from whoever has it, as if his lease had run out."""
        await self._client.txn((), (delete(self._names.owner(source)),))
        return await self.take(source)

    def _heard(self, name: bytes, key: KeyValue | None) -> None:
        source = name[2:].decode()
        term = self._terms.get(source)
        known = term is not None and self._mirror.revision >= term  # else it is older news than that we took it
        if known and (key is None or key.created != term):
            del self._terms[source]
