"""Keeps the mirror moving: a watch from where it is, another when that ends, and all read anew when it is too late."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import past
from assetwatchd.changefeed.store.etcd.reading import READ_TOGETHER, read_all
from assetwatchd.etcd.errors import Compacted, EtcdError
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.slices import in_turns

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.values import News
    from assetwatchd.etcd.watching import Watch

PAUSE_S = 0.05
PAUSE_MAX_S = 0.5
"""Before a watch is begun anew: doubled each time up to this. An election takes a second or two."""

log = logging.getLogger(__name__)


class Following:
    """The only one that moves the mirror.

    rereads: how often all was read anew, since what had changed meanwhile was no longer kept.
    """

    def __init__(self, client: EtcdClient, names: Keys, seal: Seal, mirror: Mirror, cluster: int) -> None:
        """cluster: that from which the mirror was read."""
        self.rereads = 0
        self._client = client
        self._names = names
        self._seal = seal
        self._mirror = mirror
        self._cluster = cluster
        self._watch: Watch | None = None
        self._outdated = False
        self._pause_s = PAUSE_S

    async def run(self) -> None:
        """Follow until cancelled. Raises: HistoryBroken."""
        while True:
            try:
                await self._follow()
            except Compacted:
                log.warning("etcd was compacted beyond what was read from it: all is read anew")
                self._outdated = True
            except EtcdError as error:
                log.log(logging.DEBUG if self._pause_s > PAUSE_S else logging.WARNING, "not following etcd: %s", error)
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)

    async def ask_progress(self) -> None:
        """Have the watch say how far it is, if there is one. Raises: EtcdError."""
        if self._watch is not None:
            await self._watch.ask_progress()

    def begin_anew(self) -> None:
        """End the watch, so that another one is begun, perhaps elsewhere."""
        if self._watch is not None:
            self._watch.end()

    async def _follow(self) -> None:
        """Watch until that ends, once what was read is known to be the past of what there is."""
        await past.check_now(self._client, self._names, self._mirror, self._cluster)
        if self._outdated:
            await self._read_anew()
        await past.check_then(self._client, self._names, self._mirror)
        revision = self._mirror.revision
        async with self._client.watch(self._names.prefix, from_revision=revision + 1) as watch:
            self._watch = watch
            if self._pause_s > PAUSE_S:
                log.info("following etcd again, from revision %d", revision)
            self._pause_s = PAUSE_S
            try:
                while True:
                    await self._take(await watch.read())
            finally:
                self._watch = None

    async def _take(self, news: News) -> None:
        """Apply news: of what happened meanwhile, up to a thousand transactions come at once to who was away."""
        async for part in in_turns(news.parts(READ_TOGETHER)):
            self._mirror.apply(part)

    async def _read_anew(self) -> None:
        known = self._mirror.contents
        reading = await read_all(self._client, self._names, self._seal, known.ledger)
        self.rereads += 1
        telemetry.record_reread()
        self._outdated = False
        self._mirror.replace(reading.contents, reading.revision)
