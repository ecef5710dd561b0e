"""Whether the mirror is as new as etcd: a read that a majority agreed on says how far that is; the watch must follow.

A watch that says nothing may have nothing to say, or be at a member, or behind a network, that hears nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import keys
from assetwatchd.etcd.errors import EtcdError
from assetwatchd.model.errors import HistoryBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.changefeed.store.etcd.following import Following
    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.etcd.client import EtcdClient

PROBE_S = 1.0
"""Between two looks."""
AGAIN_S = 0.1
"""After a look that was not answered, where somebody waits for one."""
BEHIND_S = 1.5
"""A watch that takes longer to tell what a majority has agreed on is given up for another one."""

log = logging.getLogger(__name__)


class Currency:
    """Cut off: nothing shows that the mirror was as new as etcd within the last cut_off_s."""

    def __init__(
        self, client: EtcdClient, names: Keys, mirror: Mirror, following: Following, *, cut_off_s: float
    ) -> None:
        self.cut_off = False
        self._client = client
        self._key = names.named(keys.EPOCHS)
        self._mirror = mirror
        self._following = following
        self._cut_off_s = cut_off_s
        self._listeners: list[Callable[[bool], None]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._current_at = 0.0
        self._looking = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    @property
    def lag_s(self) -> float:
        """How long ago the mirror was certainly as new as etcd."""
        return asyncio.get_running_loop().time() - self._current_at

    def subscribe(self, listener: Callable[[bool], None]) -> None:
        """Have a listener told when this process is cut off, True, and when it no longer is, False."""
        self._listeners.append(listener)

    async def caught_up(self) -> None:
        """Return once the mirror has all that etcd had when this was called; for as long as that cannot be told, wait.

        Who asks while a look is under way waits for the next one, together: that one began after all of them asked.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._caught_up(), name="store.catching_up")
        await asyncio.shield(self._next)

    async def _caught_up(self) -> None:
        async with self._looking:
            self._next = None
            while True:
                with contextlib.suppress(EtcdError):
                    await self._mirror.reached(await self._agreed())
                    return
                await asyncio.sleep(AGAIN_S)

    async def _agreed(self) -> int:
        """Return how far etcd is, and have the watch say how far that is told. Raises: EtcdError."""
        revision = (await self._client.get(self._key)).revision
        if revision > self._mirror.revision:
            await self._following.ask_progress()
        return revision

    async def run(self) -> None:
        """Look every PROBE_S, until cancelled. Raises: HistoryBroken."""
        self._current(asyncio.get_running_loop().time())
        try:
            while True:
                await asyncio.sleep(PROBE_S)
                await self._probe()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    async def _probe(self) -> None:
        began, read = asyncio.get_running_loop().time(), self._mirror.revision
        try:
            revision = await self._agreed()
            if revision < read:
                raise HistoryBroken(f"its revision is {revision}, and {read} was read")
            async with asyncio.timeout(BEHIND_S):
                await self._mirror.reached(revision)
        except EtcdError:
            return  # as long as it lasts, cut off is what comes of it
        except TimeoutError:
            self._following.begin_anew()
            return
        self._current(began)

    def _current(self, at: float) -> None:
        """Note that the mirror was as new as etcd at that time."""
        self._current_at = at
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(at + self._cut_off_s, self._cut)
        if self.cut_off:
            log.warning("no longer cut off from etcd")
            self._tell(cut_off=False)

    def _cut(self) -> None:
        log.warning("cut off from etcd: what is told may be old by %g s and more", self._cut_off_s)
        self._tell(cut_off=True)

    def _tell(self, *, cut_off: bool) -> None:
        self.cut_off = cut_off
        for listener in self._listeners:
            listener(cut_off)
