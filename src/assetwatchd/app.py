"""Composition root: names every concrete class, wires them, runs the loops in one TaskGroup, and stops them in order.

Decides nothing about assets or calls. Whatever is wrong with the settings is told before anything is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assetwatchd.adapters.media_intelligence import MediaIntelligence
from assetwatchd.adapters.omn import Omn
from assetwatchd.adapters.oracle_sbc import OracleSbc
from assetwatchd.adapters.pieces import Pieces, tombstone
from assetwatchd.adapters.usd_search import UsdSearch
from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.pipeline import Pipeline
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.changefeed.store.sqlite import problems as sqlite_problems
from assetwatchd.model.errors import ConfigError, HistoryBroken, ReplicaBehind, ServerDraining, StoreError
from assetwatchd.model.texts import counted
from assetwatchd.model.values import SourceKind
from assetwatchd.pieces.client.api import PiecesApi
from assetwatchd.pieces.client.discovery import PROBING, Probing
from assetwatchd.pieces.client.server import PiecesServer
from assetwatchd.pieces.feeds.registry import Feeds
from assetwatchd.pieces.feeds.session import Parts
from assetwatchd.polling.scheduler import Scheduler
from assetwatchd.polling.sources import Sources
from assetwatchd.rpc import certificates, convert, server
from assetwatchd.rpc.admission import Admission
from assetwatchd.rpc.health import Health
from assetwatchd.rpc.pieces.service import CallContext, PiecesAssetsService
from assetwatchd.rpc.pieces.streams import StreamFraming, Streaming, encoder
from assetwatchd.rpc.server_service import ServerService
from assetwatchd.rpc.service import AssetStatusService, SourceService
from assetwatchd.rpc.watch import Watching
from assetwatchd.runtime import descriptors, logs, stderr, telemetry
from assetwatchd.runtime.gc_tuning import collect_seldom
from assetwatchd.runtime.replica import as_name, host_name
from assetwatchd.runtime.stopping import CLOSING_S, Stopping
from assetwatchd.runtime.watchdog import Watchdog
from assetwatchd.settings.schema import EtcdStoreSettings, PiecesSource, SqliteStoreSettings
from assetwatchd.upstream.http import tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import grpc

    from assetwatchd.changefeed.store.copying import Content
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import AssetKey, Condition
    from assetwatchd.polling.port import Source
    from assetwatchd.replicas.replica import Replica
    from assetwatchd.settings.schema import AnySource, AnyStore, Settings, SourceSettings
    from assetwatchd.upstream.port import Upstream

ADAPTERS: dict[str, Callable[[str, Any], Upstream]] = {
    "usd_search": UsdSearch,
    "omn": Omn,
    "pieces": Pieces,
    "media_intelligence": MediaIntelligence,
    "oracle_sbc": OracleSbc,
}
TIDY_INTERVAL_S = 60.0
DRAIN_RETRY_S = 2.0
"""Clients of a stopping server are told to come back within this, each at another moment."""
log = logging.getLogger(__name__)


class App:
    """Everything one process runs, wired. It closes the store it was given; without one it keeps statuses in memory."""

    def __init__(
        self, settings: Settings, store: Store | None = None, *, replica: str = "", probing: Probing = PROBING
    ) -> None:
        """replica: what clients are told that answers them; the name of the host if it is empty."""
        tls.check(settings.sources)
        self.settings = settings
        self.replica = replica or _name_of(settings.store)
        self.store = store or MemoryStore()
        self._replica: Replica | None = None
        self.hub = Hub(
            self.store,
            convert.WatchFraming(lambda: self.store.epoch),
            heartbeat_s=settings.server.heartbeat_s,
            stream_age_s=settings.server.stream_age_s,
            incomplete=self._incomplete,
        )
        self.health = Health()
        self._stopping = asyncio.Event()
        self._admission = Admission(settings.server)
        pipeline = Pipeline(self.store, self.hub, convert.ProtobufEncoder(), store_failing=self._store_failing)
        if isinstance(settings.store, EtcdStoreSettings):
            self._replica = self._one_of_several(settings.store, pipeline)
        self._pieces = _pieces_servers(settings, probing)
        self.sources = self._all_sources(pipeline)
        jitter = random.Random()  # noqa: S311 - not a secret
        encode = encoder(settings.server.message_bytes_max)
        self._feeds = Feeds(Parts(MemoryStore, encode, StreamFraming(), settings.server, jitter, time.time))

    def _all_sources(self, pipeline: Pipeline) -> Sources:
        """Return them, their conditions told. Raises: ConfigError for pins that are none of theirs."""
        sources = Sources(self._source(name, source, pipeline) for name, source in self.settings.sources.items())
        if wrong := list(wrong_pins((each.name, each.settings, each) for each in sources)):
            raise ConfigError("\n".join(wrong))
        for each in sources:
            self._tell(each.name, each.condition)
        return sources

    def _one_of_several(self, settings: EtcdStoreSettings, pipeline: Pipeline) -> Replica:
        """Return what makes this process one of several. Raises: ConfigError when a file of theirs cannot be read."""
        from assetwatchd.replicas.replica import Around, replica  # noqa: PLC0415 - with no other store it is imported

        around = Around(
            self.hub,
            pipeline,
            tell=self._tell,
            cut_off=self.health.cut_off,
            behind=lambda: self.hub.end_open(_behind),
            watchers=self._watchers,
        )
        return replica(settings, self.settings.sources, self.store, around)

    def _watchers(self) -> dict[str, int]:
        return {name: count for name in self.settings.sources if (count := self.hub.watcher_count(name))}

    def _source(self, name: str, source: AnySource, pipeline: Pipeline) -> Source:
        kind = SourceKind[source.kind.upper()]
        if self._replica is not None:
            return self._replica.source(name, kind, source, lambda: self._upstream(name, source))
        return Scheduler(
            name,
            kind,
            self._upstream(name, source),
            source,
            store=self.store,
            pipeline=pipeline,
            tell=self._tell,
        )

    def _upstream(self, name: str, source: AnySource) -> Upstream:
        if isinstance(source, PiecesSource):
            return Pieces(name, source, self._pieces[name])
        return ADAPTERS[source.kind](name, source)

    async def serve(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until stopped or cancelled, then drain; on_ready is given HOST:PORT once calls are taken.

        Raises: ConfigError when the address cannot be had; whatever a loop of ours failed with.
        """
        collect_seldom()
        try:
            grpc_server, address = self._build_server()
            if self._replica is not None:
                await self._replica.start()
            await grpc_server.start()
            loops = asyncio.create_task(self._run(), name="app")
            loops.add_done_callback(lambda _: self.stop())  # a loop that failed ends the server, instead of half of it
            try:
                self.health.serving()
                log.info("serving on %s", address)
                if on_ready is not None:
                    on_ready(address)
                await self._stopping.wait()
            finally:
                await self._drain(grpc_server)
                loops.cancel()
                await asyncio.wait([loops])
            if not loops.cancelled():
                loops.result()
        finally:
            await self._close()

    def stop(self) -> None:
        """Have `serve` drain and return; may be called more than once."""
        self._stopping.set()

    def _build_server(self) -> tuple[grpc.aio.Server, str]:
        limits = self.settings.server
        admission = self._admission
        watching = Watching(self.store, self.hub, self.sources, admission, limits, self.replica)
        asset_status = AssetStatusService(self.store, self.hub, self.sources, watching)
        apis = {name: PiecesApi(client) for name, client in self._pieces.items()}
        calls = CallContext(
            self.sources, apis, self.store, self.hub, limits, lambda asset_id: tombstone(asset_id, None)
        )
        pieces_assets = PiecesAssetsService(calls, Streaming(self._feeds, admission, limits, self.replica))
        sources = SourceService(self.store, self.hub, self.sources, self.replica)
        about = ServerService(self.store, limits, self.replica)
        servicers = server.Servicers(asset_status, sources, about, pieces_assets, self.health)
        connections = descriptors.for_connections(self.settings)
        return server.build(limits, servicers, replica=self.replica, connections_max=connections)

    async def _run(self) -> None:
        """Run the loops until cancelled. Raises: HistoryBroken; whatever else one of them failed with, in a group."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.hub.run(), name="hub")
                tasks.create_task(self.store.run(self.hub.publish), name="store")
                tasks.create_task(self._tidy(), name="tidy")
                if self._replica is not None:
                    tasks.create_task(self._replica.run(), name="replica")
                for source in self.sources:
                    tasks.create_task(source.run(), name=source.name)
        except* HistoryBroken as group:
            broken = group.exceptions[0]
        else:
            return
        raise broken

    async def _drain(self, grpc_server: grpc.aio.Server) -> None:
        """Stop taking calls, then tell the streams: in this order nobody connects to a server that is going."""
        began, drain_s = time.monotonic(), self.settings.server.drain_s
        log.info("draining: %s; calls under way have %g s", counted(self._admission.count, "stream"), drain_s)
        # Health first: balancers that watch it send nobody here any more. Then `stop`, which says GOAWAY and refuses
        # new connections, gets one iteration of the loop before the streams end: whoever is told to connect again must
        # not get back in here.
        self.health.end(_draining)
        if self._replica is not None:
            await self._replica.leave()
        stopping = asyncio.create_task(grpc_server.stop(drain_s))
        await asyncio.sleep(0)
        self.hub.end(_draining)
        self._feeds.end(_draining)
        await stopping
        log.info("drained in %.1f s", time.monotonic() - began)

    async def _close(self) -> None:
        for each in (*self.sources, *self._pieces.values()):
            await each.close()
        if self._replica is not None:
            await self._replica.close()
        await self.store.close()

    def _tell(self, source: str, condition: Condition) -> None:
        self.hub.tell(source, condition)
        self.health.tell(source, condition)
        telemetry.record_condition(source, condition.state)

    def _incomplete(self, names: frozenset[str]) -> tuple[str, ...]:
        return self.sources.incomplete(names)

    def _store_failing(self, why: str) -> None:
        for source in self.sources:
            source.store_failing(why)

    async def _tidy(self) -> None:
        limits = self.settings.store
        while True:
            await asyncio.sleep(TIDY_INTERVAL_S)
            for source in self.sources:
                await source.tidy(forget_after_s=limits.forget_after_s)
            before = time.time() - limits.tombstone_retention_s
            try:
                await self.store.drop_gone(before=before, keep=self._wanted)
            except StoreError as error:
                log.warning("removals stay for now: %s", error)

    def _wanted(self, key: AssetKey) -> bool:
        return key.source in self.settings.sources and self.sources.get(key.source).wanted(key.asset_id)


def _pieces_servers(settings: Settings, probing: Probing) -> dict[str, PiecesServer]:
    pieces = ((name, source) for name, source in settings.sources.items() if isinstance(source, PiecesSource))
    return {name: PiecesServer(name, source, probing) for name, source in pieces}


def _name_of(store: AnyStore) -> str:
    own = store.replica if isinstance(store, EtcdStoreSettings) else None
    return host_name() if own is None else as_name(own)


def problems(settings: Settings) -> Iterator[str]:
    """Yield what a start would find wrong with settings that are valid by themselves, a line each; nobody is asked."""
    unusable = list(tls.source_problems(settings.sources))
    yield from unusable
    if not unusable:  # an adapter that is made raises for the first of them
        adapters = ((name, source, ADAPTERS[source.kind](name, source)) for name, source in settings.sources.items())
        yield from wrong_pins(adapters)
    yield from server.problems(settings.server)
    yield from telemetry.problems(settings.telemetry)
    if isinstance(settings.store, SqliteStoreSettings):
        yield from sqlite_problems(Path(settings.store.path))
    if isinstance(settings.store, EtcdStoreSettings):
        from assetwatchd.etcd import files  # noqa: PLC0415 - with no other store it is imported

        yield from files.problems(settings.store)


def warnings(settings: Settings) -> Iterator[str]:
    """Yield what a start says of settings that it takes, and that are hardly meant so, a line each."""
    yield from tls.warnings(settings.sources)
    yield from certificates.warnings(settings.server)
    if isinstance(settings.store, EtcdStoreSettings):
        from assetwatchd.etcd import files  # noqa: PLC0415 - as above

        yield from files.warnings(settings.store)


def wrong_pins(sources: Iterable[tuple[str, SourceSettings, Source | Upstream]]) -> Iterator[str]:
    """Yield every pin that cannot be an id of its source."""
    for name, settings, rules in sources:
        for pin in settings.pins:
            if (why := rules.check(pin)) is not None:
                yield f"sources.{name}.pins: {pin!a}: {why}"


class Begun(NamedTuple):
    """The start of the process, for its log: where its configuration is from, and what was left out of that."""

    configuration: str = "given by a program"
    warnings: Sequence[str] = ()


async def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] | None = None,
    whole: bool = False,
    begun: Begun = Begun(),  # noqa: B008 - frozen
) -> None:
    """Serve until SIGTERM, SIGINT or cancellation, then drain; on_ready is given HOST:PORT once calls are taken.

    whole: the process has no other purpose, so it may be ended when it does not end, after this too.
    Raises: ConfigError when the address cannot be had; StoreError when the store cannot.
    """
    with stderr.caught() if whole else contextlib.nullcontext():
        await _serve(settings, on_ready, begun, whole=whole)


async def _serve(settings: Settings, on_ready: Callable[[str], None] | None, begun: Begun, *, whole: bool) -> None:
    logs.configure(settings.telemetry.log_level, settings.telemetry.log_format)
    for text in begun.warnings:
        log.warning("%s", text)
    descriptors.raise_limit()
    descriptors.warn_if_few(settings)
    for warning in warnings(settings):
        log.warning("%s", warning)
    shut_telemetry = telemetry.configure(settings.telemetry, version=version("assetwatch"))
    try:
        store = await open_store(settings.store)
        _tell_start(settings, store, begun)
        app = App(settings, store)
        with stopped_by_signals(app, lasting=whole), Watchdog(settings.sources, last_resort=whole):
            await app.serve(on_ready)
    finally:
        shut_telemetry()


def _tell_start(settings: Settings, store: Store, begun: Begun) -> None:
    kept = settings.store
    log.info(
        "assetwatch %s starts: configuration %s with %s; store %s, head %d, epoch %s",
        version("assetwatch"),
        begun.configuration,
        counted(len(settings.sources), "source"),
        _place(kept),
        store.head,
        store.epoch,
    )


def _place(kept: AnyStore) -> str:
    """Say where statuses are kept."""
    match kept.kind:
        case "sqlite":
            return str(Path(kept.path).absolute())
        case "memory":
            return "in memory"
        case "etcd":
            return f"in etcd at {', '.join(kept.endpoints)} below {kept.prefix}"


def stopped_by_signals(app: App, *, lasting: bool) -> Stopping:
    """Return what stops an app of the running loop when it is to end; lasting: and ends a process that stays."""
    loop = asyncio.get_running_loop()

    def in_loop(call: Callable[[], None]) -> Callable[[], None]:
        def schedule() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                loop.call_soon_threadsafe(call)

        return schedule

    return Stopping(
        in_loop(app.stop),
        within_s=app.settings.server.drain_s + CLOSING_S,
        lasting=lasting,
        hung_up=in_loop(_hung_up),
    )


def _hung_up() -> None:
    log.warning("SIGHUP is ignored: the configuration is read at the start alone; SIGTERM stops the server")


async def open_store(settings: AnyStore) -> Store:
    """Open the store that was asked for. Raises: StoreError."""
    match settings.kind:
        case "sqlite":
            return await SqliteStore.open(Path(settings.path))
        case "memory":
            return MemoryStore()
        case "etcd":
            from assetwatchd.replicas import replica  # noqa: PLC0415 - with no other store it is imported

            return await replica.open_store(settings, convert.ProtobufEncoder().seal)


def _behind() -> ReplicaBehind:
    return ReplicaBehind("this replica is cut off from the others; another one has what is new")


async def copy_store(old: AnyStore, new: AnyStore) -> Content:
    """Copy all that a store holds into an empty one; neither is in use. Raises: StoreError."""
    content = await _read_whole(old)
    await _write_whole(new, content)
    return content


async def _read_whole(settings: AnyStore) -> Content:
    match settings:
        case SqliteStoreSettings():
            path = Path(settings.path)
            if not await asyncio.to_thread(path.exists):
                raise StoreError(f"{path} is not there: nothing to copy")
            store = await SqliteStore.open(path)
            try:
                return store.content()
            finally:
                await store.close()
        case EtcdStoreSettings():
            from assetwatchd.changefeed.store.etcd import copying  # noqa: PLC0415 - with no other store it is imported

            async with copying.opened(settings) as (client, names):
                return await copying.read(client, names, convert.ProtobufEncoder().seal)
        case _:
            raise StoreError("a store of kind memory is gone when its process is: nothing to copy")


async def _write_whole(settings: AnyStore, content: Content) -> None:
    match settings:
        case SqliteStoreSettings():
            await SqliteStore.fill(Path(settings.path), content)
        case EtcdStoreSettings():
            from assetwatchd.changefeed.store.etcd import copying  # noqa: PLC0415 - with no other store it is imported

            async with copying.opened(settings) as (client, names):
                await copying.write(client, names, content)
        case _:
            raise StoreError("a store of kind memory keeps nothing: nowhere to copy to")


def _draining() -> ServerDraining:
    return ServerDraining(retry_after_s=random.uniform(0, DRAIN_RETRY_S))  # noqa: S311 - jitter, not a secret
