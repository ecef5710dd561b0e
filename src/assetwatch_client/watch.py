"""A watch that goes on: stream after stream, resumed where the last one ended."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2 import WatchStatusRequest
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatch_client.actions import Action, action_for, retry_delay_s
from assetwatch_client.view import Synced, View

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping

    from assetwatch.v1.asset_status_pb2 import AssetStatus
    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse
    from assetwatch.v1.source_pb2 import SourceCondition

    from assetwatch_client.view import Event, Key

DEAD_AFTER_HEARTBEATS = 3
"""A stream that is silent for this many heartbeat intervals is dead, whatever the connection says."""
FIRST_MESSAGE_S = 30.0
"""How long the first message may take, before the heartbeat interval is known."""


@dataclass(slots=True)
class Backoff:
    """Pauses between streams, seconds: doubling, with full jitter; short again once a stream has held for settled_s."""

    first_s: float = 0.2
    max_s: float = 15.0
    settled_s: float = 60.0
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def pause_s(self, asked_s: float | None) -> float:
        """Return the next pause; what the server asked for wins."""
        ceiling = min(self.max_s, self.first_s * 2 ** min(self.failures, 32))
        self.failures += 1
        return self.rng.uniform(0, ceiling) if asked_s is None else asked_s

    def held(self, for_s: float) -> None:
        """A stream was in sync for that long."""
        if for_s >= self.settled_s:
            self.failures = 0


class Watch:
    """One watch over any number of streams. Its map is read through `statuses` and `conditions` while `events` runs."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        assets: Iterable[tuple[str, str]] = (),
        sources: Iterable[str] = (),
        states: Iterable[int] = (),
        resume_token: str = "",
        patient: bool = True,
        backoff: Backoff | None = None,
        on_break: Callable[[grpc.aio.AioRpcError | TimeoutError | None], None] | None = None,
    ) -> None:
        """Say what to watch.

        Args:
            channel: best made by `connect`.
            assets: pairs of source and asset id.
            sources: whole sources.
            states: only these, as numbers of assetwatch.v1.State.
            resume_token: go on where an earlier watch of the same ended; the map then holds only what changed since.
            patient: wait for a server that is not there (yet).
            backoff: pauses between streams.
            on_break: is told how each stream ended; None when it ended OK, as it does when it reaches its age.
        """
        self._stub = AssetStatusServiceStub(channel)
        self._request = WatchStatusRequest(
            assets=[AssetRef(source=source, asset_id=asset_id) for source, asset_id in assets],
            sources=sources,
            states=states,  # type: ignore[arg-type]  # the numbers of the enum
        )
        self._patient = patient
        self._view = View(token=resume_token)
        self._backoff = backoff or Backoff()
        self._on_break = on_break or (lambda _: None)

    @property
    def statuses(self) -> Mapping[Key, AssetStatus]:
        """The latest status of each asset watched."""
        return self._view.statuses

    @property
    def conditions(self) -> Mapping[str, SourceCondition]:
        """The condition of each source watched."""
        return self._view.conditions

    @property
    def resume_token(self) -> str:
        """Where another watch of the same can go on."""
        return self._view.token

    async def events(self) -> AsyncGenerator[Event]:
        """Yield every change, each (asset, revision) once, in the order of revisions; for ever.

        Raises: AioRpcError when the call is wrong in a way that does not pass.
        """
        while True:
            pause_s = 0.0
            try:
                async with aclosing(self._stream()) as events:
                    async for event in events:
                        yield event
                self._on_break(None)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                pause_s = self._backoff.pause_s(self._judge(error))
                self._on_break(error)
            await asyncio.sleep(pause_s)

    async def _stream(self) -> AsyncGenerator[Event]:
        loop = asyncio.get_running_loop()
        synced_at: float | None = None
        try:
            async with aclosing(self._messages()) as messages:
                async for message in messages:
                    for event in self._view.take(message):
                        synced_at = loop.time() if isinstance(event, Synced) else synced_at
                        yield event
        finally:
            if synced_at is not None:
                self._backoff.held(loop.time() - synced_at)

    async def _messages(self) -> AsyncGenerator[WatchStatusResponse]:
        """Yield the messages of one stream; TimeoutError when it falls silent. The call never outlives this."""
        request = WatchStatusRequest()
        request.CopyFrom(self._request)
        request.resume_token = self._view.token
        call = self._stub.WatchStatus(request, wait_for_ready=self._patient)
        try:
            messages: AsyncIterator[WatchStatusResponse] = call.__aiter__()
            silence_s = FIRST_MESSAGE_S
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        message = await anext(messages)
                except StopAsyncIteration:
                    return
                yield message
                silence_s = DEAD_AFTER_HEARTBEATS * self._view.heartbeat_s or FIRST_MESSAGE_S
        finally:
            call.cancel()

    def _judge(self, error: grpc.aio.AioRpcError | TimeoutError) -> float | None:
        """Do what the table says about an error; return the pause the server asked for."""
        if isinstance(error, TimeoutError):
            return None
        action = action_for(error)
        if action is Action.FAIL:
            raise error
        if action is Action.SNAPSHOT:
            self._view.forget_token()
            return 0.0
        return retry_delay_s(error)
