"""A watch that survives breaks: stream after stream, each resumed where the last one ended.

Owns calls and pauses; what a message means is `view`'s, what an error means `actions`'.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2 import WatchStatusRequest
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatch_client.actions import Action, action_for, retry_delay_s
from assetwatch_client.servers import servers_of
from assetwatch_client.unexplained import Refusals
from assetwatch_client.view import View

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from assetwatch.v1.asset_status_pb2 import AssetStatus
    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse
    from assetwatch.v1.source_pb2 import SourceCondition

    from assetwatch_client.servers import Servers
    from assetwatch_client.view import Event, Key

DEAD_AFTER_HEARTBEATS = 3
"""A stream in sync that is silent for this many heartbeat intervals is dead, whatever the connection says."""
SYNC_SILENCE_S = 30.0
"""How long a stream may be silent before it is in sync: the server may be reading what it never read before."""


@dataclass(slots=True)
class Backoff:
    """Pauses between streams, seconds: doubling, with full jitter; short again after settled_s in sync."""

    first_s: float = 0.2
    max_s: float = 15.0
    settled_s: float = 60.0
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def pause_s(self, asked_s: float = 0.0, *, failed: bool = True) -> float:
        """Return the next pause: jitter on top of what the server asked for.

        An end that is no failure costs no pause, unless streams keep ending.
        """
        at_once = not failed and not self.failures
        ceiling_s = min(self.max_s, self.first_s * 2 ** min(self.failures, 32))
        self.failures += 1
        return 0.0 if at_once else asked_s + self.rng.uniform(0, ceiling_s)

    def held(self, for_s: float) -> None:
        """Note that a stream was in sync for so long, seconds: after settled_s pauses begin anew."""
        if for_s >= self.settled_s:
            self.failures = 0


class Watch:
    """One watch over any number of streams. Run one of `events` and `messages` at a time; the map is theirs to fill."""

    def __init__(
        self,
        channel: grpc.aio.Channel | Servers,
        *,
        assets: Iterable[tuple[str, str]] = (),
        sources: Iterable[str] = (),
        states: Iterable[int] = (),
        asset_id_prefix: str = "",
        view: int = 0,
        resume_token: str = "",
        patient: bool = True,
        backoff: Backoff | None = None,
        on_break: Callable[[grpc.aio.AioRpcError | TimeoutError | None], None] | None = None,
    ) -> None:
        """Say what to watch.

        Args:
            channel: best made by `connect`; where there are several servers over one store, by `connect_any`.
            assets: pairs of source and asset id.
            sources: whole sources.
            states: only these, as numbers of assetwatch.v1.AssetState.
            asset_id_prefix: of whole sources only the assets whose id begins with it.
            view: how much of each status is told, as a number of assetwatch.v1.AssetStatusView; 0 is all of it.
            resume_token: go on where an earlier watch of the same ended; the map then holds only what changed since.
                For whoever kept what that watch told: a process that did not must begin without.
            patient: wait for a server that cannot be reached or takes no streams. False: raise that, once it is so
                with each, until a first stream has begun; whatever comes after is waited for all the same.
            backoff: pauses between streams.
            on_break: is told once how each stream ended; None when it ended OK, as it does when it reaches its age;
                TimeoutError when it fell silent.
        """
        self._servers = servers_of(channel)
        self._request = WatchStatusRequest(
            assets=[AssetRef(source=source, asset_id=asset_id) for source, asset_id in assets],
            sources=sources,
            states=states,  # type: ignore[arg-type]  # the numbers of the enum
            asset_id_prefix=asset_id_prefix,
            view=view,  # type: ignore[arg-type]  # same
        )
        self._patient = patient
        self._view = View(token=resume_token)
        self._backoff = backoff or Backoff()
        self._refusals = Refusals()
        self._on_break = on_break or (lambda _: None)

    @property
    def statuses(self) -> Mapping[Key, AssetStatus]:
        """Return the latest status of each asset watched, the last to change last; updated while `events` runs."""
        return self._view.statuses

    @property
    def conditions(self) -> Mapping[str, SourceCondition]:
        """The condition of each source watched."""
        return self._view.conditions

    @property
    def incomplete(self) -> frozenset[str]:
        """The whole sources of which there may be more than the server knows: they cannot be read, or not yet were."""
        return self._view.incomplete

    @property
    def resume_token(self) -> str:
        """Return where another watch of the same can resume; it covers what came before the message at hand.

        Empty while a snapshot is under way: only this watch can tell what it leaves out. At Synced it is there.
        """
        return "" if self._view.replacing else self._view.token

    @property
    def head_revision(self) -> int:
        """The newest revision the server has told of: how far ahead of the statuses at hand it is."""
        return self._view.head

    @property
    def replica(self) -> str:
        """The replica of the server that serves the stream, or served the last one; empty before the first began."""
        return self._view.replica

    async def events(self) -> AsyncGenerator[Event]:
        """Yield every change, each (asset, revision) once and never an older one after a newer; for ever.

        A store that was lost counts its revisions anew: of what it tells, all that differs from the map is yielded.
        Each is in the map already. Ended early and called again, it goes on where it was. In contextlib.aclosing its
        stream ends with the block; without, as soon as nothing refers to the iterator, a traceback included.
        Raises: AioRpcError when the call is wrong in a way that does not pass, Unexplained, a kind of it, when it
        is refused again and again without a reason; what `patient` says.
        """
        async with aclosing(self._streams()) as messages:
            async for message in messages:
                for event in self._view.take(message):
                    yield event

    async def messages(self) -> AsyncGenerator[WatchStatusResponse]:
        """Yield every message of stream after stream, as it came, repetitions too; for ever.

        The map is still without it: it is taken in when the next is asked for. Raises: as events.
        """
        async with aclosing(self._streams()) as messages:
            async for message in messages:
                yield message
                for _ in self._view.take(message):
                    pass

    async def _streams(self) -> AsyncGenerator[WatchStatusResponse]:
        while True:
            try:
                async with aclosing(self._stream()) as messages:
                    async for message in messages:
                        yield message
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                pause_s = self._judge(error)
                self._on_break(error)
            else:
                pause_s = self._backoff.pause_s(failed=False)
                self._on_break(None)
            await asyncio.sleep(pause_s)
            if self._waits:
                await self._servers.ready()

    async def _stream(self) -> AsyncGenerator[WatchStatusResponse]:
        """Yield the messages of one stream; TimeoutError when it falls silent. The call never outlives this."""
        loop = asyncio.get_running_loop()
        request = WatchStatusRequest(resume_token=self._view.token)
        request.MergeFrom(self._request)
        call = AssetStatusServiceStub(self._servers.channel).WatchStatus(request)
        self._view.synced = False
        synced_at: float | None = None
        try:
            while (message := await self._read(call)) is not grpc.aio.EOF:
                self._refusals.began()
                yield message
                if self._view.synced and synced_at is None:
                    synced_at = loop.time()
        finally:
            # Also when the caller left its loop: an abandoned call would stay one of its address's watches.
            call.cancel()
            if synced_at is not None:
                self._backoff.held(loop.time() - synced_at)

    async def _read(self, call: grpc.aio.UnaryStreamCall[WatchStatusRequest, WatchStatusResponse]) -> Any:  # noqa: ANN401 - no type tells EOF from a message
        heartbeats_s = DEAD_AFTER_HEARTBEATS * self._view.heartbeat_s
        async with asyncio.timeout((self._view.synced and heartbeats_s) or SYNC_SILENCE_S):
            return await call.read()

    @property
    def _waits(self) -> bool:
        return self._patient or self._view.epoch != ""

    def _judge(self, error: grpc.aio.AioRpcError | TimeoutError) -> float:
        """Do what the table says about an error; return how long to pause, seconds."""
        if isinstance(error, grpc.aio.AioRpcError):
            self._refusals.add(error)
        action = Action.RESUME if isinstance(error, TimeoutError) else action_for(error)
        if action is Action.SNAPSHOT:
            self._view.forget_token()
            return self._backoff.pause_s(failed=False)
        if action is Action.FAIL or not (self._servers.leave() or self._waits):
            raise error
        return self._backoff.pause_s(0.0 if isinstance(error, TimeoutError) else retry_delay_s(error) or 0.0)
