"""The real service over a store that a test writes: its sources never answer, so that nothing else is committed."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from assetwatchd.app import App
from assetwatchd.changefeed.pipeline import DIGEST_BYTES, Pipeline
from assetwatchd.changefeed.store.port import Draft
from assetwatchd.model.details import OmnDetail
from assetwatchd.model.values import AssetKey, Failure, FailureKind, Freshness, Observation, SourceKind, State
from assetwatchd.polling.scheduler import Scheduler
from assetwatchd.polling.sources import Sources
from assetwatchd.rpc import convert, service, watch
from assetwatchd.settings.schema import Settings, SourceSettings
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from assetwatchd.changefeed.store.port import Store

ENCODER = convert.ProtobufEncoder()
BEHIND_WAIT_S = 0.05
"""How long the service under test waits for a revision it does not know."""


def draft(name: str, state: State, *, gone: bool, at: float, pad_bytes: int = 0) -> Draft:
    """Draft a change of SOURCE/ASSET_ID as the pipeline would, with a detail; pad_bytes: of text beside that."""
    source, asset_id = name.split("/", 1)
    failure = Failure(FailureKind.DEGRADED, "PAD", "x" * pad_bytes) if pad_bytes else None
    content = ENCODER.content(source, Observation(asset_id, state, failure=failure, detail=OmnDetail("T", asset_id)))
    return Draft(
        key=AssetKey(source, asset_id),
        state=state,
        gone=gone,
        freshness=Freshness.FRESH,
        digest=hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(),
        found_at=at,
        traceparent="",
        seal=ENCODER.seal(content, observed_at=at, traceparent=""),
        content=content,
        sealed_at=at,
    )


class WatchService:
    """One run of the service. address: HOST:PORT."""

    def __init__(self, store: Store, names: Sequence[str], *, heartbeat_s: float, listen: str = "127.0.0.1:0") -> None:
        server = {"listen": listen, "heartbeat_s": heartbeat_s, "first_read_wait_s": 0, "drain_s": 5}
        self.app = App(Settings.model_validate({"server": server}), store)
        self.app.sources = Sources(self._silent(name) for name in names)
        self.address = ""
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once calls are taken."""
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._serving = asyncio.create_task(self.app.serve(ready.set_result))
        either: list[asyncio.Future[Any]] = [self._serving, ready]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self.address = ready.result()

    def stop(self) -> None:
        """Let it begin to drain."""
        self.app.stop()

    async def ended(self) -> None:
        """Return when it has ended; it closed its store. Raises: whatever it failed with."""
        if self._serving is not None:
            await self._serving

    def _silent(self, name: str) -> Scheduler:
        upstream = FakeUpstream()
        upstream.open.clear()
        app = self.app
        return Scheduler(
            name,
            SourceKind.OMN,
            upstream,
            SourceSettings.model_validate({"base_url": "http://fake.test", "timeout_s": 3600}),
            store=app.store,
            pipeline=Pipeline(app.store, app.hub, ENCODER),
            tell=app.hub.tell,
        )


@contextmanager
def impatient() -> Iterator[None]:
    """Shorten what no setting shortens."""
    with patch.object(watch, "BEHIND_WAIT_S", BEHIND_WAIT_S), patch.object(service, "LIST_WAIT_S", 0.0):
        yield
