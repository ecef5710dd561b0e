"""A source's condition, from how its calls end. Pure: times are given, the change is returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assetwatchd.errors import AssetRejected, Refused, Throttled, Unreachable
from assetwatchd.model import Condition, ConditionState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.errors import UpstreamError

FAILURES_TO_TURN = 3
"""Calls in a row that must fail before a source that was well is not: one lost packet is no news."""


@dataclass(slots=True)
class Health:
    """The condition now, and the failures in a row that led to it.

    failing: only single calls are tried, with growing pauses, until one succeeds.
    failures: of different assets, or of none, so that one asset alone does not count against its source.
    suspect: an asset failed again and little else was heard since, so that only a sign of life can tell whose fault
    it is. blamed: the assets that failed since the last success.
    polling: why changes are not pushed, though they could be; empty when all is well.
    storing: why what it says cannot be kept here; empty when all is well.
    """

    condition: Condition
    failures: int = 0
    failing: bool = False
    suspect: bool = False
    blamed: set[str] = field(default_factory=set)
    polling: str = ""
    storing: str = ""

    def succeeded(self, at: float) -> bool:
        """A call ended well at that time (s since 1970); return whether the state changed."""
        self.failures, self.failing, self.suspect = 0, False, False
        self.blamed.clear()
        return self._well(at, last_success_at=at)

    def failed(self, error: UpstreamError, at: float, *, asked: Iterable[str] = ()) -> bool:
        """A call that asked about these assets, or about none, failed; return whether the state changed."""
        if isinstance(error, AssetRejected):
            return self.succeeded(at)  # the source is well: it spoke about one asset
        self._count(frozenset(asked))
        first = self.condition.state is ConditionState.UNKNOWN
        if not (first or self.failing or isinstance(error, Refused | Throttled) or self.failures >= FAILURES_TO_TURN):
            return False
        self.failing = True
        return self._turn(_state(error), str(error), at, last_success_at=self.condition.last_success_at)

    def push_lost(self, why: str, at: float) -> bool:
        """The push connection broke (why) or came back (empty); return whether the state changed.

        A break turns nothing by itself: the next call tells whether the source only does not push, or is gone.
        """
        self.polling = f"changes are not pushed, polling instead: {why}" if why else ""
        if why or self.failing or self.condition.state is ConditionState.UNKNOWN:
            return False
        return self._well(at, last_success_at=self.condition.last_success_at)

    def store_lost(self, why: str, at: float) -> bool:
        """Our store cannot keep what the source says (why) or can again (empty); return whether the state changed."""
        self.storing = f"statuses cannot be kept: {why}" if why else ""
        if self.failing or self.condition.state is ConditionState.UNKNOWN:
            return False
        return self._well(at, last_success_at=self.condition.last_success_at)

    def _well(self, at: float, *, last_success_at: float | None) -> bool:
        """It answers; is anything else amiss?"""
        amiss = "; ".join(filter(None, (self.polling, self.storing)))
        state = ConditionState.DEGRADED if amiss else ConditionState.HEALTHY
        return self._turn(state, amiss, at, last_success_at=last_success_at)

    def _count(self, asked: frozenset[str]) -> None:
        """Count a failure, unless it may be the fault of an asset that failed before."""
        self.suspect = bool(asked) and asked <= self.blamed and self.failures < FAILURES_TO_TURN
        self.failures += not self.suspect
        self.blamed |= asked

    def _turn(self, state: ConditionState, message: str, at: float, *, last_success_at: float | None) -> bool:
        before = self.condition
        since = before.since if before.state is state else at
        self.condition = Condition(state, message, since, last_success_at)
        return before.state is not state  # another text of the same trouble is kept, and is no news


def _state(error: UpstreamError) -> ConditionState:
    if isinstance(error, Refused):
        return ConditionState.REFUSED
    return ConditionState.UNREACHABLE if isinstance(error, Unreachable) else ConditionState.DEGRADED
