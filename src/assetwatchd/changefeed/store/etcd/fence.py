"""One transaction of a source: done exactly once, by who may write it, or not at all.

    if    o/SOURCE was created at our term      nobody else may write the source
    and   w/SOURCE was written at our chain     and nothing was written of it since
    then  write w/SOURCE, the commit's id, and all that is to be written
    else  read both

Without an answer it may have been done, or still be on its way. Then w/SOURCE alone is written under the same two
conditions. If that succeeds, the chain is another, so the first was not done, and never can be. If not, w/SOURCE tells
whether it was: nobody but us writes it in our term. It tells, too, whether what etcd refused was done all the same:
that which is the first beyond the quota is done, and then refused (quotaApplierV3, in its apply/quota.go).
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from assetwatchd.etcd.errors import EtcdError, EtcdRefused, OutcomeUnknown
from assetwatchd.etcd.operations import created, get, modified, put
from assetwatchd.model.errors import NotOwner
from assetwatchd.runtime import failpoints, telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.operations import Compare, Operation
    from assetwatchd.etcd.values import Outcome

ID_BYTES = 8
ASKED_AGAIN_S = 0.1
"""Between two tries to learn what became of a transaction."""

log = logging.getLogger(__name__)


class Terms(Protocol):
    """Which sources are this process's to write."""

    def term(self, source: str) -> int | None:
        """Return the revision of etcd at which o/SOURCE was created for us; None if it was not, or is no longer."""
        ...


class Hold(NamedTuple):
    """On which conditions a source may be written. chain: 0 when nothing was written of it yet."""

    source: str
    term: int
    chain: int


class Fence:
    """Writes for whoever `terms` lets write, and awaits that the mirror has what was written.

    unknown: how many transactions had no answer.
    """

    def __init__(self, client: EtcdClient, names: Keys, mirror: Mirror, terms: Terms) -> None:
        self.unknown = 0
        self.terms = terms
        self._client = client
        self._names = names
        self._mirror = mirror

    async def write(self, source: str, operations: Sequence[Operation]) -> int:
        """Do these, at most 120 and of other keys; return at which revision of etcd. One at a time for a source.

        Raises: NotOwner; EtcdRefused when etcd will not do it, and nothing was done.
        """
        while True:
            hold = Hold(source, self._term(source), self._mirror.chain(source))
            commit = os.urandom(ID_BYTES)
            await failpoints.hit("before_txn")
            try:
                outcome = await self._txn(hold, commit, operations)
                await failpoints.hit("after_txn_before_ack")
            except OutcomeUnknown as error:
                self.unknown += 1
                telemetry.record_commit_unknown(source)
                log.warning("source %s: whether statuses were kept is being found out: %s", source, error)
                revision = await self._cleared_up(hold, commit)
            except EtcdRefused:
                if not (revision := await self._done_though_refused(hold, commit)):
                    raise
            else:
                revision = outcome.revision if outcome.succeeded else await self._refused(hold, outcome)
            if revision:
                await self._mirror.reached(revision)
                return revision

    async def _cleared_up(self, hold: Hold, commit: bytes) -> int:
        """Return the revision of a commit of which nothing is known; 0 when it was not done, and never will be."""
        said = ""
        while True:
            await asyncio.sleep(ASKED_AGAIN_S)
            if self._term(hold.source) != hold.term:
                raise NotOwner(hold.source)
            try:
                outcome = await self._txn(hold, os.urandom(ID_BYTES), ())
            except EtcdError as error:  # also one that refuses: the first may be on its way for all that
                if str(error) != said:
                    said = str(error)
                    log.warning("source %s: nothing is kept until it is known: %s", hold.source, error)
                continue
            last = None if outcome.succeeded else outcome.one(0)
            if last is not None and last.value == commit:
                return last.modified
            return await self._given_up(hold, outcome)

    async def _done_though_refused(self, hold: Hold, commit: bytes) -> int:
        """Return the revision of a commit that was refused, as it may have been done: the one that fills the quota is.

        It is over, in any case, so that a look tells.
        """
        chain = self._names.chain(hold.source)
        while self._term(hold.source) == hold.term:
            try:
                last = (await self._client.get(chain)).first
            except OutcomeUnknown:
                await asyncio.sleep(ASKED_AGAIN_S)
            else:
                return last.modified if last is not None and last.value == commit else 0
        raise NotOwner(hold.source)

    async def _given_up(self, hold: Hold, outcome: Outcome) -> int:
        """Have a commit be one that was not done, as the chain went on without it."""
        if outcome.succeeded:
            await self._mirror.reached(outcome.revision)
            return 0
        return await self._refused(hold, outcome)

    async def _refused(self, hold: Hold, outcome: Outcome) -> int:
        """Read on to the chain that there is, if the source is ours still: of a try given up, or before our term."""
        owner = outcome.one(1)
        if owner is None or owner.created != hold.term:
            raise NotOwner(hold.source)
        await self._mirror.reached(outcome.revision)
        return 0

    def _term(self, source: str) -> int:
        term = self.terms.term(source)
        if term is None:
            raise NotOwner(source)
        return term

    async def _txn(self, hold: Hold, commit: bytes, operations: Sequence[Operation]) -> Outcome:
        owner, chain = self._names.owner(hold.source), self._names.chain(hold.source)
        conditions: Sequence[Compare] = (created(owner, hold.term), modified(chain, hold.chain))
        return await self._client.txn(conditions, (put(chain, commit), *operations), (get(chain), get(owner)))
