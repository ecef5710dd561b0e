"""What clients of this process watch of one source: counted for all processes, known to a scheduler that is here."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.polling.interest import Interest
from assetwatchd.polling.strangers import weight
from assetwatchd.runtime.fairness import Quota
from assetwatchd.runtime.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.polling.scheduler import Scheduler
    from assetwatchd.replicas.named import Named
    from assetwatchd.runtime.fairness import Caller

REFUSED_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Watch(NamedTuple):
    """What one asks for."""

    names: Sequence[str]
    whole: bool
    caller: Caller


class Watched:
    """All that is watched. changed: called when something began or ended."""

    def __init__(self, named: Named, changed: Callable[[], None], unknown: Callable[[str], bool], limit: int) -> None:
        """Make it; unknown: whether nobody ever saw an asset of a name; limit: of those that one caller may name."""
        self.named = named
        self._changed = changed
        self._unknown = unknown
        self._strangers = Quota(limit)
        self._watches: dict[int, Watch] = {}
        self._begun: dict[int, Interest] = {}
        self._count = 0
        self._seldom = Seldom(REFUSED_EVERY_S, 1)

    def begin(self, watch: Watch, scheduler: Scheduler | None) -> Interest:
        """Begin one, at the scheduler too if there is one here. Raises: TooManyAssets, having taken nothing."""
        weighs = sum(weight(name) for name in watch.names if self._unknown(name))
        if not self._strangers.has_room(watch.caller, weighs):
            raise TooManyAssets(self.named.source, self._strangers.limit, caller=watch.caller[0])
        self.named.begin(watch.names, whole=watch.whole)
        self._count += 1
        number = self._count
        try:
            if scheduler is not None:
                self._begun[number] = scheduler.interest(watch.names, whole=watch.whole, caller=watch.caller)
        except TooManyAssets:
            self.named.end(watch.names, whole=watch.whole)
            raise
        self._watches[number] = watch
        self._strangers.add(watch.caller, weighs)
        self._changed()
        return Interest(partial(self._end, number, weighs))

    def _end(self, number: int, weighs: int) -> None:
        watch = self._watches.pop(number)
        self._strangers.add(watch.caller, -weighs)
        self.named.end(watch.names, whole=watch.whole)
        if (begun := self._begun.pop(number, None)) is not None:
            begun.end()
        self._changed()

    async def adopt(self, scheduler: Scheduler) -> None:
        """Have the scheduler, now that there is one here, know all that is watched and that it does not know."""
        for number, watch in list(self._watches.items()):
            if number in self._watches and number not in self._begun:
                try:
                    interest = scheduler.interest(watch.names, whole=watch.whole, caller=watch.caller)
                except TooManyAssets as error:
                    if self._seldom.more("refused") is not None:
                        log.warning("not all that clients watch is asked for: %s", error)
                else:
                    self._begun[number] = interest
                await asyncio.sleep(0)

    def abandon(self) -> None:
        """Note that the scheduler is no more."""
        self._begun.clear()
