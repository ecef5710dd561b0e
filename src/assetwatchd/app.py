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
from assetwatchd.model.errors import ConfigError, ServerDraining, StoreError
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
from assetwatchd.runtime.replica import host_name
from assetwatchd.runtime.stopping import CLOSING_S, Stopping
from assetwatchd.runtime.watchdog import Watchdog
from assetwatchd.settings.schema import PiecesSource, SqliteStoreSettings
from assetwatchd.upstream.http import tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import grpc

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import AssetKey, Condition
    from assetwatchd.settings.schema import AnySource, MemoryStoreSettings, Settings, SourceSettings
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
        self.replica = replica or host_name()
        self._probing = probing
        self.store = store or MemoryStore()
        self.hub = Hub(
            self.store,
            convert.WatchFraming(self.store.epoch),
            heartbeat_s=settings.server.heartbeat_s,
            stream_age_s=settings.server.stream_age_s,
            incomplete=self._incomplete,
        )
        self.health = Health()
        self._stopping = asyncio.Event()
        self._admission = Admission(settings.server)
        pipeline = Pipeline(self.store, self.hub, convert.ProtobufEncoder(), store_failing=self._store_failing)
        self.sources = Sources(self._scheduler(name, source, pipeline) for name, source in settings.sources.items())
        if wrong := list(wrong_pins((each.name, each.settings, each.upstream) for each in self.sources)):
            raise ConfigError("\n".join(wrong))
        for scheduler in self.sources:
            self._tell(scheduler.name, scheduler.condition)
        self._pieces = dict(self._pieces_apis())
        jitter = random.Random()  # noqa: S311 - not a secret
        encode = encoder(settings.server.message_bytes_max)
        self._feeds = Feeds(Parts(MemoryStore, encode, StreamFraming(), settings.server, jitter, time.time))

    def _scheduler(self, name: str, source: AnySource, pipeline: Pipeline) -> Scheduler:
        return Scheduler(
            name,
            SourceKind[source.kind.upper()],
            self._upstream(name, source),
            source,
            store=self.store,
            pipeline=pipeline,
            tell=self._tell,
        )

    def _upstream(self, name: str, source: AnySource) -> Upstream:
        if isinstance(source, PiecesSource):
            return Pieces(name, source, PiecesServer(name, source, self._probing))
        return ADAPTERS[source.kind](name, source)

    def _pieces_apis(self) -> Iterator[tuple[str, PiecesApi]]:
        for scheduler in self.sources:
            if isinstance(scheduler.upstream, Pieces):
                yield scheduler.name, PiecesApi(scheduler.upstream.server)

    async def serve(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until stopped or cancelled, then drain; on_ready is given HOST:PORT once calls are taken.

        Raises: ConfigError when the address cannot be had; whatever a loop of ours failed with.
        """
        collect_seldom()
        try:
            grpc_server, address = self._build_server()
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
        calls = CallContext(
            self.sources, self._pieces, self.store, self.hub, limits, lambda asset_id: tombstone(asset_id, None)
        )
        pieces_assets = PiecesAssetsService(calls, Streaming(self._feeds, admission, limits, self.replica))
        sources = SourceService(self.store, self.hub, self.sources, self.replica)
        about = ServerService(self.store, limits, self.replica)
        servicers = server.Servicers(asset_status, sources, about, pieces_assets, self.health)
        connections = descriptors.for_connections(self.settings)
        return server.build(limits, servicers, replica=self.replica, connections_max=connections)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run(), name="hub")
            tasks.create_task(self._tidy(), name="tidy")
            for scheduler in self.sources:
                tasks.create_task(scheduler.run(), name=scheduler.name)

    async def _drain(self, grpc_server: grpc.aio.Server) -> None:
        """Stop taking calls, then tell the streams: in this order nobody connects to a server that is going."""
        began, drain_s = time.monotonic(), self.settings.server.drain_s
        log.info("draining: %s; calls under way have %g s", counted(self._admission.count, "stream"), drain_s)
        # Health first: balancers that watch it send nobody here any more. Then `stop`, which says GOAWAY and refuses
        # new connections, gets one iteration of the loop before the streams end: whoever is told to connect again must
        # not get back in here.
        self.health.end(_draining)
        stopping = asyncio.create_task(grpc_server.stop(drain_s))
        await asyncio.sleep(0)
        self.hub.end(_draining)
        self._feeds.end(_draining)
        await stopping
        log.info("drained in %.1f s", time.monotonic() - began)

    async def _close(self) -> None:
        for scheduler in self.sources:
            await scheduler.upstream.close()
        await self.store.close()

    def _tell(self, source: str, condition: Condition) -> None:
        self.hub.tell(source, condition)
        self.health.tell(source, condition)
        telemetry.record_condition(source, condition.state)

    def _incomplete(self, names: frozenset[str]) -> tuple[str, ...]:
        return self.sources.incomplete(names)

    def _store_failing(self, why: str) -> None:
        for scheduler in self.sources:
            scheduler.store_failing(why)

    async def _tidy(self) -> None:
        limits = self.settings.store
        while True:
            await asyncio.sleep(TIDY_INTERVAL_S)
            for scheduler in self.sources:
                await scheduler.tidy(forget_after_s=limits.forget_after_s)
            before = time.time() - limits.tombstone_retention_s
            try:
                await self.store.drop_gone(before=before, keep=self._wanted)
            except StoreError as error:
                log.warning("removals stay for now: %s", error)

    def _wanted(self, key: AssetKey) -> bool:
        return key.source in self.settings.sources and self.sources.get(key.source).wanted(key.asset_id)


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


def warnings(settings: Settings) -> Iterator[str]:
    """Yield what a start says of settings that it takes, and that are hardly meant so, a line each."""
    yield from tls.warnings(settings.sources)
    yield from certificates.warnings(settings.server)


def wrong_pins(sources: Iterable[tuple[str, SourceSettings, Upstream]]) -> Iterator[str]:
    """Yield every pin that cannot be an id of its source."""
    for name, settings, upstream in sources:
        for pin in settings.pins:
            if (why := upstream.check(pin)) is not None:
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
        Path(kept.path).absolute() if isinstance(kept, SqliteStoreSettings) else "in memory",
        store.head,
        store.epoch,
    )


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


async def open_store(settings: SqliteStoreSettings | MemoryStoreSettings) -> Store:
    """Open the store that was asked for. Raises: StoreError."""
    return await SqliteStore.open(Path(settings.path)) if isinstance(settings, SqliteStoreSettings) else MemoryStore()


def _draining() -> ServerDraining:
    return ServerDraining(retry_after_s=random.uniform(0, DRAIN_RETRY_S))  # noqa: S311 - jitter, not a secret
