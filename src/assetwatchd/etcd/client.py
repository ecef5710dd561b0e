"""The client of etcd: each call once, within a time, at one member; how it ended is in the class of the error.

Nothing is tried again here but a call whose token was refused, which was certainly not done. After two calls without an
answer the next endpoint is asked. A call that is cancelled may have been done.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from assetwatch_etcd import etcd_pb2 as pb

from assetwatchd.etcd import methods
from assetwatchd.etcd.endpoints import Endpoints
from assetwatchd.etcd.errors import LATE, LEASE_GONE, EtcdError, LeaseGone, OutcomeUnknown, TokenRefused
from assetwatchd.etcd.login import Login
from assetwatchd.etcd.messages import alarms_of, members_of, outcome_of, page_of, status_of
from assetwatchd.etcd.operations import behind
from assetwatchd.etcd.values import Lease
from assetwatchd.etcd.watching import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from assetwatchd.etcd.connection import Access, Connection, Metadata
    from assetwatchd.etcd.methods import Answer, Method, Request
    from assetwatchd.etcd.operations import Compare, Operation
    from assetwatchd.etcd.values import Alarm, Member, Outcome, Page, Status

T = TypeVar("T")

CALL_S = 1.5
"""A call may take this long, unless said otherwise: longer than an election of three members takes (1.1 to 1.6 s, as
measured), shorter than half of the shortest useful lease."""
PAGE_S = 10.0
"""The same for a page of a range, which may be megabytes."""
PAGE_KEYS = 5000
"""Keys a page: some megabytes, and not for long on the event loop."""


class EtcdClient:
    """Speaks to a cluster. Make it on the event loop, and close it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._endpoints = Endpoints(access)
        self._login = Login(access)

    @property
    def endpoint(self) -> str:
        """The endpoint that is asked next."""
        return self._endpoints.current

    async def close(self) -> None:
        """End what goes on, and give everything back."""
        await self._endpoints.close()

    # Keys ------------------------------------------------------------------------------------------------------------

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        within_s: float = CALL_S,
    ) -> Outcome:
        """Do success if every comparison holds, else failure; as a whole, at one revision. Raises: EtcdError."""
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        return outcome_of(await self._call(methods.TXN, request, within_s))

    async def get(self, key: bytes, *, revision: int = 0, within_s: float = CALL_S) -> Page:
        """Read one key as the cluster has agreed on it, now or as of a revision; the page's revision is that of now.

        Raises: EtcdError; Compacted when that revision is no longer kept.
        """
        return page_of(await self._call(methods.RANGE, pb.RangeRequest(key=key, revision=revision), within_s))

    async def pages(
        self, prefix: bytes, *, limit: int = PAGE_KEYS, keys_only: bool = False, within_s: float = PAGE_S
    ) -> AsyncIterator[Page]:
        """Read all keys that begin so, in their order and as of one revision: that of every page.

        Raises: EtcdError; Compacted when that revision went while it was read.
        """
        request = pb.RangeRequest(key=prefix, range_end=behind(prefix), limit=limit, keys_only=keys_only)
        while True:
            page = page_of(await self._call(methods.RANGE, request, within_s))
            request.revision = request.revision or page.revision
            yield page._replace(revision=request.revision)
            if not page.more:
                return
            request.key = page.keys[-1].key + b"\0"

    async def compact(self, revision: int, *, physical: bool = False, within_s: float = PAGE_S) -> None:
        """Forget what was superseded before that revision; physical: and wait until the room is free.

        Raises: EtcdError; Compacted when that was done already.
        """
        await self._call(methods.COMPACT, pb.CompactionRequest(revision=revision, physical=physical), within_s)

    @asynccontextmanager
    async def watch(self, prefix: bytes, *, from_revision: int, within_s: float = CALL_S) -> AsyncIterator[Watch]:
        """Watch what begins so, from that revision on, that one too. Has begun when this is entered.

        Raises: EtcdError, when it is entered and from what is done inside: see Watch.read.
        """
        watch = await self._begin(prefix, from_revision, within_s)
        try:
            yield watch
        finally:
            watch.end()

    # Leases ----------------------------------------------------------------------------------------------------------

    async def grant(self, ttl_s: int, *, within_s: float = CALL_S) -> Lease:
        """Begin a lease; the cluster may give it a longer time. Raises: EtcdError."""
        answer = await self._call(methods.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s), within_s)
        return Lease(answer.ID, answer.TTL)

    async def keep_alive(self, lease: int, *, within_s: float = CALL_S) -> int:
        """Let a lease begin anew, and return how many seconds it has, counted from when this was called.

        Raises: EtcdError; LeaseGone.
        """

        async def ask(connection: Connection, metadata: Metadata) -> pb.LeaseKeepAliveResponse:
            request = pb.LeaseKeepAliveRequest(ID=lease)
            return await connection.exchange(methods.LEASE_KEEP_ALIVE, request, metadata, within_s)

        if (ttl_s := (await self._with_token(ask, within_s)).TTL) <= 0:
            raise LeaseGone(LEASE_GONE, detail=self.endpoint)
        return ttl_s

    async def time_to_live(self, lease: int, *, within_s: float = CALL_S) -> int:
        """Return how many seconds a lease has. Raises: EtcdError; LeaseGone."""
        answer = await self._call(methods.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=lease), within_s)
        if answer.TTL < 0:
            raise LeaseGone(LEASE_GONE, detail=self.endpoint)
        return answer.TTL

    async def revoke(self, lease: int, *, within_s: float = CALL_S) -> None:
        """End a lease, and delete what hangs on it. Raises: EtcdError; LeaseGone."""
        await self._call(methods.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease), within_s)

    # The cluster -----------------------------------------------------------------------------------------------------

    async def status(self, *, within_s: float = CALL_S) -> Status:
        """Return how the member is that is asked now. Raises: EtcdError."""
        return status_of(await self._call(methods.STATUS, pb.StatusRequest(), within_s))

    async def statuses(self, *, within_s: float = CALL_S) -> Mapping[str, Status | EtcdError]:
        """Return how the member at each endpoint is, or why that is not known."""
        endpoints = dict.fromkeys(self._access.endpoints)
        found = await asyncio.gather(*(self._status_at(endpoint, within_s) for endpoint in endpoints))
        return dict(zip(endpoints, found, strict=True))

    async def members(self, *, within_s: float = CALL_S) -> Sequence[Member]:
        """Return who the cluster is. Raises: EtcdError."""
        request = pb.MemberListRequest(linearizable=True)
        return members_of(await self._call(methods.MEMBER_LIST, request, within_s))

    async def alarms(self, *, within_s: float = CALL_S) -> Sequence[Alarm]:
        """Return what is alarming; none when all is well. Raises: EtcdError."""
        return alarms_of(await self._call(methods.ALARM, pb.AlarmRequest(action=pb.AlarmRequest.GET), within_s))

    # How a call is made ----------------------------------------------------------------------------------------------

    async def _call(self, method: Method[Request, Answer], request: Request, within_s: float) -> Answer:
        return await self._with_token(lambda at, metadata: at.call(method, request, metadata, within_s), within_s)

    async def _with_token(self, ask: Callable[[Connection, Metadata], Awaitable[T]], within_s: float) -> T:
        """Ask, and once more if the token was refused, which means that nothing was done."""
        try:
            return await self._once(ask, within_s)
        except TokenRefused:
            if not self._login.wanted:
                raise
        return await self._once(ask, within_s)

    async def _once(self, ask: Callable[[Connection, Metadata], Awaitable[T]], within_s: float) -> T:
        try:
            with self._endpoints.use() as connection, self._login.refusals():
                return await ask(connection, await self._login.metadata(connection, within_s))
        finally:
            await self._endpoints.settle()

    async def _begin(self, prefix: bytes, from_revision: int, within_s: float) -> Watch:
        async def ask(connection: Connection, metadata: Metadata) -> Watch:
            watch = Watch(connection, connection.stream(methods.WATCH, metadata))
            try:
                async with asyncio.timeout(within_s):
                    await watch.begin(prefix, from_revision)
            except TimeoutError:
                raise OutcomeUnknown(LATE, detail=connection.endpoint) from None
            except BaseException:
                watch.end()
                raise
            return watch

        return await self._with_token(ask, within_s)

    async def _status_at(self, endpoint: str, within_s: float) -> Status | EtcdError:
        one = EtcdClient(self._access._replace(endpoints=(endpoint,)))
        try:
            return await one.status(within_s=within_s)
        except EtcdError as error:
            return error
        finally:
            await one.close()
