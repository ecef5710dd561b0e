"""The terms of one source, in which this process asks it: won, run, lost, given back; one after the other."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.model.errors import NotOwner
from assetwatchd.replicas.owned import Owned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.pipeline import Pipeline
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Condition
    from assetwatchd.polling.scheduler import Scheduler
    from assetwatchd.replicas.conditions import Conditions
    from assetwatchd.replicas.forwarding import Forwarding
    from assetwatchd.replicas.heard import Heard
    from assetwatchd.replicas.interests import Interests
    from assetwatchd.replicas.ownership import Ownership
    from assetwatchd.replicas.presence import Present
    from assetwatchd.replicas.watched import Watched

HELD_AGAIN_S = 5.0
"""What found no room at the scheduler, as too many assets were of interest there, is tried again so often."""

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What all sources of one process share."""

    store: Store
    mirror: Mirror
    hub: Hub
    pipeline: Pipeline
    ownership: Ownership
    interests: Interests
    conditions: Conditions
    forwarding: Forwarding
    present: Present


class Terms:
    """Of one source. owned: what there is of it while a term lasts; None while none does."""

    def __init__(
        self, name: str, make: Callable[[int], Scheduler], parts: Parts, watched: Watched, heard: Heard
    ) -> None:
        """make: makes a scheduler for a term."""
        self.owned: Owned | None = None
        self._name = name
        self._make = make
        self._parts = parts
        self._watched = watched
        self._heard = heard
        self._turned: Condition | None = None
        self._turns = asyncio.Event()

    async def run(self) -> None:
        """Ask it whenever it is this process's to ask; until cancelled."""
        ownership = self._parts.ownership
        while True:
            term = await ownership.won(self._name)
            log.info("source %s is asked by this replica from now on", self._name)
            await self._own(term)

    async def _own(self, term: int) -> None:
        """Ask it until the term is over, then let others have it."""
        self._turned = None
        scheduler = self._make(term)
        try:
            await scheduler.restore()
            await self._ask_until_lost(Owned(scheduler, term, self._parts.store, self._parts.mirror, self._parts.hub))
            log.info("source %s is not asked by this replica any more", self._name)
            await self._parts.ownership.release(self._name, term)
            self._heard.observed.update(await scheduler.all_observed())
        finally:
            await scheduler.close()

    async def _ask_until_lost(self, owned: Owned) -> None:
        term = owned.term
        running = asyncio.create_task(self._run_term(owned), name=f"{self._name}.term")
        running.add_done_callback(_looked_at)
        lost = asyncio.create_task(self._parts.ownership.lost(self._name, term), name=f"{self._name}.lost")
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end_term(owned, running, lost)
        if not running.cancelled():
            self._judge(term, running.exception())

    async def _run_term(self, owned: Owned) -> None:
        self.owned = owned
        self._parts.ownership.changed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_turns(owned.term), name=f"{self._name}.conditions")
            watched = _again_and_again(lambda: self._watched.adopt(owned.scheduler))
            held = _again_and_again(lambda: owned.hold_all(self._parts.interests.elsewhere(self._name)))
            tasks.create_task(watched, name=f"{self._name}.watched")
            tasks.create_task(held, name=f"{self._name}.held")
            await owned.scheduler.run()

    async def _end_term(self, owned: Owned, *tasks: asyncio.Task[None]) -> None:
        """Stop asking, before anything else; who waits for a read has it from the next owner."""
        self.owned = None
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        owned.scheduler.end()
        self._watched.abandon()
        self._parts.conditions.tell(self._name)

    def _judge(self, term: int, failure: BaseException | None) -> None:
        """Raise what ended a term, unless it is that the store knows of another owner."""
        if failure is None:
            return
        try:
            raise failure
        except* NotOwner:
            self._parts.ownership.refuse(self._name, term)

    # How it is doing -------------------------------------------------------------------------------------------------

    def turn(self, _: str, condition: Condition) -> None:
        """Have everybody told, this process too, through the store."""
        self._turned = condition
        self._turns.set()

    async def _tell_turns(self, term: int) -> None:
        while True:
            await self._turns.wait()
            self._turns.clear()
            if self._turned is not None:
                await self._parts.conditions.write(self._name, term, self._turned)


def _looked_at(term: asyncio.Task[None]) -> None:
    """Have what a term failed with be looked at, also where whoever waits for it is cancelled, perhaps twice."""
    if not term.cancelled():
        term.exception()


async def _again_and_again(doing: Callable[[], Awaitable[None]]) -> None:
    while True:
        await doing()
        await asyncio.sleep(HELD_AGAIN_S)
