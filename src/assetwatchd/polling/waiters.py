"""Who waits for reads of one source's assets to end, and is told how. Must not know what was read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.polling.target import AT_ONCE, Phase
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.fairness import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.model.errors import SourceUnreachable
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.target import Target
    from assetwatchd.runtime.fairness import Caller

DOUBT_S = 1.0
"""A read that misses an asset which was there is repeated after this; only then is it believed."""


class Waiters:
    """The futures of those who wait. A target is awaited as long as it has some."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._awaited: dict[Target, set[asyncio.Future[None]]] = {}

    def demand(self, target: Target, *, at: float = AT_ONCE, caller: Caller = NOBODY) -> asyncio.Future[None]:
        """Return a future for the read of a target that is under way, or for one that is due at that time.

        caller: who asks for it at once, and has it read when it is their turn.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._is_coming(target) and (at == AT_ONCE or at < target.due):
            self._plan.reschedule(target, at, caller)
        self._awaited.setdefault(target, set()).add(future)
        self._plan.interests.wait(target, awaited=True)
        future.add_done_callback(lambda done: self._left(target, done))
        return future

    def _is_coming(self, target: Target) -> bool:
        """Whether an answer is on its way that will do for who asks now."""
        match target.phase:
            case Phase.READING | Phase.COMMITTING:
                # Reads under way are shared. This one is under way until the store has its answer, though the call
                # is over: who is told sooner would look there and find what was before.
                return True
            case Phase.DUE:
                # A read missed it, and the next one is to say the same. Were it made at once for who asks, what is
                # missing for a moment would be believed to be gone.
                return target.presence.missing_unconfirmed and target.due <= loop_time() + DOUBT_S
            case _:
                # Somebody waits and no read is agreed on: a notice has overtaken it, and answers once it is stored.
                return target.demand.awaited

    def answer(self, target: Target, error: SourceUnreachable | None = None) -> None:
        """Tell all who wait for a target that its read is over, or has failed; mostly nobody does."""
        if target not in self._awaited:
            return
        for future in self._awaited[target]:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        self._nobody_waits(target)

    def all_failed(self, error: SourceUnreachable) -> None:
        """Tell everybody: the source fails, and nobody need wait for it."""
        for target in list(self._awaited):
            self.answer(target, error)

    def give_up(self, reads: Iterable[tuple[Target, asyncio.Future[None]]]) -> None:
        """Cancel the waits that are not over."""
        for target, future in reads:
            if future.cancel() or future.cancelled():
                self._left(target, future)

    def _left(self, target: Target, future: asyncio.Future[None]) -> None:
        if future in self._awaited.get(target, ()):
            self._awaited[target].discard(future)
            if not self._awaited[target]:
                self._nobody_waits(target)
                self._plan.cancel_unwanted(target)

    def _nobody_waits(self, target: Target) -> None:
        self._awaited.pop(target, None)
        self._plan.interests.wait(target, awaited=False)
