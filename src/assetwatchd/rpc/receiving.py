"""Receives the request of a call before anything is done for it; limits its metadata, its time, and their number.

gRPC itself waits for a request for ever. It also allocates room for the whole of it as soon as it is waited for, so the
number of unfinished requests bounds their memory. Knows no method and no message: requests are bytes here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import grpc

from assetwatchd.model.errors import InvalidRequest, MetadataTooLarge, RequestTooSlow
from assetwatchd.rpc.peers import host_of
from assetwatchd.rpc.status import ErrorsAsStatus, reason_of
from assetwatchd.rpc.telemetry import as_coroutine, kind_of
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.fairness import FairQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from assetwatchd.model.errors import CallError
    from assetwatchd.rpc.signatures import Behaviour, Context, Handler, Trailers

METADATA_BYTES_MAX = 16 * 1024
"""Of a call: its method, and each name and value with 32 bytes for itself, as HTTP/2 counts. A token is 1 or 2 KiB."""
ENTRY_BYTES = 32
UNFINISHED_MAX = 32
"""Requests on their way in at the same time. That of a well-behaved client is there when its call begins, so this many
are seen in bursts alone; each as large as a request may be, they hold 128 MiB."""
GRACE_S = 1.0
"""A request may take so long to come, however many others are on their way: longer than it takes to read one that is
there, whatever else there is to do."""


class Receiving(grpc.aio.ServerInterceptor):
    """Lets a method be served once its request is there; the first interceptor of the server.

    To gRPC each method takes a stream of requests, which are read here: else it would be gRPC that waits for them.
    """

    def __init__(self, request_s: float, trailers: Trailers = ()) -> None:
        """trailers: metadata that each call ends with, one that is refused too."""
        self._request_s = request_s
        self._trailers = trailers
        self._unfinished = Unfinished(UNFINISHED_MAX)
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap what serves the call; refuse a call with too much metadata, whatever its method."""
        if (size := metadata_bytes(handler_call_details)) > METADATA_BYTES_MAX:
            return grpc.stream_stream_rpc_method_handler(
                self._refusing(MetadataTooLarge(size, limit=METADATA_BYTES_MAX))
            )
        method = handler_call_details.method
        if method not in self._wrapped:  # made once for all calls of a method, of which there are as many as are served
            if (handler := await continuation(handler_call_details)) is None:
                return None
            self._wrapped[method] = self._received(handler)
        return self._wrapped[method]

    def _received(self, handler: Handler) -> Handler:
        run = as_coroutine(getattr(handler, kind_of(handler)))
        if run is None:
            raise TypeError("a handler that is not asynchronous would have gRPC wait for its request")
        received = self._of_requests(run) if handler.request_streaming else self._of_one(run)
        kind = "stream_stream" if handler.response_streaming else "stream_unary"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(received, handler.request_deserializer, handler.response_serializer)
        return wrapped

    def _of_one(self, run: Behaviour) -> Behaviour:
        async def received(_requests: object, context: Context) -> object:
            context.set_trailing_metadata(self._trailers)
            try:
                request = await self._request(context)
                served = run(request, context)
                del request  # a stream goes on for long
                return await served
            except grpc.aio.AbortError as abort:
                # gRPC keeps the error with the call, and the error its frames, which have the call: 2.7 KB in a cycle
                # for each call that failed. So its traceback goes, and this frame lets go of the call.
                _strip(abort)
                del _requests, context
                raise

        return received

    def _of_requests(self, run: Behaviour) -> Behaviour:
        async def received(_requests: object, context: Context) -> object:
            context.set_trailing_metadata(self._trailers)
            try:
                return await run(self._requests(context), context)
            except grpc.aio.AbortError as abort:
                _strip(abort)
                del _requests, context
                raise

        return received

    def _refusing(self, error: MetadataTooLarge) -> Behaviour:
        async def refused(_requests: object, context: Context) -> None:
            context.set_trailing_metadata(self._trailers)
            try:
                async with ErrorsAsStatus(context):
                    raise _counted(error)
            except grpc.aio.AbortError as abort:
                _strip(abort)
                del _requests, context
                raise

        return refused

    async def _request(self, context: Context) -> object:
        """Wait for the one request of a call, or end the call."""
        async with ErrorsAsStatus(context):
            try:
                request = await self._next(context)
            except TimeoutError:
                raise _counted(RequestTooSlow(self._request_s)) from None
            if request is grpc.aio.EOF:
                raise InvalidRequest(("", "the call ended before its request; send one"))
            return request

    async def _requests(self, context: Context) -> AsyncIterator[object]:
        """Yield requests until there are no more, or none comes for too long."""
        with suppress(TimeoutError):
            while (request := await self._next(context)) is not grpc.aio.EOF:
                yield request

    async def _next(self, context: Context) -> object:
        """Wait for a request, or EOF. Raises: TimeoutError."""
        async with asyncio.timeout(self._request_s) as limit:
            async with self._unfinished.one_of(host_of(context.peer()), limit):
                return await context.read()


class Unfinished:
    """The calls whose requests are on their way in, by the address of their clients, each with its time limit.

    When there are too many, those that come wait, and addresses are served round-robin. Time is up for the oldest one
    of the address that has most of them, once it has had GRACE_S: what is on its way comes before what waits for
    something, one that only was not read yet loses nothing, and one client cannot keep out the others.
    """

    def __init__(self, calls_max: int) -> None:
        self._calls_max = calls_max
        self._by_host: defaultdict[str, dict[asyncio.Timeout, float]] = defaultdict(dict)
        self._count = 0
        self._line: FairQueue[Coming] = FairQueue(_waits)
        self._look: asyncio.TimerHandle | None = None

    def one_of(self, host: str, limit: asyncio.Timeout) -> Room:
        """Count one more for one `async with`, once there is room for it."""
        return Room(self, host, limit)

    async def come(self, host: str, limit: asyncio.Timeout) -> None:
        """Count one more, once there is room for it."""
        if self._count < self._calls_max and self._line.first() is None:
            self._count_in(host, limit)
            return
        coming = Coming(host, limit, asyncio.get_running_loop().create_future())
        self._line.put((host,), coming)
        self._end_overdue()
        try:
            await coming.room
        except asyncio.CancelledError:
            self.forget(host, limit)  # room may have been given in the same moment: it must not be lost
            raise

    def _count_in(self, host: str, limit: asyncio.Timeout) -> None:
        self._count += 1
        self._by_host[host][limit] = asyncio.get_running_loop().time()

    def forget(self, host: str, limit: asyncio.Timeout) -> None:
        """Count one less, if it was counted; who is next in line has its room."""
        if self._by_host[host].pop(limit, None) is not None:
            self._count -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        if self._count < self._calls_max and (coming := self._line.first()) is not None:
            self._line.take()
            self._count_in(coming.host, coming.limit)
            coming.room.set_result(None)

    def _end_overdue(self) -> None:
        """While others wait for room, end the oldest of those that have most; or later, once it is time."""
        loop = asyncio.get_running_loop()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        while self._line.first() is not None:
            host = max(self._by_host, key=lambda name: len(self._by_host[name]))
            oldest, since = next(iter(self._by_host[host].items()))
            if loop.time() < since + GRACE_S:
                self._look = loop.call_at(since + GRACE_S, self._end_overdue)
                return
            self.forget(host, oldest)
            if not oldest.expired():  # its time may be up already, and it not told yet
                oldest.reschedule(loop.time())


class Room:
    """One `async with`. It is entered at each call, and one made of a generator would cost a call 2 % of its time."""

    __slots__ = ("_host", "_limit", "_unfinished")

    def __init__(self, unfinished: Unfinished, host: str, limit: asyncio.Timeout) -> None:
        self._unfinished = unfinished
        self._host = host
        self._limit = limit

    async def __aenter__(self) -> None:
        """Wait for room."""
        await self._unfinished.come(self._host, self._limit)

    async def __aexit__(self, *_: object) -> None:
        """Make room."""
        self._unfinished.forget(self._host, self._limit)


class Coming(NamedTuple):
    """A call that waits for room for its request."""

    host: str
    limit: asyncio.Timeout
    room: asyncio.Future[None]


def _waits(coming: Coming) -> bool:
    return not coming.room.done()


def metadata_bytes(details: grpc.HandlerCallDetails) -> int:
    """Return how large the headers of a call are, as HTTP/2 counts, without those that gRPC keeps to itself."""
    metadata = details.invocation_metadata or ()
    return len(details.method) + sum(len(key) + len(value) + ENTRY_BYTES for key, value in metadata)


def _strip(abort: grpc.aio.AbortError) -> None:
    """Strip the end of a call of all frames, and of why: gRPC keeps it with the call, and these have the call.

    In that cycle they would stay until old garbage is looked for, which is hardly ever. Whoever lets it pass on lets go
    of the call, since it will have that frame.
    """
    abort.__traceback__ = abort.__cause__ = abort.__context__ = None


def _counted(error: CallError) -> CallError:
    telemetry.record_refusal(reason_of(error))
    return error
