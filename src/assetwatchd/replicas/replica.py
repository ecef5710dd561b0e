"""This process as one of several: makes all that they share work by, runs it, and ends it in order."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd import start
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.compaction import Compaction
from assetwatchd.etcd.connection import access_of
from assetwatchd.model.errors import ConfigError
from assetwatchd.replicas.access import access
from assetwatchd.replicas.conditions import Conditions
from assetwatchd.replicas.forwarding import Forwarding
from assetwatchd.replicas.interests import Interests
from assetwatchd.replicas.news import News
from assetwatchd.replicas.ownership import Ownership
from assetwatchd.replicas.peers import Peers, PeerServer
from assetwatchd.replicas.presence import Present
from assetwatchd.replicas.records import Me, Presence
from assetwatchd.replicas.session import Session
from assetwatchd.replicas.shared import Parts, SharedSource
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.replica import as_name, host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.pipeline import Pipeline
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Condition, SourceKind
    from assetwatchd.replicas.owned import Owned
    from assetwatchd.settings.schema import EtcdStoreSettings, SourceSettings
    from assetwatchd.upstream.port import Upstream

ID_BYTES = 4
CUT_OFF_LEASES = 2
"""A replica that is cut off for so many times lease_s ends its streams once: another one has what is new by then."""
MEASURED_EVERY_S = 1.0
LEAVE_S = 1.0
"""A process that ends waits so long for its sources to be given back; then they go with its session."""

log = logging.getLogger(__name__)


class Around(NamedTuple):
    """What a replica works with, and what it tells the rest of the process.

    tell: a source and its condition, when that turns. cut_off: whether it is, when that turns. behind: once, when it
    was for long. watchers: returns how many streams here concern each source.
    """

    hub: Hub
    pipeline: Pipeline
    tell: Callable[[str, Condition], None]
    cut_off: Callable[[bool], None]
    behind: Callable[[], None]
    watchers: Callable[[], Mapping[str, int]]


async def open_store(settings: EtcdStoreSettings, seal: Seal) -> EtcdStore:
    """See that etcd is fit, read all that the replicas keep, and begin an epoch. Raises: StoreError."""
    client = await start.connect(settings)
    return await EtcdStore.open(client, prefix=settings.prefix, seal=seal, cut_off_s=settings.cut_off_s)


def replica(settings: EtcdStoreSettings, sources: Iterable[str], store: Store, around: Around) -> Replica:
    """Return this process as a replica. Raises: ConfigError when a file cannot be read, or the store is another."""
    if not isinstance(store, EtcdStore):
        raise ConfigError("store: replicas share a store of kind etcd, and the one given is another")
    return Replica(settings, sources, store, around)


class Replica:
    """One process. `start`, then `run` until cancelled; `leave` before its streams end, and `close` at last."""

    def __init__(
        self,
        settings: EtcdStoreSettings,
        sources: Iterable[str],
        store: EtcdStore,
        around: Around,
    ) -> None:
        """Make it of the running loop. Raises: ConfigError when a file cannot be read; StoreError."""
        self.sources: list[SharedSource] = []
        self._settings = settings
        self._store = store
        self._around = around
        self._access = access(settings)
        self._client = EtcdClient(access_of(settings))  # its own, so that a keepalive is never behind a megabyte
        self._keys = Keys(settings.prefix)
        self._session = Session(self._client, settings.lease_s)
        self._peers = Peers(self._access)
        self._server = PeerServer(self._access, self)
        self._name = host_name() if settings.replica is None else as_name(settings.replica)
        self.me = Me(f"{self._name}.{secrets.token_hex(ID_BYTES)}", self._name, settings.peer_address or "")
        self._parts = self._made(list(sources))
        self._news = News(self._parts.present, self._peers, self._owned)
        self._behind: asyncio.TimerHandle | None = None
        self._listen()

    def _made(self, sources: list[str]) -> Parts:
        store, keys, client, session = self._store, self._keys, self._client, self._session
        mirror, currency = store.mirror, store.currency
        presence = Presence(self.me.id, self._name, "", version("assetwatch"))
        present = Present(keys, client, session, presence, self._around.watchers)
        ownership = Ownership(
            sources,
            keys,
            client,
            session=session,
            present=present,
            me=self.me,
            cut_off=lambda: currency.cut_off,
        )
        return Parts(
            store=store,
            mirror=mirror,
            hub=self._around.hub,
            pipeline=self._around.pipeline,
            ownership=ownership,
            interests=Interests(keys, client, session, self.me.id),
            conditions=Conditions(sources, keys, client, mirror, ownership, tell=self._around.tell),
            forwarding=Forwarding(ownership, self._peers, mirror),
            present=present,
        )

    def _listen(self) -> None:
        """Take in what is so, and what becomes so; only then may anything be written."""
        parts, mirror = self._parts, self._store.mirror
        mirror.subscribe(b"r/", parts.present.take)
        mirror.subscribe(b"o/", parts.ownership.take)
        mirror.subscribe(b"i/", parts.interests.take)
        mirror.subscribe(b"c/", parts.conditions.take)
        mirror.subscribe(b"r/", lambda *_: parts.ownership.changed())
        self._store.terms = parts.ownership
        self._store.currency.subscribe(self._cut_off)

    def source(
        self, name: str, kind: SourceKind, settings: SourceSettings, make: Callable[[], Upstream]
    ) -> SharedSource:
        """Return a source; make: makes its adapter."""
        source = SharedSource(name, kind, settings, make, self._parts)
        self.sources.append(source)
        return source

    async def start(self) -> None:
        """Serve the others. Raises: ConfigError when the address cannot be had."""
        address = await self._server.start(self._settings.peer_listen)
        at = self._settings.peer_address or address
        self.me = self.me._replace(at=at)
        self._parts.ownership.called_at(self.me)
        self._parts.present.called_at(at)
        log.info("replica %s: others call it at %s", self.me.id, at)

    async def run(self) -> None:
        """Be one of them until cancelled; each source has a loop of its own beside."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._session.run(), name="replica.session")
            tasks.create_task(self._parts.present.run(), name="replica.present")
            tasks.create_task(self._parts.interests.run(), name="replica.interests")
            tasks.create_task(self._parts.ownership.balance(), name="replica.balance")
            tasks.create_task(self._news.run(), name="replica.news")
            tasks.create_task(self._measure(), name="replica.measure")
            if self._settings.compact:
                compaction = Compaction(self._client, self._keys.prefix)
                tasks.create_task(compaction.run(), name="replica.compaction")

    async def leave(self) -> None:
        """Let the others have its sources: they go on at once, while this process ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(self._parts.present.leave(), self._parts.ownership.leave())

    async def close(self) -> None:
        """End the session and all connections."""
        if self._behind is not None:
            self._behind.cancel()
        await self._session.end()
        await self._server.stop()
        await self._peers.close()
        await self._client.close()

    # Cut off ---------------------------------------------------------------------------------------------------------

    def _cut_off(self, cut_off: bool) -> None:  # noqa: FBT001 - as it is told
        self._parts.conditions.cut_off(cut_off=cut_off)
        self._parts.ownership.changed()
        self._around.cut_off(cut_off)
        if self._behind is not None:
            self._behind.cancel()
            self._behind = None
        if cut_off:
            within_s = CUT_OFF_LEASES * self._settings.lease_s - self._settings.cut_off_s
            self._behind = asyncio.get_running_loop().call_later(max(0.0, within_s), self._around.behind)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(MEASURED_EVERY_S)
            telemetry.record_replica_lag(self._store.currency.lag_s)
            self._parts.ownership.record()

    # What others ask and tell ----------------------------------------------------------------------------------------

    def _owned(self) -> list[Owned]:
        return [owned for source in self.sources if (owned := source.owned) is not None]

    def _source(self, name: str) -> SharedSource | None:
        return next((source for source in self.sources if source.name == name), None)

    async def ask(self, request: pb.AskRequest) -> pb.AskResponse:
        """Do what the owner of a source alone can, if this is it."""
        source = self._source(request.source)
        return pb.AskResponse(not_owner=True) if source is None else await source.answer(request)

    def tell(self, request: pb.TellRequest) -> pb.TellResponse:
        """Take in what the owner of sources tells."""
        taken = {
            news.source for news in request.news if (of := self._source(news.source)) is not None and of.hear(news)
        }
        return pb.TellResponse(not_taken=sorted({news.source for news in request.news} - taken))
