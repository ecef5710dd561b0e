"""WatchStatus: one stream from request to last message. Signals of the hub become messages here, as bytes."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetwatch.v1 import asset_status_service_pb2 as pb

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.hub import Batch, Bookmark, Conditions, Started, Synced
from assetwatchd.model.errors import ReplicaBehind
from assetwatchd.rpc import convert
from assetwatchd.rpc.admission import caller
from assetwatchd.rpc.patience import Patience
from assetwatchd.rpc.status import ErrorsAsStatus
from assetwatchd.rpc.stream_log import described, logged, only_source
from assetwatchd.runtime import failpoints, telemetry

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    import grpc

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Condition, Entry
    from assetwatchd.polling.sources import Sources
    from assetwatchd.rpc.admission import Admission, Admitted
    from assetwatchd.settings.schema import ServerSettings

    Context = grpc.aio.ServicerContext[pb.WatchStatusRequest, bytes]

BEHIND_WAIT_S = 3.0
"""A revision that is not known here yet may take this long to come."""
LAG_EVERY_S = 1.0
"""A stream measures how late its changes are no oftener than this: a measurement costs a third of a message."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What every stream needs."""

    store: Store
    hub: Hub
    sources: Sources
    admission: Admission
    settings: ServerSettings

    async def stream(self, what: Filter, token: str, context: Context) -> None:
        """Serve one stream until it ends, its status included. Raises: TooManyStreams, TooManyNames."""
        peer = context.peer()
        with self.admission.stream(peer, what) as admitted, logged(described(what), peer, only_source(what)):
            telemetry.record_watchers(1)
            try:
                async with ErrorsAsStatus(context):  # it counts until its last word was taken, or its peer is gone
                    cursor = await self._cursor(token, what)
                    async with self.sources.interest(what, caller(peer)):
                        await self._stream(what, cursor, context, admitted)
            finally:
                telemetry.record_watchers(-1)

    async def _stream(self, what: Filter, cursor: int | None, context: Context, admitted: Admitted) -> None:
        delivery = Delivery()
        async with (
            aclosing(self.hub.watch(what, cursor)) as signals,
            Patience(context, self.settings.slow_consumer_s) as client,
        ):
            async for signal in signals:
                if isinstance(signal, Batch):
                    await failpoints.hit("before_send")
                    await client.write(signal.message)
                    delivery.handed_over(signal.entries)
                    continue
                await failpoints.hit("before_bookmark" if isinstance(signal, Bookmark) else "before_send")
                await client.write(self._message(signal, what, resumed=cursor is not None))
                if isinstance(signal, Started):
                    await self._wait(self._ready(what, admitted, resumed=cursor is not None), client)
                elif isinstance(signal, Synced):
                    admitted.end_catch_up()
                    delivery.live()

    async def _ready(self, what: Filter, admitted: Admitted, *, resumed: bool) -> None:
        """Let what was never read be read before a snapshot, and the hub know of it; then wait for a turn."""
        if not resumed:
            await self.sources.first_reads(what, timeout_s=self.settings.first_read_wait_s)
            await self.hub.reached(self.store.head)
        await admitted.begin_catch_up()

    async def _wait(self, ready: Coroutine[object, object, None], client: Patience) -> None:
        """Wait; for longer than a heartbeat, show meanwhile that the stream lives. A token there is none yet."""
        waiting = asyncio.create_task(ready)
        try:
            while not (await asyncio.wait([waiting], timeout=self.settings.heartbeat_s))[0]:
                await client.write(pb.WatchStatusResponse(head_revision=self.store.head).SerializeToString())
            waiting.result()
        finally:
            waiting.cancel()

    async def _cursor(self, token: str, what: Filter) -> int | None:
        if not token:
            return None
        revision = resume_token.check(token, digest=what.digest, store=self.store)
        await reach(self.hub, revision)
        return revision

    def _message(self, signal: Started | Synced | Bookmark | Conditions, what: Filter, *, resumed: bool) -> bytes:
        match signal:
            case Started(conditions, incomplete):
                return self._started(conditions, incomplete, resumed=resumed).SerializeToString()
            case Synced(revision, incomplete):
                telemetry.event(telemetry.EVENT_SYNCED)
                return self._at(revision, what, synced=pb.WatchSynced(incomplete=incomplete)).SerializeToString()
            case Bookmark(revision, incomplete):
                return self._at(revision, what, bookmark=pb.WatchBookmark(incomplete=incomplete)).SerializeToString()
            case Conditions(by_source, revision):
                changes = convert.condition_changes(by_source)
                return pb.WatchStatusResponse(source_conditions=changes, head_revision=revision).SerializeToString()

    def _started(
        self, conditions: Mapping[str, Condition], incomplete: Sequence[str], *, resumed: bool
    ) -> pb.WatchStatusResponse:
        return pb.WatchStatusResponse(
            started=pb.WatchStarted(
                mode=pb.WatchStarted.MODE_RESUMED if resumed else pb.WatchStarted.MODE_SNAPSHOT,
                epoch=self.store.epoch,
                heartbeat_interval=convert.duration(self.settings.heartbeat_s),
                incomplete=incomplete,
            ),
            source_conditions=convert.condition_changes(conditions),
            head_revision=self.store.head,
        )

    def _at(
        self,
        revision: int,
        what: Filter,
        *,
        synced: pb.WatchSynced | None = None,
        bookmark: pb.WatchBookmark | None = None,
    ) -> pb.WatchStatusResponse:
        token = resume_token.encode(epoch=self.store.epoch, revision=revision, digest=what.digest)
        return pb.WatchStatusResponse(resume_token=token, head_revision=revision, synced=synced, bookmark=bookmark)


class Delivery:
    """Tells telemetry of the changes one stream hands over: links of its span, and now and then the lag."""

    __slots__ = ("_lag_due", "_linking")

    def __init__(self) -> None:
        self._linking = telemetry.recording()
        self._lag_due = math.inf

    def live(self) -> None:
        """Measure the lag from here on: what came before was older than the stream."""
        self._lag_due = 0.0

    def handed_over(self, entries: Sequence[Entry]) -> None:
        """One batch was written."""
        if self._linking:
            telemetry.link_delivery(entry.traceparent for entry in entries)
        now = time.time()
        if now >= self._lag_due:
            self._lag_due = now + LAG_EVERY_S
            telemetry.record_lag(now - entries[0].found_at)


async def reach(hub: Hub, revision: int) -> None:
    """Return once a revision is known here. Raises: ReplicaBehind after BEHIND_WAIT_S."""
    if revision <= hub.head:
        return
    try:
        async with asyncio.timeout(BEHIND_WAIT_S):
            await hub.reached(revision)
    except TimeoutError:
        text = f"revision {revision} is not known here yet, {hub.head} is the newest"
        raise ReplicaBehind(text, revision=str(revision), current=str(hub.head)) from None
