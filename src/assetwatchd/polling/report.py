"""How a source is doing, and that it is told: its health, its pauses, and the line and the news when it turns."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from assetwatchd.model.errors import SourceUnreachable
from assetwatchd.polling.conditions import Health
from assetwatchd.polling.pauses import Pauses
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from assetwatchd.model.values import Condition
    from assetwatchd.settings.schema import SourceSettings

log = logging.getLogger(__name__)


class Report:
    """What the calls of one source share of it. now: seconds since 1970; pauses are in the event loop's time."""

    def __init__(
        self,
        name: str,
        settings: SourceSettings,
        *,
        tell: Callable[[str, Condition], None],
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.health = Health(now(), steady_s=settings.backoff_max_s)
        self.pauses = Pauses(settings, rng)
        self.now = now
        self._name = name
        self._settings = settings
        self._tell = tell
        self._ended = ""

    def begin_with(self, condition: Condition) -> None:
        """Go on from a condition that everybody was told before."""
        self.note(self.health.begin_with(condition))

    def note(self, turned: bool) -> None:  # noqa: FBT001 - the answer of Health, passed on
        """Tell everybody when the condition has turned."""
        if turned:
            condition = self.health.condition
            level = logging.WARNING if condition.state.is_amiss else logging.INFO
            why = f": {condition.message}" if condition.message else ""
            log.log(level, "source %s is %s%s%s", self._name, condition.state.name.lower(), why, self._next_try())
            self._tell(self._name, condition)

    def _next_try(self) -> str:
        at = self.health.condition.next_try_at
        return "" if at is None else f"; next try in {max(0.0, at - self.now()):.1f} s"

    def wall(self, at: float) -> float:
        """Return a time of the event loop as seconds since 1970."""
        return self.now() + at - loop_time()

    def refusal(self) -> SourceUnreachable | None:
        """Return why the source cannot be asked now and when it can be; None when it can."""
        if self._ended:
            return self.unreachable(self._ended)
        if self.health.store.state.is_amiss:
            return self.unreachable(self.health.store.message)
        return self.unreachable(self.pauses.why) if loop_time() < self.pauses.until else None

    def end(self, why: str) -> SourceUnreachable:
        """Note why nothing can be asked of the source here any more; return what every read ends with."""
        self._ended = why
        return self.unreachable(why)

    def unreachable(self, why: str, *, asset_id: str = "") -> SourceUnreachable:
        """Return what a read that cannot be had ends with; asset_id: the one that alone cannot be read."""
        wait_s = max(self.pauses.until - loop_time(), self._settings.busy_interval_s)
        return SourceUnreachable(self._name, why, retry_after_s=wait_s, asset_id=asset_id)
