"""Has the owner of a source do what it alone can; when it changes meanwhile, or does not answer, the next one."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from assetwatchd.model.errors import SourceUnreachable
from assetwatchd.replicas.messages import read_refusal
from assetwatchd.replicas.peers import PeerLost
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatch.internal.v1 import peer_pb2 as pb

    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.replicas.ownership import Ownership
    from assetwatchd.replicas.peers import Peers
    from assetwatchd.replicas.records import Owner

WITHIN_S = 8.0
"""Until there is an owner that answers: longer than a lease lasts by default, and somebody else has taken the source.
How long it then takes is for it, and for whoever asked, as if it were asked there."""
AGAIN_S = 0.1
REACHED_S = 3.0
"""What the owner has read is here within this, or this replica is behind."""
NOBODY = "no replica asks it at the moment"
SILENT = "the replica that asks it did not answer"
BEHIND = "this replica is behind the one that asks it"

log = logging.getLogger(__name__)


class Forwarding:
    """To the owners of all sources."""

    def __init__(self, ownership: Ownership, peers: Peers, mirror: Mirror) -> None:
        self._ownership = ownership
        self._peers = peers
        self._mirror = mirror

    async def ask(
        self, source: str, request: pb.AskRequest, *, mine: Callable[[], bool], within_s: float | None = None
    ) -> pb.AskResponse | None:
        """Return the answer, once all that it is about is known here; None as soon as the source is asked here: mine.

        Raises: SourceUnreachable, TooManyAssets, TooManyReads, RetryTooSoon.
        """
        request.source = source
        until, why = loop_time() + (WITHIN_S if within_s is None else within_s), NOBODY
        while not mine() and (left_s := until - loop_time()) > 0:
            owner = self._ownership.owner(source)
            if owner is None or self._ownership.is_me(owner):
                await self._ownership.news(left_s)
                continue
            why = SILENT
            telemetry.record_forwarded(source)
            answer = await self._asked(owner, request)
            if answer is None or answer.not_owner:
                await self._ownership.news(min(AGAIN_S, left_s))
                continue
            await self._known(source, answer.revision)
            if answer.HasField("refusal"):
                raise read_refusal(source, answer.refusal)
            return answer
        if mine():
            return None
        raise SourceUnreachable(source, why, retry_after_s=1.0)

    async def _asked(self, owner: Owner, request: pb.AskRequest) -> pb.AskResponse | None:
        """Ask one owner, for as long as it is that; None when it did not answer."""
        asking = asyncio.ensure_future(self._peers.ask(owner.at, request))
        replaced = asyncio.ensure_future(self._ownership.replaced(request.source, owner.term))
        try:
            await asyncio.wait([asking, replaced], return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        except PeerLost as lost:
            log.debug("source %s: its owner did not answer: %s", request.source, lost)
            return None
        finally:
            asking.cancel()
            replaced.cancel()

    async def _known(self, source: str, revision: int) -> None:
        try:
            async with asyncio.timeout(REACHED_S):
                await self._mirror.reached(revision)
        except TimeoutError:
            raise SourceUnreachable(source, BEHIND, retry_after_s=1.0) from None
