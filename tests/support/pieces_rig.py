"""Pieces OS and a server over it, in the test's own process: our stubs, the vendor's client, and streams as maps."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.pieces.v1.pieces_assets_service_pb2_grpc import PiecesAssetsServiceStub
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatchd.app import App
from assetwatchd.pieces.client.discovery import PROBING
from assetwatchd.rpc.pieces import convert
from assetwatchd.settings.schema import Settings
from support.reader import PATIENCE_S, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from google.protobuf.message import Message
    from pydantic import JsonValue

    from assetwatchd.pieces.client.discovery import Probing

SOURCE = "desk"
OTHER_KIND = "sbc"
ONE = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
TWO = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
NOTE = "0c5d9a10-52d3-4f7b-8f8e-aa00bb11cc03"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
NOW_S = 1_741_081_500.0
"""Past wherever the tests run: a date that is ahead of the clock is none."""
MESSAGE_BYTES = 64 * 1024 * 1024
QUICK = {"backoff_first_s": 0.05, "backoff_max_s": 0.2, "rate_per_s": 5000, "timeout_s": 10}
SERVER = {"listen": "127.0.0.1:0", "heartbeat_s": 0.3, "drain_s": 3, "first_read_wait_s": 5}
APPLICATION: dict[str, JsonValue] = {
    "id": "aaaaaaaa-0000-4000-8000-000000000001",
    "name": "OPEN_SOURCE",
    "version": "1.0.0",
    "platform": "LINUX",
    "onboarded": False,
    "privacy": "OPEN",
}


class PiecesRig:
    """A running stand-in, a running server, and stubs that call it."""

    def __init__(self, standin: PiecesStandin, app: App, address: str, channel: grpc.aio.Channel) -> None:
        self.standin = standin
        self.app = app
        self.address = address
        self.pieces: Any = PiecesAssetsServiceStub(channel)
        self.statuses: Any = AssetStatusServiceStub(channel)

    async def call(self, rpc: str, **request: Any) -> Any:
        """Make one call; the source is the stand-in unless given."""
        return await self.start(rpc, **request)

    def start(self, rpc: str, **request: Any) -> Any:
        """Begin one call."""
        wanted = getattr(pb, f"{rpc}Request")(**{"source": SOURCE, **request})
        return getattr(self.pieces, rpc)(wanted, timeout=PATIENCE_S)

    async def document(self, rpc: str, field: str, **request: Any) -> dict[str, Any]:
        """Make one call; return a member of its answer as the JSON it stands for."""
        return convert.document(getattr(await self.call(rpc, **request), field))

    def stream(self, rpc: str, **request: Any) -> Mirror:
        """Subscribe to a stream."""
        wanted = getattr(pb, f"{rpc}Request")(**{"source": SOURCE, **request})
        return Mirror(getattr(self.pieces, rpc)(wanted))

    async def sent(self, rpc: str, **request: Any) -> str:
        """Make one call; return the path with query that it asked the upstream for, and nothing else."""
        self.standin.requests.clear()
        await self.call(rpc, **request)
        paths = [logged.path_qs for logged in self.standin.requests.all() if "/.well-known/" not in logged.path_qs]
        [path] = paths
        return path

    def sockets(self, name: str) -> int:
        """How many upstream connections a stream has."""
        return self.standin.streams[name].connected

    async def connected(self, name: str, count: int) -> None:
        """Wait until a stream has that many upstream connections."""
        async with asyncio.timeout(PATIENCE_S):
            while self.sockets(name) != count:  # noqa: ASYNC110 - it is the stand-in that is asked
                await asyncio.sleep(0.005)

    def held(self, asset_id: str) -> Mapping[str, Any]:
        """Return an asset as the stand-in holds it; it must."""
        native = self.standin.get(asset_id)
        assert native is not None, asset_id
        held: Mapping[str, Any] = native
        return held

    async def command(self, verb: str, **arguments: Any) -> Any:
        """Give the stand-in one of its commands."""
        return await self.standin.commands[verb](arguments)


class Mirror(Reader[str, Any, Any]):
    """A stream of assets or of their ids."""

    def __init__(self, call: Any) -> None:
        super().__init__(call)
        self.modes: list[int] = []
        self.conditions: list[Any] = []

    def learn(self, message: Any) -> None:
        """Let the map be as the message says."""
        if message.HasField("condition"):
            self.conditions.append(message.condition)
        if message.HasField("started"):
            self.modes.append(message.started.mode)
            self.map = {}
        for change in message.changes:
            if change.kind == CHANGE_KIND_REMOVED:
                self.removed.append(change.asset_id)
                self.map.pop(change.asset_id, None)
            else:
                self.map[change.asset_id] = change

    def names(self) -> dict[str, str]:
        """The names of the assets it holds."""
        return {asset_id: change.asset.name for asset_id, change in self.map.items()}


def seed_document(raw: str = "print('hi')", name: str = "hello", **asset: Any) -> dict[str, Any]:
    """A seed as JSON: a fragment of text."""
    fragment = {"string": {"raw": raw}, "metadata": {"ext": "py"}}
    metadata = {"name": name, "mechanism": "MANUAL"}
    seeded = {"application": APPLICATION, "format": {"fragment": fragment}, "metadata": metadata, **asset}
    return {"type": "SEEDED_ASSET", "asset": seeded}


def shelve(standin: PiecesStandin) -> None:
    """Put three assets: two snippets that share a tag, one note the user did not save."""
    standin.put(ONE, {"name": "retry loop", "content": "for i in range(3): pass", "ext": "py", "tags": ["http"]})
    standin.put(TWO, {"name": "pager", "content": "next(page)", "ext": "py", "tags": ["http", "cli"]})
    standin.put(NOTE, {"content": "rotate the keys", "ext": "md", "pseudo": True, "websites": ["https://a.invalid"]})


@asynccontextmanager
async def pieces_rig(
    *,
    source: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    standin: PiecesStandin | None = None,
    probing: Probing = PROBING,
) -> AsyncIterator[PiecesRig]:
    """Run both; overrides are laid over the settings. A stand-in that is given is stopped too."""
    standin = standin or PiecesStandin(clock=lambda: NOW_S)
    await standin.start()
    desk = {"kind": "pieces", "base_url": standin.url, **QUICK, **(source or {})}
    sbc = {"kind": "oracle_sbc", "base_url": "http://127.0.0.1:9", "username": "u", "password": "p"}
    settings = {"server": {**SERVER, **(server or {})}, "sources": {SOURCE: desk, OTHER_KIND: sbc}}
    app = App(Settings.model_validate(settings), probing=probing)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(app.serve(ready.set_result))
    try:
        address = await ready
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            yield PiecesRig(standin, app, address, channel)
    finally:
        app.stop()
        await asyncio.wait([serving])
        standin.faults.clear()
        await standin.stop()
    serving.result()


def message(into: Any, document: Mapping[str, Any]) -> Message:
    """Make a message of a document."""
    return cast("Message", convert.message(into, document))
