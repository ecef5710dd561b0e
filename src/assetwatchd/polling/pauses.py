"""When a source that failed is tried again: after pauses that grow, those that it asked for, or by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.model.errors import VersionUnsupported
from assetwatchd.polling.target import AT_ONCE
from assetwatchd.polling.verdicts import refuses_us
from assetwatchd.upstream import backoff

if TYPE_CHECKING:
    import random

    from assetwatchd.model.errors import UpstreamError
    from assetwatchd.settings.schema import SourceSettings


class Tries:
    """Tries in a row that failed. Those that refused our credentials count apart: their pauses begin at minutes."""

    def __init__(self, settings: SourceSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._failures = 0
        self._refusals = 0

    def over(self) -> None:
        """Begin anew, as one went well."""
        self._failures = self._refusals = 0

    def failed(self, error: UpstreamError) -> float:
        """Count one more, and return how long to pause after it."""
        if refuses_us(error):
            self._refusals += 1
            return backoff.refused_backoff_s(self._refusals, self._settings, self._rng)
        self._failures += 1
        return backoff.backoff_s(self._failures, self._settings, self._rng)


class Pauses:
    """The pauses of one source. Times are of the event loop.

    until: no call may begin before. why: what the pause is for.
    """

    def __init__(self, settings: SourceSettings, rng: random.Random) -> None:
        self.until = AT_ONCE
        self.why = ""
        self._settings = settings
        self._rng = rng
        self._asked_until = AT_ONCE
        self._tries = Tries(settings, rng)
        self._by_hand = 0
        self._by_hand_at = AT_ONCE

    def succeeded(self, *, all_well: bool) -> None:
        """Start over with short pauses; all_well: nothing of the source is amiss, so tries by hand do too."""
        self._tries.over()
        if all_well:
            self._by_hand = 0

    def failed(self, error: UpstreamError, now: float) -> None:
        """Pause after one more failure in a row."""
        self._pause(now + self._tries.failed(error), error)

    def asked(self, error: UpstreamError, now: float) -> None:
        """Pause for as long as the upstream asked for, or (a version that is not supported) we think it takes."""
        if error.retry_after_s is None:
            return
        until = now + error.retry_after_s
        if not isinstance(error, VersionUnsupported):
            self._asked_until = max(self._asked_until, until)
        self._pause(until, error)

    def end(self) -> None:
        """End the pause, but for what the upstream asked for."""
        self.until = self._asked_until

    def by_hand(self, now: float) -> float:
        """Begin a try by hand; return 0, or how long it is too soon for one.

        They get as seldom as our own, so that nobody can have an account locked by asking for them.
        """
        if now < self._by_hand_at:
            return self._by_hand_at - now
        self._by_hand += 1
        self._by_hand_at = now + backoff.refused_backoff_s(self._by_hand, self._settings, self._rng)
        self.end()
        return 0.0

    def _pause(self, until: float, error: UpstreamError) -> None:
        self.until = max(self.until, until)
        self.why = str(error)
