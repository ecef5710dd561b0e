"""One watch of etcd: what changes below a prefix, from a revision on, in order and without a gap, until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from assetwatch_etcd import etcd_pb2 as pb

from assetwatchd.etcd.connection import send
from assetwatchd.etcd.errors import Compacted, EtcdError, OutcomeUnknown, refusal
from assetwatchd.etcd.messages import key_of
from assetwatchd.etcd.operations import behind
from assetwatchd.etcd.values import Event, News

if TYPE_CHECKING:
    from assetwatchd.etcd.connection import Connection

Call = grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]


class Watch:
    """What `EtcdClient.watch` opens. A read that is cancelled, as by a timeout, ends it."""

    def __init__(self, connection: Connection, call: Call) -> None:
        self._connection, self._call = connection, call

    async def begin(self, prefix: bytes, from_revision: int) -> None:
        """Ask for it, and wait until it has begun. Raises: EtcdError."""
        # Not fragmented, so that the changes of one transaction come together.
        wanted = pb.WatchCreateRequest(key=prefix, range_end=behind(prefix), start_revision=from_revision)
        await self._write(pb.WatchRequest(create_request=wanted))
        if not (answer := await self._next()).created:
            raise OutcomeUnknown("etcd answered a watch with something else", detail=self._connection.endpoint)
        self._check(answer)

    async def read(self) -> News:
        """Return the next news; they may be long in coming.

        Raises: Compacted when what is to be told is no longer kept; OutcomeUnknown when the watch ended, and another
        from the revision behind the last one told goes on where it was; other EtcdErrors when it is refused.
        """
        while True:
            answer = await self._next()
            self._check(answer)
            if not answer.created:
                return news_of(answer)

    async def ask_progress(self) -> None:
        """Have it told how far it is: news without events, once all before was told.

        A watch that still catches up is not told: ask again. Raises: EtcdError.
        """
        await self._write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def end(self) -> None:
        """End it, on the other side too."""
        self._call.cancel()

    async def _write(self, request: pb.WatchRequest) -> None:
        with self._connection.errors():
            await send(self._call, request)

    async def _next(self) -> pb.WatchResponse:
        with self._connection.errors():
            answer = await self._call.read()
        if isinstance(answer, pb.WatchResponse):
            return answer
        raise OutcomeUnknown("etcd ended a watch", detail=self._connection.endpoint)

    def _check(self, answer: pb.WatchResponse) -> None:
        """Raise what a watch is ended by."""
        if answer.compact_revision:
            raise Compacted(
                "etcd no longer has what a watch is to tell: it was compacted",
                detail=self._connection.endpoint,
                revision=answer.compact_revision,
            )
        if answer.canceled:
            raise self._cancelled(answer.cancel_reason)

    def _cancelled(self, reason: str) -> EtcdError:
        """Return what a reason means, which may be a status of gRPC in words."""
        said = reason.rpartition("desc = ")[2]
        if not said:
            return OutcomeUnknown("etcd ended a watch", detail=self._connection.endpoint)
        return refusal(said, endpoint=self._connection.endpoint)


def news_of(answer: pb.WatchResponse) -> News:
    """Return what a watch told. With events, all up to the last of them was told, whatever the header says."""
    events = [Event(event.type == pb.Event.DELETE, key_of(event.kv)) for event in answer.events]
    return News(events[-1].key.modified if events else answer.header.revision, events)
