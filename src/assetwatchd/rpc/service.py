"""The servicers: each RPC as calls of the core (`Sources`, `Hub`, `Store`), its answers as messages.

Limits, requests and errors are handled around it: here only the meaning of a call is.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import asset_status_service_pb2_grpc as grpc_pb
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1 import source_service_pb2_grpc as source_grpc_pb

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.encoding import FORMED_BYTES_TOGETHER, weight, weight_to_form
from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.signals import Started
from assetwatchd.model.errors import VIOLATIONS_MAX, BatchTooLarge, CallError, InvalidRequest, SourceUnreachable
from assetwatchd.model.values import SETTLED, AssetKey, Freshness, State, View
from assetwatchd.rpc import convert
from assetwatchd.rpc.admission import caller
from assetwatchd.rpc.status import ErrorsAsStatus
from assetwatchd.rpc.watch import caught_up, reach
from assetwatchd.runtime.slices import parts_within

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, MutableSequence, Sequence

    from assetwatch.v1 import asset_status_pb2 as status_pb
    from assetwatch.v1 import source_pb2
    from google.protobuf.duration_pb2 import Duration

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry
    from assetwatchd.polling.sources import Sources
    from assetwatchd.rpc.signatures import Context
    from assetwatchd.rpc.watch import Watching
    from assetwatchd.runtime.fairness import Caller

T = TypeVar("T")

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
GET_BYTES_MAX = 4 * 1024 * 1024
"""A batch beyond it is refused: clients take no larger message unless told otherwise, and say so less clearly."""
FIELD_BYTES_MAX = 6
"""What one status takes beside itself: its tag, and how long it is."""
PAGE_BYTES_MAX = 2 * 1024 * 1024
"""A page ends before it: clients take messages of 4 MiB unless told otherwise."""
CHECKED_TOGETHER = 500
"""So many ids are held against the rules of their sources at a time: about a millisecond."""
VIEWED_TOGETHER = 100
"""So many statuses are put into an answer at a time, or fewer that are large: a millisecond or two."""
WAIT_TIMEOUT_S = 60.0
WAIT_AGAIN_S = 5.0
"""Who waits for an asset asks for it again after this, however long its source is left alone: it may be mended before,
by hand or by another credential, and asking costs no call upstream until then."""
LIST_WAIT_S = 5.0
"""The first page of a list waits this long for sources that were never listed."""


class AssetStatusService(grpc_pb.AssetStatusServiceServicer):
    """Reads, waits and watches. What is not said here is said in the schema."""

    def __init__(self, store: Store, hub: Hub, sources: Sources, watching: Watching) -> None:
        self._store = store
        self._hub = hub
        self._sources = sources
        self._watching = watching

    async def GetAssetStatus(self, request: pb.GetAssetStatusRequest, context: Context) -> pb.GetAssetStatusResponse:
        """Answer with one asset, as known or as read now."""
        async with ErrorsAsStatus(context):
            key = _key(request.asset)
            self._sources.check("asset", key)
            await reach(self._hub, request.min_revision)
            max_age_s = _seconds(request.max_age) if request.HasField("max_age") else None
            await self._sources.read([key], max_age_s=max_age_s, caller=caller(context.peer()))
            return pb.GetAssetStatusResponse(status=self._told(key, _view(request.view)))

    async def BatchGetAssetStatuses(
        self, request: pb.BatchGetAssetStatusesRequest, context: Context
    ) -> pb.BatchGetAssetStatusesResponse:
        """Answer with several assets, in the order of the request."""
        async with ErrorsAsStatus(context):
            keys = await self._checked(request.assets)
            max_age_s = _seconds(request.max_age) if request.HasField("max_age") else None
            await self._sources.read(keys, max_age_s=max_age_s, caller=caller(context.peer()))
            response = pb.BatchGetAssetStatusesResponse()
            await _fill(response.statuses, keys, partial(self._told, view=_view(request.view)), self._weight)
            _check_size(response.statuses)
            return response

    async def ListAssetStatuses(
        self, request: pb.ListAssetStatusesRequest, context: Context
    ) -> pb.ListAssetStatusesResponse:
        """Answer with a page, by a cursor over the store: the token holds the revision to go on after."""
        async with ErrorsAsStatus(context):
            names = sorted(request.sources) or self._sources.names()
            view = _view(request.view)
            what = Filter(frozenset(), frozenset(names), _states(request.states), request.asset_id_prefix, view)
            sources = [self._sources.get(name) for name in names]
            if request.page_token:
                await caught_up(self._store)  # the page before may be of another replica, and say what is not here yet
            cursor = self._page_cursor(request.page_token, what)
            if not cursor:
                await asyncio.gather(*[source.listed(LIST_WAIT_S) for source in sources])
            size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
            incomplete = self._sources.incomplete(names)  # before the page: what comes to be known later may be on none
            entries, more = await self._page(what, cursor, size)
            response = pb.ListAssetStatusesResponse(
                next_page_token=self._page_token(entries[-1], what) if more else "",
                incomplete=incomplete,
            )
            await _fill(response.statuses, entries, partial(self._entry_told, view=view), weight)
            return response

    async def WaitAssetStatus(self, request: pb.WaitAssetStatusRequest, context: Context) -> pb.WaitAssetStatusResponse:
        """Watch one asset until it is as wanted, or the time is over."""
        async with ErrorsAsStatus(context):
            key = _key(request.asset)
            self._sources.check("asset", key)
            wanted = _states(request.states) or SETTLED
            ending = wanted | SETTLED if request.stop_when_settled else wanted
            timeout_s = _seconds(request.timeout) if request.HasField("timeout") else WAIT_TIMEOUT_S
            status, view = None, _view(request.view)
            with contextlib.suppress(TimeoutError), self._watching.admission.stream(context.peer()):
                await context.send_initial_metadata(())  # a proxy's time for a silent answer begins here, not before
                async with asyncio.timeout(timeout_s):
                    status = await self._hub.before_end(self._until(key, ending, caller(context.peer()), view))
            status = self._known(key, view) if status is None else status
            met = _is_in(status, wanted)
            return pb.WaitAssetStatusResponse(
                status=status,
                condition_met=met,
                settled_otherwise=_is_in(status, ending - wanted),
                reason="" if met else self._in_the_way(key, status),
            )

    async def WatchStatus(self, request: pb.WatchStatusRequest, context: Context) -> None:  # type: ignore[override]  # typed to yield
        """Stream: writes encoded messages itself (the method is registered without a serializer, see handlers.py)."""
        async with ErrorsAsStatus(context):
            keys = await self._checked(request.assets)
            for name in request.sources:
                self._sources.get(name)
            states, prefix, view = _states(request.states), request.asset_id_prefix, _view(request.view)
            what = await Filter.of(keys, request.sources, states, prefix, view)
            token = request.resume_token
            del request, keys  # 10,000 names once more, for as long as the stream goes on
            await self._watching.stream(what, token, context)

    async def _until(
        self, key: AssetKey, ending: Collection[State], caller: Caller, view: View
    ) -> status_pb.AssetStatus:
        """Return the status that ends a wait, once there is one: what it is a moment later is not what ended it."""
        await self._read_at_last(key, caller)
        if _is_in(status := self._known(key, view), ending):
            return status
        what = Filter(frozenset([key]), frozenset(), frozenset())
        # Interest before the watch: it keeps the asset polled, and a change between the two is in the watch's snapshot.
        async with self._sources.interest(what, caller):
            while True:  # a wait may outlive a stream's age
                async with aclosing(self._hub.watch(what)) as signals:
                    async for signal in signals:
                        if not isinstance(signal, Started) and _is_in(status := self._known(key, view), ending):
                            return status

    async def _read_at_last(self, key: AssetKey, caller: Caller) -> None:
        """Have the asset read, trying again for as long as its source cannot be; the caller sets the time limit."""
        source = self._sources.get(key.source)
        while True:
            try:
                max_age_s = source.settings.busy_interval_s
                return await source.read([key.asset_id], max_age_s=max_age_s, caller=caller)
            except SourceUnreachable as error:
                await asyncio.sleep(min(error.retry_after_s, WAIT_AGAIN_S))

    def _in_the_way(self, key: AssetKey, status: status_pb.AssetStatus | None) -> str:
        """Return what keeps us from knowing how the asset is now; empty when nothing does."""
        if status is not None:
            return status.freshness_reason
        return self._sources.get(key.source).trouble(key.asset_id)

    async def _checked(self, refs: Sequence[status_pb.AssetRef]) -> list[AssetKey]:
        """Check names in slices, the event loop serving others between; stop once VIOLATIONS_MAX are wrong.

        Raises: InvalidRequest.
        """
        keys: list[AssetKey] = []
        wrong: list[tuple[str, str]] = []
        while len(keys) < len(refs) and len(wrong) <= VIOLATIONS_MAX:
            begin = len(keys)
            keys += [_key(ref) for ref in refs[begin : begin + CHECKED_TOGETHER]]
            wrong += self._sources.wrong((f"assets[{index}]", keys[index]) for index in range(begin, len(keys)))
            if len(keys) < len(refs):
                await asyncio.sleep(0)
        if wrong:
            raise InvalidRequest(*wrong, complete=len(keys) == len(refs))
        return keys

    def _told(self, key: AssetKey, view: View) -> status_pb.AssetStatus:
        if (status := self._known(key, view)) is None:  # it was forgotten while this call ran
            raise SourceUnreachable(key.source, "the asset was not read in time", retry_after_s=1.0)
        return status

    def _known(self, key: AssetKey, view: View) -> status_pb.AssetStatus | None:
        """Return what is known of an asset: from the store, or that it was read and never was there."""
        source = self._sources.get(key.source)
        if (entry := self._store.get(key)) is not None:
            return convert.status_view(entry, source, view)
        unseen = source.unseen(key.asset_id)
        return None if unseen is None else convert.unseen_view(unseen, source, view)

    def _weight(self, key: AssetKey) -> int:
        return 0 if (entry := self._store.get(key)) is None else weight(entry)

    def _entry_told(self, entry: Entry, view: View) -> status_pb.AssetStatus:
        return convert.status_view(entry, self._sources.get(entry.key.source), view)

    async def _page(self, what: Filter, cursor: int, size: int) -> tuple[list[Entry], bool]:
        """Return the next entries held, and whether there are more; reads the store in parts.

        Others are served between two parts. What changes meanwhile has moved to the end, and is met there once more: it
        is on the page once, as it is by then.
        """
        page: dict[AssetKey, Entry] = {}
        room, form, weigh = PAGE_BYTES_MAX, convert.FORMS[what.view], weight_to_form(what.view)
        while window := self._store.after(cursor, self._store.head, PAGE_SIZE_MAX):
            for part in parts_within(window, PAGE_SIZE_MAX, weigh, FORMED_BYTES_TOGETHER):
                for entry in part:
                    page.pop(entry.key, None)
                    if not (what.concerns(entry.key) and what.holds(entry)):
                        continue
                    room -= len(form(entry))
                    if page and (len(page) == size or room < 0):
                        return list(page.values()), True
                    page[entry.key] = entry
                await asyncio.sleep(0)
            cursor = window[-1].revision
        return list(page.values()), False

    def _page_token(self, last: Entry, what: Filter) -> str:
        return resume_token.encode(epoch=self._store.epoch, revision=last.revision, digest=_page_digest(what))

    def _page_cursor(self, token: str, what: Filter) -> int:
        if not token:
            return 0
        try:
            return resume_token.check(token, digest=_page_digest(what), store=self._store)
        except CallError as error:
            text = "not a page token of a list with these sources, states, prefix and view; begin again without one"
            raise InvalidRequest(("page_token", text)) from error


class SourceService(source_grpc_pb.SourceServiceServicer):
    """Tells about the sources; asks no upstream, but when a person wants one tried."""

    def __init__(self, store: Store, hub: Hub, sources: Sources, replica: str) -> None:
        """replica: the name of this one, which asks every source."""
        self._store = store
        self._hub = hub
        self._sources = sources
        self._replica = replica

    async def ListSources(
        self, request: source_pb.ListSourcesRequest, context: Context
    ) -> source_pb.ListSourcesResponse:
        """Answer with all sources, by name."""
        async with ErrorsAsStatus(context):
            views = [await self._view(name) for name in self._sources.names()]
            return source_pb.ListSourcesResponse(sources=views)

    async def GetSource(self, request: source_pb.GetSourceRequest, context: Context) -> source_pb.GetSourceResponse:
        """Answer with one source."""
        async with ErrorsAsStatus(context):
            return source_pb.GetSourceResponse(source=await self._view(request.source))

    async def RetrySource(
        self, request: source_pb.RetrySourceRequest, context: Context
    ) -> source_pb.RetrySourceResponse:
        """Have a source tried at once, and answer with it as it is after that."""
        async with ErrorsAsStatus(context):
            await self._sources.get(request.source).retry()
            return source_pb.RetrySourceResponse(source=await self._view(request.source))

    async def _view(self, name: str) -> source_pb2.Source:
        source = self._sources.get(name)
        polled, watchers = await source.polled_assets(), self._hub.watcher_count(name) + source.watchers_elsewhere
        return convert.source(source, self._store, watchers=watchers, polled=polled, replica=self._replica)


async def _fill(
    statuses: MutableSequence[status_pb.AssetStatus],
    items: Sequence[T],
    view: Callable[[T], status_pb.AssetStatus],
    weigh: Callable[[T], int],
) -> None:
    """Put the view of each item into a response, in slices, the event loop serving others between."""
    for part in parts_within(items, VIEWED_TOGETHER, weigh, FORMED_BYTES_TOGETHER):
        statuses.extend(map(view, part))
        await asyncio.sleep(0)


def _check_size(statuses: Sequence[status_pb.AssetStatus]) -> None:
    """Raise BatchTooLarge for statuses that are more than one message should be; one alone always may."""
    ends = list(itertools.accumulate(status.ByteSize() + FIELD_BYTES_MAX for status in statuses))
    if len(ends) > 1 and ends[-1] > GET_BYTES_MAX:
        raise BatchTooLarge(limit=GET_BYTES_MAX, fit=max(1, bisect.bisect_right(ends, GET_BYTES_MAX)))


def _page_digest(what: Filter) -> bytes:
    """Return another digest than a watch's: a page token is written like a resume token, and must not pass for one."""
    return what.digest[::-1]


def _key(ref: status_pb.AssetRef) -> AssetKey:
    return AssetKey(ref.source, ref.asset_id)


def _is_in(status: status_pb.AssetStatus | None, states: Collection[State]) -> TypeGuard[status_pb.AssetStatus]:
    """Return whether an asset is in one of the states now; a status that is not fresh does not count."""
    if status is None or State(status.state) not in states:
        return False
    return Freshness(status.freshness) is Freshness.FRESH


def _view(number: int) -> View:
    return View(number or View.FULL)


def _states(numbers: Sequence[int]) -> frozenset[State]:
    return frozenset(State(number) for number in numbers)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
