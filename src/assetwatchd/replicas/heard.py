"""What is known here of a source that another process asks: what that told, and what it answered."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from assetwatchd.model.values import Freshness
from assetwatchd.polling.stats import Figures
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from assetwatch.internal.v1 import peer_pb2 as pb

    from assetwatchd.model.values import Entry, Observation
    from assetwatchd.settings.schema import SourceSettings

SILENT_S = 4.0
"""The owner tells once a second: after so long without a word, what it told of the whole source counts no more."""
UNSEEN_MAX = 10_000
"""Assets that never were, of which the last answers are kept, for whoever asked to be told."""


class Heard:
    """Of one source. observed: when assets were read last (s since 1970), by id."""

    def __init__(self, settings: SourceSettings, *, now: Callable[[], float] = time.time) -> None:
        self.observed: dict[str, float] = {}
        self.figures = Figures()
        self.polled_assets = 0
        self._settings = settings
        self._now = now
        self._unseen: dict[str, Observation] = {}
        self._pushing = False
        self._complete = False
        self._heard_at = -math.inf

    # What is heard ---------------------------------------------------------------------------------------------------

    def take(self, news: pb.SourceNews) -> None:
        """Take in what the owner tells."""
        for each in news.observed:
            self._observe(each.asset_id, each.at)
        self._pushing, self._complete = news.pushing, news.complete
        self.polled_assets = news.polled_assets
        self.figures = Figures(news.calls, news.failed_calls, news.asset_reads, news.changes, news.notices)
        self._heard_at = loop_time()

    def answered(self, observed: Mapping[str, float], unseen: Mapping[str, Observation]) -> None:
        """Take in what was answered about assets that were asked for."""
        for asset_id, at in observed.items():
            self._observe(asset_id, at)
        for asset_id in observed.keys() - unseen.keys():
            self._unseen.pop(asset_id, None)
        for asset_id, observation in unseen.items():
            self._unseen.pop(asset_id, None)
            self._unseen[asset_id] = observation
        while len(self._unseen) > UNSEEN_MAX:
            del self._unseen[next(iter(self._unseen))]

    def _observe(self, asset_id: str, at: float) -> None:
        """Note it; what was not told of for the longest time makes room, as it is hardly read any more."""
        self.observed[asset_id] = max(at, self.observed.pop(asset_id, 0.0))
        while len(self.observed) > 2 * self._settings.assets_max:
            del self.observed[next(iter(self.observed))]

    # What follows ----------------------------------------------------------------------------------------------------

    @property
    def _lately(self) -> bool:
        return loop_time() - self._heard_at < SILENT_S

    @property
    def complete(self) -> bool:
        """Whether its owner says, and said a moment ago, that what is known is all there is."""
        return self._complete and self._lately

    def unseen(self, asset_id: str) -> Observation | None:
        """Return what the last answer said of an asset that never was."""
        return self._unseen.get(asset_id)

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry can be trusted, of a source that can be read."""
        if entry.freshness is Freshness.STALE:
            return Freshness.STALE
        if self._pushing and self._lately:
            return Freshness.FRESH
        observed_at = max(self.observed.get(entry.key.asset_id, 0.0), entry.found_at)
        return self._by_age(observed_at)

    def freshness_unseen(self, asset_id: str) -> Freshness:
        """How far it can be trusted that an asset never was."""
        return self._by_age(self.observed.get(asset_id, 0.0))

    def _by_age(self, observed_at: float) -> Freshness:
        age_max_s = 2 * max(self._settings.settled_interval_s, self._settings.busy_interval_s)
        return Freshness.FRESH if self._now() - observed_at <= age_max_s else Freshness.STALE
