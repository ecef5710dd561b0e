"""WatchStatus: one stream from request to last message. Signals of the hub become messages here, as bytes.

Owns the order in which a stream is counted, registered, made to wait for its place, and written to. What it is told and
when is the hub's; whether a token is one is `resume_token`'s, and whether it is too old the hub's.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetwatch.v1 import asset_status_service_pb2 as pb

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.signals import Batch, Bookmark
from assetwatchd.model.errors import ReplicaBehind, ResumeEpochChanged
from assetwatchd.rpc import convert
from assetwatchd.rpc.admission import caller
from assetwatchd.rpc.status import ErrorsAsStatus
from assetwatchd.rpc.stream_log import described, logged, only_source
from assetwatchd.rpc.write_deadline import WriteDeadline
from assetwatchd.runtime import failpoints, telemetry

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    import grpc

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.signals import Conditions, Started, Synced
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.changefeed.watcher import Watcher
    from assetwatchd.model.values import Entry
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
    """What every stream needs. replica: the name of this one."""

    store: Store
    hub: Hub
    sources: Sources
    admission: Admission
    settings: ServerSettings
    replica: str

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
        """Go through the three steps of a stream, see `Watcher`."""
        delivery, resumed = Delivery(), cursor is not None
        with await self.hub.join(what, cursor) as watcher:
            async with WriteDeadline(context, self.settings.slow_consumer_s) as client:
                await self._start(watcher, client, resumed=resumed)
                await self._wait(self._ready(what, admitted, resumed=resumed), client)
                await self._catch_up(watcher, client, delivery)
                admitted.end_catching_up()
                delivery.live()
                await self._follow(watcher, client, delivery)

    async def _start(self, watcher: Watcher, client: WriteDeadline, *, resumed: bool) -> None:
        started = watcher.start()
        await failpoints.hit("before_send")
        await client.write(self._started(started, resumed=resumed).SerializeToString())

    async def _catch_up(self, watcher: Watcher, client: WriteDeadline, delivery: Delivery) -> None:
        """Write the snapshot, or what was missed, and that it is all; what was written is let go of at the end."""
        for batch in await watcher.catch_up():
            await failpoints.hit("before_send")
            await client.write(batch.message)
            delivery.handed_over(batch.entries)
        await failpoints.hit("before_send")
        await client.write(self._synced(watcher.synced(), watcher.changes.filter).SerializeToString())

    async def _follow(self, watcher: Watcher, client: WriteDeadline, delivery: Delivery) -> None:
        """Write whatever comes, for as long as the stream lasts. Each message of each stream costs what stands here."""
        async for signal in watcher.live():
            if isinstance(signal, Batch):
                await failpoints.hit("before_send")
                await client.write(signal.message)
                delivery.handed_over(signal.entries)
            elif isinstance(signal, Bookmark):
                await failpoints.hit("before_bookmark")
                await client.write(self._bookmark(signal, watcher.changes.filter).SerializeToString())
            else:
                await failpoints.hit("before_send")
                await client.write(_conditions(signal).SerializeToString())

    async def _ready(self, what: Filter, admitted: Admitted, *, resumed: bool) -> None:
        """Let what was never read be read before a snapshot, and the hub know of it; then wait for a turn."""
        if not resumed:
            await self.sources.first_reads(what, timeout_s=self.settings.first_read_wait_s)
            await self.hub.reached(self.store.head)
        await admitted.begin_catching_up()

    async def _wait(self, ready: Coroutine[object, object, None], client: WriteDeadline) -> None:
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
            await caught_up(self.store)  # what it saw last, perhaps elsewhere, is not newer than what it is sent
            return None
        try:
            revision = resume_token.check(token, digest=what.digest, store=self.store)
        except ResumeEpochChanged:  # it may be one that began just now, at another replica
            await caught_up(self.store)
            revision = resume_token.check(token, digest=what.digest, store=self.store)
        await reach(self.hub, revision)
        return revision

    def _started(self, started: Started, *, resumed: bool) -> pb.WatchStatusResponse:
        return pb.WatchStatusResponse(
            started=pb.WatchStarted(
                mode=pb.WatchStarted.MODE_RESUMED if resumed else pb.WatchStarted.MODE_SNAPSHOT,
                epoch=self.store.epoch,
                heartbeat_interval=convert.duration(self.settings.heartbeat_s),
                incomplete=started.incomplete,
                replica=self.replica,
            ),
            source_conditions=convert.condition_changes(started.conditions),
            head_revision=self.store.head,
        )

    def _synced(self, synced: Synced, what: Filter) -> pb.WatchStatusResponse:
        telemetry.event(telemetry.EVENT_SYNCED)
        return self._at(synced.revision, what, synced=pb.WatchSynced(incomplete=synced.incomplete))

    def _bookmark(self, mark: Bookmark, what: Filter) -> pb.WatchStatusResponse:
        return self._at(mark.revision, what, bookmark=pb.WatchBookmark(incomplete=mark.incomplete))

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


def _conditions(news: Conditions) -> pb.WatchStatusResponse:
    changes = convert.condition_changes(news.by_source)
    return pb.WatchStatusResponse(source_conditions=changes, head_revision=news.revision)


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
            telemetry.record_lag(now - entries[0].committed_at)


async def caught_up(store: Store) -> None:
    """Return once all is known here that was kept before. Raises: ReplicaBehind after BEHIND_WAIT_S."""
    try:
        async with asyncio.timeout(BEHIND_WAIT_S):
            await store.caught_up()
    except TimeoutError:
        text = "this replica cannot tell whether it knows all that the others have kept; another one can"
        raise ReplicaBehind(text) from None


async def reach(hub: Hub, revision: int) -> None:
    """Return once a revision is known here. Raises: ReplicaBehind after BEHIND_WAIT_S."""
    if revision <= hub.head:
        return
    try:
        async with asyncio.timeout(BEHIND_WAIT_S):
            await hub.reached(revision)
    except TimeoutError:
        text = f"this server does not know revision {revision} yet, its newest is {hub.head}; try again in a moment"
        raise ReplicaBehind(text, revision=str(revision), current=str(hub.head)) from None
