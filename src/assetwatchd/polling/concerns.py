"""What a source is to do for us, each concern by itself, and what they come to together. Pure: times are given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetwatchd.model.values import Concern, ConcernCondition, Condition, ConditionState

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_ASKED = "not asked yet"
HEARD_FROM_IT = frozenset({Concern.READS, Concern.CREDENTIALS, Concern.LIST})
"""Concerns by which a source is known to answer; push and store alone tell nothing of one that was never asked."""
ON_AND_OFF = "on and off: {}"


@dataclass(slots=True)
class Course:
    """How one concern is doing. Times are seconds since 1970.

    steady_s: what is amiss again so soon after it was well is on and off: DEGRADED until it did not fail for as long.
    0: it changes so seldom that this cannot be. state is UNKNOWN while nothing was heard. failures: in a row.
    """

    concern: Concern
    steady_s: float = 0.0
    state: ConditionState = ConditionState.UNKNOWN
    message: str = ""
    since: float = 0.0
    last_success_at: float | None = None
    next_try_at: float | None = None
    failures: int = 0
    failed_at: float = -math.inf
    recovered_at: float = -math.inf
    on_and_off: bool = False
    _amiss: str = ""

    @property
    def condition(self) -> ConcernCondition:
        """Return the state, as it is told."""
        return ConcernCondition(
            self.concern, self.state, self.message, self.since, self.last_success_at, self.next_try_at
        )

    def begin_with(self, found: ConcernCondition) -> None:
        """Be as was told before; when it is tried next is not of that."""
        self.state, self.message, self.since = found.state, found.message, found.since
        self.last_success_at = found.last_success_at

    def well(self, at: float) -> None:
        """Record a success."""
        self.failures, self.last_success_at, self.next_try_at = 0, at, None
        if self.state is ConditionState.HEALTHY:
            return  # as after nearly every read
        if self.on_and_off and at < self.failed_at + self.steady_s:
            self._turn(ConditionState.DEGRADED, ON_AND_OFF.format(self._amiss), at)
            return
        if self.state.is_amiss:
            self.on_and_off, self.recovered_at = False, at
        self._turn(ConditionState.HEALTHY, "", at)

    def missed(self, at: float) -> None:
        """Record a failure that leaves the state as it is."""
        self.failures, self.failed_at = self.failures + 1, at

    def amiss(self, state: ConditionState, message: str, at: float) -> None:
        """Record a failure that makes the state this one."""
        if not self.state.is_amiss:
            self.on_and_off = at - self.recovered_at < self.steady_s
        self.failed_at, self._amiss = at, message
        self._turn(state, message, at)

    def unheard(self, at: float) -> None:
        """Go back to UNKNOWN: what was heard of it is of no use any more."""
        self.failures, self.next_try_at, self.on_and_off = 0, None, False
        self._turn(ConditionState.UNKNOWN, "", at)

    def _turn(self, state: ConditionState, message: str, at: float) -> None:
        if state is not self.state:
            self.state, self.since = state, at
        self.message = message


def shown(concerns: Sequence[ConcernCondition]) -> list[ConcernCondition]:
    """Return the concerns to tell of that are amiss, none before the source was asked.

    If some keep it from being read, they alone.
    """
    amiss = [each for each in concerns if each.state.is_amiss]
    if not _telling(concerns):
        return []
    return [each for each in amiss if not each.state.is_readable] or amiss


def _telling(concerns: Sequence[ConcernCondition]) -> list[ConcernCondition]:
    return [each for each in concerns if each.concern in HEARD_FROM_IT]


def roll_up(concerns: Sequence[ConcernCondition], *, since: float) -> Condition:
    """Return the condition that the concerns of a source come to: those of which anything was heard.

    since: when it came into the state that this gives.
    """
    telling = _telling(concerns)
    if not telling:
        return Condition(ConditionState.UNKNOWN, NOT_ASKED, since, concerns=tuple(concerns))
    amiss = shown(concerns)
    return Condition(
        amiss[0].state if amiss else ConditionState.HEALTHY,
        "; ".join(each.message for each in amiss),
        since,
        max((each.last_success_at for each in telling if each.last_success_at is not None), default=None),
        min((each.next_try_at for each in amiss if each.next_try_at is not None), default=None),
        tuple(concerns),
    )
