"""How each source is doing: told by its owner, known to all, told to everybody's watchers in the one order there is.

A process that is cut off knows nothing of sources that are not its own: for as long, they are UNREACHABLE there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from assetwatchd.etcd.errors import EtcdError, EtcdRefused
from assetwatchd.etcd.operations import created, modified, put
from assetwatchd.model.values import Condition, ConditionState
from assetwatchd.polling.concerns import NOT_ASKED
from assetwatchd.replicas.records import read_condition, write_condition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.values import KeyValue
    from assetwatchd.replicas.ownership import Ownership

CUT_OFF = "this replica is cut off from the others, so nothing new is known here"
AGAIN_S = 0.3

log = logging.getLogger(__name__)


class Conditions:
    """Of all sources. tell: called with a source and its condition whenever that is otherwise than was told last."""

    def __init__(
        self,
        sources: Iterable[str],
        keys: Keys,
        client: EtcdClient,
        mirror: Mirror,
        ownership: Ownership,
        *,
        tell: Callable[[str, Condition], None],
    ) -> None:
        self._keys = keys
        self._client = client
        self._mirror = mirror
        self._ownership = ownership
        self._tell = tell
        self._found: dict[str, Condition] = {}
        self._told: dict[str, Condition] = {}
        self._never = Condition(ConditionState.UNKNOWN, NOT_ASKED, time.time())
        self._cut_off: Condition | None = None
        self._unkept: dict[str, Condition] = {}
        self._sources = list(sources)

    def take(self, name: bytes, key: KeyValue | None) -> None:
        """Take in that c/SOURCE is so."""
        source = name.partition(b"/")[2].decode(errors="replace")
        if source not in self._sources or key is None:
            return
        try:
            self._found[source] = read_condition(key)
        except ValueError:
            log.warning("source %s: the condition that etcd has cannot be read, so it stays as it was", source)
        self.tell(source)

    def found(self, source: str) -> Condition | None:
        """Return what the owner told last; None when none ever did."""
        return self._found.get(source)

    def of(self, source: str) -> Condition:
        """Return how a source is doing, as far as is known here."""
        mine = self._ownership.term(source) is not None
        if self._cut_off is not None and not mine:
            return self._cut_off
        if mine and source in self._unkept:
            return self._unkept[source]
        return self._found.get(source, self._never)

    def cut_off(self, *, cut_off: bool) -> None:
        """Note that this process is, or is not any more, cut off from the others."""
        self._cut_off = Condition(ConditionState.UNREACHABLE, CUT_OFF, time.time()) if cut_off else None
        self.tell_all()

    def tell_all(self) -> None:
        """Tell of each source that is otherwise than was told last."""
        for source in self._sources:
            self.tell(source)

    def tell(self, source: str) -> None:
        """Tell how a source is doing, if that was not told."""
        condition = self.of(source)
        if self._told.get(source) != condition:
            self._told[source] = condition
            self._tell(source, condition)

    async def write(self, source: str, term: int, condition: Condition) -> None:
        """Have everybody told, for as long as the term lasts.

        Each is written over the one before it alone, so that none that comes late is taken for news. While etcd refuses
        it, as when it is full, only who watches here is told.
        """
        try:
            await self._write(source, term, condition)
        finally:
            self._unkept.pop(source, None)

    async def _write(self, source: str, term: int, condition: Condition) -> None:
        key, value = self._keys.named(b"c/" + source.encode()), write_condition(condition)
        while self._ownership.term(source) == term:
            before = self._mirror.get(b"c/" + source.encode())
            compare = [created(self._keys.owner(source), term), modified(key, 0 if before is None else before.modified)]
            try:
                outcome = await self._client.txn(compare, [put(key, value)])
            except EtcdError as error:
                if isinstance(error, EtcdRefused):
                    self._unkept[source] = condition
                    self.tell(source)
                await asyncio.sleep(AGAIN_S)
                continue
            await self._mirror.reached(outcome.revision)
            if outcome.succeeded:
                return
