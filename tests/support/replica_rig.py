"""Several servers over one etcd and one set of stand-ins, in the test's own process: each can be ended, or killed.

A server that is killed here stops as its process would: its loops are cancelled where they are, and nothing is given
back; what it had with etcd goes with its lease.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc

from assetwatch_sandbox import Sandbox
from assetwatchd.app import App, open_store
from assetwatchd.replicas.shared import SharedSource
from assetwatchd.settings.schema import Settings
from faults.rig.proxy import Proxy
from support.reader import PATIENCE_S
from support.rig import QUICK, SAMPLES, SERVER, Rig, impatient, of_standin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster

LEASE_S = 10
"""Of servers whose end no test waits for: a loaded machine may hold up all of them, as one process, for seconds."""
SHORT_LEASE_S = 2


class Replica(Rig):
    """One of the servers, and stubs that call it."""

    def __init__(self, name: str, sandbox: Sandbox, app: App, address: str, serving: asyncio.Task[None]) -> None:
        super().__init__(sandbox, app, address, grpc.aio.insecure_channel(address))
        self.name = name
        self.serving = serving

    def shared(self, source: str) -> SharedSource:
        """Return a source as it is here."""
        found = self.app.sources.get(source)
        assert isinstance(found, SharedSource)
        return found

    def owns(self, source: str) -> bool:
        """Whether this one asks a source."""
        return self.shared(source).owned is not None

    async def stop(self) -> None:
        """End it in good order."""
        self.app.stop()
        await self.serving
        await self.channel.close()

    async def kill(self) -> None:
        """End it as a crash does."""
        replica = self.app._replica
        assert replica is not None
        replica._session._ended = True  # its loops end with the process, and nobody asks for another session
        self.app._drain = _at_once  # type: ignore[method-assign, assignment]  # nothing is given back
        self.app._close = _closed(self.app)  # type: ignore[method-assign]  # same
        self.serving.cancel()
        with suppress(asyncio.CancelledError):
            await self.serving
        await self.channel.close()


async def _at_once(server: grpc.aio.Server) -> None:
    await server.stop(None)


def _closed(app: App) -> Callable[[], Any]:
    async def close() -> None:
        replica = app._replica
        assert replica is not None
        await replica._server.stop()
        await replica._peers.close()
        await replica._client.close()
        for server in app._pieces.values():
            await server.close()
        await app.store.close()

    return close


class Replicas:
    """All of them, by name, as they come and go."""

    def __init__(self, sandbox: Sandbox, endpoints: Sequence[str], settings: Mapping[str, Any]) -> None:
        self.sandbox = sandbox
        self.endpoints = endpoints
        self.running: dict[str, Replica] = {}
        self._settings = settings

    async def start(self, name: str, **store: Any) -> Replica:
        """Start one. store: settings of its store."""
        given = {**self._settings, "store": {**self._settings["store"], "replica": name, **store}}
        settings = Settings.model_validate(given)
        app = App(settings, await open_store(settings.store))
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(app.serve(ready.set_result))
        either: list[asyncio.Future[Any]] = [serving, ready]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        replica = self.running[name] = Replica(name, self.sandbox, app, ready.result(), serving)
        return replica

    async def owner(self, source: str, *, but: str = "") -> Replica:
        """Return who asks a source, once somebody does (other than one of them)."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for replica in self.running.values():
                    if replica.name != but and not replica.serving.done() and replica.owns(source):
                        return replica
                await asyncio.sleep(0.01)

    async def other(self, source: str) -> Replica:
        """Return one that does not ask a source, once somebody else does and it knows who."""
        owner = await self.owner(source)
        other = next(replica for replica in self.running.values() if replica is not owner)
        await until(lambda: other.shared(source).owner == owner.name)
        return other

    async def end(self) -> None:
        """End all that run still."""
        for replica in self.running.values():
            if not replica.serving.done():
                await replica.stop()


async def until(met: Callable[[], object]) -> None:
    """Return once something is so that no event tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not met():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


@asynccontextmanager
async def way_to(etcd: Cluster) -> AsyncIterator[Proxy]:
    """Give a way to etcd that can be cut."""
    host, _, port = etcd.endpoints[0].rpartition("//")[2].rpartition(":")
    way = Proxy(host, int(port))
    await way.start()
    try:
        yield way
    finally:
        await way.stop()


@asynccontextmanager
async def replicas(
    etcd: Cluster,
    prefix: str,
    folder: Path,
    names: Sequence[str] = ("a", "b"),
    *,
    sources: tuple[str, ...] = ("omn",),
    server: Mapping[str, object] | None = None,
    every: Mapping[str, object] | None = None,
    **store: object,
) -> AsyncIterator[Replicas]:
    """Run servers over stand-ins of some sources, each with its sample. store: settings of theirs."""
    sandbox = Sandbox(sources)
    sandbox.seed(1, 6)
    for name, standin in sandbox.standins.items():
        standin.put(SAMPLES[name].asset_id, SAMPLES[name].native)
    await sandbox.start()
    token = folder / "peer-token"
    token.write_text("a-secret-that-all-of-them-share\n")
    kept = {
        "kind": "etcd",
        "endpoints": etcd.endpoints,
        "prefix": prefix,
        "lease_s": LEASE_S,
        "cut_off_s": 5,
        "peer_listen": "127.0.0.1:0",
        "peer_token_file": token,
        **store,
    }
    settings = {
        "server": {**SERVER, **(server or {})},
        "sources": {name: {**of_standin(each), **QUICK, **(every or {})} for name, each in sandbox.standins.items()},
        "store": kept,
    }
    running = Replicas(sandbox, etcd.endpoints, settings)
    try:
        with impatient():
            for name in names:
                await running.start(name)
            yield running
    finally:
        await running.end()
        for standin in sandbox.standins.values():
            standin.faults.clear()
        await sandbox.stop()
