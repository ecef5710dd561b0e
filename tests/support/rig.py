"""The sandbox and a real server over it, in the test's own process, on free ports; waits are short, rates high."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unittest.mock import patch

import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1.asset_status_pb2 import ASSET_STATE_AVAILABLE, ASSET_STATE_PROCESSING, AssetRef
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED
from assetwatch.v1.server_service_pb2 import GetServerInfoRequest, ServerInfo
from assetwatch.v1.server_service_pb2_grpc import ServerServiceStub
from assetwatch.v1.source_service_pb2_grpc import SourceServiceStub

from assetwatch_sandbox import Sandbox
from assetwatchd.app import App
from assetwatchd.model.values import AssetKey, ConditionState
from assetwatchd.polling import waiters
from assetwatchd.settings.schema import Settings
from support.reader import PATIENCE_S, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from assetwatch.v1.asset_status_pb2 import AssetState, AssetStatus
    from assetwatch.v1.source_pb2 import Source

    from assetwatch_sandbox.standin import Standin

QUICK = {
    "busy_interval_s": 0.1,
    "settled_interval_s": 0.2,
    "enumerate_interval_s": 0.2,
    "reconcile_interval_s": 600,
    "backoff_first_s": 0.05,
    "backoff_max_s": 0.2,
    "refused_backoff_max_s": 0.4,
    "probe_interval_s": 0.3,
    "rate_per_s": 2000,
    "timeout_s": 10,
}
SERVER: Mapping[str, object] = {
    "listen": "127.0.0.1:0",
    "heartbeat_s": 0.3,
    "drain_s": 3,
    "first_read_wait_s": 20,
}


class Sample(NamedTuple):
    """An asset that every rig's stand-in holds, in state AVAILABLE, and what the tests make of it.

    another: native fields that change it. state: what it is in then. observe: pattern of the calls that read it.
    unknown: a well-formed id that nobody has; empty when the kind has none. wrong: no id at all.
    """

    asset_id: str
    native: Mapping[str, Any]
    another: Mapping[str, Any]
    state: AssetState.ValueType
    unknown: str
    wrong: str
    observe: str


SAMPLES: Mapping[str, Sample] = {
    "media-intelligence": Sample(
        asset_id="my-workspace/1234/5678",
        native={"uploadStatus": "COMPLETED"},
        another={"uploadStatus": "IN_PROGRESS"},
        state=ASSET_STATE_PROCESSING,
        unknown="my-workspace/1234/9999",
        wrong="my-workspace",
        observe="/import-status",
    ),
    "omn": Sample(
        asset_id="tid:7C1E5A40-9B1D-4C55-8E0A-2F6B7D3A9C1",
        native={"ImportState": "available", "ObjectState": "available"},
        another={"ImportState": "running"},
        state=ASSET_STATE_PROCESSING,
        unknown="tid:0D2F9E1B-3A77-4E21-A5C0-91B4C6D8E70",
        wrong="7C1E5A40",
        observe="/dam/assets/status",
    ),
    "oracle-sbc": Sample(
        asset_id="last-operation",
        native={"operation": "activate", "status": "success"},
        another={"operation": "verify", "status": "inProgress"},
        state=ASSET_STATE_PROCESSING,
        unknown="",
        wrong="the-operation-before",
        observe="/admin/asyncstatus",
    ),
    "pieces": Sample(
        asset_id="6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001",
        native={"name": "retry loop", "content": "for i in range(3): pass", "ext": "py"},
        another={"name": "retry loop, better"},
        state=ASSET_STATE_AVAILABLE,
        unknown="f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002",
        wrong="6b1f0c6e",
        observe=r"/assets/[0-9a-f-]{36}",
    ),
    "usd-search": Sample(
        asset_id="s3://studio-assets/props/crate #1 ü+%.usd",
        native={"plugins": {"thumbnail_generation": {"indexing_status": "in_sync"}}},
        another={"plugins": {"thumbnail_generation": {"history": ["processing"]}}},
        state=ASSET_STATE_PROCESSING,
        unknown="s3://studio-assets/props/nope.png",
        wrong="crate.usd",
        observe="/info/indexing/asset/status",
    ),
}

SOURCES = tuple(SAMPLES)


class Rig:
    """A running sandbox and a running server, and stubs that call it."""

    def __init__(self, sandbox: Sandbox, app: App, address: str, channel: grpc.aio.Channel) -> None:
        self.sandbox = sandbox
        self.app = app
        self.address = address
        self.channel = channel
        self.statuses: Any = AssetStatusServiceStub(channel)
        self.sources: Any = SourceServiceStub(channel)
        self.server: Any = ServerServiceStub(channel)

    def __getitem__(self, source: str) -> Standin[Any]:
        """Return the stand-in behind a source."""
        return self.sandbox.standins[source]

    async def get(self, key: AssetKey, **request: Any) -> AssetStatus:
        """Ask for one status."""
        wanted = pb.GetAssetStatusRequest(asset=ref(key), **request)
        answer = await self.statuses.GetAssetStatus(wanted, timeout=PATIENCE_S)
        return cast("AssetStatus", answer.status)

    async def batch(self, keys: Iterable[AssetKey], **request: Any) -> list[AssetStatus]:
        """Ask for several."""
        wanted = pb.BatchGetAssetStatusesRequest(assets=map(ref, keys), **request)
        answer = await self.statuses.BatchGetAssetStatuses(wanted, timeout=PATIENCE_S)
        return list(answer.statuses)

    async def list(self, **request: Any) -> pb.ListAssetStatusesResponse:
        """Ask for one page."""
        answer = await self.statuses.ListAssetStatuses(pb.ListAssetStatusesRequest(**request), timeout=PATIENCE_S)
        return cast("pb.ListAssetStatusesResponse", answer)

    async def wait(self, key: AssetKey, **request: Any) -> pb.WaitAssetStatusResponse:
        """Wait for one asset."""
        wanted = pb.WaitAssetStatusRequest(asset=ref(key), **request)
        return cast("pb.WaitAssetStatusResponse", await self.statuses.WaitAssetStatus(wanted, timeout=PATIENCE_S))

    async def shows(self, name: str, wanted: Callable[[Source], object]) -> Source:
        """Ask about one source until it is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(source := await self.source(name)):  # noqa: ASYNC110 - it is the server that is asked
                await asyncio.sleep(0.01)
        return source

    async def asked(self, name: str, pattern: str | None = None) -> None:
        """Wait for a source's upstream to be asked (again, if its log was cleared)."""
        async with asyncio.timeout(PATIENCE_S):
            while not self[name].requests.count(pattern):  # noqa: ASYNC110 - it is the server that asks
                await asyncio.sleep(0.01)

    async def source(self, name: str) -> Source:
        """Ask the server about one source."""
        answer = await self.sources.GetSource(source_pb.GetSourceRequest(source=name), timeout=PATIENCE_S)
        return cast("Source", answer.source)

    async def all_sources(self) -> Sequence[Source]:
        """Ask the server about all."""
        answer = await self.sources.ListSources(source_pb.ListSourcesRequest(), timeout=PATIENCE_S)
        return cast("Sequence[Source]", answer.sources)

    async def info(self) -> ServerInfo:
        """Ask the server about itself."""
        answer = await self.server.GetServerInfo(GetServerInfoRequest(), timeout=PATIENCE_S)
        return cast("ServerInfo", answer.server)

    def vary(self, source: str) -> AssetKey:
        """Change a source's sample; return its name."""
        self[source].put(SAMPLES[source].asset_id, SAMPLES[source].another)
        return sample(source)

    def watch(self, **request: Any) -> Stream:
        """Open a watch."""
        return Stream(self.statuses.WatchStatus(pb.WatchStatusRequest(**request)))


def sample(source: str) -> AssetKey:
    """Name a source's sample."""
    return AssetKey(source, SAMPLES[source].asset_id)


def ref(key: AssetKey) -> AssetRef:
    """Write a name as requests want it."""
    return AssetRef(source=key.source, asset_id=key.asset_id)


def key_of(status: AssetStatus) -> AssetKey:
    """Read the name of a status."""
    return AssetKey(status.asset.source, status.asset.asset_id)


class Stream(Reader["AssetKey", "AssetStatus", pb.WatchStatusResponse]):
    """A watch."""

    token = ""

    def learn(self, message: pb.WatchStatusResponse) -> None:
        """Let the map be as the message says."""
        self.token = message.resume_token or self.token
        for change in message.changes:
            key = key_of(change.status)
            if change.kind == CHANGE_KIND_REMOVED:
                self.removed.append(key)
                self.map.pop(key, None)
            else:
                self.map[key] = change.status

    async def turns(self, source: str, state: ConditionState) -> None:
        """Take messages in until the last told condition of a source is that one."""
        async with asyncio.timeout(PATIENCE_S):
            while self.conditions(source)[-1:] != [state]:
                await self.next()

    def conditions(self, source: str) -> list[int]:
        """Return the states of a source's condition, in the order in which they were told."""
        told = [change for message in self.messages for change in message.source_conditions]
        return [change.condition.state for change in told if change.source == source]


@asynccontextmanager
async def running(
    names: tuple[str, ...] = SOURCES,
    *,
    seed: int = 1,
    count: int = 6,
    server: Mapping[str, object] | None = None,
    every: Mapping[str, object] | None = None,
    switches: Mapping[str, Mapping[str, object]] | None = None,
    **of_source: Mapping[str, object],
) -> AsyncIterator[Rig]:
    """Run both; names: the sources, each with `count` assets. server, every: settings of the server, of every source.

    of_source: settings of one source, its hyphens as underscores.
    """
    sandbox = Sandbox(names, switches=switches)
    sandbox.seed(seed, count)
    for name, standin in sandbox.standins.items():
        standin.put(SAMPLES[name].asset_id, SAMPLES[name].native)
    await sandbox.start()
    try:
        sources = {
            name: {**of_standin(standin), **QUICK, **(every or {}), **of_source.get(name.replace("-", "_"), {})}
            for name, standin in sandbox.standins.items()
        }
        with impatient():
            async with serving(sources, server) as (app, address), grpc.aio.insecure_channel(address) as channel:
                yield Rig(sandbox, app, address, channel)
    finally:
        for standin in sandbox.standins.values():
            standin.faults.clear()
        await sandbox.stop()


@asynccontextmanager
async def serving(
    sources: Mapping[str, object], server: Mapping[str, object] | None = None
) -> AsyncIterator[tuple[App, str]]:
    """Run a server alone; it is drained at the end, and must end well."""
    app = App(Settings.model_validate({"server": {**SERVER, **(server or {})}, "sources": sources}))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(app.serve(ready.set_result))
    either: list[asyncio.Future[Any]] = [task, ready]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    try:
        if ready.done():
            yield app, ready.result()
    finally:
        app.stop()
        await task


@contextmanager
def impatient() -> Iterator[None]:
    """Shorten what no setting shortens."""
    with patch.object(waiters, "DOUBT_S", 0.05):
        yield


def of_standin(standin: Standin[Any]) -> dict[str, object]:
    """Return the settings that lead to a stand-in."""
    known = standin.credentials
    settings: dict[str, object] = {"kind": standin.kind, "base_url": standin.url}
    match standin.kind:
        case "usd_search":
            settings["pins"] = standin.asset_ids()
        case "omn":
            settings["auth"] = {"kind": "bearer", "token": known["token"]}
        case "media_intelligence":
            projects = sorted({asset_id.rpartition("/")[0] for asset_id in standin.asset_ids()})
            settings |= {
                "access_key": known["access_key"],
                "secret_key": known["secret_key"],
                "projects": projects,
            }
        case "oracle_sbc":
            settings |= {name: known[name] for name in ("username", "password")}
            settings["pins"] = standin.asset_ids()
    return settings
